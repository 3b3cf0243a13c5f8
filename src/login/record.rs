//! A stored login: its fields, its key and its JSON format.
//!
//! `login/store.rs` reads and writes the files, `login/renewal.rs` decides when a login is renewed.
//! This file knows neither settings nor the network.

use serde_json::{Value, json};

use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::platform::time::{MINUTE, SECOND, Timestamp};
use crate::quoting::sh_word;

/// The auth type of a login with a browser.
pub const BROWSER: &str = "external-browser";

/// The auth type of a login with a rotating token.
pub const PAT: &str = "pat";

/// How long a rotating token stays valid after its replacement: Claude Code and Codex do not ask for
/// a new token when a workspace answers 403, and keep the one they have for five minutes and more.
pub const ROTATION_GRACE_MS: i64 = 10 * MINUTE;

/// A stored login of a person.
#[derive(Clone, Debug)]
pub struct Login {
    pub key: LoginKey,
    /// The workspace's URL.
    pub host: String,
    /// The value of the routing header, if the host serves several workspaces.
    pub workspace_id: Option<String>,
    /// The person's name, as the workspace states it.
    pub who: String,
    pub logged_in: Timestamp,
    /// The current workspace token.
    pub access: Secret,
    /// When the current token was received.
    pub issued: Timestamp,
    /// When the current token expires, by the local clock.
    pub expires: Timestamp,
    /// When a renewal began that has not succeeded yet.
    pub renewal_begun: Option<Timestamp>,
    pub renew_with: RenewWith,
}

/// What a login is renewed with.
#[derive(Clone, Debug)]
pub enum RenewWith {
    /// The refresh token of a login with a browser. Without it, the login cannot be renewed.
    Refresh(Option<Secret>),
    /// The current token itself: a personal access token that creates its successor.
    Pat(RotatingPat),
}

/// The profile that a login belongs to, or the workspace's URL if no profile was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginKey {
    Profile(String),
    Host(String),
}

/// The rotating tokens of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatingPat {
    /// The id of the current token.
    pub token_id: String,
    /// The comment of all tokens of this login. No other token in the workspace has it.
    pub comment: String,
    /// How long each token lives, in milliseconds.
    pub lifetime: i64,
    /// The age at which a token is replaced, in milliseconds.
    pub max_age: i64,
    /// The token that the current one has replaced, until it is deleted.
    pub previous: Option<ReplacedPat>,
}

/// A rotating token that has a successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedPat {
    pub token_id: String,
    pub replaced: Timestamp,
    pub expires: Timestamp,
}

impl RenewWith {
    /// Databricks' name for how such a login authenticates.
    pub fn auth_type(&self) -> &'static str {
        match self {
            RenewWith::Refresh(_) => BROWSER,
            RenewWith::Pat(_) => PAT,
        }
    }
}

impl LoginKey {
    /// The flag that selects this login, and its value.
    pub fn words(&self) -> [&str; 2] {
        match self {
            LoginKey::Profile(name) => ["--profile", name],
            LoginKey::Host(url) => ["--host", url],
        }
    }

    /// Flag and value in one text.
    pub fn flag(&self) -> String {
        self.words().join(" ")
    }

    /// Flag and value for messages. A profile's name may contain control characters.
    pub fn shown(&self) -> String {
        redact(&self.flag())
    }

    /// The same as words of a command line.
    pub fn shown_words(&self) -> String {
        let [flag, name] = self.words();
        format!("{flag} {}", sh_word(&redact(name)))
    }

    /// The profile's name or the workspace's URL, for messages.
    pub fn shown_name(&self) -> String {
        redact(self.words()[1])
    }

    fn to_json(&self) -> Value {
        match self {
            LoginKey::Profile(name) => json!(["profile", name]),
            LoginKey::Host(url) => json!(["workspace", url]),
        }
    }

    fn parse(value: &Value) -> Option<LoginKey> {
        let name = value[1].as_str()?.to_owned();
        match value[0].as_str()? {
            "profile" => Some(LoginKey::Profile(name)),
            "workspace" => Some(LoginKey::Host(name)),
            _ => None,
        }
    }
}

