//! Where workspace tokens come from: the credential chain of unified authentication.
//!
//! A row is an auth type under Databricks' name, in the Go SDK's order. The first that is
//! configured is the one, logins last, since they need nothing but a host. Unlike in the SDK a
//! failure is final and is told: a helper that silently becomes somebody else is worse than one
//! that fails. Types that are recognised but cannot be had here have no `fetch`: where one is
//! configured, nothing else is tried.

pub mod azure;
mod azure_cli;
mod azure_client_secret;
mod azure_devops_oidc;
mod azure_msi;
mod databricks_cli;
mod env_oidc;
mod exchange;
mod file_oidc;
mod github_oidc;
mod github_oidc_azure;
mod grant;
mod host_metadata;
mod login;
mod metadata_service;
mod oauth_m2m;
mod pat;
mod runtime_oauth;

use std::fmt;

use ring::digest;

use crate::error::{Error, Result, clean, nearest};
use crate::file::{Held, hex};
use crate::http::Client;
use crate::secret::Secret;
use crate::settings::host::Host;
use crate::settings::{ConfigFile, Id, Origin, Settings};
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
    /// Who this is, as far as it can be known without asking anybody: all that decides it.
    pub identity: fn(&Settings, &World) -> String,
    /// Whether the program it needs is on this machine; asked only when it is needed.
    pub ready: fn(&Settings, &World) -> bool,
    /// The static secret it authenticates with.
    pub secret: Option<Id>,
    /// The settings that say where its secret is, if it is none itself.
    pub secret_places: &'static [Id],
    /// The identity token that it will send, as far as it is at hand without a request.
    pub identity_token: fn(&Settings, &World) -> Option<Secret>,
    /// Refuses settings that would send a token where it must not go.
    pub check: fn(&Settings) -> Result<()>,
    /// The setting that is the role's name too: a service principal's client id.
    pub role: Option<Id>,
    /// Whether the one who is logged in can change without any setting changing.
    pub switches: bool,
    /// Variables that decide how it gets where it asks, beside those of every request.
    pub ways: &'static [&'static str],
    /// Whether a refused token can be replaced by asking again.
    pub renews: bool,
    /// Whether its tokens are cached: a copy of a personal access token would only be one more.
    pub cached: bool,
    /// Whether it is a person's login, of whichever program.
    pub login: bool,
    /// Whether it is a login that `login` has made.
    pub own_login: bool,
    /// Whether it can act as a group (`group_id`).
    pub groups: bool,
    /// What more it can do as a service of Azure's.
    pub azure: Option<azure::Service>,
    /// Gets a token, or says why there is none.
    pub fetch: Option<fn(&Ask<'_>) -> Result<Token>>,
    /// What to use in its place, where there is no `fetch`.
    pub instead: &'static str,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Its name, and whose login it is where two rows have one.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.own_login { f.write_str(" (lakebase-token login)") } else { Ok(()) }
    }
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
    /// The least life that is wanted, in milliseconds; `i64::MAX` for a new one.
    pub least: i64,
    /// When all must have ended.
    pub deadline: Deadline,
}

/// See [`Ask::found`]: what it is, and how to find it.
pub type FindOnce<'a> = dyn Fn(&str, &dyn Fn() -> Result<String>) -> Result<String> + 'a;

/// What holds for most: each row says what is different.
const ROW: Source = Source {
    name: "",
    needs: "",
    configured: |_, _| false,
    identity: |_, _| String::new(),
    ready: |_, _| true,
    secret: None,
    secret_places: &[],
    identity_token: |_, _| None,
    check: |_| Ok(()),
    login: false,
    role: None,
    switches: false,
    ways: &[],
    renews: true,
    cached: true,
    own_login: false,
    groups: false,
    azure: None,
    fetch: None,
    instead: "",
};

/// One that is known and cannot be had here.
const fn refused(
    name: &'static str,
    needs: &'static str,
    configured: fn(&Settings, &World) -> bool,
    instead: &'static str,
) -> Source {
    Source { name, needs, configured, instead, ..ROW }
}

