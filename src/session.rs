//! The way from a plan to a credential.
//!
//! A database credential is minted with a workspace token, and both come from the cache while they
//! are fresh (`cache/policy.rs`). The endpoint, the host and the role are cached for a day if they had
//! to be requested. Locks are taken in one order: database credential, resolved texts, workspace
//! token or management token, texts that a provider resolves (token endpoint, tenant).
//!
//! The workspace token and the requests with it are in `session/workspace.rs`.

use std::cell::{Cell, OnceCell, RefCell};
use std::time::Duration;

use serde_json::Value;

use crate::cache::entry::{Cacheable, CachedText, OptionalToken};
use crate::cache::policy::{CacheRequest, Fetch, FetchCall, Need, Policy};
use crate::cache::store::{CacheFolder, CacheInputs, Slot};
use crate::config::table::Id;
use crate::config::value::scopes;
use crate::credential::connection::{Connection, Credential, Purpose, Tls};
use crate::credential::destination::is_loopback;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::API_VERSIONS;
use crate::lakebase::alternatives::Alternatives;
use crate::lakebase::credentials::{self, MintTarget};
use crate::lakebase::resolve::DatabaseSelector;
use crate::lakebase::workspace_api::{self};
use crate::login::store::ROTATION_GRACE_MS;
use crate::net::http::Client;
use crate::net::refusal::{CallError, Outcome};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::log::{self, Level};
use crate::platform::process::keep_memory_private;
use crate::platform::time::{DAY, Deadline};

mod cached_state;
mod database_host;
mod workspace;

/// The cache key of a text that a provider resolves. The prefix separates it from ours, which may have the
/// same name.
fn provider_key(what: &str) -> String {
    format!("provider\0{what}")
}

/// The name of the cached role.
const ROLE: &str = "role";

/// One call: the plan, the cache and the client that carry it out.
pub struct Session<'a> {
    plan: &'a Plan,
    policy: Policy<'a>,
    client: Client<'a>,
    cache: CacheFolder<'a>,
    /// The workspace's URL, if a provider had to resolve it.
    resolved_url: OnceCell<String>,
    /// See `ProviderCall::tool_answer`.
    tool_answer: OnceCell<Value>,
    /// How long a fetch inside the present one may wait for another process that is busy.
    lock_wait: Cell<Duration>,
    /// The subject of the last workspace token of this call.
    subject: RefCell<Option<String>>,
}

/// An answer, and the subject of the token that it was requested with.
struct Answered<T> {
    answer: T,
    subject: Option<String>,
}

/// What a caller needs in addition to the token.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionParts {
    pub user: bool,
    /// Host, port and database.
    pub host: bool,
}

