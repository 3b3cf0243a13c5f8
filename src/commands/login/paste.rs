//! `login --pat`: a person pastes a personal access token. It is checked, used to create a rotating
//! token, and not stored. `login/rotating_pat.rs` has the Token API, `login/renewal.rs` replaces the
//! rotating token later.

use ring::digest::{SHA256, digest};

use crate::commands::login::attempt::{Attempt, WORKSPACE_TIMEOUT, duration_ms};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::{Api, user_name};
use crate::login::record::{Login, PAT, ROTATION_GRACE_MS, RenewWith, ReplacedPat, RotatingPat};
use crate::login::rotating_pat::{self, ListedPat};
use crate::net::http::Client;
use crate::platform::terminal;
use crate::platform::time::{DAY, Deadline, MINUTE};

const MIN_LIFETIME_MS: i64 = 15 * MINUTE;
const DEFAULT_LIFETIME_MS: i64 = DAY;
const MAX_LIFETIME_MS: i64 = 90 * DAY;

/// How long a rotating token lives, and at which age it is replaced, in milliseconds.
#[derive(Clone, Copy)]
struct PatTimes {
    lifetime: i64,
    max_age: i64,
}

impl PatTimes {
    fn of(settings: &Settings) -> Result<PatTimes> {
        let lifetime = duration_ms(
            settings,
            Id::PatLifetime,
            DEFAULT_LIFETIME_MS,
            MIN_LIFETIME_MS,
            MAX_LIFETIME_MS,
        )?;
        // A token that expires before it is replaced would end a login that is in use.
        let max = lifetime * 2 / 3;
        let max_age =
            duration_ms(settings, Id::PatMaxAge, ROTATION_GRACE_MS, ROTATION_GRACE_MS, max)?;
        Ok(PatTimes { lifetime, max_age })
    }
}

/// Logs in and stores the login.
pub fn log_in(attempt: &Attempt<'_>) -> Result<Login> {
    let times = PatTimes::of(attempt.settings)?;
    let page = rotating_pat::page(attempt.host);
    let pasted = read_pasted_token(attempt, &page)?;
    let client = Client::new(attempt.context, PAT);
    let api = Api {
        client: &client,
        url: attempt.host,
        workspace_id: attempt.settings.workspace_id(),
        token: &pasted,
        headers: &[],
        deadline: Deadline::after(WORKSPACE_TIMEOUT),
    };

    let who =
        user_name(&api).map_err(|failure| explain_refusal(attempt, failure.into_error(), &page))?;
    let deadline = Deadline::after(WORKSPACE_TIMEOUT);
    let login = attempt
        .logins
        .with_lock(&attempt.key, deadline, || create_login(attempt, &api, &who, times))?;

    if attempt.settings.is_on(Id::RevokePasted) {
        let api = login.api(&client, Deadline::after(WORKSPACE_TIMEOUT));
        revoke_pasted(&api, &pasted)
            .map_err(|error| error.because("the login itself succeeded").hint(&page))?;
    } else {
        attempt
            .context
            .note(&format!("the pasted token is not stored, but it is still valid: {page}"));
    }
    Ok(login)
}

fn read_pasted_token(attempt: &Attempt<'_>, page: &str) -> Result<Secret> {
    let context = attempt.context;
    if terminal::is_terminal() {
        context.say(&format!(
            "create a personal access token on this page, and paste it here; it is not shown:\n\n  {page}\n"
        ));
    }
    let line = terminal::read_hidden_line(context)?;
    // Some editors and shells add quotes or a byte order mark.
    let is_around = |c: char| "\"'\u{feff}".contains(c) || c.is_whitespace();
    let token = Secret::new(line.expose().trim_matches(is_around));

    if token.expose().is_empty() {
        return Err(Error::usage("no token was pasted").hint(page));
    }
    check_text("the pasted token", token.expose())
        .map_err(|e| Error::usage(e.message).hint(page))?;
    Ok(token)
}

/// A pasted token that the workspace refuses: where to create another one.
fn explain_refusal(attempt: &Attempt<'_>, error: Error, page: &str) -> Error {
    // The server's words may tell what else is wrong: the network, the workspace, a scope.
    if error.kind != ErrorKind::Denied || !error.hints.is_empty() {
        return error;
    }
    Error::denied(format!("the pasted token is not valid at {}", attempt.host))
        .caused_by(error)
        .hint(format!("create one at {page}"))
        .hint(format!("lakebase-token login --pat {}", attempt.key.shown()))
}

