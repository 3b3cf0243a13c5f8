//! What can go wrong, and the words for it.
//!
//! A [`Kind`] decides the exit code, which is a contract with scripts; the rest is for people:
//! one sentence that is complete in itself, then reasons, then what mends it. Sentences are
//! lower-case without a full stop; a hint is a command or a setting. Who prints them, and with
//! which prefix, is `lib.rs`'s business.

use std::fmt;
use std::time::Duration;

use crate::secret::Secret;

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
    /// It comes from memory: nobody was asked this time.
    pub remembered: bool,
    /// How much more time it would have taken to try on, where that was what stopped it.
    pub lacked: Option<Duration>,
    /// The exit code, where it is not the kind's.
    pub exit: Option<u8>,
}

impl Error {
    /// A failure of this kind; the constructors below are shorter.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        let (because, hints) = (Vec::new(), Vec::new());
        let message = message.into();
        Error { kind, message, because, hints, remembered: false, lacked: None, exit: None }
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

    /// Adds another failure's sentence and reasons as reasons.
    pub fn caused_by(mut self, cause: Error) -> Error {
        self.because.push(cause.message);
        self.because.extend(cause.because);
        self
    }

    /// Adds a command or setting that mends it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Error {
        self.hints.push(hint.to_string());
        self
    }

    /// The same with more to say where it is a "no": any other trouble has nothing to do with it.
    pub fn if_denied(self, more: impl FnOnce(Error) -> Error) -> Error {
        if self.kind == Kind::Denied { more(self) } else { self }
    }

    /// It stopped for want of time, and would have needed so much more to try on.
    pub fn lacking(mut self, more: Duration) -> Error {
        self.lacked = Some(more);
        self
    }

    /// Ends the process with this code instead of the kind's.
    pub fn exit(mut self, code: u8) -> Error {
        self.exit = Some(code);
        self
    }

    /// The same with every occurrence of a secret blotted out: servers echo what they are sent.
    pub fn without(mut self, secret: &Secret) -> Error {
        let secret = secret.expose();
        /// A shorter one would blot out innocent words.
        const LEAST: usize = 8;
        if secret.len() >= LEAST {
            let texts = self.because.iter_mut().chain(&mut self.hints).chain([&mut self.message]);
            for text in texts {
                *text = text.replace(secret, BLOT);
                // What was cut off may end with its beginning.
                let Some(cut) = text.strip_suffix('…') else { continue };
                let begun = cut.char_indices().map(|(at, _)| at);
                let mut begun = begun.filter(|at| cut.len() - at >= LEAST);
                if let Some(at) = begun.find(|at| secret.starts_with(&cut[*at..])) {
                    *text = format!("{}{BLOT}…", &cut[..at]);
                }
            }
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What stands in the place of a secret.
const BLOT: &str = "***";

/// Somebody else's words, fit for one line of ours: no control characters, bounded, and with
/// everything blotted out that looks like a secret.
pub fn clean(words: &str) -> String {
    const MOST: usize = 300;
    let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.skip_while(|c| c.is_whitespace()).take(4 * MOST).collect();
    let mut line = String::with_capacity(plain.len());
    let mut scheme = false;
    for word in plain.split_inclusive(char::is_whitespace) {
        line.push_str(&masked(word, scheme));
        let word = word.trim_end().to_ascii_lowercase();
        if !word.is_empty() {
            scheme = word.ends_with("bearer") || word.ends_with("basic");
        }
    }
    line.truncate(line.trim_end().len());
    if let Some((end, _)) = line.char_indices().nth(MOST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A word without JWTs, Databricks' tokens and secrets, what follows an auth scheme, and the
/// user information of a URL.
fn masked(word: &str, after_scheme: bool) -> String {
    /// Beginnings of JWTs, personal access tokens and service principals' secrets.
    const BEGINNINGS: [&str; 3] = ["eyJ", "dapi", "dose"];
    const LEAST: usize = 12;
    let mut word = word.to_owned();
    let start = word.find("://").map_or(0, |scheme| scheme + 3);
    let end = word[start..].find(['/', '?', '#']).map_or(word.len(), |end| start + end);
    if let Some(at) = word[start..end].rfind('@').map(|at| start + at)
        && word[start..at].contains(':')
    {
        word.replace_range(start..at, BLOT);
    }
    let in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let parts = word.split_inclusive(|c| !in_token(c));
    let hide = |part: &str| {
        let token = part.trim_end_matches(|c| !in_token(c));
        let known = BEGINNINGS.iter().find_map(|beginning| token.find(beginning));
        // "Bearer token is …" is about a token, "Bearer abc123" is one.
        let odd = |b: u8| b.is_ascii_digit() || b"._~+/=".contains(&b);
        let credential = after_scheme && (token.len() >= LEAST || token.bytes().any(odd));
        match known.filter(|at| token.len() - at >= LEAST).or(credential.then_some(0)) {
            Some(at) => [&part[..at], BLOT, &part[token.len()..]].concat(),
            None => part.to_owned(),
        }
    };
    parts.map(hide).collect()
}

/// Whether a word of the command line looks like a name, so that it may be repeated.
pub fn is_plain(word: &str) -> bool {
    word.len() <= 20 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// The name that differs least, unless it differs too much to be meant.
pub fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.map(|name| (distance(word, name), name)).min()?;
    (best.0 <= 1 + word.len() / 3).then_some(best.1)
}

/// Levenshtein's, with two neighbours exchanged as one mistake.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let crossed = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let exchange = if crossed { rows[i - 2][j - 2] + 1 } else { change };
                change.min(exchange).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_lose_control_characters_and_length() {
        assert_eq!(clean(" a\r\nb\u{1b}[31m "), "a  b [31m");
        let long = clean(&"x ".repeat(5000));
        assert_eq!(long.chars().count(), 301);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn foreign_words_lose_what_looks_like_a_secret() {
        for (words, expected) in [
            ("bad token eyJhbGciOi.eyJzdWIi.c2ln!", "bad token ***!"),
            ("header 'Bearer abc1' and Basic YTpi=", "header 'Bearer ***' and Basic ***"),
            ("Bearer  opaque-token-123456", "Bearer  ***"),
            ("Bearer token is expired", "Bearer token is expired"),
            ("Basic authentication is off", "Basic *** is off"),
            ("postgres://me:hun@ter2@h/a@b", "postgres://***@h/a@b"),
            ("{\"t\":\"dapi0123456789abcdef\"}", "{\"t\":\"***\"}"),
            ("secret=dose0123456789abcdef.", "secret=***"),
            ("postgresql://me:hunter2@h/db", "postgresql://***@h/db"),
            ("me:hunter2@h", "***@h"),
            ("ada@example.com has no dapi", "ada@example.com has no dapi"),
        ] {
            assert_eq!(
                clean(words).trim_end_matches('.'),
                expected.trim_end_matches('.'),
                "{words}"
            );
        }
        let error =
            Error::denied("no a-secret").because("a-secret!").without(&Secret::new("a-secret"));
        assert_eq!((error.message.as_str(), error.because[0].as_str()), ("no ***", "***!"));
        let cut = Error::denied("bad a-long-sec…").without(&Secret::new("a-long-secret"));
        assert_eq!(cut.message, "bad ***…");
    }

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let near = |word| nearest(word, ["get", "exec", "status"].into_iter());
        assert_eq!(near("gte"), Some("get"));
        assert_eq!(near("stauts"), Some("status"));
        assert_eq!(nearest("wrok", ["prod", "work"].into_iter()), Some("work"));
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
