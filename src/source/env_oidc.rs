//! `env-oidc`: an identity token in a variable, `DATABRICKS_OIDC_TOKEN` or the one that
//! `oidc_token_env` names.

use super::exchange::{self, IdToken, exchange};
use super::{Ask, ROW, Source, has};
use crate::error::{Error, Result, clean};
use crate::secret::Secret;
use crate::settings::{Id, OIDC_TOKEN, Settings};
use crate::token::Token;
use crate::world::World;

pub const SOURCE: Source = Source {
    name: "env-oidc",
    needs: "host and an identity token in DATABRICKS_OIDC_TOKEN",
    // Who names a variable means it, also where it is empty.
    configured: |settings, world| {
        let named = settings.get(Id::OidcTokenEnv).is_some();
        let usual = || world.var(OIDC_TOKEN).is_some() && !settings.ignored.contains(&OIDC_TOKEN);
        has(settings, &[Id::Host]) && (named || usual())
    },
    identity: |settings, world| exchange::identity(settings, token(settings, world)),
    identity_token: |settings, world| token(settings, world).map(Secret::new),
    secret_places: &[Id::OidcTokenEnv],
    role: Some(Id::ClientId),
    groups: true,
    fetch: Some(fetch),
    ..ROW
};

fn variable(settings: &Settings) -> &str {
    settings.text(Id::OidcTokenEnv).unwrap_or(OIDC_TOKEN)
}

fn token<'w>(settings: &Settings, world: &'w World) -> Option<&'w str> {
    world.var(variable(settings)).and_then(|text| text.to_str()).map(str::trim)
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let name = clean(variable(ask.settings));
    let Some(text) = token(ask.settings, ask.world) else {
        let error = Error::usage(format!("there is no identity token in {name}"));
        return Err(match ask.settings.get(Id::OidcTokenEnv) {
            Some(_) => {
                let origin = ask.settings.origin(Id::OidcTokenEnv);
                error.because(format!("{name} is named by oidc_token_env from {origin}"))
            }
            None => error,
        });
    };
    let token = IdToken::configured(format!("the token from {name}"), text, ask.world.now())?;
    exchange(ask, &token)
}
