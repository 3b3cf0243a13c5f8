//! Minting through both credential APIs: requests, answers in every form, refused workspace tokens.

use std::time::Duration;

use lakebase_token::platform::time::Timestamp;
use serde_json::{Value, json};

use super::support::{MINUTE, SECOND, Test, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::request_rules::Judged;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, INSTANCE, MINT, PAT, TOKEN, Workspace};

const PROVISIONED: &str = "/api/2.0/database/credentials";

fn provisioned(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.unset("LAKEBASE_ENDPOINT").set("LAKEBASE_INSTANCE_NAME", INSTANCE);
    test
}

/// The body of the last request with this path.
fn body(workspace: &Workspace, path: &str) -> Value {
    let state = workspace.state();
    let request = state.requests.iter().rev().find(|request| request.path == path).unwrap();
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    serde_json::from_str(&request.body).unwrap()
}

/// How long the printed credential is valid, in milliseconds.
fn life(outcome: &super::support::Outcome) -> i64 {
    let object: Value = serde_json::from_str(&outcome.token()).unwrap();
    let expires = Timestamp::parse(object["expires_at"].as_str().unwrap()).unwrap();
    expires.since(Timestamp::of_system())
}

#[track_caller]
fn assert_minutes(life: i64, minutes: i64) {
    assert!((life - minutes * MINUTE).abs() < 10 * SECOND, "{life}");
}

#[test]
fn a_request_to_autoscaling_has_the_endpoint_and_nothing_else() {
    let workspace = workspace();
    let token = Test::at(&workspace).run("").token();
    assert_eq!(body(&workspace, MINT), json!({ "endpoint": ENDPOINT }));
    assert_eq!(workspace.signer.check(&token, Scope::Database), Ok(CLIENT_ID.to_owned()));
}

#[test]
fn a_request_to_provisioned_has_the_name_and_a_request_id() {
    let workspace = workspace();
    let token = provisioned(&workspace).run("").token();
    let body = body(&workspace, PROVISIONED);
    assert_eq!(body["instance_names"], json!([INSTANCE]));
    let id = body["request_id"].as_str().unwrap();
    assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    assert!(body["ttl"].is_null());
    assert!(workspace.signer.check(&token, Scope::Database).is_ok());
}

#[test]
fn a_mint_takes_two_requests_over_one_connection() {
    let workspace = workspace();
    Test::at(&workspace).run("").token();
    assert_eq!(workspace.take_requests(), [format!("POST {TOKEN}"), format!("POST {MINT}")]);
    assert_eq!(workspace.connections(), 1);
    // A variant that refuses has been asked before.
    let state = workspace.state();
    assert_eq!(!state.refused_connections.is_empty(), state.variant.refusal().is_some());
}

#[test]
fn a_lifetime_is_sent_only_if_it_is_set() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    assert_minutes(life(&test.run("--ttl 15m -f json --pg-host h")), 15);
    assert_eq!(body(&workspace, MINT)["ttl"], "900s");
    test.set("LAKEBASE_TOKEN_TTL", "1h");
    assert_minutes(life(&test.run("-f json --pg-host h")), 60);
    assert_eq!(body(&workspace, MINT)["ttl"], "3600s");
    for (text, words) in [
        ("4m59s", "LAKEBASE_TOKEN_TTL is 4m59s; it must be between 5m and 1h"),
        ("61m", "LAKEBASE_TOKEN_TTL is 61m"),
        ("300500ms", "5m and 1h"),
        ("900", "hint: 900s, if these are seconds"),
        ("soon", "LAKEBASE_TOKEN_TTL is not a duration like 90s, 15m or 1h: soon"),
    ] {
        test.set("LAKEBASE_TOKEN_TTL", text).run("").fails(2, &[words]);
    }
    let mut test = provisioned(&workspace);
    test.run("--ttl 15m").fails(2, &["Provisioned instance has no choice of lifetime", "--ttl"]);
    let host = crate::sandbox::workspace::INSTANCE_HOST;
    test.unset("LAKEBASE_INSTANCE_NAME").set("PGHOST", host);
    test.run("--ttl 15m").fails(2, &["Provisioned"]);
}

#[test]
fn an_expiry_is_read_in_every_notation() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let now = Timestamp::of_system();
    let at = |minutes: i64| now.plus(minutes * MINUTE).to_string();
    let opaque = "opaque0123456789";
    let jwt = workspace.signer.sign("me", Scope::Database, 1200, 0);
    for (answer, minutes) in [
        (json!({ "token": opaque, "expire_time": at(40) }), 40),
        (json!({ "token": opaque, "expire_time": at(40).replace('Z', ".987654321Z") }), 40),
        (json!({ "token": opaque, "expire_time": at(40).replace('Z', "+00:00") }), 40),
        (json!({ "token": opaque, "expire_time": null }), 15),
        (json!({ "token": opaque }), 15),
        (json!({ "token": jwt }), 20),
        // The JWT expires before the stated time.
        (json!({ "token": jwt, "expire_time": at(40) }), 20),
        (json!({ "token": jwt, "expire_time": at(10) }), 10),
        // The other product's field does not count.
        (json!({ "token": opaque, "expiration_time": at(40) }), 15),
    ] {
        workspace.fault(MINT, 1, Answer::Json(200, answer.clone()));
        let outcome = test.run("--refresh -f json --pg-host h --pg-user me");
        assert_eq!(outcome.code, 0, "{answer} {outcome:?}");
        assert_minutes(life(&outcome), minutes);
    }
    let answer = json!({ "token": opaque, "expiration_time": at(40) });
    workspace.fault(PROVISIONED, 1, Answer::Json(200, answer));
    assert_minutes(life(&provisioned(&workspace).run("-f json --pg-host h")), 40);
}

