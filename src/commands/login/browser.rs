//! A login with a browser (RFC 8252: loopback redirection).
//!
//! The URL is always printed, so that it can be opened elsewhere; the browser comes back to a
//! listener on loopback, or, with `--no-browser`, by hand. The page it ends on says whether it
//! worked, which is known only after the login is stored.

use std::time::Duration;

use crate::commands::login::attempt::{Attempt, WORKSPACE_LIMIT};
use crate::commands::login::callback;
use crate::commands::login::callback::Listener;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::reach;
use crate::login::oauth::{AuthorizationRequest, Refused};
use crate::login::store::{BROWSER, Login, RenewWith};
use crate::net::http::Client;
use crate::platform::process::open_in_browser;
use crate::platform::terminal;
use crate::platform::time::Deadline;

/// How long a workspace may take to answer at all.
const REACH: Duration = Duration::from_secs(10);

/// Logs in, stores the login, shows how it ended.
pub fn log_in(attempt: &Attempt<'_>) -> Result<Login> {
    let client = Client::new(attempt.context, BROWSER);
    // A browser would only show that it does not know the name.
    let origin = attempt.settings.origin(Id::Host);
    reach(&client, attempt.host, origin, attempt.deadline.at_most(REACH))?;
    if attempt.settings.is_on(Id::NoBrowser) {
        by_hand(attempt, &client)
    } else {
        by_browser(attempt, &client)
    }
}

/// The browser comes back to us.
fn by_browser(attempt: &Attempt<'_>, client: &Client<'_>) -> Result<Login> {
    let context = attempt.context;
    let listener = Listener::open(callback::port(attempt.settings)?)?;
    let request = AuthorizationRequest::new(context, listener.address())?;
    let url = request.url(attempt.host);
    context.say(&format!("log in at this address:\n\n  {url}\n"));
    if !open_in_browser(context, &url) {
        context.say("no browser could be started; open the address yourself");
    }
    if context.var("SSH_CONNECTION").is_some() {
        context.say("if your browser is on another machine: lakebase-token login --no-browser");
    }
    loop {
        let Some(visit) = listener.wait(context, attempt.deadline)? else {
            return Err(Error::unavailable("nobody has logged in in time")
                .hint("a longer --timeout, or --no-browser to paste the answer"));
        };
        // A browser also asks for an icon.
        let Some(query) = visit.query() else {
            visit.answer(404, "Not found", "This is not the page you are looking for.");
            continue;
        };
        if !request.knows(query) {
            // An old tab, or somebody who would like to end this: the right one may still come.
            let words = "this is the answer to another login; close old tabs";
            visit.answer(400, "Not logged in", &format!("{words}."));
            context.note(words);
            continue;
        }
        let outcome = exchanged(attempt, client, &request, query);
        match &outcome {
            Ok(login) => {
                let words = format!("You are {}. You can close this window.", login.who);
                visit.answer(200, "Logged in", &words);
            }
            Err(error) => {
                let why: String = error.because.iter().map(|why| format!(" ({why})")).collect();
                visit.answer(400, "Not logged in", &format!("What went wrong: {error}{why}."));
            }
        }
        return outcome;
    }
}

/// The person comes back to us.
fn by_hand(attempt: &Attempt<'_>, client: &Client<'_>) -> Result<Login> {
    let context = attempt.context;
    let request = AuthorizationRequest::new(context, "http://localhost:8020".to_owned())?;
    context.say(&format!(
        "open this address in any browser and log in:\n\n  {}\n\nThe browser ends on a page that \
         it cannot show. Paste that page's address here:",
        request.url(attempt.host)
    ));
    loop {
        let line = terminal::read_line()?;
        if line.expose().is_empty() {
            return Err(Error::usage("no address was pasted")
                .hint("it begins with http://localhost:8020/?code="));
        }
        let query = line.expose().split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        if query.contains("state=") {
            return exchanged(attempt, client, &request, query);
        }
        context
            .say("that is not it: paste the address that begins with http://localhost:8020/?code=");
    }
}

/// What the browser came back with becomes a login.
fn exchanged(
    attempt: &Attempt<'_>,
    client: &Client<'_>,
    request: &AuthorizationRequest,
    query: &str,
) -> Result<Login> {
    let context = attempt.context;
    let code = request.code(query)?;
    let deadline = Deadline::after(WORKSPACE_LIMIT);
    let exchanged = request.exchange(context, client, attempt.host, &code, deadline);
    let grant = exchanged.map_err(|refused| match refused {
        Refused::Dead(error) | Refused::Other(error) => error.without(&code),
    })?;
    let token = grant.access?;
    if grant.refresh.is_none() {
        context
            .note("the workspace gave no refresh token, so this login ends with its first token");
    }
    let login = Login {
        key: attempt.key.clone(),
        host: attempt.host.to_owned(),
        workspace_id: attempt.settings.workspace_id().map(str::to_owned),
        who: redact(token.subject.as_deref().unwrap_or("somebody")),
        since: token.issued,
        issued: token.issued,
        expires: token.expires.unwrap_or(token.issued),
        access: token.secret,
        begun: None,
        renew_with: RenewWith::Refresh(grant.refresh),
    };
    let deadline = Deadline::after(WORKSPACE_LIMIT);
    attempt.logins.alone(&attempt.key, deadline, || attempt.store(&login))?;
    Ok(login)
}
