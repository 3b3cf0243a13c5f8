//! `pat`: a configured personal access token, which is the workspace token itself.
//!
//! It is never a Postgres password (Lakebase refuses it with "not a valid JWT encoding") and never
//! copied into the cache. Whether it is valid shows at the first call of an API.

use crate::auth::provider::{Provider, ProviderCall, ROW, has, hashed};
use crate::config::table::Id;
use crate::credential::token::{Token, check_text};
use crate::error::{Error, Result};

pub const PROVIDER: Provider = Provider {
    name: "pat",
    needs: "host and token",
    configured: |settings, _| has(settings, &[Id::Host, Id::Token]),
    identity: |settings, _| hashed(settings, Id::Token),
    secret: Some(Id::Token),
    renews: false,
    cached: false,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let token = call.settings.secret(Id::Token);
    let token = token.ok_or_else(|| Error::usage("auth type pat needs a token"))?;
    let name = format!("the token from {}", call.settings.origin(Id::Token));
    check_text(&name, token.expose()).map_err(|e| Error::usage(e.message))?;
    Ok(Token::unbounded(token.clone(), call.context.now()))
}