#[test]
fn a_malformed_answer_is_an_error_and_never_printed() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let past = "2020-01-01T00:00:00Z";
    let text = |body: &[u8]| Answer::Text { status: 200, headers: vec![], body: body.to_vec() };
    for (answer, words) in [
        (Answer::Json(200, json!({ "token": 7 })), "has a field `token` that is a number"),
        (Answer::Json(200, json!({ "token": ["a"] })), "is a list"),
        (Answer::Json(200, json!({ "token": null })), "has no field `token`"),
        (Answer::Json(200, json!({ "token": "" })), "the database credential is empty"),
        (Answer::Json(200, json!({ "token": { "a": 1 } })), "is an object"),
        (Answer::Json(200, json!([1, 2])), "has no field `token`"),
        (Answer::Json(200, json!(null)), "has no field `token`"),
        (Answer::Json(200, json!({ "token": "a\nb" })), "characters that no token has"),
        (Answer::Json(200, json!({ "token": "a\u{0}b" })), "characters that no token has"),
        (Answer::Json(200, json!({ "token": "a b" })), "characters that no token has"),
        (Answer::Json(200, json!({ "token": "x".repeat(20_000) })), "20000 bytes"),
        (Answer::Json(200, json!({ "token": "abc", "expire_time": past })), "already expired"),
        (Answer::Json(200, json!({ "token": "abc", "expire_time": "soon" })), "that is not a time"),
        (Answer::Json(200, json!({ "token": "abc", "expire_time": 5 })), "that is not a time"),
        (text(b"{\"token\": \"abc"), "not JSON"),
        (text(b""), "has no field `token`"),
        (text(&[0xff, 0xfe]), "not JSON"),
        (text(&vec![b' '; 50 << 20]), "more than 512 KiB"),
        (
            Answer::html(200, "<html><title>Sign in to Databricks</title>"),
            "a web page, probably a login page",
        ),
    ] {
        workspace.fault(MINT, 1, answer);
        test.run("").fails(1, &[words]);
    }
    test.run("").token();
}

#[test]
fn the_error_for_a_login_page_names_the_workspace_id_setting() {
    let workspace = workspace();
    let page = Answer::html(200, "<html><title>Sign in</title>");
    workspace.fault(MINT, 1, page);
    Test::at(&workspace).run("").fails(1, &["because: Sign in", "DATABRICKS_WORKSPACE_ID"]);
}

#[test]
fn the_routing_header_is_sent_if_the_workspace_id_is_known() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let sent = |workspace: &Workspace| {
        let state = workspace.state();
        let last = state.requests.last().unwrap();
        last.header("x-databricks-workspace-id").map(str::to_owned)
    };
    test.run("").token();
    assert_eq!(sent(&workspace), None);
    // On a host for many workspaces, each request of the API needs it.
    workspace.state().routed = Some("42");
    test.set("DATABRICKS_WORKSPACE_ID", "42").run("").token();
    assert_eq!(sent(&workspace), Some("42".to_owned()));
    test.unset("LAKEBASE_ENDPOINT").run("-f json").token();
    test.set("LAKEBASE_ENDPOINT", ENDPOINT);
    workspace.state().routed = None;
    test.unset("DATABRICKS_WORKSPACE_ID")
        .set("DATABRICKS_HOST", &format!("{}/?o=43", workspace.url));
    test.run("").token();
    assert_eq!(sent(&workspace), Some("43".to_owned()));
    test.set("DATABRICKS_HOST", &workspace.url).set("DATABRICKS_WORKSPACE_ID", "none");
    test.run("--refresh").token();
    assert_eq!(sent(&workspace), None);
}

#[test]
fn a_request_id_is_added_if_the_workspace_asks_for_it() {
    let workspace = workspace();
    let no = json!({ "error_code": "INVALID_PARAMETER_VALUE", "message": "Field 'request_id' must be defined" });
    workspace.fault(MINT, 1, Answer::Json(400, no.clone()));
    let test = Test::at(&workspace);
    test.run("").token();
    assert!(body(&workspace, MINT)["request_id"].is_string());
    workspace.fault(MINT, 2, Answer::Json(400, no));
    workspace.take_requests();
    test.run("--refresh").fails(4, &["request_id"]);
    assert_eq!(workspace.count(MINT), 2);
}

