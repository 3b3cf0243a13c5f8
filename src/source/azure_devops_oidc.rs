//! `azure-devops-oidc`: a job of Azure DevOps asks for an identity token, which is exchanged
//! (<https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create>).

use super::exchange::{IdToken, exchange};
use super::{Ask, ROW, Source, has, means_azure};
use crate::api::{Refusal, require};
use crate::error::{Error, Result};
use crate::http::{Request, percent_encode};
use crate::secret::Secret;
use crate::settings::{DEVOPS_TOKEN, Id};
use crate::token::Token;
use crate::world::World;

pub const SOURCE: Source = Source {
    name: "azure-devops-oidc",
    needs: "host, an Azure DevOps job with SYSTEM_ACCESSTOKEN in its environment, and no service of \
            Azure's configured beside it",
    configured: |settings, world| {
        has(settings, &[Id::Host])
            && VARIABLES.iter().all(|name| world.var(name).is_some())
            && !means_azure(settings, world)
    },
    identity: |settings, world| {
        // Another job has others.
        let job = VARIABLES.map(|name| if name == DEVOPS_TOKEN { "" } else { text(world, name) });
        [settings.text(Id::ClientId).unwrap_or_default(), &job.join("\0")].join("\0")
    },
    identity_token: |_, world| Some(Secret::new(text(world, DEVOPS_TOKEN))),
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

/// What such a job has in its environment; the first one only if its author says so.
const VARIABLES: [&str; 6] = [
    DEVOPS_TOKEN,
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "SYSTEM_TEAMPROJECTID",
    "SYSTEM_HOSTTYPE",
    "SYSTEM_PLANID",
    "SYSTEM_JOBID",
];

fn text<'w>(world: &'w World, name: &str) -> &'w str {
    world.var(name).and_then(|text| text.to_str()).unwrap_or_default()
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    if let Some(missing) = VARIABLES.iter().find(|name| ask.world.var(name).is_none()) {
        return Err(Error::usage(format!("this is no job of Azure DevOps: there is no {missing}"))
            .hint("env: SYSTEM_ACCESSTOKEN: $(System.AccessToken), in the pipeline's step"));
    }
    let [token, collection, project, kind, plan, job] = VARIABLES.map(|name| text(ask.world, name));
    let [project, kind, plan, job] = [project, kind, plan, job].map(percent_encode);
    let url = format!(
        "{}/{project}/_apis/distributedtask/hubs/{kind}/plans/{plan}/jobs/{job}/oidctoken\
         ?api-version=7.2-preview.1",
        collection.trim_end_matches('/')
    );
    let headers = [("Authorization", format!("Bearer {token}"))];
    let body = Some(("application/json", String::new()));
    let request = Request { method: "POST", url: &url, headers: &headers, body, once: false };
    let asked = || {
        let answer = ask.client.send(&request, ask.deadline)?;
        if answer.status != 200 {
            let what = "to give this job an identity token";
            return Err(Refusal::of(what, &answer).into_error());
        }
        let body = answer.json("question for an identity token")?;
        let text = require(&body, "oidcToken", "Azure DevOps' answer")?;
        IdToken::new("Azure DevOps' identity token".to_owned(), text)
    };
    let id_token = asked().map_err(|e| e.without(&Secret::new(token)))?;
    exchange(ask, &id_token)
}
