//! `github-oidc-azure`: a GitHub Actions job's identity token replaces the client secret of an Entra
//! service principal that has a federated credential
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).

use crate::auth::entra;
use crate::auth::entra::{
    ASSERTION_TYPE, Azure, MISSING_CREDENTIAL, Principal, is_azure, request_entra_token,
};
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::providers::github_oidc::{id_token, is_github_job};
use crate::config::table::Id;
use crate::credential::token::Token;
use crate::error::Result;

pub const PROVIDER: Provider = Provider {
    name: "github-oidc-azure",
    needs: "azure_client_id, azure_tenant_id, a workspace on Azure and a GitHub Actions job with \
            the permission id-token: write",
    configured: |settings, _| {
        let is_principal = has(settings, &[Id::Host, Id::AzureClientId, Id::AzureTenantId]);
        is_azure(settings) && is_principal && is_github_job(settings)
    },
    identity: entra::identity,
    // Each job has another request token, so it separates the cache entries of jobs.
    secret: Some(Id::ActionsRequestToken),
    role: Some(Id::AzureClientId),
    check: entra::check_domain,
    fetch: Some(fetch),
    ..ROW
};

/// The audience that Entra expects in the identity token.
const AUDIENCE: &str = "api://AzureADTokenExchange";

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let token = id_token(call, AUDIENCE)?;
    let proof =
        [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token.secret.expose())];
    let resource = Azure::of(call.settings)?.application;
    let principal = Principal::configured(call.settings)?;
    let policy = || MISSING_CREDENTIAL.to_owned();
    request_entra_token(call, &principal, resource, &proof)
        .map_err(|e| e.if_denied(|e| token.explain(e, policy)))
}
