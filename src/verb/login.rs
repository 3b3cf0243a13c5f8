//! `login`: a person logs in, with a browser (`login/browser.rs`) or by pasting a personal access
//! token (`login/pasted.rs`). What is kept, and for how long, is `src/login.rs`'s business.

mod browser;
mod loopback;
mod pasted;

use std::time::Duration;

use super::{Call, Verb, logout};
use crate::error::{Error, Result};
use crate::login::{Key, Login, Logins, Means};
use crate::settings::{Id, SETTINGS, Settings};
use crate::source;
use crate::time::{Deadline, SECOND, parse_duration, show_duration};
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
           it makes its successor, and is deleted ten minutes after. So a leaked one dies within 20 \
           minutes of use; and a login that nobody uses for --pat-lifetime has ended.",
    flags: &[Id::NoBrowser, Id::Pat, Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted],
    common: super::PERSON,
    words: 0,
    command: false,
    codes: "exit codes: 0 logged in, 1 broken, 2 usage or configuration, 4 refused, 5 not in time",
    failure: None,
    run,
};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How long a login is waited for that somebody renews just now.
const LOCKED: Duration = Duration::from_secs(60);

/// Who wants to log in where.
struct Attempt<'a> {
    world: &'a World,
    settings: &'a Settings,
    key: Key,
    host: &'a str,
    logins: Logins<'a>,
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
    let logins = Logins::of(call.world).ok_or_else(|| {
        Error::usage("HOME is not set, so a login has no place").hint("export HOME=/home/you")
    })?;
    let limit = match settings.text(Id::Timeout) {
        Some(text) => parse_duration(text)?,
        None => PATIENCE,
    };
    let deadline = Deadline::after(limit);
    let world = call.world;
    let attempt = Attempt { world, settings: &settings, key, host, logins, deadline };
    let login = match settings.is_on(Id::Pat) {
        true => pasted::log_in(&attempt)?,
        false => browser::log_in(&attempt)?,
    };
    // Whatever was cached may be another's, and a failure is mended.
    logout::forget_cached(&call, &login);
    say_what_goes_first(&call, &settings, &login);
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
    let words = format!("logged in as {} at {} ({})", login.who, login.host, login.key.flag());
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
fn say_what_goes_first(call: &Call<'_>, settings: &Settings, login: &Login) {
    let own = if matches!(login.means, Means::Pat(_)) { "pat" } else { source::BROWSER };
    let chosen = match source::choose(settings, call.world) {
        Ok(source) if source.name == own && source.is_own_login() => return,
        Ok(source) => source.name,
        Err(_) => "something else",
    };
    let first = format!("{chosen} is configured and goes before this login");
    let how = match settings.get(Id::Token).map(|_| settings.origin(Id::Token)) {
        Some(origin) if own == "pat" => format!("unset the token from {origin}"),
        _ => format!("--auth-type {own}, or DATABRICKS_AUTH_TYPE"),
    };
    call.world.note(&format!("{first}; to use the login: {how}"));
}

impl Attempt<'_> {
    /// Ends the former login of this key in favour of a new one, which is stored in its place.
    fn store(&self, login: &Login) -> Result<()> {
        if let Some(former) = self.logins.get(&self.key)
            && let Err(error) = logout::revoke(self.world, &former)
        {
            self.world.note(&error.message);
        }
        self.logins.store(login, Deadline::after(LOCKED))
    }
}

/// A duration among the flags, in milliseconds.
fn duration(settings: &Settings, id: Id, default: i64, least: i64, most: i64) -> Result<i64> {
    let Some(text) = settings.text(id) else { return Ok(default) };
    let flag = SETTINGS[id as usize].flag;
    let asked = parse_duration(text)
        .map_err(|e| Error::usage(format!("--{flag} is {}", e.message)))?
        .as_millis()
        .try_into()
        .unwrap_or(i64::MAX);
    let show = |millis: i64| show_duration(Duration::from_millis(millis as u64));
    if !(least..=most).contains(&asked) || asked % SECOND != 0 {
        let bounds = format!("{} to {}", show(least), show(most));
        return Err(Error::usage(format!(
            "--{flag} {text} is not possible; possible are {bounds}"
        )));
    }
    Ok(asked)
}
