//! `login`: a person logs in with a browser (RFC 8252: loopback redirection).
//!
//! The URL is always printed, so that it can be opened elsewhere; the browser comes back to a
//! listener on loopback, or, with `--no-browser`, by hand. The page it ends on says whether it
//! worked, which is known only after the exchange.

mod loopback;

use std::io::BufRead;
use std::time::Duration;

use super::{Call, Verb};
use crate::error::{Error, Result, clean};
use crate::http::Client;
use crate::login::{Key, Login, Logins};
use crate::oauth::{Attempt, Grant, Refused};
use crate::settings::{Id, Settings};
use crate::source;
use crate::time::{Deadline, MINUTE, parse_duration};
use crate::token::Token;
use loopback::Listener;

pub const VERB: Verb = Verb {
    name: "login",
    about: "log in with a browser",
    usage: "[FLAGS]",
    more: "Opens the workspace's login page ($BROWSER, or the platform's way) and keeps the login in \
           the state folder, for this profile or workspace; every other verb renews it by itself \
           and opens no browser. With --no-browser, over SSH say, open the printed URL anywhere and \
           paste the URL that the browser ends on. --timeout is 5m here.",
    flags: &[Id::NoBrowser],
    words: 0,
    command: false,
    codes: "exit codes: 0 logged in, 1 broken, 2 usage or configuration, 4 refused, 5 not in time",
    failure: None,
    run,
};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

fn run(mut call: Call<'_>) -> Result<u8> {
    let settings = call.settings()?;
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
    let client = Client::new(call.world, source::BROWSER);
    let grant = if settings.is_on(Id::NoBrowser) {
        by_hand(&call, &client, host, deadline)?
    } else {
        by_browser(&call, &client, &settings, host, deadline)?
    };
    let now = call.world.now();
    let token = Token::received("the workspace's token", grant.access.expose(), None, now)?;
    let who = clean(token.subject.as_deref().unwrap_or("somebody"));
    let expires = now.plus(grant.life.unwrap_or(token.left(now)));
    if grant.refresh.is_none() {
        call.world.note("the workspace gave no refresh token, so this login lasts an hour");
    }
    let (host, flag) = (host.to_owned(), key.flag());
    let login = Login { key, host, who: who.clone(), since: now, grant, expires };
    logins.store(&login, Deadline::after(Duration::from_millis(MINUTE as u64)))?;
    let chosen = source::choose(&settings, call.world).map_or("", |source| source.name);
    if chosen != source::BROWSER {
        let hint = "--auth-type external-browser, or DATABRICKS_AUTH_TYPE";
        call.world
            .note(&format!("{chosen} is configured and goes first; to use the login: {hint}"));
    }
    call.print(&format!("logged in as {who} at {} ({flag})\n", login.host))?;
    Ok(0)
}

/// The browser comes back to us.
fn by_browser(
    call: &Call<'_>,
    client: &Client<'_>,
    settings: &Settings,
    host: &str,
    deadline: Deadline,
) -> Result<Grant> {
    let listener = Listener::open(settings.text(Id::OauthCallbackPort))?;
    let attempt = Attempt::new(call.world, listener.address())?;
    let url = attempt.url(host);
    call.world.say(&format!("log in at this address:\n\n  {url}\n"));
    if !call.world.browse(&url) {
        call.world.say("no browser could be started; open the address yourself");
    }
    loop {
        let Some(visit) = listener.wait(call.world, deadline)? else {
            return Err(Error::unavailable("nobody has logged in in time")
                .hint("a longer --timeout, or --no-browser to paste the answer"));
        };
        // A browser also asks for an icon.
        let Some(query) = visit.query() else {
            visit.answer(404, "This is not the page you are looking for.");
            continue;
        };
        let granted = attempt
            .code(query)
            .and_then(|code| attempt.exchange(client, host, &code, deadline).map_err(plain));
        match &granted {
            Ok(_) => visit.answer(200, "You are logged in. You can close this window."),
            Err(error) => visit.answer(400, &format!("You are not logged in: {error}.")),
        }
        return granted;
    }
}

/// The person comes back to us.
fn by_hand(call: &Call<'_>, client: &Client<'_>, host: &str, deadline: Deadline) -> Result<Grant> {
    let attempt = Attempt::new(call.world, "http://localhost:8020".to_owned())?;
    call.world.say(&format!(
        "open this address in any browser and log in:\n\n  {}\n\nThe browser ends on a page that \
         it cannot show. Paste that page's address here:",
        attempt.url(host)
    ));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Error::failed("cannot read the pasted address").because(e))?;
    let query = line.trim().split_once('?').map(|(_, query)| query);
    let query = query.ok_or_else(|| {
        Error::usage("that is not the address of the page")
            .hint("it begins with http://localhost:8020/?code=")
    })?;
    let code = attempt.code(query.split('#').next().unwrap_or_default())?;
    attempt.exchange(client, host, &code, deadline).map_err(plain)
}

fn plain(refused: Refused) -> Error {
    match refused {
        Refused::Dead(error) | Refused::Other(error) => error,
    }
}
