//! The pipeline: from a plan to a credential.
//!
//! A database credential is minted with a workspace token, and both come from the cache while
//! they are fresh (`freshness.rs`). What has to be found out on the way (which endpoint, which
//! host, which role) is believed for a day. Locks are taken in one order: database entry, found
//! things, workspace entry or management entry, what a source finds out (token endpoint, tenant).

use std::cell::OnceCell;

use crate::api::{self, Api, CallError, Outcome};
use crate::cache::{Cache, Slot};
use crate::destination::is_database_host;
use crate::error::{Error, Result, clean};
use crate::file::Held;
use crate::format::API_VERSIONS;
use crate::freshness::{Fetch, Freshness, Rules, Wanted, bands, offline};
use crate::http::Client;
use crate::lakebase::{self, Database, Target};
use crate::log::{self, Level};
use crate::login::pat::GRACE;
use crate::plan::Plan;
use crate::secret::Secret;
use crate::settings::{Id, Origin};
use crate::source::{Ask, azure};
use crate::time::{DAY, Deadline, HOUR};
use crate::token::{Connection, Credential, LEAST_LIFE, Purpose, Token};
use crate::world::World;

/// One call: the plan, and what it needs to be carried out.
pub struct Session<'a> {
    plan: &'a Plan,
    rules: Rules<'a>,
    client: Client<'a>,
    cache: Cache<'a>,
    /// The workspace's URL, where it had to be found.
    located: OnceCell<String>,
}

/// An answer, and on whose behalf it was asked for.
struct Asked<T> {
    answer: T,
    subject: Option<String>,
}

/// What a caller needs beside the token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// The role.
    pub user: bool,
    /// Host, port and database.
    pub host: bool,
}

