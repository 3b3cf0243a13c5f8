//! `azure-devops-oidc`: a job of Azure DevOps requests an identity token and exchanges it
//! (<https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create>).

use crate::auth::entra::has_azure_identity;
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_exchange::{IdToken, exchange};
use crate::config::table::Id;
use crate::config::variables::DEVOPS_TOKEN;
use crate::credential::encoding::percent_encode;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::http::Request;
use crate::net::refusal::{ask_json, require};
use crate::platform::context::Context;

pub const PROVIDER: Provider = Provider {
    name: "azure-devops-oidc",
    needs: "host and an Azure DevOps job with SYSTEM_ACCESSTOKEN in its environment (a configured \
            Azure identity takes precedence)",
    configured: |settings, context| {
        has(settings, &[Id::Host])
            && VARIABLES.iter().all(|name| context.var(name).is_some())
            && !has_azure_identity(settings)
    },
    identity: |settings, context| {
        // These variables tell one job from another; the token itself is in the fingerprint.
        let job = VARIABLES.map(|name| if name == DEVOPS_TOKEN { "" } else { text(context, name) });
        [settings.text(Id::ClientId).unwrap_or_default(), &job.join("\0")].join("\0")
    },
    identity_token: |_, context| Some(Secret::new(text(context, DEVOPS_TOKEN))),
    role: Some(Id::ClientId),
    uses_token_endpoint: true,
    fetch: Some(fetch),
    ..ROW
};

/// The variables of such a job. Its author must pass on the first one.
const VARIABLES: [&str; 6] = [
    DEVOPS_TOKEN,
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "SYSTEM_TEAMPROJECTID",
    "SYSTEM_HOSTTYPE",
    "SYSTEM_PLANID",
    "SYSTEM_JOBID",
];

fn text<'c>(context: &'c Context, name: &str) -> &'c str {
    context.var(name).and_then(|text| text.to_str()).unwrap_or_default()
}

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    if let Some(missing) = VARIABLES.iter().find(|name| call.context.var(name).is_none()) {
        return Err(Error::usage(format!("not an Azure DevOps job: {missing} is not set"))
            .hint("env: SYSTEM_ACCESSTOKEN: $(System.AccessToken), in the pipeline's step"));
    }
    let bearer = text(call.context, DEVOPS_TOKEN);
    let id_token = id_token(call, bearer)?;
    exchange(call, &id_token)
}

fn id_token(call: &ProviderCall<'_>, bearer: &str) -> Result<IdToken> {
    let [_, collection, path @ ..] = VARIABLES.map(|name| text(call.context, name));
    let [project, kind, plan, job] = path.map(percent_encode);
    let url = format!(
        "{}/{project}/_apis/distributedtask/hubs/{kind}/plans/{plan}/jobs/{job}/oidctoken\
         ?api-version=7.2-preview.1",
        collection.trim_end_matches('/')
    );
    let headers = [("Authorization", format!("Bearer {bearer}"))];
    let body = Some(("application/json", String::new()));
    let request = Request { method: "POST", url: &url, headers: &headers, body, once: false };

    let what = "to give this job an identity token";
    let body = ask_json(call.client, &request, what, call.deadline)?;
    let text = require(&body, "oidcToken", "Azure DevOps' answer")?;
    IdToken::new("Azure DevOps' identity token".to_owned(), text)
}
