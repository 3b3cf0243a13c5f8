//! `file-oidc`: an identity token in a file, such as a Kubernetes service account's projected one.
//!
//! The platform replaces the file, so it is read each time. A line end at its end is no part of
//! the token (the Go SDK sends it along).

use std::fs::File;
use std::io::Read;

use super::exchange::{self, IdToken, exchange};
use super::{Ask, ROW, Source, has};
use crate::error::{Error, Result, clean};
use crate::secret::Secret;
use crate::settings::{Id, Settings};
use crate::token::{MAX_TOKEN, Token};

pub const SOURCE: Source = Source {
    name: "file-oidc",
    needs: "host and databricks_id_token_filepath",
    configured: |settings, _| has(settings, &[Id::Host, Id::OidcTokenFile]),
    identity: |settings, _| {
        let token = read(settings).ok();
        exchange::identity(settings, token.as_ref().map(Secret::expose))
    },
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn read(settings: &Settings) -> std::io::Result<Secret> {
    let path = settings.text(Id::OidcTokenFile).unwrap_or_default();
    let mut text = String::new();
    File::open(path)?.take(MAX_TOKEN as u64 + 2).read_to_string(&mut text)?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim()))
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let path = clean(ask.settings.text(Id::OidcTokenFile).unwrap_or_default());
    let origin = ask.settings.origin(Id::OidcTokenFile);
    let secret = read(ask.settings).map_err(|e| {
        Error::usage(format!("cannot read the identity token in {path}, from {origin}")).because(e)
    })?;
    exchange(ask, &IdToken { secret, name: format!("the token in {path}") })
}
