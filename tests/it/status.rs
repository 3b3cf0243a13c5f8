//! `status`: correct, without a request and without a secret.

use serde_json::{Value, json};

use super::support::{HOUR, MINUTE, Test, workspace};
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT, ENDPOINT_HOST};

fn report(test: &Test, line: &str) -> (u8, Value) {
    let outcome = test.run(&format!("status --format json {line}"));
    assert!(outcome.stderr.is_empty(), "{outcome:?}");
    (outcome.code, serde_json::from_str(&outcome.stdout).unwrap())
}

#[test]
fn before_the_first_request_unknown_values_are_null() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT");

    let (code, report) = report(&test, "");
    assert_eq!(code, 0);
    assert_eq!(report["host"], workspace.url.as_str());
    assert_eq!(report["auth_type"], "oauth-m2m");
    assert_eq!(
        (&report["profile"], &report["workspace_id"], &report["login"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        report["database"],
        json!({ "host": null, "port": "5432", "database": "databricks_postgres", "user": CLIENT_ID })
    );
    assert_eq!((&report["cached"], &report["errors"]), (&json!([]), &json!([])));
    assert_eq!(
        report["settings"]["client_secret"],
        json!({ "value": "***", "origin": "DATABRICKS_CLIENT_SECRET" })
    );
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn it_says_why_each_auth_type_is_chosen_or_not() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);

    let why = |test: &Test, name: &str| {
        let (_, report) = report(test, "");
        let providers = report["providers"].as_array().unwrap().clone();
        assert!(providers.iter().filter(|provider| provider["chosen"] == true).count() <= 1);
        let provider =
            providers.into_iter().find(|provider| provider["auth_type"] == name).unwrap();
        format!("{} {}", provider["chosen"], provider["why"].as_str().unwrap())
    };

    assert_eq!(why(&test, "pat"), "false needs host and token");
    assert_eq!(why(&test, "oauth-m2m"), "true configured");
    assert_eq!(why(&test, "databricks-cli"), "false comes after oauth-m2m");

    test.set("DATABRICKS_AUTH_TYPE", "databricks-cli");
    assert_eq!(why(&test, "oauth-m2m"), "false auth_type names databricks-cli");
    assert_eq!(why(&test, "databricks-cli"), "true named by auth_type");

    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "x")
        .set("DATABRICKS_USERNAME", "a")
        .set("DATABRICKS_PASSWORD", "b");
    assert_eq!(why(&test, "basic"), "false configured, but not supported");
    assert!(test.run("status").stdout.contains("\n            basic: configured, but"));
}

#[test]
fn after_a_request_it_shows_what_was_resolved_and_how_fresh_it_is() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT");
    test.run("-f json").token();
    workspace.take_requests();

    for (passes, state) in
        [(0, "fresh"), (41 * MINUTE, "soft"), (10 * MINUTE, "stale"), (HOUR, "expired")]
    {
        test.pass(passes);
        let (code, report) = report(&test, "");
        assert_eq!(code, 0);
        assert_eq!(report["database"]["endpoint"], ENDPOINT);
        assert_eq!(report["database"]["host"], ENDPOINT_HOST);
        let cached = report["cached"].as_array().unwrap();
        assert_eq!(cached.len(), 2);
        assert_eq!((&cached[0]["for"], &cached[0]["state"]), (&json!("database"), &json!(state)));
        assert_eq!(cached[1]["for"], "workspace");

        let time = |value: &Value| {
            lakebase_token::platform::time::Timestamp::parse(value.as_str().unwrap()).unwrap()
        };
        assert_eq!(time(&cached[0]["expires_at"]).since(time(&cached[0]["issued_at"])), HOUR);
        assert_eq!(report["login"]["who"], CLIENT_ID);
    }
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn a_failure_has_a_message_and_an_exit_code() {
    let test = Test::bare();
    let (code, report) = report(&test, "");
    assert_eq!(code, 2);
    assert_eq!(report["errors"][0]["code"], 2);
    assert_eq!(report["errors"][0]["message"], "no Databricks identity is configured");

    let outcome = test.run("status");
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.stdout.contains("auth type   none") && outcome.stdout.contains("hint"),
        "{outcome:?}"
    );
}

#[test]
fn an_expired_login_is_exit_code_three_until_there_is_a_token_again() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.program(
        "databricks",
        "#!/bin/sh\necho 'Error: the refresh token is invalid.' >&2\nexit 1\n",
    );
    assert_eq!(report(&test, "").0, 0, "no call has failed yet");

    test.run("").fails(3, &["databricks auth login"]);
    test.pass(HOUR);
    let (code, shown) = report(&test, "");
    assert_eq!((code, &shown["errors"][0]["code"]), (3, &json!(3)));

    let token = workspace.signer.sign("me", crate::sandbox::jwt::Scope::Workspace, 9000, 0);
    test.program("databricks", &format!("#!/bin/sh\necho '{{\"access_token\": \"{token}\"}}'\n"));
    test.run("").token();
    assert_eq!(report(&test, "").0, 0);
}

#[test]
fn settings_that_resolved_before_an_error_are_shown() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_TOKEN", "t").set("PGHOST", "h");
    let (code, report) = report(&test, "");
    assert_eq!(code, 2);
    assert_eq!(
        report["settings"]["token"],
        json!({ "value": "***", "origin": "DATABRICKS_TOKEN" })
    );
    assert_eq!(report["database"]["host"], "h");
}

#[test]
fn no_format_shows_a_secret() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let password = test.run("").token();
    for line in ["status", "status --format json", "status -v"] {
        let outcome = test.run(line);
        let all = outcome.stdout + &outcome.stderr;
        assert!(!all.contains(CLIENT_SECRET) && !all.contains(&password[40..80]), "{line}");
    }

    test.run("status --format yaml").fails(2, &["status has no format yaml", "--format json"]);
}
