//! Grants for people: authorization code with PKCE (RFC 6749 §4.1, RFC 7636) and refresh token
//! (RFC 6749 §6), as the public client `databricks-cli`.
//!
//! A code and a refresh token may be good for one time only, so such a request is repeated only
//! where it has not left this machine. The answer decides nothing but the tokens.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::credential::encoding::form;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::{Client, Request};
use crate::net::refusal::{CallError, ask_json};
use crate::platform::context::Context;
use crate::platform::time::Deadline;

/// The client that every workspace knows (databricks-sdk-go `credentials/u2m`).
const CLIENT_ID: &str = "databricks-cli";

/// What a login is for; without `offline_access` there is no refresh token.
const SCOPES: &str = "offline_access all-apis";

/// Tokens, as the workspace has given them.
pub struct LoginTokens {
    /// What the next one is had with; none where it cannot be renewed.
    pub refresh: Option<Secret>,
    /// The access token, or why it is no good: the other may be the only one of its kind.
    pub access: Result<Token>,
}

/// Why there is no grant.
pub enum Refused {
    /// The code or the refresh token is no good any more: somebody must log in.
    Dead(Error),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Other(error)
    }
}

/// A request for a code (RFC 6749 §4.1.1), and what its answer is known by.
pub struct AuthorizationRequest {
    state: String,
    verifier: Secret,
    redirect: String,
}

impl AuthorizationRequest {
    /// Begins one; the browser comes back to `redirect`.
    pub fn new(context: &Context, redirect: String) -> Result<AuthorizationRequest> {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let state = encode(&context.random::<16>()?);
        let verifier = Secret::new(encode(&context.random::<64>()?));
        Ok(AuthorizationRequest { state, verifier, redirect })
    }

    /// Where the browser goes.
    pub fn url(&self, host: &str) -> String {
        let challenge = digest(&SHA256, self.verifier.expose().as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        let query = form(&[
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", &self.redirect),
            ("scope", SCOPES),
            ("state", &self.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        format!("{host}/oidc/v1/authorize?{query}")
    }

    /// Whether this is an answer to it.
    pub fn knows(&self, query: &str) -> bool {
        value(query, "state").as_deref() == Some(&self.state)
    }

    /// The code in what the browser came back with, or what went wrong there.
    pub fn code(&self, query: &str) -> Result<Secret> {
        if !self.knows(query) {
            return Err(Error::failed("the browser came back with the answer to another login")
                .because("its state is not the one that was sent")
                .hint("close old tabs and log in again"));
        }
        if let Some(error) = value(query, "error") {
            let words = value(query, "error_description").unwrap_or_default();
            return Err(Error::denied("the workspace gave no login")
                .because(crate::credential::redact::redact(&format!("{error}: {words}"))));
        }
        let code = value(query, "code").filter(|code| !code.is_empty());
        code.map(Secret::new)
            .ok_or_else(|| Error::failed("the browser came back without a code or an error"))
    }

    /// Tokens for the code.
    pub fn exchange(
        &self,
        context: &Context,
        client: &Client<'_>,
        host: &str,
        code: &Secret,
        deadline: Deadline,
    ) -> std::result::Result<LoginTokens, Refused> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", &self.redirect),
            ("client_id", CLIENT_ID),
            ("code_verifier", self.verifier.expose()),
        ];
        grant("to log you in", context, client, host, &pairs, deadline)
    }
}

/// New tokens for a refresh token. Where the answer has no new refresh token the old one stays.
pub fn refresh(
    context: &Context,
    client: &Client<'_>,
    host: &str,
    token: &Secret,
    deadline: Deadline,
) -> std::result::Result<LoginTokens, Refused> {
    let pairs = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("client_id", CLIENT_ID),
    ];
    let mut granted = grant("to renew the login", context, client, host, &pairs, deadline)?;
    granted.refresh.get_or_insert_with(|| token.clone());
    Ok(granted)
}

fn grant(
    what: &str,
    context: &Context,
    client: &Client<'_>,
    host: &str,
    pairs: &[(&str, &str)],
    deadline: Deadline,
) -> std::result::Result<LoginTokens, Refused> {
    let url = format!("{host}/oidc/v1/token");
    let request = Request { once: true, ..Request::form(&url, &[], pairs) };
    let body = ask_json(client, &request, what, deadline).map_err(|failure| match failure {
        CallError::Other(error) => Refused::Other(error),
        CallError::Refused(refusal) => {
            // RFC 6749 §5.2 has `invalid_grant`; Databricks has these words, with another code.
            let is_over = refusal.code == "invalid_grant"
                || refusal.message.to_ascii_lowercase().contains("refresh token is invalid");
            let error = refusal.into_error();
            if is_over { Refused::Dead(error) } else { Refused::Other(error) }
        }
    })?;
    let access = access_token("the workspace", &body, context.now());
    let refresh = body["refresh_token"].as_str().filter(|token| !token.is_empty());
    Ok(LoginTokens { refresh: refresh.map(Secret::new), access })
}

/// The value of a name in a query.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
}

/// A value of a query: `+` is a blank, `%` and two digits are a byte.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = match rest {
            [b'%', high, low, ..] => {
                let digits = [*high, *low];
                std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok())
            }
            _ => None,
        };
        bytes.push(hex.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if hex.is_some() { &rest[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decoded("a%20b+c%C3%A9%2"), "a b cé%2");
    }

    #[test]
    fn a_challenge_is_the_verifiers_digest() {
        // RFC 7636, appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let attempt = AuthorizationRequest {
            state: "s".into(),
            verifier,
            redirect: "http://localhost".into(),
        };
        let url = attempt.url("https://x");
        assert!(
            url.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&"),
            "{url}"
        );
        assert!(url.contains("&redirect_uri=http%3A%2F%2Flocalhost&"));
    }

    #[test]
    fn a_wrong_state_is_told_from_a_refusal() {
        let context = Context::of_process();
        let attempt = AuthorizationRequest::new(&context, "http://localhost:8020".into()).unwrap();
        let state = &attempt.state;
        assert_eq!(attempt.code(&format!("code=a%2Bb&state={state}")).unwrap().expose(), "a+b");
        let refused = attempt.code(&format!("error=access_denied&state={state}")).unwrap_err();
        assert!(refused.because[0].contains("access_denied"));
        for query in ["code=x&state=other", "code=x", "error=access_denied", ""] {
            assert!(attempt.code(query).unwrap_err().message.contains("another login"), "{query}");
        }
        assert!(attempt.code(&format!("state={state}")).is_err());
    }
}
