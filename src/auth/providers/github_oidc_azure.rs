//! `github-oidc-azure`: a GitHub Actions job's identity token stands in for the secret of a service
//! principal of Entra that has a federated credential
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).

use crate::auth::entra;
use crate::auth::entra::{Azure, entra, is_azure};
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::providers::github_oidc::{here, id_token};
use crate::config::table::Id;
use crate::credential::token::Token;
use crate::error::Result;

pub const PROVIDER: Provider = Provider {
    name: "github-oidc-azure",
    needs: "azure_client_id, azure_tenant_id, a workspace on Azure and a GitHub Actions job with \
            the permission id-token: write",
    configured: |settings, _| {
        let known = has(settings, &[Id::Host, Id::AzureClientId, Id::AzureTenantId]);
        is_azure(settings) && known && here(settings)
    },
    identity: entra::identity,
    // Another job has another one.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::AzureClientId),
    check: entra::check_zone,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    // The audience that Entra wants.
    let token = id_token(call, "api://AzureADTokenExchange")?;
    let proof = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", token.secret.expose()),
    ];
    let resource = Azure::of(call.settings)?.application;
    let mends = || "a federated credential with these, for that application in Entra".to_owned();
    entra(call, resource, &proof)
        .map_err(|e| e.without(&token.secret).if_denied(|e| token.explain(e, mends)))
}
