//! `status`: shows which identity and database would be used, where each setting came from and what
//! is cached.
//!
//! It makes no network request and shows no secret. The exit code tells scripts the same: 0 if a
//! credential can be requested, 2 if configuration is missing or wrong, 3 if a person must log in.

mod text;

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::chain;
use crate::auth::chain::ProviderChoice;
use crate::cache::freshness::Freshness;
use crate::commands::command::{Call, Command, DATABASE_FLAGS, ROW, has_foreign_password};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::connection::Purpose;
use crate::credential::redact::{printable, redact};
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::resolve::DatabaseSelector;
use crate::login::rotating_pat;
use crate::login::store::{Login, RenewWith};
use crate::plan::{CacheLocation, Plan};
use crate::platform::context::Context;
use crate::platform::time::{Timestamp, show_duration};
use crate::session::Session;

pub const COMMAND: Command = Command {
    name: "status",
    about: "show the settings, where they come from, and what is cached",
    more: "Shows what is wrong first, then workspace, identity, database and cache. -v shows every \
           setting with its origin, and why each auth type was or was not chosen. Makes no network \
           request and shows no secret. --format is text or json.",
    flags: &[Id::For, Id::Format],
    common: DATABASE_FLAGS,
    exit_codes: "exit codes: 0 a credential can be requested, 2 configuration is missing or wrong,\n\
            3 login required",
    run,
    prints_report: true,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    call.note_misspelled_variables();
    let json = is_json(COMMAND.name, call.flags)?;
    let report = StatusReport::of(&call);

    let text = if json {
        format!("{}\n", report.json())
    } else if call.has_flag(Id::Verbose) {
        printable(&report.long_text())
    } else {
        printable(&report.short_text(call.context.now()))
    };
    call.print(&text)?;
    Ok(match &report.error {
        None => 0,
        Some(error) if error.kind == ErrorKind::Login => 3,
        Some(_) => 2,
    })
}

/// Whether `--format` asks for a report in JSON.
pub fn is_json(command: &str, flags: &[(Id, String)]) -> Result<bool> {
    match flags.iter().find(|(id, _)| *id == Id::Format).map(|(_, text)| text.as_str()) {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Error::usage(format!("{command} has no format {}", redact(other)))
            .hint("--format text, or --format json")),
    }
}

/// Everything that can be known without a request.
#[derive(Default)]
struct StatusReport {
    settings: Map<String, Value>,
    /// Variables that have no effect beside `--profile`.
    ignored: Vec<&'static str>,
    host: Option<String>,
    profile: Option<String>,
    workspace_id: Option<String>,
    /// `endpoint` or `instance`, and its name.
    database: Option<(&'static str, String)>,
    connection: [(&'static str, Option<String>); 4],
    /// How the Postgres server must prove who it is.
    sslmode: Option<String>,
    cache: Option<String>,
    /// Why nothing can be cached.
    cache_problem: Option<String>,
    cached: Vec<Cached>,
    login: Option<LoginState>,
    providers: Vec<ProviderChoice>,
    /// Whether the chosen auth type has what it needs.
    has_identity: bool,
    /// Whether the login is one that lakebase-token keeps.
    is_stored_login: bool,
    /// Whether an inherited password would be used in the place of ours.
    has_foreign_password: bool,
    /// Whether psql is installed, so that the next step can name it.
    has_psql: bool,
    error: Option<Error>,
}

struct LoginState {
    who: String,
    until: Option<Timestamp>,
    /// How the login is renewed.
    then: Option<String>,
}

struct Cached {
    purpose: Purpose,
    /// Nothing if it has expired.
    freshness: Option<Freshness>,
    issued: Timestamp,
    expires: Option<Timestamp>,
}

impl Cached {
    /// The `state` in JSON, which scripts read.
    fn state(&self) -> &'static str {
        match self.freshness {
            Some(Freshness::Fresh) => "fresh",
            Some(Freshness::RefreshEarly) => "soft",
            Some(Freshness::MustRefresh) => "stale",
            None => "expired",
        }
    }

    fn words(&self) -> &'static str {
        match self.freshness {
            Some(Freshness::Fresh) => "fresh",
            Some(Freshness::RefreshEarly) => "due for an early refresh",
            Some(Freshness::MustRefresh) => "must be refreshed",
            None => "expired",
        }
    }
}

impl StatusReport {
    fn of(call: &Call<'_>) -> StatusReport {
        let mut report = StatusReport {
            connection: ["host", "port", "database", "user"].map(|name| (name, None)),
            ..StatusReport::default()
        };
        let (settings, error) = Settings::resolve_partially(call.flags, call.context);
        report.note_settings(&settings);
        report.has_foreign_password = has_foreign_password(call.context);
        report.has_psql = call.context.find_program("psql").is_some();
        if let Some(error) = error {
            return StatusReport { error: Some(error), ..report };
        }

        report.providers = chain::explain(&settings, call.context);
        match Plan::new(settings, call.context) {
            Ok(plan) => match (plan.provider.missing)(&plan.settings, call.context) {
                None => report.note_plan(&plan, call),
                missing => report.error = missing,
            },
            Err(error) => report.error = Some(error),
        }
        report
    }

