//! What the auth types of Azure share: the cloud of a workspace, Entra's token endpoint, the tenant,
//! the workspace that a resource id names, and the management token.
//!
//! It follows the Databricks SDK for Go (`common/environment`, `config/azure.go`). Each auth type has
//! a file of its own in `providers/`.

use crate::auth::provider::{AzureTokens, ProviderCall, has};
use crate::cache::entry::OptionalToken;
use crate::config::host_url::WorkspaceUrl;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::destination::{is_loopback_url, takes_entra_tokens};
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::Request;
use crate::net::refusal::{CallError, PRIVATE_LINK_HINT, Refusal, ask_json, require};
use crate::platform::context::Context;
use crate::platform::time::HOUR;

/// How a token of another platform proves who an application is (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The hint for a federated token that Entra refuses.
pub const MISSING_CREDENTIAL: &str =
    "add a federated credential with these claims to the application in Entra";

/// One of Azure's clouds.
#[derive(Debug)]
pub struct Environment {
    name: &'static str,
    /// The base URL of Entra.
    pub authority: &'static str,
    /// The resource that the management token is for.
    pub management: &'static str,
    /// The base URL of the resource manager, which resolves resource ids.
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

/// Entra's base URLs: those of the three clouds, and China's other one.
const AUTHORITIES: [&str; 4] = [
    PUBLIC.authority,
    USGOVERNMENT.authority,
    CHINA.authority,
    "https://login.partner.microsoftonline.cn/",
];

/// The application id of Databricks in Entra: the resource that workspace tokens are for.
const APPLICATION: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d";

/// A domain of Azure workspaces.
struct AzureDomain {
    suffix: &'static str,
    application: &'static str,
    environment: &'static Environment,
}

const fn domain(
    suffix: &'static str,
    application: &'static str,
    environment: &'static Environment,
) -> AzureDomain {
    AzureDomain { suffix, application, environment }
}

/// The narrower domain comes first (databricks-sdk-go `common/environment/environments.go`).
static DOMAINS: [AzureDomain; 5] = [
    domain(".dev.azuredatabricks.net", "62a912ac-b58e-4c1d-89ea-b2dbfc7358fc", &PUBLIC),
    domain(".staging.azuredatabricks.net", "4a67d088-db5c-48f1-9ff2-0aace800ae68", &PUBLIC),
    domain(".azuredatabricks.net", APPLICATION, &PUBLIC),
    domain(".databricks.azure.us", APPLICATION, &USGOVERNMENT),
    domain(".databricks.azure.cn", APPLICATION, &CHINA),
];

/// The cloud of a workspace on Azure, and the resource of its tokens.
pub struct Azure {
    pub application: &'static str,
    pub environment: &'static Environment,
}

/// Whether a workspace on Azure is configured: a resource id says so, or `cloud`, or the host name.
pub fn is_azure(settings: &Settings) -> bool {
    if settings.get(Id::AzureResourceId).is_some() {
        return true;
    }
    let host = settings.text(Id::Host);
    match settings.text(Id::Cloud) {
        Some(cloud) => host.is_some() && cloud.eq_ignore_ascii_case("azure"),
        None => domain_of(host.unwrap_or_default()).is_some(),
    }
}

fn domain_of(url: &str) -> Option<&'static AzureDomain> {
    let host = url.split("://").last().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    DOMAINS.iter().find(|domain| host.ends_with(domain.suffix))
}

impl Azure {
    /// The host name decides; `azure_environment` counts only for a host outside the domains.
    pub fn of(settings: &Settings) -> Result<Azure> {
        if let Some(domain) = domain_of(settings.text(Id::Host).unwrap_or_default()) {
            return Ok(Azure { application: domain.application, environment: domain.environment });
        }

        let name = settings.text(Id::AzureEnvironment).unwrap_or(PUBLIC.name);
        let mut all = [&PUBLIC, &USGOVERNMENT, &CHINA].into_iter();
        match all.find(|known| known.name.eq_ignore_ascii_case(name)) {
            Some(environment) => Ok(Azure { application: APPLICATION, environment }),
            None => {
                let origin = settings.origin(Id::AzureEnvironment);
                let name = redact(name);
                Err(Error::usage(format!("azure_environment from {origin} is unknown: {name}"))
                    .hint("one of PUBLIC, USGOVERNMENT, CHINA"))
            }
        }
    }
}

