//! `file-oidc`: exchanges an identity token from a file, such as the projected token of a Kubernetes
//! service account.
//!
//! The platform replaces the file, so each call reads it anew, once (`config/settings.rs`). White
//! space at its end is not part of the token; the SDK for Go sends it along.

use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_exchange;
use crate::auth::token_exchange::{IdToken, exchange};
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};

pub const PROVIDER: Provider = Provider {
    name: "file-oidc",
    needs: "host and databricks_id_token_filepath",
    configured: |settings, _| has(settings, &[Id::Host, Id::OidcTokenFile]),
    identity: |settings, _| {
        let token = settings.id_token_file(Id::OidcTokenFile).as_ref().ok();
        token_exchange::identity(settings, token.map(|token| token.expose()))
    },
    identity_token: |settings, _| settings.id_token_file(Id::OidcTokenFile).as_ref().ok().cloned(),
    secret_pointers: &[Id::OidcTokenFile],
    role: Some(Id::ClientId),
    uses_token_endpoint: true,
    fetch: Some(|call| exchange(call, &id_token_in(call, Id::OidcTokenFile)?)),
    ..ROW
};

/// The identity token in the file that a setting names.
pub fn id_token_in(call: &ProviderCall<'_>, file: Id) -> Result<IdToken> {
    let path = redact(call.settings.text(file).unwrap_or_default());
    let origin = call.settings.origin(file);
    let text = call.settings.id_token_file(file).as_ref().map_err(|why| {
        Error::usage(format!("cannot read the identity token in {path}, from {origin}"))
            .because(why)
    })?;
    let name = format!("the token in {path}");
    IdToken::configured(name, text.expose(), call.context.now())
}
