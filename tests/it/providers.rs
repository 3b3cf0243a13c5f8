//! The auth types `oauth-m2m`, `pat` and `databricks-cli`: their requests and their errors; and the
//! chain: a provider that fails is never replaced by another.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use lakebase_token::platform::steps::{Step, set_hook};
use serde_json::{Value, json};

use super::stopwatch::Stopwatch;
use super::support::{HOME, HOUR, MINUTE, SECOND, Test, call};
use super::support::{refusing_address, started, wait_for, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, MINT, PAT, TOKEN, USER, Workspace};

const DISCOVERY: &str = "/oidc/.well-known/oauth-authorization-server";

// oauth-m2m

#[test]
fn m2m_sends_basic_and_a_form() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let secret = "s3cr%t/ü +&=";
    workspace.state().clients.insert("id:1".to_owned(), secret.to_owned());
    test.set("DATABRICKS_CLIENT_ID", "id:1").set("DATABRICKS_CLIENT_SECRET", secret);
    test.run("").token();
    let state = workspace.state();
    let request = &state.requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", TOKEN));
    assert_eq!(request.body, "grant_type=client_credentials&scope=all-apis");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn m2m_requests_the_scopes_of_the_profile() {
    let workspace = workspace();
    let test = Test::bare();
    let file = format!(
        "[DEFAULT]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n\
         scopes = sql, postgres,sql\nlakebase_endpoint = projects/shop\n",
        workspace.url
    );
    test.write(".databrickscfg", &file);
    test.run("").token();
    assert!(workspace.state().requests[0].body.ends_with("scope=postgres%20sql"));
}

#[test]
fn m2m_accepts_an_expiry_that_is_a_string() {
    let workspace = workspace();
    let token = workspace.signer.sign(CLIENT_ID, Scope::Workspace, 7200, 0);
    let answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": "600" });
    workspace.fault(TOKEN, 1, Answer::Json(200, answer));
    let test = Test::at(&workspace);
    test.run("").token();
    test.pass(8 * MINUTE);
    test.run("--refresh").token();
    assert_eq!(workspace.count(TOKEN), 1);
    test.pass(MINUTE + 10 * SECOND); // 50 s left
    test.run("--refresh").token();
    assert_eq!(workspace.count(TOKEN), 2);
}

#[test]
fn m2m_names_what_is_wrong_with_an_answer() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for (answer, words) in [
        (json!({ "access_token": 7, "expires_in": 3600 }), "field `access_token` that is a number"),
        (json!({ "access_token": null }), "no field `access_token`"),
        (json!({}), "no field `access_token`"),
        (json!([]), "no field `access_token`"),
        (json!({ "access_token": "a\nb", "expires_in": 3600 }), "characters that no token has"),
        (json!({ "access_token": "abc", "expires_in": -5 }), "already expired"),
    ] {
        workspace.fault(TOKEN, 1, Answer::Json(200, answer));
        test.run("").fails(1, &[words]);
    }
    workspace.fault(TOKEN, 1, Answer::html(200, "<html><title>Sign in</title>"));
    workspace.fault(DISCOVERY, 1, Answer::html(200, "<html><title>Sign in</title>"));
    test.run("").fails(1, &["a web page, probably a login page"]);
}

#[test]
fn m2m_uses_discovery_only_if_the_usual_endpoint_is_missing() {
    for status in [404, 405] {
        let workspace = workspace();
        let elsewhere = format!("{}/oidc/accounts/a1/v1/token", workspace.url);
        workspace.fault(TOKEN, 1, Answer::Json(status, json!({ "message": "not here" })));
        workspace.fault(DISCOVERY, 1, Answer::Json(200, json!({ "token_endpoint": elsewhere })));
        let token = workspace.signer.sign(CLIENT_ID, Scope::Workspace, 3600, 0);
        let answer = json!({ "access_token": token, "expires_in": 3600 });
        workspace.fault("/oidc/accounts/a1/v1/token", 1, Answer::Json(200, answer));
        Test::at(&workspace).run("").token();
        // One of them is for the host's metadata.
        assert_eq!(workspace.take_requests().len(), 5);
    }
}

