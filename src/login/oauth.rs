//! The OAuth grants of a person: authorization code with PKCE (RFC 6749 §4.1, RFC 7636) and refresh
//! token (RFC 6749 §6), as the public client `databricks-cli`.
//!
//! A server may accept a code or a refresh token only once, so such a request is sent again only
//! if the workspace has not processed it (no connection, or 429). An answer gives tokens, and never decides where they are sent.
//! `commands/login/` talks to the browser, `login/renewal.rs` decides when to refresh.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::credential::encoding::{form, percent_decode};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::{Client, Request};
use crate::net::refusal::{CallError, ask_json};
use crate::platform::context::Context;
use crate::platform::time::Deadline;

/// The public client that every workspace knows (databricks-sdk-go `credentials/u2m`).
const CLIENT_ID: &str = "databricks-cli";

/// The scope without which the workspace gives no refresh token.
const OFFLINE_ACCESS: &str = "offline_access";

/// The tokens in the workspace's answer to a grant.
pub struct LoginTokens {
    /// Without a refresh token, the login cannot be renewed.
    pub refresh: Option<Secret>,
    /// The access token, or why it is invalid. The refresh token must be stored in any case: the
    /// workspace does not give it again.
    pub access: Result<Token>,
}

/// Why a grant failed.
pub enum GrantError {
    /// The code or the refresh token is no longer valid: the person must log in again.
    Ended(Error),
    Other(Error),
}

impl From<Error> for GrantError {
    fn from(error: Error) -> GrantError {
        GrantError::Other(error)
    }
}

/// The outcome of a grant.
pub type GrantResult = std::result::Result<LoginTokens, GrantError>;

/// A request for a code (RFC 6749 §4.1.1).
pub struct AuthorizationRequest {
    /// An answer to this request contains the same state.
    state: String,
    verifier: Secret,
    redirect: String,
    scope: String,
}

impl AuthorizationRequest {
    /// The workspace sends the browser to `redirect` after the login.
    pub fn new(
        context: &Context,
        scopes: &[&str],
        redirect: String,
    ) -> Result<AuthorizationRequest> {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let state = encode(&context.random::<16>()?);
        let verifier = Secret::new(encode(&context.random::<64>()?));
        let others = scopes.iter().copied().filter(|scope| *scope != OFFLINE_ACCESS);
        let scope: Vec<&str> = [OFFLINE_ACCESS].into_iter().chain(others).collect();
        Ok(AuthorizationRequest { state, verifier, redirect, scope: scope.join(" ") })
    }

    /// The URL of the workspace's login page.
    pub fn url(&self, host: &str) -> String {
        let verifier_digest = digest(&SHA256, self.verifier.expose().as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(verifier_digest);
        let query = form(&[
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", &self.redirect),
            ("scope", &self.scope),
            ("state", &self.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        format!("{host}/oidc/v1/authorize?{query}")
    }

    /// Whether the browser's query is an answer to this request.
    pub fn is_answered_by(&self, query: &str) -> bool {
        query_value(query, "state").as_deref() == Some(&self.state)
    }

    /// The code in the browser's query, or the workspace's error.
    pub fn code(&self, query: &str) -> Result<Secret> {
        if !self.is_answered_by(query) {
            return Err(Error::failed("the browser returned the answer to another login")
                .because("its state is not the state that was sent")
                .hint("close old tabs and log in again"));
        }
        if let Some(error) = query_value(query, "error") {
            let description = query_value(query, "error_description").unwrap_or_default();
            return Err(Error::denied("the workspace refused the login")
                .because(redact(&format!("{error}: {description}"))));
        }

        let code = query_value(query, "code").filter(|code| !code.is_empty());
        code.map(Secret::new)
            .ok_or_else(|| Error::failed("the browser returned neither a code nor an error"))
    }

    /// Exchanges the code for tokens.
    pub fn exchange(
        &self,
        context: &Context,
        client: &Client<'_>,
        host: &str,
        code: &Secret,
        deadline: Deadline,
    ) -> GrantResult {
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

/// Exchanges a refresh token for new tokens. If the answer has no new refresh token, the old token
/// stays valid (RFC 6749 §6).
pub fn refresh(
    context: &Context,
    client: &Client<'_>,
    host: &str,
    token: &Secret,
    deadline: Deadline,
) -> GrantResult {
    let pairs = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("client_id", CLIENT_ID),
    ];
    let mut tokens = grant("to renew the login", context, client, host, &pairs, deadline)?;
    tokens.refresh.get_or_insert_with(|| token.clone());
    Ok(tokens)
}

fn grant(
    what: &str,
    context: &Context,
    client: &Client<'_>,
    host: &str,
    pairs: &[(&str, &str)],
    deadline: Deadline,
) -> GrantResult {
    let url = format!("{host}/oidc/v1/token");
    let request = Request { once: true, ..Request::form(&url, &[], pairs) };
    let body = ask_json(client, &request, what, deadline).map_err(grant_error)?;

    let access = access_token("the workspace", &body, context.now());
    let refresh = body["refresh_token"].as_str().filter(|token| !token.is_empty());
    Ok(LoginTokens { refresh: refresh.map(Secret::new), access })
}

fn grant_error(failure: CallError) -> GrantError {
    match failure {
        CallError::Other(error) => GrantError::Other(error),
        CallError::Refused(refusal) => {
            // RFC 6749 §5.2 defines `invalid_grant`; Databricks sends this message with another code.
            let has_ended = refusal.code == "invalid_grant"
                || refusal.message.to_ascii_lowercase().contains("refresh token is invalid");
            let error = refusal.into_error();
            if has_ended { GrantError::Ended(error) } else { GrantError::Other(error) }
        }
    }
}

fn query_value(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| percent_decode(&value.replace('+', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_digest_of_the_verifier() {
        // RFC 7636, appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let request = AuthorizationRequest {
            state: "s".into(),
            verifier,
            redirect: "http://localhost".into(),
            scope: "offline_access all-apis".into(),
        };

        let url = request.url("https://x");
        assert!(
            url.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&"),
            "{url}"
        );
        assert!(url.contains("&redirect_uri=http%3A%2F%2Flocalhost&"));
    }

    #[test]
    fn a_wrong_state_and_a_refusal_are_different_errors() {
        let context = Context::of_process();
        let request =
            AuthorizationRequest::new(&context, &["sql"], "http://localhost:8020".into()).unwrap();
        assert_eq!(request.scope, "offline_access sql");
        let state = &request.state;
        assert_eq!(request.code(&format!("code=a%2Bb&state={state}")).unwrap().expose(), "a+b");

        let refused = request.code(&format!("error=access_denied&state={state}")).unwrap_err();
        assert!(refused.because[0].contains("access_denied"));

        for query in ["code=x&state=other", "code=x", "error=access_denied", ""] {
            let error = request.code(query).unwrap_err();
            assert!(error.message.contains("another login"), "{query}");
        }
        assert!(request.code(&format!("state={state}")).is_err());
    }
}
