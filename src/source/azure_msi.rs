//! `azure-msi`: the managed identity of the machine in Azure that this runs on
//! (<https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>).

use super::azure::{self, Azure, Service, is_azure};
use super::{Ask, ROW, Source};
use crate::api::{Refusal, access_token};
use crate::error::{Kind, Result};
use crate::http::{Request, percent_encode};
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "azure-msi",
    needs: "azure_use_msi and a workspace on Azure",
    configured: |settings, _| is_azure(settings) && settings.is_on(Id::AzureUseMsi),
    // Another machine may have this home, and has another identity.
    identity: |settings, world| [azure::identity(settings, world), (world.machine)()].join("\0"),
    // This one may get another, too.
    switches: true,
    azure: Some(Service { token, must_manage: true }),
    check: azure::check_zone,
    fetch: Some(|ask| token(ask, Azure::of(ask.settings)?.application)),
    ..ROW
};

fn token(ask: &Ask<'_>, resource: &str) -> Result<Token> {
    let mut url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}",
        ask.world.instance_metadata,
        percent_encode(resource)
    );
    if let Some(id) = ask.settings.text(Id::AzureClientId) {
        url.push_str(&format!("&client_id={}", percent_encode(id)));
    }
    let headers = [("Metadata", "true".to_owned())];
    let origin = ask.settings.origin(Id::AzureUseMsi);
    let answer =
        ask.client.send(&Request::get(&url, &headers), ask.deadline).map_err(|e| match e.kind {
            Kind::Unavailable => e.because(format!(
                "azure_use_msi from {origin} is for machines in Azure that have a managed identity"
            )),
            _ => e,
        })?;
    if answer.status != 200 {
        let error = Refusal::of("to give this machine a token", &answer).into_error();
        let hint = "a managed identity for this machine, and ARM_CLIENT_ID if it has several";
        return Err(error.if_denied(|e| e.hint(hint)));
    }
    access_token("the managed identity", &answer.json("token request")?, ask.world.now())
}
