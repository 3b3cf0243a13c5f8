//! `renew-login`: what the source `external-browser` starts. It is in no help, since nobody needs
//! it: it prints one JSON object, the answer or the failure, for the process that started it.
//!
//! Nothing but the exchange with the workspace bounds it: once a refresh token is sent, its
//! successor must reach the disk.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Call, Verb};
use crate::error::{Error, Result};
use crate::http::Client;
use crate::login::{Key, Login, Logins};
use crate::oauth::{self, Grant, Refused};
use crate::settings::Id;
use crate::time::{Deadline, MINUTE};

pub const VERB: Verb = Verb {
    name: "renew-login",
    about: "",
    usage: "--host URL|--profile NAME [--refresh]",
    more: "Renews a login and prints the answer, for lakebase-token itself.",
    flags: &[],
    words: 0,
    command: false,
    codes: "exit codes: 0, and one JSON object",
    failure: None,
    run,
};

/// The longest that a workspace may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A login that was renewed for somebody else a moment ago is as good.
const FRESH: i64 = 5 * MINUTE;

fn run(mut call: Call<'_>) -> Result<u8> {
    let flag = |id: Id| call.flags.iter().find(|(known, _)| *known == id).map(|(_, text)| text);
    let key = match (flag(Id::Profile), flag(Id::Host)) {
        (Some(name), None) => Key::Profile(name.clone()),
        (None, Some(url)) => Key::Host(url.clone()),
        _ => return Err(Error::usage("renew-login wants a profile or a host")),
    };
    let forced = flag(Id::Refresh).is_some();
    let answer = match renewed(&call, &key, forced) {
        Ok(grant) => oauth::answer(&grant),
        Err(error) => failure(&error),
    };
    call.print(&format!("{answer}\n"))?;
    Ok(0)
}

fn renewed(call: &Call<'_>, key: &Key, forced: bool) -> Result<Grant> {
    let world = call.world;
    let logins = Logins::of(world).ok_or_else(|| Error::usage("HOME is not set"))?;
    let login = format!("lakebase-token login {}", key.flag());
    let client = Client::new(world, "external-browser");
    let granted: RefCell<Option<Grant>> = RefCell::default();
    let seen = logins.get(key);
    logins.change(key, Deadline::after(LIMIT), &|old| {
        let missing = || Error::login("nobody has logged in here").hint(&login);
        let old = old.ok_or_else(missing)?;
        let now = world.now();
        // Somebody may have renewed it while this one waited.
        let replaced = seen.as_ref().is_some_and(|seen| seen.expires != old.expires);
        let left = old.expires.since(now);
        if left > FRESH && (!forced || replaced) {
            granted.replace(Some(Grant { life: Some(left), ..old.grant.clone() }));
            return Ok(Some(old));
        }
        let none = || Error::login("the login cannot be renewed").hint(&login);
        let token = old.grant.refresh.as_ref().ok_or_else(none)?;
        let grant = oauth::refresh(&client, &old.host, token, Deadline::after(LIMIT));
        let grant = grant.map_err(|refused| match refused {
            Refused::Other(error) => error.without(token.expose()),
            Refused::Dead(error) => {
                let mut dead = Error::login(format!("the login of {} has ended", old.who));
                dead.because.push(error.message);
                dead.because.extend(error.because);
                dead.without(token.expose()).hint(&login)
            }
        })?;
        granted.replace(Some(grant.clone()));
        let expires = now.plus(grant.life.unwrap_or(0));
        Ok(Some(Login { grant, expires, ..old }))
    })?;
    granted.into_inner().ok_or_else(|| Error::failed("the login was not renewed"))
}

fn failure(error: &Error) -> Value {
    json!({ "error": {
        "kind": error.kind as u8,
        "message": error.message,
        "because": error.because,
        "hints": error.hints,
    } })
}
