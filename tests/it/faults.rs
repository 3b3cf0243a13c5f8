//! Faults by class, each tried many times over: a handful in every run, thousands in a campaign
//! (`tests/campaign`, which names a file for the counts). What is asked of each is the same: a
//! credential that is right, or a clear failure with nothing on stdout, and a next call that works.

mod answers;
mod clock;
mod disk;
mod network;
mod processes;
mod secrets;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// Names the file for a campaign's counts.
const CAMPAIGN: &str = "LAKEBASE_TOKEN_CAMPAIGN";

/// So often in every run, so often in a campaign.
fn times(usual: usize, campaign: usize) -> usize {
    if is_campaign() { campaign } else { usual }
}

fn is_campaign() -> bool {
    std::env::var_os(CAMPAIGN).is_some()
}

/// One class of faults: what was tried, and what did not hold.
struct Class {
    name: String,
    tried: usize,
    broken: Vec<String>,
}

impl Class {
    fn new(name: impl Into<String>) -> Class {
        Class { name: name.into(), tried: 0, broken: Vec::new() }
    }

    /// One fault; an error says what did not hold.
    fn tried(&mut self, what: impl Display, held: Result<(), String>) {
        self.tried += 1;
        self.broken.extend(held.err().map(|why| format!("{what}: {why}")));
    }

    /// Writes the counts down, and fails if something did not hold.
    fn end(self) {
        let Class { name, tried, broken } = self;
        let held = tried - broken.len();
        eprintln!("{name}: {tried} tried, {held} held");
        if let Some(path) = std::env::var_os(CAMPAIGN) {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.unwrap().write_all(format!("| {name} | {tried} | {held} |\n").as_bytes()).unwrap();
        }
        assert!(tried > 0, "{name}: nothing was tried");
        assert!(broken.is_empty(), "{name}: {} of {tried}\n{}", broken.len(), broken.join("\n"));
    }
}

/// What holds, or words for what does not.
fn holds(condition: bool, words: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(words()) }
}
