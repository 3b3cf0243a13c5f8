//! Token exchange (RFC 8693): somebody else's word about who this is, for a workspace token.
//!
//! Federation of workload identities: a job's or pod's identity token, which some platform has
//! signed, is taken by the workspace if a federation policy has its issuer, subject and audience
//! (databricks-sdk-go `config/experimental/auth/oidc`). So when it is refused the reader is told
//! these three, and never the token.

use crate::auth::provider::ProviderCall;
use crate::auth::token_endpoint::{TokenGrant, request_token};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::jwt::{Names, expiry_within, lasting_claims};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::{Token, check_text};
use crate::error::{Error, Result};
use crate::net::refusal::{CallError, Refusal};
use crate::platform::time::Timestamp;

/// The grant type of all of them (RFC 8693 §2.1).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// An identity token and how its reader calls it: "the token from DATABRICKS_OIDC_TOKEN".
pub struct IdToken {
    /// The token.
    pub secret: Secret,
    /// Its name in messages.
    pub name: String,
}

impl IdToken {
    /// Takes one, if it can be one.
    pub fn new(name: String, text: &str) -> Result<IdToken> {
        check_text(&name, text)?;
        Ok(IdToken { secret: Secret::new(text), name })
    }

    /// Takes a token from a setting. One that has expired by our clock is not sent: the workspace
    /// would only refuse it, and the program that should have replaced it is at fault.
    pub fn configured(name: String, text: &str, now: Timestamp) -> Result<IdToken> {
        let token = IdToken::new(name, text).map_err(|e| Error::usage(e.message))?;
        match expiry_within(text.as_bytes()) {
            Some(expires) if expires <= now => {
                Err(Error::usage(format!("{} has expired, at {expires}", token.name))
                    .because(format!("it is {now} here"))
                    .hint("a new identity token there; the platform that issues it replaces it"))
            }
            _ => Ok(token),
        }
    }

    /// What it says of itself, and `mends` for whoever may say that it is trusted; or that it is no
    /// token of that kind.
    pub fn explain(&self, error: Error, mends: impl FnOnce() -> String) -> Error {
        let Some(names) = Names::of(self.secret.expose()) else {
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
            .hint(mends())
    }
}

/// Exchanges an identity token.
pub fn exchange(call: &ProviderCall<'_>, token: &IdToken) -> Result<Token> {
    let mut form = vec![
        ("grant_type", GRANT_TYPE),
        ("subject_token", token.secret.expose()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    // Without one it is the whole account that trusts the issuer.
    form.extend(call.settings.text(Id::ClientId).map(|id| ("client_id", id)));
    let grant =
        TokenGrant { what: &format!("to exchange {}", token.name), headers: &[], form: &form };
    request_token(call, &grant)
        .map_err(|failure| failure.without(&token.secret))
        .map_err(|failure: CallError| failure.explained(|no| explained(call, no, token)))
}

/// What the token says of itself, next to what a policy must say.
fn explained(call: &ProviderCall<'_>, refusal: Refusal, token: &IdToken) -> Error {
    let mends = || {
        match call.settings.text(Id::ClientId) {
        Some(id) => format!(
            "a federation policy with this issuer, subject and audience for the service principal \
             {} (databricks account service-principal-federation-policy create)",
            redact(id)
        ),
        None => "client_id (DATABRICKS_CLIENT_ID) of the service principal that this is, or a \
                 federation policy of the account with this issuer and audience (databricks account \
                 federation-policy create)"
            .to_owned(),
    }
    };
    refusal.into_error().if_denied(|e| token.explain(e, mends))
}

/// Whose word it is: all that a policy may look at, and whom it speaks for.
pub fn identity(settings: &Settings, token: Option<&str>) -> String {
    let client = settings.text(Id::ClientId).unwrap_or_default();
    // The whole token is in the entry's fingerprint, so a forged one with these claims is a miss.
    let claims = token.and_then(lasting_claims).unwrap_or_default();
    [client, &claims].join("\0")
}
