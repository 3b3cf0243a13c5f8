//! From settings to a [`Plan`]: what a call will do, checked before the first request.
//!
//! Every refusal here is exit code 2 and costs no request. If an endpoint and an instance are both
//! named, the one with the stronger origin counts (flag, environment, profile), and two of equal
//! origin are an error. How values are resolved is `config/resolve.rs`'s business, how a plan becomes
//! a credential `session.rs`'s. Lifetimes and intervals are checked in `plan/lifetimes.rs`, scopes
//! and read-only tables in `plan/restrictions.rs`, what a Postgres server must prove in `plan/tls.rs`.

mod lifetimes;
mod restrictions;
mod selection;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::chain;
use crate::auth::provider::Provider;
use crate::config::files::expand_home;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::connection::{Purpose, check_name};
use crate::credential::destination::in_databricks_domain;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::resolve::{DatabaseSelector, check_host};
use crate::net::http::refuse_user_info;
use crate::platform::context::{Context, NO_HOME};
use crate::platform::path_owners::{NOT_ROOTS_HOME, is_root_in_other_users_folder};
use crate::platform::time::Deadline;

use selection::{overridden_host, pooled, selector};

pub use lifetimes::{duration, out_of_bounds};
pub use tls::TlsSettings;

/// Postgres' own port, which Lakebase uses, too.
pub const DEFAULT_PORT: u16 = 5432;

/// The database that every Lakebase project and instance has.
const DEFAULT_DATABASE: &str = "databricks_postgres";

/// What one call will do.
#[derive(Debug)]
pub struct Plan {
    pub settings: Settings,
    pub provider: &'static Provider,
    pub purpose: Purpose,
    pub selector: DatabaseSelector,
    /// The setting that the selector comes from, if there is one.
    pub selector_origin: Option<Id>,
    /// Whether to connect through the endpoint's pooled host.
    pub pooled: bool,
    /// Whether the endpoint overrides PGHOST ([`overridden_host`]).
    ignores_pg_host: bool,
    pub port: u16,
    pub tls: TlsSettings,
    /// The lifetime to ask for, in seconds.
    pub ttl: Option<u64>,
    /// The tables that the credential may only read; none for a credential with all rights.
    pub tables: Vec<String>,
    /// The least life of what is printed, in milliseconds.
    pub min_ttl: i64,
    /// The check interval of `watch` and `service`.
    pub interval: Option<Duration>,
    pub timeout: Duration,
    /// How long to try to log in.
    pub wait: Option<Duration>,
    pub refresh: bool,
    pub offline: bool,
    pub cache: CacheLocation,
}

/// Where credentials are cached.
#[derive(Debug)]
pub enum CacheLocation {
    Folder(PathBuf),
    /// As the settings want it.
    Off,
    /// There is no folder for it, for this reason.
    Nowhere(&'static str),
}

impl CacheLocation {
    pub fn folder(&self) -> Option<&Path> {
        match self {
            CacheLocation::Folder(folder) => Some(folder),
            CacheLocation::Off | CacheLocation::Nowhere(_) => None,
        }
    }
}

impl Plan {
    pub fn new(settings: Settings, context: &Context) -> Result<Plan> {
        let purpose = purpose(&settings)?;
        Plan::with_purpose(purpose, settings, context)
    }

    /// The same for a target that takes only one of the two tokens.
    pub fn with_purpose(purpose: Purpose, settings: Settings, context: &Context) -> Result<Plan> {
        // After a logout, an entry can still be removed.
        let provider = if settings.is_on(Id::Remove) {
            chain::choose_if_needed(&settings, context)
        } else {
            chain::choose(&settings, context)?
        };
        check_workspace(&settings)?;
        check_urls(&settings)?;
        restrictions::check_scopes(&settings, provider)?;

        let cache = cache_place(&settings, context)?;
        check_offline(&settings, &cache)?;

        let mut plan = Plan {
            provider,
            purpose,
            selector: DatabaseSelector::Only,
            selector_origin: None,
            pooled: false,
            ignores_pg_host: false,
            port: DEFAULT_PORT,
            tls: TlsSettings::default(),
            ttl: None,
            tables: restrictions::tables(&settings, purpose)?,
            min_ttl: lifetimes::min_ttl(&settings)?,
            interval: lifetimes::interval(&settings)?,
            timeout: lifetimes::timeout(&settings)?,
            wait: lifetimes::wait(&settings, purpose == Purpose::Database)?,
            refresh: settings.is_on(Id::Refresh),
            offline: settings.is_on(Id::Offline),
            cache,
            settings,
        };
        if let Some(interval) = plan.interval {
            plan.outlive_checks(interval, context)?;
        }
        if purpose == Purpose::Database {
            plan.add_database()?;
        }
        Ok(plan)
    }