impl<'a> Session<'a> {
    /// Begins a call.
    pub fn new(plan: &'a Plan, world: &'a World) -> Session<'a> {
        let source = plan.source;
        let text = |id| plan.settings.text(id).unwrap_or_default();
        let identity = (source.identity)(&plan.settings, world);
        let parts = [
            plan.url(),
            plan.workspace_id().unwrap_or_default(),
            text(Id::AccountId),
            source.name,
            &identity,
            text(Id::Scopes),
            text(Id::GroupId),
            text(Id::DiscoveryUrl),
        ];
        let secret = source.secret.and_then(|id| plan.settings.secret(id)).cloned();
        let secret = secret.or_else(|| (source.identity_token)(&plan.settings, world));
        Session {
            plan,
            rules: Rules {
                world,
                began: world.now(),
                refresh: plan.refresh,
                offline: plan.offline,
                switches: source.switches,
            },
            client: Client::new(world, source.name),
            cache: Cache::new(
                world,
                plan.cache.as_deref(),
                &parts,
                secret,
                &plan.settings,
                source.ways,
            ),
            located: OnceCell::new(),
        }
    }

    /// The credential, with what is wanted beside it.
    pub fn credential(&self, wants: Wants, deadline: Deadline) -> Result<Credential> {
        let plan = self.plan;
        plan.check_names(wants.user, wants.host)?;
        let mut token = match plan.purpose {
            Purpose::Database => self.database_credential(deadline)?,
            Purpose::Workspace => self.workspace_token(self.printed(), deadline)?,
        };
        let mut connection = self.connection(wants, deadline)?;
        // Asking for it may have shown that somebody else has logged in meanwhile.
        if plan.purpose == Purpose::Database && self.is_of_another(&token) {
            token = self.database_credential(deadline)?;
            connection = self.connection(wants, deadline)?;
        }
        if plan.is_replaced() {
            // Somebody else may have it replaced just now.
            let at_least = self.rules.world.now().plus(GRACE);
            token.expires = token.expires.map(|expires| expires.min(at_least));
        }
        Ok(Credential {
            purpose: plan.purpose,
            token,
            workspace: match plan.purpose {
                Purpose::Workspace => self.url(deadline)?,
                Purpose::Database => plan.url().to_owned(),
            },
            connection,
            api_version: API_VERSIONS[0],
        })
    }

    /// What is wanted of where to connect to and as whom.
    pub fn connection(&self, wants: Wants, deadline: Deadline) -> Result<Connection> {
        let plan = self.plan;
        let database = plan.purpose == Purpose::Database;
        let (user, host) = (wants.user && database, wants.host && database);
        Ok(Connection {
            user: user.then(|| self.user_name(deadline)).transpose()?,
            host: host.then(|| self.host(deadline)).transpose()?,
            port: plan.port,
            database: host.then(|| plan.database().to_owned()),
            sslmode: plan.sslmode,
        })
    }

    /// What is cached, without asking anybody: the credential and the workspace token.
    pub fn peek(&self) -> [(Purpose, Option<Token>); 2] {
        let database = self.database_slot().look();
        [(Purpose::Database, database), (Purpose::Workspace, self.workspace_slot().look())]
    }

    /// The last failure of each, without asking anybody.
    pub fn peek_failures(&self) -> impl Iterator<Item = Error> {
        let slots = [self.workspace_slot(), self.database_slot()];
        slots.into_iter().filter_map(|slot| slot.last_failure().map(|failure| failure.error))
    }

    /// What was looked up and is still believed, without asking anybody: database and role.
    pub fn peek_found(&self) -> (Option<Database>, Option<String>) {
        let look = |what: &str| {
            let token = self.cache.slot(&["found", what]).look()?;
            (token.left(self.rules.world.now()) > 0).then(|| token.secret.expose().to_owned())
        };
        let known = [self.location_key(), self.target_key()].iter().find_map(|key| look(key));
        (known.and_then(|line| Database::from_line(&line)), look(ROLE))
    }

    /// Drops everything that is cached for this identity.
    pub fn forget(&self) {
        self.cache.drop_all_but(None);
    }

    fn printed(&self) -> Freshness<'static> {
        Freshness::Printed { min_ttl: self.plan.min_ttl }
    }

    fn database_slot(&self) -> Slot<'_> {
        let ttl = self.plan.ttl.map_or(String::new(), |ttl| ttl.to_string());
        self.cache.slot(&["database", &self.target_key(), &ttl])
    }

    fn workspace_slot(&self) -> Slot<'_> {
        self.cache.slot(&["workspace"])
    }

    fn target_key(&self) -> String {
        let kind = match &self.plan.target {
            Target::Named(database) => database.kind(),
            Target::Host(_) => "host",
            Target::Parent(_) | Target::Only => "endpoint",
        };
        [kind, " ", self.plan.target.name()].concat()
    }

    fn location_key(&self) -> String {
        format!("host of {}", self.target_key())
    }

    fn database_credential(&self, deadline: Deadline) -> Result<Token> {
        let fetch = |deadline, _: Option<&Held<'_>>| self.mint(deadline);
        let slot = self.database_slot();
        let token = self.cached(&slot, self.printed(), deadline, &fetch)?;
        // The former one's entries may have been dropped just before this one was stored.
        if token.issued >= self.rules.began && self.is_of_another(&token) {
            slot.forget();
        }
        Ok(token)
    }

    /// Whether the last workspace token is of somebody else than this credential.
    fn is_of_another(&self, token: &Token) -> bool {
        if !self.plan.source.switches || token.subject.is_none() {
            return false;
        }
        let now = self.workspace_slot().look().and_then(|token| token.subject);
        now.is_some() && now != token.subject
    }

    /// The table of freshness, and no secret of ours in what goes wrong.
    fn cached(
        &self,
        slot: &Slot<'_>,
        freshness: Freshness<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_>,
    ) -> Result<Token> {
        let fetch = |deadline, held: Option<&Held<'_>>| {
            let secrets = self.plan.settings.secrets();
            fetch(deadline, held).map_err(|error| {
                secrets.fold(self.with_origin(error), |error, secret| error.without(secret))
            })
        };
        self.rules.cached(&Wanted { slot, freshness, fetch: &fetch, deadline })
    }

    /// Where the name of a workspace came from that cannot be reached.
    fn with_origin(&self, error: Error) -> Error {
        let origin = format!("the workspace comes from {}", self.plan.settings.origin(Id::Host));
        let told = error.remembered || error.because.contains(&origin);
        let host = self.plan.url().split("://").last().unwrap_or_default();
        let unreached = error.message.strip_prefix("cannot reach ");
        let is_workspace = |rest: &str| !host.is_empty() && rest.starts_with(host);
        match unreached.is_some_and(is_workspace) && !told {
            true => error.because(origin),
            false => error,
        }
    }

    fn workspace_token(&self, freshness: Freshness<'_>, deadline: Deadline) -> Result<Token> {
        let source = self.plan.source;
        let fetch =
            source.fetch.ok_or_else(|| Error::usage(format!("{source} gives no tokens")))?;
        let refused = matches!(freshness, Freshness::Used { refused: Some(_) });
        let least = match freshness {
            Freshness::Printed { .. } if self.plan.refresh => i64::MAX,
            Freshness::Printed { min_ttl } => bands(HOUR, min_ttl).0,
            Freshness::Used { .. } => LEAST_LIFE,
        };
        let slot = self.workspace_slot();
        let url = self.url(deadline)?;
        let ask = |deadline, held: Option<&Held<'_>>| {
            let token =
                self.asking(&url, held, deadline, |ask| fetch(&Ask { refused, least, ..*ask }))?;
            if source.switches {
                slot.drop_strangers(token.subject.as_deref());
            }
            if source.renews {
                self.log(&format!("workspace token by {}", source.name), &token);
            }
            Ok(token)
        };
        if !source.cached {
            return self.rules.uncached(&slot, deadline, &ask);
        }
        self.cached(&slot, freshness, deadline, &ask)
    }

    /// Lets a source ask.
    fn asking<T>(
        &self,
        url: &str,
        held: Option<&Held<'_>>,
        deadline: Deadline,
        ask: impl FnOnce(&Ask<'_>) -> Result<T>,
    ) -> Result<T> {
        ask(&Ask {
            settings: &self.plan.settings,
            url,
            world: self.rules.world,
            client: &self.client,
            found: &|what, find| {
                let find = |_| Ok(Asked { answer: find()?, subject: None });
                // Not among what we find ourselves: a host may be called like one of these.
                self.found(&["source", what].join("\0"), deadline, &find)
            },
            held,
            refused: false,
            least: LEAST_LIFE,
            deadline,
        })
    }

    /// The workspace's URL: configured, or found by the source from whatever else names it.
    pub fn url(&self, deadline: Deadline) -> Result<String> {
        let service = self.plan.source.azure.as_ref();
        let Some(service) = service.filter(|_| self.plan.url().is_empty()) else {
            return Ok(self.plan.url().to_owned());
        };
        if let Some(url) = self.located.get() {
            return Ok(url.clone());
        }
        let url = self.found("source\0workspace", deadline, &|deadline| {
            let answer = self.asking("", None, deadline, |ask| azure::locate(ask, service))?;
            Ok(Asked { answer, subject: None })
        })?;
        Ok(self.located.get_or_init(|| url).clone())
    }

    /// What Azure's workspaces are shown beside the bearer, under their names for it.
    fn beside(&self, url: &str, deadline: Deadline) -> Result<Vec<(&'static str, Secret)>> {
        let Some(service) = &self.plan.source.azure else { return Ok(Vec::new()) };
        let fetch = |deadline, held: Option<&Held<'_>>| {
            self.asking(url, held, deadline, |ask| azure::management_token(ask, service))
        };
        let freshness = Freshness::Used { refused: None };
        let token = self.cached(&self.management_slot(), freshness, deadline, &fetch);
        azure::beside(&self.plan.settings, service, token)
    }

    fn management_slot(&self) -> Slot<'_> {
        self.cache.slot(&["workspace", "management"])
    }

    fn mint(&self, deadline: Deadline) -> Result<Token> {
        let named = matches!(self.plan.target, Target::Named(_));
        let database = self.database(deadline)?;
        let mint = |database: &Database| {
            let asked = self.with_bearer(deadline, |api| {
                lakebase::mint(api, database, self.plan.ttl, self.rules.world)
            })?;
            // Whose it is, in the words in which the next workspace token will tell.
            let token = Token { subject: asked.subject, ..asked.answer };
            self.log(&format!("minted for {}", database.name()), &token);
            Ok(token)
        };
        match mint(&database) {
            Err(CallError::Refused(no)) if no.status == 404 && !named => {
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
        .map_err(|failure| self.blamed(failure).into_error())
    }

    fn log(&self, what: &str, token: &Token) {
        log::event(self.rules.world, Level::Info, &format!("{what}: {token}"));
    }

    /// What was not found, with where its name came from; what is not allowed, with what is missing.
    fn blamed(&self, failure: CallError) -> CallError {
        let failure = failure.wants("CAN USE on the project or instance");
        match (failure, self.plan.target_origin) {
            (CallError::Refused(no), Some(id)) if no.status == 404 => {
                let origin = self.plan.settings.origin(id);
                let words = format!("{} comes from {origin}", self.plan.target.name());
                CallError::Other(no.into_error().because(words))
            }
            (failure, _) => failure,
        }
    }

    /// What the target names.
    pub fn database(&self, deadline: Deadline) -> Result<Database> {
        if let Target::Named(database) = &self.plan.target {
            return Ok(database.clone());
        }
        let origin = self.plan.target_origin.map(|id| self.plan.settings.origin(id));
        let origin = origin.unwrap_or(&Origin::Default);
        self.found_database(&self.target_key(), deadline, &|deadline| {
            self.with_bearer(deadline, |api| lakebase::find(api, &self.plan.target, origin))
                .map_err(|failure| self.blamed(failure))
        })
    }

    /// Where libpq shall connect to.
    fn host(&self, deadline: Deadline) -> Result<String> {
        if let Some(host) = self.plan.host() {
            return Ok(host.to_owned());
        }
        let mut database = self.database(deadline)?;
        if database.host().is_none() {
            database = self.found_database(&self.location_key(), deadline, &|deadline| {
                self.with_bearer(deadline, |api| lakebase::locate(api, database.clone()))
                    .map_err(|failure| self.blamed(failure))
            })?;
        }
        let host = database.host().ok_or_else(|| Error::failed("the host is not known"))?;
        // An answer does not decide where a password goes.
        let url = self.url(deadline)?;
        if !is_database_host(host, &url) {
            return Err(Error::failed(format!(
                "the workspace names a Postgres host outside Databricks' domains: {}",
                clean(host)
            ))
            .because(format!("{} {} has it", database.kind(), clean(database.name())))
            .hint("PGHOST, or --pg-host, if you know that this host is right"));
        }
        Ok(host.to_owned())
    }

    fn found_database(
        &self,
        what: &str,
        deadline: Deadline,
        find: &dyn Fn(Deadline) -> Outcome<Asked<Database>>,
    ) -> Result<Database> {
        let line = self.found(what, deadline, &|deadline| {
            let found = find(deadline).map_err(CallError::into_error)?;
            Ok(Asked { answer: found.answer.to_line(), subject: found.subject })
        })?;
        Database::from_line(&line).ok_or_else(|| Error::failed("the cache holds no database"))
    }

    /// The role to connect as.
    fn user_name(&self, deadline: Deadline) -> Result<String> {
        if let Some(user) = self.plan.user() {
            return Ok(user.to_owned());
        }
        self.found(ROLE, deadline, &|deadline| {
            self.with_bearer(deadline, api::user_name).map_err(CallError::into_error)
        })
    }

    /// Something that is found out by asking, and believed for a day, but only of whoever it was
    /// asked by.
    fn found(
        &self,
        what: &str,
        deadline: Deadline,
        find: &dyn Fn(Deadline) -> Result<Asked<String>>,
    ) -> Result<String> {
        let fetch = |deadline, _: Option<&Held<'_>>| {
            let Asked { answer, subject } = find(deadline)?;
            let issued = self.rules.world.now();
            let (secret, expires) = (Secret::new(answer), Some(issued.plus(DAY)));
            Ok(Token { secret, issued, expires, lifetime: DAY, subject })
        };
        let slot = self.cache.slot(&["found", what]);
        let look = || self.cached(&slot, Freshness::Used { refused: None }, deadline, &fetch);
        let mut token = look()?;
        if self.is_of_another(&token) {
            slot.forget();
            token = look()?;
        }
        Ok(token.secret.expose().to_owned())
    }

    /// Asks the workspace for something else, as this identity.
    pub fn ask<T>(&self, deadline: Deadline, ask: impl Fn(&Api<'_>) -> Outcome<T>) -> Result<T> {
        let asked = self.with_bearer(deadline, ask).map_err(CallError::into_error)?;
        Ok(asked.answer)
    }

    /// Asks with a bearer, and once more with a new one where the workspace refuses the token.
    fn with_bearer<T>(
        &self,
        deadline: Deadline,
        ask: impl Fn(&Api<'_>) -> Outcome<T>,
    ) -> Outcome<Asked<T>> {
        if self.plan.offline {
            return Err(CallError::Other(offline()));
        }
        let url = self.url(deadline)?;
        let ask_with = |token: &Token| {
            let beside = self.beside(&url, deadline)?;
            let asked = ask(&Api {
                client: &self.client,
                url: &url,
                workspace_id: self.plan.workspace_id(),
                token: &token.secret,
                beside: &beside,
                deadline,
            });
            let secrets = beside.iter().map(|(_, secret)| secret).chain([&token.secret]);
            match asked {
                Ok(answer) => Ok(Asked { answer, subject: token.subject.clone() }),
                Err(failure) => Err(secrets.fold(failure, CallError::without)),
            }
        };
        let token = self.workspace_token(Freshness::Used { refused: None }, deadline)?;
        match ask_with(&token) {
            Err(CallError::Refused(no)) if no.is_about_token() => {
                let source = self.plan.source;
                if !source.renews {
                    let origin = self.plan.settings.origin(source.secret.unwrap_or(Id::Token));
                    let hint = format!("a new personal access token in {origin}");
                    return Err(CallError::Other(no.into_error().hint(hint)));
                }
                // It does not say which of them it means.
                self.management_slot().forget();
                let refused = Freshness::Used { refused: Some(&token.secret) };
                ask_with(&self.workspace_token(refused, deadline)?)
            }
            outcome => outcome,
        }
    }
}

/// The cached role's key among the found things.
const ROLE: &str = "role";
