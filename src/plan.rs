//! What will be done, checked before anything is: settings become a [`Plan`].
//!
//! Every refusal here is exit code 2 and costs no request. Where the two ways to name a database
//! meet, the stronger origin wins (flag, environment, profile) and a tie is an error.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::chain;
use crate::auth::provider::Provider;
use crate::config::resolve::{Origin, Settings, expand_home};
use crate::config::table::Id;
use crate::credential::connection::{Purpose, check_name};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::Database;
use crate::lakebase::resolve::{DatabaseSelector, check_host};
use crate::login::store::ROTATION_GRACE_MS;
use crate::login::store::RenewWith;
use crate::net::http::refuse_user_info;
use crate::platform::context::Context;
use crate::platform::time::{Deadline, MINUTE, SECOND, parse_duration, show_duration};

/// One call, decided.
#[derive(Debug)]
pub struct Plan {
    /// Where all of it came from.
    pub settings: Settings,
    /// Where workspace tokens come from.
    pub provider: &'static Provider,
    /// Which token is wanted.
    pub purpose: Purpose,
    /// What to mint for.
    pub selector: DatabaseSelector,
    /// Where that name came from, if there is one.
    pub selector_origin: Option<Id>,
    /// libpq's port.
    pub port: u16,
    /// libpq's sslmode: the stricter of `require` and what was asked for.
    pub sslmode: &'static str,
    /// The lifetime to ask for, in seconds.
    pub ttl: Option<u64>,
    /// The least life of what is printed, in milliseconds.
    pub min_ttl: i64,
    /// How often somebody looks after the place that it is written to.
    pub interval: Option<Duration>,
    /// The whole call's limit.
    pub timeout: Duration,
    /// Mint now.
    pub refresh: bool,
    /// ProviderCall nobody.
    pub offline: bool,
    /// The cache folder.
    pub cache: Option<PathBuf>,
}

impl Plan {
    /// When the whole call must have ended.
    pub fn deadline(&self) -> Deadline {
        Deadline::since(self.settings.began, self.timeout)
    }

    /// Decides, or says what is missing or contradictory.
    pub fn new(settings: Settings, context: &Context) -> Result<Plan> {
        let purpose = purpose(&settings)?;
        Plan::with_purpose(purpose, settings, context)
    }

    /// The same for what takes only one of the two tokens.
    pub fn with_purpose(purpose: Purpose, settings: Settings, context: &Context) -> Result<Plan> {
        let provider = chain::choose(&settings, context)?;
        check_workspace(&settings)?;
        check_urls(&settings)?;
        let (refresh, offline) = (settings.is_on(Id::Refresh), settings.is_on(Id::Offline));
        let cache = cache(&settings, context)?;
        if offline && (refresh || cache.is_none()) {
            let other = if refresh { "--refresh" } else { "having no cache" };
            return Err(Error::usage(format!("--offline and {other} contradict each other"))
                .hint("leave out --offline"));
        }
        let mut plan = Plan {
            ttl: None,
            min_ttl: match duration(&settings, Id::MinTtl)? {
                Some(least) => least.as_millis().try_into().unwrap_or(i64::MAX),
                None => 0,
            },
            interval: interval(&settings)?,
            timeout: timeout(&settings)?,
            port: 5432,
            sslmode: REQUIRE,
            selector: DatabaseSelector::Only,
            selector_origin: None,
            refresh,
            offline,
            cache,
            purpose,
            provider,
            settings,
        };
        if let Some(interval) = plan.interval {
            match plan.is_rotating_token() {
                true => check_grace(&plan, interval, context)?,
                false => plan.min_ttl = plan.min_ttl.max(promise(interval)),
            }
        }
        if purpose == Purpose::Database {
            let settings = &plan.settings;
            if let Some(host) = settings.text(Id::PgHost) {
                check_host(host, settings.origin(Id::PgHost))?;
            }
            (plan.selector, plan.selector_origin) = target(settings)?;
            plan.ttl = ttl(settings, &plan.selector)?;
            check_ttl(settings, plan.ttl, plan.interval)?;
            plan.port = port(settings)?;
            plan.sslmode = sslmode(settings)?;
        }
        Ok(plan)
    }

