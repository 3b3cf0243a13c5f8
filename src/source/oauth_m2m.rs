//! `oauth-m2m`: a service principal's client credentials (RFC 6749 §4.4).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::grant::{Grant, granted};
use super::{Ask, ROW, Source, has};
use crate::api::Refusal;
use crate::error::{Error, Result};
use crate::http::percent_encode;
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "oauth-m2m",
    needs: "host, client_id and client_secret",
    configured: |settings, _| has(settings, &[Id::Host, Id::ClientId, Id::ClientSecret]),
    identity: |settings, _| settings.text(Id::ClientId).unwrap_or_default().to_owned(),
    secret: Some(Id::ClientSecret),
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let id = ask.settings.text(Id::ClientId).unwrap_or_default();
    let secret = ask.settings.secret(Id::ClientSecret).map_or("", |secret| secret.expose());
    // RFC 6749 §2.3.1: both are form-encoded before they are joined.
    let pair = format!("{}:{}", percent_encode(id), percent_encode(secret));
    let headers = [("Authorization", format!("Basic {}", BASE64_STANDARD.encode(pair)))];
    let grant = Grant {
        what: "to give the service principal a token",
        headers: &headers,
        form: &[("grant_type", "client_credentials")],
    };
    granted(ask, &grant).map_err(|failure| failure.explained(|refusal| explained(ask, refusal)))
}

fn explained(ask: &Ask<'_>, refusal: Refusal) -> Error {
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
