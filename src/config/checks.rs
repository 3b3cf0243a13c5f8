//! What is checked in all settings, and made uniform, before a command sees them.

use crate::config::host_url::{WorkspaceUrl, is_id};
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS, Trim, ValueKind};
use crate::config::value::{Origin, parse_bool};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};

impl Settings {
    pub(super) fn check(&mut self) -> Result<()> {
        self.check_characters()?;
        self.check_token()?;
        self.check_types()?;
        self.check_conflict()?;
        self.split_pg_host()?;
        self.normalise_host()
    }

    /// Refuses control characters, and shows them: they are invisible where the value comes from.
    fn check_characters(&self) -> Result<()> {
        for (id, value) in &self.values {
            let row = &SETTINGS[*id as usize];
            let text = value.text.expose();
            if row.trim != Trim::Blanks || !text.contains(char::is_control) {
                continue;
            }
            let shown = if row.kind == ValueKind::Secret {
                String::new()
            } else {
                format!(": {}", redact(&text.escape_debug().to_string()))
            };
            let (name, origin) = (row.name, &value.origin);
            return Err(Error::usage(format!(
                "{name} from {origin} has a control character inside{shown}"
            ))
            .hint(format!("remove it from {origin}")));
        }
        Ok(())
    }

    /// Refuses a token that was copied with the scheme of its header.
    fn check_token(&self) -> Result<()> {
        let words = self.secret(Id::Token).and_then(|token| token.expose().split_once(' '));
        let Some((scheme, _)) = words.filter(|(first, _)| first.eq_ignore_ascii_case("bearer"))
        else {
            return Ok(());
        };
        let origin = self.origin(Id::Token);
        Err(Error::usage(format!("token from {origin} begins with the word {scheme}"))
            .hint("the token alone, without that word"))
    }

    fn check_types(&self) -> Result<()> {
        for (row, text, origin) in self.shown() {
            let wanted = match row.kind {
                ValueKind::Bool | ValueKind::Switch if parse_bool(text).is_none() => {
                    "true or false"
                }
                ValueKind::Int if text.parse::<i64>().is_err() => "a whole number",
                _ => continue,
            };
            let (name, text) = (row.name, redact(text));
            return Err(Error::usage(format!("{name} from {origin} is not {wanted}: {text}")));
        }
        Ok(())
    }

    /// Refuses several auth methods at once, unless the auth type decides.
    fn check_conflict(&self) -> Result<()> {
        let mut methods: Vec<&str> =
            self.rows().map(|row| row.method).filter(|method| !method.is_empty()).collect();
        methods.sort_unstable();
        methods.dedup();
        if methods.len() < 2 || self.get(Id::AuthType).is_some() {
            return Ok(());
        }

        let names = methods.join(" and ");
        let mut error =
            Error::usage(format!("more than one authorization method configured: {names}"));
        for method in methods {
            let members = self.shown().filter(|(row, _, _)| row.method == method);
            let members: Vec<String> =
                members.map(|(row, _, origin)| format!("{} from {origin}", row.name)).collect();
            error = error.because(format!("{method}: {}", members.join(", ")));
        }
        Err(error.hint("choose with --auth-type or DATABRICKS_AUTH_TYPE, or remove one of them"))
    }

    /// Takes a port out of the Postgres host, as in `host:5432`.
    fn split_pg_host(&mut self) -> Result<()> {
        let Some((host, port)) = self.text(Id::PgHost).and_then(host_and_port) else {
            return Ok(());
        };
        let (host, port) = (host.to_owned(), port.to_owned());
        let origin = self.origin(Id::PgHost).clone();
        if let Some(other) = self.text(Id::PgPort).filter(|other| *other != port) {
            let other_origin = self.origin(Id::PgPort);
            return Err(Error::usage(format!("{origin} has the port {port}"))
                .because(format!("the port from {other_origin} is {}", redact(other)))
                .hint(format!("{origin}={host}  # and the port in PGPORT")));
        }

        self.set(Id::PgPort, &port, origin.clone());
        if let Some((_, value)) = self.values.iter_mut().find(|(id, _)| *id == Id::PgHost) {
            value.text = Secret::new(host);
        }
        self.note_if_libpqs(&origin);
        Ok(())
    }

    fn normalise_host(&mut self) -> Result<()> {
        let Some(text) = self.text(Id::Host) else { return Ok(()) };
        let host = WorkspaceUrl::parse(text, self.origin(Id::Host))?;

        if let Some((_, value)) = self.values.iter_mut().find(|(id, _)| *id == Id::Host) {
            value.text = Secret::new(host.url);
        }
        for (id, hint) in [(Id::WorkspaceId, host.workspace_id), (Id::AccountId, host.account_id)] {
            if let Some(hint) = hint {
                self.set(id, &hint, Origin::Query);
            }
            if let Some(text) = self.text(id).filter(|text| !is_id(text)) {
                let (name, origin) = (self.name(id), self.origin(id));
                let text = redact(text);
                return Err(Error::usage(format!("{name} from {origin} is not an id: {text}")));
            }
        }
        Ok(())
    }
}

/// The parts of `host:5432`. An IPv6 address has several colons.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.split_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (is_port && !host.is_empty()).then_some((host, port))
}
