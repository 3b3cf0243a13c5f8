//! Each format's bytes, and what the programs that read them understand.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::{Test, has, part_not_run, repository, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{ENDPOINT_HOST, MINT, Workspace};
use lakebase_token::formats::FORMATS;

const AWKWARD: &str = r#"o'neil:a\b"@ex.com"#;
const DATABASE: &str = "my db";

/// A workspace that always mints this token, and a context with an awkward role.
fn fixed() -> (Workspace, Test) {
    let workspace = workspace();
    let answer = serde_json::json!({ "token": "eyJhbGc.e30.c2ln-_", "expire_time": "2099-12-31T23:59:59.5Z" });
    workspace.fault(MINT, 9999, Answer::Json(200, answer));
    let mut test = Test::at(&workspace);
    test.set("PGUSER", AWKWARD).set("PGDATABASE", DATABASE);
    // The file that is the default differs among systems.
    test.set("PGSSLROOTCERT", "/etc/ssl/root.pem");
    (workspace, test)
}

#[test]
fn every_format_has_its_golden_bytes() {
    let (_workspace, test) = fixed();
    let update = std::env::var_os("UPDATE").is_some();
    for format in FORMATS {
        let golden = repository().join(format!("tests/it/formats/{}.golden", format.name));
        let mut plain = copy(&test);
        if format.name == "dotenv" {
            plain.set("PGUSER", "me@example.com").set("PGDATABASE", "my-db");
        }
        let outcome = plain.run(&format!("--format {}", format.name));
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (0, ""),
            "{}: {outcome:?}",
            format.name
        );
        if update {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &outcome.stdout).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(outcome.stdout, expected, "{} (UPDATE=1 writes it)", format.name);
    }
}

fn copy(test: &Test) -> Test {
    let mut copy = Test::bare();
    copy.env = test.env.iter().filter(|(name, _)| name != "HOME").cloned().collect();
    copy
}

#[test]
fn an_unknown_format_is_refused_with_the_nearest_name() {
    let (_workspace, test) = fixed();
    test.run("-f jsn").fails(2, &["unknown format: jsn", "--format json"]);
    test.run("-f yaml-with-everything").fails(2, &["one of raw, json"]);
}

#[test]
fn json_is_flat_and_has_only_strings() {
    let (_workspace, test) = fixed();
    let object: Value = serde_json::from_str(&test.run("-f json").token()).unwrap();
    let object = object.as_object().unwrap();
    assert!(object.values().all(Value::is_string));
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(names, ["database", "expires_at", "host", "port", "token", "user"]);
}

#[test]
fn some_formats_print_a_workspace_token_and_the_others_refuse() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for format in FORMATS {
        let outcome = test.run(&format!("--for workspace -f {}", format.name));
        if format.workspace {
            assert!(outcome.token().contains("eyJ"), "{}", format.name);
        } else {
            outcome.fails(
                2,
                &[
                    "prints database credentials only",
                    "raw, json, exec-credential, headers-json, header",
                ],
            );
        }
    }
    let object: Value = serde_json::from_str(&test.run("--for workspace -f json").token()).unwrap();
    let names: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(names, ["expires_at", "host", "token"]);
    assert_eq!(object["host"], workspace.url.as_str());
    test.run("--for everything").fails(2, &["--for everything is neither database nor workspace"]);
    // No request is made that a workspace token does not need.
    assert!(!workspace.take_requests().iter().any(|request| request.contains("credentials")));
}