    /// Whether what is printed is a personal access token that somebody else may have replaced.
    pub fn is_rotating_token(&self) -> bool {
        self.purpose == Purpose::Workspace && self.provider.stored_login && !self.provider.cached
    }

    /// The workspace's URL.
    pub fn url(&self) -> &str {
        self.settings.text(Id::Host).unwrap_or_default()
    }

    /// What names the workspace, for people: its URL, or what a provider finds it by.
    pub fn workspace(&self) -> (String, &Origin) {
        let id = if self.url().is_empty() { Id::AzureResourceId } else { Id::Host };
        (redact(self.settings.text(id).unwrap_or_default()), self.settings.origin(id))
    }

    /// The routing header's value, if there is one.
    pub fn workspace_id(&self) -> Option<&str> {
        self.settings.workspace_id()
    }

    /// libpq's host, as far as settings tell; else it has to be found.
    pub fn host(&self) -> Option<&str> {
        self.settings.text(Id::PgHost).or(match &self.selector {
            // A Databricks App's LAKEBASE_ENDPOINT may hold the host.
            DatabaseSelector::Host(host) => Some(host),
            _ => None,
        })
    }

    /// libpq's user, as far as settings tell; else it is the identity's own name.
    pub fn user(&self) -> Option<&str> {
        let role = || self.provider.role.and_then(|id| self.settings.text(id));
        self.settings.text(Id::PgUser).or_else(role)
    }

    /// Refuses names that no format can carry before anything is spent on them.
    pub fn check_names(&self, user: bool, host: bool) -> Result<()> {
        let wanted = [(Id::PgUser, user), (Id::PgHost, host), (Id::PgDatabase, host)];
        for (id, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            if let Some(text) = self.settings.text(id) {
                check_name(self.settings.origin(id), text)?;
            }
        }
        Ok(())
    }

    /// libpq's dbname.
    pub fn database(&self) -> &str {
        self.settings.text(Id::PgDatabase).unwrap_or("databricks_postgres")
    }
}

/// Refuses what is no workspace.
pub fn check_workspace(settings: &Settings) -> Result<()> {
    let url = settings.text(Id::Host).unwrap_or_default();
    if !url.starts_with("https://accounts.") && !url.starts_with("https://accounts-dod.") {
        return Ok(());
    }
    let origin = settings.origin(Id::Host);
    Err(Error::usage(format!("{url} from {origin} is the account console, which has no databases"))
        .hint("DATABRICKS_HOST with the URL of the workspace that the database belongs to"))
}

/// Refuses passwords in what cache entries hold word for word.
fn check_urls(settings: &Settings) -> Result<()> {
    for id in [Id::DiscoveryUrl, Id::ActionsRequestUrl] {
        let Some(Ok(url)) = settings.text(id).map(str::parse) else { continue };
        refuse_user_info(&url)
            .map_err(|e| e.because(format!("it comes from {}", settings.origin(id))))?;
    }
    Ok(())
}

/// Which token is wanted.
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

/// What the settings name, and where.
fn target(settings: &Settings) -> Result<(DatabaseSelector, Option<Id>)> {
    let rank = |id| {
        settings.get(id).map(|value| match value.origin {
            Origin::Flag(_) => 0,
            Origin::Env(_) => 1,
            _ => 2,
        })
    };
    let (endpoint, instance) = (rank(Id::Endpoint), rank(Id::Instance));
    let named = match (endpoint, instance) {
        (Some(a), Some(b)) if a == b => {
            return Err(Error::usage("an endpoint and an instance are both named")
                .because(shown(settings, Id::Endpoint))
                .because(shown(settings, Id::Instance))
                .hint("unset one of them, or name the one that is meant: --endpoint, --instance"));
        }
        (Some(a), Some(b)) if b < a => Some(Id::Instance),
        (Some(_), _) => Some(Id::Endpoint),
        (None, Some(_)) => Some(Id::Instance),
        (None, None) => settings.get(Id::PgHost).map(|_| Id::PgHost),
    };
    let Some(id) = named else { return Ok((DatabaseSelector::Only, None)) };
    let (text, origin) = (settings.text(id).unwrap_or_default(), settings.origin(id));
    let target = match id {
        Id::Endpoint => DatabaseSelector::parse(text, origin)?,
        Id::PgHost => DatabaseSelector::host(text, origin)?,
        _ if text.contains(['/', '?', '#']) || text.chars().any(|c| c.is_control()) => {
            return Err(Error::usage(format!(
                "{origin} is not an instance's name: {}",
                redact(text)
            )));
        }
        _ => DatabaseSelector::Named(Database::Instance { name: text.to_owned(), host: None }),
    };
    Ok((target, Some(id)))
}

