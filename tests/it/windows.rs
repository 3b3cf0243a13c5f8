//! The executable on Windows: files, locks, processes and paths, where Windows differs from Unix.
//!
//! They run on Windows and under Wine, which has mode bits in place of access control lists. Fake
//! command-line tools are batch files.

use std::fs;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::support::{SECOND, Test, started, wait_for, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, USER, Workspace};

/// Only reading is allowed to others, not even a rename (FILE_SHARE_READ).
const SHARE_READ: u32 = 1;

fn run(test: &Test, line: &str) -> Output {
    test.start(line).wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &str) {
    let stderr = text(&output.stderr);
    assert!(output.status.code() == Some(code) && stderr.contains(words), "{output:?}");
}

/// Writes a batch file and makes its folder, and Windows' own, the only ones on PATH.
fn batch(test: &mut Test, name: &str, lines: &str) -> PathBuf {
    let lines = format!("@echo off\r\n{}", lines.replace('\n', "\r\n"));
    let path = test.write(&format!("bin/{name}"), &lines);
    let system = format!(r"{}\system32", std::env::var("SystemRoot").unwrap());
    test.set("PATH", &format!("{};{system}", path.parent().unwrap().display()));
    path
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

#[test]
fn a_killed_minter_leaves_no_lock_behind() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let answer = json!({ "token": workspace.signer.sign("x", Scope::Database, 3600, 0) });
    let late = Answer::Late(Duration::from_secs(30), Box::new(Answer::Json(200, answer)));
    workspace.fault(MINT, 1, late);
    let mut minter = test.start("");
    wait_until("the minter has requested", || workspace.count(MINT) == 1);
    minter.kill().unwrap();
    minter.wait().unwrap();

    succeeds(&run(&test, "--timeout 20s"));
}

#[test]
fn a_file_that_others_may_read_is_no_cache() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = succeeds(&run(&test, ""));
    assert_eq!(succeeds(&run(&test, "")), first);

    for entry in test.entries() {
        // Wine has no icacls that does anything; there, a file that is made without care is open to all.
        let content = fs::read(&entry).unwrap();
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, content).unwrap();
        let grant = ["/grant", "*S-1-1-0:R"];
        let grant = started(|| Command::new("icacls").arg(&entry).args(grant).status());
        assert!(grant.success());
    }
    assert_ne!(succeeds(&run(&test, "")), first);
    assert_eq!(workspace.count(MINT), 2);
}

#[test]
fn a_reader_sees_a_whole_password_file_and_holds_up_a_writer_for_a_moment_only() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let file = test.home.path().join(r"settings\postgresql\pgpass.conf");
    succeeds(&run(&test, "write pgpass"));
    let line = fs::read_to_string(&file).unwrap();
    assert_eq!(line.split(':').count(), 5);

    let reader = thread::spawn({
        let file = file.clone();
        move || {
            for _ in 0..400 {
                let content = fs::read_to_string(&file).unwrap_or_default();
                let is_whole = content.ends_with('\n') && content.matches(":eyJ").count() == 1;
                assert!(is_whole, "{content:?}");
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    while !reader.is_finished() {
        succeeds(&run(&test, "write pgpass --refresh"));
    }
    reader.join().unwrap();

    let mut options = fs::OpenOptions::new();
    let held = options.read(true).share_mode(SHARE_READ).open(&file).unwrap();
    let writer = test.start("write pgpass --refresh");
    thread::sleep(Duration::from_millis(700));
    drop(held);
    succeeds(&writer.wait_with_output().unwrap());
    assert_ne!(fs::read_to_string(&file).unwrap(), line);

    // A file that is read-only is updated and stays read-only.
    let set = |read_only: bool| {
        let mut permissions = fs::metadata(&file).unwrap().permissions();
        permissions.set_readonly(read_only);
        fs::set_permissions(&file, permissions).unwrap();
    };
    set(true);
    let before = fs::read_to_string(&file).unwrap();
    succeeds(&run(&test, "write pgpass --refresh"));
    assert_ne!(fs::read_to_string(&file).unwrap(), before);
    assert!(fs::metadata(&file).unwrap().permissions().readonly());
    set(false);
}

#[test]
fn writers_of_one_file_take_turns() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let file = test.write("pass", "# mine\nother:*:*:*:secret\n");
    let line = |n| format!("write pgpass --pgpass-file {} --pg-database d{n}", file.display());
    let children: Vec<Child> = (0..12).map(|n| test.start(&line(n))).collect();
    for child in children {
        succeeds(&child.wait_with_output().unwrap());
    }
    let content = fs::read_to_string(&file).unwrap();
    assert!(content.contains("# mine\n") && content.contains("other:*:*:*:secret\n"), "{content}");
    assert_eq!(content.matches(":eyJ").count(), 12, "{content}");
}

#[test]
fn exec_returns_what_its_child_returns() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    batch(&mut test, "tool.cmd", "echo %1 %PGUSER% %PGHOST%\nexit /b 300\n");
    let output = run(&test, "exec -- tool word");
    assert_eq!(output.status.code(), Some(300), "{output:?}");
    assert!(text(&output.stdout).starts_with("word "), "{output:?}");
    assert!(text(&output.stdout).contains("database."), "{output:?}");

    fails(&run(&test, "exec -- no-such-tool"), 127, "cannot run no-such-tool");
    // cmd.exe would take them for other commands, variables or words.
    for argument in ["a&calc", "a\"b", "50%", "a^b", "a\nb", "a\rb", "a|b", "a>b", "<a", "!a!"] {
        let mut command = test.command();
        command.args(["exec", "--", "tool", argument]);
        fails(&started(|| command.output()), 126, "cmd.exe would interpret");
    }
}

#[test]
fn a_setting_never_becomes_a_command_of_az_cmd() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    let ran = test.home.path().join("ran");
    // It answers each question alike.
    let token = workspace.signer.sign(USER, Scope::Workspace, 3600, 0);
    let answer = json!({
        "user": { "name": USER, "type": "user" }, "accessToken": token, "tenantId": "t",
        "expires_on": test.now().0 / SECOND + 3600,
    });
    let answer = test.write("answer.json", &answer.to_string());
    let lines = format!("echo %* >> \"{}\"\ntype \"{}\"\n", ran.display(), answer.display());
    batch(&mut test, "az.cmd", &lines);
    test.set("DATABRICKS_AUTH_TYPE", "azure-cli");
    test.set("DATABRICKS_AZURE_RESOURCE_ID", "/subscriptions/s");
    for tenant in ["a&calc", "a\"b", "%PATH%", "a^b", "a\nb"] {
        test.set("ARM_TENANT_ID", tenant);
        let output = run(&test, "--no-cache");
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let lines = fs::read_to_string(&ran).unwrap_or_default();
        assert!(!lines.contains("get-access-token"), "{tenant}: {lines}");
    }
    // With another tenant, az is run.
    test.set("ARM_TENANT_ID", "0e0e0e0e-1111-4222-8333-944444444444");
    let output = run(&test, "--no-cache");
    let lines = fs::read_to_string(&ran).unwrap_or_default();
    assert!(lines.contains("get-access-token"), "{output:?} {lines}");
}

