//! Requests that the platform would refuse are violations in the stand-in, and a violation fails the test that has
//! caused it.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::support::workspace;
use crate::sandbox::jwt::{Scope, Signer};
use crate::sandbox::request_rules::{Judged, violation};
use crate::sandbox::server::Request;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT, MINT, TOKEN, USER, Workspace};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");
const AGENT: (&str, &str) = ("user-agent", "lakebase-token/1");
const BEARER: (&str, &str) = ("authorization", "Bearer dapi0123456789");
const BASIC: (&str, &str) = ("authorization", "Basic aWQ6c2VjcmV0");

fn request(line: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.collect(),
        body: body.to_owned(),
        connection: 1,
    }
}

fn judged(line: &str, headers: &[(&str, &str)], body: &str) -> Option<String> {
    violation(&request(line, headers, body), 1_000_000, Judged::All, None)
}

#[test]
fn a_wrong_request_of_the_api_is_a_violation() {
    let mint = |body: serde_json::Value| (format!("POST {MINT}"), body.to_string());
    let api = |path: &str| (format!("GET /api/2.0/{path}"), String::new());
    let right = [
        mint(json!({ "endpoint": ENDPOINT, "ttl": "600s", "request_id": "x" })),
        mint(json!({ "endpoint": ENDPOINT, "claims": [{ "permission_set": "READ_ONLY" }] })),
        api("postgres/projects?page_size=100&page_token=x"),
        api("postgres/projects/shop/branches/production/endpoints/primary"),
        api("database/instances:findByUid?uid=x"),
    ];
    for (line, body) in right {
        assert_eq!(judged(&line, &[AGENT, BEARER, JSON], &body), None);
    }
    let wrong = [
        (mint(json!({ "endpoint": ENDPOINT, "ttl": 600 })), "ttl is 600"),
        (mint(json!({ "endpoint": ENDPOINT, "ttl": "600" })), "ttl is \"600\""),
        (mint(json!({ "endpoint": ENDPOINT, "ttl": "soon" })), "ttl is \"soon\""),
        (mint(json!({ "endpoint": [ENDPOINT] })), "endpoint is ["),
        (mint(json!({ "endpoint": ENDPOINT, "claims": ["x"] })), "claims is"),
        (mint(json!({ "endpoint": ENDPOINT, "instance_names": [] })), "no field instance_names"),
        (mint(json!({ "ttl": "600s" })), "endpoint is missing"),
        (mint(json!([])), "no JSON object"),
        ((format!("GET {MINT}"), String::new()), "the method is another one"),
        ((format!("PUT {MINT}"), "{}".to_owned()), "the method is another one"),
        ((format!("POST {MINT}?endpoint=x"), "{}".to_owned()), "no parameter endpoint"),
        (("POST /api/2.0/postgres/projects".to_owned(), "{}".to_owned()), "the method is another"),
        (api("postgres/projects?page_size=0"), "page_size is 0"),
        (api("postgres/projects?page_size=1000"), "page_size is 1000"),
        (api("postgres/projects?page_token="), "page_token is empty"),
        (api("postgres/projects?uid=x"), "no parameter uid"),
        (api("postgres/projects?page_size=1&page_size=2"), "page_size comes twice"),
        (api("postgres/projects/shop?page_size=1"), "no parameter page_size"),
        (api("postgres/projects/shop/production"), "no such path"),
        (api("postgres/projects/shop/branches/"), "no such path"),
        (api("postgres//projects"), "the path is malformed"),
        (api("postgres/projects/../x"), "the path is malformed"),
        (api("postgres/projects/a{b"), "not encoded"),
        (api("database/instances:findByUid"), "uid is missing"),
        (api("secrets/get?scope=x"), "key is missing"),
        (api("token/list?access_token=x"), "a secret is in the query"),
        (("GET /api/2.0/token/list".to_owned(), "{}".to_owned()), "a GET has a body"),
    ];
    for ((line, body), words) in wrong {
        let found = judged(&line, &[AGENT, BEARER, JSON], &body).unwrap_or_default();
        assert!(found.contains(words), "{line} {body}: {found:?}");
    }
}

#[test]
fn a_wrong_header_is_a_violation() {
    let list = "GET /api/2.0/postgres/projects";
    let mint = json!({ "endpoint": ENDPOINT }).to_string();
    let id = |id: &'static str| ("x-databricks-workspace-id", id);
    for (line, headers, body, words) in [
        (list, &[AGENT][..], "", "no bearer token"),
        (list, &[AGENT, BASIC], "", "no bearer token"),
        (list, &[AGENT, ("authorization", "Bearer ")], "", "no bearer token"),
        (list, &[AGENT, BEARER, BEARER], "", "several Authorization headers"),
        (list, &[BEARER], "", "no User-Agent"),
        (list, &[AGENT, BEARER, id("")], "", "no id"),
        (list, &[AGENT, BEARER, id("a b")], "", "no id"),
        (&format!("POST {MINT}"), &[AGENT, BEARER], &mint, "the content type is "),
        (&format!("POST {MINT}"), &[AGENT, BEARER, FORM], &mint, "the content type is "),
    ] {
        let found = judged(line, headers, body).unwrap_or_default();
        assert!(found.contains(words), "{line} {headers:?}: {found:?}");
    }
    // On a host for many workspaces the id leads to this one.
    let routed = |headers: &[(&str, &str)]| {
        violation(&request(list, headers, ""), 0, Judged::All, Some("42"))
    };
    assert_eq!(routed(&[AGENT, BEARER, id("42")]), None);
    assert!(routed(&[AGENT, BEARER]).unwrap().contains("the routing header is None"));
    assert!(routed(&[AGENT, BEARER, id("43")]).unwrap().contains("the routing header is"));
}

