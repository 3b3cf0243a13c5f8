//! A stand-in for a Databricks workspace: OAuth, SCIM Me, both Lakebase APIs, personal access tokens
//! and secrets.
//!
//! Paths, answers and error bodies are those of the official SDKs and of the CLI's test server;
//! `tests/it/official_sdk.rs` runs the official Python SDK against it. The stand-in records every request.
//! Tests can shorten lifetimes, move its clock and inject faults.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::ServerConfig;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::identity_services::{self, Policy};
use super::jwt::{Scope, Signer, hex, now, random};
use super::models;
use super::request_rules::{self, Judged};
use super::server::{Answer, Request, Server, decode};

pub const CLIENT_ID: &str = "5f3cbb5e-0b1f-4c39-9b0a-7b2f4a1de001";
pub const CLIENT_SECRET: &str = "dose0123456789abcdef0123456789abcdef";
pub const USER: &str = "ada.lovelace@example.com";
pub const OTHER_USER: &str = "grace.hopper@example.com";
/// A personal access token of [`USER`].
pub const PAT: &str = "dapi0123456789abcdef0123456789abcdef";
/// Where tokens of the workspace are granted.
pub const TOKEN: &str = "/oidc/v1/token";
/// Where a credential for Autoscaling is minted.
pub const MINT: &str = "/api/2.0/postgres/credentials";
pub const ENDPOINT: &str = "projects/shop/branches/production/endpoints/primary";
pub const ENDPOINT_UID: &str = "ep-cool-sky-1234abcd";
pub const ENDPOINT_HOST: &str = "ep-cool-sky-1234abcd.database.us-east-1.cloud.databricks.com";
pub const INSTANCE: &str = "legacy";
pub const INSTANCE_UID: &str = "0b1f4c39-9b0a-4b2f-8a1d-e00100000001";
pub const INSTANCE_HOST: &str =
    "instance-0b1f4c39-9b0a-4b2f-8a1d-e00100000001.database.cloud.databricks.com";
/// The public client of logins with a browser.
const PUBLIC_CLIENT: &str = "databricks-cli";
const WORKSPACE_ID: &str = "900800700600";
/// All scopes of the stand-in.
const SCOPES: &str = "all-apis offline_access postgres database sql scim secrets iam jobs";

/// What tests can change and read.
pub struct State {
    /// The lifetime of workspace tokens, in seconds.
    pub token_life: i64,
    /// The lifetime of database credentials without a `ttl` in the request, in seconds.
    pub credential_life: i64,
    /// How far the workspace's clock is ahead, in seconds.
    pub skew: i64,
    /// The largest number of items on a page of a list.
    pub page_size: usize,
    /// Answers that replace the next answers of a path.
    pub faults: Vec<Fault>,
    /// All requests, oldest first.
    pub requests: Vec<Request>,
    /// Client ids with their secrets.
    pub clients: HashMap<String, String>,
    /// The groups that each identity is in.
    pub groups: Vec<String>,
    /// Personal access tokens.
    pub pats: Vec<Pat>,
    pub projects: Vec<Project>,
    pub instances: Vec<Value>,
    /// Bearer tokens that are no longer accepted.
    pub revoked: Vec<String>,
    pub policies: Vec<Policy>,
    /// Whether Entra accepts GitHub's identity tokens.
    pub trusts_github: bool,
    pub consent: Consent,
    /// The next request to a path that begins like this is carried out, and its answer is lost.
    pub lost_answer: Option<&'static str>,
    /// The largest number of tokens with the same comment that were valid at once.
    pub max_valid_alike: usize,
    /// When the last grant to a person was committed.
    pub committed: Option<SystemTime>,
    /// The pause between carrying out a token request and answering it.
    pub answer_delay: Duration,
    /// Until this time every request is answered with 503.
    pub down: Instant,
    /// Changes the JSON of every answer, with the request's path.
    pub change_answer: Option<ChangeAnswer>,
    /// Whether each refresh ends the refresh token and brings another one (RFC 6749 §6 allows both).
    pub rotates: bool,
    /// How much of the requests is judged.
    pub judged: Judged,
    /// On a host for many workspaces, the id that leads to this one.
    pub routed: Option<&'static str>,
    pub variant: Variant,
    /// Whether an answer differed from the usual workspace's, because of the variant.
    differed: Cell<bool>,
    /// Whether lists have a deleted project and deleted branches, as in that variant.
    pub has_deleted: bool,
    /// Whether this variant refuses now. Meanwhile, requests count in no test and change nothing.
    pub refuses: bool,
    /// How often it has refused since it began to.
    pub refusals: usize,
    /// The connections of such requests.
    pub refused_connections: HashSet<usize>,
    /// The kinds of requests that were one too many.
    limited: Vec<String>,
    /// Personal access tokens that are deleted and still listed.
    deleted: Vec<Value>,
    /// Requests that the platform would refuse; see `request_rules.rs`.
    pub violations: Vec<String>,
    /// The scopes that a client may ask for, if they are not all.
    pub client_scopes: Option<&'static str>,
    /// The `claims` of each request for a database credential; null for one without.
    pub claims: Vec<Value>,
    /// Authorization codes that are not used yet.
    codes: HashMap<String, Code>,
    /// The scopes of each login.
    login_scopes: HashMap<u64, String>,
    /// Whose each login is, if not [`USER`]'s.
    login_subjects: HashMap<u64, &'static str>,
    /// Workspace tokens without the scope all-apis, with their scopes.
    narrow: HashMap<String, String>,
    /// Valid refresh tokens, with the login that they belong to.
    refresh: HashMap<String, u64>,
    /// Used refresh tokens. A second use ends the login.
    used: HashMap<String, u64>,
    /// Secrets by scope and key.
    pub secrets: HashMap<String, HashMap<String, String>>,
}