#[test]
fn m2m_uses_discovery_url_and_caches_the_endpoint_for_a_day() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_DISCOVERY_URL", &format!("{}{DISCOVERY}", workspace.url));
    test.run("").token();
    test.pass(2 * HOUR);
    test.run("").token();
    assert_eq!((workspace.count(DISCOVERY), workspace.count(TOKEN)), (1, 2));
}

#[test]
fn m2m_discovery_never_decides_where_the_secret_goes() {
    let workspace = workspace();
    let other = super::support::workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_DISCOVERY_URL", &format!("{}{DISCOVERY}", workspace.url));
    for endpoint in [
        format!("{}/oidc/v1/token", other.url),
        "http://evil.example/token".to_owned(),
        // By another scheme, the same host and port may be another server.
        format!("{}/oidc/v1/token", workspace.url.replace("http://", "https://")),
    ] {
        workspace.fault(DISCOVERY, 1, Answer::Json(200, json!({ "token_endpoint": endpoint })));
        test.run("").fails(1, &["not on the workspace's host"]);
    }
    assert_eq!(workspace.count(TOKEN), 0);
    assert!(other.take_requests().is_empty());
    // The same if discovery is the second try, and then the error says why.
    let test = Test::at(&workspace);
    workspace.fault(TOKEN, 1, Answer::Json(404, json!({ "message": "not here" })));
    let endpoint = format!("{}/oidc/v1/token", other.url);
    workspace.fault(DISCOVERY, 1, Answer::Json(200, json!({ "token_endpoint": endpoint })));
    test.run("").fails(4, &["404", "not on the workspace's host"]);
    assert!(other.take_requests().is_empty());
}

// pat

#[test]
fn a_pat_is_a_bearer_and_never_a_password() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", PAT);
    let password = test.run("").token();
    assert_eq!(workspace.signer.check(&password, Scope::Database), Ok(USER.to_owned()));
    assert_eq!(workspace.take_requests().len(), 1, "no token request");
    let json = test.run("--for workspace -f json").token();
    assert_eq!(json, format!(r#"{{"host":"{}","token":"{PAT}"}}"#, workspace.url));
    assert!(workspace.take_requests().is_empty());
    test.set("DATABRICKS_TOKEN", "dapi with blanks")
        .run("")
        .fails(2, &["the token from DATABRICKS_TOKEN has characters"]);
}

// databricks-cli

/// A stand-in for the CLI that does these steps.
fn cli(test: &mut Test, steps: Vec<Value>) {
    test.tool("databricks", steps.into());
}

fn log(test: &Test) -> String {
    test.tool_log("databricks")
}

fn runs(test: &Test) -> usize {
    log(test).matches("run: ").count()
}

/// Prints a token as the real CLI does, without a newline at the end.
fn printing(workspace: &Workspace, subject: &str, life: i64) -> Vec<Value> {
    let token = workspace.signer.sign(subject, Scope::Workspace, life, 0);
    let expiry =
        lakebase_token::platform::time::Timestamp::of_system().plus(life * 1000).to_string();
    let expiry = expiry.replace('Z', ".123456789+00:00");
    let body = json!({ "access_token": token, "token_type": "Bearer", "expiry": expiry });
    let warning = "Warn: [hostmetadata] failed\n";
    vec![json!({ "stderr": warning }), json!({ "stdout": body.to_string() })]
}

/// Does these steps for a forced refresh, and the others else.
fn refreshing_cli(test: &mut Test, refreshed: &[Value], cached: &[Value]) {
    let cases = json!([{ "for": "--force-refresh", "do": refreshed }, { "for": "", "do": cached }]);
    test.tool_by_line("databricks", cases);
}

/// A test with a person's profile: a host, and nothing else.
fn person_with_profile(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    for name in ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"] {
        test.unset(name);
    }
    test.write(".databrickscfg", &format!("[me]\nhost = {}\n", workspace.url));
    test.set("DATABRICKS_CONFIG_PROFILE", "me");
    test
}

