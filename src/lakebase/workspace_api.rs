//! Calls of a workspace's REST API: a bearer token and JSON in, JSON or a [`Refusal`] out.
//!
//! Which calls there are is their callers' business, but for what several of them ask: who this
//! is, and whether the workspace is there. A refusal keeps what the server said, in whichever of
//! its shapes, because its callers must tell a dead bearer (worth one more try) from a missing
//! permission (final).

use std::fmt::Display;

use serde_json::Value;

use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::http::{Client, Request};
use crate::net::refusal::{CallError, Outcome, ask_json, require};
use crate::platform::time::{Deadline, SECOND, Timestamp};

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
    pub headers: &'a [(&'static str, Secret)],
    /// When all must have ended.
    pub deadline: Deadline,
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
        headers.extend(self.headers.iter().map(|(name, text)| (*name, text.expose().to_owned())));
        let url = format!("{}{path}", self.url);
        let body = body.map(|body| ("application/json", body.to_string()));
        let request = Request { method, url: &url, headers: &headers, body, once };
        ask_json(self.client, &request, what, self.deadline)
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
                page =
                    format!("&page_token={}", crate::credential::encoding::percent_encode(token));
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
