//! `azure-msi`: the managed identity of the Azure machine that the program runs on
//! (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>).

use crate::auth::entra;
use crate::auth::entra::{Azure, is_azure};
use crate::auth::provider::{AzureTokens, Provider, ProviderCall, ROW};
use crate::config::table::Id;
use crate::credential::encoding::percent_encode;
use crate::credential::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::Request;
use crate::net::refusal::ask_json;

pub const PROVIDER: Provider = Provider {
    name: "azure-msi",
    needs: "azure_use_msi and a workspace on Azure",
    configured: |settings, _| is_azure(settings) && settings.is_on(Id::AzureUseMsi),
    // A home may be shared by several machines, each with an identity of its own.
    identity: |settings, context| {
        [entra::identity(settings, context), (context.machine)()].join("\0")
    },
    // An administrator may give the machine another identity.
    login_can_change: true,
    azure: Some(AzureTokens { token, must_manage: true }),
    check: entra::check_domain,
    fetch: Some(|call| token(call, Azure::of(call.settings)?.application)),
    ..ROW
};

fn token(call: &ProviderCall<'_>, resource: &str) -> Result<Token> {
    let mut url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}",
        call.context.instance_metadata,
        percent_encode(resource)
    );
    if let Some(id) = call.settings.text(Id::AzureClientId) {
        url.push_str(&format!("&client_id={}", percent_encode(id)));
    }
    let headers = [("Metadata", "true".to_owned())];
    let request = Request::get(&url, &headers);

    let answer = ask_json(call.client, &request, "to give this machine a token", call.deadline);
    let body = answer.map_err(|failure| explain(failure.into_error(), call))?;
    access_token("the managed identity", &body, call.context.now())
}

fn explain(error: Error, call: &ProviderCall<'_>) -> Error {
    match error.kind {
        ErrorKind::Unavailable => {
            let origin = call.settings.origin(Id::AzureUseMsi);
            error.because(format!(
                "azure_use_msi from {origin} needs a machine in Azure that has a managed identity"
            ))
        }
        ErrorKind::Denied => error.hint(
            "assign a managed identity to this machine, and set ARM_CLIENT_ID if it has several",
        ),
        _ => error,
    }
}
