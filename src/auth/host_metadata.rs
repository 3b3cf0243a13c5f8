//! The metadata of a host, `/.well-known/databricks-config`
//! (databricks-sdk-go `config/host_metadata.go`).
//!
//! The SDKs request it from every host first. Here it is requested only if a host does not behave
//! like a plain workspace, or if an audience is needed. It is cached for a day.

use serde_json::Value;

use crate::auth::provider::ProviderCall;
use crate::config::table::Id;
use crate::credential::encoding::is_uuid;
use crate::credential::redact::redact;
use crate::error::{Error, ErrorKind, Result};
use crate::net::http::{Request, check_url};
use crate::net::refusal::ask_json;

fn host_metadata(call: &ProviderCall<'_>) -> Result<Value> {
    let text = (call.resolve_cached)("host metadata", &|| {
        let url = format!("{}/.well-known/databricks-config", call.url);
        let request = Request::get(&url, &[]);
        let what = "to show what kind of host it is";
        Ok(ask_json(call.client, &request, what, call.deadline)?.to_string())
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Error::failed("the cached host metadata is not valid JSON").because(e))
}

/// The host's metadata; `Null` if it has none. A host that cannot be reached is an error, because it
/// would otherwise pass for a plain workspace.
fn metadata_or_null(call: &ProviderCall<'_>) -> Result<Value> {
    match host_metadata(call) {
        Err(e) if e.kind == ErrorKind::Unavailable => Err(e),
        metadata => Ok(metadata.unwrap_or_default()),
    }
}

fn text_of<'v>(metadata: &'v Value, name: &str) -> Option<&'v str> {
    metadata[name].as_str().filter(|text| !text.is_empty())
}

/// The URL of the host's OAuth configuration (RFC 8414); or why this host can have no databases.
pub fn discovery_url(call: &ProviderCall<'_>) -> Result<String> {
    let metadata = metadata_or_null(call)?;
    check_kind(call, &metadata)?;

    let Some(root) = text_of(&metadata, "oidc_endpoint") else {
        return Ok(format!("{}/oidc/.well-known/oauth-authorization-server", call.url));
    };
    let account = call.settings.text(Id::AccountId).or(text_of(&metadata, "account_id"));
    let root = match account {
        Some(account) => root.replace("{account_id}", account),
        None if root.contains("{account_id}") => {
            return Err(Error::usage(format!("{} needs an account id", redact(call.url)))
                .hint("DATABRICKS_ACCOUNT_ID=ID with the id that the account console shows"));
        }
        None => root.to_owned(),
    };
    Ok(format!("{}/.well-known/oauth-authorization-server", root.trim_end_matches('/')))
}

/// Refuses a host that serves no workspace, or several while none is named.
fn check_kind(call: &ProviderCall<'_>, metadata: &Value) -> Result<()> {
    if call.settings.workspace_id().or(text_of(metadata, "workspace_id")).is_some() {
        return Ok(());
    }
    let url = call.url;
    let origin = call.settings.origin(Id::Host);
    let kind = text_of(metadata, "host_type").unwrap_or_default();
    if kind.eq_ignore_ascii_case("account") {
        return Err(Error::usage(format!(
            "{url} from {origin} is an account's host, which has no databases"
        ))
        .hint("DATABRICKS_HOST with the URL of the workspace that the database belongs to"));
    }
    if kind.eq_ignore_ascii_case("unified") {
        return Err(Error::usage(format!("{url} from {origin} serves several workspaces"))
            .hint("DATABRICKS_WORKSPACE_ID, or ?o= in the URL, says which is meant"));
    }
    Ok(())
}

/// The audience of a job's identity token: the configured one, else the one that the host proposes,
/// else the token endpoint.
///
/// A proposal may name only this account or this host. With any other audience, the host would
/// receive a token that a third party accepts.
pub fn audience(call: &ProviderCall<'_>) -> Result<String> {
    if let Some(audience) = call.settings.text(Id::Audience) {
        return Ok(audience.to_owned());
    }

    let metadata = metadata_or_null(call)?;
    let account = call.settings.text(Id::AccountId).or(text_of(&metadata, "account_id"));
    let is_account_host = !metadata.is_null() && text_of(&metadata, "workspace_id").is_none();
    let first = metadata["token_federation_default_oidc_audiences"][0].as_str();
    let proposed = match first.filter(|text| !text.is_empty()) {
        Some(audience) => audience.to_owned(),
        None => match account.filter(|_| is_account_host) {
            Some(account) => account.to_owned(),
            None => format!("{}/oidc/v1/token", call.url),
        },
    };
    if is_own_audience(call, &proposed) {
        return Ok(proposed);
    }
    Err(Error::failed(format!("{} asks for an identity token for another audience", call.url))
        .because(format!("the audience is {}", redact(&proposed)))
        .because("an answer may propose only the host's own URL, the account or the client id")
        .hint("DATABRICKS_TOKEN_AUDIENCE with the audience of your federation policy"))
}

fn is_own_audience(call: &ProviderCall<'_>, audience: &str) -> bool {
    let account = call.settings.text(Id::AccountId);
    let client = call.settings.text(Id::ClientId);
    let authority = |url: &str| check_url(url).ok()?.authority().cloned();
    Some(audience) == client
        || account.map_or(is_uuid(audience), |account| account == audience)
        || authority(audience).is_some_and(|own| Some(own) == authority(call.url))
}