/// A setting as a reason in a message.
fn shown(settings: &Settings, id: Id) -> String {
    let text = redact(settings.text(id).unwrap_or_default());
    format!("{text} from {}", settings.origin(id))
}

fn port(settings: &Settings) -> Result<u16> {
    let Some(text) = settings.text(Id::PgPort) else { return Ok(5432) };
    let port = text.parse().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    port.ok_or_else(|| {
        let origin = settings.origin(Id::PgPort);
        Error::usage(format!("{origin} is not a port: {}", redact(text)))
            .hint("a number from 1 to 65535; Lakebase listens on 5432")
    })
}

/// The least: the password is sent in clear inside the connection.
const REQUIRE: &str = "require";

/// libpq's modes from loose to strict; a token never goes over a weaker one than `require`.
fn sslmode(settings: &Settings) -> Result<&'static str> {
    const MODES: [&str; 6] = ["disable", "allow", "prefer", REQUIRE, "verify-ca", "verify-full"];
    if settings.text(Id::PgSslRootCert) == Some("system") {
        return Ok("verify-full"); // libpq takes nothing less with it
    }
    let Some(asked) = settings.text(Id::PgSslMode) else { return Ok(REQUIRE) };
    match MODES.into_iter().position(|mode| mode == asked) {
        Some(strictness) if strictness > 3 => Ok(MODES[strictness]),
        Some(_) => Ok(REQUIRE),
        None => Err(Error::usage(format!("PGSSLMODE is not an sslmode: {}", redact(asked)))
            .hint("require, verify-ca or verify-full")),
    }
}

/// A setting that is a duration.
pub fn duration(settings: &Settings, id: Id) -> Result<Option<Duration>> {
    let Some(text) = settings.text(id) else { return Ok(None) };
    parse_duration(text).map(Some).map_err(|e| {
        let error = Error::usage(format!("{} is {e}: {}", settings.origin(id), redact(text)));
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (unit, name) = if id == Id::Interval { ("m", "minutes") } else { ("s", "seconds") };
        // The rotator looked every 50 minutes.
        let too_long = id == Id::Interval && text.parse::<u64>().is_ok_and(|minutes| minutes > 30);
        match digits {
            true if too_long => error.hint("1m to 30m; 10m without it"),
            true => error.hint(format!("{text}{unit}, if these are {name}")),
            false => error,
        }
    })
}

/// A duration outside its bounds.
pub fn out_of_bounds(settings: &Settings, id: Id, bounds: &str) -> Error {
    let text = redact(settings.text(id).unwrap_or_default());
    Error::usage(format!("{} asks for {text}; possible are {bounds}", settings.origin(id)))
}

fn ttl(settings: &Settings, target: &DatabaseSelector) -> Result<Option<u64>> {
    /// What the API accepts (`service/postgres/model.go`).
    const BOUNDS: std::ops::RangeInclusive<u64> = 300..=3600;
    let Some(asked) = duration(settings, Id::Ttl)? else { return Ok(None) };
    let origin = settings.origin(Id::Ttl);
    if !BOUNDS.contains(&asked.as_secs()) || asked.subsec_nanos() > 0 {
        return Err(out_of_bounds(settings, Id::Ttl, "5m to 1h"));
    }
    let provisioned = matches!(target, DatabaseSelector::Named(Database::Instance { .. }))
        || matches!(target, DatabaseSelector::Host(host) if host.starts_with("instance-"));
    if provisioned {
        return Err(Error::usage(format!(
            "a Provisioned instance has no choice of lifetime, but {origin} asks for one"
        ))
        .because("its credentials live an hour")
        .hint(format!("leave out {origin}")));
    }
    Ok(Some(asked.as_secs()))
}

