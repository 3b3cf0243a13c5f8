//! Calls that expect JSON with status 200, and the refusals that servers send instead.
//!
//! A [`Refusal`] keeps the server's code and message (`answer.rs` reads them), because callers must
//! distinguish a refused bearer token (worth one more try) from a missing right (final).

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::net::answer::Answer;
use crate::net::http::{Client, Request};
use crate::platform::time::Deadline;

/// Sends a request and expects JSON with status 200. `what` names the request in messages, as in
/// "to mint a credential".
pub fn ask_json(
    client: &Client<'_>,
    request: &Request<'_>,
    what: &str,
    deadline: Deadline,
) -> Outcome<Value> {
    expect_json(&client.send(request, deadline)?, what)
}

pub fn expect_json(answer: &Answer, what: &str) -> Outcome<Value> {
    if answer.status != 200 {
        return Err(CallError::Refused(Refusal::of(what, answer)));
    }
    Ok(answer.json(what)?)
}

pub type Outcome<T> = std::result::Result<T, CallError>;

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The server answered with another status than 200.
    Refused(Refusal),
    Other(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> CallError {
        CallError::Other(error)
    }
}

impl CallError {
    pub fn into_error(self) -> Error {
        self.into()
    }

    /// The error, in the caller's words if it is a refusal.
    pub fn explained(self, explain: impl FnOnce(Refusal) -> Error) -> Error {
        match self {
            CallError::Refused(refusal) => explain(refusal),
            CallError::Other(error) => error,
        }
    }

