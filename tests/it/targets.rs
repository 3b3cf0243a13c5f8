//! Targets that are neither `.pgpass` nor a file: a profile in `.databrickscfg`, and a Databricks
//! secret.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::support::{HOUR, Outcome, Test, has, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, PAT, Workspace};

const GET_PATH: &str = "/api/2.0/secrets/get";
const PUT_PATH: &str = "/api/2.0/secrets/put";
const CREATE_PATH: &str = "/api/2.0/secrets/scopes/create";

/// Profiles of other programs, byte for byte.
const OTHERS: &str =
    "; mine\r\n[work]\r\nhost = https://w\r\ntoken: t # why\r\n\r\n[agents-2]\r\nhost=x";

fn file(test: &Test) -> String {
    fs::read_to_string(test.home.path().join(".databrickscfg")).unwrap()
}

fn value(file: &str, key: &str) -> String {
    let line = file.lines().rev().find(|line| line.starts_with(key)).unwrap();
    line.split_once(" = ").unwrap().1.to_owned()
}

#[track_caller]
fn says(outcome: &Outcome, words: &str) {
    assert!(outcome.code == 0 && outcome.stdout.contains(words), "{words}: {outcome:?}");
}

#[test]
fn a_profile_is_added_changed_and_removed_and_no_other_byte_changes() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let path = test.write(".databrickscfg", OTHERS);
    let wrote = test.run("write databrickscfg --to agents");
    says(&wrote, &format!("wrote profile agents in {}: subject {CLIENT_ID}", path.display()));
    let written = file(&test);
    let ours = written.strip_prefix(OTHERS).unwrap();
    assert!(ours.starts_with("\r\n\r\n[agents]\r\n# kept by lakebase-token"), "{ours}");
    assert_eq!(value(ours, "host"), workspace.url);
    assert_eq!(value(ours, "token"), test.run("--for workspace").token());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    says(&test.run("write databrickscfg --to agents"), "unchanged profile agents");
    assert_eq!(file(&test), written);
    // A key that the user has added stays.
    fs::write(&path, format!("{written}cluster_id = c\r\n")).unwrap();
    test.pass(HOUR);
    says(&test.run("write databrickscfg --to agents"), "wrote profile agents");
    let again = file(&test);
    assert!(again.starts_with(OTHERS) && again.ends_with("cluster_id = c\r\n"));
    assert_ne!(value(&again, "token"), value(&written, "token"));
    says(&test.run("write --remove databrickscfg --to agents"), "removed from profile agents");
    assert_eq!(file(&test), format!("{OTHERS}\r\n\r\n[agents]\r\ncluster_id = c\r\n"));
}

