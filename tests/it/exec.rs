//! `exec`, as a process: what the child sees, and which code comes back.

use std::os::unix::process::ExitStatusExt;

use super::support::{Test, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT_HOST, Workspace};

/// The child's environment, as `env` prints it.
fn environment(test: &Test, flags: &[&str]) -> Vec<(String, String)> {
    let output =
        test.command().arg("exec").args(flags).args(["--", "/usr/bin/env"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn value<'e>(environment: &'e [(String, String)], name: &str) -> Option<&'e str> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn code(test: &Test, args: &[&str]) -> (i32, String) {
    let output = test.command().args(args).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

fn prepared(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.set("PATH", "/usr/bin:/bin");
    test
}

#[test]
fn the_child_gets_libpqs_variables_and_loses_what_would_mislead() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("PGPASSWORD", "stale").set("PGSERVICE", "elsewhere").set("PGHOSTADDR", "10.0.0.1");
    test.set("PGAPPNAME", "kept");
    let seen = environment(&test, &[]);
    for (name, expected) in [
        ("PGHOST", ENDPOINT_HOST),
        ("PGPORT", "5432"),
        ("PGDATABASE", "databricks_postgres"),
        ("PGUSER", CLIENT_ID),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "kept"),
        ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET),
    ] {
        assert_eq!(value(&seen, name), Some(expected), "{name}");
    }
    let password = value(&seen, "PGPASSWORD").unwrap();
    assert!(workspace.signer.check(password, Scope::Database).is_ok());
    assert_eq!((value(&seen, "PGSERVICE"), value(&seen, "PGHOSTADDR")), (None, None));
    assert_eq!(seen.iter().filter(|(name, _)| name == "PGPASSWORD").count(), 1);
}

#[test]
fn a_stricter_sslmode_stays_and_a_weaker_one_does_not() {
    let workspace = workspace();
    for (asked, expected) in [
        ("disable", "require"),
        ("prefer", "require"),
        ("require", "require"),
        ("verify-ca", "verify-ca"),
        ("verify-full", "verify-full"),
    ] {
        let mut test = prepared(&workspace);
        test.set("PGSSLMODE", asked);
        assert_eq!(value(&environment(&test, &[]), "PGSSLMODE"), Some(expected));
        assert!(test.run("-f env").token().contains(&format!("PGSSLMODE='{expected}'")));
        assert!(test.run("-f url").token().ends_with(&format!("?sslmode={expected}")));
    }
    let mut test = prepared(&workspace);
    test.set("PGSSLROOTCERT", "system");
    assert_eq!(value(&environment(&test, &[]), "PGSSLMODE"), Some("verify-full"));
}

#[test]
fn clean_keeps_databricks_secrets_from_the_child() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("DATABRICKS_OIDC_TOKEN", "o").set("DATABRICKS_AUTH_TYPE", "oauth-m2m");
    test.set("ARM_CLIENT_SECRET", "a").set("DATABRICKS_PASSWORD", "p").set("DATABRICKS_TOKEN", "t");
    let seen = environment(&test, &["--clean"]);
    for name in [
        "DATABRICKS_CLIENT_SECRET",
        "DATABRICKS_OIDC_TOKEN",
        "DATABRICKS_TOKEN",
        "DATABRICKS_PASSWORD",
        "ARM_CLIENT_SECRET",
    ] {
        assert_eq!(value(&seen, name), None, "{name}");
    }
    test.set("DATABRICKS_OIDC_TOKEN_ENV", "MINE").set("MINE", "m");
    let named = environment(&test, &["--clean"]);
    assert_eq!((value(&named, "MINE"), value(&named, "DATABRICKS_OIDC_TOKEN")), (None, None));
    assert!(value(&seen, "DATABRICKS_CLIENT_ID").is_some() && value(&seen, "PGPASSWORD").is_some());
}