/// What tells a setting's secret from another, and not what it is. The entry's fingerprint says
/// more, under salt.
fn hashed(settings: &Settings, id: Id) -> String {
    let secret = settings.secret(id).map_or("", |secret| secret.expose());
    hex(&digest::digest(&digest::SHA256, secret.as_bytes()).as_ref()[..8])
}

fn has(settings: &Settings, ids: &[Id]) -> bool {
    ids.iter().all(|id| settings.get(*id).is_some())
}

/// The chain, in the Go SDK's order (`config/auth_default.go`) but for logins.
#[rustfmt::skip]
pub static SOURCES: &[Source] = &[
    pat::SOURCE,
    refused("basic", "host, username, password", |s, _| has(s, &[Id::Username, Id::Password]),
        "a personal access token (DATABRICKS_TOKEN), a service principal (DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET) or lakebase-token login: Databricks takes no passwords any more"),
    oauth_m2m::SOURCE,
    metadata_service::SOURCE,
    github_oidc::SOURCE,
    azure_devops_oidc::SOURCE,
    env_oidc::SOURCE,
    file_oidc::SOURCE,
    github_oidc_azure::SOURCE,
    azure_msi::SOURCE,
    azure_client_secret::SOURCE,
    refused("google-credentials", "google_credentials and a workspace on GCP", |s, _| is_gcp(s) && has(s, &[Id::GoogleCredentials]), GOOGLE),
    refused("google-id", "google_service_account and a workspace on GCP", |s, _| is_gcp(s) && has(s, &[Id::GoogleServiceAccount]), GOOGLE),
    runtime_oauth::SOURCE,
    // Logins need no setting of their own, so whatever was configured on purpose or by the
    // surroundings goes before them.
    login::BROWSER,
    login::PAT,
    azure_cli::SOURCE,
    databricks_cli::SOURCE,
];

const GOOGLE: &str = "a service principal of Databricks (DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET), or file-oidc with an identity token of Google's and a federation policy";

fn is_gcp(settings: &Settings) -> bool {
    let cloud = settings.text(Id::Cloud);
    let host = settings.text(Id::Host).unwrap_or_default();
    cloud.map_or(host.ends_with(".gcp.databricks.com"), |cloud| cloud.eq_ignore_ascii_case("gcp"))
}

/// Whether somebody has configured a service of Azure's. A job has the variables of its platform for
/// whatever it does, so they step back then.
fn means_azure(settings: &Settings, world: &World) -> bool {
    let rows = [github_oidc_azure::SOURCE, azure_msi::SOURCE, azure_client_secret::SOURCE];
    settings.get(Id::AuthType).is_none() && rows.iter().any(|row| (row.configured)(settings, world))
}

/// The auth type that will be used.
pub fn choose(settings: &Settings, world: &World) -> Result<&'static Source> {
    if let Some(name) = settings.text(Id::AuthType) {
        let origin = settings.origin(Id::AuthType);
        // One name may have two rows.
        let named = || SOURCES.iter().filter(|source| source.name == name);
        let known = named().find(|source| (source.configured)(settings, world)).or(named().next());
        return match known {
            Some(source) if source.fetch.is_none() => {
                Err(unsupported(source, format!("it is named by auth_type from {origin}")))
            }
            Some(source) if !(source.configured)(settings, world) => {
                Err(Error::usage(format!("auth type {name} from {origin} needs {}", source.needs))
                    .because(incomplete(settings)))
            }
            Some(source) => checked(source, settings),
            None => {
                let words = format!("auth type {} from {origin} does not exist", clean(name));
                let error = Error::usage(words);
                Err(match nearest(name, supported().into_iter()) {
                    Some(near) => error.hint(format!("--auth-type {near}")),
                    None => error.hint(format!("one of {}", supported().join(", "))),
                })
            }
        };
    }
    let configured = |source: &&Source| (source.configured)(settings, world);
    match SOURCES.iter().find(configured) {
        // An incomplete service principal is an error, never a fallback to a person's login.
        Some(source) if source.login && settings.part_of_principal().is_some() => {
            Err(nothing(settings))
        }
        Some(source) if source.fetch.is_some() => checked(source, settings),
        Some(source) => Err(unsupported(source, format!("it is chosen by {}", source.needs))),
        None => Err(nothing(settings)),
    }
}

