//! What the sources of Azure share: which of its clouds a workspace is in, Entra's token endpoint,
//! the tenant, the workspace that a resource id names, and the management token
//! (databricks-sdk-go `common/environment`, `config/azure.go`).

use crate::auth::provider::{ProviderCall, Service, has};
use crate::cache::entry::OptionalToken;
use crate::config::host_url::Host;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::destination::takes_entra_tokens;
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::Request;
use crate::net::refusal::{CallError, ask_json, require};
use crate::platform::context::Context;
use crate::platform::time::HOUR;

/// One of Azure's clouds.
#[derive(Debug)]
pub struct Environment {
    name: &'static str,
    /// Entra, which gives tokens.
    pub authority: &'static str,
    /// The resource that the management token is for.
    pub management: &'static str,
    /// The resource manager, which knows workspaces by their resource ids.
    pub resource_manager: &'static str,
}

static PUBLIC: Environment = Environment {
    name: "PUBLIC",
    authority: "https://login.microsoftonline.com/",
    management: "https://management.core.windows.net/",
    resource_manager: "https://management.azure.com/",
};
static USGOVERNMENT: Environment = Environment {
    name: "USGOVERNMENT",
    authority: "https://login.microsoftonline.us/",
    management: "https://management.core.usgovcloudapi.net/",
    resource_manager: "https://management.usgovcloudapi.net/",
};
static CHINA: Environment = Environment {
    name: "CHINA",
    authority: "https://login.chinacloudapi.cn/",
    management: "https://management.core.chinacloudapi.cn/",
    resource_manager: "https://management.chinacloudapi.cn/",
};

/// Where workspaces are, the narrower zone first: its end, the id of Databricks' application there
/// (the resource that a workspace's tokens are for), and the cloud.
static ZONES: [(&str, &str, &Environment); 5] = [
    (".dev.azuredatabricks.net", "62a912ac-b58e-4c1d-89ea-b2dbfc7358fc", &PUBLIC),
    (".staging.azuredatabricks.net", "4a67d088-db5c-48f1-9ff2-0aace800ae68", &PUBLIC),
    (".azuredatabricks.net", APPLICATION, &PUBLIC),
    (".databricks.azure.us", APPLICATION, &USGOVERNMENT),
    (".databricks.azure.cn", APPLICATION, &CHINA),
];
const APPLICATION: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d";

/// Where a workspace on Azure is, and what its tokens are for.
pub struct Azure {
    /// The resource of the workspace's tokens.
    pub application: &'static str,
    /// The cloud.
    pub environment: &'static Environment,
}

/// Whether there is a workspace and it is on Azure: a resource id says so, or `cloud`, or the host's
/// name.
pub fn is_azure(settings: &Settings) -> bool {
    let host = settings.text(Id::Host);
    match (settings.get(Id::AzureResourceId), settings.text(Id::Cloud)) {
        (Some(_), _) => true,
        (None, Some(cloud)) => host.is_some() && cloud.eq_ignore_ascii_case("azure"),
        (None, None) => zone(host.unwrap_or_default()).is_some(),
    }
}

fn zone(url: &str) -> Option<&'static (&'static str, &'static str, &'static Environment)> {
    let host = url.split("://").last().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    ZONES.iter().find(|(end, ..)| host.ends_with(end))
}

impl Azure {
    /// Reads the settings; a host's name counts before `azure_environment`.
    pub fn of(settings: &Settings) -> Result<Azure> {
        if let Some((_, application, environment)) =
            zone(settings.text(Id::Host).unwrap_or_default())
        {
            return Ok(Azure { application, environment });
        }
        let name = settings.text(Id::AzureEnvironment).unwrap_or(PUBLIC.name);
        let all = [&PUBLIC, &USGOVERNMENT, &CHINA];
        let environment = all.into_iter().find(|known| known.name.eq_ignore_ascii_case(name));
        let environment = environment.ok_or_else(|| {
            let origin = settings.origin(Id::AzureEnvironment);
            Error::usage(format!("azure_environment from {origin} is unknown: {}", redact(name)))
                .hint("one of PUBLIC, USGOVERNMENT, CHINA")
        })?;
        Ok(Azure { application: APPLICATION, environment })
    }
}

