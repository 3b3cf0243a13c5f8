//! Disks that fail: strace makes each system call on a file fail in turn, with each error that
//! disks and permissions cause. Cache entries and folders that are damaged or planted. The program
//! prints a credential or a clear error, leaves no target half-written, and the next call works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{ALL_DELIVER, BOTH, Class, holds, is_campaign, times};
use crate::sandbox::jwt::Scope;
use crate::sandbox::workspace::Workspace;
use crate::support::{Dice, Test, executable, has, is_root, part_not_run, set_mode, workspace};

const ERRORS: [&str; 5] = ["ENOSPC", "EROFS", "EACCES", "EIO", "EDQUOT"];

/// System calls that concern no file, or whose failure says nothing about a disk.
const NOT_DISK_CALLS: [&str; 9] =
    ["close", "poll", "ioctl", "fcntl", "execve", "exit_group", "connect", "recvfrom", "sendto"];

/// A command to run while the disk fails.
struct Job {
    name: &'static str,
    args: &'static [&'static str],
    prepare: fn(&Test),
    /// The file that the command writes for other programs.
    target: Option<Target>,
}

/// A file's name, and whether a text is valid content for it.
type Target = (&'static str, fn(&str, &Workspace) -> bool);

const OTHER_LINE: &str = "# mine\nother:5432:db:me:hunter2\n";

fn holds_a_credential(text: &str, workspace: &Workspace) -> bool {
    let mut words = text.split(|c: char| c.is_whitespace() || c == ':' || c == '=');
    words.any(|word| {
        workspace.signer.check(word, Scope::Database).is_ok()
            || workspace.signer.check(word, Scope::Workspace).is_ok()
    })
}

const JOBS: [Job; 5] = [
    Job { name: "get on an empty cache", args: &[], prepare: |_| (), target: None },
    Job {
        name: "get --refresh",
        args: &["--refresh"],
        prepare: |test| drop(test.run("").token()),
        target: None,
    },
    Job {
        name: "write pgpass",
        args: &["write", "pgpass", "--pg-host", "db.example", "--pg-user", "me"],
        prepare: |test| {
            let path = test.write(".pgpass", OTHER_LINE);
            set_mode(&path, 0o600);
        },
        target: Some((".pgpass", |text, workspace| {
            let rest = text.strip_prefix(OTHER_LINE);
            rest.is_some_and(|rest| rest.is_empty() || holds_a_credential(rest, workspace))
        })),
    },
    Job {
        name: "write file",
        args: &["write", "file", "token"],
        prepare: |_| (),
        target: Some(("token", holds_a_credential)),
    },
    Job {
        name: "write databrickscfg",
        args: &["write", "databrickscfg", "--to", "fresh"],
        prepare: |test| {
            let path = test.write(".databrickscfg", "[mine]\nhost = https://x.example\n");
            set_mode(&path, 0o600);
        },
        target: Some((".databrickscfg", |text, workspace| {
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

/// A system call of a successful run.
struct SystemCall {
    name: String,
    /// How many of this name came before it, plus one.
    number: usize,
    /// Whether it is about the cache, whose failure must cost nothing but the cache.
    is_on_cache: bool,
}

/// The system calls on files of a successful run. Those of the dynamic loader, before the program begins,
/// are left out.
fn calls(workspace: &Workspace, job: &Job) -> Vec<SystemCall> {
    let test = Test::at(workspace);
    (job.prepare)(&test);
    let trace = test.home.path().join("trace");
    let output =
        traced(&test, &["-y", "-o", trace.to_str().unwrap(), "-e", "trace=%file,%desc"], job.args);
    assert!(output.status.success(), "{output:?}");

    let text = fs::read_to_string(&trace).unwrap();
    let home = test.home.path().to_str().unwrap();
    // The loader's calls name the folder, too, but not as an argument.
    let argument = format!("\"{home}");
    let begins = text.lines().position(|line| line.contains(&argument)).unwrap();
    let mut seen: Vec<(String, usize)> = Vec::new();
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let name = line.split_whitespace().nth(1).and_then(|call| call.split_once('('));
        let Some((name, _)) = name else { continue };
        let concerns_disk =
            n >= begins && !NOT_DISK_CALLS.contains(&name) && !line.contains("MAP_ANONYMOUS");
        match seen.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => seen.push((name.to_owned(), 1)),
        }
        let count = seen.iter().find(|(known, _)| known == name).unwrap().1;
        if concerns_disk && !name.starts_with("mm") {
            let is_on_cache = line.contains("/.cache");
            all.push(SystemCall { name: name.to_owned(), number: count, is_on_cache });
        }
    }
    all
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[test]
fn no_failing_system_call_affects_the_next_run() {
    if !has("faults::disk", "strace") {
        return;
    }
    let mut dice = Dice::seeded(9);
    for job in JOBS {
        let workspace = workspace();
        // A lost cache costs a mint, a lost target the command.
        let is_get = job.name.starts_with("get");
        let floors = if is_get { [90, 0] } else { BOTH };
        let mut class = Class::new(format!("disk: {}", job.name), floors);
        let calls = calls(&workspace, &job);
        assert!(calls.iter().filter(|call| call.is_on_cache).count() >= 3, "{}", job.name);
        for SystemCall { name: call, number, is_on_cache } in calls {
            // A campaign tries each error, a usual run a random one.
            let random = [dice.pick(&ERRORS)];
            for error in if is_campaign() { &ERRORS[..] } else { &random } {
                let test = Test::at(&workspace);
                (job.prepare)(&test);
                let inject = format!("inject={call}:error={error}:when={number}");
                // What is not traced does not fail either.
                let trace = format!("trace={call}");
                let output =
                    traced(&test, &["-o", "/dev/null", "-e", &trace, "-e", &inject], job.args);
                let held = ended_well(&job, &test, &workspace, &output, &call);
                // Of each job's calls, some must succeed all the same.
                let must_succeed = is_on_cache && is_get;
                let is_right = !must_succeed || output.status.success();
                let held = held.and(holds(is_right, || format!("the cache failed: {output:?}")));
                class.tried(&inject, held);
                class.ended(output.status.success());
            }
        }
        class.end();
    }
}

fn ended_well(
    job: &Job,
    test: &Test,
    workspace: &Workspace,
    output: &Output,
    failing_call: &str,
) -> Result<(), String> {
    let prints = job.name.starts_with("get");
    let fails_to_write = failing_call.starts_with("write");
    succeeded_or_failed_clearly(prints, workspace, output, fails_to_write)?;
    if let Some((name, is_valid)) = job.target {
        let path = test.home.path().join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let exists = path.exists();
        holds(!exists || is_valid(&text, workspace), || format!("{name} contains {text:?}"))?;
        holds(!exists || mode(&path) == 0o600, || format!("{name} has mode {:o}", mode(&path)))?;
        let is_written = !output.status.success() || holds_a_credential(&text, workspace);
        let stderr = String::from_utf8_lossy(&output.stderr);
        holds(is_written, || format!("{name} was not written: {stderr}"))?;
    }

    let next = test.command().args(job.args).current_dir(test.home.path()).output().unwrap();
    let works = next.status.success() && (!prints || is_credential(&next.stdout, workspace));
    holds(works, || format!("the next call: {}", String::from_utf8_lossy(&next.stderr)))?;
    nothing_is_left_behind(test.home.path(), failing_call.starts_with("unlink"))
}

fn is_credential(stdout: &[u8], workspace: &Workspace) -> bool {
    let printed = String::from_utf8_lossy(stdout);
    workspace.signer.check(printed.trim_end(), Scope::Database).is_ok()
}

fn succeeded_or_failed_clearly(
    prints: bool,
    workspace: &Workspace,
    output: &Output,
    fails_to_write: bool,
) -> Result<(), String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    match code {
        Some(0) => holds(!prints || is_credential(&output.stdout, workspace), || {
            format!("printed {stdout:?}, {stderr}")
        }),
        Some(1 | 2 | 5) => {
            // If writing to stderr fails, there is no error message.
            let is_told = stderr.contains("lakebase-token: error: ");
            let is_clear = is_told || stderr.is_empty() && fails_to_write;
            holds(stdout.is_empty() && is_clear, || format!("{code:?} {stdout:?} {stderr}"))
        }
        _ => Err(format!("{code:?} {stdout:?} {stderr}")),
    }
}

fn nothing_is_left_behind(home: &Path, fails_to_remove: bool) -> Result<(), String> {
    let known = [".cache", ".pgpass", ".databrickscfg", "token", "bin"];
    let is_known = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Lock files stay: if one were removed, two processes could hold the same lock.
        known.contains(&name) || name.ends_with(".lock") || fails_to_remove && name.starts_with('.')
    };
    let paths = fs::read_dir(home).unwrap().map(|file| file.unwrap().path());
    let left = paths.into_iter().find(|path| !is_known(path));
    holds(left.is_none(), || format!("left behind: {left:?}"))
}

#[test]
fn a_damaged_cache_entry_is_a_miss() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    let mut other = Test::at(&workspace);
    other
        .set("LAKEBASE_TOKEN_TTL", "10m")
        .set("LAKEBASE_TOKEN_CACHE", test.cache_folder().to_str().unwrap());
    let second = other.run("").token();

    let entry_with = |token: &str| {
        let entries = test.entries();
        entries.into_iter().find(|path| fs::read_to_string(path).unwrap().contains(token)).unwrap()
    };
    let path = entry_with(&first);
    let entry = fs::read(&path).unwrap();
    let other_entry = fs::read(entry_with(&second)).unwrap();

    let mut class = Class::new("disk: harmed entries", [0, 90]);
    let mut check = |what: String, damaged: &[u8]| {
        fs::write(&path, damaged).unwrap();
        let outcome = test.run("--offline");
        let is_miss = outcome.code == 5 && outcome.stdout.is_empty();
        let is_hit = outcome.code == 0 && outcome.stdout.trim_end() == first;
        let held = if damaged == entry { is_hit } else { is_miss };
        class.tried(what, holds(held, || format!("{outcome:?}")));
        class.ended(outcome.code == 0);
    };

    let step = times(37, 1);
    for at in (0..entry.len() * 8).step_by(step) {
        let mut damaged = entry.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        check(format!("bit {at}"), &damaged);
    }
    for length in (0..entry.len()).step_by(step) {
        check(format!("cut to {length}"), &entry[..length]);
        check(format!("cut off the first {length}"), &entry[entry.len() - length..]);
    }
    for at in (0..entry.len()).step_by(step) {
        // The beginning of one entry and the end of another.
        let at = at.min(other_entry.len());
        check(format!("torn at {at}"), &[&entry[..at], &other_entry[at..]].concat());
    }

    let mut dice = Dice::seeded(17);
    for n in 0..times(50, 5_000) {
        let mut damaged = entry.clone();
        for _ in 0..2 + dice.roll(6) {
            let at = dice.roll(damaged.len());
            damaged[at] = dice.roll(256) as u8;
        }
        check(format!("bytes, {n}"), &damaged);
    }

    check("another call's entry".to_owned(), &other_entry);
    check("whole".to_owned(), &entry);
    class.end();
}

/// Changes an entry or the cache folder.
type Plant = fn(entry: &Path, folder: &Path);

/// What another user could have planted, whether only root can do it, and how.
const PLANTS: [(&str, bool, Plant); 11] = [
    ("an entry that others may read", false, |entry, _| set_mode(entry, 0o644)),
    ("an entry that the group may write", false, |entry, _| set_mode(entry, 0o620)),
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
    ("an entry of another user", true, |entry, _| {
        std::os::unix::fs::chown(entry, Some(65_534), None).unwrap()
    }),
    ("an entry of 1 TiB", false, |entry, _| {
        fs::File::options().write(true).open(entry).unwrap().set_len(1 << 40).unwrap()
    }),
    ("an entry in a folder that all users may write to", false, |entry, folder| {
        set_mode(folder, 0o777);
        fs::remove_file(entry).unwrap();
    }),
    ("an entry in another user's folder", true, |entry, folder| {
        std::os::unix::fs::chown(folder, Some(65_534), None).unwrap();
        fs::remove_file(entry).unwrap();
    }),
];

#[test]
fn an_entry_that_another_user_could_have_planted_is_a_miss() {
    let mut class = Class::new("disk: planted entries and folders", ALL_DELIVER);
    for (what, needs_root, plant) in PLANTS {
        if needs_root && !is_root() {
            part_not_run("faults::disk::planted", &format!("only root can plant {what}"));
            continue;
        }

        let workspace = workspace();
        let test = Test::at(&workspace);
        let first = test.run("").token();
        let holds_it = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&first);
        let entry = test.entries().into_iter().find(holds_it).unwrap();
        plant(&entry, &test.cache_folder());
        for call in ["the next call", "the call after it"] {
            let outcome = test.run("--timeout 5s");
            let is_new = is_credential(outcome.stdout.as_bytes(), &workspace)
                && outcome.stdout.trim_end() != first;
            let held = holds(outcome.code == 0 && is_new, || format!("{outcome:?}"));
            class.tried(format!("{what}, {call}"), held);
            class.ended(outcome.code == 0);
        }

        // So that the test's folder can be removed.
        set_mode(&test.cache_folder(), 0o700);
    }
    class.end();
}
