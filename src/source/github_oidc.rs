//! `github-oidc`: a GitHub Actions job with `permissions: id-token: write` asks its runner for an
//! identity token
//! (<https://docs.github.com/actions/concepts/security/openid-connect>), which is exchanged.

use serde_json::Value;

use super::exchange::{IdToken, exchange};
use super::host_metadata::audience;
use super::{Ask, ROW, Source, has, means_azure};
use crate::api::{Refusal, require};
use crate::error::Result;
use crate::http::{Request, percent_encode};
use crate::settings::{Id, Settings};

pub const SOURCE: Source = Source {
    name: "github-oidc",
    needs: "host, a GitHub Actions job with the permission id-token: write, and no service of \
            Azure's configured beside it",
    configured: |settings, world| {
        has(settings, &[Id::Host]) && here(settings) && !means_azure(settings, world)
    },
    identity: |settings, _| {
        let text = |id| settings.text(id).unwrap_or_default();
        [text(Id::ClientId), text(Id::ActionsRequestUrl), text(Id::Audience)].join("\0")
    },
    // Another job has another one.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(|ask| exchange(ask, &id_token(ask, &audience(ask)?)?)),
    ..ROW
};

/// Whether this is such a job.
pub fn here(settings: &Settings) -> bool {
    has(settings, &[Id::ActionsRequestUrl, Id::ActionsRequestToken])
}

/// The job's identity token for an audience.
pub fn id_token(ask: &Ask<'_>, audience: &str) -> Result<IdToken> {
    let url = ask.settings.text(Id::ActionsRequestUrl).unwrap_or_default();
    let url = format!("{url}&audience={}", percent_encode(audience));
    let bearer = ask.settings.secret(Id::ActionsRequestToken).map_or("", |token| token.expose());
    let headers = [("Authorization", format!("Bearer {bearer}"))];
    let answer = ask.client.send(&Request::get(&url, &headers), ask.deadline)?;
    if answer.status != 200 {
        let error = Refusal::of("to give this job an identity token", &answer).into_error();
        let hint = "permissions: id-token: write, in the workflow";
        return Err(error.if_denied(|e| e.hint(hint)));
    }
    let body: Value = answer.json("question for an identity token")?;
    let text = require(&body, "value", "GitHub's answer")?;
    IdToken::new("GitHub's identity token".to_owned(), text)
}
