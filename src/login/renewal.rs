//! When a stored login is renewed, and how the result reaches the caller.
//!
//! A server may accept a refresh token only once, and two processes must not replace a rotating token
//! at the same time. So one process at a time renews a login: it reads the login again under the lock
//! and stores the new tokens before it hands them out. It runs as a process of its own
//! (`commands/renew_login.rs`, started by `auth/providers/stored_login.rs`), so [`report`] and
//! [`read`] carry the result between the two processes.
//!
//! `login/oauth.rs` and `login/rotating_pat.rs` make the requests, `login/store.rs` has the lock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::credential::secret::Secret;
use crate::credential::token::{MIN_LIFE_MS, Token};
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::{Api, user_name};
use crate::login::oauth::{self, GrantError, LoginTokens};
use crate::login::record::{BROWSER, Login, LoginKey, PAT, RenewWith, RotatingPat};
use crate::login::rotating_pat;
use crate::login::store::Logins;
use crate::net::http::Client;
use crate::net::refusal::{CallError, Outcome};
use crate::platform::context::Context;
use crate::platform::time::{Deadline, MINUTE, SECOND, Timestamp};

/// How long a renewal may take. The caller's deadline does not shorten it: once a refresh token is
/// sent, the new one must reach the disk.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a rotation is not tried again after it has failed, while the current token is valid.
const ROTATION_RETRY_MS: i64 = 30 * SECOND;

/// The pause between two attempts to store a new refresh token.
const STORE_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How far in the future a token may be issued before the local clock counts as set back.
const MAX_CLOCK_SKEW_MS: i64 = MINUTE;

/// What a caller needs of a login's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenNeed {
    /// The token must be valid for longer than this, in milliseconds.
    Life(i64),
    /// The current token must be replaced: the workspace has refused it, or the caller asks for a new
    /// token.
    Another,
}

impl Login {
    /// Whether the current token is good enough without a renewal.
    pub fn serves(&self, need: TokenNeed, now: Timestamp) -> bool {
        let TokenNeed::Life(min_life) = need else { return false };
        // After the clock was set back, the age of an old token cannot be known.
        if self.is_from_the_future(now) {
            return false;
        }

        match &self.renew_with {
            RenewWith::Refresh(_) => self.left(now) > min_life,
            RenewWith::Pat(pat) => self.left(now) > MIN_LIFE_MS && !self.rotation_is_due(pat, now),
        }
    }

    fn rotation_is_due(&self, pat: &RotatingPat, now: Timestamp) -> bool {
        match self.renewal_begun {
            Some(begun) => !(0..ROTATION_RETRY_MS).contains(&now.since(begun)),
            None => now.since(self.issued) >= pat.max_age || pat.must_delete_previous(now),
        }
    }

    fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.issued.since(now) > MAX_CLOCK_SKEW_MS
    }

    /// This login with the tokens of a new grant. If the new access token is invalid, the login keeps
    /// the old access token with the new refresh token, and the second result says why.
    fn with_tokens(mut self, tokens: LoginTokens) -> (Login, Result<()>) {
        self.renew_with = RenewWith::Refresh(tokens.refresh);
        self.renewal_begun = None;
        let received = tokens.access.map(|token| {
            self.expires = token.expires.unwrap_or(token.issued);
            self.issued = token.issued;
            self.access = token.secret;
        });
        (self, received)
    }

    /// The workspace's API, with this login's token.
    pub fn api<'a>(&'a self, client: &'a Client<'a>, deadline: Deadline) -> Api<'a> {
        Api {
            client,
            url: &self.host,
            workspace_id: self.workspace_id.as_deref(),
            token: &self.access,
            headers: &[],
            deadline,
        }
    }
}

/// A login with a valid token.
pub struct RenewedLogin {
    login: Login,
    /// Why the token was not replaced, although that is due.
    not_replaced: Option<Error>,
}

impl From<Login> for RenewedLogin {
    fn from(login: Login) -> RenewedLogin {
        RenewedLogin { login, not_replaced: None }
    }
}

/// Renews a login, unless another process has done so meanwhile.
pub fn renew(context: &Context, key: &LoginKey, need: TokenNeed) -> Result<RenewedLogin> {
    let logins = Logins::of(context)?;
    let before = logins.get(key)?.ok_or_else(|| no_stored_login(key))?;

    logins.with_lock(key, Deadline::after(RENEWAL_TIMEOUT), || {
        let login = logins.get(key)?.ok_or_else(|| no_stored_login(key))?;
        let was_replaced = before.access != login.access;
        let need = if was_replaced { TokenNeed::Life(MIN_LIFE_MS) } else { need };
        if login.serves(need, context.now()) {
            return Ok(login.into());
        }

        // The deadline starts here, so that the wait for the lock does not shorten the request.
        let deadline = Deadline::after(RENEWAL_TIMEOUT);
        let renewal = Renewal { context, logins: &logins, deadline };
        match &login.renew_with {
            RenewWith::Refresh(token) => renewal.refresh(&login, token.as_ref()),
            RenewWith::Pat(pat) => renewal.replace(&login, pat, need),
        }
    })
}

/// The error for a profile or workspace without a stored login.
pub fn no_stored_login(key: &LoginKey) -> Error {
    let shown = match key {
        LoginKey::Profile(_) => format!("profile {}", key.shown_name()),
        LoginKey::Host(_) => format!("workspace {}", key.shown_name()),
    };
    Error::login(format!("no login is stored for {shown}"))
        .hint(format!("lakebase-token login {}", key.shown_words()))
}

struct Renewal<'a> {
    context: &'a Context,
    logins: &'a Logins<'a>,
    deadline: Deadline,
}

