//! Token exchange (RFC 8693): an identity token of a platform becomes a workspace token.
//!
//! This is workload identity federation: a platform signs an identity token for a job or a pod, and
//! the workspace accepts it if a federation policy has its issuer, subject and audience
//! (databricks-sdk-go `config/experimental/auth/oidc`). So if the workspace refuses the token, the
//! error shows these three claims, and never the token.

use crate::auth::provider::ProviderCall;
use crate::auth::token_endpoint::{TokenGrant, request_token};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::jwt::{PolicyClaims, expiry_within, lasting_claims};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::{Token, check_text};
use crate::error::{Error, Result};
use crate::net::refusal::{CallError, Refusal};
use crate::platform::time::Timestamp;

/// RFC 8693 §2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

pub struct IdToken {
    pub secret: Secret,
    /// What messages call it, such as "the token from DATABRICKS_OIDC_TOKEN".
    pub name: String,
}

impl IdToken {
    /// Refuses characters that no token has.
    pub fn new(name: String, text: &str) -> Result<IdToken> {
        check_text(&name, text)?;
        Ok(IdToken { secret: Secret::new(text), name })
    }

    /// The same for a token from a setting. An expired token is not sent: the workspace would only
    /// refuse it, and the fault is with the platform that should have replaced it.
    pub fn configured(name: String, text: &str, now: Timestamp) -> Result<IdToken> {
        let token = IdToken::new(name, text).map_err(|e| Error::usage(e.message))?;
        match expiry_within(text.as_bytes()) {
            Some(expires) if expires <= now => {
                Err(Error::usage(format!("{} has expired, at {expires}", token.name))
                    .because(format!("the time is {now}"))
                    .hint("have the platform that issues the identity token replace it"))
            }
            _ => Ok(token),
        }
    }

    /// Adds the token's claims to a refusal, and as a hint the policy that would accept them.
    pub fn explain(&self, error: Error, policy: impl FnOnce() -> String) -> Error {
        let Some(names) = PolicyClaims::of(self.secret.expose()) else {
            return error.because(format!("{} is not a JWT", self.name));
        };
        error
            .because(format!(
                "{} says: issuer {}, subject {}, audience {}",
                self.name,
                redact(&names.issuer),
                redact(&names.subject),
                redact(&names.audience)
            ))
            .hint(policy())
    }
}

/// Exchanges an identity token.
pub fn exchange(call: &ProviderCall<'_>, token: &IdToken) -> Result<Token> {
    let mut form = vec![
        ("grant_type", GRANT_TYPE),
        ("subject_token", token.secret.expose()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    // Without a client id, a policy of the whole account must trust the issuer.
    form.extend(call.settings.text(Id::ClientId).map(|id| ("client_id", id)));

    let what = format!("to exchange {}", token.name);
    let grant = TokenGrant { what: &what, headers: &[], form: &form };
    request_token(call, &grant)
        .map_err(|failure: CallError| failure.explained(|refusal| explained(call, refusal, token)))
}

fn explained(call: &ProviderCall<'_>, refusal: Refusal, token: &IdToken) -> Error {
    let client_id = call.settings.text(Id::ClientId);
    refusal.into_error().if_denied(|e| token.explain(e, || missing_policy(client_id)))
}

fn missing_policy(client_id: Option<&str>) -> String {
    match client_id {
        Some(id) => format!(
            "create a federation policy with this issuer, subject and audience for the service \
             principal {} (databricks account service-principal-federation-policy create)",
            redact(id)
        ),
        None => "set DATABRICKS_CLIENT_ID to the service principal's client id, or create a \
                 federation policy of the account with this issuer and audience (databricks account \
                 federation-policy create)"
            .to_owned(),
    }
}

/// All that decides whose workspace token the exchange gives: the client id, and the claims that a
/// policy may check.
pub fn identity(settings: &Settings, token: Option<&str>) -> String {
    let client = settings.text(Id::ClientId).unwrap_or_default();
    // The cache entry's fingerprint has the whole token, so a forged one with these claims is a miss.
    let claims = token.and_then(lasting_claims).unwrap_or_default();
    [client, &claims].join("\0")
}