#[test]
fn the_cli_runs_once_with_the_profile_and_a_clean_environment() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    test.set("DATABRICKS_AUTH_STORAGE", "plaintext").set("DATABRICKS_CLUSTER_ID", "c");
    cli(&mut test, printing(&workspace, USER, 3600));
    let password = test.run("").token();
    assert_eq!(workspace.signer.check(&password, Scope::Database), Ok(USER.to_owned()));
    assert_eq!(log(&test), "run: auth token --profile me\nDATABRICKS_AUTH_STORAGE=plaintext\n");
    test.run("--refresh").token();
    assert_eq!(runs(&test), 1, "the token is cached");
}

#[test]
fn without_a_profile_the_cli_gets_the_host() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    test.unset("DATABRICKS_CONFIG_PROFILE").set("DATABRICKS_HOST", &workspace.url);
    cli(&mut test, printing(&workspace, USER, 3600));
    test.run("").token();
    assert_eq!(log(&test), format!("run: auth token --host {}\n", workspace.url));
}

#[test]
fn the_cli_does_not_run_for_a_profile_with_another_host() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    test.set("DATABRICKS_HOST", "https://other.cloud.databricks.com");
    cli(&mut test, printing(&workspace, USER, 3600));
    test.run("").fails(2, &["profile me is for", "other.cloud.databricks.com", "DATABRICKS_HOST"]);
    assert_eq!(runs(&test), 0);
}

#[test]
fn a_token_about_to_expire_causes_one_forced_refresh() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let expiring = printing(&workspace, USER, 40);
    let fresh = printing(&workspace, USER, 3600);
    refreshing_cli(&mut test, &fresh, &expiring);
    test.run("").token();
    assert!(
        log(&test).ends_with(
            "run: auth token --profile me\nrun: auth token --profile me --force-refresh\n"
        )
    );
    let mut test = person_with_profile(&workspace);
    cli(&mut test, expiring);
    test.run("").fails(1, &["printed a token that expires in"]);
    assert_eq!(runs(&test), 2);
}

#[test]
fn a_token_that_the_workspace_refuses_causes_one_forced_refresh() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let (revoked, good) = (printing(&workspace, USER, 3600), printing(&workspace, USER, 3600));
    let answer: Value = serde_json::from_str(revoked[1]["stdout"].as_str().unwrap()).unwrap();
    workspace.state().revoked.push(answer["access_token"].as_str().unwrap().to_owned());
    refreshing_cli(&mut test, &good, &revoked);
    test.run("").token();
    assert_eq!(runs(&test), 2);
}

