//! The credential chain of Databricks unified authentication: all auth types in their order, which
//! one is used, and why the others are not.
//!
//! The first row of [`PROVIDERS`] that is configured is used; `auth_type` names another. The order is
//! that of the Databricks SDK for Go (`config/auth_default.go`), except that **logins come last**: a
//! login needs no setting but a host, so it always looks configured, and would hide what the user or
//! the platform configured on purpose.
//!
//! Unlike in the SDK, the failure of the chosen auth type is final: a program must not silently act
//! as another identity. The same holds for the auth types that are known but not supported (those
//! without `fetch`): if one is configured, no other is tried.
//!
//! What a row holds is in `provider.rs`, the rows themselves are in `providers/`, and the error for
//! "nothing is configured" is in `no_identity.rs`.

use std::ptr;

use crate::auth::no_identity::{self, configured_summary};
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::providers::{
    azure_cli, azure_client_secret, azure_devops_oidc, azure_msi, azure_workload_identity,
    databricks_cli, env_oidc, file_oidc, github_oidc, github_oidc_azure, metadata_service,
    oauth_m2m, pat, runtime_oauth, stored_login,
};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::suggest::nearest;

/// The auth types in the order in which they are tried.
pub static PROVIDERS: &[Provider] = &[
    // Configured by the user or by the platform.
    pat::PROVIDER,
    BASIC,
    oauth_m2m::PROVIDER,
    metadata_service::PROVIDER,
    github_oidc::PROVIDER,
    azure_devops_oidc::PROVIDER,
    env_oidc::PROVIDER,
    file_oidc::PROVIDER,
    github_oidc_azure::PROVIDER,
    azure_msi::PROVIDER,
    azure_client_secret::PROVIDER,
    GOOGLE_CREDENTIALS,
    GOOGLE_ID,
    runtime_oauth::PROVIDER,
    // Given to every pod that has such an identity.
    azure_workload_identity::PROVIDER,
    // Logins.
    stored_login::BROWSER,
    stored_login::PAT,
    azure_cli::PROVIDER,
    databricks_cli::PROVIDER,
];

/// Not supported, since Databricks no longer accepts passwords.
const BASIC: Provider = Provider {
    name: "basic",
    needs: "username and password",
    configured: |settings, _| has(settings, &[Id::Username, Id::Password]),
    instead: "Databricks no longer accepts passwords: use a personal access token \
              (DATABRICKS_TOKEN), a service principal (DATABRICKS_CLIENT_ID and \
              DATABRICKS_CLIENT_SECRET) or lakebase-token login",
    ..ROW
};

/// Not supported.
const GOOGLE_CREDENTIALS: Provider = Provider {
    name: "google-credentials",
    needs: "google_credentials and a workspace on Google Cloud",
    configured: |settings, _| is_gcp(settings) && has(settings, &[Id::GoogleCredentials]),
    instead: INSTEAD_OF_GOOGLE,
    ..ROW
};

/// Not supported.
const GOOGLE_ID: Provider = Provider {
    name: "google-id",
    needs: "google_service_account and a workspace on Google Cloud",
    configured: |settings, _| is_gcp(settings) && has(settings, &[Id::GoogleServiceAccount]),
    instead: INSTEAD_OF_GOOGLE,
    ..ROW
};

const INSTEAD_OF_GOOGLE: &str = "use a Databricks service principal (DATABRICKS_CLIENT_ID and \
                                 DATABRICKS_CLIENT_SECRET), or file-oidc with an identity token \
                                 from Google and a federation policy";

fn is_gcp(settings: &Settings) -> bool {
    let host = settings.text(Id::Host).unwrap_or_default();
    match settings.text(Id::Cloud) {
        Some(cloud) => cloud.eq_ignore_ascii_case("gcp"),
        None => host.ends_with(".gcp.databricks.com"),
    }
}

/// In the place of an auth type, for a call that may need none: the error comes when a token is needed.
const NONE: Provider = Provider { name: "none", cached: false, fetch: Some(fetch_none), ..ROW };

fn fetch_none(call: &ProviderCall<'_>) -> Result<Token> {
    choose(call.settings, call.context)?;
    Err(Error::usage("no Databricks identity is configured"))
}

/// The auth type that will be used, if a token is needed.
pub fn choose_if_needed(settings: &Settings, context: &Context) -> &'static Provider {
    choose(settings, context).unwrap_or(&NONE)
}

/// The auth type that will be used.
pub fn choose(settings: &Settings, context: &Context) -> Result<&'static Provider> {
    if let Some(name) = settings.text(Id::AuthType) {
        return choose_named(name, settings, context);
    }

    let Some(provider) = first_configured(settings, context) else {
        return Err(no_identity::error(settings, context));
    };
    // An incomplete service principal is an error, never a fallback to a person's login.
    if provider.login && settings.part_of_principal().is_some() {
        return Err(no_identity::error(settings, context));
    }
    // A workspace that only a stored login names is meant for that login.
    if provider.login && !provider.stored_login && settings.has_workspace_of_login() {
        return Err(no_identity::error(settings, context));
    }
    if provider.fetch.is_none() {
        let why = format!("it would be used because of {}", provider.needs);
        return Err(unsupported(provider, why));
    }
    check(provider, settings, context)
}

