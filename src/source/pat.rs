//! `pat`: a configured personal access token, as the bearer of the workspace's APIs.
//!
//! It is never a Postgres password (Lakebase answers that with "not a valid JWT encoding") and
//! never copied into the cache. What the workspace thinks of it shows at the first call.

use super::{Ask, ROW, Source, has, hashed};
use crate::error::{Error, Result};
use crate::settings::Id;
use crate::token::{Token, check_text};

pub const SOURCE: Source = Source {
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

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let token = ask.settings.secret(Id::Token);
    let token = token.ok_or_else(|| Error::usage("auth type pat needs a token"))?;
    let name = format!("the token from {}", ask.settings.origin(Id::Token));
    check_text(&name, token.expose()).map_err(|e| Error::usage(e.message))?;
    Ok(Token::unbounded(token.clone(), ask.world.now()))
}
