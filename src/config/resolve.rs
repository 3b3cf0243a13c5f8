//! From flags, environment and profile to [`Settings`]: each value with its origin.
//!
//! A flag takes precedence over the environment, that over the profile; a profile that is named by
//! flag takes precedence over the environment (`load_around_profile`). It follows the Databricks SDK
//! for Go (`config/config.go`): when the file is read at all, and that two auth methods at once are
//! an error unless `auth_type` decides.
//!
//! `table.rs` has the rows, `variables.rs` reads the environment, `profile.rs` the file, `checks.rs`
//! checks the values. What they mean for a call is `plan.rs`'s business. No request is made here.

use std::time::Duration;

use crate::config::files::read_secret;
use crate::config::host_url::WorkspaceUrl;
use crate::config::profile::{Profile, Requested, read_profile};
use crate::config::settings::Settings;
use crate::config::table::{Id, Precedence, SETTINGS, Setting, ValueKind};
use crate::config::value::{Origin, trimmed};
use crate::config::variables::{OIDC_TOKEN, Variable, read_variables};
use crate::error::{Error, Result};
use crate::login::store::{BROWSER, Login, LoginKey, Logins, PAT};
use crate::platform::context::Context;
use crate::platform::time::parse_duration;

/// What each auth method authenticates with.
const METHODS: [&[Id]; 10] = [
    &[Id::Token],
    &[Id::Username, Id::Password],
    &[Id::ClientId, Id::ClientSecret],
    &[Id::MetadataServiceUrl],
    &[Id::AzureClientId, Id::AzureClientSecret, Id::AzureTenantId],
    &[Id::AzureUseMsi],
    &[Id::GoogleCredentials],
    &[Id::GoogleServiceAccount],
    &[Id::OidcTokenFile],
    &[Id::OidcTokenEnv],
];

/// The auth types that are a person's login, so that they need no other setting.
const LOGINS: [&str; 3] = ["external-browser", "databricks-cli", "azure-cli"];

/// How long a file with a secret, perhaps a pipe, is read. A shorter `--timeout` counts instead.
const SECRET_FILE_WAIT: Duration = Duration::from_secs(10);

