//! `login`: a person logs in, with a browser (`login/browser.rs`) or by pasting a personal access
//! token (`login/pasted.rs`). What is kept, and for how long, is `src/login.rs`'s business.

mod browser;
mod loopback;
mod pasted;

use std::time::Duration;

use super::{Call, Verb, logout};
use crate::error::{Error, Result};
use crate::login::{self, Key, Login, Logins, Means};
use crate::plan;
use crate::settings::{Id, Origin, SETTINGS, Settings};
use crate::source;
use crate::time::{Deadline, SECOND, show_duration};
use crate::world::World;

pub const VERB: Verb = Verb {
    name: "login",
    about: "log in with a browser, or by pasting a token (--pat)",
    usage: "[FLAGS]",
    more: "Opens the workspace's login page ($BROWSER, or the platform's way) and keeps the login in \
           the state folder, for this profile or workspace; every other verb renews it by itself \
           and opens no browser. With --no-browser, over SSH say, open the printed URL anywhere and \
           paste the URL that the browser ends on. --timeout is 5m here.\n\n\
           With --pat it asks for a personal access token (or reads a line of stdin), makes one of \
           its own with it and keeps only that. Whenever that is used and older than --pat-max-age \
           it makes its successor, and is deleted ten minutes after: while something keeps asking, a \
           leaked one dies within 20 minutes. A login that nobody uses for --pat-lifetime has ended.",
    flags: &[Id::NoBrowser, Id::Pat, Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted],
    place: false,
    common: super::PERSON,
    words: 0,
    command: false,
    codes: "exit codes: 0 logged in, 1 broken, 2 usage or configuration, 4 refused,\n\
            5 not available, or not in time",
    failure: None,
    run,
};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How long the workspace may take, and a renewal that goes on just now.
const LIMIT: Duration = Duration::from_secs(60);

/// Who wants to log in where.
struct Attempt<'a> {
    world: &'a World,
    settings: &'a Settings,
    key: Key,
    host: &'a str,
    logins: Logins<'a>,
    /// How long the person is waited for.
    deadline: Deadline,
}

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    check_flags(&settings)?;
    let (Some(key), Some(host)) = (Key::of(&settings), settings.text(Id::Host)) else {
        return Err(Error::usage("no workspace is named")
            .hint("lakebase-token login --host https://…")
            .hint("lakebase-token login --profile NAME"));
    };
    plan::check_workspace(&settings)?;
    // What is set for helpers is no limit for people.
    let limit = match settings.get(Id::Timeout).map(|value| &value.origin) {
        Some(Origin::Flag(_)) => plan::duration(&settings, Id::Timeout)?.unwrap_or(PATIENCE),
        _ => PATIENCE,
    };
    let (logins, deadline, world) = (Logins::of(call.world)?, Deadline::after(limit), call.world);
    let attempt = Attempt { world, settings: &settings, key, host, logins, deadline };
    attempt.logins.check()?;
    say_what_goes_first(&settings, world);
    let login = match settings.is_on(Id::Pat) {
        true => pasted::log_in(&attempt)?,
        false => browser::log_in(&attempt)?,
    };
    // Whatever was cached may be another's, and a failure is mended.
    logout::forget_cached(&call, &login);
    call.print(&format!("{}\n", words(&login)))?;
    Ok(0)
}

/// What was said for the other way to log in would be a mistake.
fn check_flags(settings: &Settings) -> Result<()> {
    let (ids, way): (&[Id], _) = match settings.is_on(Id::Pat) {
        true => (&[Id::NoBrowser], "login --pat opens no browser, so it"),
        false => (&[Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted], "login without --pat"),
    };
    match ids.iter().find(|id| settings.get(**id).is_some()) {
        None => Ok(()),
        Some(id) => {
            let flag = SETTINGS[*id as usize].flag;
            Err(Error::usage(format!("{way} has no use for --{flag}"))
                .hint("lakebase-token login --help"))
        }
    }
}

fn words(login: &Login) -> String {
    let words = format!("logged in as {} at {} ({})", login.who, login.host, login.key.shown());
    match &login.means {
        Means::Refresh(_) => words,
        Means::Pat(chain) => {
            let show = |millis: i64| show_duration(Duration::from_millis(millis as u64));
            let (age, life) = (show(chain.max_age), show(chain.lifetime));
            format!(
                "{words}: a token of our own, replaced when used after {age}; unused for {life}, it ends"
            )
        }
    }
}

/// A login needs no setting, so whatever is configured on purpose goes before it.
fn say_what_goes_first(settings: &Settings, world: &World) {
    let own = if settings.is_on(Id::Pat) { login::PAT } else { login::BROWSER };
    let chosen = match source::choose(settings, world) {
        Ok(source) if source.switches || source.name == own && source.own_login => return,
        Ok(source) => source.name,
        Err(_) if settings.has_identity() => "something else",
        Err(_) => return,
    };
    let set = settings.shown().filter(|(row, ..)| !row.group.is_empty());
    let set: Vec<String> =
        set.map(|(row, _, origin)| format!("{} from {origin}", row.name)).collect();
    world.note(&format!("{chosen} is configured and goes before this login: {}", set.join(", ")));
    let how = match own {
        login::BROWSER => "--auth-type external-browser, or DATABRICKS_AUTH_TYPE=external-browser",
        _ => "unset what is configured",
    };
    world.note(&format!("to use the login: {how}"));
}

impl Attempt<'_> {
    /// Ends the former login of this key in favour of a new one, which is stored in its place.
    fn store(&self, login: &Login) -> Result<()> {
        let former = self.logins.get(&self.key);
        self.logins.store(login, Deadline::after(LIMIT))?;
        // Only now: until then it was the only one.
        if let Some(former) = former
            && let Err(error) = logout::revoke(self.world, &former)
        {
            self.world.note(&error.message);
        }
        Ok(())
    }
}

/// A duration among the flags, in milliseconds.
fn duration(settings: &Settings, id: Id, default: i64, least: i64, most: i64) -> Result<i64> {
    let Some(asked) = plan::duration(settings, id)? else { return Ok(default) };
    let asked = asked.as_millis().try_into().unwrap_or(i64::MAX);
    let show = |millis: i64| show_duration(Duration::from_millis(millis as u64));
    if !(least..=most).contains(&asked) || asked % SECOND != 0 {
        let bounds = format!("{} to {}", show(least), show(most));
        return Err(plan::out_of_bounds(settings, id, &bounds));
    }
    Ok(asked)
}
