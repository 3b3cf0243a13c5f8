//! `azure-cli`: a login that the Azure CLI keeps (databricks-sdk-go `config/auth_azure_cli.go`).
//!
//! `az account get-access-token` runs with the tenant of the workspace, because an account may belong
//! to several tenants and the workspace accepts tokens of one only. A managed identity must be asked
//! without a tenant.

use std::path::PathBuf;

use serde_json::Value;

use crate::auth::entra;
use crate::auth::entra::{Azure, is_azure};
use crate::auth::provider::{AzureTokens, Provider, ProviderCall, ROW};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::refusal::require;
use crate::platform::context::{Context, HOME};
use crate::platform::time::Timestamp;

pub const PROVIDER: Provider = Provider {
    name: "azure-cli",
    needs: "a workspace on Azure and the Azure CLI on PATH (a profile with a login of the \
            Databricks CLI at that workspace takes precedence)",
    configured: is_configured,
    identity,
    missing: |_, context| program(context).is_none().then(absent),
    login: true,
    login_can_change: true,
    route_variables: &["PATH"],
    // Only an identity that may manage the workspace's resource gets the management token.
    azure: Some(AzureTokens { token, must_manage: false }),
    check: entra::check_domain,
    fetch: Some(|call| token(call, Azure::of(call.settings)?.application)),
    ..ROW
};

fn is_configured(settings: &Settings, context: &Context) -> bool {
    if !is_azure(settings) {
        return false;
    }
    let is_named = settings.text(Id::AuthType) == Some(PROVIDER.name);
    if is_named || settings.get(Id::AzureResourceId).is_some() {
        return true;
    }
    // If both CLIs could have a login, a profile for this workspace decides for the Databricks CLI.
    program(context).is_some() && !settings.has_cli_profile(context)
}

fn identity(settings: &Settings, context: &Context) -> String {
    let var = |name| context.var(name).map(|value| value.to_string_lossy()).unwrap_or_default();
    [&entra::identity(settings, context), &*var(HOME), &*var("AZURE_CONFIG_DIR")].join("\0")
}

fn program(context: &Context) -> Option<PathBuf> {
    context.find_program("az")
}

fn token(call: &ProviderCall<'_>, resource: &str) -> Result<Token> {
    let answer = get_access_token(call, resource)?;
    let text = require(&answer, "accessToken", "the Azure CLI's answer")?;
    // Older versions have only `expiresOn`, local time without a zone; then the token's own expiry
    // counts.
    let stated = answer["expires_on"].as_i64().map(Timestamp::from_seconds);
    Token::received("the Azure CLI's token", text, stated, call.context.now())
}

fn get_access_token(call: &ProviderCall<'_>, resource: &str) -> Result<Value> {
    let tenant = entra::tenant(call)?;
    let account = match call.tool_answer.get() {
        Some(account) => account,
        None => {
            let account = run(call, &["account", "show"], &tenant)?;
            call.tool_answer.get_or_init(|| account)
        }
    };
    let kind = &account["user"]["type"];
    let name = &account["user"]["name"];
    let is_service = kind == "servicePrincipal";
    let is_managed =
        is_service && (name == "systemAssignedIdentity" || name == "userAssignedIdentity");

    let arguments = ["account", "get-access-token", "--resource", resource];
    let with = |flag, value: &str| run(call, &[&arguments[..], &[flag, value]].concat(), &tenant);
    match (tenant.as_deref().filter(|_| !is_managed), subscription(call.settings)) {
        // A federated service principal must be asked without a tenant, too.
        (Some(tenant), _) if is_service => {
            with("--tenant", tenant).or_else(|_| run(call, &arguments, &None))
        }
        (Some(tenant), _) => with("--tenant", tenant),
        // A user of the workspace may have no right to see its subscription.
        (None, Some(subscription)) if tenant.is_none() => {
            with("--subscription", subscription).or_else(|_| run(call, &arguments, &tenant))
        }
        (None, _) => run(call, &arguments, &tenant),
    }
}

