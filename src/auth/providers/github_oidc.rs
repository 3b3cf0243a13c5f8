//! `github-oidc`: a GitHub Actions job with `permissions: id-token: write` asks its runner for an
//! identity token
//! (<https://docs.github.com/actions/concepts/security/openid-connect>), which is exchanged.

use crate::auth::entra::means_azure;
use crate::auth::host_metadata::audience;
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_exchange::{IdToken, exchange};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::encoding::percent_encode;
use crate::error::Result;
use crate::net::http::Request;
use crate::net::refusal::{ask_json, require};

pub const PROVIDER: Provider = Provider {
    name: "github-oidc",
    needs: "host, a GitHub Actions job with the permission id-token: write, and no service of \
            Azure's configured beside it",
    configured: |settings, _| {
        has(settings, &[Id::Host]) && here(settings) && !means_azure(settings)
    },
    identity: |settings, _| {
        let text = |id| settings.text(id).unwrap_or_default();
        [text(Id::ClientId), text(Id::ActionsRequestUrl), text(Id::Audience)].join("\0")
    },
    // Another job has another one.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(|call| exchange(call, &id_token(call, &audience(call)?)?)),
    ..ROW
};

/// Whether this is such a job.
pub fn here(settings: &Settings) -> bool {
    has(settings, &[Id::ActionsRequestUrl, Id::ActionsRequestToken])
}

/// The job's identity token for an audience.
pub fn id_token(call: &ProviderCall<'_>, audience: &str) -> Result<IdToken> {
    let url = call.settings.text(Id::ActionsRequestUrl).unwrap_or_default();
    let url = format!("{url}&audience={}", percent_encode(audience));
    let bearer = call.settings.secret(Id::ActionsRequestToken).map_or("", |token| token.expose());
    let headers = [("Authorization", format!("Bearer {bearer}"))];
    let (request, what) = (Request::get(&url, &headers), "to give this job an identity token");
    let body = ask_json(call.client, &request, what, call.deadline).map_err(|failure| {
        let hint = "permissions: id-token: write, in the workflow";
        failure.into_error().if_denied(|e| e.hint(hint))
    })?;
    let text = require(&body, "value", "GitHub's answer")?;
    IdToken::new("GitHub's identity token".to_owned(), text)
}