impl<'a> Session<'a> {
    pub fn new(plan: &'a Plan, context: &'a Context) -> Session<'a> {
        let provider = plan.provider;
        let cache = cache_of(plan, context);
        let policy = Policy {
            context,
            began: context.now(),
            refresh: plan.refresh,
            offline: plan.offline,
            login_can_change: provider.login_can_change,
            blocking_run: provider.blocking_run,
            uses_cached_failures: plan.wait.is_none(),
        };
        let client = Client::new(context, provider.name);
        Session {
            plan,
            policy,
            client,
            cache,
            resolved_url: OnceCell::new(),
            tool_answer: OnceCell::new(),
            lock_wait: Cell::new(Duration::MAX),
            subject: RefCell::default(),
        }
    }

    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    pub fn context(&self) -> &'a Context {
        self.policy.context
    }

    /// The credential, with the parts of the connection that the caller needs.
    pub fn credential(&self, parts: ConnectionParts, deadline: Deadline) -> Result<Credential> {
        let plan = self.plan;
        plan.check_names(parts.user, parts.host)?;
        let mut token = match plan.purpose {
            Purpose::Database => self.database_credential(deadline)?,
            Purpose::Workspace => self.workspace_token(self.printed(), deadline)?,
        };
        let mut connection = self.connection(parts, deadline)?;

        // During the requests for the connection, another person may have logged in, or the machine slept.
        let is_outdated = || self.is_of_another(&token) || token.left(self.context().now()) <= 0;
        if plan.purpose == Purpose::Database && is_outdated() {
            self.database_slot().evict();
            token = self.database_credential(deadline)?;
            connection = self.connection(parts, deadline)?;
        }
        if plan.is_rotating_token() {
            // Another process may just have replaced this token. It is guaranteed to work for the grace
            // period only.
            let certain_until = self.policy.context.now().plus(ROTATION_GRACE_MS);
            token.expires = token.expires.map(|expires| expires.min(certain_until));
        }

        if plan.settings.is_on(Id::Verbose) {
            self.policy.context.note(&self.cache_words());
        }

        let workspace = match plan.purpose {
            Purpose::Workspace => self.url(deadline)?,
            Purpose::Database => plan.url().to_owned(),
        };
        let (purpose, api_version) = (plan.purpose, API_VERSIONS[0]);
        Ok(Credential { purpose, token, workspace, connection, api_version })
    }

    /// Where to connect to, and as whom.
    pub fn connection(&self, parts: ConnectionParts, deadline: Deadline) -> Result<Connection> {
        let plan = self.plan;
        let is_database = plan.purpose == Purpose::Database;
        let (user, host) = (parts.user && is_database, parts.host && is_database);
        let user = user.then(|| self.user_name(deadline)).transpose()?;
        let host = host.then(|| self.host(deadline)).transpose()?;
        let tls = host.as_ref().map(|host| plan.tls.towards(host, self.policy.context));
        Ok(Connection {
            user,
            port: plan.port,
            database: host.is_some().then(|| plan.database().to_owned()),
            host,
            tls: tls.unwrap_or_else(Tls::encrypted),
        })
    }

    /// Whether what is printed must be minted from now on, as with `--refresh`.
    pub fn set_refresh(&mut self, refresh: bool) {
        self.policy.refresh = refresh;
    }

    /// Discards the resolved database.
    pub fn evict_resolved(&self) {
        self.text_slot(&self.location_key()).evict();
        self.text_slot(&self.selector_key()).evict();
    }

    /// Evicts everything that is cached for this identity.
    pub fn evict_all(&self) {
        self.cache.evict_all_but(None);
    }

    fn printed(&self) -> Need<'static> {
        Need::Printed { min_ttl: self.plan.min_ttl }
    }

    fn database_slot(&self) -> Slot<'_, Token> {
        let ttl = self.plan.ttl.map_or(String::new(), |ttl| ttl.to_string());
        let tables = self.plan.tables.join(",");
        self.cache.slot(&["database", &self.selector_key(), &ttl, &tables])
    }

    fn workspace_slot(&self) -> Slot<'_, Token> {
        self.cache.slot(&["workspace"])
    }

    fn management_slot(&self) -> Slot<'_, OptionalToken> {
        self.cache.slot(&["workspace", "management"])
    }

    fn text_slot(&self, what: &str) -> Slot<'_, CachedText> {
        self.cache.slot(&["resolved", what])
    }

    fn selector_key(&self) -> String {
        let kind = match &self.plan.selector {
            DatabaseSelector::Named(database) => database.kind(),
            DatabaseSelector::Host(_) => "host",
            DatabaseSelector::Parent(_) | DatabaseSelector::Only => "endpoint",
        };
        format!("{kind} {}", self.plan.selector.name())
    }

    fn location_key(&self) -> String {
        let selector = self.selector_key();
        match self.plan.named_host() {
            Some(host) if self.plan.pooled => format!("pooled host for {host} of {selector}"),
            None if self.plan.pooled => format!("pooled host of {selector}"),
            _ => format!("host of {selector}"),
        }
    }

    fn database_credential(&self, deadline: Deadline) -> Result<Token> {
        let fetch = |call: &FetchCall<'_>| self.mint(call.deadline);
        let slot = self.database_slot();
        let token = self.get(&slot, self.printed(), deadline, &fetch)?;

        // The former person's entries may have been evicted just before this one was stored.
        if token.issued >= self.policy.began && self.is_of_another(&token) {
            slot.evict();
        }
        Ok(token)
    }

    /// Whether the last workspace token, cached or used in this call, is another person's than this. A token from
    /// before the clock was set back cannot be read from the cache.
    fn is_of_another(&self, cached: &impl Cacheable) -> bool {
        let Some(subject) = cached.subject().filter(|_| self.plan.provider.login_can_change) else {
            return false;
        };
        let stored = self.workspace_slot().load().and_then(|token| token.subject);
        let used = self.subject.borrow();
        [stored.as_deref(), used.as_deref()].into_iter().flatten().any(|last| last != subject)
    }

    /// Gets a value by [`Policy::get`]. Redacts our secrets in an error, and says where the name of an
    /// unreachable workspace comes from.
    fn get<T: Cacheable>(
        &self,
        slot: &Slot<'_, T>,
        need: Need<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_, T>,
    ) -> Result<T> {
        let lock_wait = self.lock_wait.get();
        let fetch_redacted = |call: &FetchCall<'_>| {
            // From here on, this process holds more than what is printed.
            keep_memory_private();
            self.lock_wait.set(call.lock_wait);
            let fetched = fetch(call);
            self.lock_wait.set(lock_wait);
            fetched.map_err(|error| {
                let secrets = self.plan.settings.secrets();
                secrets.fold(self.with_origins(error), |error, secret| error.redacted(secret))
            })
        };
        let fetch = &fetch_redacted;
        self.policy.get(&CacheRequest { slot, need, fetch, deadline, lock_wait })
    }

    /// Says which setting may be wrong: a secret that is none, the scopes, or the name of an unreachable
    /// workspace.
    fn with_origins(&self, error: Error) -> Error {
        let error = self.with_scopes(error);
        let is_new = !error.from_cache;
        let may_be_secret = matches!(error.kind, ErrorKind::Denied | ErrorKind::Usage);
        let reasons = self.plan.settings.unfilled_secrets().filter(|_| is_new && may_be_secret);
        let error = reasons.fold(error, |error, reason| {
            if error.because.contains(&reason) { error } else { error.because(reason) }
        });

        let host = self.plan.url().split("://").last().unwrap_or_default();
        let is_workspace = !host.is_empty() && error.unreachable.as_deref() == Some(host);
        let origin = format!("the workspace comes from {}", self.plan.settings.origin(Id::Host));
        if !is_workspace || !is_new || error.because.contains(&origin) {
            return error;
        }
        let error = error.because(origin);
        if host.contains('.') || is_loopback(host) {
            return error;
        }
        error.hint("a workspace's URL is like https://dbc-a1b2c3d4-e5f6.cloud.databricks.com")
    }

    /// For a database that is not there: those beside it that this identity sees.
    fn with_alternatives(&self, error: Error, deadline: Deadline) -> Error {
        let missing = &self.plan.selector;
        match self.with_bearer(deadline, |api| Alternatives::of(api, missing)) {
            Ok(Answered { answer: found, .. }) => {
                let is_temporary = found.in_existing_project;
                Error { is_temporary, ..found.explain(error, missing) }
            }
            Err(_) => error,
        }
    }

    fn mint(&self, deadline: Deadline) -> Result<Token> {
        let database = self.database(deadline)?;
        let minted = match self.mint_for(&database, deadline) {
            Err(CallError::Refused(refusal)) if refusal.status == 404 && !self.is_named() => {
                // What was resolved a while ago is gone: resolve it again, once.
                self.evict_resolved();
                let again = self.database(deadline)?;
                if again == database {
                    return Err(refusal.into_error());
                }
                self.mint_for(&again, deadline)
            }
            minted => minted,
        };
        minted.map_err(|failure| self.not_found(failure, deadline))
    }

    /// The error for a failure that may be about the name of the database.
    fn not_found(&self, failure: CallError, deadline: Deadline) -> Error {
        let is_missing = failure.is_missing();
        let error = self.explained(failure).into_error();
        let names_project = self.plan.selector.name().starts_with("projects/");
        if is_missing && (names_project || self.plan.selector.is_instance()) {
            self.with_alternatives(error, deadline)
        } else {
            error
        }
    }

    fn is_named(&self) -> bool {
        matches!(self.plan.selector, DatabaseSelector::Named(_))
    }

    fn mint_for(&self, database: &MintTarget, deadline: Deadline) -> Outcome<Token> {
        let minted = self.with_bearer(deadline, |api| {
            let Plan { ttl, tables, .. } = self.plan;
            credentials::mint(api, database, *ttl, tables, self.policy.context)
        })?;
        let is_known = |secret: &Secret| *secret == minted.answer.secret;
        if self.plan.settings.secrets().any(is_known) {
            let error = Error::failed("the workspace returned a configured secret");
            return Err(error.because("that is not a database credential").into());
        }
        // The subject of the workspace token: the credential itself names none.
        let token = Token { subject: minted.subject, ..minted.answer };
        self.log(&format!("minted for {}", database.name()), &token);
        Ok(token)
    }

    fn log(&self, what: &str, token: &Token) {
        log::event(self.policy.context, Level::Info, &format!("{what}: {token}"));
    }

    /// Says where the name of a missing database came from, or which right is missing.
    fn explained(&self, failure: CallError) -> CallError {
        let failure = failure.with_missing_right("CAN USE on the project or instance");
        match (failure, self.plan.selector_origin) {
            (CallError::Refused(refusal), Some(id)) if refusal.status == 404 => {
                let origin = self.plan.settings.origin(id);
                let words = format!("{} comes from {origin}", self.plan.selector.name());
                CallError::Other(refusal.into_error().because(words))
            }
            (failure, _) => failure,
        }
    }

    /// The role to connect as.
    pub fn user_name(&self, deadline: Deadline) -> Result<String> {
        if let Some(user) = self.plan.user() {
            return Ok(user.to_owned());
        }
        self.cached_text(ROLE, deadline, &|deadline| match self
            .with_bearer(deadline, workspace_api::user_name)
        {
            Err(failure) if failure.is_forbidden() => self.subject_as_role(failure, deadline),
            asked => asked.map_err(CallError::into_error),
        })
    }

    /// A text that a request returns, cached for a day for the subject that requested it.
    fn cached_text(
        &self,
        what: &str,
        deadline: Deadline,
        ask: &dyn Fn(Deadline) -> Result<Answered<String>>,
    ) -> Result<String> {
        let fetch = |call: &FetchCall<'_>| {
            let Answered { answer, subject } = ask(call.deadline)?;
            let issued = self.policy.context.now();
            Ok(CachedText { text: answer, issued, expires: issued.plus(DAY), subject })
        };
        let slot = self.text_slot(what);
        let need = Need::Used { refused: None };
        let mut cached = self.get(&slot, need, deadline, &fetch)?;
        if self.is_of_another(&cached) {
            slot.evict();
            cached = self.get(&slot, need, deadline, &fetch)?;
        }
        Ok(cached.text)
    }
}

/// The folder of this identity's entries, named by all that decides which credential it gets.
fn cache_of<'a>(plan: &'a Plan, context: &'a Context) -> CacheFolder<'a> {
    let provider = plan.provider;
    let settings = &plan.settings;
    let text = |id| settings.text(id).unwrap_or_default();
    let identity = (provider.identity)(settings, context);
    let secret = provider.secret.and_then(|id| settings.secret(id)).cloned();

    let scopes = settings.text(Id::Scopes).map(|list| scopes(Some(list)).join(" "));
    let parts = [
        plan.url(),
        plan.workspace_id().unwrap_or_default(),
        text(Id::AccountId),
        provider.name,
        &identity,
        scopes.as_deref().unwrap_or_default(),
        text(Id::GroupId),
        text(Id::DiscoveryUrl),
    ];
    let inputs = CacheInputs {
        context,
        folder: plan.cache.folder(),
        secret: secret.or_else(|| (provider.identity_token)(settings, context)),
        settings,
        login_files: provider.login_files,
        route_variables: provider.route_variables,
    };
    CacheFolder::new(&parts, inputs)
}