impl Settings {
    /// Resolves all values. `flags` are checked names with their texts.
    pub fn resolve(flags: &[(Id, String)], context: &Context) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.load(flags, context)?;
        Ok(settings)
    }

    /// The same, but keeps what was resolved before an error.
    pub fn resolve_partially(
        flags: &[(Id, String)],
        context: &Context,
    ) -> (Settings, Option<Error>) {
        let mut settings = Settings::default();
        let error = settings.load(flags, context).err();
        (settings, error)
    }

    fn load(&mut self, flags: &[(Id, String)], context: &Context) -> Result<()> {
        for (id, text) in flags {
            self.set_flag(*id, text, || secret_file_wait(flags, context))?;
        }

        let variables = read_variables(context)?;
        let token_variable = variables.iter().find(|known| known.row.id == Id::OidcTokenEnv);
        self.inherited_token_variable = token_variable.map(|known| known.text.trim().to_owned());
        if matches!(self.origin(Id::Profile), Origin::Flag(_)) {
            self.load_around_profile(&variables, context)?;
        } else {
            self.set_variables(&variables, |_| true);
            self.load_profile(context)?;
        }

        self.load_login(context)?;
        self.check()?;
        self.note_corrected(context);
        Ok(())
    }

    fn note_corrected(&self, context: &Context) {
        for name in &self.corrected {
            context.note(&format!(
                "{name} has a surplus blank, line end or port, which psql without exec does not remove"
            ));
        }
    }

    fn set_flag(&mut self, id: Id, text: &str, wait: impl Fn() -> Duration) -> Result<()> {
        let row = &SETTINGS[id as usize];
        let origin = Origin::Flag(row.flag);
        match row.kind {
            ValueKind::Switch => self.set(id, "true", origin),
            ValueKind::SecretFile => {
                let secret = read_secret(row.flag, text, wait())?;
                let held = if id == Id::TokenFile { Id::Token } else { Id::ClientSecret };
                self.set(held, secret.expose(), origin);
            }
            _ if trimmed(text, row.trim).is_empty() => {
                return Err(Error::usage(format!("--{} got an empty value", row.flag)));
            }
            _ => self.set(id, text, origin),
        }
        Ok(())
    }

    /// Sets what is still empty from the variables of the rows that `counts` accepts.
    fn set_variables(&mut self, variables: &[Variable<'_>], counts: impl Fn(&Setting) -> bool) {
        for Variable { row, name, text } in variables.iter().filter(|known| counts(known.row)) {
            self.set(row.id, text, Origin::Env(name));
        }
    }

    /// A profile that is named by flag takes precedence over inherited variables, as in the
    /// Databricks CLI since 1.7.0: some never count beside it, the others fill only what it lacks,
    /// and no credential counts if profile and flags hold a complete method.
    fn load_around_profile(&mut self, variables: &[Variable<'_>], context: &Context) -> Result<()> {
        self.set_variables(variables, |row| row.precedence == Precedence::Always);
        self.load_profile(context)?;

        let is_complete = self.holds_method();
        self.set_variables(variables, |row| match row.precedence {
            Precedence::Always => true,
            Precedence::NotBesideProfile => false,
            Precedence::FillsProfile => row.method.is_empty() || !is_complete,
        });

        let is_used = |variable: &Variable<'_>| {
            let origin = Origin::Env(variable.name);
            self.values.iter().any(|(_, value)| value.origin == origin)
        };
        let unused = variables.iter().filter(|variable| !is_used(variable));
        let mut ignored: Vec<&'static str> = unused.map(|variable| variable.name).collect();
        let has_id_token = context.var(OIDC_TOKEN).is_some();
        if is_complete && has_id_token && self.get(Id::OidcTokenEnv).is_none() {
            ignored.push(OIDC_TOKEN);
        }
        self.ignored = ignored;
        Ok(())
    }

    /// Whether profile and flags hold all that one auth method authenticates with.
    fn holds_method(&self) -> bool {
        let is_own = |id: &Id| !matches!(self.origin(*id), Origin::Env(_) | Origin::Default);
        let is_login = self.text(Id::AuthType).is_some_and(|name| LOGINS.contains(&name));
        is_login || METHODS.iter().any(|ids| ids.iter().all(is_own))
    }

    /// Sets what is still empty from the profile, unless none is named and the workspace or an auth
    /// method is known without one.
    fn load_profile(&mut self, context: &Context) -> Result<()> {
        let is_known = self.rows().any(|row| !row.method.is_empty() || row.id == Id::Host);
        let requested = self.text(Id::Profile);
        if requested.is_none() && is_known {
            return Ok(());
        }

        let origin = self.origin(Id::Profile);
        let host = self.text(Id::Host);
        let requested = requested.map(|name| Requested { name, origin, host });
        let (file, profile) = read_profile(self.config_path(context)?, requested, context)?;
        self.file = file;
        if let Some(profile) = profile {
            self.set_profile(profile);
        }
        Ok(())
    }

    fn set_profile(&mut self, profile: Profile) {
        for (key, value) in &profile.pairs {
            if let Some(row) = SETTINGS.iter().find(|row| row.profile && row.name == *key) {
                self.set(row.id, value, Origin::Profile(profile.name.clone()));
            }
        }
        self.profile_host = profile.meant_host().map(str::to_owned);
        let host = profile.host().map(str::to_owned);
        self.profile = Some((profile.name, host));
    }

    /// If nothing else is configured and there is one stored login, its workspace or profile is meant.
    fn load_login(&mut self, context: &Context) -> Result<()> {
        let is_pod = self.get(Id::AzureFederatedTokenFile).is_some();
        if self.get(Id::Host).is_some() || self.profile.is_some() || self.has_identity() || is_pod {
            return Ok(());
        }
        let Ok(logins) = Logins::of(context) else { return Ok(()) };
        let login = match logins.only() {
            // After the login, an entry can still be removed.
            Err(_) if self.is_on(Id::Remove) => return Ok(()),
            only => only?,
        };
        let Some(login) = &login else { return Ok(()) };
        match &login.key {
            LoginKey::Host(url) => self.set(Id::Host, url, Origin::Login),
            LoginKey::Profile(name) => self.load_profile_of(login, name, context)?,
        }
        Ok(())
    }

    /// Reads the profile of a login, unless it is gone, or has become that of another workspace or
    /// identity.
    fn load_profile_of(&mut self, login: &Login, name: &str, context: &Context) -> Result<()> {
        if !self.file.has_profile(name) {
            return Ok(());
        }
        let requested = Requested { name, origin: &Origin::Login, host: None };
        let (file, profile) = read_profile(self.config_path(context)?, Some(requested), context)?;
        if let Some(profile) = profile.filter(|profile| is_profile_of(login, profile)) {
            self.file = file;
            self.set(Id::Profile, name, Origin::Login);
            self.set_profile(profile);
        }
        Ok(())
    }
}

/// Whether a profile still means this login.
fn is_profile_of(login: &Login, profile: &Profile) -> bool {
    let value = |id: Id| profile.value(SETTINGS[id as usize].name);
    let is_same_host =
        |own: &str| WorkspaceUrl::parse(own, &profile.name).is_ok_and(|own| own.url == login.host);
    let has_method = SETTINGS.iter().any(|row| !row.method.is_empty() && value(row.id).is_some());
    let workspace_id = value(Id::WorkspaceId).filter(|id| *id != "none");

    value(Id::Host).is_some_and(is_same_host)
        && workspace_id.is_none_or(|own| login.workspace_id.as_deref().is_none_or(|id| id == own))
        && value(Id::AuthType).is_none_or(|name| [BROWSER, PAT].contains(&name))
        && !has_method
}

/// How long to wait for a secret's file: as long as the whole call, as far as that is known before
/// the settings are resolved.
fn secret_file_wait(flags: &[(Id, String)], context: &Context) -> Duration {
    let flag = flags.iter().find(|(id, _)| *id == Id::Timeout).map(|(_, text)| text.as_str());
    let text = flag.or_else(|| context.var("LAKEBASE_TOKEN_TIMEOUT")?.to_str());
    let timeout = text.and_then(|text| parse_duration(text).ok());
    timeout.map_or(SECRET_FILE_WAIT, |timeout| timeout.min(SECRET_FILE_WAIT))
}
