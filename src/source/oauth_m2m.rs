//! `oauth-m2m`: a service principal's client credentials (RFC 6749 §4.4).
//!
//! The token endpoint of a workspace is known, so discovery (RFC 8414) is asked only where that
//! one is not there, or where `discovery_url` says so. An answer never decides where a client
//! secret goes: an endpoint found by discovery must lie on the workspace's own host.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Ask, Source, has};
use crate::api::{Refusal, access_token, require};
use crate::error::{Error, Result, clean};
use crate::http::{Answer, Request, check_url, percent_encode};
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "oauth-m2m",
    needs: "host, client_id and client_secret",
    configured: |settings, _| has(settings, &[Id::Host, Id::ClientId, Id::ClientSecret]),
    identity: |settings, _| settings.text(Id::ClientId).unwrap_or_default().to_owned(),
    ready: |_, _| true,
    secret: Some(Id::ClientSecret),
    role: Some(Id::ClientId),
    switches: false,
    renews: true,
    cached: true,
    own_login: false,
    fetch: Some(fetch),
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let direct = format!("{}/oidc/v1/token", ask.url);
    let answer = match ask.settings.text(Id::DiscoveryUrl) {
        Some(document) => post(ask, &discovered(ask, document)?)?,
        None => {
            let answer = post(ask, &direct)?;
            let absent = matches!(answer.status, 404 | 405)
                || (answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err());
            let document = format!("{}/oidc/.well-known/oauth-authorization-server", ask.url);
            match absent.then(|| discovered(ask, &document)) {
                Some(Ok(endpoint)) if endpoint != direct => post(ask, &endpoint)?,
                Some(Err(e)) if answer.status != 200 => {
                    return Err(refused(ask, &answer).because(e.message));
                }
                _ => answer,
            }
        }
    };
    if answer.status != 200 {
        return Err(refused(ask, &answer));
    }
    let body = answer.json("token request")?;
    access_token(&body, ask.world.now())
}

fn post(ask: &Ask<'_>, endpoint: &str) -> Result<Answer> {
    let id = ask.settings.text(Id::ClientId).unwrap_or_default();
    let secret = ask.settings.secret(Id::ClientSecret).map_or("", |secret| secret.expose());
    // RFC 6749 §2.3.1: both are form-encoded before they are joined.
    let pair = format!("{}:{}", percent_encode(id), percent_encode(secret));
    let headers = [("Authorization", format!("Basic {}", BASE64_STANDARD.encode(pair)))];
    let scope = scopes(ask.settings.text(Id::Scopes)).join(" ");
    let form = format!("grant_type=client_credentials&scope={}", percent_encode(&scope));
    let body = Some(("application/x-www-form-urlencoded", form));
    let request = Request { method: "POST", url: endpoint, headers: &headers, body, once: false };
    ask.client.send(&request, ask.deadline)
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
fn discovered(ask: &Ask<'_>, document: &str) -> Result<String> {
    (ask.found)(&format!("token endpoint by {document}"), &|| {
        let request =
            Request { method: "GET", url: document, headers: &[], body: None, once: false };
        let answer = ask.client.send(&request, ask.deadline)?;
        if answer.status != 200 {
            return Err(Refusal::of("to show its OAuth configuration", &answer).into_error());
        }
        let body = answer.json("OAuth discovery")?;
        let endpoint = require(&body, "token_endpoint", "the workspace's OAuth configuration")?;
        let authority = |url: &str| check_url(url).map(|uri| uri.authority().cloned());
        if authority(endpoint)? != authority(ask.url)? {
            return Err(Error::failed(
                "OAuth discovery names a token endpoint that is not on the workspace's host",
            )
            .because(clean(endpoint))
            .because("the client secret is sent to the workspace only"));
        }
        Ok(endpoint.to_owned())
    })
}

fn refused(ask: &Ask<'_>, answer: &Answer) -> Error {
    let refusal = Refusal::of("to give the service principal a token", answer);
    let wrong = refusal.code == "invalid_client" || refusal.status == 401;
    let error = refusal.into_error();
    if wrong {
        let origin = |id| ask.settings.origin(id);
        error.hint(format!(
            "check client_id from {} and client_secret from {}, and that the service principal \
             belongs to this workspace",
            origin(Id::ClientId),
            origin(Id::ClientSecret)
        ))
    } else {
        error
    }
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