/// Whether a service of Azure's is configured. A job has its platform's variables whatever it does,
/// so its own identity steps back then.
pub fn means_azure(settings: &Settings) -> bool {
    let has_all = |ids: &[Id]| has(settings, ids);
    let principal = has_all(&[Id::AzureClientId, Id::AzureTenantId]);
    let job = has_all(&[Id::Host, Id::ActionsRequestUrl, Id::ActionsRequestToken]);
    let configured = settings.is_on(Id::AzureUseMsi)
        || (principal && (has_all(&[Id::AzureClientSecret]) || job));
    settings.get(Id::AuthType).is_none() && is_azure(settings) && configured
}

/// Entra's tokens, and the one that may manage the workspace's resource, are sent to Databricks'
/// domains only, whatever `cloud` or a resource id says.
pub fn check_zone(settings: &Settings) -> Result<()> {
    let Some(host) = settings.text(Id::Host) else { return Ok(()) };
    if takes_entra_tokens(host) {
        return Ok(());
    }
    let origin = settings.origin(Id::Host);
    Err(Error::usage(format!("{host} from {origin} is not in a domain of Databricks"))
        .because("tokens of Entra are sent nowhere else")
        .hint("DATABRICKS_HOST=https://adb-….azuredatabricks.net, the workspace's own URL"))
}

/// Who this is, as far as settings tell.
pub fn identity(settings: &Settings, _: &Context) -> String {
    let ids = [Id::AzureTenantId, Id::AzureClientId, Id::AzureResourceId, Id::AzureEnvironment];
    ids.map(|id| settings.text(id).unwrap_or_default()).join("\0")
}

/// A token for a resource from Entra's token endpoint (its version 1, as in the SDKs).
pub fn entra(call: &ProviderCall<'_>, resource: &str, proof: &[(&str, &str)]) -> Result<Token> {
    let text = |id| call.settings.text(id).unwrap_or_default();
    let authority = Azure::of(call.settings)?.environment.authority;
    let url = format!("{authority}{}/oauth2/token", percent_encode(text(Id::AzureTenantId)));
    let client_id = text(Id::AzureClientId);
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("resource", resource),
        ("client_id", client_id),
    ];
    pairs.extend(proof);
    let what = "to give the service principal a token";
    let asked = ask_json(call.client, &Request::form(&url, &[], &pairs), what, call.deadline);
    let body = asked.map_err(|failure| {
        let origin = |id| call.settings.origin(id);
        let hint = format!(
            "check azure_client_id from {} and azure_tenant_id from {}",
            origin(Id::AzureClientId),
            origin(Id::AzureTenantId)
        );
        failure.into_error().if_denied(|e| e.hint(hint))
    })?;
    access_token("Entra", &body, call.context.now())
}

/// The tenant: configured, or the one whose login page the workspace redirects to.
pub fn tenant(call: &ProviderCall<'_>) -> Result<Option<String>> {
    if let Some(tenant) = call.settings.text(Id::AzureTenantId) {
        return Ok(Some(tenant.to_owned()));
    }
    if call.url.is_empty() {
        return Ok(None);
    }
    (call.look_up)("tenant", &|| {
        let location = call.client.redirection(&format!("{}/aad/auth", call.url), call.deadline)?;
        let authority = Azure::of(call.settings)?.environment.authority;
        let path = location.strip_prefix(authority).unwrap_or_default();
        let tenant = path.split(['/', '?']).next().unwrap_or_default();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if tenant.is_empty() || !tenant.bytes().all(legal) {
            return Err(Error::failed("the workspace's login page names no tenant")
                .because(redact(location.split('?').next().unwrap_or_default()))
                .hint("ARM_TENANT_ID"));
        }
        Ok(tenant.to_owned())
    })
    .map(Some)
}