    /// What is written to a target must outlive the next two checks.
    fn outlive_checks(&mut self, interval: Duration, context: &Context) -> Result<()> {
        if self.is_rotating_token() {
            return lifetimes::check_rotation(&self.settings, interval, context);
        }
        self.min_ttl = self.min_ttl.max(lifetimes::min_life_ms(interval));
        Ok(())
    }

    /// Adds what only a database credential needs.
    fn add_database(&mut self) -> Result<()> {
        let settings = &self.settings;
        if let Some(host) = settings.text(Id::PgHost) {
            check_host(host, settings.origin(Id::PgHost))?;
        }

        (self.selector, self.selector_origin) = selector(settings)?;
        self.pooled = pooled(settings, &self.selector)?;
        let overridden =
            self.selector_origin.and_then(|id| overridden_host(settings, &self.selector, id));
        self.ttl = lifetimes::ttl(settings, &self.selector)?;
        lifetimes::check_ttl(settings, self.ttl, self.interval)?;
        self.port = port(settings)?;
        self.tls = TlsSettings::new(settings)?;
        self.ignores_pg_host = overridden.is_some();
        self.settings.ignored.extend(overridden);
        Ok(())
    }

    /// When the whole call must have ended.
    pub fn deadline(&self) -> Deadline {
        Deadline::since(self.settings.began, self.timeout)
    }

    /// Whether what is printed is a personal access token that another process may replace.
    pub fn is_rotating_token(&self) -> bool {
        self.purpose == Purpose::Workspace && self.provider.stored_login && !self.provider.cached
    }

    /// The workspace URL; "" if it must be resolved from a resource id of Azure.
    pub fn url(&self) -> &str {
        self.settings.text(Id::Host).unwrap_or_default()
    }

    /// What names the workspace in messages: its URL, or its resource id.
    pub fn workspace(&self) -> (String, &Origin) {
        let id = if self.url().is_empty() { Id::AzureResourceId } else { Id::Host };
        (redact(self.settings.text(id).unwrap_or_default()), self.settings.origin(id))
    }

    /// The value of the routing header.
    pub fn workspace_id(&self) -> Option<&str> {
        self.settings.workspace_id()
    }

    /// The Postgres host to connect to, if the settings name it; else it must be resolved.
    pub fn host(&self) -> Option<&str> {
        self.named_host().filter(|_| !self.pooled)
    }

    /// The Postgres host that the settings name.
    pub fn named_host(&self) -> Option<&str> {
        self.settings.text(Id::PgHost).filter(|_| !self.ignores_pg_host).or(match &self.selector {
            // In a Databricks App, LAKEBASE_ENDPOINT may hold the host.
            DatabaseSelector::Host(host) => Some(host),
            _ => None,
        })
    }

    /// The Postgres role, if the settings name it; else it is the identity's own name.
    pub fn user(&self) -> Option<&str> {
        let principal = || self.provider.role.and_then(|id| self.settings.text(id));
        self.settings.text(Id::PgUser).or_else(principal)
    }

    pub fn database(&self) -> &str {
        self.settings.text(Id::PgDatabase).unwrap_or(DEFAULT_DATABASE)
    }

