//! `status`: what would be used, where each value came from, what is cached.
//!
//! No network and no secret. The exit code tells scripts the same: 0 where a credential could be
//! asked for, 2 where configuration is missing or wrong, 3 where somebody must log in.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::auth::chain;
use crate::auth::chain::Explained;
use crate::auth::no_identity;
use crate::cache::policy::limits;
use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::resolve::DatabaseSelector;
use crate::login::rotating_pat;
use crate::login::store::{Login, RenewWith};
use crate::plan::Plan;
use crate::platform::time::{Timestamp, show_duration};
use crate::session::Session;

pub const COMMAND: Command = Command {
    name: "status",
    about: "show what would be used, and what is cached",
    more: "Asks nobody and shows no secret. Exits with 0 if a credential can be asked for, 2 if \
           configuration is missing or wrong, 3 if somebody must log in. --format is text or json.",
    flags: &[Id::For, Id::Format],
    common: COMMON,
    codes: "exit codes: 0 a credential can be asked for, 2 configuration, 3 log in first",
    run,
    prints_report: true,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let json = is_json(COMMAND.name, call.flags)?;
    let report = StatusReport::of(&call);
    let code =
        report.error.as_ref().map_or(0, |error| if error.kind == ErrorKind::Login { 3 } else { 2 });
    let text = if json { format!("{}\n", report.json()) } else { report.text() };
    call.print(&text)?;
    Ok(code)
}

/// Whether a report is for programs.
pub fn is_json(command: &str, flags: &[(Id, String)]) -> Result<bool> {
    match flags.iter().find(|(id, _)| *id == Id::Format).map(|(_, text)| text.as_str()) {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Error::usage(format!("{command} has no format {}", redact(other)))
            .hint("--format text, or --format json")),
    }
}

