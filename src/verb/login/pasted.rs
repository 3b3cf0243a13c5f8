//! A login with a personal access token that somebody pastes: it is tried, used to make one of
//! our own, and forgotten. What becomes of ours is `login/pat.rs`'s business.

use std::io::IsTerminal;

use ring::digest::{SHA256, digest};

use super::{Attempt, LIMIT, duration};
use crate::api::{Api, user_name};
use crate::error::{Error, Kind, Result};
use crate::file::hex;
use crate::http::Client;
use crate::login::pat::{self, Chain, Former};
use crate::login::{Login, Means, PAT};
use crate::secret::Secret;
use crate::settings::Id;
use crate::time::{DAY, Deadline, MINUTE};
use crate::token::check_text;

/// The shortest and the longest life of a token of ours.
const LIVES: [i64; 2] = [15 * MINUTE, 90 * DAY];

/// Logs in and stores the login.
pub fn log_in(attempt: &Attempt<'_>) -> Result<Login> {
    let settings = attempt.settings;
    let lifetime = duration(settings, Id::PatLifetime, DAY, LIVES[0], LIVES[1])?;
    // One that dies before it is replaced would end the login of whoever uses it all the time.
    let oldest = lifetime * 2 / 3;
    let max_age = duration(settings, Id::PatMaxAge, pat::GRACE, pat::GRACE, oldest)?;
    let page = pat::page(attempt.host);
    let pasted = paste(attempt, &page)?;
    let client = Client::new(attempt.world, PAT);
    let api = Api {
        client: &client,
        url: attempt.host,
        workspace_id: settings.workspace_id(),
        token: &pasted,
        beside: &[],
        deadline: Deadline::after(LIMIT),
    };
    let blot = |error: Error| error.without(&pasted);
    let who = user_name(&api).map_err(|failure| {
        let error = blot(failure.into_error());
        if error.kind != Kind::Denied {
            return error;
        }
        let words = format!("the pasted token is not valid at {}", attempt.host);
        let again = format!("lakebase-token login --pat {}", attempt.key.shown());
        Error::denied(words).caused_by(error).hint(format!("make one at {page}")).hint(again)
    })?;
    let deadline = Deadline::after(LIMIT);
    let login = attempt.logins.alone(&attempt.key, deadline, || {
        made(attempt, &api, &who, lifetime, max_age).map_err(blot)
    })?;
    if settings.is_on(Id::RevokePasted) {
        revoke_pasted(&login.api(&client, Deadline::after(LIMIT)), &pasted)
            .map_err(|error| blot(error).because("you are logged in nevertheless").hint(&page))?;
    } else {
        attempt.world.note(&format!("the pasted token is not kept, but still good: {page}"));
    }
    Ok(login)
}

/// Asks for the token.
fn paste(attempt: &Attempt<'_>, page: &str) -> Result<Secret> {
    let world = attempt.world;
    if std::io::stdin().is_terminal() {
        world.say(&format!(
            "make a personal access token on this page, and paste it here; it is not shown:\n\n  {page}\n"
        ));
    }
    let pasted = world.read_line(false)?;
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
    let (world, logins) = (attempt.world, &attempt.logins);
    let now = world.now();
    let listed = pat::list(api)?;
    let own = |(id, words): &(String, String)| *id == id_of(api.token) && pat::is_ours(words);
    if listed.iter().any(own) {
        return Err(Error::usage("what was pasted is a token of ours, which others may replace")
            .hint(pat::page(attempt.host)));
    }
    let comment = pat::comment(&logins.install_id()?, &attempt.key);
    let ours = |id: &String| listed.iter().any(|(known, _)| known == id);
    let store = |login: &Login| logins.store(login, Deadline::after(LIMIT));
    let old = logins.get(&attempt.key).filter(|old| old.who == who && old.host == attempt.host);
    let chain = match old.as_ref().map(|old| &old.means) {
        Some(Means::Pat(chain)) => Some(chain.clone()),
        _ => None,
    };
    // Of a former login's, whatever they were called.
    let comment = chain.as_ref().map_or(comment, |chain| chain.comment.clone());
    if let (Some(old), Some(chain)) = (&old, &chain)
        && ours(&chain.id)
        && old.left(now) > 0
    {
        let means = Means::Pat(Chain { lifetime, max_age, ..chain.clone() });
        // What else there is of ours was left by a run that was cut off.
        let begun = Some(now);
        let login = Login { means, begun, since: now, ..old.clone() };
        return Ok(pat::advance(login, true, world, api, &store)?);
    }
    // Somebody may still hold the last ones.
    let former: Option<Former> = chain.and_then(|chain| chain.former).filter(|old| ours(&old.id));
    for (id, words) in &listed {
        if *words == comment && former.as_ref().is_none_or(|former| former.id != *id) {
            pat::delete(api, id)?;
        }
    }
    let made = pat::create(api, &comment, lifetime)?;
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
        means: Means::Pat(Chain { id: made.id.clone(), comment, lifetime, max_age, former }),
    };
    let stored = if old.is_some() { store(&login) } else { attempt.store(&login) };
    if let Err(error) = stored {
        let _ = pat::delete(api, &made.id);
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
    let (id, listed) = (id_of(pasted), pat::list(api)?);
    if !listed.iter().any(|(known, _)| *known == id) {
        return Err(Error::failed("the pasted token is not deleted")
            .because("it cannot be told from others"));
    }
    Ok(pat::delete(api, &id)?)
}