/// The URL of the workspace with the configured resource id.
pub fn locate(call: &ProviderCall<'_>, service: &Service) -> Result<String> {
    let environment = Azure::of(call.settings)?.environment;
    let id = call.settings.text(Id::AzureResourceId).unwrap_or_default();
    let origin = call.settings.origin(Id::AzureResourceId);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._()".contains(&b);
    if !id.starts_with('/') || !id.bytes().all(legal) {
        return Err(Error::usage(format!(
            "azure_workspace_resource_id from {origin} is no resource id: {}",
            redact(id)
        ))
        .hint("/subscriptions/…/resourceGroups/…/providers/Microsoft.Databricks/workspaces/…"));
    }
    let token = (service.token)(call, environment.resource_manager)?;
    let manager = environment.resource_manager.trim_end_matches('/');
    let url = format!("{manager}{id}?api-version=2018-04-01");
    let headers = [("Authorization", format!("Bearer {}", token.secret.expose()))];
    let what = "to say where the workspace is";
    let asked = ask_json(call.client, &Request::get(&url, &headers), what, call.deadline);
    let body = asked.map_err(|failure| {
        let is_refusal = matches!(failure, CallError::Refused(_));
        let error = failure.into_error().without(&token.secret);
        if !is_refusal {
            return error;
        }
        error
            .because(format!("azure_workspace_resource_id comes from {origin}"))
            .hint("DATABRICKS_HOST with the workspace's URL, so that it need not be looked up")
    })?;
    let name = require(&body["properties"], "workspaceUrl", "the workspace's description")?;
    let host = Host::parse(name, "Azure").map_err(|e| Error::failed(e.message))?;
    // Whatever it says, a token goes to no other place.
    match zone(&host.url) {
        Some((.., known)) if std::ptr::eq(*known, environment) => Ok(host.url),
        _ => Err(Error::failed(format!("{} is no workspace of this cloud", host.url))),
    }
}

/// The proof that a service may manage the workspace's resource: with it, one that the workspace
/// does not know yet is let in (databricks-sdk-go `config/oauth_visitors.go`). A service that can do
/// without has none for an hour after a refusal.
pub fn management_token(call: &ProviderCall<'_>, service: &Service) -> Result<OptionalToken> {
    let resource = Azure::of(call.settings)?.environment.management;
    match (service.token)(call, resource) {
        Err(e) if service.must_manage => Err(e),
        Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Failed) => {
            let issued = call.context.now();
            let expires = Some(issued.plus(HOUR));
            Ok(OptionalToken { secret: None, issued, expires, lifetime: HOUR })
        }
        token => token.map(OptionalToken::from),
    }
}

/// The headers that a workspace wants beside the bearer: the management token, and the resource that
/// it is for.
pub fn workspace_headers(
    settings: &Settings,
    service: &Service,
    management: Result<OptionalToken>,
) -> Result<Vec<(&'static str, Secret)>> {
    let management = match management {
        Ok(token) => token.secret,
        Err(error) if service.must_manage => return Err(error),
        Err(_) => None,
    };
    let resource = settings.text(Id::AzureResourceId).map(Secret::new);
    let headers = [
        ("X-Databricks-Azure-SP-Management-Token", management),
        ("X-Databricks-Azure-Workspace-Resource-Id", resource),
    ];
    Ok(headers.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_the_narrowest() {
        let of = |url: &str| zone(url).map(|(end, ..)| *end);
        assert_eq!(of("https://adb-1.2.azuredatabricks.net"), Some(".azuredatabricks.net"));
        assert_eq!(of("https://x.dev.azuredatabricks.net:443"), Some(".dev.azuredatabricks.net"));
        assert_eq!(of("https://x.databricks.azure.cn"), Some(".databricks.azure.cn"));
        assert_eq!(of("https://x.cloud.databricks.com"), None);
        assert_eq!(of("https://azuredatabricks.net.example"), None);
    }
}
