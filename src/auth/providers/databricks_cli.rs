//! `databricks-cli`: a person's login, kept and renewed by the Databricks CLI.
//!
//! `databricks auth token` is asked, never its token cache read (since version 1.0 that is the
//! system's keyring). It runs under our lock, because two of them at once lose each other's
//! refresh tokens; without stdin, so that it cannot call; with none of the `DATABRICKS_*`
//! variables that would make it answer for another profile. A plain call already gives a token
//! with minutes to live, so `--force-refresh` is only the one retry.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use crate::auth::provider::{Provider, ProviderCall, ROW};
use crate::config::host_url::Host;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::{LEAST_LIFE, Token};
use crate::error::{Error, Result};
use crate::net::refusal::require;
use crate::platform::context::Context;
use crate::platform::process::{Program, find_program, is_executable, run_tool};
use crate::platform::time::{Timestamp, show_duration};

pub const PROVIDER: Provider = Provider {
    name: "databricks-cli",
    needs: "host or profile, and the Databricks CLI on PATH",
    configured: |settings, _| settings.get(Id::Host).is_some(),
    identity,
    ready: |settings, context| program(settings, context).is_some(),
    login: true,
    login_can_change: true,
    route_variables: &["PATH"],
    check: check_host,
    fetch: Some(fetch),
    ..ROW
};

const VERSION: &str =
    "install the Databricks CLI 0.296 or later, or set DATABRICKS_CLI_PATH to one";

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    if !call.refused
        && let Ok(token) = run(call, false)?
    {
        return Ok(token);
    }
    run(call, true)?
}

/// All that decides whose token the CLI prints, short of what it keeps itself.
fn identity(settings: &Settings, context: &Context) -> String {
    let (flag, value) = selector(settings);
    let var = |name| context.var(name).map(|value| value.to_string_lossy()).unwrap_or_default();
    let path = settings.text(Id::DatabricksCliPath).unwrap_or_default();
    [flag, &value, path, &var("HOME"), &KEPT.map(var).join("\0")].join("\0")
}

/// The CLI: where the settings say, or on PATH.
fn program(settings: &Settings, context: &Context) -> Option<PathBuf> {
    match settings.text(Id::DatabricksCliPath) {
        Some(path) if path.contains('/') => {
            Some(PathBuf::from(path)).filter(|path| is_executable(path))
        }
        Some(name) => find_program(context, name),
        None => find_program(context, "databricks"),
    }
}

/// How the CLI is told whose token: by profile where one was loaded, else by host.
fn selector(settings: &Settings) -> (&'static str, String) {
    match &settings.profile {
        Some((name, Some(_))) => ("--profile", name.clone()),
        _ => ("--host", settings.text(Id::Host).unwrap_or_default().to_owned()),
    }
}

/// With `--profile` the CLI answers for the profile's host, which must be the one we talk to.
fn check_host(settings: &Settings) -> Result<()> {
    let Some((name, Some(own))) = &settings.profile else { return Ok(()) };
    let host = settings.text(Id::Host).unwrap_or_default();
    let own = Host::parse(own, format!("profile {name}"))?.url;
    if own == host {
        return Ok(());
    }
    Err(Error::usage(format!("profile {name} is for {own}, but the workspace is {host}"))
        .because(format!("host comes from {}", settings.origin(Id::Host)))
        .hint("unset DATABRICKS_HOST, or choose another profile"))
}

/// One run. The outer result is for what asking again cannot change, the inner one for the rest.
fn run(call: &ProviderCall<'_>, force: bool) -> Result<Result<Token>> {
    let program = program(call.settings, call.context).ok_or_else(|| absent(call.settings))?;
    let (flag, value) = selector(call.settings);
    let mut args = vec!["auth", "token", flag, &value];
    if force {
        args.push("--force-refresh");
    }
    let shown = format!("databricks auth token {flag} {value}");
    let tool =
        Program { path: &program, arguments: &args, sees: &keeps, variables: &[], lock: call.lock };
    let said = run_tool(call.context, &tool, &shown, call.deadline)?;
    if !said.status.success() {
        return Err(explain(&shown, &said.stderr, flag, &value));
    }
    let now = call.context.now();
    let body: Value = serde_json::from_slice(&said.stdout).map_err(|_| {
        // Not quoted: whatever it is, it could be a token.
        Error::failed(format!("`{shown}` printed something that is not JSON")).hint(VERSION)
    })?;
    let text = require(&body, "access_token", "the Databricks CLI's answer")?;
    let stated = body["expiry"].as_str().and_then(Timestamp::parse);
    // Too short a life is worth the one retry.
    Ok(Token::received("the Databricks CLI's token", text, stated, now).and_then(|token| {
        let left = token.left(now);
        if left > LEAST_LIFE {
            return Ok(token);
        }
        let left = show_duration(std::time::Duration::from_millis(left.max(0) as u64));
        Err(Error::failed(format!("`{shown}` gives a token with only {left} to live")))
    }))
}