#[test]
fn a_killed_exec_takes_its_child_along() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let out = test.home.path().join("out");
    batch(&mut test, "slow.cmd", &format!("ping -n 60 127.0.0.1 > \"{}\"\n", out.display()));
    let mut exec = test.start("exec -- slow");
    wait_until("the child has started", || out.exists());
    exec.kill().unwrap();
    exec.wait().unwrap();
    // While a process writes into a file, no other process can open it alone.
    let is_free = || fs::OpenOptions::new().write(true).share_mode(0).open(&out).is_ok();
    wait_until("the child has ended", is_free);
}

/// A person with the Databricks CLI, which prints a token after so many seconds.
fn databricks(test: &mut Test, workspace: &Workspace, seconds: u32) {
    let token = workspace.signer.sign(USER, Scope::Workspace, 3600, 0);
    let expiry = test.now().plus(3600 * SECOND);
    let answer =
        json!({ "access_token": token, "token_type": "Bearer", "expiry": expiry.to_string() });
    let answer = test.write("answer.json", &answer.to_string());
    let log = test.home.path().join("runs");
    let script = format!(
        "if \"%1\"==\"version\" (echo Databricks CLI v1.13.0& exit /b 0)\n\
         echo %* %DATABRICKS_CLUSTER_ID% >> \"{}\"\n\
         if not {seconds}==0 ping -n {} 127.0.0.1 > nul\n\
         type \"{}\"\n",
        log.display(),
        seconds + 1,
        answer.display()
    );
    batch(test, "databricks.cmd", &script);
}

#[test]
fn the_databricks_cli_is_found_and_run_once() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    databricks(&mut test, &workspace, 0);
    // Windows ignores the case of names.
    test.set("databricks_cluster_id", "seen-by-the-cli");
    let children: Vec<Child> = (0..8).map(|_| test.start("--timeout 50s")).collect();
    for child in children {
        succeeds(&child.wait_with_output().unwrap());
    }
    let runs = fs::read_to_string(test.home.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "{runs}");
    assert!(runs.contains("--host") && !runs.contains("seen-by-the-cli"), "{runs}");
}

#[test]
fn a_run_of_the_cli_keeps_its_lock_after_its_caller_has_ended() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    databricks(&mut test, &workspace, 8);
    fails(&run(&test, "--timeout 2s"), 5, "has not ended");
    // The run continues, and no other one begins meanwhile.
    fails(&run(&test, "--timeout 1s --no-cache"), 5, "has not ended");
    let runs = || fs::read_to_string(test.home.path().join("runs")).unwrap().lines().count();
    assert_eq!(runs(), 1, "{:?}", fs::read_to_string(test.home.path().join("runs")));
    succeeds(&run(&test, "--timeout 50s"));
    assert_eq!(runs(), 2);
}

#[test]
fn variables_are_found_whatever_their_case() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_HOST").set("databricks_host", &workspace.url);
    succeeds(&run(&test, ""));
}

#[test]
fn messages_are_those_of_windows() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "https://example.com").set("DATABRICKS_TOKEN", "dapi1");
    fails(&run(&test, "service install pgpass"), 2, "schtasks /Create");
    test.unset("USERPROFILE").set("DATABRICKS_CONFIG_PROFILE", "p").unset("DATABRICKS_HOST");
    fails(&run(&test, ""), 2, "USERPROFILE is not set");
}

#[test]
fn an_untrusted_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = crate::sandbox::Certificates::make(folder.path()).unwrap();
    let workspace = Workspace::start(Some(certificates.tls.clone())).unwrap();
    let mut test = Test::at(&workspace);
    fails(&run(&test, ""), 5, "certificate");
    test.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
    succeeds(&run(&test, ""));
}

#[test]
fn watch_writes_a_file_and_its_hook_runs() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let (file, mark) = (test.home.path().join("password"), test.home.path().join("hook"));
    let mut command = test.command();
    command.args(["watch", "file"]).arg(&file).arg("--then");
    command.arg(format!("echo done > \"{}\"", mark.display()));
    let mut watch = started(|| command.stdout(Stdio::null()).spawn());
    wait_until("the hook has run", || is_written(&mark));
    assert!(is_written(&file));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

fn is_written(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() > 0)
}