pub type ChangeAnswer = Box<dyn FnMut(&str, &mut Value) + Send>;

/// An answer that replaces the next `times` answers of a path.
pub struct Fault {
    pub path: &'static str,
    pub times: usize,
    pub answer: Answer,
}

/// What an authorization code was given for.
struct Code {
    challenge: String,
    redirect: String,
    scopes: String,
}

/// What the person at the login page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Reads the page and presses a button.
    Page,
    /// Agrees at once.
    Allow,
    /// Refuses at once.
    Deny,
}

pub struct Pat {
    pub value: String,
    pub id: String,
    pub comment: String,
    pub owner: String,
    pub created: i64,
    pub expires: i64,
}

pub struct Project {
    pub name: &'static str,
    pub branches: Vec<Branch>,
}

pub struct Branch {
    pub name: &'static str,
    pub default: bool,
    pub state: &'static str,
    pub endpoints: Vec<Endpoint>,
}

pub struct Endpoint {
    pub name: &'static str,
    pub uid: &'static str,
    pub kind: &'static str,
    pub disabled: bool,
    pub hosts: Value,
}

pub struct Workspace {
    pub url: String,
    pub signer: Arc<Signer>,
    state: Arc<Mutex<State>>,
    server: Server,
}

impl Workspace {
    pub fn start(tls: Option<Arc<ServerConfig>>) -> io::Result<Workspace> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let signer = Arc::new(Signer::new());
        let state = Arc::new(Mutex::new(State::new()));
        let handler = {
            let (signer, state) = (signer.clone(), state.clone());
            move |request: Request| answer(&signer, &state, scheme, request)
        };
        let server = Server::start(tls, Arc::new(handler))?;
        Ok(Workspace { url: format!("{scheme}://{}", server.address), signer, state, server })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panicked")
    }

    /// Ends all logins of people.
    pub fn end_logins(&self) {
        self.state().refresh.clear();
    }

    /// The state, for a thread that outlives this borrow.
    pub fn shared(&self) -> Arc<Mutex<State>> {
        self.state.clone()
    }

    /// Replaces the next `times` answers of this path.
    pub fn fault(&self, path: &'static str, times: usize, answer: Answer) {
        self.state().faults.push(Fault { path, times, answer });
    }

    /// `METHOD path` of all requests since the last call of this function.
    pub fn take_requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.state().requests);
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// The number of recorded requests to a path.
    pub fn count(&self, path: &str) -> usize {
        self.state().requests.iter().filter(|request| request.path == path).count()
    }

    /// The same server without TLS, for services on the same machine.
    pub fn plain(&self) -> io::Result<Server> {
        let (signer, state) = (self.signer.clone(), self.state.clone());
        Server::start(None, Arc::new(move |request| answer(&signer, &state, "http", request)))
    }

    /// A proxy that connects every host name to this server, where `admits` says yes to the head of the
    /// request.
    pub fn proxy(&self, admits: impl Fn(&str) -> bool + Send + Sync + 'static) -> String {
        identity_services::proxy(self.server.address, admits).expect("loopback has ports")
    }

    pub fn connections(&self) -> usize {
        let all = self.server.connections.load(std::sync::atomic::Ordering::SeqCst);
        all - self.state().refused_connections.len()
    }
}

/// A request that the platform would refuse fails the test, even if we have answered it.
impl Drop for Workspace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.state().differed.get() {
            list_as_met();
        }
        let violations = self.state().violations.clone();
        assert!(violations.is_empty(), "the platform would refuse: {violations:#?}");
    }
}

/// Adds the running test to the list of those that have met the variant, for tests/run.
fn list_as_met() {
    if let (Some(list), Some(test)) =
        (std::env::var_os("LAKEBASE_TOKEN_VARIANT_MET"), std::thread::current().name())
    {
        let list = OpenOptions::new().append(true).create(true).open(list);
        list.and_then(|mut list| list.write_all(format!("{test}\n").as_bytes())).unwrap();
    }
}

/// What platforms may do differently, and no caller may depend on: the tests run once more with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As Databricks' SDKs and documentation have it.
    Usual,
    /// Where an empty object is meant, the body is empty.
    EmptyBodies,
    /// A refresh keeps the refresh token (RFC 6749 §6).
    KeptRefreshTokens,
    /// Lists have one item a page, and name for a while what is deleted.
    StaleLists,
    /// Each object has fields that are not known yet.
    NewFields,
    /// The first request of each kind is one too many.
    RateLimits,
    /// Each identity is in groups, whose names are roles of the database, too.
    GroupRoles,
    /// While `refuses` is set, each mint and each change is refused.
    NoCanUse,
    /// The same, and each grant of a token.
    InvalidScope,
}

impl Variant {
    /// The one that `LAKEBASE_TOKEN_VARIANT` names.
    fn named() -> Variant {
        match std::env::var("LAKEBASE_TOKEN_VARIANT").as_deref() {
            Ok("empty-bodies") => Variant::EmptyBodies,
            Ok("kept-refresh-tokens") => Variant::KeptRefreshTokens,
            Ok("stale-lists") => Variant::StaleLists,
            Ok("new-fields") => Variant::NewFields,
            Ok("rate-limits") => Variant::RateLimits,
            Ok("group-roles") => Variant::GroupRoles,
            Ok("no-can-use") => Variant::NoCanUse,
            Ok("invalid-scope") => Variant::InvalidScope,
            Ok(other) => panic!("no variant is called {other}"),
            Err(_) => Variant::Usual,
        }
    }

