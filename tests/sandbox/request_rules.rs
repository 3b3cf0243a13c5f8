//! What the platform demands of a request beyond what the stand-in needs to answer it: method, place and
//! type of each parameter (databricks-sdk-go `service/postgres`, `service/database`, `service/settings`,
//! `service/workspace`, `config`; RFC 6749; Microsoft's and GitHub's pages on their token endpoints). A
//! violation fails the test that has caused it, so that a wrong client does not pass because the stand-in is
//! lenient. The official SDKs are held to the same rules; `tests/it/judges.rs` has requests that break them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::server::{Request, decode};
use super::workspace::TOKEN;

/// A token that is about to expire may have expired before the request is handled.
const MIN_BEARER_SECONDS: i64 = 30;

/// How much is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    All,
    /// A caller whose clock is wrong sends tokens that have expired.
    AllButExpiry,
    /// A caller that gets hostile answers sends what is in them.
    Nothing,
}

/// What a value of a JSON body must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// Seconds with an `s`, as protobuf's JSON mapping has them.
    Duration,
    Texts,
    Objects,
}

/// A request of the API: its parameters in the query and the fields of its JSON body, each with whether it is
/// needed. `*` in a path is one part of it.
struct Rule {
    method: &'static str,
    path: &'static str,
    query: &'static [(&'static str, bool)],
    body: &'static [(&'static str, Kind, bool)],
}

const PAGES: &[(&str, bool)] = &[("page_size", false), ("page_token", false)];
/// The SDKs ask SCIM for some attributes.
const ATTRIBUTES: &[(&str, bool)] = &[("attributes", false), ("excludedAttributes", false)];
const NOTHING: &[(&str, bool)] = &[];

