//! `github-oidc-azure`: a GitHub Actions job's identity token stands in for the secret of a service
//! principal of Entra that has a federated credential
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).

use super::azure::{self, Azure, entra, is_azure};
use super::github_oidc::{here, id_token};
use super::{Ask, ROW, Source, has};
use crate::error::Result;
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "github-oidc-azure",
    needs: "azure_client_id, azure_tenant_id, a workspace on Azure and a GitHub Actions job with \
            the permission id-token: write",
    configured: |settings, _| {
        let known = has(settings, &[Id::Host, Id::AzureClientId, Id::AzureTenantId]);
        is_azure(settings) && known && here(settings)
    },
    identity: azure::identity,
    // Another job has another one.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::AzureClientId),
    check: azure::check_zone,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    // The audience that Entra wants.
    let token = id_token(ask, "api://AzureADTokenExchange")?;
    let proof = [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", token.secret.expose()),
    ];
    let resource = Azure::of(ask.settings)?.application;
    let mends = || "a federated credential with these, for that application in Entra".to_owned();
    entra(ask, resource, &proof)
        .map_err(|e| e.without(&token.secret).if_denied(|e| token.explain(e, mends)))
}
