//! From flags, environment and profile to [`Settings`]: each value with its origin.
//!
//! A flag takes precedence over the environment, that over the profile; a profile that is named by
//! flag takes precedence over the environment (`load_around_profile`). It follows the Databricks SDK
//! for Go (`config/config.go`): when the file is read at all, and that two auth methods at once are
//! an error unless `auth_type` decides.
//!
//! `table.rs` has the rows, `variables.rs` reads the environment, `profile.rs` the file. What the
//! values mean for a call is `plan.rs`'s business. No request is made here.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::files::{read_config, read_secret};
use crate::config::host_url::{Host, is_id};
use crate::config::profile::{Profile, Requested, has_cli_login, read_profile};
use crate::config::table::{Id, Precedence, SETTINGS, Setting, Trim, ValueKind};
use crate::config::value::{parse_bool, trimmed, unfilled};
use crate::config::variables::{
    Variable, holds_secret, is_kept_from_local_tools, read_variables, secret_variables,
};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::login::store::{BROWSER, Login, LoginKey, Logins, PAT};
use crate::platform::context::Context;
use crate::platform::time::{Moment, parse_duration};

pub use crate::config::files::expand_home;
pub use crate::config::profile::ConfigFile;
pub use crate::config::value::{Origin, Value};
pub use crate::config::variables::{DEVOPS_TOKEN, OIDC_TOKEN};

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

/// More values than most calls have, so that their list does not grow.
const USUAL_COUNT: usize = 16;

/// The values of all settings that have one.
#[derive(Debug)]
pub struct Settings {
    values: Vec<(Id, Value)>,
    /// When resolution began. The deadline counts from here, since a secret's file may be a slow pipe.
    pub began: Moment,
    /// The profile that was read, and its own `host` as it is written in the file.
    pub profile: Option<(String, Option<String>)>,
    pub file: ConfigFile,
    /// Variables that are set and do not count, because a profile was named by flag.
    pub ignored: Vec<&'static str>,
    /// Variables of libpq whose values count in a corrected form. psql itself does not correct them.
    corrected: Vec<&'static str>,
    /// Read once a call, since several providers use it.
    login: OnceCell<Option<Login>>,
    /// Read once a call, since the platform may replace the file at any time.
    id_token: OnceCell<std::result::Result<Secret, String>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            values: Vec::with_capacity(USUAL_COUNT),
            began: Moment::now(),
            profile: None,
            file: ConfigFile::NotNeeded,
            ignored: Vec::new(),
            corrected: Vec::new(),
            login: OnceCell::new(),
            id_token: OnceCell::new(),
        }
    }
}