#[test]
fn a_refused_workspace_token_is_replaced_once() {
    let words = |status, code: &str, message: &str| {
        Answer::Json(status, json!({ "error_code": code, "message": message }))
    };
    for refusal in [
        words(401, "401", "unauthenticated"),
        words(403, "403", "Invalid access token."),
        words(403, "403", "Token is expiring within 30 seconds."),
        Answer::html(403, "<html><pre>Invalid access token. [ReqId: 1]</pre></html>"),
    ] {
        let workspace = workspace();
        let test = Test::at(&workspace);
        workspace.fault(MINT, 1, refusal.clone());
        test.run("").token();
        assert_eq!((workspace.count(TOKEN), workspace.count(MINT)), (2, 2));
        workspace.take_requests();
        workspace.fault(MINT, 9, refusal);
        test.run("--refresh").fails(4, &["refused to mint"]);
        assert_eq!(
            (workspace.count(TOKEN), workspace.count(MINT)),
            (1, 2),
            "replaced once, then an error"
        );
    }
}

#[test]
fn a_missing_permission_is_not_tried_again() {
    let workspace = workspace();
    let no = json!({ "error_code": "PERMISSION_DENIED", "message": "Invalid access token scope" });
    workspace.fault(MINT, 1, Answer::Json(403, no));
    Test::at(&workspace).run("").fails(4, &["PERMISSION_DENIED"]);
    assert_eq!((workspace.count(TOKEN), workspace.count(MINT)), (1, 1));
}

#[test]
fn the_error_for_a_refused_personal_access_token_names_its_setting() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("DATABRICKS_TOKEN", "dapiffffffffffffffffffffffffffffffff");
    test.run("")
        .fails(4, &["Invalid access token.", "a new personal access token in DATABRICKS_TOKEN"]);
    assert_eq!(workspace.count(MINT), 1);
    test.set("DATABRICKS_TOKEN", PAT).run("").token();

    // An OAuth token that a user pasted there works until it expires.
    let oauth = |skew| workspace.signer.sign(CLIENT_ID, Scope::Workspace, 3600, skew);
    test.set("DATABRICKS_TOKEN", &oauth(0)).run("--no-cache").token();
    test.set("DATABRICKS_TOKEN", &oauth(-7200));
    // It is sent: our clock may be the one that is wrong.
    workspace.state().judged = Judged::AllButExpiry;
    test.run("--no-cache").fails(
        4,
        &[
            "the token from DATABRICKS_TOKEN has expired, at 20",
            "DATABRICKS_TOKEN",
            "# and then: lakebase-token login",
        ],
    );
}

#[test]
fn the_servers_message_decides_error_and_hint() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let words = |status, code: &str, message: &str| {
        Answer::Json(status, json!({ "error_code": code, "message": message }))
    };
    let entitlement = "API is disabled for users without workspace-access entitlement";
    for (answer, code, expected) in [
        (
            words(404, "NOT_FOUND", "endpoint id not found [TraceId: 1]"),
            4,
            "NOT_FOUND: endpoint id not found [TraceId: 1]",
        ),
        (words(400, "BAD_REQUEST", "malformed"), 4, "HTTP status 400"),
        (words(403, "PERMISSION_DENIED", entitlement), 4, "\"Workspace access\""),
        (
            words(500, "INTERNAL_ERROR", "oops"),
            5,
            "failed to mint a database credential (HTTP status 500)",
        ),
        (words(418, "X", &"long \u{1b}[31m".repeat(200)), 4, "…"),
    ] {
        workspace.fault(MINT, 1, answer);
        let outcome = test.run("--refresh");
        outcome.fails(code, &[expected]);
        assert!(!outcome.stderr.contains('\u{1b}'));
    }
}

#[test]
fn the_workspace_token_is_never_a_password() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let password = test.run("").token();
    let token = test.run("--for workspace").token();
    assert_ne!(password, token);
    assert_eq!(workspace.signer.check(&token, Scope::Workspace), Ok(CLIENT_ID.to_owned()));
    assert!(workspace.signer.check(&password, Scope::Workspace).is_err());
    // It is the same token that the mint used.
    assert_eq!(workspace.count(TOKEN), 1);
}

#[test]
fn the_user_agent_names_program_system_and_auth_type() {
    let workspace = workspace();
    Test::at(&workspace).run("").token();
    let state = workspace.state();
    for request in &state.requests {
        let agent = request.header("user-agent").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            agent,
            format!("lakebase-token/{version} os/{} auth/oauth-m2m", std::env::consts::OS)
        );
    }
}

#[test]
fn a_late_answer_within_the_deadline_is_used() {
    let workspace = workspace();
    let late = Answer::Json(200, json!({ "token": "late0123", "expire_time": null }));
    let late = Answer::Late(Duration::from_millis(700), Box::new(late));
    workspace.fault(MINT, 1, late);
    assert_eq!(Test::at(&workspace).run("").token(), "late0123");
}
