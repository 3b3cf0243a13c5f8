//! `azure-workload-identity`: the token of a Kubernetes service account replaces the client secret of
//! an Entra application (<https://learn.microsoft.com/azure/aks/workload-identity-overview>).
//!
//! The webhook of Azure Workload Identity gives a pod these variables even if its application does not
//! use them. So they count only together, for a workspace on Azure, and after all that is configured
//! on purpose. The platform replaces the token's file, so each call reads it again.

use crate::auth::entra::{
    self, ASSERTION_TYPE, Azure, MISSING_CREDENTIAL, Principal, is_azure, request_entra_token,
};
use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::providers::file_oidc::id_token_in;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::token::Token;
use crate::error::{Error, Result};

pub const PROVIDER: Provider = Provider {
    name: "azure-workload-identity",
    needs: "AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID, AZURE_TENANT_ID and a workspace on Azure",
    configured: |settings, _| {
        let is_named = settings.get(Id::AuthType).is_some();
        is_azure(settings)
            && has(settings, &[Id::Host, FILE, CLIENT_ID, TENANT])
            // An incomplete service principal is an error, which this auth type would hide.
            && (is_named || settings.part_of_principal().is_none())
    },
    identity: |settings, _| {
        [TENANT, CLIENT_ID, Id::AzureAuthorityHost, Id::AzureEnvironment]
            .map(|id| settings.text(id).unwrap_or_default())
            .join("\0")
    },
    identity_token: |settings, _| settings.id_token_file(FILE).as_ref().ok().cloned(),
    secret_pointers: &[FILE],
    role: Some(CLIENT_ID),
    check,
    fetch: Some(fetch),
    ..ROW
};

const FILE: Id = Id::AzureFederatedTokenFile;
const CLIENT_ID: Id = Id::AzureFederatedClientId;
const TENANT: Id = Id::AzureFederatedTenantId;

fn check(settings: &Settings) -> Result<()> {
    entra::check_domain(settings)?;
    check_client_id(settings)?;
    principal(settings).map(|_| ())
}

/// Another application that is configured, perhaps in part, is a mistake that this would hide.
fn check_client_id(settings: &Settings) -> Result<()> {
    let configured = settings.text(Id::AzureClientId);
    let is_other = configured.is_some_and(|id| settings.text(CLIENT_ID) != Some(id));
    if !is_other || settings.get(Id::AuthType).is_some() {
        return Ok(());
    }
    let (origin, own) = (settings.origin(Id::AzureClientId), settings.origin(CLIENT_ID));
    Err(Error::usage(format!("azure_client_id from {origin} is not the application of {own}"))
        .hint(format!("--auth-type {}  # to use {own}", PROVIDER.name))
        .hint(format!("azure_client_secret and azure_tenant_id, to use the one from {origin}")))
}

fn principal(settings: &Settings) -> Result<Principal> {
    let authority = entra::known_authority(settings, Id::AzureAuthorityHost)?;
    Ok(Principal { tenant: TENANT, client_id: CLIENT_ID, authority })
}

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let token = id_token_in(call, FILE)?;
    let proof =
        [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token.secret.expose())];
    let resource = Azure::of(call.settings)?.application;
    let policy = || MISSING_CREDENTIAL.to_owned();
    request_entra_token(call, &principal(call.settings)?, resource, &proof)
        .map_err(|e| e.if_denied(|e| token.explain(e, policy)))
}
