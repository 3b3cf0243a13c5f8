//! Faults by class, each tried many times: a few in every run, thousands in a campaign
//! (`tests/campaign`). After every fault the same must hold: the call prints a valid credential, or
//! fails with a clear error and nothing on stdout; and the next call works.

mod answers;
mod clock;
mod destinations;
mod disk;
mod network;
mod processes;
mod secrets;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// In a campaign, this variable names the file for the counts.
const CAMPAIGN: &str = "LAKEBASE_TOKEN_CAMPAIGN";

/// How often a fault is tried: in a usual run, and in a campaign.
pub fn times(usual: usize, campaign: usize) -> usize {
    if is_campaign() { campaign } else { usual }
}

pub fn is_campaign() -> bool {
    std::env::var_os(CAMPAIGN).is_some()
}

/// A class of faults, with the tries after which something did not hold.
pub struct Class {
    name: String,
    tried: usize,
    failed: Vec<String>,
    /// How many calls have delivered, and how many have not: they refused, or were killed.
    delivered: usize,
    refused: usize,
    floors: Floors,
}

/// The least shares of the two outcomes, in percent; if not 0, at least one call. A class in which every call has the
/// same outcome mostly shows nothing.
type Floors = [usize; 2];
pub const BOTH: Floors = [4, 4];
const ALL_DELIVER: Floors = [100, 0];
const ALL_REFUSE: Floors = [0, 100];

impl Class {
    pub fn new(name: impl Into<String>, floors: Floors) -> Class {
        let name = name.into();
        Class { name, tried: 0, failed: Vec::new(), delivered: 0, refused: 0, floors }
    }

    /// Counts a try. `held` is an error that says what did not hold.
    pub fn tried(&mut self, what: impl Display, held: Result<(), String>) {
        self.tried += 1;
        self.failed.extend(held.err().map(|why| format!("{what}: {why}")));
    }

    /// Counts what a call has led to.
    pub fn ended(&mut self, has_delivered: bool) {
        *(if has_delivered { &mut self.delivered } else { &mut self.refused }) += 1;
    }

    /// Writes the counts, and fails if something did not hold.
    pub fn end(self) {
        let Class { name, tried, failed, delivered, refused, floors } = self;
        let held = tried - failed.len();
        let counts = format!("{delivered} delivered, {refused} refused");
        eprintln!("{name}: {tried} tried, {held} held, {counts}");
        if let Some(path) = std::env::var_os(CAMPAIGN) {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let line = format!("| {name} | {tried} | {held} | {delivered} | {refused} |\n");
            file.unwrap().write_all(line.as_bytes()).unwrap();
        }

        assert!(failed.is_empty(), "{name}: {} of {tried}\n{}", failed.len(), failed.join("\n"));
        assert!(tried > 0, "{name}: nothing was tried");
        assert!(delivered + refused > 0, "{name}: no outcome was counted");
        let is_enough = |(number, percent): (usize, usize)| {
            percent == 0 || number > 0 && number * 100 >= (delivered + refused) * percent
        };
        let both = [delivered, refused].into_iter().zip(floors);
        assert!(
            both.into_iter().all(is_enough),
            "{name}: {counts}, at least {floors:?} % expected"
        );
    }
}

/// An error with this text if the condition does not hold.
fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}
