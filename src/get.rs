//! The heart: a token from the cache while it is fresh, else fetched by exactly one of however
//! many ask.
//!
//! [`Session::cached`] is the table of freshness, once, used at both levels: for the workspace's
//! access token and for the database credential that is minted with it.
//!
//! | life left     | what a caller gets                                                        |
//! |---------------|---------------------------------------------------------------------------|
//! | more than soft| the cached one: no lock, no network                                       |
//! | soft to hard  | the cached one; whoever gets the lock at once refreshes it, 2 s at most   |
//! | less than hard| the lock, a second look, a fetch; if that fails for a passing reason the  |
//! |               | old one while it has a minute left                                        |
//!
//! Locks are taken from the database entry to the workspace entry, never the other way.

use std::time::Duration;

use crate::api::{self, Api, Outcome};
use crate::cache::{Cache, Failure, Seen, Slot};
use crate::error::{Error, Kind, Result};
use crate::file::Held;
use crate::http::Client;
use crate::lakebase::{self, Database, Target};
use crate::plan::Plan;
use crate::secret::Secret;
use crate::source::Ask;
use crate::time::{Deadline, Timestamp};
use crate::token::{Credential, Purpose, Token};
use crate::world::World;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// With less life than this a token is no use to anybody.
const LEAST: i64 = MINUTE;

/// A refresh that nobody needs yet may hold its caller up this long.
const SOFT_WAIT: Duration = Duration::from_secs(2);

/// A "no" is remembered this long: clients call a failing helper many times a second.
const REFUSAL: i64 = 3 * SECOND;

/// After trouble, refreshes that nobody needs yet are left alone this long.
const TROUBLE: i64 = 30 * SECOND;

/// One call: the plan, and what it needs to be carried out.
pub struct Session<'a> {
    plan: &'a Plan,
    world: &'a World,
    client: Client<'a>,
    cache: Cache<'a>,
    began: Timestamp,
}

/// What a caller needs beside the token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// The role.
    pub user: bool,
    /// The host.
    pub host: bool,
}

/// When an entry is fresh.
enum Freshness<'s> {
    /// It is handed out, with at least so much life.
    Printed { min_ttl: i64, refresh: bool },
    /// It is used up in this call; the workspace may have refused one already.
    Used { refused: Option<&'s Secret> },
}

#[derive(Debug, PartialEq, Eq)]
enum Band {
    Fresh,
    Soft,
    Hard,
}

impl Freshness<'_> {
    /// The table at the head of this file.
    fn band(&self, token: &Token, now: Timestamp, began: Timestamp) -> Band {
        let left = token.left(now);
        if left <= 0 {
            return Band::Hard;
        }
        match self {
            Freshness::Used { refused: Some(refused) } if token.secret == **refused => Band::Hard,
            Freshness::Used { .. } if left > LEAST => Band::Fresh,
            Freshness::Used { .. } => Band::Hard,
            // Whoever asked while it was being minted wanted this one.
            Freshness::Printed { .. } if token.issued > began => Band::Fresh,
            Freshness::Printed { refresh: true, .. } => Band::Hard,
            Freshness::Printed { min_ttl, .. } => {
                let young = now.since(token.issued) <= MINUTE;
                let (soft, hard) = bands(token.lifetime, if young { 0 } else { *min_ttl });
                match left {
                    left if left > soft => Band::Fresh,
                    left if left > hard => Band::Soft,
                    _ => Band::Hard,
                }
            }
        }
    }

    /// Whether the old one may stand in where there is no new one.
    fn tolerates(&self, token: &Token, now: Timestamp) -> bool {
        let wanted = match self {
            Freshness::Printed { refresh, .. } => !refresh,
            Freshness::Used { refused } => refused.is_none(),
        };
        wanted && token.left(now) >= LEAST
    }
}

