//! Where workspace tokens come from: the credential chain of unified authentication.
//!
//! A row is an auth type under Databricks' name, in the Go SDK's order. The first that is
//! configured is the one, logins last, since they need nothing but a host. Unlike in the SDK a
//! failure is final and is told: a helper that silently becomes somebody else is worse than one
//! that fails. Types that are recognised but cannot be had here have no `fetch`: where one is
//! configured, nothing else is tried.

use crate::auth::no_identity::{incomplete, nothing};
use crate::auth::provider::{Provider, ROW, has};
use crate::auth::providers::{
    azure_cli, azure_client_secret, azure_devops_oidc, azure_msi, databricks_cli, env_oidc,
    file_oidc, github_oidc, github_oidc_azure, metadata_service, oauth_m2m, pat, runtime_oauth,
    stored_login,
};
use crate::config::host_url::Host;
use crate::config::resolve::{Origin, Settings};
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::suggest::nearest;

/// One that is known and cannot be had here.
const fn refused(
    name: &'static str,
    needs: &'static str,
    configured: fn(&Settings, &Context) -> bool,
    instead: &'static str,
) -> Provider {
    Provider { name, needs, configured, instead, ..ROW }
}

/// The chain, in the Go SDK's order (`config/auth_default.go`) but for logins.
#[rustfmt::skip]
pub static PROVIDERS: &[Provider] = &[
    pat::PROVIDER,
    refused("basic", "host, username, password", |s, _| has(s, &[Id::Username, Id::Password]),
        "a personal access token (DATABRICKS_TOKEN), a service principal (DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET) or lakebase-token login: Databricks takes no passwords any more"),
    oauth_m2m::PROVIDER,
    metadata_service::PROVIDER,
    github_oidc::PROVIDER,
    azure_devops_oidc::PROVIDER,
    env_oidc::PROVIDER,
    file_oidc::PROVIDER,
    github_oidc_azure::PROVIDER,
    azure_msi::PROVIDER,
    azure_client_secret::PROVIDER,
    refused("google-credentials", "google_credentials and a workspace on GCP", |s, _| is_gcp(s) && has(s, &[Id::GoogleCredentials]), GOOGLE),
    refused("google-id", "google_service_account and a workspace on GCP", |s, _| is_gcp(s) && has(s, &[Id::GoogleServiceAccount]), GOOGLE),
    runtime_oauth::PROVIDER,
    // Logins need no setting of their own, so whatever was configured on purpose or by the
    // surroundings goes before them.
    stored_login::BROWSER,
    stored_login::PAT,
    azure_cli::PROVIDER,
    databricks_cli::PROVIDER,
];

const GOOGLE: &str = "a service principal of Databricks (DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET), or file-oidc with an identity token of Google's and a federation policy";

fn is_gcp(settings: &Settings) -> bool {
    let cloud = settings.text(Id::Cloud);
    let host = settings.text(Id::Host).unwrap_or_default();
    cloud.map_or(host.ends_with(".gcp.databricks.com"), |cloud| cloud.eq_ignore_ascii_case("gcp"))
}

/// The auth type that will be used.
pub fn choose(settings: &Settings, context: &Context) -> Result<&'static Provider> {
    if let Some(name) = settings.text(Id::AuthType) {
        let origin = settings.origin(Id::AuthType);
        // One name may have two rows.
        let named = || PROVIDERS.iter().filter(|provider| provider.name == name);
        let known =
            named().find(|provider| (provider.configured)(settings, context)).or(named().next());
        return match known {
            Some(provider) if provider.fetch.is_none() => {
                Err(unsupported(provider, format!("it is named by auth_type from {origin}")))
            }
            Some(provider) if !(provider.configured)(settings, context) => Err(Error::usage(
                format!("auth type {name} from {origin} needs {}", provider.needs),
            )
            .because(incomplete(settings))),
            Some(provider) => checked(provider, settings),
            None => {
                let words = format!("auth type {} from {origin} does not exist", redact(name));
                let error = Error::usage(words);
                Err(match nearest(name, supported().into_iter()) {
                    Some(near) => error.hint(format!("--auth-type {near}")),
                    None => error.hint(format!("one of {}", supported().join(", "))),
                })
            }
        };
    }
    let configured = |provider: &&Provider| (provider.configured)(settings, context);
    match PROVIDERS.iter().find(configured) {
        // An incomplete service principal is an error, never a fallback to a person's login.
        Some(provider) if provider.login && settings.part_of_principal().is_some() => {
            Err(nothing(settings))
        }
        Some(provider) if provider.fetch.is_some() => checked(provider, settings),
        Some(provider) => Err(unsupported(provider, format!("it is chosen by {}", provider.needs))),
        None => Err(nothing(settings)),
    }
}

