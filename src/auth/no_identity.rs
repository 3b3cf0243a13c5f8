//! The error if no auth type can be used: nothing is configured, or only a part of one.

use crate::config::profile::{self, ConfigFile};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::variables::misspelled_variables;
use crate::credential::redact::redact;
use crate::error::Error;
use crate::login::store::{Login, Logins};
use crate::platform::context::{Context, NO_HOME};
use crate::quoting::sh_word;

/// The most logins that a hint names.
const MAX_LOGINS: usize = 3;

/// What is missing: the workspace, the other part of a service principal, or everything.
pub fn error(settings: &Settings, context: &Context) -> Error {
    let error = no_workspace(settings)
        .or_else(|| incomplete_databricks_principal(settings))
        .or_else(|| incomplete_entra_principal(settings));
    let error = error
        .unwrap_or_else(|| no_identity(settings, context))
        .because(configured_summary(settings, context));
    let error = match settings.unknown_keys(context) {
        Some(keys) => error.because(format!("{keys}; known keys are lower-case, such as host")),
        None => error,
    };
    misspelled_variables(context).into_iter().fold(error, Error::because)
}

fn no_workspace(settings: &Settings) -> Option<Error> {
    let has = |id| settings.get(id).is_some();
    let has_identity = has(Id::Token) || has(Id::ClientId) && has(Id::ClientSecret);
    let error = Error::usage("no workspace is configured");
    (has_identity && !has(Id::Host))
        .then(|| error.hint("DATABRICKS_HOST=https://WORKSPACE-URL, or --host"))
}

fn incomplete_databricks_principal(settings: &Settings) -> Option<Error> {
    let has = |id| settings.get(id).is_some();
    match (has(Id::ClientId), has(Id::ClientSecret)) {
        (true, false) => Some(
            lacks(settings, Id::ClientId, Id::ClientSecret)
                .hint("DATABRICKS_CLIENT_SECRET with its secret, or --client-secret-file PATH"),
        ),
        (false, true) => Some(
            lacks(settings, Id::ClientSecret, Id::ClientId)
                .hint("DATABRICKS_CLIENT_ID with the id of the service principal"),
        ),
        _ => None,
    }
}

fn incomplete_entra_principal(settings: &Settings) -> Option<Error> {
    let secret = Id::AzureClientSecret;
    settings.get(secret)?;
    Some(if settings.get(Id::AzureClientId).is_none() {
        lacks(settings, secret, Id::AzureClientId).hint("ARM_CLIENT_ID")
    } else if settings.get(Id::AzureTenantId).is_none() {
        lacks(settings, secret, Id::AzureTenantId).hint("ARM_TENANT_ID")
    } else {
        let origin = settings.origin(secret);
        Error::usage(format!("azure_client_secret from {origin} is for a workspace on Azure")).hint(
            format!("{}, or --auth-type with the one that is meant", settings.removal(secret)),
        )
    })
}

fn lacks(settings: &Settings, id: Id, missing: Id) -> Error {
    let (name, origin) = (settings.name(id), settings.origin(id));
    Error::usage(format!("{name} from {origin} has no {}", settings.name(missing)))
}

fn no_identity(settings: &Settings, context: &Context) -> Error {
    let mut error = Error::usage("no Databricks identity is configured");
    for problem in Logins::of(context).map_or(Vec::new(), |logins| logins.problems()) {
        error = error.because(format!("{}: {}", problem.message, problem.because.join(", ")));
    }
    for login in selectable_logins(settings, context).iter().take(MAX_LOGINS) {
        let (flag, who) = (login.key.shown_words(), redact(&login.who));
        error = error.hint(format!("{flag}  # the login of {who}"));
    }

    let here = settings.profiles_here(context).unwrap_or_default();
    let profiles = match &settings.file {
        ConfigFile::NoDefault { profiles, .. } => profiles,
        ConfigFile::NotNeeded => &here,
        _ => &Vec::new(),
    };
    for name in profiles.iter().take(MAX_LOGINS) {
        error = error.hint(format!("--profile {}", sh_word(&redact(name))));
    }

    let url = settings.text(Id::Host).unwrap_or("https://WORKSPACE-URL");
    error = error.hint(format!("lakebase-token login --host {url}  # a person, with a browser"));
    if context.find_program("databricks").is_some() {
        error = error.hint(format!(
            "databricks auth login --host {url}  # a person, with the Databricks CLI"
        ));
    }
    error.hint("DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, for a service principal")
}

/// The stored logins that a flag would select.
fn selectable_logins(settings: &Settings, context: &Context) -> Vec<Login> {
    let Ok(stored) = Logins::of(context) else { return Vec::new() };
    let mut logins = stored.all();
    match settings.text(Id::Host) {
        Some(host) => logins.retain(|login| login.host == host),
        // A single login needs no flag: it is here only because its profile means something else.
        None if matches!(stored.only(), Ok(Some(_))) => logins.clear(),
        None => (),
    }
    logins
}

/// What is configured and what was not read, so that the user sees what is missing.
pub fn configured_summary(settings: &Settings, context: &Context) -> String {
    const CONCERNS: [Id; 11] = [
        Id::Host,
        Id::Profile,
        Id::ConfigFile,
        Id::Token,
        Id::ClientId,
        Id::ClientSecret,
        Id::AuthType,
        Id::DatabricksCliPath,
        Id::AzureFederatedTokenFile,
        Id::AzureFederatedClientId,
        Id::AzureFederatedTenantId,
    ];
    let found: Vec<String> = settings
        .shown()
        .filter(|(row, ..)| CONCERNS.contains(&row.id) || !row.method.is_empty())
        .map(|(row, text, origin)| format!("{}={} from {origin}", row.name, redact(text)))
        .collect();
    if found.is_empty() && matches!(settings.file, ConfigFile::Read) {
        return "found nothing".to_owned();
    }
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    let file = || {
        let path = settings.config_path(context).ok().flatten();
        path.map_or("~/.databrickscfg".to_owned(), |path| path.display().to_string())
    };

    match &settings.file {
        ConfigFile::Read => format!("found only {found}"),
        ConfigFile::NotNeeded if settings.profiles_here(context).is_none() => {
            format!("found only {found}, and there is no {}", file())
        }
        ConfigFile::NotNeeded => {
            format!(
                "found only {found}; {} was not read, since these are set and no profile is named",
                file()
            )
        }
        ConfigFile::NoHome => format!("found {found}, and {NO_HOME}"),
        ConfigFile::Missing(path) => format!("found {found}, and there is no {}", path.display()),
        ConfigFile::NoDefault { path, profiles } => {
            let path = path.display();
            format!(
                "found {found}; {path} has no DEFAULT profile, but {}",
                redact(&profile::list(profiles))
            )
        }
    }
}
