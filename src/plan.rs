//! What will be done, checked before anything is: settings become a [`Plan`].
//!
//! Every refusal here is exit code 2 and costs no request. Where the two ways to name a database
//! meet, the stronger origin wins (flag, environment, profile) and a tie is an error.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result, clean};
use crate::lakebase::{Target, refuse_pooler};
use crate::settings::{Id, Origin, SETTINGS, Settings};
use crate::source::{self, Source};
use crate::time::{parse_duration, show_duration};
use crate::token::Purpose;
use crate::world::World;

/// One call, decided.
#[derive(Debug)]
pub struct Plan {
    /// Where all of it came from.
    pub settings: Settings,
    /// Where workspace tokens come from.
    pub source: &'static Source,
    /// Which token is wanted.
    pub purpose: Purpose,
    /// What to mint for.
    pub target: Target,
    /// libpq's port.
    pub port: u16,
    /// libpq's sslmode: the stricter of `require` and what was asked for.
    pub sslmode: &'static str,
    /// The lifetime to ask for, in seconds.
    pub ttl: Option<u64>,
    /// The least life of what is printed, in milliseconds.
    pub min_ttl: i64,
    /// The whole call's limit.
    pub timeout: Duration,
    /// Mint now.
    pub refresh: bool,
    /// Ask nobody.
    pub offline: bool,
    /// The cache folder.
    pub cache: Option<PathBuf>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Plan {
    /// Decides, or says what is missing or contradictory.
    pub fn new(settings: Settings, world: &World) -> Result<Plan> {
        let purpose = purpose(&settings)?;
        let source = source::choose(&settings, world)?;
        let url = settings.text(Id::Host).unwrap_or_default();
        if url.starts_with("https://accounts.") || url.starts_with("https://accounts-dod.") {
            return Err(Error::usage(format!(
                "{url} from {} is the account console, which has no databases",
                settings.origin(Id::Host)
            ))
            .hint("DATABRICKS_HOST with the URL of the workspace that the database belongs to"));
        }
        if let Some(host) = settings.text(Id::PgHost) {
            refuse_pooler(host, &settings.origin(Id::PgHost))?;
        }
        let target = match purpose {
            Purpose::Database => target(&settings)?,
            Purpose::Workspace => Target::Only,
        };
        Ok(Plan {
            ttl: ttl(&settings, purpose, &target)?,
            min_ttl: match duration(&settings, Id::MinTtl)? {
                Some(least) => least.as_millis().try_into().unwrap_or(i64::MAX),
                None => 0,
            },
            timeout: timeout(&settings)?,
            port: port(&settings)?,
            sslmode: sslmode(&settings)?,
            refresh: settings.is_on(Id::Refresh),
            offline: settings.is_on(Id::Offline),
            cache: cache(&settings, world),
            purpose,
            source,
            target,
            settings,
        })
    }

    /// The workspace's URL.
    pub fn url(&self) -> &str {
        self.settings.text(Id::Host).unwrap_or_default()
    }

    /// The routing header's value, if there is one.
    pub fn workspace_id(&self) -> Option<&str> {
        // The CLI writes the word `none` where a login has no workspace.
        self.settings.text(Id::WorkspaceId).filter(|id| *id != "none")
    }

    /// libpq's host, as far as settings tell; else it has to be found.
    pub fn host(&self) -> Option<&str> {
        // A Databricks App's LAKEBASE_ENDPOINT may hold the host.
        let app = || self.settings.text(Id::Endpoint).filter(|name| !name.contains('/'));
        self.settings.text(Id::PgHost).or_else(app)
    }

    /// libpq's user, as far as settings tell; else it is the identity's own name.
    pub fn user(&self) -> Option<&str> {
        let role = || self.source.role.and_then(|id| self.settings.text(id));
        self.settings.text(Id::PgUser).or_else(role)
    }

    /// libpq's dbname.
    pub fn database(&self) -> &str {
        self.settings.text(Id::PgDatabase).unwrap_or("databricks_postgres")
    }
}

/// Which token is wanted.
pub fn purpose(settings: &Settings) -> Result<Purpose> {
    match settings.text(Id::For) {
        None | Some("database") => Ok(Purpose::Database),
        Some("workspace") => Ok(Purpose::Workspace),
        Some(other) => Err(Error::usage(format!("--for knows no {}", clean(other)))
            .hint("--for database, or --for workspace")),
    }
}

/// What the settings name, or nothing.
pub fn target(settings: &Settings) -> Result<Target> {
    let rank = |id| {
        settings.get(id).map(|value| match value.origin {
            Origin::Flag(_) => 0,
            Origin::Env(_) => 1,
            Origin::Profile(_) | Origin::Query => 2,
        })
    };
    let (endpoint, instance) = (rank(Id::Endpoint), rank(Id::Instance));
    let named = match (endpoint, instance) {
        (Some(a), Some(b)) if a == b => {
            return Err(Error::usage("an endpoint and an instance are both named")
                .because(format!("endpoint from {}", settings.origin(Id::Endpoint)))
                .because(format!("instance from {}", settings.origin(Id::Instance)))
                .hint("name one of them: --endpoint or --instance"));
        }
        (Some(a), Some(b)) if b < a => Some(Id::Instance),
        (Some(_), _) => Some(Id::Endpoint),
        (None, Some(_)) => Some(Id::Instance),
        (None, None) => settings.get(Id::PgHost).map(|_| Id::PgHost),
    };
    let Some(id) = named else { return Ok(Target::Only) };
    let (text, origin) = (settings.text(id).unwrap_or_default(), settings.origin(id));
    match id {
        Id::Endpoint => Target::parse(text, &origin),
        Id::PgHost => Target::host(text, &origin),
        _ if text.contains(['/', '?', '#']) || text.chars().any(|c| c.is_control()) => {
            Err(Error::usage(format!("the instance from {origin} is no name: {}", clean(text))))
        }
        _ => Ok(Target::Instance(text.to_owned())),
    }
}

fn port(settings: &Settings) -> Result<u16> {
    let Some(text) = settings.text(Id::PgPort) else { return Ok(5432) };
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        let origin = settings.origin(Id::PgPort);
        Error::usage(format!("the port from {origin} is no port: {}", clean(text)))
            .hint("a number from 1 to 65535; Lakebase listens on 5432")
    })
}

