//! `watch`, as a process, until a signal ends it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
#[cfg(unix)]
use std::{
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    time::Duration,
};

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[cfg(unix)]
use super::stopwatch::Stopwatch;
use super::support::{Test, spawn, wait_for, workspace};
#[cfg(unix)]
use super::support::{is_root, not_run};
use crate::sandbox::server::Answer;
#[cfg(target_os = "linux")]
use crate::sandbox::workspace::MINT;
#[cfg(unix)]
use crate::sandbox::workspace::TOKEN;

fn start(test: &Test, words: &[&str]) -> Child {
    let mut command = test.command();
    spawn(command.args(["watch", "pgpass"]).args(words))
}

/// Sends a signal, at which the process must end within 100 ms; a busy machine gets ten times as long. Returns how
/// it ended.
#[cfg(unix)]
fn end(mut child: Child, signal: Signal) -> String {
    let stopwatch = Stopwatch::start();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap();
    stopwatch.assert_within(Duration::from_secs(1));
    status.to_string()
}

fn wait_for_pgpass(test: &Test) {
    let path = test.password_file();
    wait_for("the password file", || {
        fs::read(&path).is_ok_and(|text| !text.is_empty()).then_some(())
    });
}

#[cfg(unix)]
#[test]
fn it_writes_notifies_systemd_and_ends_on_a_signal() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let socket = test.home.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    test.set("NOTIFY_SOCKET", socket.to_str().unwrap());
    let notification = || {
        let mut buffer = [0; 100];
        let length = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };

    for (signal, how) in [(Signal::TERM, "signal: 15"), (Signal::INT, "signal: 2")] {
        let mut child = start(&test, &[]);
        assert_eq!(notification(), "READY=1");

        let output = BufReader::new(child.stdout.take().unwrap());
        let status = end(child, signal);
        assert!(status.starts_with(how), "{status}");
        assert_eq!(notification(), "STOPPING=1");

        let lines: Vec<String> = output.lines().map(|line| line.unwrap()).collect();
        let first = signal == Signal::TERM;
        assert_eq!(lines.len(), usize::from(first), "one line for each change: {lines:?}");
        assert!(!first || lines[0].starts_with("wrote "));
    }
}

#[cfg(unix)]
#[test]
fn it_ends_at_once_during_a_request_and_during_a_hook() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    workspace.fault("/oidc", 1, Answer::Hang(Duration::from_secs(30)));
    let child = start(&test, &[]);
    wait_for("a request", || (workspace.count(TOKEN) > 0).then_some(()));
    let status = end(child, Signal::TERM);
    assert!(status.starts_with("signal: 15"), "{status}");

    let then = "echo $$ >\"$HOME/pid.tmp\"; mv \"$HOME/pid.tmp\" \"$HOME/pid\"; sleep 30";
    let child = start(&test, &["--then", then]);
    let pid = test.home.path().join("pid");
    let hook = wait_for("the hook", || fs::read_to_string(&pid).ok());
    let status = end(child, Signal::TERM);
    assert!(status.starts_with("signal: 15"), "{status}");

    let alive = format!("/proc/{}/comm", hook.trim());
    wait_for("the end of the hook", || (!fs::exists(&alive).unwrap()).then_some(()));
}

#[cfg(unix)]
#[test]
fn it_ends_as_process_one_of_a_container_too() {
    if !is_root() {
        return not_run("watch::it_ends_as_process_one", "only root can make a process 1");
    }
    let workspace = workspace();
    let test = Test::at(&workspace);

    let tool = test.command().get_program().to_owned();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child"]).arg(tool).args(["watch", "pgpass"]);
    command.env_clear().envs(test.env.clone()).stdout(Stdio::null());
    let mut outer = command.spawn().unwrap();

    wait_for_pgpass(&test);
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let first: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let stopwatch = Stopwatch::start();
    kill_process(Pid::from_raw(first).unwrap(), Signal::TERM).unwrap();

    let status = outer.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    stopwatch.assert_within(Duration::from_secs(1));
}

#[test]
fn a_failure_is_reported_and_retried_soon() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let down = Answer::Json(503, json!({ "error_code": "TEMPORARILY_UNAVAILABLE" }));
    workspace.fault("/oidc", 3, down);
    let mut child = start(&test, &[]);
    wait_for_pgpass(&test);

    child.kill().unwrap();
    let output = BufReader::new(child.stderr.take().unwrap());
    let lines: Vec<String> = output.lines().map(|line| line.unwrap()).collect();
    child.wait().unwrap();

    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("lakebase-token: note: ")
            && lines[0].contains("the next check is in ")
    );
}

#[cfg(unix)]
#[test]
fn a_mistake_at_the_start_is_an_error_and_not_retried() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for (line, words) in [
        ("watch pgpass --interval 1s", "1m and 30m"),
        ("watch pgpas", "unknown target: pgpas"),
        ("watch pgpass --client-secret-file -", "can be read once"),
        ("watch pgpass --client-secret-file /dev/fd/63", "can be read once"),
        ("watch pgpass --ttl 5m", "is too short for a check interval"),
        ("watch file", "target file needs a path"),
    ] {
        test.run(line).fails(2, &[words]);
    }

    // Neither a folder nor a missing folder passes by itself.
    let folder = test.home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    test.run(&format!("watch file {}", folder.display())).fails(1, &["it is a folder"]);
    test.run("watch file /nowhere/x").fails(1, &["hint: mkdir -p /nowhere"]);
    assert!(workspace.take_requests().is_empty());

    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong");
    test.run("watch pgpass").fails(4, &["invalid_client"]);
}

#[cfg(unix)]
#[test]
fn a_supervisor_that_does_not_read_cannot_delay_the_end() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let socket = test.home.path().join("notify");
    let _supervisor = UnixDatagram::bind(&socket).unwrap();

    // Fills the queue of the socket, so that a blocking send would wait for ever.
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"x", &socket).is_ok() {}
    test.set("NOTIFY_SOCKET", socket.to_str().unwrap());

    let child = start(&test, &[]);
    wait_for_pgpass(&test);
    let status = end(child, Signal::TERM);
    assert!(status.starts_with("signal: 15"), "{status}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_hook_that_cannot_be_started_is_run_again_next_time() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    // Longer than any argument may be (execve(2), MAX_ARG_STRLEN).
    let then = |line: String| -> Vec<std::ffi::OsString> {
        ["write".into(), "pgpass".into(), "--then".into(), line.into()].to_vec()
    };
    let too_long = format!("touch \"$HOME/done\" # {}", "x".repeat(200_000));
    for _ in 0..2 {
        let outcome = test.run_args(&then(too_long.clone()));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let words =
            ["the command of --then failed", "Argument list too long", "is written", "next time"];
        assert!(words.iter().all(|words| outcome.stderr.contains(words)), "{outcome:?}");
        assert!(!outcome.stderr.contains("xxx"), "the command may hold a secret");
    }
    assert_eq!(workspace.count(MINT), 1);

    let outcome = test.run_args(&then("touch \"$HOME/done\"".to_owned()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(test.home.path().join("done").exists());
}
