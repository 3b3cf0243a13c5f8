//! The text forms of `status`: twelve lines for a person, or everything under `-v`.

use super::{Cached, LoginState, StatusReport};
use crate::auth::chain::ProviderChoice;
use crate::commands::command::FOREIGN_PASSWORD;
use crate::credential::connection::Purpose;
use crate::error::Error;
use crate::platform::time::Timestamp;

/// The widest line of the short text, and the most reasons and hints of an error that it shows.
const MAX_COLUMNS: usize = 100;
const MAX_REASONS: usize = 2;

impl StatusReport {
    /// What is wrong first, then who and where, then the next step.
    pub(super) fn short_text(&self, now: Timestamp) -> String {
        let mut lines = Lines::default();
        if let Some(error) = &self.error {
            lines.add("error", &error.message);
            error
                .because
                .iter()
                .take(MAX_REASONS)
                .for_each(|reason| lines.add("  because", reason));
            error.hints.iter().take(MAX_REASONS).for_each(|hint| lines.add("  hint", hint));
        }
        if let Some(why) = &self.cache_problem {
            lines.add("warning", &format!("nothing can be cached: {why}"));
        }
        if self.has_foreign_password {
            lines.add("warning", FOREIGN_PASSWORD);
        }

        lines.add("workspace", &self.workspace_words());
        lines.add("who", &self.who_words(now));
        lines.add("database", &self.database_words());
        let role = self.value("user").unwrap_or("your own identity, not known yet");
        lines.add("role", role);
        lines.add("cached", &self.cached_words(now));
        if self.error.is_none() {
            let psql = if self.has_psql { "lakebase-token psql, or " } else { "" };
            lines.add("next", &format!("{psql}lakebase-token doctor to try a login"));
        }
        lines.cut(MAX_COLUMNS)
    }

    fn workspace_words(&self) -> String {
        let Some(host) = &self.host else { return "not known yet".to_owned() };
        let origin = self.settings.get("host").and_then(|value| value["origin"].as_str());
        let profile = self.profile.as_ref().map(|name| format!("profile {name}"));

        let from = origin.map_or(String::new(), |origin| format!(", from {origin}"));
        match profile.filter(|profile| Some(profile.as_str()) != origin) {
            Some(profile) => format!("{host}{from}, {profile}"),
            None => format!("{host}{from}"),
        }
    }

    fn who_words(&self, now: Timestamp) -> String {
        let auth_type = self.auth_type().filter(|_| self.has_identity);
        let Some(auth_type) = auth_type else { return "not configured".to_owned() };
        let Some(LoginState { who, until, .. }) = &self.login else {
            return format!("by {auth_type}, not known yet");
        };
        match until {
            Some(until) if self.is_stored_login => {
                format!("{who}, by {auth_type}, expires {}", from_now(*until, now))
            }
            _ => format!("{who}, by {auth_type}"),
        }
    }

    fn database_words(&self) -> String {
        let name = match &self.database {
            Some((kind, name)) => format!("{kind} {name}"),
            None => "not named, so the workspace's only project".to_owned(),
        };
        match self.value("host") {
            Some(host) => {
                format!("{} at {host}, {name}", self.value("database").unwrap_or_default())
            }
            None => name,
        }
    }

