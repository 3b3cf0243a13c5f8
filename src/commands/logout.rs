//! `logout`: deletes a login and what was cached with it, and revokes the personal access tokens
//! that lakebase-token made for it.
//!
//! How logins are stored is left to `login/store.rs`, how rotating tokens work to
//! `login/rotating_pat.rs`.

use std::time::Duration;

use crate::commands::command::{Call, Command, ROW, WORKSPACE_FLAGS};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::login::store::{Login, LoginKey, Logins, RenewWith};
use crate::login::{rotating_pat, store};
use crate::net::http::Client;
use crate::net::refusal::CallError;
use crate::plan::{Plan, duration};
use crate::platform::context::Context;
use crate::platform::time::Deadline;
use crate::session::Session;

pub const COMMAND: Command = Command {
    name: "logout",
    about: "delete a login, and revoke the tokens that were made for it",
    more: "Deletes the login of this profile or workspace (with --all: every login) and what was \
           cached with it. Personal access tokens that login --pat made are deleted in the \
           workspace too. The tokens of a browser login expire by themselves.",
    flags: &[Id::All],
    common: WORKSPACE_FLAGS,
    timeout: "how long to wait for a renewal in another process (20s)",
    exit_codes: "exit codes: 0 logged out, or there was no login; otherwise as for get:\n\
            a token could not be revoked",
    run,
    ..ROW
};

/// How long the workspace may take to delete the tokens of a login.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long logout waits for a renewal in another process, without `--timeout`.
const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(20);

fn run(mut call: Call<'_>) -> Result<u8> {
    let (settings, error) = Settings::resolve_partially(call.flags, call.context);
    if call.has_flag(Id::All) && (call.has_flag(Id::Profile) || call.has_flag(Id::Host)) {
        return Err(Error::usage("--all and --profile or --host contradict each other")
            .hint("leave out one of them"));
    }
    let logins = Logins::of(call.context)?;
    let lock_wait = duration(&settings, Id::Timeout)?.unwrap_or(DEFAULT_LOCK_WAIT);
    let key = if settings.is_on(Id::All) { None } else { Some(key(&call, &settings, &error)?) };

    let ended: Vec<Login> = match &key {
        None => logins.all(),
        Some(key) => logins.get_usable(key)?.into_iter().collect(),
    };
    let (mut lines, failure) = end_all(&logins, &ended, lock_wait, &call);
    for path in logins.remove_unusable(key.as_ref())? {
        let path = path.display();
        let line =
            format!("removed the unusable {path}; its tokens stay valid until they expire\n");
        lines.push_str(&line);
    }
    if let Some(error) = failure {
        return Err(error);
    }

    if lines.is_empty() {
        lines.push_str("not logged in\n");
        // The profile may be a mistyped one.
        if let Some(error) = error.filter(|_| call.has_flag(Id::Profile)) {
            call.context.note(&error.to_string());
        }
    }
    if let Some(login) = key.and_then(|_| settings.find_login(&logins).ok()?) {
        let (who, words) = (redact(&login.who), login.key.shown_words());
        call.context.note(&format!(
            "the login of {who} for the workspace still counts; to end it, too: lakebase-token logout {words}"
        ));
    }
    call.print_lines(&lines)?;
    Ok(0)
}

/// Which login is meant; `error` is what the settings failed with.
fn key(call: &Call<'_>, settings: &Settings, error: &Option<Error>) -> Result<LoginKey> {
    // A profile that no longer exists may still have a login.
    let by_profile = call.has_flag(Id::Profile) || !call.has_flag(Id::Host);
    if let Some(name) = settings.text(Id::Profile).filter(|_| by_profile) {
        return Ok(LoginKey::Profile(name.to_owned()));
    }
    settings.login_key().ok_or_else(|| {
        error.clone().unwrap_or_else(|| {
            Error::usage("no workspace is named")
                .hint("lakebase-token logout --profile NAME")
                .hint("lakebase-token logout --all")
        })
    })
}

/// Ends all of these logins, also after a failure. Returns the lines to print and the last failure.
fn end_all(
    logins: &Logins<'_>,
    ended: &[Login],
    lock_wait: Duration,
    call: &Call<'_>,
) -> (String, Option<Error>) {
    let mut lines = String::new();
    let mut failure = None;
    for login in ended {
        let key = login.key.shown();
        match end(logins, login, lock_wait, call) {
            Ok(()) => lines.push_str(&format!("logged out {} ({key})\n", login.who)),
            Err(error) => {
                if ended.len() > 1 {
                    call.context.note(&format!("{key}: {error}"));
                }
                failure = Some(error);
            }
        }
    }
    (lines, failure)
}

fn end(logins: &Logins<'_>, login: &Login, lock_wait: Duration, call: &Call<'_>) -> Result<()> {
    logins.with_lock(&login.key, Deadline::after(lock_wait), || {
        // Another process may have renewed it before this one got the lock.
        let login = logins.get_usable(&login.key)?.unwrap_or(login.clone());
        // The cache keys contain the identity, which is unknown after the login is removed.
        let plan = plan_of(call, &login);
        let session = plan.as_ref().map(|plan| Session::new(plan, call.context));

        let revoked = revoke(call.context, &login);
        logins.remove(&login.key, Deadline::after(REVOKE_TIMEOUT))?;
        if let Some(session) = session {
            session.evict_all();
        }
        revoked
    })
}

/// Deletes in the workspace the personal access tokens that were made for a login.
pub fn revoke(context: &Context, login: &Login) -> Result<()> {
    // An expired token has no access any more, and cannot authenticate its own deletion.
    if !matches!(login.renew_with, RenewWith::Pat(_)) || login.left(context.now()) <= 0 {
        return Ok(());
    }

    let client = Client::new(context, store::PAT);
    let revoked =
        rotating_pat::delete_all(login, &login.api(&client, Deadline::after(REVOKE_TIMEOUT)));
    let is_already_revoked = |failure: &CallError| matches!(failure, CallError::Refused(refusal) if refusal.is_about_token());
    if revoked.as_ref().is_err_and(is_already_revoked) {
        return Ok(());
    }

    revoked.map_err(|failure| {
        let error = failure.into_error();
        let who = &login.who;
        let expires = login.expires;
        let message = format!(
            "{who} is logged out here, but tokens of this login stay valid until {expires}"
        );
        Error::new(error.kind, message).caused_by(error).hint(rotating_pat::page(&login.host))
    })
}

/// Evicts the cache entries of this login.
pub fn evict_cached(call: &Call<'_>, login: &Login) {
    if let Some(plan) = plan_of(call, login) {
        Session::new(&plan, call.context).evict_all();
    }
}

/// The plan of calls that use this login, if its profile or host can still be resolved.
fn plan_of(call: &Call<'_>, login: &Login) -> Option<Plan> {
    let (id, name) = match &login.key {
        LoginKey::Profile(name) => (Id::Profile, name),
        LoginKey::Host(url) => (Id::Host, url),
    };
    // It names each stored login, where `pat` could be a configured token.
    let auth_type = store::BROWSER.to_owned();
    // Of the settings, only those that decide the identity matter: another one may be invalid.
    let purpose = (Id::For, "workspace".to_owned());
    let mut flags = vec![(id, name.clone()), (Id::AuthType, auth_type), purpose];
    flags.extend(call.flags.iter().filter(|(id, _)| *id == Id::CacheDir).cloned());

    Plan::new(Settings::resolve(&flags, call.context).ok()?, call.context).ok()
}
