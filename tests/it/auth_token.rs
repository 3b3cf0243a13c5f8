//! `auth token` (`integrations/sdk`): Databricks' SDKs for Go and Python get their tokens from us, as from the
//! Databricks CLI.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::differential;
use super::login::{logged_in, person};
use super::official_sdk;
use super::support::{Test, executable, has, not_run, repository, spawn, workspace};
use crate::sandbox::workspace::*;

/// A person who has logged in with us, and whose SDKs ask us.
fn person_with_sdks(workspace: &Workspace) -> Test {
    let mut test = logged_in(workspace);
    test.set("DATABRICKS_CLI_PATH", executable().to_str().unwrap());
    workspace.take_requests();
    test
}

/// The token that an answer has.
#[track_caller]
fn answered(text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer["token_type"], "Bearer");
    let expiry = answer["expiry"].as_str().unwrap();
    assert!(expiry.ends_with('Z') && expiry.len() == 20, "{expiry}");
    answer["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn the_answer_is_the_workspace_token_and_forced_refreshes_share_one() {
    let workspace = workspace();
    let test = person_with_sdks(&workspace);
    let url = workspace.url.clone();
    let token = test.run("--for workspace").token();
    for line in ["", "--force-refresh", "--account-id 0b1f4c39-0000-4000-8000-000000000001"] {
        let printed = test.run(&format!("auth token --host {url} {line}")).token();
        assert_eq!(answered(&printed), token, "{line}");
    }
    assert_eq!(workspace.count(TOKEN), 0);

    // A token that is about to expire is replaced once.
    workspace.state().token_life = 6;
    assert_eq!(test.run("login").code, 0);
    workspace.state().token_life = 3600;
    workspace.take_requests();
    let line = format!("auth token --host {url} --force-refresh");
    let next = answered(&test.run(&line).token());
    assert_ne!(next, token);
    assert_eq!(answered(&test.run(&line).token()), next);
    assert_eq!(workspace.count(TOKEN), 1);

    // A profile that the Databricks CLI wrote.
    let profile = format!("[work]\nhost = {url}\nauth_type = databricks-cli\n");
    test.write(".databrickscfg", &profile);
    assert_eq!(answered(&test.run("auth token --profile work").token()), next);
    // A service principal's token has the same form.
    let mut principal = Test::at(&workspace);
    let printed = principal.run(&format!("auth token --host {url}")).token();
    answered(&printed);
    principal.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    principal.set("DATABRICKS_TOKEN", PAT);
    principal.run(&format!("auth token --host {url}")).fails(2, &["no expiry", "DATABRICKS_TOKEN"]);
}

#[test]
fn the_sdks_are_told_in_their_words_that_there_is_no_login() {
    let workspace = workspace();
    let mut test = person(&workspace);
    let line = format!("auth token --host {}", workspace.url);
    for auth_type in ["", "databricks-cli"] {
        test.set("DATABRICKS_AUTH_TYPE", auth_type);
        test.set("DATABRICKS_CLI_PATH", executable().to_str().unwrap());
        test.run(&line).fails(
            3,
            &[
                "there is no login for",
                "databricks OAuth is not configured for this host",
                &format!("hint: lakebase-token login --host {}", workspace.url),
            ],
        );
    }
    test.write(".databrickscfg", &format!("[work]\nhost = {}\n", workspace.url));
    test.run("auth token --profile work").fails(3, &["hint: lakebase-token login --profile work"]);
    test.run("auth").fails(2, &["lakebase-token auth token"]);
    test.run("auth login").fails(2, &["hint: lakebase-token login"]);
    test.run("auth token --profile none").fails(2, &["none"]);
}

/// The Databricks CLI, which an SDK takes us for, sends no inherited client secret to the host that is named.
#[test]
fn a_secret_beside_another_inherited_host_is_not_sent_to_the_one_that_an_sdk_names() {
    let (workspace, other) = (workspace(), workspace());
    let test = Test::at(&other);
    let line = format!("auth token --host {}", workspace.url);
    test.run(&line).fails(3, &["databricks OAuth is not configured for this host"]);
    assert!(workspace.take_requests().is_empty());
    // Without that host, or beside the same one, it is this host's.
    let mut test = Test::at(&workspace);
    assert_eq!(test.run(&line).code, 0);
    assert_eq!(test.unset("DATABRICKS_HOST").run(&line).code, 0);
}

#[test]
fn the_version_is_the_databricks_clis_only_for_sdks() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let own = format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(test.run("version").stdout, own);
    test.set("DATABRICKS_CLI_PATH", "/bin/sh");
    assert_eq!(test.run("version").stdout, own);
    test.set("DATABRICKS_CLI_PATH", executable().to_str().unwrap());
    assert_eq!(test.run("version").stdout, "Databricks CLI v0.296.0\n");
    assert_eq!(test.run("--version").stdout, "Databricks CLI v0.296.0\n");
    let version: Value = serde_json::from_str(&test.run("version --output json").stdout).unwrap();
    assert_eq!((&version["Major"], &version["Minor"]), (&Value::from(0), &Value::from(296)));
    // The SDKs take a smaller file for the old CLI.
    assert!(executable().metadata().unwrap().len() > 1024 * 1024);
}