/// An auth type that may be used with these settings.
fn checked(provider: &'static Provider, settings: &Settings) -> Result<&'static Provider> {
    check_group(provider, settings)?;
    check_profile_host(provider, settings)?;
    (provider.check)(settings)?;
    Ok(provider)
}

/// A profile's secret is sent to that profile's host only.
fn check_profile_host(provider: &Provider, settings: &Settings) -> Result<()> {
    let Some((name, Some(own))) = &settings.profile else { return Ok(()) };
    let host = settings.text(Id::Host).unwrap_or_default();
    if Host::parse(own, Origin::Default).is_ok_and(|own| own.url == host) {
        return Ok(());
    }
    let ids = provider.secret.iter().chain(provider.secret_places);
    let from_profile = |id: &&Id| matches!(settings.origin(**id), Origin::Profile(_));
    let Some(secret) = ids.into_iter().find(from_profile) else { return Ok(()) };
    let (secret, origin) = (settings.name(*secret), settings.origin(Id::Host));
    Err(Error::usage(format!("profile {} is for another host than {host}", redact(name)))
        .because(format!("its {secret} is sent to its own host only, {}", redact(own)))
        .because(format!("{host} comes from {origin}"))
        .hint(format!("unset {origin}, or name a profile for {host}")))
}

/// Refuses to act as oneself where a group was meant.
fn check_group(provider: &Provider, settings: &Settings) -> Result<()> {
    if settings.get(Id::GroupId).is_none() || provider.groups {
        return Ok(());
    }
    let origin = settings.origin(Id::GroupId);
    Err(Error::usage(format!("auth type {} cannot act as the group from {origin}", provider.name))
        .hint("unset it, or use oauth-m2m or a federated identity"))
}

/// One auth type of the chain: whether it is the one, and why or why not.
pub struct Explained {
    /// The auth type.
    pub provider: &'static Provider,
    /// Whether it will be used.
    pub chosen: bool,
    /// The reason, in half a sentence.
    pub why: String,
}

/// The chain in its order, explained.
pub fn explain(settings: &Settings, context: &Context) -> Vec<Explained> {
    let pinned = settings.text(Id::AuthType);
    let chosen = choose(settings, context).ok();
    // One that is configured and cannot be had ends the chain, too.
    let end = || PROVIDERS.iter().find(|provider| (provider.configured)(settings, context));
    let first = chosen.or_else(end);
    let why = |provider: &'static Provider| {
        let named = pinned.is_none_or(|name| name == provider.name);
        let is_configured = (provider.configured)(settings, context);
        match first {
            Some(first) if std::ptr::eq(first, provider) && is_configured => {
                let how = if pinned.is_some() { "named by auth_type" } else { "configured" };
                let unsupported = provider.fetch.is_none();
                format!("{how}{}", if unsupported { ", but not supported" } else { "" })
            }
            Some(first) if is_configured && named => format!("comes after {}", first.name),
            _ if !named => format!("auth_type names {}", redact(pinned.unwrap_or_default())),
            _ => format!("needs {}", provider.needs),
        }
    };
    let is_chosen = |provider| chosen.is_some_and(|chosen| std::ptr::eq(chosen, provider));
    let explained =
        |provider| Explained { provider, chosen: is_chosen(provider), why: why(provider) };
    PROVIDERS.iter().map(explained).collect()
}

/// The auth types that can be had here, each once.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| provider.fetch.is_some()) {
        if !names.contains(&provider.name) {
            names.push(provider.name);
        }
    }
    names
}

fn unsupported(provider: &Provider, why: String) -> Error {
    Error::usage(format!("lakebase-token does not support the auth type {}", provider.name))
        .because(why)
        .hint(provider.instead)
}
