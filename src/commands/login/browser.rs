//! `login` with a browser (RFC 8252, loopback redirection).
//!
//! The URL of the login page is always printed, so that the person can open it in any browser. After
//! the login the browser calls a listener on loopback (`callback.rs`); with `--no-browser` the person
//! pastes the address instead. The browser's last page says whether the login succeeded, so it is
//! sent only after the login is stored. `login/oauth.rs` has the grants.

use std::time::Duration;

use crate::commands::login::attempt::{Attempt, WORKSPACE_TIMEOUT};
use crate::commands::login::callback::{self, BrowserRequest, Listener};
use crate::config::table::Id;
use crate::config::value::scopes;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::reach;
use crate::login::oauth::{AuthorizationRequest, GrantError, LoginTokens};
use crate::login::record::{BROWSER, Login, RenewWith};
use crate::net::http::Client;
use crate::platform::context::Context;
use crate::platform::peer::Peer;
use crate::platform::process::open_in_browser;
use crate::platform::terminal;
use crate::platform::time::Deadline;

/// How long the workspace may take to answer the first request.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// The redirection of `--no-browser`: the first port that `databricks-cli` is registered for. The
/// browser cannot show the page, but its address bar has the code.
const PASTED_REDIRECT: &str = "http://localhost:8020";

/// Logs in and stores the login.
pub fn log_in(attempt: &Attempt<'_>) -> Result<Login> {
    let client = Client::new(attempt.context, BROWSER);
    // For a host name that does not exist, a browser would only show an error page.
    let origin = attempt.settings.origin(Id::Host);
    reach(&client, attempt.host, origin, attempt.deadline.at_most(REACH_TIMEOUT))?;

    if attempt.settings.is_on(Id::NoBrowser) {
        log_in_with_pasted_address(attempt, &client)
    } else {
        log_in_with_listener(attempt, &client)
    }
}

fn log_in_with_listener(attempt: &Attempt<'_>, client: &Client<'_>) -> Result<Login> {
    let context = attempt.context;
    let listener = Listener::open(callback::port(attempt.settings)?)?;
    let scopes = scopes(attempt.settings.text(Id::Scopes));
    let request = AuthorizationRequest::new(context, &scopes, listener.address())?;
    open_login_page(attempt, &request.url(attempt.host));

    loop {
        let Some(visit) = listener.wait(context, attempt.deadline)? else {
            return Err(Error::unavailable("the browser did not return in time")
                .hint("a longer --timeout, or --no-browser to paste the answer"));
        };
        // A browser also requests an icon.
        let Some(query) = visit.query() else {
            visit.answer(404, "Not found", "This is not the page you are looking for.");
            continue;
        };
        if !request.is_answered_by(query) {
            // An old tab, or another user who wants to end this login: the right answer may still
            // come.
            let words = "this is the answer to another login; close old tabs";
            visit.answer(400, "Not logged in", &format!("{words}."));
            context.note(words);
            continue;
        }

        if visit.peer == Peer::Untrusted {
            refuse_peer(context, &visit);
            continue;
        }
        if visit.peer == Peer::Unknown && cfg!(target_os = "linux") {
            context.note("this system does not tell which user's browser has answered");
        }

        let outcome = exchange_code(attempt, client, &request, query);
        show_outcome(&visit, &outcome);
        return outcome;
    }
}

/// The address of the login page is in the browser's arguments, which other users see: one of them
/// could answer with an account of theirs.
fn refuse_peer(context: &Context, visit: &BrowserRequest) {
    let words = "the answer came from another user of this machine, or its connection was closed";
    visit.answer(403, "Not logged in", &format!("Refused: {words}."));
    context.note(&format!("{words}; if it was yours: lakebase-token login --no-browser"));
}

fn open_login_page(attempt: &Attempt<'_>, url: &str) {
    let context = attempt.context;
    context.say(&format!("log in at this address:\n\n  {url}\n"));
    if !open_in_browser(context, url, &|name| !attempt.settings.holds_secret(name)) {
        context.say("no browser could be started; open the address yourself");
    }
    if context.var("SSH_CONNECTION").is_some() {
        context.say(&format!(
            "if your browser is on another machine: lakebase-token login --no-browser {}",
            attempt.key.shown()
        ));
    }
}

fn show_outcome(visit: &BrowserRequest, outcome: &Result<Login>) {
    match outcome {
        Ok(login) => {
            let words = format!("You are {}. You can close this window.", login.who);
            visit.answer(200, "Logged in", &words);
        }
        Err(error) => {
            let reasons: String = error.because.iter().map(|why| format!(" ({why})")).collect();
            visit.answer(400, "Not logged in", &format!("The login failed: {error}{reasons}."));
        }
    }
}

fn log_in_with_pasted_address(attempt: &Attempt<'_>, client: &Client<'_>) -> Result<Login> {
    let context = attempt.context;
    let scopes = scopes(attempt.settings.text(Id::Scopes));
    let request = AuthorizationRequest::new(context, &scopes, PASTED_REDIRECT.to_owned())?;
    context.say(&format!(
        "open this address in any browser and log in:\n\n  {}\n\nAfter the login the browser cannot \
         show the last page. Paste that page's address here:",
        request.url(attempt.host)
    ));

    loop {
        let line = terminal::read_line()?;
        if line.expose().is_empty() {
            return Err(Error::usage("no address was pasted")
                .hint(format!("paste the address that begins with {PASTED_REDIRECT}/?code=")));
        }

        let query = line.expose().split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        if query.contains("state=") {
            return exchange_code(attempt, client, &request, query);
        }
        context.say(&format!(
            "this is another address: paste the address that begins with {PASTED_REDIRECT}/?code="
        ));
    }
}

/// Exchanges the code in the browser's query for tokens and stores the login.
fn exchange_code(
    attempt: &Attempt<'_>,
    client: &Client<'_>,
    request: &AuthorizationRequest,
    query: &str,
) -> Result<Login> {
    let code = request.code(query)?;
    let deadline = Deadline::after(WORKSPACE_TIMEOUT);
    let tokens = request.exchange(attempt.context, client, attempt.host, &code, deadline).map_err(
        |error| match error {
            GrantError::Ended(error) | GrantError::Other(error) => error,
        },
    )?;

    let login = new_login(attempt, tokens)?;
    let deadline = Deadline::after(WORKSPACE_TIMEOUT);
    attempt.logins.with_lock(&attempt.key, deadline, || attempt.store(&login))?;
    Ok(login)
}

fn new_login(attempt: &Attempt<'_>, tokens: LoginTokens) -> Result<Login> {
    let token = tokens.access?;
    if tokens.refresh.is_none() {
        attempt
            .context
            .note("the workspace gave no refresh token, so this login ends when its token expires");
    }
    Ok(Login {
        key: attempt.key.clone(),
        host: attempt.host.to_owned(),
        workspace_id: attempt.settings.workspace_id().map(str::to_owned),
        who: redact(token.subject.as_deref().unwrap_or("an unnamed user")),
        logged_in: token.issued,
        issued: token.issued,
        expires: token.expires.unwrap_or(token.issued),
        access: token.secret,
        renewal_begun: None,
        renew_with: RenewWith::Refresh(tokens.refresh),
    })
}
