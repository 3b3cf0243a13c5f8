//! [`Settings`]: the values of a call, each with its origin. `resolve.rs` reads them.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::databrickscfg;
use crate::config::files::{expand_home, read_config};
use crate::config::host_url::WorkspaceUrl;
use crate::config::profile::{ConfigFile, has_cli_login, profiles_at};
use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::config::value::{Origin, Value, parse_bool, trimmed, unfilled};
use crate::config::variables::{holds_secret, is_withheld_from_local_tools, secret_variables};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::login::store::{Login, LoginKey, Logins};
use crate::platform::context::Context;
use crate::platform::environment::is_same_name;
use crate::platform::time::Moment;

/// More values than most calls have, so that their list does not grow.
const USUAL_COUNT: usize = 16;

/// The values of all settings that have one.
#[derive(Debug)]
pub struct Settings {
    pub(super) values: Vec<(Id, Value)>,
    /// When resolution began. The deadline counts from here, since a secret's file may be a slow pipe.
    pub began: Moment,
    /// The profile that was read, and its own `host` as it is written in the file.
    pub profile: Option<(String, Option<String>)>,
    /// The host that the profile's owner meant, however its key is spelt.
    pub profile_host: Option<String>,
    pub file: ConfigFile,
    /// Variables that are set and do not count, because a profile was named by flag.
    pub ignored: Vec<&'static str>,
    /// Variables of libpq whose values count in a corrected form. psql itself does not correct them.
    pub(super) corrected: Vec<&'static str>,
    /// The variable that an inherited DATABRICKS_OIDC_TOKEN_ENV names. It holds a secret even if that setting does
    /// not count beside `--profile`.
    pub(super) inherited_token_variable: Option<String>,
    /// Read once a call, since several providers use it.
    login: OnceCell<Result<Option<Login>>>,
    /// Read once a call, since the platform may replace the file at any time.
    id_token: OnceCell<std::result::Result<Secret, String>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            values: Vec::with_capacity(USUAL_COUNT),
            began: Moment::now(),
            profile: None,
            profile_host: None,
            file: ConfigFile::NotNeeded,
            ignored: Vec::new(),
            corrected: Vec::new(),
            inherited_token_variable: None,
            login: OnceCell::new(),
            id_token: OnceCell::new(),
        }
    }
}

impl Settings {
    /// Notes that a variable of libpq's counts in a corrected form.
    pub(super) fn note_if_libpqs(&mut self, origin: &Origin) {
        if let Origin::Env(name) = origin
            && name.starts_with("PG")
            && !self.corrected.contains(name)
        {
            self.corrected.push(name);
        }
    }

    /// The keys of the profile that are not known, as half a sentence. Reads the file again, for an error only.
    pub fn unknown_keys(&self, context: &Context) -> Option<String> {
        let (profile, _) = self.profile.as_ref()?;
        let text = read_config(&self.config_path(context).ok()??).ok()??;
        let section = databrickscfg::section(&text, profile).ok()?;
        let is_known = |key: &str| SETTINGS.iter().any(|row| row.profile && row.name == key);
        let unknown = section.iter().filter(|(key, _)| !is_known(key));
        let names: Vec<String> = unknown.map(|(key, _)| redact(key)).collect();
        (!names.is_empty())
            .then(|| format!("profile {} has unknown keys: {}", redact(profile), names.join(", ")))
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
        secret_variables().chain(self.token_variables())
    }

    /// The variables that settings name as holding an identity token.
    fn token_variables(&self) -> impl Iterator<Item = &str> {
        self.text(Id::OidcTokenEnv).into_iter().chain(self.inherited_token_variable.as_deref())
    }

    /// See [`holds_secret`].
    pub fn holds_secret(&self, name: &OsStr) -> bool {
        let is_named = |known: &str| is_same_name(name, known);
        holds_secret(name, None) || self.token_variables().any(is_named)
    }