/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_secs(60);

fn interval(settings: &Settings) -> Result<Option<Duration>> {
    let Some(interval) = duration(settings, Id::Interval)? else { return Ok(None) };
    if interval < SHORTEST || interval > Duration::from_secs(30 * 60) {
        return Err(out_of_bounds(settings, Id::Interval, "1m to 30m"));
    }
    Ok(Some(interval))
}

/// The life that must be left, in milliseconds, in what others read until the next look: enough
/// for a look that fails and one that is late.
fn promise(interval: Duration) -> i64 {
    2 * interval.as_millis() as i64 + 5 * MINUTE
}

/// A lifetime that is asked for must be able to keep the promise; the usual hour is the most.
fn check_ttl(settings: &Settings, ttl: Option<u64>, interval: Option<Duration>) -> Result<()> {
    let (Some(ttl), Some(interval)) = (ttl, interval) else { return Ok(()) };
    let least = (promise(interval) / SECOND).min(3600) as u64;
    if ttl >= least {
        return Ok(());
    }
    let (ttl, least) = (Duration::from_secs(ttl), Duration::from_secs(least));
    let every = show_duration(interval);
    // With the shortest one, or else no other helps.
    let shorter = ttl.as_millis() as i64 >= promise(SHORTEST);
    let or = if shorter { ", or a shorter --interval" } else { "" };
    Err(Error::usage(format!(
        "a credential of {} cannot be kept alive by a look every {every}",
        show_duration(ttl)
    ))
    .because(format!("the lifetime comes from {}", settings.origin(Id::Ttl)))
    .hint(format!("--ttl {} or more{or}", show_duration(least))))
}

/// A personal access token of a login is deleted ten minutes after its replacement, so whoever
/// reads it from a place must find another one before that. And the oldest that is handed out
/// must keep the promise.
fn check_grace(plan: &Plan, interval: Duration, context: &Context) -> Result<()> {
    let most = Duration::from_millis(ROTATION_GRACE_MS as u64 / 2);
    let renew_with = plan.settings.login(context).map(|login| &login.renew_with);
    let Some(RenewWith::Pat(chain)) = renew_with else { return Ok(()) };
    if chain.lifetime - chain.max_age < promise(interval) {
        let life = show_duration(Duration::from_millis(chain.lifetime as u64));
        return Err(Error::usage(format!("tokens of {life} are too short-lived for a place"))
            .hint("lakebase-token login --pat --pat-lifetime 1h, or more"));
    }
    if interval <= most {
        return Ok(());
    }
    Err(Error::usage(format!("a look every {} is too seldom here", show_duration(interval)))
        .because("tokens of `login --pat` are deleted ten minutes after they are replaced")
        .hint(format!("--interval {} or less", show_duration(most))))
}

fn timeout(settings: &Settings) -> Result<Duration> {
    let timeout = duration(settings, Id::Timeout)?.unwrap_or(Duration::from_secs(10));
    if timeout < Duration::from_millis(100) || timeout > Duration::from_secs(600) {
        return Err(out_of_bounds(settings, Id::Timeout, "100ms to 10m"));
    }
    Ok(timeout)
}

fn cache(settings: &Settings, context: &Context) -> Result<Option<PathBuf>> {
    if settings.is_on(Id::NoCache) {
        return Ok(None);
    }
    match settings.text(Id::CacheDir) {
        Some("off") => Ok(None),
        Some(text) => {
            let path = expand_home(text, context)?;
            let is_env =
                matches!(settings.get(Id::CacheDir).map(|v| &v.origin), Some(Origin::Env(_)));
            if is_env && path.is_relative() {
                // It would be another folder wherever one is.
                let origin = settings.origin(Id::CacheDir);
                return Err(Error::usage(format!(
                    "{origin} is no absolute path: {}",
                    redact(text)
                ))
                .hint("a path that begins with / or ~/"));
            }
            Ok(Some(path))
        }
        None => Ok((context.cache_home)(context)),
    }
}
