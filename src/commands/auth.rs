//! `auth token`: hands the workspace token to Databricks' SDKs, in the protocol in which they ask the
//! Databricks CLI for one (databricks-sdk-go `config/cli_token_source.go`, databricks-sdk-py
//! `credentials_provider.py`).
//!
//! With `DATABRICKS_CLI_PATH` set to this program, an SDK runs `version`, and `auth token` whenever it
//! needs a token. The cache and its locks serve many SDK processes at once with one refresh. How the token
//! is obtained is left to `session.rs`.

use serde_json::json;

use crate::auth::providers::databricks_cli;
use crate::commands::command::{Call, Command, ROW, WORKSPACE_FLAGS};
use crate::config::host_url::WorkspaceUrl;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::login::record::{BROWSER, LoginKey, RenewWith};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::session::{ConnectionParts, Session};

pub const COMMAND: Command = Command {
    name: "auth",
    about: "give Databricks' SDKs their token (DATABRICKS_CLI_PATH)",
    usage: "token --host URL|--profile NAME [FLAGS]",
    more: "With DATABRICKS_CLI_PATH=/path/to/lakebase-token, Databricks' SDKs, and with them the \
           Terraform provider, dbt and MLflow, run this command instead of the Databricks CLI, each \
           time that they need a token. It prints access_token, token_type and expiry as JSON.\n\n\
           The identity is the same as for get --for workspace; where the auth type is databricks-cli, \
           it is the login made by lakebase-token login, else that of the Databricks CLI. A token has \
           at least ten minutes left, or a third of its lifetime (a minute while the workspace is \
           unreachable), so --force-refresh, which SDKs always send, changes nothing: many processes \
           at once cause one refresh.",
    flags: &[Id::AccountId, Id::ForceRefresh],
    common: WORKSPACE_FLAGS,
    max_words: 1,
    completions: || vec!["token"],
    exit_codes: "exit codes: as for get",
    run,
    ..ROW
};

/// The version of the Databricks CLI whose protocol this is: the first one with `--force-refresh`.
const PROTOCOL_VERSION: [u16; 3] = [0, 296, 0];

fn run(mut call: Call<'_>) -> Result<u8> {
    match call.words.first().and_then(|word| word.to_str()) {
        Some("token") => (),
        Some("login") => {
            return Err(Error::usage("unknown auth action: login").hint("lakebase-token login"));
        }
        other => {
            let error = match other {
                Some(other) => Error::usage(format!("unknown auth action: {}", redact(other))),
                None => Error::usage("missing auth action: token"),
            };
            return Err(error.hint("lakebase-token auth token --host URL"));
        }
    }
    databricks_cli::refuse_circle(call.context)?;

    let plan = Plan::with_purpose(Purpose::Workspace, settings(&call)?, call.context)?;
    let is_missing = (plan.provider.missing)(&plan.settings, call.context).is_some();
    if is_missing || has_secret_of_other_host(&plan, call.context) {
        return Err(not_logged_in(&plan.settings));
    }
    let session = Session::new(&plan, call.context);
    let credential = session.credential(ConnectionParts::default(), plan.deadline())?;
    let Some(expires) = credential.token.expires else {
        return Err(Error::usage("a personal access token has no expiry, which SDKs want to know")
            .hint("DATABRICKS_TOKEN, which the SDKs read themselves"));
    };
    call.explain(&plan, &credential.token);
    let answer = json!({
        "access_token": credential.token.secret.expose(),
        "token_type": "Bearer",
        "expiry": expires.to_string(),
    });
    call.print(&format!("{answer}\n"))?;
    Ok(0)
}

/// The settings. To an SDK, we are the Databricks CLI: its auth type means a login of ours, if there is one.
fn settings(call: &Call<'_>) -> Result<Settings> {
    let settings = call.settings()?;
    let is_cli = settings.text(Id::AuthType) == Some(databricks_cli::PROVIDER.name);
    let has_login = settings.login_error(call.context).is_some()
        || settings
            .login(call.context)
            .is_some_and(|login| matches!(login.renew_with, RenewWith::Refresh(_)));
    if !is_cli || !has_login {
        return Ok(settings);
    }
    let flags = [call.flags, &[(Id::AuthType, BROWSER.to_owned())]].concat();
    Settings::resolve(&flags, call.context)
}

/// Whether the secret is an inherited one, beside an inherited host that is not the one the SDK names: the Databricks
/// CLI would not send it there.
fn has_secret_of_other_host(plan: &Plan, context: &Context) -> bool {
    let provider = plan.provider;
    let mut ids = provider.secret.iter().chain(provider.secret_pointers);
    let is_inherited = ids.any(|id| matches!(plan.settings.origin(*id), Origin::Env(_)));
    let host = context.var("DATABRICKS_HOST").and_then(|host| host.to_str());
    let host = host.and_then(|host| WorkspaceUrl::parse(host, Origin::Default).ok());
    is_inherited && host.is_some_and(|host| host.url != plan.url())
}

/// The words in the middle are those by which the SDKs know that they should try the next auth type.
fn not_logged_in(settings: &Settings) -> Error {
    let host = redact(settings.text(Id::Host).unwrap_or_default());
    let key = settings.login_key().unwrap_or(LoginKey::Host(host.clone()));
    Error::login(format!("there is no login for {host}"))
        .because("databricks OAuth is not configured for this host")
        .hint(format!("lakebase-token login {}", key.shown_words()))
}

/// What an SDK that takes this program for the Databricks CLI gets as its version; nothing if this
/// program is not called as that.
pub fn version_for_sdks(context: &Context, as_json: bool) -> Option<String> {
    let [major, minor, patch] = PROTOCOL_VERSION;
    let version = format!("{major}.{minor}.{patch}");
    if as_json {
        let version = json!({
            "ProjectName": "lakebase-token", "Version": version,
            "Major": major, "Minor": minor, "Patch": patch,
        });
        return Some(format!("{version}\n"));
    }
    databricks_cli::is_set_to_us(context).then(|| format!("Databricks CLI v{version}\n"))
}