    /// See [`is_withheld_from_local_tools`].
    pub fn is_withheld_from_local_tools(&self, name: &OsStr) -> bool {
        is_withheld_from_local_tools(name, None) || self.holds_secret(name)
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

    /// The profile and its own host, if the workspace is another one.
    pub fn profile_of_another_host(&self) -> Option<(&str, &str)> {
        let (name, _) = self.profile.as_ref()?;
        let own = self.profile_host.as_deref()?;
        let is_same = |own: WorkspaceUrl| Some(own.url.as_str()) == self.text(Id::Host);
        let is_other = !WorkspaceUrl::parse(own.trim(), Origin::Default).is_ok_and(is_same);
        is_other.then_some((name, own))
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
        self.read_login(context).as_ref().ok()?.as_ref()
    }

    /// Whether nothing but the only login names the workspace.
    pub fn has_workspace_of_login(&self) -> bool {
        [Id::Host, Id::Profile].iter().any(|id| matches!(self.origin(*id), Origin::Login))
    }

    /// Why that login is unusable.
    pub fn login_error(&self, context: &Context) -> Option<&Error> {
        self.read_login(context).as_ref().err()
    }

    fn read_login(&self, context: &Context) -> &Result<Option<Login>> {
        self.login.get_or_init(|| match Logins::of(context) {
            Ok(logins) => self.find_login(&logins),
            Err(_) => Ok(None),
        })
    }

    /// The same login as it is stored now.
    pub fn find_login(&self, logins: &Logins<'_>) -> Result<Option<Login>> {
        let Some(host) = self.text(Id::Host) else { return Ok(None) };
        let workspace = LoginKey::Host(host.to_owned());
        let profile = self.login_key().filter(|key| *key != workspace);

        // If the profile now names another workspace, its stored login is another identity.
        let is_other = |login: &Login| match (&login.workspace_id, self.workspace_id()) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        for key in profile.into_iter().chain([workspace]) {
            if let Some(login) = logins.get(&key)?
                && login.host == host
                && !is_other(&login)
            {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    /// The key of a login that is made with these settings.
    pub fn login_key(&self) -> Option<LoginKey> {
        let host = self.text(Id::Host);
        // If --host names another workspace than the profile, the login belongs to that workspace.
        let is_by_flag = matches!(self.origin(Id::Host), Origin::Flag(_));
        let is_other = is_by_flag && self.profile_of_another_host().is_some();

        match &self.profile {
            Some((name, _)) if !is_other => Some(LoginKey::Profile(name.clone())),
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

    pub(super) fn rows(&self) -> impl Iterator<Item = &'static Setting> {
        self.values.iter().map(|(id, _)| &SETTINGS[*id as usize])
    }

    pub(super) fn set(&mut self, id: Id, text: &str, origin: Origin) {
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

    /// The path of the configuration file; `None` if HOME is not set.
    /// The profiles that are for this workspace; nothing if there is no configuration file.
    pub fn profiles_here(&self, context: &Context) -> Option<Vec<String>> {
        let path = self.config_path(context).ok().flatten()?;
        let text = read_config(&path).ok().flatten()?;
        let names = profiles_at(&text, self.text(Id::Host).unwrap_or_default());
        Some(names.into_iter().map(str::to_owned).collect())
    }

    pub fn config_path(&self, context: &Context) -> Result<Option<PathBuf>> {
        match self.text(Id::ConfigFile) {
            Some(path) => expand_home(path, context).map(Some),
            None => Ok(context.home().map(|home| home.join(".databrickscfg"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[(Id, &str, Origin)]) -> Settings {
        let mut settings = Settings::default();
        for (id, text, origin) in values {
            settings.set(*id, text, origin.clone());
        }
        settings
    }

    #[test]
    fn a_hint_says_how_to_remove_a_value_where_it_is() {
        for (origin, hint) in [
            (Origin::Flag("host"), "leave out --host"),
            (Origin::Env("DATABRICKS_HOST"), "unset DATABRICKS_HOST"),
            (Origin::Profile("work".to_owned()), "remove host from profile work"),
            (Origin::Query, "remove host from the workspace URL"),
            (Origin::Login, "lakebase-token logout"),
        ] {
            assert_eq!(with(&[(Id::Host, "https://x", origin)]).removal(Id::Host), hint);
        }
        assert_eq!(Settings::default().removal(Id::Host), "set host");
    }

    #[test]
    fn only_a_secret_can_be_a_placeholder() {
        let unfilled =
            |id, text| with(&[(id, text, Origin::Env("X"))]).unfilled_secrets().collect::<Vec<_>>();
        let why = "client_secret from X is a placeholder that nothing has replaced by the secret";
        assert_eq!(unfilled(Id::ClientSecret, "${SECRET}"), [why]);
        assert!(unfilled(Id::ClientSecret, "dose1").is_empty());
        assert!(unfilled(Id::PgDatabase, "${NAME}").is_empty());
    }

    #[test]
    fn no_secret_is_for_local_tools() {
        let settings = with(&[(Id::OidcTokenEnv, "MY_TOKEN", Origin::Env("X"))]);
        for (name, is_withheld) in [
            ("DATABRICKS_CLIENT_SECRET", true),
            ("ARM_CLIENT_SECRET", true),
            ("MY_TOKEN", true),
            ("PATH", false),
            ("HOME", false),
            ("OTHER_TOKEN", false),
        ] {
            assert_eq!(settings.is_withheld_from_local_tools(name.as_ref()), is_withheld, "{name}");
        }
        assert!(!Settings::default().is_withheld_from_local_tools("MY_TOKEN".as_ref()));
    }

    #[test]
    fn a_tenant_alone_is_no_identity() {
        let origin = || Origin::Env("X");
        assert!(!with(&[(Id::AzureTenantId, "t", origin())]).has_identity());
        assert!(!with(&[(Id::Host, "https://x", origin())]).has_identity());
        assert!(with(&[(Id::AzureClientId, "c", origin())]).has_identity());
        let both = [(Id::AzureTenantId, "t", origin()), (Id::Token, "dapi", origin())];
        assert!(with(&both).has_identity());
    }

    #[test]
    fn a_value_is_set_once_and_an_empty_one_or_a_false_boolean_never() {
        let settings = with(&[
            (Id::Host, " ", Origin::Env("EMPTY")),
            (Id::AzureUseMsi, "false", Origin::Env("FALSE")),
            (Id::AzureUseMsi, "true", Origin::Env("FIRST")),
            (Id::AzureUseMsi, "maybe", Origin::Env("SECOND")),
        ]);
        assert!(settings.get(Id::Host).is_none() && settings.is_on(Id::AzureUseMsi));
        assert_eq!(settings.origin(Id::AzureUseMsi), &Origin::Env("FIRST"));
    }
}
