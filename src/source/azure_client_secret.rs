//! `azure-client-secret`: a service principal of Entra, by its secret.

use super::azure::{self, Azure, entra, is_azure};
use super::{Ask, Companion, ROW, Source, has};
use crate::error::{Kind, Result};
use crate::secret::Secret;
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
    locate: Some(|ask| azure::locate(ask, token)),
    companion: Some(Companion {
        fetch: |ask| token(ask, Azure::of(ask.settings)?.environment.management),
        needed: true,
    }),
    fetch: Some(|ask| token(ask, Azure::of(ask.settings)?.application)),
    ..ROW
};

fn token(ask: &Ask<'_>, resource: &str) -> Result<Token> {
    let nothing = Secret::new("");
    let secret = ask.settings.secret(Id::AzureClientSecret).unwrap_or(&nothing);
    let proof = [("client_secret", secret.expose())];
    entra(ask, resource, &proof, secret).map_err(|e| match e.kind {
        Kind::Denied => e.because(format!(
            "azure_client_secret comes from {}",
            ask.settings.origin(Id::AzureClientSecret)
        )),
        _ => e,
    })
}
