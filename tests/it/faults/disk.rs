//! Disks that fail: every system call on a file, each in turn, with every error that disks and their
//! permissions know (injected by strace), and entries that were harmed in every way. A credential
//! or a clear failure; no place is left half-written; the next call is healed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Class, holds, is_campaign, times};
use crate::sandbox::jwt::Scope;
use crate::sandbox::workspace::Workspace;
use crate::support::{Dice, Test, executable, has, is_root, say_not_run, workspace};

const ERRORS: [&str; 5] = ["ENOSPC", "EROFS", "EACCES", "EIO", "EDQUOT"];

/// What belongs to no file, or whose failure says nothing about a disk.
const OTHERS: [&str; 9] =
    ["close", "poll", "ioctl", "fcntl", "execve", "exit_group", "connect", "recvfrom", "sendto"];

/// One thing to do, and the surroundings it is done in.
struct Job {
    name: &'static str,
    args: &'static [&'static str],
    /// What is there before.
    prepare: fn(&Test),
    /// The file that others read, if it is about one, and whether a text is what it may hold.
    place: Option<Place>,
}

/// A file's name, and what it may hold.
type Place = (&'static str, fn(&str, &Workspace) -> bool);

const OTHER_LINE: &str = "# mine\nother:5432:db:me:hunter2\n";

fn holds_a_credential(text: &str, workspace: &Workspace) -> bool {
    let words = text.split(|c: char| c.is_whitespace() || c == ':' || c == '=');
    words.clone().any(|word| workspace.signer.check(word, Scope::Database).is_ok())
        || words.clone().any(|word| workspace.signer.check(word, Scope::Workspace).is_ok())
}

const JOBS: [Job; 5] = [
    Job { name: "get on an empty cache", args: &[], prepare: |_| (), place: None },
    Job {
        name: "get --refresh",
        args: &["--refresh"],
        prepare: |test| drop(test.run("").token()),
        place: None,
    },
    Job {
        name: "write pgpass",
        args: &["write", "pgpass", "--pg-host", "db.example", "--pg-user", "me"],
        prepare: |test| {
            let path = test.write(".pgpass", OTHER_LINE);
            set_mode(&path, 0o600);
        },
        place: Some((".pgpass", |text, workspace| {
            let rest = text.strip_prefix(OTHER_LINE);
            rest.is_some_and(|rest| rest.is_empty() || holds_a_credential(rest, workspace))
        })),
    },
    Job {
        name: "write file",
        args: &["write", "file", "token"],
        prepare: |_| (),
        place: Some(("token", holds_a_credential)),
    },
    Job {
        name: "write databrickscfg",
        args: &["write", "databrickscfg", "--to", "fresh"],
        prepare: |test| {
            let path = test.write(".databrickscfg", "[mine]\nhost = https://x.example\n");
            set_mode(&path, 0o600);
        },
        place: Some((".databrickscfg", |text, workspace| {
            let rest = text.strip_prefix("[mine]\nhost = https://x.example\n");
            rest.is_some_and(|rest| rest.is_empty() || holds_a_credential(rest, workspace))
        })),
    },
];

fn traced(test: &Test, options: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(executable()).args(args);
    command.env_clear().envs(test.env.iter().cloned()).current_dir(test.home.path());
    command.stdin(Stdio::null()).output().unwrap()
}

/// The system calls on files, by name and number, of a run that goes well. What the dynamic loader
/// does before the program begins is none of ours.
fn calls(workspace: &Workspace, job: &Job) -> Vec<(String, usize)> {
    let test = Test::at(workspace);
    (job.prepare)(&test);
    let trace = test.home.path().join("trace");
    let output =
        traced(&test, &["-o", trace.to_str().unwrap(), "-e", "trace=%file,%desc"], job.args);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&trace).unwrap();
    let home = test.home.path().to_str().unwrap();
    let begins = text.lines().position(|line| line.contains(home)).unwrap();
    let mut seen: Vec<(String, usize)> = Vec::new();
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let name = line.split_whitespace().nth(1).and_then(|call| call.split_once('('));
        let Some((name, _)) = name else { continue };
        let is_ours = n >= begins && !OTHERS.contains(&name) && !line.contains("MAP_ANONYMOUS");
        match seen.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => seen.push((name.to_owned(), 1)),
        }
        let count = seen.iter().find(|(known, _)| known == name).unwrap().1;
        if is_ours && !name.starts_with("mm") {
            all.push((name.to_owned(), count));
        }
    }
    all
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[test]
fn no_failing_call_costs_more_than_the_call() {
    if !has("faults::disk", "strace") {
        return;
    }
    let mut dice = Dice(9);
    for job in JOBS {
        let workspace = workspace();
        let mut class = Class::new(format!("disk: {}", job.name));
        for (call, number) in calls(&workspace, &job) {
            // A campaign tries each error; else chance has it.
            let chosen = [dice.pick(&ERRORS)];
            for error in if is_campaign() { &ERRORS[..] } else { &chosen } {
                let test = Test::at(&workspace);
                (job.prepare)(&test);
                let inject = format!("inject={call}:error={error}:when={number}");
                let output = traced(
                    &test,
                    &["-o", "/dev/null", "-e", "trace=none", "-e", &inject],
                    job.args,
                );
                let removing = call.starts_with("unlink");
                let held = ended_well(&job, &test, &workspace, &output, removing);
                class.tried(&inject, held);
            }
        }
        class.end();
    }
}