/// An auth type that may be used with these settings.
fn checked(source: &'static Source, settings: &Settings) -> Result<&'static Source> {
    check_group(source, settings)?;
    check_profile_host(source, settings)?;
    (source.check)(settings)?;
    Ok(source)
}

/// A profile's secret is sent to that profile's host only.
fn check_profile_host(source: &Source, settings: &Settings) -> Result<()> {
    let Some((name, Some(own))) = &settings.profile else { return Ok(()) };
    let host = settings.text(Id::Host).unwrap_or_default();
    if Host::parse(own, Origin::Default).is_ok_and(|own| own.url == host) {
        return Ok(());
    }
    let ids = source.secret.iter().chain(source.secret_places);
    let from_profile = |id: &&Id| matches!(settings.origin(**id), Origin::Profile(_));
    let Some(secret) = ids.into_iter().find(from_profile) else { return Ok(()) };
    let (secret, origin) = (settings.name(*secret), settings.origin(Id::Host));
    Err(Error::usage(format!("profile {} is for another host than {host}", clean(name)))
        .because(format!("its {secret} is sent to its own host only, {}", clean(own)))
        .because(format!("{host} comes from {origin}"))
        .hint(format!("unset {origin}, or name a profile for {host}")))
}

/// Refuses to act as oneself where a group was meant.
fn check_group(source: &Source, settings: &Settings) -> Result<()> {
    if settings.get(Id::GroupId).is_none() || source.groups {
        return Ok(());
    }
    let origin = settings.origin(Id::GroupId);
    Err(Error::usage(format!("auth type {} cannot act as the group from {origin}", source.name))
        .hint("unset it, or use oauth-m2m or a federated identity"))
}

/// One auth type of the chain: whether it is the one, and why or why not.
pub struct Explained {
    /// The auth type.
    pub source: &'static Source,
    /// Whether it will be used.
    pub chosen: bool,
    /// The reason, in half a sentence.
    pub why: String,
}

/// The chain in its order, explained.
pub fn explain(settings: &Settings, world: &World) -> Vec<Explained> {
    let pinned = settings.text(Id::AuthType);
    let chosen = choose(settings, world).ok();
    // One that is configured and cannot be had ends the chain, too.
    let end = || SOURCES.iter().find(|source| (source.configured)(settings, world));
    let first = chosen.or_else(end);
    let why = |source: &'static Source| {
        let named = pinned.is_none_or(|name| name == source.name);
        let is_configured = (source.configured)(settings, world);
        match first {
            Some(first) if std::ptr::eq(first, source) && is_configured => {
                let how = if pinned.is_some() { "named by auth_type" } else { "configured" };
                let unsupported = source.fetch.is_none();
                format!("{how}{}", if unsupported { ", but not supported" } else { "" })
            }
            Some(first) if is_configured && named => format!("comes after {}", first.name),
            _ if !named => format!("auth_type names {}", clean(pinned.unwrap_or_default())),
            _ => format!("needs {}", source.needs),
        }
    };
    let is_chosen = |source| chosen.is_some_and(|chosen| std::ptr::eq(chosen, source));
    let explained = |source| Explained { source, chosen: is_chosen(source), why: why(source) };
    SOURCES.iter().map(explained).collect()
}

/// The auth types that can be had here, each once.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for source in SOURCES.iter().filter(|source| source.fetch.is_some()) {
        if !names.contains(&source.name) {
            names.push(source.name);
        }
    }
    names
}

fn unsupported(source: &Source, why: String) -> Error {
    Error::usage(format!("lakebase-token does not support the auth type {}", source.name))
        .because(why)
        .hint(source.instead)
}

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
fn incomplete(settings: &Settings) -> String {
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
        .map(|(row, text, origin)| format!("{}={} from {origin}", row.name, clean(text)))
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
            format!("found {found}; {path} has no DEFAULT profile, but {}", clean(profiles))
        }
    }
}