    fn note_settings(&mut self, settings: &Settings) {
        for (row, text, origin) in settings.shown() {
            let value = json!({ "value": redact(text), "origin": origin.to_string() });
            self.settings.insert(row.name.to_owned(), value);
        }
        self.ignored.clone_from(&settings.ignored);
        self.host = settings.text(Id::Host).map(redact);
        self.profile = settings.profile.as_ref().map(|(name, _)| name.clone());
        self.workspace_id = settings.workspace_id().map(str::to_owned);

        let ids = [Id::PgHost, Id::PgPort, Id::PgDatabase, Id::PgUser];
        for ((_, value), id) in self.connection.iter_mut().zip(ids) {
            *value = settings.text(id).map(redact);
        }
    }

    fn note_plan(&mut self, plan: &Plan, call: &Call<'_>) {
        self.has_identity = true;
        self.is_stored_login = plan.provider.stored_login;
        let session = Session::new(plan, call.context);
        let now = call.context.now();
        self.cache = match &plan.cache {
            CacheLocation::Folder(folder) => Some(folder.display().to_string()),
            CacheLocation::Off => Some("off".to_owned()),
            CacheLocation::Nowhere(_) => None,
        };
        self.cache_problem = session.cache_problem();
        self.note_database(plan, &session, call.context);

        let tokens = session.peek();
        self.note_login_failure(&session, &tokens, now);
        if plan.provider.stored_login
            && let Some(login) = plan.settings.login(call.context)
        {
            self.note_login(login, now);
        }
        for (purpose, token) in tokens {
            if let Some(token) = token {
                self.note_cached(purpose, &token, now);
            }
        }
    }

    fn note_database(&mut self, plan: &Plan, session: &Session<'_>, context: &Context) {
        let (resolved, role) = session.peek_resolved();
        self.database = match (&resolved, &plan.selector) {
            (Some(database), _) | (None, DatabaseSelector::Named(database)) => {
                Some((database.kind(), database.name().to_owned()))
            }
            (None, DatabaseSelector::Parent(name)) => Some(("endpoint", name.clone())),
            (None, DatabaseSelector::Host(_) | DatabaseSelector::Only) => None,
        };

        let resolved_host = resolved.as_ref().and_then(|database| database.host());
        let host = plan.host().or(resolved_host);
        self.sslmode = host.map(|host| plan.tls.towards(host, context).words());
        self.connection = [
            ("host", host.map(redact)),
            ("port", Some(plan.port.to_string())),
            ("database", Some(redact(plan.database()))),
            ("user", plan.user().map(str::to_owned).or(role).map(|user| redact(&user))),
        ];
    }

