//! `doctor --report`: what it says of a real run, and that nothing private is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::consumers::Installation;
use super::support::{Test, repository, words, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::*;

/// The files whose messages `doctor` shows.
const SOURCES: [&str; 10] = [
    "commands",
    "lakebase",
    "net",
    "auth",
    "config",
    "plan",
    "session",
    "login",
    "credential",
    "platform",
];

/// All Rust files of a folder, or the one of this name.
fn files(path: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The texts between quotes, without tests and comments.
fn literals(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n").replace("'\"'", "").replace("'\\\"'", "");
    let mut texts = String::new();
    let mut is_inside = false;
    let mut chars = code.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_inside = !is_inside,
            '\\' if is_inside => {
                chars.next();
                texts.push(' ');
            }
            c if is_inside => texts.push(c),
            _ => texts.push(' '),
        }
    }
    texts
}

/// The list is exactly the words of all string literals in `src`, of which our messages are made. `UPDATE=1`
/// writes it.
#[test]
fn the_words_that_pass_are_those_of_our_own_messages() {
    let source = repository().join("src");
    let mut all = vec![
        fs::read_to_string(source.join("error.rs")).unwrap(),
        fs::read_to_string(source.join("plan.rs")).unwrap(),
        fs::read_to_string(source.join("session.rs")).unwrap(),
    ];
    for name in SOURCES {
        files(&source.join(name), &mut all);
    }
    let texts: String = all.iter().map(|source| literals(source) + " ").collect();
    let is_letter = |c: char| c.is_ascii_lowercase() || "-_'".contains(c);
    let is_word = |word: &&str| {
        word.chars().all(is_letter) && word.starts_with(|c: char| c.is_ascii_lowercase())
    };
    let marks = |c: char| "`'\"()[]{},.:;!?…/*#=".contains(c);
    let texts = texts.to_ascii_lowercase();
    let expected: BTreeSet<&str> =
        texts.split_whitespace().map(|word| word.trim_matches(marks)).filter(is_word).collect();
    let expected: String = expected.into_iter().map(|word| format!("{word}\n")).collect();

    let path = source.join("commands/doctor/report_allowed_words.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let known = fs::read_to_string(path).unwrap();
    assert!(known == expected, "UPDATE=1 writes report_allowed_words.txt");
}

/// The verdict on an assumption.
#[track_caller]
fn verdict<'r>(report: &'r str, assumption: &str) -> &'r str {
    let line = report.lines().find(|line| line.contains(assumption));
    line.unwrap_or_else(|| panic!("{assumption} is not in {report}")).split("  ").next().unwrap()
}

#[test]
fn a_report_confirms_assumptions_and_holds_nothing_private() {
    let test = "report::a_report_confirms";
    let Some(installation) = Installation::with_postgres(test) else { return };
    let path = installation.sandbox.home().join("report.txt");
    let run = |variables: &[(&str, &str)]| {
        let mut command = installation.command("lakebase-token");
        command.args(["doctor", "--report"]).arg(&path).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), fs::read_to_string(&path).unwrap(), words(&output))
    };
    let (code, report, said) = run(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("report.txt is the report; read it before you pass it on"), "{said}");
    for expected in [
        &format!("version         {}", env!("CARGO_PKG_VERSION")),
        "auth type       oauth-m2m",
        "exit code       0",
        "login          ok: as <",
        "POST /oidc/v1/token 200 access_token:text expires_in:number",
        "GET /api/2.0/preview/scim/v2/Me 200",
        "POST /api/2.0/postgres/credentials 200 expire_time:text token:text",
    ] {
        assert!(report.contains(expected), "{expected:?} is missing in {report}");
    }
    for (assumption, expected) in [
        ("the token endpoint is", "confirmed"),
        ("a token answer has", "confirmed"),
        ("the subject of a database credential", "confirmed"),
        ("an instance has read_write_dns", "not tested"),
        ("the Postgres host is in a domain of Databricks", "REFUTED"),
        ("needs no request_id", "confirmed"),
        ("with the claims sub, iat and exp", "confirmed"),
        ("lives one hour", "confirmed"),
        ("in clear text, inside TLS", "confirmed"),
        ("current_user is the role", "confirmed"),
        ("are verified with the authorities", "not tested"),
    ] {
        assert_eq!(verdict(&report, assumption), expected, "{assumption}");
    }
    assert_private(&report, &[CLIENT_ID, CLIENT_SECRET, "127.0.0.1", "shop", "ada", "primary/"]);

    // A second report replaces the first, and nothing else.
    let (_, again, _) = run(&[("LAKEBASE_TOKEN_TTL", "15m")]);
    assert_eq!(verdict(&again, "lives one hour"), "not tested");
    fs::write(&path, "mine").unwrap();
    let (code, content, said) = run(&[]);
    assert_eq!((code, content.as_str()), (Some(2), "mine"), "{said}");
}