    /// Whether a call is tried first while the workspace refuses, and the words of the refusal.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Variant::NoCanUse => Some("User does not have CAN_USE on project shop"),
            Variant::InvalidScope => Some("Scopes 'all-apis' are not assigned to the client"),
            _ => None,
        }
    }

    /// The refusal of a request.
    fn refused(self, request: &Request) -> Option<Answer> {
        let words = self.refusal()?;
        let is_grant = self == Variant::InvalidScope && request.path == TOKEN;
        let changes = request.method != "GET" && request.path.starts_with("/api/");
        match (is_grant, changes) {
            (true, _) => {
                let body = json!({ "error": "invalid_scope", "error_description": words });
                Some(Answer::Json(400, body))
            }
            (_, true) => Some(error(403, "PERMISSION_DENIED", words)),
            _ => None,
        }
    }

    /// Changes an answer to what this variant sends. Returns whether it did.
    fn change(self, answer: &mut Answer) -> bool {
        let Answer::Json(status, body) = answer else { return false };
        match self {
            Variant::EmptyBodies if *status == 200 && *body == json!({}) => {
                *answer = Answer::Text { status: 200, headers: Vec::new(), body: Vec::new() };
                true
            }
            Variant::NewFields => {
                add_new_fields(body);
                body.is_object()
            }
            _ => false,
        }
    }
}

fn add_new_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_new_fields);
            fields.insert("x_new".to_owned(), json!({ "of": [null, 1, "two"] }));
        }
        Value::Array(items) => items.iter_mut().for_each(add_new_fields),
        _ => (),
    }
}

impl State {
    /// A login of this person, and its refresh token.
    pub fn log_in(&mut self, who: &'static str) -> String {
        let refresh = format!("refresh-{}", BASE64_URL_SAFE_NO_PAD.encode(random::<24>()));
        let family = u64::from_le_bytes(random());
        self.refresh.insert(refresh.clone(), family);
        self.login_subjects.insert(family, who);
        refresh
    }

    /// Whether this refresh token would be accepted.
    pub fn accepts_refresh(&self, token: &str) -> bool {
        self.refresh.contains_key(token)
    }

    fn new() -> State {
        let endpoint = Endpoint {
            name: ENDPOINT,
            uid: ENDPOINT_UID,
            kind: "ENDPOINT_TYPE_READ_WRITE",
            disabled: false,
            hosts: json!({
                "host": ENDPOINT_HOST,
                "read_write_pooled_host": ENDPOINT_HOST.replacen('.', "-pooler.", 1),
            }),
        };
        let branch = Branch {
            name: "projects/shop/branches/production",
            default: true,
            state: "READY",
            endpoints: vec![endpoint],
        };
        let pat = Pat {
            value: PAT.to_owned(),
            id: digest(PAT),
            comment: "made by hand".to_owned(),
            owner: USER.to_owned(),
            created: now(),
            expires: i64::MAX,
        };
        let variant = Variant::named();
        State {
            token_life: 3600,
            credential_life: 3600,
            skew: 0,
            page_size: if variant == Variant::StaleLists { 1 } else { 100 },
            variant,
            differed: Cell::new(false),
            has_deleted: false,
            refuses: false,
            refusals: 0,
            refused_connections: HashSet::new(),
            deleted: Vec::new(),
            faults: Vec::new(),
            requests: Vec::new(),
            clients: HashMap::from([(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned())]),
            groups: if variant == Variant::GroupRoles { group_roles() } else { Vec::new() },
            limited: Vec::new(),
            pats: vec![pat],
            projects: vec![Project { name: "projects/shop", branches: vec![branch] }],
            instances: vec![json!({
                "name": INSTANCE,
                "uid": INSTANCE_UID,
                "state": "AVAILABLE",
                "read_write_dns": INSTANCE_HOST,
                "pg_version": "PG_VERSION_16",
            })],
            revoked: Vec::new(),
            policies: Vec::new(),
            trusts_github: true,
            consent: Consent::Page,
            lost_answer: None,
            max_valid_alike: 0,
            committed: None,
            answer_delay: Duration::ZERO,
            down: Instant::now(),
            change_answer: None,
            rotates: variant != Variant::KeptRefreshTokens,
            judged: Judged::All,
            routed: None,
            violations: Vec::new(),
            client_scopes: None,
            claims: Vec::new(),
            codes: HashMap::new(),
            login_scopes: HashMap::new(),
            login_subjects: HashMap::new(),
            narrow: HashMap::new(),
            refresh: HashMap::new(),
            used: HashMap::new(),
            secrets: HashMap::new(),
        }
    }

    fn lists_deleted(&self) -> bool {
        self.variant == Variant::StaleLists || self.has_deleted
    }

    /// A page of a list. What is deleted stands before the first item.
    fn page(
        &self,
        request: &Request,
        list: &str,
        items: Vec<Value>,
        deleted: Option<Value>,
    ) -> Answer {
        // Only what this list has given leads to its next page.
        let token = request.value("page_token").unwrap_or(format!("{list}-0"));
        let start = token.strip_prefix(&format!("{list}-")).and_then(|at| at.parse().ok());
        let Some(start) = start.filter(|start: &usize| *start == 0 || *start < items.len()) else {
            return error(400, "INVALID_PARAMETER_VALUE", "page_token is not valid");
        };
        let page_size = request.value("page_size").and_then(|size| size.parse().ok());
        let size = page_size.unwrap_or(self.page_size).min(self.page_size);
        let end = (start + size).min(items.len());
        if self.variant == Variant::StaleLists && (deleted.is_some() || end < items.len()) {
            self.differed.set(true);
        }
        let next = if end < items.len() { format!("{list}-{end}") } else { String::new() };
        let mut page: Vec<Value> = deleted.into_iter().filter(|_| start == 0).collect();
        page.extend_from_slice(items.get(start..end).unwrap_or_default());
        Answer::Json(200, json!({ list: page, "next_page_token": next }))
    }
}

