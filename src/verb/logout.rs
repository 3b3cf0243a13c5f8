//! `logout`: forgets a login and what was cached with it, and revokes the tokens that we made.

use std::time::Duration;

use super::{Call, Verb};
use crate::error::{Error, Result};
use crate::get::Session;
use crate::http::Client;
use crate::login::{Key, Login, Logins, Means, pat};
use crate::plan::Plan;
use crate::settings::{Id, Settings};
use crate::source;
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
    common: super::PERSON,
    words: 0,
    command: false,
    codes: "exit codes: 0 nobody is logged in any more; else as for get, and nobody is either, but a\n\
            token may be left",
    failure: None,
    run,
};

/// How long the workspace may take to delete tokens, and how long a renewal is waited for.
const LIMIT: Duration = Duration::from_secs(20);

fn run(mut call: Call<'_>) -> Result<u8> {
    let (settings, error) = Settings::resolve_what_can_be(call.flags, call.world);
    let logins = Logins::of(call.world)
        .ok_or_else(|| Error::usage("HOME is not set, so there are no logins"))?;
    let ended: Vec<Login> = if settings.is_on(Id::All) {
        logins.all()
    } else if let Some(key) = Key::of(&settings) {
        logins.get(&key).into_iter().collect()
    } else {
        return Err(error.unwrap_or_else(|| {
            Error::usage("no workspace is named")
                .hint("lakebase-token logout --profile NAME")
                .hint("lakebase-token logout --all")
        }));
    };
    let (mut lines, mut trouble) = (String::new(), None);
    for login in &ended {
        forget_cached(&call, login);
        logins.alone(&login.key, Deadline::after(LIMIT), || {
            // As it is now, and not as it was when they were listed.
            let login = logins.get(&login.key).unwrap_or(login.clone());
            let revoked = revoke(call.world, &login);
            logins.remove(&login.key, Deadline::after(LIMIT))?;
            trouble = trouble.take().or(revoked.err());
            Ok(())
        })?;
        lines.push_str(&format!("logged out {} ({})\n", login.who, login.key.flag()));
    }
    if let Some(error) = trouble {
        return Err(error);
    }
    if ended.is_empty() {
        lines.push_str("nobody was logged in\n");
    }
    call.print(&lines)?;
    Ok(0)
}

/// Deletes in the workspace what we made for a login.
pub fn revoke(world: &World, login: &Login) -> Result<()> {
    // A dead one is gone by itself.
    if !matches!(login.means, Means::Pat(_)) || login.left(world.now()) <= 0 {
        return Ok(());
    }
    let client = Client::new(world, "pat");
    let revoked = pat::revoke(login, &login.api(&client, Deadline::after(LIMIT)));
    revoked.map_err(|failure| {
        let error = failure.without(&login.access).into_error();
        let (who, until) = (&login.who, login.expires);
        let mut left = Error::new(
            error.kind,
            format!("{who} is logged out here, but tokens of ours are left until {until}"),
        );
        left.because.push(error.message);
        left.because.extend(error.because);
        left.hint(format!("{}/settings/user/developer/access-tokens", login.host))
    })
}

/// Drops the cache entries of this identity, as far as it can still be named.
pub fn forget_cached(call: &Call<'_>, login: &Login) {
    let (id, name) = match &login.key {
        Key::Profile(name) => (Id::Profile, name),
        Key::Host(url) => (Id::Host, url),
    };
    let auth_type = if matches!(login.means, Means::Pat(_)) { "pat" } else { source::BROWSER };
    let mut flags = vec![(id, name.clone()), (Id::AuthType, auth_type.to_owned())];
    flags.extend(call.flags.iter().filter(|(id, _)| *id == Id::CacheDir).cloned());
    if let Ok(plan) = Settings::resolve(&flags, call.world).and_then(|s| Plan::new(s, call.world)) {
        Session::new(&plan, call.world).forget();
    }
}