impl Renewal<'_> {
    fn refresh(&self, login: &Login, token: Option<&Secret>) -> Result<RenewedLogin> {
        let token = token.ok_or_else(|| {
            Error::login("the login cannot be renewed")
                .because("the workspace gave no refresh token")
                .hint(login.command())
        })?;
        // If the disk takes this, it will also take the new tokens, which have the same size.
        let begun = Login { renewal_begun: Some(self.context.now()), ..login.clone() };
        self.logins.store(&begun, self.deadline)?;

        let client = Client::new(self.context, BROWSER);
        let tokens = oauth::refresh(self.context, &client, &login.host, token, self.deadline)
            .map_err(|error| match error {
                GrantError::Ended(error) => ended(login, error),
                GrantError::Other(error) => error,
            })?;

        // The workspace does not give this refresh token again, so it is stored before the access
        // token is checked.
        let (login, received) = login.clone().with_tokens(tokens);
        self.store_persistently(&login)?;
        received.map(|()| login.into())
    }

    /// Stores a new refresh token, with retries: the old one is no longer valid.
    fn store_persistently(&self, login: &Login) -> Result<()> {
        let deadline = Deadline::after(RENEWAL_TIMEOUT);
        loop {
            match self.logins.store(login, deadline) {
                Err(_) if !deadline.passed() => self.context.sleep(STORE_RETRY_PAUSE, deadline),
                stored => return stored,
            }
        }
    }

    fn replace(&self, login: &Login, pat: &RotatingPat, need: TokenNeed) -> Result<RenewedLogin> {
        let now = self.context.now();
        let client = Client::new(self.context, PAT);
        let api = login.api(&client, self.deadline);
        if login.left(now) <= 0 {
            check_expired_token(login, pat, &api, now)?;
        }

        let rotated = self.rotate(login, pat, need, &api);
        match rotated {
            Ok(login) => Ok(login.into()),
            Err(CallError::Refused(refusal)) if refusal.is_about_token() => {
                // Stored as expired, so that no process hands it out again.
                let _ = self.store(&Login { expires: now, ..login.clone() });
                Err(ended(login, refusal.into_error()))
            }
            Err(failure) => self.keep_old_token(login, failure.into_error()),
        }
    }

    fn rotate(
        &self,
        login: &Login,
        pat: &RotatingPat,
        need: TokenNeed,
        api: &Api<'_>,
    ) -> Outcome<Login> {
        let now = self.context.now();
        let is_old = now.since(login.issued) >= pat.max_age || login.is_from_the_future(now);
        let replace = is_old || need == TokenNeed::Another;
        let store = |login: &Login| self.store(login);
        let rotated = rotating_pat::rotate(login.clone(), replace, self.context, api, &store)?;

        if need == TokenNeed::Another && rotated.access == login.access {
            // It was replaced lately and cannot be replaced again yet. A request shows whether it is
            // still valid.
            user_name(api)?;
        }
        Ok(rotated)
    }

    fn store(&self, login: &Login) -> Result<()> {
        self.logins.store(login, Deadline::after(RENEWAL_TIMEOUT))
    }

    /// After a failed rotation: the stored token while it is valid, else the error. The rotation may
    /// have stored a newer login before it failed.
    fn keep_old_token(&self, login: &Login, error: Error) -> Result<RenewedLogin> {
        let login = self.logins.get(&login.key).unwrap_or_default().unwrap_or(login.clone());
        if login.left(self.context.now()) > MIN_LIFE_MS {
            Ok(RenewedLogin { login, not_replaced: Some(error) })
        } else {
            Err(error)
        }
    }
}

/// Asks the workspace whether a token has expired, since the local clock may be wrong.
fn check_expired_token(
    login: &Login,
    pat: &RotatingPat,
    api: &Api<'_>,
    now: Timestamp,
) -> Result<()> {
    match user_name(api) {
        Err(CallError::Refused(refusal)) if refusal.is_about_token() => {
            let was_unused = now.since(login.issued) >= pat.lifetime;
            if was_unused {
                Err(rotating_pat::expired_unused(login))
            } else {
                Err(ended(login, refusal.into_error()))
            }
        }
        outcome => Ok(outcome.map(drop)?),
    }
}

/// The error for a login that the workspace no longer accepts.
fn ended(login: &Login, error: Error) -> Error {
    Error::login(format!("the login of {} has ended", login.who))
        .caused_by(error)
        .hint(login.command())
}

/// What `renew-login` prints for the process that started it.
pub fn report(outcome: &Result<RenewedLogin>) -> Value {
    match outcome {
        Ok(RenewedLogin { login, not_replaced }) => json!({
            "access_token": login.access.expose(),
            "issued": login.issued.0,
            "expires": login.expires.0,
            "who": login.who,
            "not_replaced": not_replaced.as_ref().map(|error| error.message.clone()),
        }),
        Err(error) => json!({ "error": error.to_json() }),
    }
}

/// Reads the output of `renew-login`. Returns `None` if it is anything else.
pub fn read(stdout: &[u8], context: &Context) -> Option<Result<Token>> {
    let body: Value = serde_json::from_slice(stdout).ok()?;
    if let Some(error) = Error::from_json(&body["error"]) {
        return Some(Err(error));
    }
    if let Some(reason) = body["not_replaced"].as_str() {
        context.note(&format!("the personal access token is not replaced yet: {reason}"));
    }

    let time = |name: &str| body[name].as_i64().map(Timestamp);
    let issued = time("issued")?;
    let expires = time("expires")?;
    Some(Ok(Token {
        secret: Secret::new(body["access_token"].as_str()?),
        issued,
        expires: Some(expires),
        lifetime: expires.since(issued),
        subject: body["who"].as_str().map(str::to_owned),
    }))
}
