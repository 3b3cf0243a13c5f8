//! A login with a personal access token that somebody pastes: it is tried, used to make one of
//! our own, and forgotten. What becomes of ours is `login/pat.rs`'s business.

use ring::digest::{SHA256, digest};

use crate::commands::login::attempt::{Attempt, WORKSPACE_LIMIT, duration};
use crate::config::table::Id;
use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::{Api, user_name};
use crate::login::rotating_pat;
use crate::login::store::{Login, PAT, RenewWith};
use crate::login::store::{ROTATION_GRACE_MS, ReplacedPat, RotatingPat};
use crate::net::http::Client;
use crate::platform::terminal;
use crate::platform::time::{DAY, Deadline, MINUTE};

/// The shortest and the longest life of a token of ours.
const LIVES: [i64; 2] = [15 * MINUTE, 90 * DAY];

/// Logs in and stores the login.
pub fn log_in(attempt: &Attempt<'_>) -> Result<Login> {
    let settings = attempt.settings;
    let lifetime = duration(settings, Id::PatLifetime, DAY, LIVES[0], LIVES[1])?;
    // One that dies before it is replaced would end the login of whoever uses it all the time.
    let oldest = lifetime * 2 / 3;
    let max_age = duration(settings, Id::PatMaxAge, ROTATION_GRACE_MS, ROTATION_GRACE_MS, oldest)?;
    let page = rotating_pat::page(attempt.host);
    let pasted = paste(attempt, &page)?;
    let client = Client::new(attempt.context, PAT);
    let api = Api {
        client: &client,
        url: attempt.host,
        workspace_id: settings.workspace_id(),
        token: &pasted,
        headers: &[],
        deadline: Deadline::after(WORKSPACE_LIMIT),
    };
    let blot = |error: Error| error.without(&pasted);
    let who = user_name(&api).map_err(|failure| {
        let error = blot(failure.into_error());
        if error.kind != ErrorKind::Denied {
            return error;
        }
        let words = format!("the pasted token is not valid at {}", attempt.host);
        let again = format!("lakebase-token login --pat {}", attempt.key.shown());
        Error::denied(words).caused_by(error).hint(format!("make one at {page}")).hint(again)
    })?;
    let deadline = Deadline::after(WORKSPACE_LIMIT);
    let login = attempt.logins.alone(&attempt.key, deadline, || {
        made(attempt, &api, &who, lifetime, max_age).map_err(blot)
    })?;
    if settings.is_on(Id::RevokePasted) {
        revoke_pasted(&login.api(&client, Deadline::after(WORKSPACE_LIMIT)), &pasted)
            .map_err(|error| blot(error).because("you are logged in nevertheless").hint(&page))?;
    } else {
        attempt.context.note(&format!("the pasted token is not kept, but still good: {page}"));
    }
    Ok(login)
}

/// Asks for the token.
fn paste(attempt: &Attempt<'_>, page: &str) -> Result<Secret> {
    let context = attempt.context;
    if terminal::is_terminal() {
        context.say(&format!(
            "make a personal access token on this page, and paste it here; it is not shown:\n\n  {page}\n"
        ));
    }
    let pasted = terminal::read_hidden_line(context)?;
    // As some editors and shells would have it.
    let bare =
        pasted.expose().trim_matches(|c: char| "\"'\u{feff}".contains(c) || c.is_whitespace());
    let pasted = Secret::new(bare);
    if pasted.expose().is_empty() {
        return Err(Error::usage("no token was pasted").hint(page));
    }
    check_text("what was pasted", pasted.expose())
        .map_err(|e| Error::usage(e.message).hint(page))?;
    Ok(pasted)
}

/// Makes the first token of ours, or goes on with the ones that a former login has left.
fn made(
    attempt: &Attempt<'_>,
    api: &Api<'_>,
    who: &str,
    lifetime: i64,
    max_age: i64,
) -> Result<Login> {
    let (context, logins) = (attempt.context, &attempt.logins);
    let now = context.now();
    let listed = rotating_pat::list(api)?;
    let own =
        |(id, words): &(String, String)| *id == id_of(api.token) && rotating_pat::is_ours(words);
    if listed.iter().any(own) {
        return Err(Error::usage("what was pasted is a token of ours, which others may replace")
            .hint(rotating_pat::page(attempt.host)));
    }
    let comment = rotating_pat::comment(&logins.install_id()?, &attempt.key);
    let ours = |id: &String| listed.iter().any(|(known, _)| known == id);
    let store = |login: &Login| logins.store(login, Deadline::after(WORKSPACE_LIMIT));
    let old = logins.get(&attempt.key).filter(|old| old.who == who && old.host == attempt.host);
    let chain = match old.as_ref().map(|old| &old.renew_with) {
        Some(RenewWith::Pat(chain)) => Some(chain.clone()),
        _ => None,
    };
    // Of a former login's, whatever they were called.
    let comment = chain.as_ref().map_or(comment, |chain| chain.comment.clone());
    if let (Some(old), Some(chain)) = (&old, &chain)
        && ours(&chain.id)
        && old.left(now) > 0
    {
        let renew_with = RenewWith::Pat(RotatingPat { lifetime, max_age, ..chain.clone() });
        // What else there is of ours was left by a run that was cut off.
        let begun = Some(now);
        let login = Login { renew_with, begun, since: now, ..old.clone() };
        return Ok(rotating_pat::advance(login, true, context, api, &store)?);
    }
    // Somebody may still hold the last ones.
    let former: Option<ReplacedPat> =
        chain.and_then(|chain| chain.former).filter(|old| ours(&old.id));
    for (id, words) in &listed {
        if *words == comment && former.as_ref().is_none_or(|former| former.id != *id) {
            rotating_pat::delete(api, id)?;
        }
    }
    let made = rotating_pat::create(api, &comment, lifetime)?;
    let login = Login {
        key: attempt.key.clone(),
        host: attempt.host.to_owned(),
        workspace_id: attempt.settings.workspace_id().map(str::to_owned),
        who: who.to_owned(),
        since: now,
        access: made.value,
        issued: now,
        expires: now.plus(lifetime),
        begun: None,
        renew_with: RenewWith::Pat(RotatingPat {
            id: made.id.clone(),
            comment,
            lifetime,
            max_age,
            former,
        }),
    };
    let stored = if old.is_some() { store(&login) } else { attempt.store(&login) };
    if let Err(error) = stored {
        let _ = rotating_pat::delete(api, &made.id);
        return Err(error);
    }
    Ok(login)
}

/// The id of a personal access token. The workspace does not tell it for one that it did not make
/// just now, but so far it has been the token's digest; that is nowhere promised.
fn id_of(token: &Secret) -> String {
    hex(digest(&SHA256, token.expose().as_bytes()).as_ref())
}

/// Deletes the pasted token, if it can be told from others.
fn revoke_pasted(api: &Api<'_>, pasted: &Secret) -> Result<()> {
    let (id, listed) = (id_of(pasted), rotating_pat::list(api)?);
    if !listed.iter().any(|(known, _)| *known == id) {
        return Err(Error::failed("the pasted token is not deleted")
            .because("it cannot be told from others"));
    }
    Ok(rotating_pat::delete(api, &id)?)
}
