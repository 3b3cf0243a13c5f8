//! Limits of a process (setrlimit(2)) and file systems that lack something: they cost the cache, or
//! the certainty after a power failure, not the credential.

use super::support::{Test, has, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::workspace::{USER, Workspace};

fn prepared(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.set("PATH", "/usr/bin:/bin");
    test
}

/// A program that prints a workspace token as the Databricks CLI does.
fn with_cli(workspace: &Workspace) -> Test {
    let mut test = prepared(workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    let token = workspace.signer.sign(USER, Scope::Workspace, 3600, 0);
    let expiry = test.now().plus(3_600_000);
    let answer =
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expiry":"{expiry}"}}"#);
    test.program("databricks", &format!("#!/bin/sh\nprintf '%s' '{answer}'\n"));
    let path = format!("{}/bin:/usr/bin:/bin", test.home.path().display());
    test.set("PATH", &path).set("DATABRICKS_AUTH_TYPE", "databricks-cli");
    test
}

#[test]
fn a_limit_costs_the_cache_and_not_the_credential() {
    let workspace = workspace();
    for limit in ["-f 0", "-f 1", "-n 16", "-s 512", "-c 0", "-l 0", "-d 200000", "-t 30"] {
        for test in [prepared(&workspace), with_cli(&workspace)] {
            // stdout is a pipe here: a file could not take the credential.
            let script = format!("ulimit {limit} && \"$0\" get -v");
            let output = test.shell(&script);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "ulimit {limit}: {:?} {said}", output.status);
            assert!(output.stdout.starts_with(b"eyJ"), "ulimit {limit}: {said}");
            let is_cached = !limit.starts_with("-f");
            assert_eq!(said.contains("not cached in "), !is_cached, "ulimit {limit}: {said}");
        }
    }
}

#[test]
fn a_target_under_a_limit_fails_with_its_reason_and_keeps_its_content() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let path = test.write("target", "old");
    let line = format!("ulimit -f 0 && \"$0\" write file {} --format raw --force", path.display());
    let output = test.shell(&line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "old");
}

#[test]
fn a_failed_sync_after_the_rename_is_a_note() {
    if !has("limits::what_took_effect", "strace") {
        return;
    }
    let workspace = workspace();
    for (fault, words) in [
        ("fsync:error=EINVAL:when=2", "is changed, but a power failure may undo that"),
        ("fsync:error=EIO:when=2", "is changed, but a power failure may undo that"),
        ("fchmod:error=EPERM", ""),
        (
            "fchmod:error=EPERM,fsync:error=EINVAL:when=2",
            "is changed, but a power failure may undo that",
        ),
    ] {
        let test = prepared(&workspace);
        let path = test.home.path().join("target");
        let injected: String =
            fault.split(',').map(|fault| format!(" -e inject={fault}")).collect();
        let script = format!(
            "exec strace -f -o \"$HOME/trace\"{injected} \"$0\" write file {} --format raw",
            path.display()
        );
        let output = test.shell(&script);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{fault}: {said}");
        assert!(said.contains(words), "{fault}: {said}");
        assert!(!words.is_empty() || said.is_empty(), "{fault}: {said}");
        let trace = std::fs::read_to_string(test.home.path().join("trace")).unwrap();
        for call in fault.split(',').map(|fault| fault.split(':').next().unwrap()) {
            let is_injected =
                |line: &str| line.contains(&format!("{call}(")) && line.contains("(INJECTED)");
            assert!(trace.lines().any(is_injected), "{fault}: {trace}");
        }
        assert!(std::fs::read_to_string(path).unwrap().starts_with("eyJ"), "{fault}");
    }
    // The content itself must be on the disk before the file is replaced.
    let test = prepared(&workspace);
    let path = test.write("target", "old");
    let script = format!(
        "exec strace -f -o /dev/null -e inject=fsync:error=EIO:when=1 \"$0\" write file {} \
         --format raw --force",
        path.display()
    );
    assert_eq!(test.shell(&script).status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "old");
}