fn answer(signer: &Signer, state: &Mutex<State>, scheme: &str, request: Request) -> Answer {
    let path = request.path.clone();
    let mut answer = regular_answer(signer, state, scheme, request);
    let lost = |lost: &mut &str| path.starts_with(*lost);
    if state.lock().expect("no handler panicked").lost_answer.take_if(lost).is_some() {
        return Answer::Close;
    }
    let variant = state.lock().expect("no handler panicked").variant;
    if variant.change(&mut answer) {
        state.lock().expect("no handler panicked").differed.set(true);
    }
    if let Some(change) = &mut state.lock().expect("no handler panicked").change_answer {
        match &mut answer {
            Answer::Json(_, value) => change(&path, value),
            Answer::Text { headers, .. } => {
                for (_, location) in headers.iter_mut().filter(|(name, _)| name == "Location") {
                    let mut value = Value::from(location.as_str());
                    change(&path, &mut value);
                    *location = value.as_str().unwrap_or_default().to_owned();
                }
            }
            _ => (),
        }
    }
    answer
}

fn group_roles() -> Vec<String> {
    ["admins", "analysts of Bricks & Söhne"].map(str::to_owned).to_vec()
}

fn too_many_requests() -> Answer {
    let body = json!({
        "error_code": "REQUEST_LIMIT_EXCEEDED",
        "message": "Current request has exceeded the rate limit; please try again",
    });
    let headers = [("Content-Type", "application/json"), ("Retry-After", "0")];
    Answer::Text {
        status: 429,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: body.to_string().into_bytes(),
    }
}

fn regular_answer(signer: &Signer, state: &Mutex<State>, scheme: &str, request: Request) -> Answer {
    let mut state = state.lock().expect("no handler panicked");
    // For scripts in the sandbox: the number of requests since the last call of this path.
    if request.path == "/sandbox/requests" {
        let count = std::mem::take(&mut state.requests).len();
        return Answer::Json(200, count.into());
    }
    if request.path == "/sandbox/down" {
        let seconds = request.value("seconds").and_then(|seconds| seconds.parse().ok());
        state.down = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
        return Answer::Json(200, Value::Null);
    }
    let violation =
        request_rules::violation(&request, now() + state.skew, state.judged, state.routed);
    state.violations.extend(violation);
    if state.down > Instant::now() {
        return error(503, "TEMPORARILY_UNAVAILABLE", "the sandbox is down");
    }

    // As if it had not been sent, so that it counts in no test.
    let kind = format!("{} {}", request.method, request.path);
    let is_the_programs =
        request.header("user-agent").is_some_and(|agent| agent.starts_with("lakebase-token/"));
    let is_limited = state.variant == Variant::RateLimits && is_the_programs;
    if is_limited && !state.limited.contains(&kind) {
        state.limited.push(kind);
        state.differed.set(true);
        return too_many_requests();
    }

    if state.refuses {
        state.refused_connections.insert(request.connection);
        if let Some(refusal) = state.variant.refused(&request) {
            state.refusals += 1;
            state.differed.set(true);
            return refusal;
        }
    } else {
        state.requests.push(request.clone());
    }
    let applies = |fault: &&mut Fault| fault.times > 0 && request.path.starts_with(fault.path);
    if let Some(fault) = state.faults.iter_mut().find(applies) {
        fault.times -= 1;
        return fault.answer.clone();
    }
    if let Some(answer) = identity_services::answer(signer, &state, &request) {
        return answer;
    }

    let base = format!("{scheme}://{}", request.header("host").unwrap_or_default());
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/.well-known/databricks-config") => Answer::Json(
            200,
            json!({
                "oidc_endpoint": format!("{base}/oidc"),
                "account_id": "7f0e1c2d-0000-4000-8000-000000000001",
                "workspace_id": WORKSPACE_ID,
                "cloud": if base.contains(".azure") { "azure" } else { "aws" },
                "host_type": "workspace",
            }),
        ),
        ("GET", "/oidc/.well-known/oauth-authorization-server") => Answer::Json(
            200,
            json!({
                "authorization_endpoint": format!("{base}/oidc/v1/authorize"),
                "token_endpoint": format!("{base}/oidc/v1/token"),
            }),
        ),
        ("GET", "/oidc/v1/authorize") => authorize(&mut state, &request),
        ("POST", TOKEN) => {
            let answer = token(signer, &mut state, &request);
            let answer_delay = state.answer_delay;
            drop(state);
            std::thread::sleep(answer_delay);
            answer
        }
        (_, path) if path.starts_with("/api/") => match identify(signer, &state, &request) {
            Ok(identity) => api(signer, &mut state, &request, &identity),
            Err(refusal) => refusal,
        },
        // A Kubernetes API server that accepts workspace tokens.
        ("GET", "/version" | "/version/") => match identify(signer, &state, &request) {
            Ok(_) => Answer::Json(
                200,
                json!({
                    "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "x",
                    "gitTreeState": "clean", "buildDate": "x", "goVersion": "x",
                    "compiler": "gc", "platform": "x",
                }),
            ),
            Err(_) => Answer::Json(401, json!({ "kind": "Status", "code": 401 })),
        },
        (_, path)
            if path.starts_with("/ai-gateway/") || path.starts_with("/serving-endpoints/") =>
        {
            match identify(signer, &state, &request) {
                Ok(_) => models::answer(&request)
                    .unwrap_or_else(|| error(404, "ENDPOINT_NOT_FOUND", "no such model")),
                Err(refusal) => refusal,
            }
        }
        _ => error(404, "ENDPOINT_NOT_FOUND", "no such page"),
    }
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::Json(status, json!({ "error_code": code, "message": message }))
}