/// All that is known, as far as it could be known.
#[derive(Default)]
struct StatusReport {
    settings: Map<String, Value>,
    ignored: Vec<&'static str>,
    host: Option<String>,
    profile: Option<String>,
    workspace_id: Option<String>,
    named: Option<(&'static str, String)>,
    connection: [(&'static str, Option<String>); 4],
    folder: Option<String>,
    cached: Vec<Cached>,
    login: Option<LoggedIn>,
    sources: Vec<Explained>,
    error: Option<Error>,
}

/// Who is logged in, until when, and what happens then.
struct LoggedIn {
    who: String,
    until: Option<Timestamp>,
    then: Option<String>,
}

struct Cached {
    purpose: &'static str,
    state: &'static str,
    issued: Timestamp,
    expires: Option<Timestamp>,
}

impl StatusReport {
    fn of(call: &Call<'_>) -> StatusReport {
        let mut report = StatusReport {
            connection: ["host", "port", "database", "user"].map(|name| (name, None)),
            ..StatusReport::default()
        };
        let (settings, error) = Settings::resolve_what_can_be(call.flags, call.context);
        report.note_settings(&settings);
        if let Some(error) = error {
            return StatusReport { error: Some(error), ..report };
        }
        let missing = no_identity::nothing(&settings);
        report.sources = chain::explain(&settings, call.context);
        match Plan::new(settings, call.context) {
            Ok(plan) if (plan.provider.ready)(&plan.settings, call.context) => {
                report.note_plan(&plan, call);
            }
            Ok(_) => report.error = Some(missing),
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
        for (place, id) in self.connection.iter_mut().zip(ids) {
            place.1 = settings.text(id).map(redact);
        }
    }

    fn note_plan(&mut self, plan: &Plan, call: &Call<'_>) {
        let session = Session::new(plan, call.context);
        let (found, role) = session.peek_resolved();
        self.named = match (&found, &plan.selector) {
            (Some(database), _) | (None, DatabaseSelector::Named(database)) => {
                Some((database.kind(), database.name().to_owned()))
            }
            (None, DatabaseSelector::Parent(name)) => Some(("endpoint", name.clone())),
            (None, DatabaseSelector::Host(_) | DatabaseSelector::Only) => None,
        };
        let host = found.as_ref().and_then(|found| found.host().map(str::to_owned));
        self.connection = [
            ("host", plan.host().map(str::to_owned).or(host)),
            ("port", Some(plan.port.to_string())),
            ("database", Some(plan.database().to_owned())),
            ("user", plan.user().map(str::to_owned).or(role)),
        ];
        let now = call.context.now();
        self.folder = Some(match &plan.cache {
            Some(path) => path.display().to_string(),
            None => "off".to_owned(),
        });
        let tokens = session.peek();
        // A login that was found dead is told until there is a token again.
        let alive = tokens.iter().flat_map(|(_, token)| token).any(|token| token.left(now) > 0);
        let login = session.peek_failures().find(|error| error.kind == ErrorKind::Login);
        self.error = login.filter(|_| !alive);
        if plan.provider.stored_login
            && let Some(login) = plan.settings.login(call.context)
        {
            self.note_login(login, now);
        }
        for (purpose, token) in tokens {
            let Some(token) = token else { continue };
            if purpose == Purpose::Workspace && self.login.is_none() {
                let who = token.subject.as_deref().map(redact);
                self.login = who.map(|who| LoggedIn { who, until: token.expires, then: None });
            }
            self.cached.push(Cached {
                purpose: if purpose == Purpose::Database { "database" } else { "workspace" },
                state: state(&token, now),
                issued: token.issued,
                expires: token.expires,
            });
        }
    }

    fn note_login(&mut self, login: &Login, now: Timestamp) {
        let then = match &login.renew_with {
            RenewWith::Refresh(Some(_)) => "renewed when it is used".to_owned(),
            RenewWith::Refresh(None) => "it cannot be renewed".to_owned(),
            RenewWith::Pat(chain) => {
                if login.left(now) <= 0 {
                    self.error = Some(rotating_pat::lapsed(login));
                }
                let age = Duration::from_millis(chain.max_age.max(0) as u64);
                format!("replaced when it is used after {}", show_duration(age))
            }
        };
        let (who, until) = (redact(&login.who), Some(login.expires));
        self.login = Some(LoggedIn { who, until, then: Some(then) });
    }

    fn auth_type(&self) -> Option<&'static str> {
        self.sources.iter().find(|explained| explained.chosen).map(|chosen| chosen.provider.name)
    }

    fn json(&self) -> Value {
        let mut database = Map::new();
        if let Some((kind, name)) = &self.named {
            database.insert((*kind).to_owned(), name.clone().into());
        }
        for (name, value) in &self.connection {
            database.insert((*name).to_owned(), value.clone().into());
        }
        let cached: Vec<Value> = self
            .cached
            .iter()
            .map(|entry| {
                json!({
                    "for": entry.purpose,
                    "state": entry.state,
                    "issued_at": entry.issued.to_string(),
                    "expires_at": entry.expires.map(|expires| expires.to_string()),
                })
            })
            .collect();
        let errors: Vec<Value> = self
            .error
            .iter()
            .map(|error| json!({ "code": error.kind as u8, "message": error.message }))
            .collect();
        json!({
            "host": self.host,
            "profile": self.profile,
            "auth_type": self.auth_type(),
            "workspace_id": self.workspace_id,
            "database": database,
            "settings": self.settings,
            "ignored": self.ignored,
            "cached": cached,
            "login": self.login.as_ref().map(|login| json!({
                "who": login.who,
                "until": login.until.map(|until| until.to_string()),
                "then": login.then,
            })),
            "sources": self.sources.iter().map(|Explained { provider, chosen, why }| json!({
                "auth_type": provider.to_string(), "chosen": chosen, "why": why,
            })).collect::<Vec<_>>(),
            "errors": errors,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(format!("{name:<12}{value}").trim_end());
            text.push('\n');
        };
        let or_unknown =
            |value: &Option<String>| value.clone().unwrap_or("not known yet".to_owned());
        line("workspace", &or_unknown(&self.host));
        if let Some(profile) = &self.profile {
            line("profile", profile);
        }
        line("auth type", self.auth_type().unwrap_or("none"));
        if let Some(LoggedIn { who, until, then }) = &self.login {
            let until = until.map_or(String::new(), |until| format!(", until {until}"));
            let then = then.as_ref().map_or(String::new(), |then| format!("; {then}"));
            line("login", &format!("{who}{until}{then}"));
        }
        if let Some((kind, name)) = &self.named {
            line(kind, name);
        }
        for (name, value) in &self.connection {
            line(if *name == "user" { "role" } else { name }, &or_unknown(value));
        }
        for entry in &self.cached {
            let until = entry.expires.map_or("no known end".to_owned(), |e| format!("until {e}"));
            line("cached", &format!("{}: {}, {until}", entry.purpose, entry.state));
        }
        if self.cached.is_empty() {
            line("cached", "nothing");
        }
        if let Some(folder) = &self.folder {
            line("cache", folder);
        }
        line("settings", "");
        for (name, value) in &self.settings {
            let show = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
            line("", &format!("{name} = {}  ({})", show("value"), show("origin")));
        }
        for name in &self.ignored {
            line("", &format!("{name} is ignored, because --profile takes precedence"));
        }
        if !self.sources.is_empty() {
            line("auth types", "");
        }
        for Explained { provider, chosen, why } in &self.sources {
            line(if *chosen { "  chosen" } else { "" }, &format!("{provider}: {why}"));
        }
        for (label, words) in self.error.iter().flat_map(Error::lines) {
            line(
                if label == "error" { label.to_owned() } else { format!("  {label}") }.as_str(),
                words,
            );
        }
        text
    }
}

/// The name of an entry's place in the table of freshness (`freshness.rs`).
fn state(token: &Token, now: Timestamp) -> &'static str {
    let (soft, hard) = limits(token.lifetime, 0);
    match token.left(now) {
        left if left <= 0 => "expired",
        left if left > soft => "fresh",
        left if left > hard => "soft",
        _ => "stale",
    }
}