    /// Whether the server knows the identity and forbids it this request.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, CallError::Refused(refusal) if refusal.status == 403 && !refusal.is_about_token())
    }

    pub fn is_missing(&self) -> bool {
        matches!(self, CallError::Refused(refusal) if refusal.status == 404)
    }

    /// Adds the right that the call needs if the server's words are about a right, and not about the
    /// network, the workspace or the token.
    pub fn with_missing_right(self, right: &str) -> CallError {
        match self {
            CallError::Refused(refusal) if refusal.lacks_right() => {
                let hint = format!("an admin must grant this identity {right}");
                CallError::Other(refusal.into_error().hint(hint))
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

/// A server's refusal, with its code and message.
#[derive(Debug)]
pub struct Refusal {
    /// The request, as in "to mint a credential".
    pub what: String,
    pub host: String,
    pub status: u16,
    /// The server's error code; empty if it sent none.
    pub code: String,
    pub message: String,
}

/// How messages say that a bearer token is not accepted. Databricks sends no code of its own for it
/// with status 403.
const TOKEN_REFUSALS: [&str; 10] = [
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

/// How messages say that a right is missing.
const RIGHT_REFUSALS: [&str; 5] =
    ["permission", "not authorized", "does not have", "no can_use", "privilege"];

/// How messages say that scopes are missing, or may not be asked for.
const SCOPE_REFUSALS: [&str; 4] =
    ["required scopes", "are not assigned to the client", "invalid_scope", "insufficient_scope"];

/// The hint where a workspace is reached by private link only.
pub const PRIVATE_LINK_HINT: &str =
    "use the workspace's private network: it accepts no connections from elsewhere";

/// What a server's refusal says (lower case), and the hint for it (refusals that users report; those of
/// token endpoints are from RFC 6749 and Entra).
#[rustfmt::skip]
const HINTS: [(&[&str], &str); 6] = [
    (
        &["ip acl", "ip access list", "ip address", "blocked by databricks"],
        "an admin must add this machine's address to the workspace's IP access list, or use a network that is on it",
    ),
    (
        &[
            "private link",
            "private access",
            "public access is not allowed",
            "public network access",
        ],
        PRIVATE_LINK_HINT,
    ),
    (
        &["invalid access to org", "workspace id", "wrong workspace"],
        "check that DATABRICKS_HOST and DATABRICKS_WORKSPACE_ID name the same workspace; with private link, use its network",
    ),
    (
        &SCOPE_REFUSALS,
        "--scopes postgres, or give the identity's secret or token the scope all-apis",
    ),
    (
        &["expected iss claim", "aadsts90002", "aadsts700016", "aadsts50020"],
        "use the tenant of the workspace: ARM_TENANT_ID, AZURE_TENANT_ID in a pod, or --tenant of az login",
    ),
    (
        &["workspace-access"],
        "an admin must grant this identity the entitlement \"Workspace access\"",
    ),
];

impl Refusal {
    pub fn of(what: &str, answer: &Answer) -> Refusal {
        let (code, message) = answer.error_code_and_message();
        Refusal {
            what: what.to_owned(),
            host: answer.host.clone(),
            status: answer.status,
            code,
            message,
        }
    }

    /// Whether the server refuses the bearer token itself. Databricks does so with 401, and with
    /// 403 if the token is invalid, expired or about to expire; `PERMISSION_DENIED` is about
    /// rights.
    pub fn is_about_token(&self) -> bool {
        if self.status != 403 {
            return self.status == 401;
        }
        let message = self.message.to_ascii_lowercase();
        self.code != "PERMISSION_DENIED"
            && TOKEN_REFUSALS.iter().any(|phrase| message.contains(phrase))
    }

    /// Whether the server says that the identity lacks a right.
    fn lacks_right(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let says_right = RIGHT_REFUSALS.iter().any(|phrase| message.contains(phrase));
        let is_about_right = self.code == "PERMISSION_DENIED" || says_right;
        self.status == 403 && is_about_right && !self.is_about_token() && self.hint().is_none()
    }

    fn is_about_scopes(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        SCOPE_REFUSALS.iter().any(|phrase| self.code == *phrase || message.contains(phrase))
    }

    /// What to do where the server's words tell: the status is the same for all of these.
    fn hint(&self) -> Option<&'static str> {
        let message = self.message.to_ascii_lowercase();
        let says = |phrase: &str| message.contains(phrase);
        let found = HINTS.iter().find(|(phrases, _)| phrases.iter().any(|phrase| says(phrase)));
        found.map(|(_, hint)| *hint)
    }

    pub fn into_error(self) -> Error {
        let hint = self.hint();
        let about_scopes = self.is_about_scopes();
        let Refusal { what, host, status, code, message } = &self;
        // Only a 4xx is a refusal. Every call here expects 200, so any status below 400 is a fault
        // of the server.
        let (kind, outcome) = match status {
            408 | 425 | 429 | 500..=599 => (ErrorKind::Unavailable, "failed"),
            400..=499 => (ErrorKind::Denied, "refused"),
            _ => (ErrorKind::Failed, "sent an unexpected answer when asked"),
        };
        let mut error = Error::new(kind, format!("{host} {outcome} {what} (HTTP status {status})"));

        let reasons = [code.as_str(), message.as_str()];
        let reasons: Vec<&str> = reasons.into_iter().filter(|text| !text.is_empty()).collect();
        if !reasons.is_empty() {
            error = error.because(reasons.join(": "));
        }
        let error = Error { about_scopes, ..error };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A field that must be in an answer and must be a text; `what` names the answer in the error.
pub fn require<'v>(answer: &'v Value, field: &str, what: &str) -> Result<&'v str> {
    match &answer[field] {
        Value::String(text) => Ok(text),
        Value::Null => Err(Error::failed(format!("{what} has no field `{field}`"))),
        other => {
            let found = match other {
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                _ => "an object",
            };
            let message = format!("{what} has a field `{field}` that is {found}, not a text");
            Err(Error::failed(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sent_secrets::SentSecrets;

    fn refusal(status: u16, body: &str) -> Refusal {
        let content_type = if body.starts_with('<') { "text/html" } else { "" }.to_owned();
        let answer = Answer {
            status,
            content_type,
            body: body.as_bytes().to_vec(),
            host: "ws".to_owned(),
            location: String::new(),
            sent: SentSecrets::default(),
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
    fn a_refused_bearer_token_is_distinguished_from_a_missing_right() {
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
    fn a_server_error_is_temporary_and_a_refusal_is_final() {
        assert_eq!(refusal(500, "").into_error().kind, ErrorKind::Unavailable);
        assert_eq!(refusal(404, "").into_error().kind, ErrorKind::Denied);
    }
}
