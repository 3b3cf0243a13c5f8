//! What can go wrong, and the words for it.
//!
//! An [`ErrorKind`] decides the exit code, which is a contract with scripts. The rest is for people:
//! one sentence that says what failed, then reasons, then what mends it. Sentences are lower-case
//! without a full stop; a hint is a command or a setting. Behaviour never depends on their text: a
//! cause that matters to the program has a field of its own.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::credential::redact::hide;
use crate::credential::secret::Secret;

pub type Result<T> = std::result::Result<T, Error>;

/// The kind of a failure. Its number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something is broken here, or an answer makes no sense.
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

impl ErrorKind {
    pub fn from_code(code: u8) -> Option<ErrorKind> {
        [
            ErrorKind::Failed,
            ErrorKind::Usage,
            ErrorKind::Login,
            ErrorKind::Denied,
            ErrorKind::Unavailable,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == code)
    }
}

/// A failure as its reader will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    /// What failed, in one sentence.
    pub message: String,
    /// Why, as far as it is known: often the server's own words.
    pub because: Vec<String>,
    /// Commands or settings that mend it.
    pub hints: Vec<String>,
    /// It was read from the failure cache: no request was made this time.
    pub from_cache: bool,
    /// How much more time another try would have needed, where time ran out.
    pub time_lacking: Option<Duration>,
    /// The host, with its port, that could not be reached, where that is what failed.
    pub unreachable: Option<String>,
    /// The exit code, where it is not the kind's.
    pub exit: Option<u8>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            because: Vec::new(),
            hints: Vec::new(),
            from_cache: false,
            time_lacking: None,
            unreachable: None,
            exit: None,
        }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }

    /// Exit code 3.
    pub fn login(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Login, message)
    }

    /// Exit code 4.
    pub fn denied(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Denied, message)
    }

    /// Exit code 5.
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Adds a reason. Words from outside go through `redact` first.
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

    /// Says more if the server refused; other trouble has another cause.
    pub fn if_denied(self, more: impl FnOnce(Error) -> Error) -> Error {
        if self.kind == ErrorKind::Denied { more(self) } else { self }
    }

    /// Time ran out; another try would have needed so much more.
    pub fn lacking(mut self, more: Duration) -> Error {
        self.time_lacking = Some(more);
        self
    }

    /// It failed because this host could not be reached.
    pub fn unreachable(mut self, host: &str) -> Error {
        self.unreachable = Some(host.to_owned());
        self
    }

    /// Ends the process with this code instead of the kind's.
    pub fn exit(mut self, code: u8) -> Error {
        self.exit = Some(code);
        self
    }

    /// Without any occurrence of a secret that was sent: servers echo what they get.
    pub fn without(mut self, secret: &Secret) -> Error {
        let texts = self.because.iter_mut().chain(&mut self.hints).chain([&mut self.message]);
        for text in texts {
            *text = hide(text, secret.expose());
        }
        self
    }

    /// The error as labelled lines: what failed, why, what mends it.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let because = self.because.iter().map(|reason| ("because", reason.as_str()));
        let hints = self.hints.iter().map(|hint| ("hint", hint.as_str()));
        [("error", self.message.as_str())].into_iter().chain(because).chain(hints)
    }

    /// The error for another process of ours, or for the failure cache.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind as u8,
            "message": self.message,
            "because": self.because,
            "hints": self.hints,
            "time_lacking_ms": self.time_lacking.map(|lacking| lacking.as_millis() as u64),
            "unreachable": self.unreachable,
        })
    }

    /// Reads what [`Error::to_json`] wrote.
    pub fn from_json(value: &Value) -> Option<Error> {
        let texts = |name: &str| -> Vec<String> {
            let list = value[name].as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let kind = ErrorKind::from_code(value["kind"].as_u64()?.try_into().ok()?)?;
        let mut error = Error::new(kind, value["message"].as_str()?);
        error.because = texts("because");
        error.hints = texts("hints");
        error.time_lacking = value["time_lacking_ms"].as_u64().map(Duration::from_millis);
        error.unreachable = value["unreachable"].as_str().map(str::to_owned);
        Some(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_an_error_is_redacted() {
        let secret = Secret::new("a-secret");
        let error = Error::denied("no a-secret").because("a-secret!").without(&secret);
        assert_eq!((error.message.as_str(), error.because[0].as_str()), ("no ***", "***!"));

        let cut = Error::denied("bad a-long-sec…").without(&Secret::new("a-long-secret"));
        assert_eq!(cut.message, "bad ***…");
    }

    #[test]
    fn every_kind_is_found_by_its_code() {
        for code in 1..=5 {
            assert_eq!(ErrorKind::from_code(code).map(|kind| kind as u8), Some(code));
        }
        assert_eq!(ErrorKind::from_code(0), None);
    }

    #[test]
    fn an_error_survives_json() {
        let error = Error::unavailable("cannot reach h")
            .because("why")
            .hint("mend")
            .lacking(Duration::from_millis(5))
            .unreachable("h:1");
        assert_eq!(Error::from_json(&error.to_json()), Some(error));
        assert_eq!(Error::from_json(&json!({ "kind": 9, "message": "" })), None);
    }
}
