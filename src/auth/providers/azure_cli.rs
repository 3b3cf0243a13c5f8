//! `azure-cli`: a login kept by the Azure CLI.
//!
//! `az account get-access-token` is asked, with the tenant of the workspace: an account may be in
//! several, and a token of another one is of no use. Logins of managed identities do not take a
//! tenant (databricks-sdk-go `config/auth_azure_cli.go`).

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use crate::auth::entra;
use crate::auth::entra::{Azure, is_azure};
use crate::auth::provider::{Provider, ProviderCall, ROW, Service};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::refusal::require;
use crate::platform::context::Context;
use crate::platform::process::{Program, find_program, run_tool};
use crate::platform::time::Timestamp;

pub const PROVIDER: Provider = Provider {
    name: "azure-cli",
    needs: "a workspace on Azure, the Azure CLI on PATH, and no profile that shows a login of the \
            Databricks CLI there",
    configured: |settings, context| {
        let named = settings.text(Id::AuthType) == Some("azure-cli");
        let meant = named || settings.get(Id::AzureResourceId).is_some();
        // Of two logins that are there anyway, the more particular one.
        let found = || program(context).is_some() && !settings.has_cli_profile(context);
        is_azure(settings) && (meant || found())
    },
    identity: |settings, context| {
        let var = |name| context.var(name).map(|value| value.to_string_lossy()).unwrap_or_default();
        [&entra::identity(settings, context), &*var("HOME"), &*var("AZURE_CONFIG_DIR")].join("\0")
    },
    ready: |_, context| program(context).is_some(),
    login: true,
    login_can_change: true,
    route_variables: &["PATH"],
    // Who may not manage the workspace's resource group has no such token, and needs none.
    azure: Some(Service { token, must_manage: false }),
    check: entra::check_zone,
    fetch: Some(|call| token(call, Azure::of(call.settings)?.application)),
    ..ROW
};

fn program(context: &Context) -> Option<PathBuf> {
    find_program(context, "az")
}

fn token(call: &ProviderCall<'_>, resource: &str) -> Result<Token> {
    let tenant = entra::tenant(call)?;
    let account = run(call, &["account", "show"], &tenant)?;
    let (kind, name) = (&account["user"]["type"], &account["user"]["name"]);
    let is_service = kind == "servicePrincipal";
    let is_managed =
        is_service && (name == "systemAssignedIdentity" || name == "userAssignedIdentity");
    let words = ["account", "get-access-token", "--resource", resource];
    let with = |flag, value: &str| run(call, &[&words[..], &[flag, value]].concat(), &tenant);
    let answer = match (tenant.as_deref().filter(|_| !is_managed), subscription(call.settings)) {
        // Federated service principals take no tenant either.
        (Some(tenant), _) if is_service => {
            with("--tenant", tenant).or_else(|_| run(call, &words, &None))
        }
        (Some(tenant), _) => with("--tenant", tenant),
        // Who may use the workspace need not see its subscription.
        (None, Some(subscription)) if tenant.is_none() => {
            with("--subscription", subscription).or_else(|_| run(call, &words, &tenant))
        }
        (None, _) => run(call, &words, &tenant),
    }?;
    let text = require(&answer, "accessToken", "the Azure CLI's answer")?;
    // `expiresOn` is local time without a zone; older versions have only that, but then the token
    // itself tells.
    let stated = answer["expires_on"].as_i64().map(Timestamp::from_seconds);
    Token::received("the Azure CLI's token", text, stated, call.context.now())
}

/// The subscription in a resource id.
fn subscription(settings: &Settings) -> Option<&str> {
    let mut parts = settings.text(Id::AzureResourceId)?.split('/').skip(1);
    (parts.next()? == "subscriptions").then(|| parts.next()).flatten()
}

fn run(call: &ProviderCall<'_>, words: &[&str], tenant: &Option<String>) -> Result<Value> {
    let program = program(call.context).ok_or_else(|| {
        Error::usage("auth type azure-cli needs the Azure CLI").because("there is no `az` on PATH")
    })?;
    let words = [words, &["--output", "json"]].concat();
    let shown = format!("az {}", words.join(" "));
    let tool =
        Program { path: &program, arguments: &words, sees: &sees, variables: &[], lock: call.lock };
    let said = run_tool(call.context, &tool, &shown, call.deadline)?;
    if !said.status.success() {
        return Err(explain(&shown, &said.stderr, tenant.as_deref()));
    }
    // Not quoted: whatever it is, it could be a token.
    serde_json::from_slice(&said.stdout)
        .map_err(|_| Error::failed(format!("`{shown}` printed something that is not JSON")))
}

/// Its own variables are all that it needs.
fn sees(name: &OsStr) -> bool {
    !name.to_string_lossy().starts_with("DATABRICKS_")
}

/// What a failure means: it has one exit code for most, so its texts must tell.
fn explain(shown: &str, stderr: &str, tenant: Option<&str>) -> Error {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let words = lines.clone().find(|line| line.starts_with("ERROR")).or(lines.clone().next());
    let words = redact(words.unwrap_or("it said nothing"));
    // It may say itself which one is needed.
    let own = lines.clone().find(|line| line.starts_with("az login")).map(redact);
    let usual = || tenant.map_or("az login".to_owned(), |t| format!("az login --tenant {t}"));
    let login = own.unwrap_or_else(usual);
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    if says(&["AADSTS65001"]) {
        return Error::denied(format!("Entra refused `{shown}`")).because(words).hint(login);
    }
    if says(&["az login", "No subscription found", "AADSTS70043", "AADSTS700082", "AADSTS50173"]) {
        return Error::login("the Azure CLI has no valid login for this workspace")
            .because(words)
            .hint(login);
    }
    if says(&["Failed to resolve", "Max retries exceeded", "Connection refused", "timed out"]) {
        return Error::unavailable("the Azure CLI cannot reach Entra").because(words);
    }
    if says(&["AADSTS"]) {
        return Error::denied(format!("Entra refused `{shown}`")).because(words).hint(login);
    }
    Error::failed(format!("`{shown}` failed")).because(words).hint(login)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn its_texts_become_kinds() {
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
