//! `get`: prints a credential on stdout. Never opens a browser, never asks.

use serde_json::Value;

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats;
use crate::formats::{API_VERSIONS, Format};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::session::{Session, Wants};

pub const COMMAND: Command = Command {
    name: "get",
    about: "print a password (what happens without a command, too)",
    more: "Prints a cached credential while it is fresh, else a newly minted one. Stdout has the \
           credential and nothing else, and is empty on failure.",
    flags: &[Id::For, Id::Format],
    common: COMMON,
    codes: "exit codes: 0 printed, 1 broken, 2 usage or configuration, 3 log in first, 4 refused,\n\
            5 not available now",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    let format = formats::chosen(settings.text(Id::Format))?;
    let plan = Plan::new(settings, call.context)?;
    format.check(plan.purpose)?;
    let api_version = api_version(call.context, format)?;
    let wants = Wants { user: format.user, host: format.host };
    let session = Session::new(&plan, call.context);
    let mut credential = session.credential(wants, plan.deadline())?;
    credential.api_version = api_version;
    let text = (format.render)(&credential)?;
    call.explain(&plan, &credential.token);
    if let Some(words) = format.warning(&credential) {
        call.context.note(words);
    }
    call.print(&text)?;
    Ok(0)
}

/// The version that the caller asks for in `KUBERNETES_EXEC_INFO` must come back, or client-go
/// refuses the answer.
fn api_version(context: &Context, format: &Format) -> Result<&'static str> {
    if format.name != "exec-credential" {
        return Ok(API_VERSIONS[0]);
    }
    let info = context
        .var("KUBERNETES_EXEC_INFO")
        .and_then(|info| serde_json::from_str::<Value>(info.to_str()?).ok());
    match info.as_ref().and_then(|info| info["apiVersion"].as_str()) {
        None => Ok(API_VERSIONS[0]),
        Some(asked) => API_VERSIONS.into_iter().find(|known| *known == asked).ok_or_else(|| {
            Error::usage(format!("KUBERNETES_EXEC_INFO asks for {}", redact(asked)))
                .hint(format!("apiVersion: {} in the kubeconfig", API_VERSIONS[0]))
        }),
    }
}
