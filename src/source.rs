//! Where workspace tokens come from: the credential chain of unified authentication.
//!
//! A row is an auth type under Databricks' name, in the Go SDK's order. The first that is
//! configured is the one; unlike in the SDK its failure is final and is told, because a helper
//! that silently becomes somebody else is worse than one that fails. Types that are recognised
//! but cannot be had here have no `fetch`: where one is configured, nothing else is tried.

mod databricks_cli;
mod oauth_m2m;
mod pat;

use crate::error::{Error, Result, clean};
use crate::file::Held;
use crate::http::Client;
use crate::settings::{Id, Settings};
use crate::time::Deadline;
use crate::token::Token;
use crate::world::World;

/// An auth type.
pub struct Source {
    /// Databricks' name for it.
    pub name: &'static str,
    /// What makes it the one, for messages.
    pub needs: &'static str,
    /// Whether all it needs is there.
    pub configured: fn(&Settings, &World) -> bool,
    /// Who this is, as far as it can be known without asking anybody.
    pub identity: fn(&Settings) -> String,
    /// The static secret it authenticates with.
    pub secret: Option<Id>,
    /// The setting that is the role's name too: a service principal's client id.
    pub role: Option<Id>,
    /// Whether the one who is logged in can change without any setting changing.
    pub switches: bool,
    /// Whether a refused token can be replaced by asking again.
    pub renews: bool,
    /// Gets a token, or says why there is none.
    pub fetch: Option<fn(&Ask<'_>) -> Result<Token>>,
}

/// What a source may use.
pub struct Ask<'a> {
    /// All settings.
    pub settings: &'a Settings,
    /// The workspace's URL.
    pub url: &'a str,
    /// The surroundings.
    pub world: &'a World,
    /// Sends requests.
    pub client: &'a Client<'a>,
    /// Finds something out by the given request, and believes it for a day.
    pub found: &'a FindOnce<'a>,
    /// The lock this runs under, if there could be one.
    pub held: Option<&'a Held<'a>>,
    /// The workspace has refused the last token, so a cached one will not do.
    pub refused: bool,
    /// When all must have ended.
    pub deadline: Deadline,
}

/// See [`Ask::found`]: what it is, and how to find it.
pub type FindOnce<'a> = dyn Fn(&str, &dyn Fn() -> Result<String>) -> Result<String> + 'a;

const fn recognised(
    name: &'static str,
    needs: &'static str,
    configured: fn(&Settings, &World) -> bool,
) -> Source {
    Source {
        name,
        needs,
        configured,
        identity: |_| String::new(),
        secret: None,
        role: None,
        switches: false,
        renews: false,
        fetch: None,
    }
}

fn has(settings: &Settings, ids: &[Id]) -> bool {
    ids.iter().all(|id| settings.get(*id).is_some())
}

/// The chain, in the Go SDK's order (`config/auth_default.go`).
#[rustfmt::skip]
pub static SOURCES: &[Source] = &[
    pat::SOURCE,
    recognised("basic", "host, username, password", |s, _| has(s, &[Id::Username, Id::Password])),
    oauth_m2m::SOURCE,
    databricks_cli::SOURCE,
    recognised("metadata-service", "metadata_service_url", |s, _| has(s, &[Id::MetadataServiceUrl])),
    recognised("github-oidc", "a GitHub Actions job with id-token: write", |s, _| has(s, &[Id::ActionsRequestUrl, Id::ActionsRequestToken])),
    recognised("azure-devops-oidc", "an Azure DevOps job", |_, w| w.var("SYSTEM_ACCESSTOKEN").is_some()),
    recognised("env-oidc", "DATABRICKS_OIDC_TOKEN", has_oidc_variable),
    recognised("file-oidc", "databricks_id_token_filepath", |s, _| has(s, &[Id::OidcTokenFile])),
    recognised("github-oidc-azure", "azure_client_id and a GitHub Actions job", |s, _| has(s, &[Id::AzureClientId, Id::ActionsRequestUrl])),
    recognised("azure-msi", "azure_use_msi", |s, _| s.is_on(Id::AzureUseMsi)),
    recognised("azure-client-secret", "azure_client_id, azure_client_secret, azure_tenant_id", |s, _| has(s, &[Id::AzureClientId, Id::AzureClientSecret, Id::AzureTenantId])),
    recognised("azure-cli", "azure_workspace_resource_id and the Azure CLI", |s, _| has(s, &[Id::AzureResourceId])),
    recognised("google-credentials", "google_credentials", |s, _| has(s, &[Id::GoogleCredentials])),
    recognised("google-id", "google_service_account", |s, _| has(s, &[Id::GoogleServiceAccount])),
];

fn has_oidc_variable(settings: &Settings, world: &World) -> bool {
    let name = settings.text(Id::OidcTokenEnv);
    name.is_some() || world.var("DATABRICKS_OIDC_TOKEN").is_some()
}

/// The auth type that will be used.
pub fn choose(settings: &Settings, world: &World) -> Result<&'static Source> {
    let supported = || SOURCES.iter().filter(|source| source.fetch.is_some());
    let names = || supported().map(|source| source.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = settings.text(Id::AuthType) {
        let origin = settings.origin(Id::AuthType);
        let known = SOURCES.iter().find(|source| source.name == name);
        return match known {
            Some(source) if source.fetch.is_none() => {
                Err(unsupported(source, &format!("auth type from {origin}"), &names()))
            }
            Some(source) if !(source.configured)(settings, world) => {
                Err(Error::usage(format!("auth type {name} from {origin} needs {}", source.needs))
                    .because(incomplete(settings)))
            }
            Some(source) => Ok(source),
            None => {
                Err(Error::usage(format!("auth type {} from {origin} does not exist", clean(name)))
                    .hint(format!("one of {}", names())))
            }
        };
    }
    let configured = |source: &&Source| (source.configured)(settings, world);
    // The CLI needs no setting of its own, so whatever was configured on purpose or by the
    // surroundings goes before it.
    let is_cli = |source: &&Source| source.name == databricks_cli::SOURCE.name;
    let explicit = SOURCES.iter().filter(|source| !is_cli(source));
    match explicit.chain(SOURCES.iter().filter(is_cli)).find(configured) {
        Some(source) if source.fetch.is_some() => Ok(source),
        Some(source) => Err(unsupported(source, "what is configured is", &names())),
        None => Err(nothing(settings)),
    }
}

fn unsupported(source: &Source, lead: &str, names: &str) -> Error {
    Error::usage(format!("{lead} {}, which lakebase-token does not support yet", source.name))
        .because(format!("it is chosen by {}", source.needs))
        .hint(format!("--auth-type or DATABRICKS_AUTH_TYPE with one of {names}"))
}

/// No identity at all.
fn nothing(settings: &Settings) -> Error {
    Error::usage("no Databricks identity is configured")
        .because(incomplete(settings))
        .hint("databricks auth login --host https://… (a person, through the Databricks CLI)")
        .hint("DATABRICKS_HOST, DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET (a service principal)")
}

/// What was found, so that the reader sees what is missing.
fn incomplete(settings: &Settings) -> String {
    let found: Vec<String> = settings
        .shown()
        .filter(|(row, ..)| row.profile || row.id == Id::Profile)
        .map(|(row, text, origin)| format!("{}={} from {origin}", row.name, clean(text)))
        .collect();
    match (&settings.missing_file, found.is_empty()) {
        (Some(path), _) => format!("there is no {}; found {}", path.display(), found.join(", ")),
        (None, true) => "neither the environment nor ~/.databrickscfg says anything".to_owned(),
        (None, false) => format!("found only {}", found.join(", ")),
    }
}
