//! `logout`: forgets a login and what was cached with it, and revokes the tokens that we made.

use std::time::Duration;

use crate::commands::command::{Call, Command, PERSON, ROW};
use crate::config::resolve::Settings;
use crate::config::table::Id;
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
    about: "forget a login, and revoke the tokens that were made for it",
    more: "Deletes the login of this profile or workspace, with --all every one, and what was cached \
           with it. Personal access tokens that were made for it are deleted in the workspace, too; \
           what a browser has brought ends there by itself.",
    flags: &[Id::All],
    common: PERSON,
    codes: "exit codes: 0 nobody is logged in any more; else as for get, and what could not be ended\n\
            is named",
    run,
    ..ROW
};

/// How long the workspace may take to delete tokens, and how long a renewal is waited for where no
/// --timeout says.
const LIMIT: Duration = Duration::from_secs(20);

fn run(mut call: Call<'_>) -> Result<u8> {
    let (settings, error) = Settings::resolve_what_can_be(call.flags, call.context);
    let given = |id: Id| call.flags.iter().any(|(flag, _)| *flag == id);
    if given(Id::All) && (given(Id::Profile) || given(Id::Host)) {
        return Err(Error::usage("--all and --profile or --host contradict each other")
            .hint("leave out one of them"));
    }
    let logins = Logins::of(call.context)?;
    // A profile that is no longer there had a login all the same.
    let named = settings.text(Id::Profile).filter(|_| given(Id::Profile) || !given(Id::Host));
    let key = named.map(|name| LoginKey::Profile(name.to_owned())).or(settings.login_key());
    let limit = duration(&settings, Id::Timeout)?.unwrap_or(LIMIT);
    let ended: Vec<Login> = if settings.is_on(Id::All) {
        logins.all()
    } else if let Some(key) = &key {
        logins.get(key).into_iter().collect()
    } else {
        return Err(error.unwrap_or_else(|| {
            Error::usage("no workspace is named")
                .hint("lakebase-token logout --profile NAME")
                .hint("lakebase-token logout --all")
        }));
    };
    let (mut lines, mut trouble) = (String::new(), None);
    for login in &ended {
        let shown = login.key.shown();
        match end(&logins, login, limit, &call) {
            Ok(()) => lines.push_str(&format!("logged out {} ({shown})\n", login.who)),
            // The others are ended all the same.
            Err(error) => {
                if ended.len() > 1 {
                    call.context.note(&format!("{shown}: {error}"));
                }
                trouble = Some(error);
            }
        }
    }
    let all = settings.is_on(Id::All);
    for path in logins.discard(key.as_ref().filter(|_| !all))? {
        lines.push_str(&format!("removed {}, which cannot be read\n", path.display()));
    }
    if let Some(error) = trouble {
        return Err(error);
    }
    if lines.is_empty() {
        lines.push_str("nobody was logged in\n");
    }
    call.print(&lines)?;
    Ok(0)
}

fn end(logins: &Logins<'_>, login: &Login, limit: Duration, call: &Call<'_>) -> Result<()> {
    logins.alone(&login.key, Deadline::after(limit), || {
        // As it is now, and not as it was when they were listed.
        let login = logins.get(&login.key).unwrap_or(login.clone());
        // Its entries are named after who it is, which nobody knows afterwards.
        let plan = plan_of(call, &login);
        let session = plan.as_ref().map(|plan| Session::new(plan, call.context));
        let revoked = revoke(call.context, &login);
        logins.remove(&login.key, Deadline::after(LIMIT))?;
        if let Some(session) = session {
            session.evict_all();
        }
        revoked
    })
}

/// Deletes in the workspace what we made for a login.
pub fn revoke(context: &Context, login: &Login) -> Result<()> {
    // A dead one is gone by itself.
    if !matches!(login.renew_with, RenewWith::Pat(_)) || login.left(context.now()) <= 0 {
        return Ok(());
    }
    let client = Client::new(context, store::PAT);
    let revoked = rotating_pat::revoke(login, &login.api(&client, Deadline::after(LIMIT)));
    // The workspace has done so already.
    let is_gone =
        |failure: &CallError| matches!(failure, CallError::Refused(no) if no.is_about_token());
    if revoked.as_ref().is_err_and(is_gone) {
        return Ok(());
    }
    revoked.map_err(|failure| {
        let error = failure.without(&login.access).into_error();
        let (who, until) = (&login.who, login.expires);
        let words = format!("{who} is logged out here, but tokens of ours are left until {until}");
        Error::new(error.kind, words).caused_by(error).hint(rotating_pat::page(&login.host))
    })
}

/// Drops the cache entries of this identity.
pub fn forget_cached(call: &Call<'_>, login: &Login) {
    if let Some(plan) = plan_of(call, login) {
        Session::new(&plan, call.context).evict_all();
    }
}

/// What this login is used with, as far as it can still be named.
fn plan_of(call: &Call<'_>, login: &Login) -> Option<Plan> {
    let (id, name) = match &login.key {
        LoginKey::Profile(name) => (Id::Profile, name),
        LoginKey::Host(url) => (Id::Host, url),
    };
    let auth_type = login.renew_with.auth_type().to_owned();
    let mut flags = vec![(id, name.clone()), (Id::AuthType, auth_type)];
    flags.extend(call.flags.iter().filter(|(id, _)| *id == Id::CacheDir).cloned());
    Plan::new(Settings::resolve(&flags, call.context).ok()?, call.context).ok()
}