#[test]
fn a_databricks_that_runs_us_is_a_clear_error_and_no_circle() {
    let workspace = workspace();
    // We are the CLI by link, and by a script.
    let mut test = person(&workspace);
    let folder = test.home.path().join("bin");
    symlink(executable(), folder.join("databricks")).unwrap();
    let line = format!("auth token --host {} --force-refresh", workspace.url);
    test.run(&line).fails(3, &["databricks OAuth is not configured for this host"]);
    test.run("").fails(2, &["no Databricks identity is configured"]);

    std::fs::remove_file(folder.join("databricks")).unwrap();
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", executable().display());
    test.program("databricks", &script);
    for line in [line.as_str(), ""] {
        test.run(line).fails(
            2,
            &[
                "lakebase-token and the Databricks CLI call each other",
                "hint: lakebase-token login",
            ],
        );
    }

    // The real CLI is found behind us.
    test.set("DATABRICKS_CLI_PATH", executable().to_str().unwrap());
    let token = workspace.signer.sign(USER, crate::sandbox::jwt::Scope::Workspace, 3600, 0);
    let expiry = "2030-01-01T00:00:00Z";
    test.program(
        "databricks",
        &format!(
            "#!/bin/sh\necho '{{\"access_token\": \"{token}\", \"token_type\": \"Bearer\", \"expiry\": \"{expiry}\"}}'\n"
        ),
    );
    assert_eq!(answered(&test.run(&line).token()), token);
}

/// The official SDKs, each as a command that asks a workspace for its own user name.
fn sdks(test: &str) -> Vec<(&'static str, Vec<PathBuf>)> {
    let mut sdks = Vec::new();
    if has(test, "go") {
        match differential::go("ask") {
            Ok(ask) => sdks.push(("Go", vec![PathBuf::from(ask.get_program())])),
            Err(why) => not_run(test, &format!("no SDK for Go: {why}")),
        }
    }
    match official_sdk::python() {
        Ok(python) => {
            sdks.push(("Python", vec![python, repository().join("tests/it/differential/ask.py")]));
        }
        Err(why) => not_run(test, &format!("no SDK for Python: {why}")),
    }
    sdks
}

fn start(test: &Test, words: &[PathBuf], variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().envs(test.env.iter().cloned());
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    spawn(&mut command)
}

#[track_caller]
fn said(name: &str, output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_sdks_for_go_and_python_refresh_through_two_expiries() {
    let name = "auth_token::the_sdks";
    let workspace = workspace();
    for (sdk, words) in sdks(name) {
        for selector in ["host", "profile"] {
            // Each request comes after the last token has expired: one that came in its last instant
            // could arrive too late.
            workspace.state().token_life = 1;
            let mut test = person_with_sdks(&workspace);
            std::thread::sleep(std::time::Duration::from_secs(1));
            workspace.state().token_life = 4;
            if selector == "profile" {
                let profile =
                    format!("[work]\nhost = {}\nauth_type = databricks-cli\n", workspace.url);
                test.write(".databrickscfg", &profile);
                test.unset("DATABRICKS_HOST").set("DATABRICKS_CONFIG_PROFILE", "work");
            } else {
                test.set("DATABRICKS_AUTH_TYPE", "databricks-cli");
            }
            let output = start(&test, &words, &[("TIMES", "3")]).wait_with_output().unwrap();
            workspace.state().token_life = 3600;
            let text = said(&format!("{sdk} by {selector}"), &output);
            assert_eq!(text.matches(USER).count(), 3, "{sdk}: {text}");
            assert!(workspace.count(TOKEN) >= 3, "{sdk}: {:?}", workspace.take_requests());
        }
    }
}

#[test]
fn fifty_sdk_processes_at_once_cause_one_refresh() {
    let name = "auth_token::fifty_sdk_processes";
    let workspace = workspace();
    for (sdk, words) in sdks(name) {
        // Each process of Python's takes a second of CPU to start.
        let count = if sdk == "Go" { 50 } else { 10 };
        let mut test = person_with_sdks(&workspace);
        test.set("DATABRICKS_AUTH_TYPE", "databricks-cli");
        // The login's first token has a second left, so all of them need another one.
        workspace.state().token_life = 1;
        assert_eq!(test.run("login").code, 0);
        workspace.state().token_life = 3600;
        std::thread::sleep(std::time::Duration::from_secs(1));
        workspace.take_requests();
        let children: Vec<Child> = (0..count).map(|_| start(&test, &words, &[])).collect();
        for child in children {
            let text = said(sdk, &child.wait_with_output().unwrap());
            assert!(text.contains(USER), "{sdk}: {text}");
        }
        assert_eq!(workspace.count(TOKEN), 1, "{sdk}");
        // The login is still valid.
        test.unset("DATABRICKS_AUTH_TYPE").run("--for workspace --refresh").token();
    }
}

#[test]
fn a_failing_helper_is_shown_by_the_sdks_and_no_token_is_in_their_words() {
    let name = "auth_token::a_failing_helper";
    let workspace = workspace();
    for (sdk, words) in sdks(name) {
        let mut test = person_with_sdks(&workspace);
        test.set("DATABRICKS_AUTH_TYPE", "databricks-cli");
        assert_eq!(test.run("logout").code, 0);
        let output = start(&test, &words, &[]).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("eyJ"), "{sdk}: {said}");
        // The SDK for Python only says that the auth type is not configured.
        if sdk == "Go" {
            assert!(said.contains("there is no login for"), "{sdk}: {said}");
        }
    }
}