#[test]
fn the_text_of_a_cli_failure_decides_the_exit_code() {
    let workspace = workspace();
    let not_here =
        "Error: cache: databricks OAuth is not configured for this host. no cached credentials";
    let invalid =
        "Error: A new access token could not be retrieved because the refresh token is invalid.";
    let logged_out = ["refresh token is invalid", "databricks auth login --profile me"];
    for (stderr, stdout, exit, code, words) in [
        (
            not_here,
            "",
            1,
            3,
            &["no valid login for me", "hint: databricks auth login --profile me"][..],
        ),
        (invalid, "", 1, 3, &logged_out),
        ("Error: No such command 'auth'.", "", 2, 2, &["is too old", "DATABRICKS_CLI_PATH"]),
        ("Error: dial tcp: lookup x: no such host", "", 1, 5, &["cannot reach the workspace"]),
        ("", "", 1, 1, &["it printed no error"]),
        ("", "eyJhbGciOi.secret.token", 0, 1, &["not JSON"]),
        (
            "",
            r#"{"token_type": "Bearer"}"#,
            0,
            1,
            &["the Databricks CLI's answer has no field `access_token`"],
        ),
        ("", r#"{"access_token": "a b"}"#, 0, 1, &["characters that no token has"]),
    ] {
        let steps =
            [json!({ "stderr": stderr }), json!({ "stdout": stdout }), json!({ "exit": exit })];
        let mut test = person_with_profile(&workspace);
        cli(&mut test, steps.to_vec());
        let outcome = test.run("");
        outcome.fails(code, words);
        assert!(!outcome.stderr.contains("eyJ"), "{outcome:?}");
        // A failed run is not repeated; an unusable token causes one forced refresh.
        assert!(runs(&test) <= 2);
    }
}

#[test]
fn a_hanging_cli_keeps_running_and_keeps_the_lock() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let answer = printing(&workspace, USER, 3600);
    let open = test.home.path().join("open");
    cli(&mut test, [vec![json!({ "until": open })], answer].concat());
    let stopwatch = Stopwatch::start();
    test.run("--timeout 500ms").fails(5, &["has not ended in time", "continues in the background"]);
    stopwatch.assert_within(Duration::from_millis(1500));
    // Meanwhile no second one starts.
    test.run("--timeout 500ms").fails(5, &["another lakebase-token"]);
    assert_eq!(runs(&test), 1);
    std::fs::write(open, "").unwrap();
    test.run("--timeout 8s").token();
    assert_eq!(runs(&test), 2);
}

#[test]
fn a_missing_cli_is_named_only_if_its_auth_type_is() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    test.set("PATH", "/nowhere");
    test.run("").fails(2, &["no Databricks identity", "host="]);
    test.set("DATABRICKS_AUTH_TYPE", "databricks-cli");
    test.run("").fails(
        2,
        &["auth type databricks-cli from DATABRICKS_AUTH_TYPE needs", "no `databricks` on PATH"],
    );
    let path = test.tool("databricks", printing(&workspace, USER, 3600).into());
    test.set("PATH", "/nowhere").set("DATABRICKS_CLI_PATH", path.to_str().unwrap());
    test.run("").token();
}

#[test]
fn another_login_evicts_the_entries_of_the_former_one() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let (ada, eve) =
        (printing(&workspace, USER, 120), printing(&workspace, "eve@example.com", 3600));
    cli(&mut test, ada);
    assert!(test.run("-f pgbouncer").token().starts_with(&format!("\"{USER}\"")));
    test.set("LAKEBASE_TOKEN_TTL", "30m");
    test.run("").token();
    cli(&mut test, eve);
    // Ada's workspace token has expired, so the CLI runs again, and Eve is logged in now.
    test.pass(3 * MINUTE);
    let password = test.run("--refresh").token();
    assert_eq!(
        workspace.signer.check(&password, Scope::Database),
        Ok("eve@example.com".to_owned())
    );
    test.unset("LAKEBASE_TOKEN_TTL");
    let line = test.run("-f pgbouncer").token();
    assert!(line.starts_with("\"eve@example.com\""), "{line}");
    let password = line.rsplit('"').nth(1).unwrap();
    assert_eq!(workspace.signer.check(password, Scope::Database), Ok("eve@example.com".to_owned()));
}

#[test]
fn each_setting_that_decides_the_login_has_its_own_cache_entry() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let cache = test.cache_folder();
    test.set("LAKEBASE_TOKEN_CACHE", cache.to_str().unwrap());
    let as_ = |test: &mut Test, name: &str| {
        cli(test, printing(&workspace, name, 3600));
        let token = test.run("--for workspace").token();
        assert_eq!(workspace.signer.check(&token, Scope::Workspace), Ok(name.to_owned()));
    };
    as_(&mut test, "a");
    let file = format!("[me]\nhost = {}\n", workspace.url);
    let elsewhere = test.write("elsewhere.cfg", &file);
    test.set("DATABRICKS_CONFIG_FILE", elsewhere.to_str().unwrap());
    as_(&mut test, "b");
    test.set("DATABRICKS_AUTH_STORAGE", "plaintext");
    as_(&mut test, "c");
    test.set("DATABRICKS_DISCOVERY_HOST", "https://login.example.com");
    as_(&mut test, "d");
    let other_home = test.home.path().join("other");
    test.set(HOME, other_home.to_str().unwrap());
    as_(&mut test, "e");
    let path = test.tool("databricks", json!([]));
    test.set("DATABRICKS_CLI_PATH", path.to_str().unwrap());
    as_(&mut test, "f");
}

