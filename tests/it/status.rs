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
    assert!(test.run("status -v").stdout.contains("\n            basic: configured, but"));
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
        outcome.stdout.contains("who         not configured") && outcome.stdout.contains("  hint "),
        "{outcome:?}"
    );
}

#[test]
fn an_expired_login_is_exit_code_three_until_there_is_a_token_again() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    let refuses = json!([{ "stderr": "Error: the refresh token is invalid." }, { "exit": 1 }]);
    test.tool("databricks", refuses);
    assert_eq!(report(&test, "").0, 0, "no call has failed yet");

    test.run("").fails(3, &["databricks auth login"]);
    test.pass(HOUR);
    let (code, shown) = report(&test, "");
    assert_eq!((code, &shown["errors"][0]["code"]), (3, &json!(3)));

    let token = workspace.signer.sign("me", crate::sandbox::jwt::Scope::Workspace, 9000, 0);
    let answer = json!({ "access_token": token }).to_string();
    test.tool("databricks", json!([{ "stdout": answer }]));
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

/// Twelve lines of a hundred columns at most, and what is wrong comes first.
#[test]
fn the_short_text_fits_a_terminal_in_every_state() {
    let workspace = workspace();
    type Prepare<'p> = &'p dyn Fn(&mut Test);
    let nothing: Prepare = &|test| {
        for name in ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"] {
            test.unset(name);
        }
    };
    let states: [(&str, u8, Prepare, &[&str]); 20] = [
        (
            "ready",
            0,
            &|_| (),
            &[
                "workspace   http://127.0.0.1:",
                "who         by oauth-m2m, not known yet",
                "cached      no password yet",
                "next        lakebase-token doctor",
            ],
        ),
        (
            "cached",
            0,
            &|test| {
                test.run("");
                test.program("psql", "#!/bin/sh\n");
            },
            &[
                "who         5f3cbb5e",
                "cached      a password that expires in 59 min",
                "next        lakebase-token psql, or lakebase-token doctor",
            ],
        ),
        (
            "due",
            0,
            &|test| {
                test.run("");
                test.pass(45 * 60_000)
            },
            &["expires in 14 min"],
        ),
        (
            "expired",
            0,
            &|test| {
                test.run("");
                test.pass(61 * 60_000)
            },
            &["a password that has expired"],
        ),
        (
            "nothing",
            2,
            nothing,
            &[
                "error       no Databricks identity",
                "  hint      lakebase-token login --host",
                "who         not configured",
            ],
        ),
        (
            "half",
            2,
            &|test| {
                let _ = test.unset("DATABRICKS_CLIENT_SECRET");
            },
            &["error       ", "client_secret", "who         not configured"],
        ),
        (
            "conflict",
            2,
            &|test| {
                let _ = test.set("DATABRICKS_TOKEN", "x1");
            },
            &["error       more than one authorization method"],
        ),
        (
            "no profile",
            2,
            &|test| {
                nothing(test);
                test.set("DATABRICKS_CONFIG_PROFILE", "nope");
            },
            &["error       ", "nope"],
        ),
        (
            "bad host",
            2,
            &|test| {
                let _ = test.set("DATABRICKS_HOST", "ftp://x");
            },
            &["error       "],
        ),
        (
            "bad port",
            2,
            &|test| {
                let _ = test.set("PGPORT", "abc");
            },
            &["error       PGPORT is not a port"],
        ),
        (
            "bad sslmode",
            2,
            &|test| {
                let _ = test.set("PGSSLMODE", "x");
            },
            &["error       PGSSLMODE is not an sslmode"],
        ),
        (
            "bad endpoint",
            2,
            &|test| {
                let _ = test.set("LAKEBASE_ENDPOINT", "ep-a-1");
            },
            &["error       "],
        ),
        (
            "two databases",
            2,
            &|test| {
                let _ = test.set("LAKEBASE_INSTANCE", "x");
            },
            &["error       an endpoint and an instance"],
        ),
        (
            "instance",
            0,
            &|test| {
                let _ = test.unset("LAKEBASE_ENDPOINT").set("LAKEBASE_INSTANCE", "legacy");
            },
            &["database    instance legacy"],
        ),
        (
            "only project",
            0,
            &|test| {
                let _ = test.unset("LAKEBASE_ENDPOINT");
            },
            &["database    not named, so the workspace's only project"],
        ),
        (
            "host and role",
            0,
            &|test| {
                let _ = test.set("PGHOST", "db.example").set("PGUSER", "ada");
            },
            &["databricks_postgres at db.example", "role        ada"],
        ),
        (
            "no cache",
            0,
            &|test| {
                let _ = test.set("LAKEBASE_TOKEN_CACHE", "/dev/null/x");
            },
            &["warning     nothing can be cached"],
        ),
        (
            "stale password",
            0,
            &|test| {
                let _ = test.set("PGPASSWORD", "x");
            },
            &["warning     PGPASSWORD is set"],
        ),
        (
            "our password",
            0,
            &|test| {
                let _ = test
                    .set("PGPASSWORD", "x")
                    .set("LAKEBASE_TOKEN_EXPIRES_AT", "2999-01-01T00:00:00Z");
            },
            &["next "],
        ),
        (
            "long",
            0,
            &|test| {
                let _ = test.set("PGDATABASE", &"x".repeat(300)).set("PGHOST", "db.example");
            },
            &["…"],
        ),
    ];
    for (state, code, prepare, words) in states {
        let mut test = Test::at(&workspace);
        prepare(&mut test);
        let outcome = test.run("status");
        assert_eq!(outcome.code, code, "{state}: {outcome:?}");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(lines.len() <= 12, "{state}: {}", outcome.stdout);
        assert!(
            lines.iter().all(|line| line.chars().count() <= 100),
            "{state}: {}",
            outcome.stdout
        );
        for word in words {
            assert!(outcome.stdout.contains(word), "{state}: {word:?} in\n{}", outcome.stdout);
        }
        let has_error = lines.iter().any(|line| line.starts_with("error "));
        assert_eq!(has_error, code != 0, "{state}: {}", outcome.stdout);
        assert!(!has_error || lines[0].starts_with("error "), "{state}: {}", outcome.stdout);
        assert!(
            state == "our password"
                || outcome.stdout.contains("PGPASSWORD") == (state == "stale password")
        );
    }
}