impl RotatingPat {
    /// Whether the previous token's grace period is over, so that it must be deleted.
    pub fn must_delete_previous(&self, now: Timestamp) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.grace_is_over(now))
    }

    fn to_json(&self) -> Value {
        json!({
            "id": self.token_id,
            "comment": self.comment,
            "lifetime_seconds": self.lifetime / SECOND,
            "max_age_seconds": self.max_age / SECOND,
            "former": self.previous.as_ref().map(ReplacedPat::to_json),
        })
    }

    fn parse(value: &Value) -> Option<RotatingPat> {
        let seconds = |name: &str| Some(value[name].as_i64()?.saturating_mul(SECOND));
        let previous = match &value["former"] {
            Value::Null => None,
            previous => Some(ReplacedPat::parse(previous)?),
        };
        Some(RotatingPat {
            token_id: text(value, "id")?,
            comment: text(value, "comment")?,
            lifetime: seconds("lifetime_seconds")?,
            max_age: seconds("max_age_seconds")?,
            previous,
        })
    }
}

impl ReplacedPat {
    /// The file keeps the time of the replacement in whole seconds, rounded down. Without the extra
    /// second a token could be deleted early.
    fn grace_is_over(&self, now: Timestamp) -> bool {
        now.since(self.replaced) >= ROTATION_GRACE_MS + SECOND
    }

    fn to_json(&self) -> Value {
        json!({
            "id": self.token_id,
            "replaced_at": self.replaced.to_string(),
            "expires_at": self.expires.to_string(),
        })
    }

    fn parse(value: &Value) -> Option<ReplacedPat> {
        Some(ReplacedPat {
            token_id: text(value, "id")?,
            replaced: time(value, "replaced_at")?,
            expires: time(value, "expires_at")?,
        })
    }
}

impl Login {
    /// The command that logs this person in again.
    pub fn command(&self) -> String {
        let pat = if matches!(self.renew_with, RenewWith::Pat(_)) { " --pat" } else { "" };
        format!("lakebase-token login{pat} {}", self.key.shown_words())
    }

    /// How long the current token is still valid, in milliseconds.
    pub fn left(&self, now: Timestamp) -> i64 {
        self.expires.since(now)
    }

    /// The content of the login's file.
    pub fn to_text(&self) -> String {
        let (refresh_token, pat) = match &self.renew_with {
            RenewWith::Refresh(token) => (token.as_ref().map(Secret::expose), Value::Null),
            RenewWith::Pat(pat) => (None, pat.to_json()),
        };
        let value = json!({
            "of": self.key.to_json(),
            "host": self.host,
            "workspace_id": self.workspace_id,
            "who": self.who,
            "since": self.logged_in.to_string(),
            "access_token": self.access.expose(),
            "issued_at": self.issued.to_string(),
            "expires_at": self.expires.to_string(),
            "begun_at": self.renewal_begun.map(|begun| begun.to_string()),
            "refresh_token": refresh_token,
            "pat": pat,
        });
        format!("{value}\n")
    }

    pub fn parse(content: &[u8]) -> Option<Login> {
        let value: Value = serde_json::from_slice(content).ok()?;
        let renew_with = match &value["pat"] {
            Value::Null => RenewWith::Refresh(text(&value, "refresh_token").map(Secret::new)),
            pat => RenewWith::Pat(RotatingPat::parse(pat)?),
        };
        let key = LoginKey::parse(&value["of"])?;
        let host = text(&value, "host")?;
        if matches!(&key, LoginKey::Host(url) if *url != host) {
            return None;
        }
        Some(Login {
            key,
            host,
            workspace_id: text(&value, "workspace_id"),
            who: text(&value, "who")?,
            logged_in: time(&value, "since")?,
            access: Secret::new(text(&value, "access_token")?),
            issued: time(&value, "issued_at")?,
            expires: time(&value, "expires_at")?,
            renewal_begun: time(&value, "begun_at"),
            renew_with,
        })
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    Timestamp::parse(value[name].as_str()?)
}
