//! Behaviour that needs real processes: many at once, killed ones that held a lock, full pipes and
//! disks, system calls.

#[cfg(unix)]
use std::fs;
#[cfg(unix)]
use std::process::Command;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use lakebase_token::platform::time::Timestamp;

use super::stopwatch::Stopwatch;
use super::support::{MINUTE, Test, started, workspace};
#[cfg(unix)]
use super::support::{executable, has, is_root, not_run};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN};

/// A process takes ten times as long to start under Wine.
const MANY: usize = if cfg!(windows) { 40 } else { 200 };

/// Starts processes at the same time. Returns the exit code, stdout and stderr of each.
fn run_many(test: &Test, count: usize, line: &str) -> Vec<(i32, String, String)> {
    let finish = |output: Output| {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    };
    test.start_many(count, line).into_iter().map(finish).collect()
}

#[track_caller]
fn all_equal(answers: &[(i32, String, String)]) {
    for answer in answers {
        assert_eq!((answer.0, answer.2.as_str()), (0, ""));
        assert_eq!(answer.1, answers[0].1);
    }
}

#[test]
fn many_processes_at_once_mint_once() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    all_equal(&run_many(&test, MANY, ""));
    assert_eq!(workspace.take_requests(), [format!("POST {TOKEN}"), format!("POST {MINT}")]);
}

#[test]
fn many_forced_refreshes_at_once_mint_once() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    workspace.take_requests();

    // The answer is so late that all processes have started before it.
    let token = workspace.signer.sign("me", Scope::Database, 3600, 0);
    let answer = Answer::Json(200, json!({ "token": token }));
    workspace.fault(MINT, 1, Answer::Late(Duration::from_secs(3), Box::new(answer)));
    all_equal(&run_many(&test, MANY, "--refresh"));
    assert_eq!(workspace.count(MINT), 1);
}

#[test]
fn many_processes_resolve_role_and_host_once() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT").unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("DATABRICKS_TOKEN", crate::sandbox::workspace::PAT);
    all_equal(&run_many(&test, 50, "-f json"));
    let requests = workspace.take_requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
}

#[test]
fn many_processes_share_one_new_token_after_a_refusal() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let token = test.run("--for workspace").token();
    workspace.state().revoked.push(token);
    workspace.take_requests();

    // Each process needs a credential of its own, so the workspace refuses the token to each.
    let start = |n: usize| {
        let mut command = test.command();
        command.args(["--ttl", &format!("{}s", 600 + n)]).stdout(Stdio::piped());
        started(|| command.spawn())
    };
    let children: Vec<Child> = (0..30).map(start).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(workspace.count(TOKEN), 1);
    assert!((31..=60).contains(&workspace.count(MINT)), "{}", workspace.count(MINT));
}

#[test]
fn only_one_process_waits_for_an_early_refresh() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let real = Timestamp::of_system();
    let answer =
        json!({ "token": "opaque0123", "expire_time": real.plus(15 * MINUTE).to_string() });
    workspace.fault(MINT, 1, Answer::Json(200, answer));
    test.set_clock(-45 * MINUTE); // as if the credential had been issued 45 minutes ago
    let first = test.run("").token();
    workspace.take_requests();
    workspace.fault(MINT, 99, Answer::Hang(Duration::from_secs(20)));

    let stopwatch = Stopwatch::start();
    let answers = run_many(&test, 40, "");
    stopwatch.assert_within(Duration::from_secs(10));
    assert!(answers.iter().all(|(code, stdout, _)| *code == 0 && stdout.trim_end() == first));
    assert_eq!(workspace.count(MINT), 1, "one process tries");
    let noted = answers.iter().filter(|(_, _, stderr)| stderr.contains("note")).count();
    assert_eq!(noted, 1, "only that process writes a note");
}

#[test]
fn a_lock_ends_with_its_process() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    workspace.fault(TOKEN, 1, Answer::Hang(Duration::from_secs(20)));
    let mut holder =
        started(|| test.command().args(["--timeout", "20s"]).stdout(Stdio::null()).spawn());
    while workspace.count(TOKEN) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }

    // Other processes wait for it until their deadline.
    let outcome = test.run("--timeout 300ms");
    outcome.fails(5, &["another lakebase-token process is still getting this credential"]);

    holder.kill().unwrap();
    holder.wait().unwrap();
    test.run("--timeout 2s").token();
}

#[test]
fn many_processes_share_a_failure_of_the_workspace() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let real = Timestamp::of_system();
    let answer = json!({ "token": "opaque0123", "expire_time": real.plus(5 * MINUTE).to_string() });
    workspace.fault(MINT, 1, Answer::Json(200, answer));
    test.set_clock(-55 * MINUTE); // as if the credential had been issued 55 minutes ago
    let first = test.run("").token();
    workspace.take_requests();
    workspace.fault(MINT, 999, Answer::Json(503, json!({ "message": "down" })));

    let answers = run_many(&test, MANY / 2, "");
    assert!(answers.iter().all(|(code, stdout, _)| *code == 0 && stdout.trim_end() == first));
    assert!(answers.iter().all(|(.., stderr)| stderr.contains("using the cached credential")));
    // A process that starts while another one tries shares its result. A try makes three requests.
    assert!(workspace.count(MINT) <= 12, "{}", workspace.count(MINT));

    // Without a cached credential, all processes fail with the same error.
    workspace.take_requests();
    let answers = run_many(&test, MANY / 2, "--ttl 10m");
    assert!(answers.iter().all(|(code, stdout, stderr)| {
        *code == 5 && stdout.is_empty() && stderr.contains("HTTP status 503")
    }));
    assert!(workspace.count(MINT) <= 12, "{}", workspace.count(MINT));
}