    fn cached_words(&self, now: Timestamp) -> String {
        let password = self.cached.iter().find(|cached| cached.purpose == Purpose::Database);
        match password {
            None => "no password yet".to_owned(),
            Some(Cached { freshness: None, .. }) => "a password that has expired".to_owned(),
            Some(Cached { expires: Some(expires), .. }) => {
                format!("a password that expires {}", from_now(*expires, now))
            }
            Some(_) => "a password".to_owned(),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let known = self.connection.iter().find(|(known, _)| *known == name)?;
        known.1.as_deref()
    }

    /// Everything that is known, for `-v`.
    pub(super) fn long_text(&self) -> String {
        let mut lines = Lines::default();
        self.identity_lines(&mut lines);
        self.database_lines(&mut lines);
        self.cache_lines(&mut lines);
        self.settings_lines(&mut lines);
        self.provider_lines(&mut lines);
        for (label, words) in self.error.iter().flat_map(Error::lines) {
            let indent = if label == "error" { "" } else { "  " };
            lines.add(&format!("{indent}{label}"), words);
        }
        lines.0
    }

    fn identity_lines(&self, lines: &mut Lines) {
        lines.add("workspace", or_unknown(&self.host));
        if let Some(profile) = &self.profile {
            lines.add("profile", profile);
        }
        lines.add("auth type", self.auth_type().unwrap_or("none"));
        if let Some(LoginState { who, until, then }) = &self.login {
            let until = until.map_or(String::new(), |until| format!(", valid until {until}"));
            let then = then.as_ref().map_or(String::new(), |then| format!("; {then}"));
            lines.add("login", &format!("{who}{until}{then}"));
        }
    }

    fn database_lines(&self, lines: &mut Lines) {
        if let Some((kind, name)) = &self.database {
            lines.add(kind, name);
        }
        let labels = ["host", "port", "database", "role"];
        for (label, (_, value)) in labels.iter().zip(&self.connection) {
            lines.add(label, or_unknown(value));
        }
        if let Some(words) = &self.sslmode {
            lines.add("sslmode", words);
        }
    }

    fn cache_lines(&self, lines: &mut Lines) {
        for cached in &self.cached {
            lines.add("cached", &cached.text());
        }
        if self.cached.is_empty() {
            lines.add("cached", "nothing");
        }
        if let Some(cache) = &self.cache {
            lines.add("cache", cache);
        }
        if let Some(why) = &self.cache_problem {
            lines.add("  unusable", why);
        }
    }

    fn settings_lines(&self, lines: &mut Lines) {
        lines.add("settings", "");
        for (name, value) in &self.settings {
            let text = value["value"].as_str().unwrap_or_default();
            let origin = value["origin"].as_str().unwrap_or_default();
            lines.add("", &format!("{name} = {text}  ({origin})"));
        }
        for name in &self.ignored {
            lines.add("", &format!("{name} is ignored, because --profile takes precedence"));
        }
    }

    fn provider_lines(&self, lines: &mut Lines) {
        if !self.providers.is_empty() {
            lines.add("auth types", "");
        }
        for ProviderChoice { provider, chosen, why } in &self.providers {
            lines.add(if *chosen { "  chosen" } else { "" }, &format!("{provider}: {why}"));
        }
    }
}

/// The lines of the text form: a label in its column, then the value.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// The lines, cut at this width.
    fn cut(&self, columns: usize) -> String {
        let cut = |line: &str| match line.char_indices().nth(columns) {
            Some(_) => line.chars().take(columns - 1).chain(['…']).collect::<String>() + "\n",
            None => format!("{line}\n"),
        };
        self.0.lines().map(cut).collect()
    }

    fn add(&mut self, label: &str, value: &str) {
        self.0.push_str(format!("{label:<12}{value}").trim_end());
        self.0.push('\n');
    }
}

fn or_unknown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("not known yet")
}

/// A moment as a person speaks of it.
fn from_now(moment: Timestamp, now: Timestamp) -> String {
    let seconds = moment.since(now) / 1000;
    match seconds {
        ..0 => "already".to_owned(),
        0..60 => format!("in {seconds} s"),
        60..7200 => format!("in {} min", seconds / 60),
        7200..172_800 => format!("in {} h", seconds / 3600),
        _ => format!("in {} days", seconds / 86400),
    }
}

impl Cached {
    fn text(&self) -> String {
        let words = self.words();
        let expiry = match self.expires {
            None => ", without a known expiry".to_owned(),
            Some(expires) if self.freshness.is_none() => format!(" at {expires}"),
            Some(expires) => format!(", valid until {expires}"),
        };
        format!("{}: {words}{expiry}", self.purpose_name())
    }
}
