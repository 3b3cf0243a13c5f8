//! The identity services beside a workspace: Entra and Azure's resource manager, the metadata service
//! of a machine in Azure, the identity tokens of GitHub and Azure DevOps, and Databricks' metadata
//! service; and a proxy that connects all their host names to this server.
//!
//! The answers are those of the platforms' documentation; `tests/it/official_sdk.rs` runs both official
//! SDKs against them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;

use super::jwt::{Scope, Signer, claims, now};
use super::server::{Answer, Request};
use super::workspace::State;

/// A workspace on Azure, which the proxy connects to this server.
pub const AZURE_HOST: &str = "adb-900800700600.6.azuredatabricks.net";
pub const TENANT: &str = "0e0e0e0e-1111-4222-8333-944444444444";
pub const AZURE_CLIENT_ID: &str = "a2a2a2a2-1111-4222-8333-955555555555";
pub const AZURE_CLIENT_SECRET: &str = "entra~0123456789.abcdef";
pub const RESOURCE_ID: &str = "/subscriptions/5b5b5b5b-0000-4000-8000-000000000001/resourceGroups/shop/providers/Microsoft.Databricks/workspaces/shop";
/// Databricks' application in Azure's public cloud.
pub const APPLICATION: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d";
/// The token that a job on GitHub requests identity tokens with.
pub const GITHUB_BEARER: &str = "github-request-token";
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
pub const GITHUB_SUBJECT: &str = "repo:ada/shop:ref:refs/heads/main";
/// The SYSTEM_ACCESSTOKEN of a job of Azure DevOps.
pub const DEVOPS_BEARER: &str = "devops-access-token";
pub const DEVOPS_ISSUER: &str = "https://vstoken.dev.azure.com/ada";
pub const DEVOPS_SUBJECT: &str = "p://ada/shop/deploy";
/// The subject of a pod's service account.
pub const POD: &str = "system:serviceaccount:shop:app";
/// The audience of all identity tokens that are meant for Entra.
pub const ENTRA_AUDIENCE: &str = "api://AzureADTokenExchange";

/// The names in the server's certificate, beside loopback.
pub const NAMES: [&str; 10] = [
    "*.6.azuredatabricks.net",
    "login.microsoftonline.com",
    "management.azure.com",
    "x.databricks.azure.us",
    "login.microsoftonline.us",
    "management.usgovcloudapi.net",
    "x.databricks.azure.cn",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
    "management.chinacloudapi.cn",
];

/// A federation policy: the identity tokens that the workspace accepts.
pub struct Policy {
    pub issuer: String,
    pub subject: String,
    pub audience: String,
    /// The service principal; `None` for a policy of the whole account.
    pub client: Option<&'static str>,
}

/// An identity token with the claims of a platform.
pub fn id_token(signer: &Signer, issuer: &str, subject: &str, audience: &str) -> String {
    let now = now();
    signer.sign_claims(&json!({
        "iss": issuer, "sub": subject, "aud": audience, "iat": now, "exp": now + 600,
    }))
}

/// The answer of one of these services. `None` if the request is for the workspace.
pub fn answer(signer: &Signer, state: &State, request: &Request) -> Option<Answer> {
    let host = request.header("host").unwrap_or_default();
    let bearer = request.header("authorization").unwrap_or_default();
    let token_answer = |token: String, life: i64| {
        // Entra sends numbers as strings.
        let (life, end) = (life.to_string(), (now() + state.skew + life).to_string());
        json!({ "token_type": "Bearer", "expires_in": life, "expires_on": end, "access_token": token })
    };

    let path = request.path.as_str();
    Some(match request.method.as_str() {
        "POST" if host.starts_with("login.") || path.ends_with("/oauth2/token") => {
            match entra(state, request) {
                Ok(subject) => {
                    let resource = request.value("resource").unwrap_or_default();
                    Answer::Json(
                        200,
                        token_answer(
                            azure_token(signer, state, &subject, &resource),
                            state.token_life,
                        ),
                    )
                }
                Err(refusal) => refusal,
            }
        }
        "GET" if host.starts_with("management.") => {
            let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
            let known = path == RESOURCE_ID && request.query == "api-version=2018-04-01";
            match signer.check_at(token, Scope::Management, now() + state.skew) {
                Err(_) => Answer::Json(
                    401,
                    json!({ "error": { "code": "AuthenticationFailed", "message": "Authentication failed." } }),
                ),
                Ok(_) if known => {
                    Answer::Json(200, json!({ "properties": { "workspaceUrl": AZURE_HOST } }))
                }
                Ok(_) => Answer::Json(
                    404,
                    json!({ "error": { "code": "ResourceNotFound", "message": "The Resource was not found." } }),
                ),
            }
        }
        "GET" if path == "/metadata/identity/oauth2/token" => {
            if request.header("metadata") != Some("true") {
                return Some(Answer::Json(
                    400,
                    json!({ "error": "invalid_request", "error_description": "Required metadata header not specified" }),
                ));
            }
            let resource = request.value("resource").unwrap_or_default();
            let client_id = request.value("client_id");
            if client_id.as_deref().is_some_and(|id| id != AZURE_CLIENT_ID) {
                return Some(Answer::Json(
                    400,
                    json!({ "error": "invalid_request", "error_description": "Identity not found" }),
                ));
            }
            let token = azure_token(signer, state, AZURE_CLIENT_ID, &resource);
            Answer::Json(200, token_answer(token, state.token_life))
        }
        "GET" if path == "/aad/auth" => Answer::redirect(
            302,
            &format!(
                "https://login.microsoftonline.com/{TENANT}/oauth2/authorize?client_id={APPLICATION}"
            ),
        ),
        "GET" if path == "/github/token" => {
            if bearer != format!("Bearer {GITHUB_BEARER}") {
                return Some(Answer::Json(401, json!({ "message": "Bad credentials" })));
            }
            let audience = request.value("audience").unwrap_or_default();
            let token = id_token(signer, GITHUB_ISSUER, GITHUB_SUBJECT, &audience);
            Answer::Json(200, json!({ "count": 1, "value": token }))
        }
        "POST" if path.ends_with("/oidctoken") => {
            if bearer != format!("Bearer {DEVOPS_BEARER}") {
                return Some(Answer::Json(401, json!({ "message": "TF400813: not authorized" })));
            }
            let token = id_token(signer, DEVOPS_ISSUER, DEVOPS_SUBJECT, ENTRA_AUDIENCE);
            Answer::Json(200, json!({ "oidcToken": token }))
        }
        "GET" if path == "/metadata-service" => {
            let is_complete = request.header("x-databricks-metadata-version") == Some("1")
                && request.header("x-databricks-host").is_some_and(|url| url.starts_with("http"));
            if !is_complete {
                return Some(Answer::Json(404, json!({ "message": "unknown host or version" })));
            }
            let token = signer.sign(
                "ada.lovelace@example.com",
                Scope::Workspace,
                state.token_life,
                state.skew,
            );
            let end = now() + state.skew + state.token_life;
            Answer::Json(
                200,
                json!({ "access_token": token, "token_type": "Bearer", "expires_on": end }),
            )
        }
        _ => return None,
    })
}