#[test]
fn a_process_that_runs_out_of_time_does_not_fail_the_others() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    workspace.fault(TOKEN, 1, Answer::Hang(Duration::from_secs(20)));
    let short = test.start("--timeout 400ms");
    while workspace.count(TOKEN) == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let long = test.start("--timeout 20s");

    assert_eq!(short.wait_with_output().unwrap().status.code(), Some(5));
    let output = long.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_stdout_that_cannot_be_written_is_an_error() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    #[cfg(unix)]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = test.command().stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr.contains("cannot write to stdout") && stderr.contains("No space left"),
            "{stderr}"
        );
    }

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = test.command();
    command.stdout(writer).stderr(Stdio::piped());
    let output = started(|| command.spawn()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_only_the_cache_is_lost() {
    if !is_root() {
        return not_run(
            "process::on_a_full_disk_only_the_cache_is_lost",
            "only root can mount a small disk",
        );
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let disk = test.home.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4k,nr_inodes=4,mode=0700", "tmpfs"])
        .arg(&disk)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return not_run(
            "process::on_a_full_disk_only_the_cache_is_lost",
            "this root may not mount",
        );
    }

    fs::write(disk.join("ballast"), [0; 4096]).unwrap();
    test.set("LAKEBASE_TOKEN_CACHE", disk.to_str().unwrap());
    let first = test.run("").token();
    let second = test.run("").token();
    let left: Vec<String> = fs::read_dir(&disk)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    Command::new("umount").arg(&disk).status().unwrap();

    assert_ne!(first, second);
    assert_eq!(left, ["ballast"], "no half-written file is left");
}

#[cfg(unix)]
#[test]
fn the_cache_is_in_the_xdg_folder() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let caches = test.home.path().join("caches");
    test.set("XDG_CACHE_HOME", caches.to_str().unwrap());
    assert!(test.command().output().unwrap().status.success());
    assert!(caches.join("lakebase-token").is_dir() && !test.cache_folder().exists());

    // A relative path must be ignored (XDG Base Directory Specification).
    test.set("XDG_CACHE_HOME", "caches");
    assert!(test.command().current_dir(test.home.path()).output().unwrap().status.success());
    assert!(test.cache_folder().is_dir());
}

#[cfg(unix)]
#[test]
fn in_a_read_only_home_only_the_cache_is_lost() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    // Modes do not restrict root, but in this folder no process can create another one.
    test.set("HOME", "/proc/self");
    let output = test.command().output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[cfg(unix)]
#[test]
fn a_cache_hit_opens_one_file_and_no_socket() {
    if !has("process::a_cache_hit_opens_one_file", "strace") {
        return;
    }
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.command().output().unwrap();
    assert!(first.status.success());

    let trace = test.home.path().join("trace");
    let traced = Command::new("strace")
        .arg("-f")
        .arg("-o")
        .arg(&trace)
        .arg(executable())
        .env_clear()
        .envs(test.env.iter().cloned())
        .output()
        .unwrap();
    assert_eq!(traced.stdout, first.stdout);
    let calls = fs::read_to_string(trace).unwrap();
    assert!(!calls.contains("socket(") && !calls.contains("flock("), "{calls}");
    let home = test.home.path().to_str().unwrap();
    let opened = calls.lines().filter(|line| line.contains("open") && line.contains(home)).count();
    assert_eq!(opened, 1, "{calls}");
}

#[cfg(unix)]
#[test]
fn new_files_are_private_from_the_start() {
    if !has("process::new_files_are_private", "strace") {
        return;
    }
    let workspace = workspace();
    let test = Test::at(&workspace);
    let trace = test.home.path().join("trace");
    let line = format!(
        "umask 0; exec strace -f -y -e trace=open,openat,mkdir,mkdirat,chmod,fchmod -o '{}' '{}'",
        trace.display(),
        executable().display()
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).env_clear().envs(test.env.iter().cloned());
    assert!(shell.output().unwrap().status.success());
    let calls = fs::read_to_string(trace).unwrap();
    let home = test.home.path().to_str().unwrap();
    let created: Vec<&str> =
        calls.lines().filter(|line| line.contains(home) && line.contains("O_CREAT")).collect();
    assert!(created.len() >= 4, "{calls}");
    for line in &created {
        assert!(line.contains("0600") && line.contains("O_NOFOLLOW"), "{line}");
        assert!(line.contains(".lock") || line.contains("O_EXCL"), "{line}");
    }
    assert!(calls.lines().filter(|line| line.contains("mkdir")).all(|line| line.contains("0700")));
    assert!(!calls.contains("chmod"), "{calls}");
}