fn choose_named(name: &str, settings: &Settings, context: &Context) -> Result<&'static Provider> {
    let origin = settings.origin(Id::AuthType);
    // `pat` is the name of two rows: a configured token and a stored login. `external-browser` means each
    // stored login.
    let mut rows = PROVIDERS.iter().filter(|provider| {
        provider.name == name || provider.stored_login && name == stored_login::BROWSER.name
    });
    let Some(first) = rows.next() else { return Err(unknown(name, origin)) };
    let is_configured = |provider: &&Provider| (provider.configured)(settings, context);
    let configured = [first].into_iter().chain(rows).find(is_configured);

    let provider = configured.unwrap_or(first);
    if provider.fetch.is_none() {
        return Err(unsupported(provider, format!("it is named by auth_type from {origin}")));
    }
    if configured.is_none() {
        let needs = provider.needs;
        return Err(Error::usage(format!("auth type {name} from {origin} needs {needs}"))
            .because(configured_summary(settings, context)));
    }
    check(provider, settings, context)
}

fn first_configured(settings: &Settings, context: &Context) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| (provider.configured)(settings, context))
}

fn unknown(name: &str, origin: &Origin) -> Error {
    let error = Error::usage(format!("auth type {} from {origin} does not exist", redact(name)));
    // What people call a login with a browser, and the flow of a service principal.
    let meant = match name.to_ascii_lowercase().as_str() {
        "oauth-u2m" | "u2m" | "oauth" | "browser" => Some("external-browser"),
        "m2m" | "service-principal" => Some("oauth-m2m"),
        "token" | "pat" => Some("pat"),
        _ => nearest(name, supported().into_iter()),
    };
    error.hint(match meant {
        Some(meant) => origin.assignment(meant).unwrap_or(format!("auth_type = {meant}")),
        None => format!("one of {}", supported().join(", ")),
    })
}

fn unsupported(provider: &Provider, why: String) -> Error {
    Error::usage(format!("lakebase-token does not support the auth type {}", provider.name))
        .because(why)
        .hint(provider.instead)
}

/// Refuses an auth type that must not be used with these settings.
fn check(
    provider: &'static Provider,
    settings: &Settings,
    context: &Context,
) -> Result<&'static Provider> {
    if provider.stored_login
        && let Some(error) = settings.login_error(context)
    {
        return Err(error.clone());
    }
    check_group(provider, settings)?;
    check_profile_host(provider, settings)?;
    (provider.check)(settings)?;
    Ok(provider)
}

/// Without this, a call that means a group would act as the identity itself.
fn check_group(provider: &Provider, settings: &Settings) -> Result<()> {
    if settings.get(Id::GroupId).is_none() || provider.uses_token_endpoint {
        return Ok(());
    }
    let origin = settings.origin(Id::GroupId);
    Err(Error::usage(format!("auth type {} cannot act as the group from {origin}", provider.name))
        .hint(format!(
            "{}, or use oauth-m2m or a federated identity",
            settings.removal(Id::GroupId)
        )))
}

/// A profile's secret is sent to that profile's host only.
fn check_profile_host(provider: &Provider, settings: &Settings) -> Result<()> {
    let Some((name, own)) = settings.profile_of_another_host() else { return Ok(()) };
    let host = settings.text(Id::Host).unwrap_or_default();
    let mut ids = provider.secret.iter().chain(provider.secret_pointers);
    let is_from_profile = |id: &&Id| matches!(settings.origin(**id), Origin::Profile(_));
    let Some(secret) = ids.find(is_from_profile) else { return Ok(()) };

    let secret = settings.name(*secret);
    let origin = settings.origin(Id::Host);
    Err(Error::usage(format!("profile {} is for another host than {host}", redact(name)))
        .because(format!("its {secret} is sent to its own host only, {}", redact(own)))
        .because(format!("{host} comes from {origin}"))
        .hint(format!("{}, or name a profile for {host}", settings.removal(Id::Host))))
}

/// One auth type of the chain, and why it will or will not be used.
pub struct ProviderChoice {
    pub provider: &'static Provider,
    pub chosen: bool,
    /// Half a sentence.
    pub why: String,
}

/// The chain in its order, explained.
pub fn explain(settings: &Settings, context: &Context) -> Vec<ProviderChoice> {
    let chosen = choose(settings, context).ok();
    // A configured auth type ends the chain even if it cannot be used.
    let last = chosen.or_else(|| first_configured(settings, context));

    let explain_one = |provider: &'static Provider| ProviderChoice {
        provider,
        chosen: chosen.is_some_and(|chosen| ptr::eq(chosen, provider)),
        why: reason(provider, last, settings, context),
    };
    PROVIDERS.iter().map(explain_one).collect()
}

/// Why a provider is used, if it is the one that ends the chain; else why it is not.
fn reason(
    provider: &Provider,
    last: Option<&Provider>,
    settings: &Settings,
    context: &Context,
) -> String {
    let auth_type = settings.text(Id::AuthType);
    let is_named = auth_type.is_none_or(|name| name == provider.name);
    let is_configured = (provider.configured)(settings, context);

    match last {
        Some(last) if ptr::eq(last, provider) && is_configured => {
            let how = if auth_type.is_some() { "named by auth_type" } else { "configured" };
            let but = if provider.fetch.is_none() { ", but not supported" } else { "" };
            format!("{how}{but}")
        }
        Some(last) if is_configured && is_named => format!("comes after {}", last.name),
        _ if !is_named => format!("auth_type names {}", redact(auth_type.unwrap_or_default())),
        _ => format!("needs {}", provider.needs),
    }
}

/// The names of the auth types that can be used, each once.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| provider.fetch.is_some()) {
        if !names.contains(&provider.name) {
            names.push(provider.name);
        }
    }
    names
}
