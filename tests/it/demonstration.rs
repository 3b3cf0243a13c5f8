//! `cargo run --example sandbox`: its help, and that it ends all that it has started.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::machine::wait_for;
use crate::sandbox::postgres::binaries;

/// The example, built as this test is.
fn example() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--example", "sandbox"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    // This test is target/debug/deps/it-….
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/sandbox")
}

/// Process ids of all programs whose command line names this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let command_line = |pid: &Path| fs::read_to_string(pid.join("cmdline")).unwrap_or_default();
    pids.map(|pid| command_line(&pid.path())).filter(|line| line.contains(folder)).collect()
}

#[test]
fn it_has_a_help_and_refuses_other_flags() {
    let example = example();
    let run = |flag: &str| Command::new(&example).args(["--", flag]).output().unwrap();
    let help = run("--help");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("sandbox -- bash"));
    let refused = run("--port");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no flag --port"));
}

#[test]
fn a_signal_ends_all_that_it_has_started() {
    let example = example();
    let start = |command: &str| -> (tempfile::TempDir, Child) {
        let folder = tempfile::tempdir().unwrap();
        let line = format!(": {}; {command}", folder.path().display());
        let child = Command::new(&example)
            .args(["--", "sh", "-c", &line])
            .env("TMPDIR", folder.path())
            .env("STARTED", folder.path().join("started"))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        (folder, child)
    };
    // A command that ignores the hangup, and one that has started others.
    let stubborn = "trap '' HUP; touch $STARTED; sleep 1000";
    let several =
        format!("{} & touch $STARTED; sleep 1000 | cat", "sh -c ': $STARTED; sleep 1000'");
    for (signal, command) in
        [(Signal::TERM, &*several), (Signal::INT, &several), (Signal::HUP, stubborn)]
    {
        let (folder, mut child) = start(command);
        wait_for("the command", || folder.path().join("started").exists().then_some(()));
        let servers = processes_of(folder.path());
        let servers = servers.iter().filter(|line| line.contains("postgres")).count();
        assert_eq!(servers > 0, binaries().is_some(), "{servers} servers");

        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal.as_raw()), "{signal:?}");
        wait_for("no process", || processes_of(folder.path()).is_empty().then_some(()));
        fs::remove_file(folder.path().join("started")).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
