//! `get`: prints a credential on stdout. It never opens a browser and never prompts.
//!
//! How the credential is obtained is left to `session.rs`, how it is printed to `formats.rs`.

use serde_json::Value;

use crate::commands::command::{Call, Command, DATABASE_FLAGS, ROW};
use crate::commands::wait;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats;
use crate::formats::{API_VERSIONS, Format};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::session::ConnectionParts;

pub const COMMAND: Command = Command {
    name: "get",
    about: "print a password (the default command)",
    more: "Prints the cached credential while it is fresh, otherwise mints a new one. Stdout has \
           the credential and nothing else; on failure it is empty.",
    flags: &[Id::For, Id::Format, Id::ReadOnly, Id::Wait],
    common: DATABASE_FLAGS,
    exit_codes: "exit codes: 0 printed, 1 internal failure or malformed response,\n\
            2 usage or configuration, 3 login required, 4 refused by the server,\n\
            5 temporarily unavailable",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    let format = formats::chosen(settings.text(Id::Format))?;
    let plan = Plan::new(settings, call.context)?;
    format.check(plan.purpose)?;
    let api_version = api_version(call.context, format)?;

    let wants = ConnectionParts { user: format.user, host: format.host };
    let mut credential = wait::credential(&plan, call.context, wants)?;
    credential.api_version = api_version;

    let text = (format.render)(&credential)?;
    call.explain(&plan, &credential.token);
    call.explain_tls(&plan, &credential.connection);
    if let Some(words) = format.warning(&credential) {
        call.context.note(words);
    }
    call.print(&text)?;
    Ok(0)
}

/// The version of Kubernetes' ExecCredential. client-go refuses an answer in another version than
/// the one that it names in `KUBERNETES_EXEC_INFO`.
fn api_version(context: &Context, format: &Format) -> Result<&'static str> {
    if !format.has_api_version {
        return Ok(API_VERSIONS[0]);
    }

    let info = context
        .var("KUBERNETES_EXEC_INFO")
        .and_then(|info| serde_json::from_str::<Value>(info.to_str()?).ok());
    let Some(requested) = info.as_ref().and_then(|info| info["apiVersion"].as_str()) else {
        return Ok(API_VERSIONS[0]);
    };
    API_VERSIONS.into_iter().find(|known| *known == requested).ok_or_else(|| {
        Error::usage(format!("KUBERNETES_EXEC_INFO asks for {}", redact(requested)))
            .hint(format!("apiVersion: {} in the kubeconfig", API_VERSIONS[0]))
    })
}
