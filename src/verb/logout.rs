//! `logout`: forgets a login and what was cached with it.

use std::time::Duration;

use super::{Call, Verb};
use crate::error::{Error, Result};
use crate::get::Session;
use crate::login::{Key, Login, Logins};
use crate::plan::Plan;
use crate::settings::{Id, Settings};
use crate::source;
use crate::time::Deadline;

pub const VERB: Verb = Verb {
    name: "logout",
    about: "forget a login and what was cached with it",
    usage: "[FLAGS]",
    more: "Deletes the login of this profile or workspace, with --all every one. The workspace is not \
           asked: what a browser has logged in ends there by itself.",
    flags: &[Id::All],
    words: 0,
    command: false,
    codes: "exit codes: 0 nobody is logged in any more, 1 broken, 2 usage or configuration",
    failure: None,
    run,
};

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
    for login in &ended {
        forget_cached(&call, login);
        logins.remove(&login.key, Deadline::after(Duration::from_secs(60)))?;
        call.print(&format!("logged out {} ({})\n", login.who, login.key.flag()))?;
    }
    if ended.is_empty() {
        call.print("nobody was logged in\n")?;
    }
    Ok(0)
}

/// Drops the cache entries of this identity, as far as it can still be named.
fn forget_cached(call: &Call<'_>, login: &Login) {
    let (id, name) = match &login.key {
        Key::Profile(name) => (Id::Profile, name),
        Key::Host(url) => (Id::Host, url),
    };
    let mut flags = vec![(id, name.clone()), (Id::AuthType, source::BROWSER.to_owned())];
    flags.extend(call.flags.iter().filter(|(id, _)| *id == Id::CacheDir).cloned());
    if let Ok(plan) = Settings::resolve(&flags, call.world).and_then(|s| Plan::new(s, call.world)) {
        Session::new(&plan, call.world).forget();
    }
}
