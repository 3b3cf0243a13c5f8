//! `login`: a person logs in, with a browser (`login/browser.rs`) or by pasting a personal access
//! token (`login/pasted.rs`). What is kept, and for how long, is `src/login.rs`'s business.

mod attempt;
mod browser;
mod callback;
mod paste;

use std::time::Duration;

use crate::auth::chain;
use crate::commands::command::{Call, Command, PERSON, ROW};
use crate::commands::login::attempt::Attempt;
use crate::commands::logout;
use crate::config::resolve::{Origin, Settings};
use crate::config::table::{Id, SETTINGS};
use crate::error::{Error, Result};
use crate::login::store;
use crate::login::store::{Login, Logins, RenewWith};
use crate::plan;
use crate::platform::context::Context;
use crate::platform::time::{Deadline, show_duration};

pub const COMMAND: Command = Command {
    name: "login",
    about: "log in with a browser, or by pasting a token (--pat)",
    more: "Opens the workspace's login page ($BROWSER, or the platform's way) and keeps the login in \
           the state folder, for this profile or workspace; every other command renews it by itself \
           and opens no browser. With --no-browser, over SSH say, open the printed URL anywhere and \
           paste the URL that the browser ends on. --timeout is 5m here.\n\n\
           With --pat it asks for a personal access token (or reads a line of stdin), makes one of \
           its own with it and keeps only that. Whenever that is used and older than --pat-max-age \
           it makes its successor, and is deleted ten minutes after: while something keeps asking, a \
           leaked one dies within 20 minutes. A login that nobody uses for --pat-lifetime has ended.",
    flags: &[Id::NoBrowser, Id::Pat, Id::PatLifetime, Id::PatMaxAge, Id::RevokePasted],
    common: PERSON,
    codes: "exit codes: 0 logged in, 1 broken, 2 usage or configuration, 4 refused,\n\
            5 not available, or not in time",
    run,
    ..ROW
};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
    check_flags(&settings)?;
    let (Some(key), Some(host)) = (settings.login_key(), settings.text(Id::Host)) else {
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
    let (logins, deadline, context) =
        (Logins::of(call.context)?, Deadline::after(limit), call.context);
    let attempt = Attempt { context, settings: &settings, key, host, logins, deadline };
    attempt.logins.check()?;
    say_what_goes_first(&settings, context);
    let login = match settings.is_on(Id::Pat) {
        true => crate::commands::login::paste::log_in(&attempt)?,
        false => crate::commands::login::browser::log_in(&attempt)?,
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
    match &login.renew_with {
        RenewWith::Refresh(_) => words,
        RenewWith::Pat(chain) => {
            let show = |millis: i64| show_duration(Duration::from_millis(millis as u64));
            let (age, life) = (show(chain.max_age), show(chain.lifetime));
            format!(
                "{words}: a token of our own, replaced when used after {age}; unused for {life}, it ends"
            )
        }
    }
}

/// A login needs no setting, so whatever is configured on purpose goes before it.
fn say_what_goes_first(settings: &Settings, context: &Context) {
    let own = if settings.is_on(Id::Pat) { store::PAT } else { store::BROWSER };
    let chosen = match chain::choose(settings, context) {
        Ok(provider)
            if provider.login_can_change || provider.name == own && provider.stored_login =>
        {
            return;
        }
        Ok(provider) => provider.name,
        Err(_) if settings.has_identity() => "something else",
        Err(_) => return,
    };
    let set = settings.shown().filter(|(row, ..)| !row.group.is_empty());
    let set: Vec<String> =
        set.map(|(row, _, origin)| format!("{} from {origin}", row.name)).collect();
    context.note(&format!("{chosen} is configured and goes before this login: {}", set.join(", ")));
    let how = match own {
        store::BROWSER => "--auth-type external-browser, or DATABRICKS_AUTH_TYPE=external-browser",
        _ => "unset what is configured",
    };
    context.note(&format!("to use the login: {how}"));
}