    /// A cached "log in first" counts until there is a valid token again.
    fn note_login_failure(
        &mut self,
        session: &Session<'_>,
        tokens: &[(Purpose, Option<Token>)],
        now: Timestamp,
    ) {
        let is_valid = |(_, token): &(Purpose, Option<Token>)| {
            token.as_ref().is_some_and(|token| token.left(now) > 0)
        };
        if !tokens.iter().any(is_valid) {
            self.error = session.peek_failures().find(|error| error.kind == ErrorKind::Login);
        }
    }

    fn note_login(&mut self, login: &Login, now: Timestamp) {
        let then = match &login.renew_with {
            RenewWith::Refresh(Some(_)) => "renewed when it is used".to_owned(),
            RenewWith::Refresh(None) => "cannot be renewed".to_owned(),
            RenewWith::Pat(pat) => {
                if login.left(now) <= 0 {
                    self.error = Some(rotating_pat::expired_unused(login));
                }
                let max_age = Duration::from_millis(pat.max_age.max(0) as u64);
                format!("replaced when it is used after {}", show_duration(max_age))
            }
        };
        let who = redact(&login.who);
        self.login = Some(LoginState { who, until: Some(login.expires), then: Some(then) });
    }

    fn note_cached(&mut self, purpose: Purpose, token: &Token, now: Timestamp) {
        if purpose == Purpose::Workspace && self.login.is_none() {
            let who = token.subject.as_deref().map(redact);
            self.login = who.map(|who| LoginState { who, until: token.expires, then: None });
        }
        self.cached.push(Cached {
            purpose,
            freshness: Some(token.left(now))
                .filter(|left| *left > 0)
                .map(|left| Freshness::of(token.lifetime, left, 0)),
            issued: token.issued,
            expires: token.expires,
        });
    }

    fn auth_type(&self) -> Option<&'static str> {
        let chosen = self.providers.iter().find(|explained| explained.chosen);
        chosen.map(|explained| explained.provider.name)
    }

    fn json(&self) -> Value {
        json!({
            "host": self.host,
            "profile": self.profile,
            "auth_type": self.auth_type(),
            "workspace_id": self.workspace_id,
            "database": self.database_json(),
            "settings": self.settings,
            "ignored": self.ignored,
            "cached": self.cached.iter().map(Cached::json).collect::<Vec<_>>(),
            "cache": {
                "path": self.cache,
                "usable": self.cache.as_ref().is_some_and(|cache| cache != "off")
                    && self.cache_problem.is_none(),
                "reason": self.cache_problem,
            },
            "login": self.login.as_ref().map(LoginState::json),
            "providers": self.providers.iter().map(provider_json).collect::<Vec<_>>(),
            "errors": self.error.iter().map(error_json).collect::<Vec<_>>(),
        })
    }

    fn database_json(&self) -> Map<String, Value> {
        let mut database = Map::new();
        if let Some((kind, name)) = &self.database {
            database.insert((*kind).to_owned(), name.clone().into());
        }
        for (name, value) in &self.connection {
            database.insert((*name).to_owned(), value.clone().into());
        }
        database
    }
}

impl Cached {
    fn purpose_name(&self) -> &'static str {
        match self.purpose {
            Purpose::Database => "database",
            Purpose::Workspace => "workspace",
        }
    }

    fn json(&self) -> Value {
        json!({
            "for": self.purpose_name(),
            "state": self.state(),
            "issued_at": self.issued.to_string(),
            "expires_at": self.expires.map(|expires| expires.to_string()),
        })
    }
}

impl LoginState {
    fn json(&self) -> Value {
        json!({
            "who": self.who,
            "until": self.until.map(|until| until.to_string()),
            "then": self.then,
        })
    }
}

fn provider_json(explained: &ProviderChoice) -> Value {
    let ProviderChoice { provider, chosen, why } = explained;
    json!({ "auth_type": provider.to_string(), "chosen": chosen, "why": why })
}

fn error_json(error: &Error) -> Value {
    json!({ "code": error.kind as u8, "message": error.message })
}
