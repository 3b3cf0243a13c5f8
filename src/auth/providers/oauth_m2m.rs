//! `oauth-m2m`: a Databricks service principal, with its client credentials (RFC 6749 §4.4).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_endpoint::{TokenGrant, request_token};
use crate::config::table::Id;
use crate::credential::encoding::percent_encode;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::refusal::Refusal;

pub const PROVIDER: Provider = Provider {
    name: "oauth-m2m",
    needs: "host, client_id and client_secret",
    configured: |settings, _| has(settings, &[Id::Host, Id::ClientId, Id::ClientSecret]),
    identity: |settings, _| settings.text(Id::ClientId).unwrap_or_default().to_owned(),
    secret: Some(Id::ClientSecret),
    role: Some(Id::ClientId),
    uses_token_endpoint: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let id = call.settings.text(Id::ClientId).unwrap_or_default();
    let secret = call.settings.secret(Id::ClientSecret).map_or("", |secret| secret.expose());
    // Both are percent-encoded before they are joined (RFC 6749 §2.3.1).
    let pair = format!("{}:{}", percent_encode(id), percent_encode(secret));
    let headers = [("Authorization", format!("Basic {}", BASE64_STANDARD.encode(pair)))];
    let grant = TokenGrant {
        what: "to give the service principal a token",
        headers: &headers,
        form: &[("grant_type", "client_credentials")],
    };
    request_token(call, &grant)
        .map_err(|failure| failure.explained(|refusal| explained(call, refusal)))
}

fn explained(call: &ProviderCall<'_>, refusal: Refusal) -> Error {
    let is_about_client = refusal.code == "invalid_client" || refusal.status == 401;
    let error = refusal.into_error();
    if !is_about_client {
        return error;
    }
    error.hint(format!(
        "check client_id from {} and client_secret from {}, and that the service principal belongs \
         to this workspace",
        call.settings.origin(Id::ClientId),
        call.settings.origin(Id::ClientSecret)
    ))
}