/// There is no CLI, which matters only to those who want it.
fn absent(settings: &Settings) -> Error {
    if settings.get(Id::AuthType).is_none() {
        return crate::auth::no_identity::nothing(settings);
    }
    let origin = settings.origin(Id::AuthType);
    Error::usage(format!("auth type databricks-cli from {origin} needs the Databricks CLI"))
        .because("there is no `databricks` on PATH or at DATABRICKS_CLI_PATH")
        .hint("DATABRICKS_CLI_PATH=/path/to/databricks")
}

/// All that the CLI sees of Databricks' variables: where its files, its storage and its login are.
const KEPT: [&str; 3] =
    ["DATABRICKS_CONFIG_FILE", "DATABRICKS_AUTH_STORAGE", "DATABRICKS_DISCOVERY_HOST"];

/// Which variables the CLI sees: not those of Databricks', but for [`KEPT`]. An inherited
/// `DATABRICKS_HOST` or profile would change whose token it prints.
fn keeps(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with("DATABRICKS_") || KEPT.contains(&name.as_ref())
}

/// What the CLI's failure means. It has one exit code, so its texts must tell
/// (`cmd/auth/token.go` and the acceptance tests of databricks/cli).
fn explain(shown: &str, stderr: &str, flag: &str, value: &str) -> Error {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let words = lines.clone().find(|line| line.starts_with("Error")).or(lines.clone().next_back());
    let words = redact(words.unwrap_or("it said nothing"));
    let login = format!("databricks auth login {flag} {value}");
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    if says(&["No such command", "no such option", "unknown command", "unknown flag"]) {
        return Error::usage("the `databricks` on PATH is too old").because(words).hint(VERSION);
    }
    if says(&["Use --profile", "no profile specified", "no profiles configured"]) {
        return Error::usage("the Databricks CLI does not know which profile is meant")
            .because(words)
            .hint("--profile NAME, or DATABRICKS_CONFIG_PROFILE");
    }
    if says(&[
        "OAuth is not configured for this host",
        "no cached credentials",
        "refresh token is invalid",
        "no refresh token",
    ]) {
        return Error::login(format!("the Databricks CLI has no valid login for {value}"))
            .because(words)
            .hint(login);
    }
    if says(&["only supports U2M", "M2M"]) {
        return Error::usage(format!("`{shown}` cannot serve a service principal"))
            .because(words)
            .hint("DATABRICKS_AUTH_TYPE=oauth-m2m");
    }
    if says(&[
        "dial tcp",
        "no such host",
        "connection refused",
        "i/o timeout",
        "TLS handshake",
        "deadline exceeded",
        "connection reset",
    ]) {
        return Error::unavailable("the Databricks CLI cannot reach the workspace").because(words);
    }
    Error::failed(format!("`{shown}` failed")).because(words).hint(login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_clis_texts_become_kinds() {
        for (text, kind) in [
            (
                "Warn: x\nError: cache: databricks OAuth is not configured for this host. no cached credentials; run",
                ErrorKind::Login,
            ),
            (
                "Error: A new access token could not be retrieved because the refresh token is invalid. To",
                ErrorKind::Login,
            ),
            ("Error: forced token refresh: cached token has no refresh token", ErrorKind::Login),
            ("Error: No such command 'auth'.", ErrorKind::Usage),
            (
                "Error: profile uses M2M (client_id/client_secret); this command only supports U2M",
                ErrorKind::Usage,
            ),
            ("Error: Post \"https://x\": dial tcp: lookup x: no such host", ErrorKind::Unavailable),
            ("", ErrorKind::Failed),
        ] {
            let error = explain("databricks auth token", text, "--profile", "p");
            assert_eq!(error.kind, kind, "{text}");
            assert!(!error.because[0].starts_with("Warn"));
        }
    }

    #[test]
    fn the_cli_sees_no_variable_that_changes_its_answer() {
        for (name, kept) in [
            ("PATH", true),
            ("DBUS_SESSION_BUS_ADDRESS", true),
            ("DATABRICKS_CONFIG_FILE", true),
            ("DATABRICKS_HOST", false),
            ("DATABRICKS_CONFIG_PROFILE", false),
            ("DATABRICKS_CLIENT_SECRET", false),
        ] {
            assert_eq!(keeps(OsStr::new(name)), kept, "{name}");
        }
    }
}