/// Whether an identity of Azure's is configured. It takes precedence over the identity of a job,
/// because every job has the variables of its platform, whether it means them or not.
pub fn has_azure_identity(settings: &Settings) -> bool {
    if settings.get(Id::AuthType).is_some() || !is_azure(settings) {
        return false;
    }
    let is_principal = has(settings, &[Id::AzureClientId, Id::AzureTenantId]);
    let has_secret = has(settings, &[Id::AzureClientSecret]);
    let is_job = has(settings, &[Id::Host, Id::ActionsRequestUrl, Id::ActionsRequestToken]);
    settings.is_on(Id::AzureUseMsi) || is_principal && (has_secret || is_job)
}

/// Tokens of Entra, the management token too, are sent to Databricks' domains only, even if `cloud`
/// or a resource id says that another host is on Azure.
pub fn check_domain(settings: &Settings) -> Result<()> {
    let Some(host) = settings.text(Id::Host) else { return Ok(()) };
    if takes_entra_tokens(host) {
        return Ok(());
    }
    let origin = settings.origin(Id::Host);
    Err(Error::usage(format!("{host} from {origin} is not in a domain of Databricks"))
        .because("Entra tokens are sent to Databricks domains only")
        .hint("DATABRICKS_HOST=https://adb-….azuredatabricks.net, the workspace's own URL"))
}

/// The base URL of the Entra that a platform names: a known one, or for a workspace on this machine
/// another address of this machine. An identity token must not go anywhere else.
pub fn known_authority(settings: &Settings, id: Id) -> Result<String> {
    let Some(text) = settings.text(id) else {
        return Ok(Azure::of(settings)?.environment.authority.to_owned());
    };
    let (name, origin) = (settings.name(id), settings.origin(id));
    let url =
        WorkspaceUrl::parse(text, origin).map(|host| format!("{}/", host.url)).unwrap_or_default();
    let workspace = settings.text(Id::Host).unwrap_or_default();
    if AUTHORITIES.contains(&url.as_str()) || is_loopback_url(&url) && is_loopback_url(workspace) {
        return Ok(url);
    }
    Err(Error::usage(format!("{name} from {origin} is not Entra: {}", redact(text)))
        .hint(format!("one of {}", AUTHORITIES.join(", "))))
}

/// The settings that decide whose token Entra gives.
pub fn identity(settings: &Settings, _: &Context) -> String {
    let ids = [Id::AzureTenantId, Id::AzureClientId, Id::AzureResourceId, Id::AzureEnvironment];
    ids.map(|id| settings.text(id).unwrap_or_default()).join("\0")
}

/// A service principal of Entra's, by its settings.
pub struct Principal {
    pub tenant: Id,
    pub client_id: Id,
    /// The base URL of the Entra that knows it.
    pub authority: String,
}

impl Principal {
    /// The principal in the SDKs' settings.
    pub fn configured(settings: &Settings) -> Result<Principal> {
        let authority = Azure::of(settings)?.environment.authority.to_owned();
        Ok(Principal { tenant: Id::AzureTenantId, client_id: Id::AzureClientId, authority })
    }
}