#[test]
fn programs_that_read_only_the_file_find_a_valid_token() {
    if !has("targets::programs_that_read_only_the_file", "python3") {
        return;
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    // Python's reader lets every profile inherit from DEFAULT; ours has its own values.
    test.write(".databrickscfg", "[DEFAULT]\nhost = https://w\nclient_id = c\nclient_secret = s\n");
    test.run("write databrickscfg --to agents");
    let script = "import configparser, os, sys\n\
                  c = configparser.ConfigParser()\n\
                  c.read(os.path.expanduser('~/.databrickscfg'))\n\
                  s = c['agents']\n\
                  print(s['host'], s['token'], s['auth_type'])";
    let mut python = Command::new("python3");
    let output = python.args(["-c", script]).env("HOME", test.home.path()).output().unwrap();
    let token = test.run("--for workspace").token();
    let read = String::from_utf8(output.stdout).unwrap();
    assert_eq!(read.trim(), format!("{} {token} pat", workspace.url));
    // lakebase-token reads the profile, too.
    for name in ["HOST", "CLIENT_ID", "CLIENT_SECRET"] {
        test.unset(&format!("DATABRICKS_{name}"));
    }
    assert_eq!(test.run("--for workspace --profile agents").token(), token);
    test.run("--profile agents").token();
}

#[test]
fn a_profile_of_another_program_stays() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let path = test.write(".databrickscfg", OTHERS);
    workspace.take_requests();
    for (line, words) in [
        ("write databrickscfg --to work", "profile work was not written by lakebase-token"),
        ("write databrickscfg", "target databrickscfg needs --to"),
        ("write databrickscfg --to [x]", "is not a valid profile name"),
        ("write databrickscfg --to __settings__", "is not a valid profile name"),
        ("write databrickscfg --to DEFAULT", "profile DEFAULT is used by every program"),
        ("write databrickscfg --to a -f json", "target databrickscfg is always in format raw"),
        ("write databrickscfg --to a --scope s", "does not take --scope"),
        ("write pgpass --to a", "target pgpass does not take --to"),
    ] {
        test.run(line).fails(2, &[words, "hint: "][..1 + usize::from(!words.contains("name"))]);
    }
    assert_eq!((file(&test).as_str(), workspace.take_requests().len()), (OTHERS, 0));
    test.run("write --remove databrickscfg --to work");
    assert_eq!(file(&test), OTHERS);
    // With --force: host and token are replaced, the rest stays.
    says(&test.run("write databrickscfg --to work --force"), "wrote profile work");
    let taken = file(&test);
    let kept = taken.contains("[work]\r\n# kept by lakebase-token");
    assert!(kept && taken.ends_with("\r\nhost=x"), "{taken:?}");
    assert_eq!(taken.matches("\nhost").count(), OTHERS.matches("\nhost").count());
    // The profile that the credentials come from would lose them.
    fs::write(&path, format!("[me]\nhost = {}\ntoken = {PAT}\n", workspace.url)).unwrap();
    for name in ["HOST", "CLIENT_ID", "CLIENT_SECRET"] {
        test.unset(&format!("DATABRICKS_{name}"));
    }
    let own = test.run("write databrickscfg -p me --to me --force");
    own.fails(2, &["profile me has the credentials", "hint: --to"]);
    // Only that one: another profile, and a scope of its name, are other targets.
    says(&test.run("write databrickscfg -p me --to other"), "wrote profile other");
    says(&test.run("write secret -p me --scope me --key k --create-scope"), "wrote secret me/k");
    // A file that cannot be parsed is not written.
    test.set("DATABRICKS_HOST", &workspace.url).set("DATABRICKS_TOKEN", PAT);
    fs::write(&path, "[a\nnonsense").unwrap();
    test.run("write databrickscfg --to a").fails(2, &["cannot read the profiles in", "line 1"]);
    assert_eq!(file(&test), "[a\nnonsense");
}

/// The secret as the workspace stores it.
fn secret(workspace: &Workspace, name: &str) -> Option<String> {
    let (scope, key) = name.split_once('/').unwrap();
    workspace.state().secrets.get(scope)?.get(key).cloned()
}