const fn get(path: &'static str, query: &'static [(&'static str, bool)]) -> Rule {
    Rule { method: "GET", path, query, body: &[] }
}

const fn post(path: &'static str, body: &'static [(&'static str, Kind, bool)]) -> Rule {
    Rule { method: "POST", path, query: &[], body }
}

/// The API, below `/api/2.0/`.
const API: &[Rule] = &[
    get("preview/scim/v2/Me", ATTRIBUTES),
    get(
        "postgres/projects",
        &[("page_size", false), ("page_token", false), ("show_deleted", false)],
    ),
    get("postgres/projects/*", NOTHING),
    get("postgres/projects/*/branches", PAGES),
    get("postgres/projects/*/branches/*", NOTHING),
    get("postgres/projects/*/branches/*/databases", PAGES),
    get("postgres/projects/*/branches/*/roles", PAGES),
    get("postgres/projects/*/branches/*/endpoints", PAGES),
    get("postgres/projects/*/branches/*/endpoints/*", NOTHING),
    post(
        "postgres/credentials",
        &[
            ("endpoint", Kind::Text, true),
            ("ttl", Kind::Duration, false),
            ("request_id", Kind::Text, false),
            ("claims", Kind::Objects, false),
            ("group_name", Kind::Text, false),
        ],
    ),
    get("database/instances", PAGES),
    get("database/instances:findByUid", &[("uid", true)]),
    get("database/instances/*", NOTHING),
    post(
        "database/credentials",
        &[
            ("instance_names", Kind::Texts, true),
            ("request_id", Kind::Text, false),
            ("claims", Kind::Objects, false),
        ],
    ),
    get("token/list", NOTHING),
    post(
        "token/create",
        &[("comment", Kind::Text, false), ("lifetime_seconds", Kind::Number, false)],
    ),
    post("token/delete", &[("token_id", Kind::Text, true)]),
    get("secrets/scopes/list", NOTHING),
    get("secrets/list", &[("scope", true)]),
    get("secrets/get", &[("scope", true), ("key", true)]),
    post(
        "secrets/put",
        &[
            ("scope", Kind::Text, true),
            ("key", Kind::Text, true),
            ("string_value", Kind::Text, true),
        ],
    ),
    post("secrets/delete", &[("scope", Kind::Text, true), ("key", Kind::Text, true)]),
    post("secrets/scopes/create", &[("scope", Kind::Text, true)]),
    post("secrets/scopes/delete", &[("scope", Kind::Text, true)]),
];

/// What is wrong with a request that arrives at this time (Unix, in seconds); nothing if it follows the
/// rules. On a unified host, `routed` is the id that leads to the workspace.
pub fn violation(
    request: &Request,
    now: i64,
    judged: Judged,
    routed: Option<&str>,
) -> Option<String> {
    if judged == Judged::Nothing {
        return None;
    }
    let expiring = || if judged == Judged::All { bearer(request, now) } else { None };
    let found = common(request).or_else(expiring).or_else(|| match request.path.as_str() {
        _ if is_entra(request) => entra(request),
        TOKEN if request.method == "POST" => grant(request),
        TOKEN => Some("a token is asked for by POST".to_owned()),
        "/oidc/v1/authorize" => authorize(request),
        "/github/token" => parameters(request, &[("audience", true), ("api-version", false)]),
        "/metadata/identity/oauth2/token" => {
            let known = [("resource", true), ("api-version", true), ("client_id", false)];
            parameters(request, &known)
        }
        path => path.strip_prefix("/api/2.0/").and_then(|path| api(request, path, routed)),
    });
    found.map(|why| format!("{} {}: {why}", request.method, request.path))
}

fn common(request: &Request) -> Option<String> {
    let path = &request.path;
    let is_ours = path.starts_with("/api/") || path.starts_with("/oidc/");
    if is_ours && (path.contains("//") || path.split('/').any(|part| part == "..")) {
        return Some("the path is malformed".to_owned());
    }
    let is_legal = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    if !path.bytes().all(is_legal) {
        return Some("the path has characters that are not encoded".to_owned());
    }
    if request.method == "GET" && !request.body.is_empty() {
        return Some("a GET has a body".to_owned());
    }
    if request.header("user-agent").unwrap_or_default().is_empty() {
        return Some("there is no User-Agent".to_owned());
    }
    let names = request.headers.iter().filter(|(name, _)| name == "authorization");
    if names.count() > 1 {
        return Some("there are several Authorization headers".to_owned());
    }
    request.query.split('&').any(is_secret).then(|| "a secret is in the query".to_owned())
}

/// Whether a parameter of a query is a secret by its name or its form: a client secret or a JWT. Random
/// values, like `state`, may have any letters in them.
fn is_secret(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = decode(value);
    let is_named = ["client_secret", "access_token", "refresh_token", "password"].contains(&name);
    is_named || value.starts_with("dose") || value.starts_with("eyJ") && value.contains('.')
}

/// Whether the bearer is about to expire. Only our own requests are held to this: the SDKs use a token of a
/// few seconds, as one test gives them.
fn bearer(request: &Request, now: i64) -> Option<String> {
    if !request.header("user-agent")?.starts_with("lakebase-token/") {
        return None;
    }
    let token = request.header("authorization")?.strip_prefix("Bearer ")?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let expiry = serde_json::from_slice::<Value>(&payload).ok()?["exp"].as_i64()?;
    let left = expiry - now;
    (left < MIN_BEARER_SECONDS).then(|| format!("the bearer has {left} s left"))
}

/// What is wrong with a request of the API.
fn api(request: &Request, path: &str, routed: Option<&str>) -> Option<String> {
    let authorization = request.header("authorization").unwrap_or_default();
    if !authorization.starts_with("Bearer ") || authorization.trim_end().len() < 10 {
        return Some("there is no bearer token".to_owned());
    }
    let id = request.header("x-databricks-workspace-id");
    let is_id =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if id.is_some_and(|id| !is_id(id)) {
        return Some("the routing header is no id".to_owned());
    }
    if routed.is_some() && id != routed {
        return Some(format!("the routing header is {id:?}, not {routed:?}"));
    }

    let mut rules = API.iter().filter(|rule| fits(rule.path, path)).peekable();
    if rules.peek().is_none() {
        return Some("there is no such path".to_owned());
    }
    let Some(rule) = rules.find(|rule| rule.method == request.method) else {
        return Some("the method is another one".to_owned());
    };
    let wrong = parameters(request, rule.query);
    wrong.or_else(|| if rule.method == "POST" { json_body(request, rule.body) } else { None })
}

/// Whether the API has a path of this form, below `/api/2.0/`.
pub fn is_path(path: &str) -> bool {
    API.iter().any(|rule| fits(rule.path, path))
}

/// Whether a path has the form of this pattern. A name is never empty.
pub fn fits(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let all = pattern.split('/').all(|expected| {
        parts.next().is_some_and(|part| part == expected || expected == "*" && is_name(part))
    });
    all && parts.next().is_none()
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && !part.contains(':')
}

/// The pairs of a query or a form. Each name may come once (RFC 6749 §3.2).
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("there is a part without a value: {pair}"));
        };
        if pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} comes twice"));
        }
        pairs.push((name.to_owned(), decode(value)));
    }
    Ok(pairs)
}