/// A token for the workspace, or for Azure's resource manager.
fn azure_token(signer: &Signer, state: &State, subject: &str, resource: &str) -> String {
    let scope = if resource == APPLICATION { Scope::Workspace } else { Scope::Management };
    signer.sign(subject, scope, state.token_life, state.skew)
}

/// The subject of the token that Entra gives, or Entra's refusal.
fn entra(state: &State, request: &Request) -> Result<String, Answer> {
    let refuse = |status, error: &str, words: &str| {
        let words = format!("{words} Trace ID: 1 Correlation ID: 2 Timestamp: 3");
        Err(Answer::Json(status, json!({ "error": error, "error_description": words })))
    };
    let value = |name: &str| request.value(name).unwrap_or_default();
    if request.path != format!("/{TENANT}/oauth2/token") {
        return refuse(400, "invalid_request", "AADSTS90002: Tenant not found.");
    }
    if value("grant_type") != "client_credentials" || value("resource").is_empty() {
        return refuse(
            400,
            "invalid_request",
            "AADSTS900144: The request body must contain 'resource'.",
        );
    }

    // One of the SDKs sends id and secret in a Basic header (RFC 6749 §2.3.1).
    let basic = super::workspace::basic(request);
    let (id, secret) = basic.unwrap_or_else(|| (value("client_id"), value("client_secret")));
    if id != AZURE_CLIENT_ID {
        return refuse(
            400,
            "unauthorized_client",
            "AADSTS700016: Application not found in the directory.",
        );
    }

    let assertion = value("client_assertion");
    if !assertion.is_empty() {
        let is_assertion = value("client_assertion_type")
            == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            && claims(&assertion)["aud"] == ENTRA_AUDIENCE;
        let subject = &claims(&assertion)["sub"];
        return if is_assertion
            && (subject == POD || subject == GITHUB_SUBJECT && state.trusts_github)
        {
            Ok(id)
        } else {
            refuse(
                401,
                "invalid_client",
                "AADSTS70021: No matching federated identity record found.",
            )
        };
    }

    if secret == AZURE_CLIENT_SECRET {
        Ok(id)
    } else {
        refuse(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    }
}

/// The subject of the token that the workspace gives for a token exchange.
pub fn exchanged(
    state: &State,
    signer: &Signer,
    request: &Request,
) -> Result<String, &'static str> {
    let value = |name: &str| request.value(name).unwrap_or_default();
    let token = value("subject_token");
    if value("subject_token_type") == "urn:databricks:params:oauth:token-type:personal-access-token"
    {
        let pat = state.pats.iter().find(|pat| pat.value == token);
        return pat.map(|pat| pat.owner.clone()).ok_or("the token is not known");
    }
    if value("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" {
        return Err("unsupported subject_token_type");
    }
    if !signer.has_signed(&token) {
        return Err("the token's signature is not valid");
    }

    let claims = claims(&token);
    let client = request.value("client_id");
    let fits = |policy: &&Policy| {
        claims["iss"] == policy.issuer.as_str()
            && claims["sub"] == policy.subject.as_str()
            && claims["aud"] == policy.audience.as_str()
            && policy.client == client.as_deref()
    };
    match state.policies.iter().find(fits) {
        Some(policy) => Ok(policy.client.unwrap_or(super::workspace::USER).to_owned()),
        None => Err("no federation policy matches the token"),
    }
}

/// An HTTP proxy that connects CONNECT requests to the same address. `admits` gets the head of each
/// request; where it says no, the answer is 502.
pub fn proxy(
    target: SocketAddr,
    admits: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let admits = Arc::new(admits);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let admits = admits.clone();
            // A client may close its connection at any time.
            std::thread::spawn(move || drop(tunnel(client, target, &*admits)));
        }
    });
    Ok(format!("http://{address}"))
}

fn tunnel(
    mut client: TcpStream,
    target: SocketAddr,
    admits: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    if !admits(&String::from_utf8_lossy(&head)) {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    }
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut to) = (server, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
    Ok(())
}

impl Policy {
    pub fn new(
        issuer: &str,
        subject: &str,
        audience: &str,
        client: Option<&'static str>,
    ) -> Policy {
        let own = str::to_owned;
        Policy { issuer: own(issuer), subject: own(subject), audience: own(audience), client }
    }
}
