//! `file-oidc`: an identity token in a file, such as a Kubernetes service account's projected one.
//!
//! The platform replaces the file, so each call reads it, once (`settings.rs`). A line end at its end
//! is no part of the token (the Go SDK sends it along).

use super::exchange::{self, IdToken, exchange};
use super::{Ask, ROW, Source, has};
use crate::error::{Error, Result, clean};
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "file-oidc",
    needs: "host and databricks_id_token_filepath",
    configured: |settings, _| has(settings, &[Id::Host, Id::OidcTokenFile]),
    identity: |settings, _| {
        let token = settings.id_token_file().as_ref().ok();
        exchange::identity(settings, token.map(|token| token.expose()))
    },
    identity_token: |settings, _| settings.id_token_file().as_ref().ok().cloned(),
    secret_places: &[Id::OidcTokenFile],
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let path = clean(ask.settings.text(Id::OidcTokenFile).unwrap_or_default());
    let origin = ask.settings.origin(Id::OidcTokenFile);
    let text = ask.settings.id_token_file().as_ref().map_err(|why| {
        Error::usage(format!("cannot read the identity token in {path}, from {origin}"))
            .because(why)
    })?;
    let name = format!("the token in {path}");
    exchange(ask, &IdToken::configured(name, text.expose(), ask.world.now())?)
}
