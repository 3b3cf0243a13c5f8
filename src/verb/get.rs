//! `get`: prints a credential on stdout. Never opens a browser, never asks.

use serde_json::Value;

use super::{Call, Verb, check_names};
use crate::error::{Error, Result, clean, nearest};
use crate::format::{self, FORMATS, Format};
use crate::get::{Session, Wants};
use crate::plan::Plan;
use crate::settings::{Id, Settings};
use crate::time::Deadline;
use crate::token::Purpose;
use crate::world::World;

pub const VERB: Verb = Verb {
    name: "get",
    about: "print a password (what happens without a verb, too)",
    usage: "[FLAGS]",
    more: "Prints a cached credential while it is fresh, else a newly minted one. Stdout has the \
           credential and nothing else, and is empty on failure.",
    flags: &[Id::For, Id::Format],
    command: false,
    codes: "exit codes: 0 printed, 1 broken, 2 usage or configuration, 3 log in first, 4 refused,\n\
            5 not available now",
    failure: None,
    run,
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    let format = chosen(&settings)?;
    let plan = Plan::new(settings, call.world)?;
    if plan.purpose == Purpose::Workspace && !format.workspace {
        let able: Vec<&str> = format::for_workspaces().map(|format| format.name).collect();
        return Err(Error::usage(format!("the format {} is for databases", format.name))
            .hint(format!("with --for workspace: {}", able.join(", "))));
    }
    let api_version = api_version(call.world, format)?;
    let wants = Wants { user: format.user, host: format.host };
    check_names(&plan, wants)?;
    let session = Session::new(&plan, call.world);
    let mut credential = session.credential(wants, Deadline::after(plan.timeout))?;
    credential.api_version = api_version;
    let text = (format.render)(&credential)?;
    call.explain(&plan, &credential.token);
    call.print(&text)?;
    Ok(0)
}

fn chosen(settings: &Settings) -> Result<&'static Format> {
    let Some(name) = settings.text(Id::Format) else { return Ok(&FORMATS[0]) };
    format::find(name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let error = Error::usage(format!("there is no format {}", clean(name)));
        match nearest(name, names.iter().copied()) {
            Some(near) => error.hint(format!("--format {near}")),
            None => error.hint(format!("one of {}", names.join(", "))),
        }
    })
}

/// The version that the caller asks for in `KUBERNETES_EXEC_INFO` must come back, or client-go
/// refuses the answer.
fn api_version(world: &World, format: &Format) -> Result<&'static str> {
    const VERSIONS: [&str; 2] =
        ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
    let info = world.var("KUBERNETES_EXEC_INFO").filter(|_| format.name == "exec-credential");
    let info = info.and_then(|info| serde_json::from_str::<Value>(info.to_str()?).ok());
    match info.as_ref().and_then(|info| info["apiVersion"].as_str()) {
        None => Ok(VERSIONS[0]),
        Some(asked) => VERSIONS.into_iter().find(|known| *known == asked).ok_or_else(|| {
            Error::usage(format!("KUBERNETES_EXEC_INFO asks for {}", clean(asked)))
                .hint(format!("apiVersion: {} in the kubeconfig", VERSIONS[0]))
        }),
    }
}