#[test]
fn a_bearer_that_is_about_to_expire_is_a_violation() {
    let token = |life: i64| Signer::new().sign_claims(&json!({ "exp": 1_000_000 + life }));
    for (life, is_wrong) in [(-1, true), (29, true), (30, false), (3600, false)] {
        let bearer = format!("Bearer {}", token(life));
        let headers = [AGENT, ("authorization", bearer.as_str())];
        let list = request("GET /api/2.0/postgres/projects", &headers, "");
        assert_eq!(violation(&list, 1_000_000, Judged::All, None).is_some(), is_wrong, "{life}");
        assert_eq!(violation(&list, 1_000_000, Judged::AllButExpiry, None), None);
    }
}

#[test]
fn a_wrong_grant_is_a_violation() {
    let client = "grant_type=client_credentials&scope=all-apis";
    let refresh = "grant_type=refresh_token&refresh_token=x&client_id=databricks-cli";
    let code = "grant_type=authorization_code&code=x&redirect_uri=x&client_id=x&code_verifier=x";
    let exchange = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                    &subject_token=x&subject_token_type=x&scope=all-apis";
    let post = format!("POST {TOKEN}");
    for (headers, body) in [
        (&[AGENT, FORM, BASIC][..], client),
        (&[AGENT, FORM], refresh),
        (&[AGENT, FORM], code),
        (&[AGENT, FORM], exchange),
    ] {
        assert_eq!(judged(&post, headers, body), None, "{body}");
    }
    let form = &[AGENT, FORM][..];
    for (line, headers, body, words) in [
        (post.as_str(), form, client.to_owned(), "Authorization header is missing"),
        (&post, &[AGENT, FORM, BASIC][..], refresh.to_owned(), "Authorization header is there"),
        (&post, &[AGENT, JSON], refresh.to_owned(), "the content type is "),
        (&post, form, refresh.replace("&client_id=databricks-cli", ""), "client_id is missing"),
        (&post, form, refresh.replace("_token=x", "_token="), "refresh_token is empty"),
        (&post, form, format!("{refresh}&audience=x"), "no parameter audience"),
        (&post, form, format!("{refresh}&client_id=y"), "client_id comes twice"),
        (&post, form, code.replace("&code_verifier=x", ""), "code_verifier is missing"),
        (&post, form, exchange.replace("&scope=all-apis", ""), "scope is missing"),
        (&post, form, "grant_type=password&username=x".to_owned(), "the grant type is password"),
        (&post, form, "scope=x".to_owned(), "the grant type is "),
        (&format!("{post}?scope=x"), form, refresh.to_owned(), "a grant has a query"),
        (&format!("GET {TOKEN}"), &[AGENT], String::new(), "by POST"),
        ("GET /oidc/v1/authorize?response_type=code", &[AGENT], String::new(), "is missing"),
    ] {
        let found = judged(line, headers, &body).unwrap_or_default();
        assert!(found.contains(words), "{line} {body}: {found:?}");
    }
    let entra = ("host", "login.microsoftonline.com");
    let grant = "grant_type=client_credentials&resource=x&client_id=x&client_secret=x";
    let post = "POST /tenant/oauth2/token";
    assert_eq!(judged(post, &[AGENT, FORM, entra], grant), None);
    for (body, words) in [
        (grant.replace("resource", "audience"), "no parameter audience"),
        (grant.replace("&client_id=x", ""), "client_id is missing"),
        (grant.replace("&client_secret=x", ""), "a secret or an assertion"),
        (grant.replace("client_credentials", "password"), "the grant type is another one"),
    ] {
        let found = judged(post, &[AGENT, FORM, entra], &body).unwrap_or_default();
        assert!(found.contains(words), "{body}: {found:?}");
    }
}