#[test]
fn a_former_logins_credential_is_not_printed_even_if_minting_fails() {
    for passed in [45, 55] {
        let workspace = workspace();
        let mut test = person_with_profile(&workspace);
        cli(&mut test, printing(&workspace, USER, 120));
        test.run("").token();
        test.pass(passed * MINUTE); // refresh early, then must refresh
        let eve = printing(&workspace, "eve@example.com", passed * 60 + 3600);
        cli(&mut test, eve);
        workspace.fault(MINT, 9, Answer::Json(500, json!({})));
        for _ in 0..3 {
            let outcome = test.run("");
            assert!(outcome.code == 5 && outcome.stdout.is_empty(), "{passed}: {outcome:?}");
        }
        workspace.state().faults.clear();
        let password = test.run("").token();
        assert_eq!(
            workspace.signer.check(&password, Scope::Database),
            Ok("eve@example.com".to_owned())
        );
    }
}

#[test]
fn role_and_password_belong_to_the_same_person() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    cli(&mut test, printing(&workspace, USER, 120));
    test.run("").token(); // raw: the role is not known yet
    cli(&mut test, printing(&workspace, "eve@example.com", 3600));
    test.pass(3 * MINUTE);
    let line = test.run("-f pgbouncer").token();
    assert!(line.starts_with("\"eve@example.com\""), "{line}");
    let password = line.rsplit('"').nth(1).unwrap();
    assert_eq!(workspace.signer.check(password, Scope::Database), Ok("eve@example.com".to_owned()));
}

#[test]
fn user_names_that_look_like_secrets_are_told_apart() {
    for (ada, eve) in [
        ("user:ada@example.com", "user:eve@example.com"),
        ("dapi0123456789abcdef", "dapifedcba9876543210"),
        (&"x".repeat(400), &("x".repeat(399) + "y")),
    ] {
        let workspace = workspace();
        let mut test = person_with_profile(&workspace);
        cli(&mut test, printing(&workspace, ada, 3600));
        test.run("").token();
        cli(&mut test, printing(&workspace, eve, 3600));
        test.run("--for workspace --refresh").token();
        let password = test.run("").token();
        assert_eq!(workspace.signer.check(&password, Scope::Database), Ok(eve.to_owned()));
    }
}

#[test]
fn a_role_that_arrives_after_another_login_is_not_cached() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    cli(&mut test, printing(&workspace, USER, 3600));
    let me = Answer::Json(200, json!({ "userName": USER }));
    let late = Answer::Late(Duration::from_millis(1500), Box::new(me));
    workspace.fault("/api/2.0/preview/scim/v2/Me", 1, late);
    let mut slow = test.command();
    let slow =
        started(|| slow.args(["-f", "pgbouncer"]).stdout(std::process::Stdio::piped()).spawn());
    while workspace.count("/api/2.0/preview/scim/v2/Me") == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    cli(&mut test, printing(&workspace, "eve@example.com", 3600));
    test.run("--for workspace --refresh").token();
    let line = String::from_utf8(slow.wait_with_output().unwrap().stdout).unwrap();
    for line in [line, test.run("-f pgbouncer").token()] {
        assert!(line.starts_with("\"eve@example.com\""), "{line}");
        let password = line.trim_end().rsplit('"').nth(1).unwrap();
        let subject = workspace.signer.check(password, Scope::Database);
        assert_eq!(subject, Ok("eve@example.com".to_owned()));
    }
}