fn malformed(what: &str) -> Answer {
    error(400, "INVALID_PARAMETER_VALUE", &format!("{what} is malformed"))
}

/// The login page of the public client. Each button is a link to the same URL with a decision.
fn authorize(state: &mut State, request: &Request) -> Answer {
    let value = |name: &str| request.value(name).unwrap_or_default();
    let redirect = value("redirect_uri");
    let port = redirect.strip_prefix("http://localhost:").and_then(|port| port.parse().ok());
    let is_valid = value("response_type") == "code"
        && value("client_id") == PUBLIC_CLIENT
        && value("code_challenge_method") == "S256"
        && has_scope(&value("scope"), "offline_access")
        && has_scopes(SCOPES, &value("scope"))
        && !value("code_challenge").is_empty()
        && port.is_some_and(|port: u16| (8020..=8040).contains(&port));
    if !is_valid {
        return Answer::html(400, "<h1>invalid_request</h1>");
    }

    let consent = match value("decision").as_str() {
        "allow" => Consent::Allow,
        "deny" => Consent::Deny,
        _ => state.consent,
    };
    let back = |answer: String| {
        Answer::redirect(302, &format!("{redirect}/?{answer}&state={}", value("state")))
    };
    match consent {
        Consent::Page => {
            let address = format!("/oidc/v1/authorize?{}", request.query).replace('&', "&amp;");
            let button = |name: &str, words: &str| {
                format!(
                    "<p><a id=\"{name}\" href=\"{address}&amp;decision={name}\">{words}</a></p>"
                )
            };
            let (allow, deny) = (button("allow", "Allow"), button("deny", "Deny"));
            Answer::html(200, &format!("<h1>Log in as {USER}?</h1>{allow}{deny}"))
        }
        Consent::Allow => {
            let code = BASE64_URL_SAFE_NO_PAD.encode(random::<24>());
            let (challenge, scopes) = (value("code_challenge"), value("scope"));
            let redirect = redirect.clone();
            state.codes.insert(code.clone(), Code { challenge, redirect, scopes });
            back(format!("code={code}"))
        }
        Consent::Deny => back("error=access_denied&error_description=The+user+said+no".to_owned()),
    }
}

/// The two grants of a person. Each refresh gives a new refresh token; a second use of the same
/// refresh token ends the login.
fn grant(signer: &Signer, state: &mut State, request: &Request) -> Answer {
    let value = |name: &str| request.value(name).unwrap_or_default();
    let refuse = |status, words: &str| {
        Answer::Json(status, json!({ "error": "invalid_request", "error_description": words }))
    };
    let family = if value("grant_type") == "authorization_code" {
        let Some(code) = state.codes.remove(&value("code")) else {
            return refuse(400, "Code is invalid");
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, value("code_verifier").as_bytes());
        let is_verified = BASE64_URL_SAFE_NO_PAD.encode(digest) == code.challenge;
        let is_same_place = code.redirect == value("redirect_uri");
        if !is_verified || !is_same_place || value("client_id") != PUBLIC_CLIENT {
            return refuse(400, "Code verifier or redirection is wrong");
        }
        let family = u64::from_le_bytes(random());
        state.login_scopes.insert(family, code.scopes);
        family
    } else {
        let token = value("refresh_token");
        if value("client_id") != PUBLIC_CLIENT {
            return refuse(401, "Client is invalid");
        }
        let login = state.refresh.get(&token);
        let granted = login.and_then(|family| state.login_scopes.get(family)).map(String::as_str);
        if !has_scopes(granted.unwrap_or(SCOPES), &value("scope")) {
            return refuse(400, "The scope is wider than the login's");
        }
        if let Some(family) = state.used.get(&token).copied() {
            state.refresh.retain(|_, known| *known != family);
        }
        let Some(family) = state.refresh.remove(&token) else {
            return refuse(401, "Refresh token is invalid");
        };
        state.used.insert(token, family);
        family
    };

    let is_kept = (state.refuses || !state.rotates) && value("grant_type") == "refresh_token";
    let refresh = if is_kept {
        let token = value("refresh_token");
        state.used.remove(&token);
        if state.variant == Variant::KeptRefreshTokens {
            state.differed.set(true);
        }
        token
    } else {
        format!("refresh-{}", BASE64_URL_SAFE_NO_PAD.encode(random::<24>()))
    };
    state.refresh.insert(refresh.clone(), family);
    state.committed = Some(SystemTime::now());
    let scopes = state.login_scopes.get(&family).cloned();
    let scopes = scopes.unwrap_or_else(|| "offline_access all-apis".to_owned());
    let who = state.login_subjects.get(&family).copied().unwrap_or(USER);
    let mut answer = json!({
        "access_token": workspace_token(signer, state, who, &scopes),
        "token_type": "Bearer",
        "expires_in": state.token_life,
        "scope": scopes,
    });
    if !is_kept {
        answer["refresh_token"] = refresh.into();
    }
    Answer::Json(200, answer)
}

/// A token with these scopes.
fn workspace_token(signer: &Signer, state: &mut State, subject: &str, scopes: &str) -> String {
    let token = signer.sign(subject, Scope::Workspace, state.token_life, state.skew);
    if !scopes.is_empty() && !has_scope(scopes, "all-apis") {
        state.narrow.insert(token.clone(), scopes.to_owned());
    }
    token
}

