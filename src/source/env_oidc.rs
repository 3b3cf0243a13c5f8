//! `env-oidc`: an identity token in a variable, `DATABRICKS_OIDC_TOKEN` or the one that
//! `oidc_token_env` names.

use super::exchange::{self, IdToken, exchange};
use super::{Ask, ROW, Source, has};
use crate::error::{Error, Result, clean};
use crate::settings::{Id, OIDC_TOKEN, Settings};
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "env-oidc",
    needs: "host and an identity token in DATABRICKS_OIDC_TOKEN",
    // Who names a variable means it, also where it is empty.
    configured: |settings, world| {
        let named = settings.get(Id::OidcTokenEnv).is_some();
        has(settings, &[Id::Host]) && (named || world.var(OIDC_TOKEN).is_some())
    },
    identity: |settings, world| {
        exchange::identity(settings, world.var(variable(settings)).and_then(|text| text.to_str()))
    },
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn variable(settings: &Settings) -> &str {
    settings.text(Id::OidcTokenEnv).unwrap_or(OIDC_TOKEN)
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let name = clean(variable(ask.settings));
    let text = ask.world.var(variable(ask.settings)).and_then(|text| text.to_str());
    let Some(text) = text else {
        let error = Error::usage(format!("there is no identity token in {name}"));
        return Err(match ask.settings.get(Id::OidcTokenEnv) {
            Some(_) => {
                let origin = ask.settings.origin(Id::OidcTokenEnv);
                error.because(format!("{name} is named by oidc_token_env from {origin}"))
            }
            None => error,
        });
    };
    let token = IdToken::new(format!("the token from {name}"), text.trim());
    exchange(ask, &token.map_err(|e| Error::usage(e.message))?)
}
