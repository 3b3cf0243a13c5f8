//! `env-oidc`: exchanges an identity token from a variable, `DATABRICKS_OIDC_TOKEN` or the one that
//! `oidc_token_env` names.

use crate::auth::provider::{Provider, ProviderCall, ROW, has};
use crate::auth::token_exchange;
use crate::auth::token_exchange::{IdToken, exchange};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::variables::OIDC_TOKEN;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::platform::context::Context;

pub const PROVIDER: Provider = Provider {
    name: "env-oidc",
    needs: "host and an identity token in DATABRICKS_OIDC_TOKEN",
    configured: is_configured,
    identity: |settings, context| token_exchange::identity(settings, token(settings, context)),
    identity_token: |settings, context| token(settings, context).map(Secret::new),
    secret_pointers: &[Id::OidcTokenEnv],
    role: Some(Id::ClientId),
    uses_token_endpoint: true,
    fetch: Some(fetch),
    ..ROW
};

fn is_configured(settings: &Settings, context: &Context) -> bool {
    if !has(settings, &[Id::Host]) {
        return false;
    }
    // A variable that the user names is meant, even if it is empty.
    has(settings, &[Id::OidcTokenEnv])
        || context.var(OIDC_TOKEN).is_some() && !settings.ignored.contains(&OIDC_TOKEN)
}

fn variable(settings: &Settings) -> &str {
    settings.text(Id::OidcTokenEnv).unwrap_or(OIDC_TOKEN)
}

fn token<'c>(settings: &Settings, context: &'c Context) -> Option<&'c str> {
    context.var(variable(settings)).and_then(|text| text.to_str()).map(str::trim)
}

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let name = redact(variable(call.settings));
    let Some(text) = token(call.settings, call.context) else {
        let error = Error::usage(format!("there is no identity token in {name}"));
        return Err(match call.settings.get(Id::OidcTokenEnv) {
            Some(_) => {
                let origin = call.settings.origin(Id::OidcTokenEnv);
                error.because(format!("{name} is named by oidc_token_env from {origin}"))
            }
            None => error,
        });
    };
    let token = IdToken::configured(format!("the token from {name}"), text, call.context.now())?;
    exchange(call, &token)
}
