//! `get`: prints a credential on stdout. Never opens a browser, never asks.

use serde_json::Value;

use super::{Call, Verb};
use crate::error::{Error, Result, clean};
use crate::format::{self, API_VERSIONS, Format};
use crate::get::{Session, Wants};
use crate::plan::Plan;
use crate::settings::Id;
use crate::world::World;

pub const VERB: Verb = Verb {
    name: "get",
    about: "print a password (what happens without a verb, too)",
    usage: "[FLAGS]",
    more: "Prints a cached credential while it is fresh, else a newly minted one. Stdout has the \
           credential and nothing else, and is empty on failure.",
    flags: &[Id::For, Id::Format],
    place: false,
    common: super::COMMON,
    words: 0,
    command: false,
    codes: "exit codes: 0 printed, 1 broken, 2 usage or configuration, 3 log in first, 4 refused,\n\
            5 not available now",
    failure: None,
    run,
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    let format = format::chosen(settings.text(Id::Format))?;
    let plan = Plan::new(settings, call.world)?;
    format.check(plan.purpose)?;
    let api_version = api_version(call.world, format)?;
    let wants = Wants { user: format.user, host: format.host };
    let session = Session::new(&plan, call.world);
    let mut credential = session.credential(wants, plan.deadline())?;
    credential.api_version = api_version;
    let text = (format.render)(&credential)?;
    call.explain(&plan, &credential.token);
    if let Some(words) = format.warning(&credential) {
        call.world.note(words);
    }
    call.print(&text)?;
    Ok(0)
}

/// The version that the caller asks for in `KUBERNETES_EXEC_INFO` must come back, or client-go
/// refuses the answer.
fn api_version(world: &World, format: &Format) -> Result<&'static str> {
    if format.name != "exec-credential" {
        return Ok(API_VERSIONS[0]);
    }
    let info = world
        .var("KUBERNETES_EXEC_INFO")
        .and_then(|info| serde_json::from_str::<Value>(info.to_str()?).ok());
    match info.as_ref().and_then(|info| info["apiVersion"].as_str()) {
        None => Ok(API_VERSIONS[0]),
        Some(asked) => API_VERSIONS.into_iter().find(|known| *known == asked).ok_or_else(|| {
            Error::usage(format!("KUBERNETES_EXEC_INFO asks for {}", clean(asked)))
                .hint(format!("apiVersion: {} in the kubeconfig", API_VERSIONS[0]))
        }),
    }
}
