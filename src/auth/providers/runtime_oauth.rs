//! `runtime-oauth`: in a notebook or job on Databricks, exchanges the notebook's token for one with
//! the configured scopes (databricks-sdk-py `runtime_oauth`).
//!
//! The notebook's token is in the memory of its Python process, so the user must pass it on in
//! `DATABRICKS_TOKEN` and name this auth type.

use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::providers::pat;
use crate::auth::token_endpoint::{TokenGrant, request_token};
use crate::auth::token_exchange::GRANT_TYPE;
use crate::config::table::Id;
use crate::credential::token::Token;
use crate::error::Result;
use crate::net::refusal::CallError;

pub const PROVIDER: Provider = Provider {
    name: "runtime-oauth",
    needs: "auth_type runtime-oauth, host, the notebook's token in DATABRICKS_TOKEN, and \
            DATABRICKS_RUNTIME_VERSION, which Databricks sets",
    configured: |settings, context| {
        settings.text(Id::AuthType) == Some(PROVIDER.name)
            && has(settings, &[Id::Host, Id::Token])
            && context.var("DATABRICKS_RUNTIME_VERSION").is_some()
    },
    identity: pat::PROVIDER.identity,
    secret: Some(Id::Token),
    uses_token_endpoint: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let token = call.settings.secret(Id::Token).map_or("", |token| token.expose());
    let form = [
        ("grant_type", GRANT_TYPE),
        ("subject_token", token),
        ("subject_token_type", "urn:databricks:params:oauth:token-type:personal-access-token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    let what = "to exchange the notebook's token";
    request_token(call, &TokenGrant { what, headers: &[], form: &form })
        .map_err(CallError::into_error)
}