/// `removing`: what was left behind could not be removed.
fn ended_well(
    job: &Job,
    test: &Test,
    workspace: &Workspace,
    output: &Output,
    removing: bool,
) -> Result<(), String> {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code();
    let is_get = job.name.starts_with("get");
    match code {
        Some(0) if is_get => {
            let right = workspace.signer.check(stdout.trim_end(), Scope::Database).is_ok();
            holds(right, || format!("printed {stdout:?}, {stderr}"))?;
        }
        Some(0) => {}
        Some(1 | 2 | 5) => {
            // Where stderr itself fails, nothing can be said.
            let clear = stderr.contains("lakebase-token: error: ") || stderr.is_empty();
            holds(stdout.is_empty() && clear, || format!("{code:?} {stdout:?} {stderr}"))?;
        }
        _ => return Err(format!("{code:?} {stdout:?} {stderr}")),
    }
    if let Some((name, may_hold)) = job.place {
        let path = test.home.path().join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let exists = path.exists();
        holds(!exists || may_hold(&text, workspace), || format!("{name} holds {text:?}"))?;
        holds(!exists || mode(&path) == 0o600, || format!("{name} has mode {:o}", mode(&path)))?;
        let done = code != Some(0) || holds_a_credential(&text, workspace);
        holds(done, || format!("{name} was not written: {stderr}"))?;
    }
    let again = test.command().args(job.args).current_dir(test.home.path()).output().unwrap();
    let healed = again.status.success()
        && (!is_get
            || workspace
                .signer
                .check(String::from_utf8_lossy(&again.stdout).trim_end(), Scope::Database)
                .is_ok());
    holds(healed, || format!("the next call: {}", String::from_utf8_lossy(&again.stderr)))?;
    let left: Vec<PathBuf> =
        fs::read_dir(test.home.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let known = [".cache", ".pgpass", ".databrickscfg", "token", "bin"];
    let is_known = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Lock files stay, or two processes would hold "the" lock.
        known.contains(&name) || name.ends_with(".lock") || removing && name.starts_with('.')
    };
    let stray = left.iter().find(|path| !is_known(path));
    holds(stray.is_none(), || format!("left behind: {stray:?}"))
}