/// The subscription in the configured resource id.
fn subscription(settings: &Settings) -> Option<&str> {
    let mut parts = settings.text(Id::AzureResourceId)?.split('/').skip(1);
    (parts.next()? == "subscriptions").then(|| parts.next()).flatten()
}

fn absent() -> Error {
    Error::usage("auth type azure-cli needs the Azure CLI").because("there is no `az` on PATH")
}

fn run(call: &ProviderCall<'_>, arguments: &[&str], tenant: &Option<String>) -> Result<Value> {
    let program = program(call.context).ok_or_else(absent)?;
    let arguments = [arguments, &["--output", "json"]].concat();
    let shown = format!("az {}", arguments.join(" "));
    let output = call.run_cli(&program, &arguments, &[], None, &shown)?;
    if !output.status.success() {
        return Err(explain(&shown, &output.stderr, tenant.as_deref()));
    }
    // The output is not quoted, since it may be a token.
    object_in(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| Error::failed(format!("`{shown}` printed something that is not JSON")))
}

/// The JSON object in an output that may have a byte order mark, colours or a notice around it.
fn object_in(output: &str) -> Option<Value> {
    let start = output.find('{')?;
    let end = output.rfind('}')?;
    serde_json::from_str(output.get(start..=end)?).ok()
}

/// The error for a failure of `az`. Most have the same exit code, so stderr decides its kind.
fn explain(shown: &str, stderr: &str, tenant: Option<&str>) -> Error {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    let login = login_command(stderr, tenant);
    let error = if says(&CONSENT_MISSING) {
        Error::denied(format!("Entra refused `{shown}`")).hint(login)
    } else if says(&LOGIN_NEEDED) {
        Error::login("the Azure CLI has no valid login for this workspace").hint(login)
    } else if says(&UNREACHABLE) {
        Error::unavailable("the Azure CLI cannot reach Entra")
    } else if says(&REFUSED) {
        Error::denied(format!("Entra refused `{shown}`")).hint(login)
    } else {
        Error::failed(format!("`{shown}` failed")).hint(login)
    };
    error.because(reason(stderr))
}

// Parts of what `az` prints on stderr, by what they mean. The codes are Entra's
// (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>), the texts of
// `UNREACHABLE` those of Python's HTTP library.
const CONSENT_MISSING: [&str; 1] = ["AADSTS65001"];
const LOGIN_NEEDED: [&str; 5] =
    ["az login", "No subscription found", "AADSTS70043", "AADSTS700082", "AADSTS50173"];
const UNREACHABLE: [&str; 4] =
    ["Failed to resolve", "Max retries exceeded", "Connection refused", "timed out"];
const REFUSED: [&str; 1] = ["AADSTS"];

fn lines(stderr: &str) -> impl Iterator<Item = &str> {
    stderr.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn reason(stderr: &str) -> String {
    let error = lines(stderr).find(|line| line.starts_with("ERROR"));
    redact(error.or(lines(stderr).next()).unwrap_or("it printed no error"))
}

/// The command that logs in: the one that `az` itself names, else one with the tenant.
fn login_command(stderr: &str, tenant: Option<&str>) -> String {
    match (lines(stderr).find(|line| line.starts_with("az login")), tenant) {
        (Some(named), _) => redact(named),
        (None, Some(tenant)) => format!("az login --tenant {tenant}"),
        (None, None) => "az login".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_text_of_a_failure_decides_its_kind() {
        for (text, kind) in [
            ("WARNING: x\nERROR: Please run 'az login' to setup account.", ErrorKind::Login),
            ("ERROR: No subscription found. Run 'az account set' to select one.", ErrorKind::Login),
            ("ERROR: AADSTS700082: The refresh token has expired", ErrorKind::Login),
            ("ERROR: AADSTS65001: The user has not consented", ErrorKind::Denied),
            ("ERROR: HTTPSConnectionPool: Max retries exceeded with url", ErrorKind::Unavailable),
            ("", ErrorKind::Failed),
        ] {
            let error = explain("az account show", text, Some("t"));
            assert_eq!(error.kind, kind, "{text}");
            assert!(!error.because[0].starts_with("WARNING"));
        }
    }
}
