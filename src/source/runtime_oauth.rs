//! `runtime-oauth`: in a notebook or job on Databricks, the notebook's token is exchanged for one
//! with scopes of its own (databricks-sdk-py `runtime_oauth`).
//!
//! The notebook's token is in the memory of its Python, where no other process can see it. So it
//! has to be handed over as `DATABRICKS_TOKEN`, and this auth type has to be named.

use super::exchange::GRANT_TYPE;
use super::grant::{Grant, granted};
use super::{Ask, ROW, Source, has, pat};
use crate::api::CallError;
use crate::error::Result;
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "runtime-oauth",
    needs: "host, the notebook's token as DATABRICKS_TOKEN, and DATABRICKS_RUNTIME_VERSION, which \
            Databricks sets",
    configured: |settings, world| {
        settings.text(Id::AuthType) == Some("runtime-oauth")
            && has(settings, &[Id::Host, Id::Token])
            && world.var("DATABRICKS_RUNTIME_VERSION").is_some()
    },
    identity: pat::SOURCE.identity,
    secret: Some(Id::Token),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let token = ask.settings.secret(Id::Token).map_or("", |token| token.expose());
    let form = [
        ("grant_type", GRANT_TYPE),
        ("subject_token", token),
        ("subject_token_type", "urn:databricks:params:oauth:token-type:personal-access-token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    let what = "to exchange the notebook's token";
    granted(ask, &Grant { what, headers: &[], form: &form }).map_err(CallError::into_error)
}
