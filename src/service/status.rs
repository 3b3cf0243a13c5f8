//! `service status`: the state of the job, and of our entry in its target.

use crate::credential::jwt::{expiry_within, holds_token};
use crate::credential::token::MIN_LIFE_MS;
use crate::error::Result;
use crate::platform::target_file::TargetFile;
use crate::service::env_file::EnvFile;
use crate::service::manage::{CONTROL_WAIT, Service, connection};
use crate::targets::target::Entry;

pub struct ServiceReport {
    /// A label, and its value.
    pub lines: Vec<(&'static str, String)>,
    /// The exit code: 0 if the service works, else that of the last run, or 1.
    pub code: u8,
}

impl Service<'_> {
    pub fn status(&self) -> Result<ServiceReport> {
        let recorded = self.installed()?;
        let control = self.control(CONTROL_WAIT);
        self.manager.check_reachable(&control)?;
        let state = self.manager.state(&control)?;

        let (entry, is_valid) = self.entry_state(&recorded);
        let timer = if state.is_scheduled { "scheduled, next check" } else { "not scheduled" };
        let target = self.recorded_target(&recorded).shown();
        let mut lines = vec![
            ("service", format!("{} ({})", self.name, self.manager.name())),
            ("timer", format!("{timer} {}", state.next_run).trim_end().to_owned()),
            ("last check", state.last_run),
            ("target", format!("{target}: {entry}")),
        ];

        let code = match &state.error {
            Some(error) => error.kind as u8,
            None => u8::from(!state.is_scheduled || !is_valid),
        };
        if let Some(error) = state.error {
            lines.extend(error.because.into_iter().map(|reason| ("because", reason)));
            lines.extend(error.hints.into_iter().map(|hint| ("hint", hint)));
        }
        Ok(ServiceReport { lines, code })
    }

    /// The state of our entry in words, and whether it holds a valid token as far as can be seen
    /// without a request.
    fn entry_state(&self, recorded: &EnvFile) -> (String, bool) {
        let target = self.recorded_target(recorded);
        let Some((how, path)) = target.file() else {
            return ("written by the last check, if that succeeded".to_owned(), true);
        };
        let content = match TargetFile::open(path).and_then(|file| file.read()) {
            Ok(Some(content)) => content,
            Ok(None) => return ("there is no such file".to_owned(), false),
            Err(error) => return (error.to_string(), false),
        };

        let connection = connection(recorded);
        let entry = Entry { target: &target, connection: &connection, workspace: "" };
        let Some(token) = (how.read)(&entry, &content).filter(|text| holds_token(text)) else {
            return ("it has no entry of ours".to_owned(), false);
        };
        match expiry_within(token) {
            None => ("the expiry of its token is not known".to_owned(), true),
            Some(expires) if expires.since(self.context.now()) < MIN_LIFE_MS => {
                (format!("expired at {expires}"), false)
            }
            Some(expires) => (format!("valid until {expires}"), true),
        }
    }
}
