//! What the platform demands of a request beyond what the stand-in needs to answer it: method, place and
//! type of each parameter (databricks-sdk-go `service/postgres`, `service/database`, `service/settings`,
//! `service/workspace`, `config`; RFC 6749). A violation fails the test that has caused it, so that a wrong
//! client does not pass because the stand-in is lenient. The official SDKs are held to the same rules.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::server::{Request, decode};
use super::workspace::{MINT, TOKEN};

/// A token that is about to expire may have expired before the request is handled.
const MIN_BEARER_SECONDS: i64 = 30;

/// What is wrong with a request that arrives at this time (Unix, in seconds); nothing if it follows the
/// rules.
pub fn violation(request: &Request, now: i64) -> Option<String> {
    let found = common(request).or_else(|| bearer(request, now)).or_else(|| {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", TOKEN) => grant(request),
            (_, TOKEN) => Some("a token is asked for by POST".to_owned()),
            ("GET", path) if path.starts_with("/api/") => list(request),
            ("POST", path) if path.starts_with("/api/2.0/") => json_body(request, path),
            _ => None,
        }
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
    if path.starts_with("/api/") {
        let authorization = request.header("authorization").unwrap_or_default();
        if !authorization.starts_with("Bearer ") || authorization.trim_end().len() < 10 {
            return Some("there is no bearer token".to_owned());
        }
        let id = request.header("x-databricks-workspace-id").unwrap_or("1");
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Some("the routing header is no id".to_owned());
        }
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

/// The pairs of a form. Each name may come once (RFC 6749 §3.2).
fn pairs(form: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in form.split('&') {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("the form has a part without a value: {pair}"));
        };
        if pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} comes twice"));
        }
        pairs.push((name.to_owned(), decode(value)));
    }
    Ok(pairs)
}

fn grant(request: &Request) -> Option<String> {
    const FORM: &str = "application/x-www-form-urlencoded";
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type.split(';').next() != Some(FORM) {
        return Some(format!("the content type is {content_type}"));
    }
    if !request.query.is_empty() {
        return Some("a grant has a query".to_owned());
    }
    let pairs = match pairs(&request.body) {
        Ok(pairs) => pairs,
        Err(why) => return Some(why),
    };
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
    let kind = value("grant_type").unwrap_or_default();
    let (needed, allowed): (&[&str], &[&str]) = match kind {
        "client_credentials" => (&["scope"], &["authorization_details", "assume_group"]),
        "authorization_code" => {
            (&["code", "redirect_uri", "client_id", "code_verifier"], &["client_secret"])
        }
        "refresh_token" => (&["refresh_token", "client_id"], &["scope"]),
        kind if kind.ends_with(":token-exchange") => (
            &["subject_token", "subject_token_type", "scope"],
            &["client_id", "requested_token_type", "assume_group", "authorization_details"],
        ),
        _ => return Some(format!("the grant type is {kind}")),
    };
    if let Some(name) = needed.iter().find(|name| value(name).unwrap_or_default().is_empty()) {
        return Some(format!("{kind} lacks {name}"));
    }
    let is_known =
        |name: &str| name == "grant_type" || needed.contains(&name) || allowed.contains(&name);
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !is_known(name)) {
        return Some(format!("{kind} has {name}"));
    }
    let has_basic = request.header("authorization").is_some_and(|text| text.starts_with("Basic "));
    (has_basic != (kind == "client_credentials")).then(|| {
        format!(
            "{kind}: an Authorization header is {}",
            if has_basic { "there" } else { "missing" }
        )
    })
}

/// The parameters of a list.
fn list(request: &Request) -> Option<String> {
    if request.query.is_empty() {
        return None;
    }
    let pairs = match pairs(&request.query) {
        Ok(pairs) => pairs,
        Err(why) => return Some(why),
    };
    pairs.iter().find_map(|(name, value)| match name.as_str() {
        "page_size" => {
            let size = value.parse().unwrap_or(0);
            (!(1..=100).contains(&size)).then(|| format!("page_size is {value}"))
        }
        "page_token" | "uid" | "scope" | "key" => {
            value.is_empty().then(|| format!("{name} is empty"))
        }
        // The SDKs ask SCIM for some attributes, and lists for others.
        "attributes" | "excludedAttributes" | "show_deleted" => None,
        _ => Some(format!("there is no parameter {name}")),
    })
}

/// The fields of a JSON body, with the kinds of their values: s text, n number, l list, o anything else.
fn json_body(request: &Request, path: &str) -> Option<String> {
    let fields: &[(&str, char, bool)] = match path {
        MINT => &[
            ("endpoint", 's', true),
            ("ttl", 's', false),
            ("request_id", 's', false),
            ("claims", 'l', false),
            ("group_name", 's', false),
        ],
        "/api/2.0/database/credentials" => {
            &[("instance_names", 'l', false), ("request_id", 's', false), ("claims", 'l', false)]
        }
        "/api/2.0/token/create" => &[("comment", 's', false), ("lifetime_seconds", 'n', false)],
        "/api/2.0/token/delete" => &[("token_id", 's', true)],
        "/api/2.0/secrets/put" => {
            &[("scope", 's', true), ("key", 's', true), ("string_value", 's', true)]
        }
        "/api/2.0/secrets/delete" => &[("scope", 's', true), ("key", 's', true)],
        "/api/2.0/secrets/scopes/create" => &[("scope", 's', true)],
        _ => return None,
    };
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
        let is_right = match kind {
            's' => value.is_string(),
            'n' => value.is_u64(),
            _ => value.is_array(),
        };
        if !is_right {
            return Some(format!("{name} is {value}"));
        }
    }
    let missing = fields.iter().find(|(name, _, needed)| *needed && !body.contains_key(*name));
    missing.map(|(name, ..)| format!("{name} is missing"))
}
