//! Answers that must be JSON with status 200, and what a server says when it refuses.
//!
//! A refusal keeps the server's own words, in whichever of its shapes, because callers must tell a
//! refused bearer token (worth one more try) from a missing right (final).

use serde_json::Value;

use crate::credential::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::net::http::{Answer, Client, Request};
use crate::platform::time::Deadline;

/// Sends a request and expects JSON with status 200; `what` completes "refused …".
pub fn ask_json(
    client: &Client<'_>,
    request: &Request<'_>,
    what: &str,
    deadline: Deadline,
) -> Outcome<Value> {
    expect_json(&client.send(request, deadline)?, what)
}

/// The JSON of an answer with status 200.
pub fn expect_json(answer: &Answer, what: &str) -> Outcome<Value> {
    if answer.status != 200 {
        return Err(CallError::Refused(Refusal::of(what, answer)));
    }
    Ok(answer.json(what)?)
}

/// The outcome of a call.
pub type Outcome<T> = std::result::Result<T, CallError>;

/// Why a call gave nothing.
#[derive(Debug)]
pub enum CallError {
    /// The server answered, and said no.
    Refused(Refusal),
    /// Anything else.
    Other(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> CallError {
        CallError::Other(error)
    }
}

impl CallError {
    /// The same with every occurrence of a secret blotted out.
    pub fn without(self, secret: &Secret) -> CallError {
        match self {
            CallError::Other(error) => CallError::Other(error.without(secret)),
            CallError::Refused(no) => {
                let message = Error::failed(no.message).without(secret).message;
                CallError::Refused(Refusal { message, ..no })
            }
        }
    }

    /// The failure as its reader will see it.
    pub fn into_error(self) -> Error {
        self.into()
    }

    /// The same with more to say about a refusal.
    pub fn explained(self, explain: impl FnOnce(Refusal) -> Error) -> Error {
        match self {
            CallError::Refused(no) => explain(no),
            CallError::Other(error) => error,
        }
    }

    /// The same with the right that is missing where the workspace says that one is.
    pub fn wants(self, right: &str) -> CallError {
        match self {
            CallError::Refused(no) if no.status == 403 && !no.is_about_token() => {
                let error = no.into_error();
                // Another right may be named already.
                let known = !error.hints.is_empty();
                let hint = format!("an admin must grant this identity {right}");
                CallError::Other(if known { error } else { error.hint(hint) })
            }
            failure => failure,
        }
    }
}

impl From<CallError> for Error {
    fn from(failure: CallError) -> Error {
        match failure {
            CallError::Refused(refusal) => refusal.into_error(),
            CallError::Other(error) => error,
        }
    }
}

/// A refusal in the server's words.
#[derive(Debug)]
pub struct Refusal {
    /// What was asked, in our words: "to mint a credential".
    pub what: String,
    /// Who refused.
    pub host: String,
    /// The HTTP status.
    pub status: u16,
    /// The server's error code, if it gave one.
    pub code: String,
    /// The server's message.
    pub message: String,
}

impl Refusal {
    /// Reads a refusal.
    pub fn of(what: &str, answer: &Answer) -> Refusal {
        let (code, message) = answer.said();
        let (host, status) = (answer.host.clone(), answer.status);
        Refusal { what: what.to_owned(), host, status, code, message }
    }

    /// Whether the bearer token itself is what is wrong. Databricks says so with 401, and with
    /// 403 for invalid, expired and nearly expired ones; `PERMISSION_DENIED` is about rights.
    pub fn is_about_token(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let token_words = [
            "invalid access token",
            "invalid token",
            "token is expir",
            "invalid bearer token",
            "token expired",
            "expired token",
            "token has expired",
            "access token is",
            "token is invalid",
            "credential was not sent",
        ];
        self.status == 401
            || (self.status == 403
                && self.code != "PERMISSION_DENIED"
                && token_words.iter().any(|words| message.contains(words)))
    }