/// Creates and stores a rotating token. If this person already has a login here, its rotating tokens
/// stay in use.
fn create_login(attempt: &Attempt<'_>, api: &Api<'_>, who: &str, times: PatTimes) -> Result<Login> {
    let logins = &attempt.logins;
    let listed = rotating_pat::list(api)?;
    check_is_no_rotating_token(attempt, api.token, &listed)?;
    let install_id = logins.install_id()?;

    let old = logins.get_usable(&attempt.key)?;
    let old = old.filter(|old| old.who == who && old.host == attempt.host);
    let old_pat = old.as_ref().and_then(|old| match &old.renew_with {
        RenewWith::Pat(pat) => Some(pat),
        RenewWith::Refresh(_) => None,
    });
    if let (Some(old), Some(pat)) = (&old, old_pat)
        && is_listed(&listed, &pat.token_id)
        && old.left(attempt.context.now()) > 0
    {
        return continue_login(attempt, api, old, pat, times);
    }

    // The comment of the old tokens stays, even if it was built in another way.
    let comment = match old_pat {
        Some(pat) => pat.comment.clone(),
        None => rotating_pat::token_comment(&install_id, &attempt.key),
    };
    // A program may still hold the previous token.
    let previous = old_pat
        .and_then(|pat| pat.previous.clone())
        .filter(|previous| is_listed(&listed, &previous.token_id));
    delete_others(api, &listed, &comment, previous.as_ref())?;

    let (token_id, login) = create_first_token(attempt, api, who, times, comment, previous)?;
    let stored = if old.is_some() {
        logins.store(&login, Deadline::after(WORKSPACE_TIMEOUT))
    } else {
        attempt.store(&login)
    };
    if let Err(error) = stored {
        let _ = rotating_pat::delete(api, &token_id);
        return Err(error);
    }
    Ok(login)
}

/// A rotating token must not be pasted: the login that it belongs to may replace and delete it at any
/// time.
fn check_is_no_rotating_token(
    attempt: &Attempt<'_>,
    pasted: &Secret,
    listed: &[ListedPat],
) -> Result<()> {
    let pasted_id = id_of(pasted);
    let is_rotating = listed.iter().any(|token| {
        token.token_id == pasted_id && rotating_pat::is_rotating_token(&token.comment)
    });
    if is_rotating {
        return Err(Error::usage("the pasted token is a rotating token of lakebase-token")
            .because("the login that it belongs to replaces and deletes it")
            .hint(rotating_pat::page(attempt.host)));
    }
    Ok(())
}

/// Keeps an existing login of the same person, with new times, and replaces its token if that is
/// possible.
fn continue_login(
    attempt: &Attempt<'_>,
    api: &Api<'_>,
    old: &Login,
    pat: &RotatingPat,
    times: PatTimes,
) -> Result<Login> {
    let now = attempt.context.now();
    let PatTimes { lifetime, max_age } = times;
    let login = Login {
        renew_with: RenewWith::Pat(RotatingPat { lifetime, max_age, ..pat.clone() }),
        // Marked as interrupted, so that leftovers of earlier rotations are deleted.
        renewal_begun: Some(now),
        logged_in: now,
        ..old.clone()
    };
    let store = |login: &Login| attempt.logins.store(login, Deadline::after(WORKSPACE_TIMEOUT));
    Ok(rotating_pat::rotate(login, true, attempt.context, api, &store)?)
}

/// Deletes the tokens with this comment, except the previous token.
fn delete_others(
    api: &Api<'_>,
    listed: &[ListedPat],
    comment: &str,
    previous: Option<&ReplacedPat>,
) -> Result<()> {
    for token in listed {
        let is_previous = previous.is_some_and(|previous| previous.token_id == token.token_id);
        if token.comment == comment && !is_previous {
            rotating_pat::delete(api, &token.token_id)?;
        }
    }
    Ok(())
}

/// Creates the first token of a login. Returns its id and the login, which is not stored yet.
fn create_first_token(
    attempt: &Attempt<'_>,
    api: &Api<'_>,
    who: &str,
    times: PatTimes,
    comment: String,
    previous: Option<ReplacedPat>,
) -> Result<(String, Login)> {
    // Before the request: the token must not expire in the workspace earlier than here.
    let now = attempt.context.now();
    let PatTimes { lifetime, max_age } = times;
    let created = rotating_pat::create(api, &comment, lifetime)?;

    let token_id = created.token_id.clone();
    let pat = RotatingPat { token_id: created.token_id, comment, lifetime, max_age, previous };
    let login = Login {
        key: attempt.key.clone(),
        host: attempt.host.to_owned(),
        workspace_id: attempt.settings.workspace_id().map(str::to_owned),
        who: who.to_owned(),
        logged_in: now,
        access: created.secret,
        issued: now,
        expires: now.plus(lifetime),
        renewal_begun: None,
        renew_with: RenewWith::Pat(pat),
    };
    Ok((token_id, login))
}

fn is_listed(listed: &[ListedPat], token_id: &str) -> bool {
    listed.iter().any(|token| token.token_id == token_id)
}

/// The id of a personal access token. The workspace states an id only in the answer that creates the
/// token. So far the id is the token's SHA-256 digest, but Databricks does not document that.
fn id_of(token: &Secret) -> String {
    hex(digest(&SHA256, token.expose().as_bytes()).as_ref())
}

/// Deletes the pasted token, if its id is in the list.
fn revoke_pasted(api: &Api<'_>, pasted: &Secret) -> Result<()> {
    let id = id_of(pasted);
    if !is_listed(&rotating_pat::list(api)?, &id) {
        return Err(Error::failed("the pasted token is not deleted")
            .because("no token in the workspace's list has its id"));
    }
    Ok(rotating_pat::delete(api, &id)?)
}
