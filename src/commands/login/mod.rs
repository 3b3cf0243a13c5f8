//! `login`: a person logs in with a browser (`browser.rs`, `callback.rs`) or by pasting a personal
//! access token (`paste.rs`). This file checks the settings and reports the result; `attempt.rs` has
//! what both ways need.
//!
//! `login/store.rs` keeps the login, `login/renewal.rs` renews it, `commands/logout.rs` removes it.

mod attempt;
mod browser;
mod callback;
mod paste;

use std::time::Duration;

use crate::auth::chain;
use crate::commands::command::{Call, Command, ROW, WORKSPACE_FLAGS};
use crate::commands::login::attempt::{Attempt, show_millis};
use crate::commands::logout;
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::login::record::{BROWSER, Login, PAT, RenewWith};
use crate::login::store::Logins;
use crate::plan;
use crate::platform::context::Context;
use crate::platform::process::keep_memory_private;
use crate::platform::time::Deadline;

pub const COMMAND: Command = Command {
    name: "login",
    about: "log in with a browser, or by pasting a token (--pat)",
    more: "Opens the workspace's login page ($BROWSER, else the platform's browser) and stores the login \
           in the state folder, for this profile or workspace. Other commands renew it and open no \
           browser. With --no-browser, for example over SSH, open the printed URL in any browser and \
           paste the URL that the browser ends on.\n\n\
           With --pat it asks for a personal access token (or reads a line of stdin), creates a \
           rotating token with it and stores only that. A rotating token that is used and older than \
           --pat-max-age creates its successor, and is deleted ten minutes later: while the login is \
           in use, a leaked token is deleted within 20 minutes. A login that is not used for \
           --pat-lifetime ends.",
    flags: &[Id::NoBrowser, Id::Scopes, Id::Pat, Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted],
    common: WORKSPACE_FLAGS,
    timeout: "time limit for logging in (5m)",
    exit_codes: "exit codes: 0 logged in, 1 internal error or malformed response, 2 usage or configuration,\n\
            4 refused, 5 temporarily unavailable, or timed out",
    run,
    ..ROW
};

/// How long a person may take to log in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

fn run(mut call: Call<'_>) -> Result<u8> {
    keep_memory_private();
    let settings = call.settings()?;
    check_flags(&settings)?;
    let (Some(key), Some(host)) = (settings.login_key(), settings.text(Id::Host)) else {
        return Err(Error::usage("no workspace is named")
            .hint("lakebase-token login --host https://WORKSPACE-URL")
            .hint("lakebase-token login --profile NAME"));
    };
    plan::check_workspace(&settings)?;
    refuse_profile_of_another_host(&settings)?;

    let attempt = Attempt {
        context: call.context,
        settings: &settings,
        key,
        host,
        logins: Logins::of(call.context)?,
        deadline: Deadline::after(timeout(&settings)?),
    };
    attempt.logins.check_writable(&attempt.key)?;
    note_precedence(&settings, call.context);

    let login =
        if settings.is_on(Id::Pat) { paste::log_in(&attempt)? } else { browser::log_in(&attempt)? };

    // The cache may hold another person's credentials, or a failure that this login resolves.
    logout::evict_cached(&call, &login);
    call.print_lines(&format!("{}\n", result_line(&login)))?;
    Ok(0)
}

/// `--timeout`, if it is given. Its variable and its profile key are set for programs that wait for a
/// credential; a person takes longer.
fn timeout(settings: &Settings) -> Result<Duration> {
    let is_flag = |origin: &Origin| matches!(origin, Origin::Flag(_));
    if settings.get(Id::Timeout).is_some_and(|value| is_flag(&value.origin)) {
        Ok(plan::duration(settings, Id::Timeout)?.unwrap_or(LOGIN_TIMEOUT))
    } else {
        Ok(LOGIN_TIMEOUT)
    }
}

/// A login is stored for its profile, which cannot use one of another workspace. With `--host`, it is that workspace's.
fn refuse_profile_of_another_host(settings: &Settings) -> Result<()> {
    let (origin, profile) = (settings.origin(Id::Host), settings.profile_of_another_host());
    let Some((name, own)) = profile.filter(|_| !matches!(origin, Origin::Flag(_))) else {
        return Ok(());
    };
    let host = settings.text(Id::Host).unwrap_or_default();
    Err(Error::usage(format!("profile {} is for another host than {host}", redact(name)))
        .because(format!("its own host is {}", redact(own)))
        .because(format!("{host} comes from {origin}"))
        .hint(settings.removal(Id::Host)))
}

/// Refuses flags that belong to the other way of logging in.
fn check_flags(settings: &Settings) -> Result<()> {
    let (unused, way): (&[Id], _) = if settings.is_on(Id::Pat) {
        (&[Id::NoBrowser, Id::Scopes], "login --pat opens no browser, so it")
    } else {
        (&[Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted], "login without --pat")
    };
    match unused.iter().find(|id| matches!(settings.origin(**id), Origin::Flag(_))) {
        None => Ok(()),
        Some(id) => {
            let flag = SETTINGS[*id as usize].flag;
            Err(Error::usage(format!("{way} has no use for --{flag}"))
                .hint("lakebase-token login --help"))
        }
    }
}

fn result_line(login: &Login) -> String {
    let line = format!("logged in as {} at {} ({})", login.who, login.host, login.key.shown());
    match &login.renew_with {
        RenewWith::Refresh(_) => line,
        RenewWith::Pat(pat) => format!(
            "{line}: with a rotating token, replaced when it is used after {}; the login ends if it is \
             not used for {}",
            show_millis(pat.max_age),
            show_millis(pat.lifetime)
        ),
    }
}

/// Notes a configured auth type that takes precedence over the login: a login comes last, since it
/// needs no setting but the workspace.
fn note_precedence(settings: &Settings, context: &Context) {
    let own = if settings.is_on(Id::Pat) { PAT } else { BROWSER };
    let auth_type = settings.text(Id::AuthType);
    let is_other = auth_type.is_some_and(|name| name != own);
    let chosen = match chain::choose(settings, context) {
        // This login itself, or one that comes after it.
        Ok(provider) if provider.login && !is_other => return,
        Ok(provider) => provider.name,
        Err(_) if is_other || settings.has_identity() => "another auth type",
        Err(_) => return,
    };

    let configured: Vec<String> = settings
        .shown()
        .filter(|(row, ..)| !row.method.is_empty() || row.id == Id::AuthType)
        .map(|(row, _, origin)| format!("{} from {origin}", row.name))
        .collect();
    let configured =
        if configured.is_empty() { String::new() } else { format!(": {}", configured.join(", ")) };
    context
        .note(&format!("{chosen} is configured and takes precedence over this login{configured}"));

    // A configured token is an auth type of the same name as a login with --pat.
    let remedy = if settings.is_on(Id::Pat) && settings.get(Id::Token).is_some() {
        "remove these settings".to_owned()
    } else {
        let is_variable = matches!(settings.origin(Id::AuthType), Origin::Env(_));
        let lasting = match &settings.profile {
            Some((name, _)) if !is_variable => {
                format!("auth_type = {own} in profile {}", redact(name))
            }
            _ => format!("DATABRICKS_AUTH_TYPE={own}"),
        };
        format!("--auth-type {own}, or {lasting}")
    };
    context.note(&format!("to use the login: {remedy}"));
}
