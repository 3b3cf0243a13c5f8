//! What the sources of Azure share: which of its clouds a workspace is in, Entra's token endpoint,
//! the tenant, the workspace that a resource id names, and the management token
//! (databricks-sdk-go `common/environment`, `config/azure.go`).

use super::Ask;
use crate::api::{Refusal, access_token, require};
use crate::destination::takes_entra_tokens;
use crate::error::{Error, Kind, Result, clean};
use crate::http::{Request, percent_encode};
use crate::secret::Secret;
use crate::settings::host::Host;
use crate::settings::{Id, Settings};
use crate::time::HOUR;
use crate::token::Token;
use crate::world::World;

/// A service of Azure's that gives tokens for any of its resources.
pub struct Service {
    /// Gets a token for a resource.
    pub token: fn(&Ask<'_>, &str) -> Result<Token>,
    /// Whether it cannot do without the management token. Where it can, a refusal is believed for
    /// an hour.
    pub must_manage: bool,
}

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
            Error::usage(format!("azure_environment from {origin} is unknown: {}", clean(name)))
                .hint("one of PUBLIC, USGOVERNMENT, CHINA")
        })?;
        Ok(Azure { application: APPLICATION, environment })
    }
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
pub fn identity(settings: &Settings, _: &World) -> String {
    let ids = [Id::AzureTenantId, Id::AzureClientId, Id::AzureResourceId, Id::AzureEnvironment];
    ids.map(|id| settings.text(id).unwrap_or_default()).join("\0")
}

/// A token for a resource from Entra's token endpoint (its version 1, as in the SDKs).
pub fn entra(ask: &Ask<'_>, resource: &str, proof: &[(&str, &str)]) -> Result<Token> {
    let text = |id| ask.settings.text(id).unwrap_or_default();
    let authority = Azure::of(ask.settings)?.environment.authority;
    let url = format!("{authority}{}/oauth2/token", percent_encode(text(Id::AzureTenantId)));
    let client_id = text(Id::AzureClientId);
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("resource", resource),
        ("client_id", client_id),
    ];
    pairs.extend(proof);
    let answer = ask.client.send(&Request::form(&url, &[], &pairs), ask.deadline)?;
    if answer.status != 200 {
        let refusal = Refusal::of("to give the service principal a token", &answer);
        let origin = |id| ask.settings.origin(id);
        return Err(refusal.into_error().if_denied(|e| {
            e.hint(format!(
                "check azure_client_id from {} and azure_tenant_id from {}",
                origin(Id::AzureClientId),
                origin(Id::AzureTenantId)
            ))
        }));
    }
    access_token("Entra", &answer.json("token request")?, ask.world.now())
}

/// The tenant: configured, or the one whose login page the workspace redirects to.
pub fn tenant(ask: &Ask<'_>) -> Result<Option<String>> {
    if let Some(tenant) = ask.settings.text(Id::AzureTenantId) {
        return Ok(Some(tenant.to_owned()));
    }
    if ask.url.is_empty() {
        return Ok(None);
    }
    (ask.found)("tenant", &|| {
        let location = ask.client.redirection(&format!("{}/aad/auth", ask.url), ask.deadline)?;
        let authority = Azure::of(ask.settings)?.environment.authority;
        let path = location.strip_prefix(authority).unwrap_or_default();
        let tenant = path.split(['/', '?']).next().unwrap_or_default();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if tenant.is_empty() || !tenant.bytes().all(legal) {
            return Err(Error::failed("the workspace's login page names no tenant")
                .because(clean(location.split('?').next().unwrap_or_default()))
                .hint("ARM_TENANT_ID"));
        }
        Ok(tenant.to_owned())
    })
    .map(Some)
}

/// The URL of the workspace with the configured resource id.
pub fn locate(ask: &Ask<'_>, service: &Service) -> Result<String> {
    let environment = Azure::of(ask.settings)?.environment;
    let id = ask.settings.text(Id::AzureResourceId).unwrap_or_default();
    let origin = ask.settings.origin(Id::AzureResourceId);
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._()".contains(&b);
    if !id.starts_with('/') || !id.bytes().all(legal) {
        return Err(Error::usage(format!(
            "azure_workspace_resource_id from {origin} is no resource id: {}",
            clean(id)
        ))
        .hint("/subscriptions/…/resourceGroups/…/providers/Microsoft.Databricks/workspaces/…"));
    }
    let token = (service.token)(ask, environment.resource_manager)?;
    let manager = environment.resource_manager.trim_end_matches('/');
    let url = format!("{manager}{id}?api-version=2018-04-01");
    let headers = [("Authorization", format!("Bearer {}", token.secret.expose()))];
    let answer = ask.client.send(&Request::get(&url, &headers), ask.deadline)?;
    if answer.status != 200 {
        let refusal = Refusal::of("to say where the workspace is", &answer);
        let error = refusal.into_error().without(&token.secret);
        return Err(error
            .because(format!("azure_workspace_resource_id comes from {origin}"))
            .hint("DATABRICKS_HOST with the workspace's URL, and nobody has to be asked"));
    }
    let body = answer.json("question where the workspace is")?;
    let name = require(&body["properties"], "workspaceUrl", "the workspace's description")?;
    let host = Host::parse(name, "Azure").map_err(|e| Error::failed(e.message))?;
    // Whatever it says, a token goes to no other place.
    match zone(&host.url) {
        Some((.., known)) if std::ptr::eq(*known, environment) => Ok(host.url),
        _ => Err(Error::failed(format!("{} is no workspace of this cloud", host.url))),
    }
}

/// Stands for a management token that is not to be had.
const NONE: &str = "none";

/// The proof that a service may manage the workspace's resource: with it, one that is not known to
/// the workspace yet is let in (databricks-sdk-go `config/oauth_visitors.go`).
pub fn management_token(ask: &Ask<'_>, service: &Service) -> Result<Token> {
    let asked = (service.token)(ask, Azure::of(ask.settings)?.environment.management);
    asked.or_else(|e| match e.kind {
        Kind::Denied | Kind::Failed if !service.must_manage => {
            let (secret, issued) = (Secret::new(NONE), ask.world.now());
            let expires = Some(issued.plus(HOUR));
            Ok(Token { secret, issued, expires, lifetime: HOUR, subject: None })
        }
        _ => Err(e),
    })
}

/// What a workspace is shown beside the bearer: the management token, and what it is for.
pub fn beside(
    settings: &Settings,
    service: &Service,
    management: Result<Token>,
) -> Result<Vec<(&'static str, Secret)>> {
    let management = match management {
        Ok(token) => Some(token.secret).filter(|secret| secret.expose() != NONE),
        Err(error) if service.must_manage => return Err(error),
        Err(_) => None,
    };
    let resource = settings.text(Id::AzureResourceId).map(Secret::new);
    let shown = [
        ("X-Databricks-Azure-SP-Management-Token", management),
        ("X-Databricks-Azure-Workspace-Resource-Id", resource),
    ];
    Ok(shown.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect())
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