#[test]
fn exec_credential_has_the_requested_api_version() {
    let (workspace, mut test) = fixed();
    let version = |test: &Test| -> String {
        let object: Value = serde_json::from_str(&test.run("-f exec-credential").token()).unwrap();
        assert_eq!(object["kind"], "ExecCredential");
        object["apiVersion"].as_str().unwrap().to_owned()
    };
    assert_eq!(version(&test), "client.authentication.k8s.io/v1");
    for asked in ["v1", "v1beta1"] {
        let asked = format!("client.authentication.k8s.io/{asked}");
        let info = format!(
            r#"{{"kind":"ExecCredential","apiVersion":"{asked}","spec":{{"interactive":false}}}}"#
        );
        test.set("KUBERNETES_EXEC_INFO", &format!("{info}\n"));
        assert_eq!(version(&test), asked);
    }
    test.set("KUBERNETES_EXEC_INFO", r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#);
    workspace.take_requests();
    test.run("-f exec-credential --refresh").fails(2, &["v1alpha1"]);
    assert!(workspace.take_requests().is_empty(), "it is refused before any request");
    test.run("-f exec-credential")
        .fails(2, &["v1alpha1", "apiVersion: client.authentication.k8s.io/v1 "]);
    test.run("-f raw").token();
}

#[test]
fn exec_credential_reports_its_expiry_a_minute_early_and_never_reads_stdin() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let at = |line: &str, pointer: &str| {
        let object: Value = serde_json::from_str(&test.run(line).token()).unwrap();
        let text = object.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        lakebase_token::platform::time::Timestamp::parse(&text).unwrap()
    };
    let expires = at("-f json", "/expires_at");
    let reported = at("-f exec-credential", "/status/expirationTimestamp");
    assert_eq!(expires.since(reported), 60_000);
    // An open pipe without a writer, as the Node client leaves it.
    let mut child = test
        .command()
        .args(["-f", "exec-credential"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _open = child.stdin.take();
    assert!(child.wait().unwrap().success());
}

#[test]
fn control_characters_are_refused_and_dotenv_refuses_quotes() {
    let (_workspace, mut test) = fixed();
    test.run("-f dotenv").fails(2, &["PGDATABASE has ' '", "--format env"]);
    for bad in ["a\nb", "a\tb", "a\u{7f}b"] {
        test.set("PGUSER", bad);
        for format in FORMATS {
            let outcome = test.run(&format!("-f {}", format.name));
            if format.user {
                outcome.fails(2, &["control character"]);
            } else {
                outcome.token();
            }
        }
    }
}

/// The variables that a shell has after it has evaluated the output of a format.
fn evaluated(test: &Test, shell: &str, format: &str, script: &str) -> String {
    let code = test.run(&format!("-f {format}")).token();
    let output = Command::new(shell)
        .args(if shell == "fish" { &["--no-config", "-c"][..] } else { &["-c"][..] })
        .arg(script)
        .env("CODE", code)
        .env("PGPASSWORD", "stale")
        .env("PGSERVICE", "elsewhere")
        .env("PGHOSTADDR", "10.0.0.1")
        .env("HOME", test.home.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn expected() -> String {
    format!(
        "{ENDPOINT_HOST}\n5432\n{DATABASE}\n{AWKWARD}\neyJhbGc.e30.c2ln-_\nverify-full\n[]\n[]\n"
    )
}

const PRINT: &str = "for v in \"$PGHOST\" \"$PGPORT\" \"$PGDATABASE\" \"$PGUSER\" \"$PGPASSWORD\" \
                     \"$PGSSLMODE\" \"[$PGSERVICE]\" \"[$PGHOSTADDR]\"; do printf '%s\\n' \"$v\"; done";

#[test]
fn posix_shells_evaluate_env() {
    let (_workspace, test) = fixed();
    for shell in ["sh", "dash", "bash", "zsh"] {
        if has(&format!("formats::posix_shells_evaluate_env ({shell})"), shell) {
            let script = format!("eval \"$CODE\"; {PRINT}");
            assert_eq!(evaluated(&test, shell, "env", &script), expected(), "{shell}");
        }
    }
    // Unquoted, as users write it. No shell keeps blanks in values then.
    let mut test = copy(&test);
    test.set("PGDATABASE", "db");
    let script = format!("eval $CODE; {PRINT}");
    let text = evaluated(&test, "sh", "env", &script);
    assert_eq!(text, expected().replace(DATABASE, "db"));
}

#[test]
fn fish_evaluates_fish() {
    let (_workspace, test) = fixed();
    if has("formats::fish_evaluates_fish", "fish") {
        let script = "echo $CODE | source; for v in $PGHOST $PGPORT $PGDATABASE $PGUSER $PGPASSWORD \
                      $PGSSLMODE \"[$PGSERVICE]\" \"[$PGHOSTADDR]\"; printf '%s\\n' $v; end";
        assert_eq!(evaluated(&test, "fish", "fish", script), expected());
        // Erasing a variable in one scope reveals that of the next.
        let hidden = format!("set -Ux PGHOSTADDR 203.0.113.9; set -gx PGHOSTADDR ::1; {script}");
        assert_eq!(evaluated(&test, "fish", "fish", &hidden), expected());
    }
}

#[test]
fn powershell_evaluates_powershell() {
    let (_workspace, test) = fixed();
    // Debian has no package of it, so its absence is reported and is no failure.
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("pwsh").exists()) {
        let script = "Invoke-Expression $env:CODE; $env:PGUSER";
        assert_eq!(evaluated(&test, "pwsh", "powershell", script).trim(), AWKWARD);
    } else {
        part_not_run("formats::powershell_evaluates_powershell", "no package of Debian has pwsh");
    }
}