/// The status of an answer to the Databricks CLI, which sends forms in chunks, and these headers.
fn sent_by_the_cli(workspace: &Workspace, line: &str, authorization: &str, body: &str) -> u16 {
    let address = workspace.url.trim_start_matches("http://");
    let mut headers = format!(
        "Host: {address}\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\
         User-Agent: cli/1.14.0 databricks-sdk-go/0.175.0 go/1.26.8 os/linux cmd/psql \
         cmd-exec-id/40796a11-3417-4e7f-934f-ee1fa72f88cb interactive/none auth/oauth-m2m\r\n\
         Traceparent: 00-b427b60eeaf82c5494f6b9acdd98911d-e838ce09b380e69c-01\r\n"
    );
    let mut body = body.to_owned();
    if !authorization.is_empty() {
        headers += &format!("Authorization: {authorization}\r\n");
    }
    if line.contains("/api/") {
        headers += "Accept: application/json\r\nX-Databricks-Workspace-Id: 900800700600\r\n";
        if !body.is_empty() {
            let length = body.len();
            headers += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
    } else {
        headers += "Content-Type: application/x-www-form-urlencoded\r\n\
                    Transfer-Encoding: chunked\r\n";
        body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    }
    status_of(address, &format!("{line} HTTP/1.1\r\n{headers}\r\n{body}"))
}

/// What version 1.14 sent to this stand-in: `psql` with an endpoint and with a project, `postgres`, `database`,
/// `tokens`, `secrets`, `current-user`, and `auth token`.
#[test]
fn what_the_databricks_cli_sends_breaks_no_rule() {
    let workspace = workspace();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    let refresh = workspace.state().log_in(USER);
    let renewal =
        format!("client_id=databricks-cli&grant_type=refresh_token&refresh_token={refresh}");
    let grants = [(&*basic, "grant_type=client_credentials&scope=all-apis"), ("", &renewal)];
    for (authorization, body) in grants {
        let line = format!("POST {TOKEN}");
        assert_eq!(sent_by_the_cli(&workspace, &line, authorization, body), 200, "{body}");
    }

    let bearer = format!("Bearer {}", workspace.signer.sign(CLIENT_ID, Scope::Workspace, 3600, 0));
    let branch = "postgres/projects/shop/branches/production";
    let endpoint = json!({ "endpoint": ENDPOINT }).to_string();
    for (line, body) in [
        ("GET preview/scim/v2/Me", ""),
        ("GET postgres/projects", ""),
        ("GET postgres/projects/shop", ""),
        ("GET postgres/projects/shop/branches", ""),
        (&format!("GET {branch}"), ""),
        (&format!("GET {branch}/endpoints"), ""),
        (&format!("GET {branch}/roles"), ""),
        (&format!("GET {branch}/databases"), ""),
        (&format!("GET postgres/{ENDPOINT}"), ""),
        ("POST postgres/credentials", &endpoint),
        ("GET database/instances", ""),
        ("POST database/credentials", r#"{"instance_names":["legacy"],"request_id":"x"}"#),
        ("POST token/create", r#"{"comment":"x","lifetime_seconds":600}"#),
        ("GET token/list", ""),
        ("POST secrets/scopes/create", r#"{"scope":"s"}"#),
        ("POST secrets/put", r#"{"key":"k","scope":"s","string_value":"v"}"#),
        ("GET secrets/list?scope=s", ""),
        ("GET secrets/get?key=k&scope=s", ""),
        ("POST secrets/delete", r#"{"key":"k","scope":"s"}"#),
    ] {
        let line = line.replacen(' ', " /api/2.0/", 1);
        assert_eq!(sent_by_the_cli(&workspace, &line, &bearer, body), 200, "{line} {body}");
    }
}

/// The status of the answer.
fn sent(workspace: &Workspace, line: &str, bearer: &str, body: &str) -> u16 {
    let address = workspace.url.trim_start_matches("http://");
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: lakebase-token/1\r\nConnection: close\r\n\
         Authorization: Bearer {bearer}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    status_of(address, &text)
}

fn status_of(address: &str, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

#[test]
fn a_wrong_name_is_another_failure_than_an_unknown_one() {
    let workspace = workspace();
    workspace.state().judged = Judged::Nothing;
    let bearer = workspace.signer.sign("me", Scope::Workspace, 3600, 0);
    let get = |path: &str| sent(&workspace, &format!("GET /api/2.0/{path}"), &bearer, "");
    let mint = |endpoint: &str| {
        let body = json!({ "endpoint": endpoint }).to_string();
        sent(&workspace, &format!("POST {MINT}"), &bearer, &body)
    };
    assert_eq!((mint(ENDPOINT), mint("projects/a/branches/b/endpoints/c")), (200, 404));
    assert_eq!((mint("projects/a"), mint("x/y/z"), mint("")), (400, 400, 400));
    assert_eq!((get("postgres/projects/shop"), get("postgres/projects/gone")), (200, 404));
    assert_eq!((get("postgres/shop"), get("postgres/projects/shop/x")), (400, 400));
    assert_eq!(get("postgres/projects?page_token=elsewhere"), 400);
    // A database's credential is no workspace token, and neither is one for another audience.
    let database = workspace.signer.sign("me", Scope::Database, 3600, 0);
    let claims = json!({ "sub": "me", "scope": "all-apis", "aud": "other", "exp": i64::MAX });
    let elsewhere = workspace.signer.sign_claims(&claims);
    for bearer in [database, elsewhere] {
        assert_eq!(sent(&workspace, "GET /api/2.0/postgres/projects", &bearer, ""), 403);
    }
}

#[test]
#[should_panic(expected = "the platform would refuse")]
fn a_violation_fails_the_test() {
    let workspace = workspace();
    let bearer = workspace.signer.sign("me", Scope::Workspace, 3600, 0);
    sent(&workspace, "GET /api/2.0/postgres/shop", &bearer, "");
}