/// What is wrong with a query, given its parameters and whether each is needed.
fn parameters(request: &Request, known: &[(&str, bool)]) -> Option<String> {
    let pairs = match pairs(&request.query) {
        Ok(pairs) => pairs,
        Err(why) => return Some(why),
    };
    check(&pairs, known).or_else(|| {
        let (_, size) = pairs.iter().find(|(name, _)| name == "page_size")?;
        let is_size = size.parse().is_ok_and(|size: u32| (1..=100).contains(&size));
        (!is_size).then(|| format!("page_size is {size}"))
    })
}

/// An unknown name, an empty value, or a needed name that is missing.
fn check(pairs: &[(String, String)], known: &[(&str, bool)]) -> Option<String> {
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.iter().any(|(k, _)| k == name)) {
        return Some(format!("there is no parameter {name}"));
    }
    if let Some((name, _)) = pairs.iter().find(|(_, value)| value.is_empty()) {
        return Some(format!("{name} is empty"));
    }
    let is_there = |name: &str| pairs.iter().any(|(known, _)| known == name);
    let missing = known.iter().find(|(name, needed)| *needed && !is_there(name));
    missing.map(|(name, _)| format!("{name} is missing"))
}

/// The pairs of a form, or what is wrong with it.
fn form(request: &Request) -> Result<Vec<(String, String)>, String> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type.split(';').next() != Some(FORM) {
        return Err(format!("the content type is {content_type}"));
    }
    if !request.query.is_empty() {
        return Err("a grant has a query".to_owned());
    }
    pairs(&request.body)
}

/// What is wrong with a grant of the workspace (RFC 6749 §4.1.3, §4.4.2, §6; RFC 8693 §2.1).
fn grant(request: &Request) -> Option<String> {
    let pairs = match form(request) {
        Ok(pairs) => pairs,
        Err(why) => return Some(why),
    };
    let kind = pairs.iter().find(|(name, _)| name == "grant_type");
    let kind = kind.map(|(_, kind)| kind.as_str()).unwrap_or_default();
    let known: &[(&str, bool)] = match kind {
        "client_credentials" => &[
            ("grant_type", true),
            ("scope", true),
            ("authorization_details", false),
            ("assume_group", false),
        ],
        "authorization_code" => &[
            ("grant_type", true),
            ("code", true),
            ("redirect_uri", true),
            ("client_id", true),
            ("code_verifier", true),
        ],
        "refresh_token" => {
            &[("grant_type", true), ("refresh_token", true), ("client_id", true), ("scope", false)]
        }
        "urn:ietf:params:oauth:grant-type:token-exchange" => &[
            ("grant_type", true),
            ("subject_token", true),
            ("subject_token_type", true),
            ("scope", true),
            ("client_id", false),
            ("requested_token_type", false),
            ("assume_group", false),
            ("authorization_details", false),
        ],
        _ => return Some(format!("the grant type is {kind}")),
    };
    let has_basic = request.header("authorization").is_some_and(|text| text.starts_with("Basic "));
    check(&pairs, known).map(|why| format!("{kind}: {why}")).or_else(|| {
        (has_basic != (kind == "client_credentials")).then(|| {
            let is = if has_basic { "there" } else { "missing" };
            format!("{kind}: an Authorization header is {is}")
        })
    })
}