#[test]
fn a_wrapper_of_the_cli_may_reopen_its_streams() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let mut words = printing(&workspace, USER, 3600);
    let answer = words.pop().unwrap();
    let answer = answer["stdout"].as_str().unwrap();
    let script = format!(
        "#!/bin/sh\nset -e; echo warning > /dev/stderr; {{ printf %s '{answer}'; }} > /dev/stdout\n"
    );
    test.program("databricks", &script);
    test.run("").token();
}

#[test]
fn a_process_that_the_cli_leaves_behind_is_not_waited_for() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let answer = printing(&workspace, USER, 3600);
    // A grandchild keeps the output and the lock open.
    cli(&mut test, [answer, vec![json!({ "leave": 4000 })]].concat());
    let stopwatch = Stopwatch::start();
    test.run("--timeout 2s").token();
    test.run("--timeout 2s --refresh").token();
    stopwatch.assert_within(Duration::from_millis(1900));
}

#[test]
fn a_cli_that_closes_its_output_is_waited_for_until_the_deadline() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    test.program("databricks", "#!/bin/sh\nexec >&- 2>&-; /bin/sleep 5\n");
    let stopwatch = Stopwatch::start();
    test.run("--timeout 1s").fails(5, &["has not ended in time"]);
    stopwatch.assert_within(Duration::from_millis(1900));
}

#[test]
fn a_cli_outlives_this_program_and_finishes() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    let files = ["started", "open", "stored"].map(|name| test.home.path().join(name));
    let [begun, open, stored] = &files;
    // It warns before it stores; with a broken pipe, the warning would end it.
    let steps = json!([
        { "write": begun }, { "until": open }, { "stderr": "warning\n" }, { "stdout": "x\n" },
        { "write": stored },
    ]);
    test.tool("databricks", steps);
    let is_there = |file: &Path| wait_for("the CLI", || file.exists().then_some(()));
    let mut command = test.command();
    command.args(["--timeout", "2s"]).stderr(std::process::Stdio::null());
    let mut child = started(|| command.spawn());
    assert_eq!(child.wait().unwrap().code(), Some(5));
    std::fs::write(open, "").unwrap();
    is_there(stored);
    // The same if this program is killed meanwhile.
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    let mut child = started(|| test.command().spawn());
    is_there(begun);
    child.kill().unwrap();
    child.wait().unwrap();
    test.run("--timeout 200ms").fails(5, &["another lakebase-token"]);
    std::fs::write(open, "").unwrap();
    is_there(stored);
}

#[test]
fn an_endless_output_is_bounded() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    cli(&mut test, vec![json!({ "endless": "x".repeat(60) })]);
    let stopwatch = Stopwatch::start();
    test.run("--timeout 8s").fails(1, &["`databricks auth token --profile me` failed"]);
    stopwatch.assert_within(Duration::from_secs(6));
}

#[test]
fn many_processes_run_the_cli_once() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    cli(&mut test, printing(&workspace, USER, 3600));
    let start = |_| started(|| test.command().stdout(std::process::Stdio::piped()).spawn());
    let children: Vec<std::process::Child> = (0..30).map(start).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(runs(&test), 1);
}

/// Callers that wait for the same credential share a failure through the cache.
#[test]
fn that_the_cli_could_not_be_started_is_no_shared_failure() {
    let workspace = workspace();
    let mut test = person_with_profile(&workspace);
    cli(&mut test, printing(&workspace, USER, 3600));
    set_hook(Some(Rc::new(|step| step == Step::StartChild)));
    let (code, _, stderr) = call(&test.context(|_| ()), "get");
    set_hook(None);
    assert!(code == 1 && stderr.contains("cannot run "), "{code}: {stderr}");
    for entry in test.entries() {
        assert!(!fs::read_to_string(entry).unwrap().contains("cannot run"));
    }
    test.run("").token();
}

// the chain

