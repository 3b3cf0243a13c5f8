//! When a login is renewed, and what comes of it.
//!
//! A refresh token may be good for one time, and whoever uses it twice may lose the login; a
//! personal access token must not be replaced by two at once. So one process does it at a time,
//! looks again once it has the lock, and has stored what it got before it tells anybody. That is a
//! process of its own (`verb/renew.rs`), so [`report`] and [`read`] carry what came of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::credential::secret::Secret;
use crate::credential::token::{LEAST_LIFE, Token};
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::{Api, user_name};
use crate::login::oauth;
use crate::login::oauth::{LoginTokens, Refused};
use crate::login::rotating_pat;
use crate::login::store::RotatingPat;
use crate::login::store::{BROWSER, Login, LoginKey, Logins, PAT, RenewWith};
use crate::net::http::Client;
use crate::net::refusal::CallError;
use crate::platform::context::Context;
use crate::platform::time::{Deadline, MINUTE, SECOND, Timestamp};

/// The longest that a workspace may take. Nobody's patience counts: once a refresh token is sent,
/// its successor must reach the disk.
const LIMIT: Duration = Duration::from_secs(60);

/// A replacement that did not end well is left alone this long where nobody needs it.
const TROUBLE: i64 = 30 * SECOND;

/// What a caller needs of a login's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// More life than this, in milliseconds.
    Life(i64),
    /// Another one than there was when it began.
    Another,
}

impl Login {
    /// Whether its token will do as it is.
    pub fn serves(&self, need: Need, now: Timestamp) -> bool {
        // A clock that was set back would make an old one young.
        if self.is_from_the_future(now) {
            return false;
        }
        match (&self.renew_with, need) {
            (_, Need::Another) => false,
            (RenewWith::Refresh(_), Need::Life(least)) => self.left(now) > least,
            (RenewWith::Pat(chain), Need::Life(_)) => {
                let settled = now.since(self.issued) < chain.max_age && !chain.has_waste(now);
                let rests = match self.begun {
                    Some(begun) => (0..TROUBLE).contains(&now.since(begun)),
                    None => settled,
                };
                self.left(now) > LEAST_LIFE && rests
            }
        }
    }

    fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.issued.since(now) > MINUTE
    }

    /// The same with the tokens of a new grant; where its access token is no good, with the old one.
    pub fn with(mut self, grant: LoginTokens) -> (Login, Result<()>) {
        (self.renew_with, self.begun) = (RenewWith::Refresh(grant.refresh), None);
        let received = grant.access.map(|token| {
            self.expires = token.expires.unwrap_or(token.issued);
            (self.access, self.issued) = (token.secret, token.issued);
        });
        (self, received)
    }

    /// The workspace, as this login.
    pub fn api<'a>(&'a self, client: &'a Client<'a>, deadline: Deadline) -> Api<'a> {
        let (url, workspace_id, token) = (&self.host, self.workspace_id.as_deref(), &self.access);
        Api { client, url, workspace_id, token, headers: &[], deadline }
    }
}

/// A login whose token will do, and what went wrong nevertheless.
pub struct Renewed {
    /// The login.
    pub login: Login,
    /// Why it is still the old token.
    pub trouble: Option<Error>,
}

/// Renews a login, unless somebody else has done so.
pub fn renew(context: &Context, key: &LoginKey, need: Need) -> Result<Renewed> {
    let logins = Logins::of(context)?;
    let seen = logins.get(key);
    if seen.is_none() {
        return Err(nobody(key));
    }
    logins.alone(key, Deadline::after(LIMIT), || {
        let login = logins.get(key).ok_or_else(|| nobody(key))?;
        // Somebody may have renewed it while this one waited.
        let replaced = seen.is_some_and(|seen| seen.access != login.access);
        let need = if replaced { Need::Life(LEAST_LIFE) } else { need };
        if login.serves(need, context.now()) {
            return Ok(Renewed { login, trouble: None });
        }
        // However long the lock was waited for: what is sent must have time to be answered.
        let renewal = Renewal { context, logins: &logins, deadline: Deadline::after(LIMIT) };
        match &login.renew_with {
            RenewWith::Refresh(token) => renewal.refresh(&login, token.as_ref()),
            RenewWith::Pat(chain) => renewal.replace(&login, chain, need),
        }
    })
}

/// Nobody has logged in.
pub fn nobody(key: &LoginKey) -> Error {
    Error::login("nobody has logged in here").hint(format!("lakebase-token login {}", key.shown()))
}

struct Renewal<'a> {
    context: &'a Context,
    logins: &'a Logins<'a>,
    deadline: Deadline,
}