/// A token for a resource from Entra's token endpoint (its version 1, as in the SDKs). `proof` is
/// the secret or the assertion of the service principal.
pub fn request_entra_token(
    call: &ProviderCall<'_>,
    principal: &Principal,
    resource: &str,
    proof: &[(&str, &str)],
) -> Result<Token> {
    let settings = call.settings;
    let tenant = settings.text(principal.tenant).unwrap_or_default();
    let client_id = settings.text(principal.client_id).unwrap_or_default();

    let authority = &principal.authority;
    let url = format!("{authority}{}/oauth2/token", percent_encode(tenant));
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("resource", resource),
        ("client_id", client_id),
    ];
    pairs.extend(proof);

    let request = Request::form(&url, &[], &pairs);
    let what = "to give the service principal a token";
    let answer = ask_json(call.client, &request, what, call.deadline);
    let body = answer.map_err(|failure| {
        let origin = |id| format!("{} from {}", settings.name(id), settings.origin(id));
        let (client_id, tenant) = (origin(principal.client_id), origin(principal.tenant));
        let hint = format!("check {client_id} and {tenant}");
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
    let tenant = (call.resolve_cached)("tenant", &|| {
        let url = format!("{}/aad/auth", call.url);
        let answer = call.client.page(&url, call.deadline)?;
        let authority = Azure::of(call.settings)?.environment.authority;
        match answer.status {
            300..400 => tenant_in(&answer.location, authority),
            // As in the SDK for Python: `az` may know the tenant.
            404 => Ok(NO_TENANT.to_owned()),
            403 if answer.error_code_and_message().1.is_empty() => Ok(NO_TENANT.to_owned()),
            _ => Err(Refusal::of("to name its tenant", &answer).into_error()),
        }
    })?;
    Ok(Some(tenant).filter(|tenant| tenant != NO_TENANT))
}

/// What is cached for a workspace whose login page does not say which tenant is its own.
const NO_TENANT: &str = "none";

/// The tenant in the address of Entra's login page.
fn tenant_in(location: &str, authority: &str) -> Result<String> {
    if location.contains("private-link") {
        return Err(Error::denied("the workspace redirects to a page about private link")
            .hint(PRIVATE_LINK_HINT));
    }
    let path = location.strip_prefix(authority).unwrap_or_default();
    let tenant = path.split(['/', '?']).next().unwrap_or_default();
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    // `az` would take a leading `-` for a flag.
    let is_flag = tenant.starts_with('-');
    if tenant.is_empty() || is_flag || !tenant.bytes().all(is_legal) {
        return Err(Error::failed("the workspace's login page names no tenant")
            .because(redact(location.split('?').next().unwrap_or_default()))
            .hint("ARM_TENANT_ID=ID with the tenant of the workspace"));
    }
    Ok(tenant.to_owned())
}

/// Resolves the configured resource id to the workspace URL.
pub fn resolve_workspace(call: &ProviderCall<'_>, service: &AzureTokens) -> Result<String> {
    let id = call.settings.text(Id::AzureResourceId).unwrap_or_default();
    let origin = call.settings.origin(Id::AzureResourceId);
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._()".contains(&b);
    if !id.starts_with('/') || !id.bytes().all(is_legal) {
        return Err(Error::usage(format!(
            "azure_workspace_resource_id from {origin} is not a resource id: {}",
            redact(id)
        ))
        .hint("/subscriptions/…/resourceGroups/…/providers/Microsoft.Databricks/workspaces/…"));
    }

    let environment = Azure::of(call.settings)?.environment;
    let token = (service.token)(call, environment.resource_manager)?;
    let manager = environment.resource_manager.trim_end_matches('/');
    let url = format!("{manager}{id}?api-version=2018-04-01");
    let headers = [("Authorization", format!("Bearer {}", token.secret.expose()))];
    let request = Request::get(&url, &headers);

    let answer = ask_json(call.client, &request, "to show the workspace's URL", call.deadline);
    let body = answer.map_err(|failure| {
        let is_refusal = matches!(failure, CallError::Refused(_));
        let error = failure.into_error();
        if !is_refusal {
            return error;
        }
        error
            .because(format!("azure_workspace_resource_id comes from {origin}"))
            .hint("DATABRICKS_HOST with the workspace URL, so that it need not be resolved")
    })?;
    let name = require(&body["properties"], "workspaceUrl", "the workspace's description")?;
    workspace_in(name, environment)
}

/// Refuses an answer that names a host outside this cloud, because tokens would be sent there.
fn workspace_in(name: &str, environment: &Environment) -> Result<String> {
    let host = WorkspaceUrl::parse(name, "Azure").map_err(|e| Error::failed(e.message))?;
    match domain_of(&host.url) {
        Some(domain) if std::ptr::eq(domain.environment, environment) => Ok(host.url),
        _ => Err(Error::failed(format!("{} is not a workspace of this Azure cloud", host.url))),
    }
}

/// The management token proves that an identity may manage the workspace's resource. With it, the
/// workspace admits an identity that it does not know yet (databricks-sdk-go
/// `config/oauth_visitors.go`). If the identity can do without, a refusal counts for an hour.
pub fn management_token(call: &ProviderCall<'_>, service: &AzureTokens) -> Result<OptionalToken> {
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

/// The headers of a workspace request beside the bearer: the management token, and its resource.
pub fn workspace_headers(
    settings: &Settings,
    service: &AzureTokens,
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
    fn the_narrowest_domain_counts() {
        let of = |url: &str| domain_of(url).map(|domain| domain.suffix);
        assert_eq!(of("https://adb-1.2.azuredatabricks.net"), Some(".azuredatabricks.net"));
        assert_eq!(of("https://x.dev.azuredatabricks.net:443"), Some(".dev.azuredatabricks.net"));
        assert_eq!(of("https://x.databricks.azure.cn"), Some(".databricks.azure.cn"));
        assert_eq!(of("https://x.cloud.databricks.com"), None);
        assert_eq!(of("https://azuredatabricks.net.example"), None);
    }
}
