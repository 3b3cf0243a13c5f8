//! What the steps of `doctor` have found: a verdict each, and the facts that a report needs.

use serde_json::{Value, json};

use crate::credential::connection::Credential;
use crate::error::Result;
use crate::lakebase::credentials::MintTarget;
use crate::lakebase::login_probe::PostgresSession;
use crate::lakebase::workspace_api::Me;
use crate::platform::request_log::Exchange;

pub struct Step {
    pub name: &'static str,
    /// What was found; nothing if the step could not be tried.
    pub outcome: Result<Option<String>>,
    /// Why the step was not tried.
    pub why_not_tried: &'static str,
    /// Whether its failure is not the verdict.
    pub is_warning: bool,
}

/// What the steps have shown, for the report.
#[derive(Default)]
pub struct Findings {
    pub workspace: Option<String>,
    pub auth_type: Option<&'static str>,
    pub has_ttl: bool,
    pub identity: Option<Me>,
    pub database: Option<MintTarget>,
    pub credential: Option<Credential>,
    pub logged_in: Option<PostgresSession>,
    /// Postgres has asked for another method than a password in clear text.
    pub asked_for_other_method: bool,
    /// The server's certificate was not accepted.
    pub is_certificate_rejected: bool,
    pub psql_version: Option<String>,
    pub exchanges: Vec<Exchange>,
}

impl Step {
    pub fn tried(
        name: &'static str,
        outcome: Result<Option<String>>,
        why_not_tried: &'static str,
    ) -> Step {
        Step { name, outcome, why_not_tried, is_warning: false }
    }

    pub fn text(&self) -> String {
        let line = |name: &str, words: &str| format!("{name:<15}{words}\n");
        match &self.outcome {
            Ok(Some(words)) => line(self.name, &format!("ok: {words}")),
            Ok(None) => line(self.name, &format!("not tried: {}", self.why_not_tried)),
            Err(error) => {
                let verdict = if self.is_warning { "warning" } else { "FAILED" };
                let mut text = if self.name == verdict {
                    line(verdict, &error.message)
                } else {
                    line(self.name, &format!("{verdict}: {}", error.message))
                };
                for (label, words) in error.lines().skip(1) {
                    text.push_str(&line(&format!("  {label}"), words));
                }
                text
            }
        }
    }

    pub fn json(&self) -> Value {
        let (state, message, because, hints) = match &self.outcome {
            Ok(Some(words)) => ("ok", words.as_str(), &[][..], &[][..]),
            Ok(None) => ("not tried", self.why_not_tried, &[][..], &[][..]),
            Err(error) if self.is_warning => {
                ("warning", error.message.as_str(), &error.because[..], &error.hints[..])
            }
            Err(error) => ("failed", error.message.as_str(), &error.because[..], &error.hints[..]),
        };
        let name = self.name;
        json!({ "step": name, "state": state, "message": message, "because": because, "hints": hints })
    }
}