/// Whether all scopes that are asked for are among these.
fn has_scopes(scopes: &str, asked: &str) -> bool {
    asked.split_whitespace().all(|scope| has_scope(scopes, scope))
}

fn has_scope(scopes: &str, scope: &str) -> bool {
    scopes.split(' ').any(|known| known == scope)
}

/// The token endpoint.
fn token(signer: &Signer, state: &mut State, request: &Request) -> Answer {
    let refuse = |status, code: &str, words: &str| {
        Answer::Json(status, json!({ "error": code, "error_description": words }))
    };
    match request.value("grant_type").as_deref() {
        Some("client_credentials" | "urn:ietf:params:oauth:grant-type:token-exchange") => (),
        Some("authorization_code" | "refresh_token") => return grant(signer, state, request),
        _ => return refuse(400, "unsupported_grant_type", "the sandbox does not know that grant"),
    }

    let is_exchange = request.value("grant_type").is_some_and(|grant| grant.ends_with("exchange"));
    let id = if is_exchange {
        match identity_services::exchanged(state, signer, request) {
            Ok(id) => id,
            Err(why) => return refuse(400, "invalid_grant", why),
        }
    } else {
        let (id, secret) = basic(request).unwrap_or_default();
        if id.is_empty() || state.clients.get(&id) != Some(&secret) {
            return refuse(401, "invalid_client", "Client authentication failed");
        }
        id
    };

    let scopes = request.value("scope").unwrap_or_default();
    let allowed = state.client_scopes.unwrap_or(SCOPES);
    if !has_scopes(allowed, &scopes) {
        let words = format!("Scopes '{scopes}' are not assigned to the client");
        return refuse(400, "invalid_scope", &words);
    }
    Answer::Json(
        200,
        json!({
            "access_token": workspace_token(signer, state, &id, &scopes),
            "token_type": "Bearer",
            "expires_in": state.token_life,
            "scope": scopes,
        }),
    )
}

/// Client id and secret in a Basic header.
pub fn basic(request: &Request) -> Option<(String, String)> {
    let text = request.header("authorization")?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((decode(id), decode(secret)))
}

/// The owner of the request's bearer token, or the workspace's refusal.
fn identify(signer: &Signer, state: &State, request: &Request) -> Result<String, Answer> {
    let header = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    let Some(bearer) = header else {
        return Err(error(401, "401", "Credential was not sent or was of an unsupported type"));
    };
    if let Some(token) = request.header("x-databricks-azure-sp-management-token") {
        let checked = signer.check_at(token, Scope::Management, now() + state.skew);
        checked.map_err(|_| error(403, "403", "Invalid management token."))?;
    }
    if state.revoked.iter().any(|revoked| revoked == bearer) {
        return Err(error(403, "403", "Invalid access token."));
    }

    let is_valid = |pat: &&Pat| pat.value == bearer && pat.expires > now() + state.skew;
    if let Some(pat) = state.pats.iter().find(is_valid) {
        return Ok(pat.owner.clone());
    }
    let checked = signer.check_at(bearer, Scope::Workspace, now() + state.skew);
    let subject = checked.map_err(|_| error(403, "403", "Invalid access token."))?;

    let needed = ["scim", "postgres", "database", "secrets"]
        .into_iter()
        .find(|api| request.path.contains(&format!("/{api}/")))
        .map_or("all-apis", |api| if api == "database" { "postgres" } else { api });
    match state.narrow.get(bearer) {
        Some(scopes) if !has_scope(scopes, needed) => {
            let words = format!("Provided OAuth token does not have required scopes: {needed}");
            Err(error(403, "403", &words))
        }
        _ => Ok(subject),
    }
}

/// Refuses what the API would refuse as `claims` (databricks-sdk-go `service/postgres/model.go`).
fn invalid_claims(claims: &Value) -> Option<Answer> {
    let is_valid = |claim: &Value| {
        let resources = claim["resources"].as_array().filter(|resources| !resources.is_empty());
        claim["permission_set"] == "READ_ONLY"
            && resources.is_some_and(|all| all.iter().all(|r| r["table_name"].is_string()))
    };
    let is_list = claims.as_array().is_some_and(|claims| claims.iter().all(is_valid));
    (!claims.is_null() && !is_list)
        .then(|| error(400, "INVALID_PARAMETER_VALUE", "claims are not valid"))
}