#[test]
fn a_failing_service_principal_never_falls_back_to_a_login() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    cli(&mut test, printing(&workspace, USER, 3600));
    test.set("DATABRICKS_CLIENT_SECRET", "wrong");
    test.run("").fails(4, &["invalid_client"]);
    assert_eq!(runs(&test), 0);
}

#[test]
fn a_configured_auth_type_that_fails_never_falls_back_to_a_login() {
    let workspace = workspace();
    for (variables, name) in [
        (&[("DATABRICKS_METADATA_SERVICE_URL", "http://127.0.0.1:1/x")][..], "metadata-service"),
        (
            &[
                ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x"),
                ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
            ],
            "github-oidc",
        ),
        (&[("DATABRICKS_OIDC_TOKEN", "t")], "env-oidc"),
        (&[("DATABRICKS_OIDC_TOKEN_FILEPATH", "/x")], "file-oidc"),
        (&[("ARM_USE_MSI", "true"), ("DATABRICKS_AZURE_RESOURCE_ID", "/s")], "azure-msi"),
        (
            &[
                ("ARM_CLIENT_ID", "a"),
                ("ARM_CLIENT_SECRET", "b"),
                ("ARM_TENANT_ID", "c"),
                ("DATABRICKS_AZURE_RESOURCE_ID", "/s"),
            ],
            "azure-client-secret",
        ),
        (&[("DATABRICKS_AZURE_RESOURCE_ID", "/s")], "azure-cli"),
        (&[("DATABRICKS_USERNAME", "a"), ("DATABRICKS_PASSWORD", "b")], "basic"),
        (
            &[
                ("SYSTEM_ACCESSTOKEN", "t"),
                ("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", "u"),
                ("SYSTEM_TEAMPROJECTID", "p"),
                ("SYSTEM_PLANID", "p"),
                ("SYSTEM_JOBID", "j"),
                ("SYSTEM_HOSTTYPE", "h"),
            ],
            "azure-devops-oidc",
        ),
    ] {
        let mut test = person_with_profile(&workspace);
        cli(&mut test, printing(&workspace, USER, 3600));
        for (variable, value) in variables {
            test.set(variable, value);
        }
        // No request leaves this machine.
        let (refusing, _held) = refusing_address();
        test.set("HTTPS_PROXY", &format!("http://{refusing}"));
        let status = test.run("status --format json").stdout;
        let chosen = status.contains(&format!("\"auth_type\":\"{name}\"")) || name == "basic";
        assert!(chosen, "{name}: {status}");
        let outcome = test.run("");
        assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{name}: {outcome:?}");
        assert_eq!(runs(&test), 0, "{name}");
        // Named by flag, the CLI is used.
        test.run("--auth-type databricks-cli").token();
        let again = test.run(&format!("--auth-type {name} --refresh"));
        assert!(again.code != 0 && again.stdout.is_empty(), "{name}: {again:?}");
    }
}

#[test]
fn settings_of_another_cloud_do_not_matter() {
    let workspace = workspace();
    for (variable, value) in [
        ("GOOGLE_CREDENTIALS", "{}"),
        ("DATABRICKS_GOOGLE_SERVICE_ACCOUNT", "x"),
        ("ARM_USE_MSI", "true"),
        ("ARM_TENANT_ID", "c"),
        ("SYSTEM_ACCESSTOKEN", "t"),
    ] {
        let mut test = person_with_profile(&workspace);
        cli(&mut test, printing(&workspace, USER, 3600));
        test.set(variable, value).run("").token();
    }
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "https://1.1.gcp.databricks.com").set("GOOGLE_CREDENTIALS", "{}");
    test.run("").fails(2, &["google-credentials"]);
}

#[test]
fn a_named_auth_type_says_what_it_lacks() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_SECRET");
    test.run("--auth-type oauth-m2m").fails(
        2,
        &[
            "auth type oauth-m2m from --auth-type needs host, client_id and client_secret",
            "client_id=",
            "DATABRICKS_CLIENT_ID",
        ],
    );
}