#[track_caller]
fn assert_private(report: &str, private: &[&str]) {
    let lower = report.to_lowercase();
    for name in private {
        assert!(!lower.contains(&name.to_lowercase()), "{name} in {report}");
    }
}

#[test]
fn no_word_of_the_users_or_the_servers_is_in_a_report() {
    let workspace = workspace();
    // Names that consist of words of our own messages, too.
    const GROUP: &str = "readers of the production database";
    const ROLE: &str = "the-workspace-owner@sentinel.example";
    workspace.state().groups = vec![GROUP.to_owned()];
    let refusals = [
        (MINT, 403, "PERMISSION_DENIED", "Sentinel-1 may not read zanzibar"),
        ("/api/2.0/preview/scim/v2/Me", 403, "SENTINEL_CODE", "User sentinel@zanzibar.example"),
        (TOKEN, 401, "invalid_client", "Client sentinel 12345 has no zanzibar"),
        (TOKEN, 500, "SENTINEL", "<html>zanzibar</html>"),
    ];
    for (path, status, code, message) in refusals {
        let mut test = Test::at(&workspace);
        test.set("PGUSER", ROLE).set("PGDATABASE", "database of orders");
        test.set("PGHOST", "127.0.0.1").set("PGPORT", "1");
        test.set("DATABRICKS_WORKSPACE_ID", "123456789012345");
        test.set("PGOPTIONS", "-c search_path=zanzibar");
        workspace.state().faults.clear();
        let body = json!({
            "error_code": code, "message": message, "zanzibar": { "sentinel_field": 1 },
        });
        workspace.fault(path, 99, Answer::Json(status, body));
        let file = test.home.path().join("report.txt");
        let outcome = test.run(&format!("doctor --report {}", file.display()));
        assert_ne!(outcome.code, 0, "{outcome:?}");
        let report = fs::read_to_string(&file).unwrap();
        assert_private(
            &report,
            &[
                "sentinel",
                "zanzibar",
                GROUP,
                ROLE,
                "owner",
                "orders",
                "12345",
                CLIENT_ID,
                CLIENT_SECRET,
                "127.0.0.1",
                "shop",
                &workspace.url,
            ],
        );
        assert!(report.contains(&status.to_string()), "{report}");
        let is_known = ["PERMISSION_DENIED", "invalid_client"].contains(&code);
        assert_eq!(report.contains(code), is_known, "{report}");
        // The same word has the same placeholder.
        assert!(report.contains("<1>"), "{report}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_first() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let other = test.write("other", "mine");
    test.run(&format!("doctor --report {}", other.display()))
        .fails(2, &["was not written by doctor --report"]);
    let missing = test.home.path().join("no/such/report");
    assert_ne!(test.run(&format!("doctor --report {}", missing.display())).code, 0);
    assert!(workspace.take_requests().is_empty());
    assert_eq!(fs::read_to_string(other).unwrap(), "mine");
}