/// The two limits for a token of this lifetime, in milliseconds: soft and hard.
pub fn bands(lifetime: i64, min_ttl: i64) -> (i64, i64) {
    let hard = (10 * MINUTE).min(lifetime / 3);
    let soft = (20 * MINUTE).min(lifetime / 2);
    if min_ttl == 0 {
        return (soft, hard);
    }
    let hard = hard.max(min_ttl);
    (lifetime.min(soft.max(hard.saturating_add(5 * MINUTE))), hard)
}

/// How a token is fetched: inside this deadline, under this lock.
type Fetch<'f> = dyn Fn(Deadline, Option<&Held<'_>>) -> Result<Token> + 'f;

impl<'a> Session<'a> {
    /// Begins a call.
    pub fn new(plan: &'a Plan, world: &'a World) -> Session<'a> {
        let source = plan.source;
        let text = |id| plan.settings.text(id).unwrap_or_default();
        let identity = (source.identity)(&plan.settings);
        let parts = [
            plan.url.as_str(),
            plan.workspace_id.as_deref().unwrap_or_default(),
            text(crate::settings::Id::AccountId),
            source.name,
            &identity,
            text(crate::settings::Id::Scopes),
        ];
        let secret = source.secret.and_then(|id| plan.settings.secret(id)).cloned();
        Session {
            plan,
            world,
            client: Client::new(world, source.name),
            cache: Cache::new(world, plan.cache.clone(), &parts, secret),
            began: world.now(),
        }
    }

    /// The credential, with what is wanted beside it.
    pub fn credential(&self, wants: Wants, deadline: Deadline) -> Result<Credential> {
        let plan = self.plan;
        let token = match plan.purpose {
            Purpose::Database => self.database_credential(deadline)?,
            Purpose::Workspace => self.workspace_token(self.printed(), deadline)?,
        };
        let connection = &plan.connection;
        let database = plan.purpose == Purpose::Database;
        let user = match &connection.user {
            Some(user) => Some(user.clone()),
            None if wants.user && database => Some(self.user_name(deadline)?),
            None => None,
        };
        let host = match &connection.host {
            Some(host) => Some(host.clone()),
            None if wants.host && database => self.located(deadline)?,
            None => None,
        };
        Ok(Credential {
            purpose: plan.purpose,
            token,
            workspace: plan.url.clone(),
            user,
            host,
            port: connection.port,
            database: connection.database.clone(),
            sslmode: connection.sslmode.clone(),
            api_version: String::new(),
        })
    }

    /// What is cached, without asking anybody: the credential and the workspace token.
    pub fn peek(&self) -> [(Purpose, Option<Token>); 2] {
        let database = self.database_slot().look().token;
        [(Purpose::Database, database), (Purpose::Workspace, self.workspace_slot().look().token)]
    }

    /// The entries' answers to what was found, without asking anybody: database and role.
    pub fn peek_found(&self) -> (Option<Database>, Option<String>) {
        let look = |what: &str| {
            let token = self.cache.slot(&["found", what]).look().token?;
            (token.left(self.world.now()) > 0).then(|| token.secret.expose().to_owned())
        };
        let known = [self.location_key(), self.target_key()].iter().find_map(|key| look(key));
        (known.and_then(|line| Database::from_line(&line)), look(ROLE))
    }

    fn printed(&self) -> Freshness<'static> {
        Freshness::Printed { min_ttl: self.plan.min_ttl, refresh: self.plan.refresh }
    }

    fn database_slot(&self) -> Slot<'_> {
        let ttl = self.plan.ttl.map_or(String::new(), |ttl| ttl.to_string());
        self.cache.slot(&["database", &self.target_key(), &ttl])
    }

    fn workspace_slot(&self) -> Slot<'_> {
        self.cache.slot(&["workspace"])
    }

    fn target_key(&self) -> String {
        let kind = match self.plan.target {
            Target::Instance(_) => "instance",
            Target::Host(_) => "host",
            Target::Endpoint(_) | Target::Parent(_) | Target::Only => "endpoint",
        };
        format!("{kind} {}", self.plan.target.name())
    }

    fn location_key(&self) -> String {
        format!("host of {}", self.target_key())
    }

    fn database_credential(&self, deadline: Deadline) -> Result<Token> {
        let fetch = |deadline, _: Option<&Held<'_>>| self.mint(deadline);
        let slot = self.database_slot();
        let token = self.cached(&slot, self.printed(), deadline, &fetch)?;
        if self.plan.source.switches && token.issued >= self.began {
            self.drop_if_switched(&slot, &token);
        }
        Ok(token)
    }

    /// Somebody else may have logged in while this credential was being minted, and dropped the
    /// former one's entries before this one was stored.
    fn drop_if_switched(&self, slot: &Slot<'_>, token: &Token) {
        let now = self.workspace_slot().look().token.and_then(|token| token.subject);
        if now.is_some() && token.subject.is_some() && now != token.subject {
            slot.forget();
        }
    }

    fn workspace_token(&self, freshness: Freshness<'_>, deadline: Deadline) -> Result<Token> {
        let source = self.plan.source;
        let fetch = source.fetch.ok_or_else(|| {
            Error::usage(format!("auth type {} is not supported yet", source.name))
        })?;
        let refused = matches!(freshness, Freshness::Used { refused: Some(_) });
        let slot = self.workspace_slot();
        let ask = |deadline, held: Option<&Held<'_>>| {
            let token = fetch(&Ask {
                settings: &self.plan.settings,
                url: &self.plan.url,
                world: self.world,
                client: &self.client,
                found: &|what, find| self.found(what, deadline, &|_| find()),
                held,
                refused,
                deadline,
            })?;
            if source.switches {
                slot.drop_strangers(token.subject.as_deref());
            }
            Ok(token)
        };
        if !source.renews {
            // A configured token: it costs nothing, and a copy of it would only be one more.
            return ask(deadline, None);
        }
        self.cached(&slot, freshness, deadline, &ask)
    }

    fn mint(&self, deadline: Deadline) -> Result<Token> {
        let named = matches!(self.plan.target, Target::Endpoint(_) | Target::Instance(_));
        let database = self.database(deadline)?;
        let mint = |database: &Database| {
            self.with_bearer(deadline, |api| {
                let mut token = lakebase::mint(api, database, self.plan.ttl, self.world)?;
                // Whose it is, in the words in which the next workspace token will tell.
                token.subject = api.subject.map(str::to_owned);
                Ok(token)
            })
        };
        match mint(&database) {
            Err(api::Failure::Refused(no)) if no.status == 404 && !named => {
                // What was found a while ago is gone: look again, once.
                self.cache.slot(&["found", &self.target_key()]).forget();
                let again = self.database(deadline)?;
                if again == database {
                    return Err(no.into_error());
                }
                mint(&again)
            }
            outcome => outcome,
        }
        .map_err(api::Failure::into_error)
    }

    /// What the target names.
    fn database(&self, deadline: Deadline) -> Result<Database> {
        if let Target::Endpoint(name) = &self.plan.target {
            return Ok(Database::Endpoint { name: name.clone(), host: None });
        }
        if let Target::Instance(name) = &self.plan.target {
            return Ok(Database::Instance { name: name.clone(), host: None });
        }
        self.found_database(&self.target_key(), deadline, &|deadline| {
            self.with_bearer(deadline, |api| lakebase::find(api, &self.plan.target))
        })
    }

    /// Where it listens.
    fn located(&self, deadline: Deadline) -> Result<Option<String>> {
        let database = self.database(deadline)?;
        if let Some(host) = database.host() {
            return Ok(Some(host.to_owned()));
        }
        let located = self.found_database(&self.location_key(), deadline, &|deadline| {
            self.with_bearer(deadline, |api| lakebase::locate(api, database.clone()))
        })?;
        Ok(located.host().map(str::to_owned))
    }

    fn found_database(
        &self,
        what: &str,
        deadline: Deadline,
        find: &dyn Fn(Deadline) -> Outcome<Database>,
    ) -> Result<Database> {
        let line = self.found(what, deadline, &|deadline| {
            Ok(find(deadline).map_err(api::Failure::into_error)?.to_line())
        })?;
        Database::from_line(&line).ok_or_else(|| Error::failed("the cache holds no database"))
    }

    fn user_name(&self, deadline: Deadline) -> Result<String> {
        self.found(ROLE, deadline, &|deadline| {
            self.with_bearer(deadline, lakebase::user_name).map_err(api::Failure::into_error)
        })
    }

    /// Something that is found out by asking, and believed for a day.
    fn found(
        &self,
        what: &str,
        deadline: Deadline,
        find: &dyn Fn(Deadline) -> Result<String>,
    ) -> Result<String> {
        let fetch = |deadline, _: Option<&Held<'_>>| {
            let secret = Secret::new(find(deadline)?);
            let issued = self.world.now();
            let expires = Some(issued.plus(DAY));
            Ok(Token { secret, issued, expires, lifetime: DAY, subject: None })
        };
        let slot = self.cache.slot(&["found", what]);
        let token = self.cached(&slot, Freshness::Used { refused: None }, deadline, &fetch)?;
        Ok(token.secret.expose().to_owned())
    }

    /// Asks with a bearer, and once more with a new one where the workspace refuses the token.
    fn with_bearer<T>(
        &self,
        deadline: Deadline,
        ask: impl Fn(&Api<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        if self.plan.offline {
            return Err(api::Failure::Other(offline()));
        }
        let api = |token: &Token| {
            ask(&Api {
                client: &self.client,
                url: &self.plan.url,
                workspace_id: self.plan.workspace_id.as_deref(),
                token: &token.secret,
                subject: token.subject.as_deref(),
                deadline,
            })
        };
        let token = self.workspace_token(Freshness::Used { refused: None }, deadline)?;
        match api(&token) {
            Err(api::Failure::Refused(no)) if no.is_about_token() => {
                let source = self.plan.source;
                if !source.renews {
                    let origin = source.secret.map(|id| self.plan.settings.origin(id));
                    return Err(api::Failure::Other(no.into_error().hint(format!(
                        "a new personal access token in {}",
                        origin.unwrap_or_default()
                    ))));
                }
                let refused = Freshness::Used { refused: Some(&token.secret) };
                api(&self.workspace_token(refused, deadline)?)
            }
            outcome => outcome,
        }
    }

    /// The table at the head of this file.
    fn cached(
        &self,
        slot: &Slot<'_>,
        freshness: Freshness<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_>,
    ) -> Result<Token> {
        let seen = slot.look();
        match seen.token.as_ref().map(|token| (self.band(&freshness, token), token)) {
            Some((Band::Fresh, token)) => Ok(token.clone()),
            Some((Band::Soft, token)) => {
                Ok(self.refresh_early(slot, &seen, &freshness, deadline, fetch, token))
            }
            _ => self.fetch_now(slot, seen, &freshness, deadline, fetch),
        }
    }

    fn band(&self, freshness: &Freshness<'_>, token: &Token) -> Band {
        freshness.band(token, self.world.now(), self.began)
    }

    fn fresh<'s>(&self, seen: &'s Seen, freshness: &Freshness<'_>) -> Option<&'s Token> {
        seen.token.as_ref().filter(|token| self.band(freshness, token) == Band::Fresh)
    }

    /// Soft to hard: nobody has to wait, so only the first one tries.
    fn refresh_early(
        &self,
        slot: &Slot<'_>,
        seen: &Seen,
        freshness: &Freshness<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_>,
        old: &Token,
    ) -> Token {
        let alone = self.refusal(seen).is_some() || self.in_trouble(seen);
        if self.plan.offline || alone {
            return old.clone();
        }
        let Some(mut lock) = slot.lock_file() else { return old.clone() };
        let Ok(Some(held)) = Held::take(&mut lock) else { return old.clone() };
        let seen = slot.look();
        if let Some(token) = self.fresh(&seen, freshness) {
            return token.clone();
        }
        match fetch(deadline.at_most(SOFT_WAIT), Some(&held)) {
            Ok(token) => self.keep(slot, token),
            Err(error) => {
                self.world.note(&format!("the cached one is used, since {error}"));
                self.remember(slot, seen, error);
                old.clone()
            }
        }
    }

    /// Less than hard: somebody has to fetch, and everybody else waits for it.
    fn fetch_now(
        &self,
        slot: &Slot<'_>,
        mut seen: Seen,
        freshness: &Freshness<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_>,
    ) -> Result<Token> {
        if self.plan.offline {
            return self.stand_in(seen.token, freshness, offline());
        }
        let mut lock = slot.lock_file();
        let mut pause = Duration::from_millis(2);
        let held = loop {
            if let Some(refusal) = self.refusal(&seen) {
                return Err(refusal);
            }
            // Without a lock file there is no cache either, so each fetches for itself.
            let Some(lock) = lock.as_mut() else { break None };
            let held = match Held::take(lock) {
                Ok(held) => held,
                Err(_) => break None,
            };
            // It may have been stored between the look and the lock.
            seen = slot.look();
            if let Some(token) = self.fresh(&seen, freshness) {
                return Ok(token.clone());
            }
            if held.is_some() {
                break held;
            }
            if deadline.passed() {
                let waiting = Error::unavailable("another lakebase-token is still fetching it")
                    .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT");
                return self.stand_in(seen.token, freshness, waiting);
            }
            self.world.sleep(self.world.jittered(pause), deadline);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        if let Some(refusal) = self.refusal(&seen) {
            return Err(refusal);
        }
        match fetch(deadline, held.as_ref()) {
            Ok(token) => Ok(self.keep(slot, token)),
            Err(error) => {
                let old = seen.token.clone();
                self.remember(slot, seen, error.clone());
                self.stand_in(old, freshness, error)
            }
        }
    }

    /// The old one for a passing reason, with a note; else the error.
    fn stand_in(
        &self,
        old: Option<Token>,
        freshness: &Freshness<'_>,
        error: Error,
    ) -> Result<Token> {
        match old.filter(|old| freshness.tolerates(old, self.world.now())) {
            Some(old) if error.kind == Kind::Unavailable => {
                self.world.note(&format!("the cached one is used, since {error}"));
                Ok(old)
            }
            _ => Err(error),
        }
    }

    fn keep(&self, slot: &Slot<'_>, token: Token) -> Token {
        slot.store(&Seen { token: Some(token.clone()), failure: None });
        token
    }

    fn remember(&self, slot: &Slot<'_>, seen: Seen, error: Error) {
        if matches!(error.kind, Kind::Login | Kind::Denied | Kind::Unavailable) {
            let failure = Some(Failure { at: self.world.now(), error });
            slot.store(&Seen { token: seen.token, failure });
        }
    }

    /// A "no" that still counts; under `--refresh` only one that came after this call began.
    fn refusal(&self, seen: &Seen) -> Option<Error> {
        let Failure { at, error } = seen.failure.as_ref()?;
        let counts = matches!(error.kind, Kind::Login | Kind::Denied)
            && self.world.now().since(*at) < REFUSAL
            && (!self.plan.refresh || *at > self.began);
        counts.then(|| error.clone())
    }

    /// Whether the last try failed for a passing reason, a moment ago.
    fn in_trouble(&self, seen: &Seen) -> bool {
        let failure = seen.failure.as_ref();
        failure.is_some_and(|failure| self.world.now().since(failure.at) < TROUBLE)
    }
}

/// The cached role's key among the found things.
const ROLE: &str = "role";

fn offline() -> Error {
    Error::unavailable("nothing usable is cached, and --offline forbids asking")
        .hint("leave out --offline")
}
