//! `azure-client-secret`: a service principal of Entra, with its client secret.

use crate::auth::entra;
use crate::auth::entra::{Azure, Principal, is_azure, request_entra_token};
use crate::auth::provider::{AzureTokens, Provider, ProviderCall, ROW, has};
use crate::config::table::Id;
use crate::credential::token::Token;
use crate::error::{Error, Result};

pub const PROVIDER: Provider = Provider {
    name: "azure-client-secret",
    needs: "azure_client_id, azure_client_secret, azure_tenant_id and a workspace on Azure",
    configured: |settings, _| {
        is_azure(settings)
            && has(settings, &[Id::AzureClientId, Id::AzureClientSecret, Id::AzureTenantId])
    },
    identity: entra::identity,
    secret: Some(Id::AzureClientSecret),
    role: Some(Id::AzureClientId),
    azure: Some(AzureTokens { token, must_manage: true }),
    check: entra::check_domain,
    fetch: Some(|call| token(call, Azure::of(call.settings)?.application)),
    ..ROW
};

fn token(call: &ProviderCall<'_>, resource: &str) -> Result<Token> {
    let secret = call.settings.secret(Id::AzureClientSecret).map_or("", |secret| secret.expose());
    let proof = [("client_secret", secret)];
    let because = |e: Error| {
        let origin = call.settings.origin(Id::AzureClientSecret);
        e.because(format!("azure_client_secret comes from {origin}"))
    };
    request_entra_token(call, &Principal::configured(call.settings)?, resource, &proof)
        .map_err(|e| e.if_denied(because))
}
