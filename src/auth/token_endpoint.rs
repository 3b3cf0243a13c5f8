//! The workspace's token endpoint (RFC 6749 §3.2): sends a grant, gets a token.
//!
//! Its path on a workspace's host is known, so the usual grant is one request. It is resolved by
//! discovery (RFC 8414) only if that path does not exist, or if `discovery_url` is set. An answer
//! never decides where a secret goes: a resolved endpoint must lie on the workspace's own host.

use serde_json::Value;

use crate::auth::host_metadata::discovery_url;
use crate::auth::provider::ProviderCall;
use crate::config::table::Id;
use crate::config::value::scopes;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::answer::Answer;
use crate::net::http::{Request, check_url};
use crate::net::refusal::{CallError, Outcome, Refusal, ask_json, expect_json, require};

/// A grant. It holds secrets, so it has no `Debug`.
pub struct TokenGrant<'g> {
    /// The end of "refused …" in messages.
    pub what: &'g str,
    pub headers: &'g [(&'static str, String)],
    /// The form without scope and group, which [`request_token`] adds.
    pub form: &'g [(&'g str, &'g str)],
}

/// The token that the workspace gives for a grant.
pub fn request_token(call: &ProviderCall<'_>, grant: &TokenGrant<'_>) -> Outcome<Token> {
    let answer = match call.settings.text(Id::DiscoveryUrl) {
        Some(document) => {
            let origin = call.settings.origin(Id::DiscoveryUrl);
            let because = |e: Error| e.because(format!("discovery_url comes from {origin}"));
            post(call, grant, &discover_token_endpoint(call, document).map_err(because)?)?
        }
        None => post_with_discovery(call, grant)?,
    };
    let body = expect_json(&answer, grant.what)?;
    Ok(access_token("the workspace", &body, call.context.now())?)
}

/// Tries the usual endpoint, and the one from discovery if that does not exist.
fn post_with_discovery(call: &ProviderCall<'_>, grant: &TokenGrant<'_>) -> Outcome<Answer> {
    let usual = format!("{}/oidc/v1/token", call.url);
    let answer = post(call, grant, &usual)?;
    if exists(&answer) {
        return Ok(answer);
    }

    match discovery_url(call).and_then(|url| discover_token_endpoint(call, &url)) {
        Ok(endpoint) if endpoint != usual => Ok(post(call, grant, &endpoint)?),
        Ok(_) => Ok(answer),
        // The host is not a workspace, or it is unknown whether it is.
        Err(e) if matches!(e.kind, ErrorKind::Usage | ErrorKind::Unavailable) => Err(e.into()),
        Err(e) if answer.status != 200 => {
            let refusal = CallError::Refused(Refusal::of(grant.what, &answer));
            Err(refusal.into_error().caused_by(e).into())
        }
        Err(_) => Ok(answer),
    }
}

/// Whether an endpoint has given this answer: a host without one may answer with a web page.
fn exists(answer: &Answer) -> bool {
    match answer.status {
        404 | 405 => false,
        200 => serde_json::from_slice::<Value>(&answer.body).is_ok(),
        _ => true,
    }
}

fn post(call: &ProviderCall<'_>, grant: &TokenGrant<'_>, endpoint: &str) -> Result<Answer> {
    let scope = scopes(call.settings.text(Id::Scopes)).join(" ");
    let group = call.settings.text(Id::GroupId).map(|group| ("assume_group", group));
    let pairs = grant.form.iter().copied().chain([("scope", scope.as_str())]).chain(group);
    let pairs: Vec<(&str, &str)> = pairs.collect();
    call.client.send(&Request::form(endpoint, grant.headers, &pairs), call.deadline)
}

/// The token endpoint in a discovery document, cached for a day.
fn discover_token_endpoint(call: &ProviderCall<'_>, document: &str) -> Result<String> {
    (call.resolve_cached)(&format!("token endpoint by {document}"), &|| {
        let request = Request::get(document, &[]);
        let what = "to show its OAuth configuration";
        let body = ask_json(call.client, &request, what, call.deadline)?;
        let endpoint = require(&body, "token_endpoint", "the workspace's OAuth configuration")?;
        let origin = |url: &str| {
            let url = check_url(url).ok()?;
            Some((url.scheme().cloned()?, url.authority().cloned()?))
        };
        if origin(endpoint).is_none() || origin(endpoint) != origin(call.url) {
            return Err(Error::failed(
                "OAuth discovery names a token endpoint that is not on the workspace's host",
            )
            .because(redact(endpoint))
            .because("secrets are sent to the workspace only"));
        }
        Ok(endpoint.to_owned())
    })
}
