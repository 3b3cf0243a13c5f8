//! Calls to a workspace's REST API: a workspace token and JSON in, JSON or an error out.
//!
//! Here are only the calls that several files need. Minting is in `credentials.rs`, resolving an
//! endpoint and its host in `resolve.rs`; what a refusal says is in `net/refusal.rs`.

use std::fmt::Display;

use serde_json::Value;

use crate::credential::encoding::percent_encode;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::http::{Client, Request};
use crate::net::refusal::{CallError, Outcome, ask_json, require};
use crate::platform::time::{Deadline, SECOND, Timestamp};

/// The most pages and objects that are read. No workspace has as many; a server that always names a
/// next page must not keep us busy, nor take our memory.
const MAX_PAGES: usize = 200;
const MAX_OBJECTS: usize = 5_000;

/// The longest text that is kept of an object in a list: longer than any host (253 bytes) and any
/// name of a resource (three ids of 63).
const MAX_LISTED_TEXT: usize = 300;

/// A workspace, and the token and headers for calls to it.
pub struct Api<'a> {
    pub client: &'a Client<'a>,
    /// The workspace's URL.
    pub url: &'a str,
    /// Needed on hosts that serve several workspaces.
    pub workspace_id: Option<&'a str>,
    pub token: &'a Secret,
    /// Further headers that authenticate the caller.
    pub headers: &'a [(&'static str, Secret)],
    pub deadline: Deadline,
}

impl Api<'_> {
    /// `GET path`. `what` names the request in messages, as in "to list the projects".
    pub fn get(&self, what: &str, path: &str) -> Outcome<Value> {
        self.call(what, "GET", path, None, false)
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, what: &str, path: &str, body: &Value) -> Outcome<Value> {
        self.call(what, "POST", path, Some(body), false)
    }

    /// The same for a request that the workspace must not process twice.
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

/// Follows `next_page_token`, and keeps what is needed of each object in the field `list`.
pub fn every_page<T>(
    api: &Api<'_>,
    what: &str,
    path: &str,
    list: &str,
    keep: impl Fn(&Value) -> T,
) -> Outcome<Vec<T>> {
    let mut objects = Vec::new();
    let mut page = String::new();
    for _ in 0..MAX_PAGES {
        let answer = api.get(what, &format!("{path}?page_size=100{page}"))?;
        let more = answer[list].as_array().into_iter().flatten();
        objects.extend(more.map(&keep).take(MAX_OBJECTS + 1));
        if objects.len() > MAX_OBJECTS {
            break;
        }

        match answer["next_page_token"].as_str() {
            Some(token) if !token.is_empty() => {
                page = format!("&page_token={}", percent_encode(token));
            }
            _ => return Ok(objects),
        }
    }

    let error = Error::failed(format!("the workspace's list of {list} does not end"))
        .because(format!("it has more than {MAX_PAGES} pages or {MAX_OBJECTS} objects"));
    Err(CallError::Other(error))
}

/// A text of an object in a list; none if it is empty or too long to be what it should be.
pub fn listed_text(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    (1..=MAX_LISTED_TEXT).contains(&text.len()).then(|| text.to_owned())
}

/// Fails if the workspace cannot be reached, and says where its URL came from. Any answer will do.
pub fn reach(
    client: &Client<'_>,
    host: &str,
    origin: impl Display,
    deadline: Deadline,
) -> Result<()> {
    let url = format!("{host}/oidc/.well-known/oauth-authorization-server");
    client
        .send(&Request::get(&url, &[]), deadline)
        .map(|_| ())
        .map_err(|error| error.because(format!("the workspace comes from {origin}")))
}

/// The user's name in the workspace.
pub fn user_name(api: &Api<'_>) -> Outcome<String> {
    me(api).map(|me| me.user_name)
}

/// Who this is, as SCIM's `Me` states it.
#[derive(Clone)]
pub struct Me {
    /// `userName`: an e-mail address or an application id.
    pub user_name: String,
    /// The groups' display names.
    pub groups: Vec<String>,
}

/// Asks with the cheapest call that every identity may make.
pub fn me(api: &Api<'_>) -> Outcome<Me> {
    let me = api.get("to say who this is", "/api/2.0/preview/scim/v2/Me")?;
    let name = require(&me, "userName", "the workspace's SCIM answer")?;

    if name.is_empty() || name.chars().any(char::is_control) {
        let error =
            Error::failed("the workspace's SCIM answer has an empty or unprintable userName");
        return Err(CallError::Other(error));
    }
    let groups = me["groups"].as_array().into_iter().flatten();
    let groups = groups.filter_map(|group| listed_text(&group["display"])).collect();
    Ok(Me { user_name: name.to_owned(), groups })
}

/// The access token in an answer that was received `now`: a token endpoint's (RFC 6749 §5.1), or an
/// Azure service's, which states the expiry as `expires_on`, in seconds since 1970.
pub fn access_token(whose: &str, body: &Value, now: Timestamp) -> Result<Token> {
    let text = require(body, "access_token", &format!("{whose}'s token answer"))?;

    // Azure and Databricks' metadata service send a string here, other servers a number.
    let seconds = |name: &str| match &body[name] {
        Value::String(text) => text.trim().parse::<i64>().ok(),
        other => other.as_i64(),
    };
    let in_seconds = |seconds: i64| now.plus(seconds.saturating_mul(SECOND));

    let expires_on = seconds("expires_on").map(Timestamp::from_seconds);
    let stated = expires_on.or(seconds("expires_in").map(in_seconds));
    Token::received(&format!("{whose}'s token"), text, stated, now)
}