fn api(signer: &Signer, state: &mut State, request: &Request, identity: &str) -> Answer {
    let path = request.path.strip_prefix("/api/2.0").unwrap_or_default();
    let body: Value = serde_json::from_str(&request.body).unwrap_or(Value::Null);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match (request.method.as_str(), path) {
        ("GET", "/preview/scim/v2/Me") => {
            if state.variant == Variant::GroupRoles {
                state.differed.set(true);
            }
            Answer::Json(
                200,
                json!({
                    "id": "123456789", "userName": identity, "displayName": "Ada", "active": true,
                    "groups": state.groups.iter().enumerate().map(|(id, name)| json!({
                        "display": name, "type": "direct", "value": id.to_string(),
                        "$ref": format!("Groups/{id}"),
                    })).collect::<Vec<_>>(),
                }),
            )
        }
        ("POST", "/postgres/credentials") => {
            let endpoint = text("endpoint");
            let all = state.projects.iter().flat_map(|p| &p.branches).flat_map(|b| &b.endpoints);
            if endpoint.is_empty() {
                return error(400, "INVALID_PARAMETER_VALUE", "Field 'endpoint' is required");
            }
            if !request_rules::fits("projects/*/branches/*/endpoints/*", &endpoint) {
                return malformed("endpoint");
            }
            if !all.into_iter().any(|known| known.name == endpoint) {
                return error(404, "NOT_FOUND", "endpoint id not found [TraceId: 0123abcd]");
            }
            let ttl = body["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse().ok());
            if ttl.is_some_and(|ttl: i64| !(300..=3600).contains(&ttl)) {
                return error(400, "INVALID_PARAMETER_VALUE", "ttl must be between 300s and 3600s");
            }
            if let Some(refusal) = invalid_claims(&body["claims"]) {
                return refusal;
            }
            state.claims.push(body["claims"].clone());
            credential(signer, state, identity, ttl, "expire_time")
        }
        ("POST", "/database/credentials") => {
            let names: Vec<&str> = body["instance_names"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if names.is_empty() {
                return error(
                    400,
                    "INVALID_PARAMETER_VALUE",
                    "instance_names or claims are required",
                );
            }
            let known = |name: &&str| state.instances.iter().any(|known| known["name"] == **name);
            if let Some(unknown) = names.iter().find(|name| !known(name)) {
                return error(404, "NOT_FOUND", &format!("DatabaseInstance not found: {unknown}"));
            }
            if let Some(refusal) = invalid_claims(&body["claims"]) {
                return refusal;
            }
            state.claims.push(body["claims"].clone());
            credential(signer, state, identity, None, "expiration_time")
        }
        ("GET", "/database/instances") => {
            state.page(request, "database_instances", state.instances.clone(), None)
        }
        ("GET", "/database/instances:findByUid") => {
            let uid = request.value("uid").unwrap_or_default();
            match state.instances.iter().find(|known| known["uid"] == uid.as_str()) {
                Some(instance) => Answer::Json(200, instance.clone()),
                None => error(404, "NOT_FOUND", "DatabaseInstance not found"),
            }
        }
        ("POST", "/token/create") => {
            let value = format!("dapi{}", hex(&random::<16>()));
            let id = digest(&value);
            let life = body["lifetime_seconds"].as_i64().unwrap_or(2 * 365 * 86400);
            let pat = Pat {
                value: value.clone(),
                id,
                comment: text("comment"),
                owner: identity.to_owned(),
                expires: now() + state.skew + life,
                created: now() + state.skew,
            };
            let info = pat_info(&pat);
            let comment = pat.comment.clone();
            state.pats.push(pat);
            let time = now() + state.skew;
            let is_alike = |pat: &&Pat| pat.comment == comment && pat.expires > time;
            state.max_valid_alike =
                state.max_valid_alike.max(state.pats.iter().filter(is_alike).count());
            Answer::Json(200, json!({ "token_value": value, "token_info": info }))
        }
        ("GET", "/token/list") => {
            let time = now() + state.skew;
            let own = state.pats.iter().filter(|pat| pat.owner == identity && pat.expires > time);
            if !state.deleted.is_empty() {
                state.differed.set(true);
            }
            let listed: Vec<Value> = own.map(pat_info).chain(state.deleted.clone()).collect();
            Answer::Json(200, json!({ "token_infos": listed }))
        }
        ("POST", "/token/delete") => {
            let id = text("token_id");
            let before = state.pats.len();
            if state.variant == Variant::StaleLists {
                let deleted = state.pats.iter().find(|pat| pat.id == id && pat.owner == identity);
                state.deleted.extend(deleted.map(pat_info));
            }
            state.pats.retain(|pat| pat.id != id || pat.owner != identity);
            if state.pats.len() == before {
                return error(404, "RESOURCE_DOES_NOT_EXIST", "Token with this id does not exist");
            }
            Answer::Json(200, json!({}))
        }
        (method, path) if path.starts_with("/secrets/") => {
            secrets(state, method, path, request, &text)
        }
        ("GET", path) => match path.strip_prefix("/database/instances/") {
            Some(name) => {
                match state.instances.iter().find(|known| known["name"] == decode(name).as_str()) {
                    Some(instance) => Answer::Json(200, instance.clone()),
                    None => error(404, "NOT_FOUND", "DatabaseInstance not found"),
                }
            }
            None => match path.strip_prefix("/postgres/") {
                Some(name) => resources(state, request, name),
                None => error(404, "ENDPOINT_NOT_FOUND", "no such API"),
            },
        },
        _ => error(404, "ENDPOINT_NOT_FOUND", "no such API"),
    }
}

fn credential(
    signer: &Signer,
    state: &State,
    identity: &str,
    ttl: Option<i64>,
    expiry: &str,
) -> Answer {
    let life = ttl.unwrap_or(state.credential_life);
    let token = signer.sign(identity, Scope::Database, life, state.skew);
    let expires = OffsetDateTime::from_unix_timestamp(now() + state.skew + life).unwrap();
    // With a fraction: protobuf's JSON mapping allows one.
    let expires = expires.format(&Rfc3339).unwrap().replace('Z', ".123456Z");
    Answer::Json(200, json!({ "token": token, expiry: expires }))
}

/// The id of a personal access token: so far, Databricks' ids are the tokens' digests.
fn digest(value: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, value.as_bytes());
    hex(digest.as_ref())
}

fn pat_info(pat: &Pat) -> Value {
    json!({
        "token_id": pat.id,
        "creation_time": pat.created * 1000,
        "expiry_time": if pat.expires == i64::MAX { -1 } else { pat.expires * 1000 },
        "comment": pat.comment,
    })
}

/// Projects, branches and endpoints: the lists and each resource.
fn resources(state: &State, request: &Request, name: &str) -> Answer {
    let branches = || state.projects.iter().flat_map(|project| &project.branches);
    let project = |project: &Project| {
        let default = project.branches.iter().find(|branch| branch.default);
        json!({
            "name": project.name,
            "status": { "default_branch": default.map(|branch| branch.name) },
        })
    };
    let branch = |branch: &Branch| {
        json!({
            "name": branch.name,
            "status": { "default": branch.default, "current_state": branch.state },
        })
    };
    let endpoint = |endpoint: &Endpoint| {
        json!({
            "name": endpoint.name,
            "uid": endpoint.uid,
            "status": {
                "current_state": "IDLE",
                "endpoint_type": endpoint.kind,
                "disabled": endpoint.disabled,
                "hosts": endpoint.hosts,
            },
        })
    };
    let missing =
        |what: &str| error(404, "NOT_FOUND", &format!("{what} id not found [TraceId: 1]"));
    if !request_rules::is_path(&format!("postgres/{name}")) {
        return malformed("name");
    }
    // For a while, lists have what is deleted, which cannot be had by its name.
    let deleted = |name: String| {
        state.lists_deleted().then(|| {
            let times = ["2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"];
            let status = json!({ "default": true, "current_state": "READY" });
            json!({ "name": name, "delete_time": times[0], "purge_time": times[1], "status": status })
        })
    };
    if name == "projects" {
        let deleted = deleted("projects/deleted".to_owned());
        let listed = state.projects.iter().map(project).collect();
        return state.page(request, "projects", listed, deleted);
    }
    if let Some(parent) = name.strip_suffix("/branches") {
        return match state.projects.iter().find(|known| known.name == parent) {
            Some(known) => {
                let deleted = deleted(format!("{parent}/branches/deleted"));
                let listed = known.branches.iter().map(branch).collect();
                state.page(request, "branches", listed, deleted)
            }
            None => missing("project"),
        };
    }
    if let Some(parent) = name.strip_suffix("/endpoints") {
        return match branches().find(|known| known.name == parent) {
            Some(known) => {
                let listed = known.endpoints.iter().map(endpoint).collect();
                state.page(request, "endpoints", listed, None)
            }
            None => missing("branch"),
        };
    }
    // The Databricks CLI lists them; both have one of the branch's own.
    for (list, own) in [("databases", "app"), ("roles", USER)] {
        let Some(parent) = name.strip_suffix(&format!("/{list}")) else { continue };
        return match branches().find(|known| known.name == parent) {
            Some(_) => {
                state.page(request, list, vec![json!({ "name": format!("{name}/{own}") })], None)
            }
            None => missing("branch"),
        };
    }
    let found = match name.split('/').count() {
        2 => state.projects.iter().find(|known| known.name == name).map(project),
        4 => branches().find(|known| known.name == name).map(branch),
        _ => branches().flat_map(|b| &b.endpoints).find(|known| known.name == name).map(endpoint),
    };
    found.map_or_else(|| missing("endpoint"), |found| Answer::Json(200, found))
}

fn secrets(
    state: &mut State,
    method: &str,
    path: &str,
    request: &Request,
    text: &dyn Fn(&str) -> String,
) -> Answer {
    let empty = || Answer::Json(200, json!({}));
    let missing = |what: &str| error(404, "RESOURCE_DOES_NOT_EXIST", what);
    let parameter = |name: &str| request.value(name).unwrap_or_default();
    match (method, path) {
        ("POST", "/secrets/scopes/create") => {
            let scope = text("scope");
            if state.secrets.contains_key(&scope) {
                let words = format!("Scope {scope} already exists");
                return error(400, "RESOURCE_ALREADY_EXISTS", &words);
            }
            state.secrets.insert(scope, HashMap::new());
            empty()
        }
        ("GET", "/secrets/scopes/list") => {
            let scopes = state.secrets.keys();
            let scopes: Vec<Value> =
                scopes.map(|name| json!({ "name": name, "backend_type": "DATABRICKS" })).collect();
            Answer::Json(200, json!({ "scopes": scopes }))
        }
        ("POST", "/secrets/scopes/delete") => match state.secrets.remove(&text("scope")) {
            Some(_) => empty(),
            None => missing("Scope does not exist"),
        },
        ("POST", "/secrets/put") => match state.secrets.get_mut(&text("scope")) {
            Some(scope) => {
                scope.insert(text("key"), text("string_value"));
                empty()
            }
            None => missing("Scope does not exist"),
        },
        ("GET", "/secrets/get") => {
            let scope = state.secrets.get(&parameter("scope"));
            match scope.and_then(|scope| scope.get(&parameter("key"))) {
                Some(value) => Answer::Json(
                    200,
                    json!({ "key": parameter("key"), "value": BASE64_STANDARD.encode(value) }),
                ),
                None => missing("Secret does not exist"),
            }
        }
        ("GET", "/secrets/list") => match state.secrets.get(&parameter("scope")) {
            Some(scope) => {
                let stamp = now() * 1000;
                let keys = scope.keys();
                let keys: Vec<Value> = keys
                    .map(|key| json!({ "key": key, "last_updated_timestamp": stamp }))
                    .collect();
                Answer::Json(200, json!({ "secrets": keys }))
            }
            None => missing("Scope does not exist"),
        },
        ("POST", "/secrets/delete") => {
            let scope = state.secrets.get_mut(&text("scope"));
            match scope.and_then(|scope| scope.remove(&text("key"))) {
                Some(_) => empty(),
                None => missing("Secret does not exist"),
            }
        }
        _ => error(404, "ENDPOINT_NOT_FOUND", "no such API"),
    }
}
