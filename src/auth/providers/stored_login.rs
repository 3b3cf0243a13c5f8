//! A person's login of our own, kept in the state folder (`login.rs`): `external-browser`, and
//! `pat` where the login is a personal access token that replaces itself.
//!
//! What a login is renewed with may be good for once only, so that is done by a process of its own
//! (the verb `renew-login`), which finishes and stores what it has begun however this one ends: by
//! a deadline, Ctrl-C, or a caller that kills helpers after five seconds.

use std::time::Duration;

use crate::auth::provider::{Provider, ProviderCall, ROW};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::{LEAST_LIFE, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::login::renewal::{Need, nobody, read};
use crate::login::store;
use crate::login::store::{Login, LoginKey, Logins};
use crate::platform::context::Context;
use crate::platform::process::{Program, own_program, run_tool};

pub const BROWSER: Provider = Provider {
    name: store::BROWSER,
    needs: "host or profile, and lakebase-token login",
    configured: |settings, context| {
        let named = settings.text(Id::AuthType) == Some(BROWSER.name);
        settings.get(Id::Host).is_some() && (named || ready_by_browser(settings, context))
    },
    identity,
    ready: ready_by_browser,
    login_can_change: true,
    login: true,
    stored_login: true,
    fetch: Some(fetch),
    ..ROW
};

/// Its tokens are not cached: the login is where they are kept.
pub const PAT: Provider = Provider {
    name: store::PAT,
    needs: "host or profile, and lakebase-token login --pat",
    configured: ready_by_pat,
    ready: ready_by_pat,
    cached: false,
    ..BROWSER
};

fn ready_by_browser(settings: &Settings, context: &Context) -> bool {
    is_of(store::BROWSER, settings, context)
}

fn ready_by_pat(settings: &Settings, context: &Context) -> bool {
    is_of(store::PAT, settings, context)
}

fn is_of(auth_type: &str, settings: &Settings, context: &Context) -> bool {
    settings.login(context).is_some_and(|login| login.renew_with.auth_type() == auth_type)
}

/// Another person who logs in here is another identity.
fn identity(settings: &Settings, context: &Context) -> String {
    let login = settings.login(context);
    login.map_or(String::new(), |login| format!("{} {}", login.key.flag(), login.who))
}

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    /// Nobody has to wait for a successor where the old one is still good.
    const PATIENCE: Duration = Duration::from_secs(2);
    // As it is now: it may have been renewed since this call began.
    let Some(login) = call.settings.find_login(&Logins::of(call.context)?) else {
        let key = call.settings.login_key();
        return Err(nobody(&key.unwrap_or(LoginKey::Host("https://…".to_owned()))));
    };
    let another = call.refused || call.least_life == i64::MAX;
    let need = if another { Need::Another } else { Need::Life(call.least_life) };
    if login.serves(need, call.context.now()) {
        return Ok(token(&login));
    }
    // A personal access token that is to be replaced is still good; an access token that was to be
    // renewed has too little life.
    let is_pat = login.renew_with.auth_type() == store::PAT;
    let good = is_pat && !call.refused && login.left(call.context.now()) > LEAST_LIFE;
    if good && call.settings.is_on(Id::Offline) {
        return Ok(token(&login));
    }
    let deadline = if good { call.deadline.at_most(PATIENCE) } else { call.deadline };
    match renewed(&ProviderCall { deadline, ..*call }, &login, need) {
        Err(error) if good && error.kind != ErrorKind::Login => {
            call.context.note(&format!("the personal access token is not replaced yet: {error}"));
            Ok(token(&login))
        }
        renewed => renewed,
    }
}

fn token(login: &Login) -> Token {
    Token {
        secret: login.access.clone(),
        issued: login.issued,
        expires: Some(login.expires),
        lifetime: login.expires.since(login.issued),
        subject: Some(login.who.clone()),
    }
}

/// Has a login renewed by a process of its own.
fn renewed(call: &ProviderCall<'_>, login: &Login, need: Need) -> Result<Token> {
    let program = own_program(call.context)
        .map_err(|e| Error::failed("cannot find this program's own file").because(e))?;
    let need = match need {
        Need::Another => "another".to_owned(),
        Need::Life(least) => least.to_string(),
    };
    let [flag, name] = login.key.words();
    let tool = Program {
        path: &program,
        arguments: &["renew-login", flag, name, &need],
        sees: &|_| true,
        variables: &[],
        lock: call.lock,
    };
    let said = run_tool(call.context, &tool, "lakebase-token renew-login", call.deadline)?;
    read(&said.stdout, call.context).ok_or_else(|| {
        let words = redact(&said.stderr);
        Error::failed("the login could not be renewed")
            .because(format!("lakebase-token renew-login: {}: {words}", said.status))
            .hint(login.command())
    })?
}
