//! `cargo run --example sandbox`: its help, and that it ends all that it has started.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{example, not_run, wait_for};
use crate::sandbox::postgres::binaries;

/// The command lines of all processes that were started in this folder's sandbox: each inherits the
/// variable.
fn processes_of(folder: &Path) -> Vec<String> {
    let variable = format!("TMPDIR={}", folder.display());
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|pid| pid.path());
    let read = |pid: &Path, name: &str| fs::read_to_string(pid.join(name)).unwrap_or_default();
    let is_ours = |pid: &PathBuf| read(pid, "environ").split('\0').any(|pair| pair == variable);
    pids.filter(is_ours).map(|pid| read(&pid, "cmdline")).collect()
}

#[test]
fn it_has_a_help_and_refuses_other_flags() {
    let example = example("sandbox");
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
    if binaries().is_none() {
        return not_run("demonstration::a_signal", "PostgreSQL is not installed");
    }
    let example = example("sandbox");
    let start = |command: &str| -> (tempfile::TempDir, Child) {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(&example)
            .args(["--", "sh", "-c", command])
            .env("TMPDIR", folder.path())
            .env("STARTED", folder.path().join("started"))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        (folder, child)
    };
    // A command that ignores the hangup, and one that has started others.
    let stubborn = ("trap '' HUP; touch $STARTED; sleep 1000", 1);
    let several = ("sh -c 'sleep 1000; :' & touch $STARTED; sleep 1000 | cat", 4);
    for (signal, (command, count)) in
        [(Signal::TERM, several), (Signal::INT, several), (Signal::HUP, stubborn)]
    {
        let (folder, mut child) = start(command);
        wait_for("the command", || folder.path().join("started").exists().then_some(()));
        let sleeping = || processes_of(folder.path()).iter().any(|line| line.contains("1000"));
        wait_for("its processes", || sleeping().then_some(()));
        let processes = processes_of(folder.path());
        assert!(processes.iter().any(|line| line.contains("postgres")), "{processes:?}");
        assert!(processes.len() > count, "{processes:?}");

        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal.as_raw()), "{signal:?}");
        wait_for("no process", || processes_of(folder.path()).is_empty().then_some(()));
        fs::remove_file(folder.path().join("started")).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
