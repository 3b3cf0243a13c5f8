//! Why no auth type can be used: nothing is configured, or only half of one is.

use crate::config::resolve::{ConfigFile, Settings};
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::Error;

/// No identity, or half of one.
pub fn nothing(settings: &Settings) -> Error {
    let from = |id: Id, name: &str| format!("{name} from {}", settings.origin(id));
    let half = |error: Error| error.because(incomplete(settings));
    let (host, id) = (settings.get(Id::Host), settings.get(Id::ClientId));
    let (secret, token) = (settings.get(Id::ClientSecret), settings.get(Id::Token));
    if host.is_none() && (token.is_some() || id.is_some() && secret.is_some()) {
        return half(Error::usage("no workspace is configured"))
            .hint("DATABRICKS_HOST=https://…, or --host");
    }
    if id.is_some() && secret.is_none() {
        let words = format!("{} has no client_secret", from(Id::ClientId, "client_id"));
        return half(Error::usage(words))
            .hint("DATABRICKS_CLIENT_SECRET, or --client-secret-file PATH");
    }
    if secret.is_some() && id.is_none() {
        let words = format!("{} has no client_id", from(Id::ClientSecret, "client_secret"));
        return half(Error::usage(words)).hint("DATABRICKS_CLIENT_ID");
    }
    if settings.get(Id::AzureClientSecret).is_some() {
        let parts = [Id::AzureClientId, Id::AzureTenantId];
        let missing = parts.into_iter().find(|id| settings.get(*id).is_none());
        let secret = from(Id::AzureClientSecret, "azure_client_secret");
        return match missing {
            Some(id) => half(Error::usage(format!("{secret} has no {}", settings.name(id))))
                .hint(if id == Id::AzureClientId { "ARM_CLIENT_ID" } else { "ARM_TENANT_ID" }),
            None => half(Error::usage(format!("{secret} is for a workspace on Azure")))
                .hint("unset ARM_CLIENT_SECRET, or --auth-type with the one that is meant"),
        };
    }
    let url = settings.text(Id::Host).unwrap_or("https://…");
    half(Error::usage("no Databricks identity is configured"))
        .hint(format!("lakebase-token login --host {url} (a person, by a browser)"))
        .hint(format!("databricks auth login --host {url} (a person, by the Databricks CLI)"))
        .hint("DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET (a service principal)")
}

/// What was found and what was not read, so that the reader sees what is missing.
pub fn incomplete(settings: &Settings) -> String {
    const CONCERNS: [Id; 8] = [
        Id::Host,
        Id::Profile,
        Id::ConfigFile,
        Id::Token,
        Id::ClientId,
        Id::ClientSecret,
        Id::AuthType,
        Id::DatabricksCliPath,
    ];
    let found: Vec<String> = settings
        .shown()
        .filter(|(row, ..)| CONCERNS.contains(&row.id) || !row.group.is_empty())
        .map(|(row, text, origin)| format!("{}={} from {origin}", row.name, redact(text)))
        .collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    match &settings.file {
        ConfigFile::Read => format!("found only {found}"),
        ConfigFile::NotNeeded => {
            format!("found only {found}; ~/.databrickscfg was not read, since no profile was named")
        }
        ConfigFile::NoHome => format!("found {found}, and HOME is not set"),
        ConfigFile::Missing(path) => format!("found {found}, and there is no {}", path.display()),
        ConfigFile::NoDefault { path, profiles } => {
            let path = path.display();
            format!("found {found}; {path} has no DEFAULT profile, but {}", redact(profiles))
        }
    }
}
