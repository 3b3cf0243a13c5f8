//! A login made by `lakebase-token login` (`login/store.rs`): `external-browser`, or `pat` for a
//! personal access token that replaces itself.
//!
//! A refresh token may be valid for one use only. So a process of its own renews the login (the
//! command `renew-login`): it stores what it got even if this process ends meanwhile, by a deadline,
//! by Ctrl-C, or because the caller kills it. What renewal does is `login/renewal.rs`'s business.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::provider::{Provider, ProviderCall, ROW};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::{MIN_LIFE_MS, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::login::renewal::{TokenNeed, no_stored_login, read};
use crate::login::store::{self, Login, LoginKey, Logins, RenewWith};
use crate::platform::context::Context;
use crate::platform::process::{Program, run_tool};
use crate::platform::time::Deadline;

/// How long to wait for the successor of a personal access token that is still valid.
const REPLACEMENT_WAIT: Duration = Duration::from_secs(2);

pub const BROWSER: Provider = Provider {
    name: store::BROWSER,
    needs: "host or profile, and a login made by lakebase-token login",
    configured: |settings, context| {
        let is_named = settings.text(Id::AuthType) == Some(BROWSER.name);
        // A login by a pasted token is the row below, whose tokens are not cached.
        let is_possible = is_named && !has_pat_login(settings, context);
        let is_there = || has_browser_login(settings, context) || is_unusable(settings, context);
        settings.get(Id::Host).is_some() && (is_possible || is_there())
    },
    identity,
    missing: |settings, context| (!has_browser_login(settings, context)).then(|| absent(settings)),
    login_can_change: true,
    login: true,
    stored_login: true,
    login_files,
    fetch: Some(fetch),
    ..ROW
};

fn login_files(settings: &Settings, context: &Context) -> Vec<PathBuf> {
    let file = || Some(Logins::of(context).ok()?.path(&settings.login(context)?.key));
    file().into_iter().collect()
}

/// Its tokens are not cached, because the stored login already holds the valid one.
pub const PAT: Provider = Provider {
    name: store::PAT,
    needs: "host or profile, and a login made by lakebase-token login --pat",
    configured: |settings, context| {
        has_pat_login(settings, context) || is_unusable(settings, context)
    },
    missing: |settings, context| (!has_pat_login(settings, context)).then(|| absent(settings)),
    cached: false,
    ..BROWSER
};

fn has_browser_login(settings: &Settings, context: &Context) -> bool {
    let login = settings.login(context);
    login.is_some_and(|login| matches!(login.renew_with, RenewWith::Refresh(_)))
}

fn has_pat_login(settings: &Settings, context: &Context) -> bool {
    settings.login(context).is_some_and(is_pat)
}

/// Whether the login is unusable: then the chain ends here, with an error.
fn is_unusable(settings: &Settings, context: &Context) -> bool {
    settings.login_error(context).is_some()
}

fn is_pat(login: &Login) -> bool {
    matches!(login.renew_with, RenewWith::Pat(_))
}

/// If another person logs in at this workspace, that is another identity.
fn identity(settings: &Settings, context: &Context) -> String {
    let login = settings.login(context);
    login.map_or(String::new(), |login| format!("{} {}", login.key.flag(), login.who))
}

fn absent(settings: &Settings) -> Error {
    let key = settings.login_key();
    no_stored_login(&key.unwrap_or(LoginKey::Host("https://WORKSPACE-URL".to_owned())))
}

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    // Another process may have renewed the login since this call began.
    let Some(login) = call.settings.find_login(&Logins::of(call.context)?)? else {
        return Err(absent(call.settings));
    };

    let needs_another = call.refused || call.min_life_ms == i64::MAX;
    let need = if needs_another { TokenNeed::Another } else { TokenNeed::Life(call.min_life_ms) };
    let now = call.context.now();
    if login.serves(need, now) {
        return Ok(token(&login));
    }

    let is_valid = is_pat(&login) && !call.refused && login.left(now) > MIN_LIFE_MS;
    if is_valid {
        replace_valid_pat(call, &login, need)
    } else {
        renew(call, &login, need, call.deadline)
    }
}

/// A personal access token is due for replacement long before it expires, so it is used if its
/// successor does not come soon.
fn replace_valid_pat(call: &ProviderCall<'_>, login: &Login, need: TokenNeed) -> Result<Token> {
    if call.settings.is_on(Id::Offline) {
        return Ok(token(login));
    }
    match renew(call, login, need, call.deadline.at_most(REPLACEMENT_WAIT)) {
        Err(error) if error.kind != ErrorKind::Login => {
            call.context.note(&format!("the personal access token is not replaced yet: {error}"));
            Ok(token(login))
        }
        result => result,
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

/// Renews a login in a process of its own.
fn renew(
    call: &ProviderCall<'_>,
    login: &Login,
    need: TokenNeed,
    deadline: Deadline,
) -> Result<Token> {
    let program = call.context.own_file()?;
    let need = match need {
        TokenNeed::Another => "another".to_owned(),
        TokenNeed::Life(least) => least.to_string(),
    };
    let [flag, name] = login.key.words();
    let tool = Program {
        path: &program,
        arguments: &["renew-login", flag, name, &need],
        sees: &|_| true,
        variables: &[],
        locks: [call.lock, None],
    };
    let output = run_tool(call.context, &tool, "lakebase-token renew-login", deadline)?;
    read(&output.stdout, call.context).ok_or_else(|| {
        let stderr = redact(&output.stderr);
        Error::failed("the login could not be renewed")
            .because(format!("lakebase-token renew-login: {}: {stderr}", output.status))
            .hint(login.command())
            .unshared()
    })?
}