impl Renewal<'_> {
    fn refresh(&self, login: &Login, token: Option<&Secret>) -> Result<Renewed> {
        let none = || Error::login("the login cannot be renewed").hint(login.command());
        let token = token.ok_or_else(none)?;
        // A disk that takes this will take what follows.
        let begun = Login { begun: Some(self.context.now()), ..login.clone() };
        self.logins.store(&begun, self.deadline)?;
        let client = Client::new(self.context, BROWSER);
        let granted = oauth::refresh(self.context, &client, &login.host, token, self.deadline);
        let grant = granted.map_err(|refused| match refused {
            Refused::Other(error) => error.without(token),
            Refused::Dead(error) => ended(login, error).without(token),
        })?;
        // First of all what is good for one time is kept, whatever else the answer holds.
        let (login, received) = login.clone().with(grant);
        self.store_at_last(&login)?;
        received.map(|()| Renewed { login, trouble: None })
    }

    /// Stores what nobody will give again, however often the disk says no.
    fn store_at_last(&self, login: &Login) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(250);
        let deadline = Deadline::after(LIMIT);
        loop {
            match self.logins.store(login, deadline) {
                Err(_) if !deadline.passed() => self.context.sleep(PAUSE, deadline),
                stored => return stored,
            }
        }
    }

    fn replace(&self, login: &Login, chain: &RotatingPat, need: Need) -> Result<Renewed> {
        let now = self.context.now();
        let client = Client::new(self.context, PAT);
        let api = login.api(&client, self.deadline);
        if login.left(now) <= 0 {
            // Unless it is our clock that is wrong.
            match user_name(&api) {
                Err(CallError::Refused(no)) if no.is_about_token() => {
                    let idle = now.since(login.issued) >= chain.lifetime;
                    let error = no.into_error();
                    return Err(if idle {
                        rotating_pat::lapsed(login)
                    } else {
                        ended(login, error)
                    });
                }
                alive => drop(alive?),
            }
        }
        let old = now.since(login.issued) >= chain.max_age || login.is_from_the_future(now);
        let store = |login: &Login| self.logins.store(login, Deadline::after(LIMIT));
        let replace = old || need == Need::Another;
        let advanced = rotating_pat::advance(login.clone(), replace, self.context, &api, &store);
        let advanced = advanced.and_then(|advanced| {
            if need == Need::Another && advanced.access == login.access {
                // It was replaced lately, so this one stays; but whether it is any good?
                user_name(&api)?;
            }
            Ok(advanced)
        });
        match advanced.map_err(|failure| failure.without(&login.access)) {
            Ok(login) => Ok(Renewed { login, trouble: None }),
            Err(CallError::Refused(no)) if no.is_about_token() => {
                // So that nobody is handed it again.
                let _ = store(&Login { expires: now, ..login.clone() });
                Err(ended(login, no.into_error()))
            }
            // What was stored last is what counts, also where nothing could be.
            Err(failure) => {
                let error = failure.into_error();
                let login = self.logins.get(&login.key).unwrap_or(login.clone());
                match login.left(self.context.now()) > LEAST_LIFE {
                    true => Ok(Renewed { login, trouble: Some(error) }),
                    false => Err(error),
                }
            }
        }
    }
}

/// The workspace does not know it any more.
fn ended(login: &Login, error: Error) -> Error {
    let dead = Error::login(format!("the login of {} has ended", login.who));
    dead.caused_by(error).hint(login.command())
}

/// What `renew-login` prints for whoever started it.
pub fn report(outcome: &Result<Renewed>) -> Value {
    match outcome {
        Ok(Renewed { login, trouble }) => json!({
            "access_token": login.access.expose(),
            "issued": login.issued.0,
            "expires": login.expires.0,
            "who": login.who,
            "trouble": trouble.as_ref().map(|error| error.message.clone()),
        }),
        Err(error) => json!({ "error": error.to_json() }),
    }
}

/// Reads that; nothing where it is something else.
pub fn read(stdout: &[u8], context: &Context) -> Option<Result<Token>> {
    let body: Value = serde_json::from_slice(stdout).ok()?;
    if let Some(error) = Error::from_json(&body["error"]) {
        return Some(Err(error));
    }
    if let Some(trouble) = body["trouble"].as_str() {
        context.note(&format!("the personal access token is not replaced yet: {trouble}"));
    }
    let time = |name: &str| body[name].as_i64().map(Timestamp);
    let (issued, expires) = (time("issued")?, time("expires")?);
    Some(Ok(Token {
        secret: Secret::new(body["access_token"].as_str()?),
        issued,
        expires: Some(expires),
        lifetime: expires.since(issued),
        subject: body["who"].as_str().map(str::to_owned),
    }))
}