#[test]
fn a_harmed_entry_is_a_miss_whatever_happened_to_it() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    let mut other = Test::at(&workspace);
    other
        .set("LAKEBASE_TOKEN_TTL", "10m")
        .set("LAKEBASE_TOKEN_CACHE", test.cache_folder().to_str().unwrap());
    let second = other.run("").token();
    let holding = |token: &str| {
        let entries = test.entries();
        entries.into_iter().find(|path| fs::read_to_string(path).unwrap().contains(token)).unwrap()
    };
    let (path, strange) = (holding(&first), fs::read(holding(&second)).unwrap());
    let entry = fs::read(&path).unwrap();
    let mut class = Class::new("disk: harmed entries");
    let mut check = |what: String, harmed: &[u8]| {
        fs::write(&path, harmed).unwrap();
        let outcome = test.run("--offline");
        let missed = outcome.code == 5 && outcome.stdout.is_empty();
        let same = outcome.code == 0 && outcome.stdout.trim_end() == first;
        let held = missed && harmed != entry || same && harmed == entry;
        class.tried(what, holds(held, || format!("{outcome:?}")));
    };
    let step = times(37, 1);
    for at in (0..entry.len() * 8).step_by(step) {
        let mut harmed = entry.clone();
        harmed[at / 8] ^= 1 << (at % 8);
        check(format!("bit {at}"), &harmed);
    }
    for length in (0..entry.len()).step_by(step) {
        check(format!("cut to {length}"), &entry[..length]);
        check(format!("cut off the first {length}"), &entry[entry.len() - length..]);
    }
    for at in (0..entry.len()).step_by(step) {
        // The beginning of one entry and the end of another.
        let at = at.min(strange.len());
        check(format!("torn at {at}"), &[&entry[..at], &strange[at..]].concat());
    }
    let mut dice = Dice(17);
    for n in 0..times(50, 5_000) {
        let mut harmed = entry.clone();
        for _ in 0..2 + dice.roll(6) {
            let at = dice.roll(harmed.len());
            harmed[at] = dice.roll(256) as u8;
        }
        check(format!("bytes, {n}"), &harmed);
    }
    check("another's".to_owned(), &strange);
    check("whole".to_owned(), &entry);
    class.end();
}

#[test]
fn what_others_planted_is_not_believed() {
    let mut class = Class::new("disk: planted entries and folders");
    type Plant = fn(entry: &Path, folder: &Path);
    let plants: [(&str, bool, Plant); 11] = [
        ("others may read it", false, |entry, _| set_mode(entry, 0o644)),
        ("the group may write it", false, |entry, _| set_mode(entry, 0o620)),
        ("a symbolic link", false, |entry, _| {
            let moved = entry.with_extension("moved");
            fs::rename(entry, &moved).unwrap();
            std::os::unix::fs::symlink(moved, entry).unwrap();
        }),
        ("a FIFO", false, |entry, _| {
            fs::remove_file(entry).unwrap();
            assert!(Command::new("mkfifo").arg(entry).status().unwrap().success());
            set_mode(entry, 0o600);
        }),
        ("a folder", false, |entry, _| {
            fs::remove_file(entry).unwrap();
            fs::create_dir(entry).unwrap();
        }),
        ("a socket", false, |entry, _| {
            fs::remove_file(entry).unwrap();
            std::os::unix::net::UnixListener::bind(entry).unwrap();
        }),
        ("a device", true, |entry, _| {
            fs::remove_file(entry).unwrap();
            let made = Command::new("mknod").arg(entry).args(["c", "1", "5"]).status();
            assert!(made.unwrap().success());
            set_mode(entry, 0o600);
        }),
        ("of another user", true, |entry, _| {
            std::os::unix::fs::chown(entry, Some(65_534), None).unwrap()
        }),
        ("endless", false, |entry, _| {
            fs::File::options().write(true).open(entry).unwrap().set_len(1 << 40).unwrap()
        }),
        ("in a folder that all may write", false, |entry, folder| {
            set_mode(folder, 0o777);
            fs::remove_file(entry).unwrap();
        }),
        ("in another's folder", true, |entry, folder| {
            std::os::unix::fs::chown(folder, Some(65_534), None).unwrap();
            fs::remove_file(entry).unwrap();
        }),
    ];
    for (what, root, plant) in plants {
        if root && !is_root() {
            say_not_run("faults::disk::planted", &format!("only root can plant what is {what}"));
            continue;
        }
        let workspace = workspace();
        let test = Test::at(&workspace);
        let first = test.run("").token();
        let holds_it = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&first);
        let entry = test.entries().into_iter().find(holds_it).unwrap();
        plant(&entry, &test.cache_folder());
        for call in ["the next call", "and the one after"] {
            let outcome = test.run("--timeout 5s");
            let printed = outcome.stdout.trim_end();
            let right =
                workspace.signer.check(printed, Scope::Database).is_ok() && printed != first;
            let held = holds(outcome.code == 0 && right, || format!("{outcome:?}"));
            class.tried(format!("{what}, {call}"), held);
        }
        // So that it can be removed.
        set_mode(&test.cache_folder(), 0o700);
    }
    class.end();
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, mode).unwrap();
}
