//! `github-oidc`: a GitHub Actions job with `permissions: id-token: write` requests an identity token
//! (<https://docs.github.com/actions/concepts/security/openid-connect>) and exchanges it.

use crate::auth::entra::has_azure_identity;
use crate::auth::host_metadata::audience;
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_exchange::{IdToken, exchange};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::encoding::percent_encode;
use crate::error::Result;
use crate::net::http::Request;
use crate::net::refusal::{ask_json, require};

pub const PROVIDER: Provider = Provider {
    name: "github-oidc",
    needs: "host and a GitHub Actions job with the permission id-token: write (a configured Azure \
            identity takes precedence)",
    configured: |settings, _| {
        has(settings, &[Id::Host]) && is_github_job(settings) && !has_azure_identity(settings)
    },
    identity: |settings, _| {
        let text = |id| settings.text(id).unwrap_or_default();
        [text(Id::ClientId), text(Id::ActionsRequestUrl), text(Id::Audience)].join("\0")
    },
    // Each job has another request token, so it separates the cache entries of jobs.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::ClientId),
    uses_token_endpoint: true,
    fetch: Some(|call| exchange(call, &id_token(call, &audience(call)?)?)),
    ..ROW
};

/// Whether the program runs in a job that may request an identity token.
pub fn is_github_job(settings: &Settings) -> bool {
    has(settings, &[Id::ActionsRequestUrl, Id::ActionsRequestToken])
}

/// The job's identity token for an audience.
pub fn id_token(call: &ProviderCall<'_>, audience: &str) -> Result<IdToken> {
    let url = call.settings.text(Id::ActionsRequestUrl).unwrap_or_default();
    let url = format!("{url}&audience={}", percent_encode(audience));
    let bearer = call.settings.secret(Id::ActionsRequestToken).map_or("", |token| token.expose());
    let headers = [("Authorization", format!("Bearer {bearer}"))];
    let request = Request::get(&url, &headers);

    let what = "to give this job an identity token";
    let body = ask_json(call.client, &request, what, call.deadline).map_err(|failure| {
        let hint = "permissions: id-token: write, in the workflow";
        failure.into_error().if_denied(|e| e.hint(hint))
    })?;
    let text = require(&body, "value", "GitHub's answer")?;
    IdToken::new("GitHub's identity token".to_owned(), text)
}