impl Settings {
    /// Resolves all values. `flags` are checked names with their texts.
    pub fn resolve(flags: &[(Id, String)], context: &Context) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.load(flags, context)?;
        Ok(settings)
    }

    /// The same, but keeps what was resolved before an error.
    pub fn resolve_what_can_be(
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
        if matches!(self.origin(Id::Profile), Origin::Flag(_)) {
            self.load_around_profile(&variables, context)?;
        } else {
            self.set_variables(&variables, |_| true);
            self.load_profile(context)?;
        }

        self.load_login(context)?;
        self.check_characters()?;
        self.check_types()?;
        self.check_conflict()?;
        self.split_pg_host()?;
        self.normalise_host()?;
        self.note_corrected(context);
        Ok(())
    }

    /// Notes that a variable of libpq's counts in a corrected form.
    fn note_if_libpqs(&mut self, origin: &Origin) {
        if let Origin::Env(name) = origin
            && name.starts_with("PG")
            && !self.corrected.contains(name)
        {
            self.corrected.push(name);
        }
    }

    fn note_corrected(&self, context: &Context) {
        for name in &self.corrected {
            context.note(&format!(
                "{name} has blanks or a port in it, which psql without exec does not remove"
            ));
        }
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

    /// A value that is not secret.
    pub fn text(&self, id: Id) -> Option<&str> {
        debug_assert!(SETTINGS[id as usize].kind != ValueKind::Secret);
        self.get(id).map(|value| value.text.expose())
    }

    pub fn secret(&self, id: Id) -> Option<&Secret> {
        self.get(id).map(|value| &value.text)
    }

    /// All values that are secret.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let secret = |id: Id| SETTINGS[id as usize].kind == ValueKind::Secret;
        self.values.iter().filter(move |(id, _)| secret(*id)).map(|(_, value)| &value.text)
    }

    /// The variables that may hold secrets, so that a child program can be started without them.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        secret_variables().chain(self.text(Id::OidcTokenEnv))
    }

    /// See [`holds_secret`].
    pub fn holds_secret(&self, name: &OsStr) -> bool {
        holds_secret(name, self.text(Id::OidcTokenEnv).map(OsStr::new))
    }

    /// See [`is_kept_from_local_tools`].
    pub fn is_kept_from_local_tools(&self, name: &OsStr) -> bool {
        is_kept_from_local_tools(name, self.text(Id::OidcTokenEnv).map(OsStr::new))
    }

    /// Whether a switch was given or a boolean is true.
    pub fn is_on(&self, id: Id) -> bool {
        self.get(id).is_some_and(|value| parse_bool(value.text.expose()) == Some(true))
    }

    pub fn get(&self, id: Id) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    pub fn workspace_id(&self) -> Option<&str> {
        // The Databricks CLI writes the word `none` if a login has no workspace.
        self.text(Id::WorkspaceId).filter(|id| *id != "none")
    }

    /// What messages, `status` and profiles call a setting.
    pub fn name(&self, id: Id) -> &'static str {
        SETTINGS[id as usize].name
    }

    pub fn origin(&self, id: Id) -> &Origin {
        self.get(id).map_or(&Origin::Default, |value| &value.origin)
    }

    /// How the user removes this value, as a hint says it.
    pub fn removal(&self, id: Id) -> String {
        let name = self.name(id);
        match self.origin(id) {
            Origin::Flag(flag) => format!("leave out --{flag}"),
            Origin::Env(variable) => format!("unset {variable}"),
            Origin::Profile(profile) => format!("remove {name} from profile {}", redact(profile)),
            Origin::Query => format!("remove {name} from the workspace URL"),
            Origin::Login => "lakebase-token logout".to_owned(),
            Origin::Default => format!("set {name}"),
        }
    }

    /// The origins of the values that decide whose credential is minted, and for what.
    pub fn origins(&self) -> impl Iterator<Item = (&'static Setting, &Origin)> {
        let rows = SETTINGS[..=Id::PgUser as usize].iter();
        rows.filter_map(|row| Some((row, &self.get(row.id)?.origin)))
    }

    /// All settings that have a value, for `status` and messages; secrets as `***`.
    pub fn shown(&self) -> impl Iterator<Item = (&'static Setting, &str, &Origin)> {
        self.values.iter().map(|(id, value)| {
            let row = &SETTINGS[*id as usize];
            let text = if row.kind == ValueKind::Secret { "***" } else { value.text.expose() };
            (row, text, &value.origin)
        })
    }

    /// The stored login that these settings mean, as it was at the first call of this function: that
    /// of the profile, else that of the workspace.
    pub fn login(&self, context: &Context) -> Option<&Login> {
        let read = || self.find_login(&Logins::of(context).ok()?);
        self.login.get_or_init(read).as_ref()
    }

    /// The same login as it is stored now.
    pub fn find_login(&self, logins: &Logins<'_>) -> Option<Login> {
        let host = self.text(Id::Host)?;
        let workspace = LoginKey::Host(host.to_owned());
        let profile = self.login_key().filter(|key| *key != workspace);

        // If the profile now names another workspace, its stored login is another identity.
        let is_other = |login: &Login| match (&login.workspace_id, self.workspace_id()) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        let keys = profile.into_iter().chain([workspace]);
        keys.filter_map(|key| logins.get(&key)).find(|login| login.host == host && !is_other(login))
    }

    /// The key of a login that is made with these settings.
    pub fn login_key(&self) -> Option<LoginKey> {
        let host = self.text(Id::Host);
        // If --host names another workspace than the profile, the login belongs to that workspace.
        let is_by_flag = matches!(self.origin(Id::Host), Origin::Flag(_));
        let is_other = |own: &String| {
            let own = Host::parse(own, &Origin::Default).ok();
            is_by_flag && own.is_some_and(|own| Some(own.url.as_str()) != host)
        };

        match &self.profile {
            Some((name, own)) if !own.as_ref().is_some_and(is_other) => {
                Some(LoginKey::Profile(name.clone()))
            }
            _ => host.map(|host| LoginKey::Host(host.to_owned())),
        }
    }

    /// What the file with the identity token held at the first call of this function, without white
    /// space at its ends; or why it cannot be read. `id` names the file, always the same one in a call:
    /// only the chosen auth type reads a token.
    pub fn id_token_file(&self, id: Id) -> &std::result::Result<Secret, String> {
        self.id_token.get_or_init(|| {
            let path = self.text(id).unwrap_or_default();
            match read_config(Path::new(path)) {
                Ok(Some(text)) => Ok(Secret::new(Secret::new(text).expose().trim())),
                Ok(None) => Err("the file does not exist".to_owned()),
                Err(e) => Err(e.because.into_iter().next().unwrap_or(e.message)),
            }
        })
    }

    /// Whether a profile is a login of the Databricks CLI at this workspace.
    pub fn has_cli_profile(&self, context: &Context) -> bool {
        let path = self.config_path(context).ok().flatten();
        let text = path.and_then(|path| read_config(&path).ok().flatten()).unwrap_or_default();
        has_cli_login(&text, self.text(Id::Host).unwrap_or_default())
    }

    /// Whether any setting of an auth method has a value. A tenant alone is no identity.
    pub fn has_identity(&self) -> bool {
        const NO_IDENTITY: [Id; 2] = [Id::AzureTenantId, Id::AzureLoginAppId];
        self.rows().any(|row| !row.method.is_empty() && !NO_IDENTITY.contains(&row.id))
    }

    /// A setting that is part of a service principal. If it completes no auth method, that is an
    /// error, never a fallback to a person's login.
    pub fn part_of_principal(&self) -> Option<Id> {
        let parts = [Id::ClientId, Id::ClientSecret, Id::AzureClientSecret];
        parts.into_iter().find(|id| self.get(*id).is_some())
    }

    /// Secrets that are placeholders, as reasons why a server refuses them.
    pub fn unfilled_secrets(&self) -> impl Iterator<Item = String> {
        self.values.iter().filter_map(|(id, value)| {
            let row = &SETTINGS[*id as usize];
            let is_secret = row.kind == ValueKind::Secret;
            let why = unfilled(value.text.expose()).filter(|_| is_secret)?;
            Some(format!("{} from {} {why}", row.name, value.origin))
        })
    }

    fn rows(&self) -> impl Iterator<Item = &'static Setting> {
        self.values.iter().map(|(id, _)| &SETTINGS[*id as usize])
    }

    fn set(&mut self, id: Id, text: &str, origin: Origin) {
        let given = text;
        let text = trimmed(text, SETTINGS[id as usize].trim);
        // As in the SDKs: a value is set once, and a boolean that is false counts as empty.
        let is_bool = matches!(SETTINGS[id as usize].kind, ValueKind::Bool | ValueKind::Switch);
        let is_empty = text.is_empty() || is_bool && parse_bool(text) == Some(false);
        if !is_empty && self.get(id).is_none() {
            if text != given {
                self.note_if_libpqs(&origin);
            }
            self.values.push((id, Value { text: Secret::new(text), origin }));
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

    /// The path of the configuration file; `None` if HOME is not set.
    fn config_path(&self, context: &Context) -> Result<Option<PathBuf>> {
        match self.text(Id::ConfigFile) {
            Some(path) => expand_home(path, context).map(Some),
            None => Ok(context.home().map(|home| home.join(".databrickscfg"))),
        }
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
        let host = profile.host().map(str::to_owned);
        self.profile = Some((profile.name, host));
    }

    /// If nothing else is configured and there is one stored login, its workspace or profile is meant.
    fn load_login(&mut self, context: &Context) -> Result<()> {
        let is_pod = self.get(Id::AzureFederatedTokenFile).is_some();
        if self.get(Id::Host).is_some() || self.profile.is_some() || self.has_identity() || is_pod {
            return Ok(());
        }
        let logins = Logins::of(context).map_or(Vec::new(), |logins| logins.all());
        let [login] = &logins[..] else { return Ok(()) };
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

    fn normalise_host(&mut self) -> Result<()> {
        let Some(text) = self.text(Id::Host) else { return Ok(()) };
        let host = Host::parse(text, self.origin(Id::Host))?;

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

/// Whether a profile still means this login.
fn is_profile_of(login: &Login, profile: &Profile) -> bool {
    let value = |id: Id| profile.value(SETTINGS[id as usize].name);
    let is_same_host =
        |own: &str| Host::parse(own, &profile.name).is_ok_and(|own| own.url == login.host);
    let has_method = SETTINGS.iter().any(|row| !row.method.is_empty() && value(row.id).is_some());
    let workspace_id = value(Id::WorkspaceId).filter(|id| *id != "none");

    value(Id::Host).is_some_and(is_same_host)
        && workspace_id.is_none_or(|own| login.workspace_id.as_deref().is_none_or(|id| id == own))
        && value(Id::AuthType).is_none_or(|name| [BROWSER, PAT].contains(&name))
        && !has_method
}

/// The parts of `host:5432`. An IPv6 address has several colons.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.split_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (is_port && !host.is_empty()).then_some((host, port))
}

/// How long to wait for a secret's file: as long as the whole call, as far as that is known before
/// the settings are resolved.
fn secret_file_wait(flags: &[(Id, String)], context: &Context) -> Duration {
    let flag = flags.iter().find(|(id, _)| *id == Id::Timeout).map(|(_, text)| text.as_str());
    let text = flag.or_else(|| context.var("LAKEBASE_TOKEN_TIMEOUT")?.to_str());
    let timeout = text.and_then(|text| parse_duration(text).ok());
    timeout.map_or(SECRET_FILE_WAIT, |timeout| timeout.min(SECRET_FILE_WAIT))
}