/// libpq's modes from loose to strict; a token never goes over a weaker one than `require`.
fn sslmode(settings: &Settings) -> Result<&'static str> {
    const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    const REQUIRE: usize = 3;
    if settings.text(Id::PgSslRootCert) == Some("system") {
        return Ok("verify-full"); // libpq takes nothing less with it
    }
    let Some(asked) = settings.text(Id::PgSslMode) else { return Ok(MODES[REQUIRE]) };
    match MODES.iter().position(|mode| *mode == asked) {
        Some(strictness) => Ok(MODES[strictness.max(REQUIRE)]),
        None => Err(Error::usage(format!("PGSSLMODE knows no {}", clean(asked)))
            .hint("require, verify-ca or verify-full")),
    }
}

fn duration(settings: &Settings, id: Id) -> Result<Option<Duration>> {
    let Some(text) = settings.text(id) else { return Ok(None) };
    parse_duration(text).map(Some).map_err(|e| {
        let origin = settings.origin(id);
        Error::usage(format!(
            "{} from {origin} is {e}: {}",
            SETTINGS[id as usize].name,
            clean(text)
        ))
    })
}

fn ttl(settings: &Settings, purpose: Purpose, target: &Target) -> Result<Option<u64>> {
    /// What the API accepts (`service/postgres/model.go`).
    const BOUNDS: std::ops::RangeInclusive<u64> = 300..=3600;
    let asked = duration(settings, Id::Ttl)?.filter(|_| purpose == Purpose::Database);
    let Some(asked) = asked else { return Ok(None) };
    let origin = settings.origin(Id::Ttl);
    if !BOUNDS.contains(&asked.as_secs()) || asked.subsec_nanos() > 0 {
        return Err(Error::usage(format!(
            "the lifetime from {origin} is {}",
            show_duration(asked)
        ))
        .hint("5m to 1h"));
    }
    let provisioned = matches!(target, Target::Instance(_))
        || matches!(target, Target::Host(host) if host.starts_with("instance-"));
    if provisioned {
        return Err(Error::usage(format!(
            "a Provisioned instance has no choice of lifetime, but {origin} asks for one"
        ))
        .because("its credentials live an hour")
        .hint(format!("leave out {origin}")));
    }
    Ok(Some(asked.as_secs()))
}

fn timeout(settings: &Settings) -> Result<Duration> {
    let timeout = duration(settings, Id::Timeout)?.unwrap_or(Duration::from_secs(10));
    if timeout < Duration::from_millis(100) || timeout > Duration::from_secs(600) {
        let origin = settings.origin(Id::Timeout);
        return Err(Error::usage(format!("the limit from {origin} is {}", show_duration(timeout)))
            .hint("100ms to 10m"));
    }
    Ok(timeout)
}

fn cache(settings: &Settings, world: &World) -> Option<PathBuf> {
    if settings.is_on(Id::NoCache) {
        return None;
    }
    match settings.text(Id::CacheDir) {
        Some("off") => None,
        Some(path) => Some(PathBuf::from(path)),
        None => (world.cache_home)(world),
    }
}
