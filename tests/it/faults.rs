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
    /// How many calls have delivered, and how many have refused, where a class counts them.
    delivered: usize,
    refused: usize,
}

/// The least share of either outcome: a class in which every call refuses shows nothing.
const MIN_PERCENT: usize = 4;

impl Class {
    pub fn new(name: impl Into<String>) -> Class {
        Class { name: name.into(), tried: 0, failed: Vec::new(), delivered: 0, refused: 0 }
    }

    /// Counts a try. `held` is an error that says what did not hold.
    pub fn tried(&mut self, what: impl Display, held: Result<(), String>) {
        self.tried += 1;
        self.failed.extend(held.err().map(|why| format!("{what}: {why}")));
    }

    /// Counts what a call has led to, where both outcomes must occur.
    pub fn ended(&mut self, has_delivered: bool) {
        *(if has_delivered { &mut self.delivered } else { &mut self.refused }) += 1;
    }

    /// Writes the counts, and fails if something did not hold.
    pub fn end(self) {
        let Class { name, tried, failed, delivered, refused } = self;
        let held = tried - failed.len();
        let counts = format!("{name}: {delivered} delivered, {refused} refused");
        eprintln!("{name}: {tried} tried, {held} held; {counts}");
        if let Some(path) = std::env::var_os(CAMPAIGN) {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.unwrap().write_all(format!("| {name} | {tried} | {held} |\n").as_bytes()).unwrap();
        }

        assert!(tried > 0, "{name}: nothing was tried");
        let floor = (delivered + refused) * MIN_PERCENT / 100;
        assert!(delivered >= floor && refused >= floor, "{counts}");
        assert!(failed.is_empty(), "{name}: {} of {tried}\n{}", failed.len(), failed.join("\n"));
    }
}

/// An error with this text if the condition does not hold.
fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise()) }
}