#[test]
fn for_workspace_sets_what_databricks_tools_read() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("PGPASSWORD", "untouched");
    let seen = environment(&test, &["--for", "workspace", "--clean"]);
    assert_eq!(value(&seen, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
    let token = value(&seen, "DATABRICKS_TOKEN").unwrap();
    assert!(workspace.signer.check(token, Scope::Workspace).is_ok());
    assert_eq!(value(&seen, "DATABRICKS_AUTH_TYPE"), Some("pat"), "beside an inherited client id");
    assert_eq!(value(&seen, "DATABRICKS_WORKSPACE_ID"), None);
    assert_eq!(value(&seen, "PGPASSWORD"), Some("untouched"));
    let mut one_of_many = prepared(&workspace);
    one_of_many.set("DATABRICKS_HOST", &format!("{}/?o=9008", workspace.url));
    let seen = environment(&one_of_many, &["--for", "workspace"]);
    assert_eq!(value(&seen, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
    assert_eq!(value(&seen, "DATABRICKS_WORKSPACE_ID"), Some("9008"));
    let seen = environment(&test, &["--for", "workspace", "--as", "ANTHROPIC_AUTH_TOKEN"]);
    assert!(
        value(&seen, "ANTHROPIC_AUTH_TOKEN").is_some()
            && value(&seen, "DATABRICKS_TOKEN").is_none()
    );
    assert_eq!(code(&test, &["exec", "--as", "X", "--", "true"]).0, 125);
    assert_eq!(code(&test, &["exec", "--for", "workspace", "--as", "1X", "--", "true"]).0, 125);
    assert_eq!(code(&test, &["exec", "--for", "workspace", "--as", "A=B", "--", "true"]).0, 125);
}

#[test]
fn the_code_is_the_commands_own_or_tells_whose_fault_it_was() {
    let workspace = workspace();
    let test = prepared(&workspace);
    assert_eq!(code(&test, &["exec", "--", "sh", "-c", "exit 7"]), (7, String::new()));
    assert_eq!(code(&test, &["exec", "--", "true"]), (0, String::new()));
    let (code_, stderr) = code(&test, &["exec", "--", "no-such-command"]);
    assert_eq!(code_, 127);
    assert!(stderr.starts_with("lakebase-token: error: cannot run no-such-command\n"), "{stderr}");
    let plain = test.write("plain", "not a program");
    let (code_, stderr) = code(&test, &["exec", "--", plain.to_str().unwrap()]);
    assert_eq!(code_, 126, "{stderr}");
    let killed = test.command().args(["exec", "--", "sh", "-c", "kill -TERM $$"]).status().unwrap();
    assert_eq!(killed.signal(), Some(15));
    workspace.fault("/", 99, Answer::Json(403, serde_json::json!({ "message": "no" })));
    assert_eq!(code(&test, &["--pg-database", "exec", "--ttl", "1m"]).0, 2, "no verb is named");
    for args in [
        &["exec", "--no-cache", "--", "true"][..],
        &["exec"],
        &["exec", "true"],
        &["exec", "--formt", "--", "true"],
        &["--clean", "exec"],
    ] {
        let (code_, stderr) = code(&test, args);
        assert_eq!(code_, 125, "{args:?} {stderr}");
        assert!(stderr.starts_with("lakebase-token: error: "), "{stderr}");
    }
}

#[test]
fn of_two_equal_names_the_child_sees_the_one_we_saw() {
    // A shell cannot make such an environment; Python can, and so can somebody hostile.
    if !super::support::has("exec::of_two_equal_names", "python3") {
        return;
    }
    let workspace = workspace();
    let test = prepared(&workspace);
    let tool = super::support::executable();
    let script = "import ctypes, os, sys\n\
        names = [k + b'=' + v for k, v in os.environb.items()] + [b'TWICE=first', b'TWICE=second']\n\
        argv = [sys.argv[1].encode(), b'exec', b'--', b'/usr/bin/printenv', b'TWICE']\n\
        array = lambda texts: (ctypes.c_char_p * (len(texts) + 1))(*texts, None)\n\
        ctypes.CDLL(None).execve(argv[0], array(argv), array(names))\n";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(tool).env_clear().envs(test.env.iter().cloned());
    let path = std::env::var_os("PATH").unwrap();
    let output = python.env("PATH", path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\n", "{output:?}");
}

#[test]
fn the_process_is_replaced() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let child = test
        .command()
        .args(["exec", "--", "sh", "-c", "echo $$"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), id.to_string());
}

#[test]
fn the_password_is_in_no_argument_list() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let output = test
        .command()
        .args(["exec", "--", "sh", "-c", "cat /proc/$$/cmdline; printf '|%s' \"$PGPASSWORD\""])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (cmdline, password) = text.rsplit_once('|').unwrap();
    assert!(password.len() > 100 && !cmdline.contains(&password[..20]));
}

#[test]
fn no_lock_and_no_open_file_is_left_to_the_child() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let open = |command: &mut std::process::Command| {
        let output = command.arg("/proc/self/fd").stdin(std::process::Stdio::null()).output();
        String::from_utf8(output.unwrap().stdout).unwrap().lines().count()
    };
    let alone = open(&mut std::process::Command::new("ls"));
    assert_eq!(open(test.command().args(["exec", "--", "ls"])), alone);
}
