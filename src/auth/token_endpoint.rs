//! The workspace's token endpoint (RFC 6749 §3.2): a grant in, a token out.
//!
//! Where it is on a workspace's own host is known, so nobody is asked first. Only where nothing is
//! there, or where `discovery_url` says so, it is looked up (RFC 8414). An answer never decides
//! where a secret goes: an endpoint that is found so must lie on the workspace's own host.

use serde_json::Value;

use crate::auth::host_metadata::document;
use crate::auth::provider::ProviderCall;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::{Answer, Request, check_url};
use crate::net::refusal::{CallError, Outcome, Refusal, ask_json, expect_json, require};

/// What is asked for, and on what grounds. It holds secrets, so it cannot be printed.
pub struct TokenGrant<'g> {
    /// Completes "refused …" in messages.
    pub what: &'g str,
    /// Beside the usual ones.
    pub headers: &'g [(&'static str, String)],
    /// The form, but for what every grant asks for alike.
    pub form: &'g [(&'g str, &'g str)],
}

/// The token that the workspace gives for a grant.
pub fn request_token(call: &ProviderCall<'_>, grant: &TokenGrant<'_>) -> Outcome<Token> {
    let refused = |answer: &Answer| CallError::Refused(Refusal::of(grant.what, answer));
    let direct = format!("{}/oidc/v1/token", call.url);
    let answer = match call.settings.text(Id::DiscoveryUrl) {
        Some(document) => {
            let origin = call.settings.origin(Id::DiscoveryUrl);
            let named = |e: Error| e.because(format!("the URL asked comes from {origin}"));
            post(call, grant, &endpoint(call, document).map_err(named)?)?
        }
        None => {
            let answer = post(call, grant, &direct)?;
            let absent = matches!(answer.status, 404 | 405)
                || (answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err());
            match absent.then(|| document(call).and_then(|document| endpoint(call, &document))) {
                Some(Ok(endpoint)) if endpoint != direct => post(call, grant, &endpoint)?,
                // The host has said that it is none that could give one, or could not say.
                Some(Err(e)) if matches!(e.kind, ErrorKind::Usage | ErrorKind::Unavailable) => {
                    return Err(e.into());
                }
                Some(Err(e)) if answer.status != 200 => {
                    return Err(refused(&answer).into_error().caused_by(e).into());
                }
                _ => answer,
            }
        }
    };
    let body = expect_json(&answer, grant.what)?;
    Ok(access_token("the workspace", &body, call.context.now())?)
}

fn post(call: &ProviderCall<'_>, grant: &TokenGrant<'_>, endpoint: &str) -> Result<Answer> {
    let scope = scopes(call.settings.text(Id::Scopes)).join(" ");
    let group = call.settings.text(Id::GroupId).map(|group| ("assume_group", group));
    let pairs = grant.form.iter().copied().chain([("scope", scope.as_str())]).chain(group);
    let pairs: Vec<(&str, &str)> = pairs.collect();
    call.client.send(&Request::form(endpoint, grant.headers, &pairs), call.deadline)
}

/// A comma-separated list, sorted and without repetitions, as in the Go SDK.
fn scopes(list: Option<&str>) -> Vec<&str> {
    let parts = list.unwrap_or_default().split(',').map(str::trim);
    let mut scopes: Vec<&str> = parts.filter(|scope| !scope.is_empty()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() { vec!["all-apis"] } else { scopes }
}

/// The token endpoint that a discovery document names, believed for a day.
fn endpoint(call: &ProviderCall<'_>, document: &str) -> Result<String> {
    (call.look_up)(&format!("token endpoint by {document}"), &|| {
        let (request, what) = (Request::get(document, &[]), "to show its OAuth configuration");
        let body = ask_json(call.client, &request, what, call.deadline)?;
        let endpoint = require(&body, "token_endpoint", "the workspace's OAuth configuration")?;
        let authority = |url: &str| check_url(url).ok()?.authority().cloned();
        if authority(endpoint).is_none() || authority(endpoint) != authority(call.url) {
            return Err(Error::failed(
                "OAuth discovery names a token endpoint that is not on the workspace's host",
            )
            .because(redact(endpoint))
            .because("what is secret is sent to the workspace only"));
        }
        Ok(endpoint.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_sorted_and_single() {
        assert_eq!(scopes(None), ["all-apis"]);
        assert_eq!(scopes(Some(" , ")), ["all-apis"]);
        assert_eq!(scopes(Some("sql, postgres,,sql")), ["postgres", "sql"]);
    }
}
