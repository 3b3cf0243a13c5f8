//! Calls of a workspace's REST API: a bearer token and JSON in, JSON or a [`Refusal`] out.
//!
//! Which calls there are is their callers' business, but for what several of them ask: who this
//! is, and whether the workspace is there. A refusal keeps what the server said, in whichever of
//! its shapes, because its callers must tell a dead bearer (worth one more try) from a missing
//! permission (final).

use std::fmt::Display;

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::http::{Answer, Client, Request};
use crate::secret::Secret;
use crate::time::{Deadline, SECOND, Timestamp};
use crate::token::Token;

/// A workspace and a bearer token for it.
pub struct Api<'a> {
    /// Sends the requests.
    pub client: &'a Client<'a>,
    /// The workspace's URL.
    pub url: &'a str,
    /// Needed on hosts that serve several workspaces.
    pub workspace_id: Option<&'a str>,
    /// The bearer.
    pub token: &'a Secret,
    /// Other headers that prove who this is.
    pub beside: &'a [(&'static str, Secret)],
    /// When all must have ended.
    pub deadline: Deadline,
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
            408 | 425 | 429 | 500..=599 => (Kind::Unavailable, "failed"),
            400..=499 => (Kind::Denied, "refused"),
            _ => (Kind::Failed, "was asked in vain"),
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

impl Api<'_> {
    /// `GET path`; `what` completes "refused …".
    pub fn get(&self, what: &str, path: &str) -> Outcome<Value> {
        self.call(what, "GET", path, None, false)
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, what: &str, path: &str, body: &Value) -> Outcome<Value> {
        self.call(what, "POST", path, Some(body), false)
    }

    /// The same for what must not happen twice: it is repeated only if it was not sent.
    pub fn post_once(&self, what: &str, path: &str, body: &Value) -> Outcome<Value> {
        self.call(what, "POST", path, Some(body), true)
    }

    fn call(
        &self,
        what: &str,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        once: bool,
    ) -> Outcome<Value> {
        let mut headers = vec![("Authorization", format!("Bearer {}", self.token.expose()))];
        if let Some(id) = self.workspace_id {
            headers.push(("X-Databricks-Workspace-Id", id.to_owned()));
        }
        headers.extend(self.beside.iter().map(|(name, text)| (*name, text.expose().to_owned())));
        let url = format!("{}{path}", self.url);
        let body = body.map(|body| ("application/json", body.to_string()));
        let request = Request { method, url: &url, headers: &headers, body, once };
        let answer = self.client.send(&request, self.deadline)?;
        if answer.status != 200 {
            return Err(CallError::Refused(Refusal::of(what, &answer)));
        }
        Ok(answer.json("request")?)
    }
}

/// Follows `next_page_token` and collects the objects under `list`.
pub fn every_page(api: &Api<'_>, what: &str, path: &str, list: &str) -> Outcome<Vec<Value>> {
    /// More than any workspace has; a server that always names a next page must not hold us.
    const MOST_PAGES: usize = 200;
    const MOST_ITEMS: usize = 20_000;
    let mut all = Vec::new();
    let mut page = String::new();
    for _ in 0..MOST_PAGES {
        let mut answer = api.get(what, &format!("{path}?page_size=100{page}"))?;
        if let Some(Value::Array(items)) = answer.get_mut(list).map(Value::take) {
            all.extend(items);
        }
        if all.len() > MOST_ITEMS {
            break;
        }
        match answer["next_page_token"].as_str() {
            Some(token) if !token.is_empty() => {
                page = format!("&page_token={}", crate::http::percent_encode(token));
            }
            _ => return Ok(all),
        }
    }
    let error = Error::failed(format!("the workspace does not come to an end listing {list}"));
    Err(CallError::Other(error))
}

/// Fails where the workspace cannot be reached, with where its name came from; any answer will do.
pub fn reach(
    client: &Client<'_>,
    host: &str,
    origin: impl Display,
    deadline: Deadline,
) -> Result<()> {
    let url = format!("{host}/oidc/.well-known/oauth-authorization-server");
    let origin = || format!("the workspace comes from {origin}");
    client
        .send(&Request::get(&url, &[]), deadline)
        .map(|_| ())
        .map_err(|error| error.because(origin()))
}

/// The name that the bearer has in the workspace: `userName` of SCIM Me, an e-mail or application
/// id. The cheapest call that any bearer may make.
pub fn user_name(api: &Api<'_>) -> Outcome<String> {
    let me = api.get("to say who this is", "/api/2.0/preview/scim/v2/Me")?;
    let name = require(&me, "userName", "the workspace's SCIM answer")?;
    if name.is_empty() || name.chars().any(char::is_control) {
        let error = Error::failed("the workspace's SCIM answer has a userName that is no name");
        return Err(CallError::Other(error));
    }
    Ok(name.to_owned())
}

/// The access token in an answer of somebody's, received `now`: of a token endpoint (RFC 6749 §5.1),
/// or of Azure's relatives of those, which tell the end (`expires_on`, seconds since 1970).
pub fn access_token(whose: &str, body: &Value, now: Timestamp) -> Result<Token> {
    let text = require(body, "access_token", &format!("{whose}'s token answer"))?;
    // Databricks' own stand-in sends a string here, and so does Azure; others a number.
    let seconds = |name: &str| match &body[name] {
        Value::String(text) => text.trim().parse::<i64>().ok(),
        other => other.as_i64(),
    };
    let in_seconds = |seconds: i64| now.plus(seconds.saturating_mul(SECOND));
    let stated = seconds("expires_on").map(Timestamp::from_seconds);
    let stated = stated.or(seconds("expires_in").map(in_seconds));
    Token::received(&format!("{whose}'s token"), text, stated, now)
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
        assert_eq!(refusal(500, "").into_error().kind, Kind::Unavailable);
        assert_eq!(refusal(404, "").into_error().kind, Kind::Denied);
    }
}
