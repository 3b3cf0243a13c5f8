//! What a host says of itself: `/.well-known/databricks-config`
//! (databricks-sdk-go `config/host_metadata.go`).
//!
//! The SDKs call every host first; here only one that does not behave like a plain workspace is
//! asked, or where an audience has to be known. It is believed for a day.

use serde_json::Value;

use crate::auth::provider::ProviderCall;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, ErrorKind, Result};
use crate::net::http::{Request, check_url};
use crate::net::refusal::ask_json;

/// What the host says, as it stands in its answer.
pub fn host_metadata(call: &ProviderCall<'_>) -> Result<Value> {
    let text = (call.look_up)("host metadata", &|| {
        let url = format!("{}/.well-known/databricks-config", call.url);
        let (request, what) = (Request::get(&url, &[]), "to say what kind of host it is");
        Ok(ask_json(call.client, &request, what, call.deadline)?.to_string())
    })?;
    serde_json::from_str(&text).map_err(|e| Error::failed("the cache is torn").because(e))
}

/// Where the host's OAuth configuration is, or why it can have no databases.
pub fn document(call: &ProviderCall<'_>) -> Result<String> {
    let usual = || format!("{}/oidc/.well-known/oauth-authorization-server", call.url);
    let host = match host_metadata(call) {
        // Else it would be taken for what it is not.
        Err(e) if e.kind == ErrorKind::Unavailable => return Err(e),
        host => host.unwrap_or_default(),
    };
    let text = |name: &str| host[name].as_str().filter(|text| !text.is_empty());
    let workspace = call.settings.workspace_id().or(text("workspace_id"));
    let kind = text("host_type").unwrap_or_default().to_ascii_lowercase();
    let origin = call.settings.origin(Id::Host);
    if kind == "account" && workspace.is_none() {
        return Err(Error::usage(format!(
            "{} from {origin} is an account's host, which has no databases",
            call.url
        ))
        .hint("DATABRICKS_HOST with the URL of the workspace that the database belongs to"));
    }
    if kind == "unified" && workspace.is_none() {
        return Err(Error::usage(format!("{} from {origin} serves several workspaces", call.url))
            .hint("DATABRICKS_WORKSPACE_ID, or ?o= in the URL, says which is meant"));
    }
    let Some(root) = text("oidc_endpoint") else { return Ok(usual()) };
    let root = match call.settings.text(Id::AccountId).or(text("account_id")) {
        Some(account) => root.replace("{account_id}", account),
        None if root.contains("{account_id}") => {
            return Err(Error::usage(format!("{} wants to know the account", redact(call.url)))
                .hint("DATABRICKS_ACCOUNT_ID"));
        }
        None => root.to_owned(),
    };
    Ok(format!("{}/.well-known/oauth-authorization-server", root.trim_end_matches('/')))
}

/// The audience that a job's identity token is asked for: the configured one, else what the host
/// proposes, else the token endpoint.
///
/// A proposal may only name this account or this host. Any other audience would make a token that
/// somebody else accepts, and the host would receive it.
pub fn audience(call: &ProviderCall<'_>) -> Result<String> {
    if let Some(audience) = call.settings.text(Id::Audience) {
        return Ok(audience.to_owned());
    }
    let host = match host_metadata(call) {
        Err(e) if e.kind == ErrorKind::Unavailable => return Err(e),
        host => host.unwrap_or_default(),
    };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let account = || match call.settings.text(Id::AccountId) {
        Some(account) => Some(account.to_owned()),
        None => text(&host["account_id"]),
    };
    let is_account_host = !host.is_null() && text(&host["workspace_id"]).is_none();
    let proposed = text(&host["token_federation_default_oidc_audiences"][0])
        .or_else(|| account().filter(|_| is_account_host))
        .unwrap_or_else(|| format!("{}/oidc/v1/token", call.url));
    if is_own_audience(call, &proposed) {
        return Ok(proposed);
    }
    Err(Error::failed(format!("{} asks for an identity token for another audience", call.url))
        .because(format!("the audience is {}", redact(&proposed)))
        .because("only its own URL, the account and the client id are accepted from an answer")
        .hint("DATABRICKS_TOKEN_AUDIENCE with the audience of your federation policy"))
}

fn is_own_audience(call: &ProviderCall<'_>, audience: &str) -> bool {
    let configured = [Id::AccountId, Id::ClientId].map(|id| call.settings.text(id));
    let authority = |url: &str| check_url(url).ok()?.authority().cloned();
    configured.contains(&Some(audience))
        || is_uuid(audience)
        || authority(audience).is_some_and(|own| Some(own) == authority(call.url))
}

/// RFC 9562 §4: the text form of a UUID, as account ids have it.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq(lengths) && parts.iter().all(hex)
}
