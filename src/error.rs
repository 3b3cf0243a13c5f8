//! Errors: their kinds, and their parts for the user.
//!
//! An [`ErrorKind`] is the exit code, which scripts depend on. The rest is for people: one sentence
//! that says what failed, then reasons, then hints. Sentences are lower-case without a full stop; a
//! hint is a command or a setting that solves the problem. Behaviour never depends on a
//! message of ours: a cause that the program handles has a field.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::credential::redact::redact_secret;
use crate::credential::secret::Secret;
use crate::quoting::powershell_line;

pub type Result<T> = std::result::Result<T, Error>;

/// The hint for a call that had too little time.
pub const TIMEOUT_HINT: &str = "a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT";

/// The kind of an error. Its number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A malformed answer, a full disk, or another fault.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// A person must log in.
    Login = 3,
    /// The server refuses; a retry will not help.
    Denied = 4,
    /// A retry may help: network, overload, a lock, the deadline.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    /// What failed, in one sentence.
    pub message: String,
    /// The reasons, often a server's message.
    pub because: Vec<String>,
    /// Commands or settings that solve the problem.
    pub hints: Vec<String>,
    /// The error comes from the failure cache: this call made no request.
    pub from_cache: bool,
    /// If the deadline was too short: how much more time another try would have needed.
    pub time_lacking: Option<Duration>,
    /// The host that could not be reached, with its port.
    pub unreachable: Option<String>,
    /// The exit code, if it is not the kind's.
    pub exit: Option<u8>,
    /// A refusal that may be temporary, such as of something that is being created.
    pub is_temporary: bool,
    /// A refusal of the scopes that were asked for, or of their lack.
    pub about_scopes: bool,
    /// A fault of this process, such as a file that it could not read or lock: other callers do not
    /// share it.
    pub is_unshared: bool,
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
            is_temporary: false,
            about_scopes: false,
            is_unshared: false,
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

    /// See [`Error::is_unshared`].
    pub fn unshared(self) -> Error {
        Error { is_unshared: true, ..self }
    }

    /// Adds a reason. Text from outside must have passed `redact`.
    pub fn because(mut self, reason: impl fmt::Display) -> Error {
        self.because.push(reason.to_string());
        self
    }

    /// Adds another error's sentence and reasons as reasons.
    pub fn caused_by(mut self, cause: Error) -> Error {
        self.because.push(cause.message);
        self.because.extend(cause.because);
        self
    }

    /// Adds a command or setting that solves the problem.
    pub fn hint(mut self, hint: impl fmt::Display) -> Error {
        let hint = hint.to_string();
        self.hints.push(if cfg!(windows) { powershell_line(&hint) } else { hint });
        self
    }

    /// Adds details if the server refused; other errors have other causes.
    pub fn if_denied(self, more: impl FnOnce(Error) -> Error) -> Error {
        if self.kind == ErrorKind::Denied { more(self) } else { self }
    }

    /// The deadline was too short: another try would have needed this much more time.
    pub fn with_time_lacking(mut self, more: Duration) -> Error {
        self.time_lacking = Some(more);
        self
    }

    pub fn unreachable(mut self, host: &str) -> Error {
        self.unreachable = Some(host.to_owned());
        self
    }

    /// Sets an exit code that is not the kind's.
    pub fn exit(mut self, code: u8) -> Error {
        self.exit = Some(code);
        self
    }

    /// Redacts every occurrence of a secret that was sent: servers repeat what they receive.
    pub fn redacted(mut self, secret: &Secret) -> Error {
        let texts = self.because.iter_mut().chain(&mut self.hints).chain([&mut self.message]);
        for text in texts {
            *text = redact_secret(text, secret.expose());
        }
        self
    }

    /// The lines of the error with their labels.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let because = self.because.iter().map(|reason| ("because", reason.as_str()));
        let hints = self.hints.iter().map(|hint| ("hint", hint.as_str()));
        [("error", self.message.as_str())].into_iter().chain(because).chain(hints)
    }

    /// The form in which the failure cache and other processes of ours read the error.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind as u8,
            "message": self.message,
            "because": self.because,
            "hints": self.hints,
            "time_lacking_ms": self.time_lacking.map(|lacking| lacking.as_millis() as u64),
            "unreachable": self.unreachable,
            "is_unshared": self.is_unshared,
        })
    }

    /// Reads the form that [`Error::to_json`] writes.
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
        error.is_unshared = value["is_unshared"] == true;
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
        let error = Error::denied("no a-secret").because("a-secret!").redacted(&secret);
        assert_eq!((error.message.as_str(), error.because[0].as_str()), ("no ***", "***!"));

        let cut = Error::denied("bad a-long-sec…").redacted(&Secret::new("a-long-secret"));
        assert_eq!(cut.message, "bad ***…");
    }

    #[test]
    fn every_kind_has_a_code_that_leads_back_to_it() {
        for code in 1..=5 {
            assert_eq!(ErrorKind::from_code(code).map(|kind| kind as u8), Some(code));
        }
        assert_eq!(ErrorKind::from_code(0), None);
    }

    #[test]
    fn an_error_is_unchanged_by_json() {
        let error = Error::unavailable("cannot reach h")
            .because("why")
            .hint("solution")
            .with_time_lacking(Duration::from_millis(5))
            .unreachable("h:1");
        let error = error.unshared();
        assert_eq!(Error::from_json(&error.to_json()), Some(error));
        assert_eq!(Error::from_json(&json!({ "kind": 9, "message": "" })), None);
    }
}
