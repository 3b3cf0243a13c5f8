//! `azure-cli`: a login kept by the Azure CLI.
//!
//! `az account get-access-token` is asked, with the tenant of the workspace: an account may be in
//! several, and a token of another one is of no use. Logins of managed identities do not take a
//! tenant (databricks-sdk-go `config/auth_azure_cli.go`).

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::Value;

use super::azure::{self, Azure, Service, is_azure};
use super::{Ask, ROW, Source};
use crate::api::require;
use crate::error::{Error, Result, clean};
use crate::settings::{Id, Settings};
use crate::time::Timestamp;
use crate::token::Token;
use crate::world::{Run, World};

pub const SOURCE: Source = Source {
    name: "azure-cli",
    needs: "a workspace on Azure, the Azure CLI on PATH, and no profile that shows a login of the \
            Databricks CLI there",
    configured: |settings, world| {
        let named = settings.text(Id::AuthType) == Some("azure-cli");
        let meant = named || settings.get(Id::AzureResourceId).is_some();
        // Of two logins that are there anyway, the more particular one.
        let found = || program(world).is_some() && !settings.has_cli_profile(world);
        is_azure(settings) && (meant || found())
    },
    identity: |settings, world| {
        let var = |name| world.var(name).map(|value| value.to_string_lossy()).unwrap_or_default();
        [&azure::identity(settings, world), &*var("HOME"), &*var("AZURE_CONFIG_DIR")].join("\0")
    },
    ready: |_, world| program(world).is_some(),
    login: true,
    switches: true,
    ways: &["PATH"],
    // Who may not manage the workspace's resource group has no such token, and needs none.
    azure: Some(Service { token, must_manage: false }),
    check: azure::check_zone,
    fetch: Some(|ask| token(ask, Azure::of(ask.settings)?.application)),
    ..ROW
};

fn program(world: &World) -> Option<PathBuf> {
    world.find_program("az")
}

fn token(ask: &Ask<'_>, resource: &str) -> Result<Token> {
    let tenant = azure::tenant(ask)?;
    let account = run(ask, &["account", "show"], &tenant)?;
    let (kind, name) = (&account["user"]["type"], &account["user"]["name"]);
    let is_service = kind == "servicePrincipal";
    let is_managed =
        is_service && (name == "systemAssignedIdentity" || name == "userAssignedIdentity");
    let words = ["account", "get-access-token", "--resource", resource];
    let with = |flag, value: &str| run(ask, &[&words[..], &[flag, value]].concat(), &tenant);
    let answer = match (tenant.as_deref().filter(|_| !is_managed), subscription(ask.settings)) {
        // Federated service principals take no tenant either.
        (Some(tenant), _) if is_service => {
            with("--tenant", tenant).or_else(|_| run(ask, &words, &None))
        }
        (Some(tenant), _) => with("--tenant", tenant),
        // Who may use the workspace need not see its subscription.
        (None, Some(subscription)) if tenant.is_none() => {
            with("--subscription", subscription).or_else(|_| run(ask, &words, &tenant))
        }
        (None, _) => run(ask, &words, &tenant),
    }?;
    let text = require(&answer, "accessToken", "the Azure CLI's answer")?;
    // `expiresOn` is local time without a zone; older versions have only that, but then the token
    // itself tells.
    let stated = answer["expires_on"].as_i64().map(Timestamp::from_seconds);
    Token::received("the Azure CLI's token", text, stated, ask.world.now())
}

/// The subscription in a resource id.
fn subscription(settings: &Settings) -> Option<&str> {
    let mut parts = settings.text(Id::AzureResourceId)?.split('/').skip(1);
    (parts.next()? == "subscriptions").then(|| parts.next()).flatten()
}

fn run(ask: &Ask<'_>, words: &[&str], tenant: &Option<String>) -> Result<Value> {
    let program = program(ask.world).ok_or_else(|| {
        Error::usage("auth type azure-cli needs the Azure CLI").because("there is no `az` on PATH")
    })?;
    let words = [words, &["--output", "json"]].concat();
    let shown = format!("az {}", words.join(" "));
    let run = ask
        .world
        .run(&program, &words, sees, &[], ask.held, ask.deadline)
        .map_err(|e| Error::failed(format!("cannot run {}", program.display())).because(e))?;
    let Run::Ended { status, stdout, stderr } = run else {
        return Err(Error::unavailable(format!("`{shown}` has not answered in time"))
            .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT"));
    };
    if !status.success() {
        return Err(explain(&shown, &String::from_utf8_lossy(&stderr), tenant.as_deref()));
    }
    // Not quoted: whatever it is, it could be a token.
    serde_json::from_slice(&stdout)
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
    let words = clean(words.unwrap_or("it said nothing"));
    // It may say itself which one is needed.
    let own = lines.clone().find(|line| line.starts_with("az login")).map(clean);
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
    use crate::error::Kind;

    #[test]
    fn its_texts_become_kinds() {
        for (text, kind) in [
            ("WARNING: x\nERROR: Please run 'az login' to setup account.", Kind::Login),
            ("ERROR: No subscription found. Run 'az account set' to select one.", Kind::Login),
            ("ERROR: AADSTS700082: The refresh token has expired", Kind::Login),
            ("ERROR: AADSTS65001: The user has not consented", Kind::Denied),
            ("ERROR: HTTPSConnectionPool: Max retries exceeded with url", Kind::Unavailable),
            ("", Kind::Failed),
        ] {
            let error = explain("az account show", text, Some("t"));
            assert_eq!(error.kind, kind, "{text}");
            assert!(!error.because[0].starts_with("WARNING"));
        }
    }
}