    /// Refuses names that no format can carry, before a request is made for them.
    pub fn check_names(&self, user: bool, host: bool) -> Result<()> {
        let wanted = [(Id::PgUser, user), (Id::PgHost, host), (Id::PgDatabase, host)];
        for (id, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            if let Some(text) = self.settings.text(id) {
                check_name(self.settings.origin(id), text)?;
            }
        }
        Ok(())
    }
}

/// Refuses a host that is not a workspace.
pub fn check_workspace(settings: &Settings) -> Result<()> {
    let url = settings.text(Id::Host).unwrap_or_default();
    let origin = settings.origin(Id::Host);
    let host = url.strip_prefix("https://").unwrap_or_default();
    if (host.starts_with("ep-") || host.starts_with("instance-"))
        && host.split('.').nth(1) == Some("database")
        && in_databricks_domain(host)
    {
        return Err(Error::usage(format!(
            "{url} from {origin} is a Postgres host, not a workspace"
        ))
        .hint(format!("PGHOST={host}, and {}", other_workspace(origin))));
    }
    if !url.starts_with("https://accounts.") && !url.starts_with("https://accounts-dod.") {
        return Ok(());
    }
    Err(Error::usage(format!("{url} from {origin} is the account console, which has no databases"))
        .hint(other_workspace(origin)))
}

/// The setting that needs another value, as this user has set it.
fn other_workspace(origin: &Origin) -> String {
    match origin {
        Origin::Profile(name) => {
            format!("in profile {}: host = the URL of the workspace", redact(name))
        }
        _ => origin
            .assignment("https://WORKSPACE-URL")
            .unwrap_or("DATABRICKS_HOST=https://WORKSPACE-URL".to_owned()),
    }
}

/// Refuses passwords in URLs, because cache entries hold these URLs word for word.
fn check_urls(settings: &Settings) -> Result<()> {
    for id in [Id::DiscoveryUrl, Id::ActionsRequestUrl] {
        let Some(Ok(url)) = settings.text(id).map(str::parse) else { continue };
        refuse_user_info(&url)
            .map_err(|e| e.because(format!("it comes from {}", settings.origin(id))))?;
    }
    Ok(())
}

fn check_offline(settings: &Settings, cache: &CacheLocation) -> Result<()> {
    if !settings.is_on(Id::Offline) {
        return Ok(());
    }
    let error = match cache {
        _ if settings.is_on(Id::Refresh) => {
            Error::usage("--offline and --refresh contradict each other")
        }
        CacheLocation::Folder(_) => return Ok(()),
        CacheLocation::Off => Error::usage("--offline needs the cache, and it is off"),
        CacheLocation::Nowhere(why) => {
            Error::usage("--offline needs the cache, and there is none").because(*why)
        }
    };
    Err(error.hint("leave out --offline"))
}

fn purpose(settings: &Settings) -> Result<Purpose> {
    match settings.text(Id::For) {
        None | Some("database") => Ok(Purpose::Database),
        Some("workspace") => Ok(Purpose::Workspace),
        Some(other) => {
            Err(Error::usage(format!("--for {} is neither database nor workspace", redact(other)))
                .hint("--for database, or --for workspace"))
        }
    }
}

fn port(settings: &Settings) -> Result<u16> {
    let Some(text) = settings.text(Id::PgPort) else { return Ok(DEFAULT_PORT) };
    let port = text.parse().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    port.ok_or_else(|| {
        let origin = settings.origin(Id::PgPort);
        Error::usage(format!("{origin} is not a port: {}", redact(text)))
            .hint("a number from 1 to 65535; Lakebase listens on 5432")
    })
}

fn cache_place(settings: &Settings, context: &Context) -> Result<CacheLocation> {
    if settings.is_on(Id::NoCache) {
        return Ok(CacheLocation::Off);
    }
    let text = match settings.text(Id::CacheDir) {
        None => return Ok(usual_cache_place(context)),
        Some("off") => return Ok(CacheLocation::Off),
        Some(text) => text,
    };

    let path = expand_home(text, context)?;
    let origin = settings.origin(Id::CacheDir);
    if matches!(origin, Origin::Env(_)) && path.is_relative() {
        // It would mean another folder in each working directory.
        return Err(Error::usage(format!("{origin} is not an absolute path: {}", redact(text)))
            .hint("a path that begins with / or ~/"));
    }
    Ok(CacheLocation::Folder(path))
}

/// The folder that is used without a setting.
fn usual_cache_place(context: &Context) -> CacheLocation {
    let Some(folder) = context.cache_home() else {
        return CacheLocation::Nowhere(NO_HOME);
    };
    if !is_root_in_other_users_folder(&folder) {
        return CacheLocation::Folder(folder);
    }

    // A folder of root's there would lock the owner of the home out of it.
    context.note(&format!(
        "nothing is cached: {NOT_ROOTS_HOME}; LAKEBASE_TOKEN_CACHE names another folder"
    ));
    CacheLocation::Nowhere(NOT_ROOTS_HOME)
}
