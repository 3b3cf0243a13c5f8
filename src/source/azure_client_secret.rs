//! `azure-client-secret`: a service principal of Entra, by its secret.

use super::azure::{self, Azure, Service, entra, is_azure};
use super::{Ask, ROW, Source, has};
use crate::error::{Error, Result};
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "azure-client-secret",
    needs: "azure_client_id, azure_client_secret, azure_tenant_id and a workspace on Azure",
    configured: |settings, _| {
        is_azure(settings)
            && has(settings, &[Id::AzureClientId, Id::AzureClientSecret, Id::AzureTenantId])
    },
    identity: azure::identity,
    secret: Some(Id::AzureClientSecret),
    role: Some(Id::AzureClientId),
    azure: Some(Service { token, must_manage: true }),
    check: azure::check_zone,
    fetch: Some(|ask| token(ask, Azure::of(ask.settings)?.application)),
    ..ROW
};

fn token(ask: &Ask<'_>, resource: &str) -> Result<Token> {
    let secret = ask.settings.secret(Id::AzureClientSecret).map_or("", |secret| secret.expose());
    let proof = [("client_secret", secret)];
    let origin = || ask.settings.origin(Id::AzureClientSecret);
    let because = |e: Error| e.because(format!("azure_client_secret comes from {}", origin()));
    entra(ask, resource, &proof).map_err(|e| e.if_denied(because))
}
