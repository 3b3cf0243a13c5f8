//! What is configured, and where each value came from.
//!
//! Flag, then environment, then profile. The workspace side follows the Databricks Go SDK
//! (`config/config.go`, `config_file.go`): when the file is read at all, which profile, that
//! `DEFAULT` is not inherited, that two auth methods at once are an error unless `auth_type`
//! decides. What the values mean for this call is `plan.rs`'s business; no request is made here.

use std::cell::OnceCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::databrickscfg;
use crate::config::databrickscfg::RESERVED;
use crate::config::files::{no_profile, profiles, read_config, read_secret};
use crate::config::host_url::Host;
use crate::config::table::{Id, Precedence, SETTINGS, Setting, ValueKind};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::login::store::{Login, LoginKey, Logins};
use crate::platform::context::Context;
use crate::platform::time::{Moment, parse_duration};

/// The variable that holds an identity token where no setting names another one.
pub const OIDC_TOKEN: &str = "DATABRICKS_OIDC_TOKEN";

/// The variable by which a job of Azure DevOps proves who it is.
pub const DEVOPS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";

/// What each auth method authenticates with, all of it.
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

/// The auth types that are logins of a person, and need no other setting.
const LOGINS: [&str; 3] = ["external-browser", "databricks-cli", "azure-cli"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This flag.
    Flag(&'static str),
    /// This variable.
    Env(&'static str),
    /// This profile of the configuration file.
    Profile(String),
    /// The workspace URL's query.
    Query,
    /// A login of our own, where nothing else names a workspace.
    Login,
    /// Nowhere: it has its usual value.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::Env(name) => f.write_str(name),
            Origin::Profile(name) => write!(f, "profile {name}"),
            Origin::Query => f.write_str("the workspace URL"),
            Origin::Login => f.write_str("the only login"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value and its origin. Every value is kept as a secret; [`Settings::text`] gives out those
/// that are none.
#[derive(Clone, Debug)]
pub struct Value {
    text: Secret,
    /// Where it came from.
    pub origin: Origin,
}

/// The rows of the table that have a value.
#[derive(Debug)]
pub struct Settings {
    values: Vec<(Id, Value)>,
    /// When they were first looked for: a file that is a pipe may have taken a while.
    pub began: Moment,
    /// The profile that was loaded, and its own `host` as it stands in the file.
    pub profile: Option<(String, Option<String>)>,
    /// What became of the configuration file.
    pub file: ConfigFile,
    /// Variables that are set and do not count, because a profile was named by flag.
    pub ignored: Vec<&'static str>,
    /// Read once a call: several rows of the chain ask for it.
    login: OnceCell<Option<Login>>,
    /// The same for an identity token's file, which its platform replaces at any time.
    id_token: OnceCell<std::result::Result<Secret, String>>,
}

/// What became of the configuration file, for those who wonder what is missing.
#[derive(Debug, Default)]
pub enum ConfigFile {
    /// Workspace or auth method were known without it, and no profile was named.
    #[default]
    NotNeeded,
    /// HOME tells no place for it.
    NoHome,
    /// There is none.
    Missing(PathBuf),
    /// No profile was named, and it has none called DEFAULT.
    NoDefault {
        /// Where it is.
        path: PathBuf,
        /// The profiles it has.
        profiles: String,
    },
    /// A profile was read.
    Read,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            values: Vec::new(),
            began: Moment::now(),
            profile: None,
            file: ConfigFile::NotNeeded,
            ignored: Vec::new(),
            login: OnceCell::new(),
            id_token: OnceCell::new(),
        }
    }
}

impl Settings {
    /// Collects all values. `flags` are checked names with their texts.
    pub fn resolve(flags: &[(Id, String)], context: &Context) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.load(flags, context).map(|()| settings)
    }

    /// The same, but what was collected before something went wrong is kept.
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
            self.set_flag(*id, text, || patience(flags, context))?;
        }
        let variables = environment(context)?;
        if matches!(self.origin(Id::Profile), Origin::Flag(_)) {
            self.load_around_profile(&variables, context)?;
        } else {
            self.take_variables(&variables, |_| true);
            self.load_file(context)?;
        }
        self.load_login(context);
        self.check_types()?;
        self.check_conflict()?;
        self.normalise_host()
    }

    /// A value that is no secret.
    pub fn text(&self, id: Id) -> Option<&str> {
        debug_assert!(SETTINGS[id as usize].kind != ValueKind::Secret);
        self.get(id).map(|value| value.text.expose())
    }

    /// A value that is a secret.
    pub fn secret(&self, id: Id) -> Option<&Secret> {
        self.get(id).map(|value| &value.text)
    }

    /// All values that are secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let secret = |id: Id| SETTINGS[id as usize].kind == ValueKind::Secret;
        self.values.iter().filter(move |(id, _)| secret(*id)).map(|(_, value)| &value.text)
    }

    /// The variables that may hold secrets, for whoever starts a program that wants none.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        let secrets = SETTINGS.iter().filter(|row| row.kind == ValueKind::Secret);
        let oidc = [self.text(Id::OidcTokenEnv), Some(OIDC_TOKEN), Some(DEVOPS_TOKEN)];
        secrets.flat_map(|row| row.env.iter().copied()).chain(oidc.into_iter().flatten())
    }

    /// Whether a switch was given or a boolean is true.
    pub fn is_on(&self, id: Id) -> bool {
        self.get(id).is_some_and(|value| parse_bool(value.text.expose()) == Some(true))
    }

    /// A value with its origin.
    pub fn get(&self, id: Id) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    /// The workspace's id, if there is one.
    pub fn workspace_id(&self) -> Option<&str> {
        // The CLI writes the word `none` where a login has no workspace.
        self.text(Id::WorkspaceId).filter(|id| *id != "none")
    }

    /// The stored login that these settings mean, as it was when this was first called: the
    /// profile's, else the workspace's.
    pub fn login(&self, context: &Context) -> Option<&Login> {
        let look = || self.find_login(&Logins::of(context).ok()?);
        self.login.get_or_init(look).as_ref()
    }

    /// The same as it is now.
    pub fn find_login(&self, logins: &Logins<'_>) -> Option<Login> {
        let host = self.text(Id::Host)?;
        let workspace = LoginKey::Host(host.to_owned());
        let own = self.login_key().filter(|key| *key != workspace);
        let is_other = |login: &Login| match (&login.workspace_id, self.workspace_id()) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        // A profile that was pointed at another workspace is another identity.
        let keys = own.into_iter().chain([workspace]);
        let mut logins = keys.filter_map(|key| logins.get(&key));
        logins.find(|login| login.host == host && !is_other(login))
    }

    /// What a login that is made with these settings belongs to.
    pub fn login_key(&self) -> Option<LoginKey> {
        let host = self.text(Id::Host);
        // A flag that names another workspace than the profile means that one.
        let by_flag = matches!(self.origin(Id::Host), Origin::Flag(_));
        let is_other = |own: &String| {
            let own = Host::parse(own, &Origin::Default).ok();
            by_flag && own.is_some_and(|own| Some(own.url.as_str()) != host)
        };
        match &self.profile {
            Some((name, own)) if !own.as_ref().is_some_and(is_other) => {
                Some(LoginKey::Profile(name.clone()))
            }
            _ => host.map(|host| LoginKey::Host(host.to_owned())),
        }
    }

    /// What the identity token's file held when this was first asked, but for blanks at its ends.
    pub fn id_token_file(&self) -> &std::result::Result<Secret, String> {
        self.id_token.get_or_init(|| {
            let path = self.text(Id::OidcTokenFile).unwrap_or_default();
            read_config(Path::new(path)).map_or_else(
                |e| Err(e.because.into_iter().next().unwrap_or(e.message)),
                |text| match text.map(Secret::new) {
                    Some(text) => Ok(Secret::new(text.expose().trim())),
                    None => Err("it is not there".to_owned()),
                },
            )
        })
    }

    /// Databricks' name for a setting, or ours.
    pub fn name(&self, id: Id) -> &'static str {
        SETTINGS[id as usize].name
    }

    /// Where a value came from, for messages.
    pub fn origin(&self, id: Id) -> &Origin {
        self.get(id).map_or(&Origin::Default, |value| &value.origin)
    }

    /// Where each value comes from that says whose credential is wanted, and for what.
    pub fn origins(&self) -> impl Iterator<Item = (&'static Setting, &Origin)> {
        let rows = SETTINGS[..=Id::PgUser as usize].iter();
        rows.filter_map(|row| Some((row, &self.get(row.id)?.origin)))
    }

    /// All rows that have a value, for `status` and messages; secrets as `***`.
    pub fn shown(&self) -> impl Iterator<Item = (&'static Setting, &str, &Origin)> {
        self.values.iter().map(|(id, value)| {
            let row = &SETTINGS[*id as usize];
            let text = if row.kind == ValueKind::Secret { "***" } else { value.text.expose() };
            (row, text, &value.origin)
        })
    }

    fn set(&mut self, id: Id, text: &str, origin: Origin) {
        // Loaders fill what is still empty and never unset, as in the SDKs, where what is false is empty.
        let is_false =
            || SETTINGS[id as usize].kind == ValueKind::Bool && parse_bool(text) == Some(false);
        if !text.is_empty() && self.get(id).is_none() && !is_false() {
            self.values.push((id, Value { text: Secret::new(text), origin }));
        }
    }

    fn set_flag(&mut self, id: Id, text: &str, patience: impl Fn() -> Duration) -> Result<()> {
        let row = &SETTINGS[id as usize];
        let origin = Origin::Flag(row.flag);
        match row.kind {
            ValueKind::Switch => self.set(id, "true", origin),
            ValueKind::SecretFile => {
                let secret = read_secret(row.flag, text, patience())?;
                let holds = if id == Id::TokenFile { Id::Token } else { Id::ClientSecret };
                self.set(holds, secret.expose(), origin);
            }
            _ if text.is_empty() => {
                return Err(Error::usage(format!("--{} got an empty value", row.flag)));
            }
            _ => self.set(id, text, origin),
        }
        Ok(())
    }

    /// A profile that was named by flag takes precedence over inherited variables, as in the
    /// Databricks CLI since 1.7.0: some never count beside it, the others only fill what it lacks,
    /// and no credential at all if profile and flags hold a complete method.
    fn load_around_profile(&mut self, variables: &[Variable<'_>], context: &Context) -> Result<()> {
        self.take_variables(variables, |row| row.precedence == Precedence::Always);
        self.load_file(context)?;
        let complete = self.holds_method();
        let fills = |row: &Setting| match row.precedence {
            Precedence::Always => true,
            Precedence::NotBesideProfile => false,
            Precedence::FillsProfile => row.group.is_empty() || !complete,
        };
        self.take_variables(variables, fills);
        let others = variables.iter().filter(|known| {
            let origin = Origin::Env(known.name);
            !self.values.iter().any(|(_, value)| value.origin == origin)
        });
        let mut ignored: Vec<&'static str> = others.map(|known| known.name).collect();
        if complete && context.var(OIDC_TOKEN).is_some() && self.get(Id::OidcTokenEnv).is_none() {
            ignored.push(OIDC_TOKEN);
        }
        self.ignored = ignored;
        Ok(())
    }

    /// Takes the variables whose rows are right, unless their settings have a value already.
    fn take_variables(&mut self, variables: &[Variable<'_>], right: impl Fn(&Setting) -> bool) {
        for Variable { row, name, text } in variables.iter().filter(|known| right(known.row)) {
            self.set(row.id, text, Origin::Env(name));
        }
    }

    /// Whether profile and flags name all that one auth method authenticates with.
    fn holds_method(&self) -> bool {
        let own = |id: &Id| !matches!(self.origin(*id), Origin::Env(_) | Origin::Default);
        let is_login = self.text(Id::AuthType).is_some_and(|name| LOGINS.contains(&name));
        is_login || METHODS.iter().any(|ids| ids.iter().all(own))
    }

    /// Where profiles are; nothing where HOME tells no place.
    fn config_file(&self, context: &Context) -> Result<Option<PathBuf>> {
        match self.text(Id::ConfigFile) {
            Some(path) => expand_home(path, context).map(Some),
            None => Ok(context.home().map(|home| home.join(".databrickscfg"))),
        }
    }

    /// Whether some profile is a login of the Databricks CLI at this workspace: `databricks auth
    /// login` leaves one, with this `auth_type`.
    pub fn has_cli_profile(&self, context: &Context) -> bool {
        let host = self.text(Id::Host).unwrap_or_default();
        let path = self.config_file(context).ok().flatten();
        let text = path.and_then(|path| read_config(&path).ok().flatten()).unwrap_or_default();
        databrickscfg::sections(&text).unwrap_or_default().into_iter().any(|name| {
            let section = databrickscfg::section(&text, name).unwrap_or_default();
            let has = |key: &str, right: &dyn Fn(&str) -> bool| {
                section.iter().any(|(known, value)| *known == key && right(value))
            };
            let here = |text: &str| Host::parse(text, name).is_ok_and(|known| known.url == host);
            has("auth_type", &|value| value == "databricks-cli") && has("host", &here)
        })
    }

    /// The profile, unless the workspace or an auth method is already known without one.
    fn load_file(&mut self, context: &Context) -> Result<()> {
        let requested = self.text(Id::Profile).map(str::to_owned);
        let mut rows = self.values.iter().map(|(id, _)| &SETTINGS[*id as usize]);
        let known = rows.any(|row| !row.group.is_empty() || row.id == Id::Host);
        if requested.is_none() && known {
            return Ok(());
        }
        let path = match self.config_file(context)? {
            Some(path) => path,
            None if requested.is_none() => {
                self.file = ConfigFile::NoHome;
                return Ok(());
            }
            None => {
                return Err(Error::usage("HOME is not set, so there is no ~/.databrickscfg")
                    .hint("DATABRICKS_CONFIG_FILE=/path/to/.databrickscfg"));
            }
        };
        let Some(text) = read_config(&path)? else {
            // The SDKs go on without it; but whoever names a profile wants to know.
            if let Some(name) = &requested {
                let origin = self.origin(Id::Profile);
                let (name, path) = (redact(name), path.display());
                if matches!(self.get(Id::Profile).map(|v| &v.origin), Some(Origin::Flag(_))) {
                    return Err(Error::usage(format!(
                        "profile {name} from {origin}: there is no {path}"
                    ))
                    .hint(format!("a file with [{name}] and host = https://…, or --host")));
                }
                context
                    .note(&format!("profile {name} from {origin} is not used: there is no {path}"));
            }
            self.file = ConfigFile::Missing(path);
            return Ok(());
        };
        let parse =
            |e: Error| Error::usage(format!("cannot read {}", path.display())).because(e.message);
        let asked = match &requested {
            Some(name) => Some(name.clone()),
            None => databrickscfg::section(&text, RESERVED)
                .map_err(parse)?
                .iter()
                .find(|(key, value)| *key == "default_profile" && !value.is_empty())
                .map(|(_, value)| value.trim().to_owned()),
        };
        let name = asked.as_deref().unwrap_or(databrickscfg::DEFAULT);
        if name == RESERVED {
            return Err(Error::usage(format!("{RESERVED} is a reserved section, not a profile")));
        }
        let section = databrickscfg::section(&text, name).map_err(parse)?;
        if section.is_empty() {
            return match asked {
                None => {
                    let profiles = profiles(&text);
                    self.file = ConfigFile::NoDefault { path, profiles };
                    Ok(())
                }
                Some(name) => {
                    let origin: &dyn fmt::Display = match requested {
                        Some(_) => self.origin(Id::Profile),
                        None => &"its default_profile",
                    };
                    Err(no_profile(&path, &name, origin, &text))
                }
            };
        }
        self.file = ConfigFile::Read;
        for (key, value) in &section {
            if let Some(row) = SETTINGS.iter().find(|row| row.profile && row.name == *key) {
                self.set(row.id, value, Origin::Profile(name.to_owned()));
            }
        }
        let host = section.iter().find(|(key, _)| *key == "host");
        let host = host.map(|(_, value)| (*value).to_owned()).filter(|host| !host.is_empty());
        self.profile = Some((name.to_owned(), host));
        Ok(())
    }

    /// Whoever has logged in once and has configured nothing means that workspace.
    fn load_login(&mut self, context: &Context) {
        if self.get(Id::Host).is_some() || self.profile.is_some() || self.has_identity() {
            return;
        }
        let logins = Logins::of(context).map_or(Vec::new(), |logins| logins.all());
        if let [Login { key: LoginKey::Host(url), .. }] = &logins[..] {
            self.set(Id::Host, url, Origin::Login);
        }
    }

    /// Whether any setting of an auth method is there. A tenant alone is no identity.
    pub fn has_identity(&self) -> bool {
        const NO_IDENTITY: [Id; 2] = [Id::AzureTenantId, Id::AzureLoginAppId];
        let mut rows = self.values.iter().map(|(id, _)| &SETTINGS[*id as usize]);
        rows.any(|row| !row.group.is_empty() && !NO_IDENTITY.contains(&row.id))
    }

    /// A part of a service principal. If it completes no auth method, it is a mistake, and never a
    /// reason to use a person's login instead.
    pub fn part_of_principal(&self) -> Option<Id> {
        let parts = [Id::ClientId, Id::ClientSecret, Id::AzureClientSecret];
        parts.into_iter().find(|id| self.get(*id).is_some())
    }

    fn check_types(&self) -> Result<()> {
        for (row, text, origin) in self.shown() {
            let wanted = match row.kind {
                ValueKind::Bool if parse_bool(text).is_none() => "true or false",
                ValueKind::Int if text.parse::<i64>().is_err() => "a whole number",
                _ => continue,
            };
            return Err(Error::usage(format!(
                "{} from {origin} is not {wanted}: {}",
                row.name,
                redact(text)
            )));
        }
        Ok(())
    }

    /// More than one auth method and nothing that decides between them.
    fn check_conflict(&self) -> Result<()> {
        let rows = self.values.iter().map(|(id, _)| &SETTINGS[*id as usize]);
        let mut groups: Vec<&str> = Vec::new();
        for row in rows.filter(|row| !row.group.is_empty()) {
            if !groups.contains(&row.group) {
                groups.push(row.group);
            }
        }
        if groups.len() < 2 || self.get(Id::AuthType).is_some() {
            return Ok(());
        }
        groups.sort_unstable();
        let mut error = Error::usage(format!(
            "more than one authorization method configured: {}",
            groups.join(" and ")
        ));
        for group in groups {
            let members = self.shown().filter(|(row, _, _)| row.group == group);
            let members: Vec<String> =
                members.map(|(row, _, origin)| format!("{} from {origin}", row.name)).collect();
            error = error.because(format!("{group}: {}", members.join(", ")));
        }
        Err(error.hint("choose with --auth-type or DATABRICKS_AUTH_TYPE, or unset one of them"))
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
            if let Some(text) = self.text(id).filter(|text| !crate::config::host_url::is_id(text)) {
                let (name, origin) = (SETTINGS[id as usize].name, self.origin(id));
                return Err(Error::usage(format!(
                    "{name} from {origin} is not an id: {}",
                    redact(text)
                )));
            }
        }
        Ok(())
    }
}