/// What is wrong with a request of the login page (RFC 6749 §4.1.1, RFC 7636 §4.3). The stand-in's own buttons add a decision.
fn authorize(request: &Request) -> Option<String> {
    if request.method != "GET" {
        return Some("the method is another one".to_owned());
    }
    let names = [
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
    ];
    let known = names.map(|name| (name, true));
    parameters(request, &[&known[..], &[("decision", false)]].concat())
}

fn is_entra(request: &Request) -> bool {
    let is_login = request.header("host").is_some_and(|host| host.starts_with("login."));
    is_login && request.path.ends_with("/token")
}

/// What is wrong with a grant of Entra's first version, to a client with a secret or an assertion.
fn entra(request: &Request) -> Option<String> {
    if request.method != "POST" {
        return Some("a token is asked for by POST".to_owned());
    }
    let pairs = match form(request) {
        Ok(pairs) => pairs,
        Err(why) => return Some(why),
    };
    // One of the SDKs sends id and secret in a Basic header.
    let has_basic = request.header("authorization").is_some_and(|text| text.starts_with("Basic "));
    let has = |name: &str| pairs.iter().any(|(known, _)| known == name);
    let is_client =
        |(name, value): &(String, String)| name == "grant_type" && value == "client_credentials";
    if !pairs.iter().any(is_client) {
        return Some("the grant type is another one".to_owned());
    }
    if !has_basic && has("client_secret") == has("client_assertion") {
        return Some("a secret or an assertion is needed".to_owned());
    }
    check(
        &pairs,
        &[
            ("grant_type", true),
            ("resource", true),
            ("scope", false),
            ("client_id", !has_basic),
            ("client_secret", false),
            ("client_assertion", false),
            ("client_assertion_type", false),
        ],
    )
}

/// What is wrong with the fields of a JSON body.
fn json_body(request: &Request, fields: &[(&str, Kind, bool)]) -> Option<String> {
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type.split(';').next() != Some("application/json") {
        return Some(format!("the content type is {content_type}"));
    }
    let Ok(Value::Object(body)) = serde_json::from_str(&request.body) else {
        return Some("the body is no JSON object".to_owned());
    };
    for (name, value) in &body {
        let Some((_, kind, _)) = fields.iter().find(|(known, ..)| known == name) else {
            return Some(format!("there is no field {name}"));
        };
        if !is_of(value, *kind) {
            return Some(format!("{name} is {value}"));
        }
    }
    let missing = fields.iter().find(|(name, _, needed)| *needed && !body.contains_key(*name));
    missing.map(|(name, ..)| format!("{name} is missing"))
}

fn is_of(value: &Value, kind: Kind) -> bool {
    let all = |is: fn(&Value) -> bool| value.as_array().is_some_and(|all| all.iter().all(is));
    match kind {
        Kind::Text => value.is_string(),
        Kind::Number => value.is_u64(),
        Kind::Duration => {
            let seconds = value.as_str().and_then(|text| text.strip_suffix('s'));
            seconds.is_some_and(|seconds| seconds.parse::<u32>().is_ok())
        }
        Kind::Texts => all(Value::is_string),
        Kind::Objects => all(Value::is_object),
    }
}