    /// The refusal as its reader will see it.
    pub fn into_error(self) -> Error {
        let Refusal { what, host, status, code, message } = &self;
        // A "no" is a 4xx; anything but 200 below that makes no sense here.
        let (kind, verb) = match status {
            408 | 425 | 429 | 500..=599 => (ErrorKind::Unavailable, "failed"),
            400..=499 => (ErrorKind::Denied, "refused"),
            _ => (ErrorKind::Failed, "was asked in vain"),
        };
        let mut error = Error::new(kind, format!("{host} {verb} {what} (HTTP status {status})"));
        let words = [code.as_str(), message.as_str()];
        let words: Vec<&str> = words.into_iter().filter(|words| !words.is_empty()).collect();
        if !words.is_empty() {
            error = error.because(words.join(": "));
        }
        if message.contains("workspace-access") {
            error.hint("an admin must grant this identity the entitlement \"Workspace access\"")
        } else {
            error
        }
    }
}

/// A string field of an answer that must be there.
pub fn require<'v>(answer: &'v Value, field: &str, what: &str) -> Result<&'v str> {
    match &answer[field] {
        Value::String(text) => Ok(text),
        Value::Null => Err(Error::failed(format!("{what} has no field `{field}`"))),
        other => Err(Error::failed(format!(
            "{what} has a field `{field}` that is {}, not a text",
            match other {
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                _ => "an object",
            }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        let content_type = if body.starts_with('<') { "text/html" } else { "" }.to_owned();
        let answer = Answer {
            status,
            content_type,
            body: body.as_bytes().to_vec(),
            host: "ws".to_owned(),
            location: String::new(),
        };
        Refusal::of("to mint", &answer)
    }

    #[test]
    fn each_shape_of_error_is_understood() {
        for (body, code, message) in [
            (r#"{"error_code":"NOT_FOUND","message":"no"}"#, "NOT_FOUND", "no"),
            (r#"{"error_code":403,"message":"no"}"#, "403", "no"),
            (r#"{"error":"invalid_client","error_description":"no"}"#, "invalid_client", "no"),
            (r#"{"scimType":"x","detail":"no","status":"404"}"#, "x", "no"),
            (r#"{"error":"plain"}"#, "plain", "plain"),
            (r#"{"error":{"code":"Forbidden","message":"no"}}"#, "Forbidden", "no"),
            ("BAD_REQUEST: no", "BAD_REQUEST", "no"),
            ("<html><pre>no</pre></html>", "", "no"),
            ("nope\u{7}", "", "nope"),
            ("[1]", "", "[1]"),
            ("", "", ""),
        ] {
            let refusal = refusal(400, body);
            assert_eq!(
                (refusal.code.as_str(), refusal.message.as_str()),
                (code, message),
                "{body}"
            );
        }
    }

    #[test]
    fn a_dead_bearer_is_told_from_a_missing_right() {
        for (status, body, expected) in [
            (401, "", true),
            (403, r#"{"error_code":"403","message":"Invalid access token."}"#, true),
            (403, r#"{"error_code":"403","message":"Token is expiring within 30 seconds."}"#, true),
            (403, r#"{"error_code":"403","message":"Bearer token is expired"}"#, true),
            (403, "<html><pre>Invalid access token. [ReqId: 1]</pre>", true),
            (
                403,
                r#"{"error_code":"PERMISSION_DENIED","message":"Invalid access token scope"}"#,
                false,
            ),
            (403, r#"{"error_code":"403","message":"no CAN_USE"}"#, false),
            (400, r#"{"message":"Invalid token"}"#, false),
        ] {
            assert_eq!(refusal(status, body).is_about_token(), expected, "{status} {body}");
        }
    }

    #[test]
    fn server_trouble_is_passing_and_a_no_is_final() {
        assert_eq!(refusal(500, "").into_error().kind, ErrorKind::Unavailable);
        assert_eq!(refusal(404, "").into_error().kind, ErrorKind::Denied);
    }
}
