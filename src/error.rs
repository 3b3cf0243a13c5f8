//! What can go wrong, and the words for it.
//!
//! A [`Kind`] decides the exit code, which is a contract with scripts; the rest is for people:
//! one sentence that is complete in itself, then reasons, then what mends it. Sentences are
//! lower-case without a full stop; a hint is a command or a setting. Who prints them, and with
//! which prefix, is `lib.rs`'s business.

use std::fmt;

/// The outcome of anything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of a failure. Its number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something on this side, or an answer that makes no sense.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A person must log in.
    Login = 3,
    /// The server said no; asking again will not help.
    Denied = 4,
    /// Not now: network, overload, a lock, the deadline.
    Unavailable = 5,
}

impl Kind {
    /// The kind with this exit code.
    pub fn from_code(code: u8) -> Option<Kind> {
        [Kind::Failed, Kind::Usage, Kind::Login, Kind::Denied, Kind::Unavailable]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// A failure as its reader will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// What was wrong, in one sentence.
    pub message: String,
    /// Why, as far as it is known: often the server's own words.
    pub because: Vec<String>,
    /// Commands or settings that mend it.
    pub hints: Vec<String>,
}

impl Error {
    /// A failure of this kind; the constructors below are shorter.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), because: Vec::new(), hints: Vec::new() }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Kind::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, message)
    }

    /// Exit code 3.
    pub fn login(message: impl Into<String>) -> Error {
        Error::new(Kind::Login, message)
    }

    /// Exit code 4.
    pub fn denied(message: impl Into<String>) -> Error {
        Error::new(Kind::Denied, message)
    }

    /// Exit code 5.
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(Kind::Unavailable, message)
    }

    /// Adds a reason. What comes from outside goes through [`clean`] first.
    pub fn because(mut self, reason: impl fmt::Display) -> Error {
        self.because.push(reason.to_string());
        self
    }

    /// Adds a command or setting that mends it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Error {
        self.hints.push(hint.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Somebody else's words, fit for one line of ours: no control characters, and bounded.
pub fn clean(words: &str) -> String {
    const MOST: usize = 300;
    let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.skip_while(|c| c.is_whitespace()).take(MOST + 1).collect();
    line.truncate(line.trim_end().len());
    if line.chars().count() > MOST {
        line.pop();
        line.push('…');
    }
    line
}

/// The name that differs least, unless it differs too much to be meant.
pub fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.map(|name| (distance(word, name), name)).min()?;
    (best.0 <= 1 + word.len() / 3).then_some(best.1)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_lose_control_characters_and_length() {
        assert_eq!(clean(" a\r\nb\u{1b}[31m "), "a  b [31m");
        let long = clean(&"x".repeat(5000));
        assert_eq!(long.chars().count(), 301);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let near = |word| nearest(word, ["get", "exec", "status"].into_iter());
        assert_eq!(near("gte"), Some("get"));
        assert_eq!(near("stauts"), Some("status"));
        assert_eq!(near("psql"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn every_kind_is_found_by_its_code() {
        for code in 1..=5 {
            assert_eq!(Kind::from_code(code).map(|kind| kind as u8), Some(code));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