/// How long a secret may take to come, as far as that is known so early: as long as the whole
/// call, and never longer than its default.
fn patience(flags: &[(Id, String)], context: &Context) -> Duration {
    const MOST: Duration = Duration::from_secs(10);
    let flag = flags.iter().find(|(id, _)| *id == Id::Timeout).map(|(_, text)| text.as_str());
    let text = flag.or_else(|| context.var("LAKEBASE_TOKEN_TIMEOUT")?.to_str());
    text.and_then(|text| parse_duration(text).ok()).map_or(MOST, |timeout| timeout.min(MOST))
}

/// A variable that is a setting.
struct Variable<'w> {
    row: &'static Setting,
    name: &'static str,
    text: &'w str,
}

/// The variables that are settings, in the table's order.
fn environment(context: &Context) -> Result<Vec<Variable<'_>>> {
    let mut found = Vec::new();
    for row in SETTINGS {
        for &name in row.env {
            let Some(value) = context.var(name) else { continue };
            let Some(text) = value.to_str() else {
                return Err(Error::usage(format!("{name} is not valid UTF-8")));
            };

            // Databricks' samples use this common name, so only what is surely meant is taken.
            if name != "ENDPOINT_NAME" || text.starts_with("projects/") {
                found.push(Variable { row, name, text });
            }
        }
    }
    Ok(found)
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A path with a leading `~` for HOME, as in the SDKs.
pub fn expand_home(path: &str, context: &Context) -> Result<PathBuf> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
    let home = context.home().ok_or_else(|| {
        Error::usage(format!("HOME is not set, so {} cannot be found", redact(path)))
    })?;
    Ok(home.join(rest.trim_start_matches('/')))
}