#[test]
fn a_secret_gets_the_current_credential_and_is_written_only_if_it_changes() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let line = "write secret --scope app --key pg";
    test.run(line).fails(4, &["there is no scope app", "hint: --create-scope"]);
    let wrote = test.run(&format!("{line} --create-scope"));
    says(&wrote, &format!("wrote secret app/pg: subject {CLIENT_ID}"));
    wrote.notes("must read it again for each connection");
    assert_eq!(secret(&workspace, "app/pg").unwrap(), test.run("").token());
    workspace.take_requests();
    says(&test.run(line), "unchanged secret app/pg");
    assert_eq!(workspace.take_requests(), [format!("GET {GET_PATH}")]);
    test.pass(HOUR);
    says(&test.run(line), "wrote secret app/pg");
    assert_eq!(secret(&workspace, "app/pg").unwrap(), test.run("").token());
    // A value that cannot be read is replaced only with --force.
    let words = "{\"error_code\":\"PERMISSION_DENIED\",\"message\":\"no READ\"}";
    let forbidden = Answer::Json(403, serde_json::from_str(words).unwrap());
    workspace.fault(GET_PATH, 1, forbidden.clone());
    test.run(line).fails(4, &["refused to read the secret", "no READ", "READ on the scope"]);
    workspace.fault(GET_PATH, 1, forbidden.clone());
    says(&test.run(&format!("{line} --force")), "wrote secret app/pg");
    workspace.fault(PUT_PATH, 1, forbidden);
    test.pass(HOUR);
    test.run(line).fails(4, &["refused to write the secret", "no READ"]);
    test.run(line);
    says(&test.run(&format!("{line} --remove")), "removed from secret app/pg");
    assert_eq!(secret(&workspace, "app/pg"), None);
    says(&test.run(&format!("{line} --remove")), "unchanged: no entry of ours");
    // Another process has created the scope in between.
    let missing = "{\"error_code\":\"RESOURCE_DOES_NOT_EXIST\",\"message\":\"no scope\"}";
    workspace.fault(PUT_PATH, 1, Answer::Json(404, serde_json::from_str(missing).unwrap()));
    workspace.take_requests();
    says(&test.run(&format!("{line} --create-scope")), "wrote secret app/pg");
    assert!(workspace.take_requests().contains(&format!("POST {CREATE_PATH}")));
    // A scope that cannot be created is an error. The code alone says that one is missing, too.
    let code = |code: &str| serde_json::json!({ "error_code": code, "message": "no scope" });
    let missing = || Answer::Json(400, code("RESOURCE_DOES_NOT_EXIST"));
    workspace.fault(GET_PATH, 1, missing());
    workspace.fault(PUT_PATH, 1, missing());
    workspace.fault(CREATE_PATH, 1, Answer::Json(403, code("PERMISSION_DENIED")));
    test.run(&format!("{line} --create-scope")).fails(4, &["refused to create the scope"]);
    workspace.fault(GET_PATH, 1, Answer::Json(404, code("")));
    says(&test.run(line), "wrote secret app/pg");
}

#[test]
fn a_secret_that_holds_no_token_stays() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let app = [("pg".to_owned(), "hunter2".to_owned())].into();
    workspace.state().secrets.insert("app".to_owned(), app);
    let line = "write secret --scope app --key pg";
    test.run(line)
        .fails(2, &["app/pg was not written by lakebase-token", "hint: another key, or --force"]);
    test.run(&format!("{line} --remove")).fails(2, &["app/pg stays: it was not written by"]);
    assert_eq!(secret(&workspace, "app/pg").unwrap(), "hunter2");
    // So do a personal access token, which we never write, and bytes that are no text.
    workspace.state().secrets.get_mut("app").unwrap().insert("pg".to_owned(), PAT.to_owned());
    test.run(line).fails(2, &["app/pg was not written by lakebase-token"]);
    test.run(&format!("{line} --remove")).fails(2, &["app/pg stays: it was not written by"]);
    let odd = Answer::Json(200, serde_json::from_str("{\"value\":\"/w==\"}").unwrap());
    workspace.fault(GET_PATH, 1, odd);
    test.run(line).fails(2, &["app/pg was not written by lakebase-token"]);
    says(&test.run(&format!("{line} --force")), "wrote secret app/pg");
    for (line, words) in [
        ("write secret --scope app", "target secret needs --key"),
        ("write secret --scope app --key a/b", "--key a/b is not valid"),
        ("write secret --scope app --key pg --then true", "target secret does not take --then"),
        ("write secret --scope app --key pg --for workspace", "target secret does not take --for"),
    ] {
        test.run(line).fails(2, &[words]);
    }
}

#[test]
fn a_watch_keeps_a_profile_or_a_secret_until_sigterm() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for (target, expected) in [
        ("databrickscfg --to agents", "wrote profile agents"),
        ("secret --scope app --key pg --create-scope", "wrote secret app/pg"),
    ] {
        let mut command = test.command();
        command.arg("watch").args(target.split(' ')).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = said.next().unwrap().unwrap();
        assert!(line.starts_with(expected), "{line}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}
