//! `logout`: forgets a login and what was cached with it, and revokes the tokens that we made.

use std::time::Duration;

use super::{Call, Verb};
use crate::api::CallError;
use crate::error::{Error, Result};
use crate::get::Session;
use crate::http::Client;
use crate::login::{self, Key, Login, Logins, Means, pat};
use crate::plan::{Plan, duration};
use crate::settings::{Id, Settings};
use crate::time::Deadline;
use crate::world::World;

pub const VERB: Verb = Verb {
    name: "logout",
    about: "forget a login, and revoke the tokens that were made for it",
    usage: "[FLAGS]",
    more: "Deletes the login of this profile or workspace, with --all every one, and what was cached \
           with it. Personal access tokens that were made for it are deleted in the workspace, too; \
           what a browser has brought ends there by itself.",
    flags: &[Id::All],
    place: false,
    common: super::PERSON,
    words: 0,
    command: false,
    codes: "exit codes: 0 nobody is logged in any more; else as for get, and what could not be ended\n\
            is named",
    failure: None,
    run,
};

/// How long the workspace may take to delete tokens, and how long a renewal is waited for where no
/// --timeout says.
const LIMIT: Duration = Duration::from_secs(20);

fn run(mut call: Call<'_>) -> Result<u8> {
    let (settings, error) = Settings::resolve_what_can_be(call.flags, call.world);
    let given = |id: Id| call.flags.iter().any(|(flag, _)| *flag == id);
    if given(Id::All) && (given(Id::Profile) || given(Id::Host)) {
        return Err(Error::usage("--all and --profile or --host contradict each other")
            .hint("leave out one of them"));
    }
    let logins = Logins::of(call.world)?;
    // A profile that is no longer there had a login all the same.
    let named = settings.text(Id::Profile).filter(|_| given(Id::Profile) || !given(Id::Host));
    let key = named.map(|name| Key::Profile(name.to_owned())).or(Key::of(&settings));
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
                    call.world.note(&format!("{shown}: {error}"));
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
        let session = plan.as_ref().map(|plan| Session::new(plan, call.world));
        let revoked = revoke(call.world, &login);
        logins.remove(&login.key, Deadline::after(LIMIT))?;
        if let Some(session) = session {
            session.forget();
        }
        revoked
    })
}

/// Deletes in the workspace what we made for a login.
pub fn revoke(world: &World, login: &Login) -> Result<()> {
    // A dead one is gone by itself.
    if !matches!(login.means, Means::Pat(_)) || login.left(world.now()) <= 0 {
        return Ok(());
    }
    let client = Client::new(world, login::PAT);
    let revoked = pat::revoke(login, &login.api(&client, Deadline::after(LIMIT)));
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
        Error::new(error.kind, words).caused_by(error).hint(pat::page(&login.host))
    })
}

/// Drops the cache entries of this identity.
pub fn forget_cached(call: &Call<'_>, login: &Login) {
    if let Some(plan) = plan_of(call, login) {
        Session::new(&plan, call.world).forget();
    }
}

/// What this login is used with, as far as it can still be named.
fn plan_of(call: &Call<'_>, login: &Login) -> Option<Plan> {
    let (id, name) = match &login.key {
        Key::Profile(name) => (Id::Profile, name),
        Key::Host(url) => (Id::Host, url),
    };
    let auth_type = login.means.auth_type().to_owned();
    let mut flags = vec![(id, name.clone()), (Id::AuthType, auth_type)];
    flags.extend(call.flags.iter().filter(|(id, _)| *id == Id::CacheDir).cloned());
    Plan::new(Settings::resolve(&flags, call.world).ok()?, call.world).ok()
}
