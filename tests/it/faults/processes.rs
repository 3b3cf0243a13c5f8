//! Processes that are killed or stopped, that run in large numbers, or that have no descriptor,
//! thread or stream left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{ALL_DELIVER, ALL_REFUSE, BOTH, Class, holds, times};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN, Workspace};
use crate::stopwatch::Stopwatch;
use crate::support::{Dice, Test, executable, has, is_root, spawn, workspace};

/// The subject of a usual test's credentials.
const ME: &str = crate::sandbox::workspace::CLIENT_ID;

fn quiet(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Whether a process printed a credential of this subject and succeeded.
fn delivered(workspace: &Workspace, output: &Output, subject: &str) -> Result<(), String> {
    let printed = String::from_utf8_lossy(&output.stdout);
    let checked = workspace.signer.check(printed.trim_end(), Scope::Database);
    let is_right = output.status.success() && checked.as_deref() == Ok(subject);
    holds(is_right, || {
        format!("{:?} {checked:?} {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

#[test]
fn a_process_can_be_killed_at_any_time() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let pgpass = test.home.path().join(".pgpass");
    let mut class = Class::new("processes: killed, and ended by a signal", BOTH);
    let mut dice = Dice::seeded(3);
    let (rounds, mut files) = (times(25, 500), 0);
    let mut micros = 5_000;
    let get = ["get", "--refresh"].as_slice();
    let write = ["write", "pgpass", "--pg-host", "h", "--pg-user", "u", "--refresh"].as_slice();
    for round in 0..rounds {
        let start = |args: &[&str]| {
            let mut command = test.command();
            command.args(args);
            quiet(command)
        };
        let mut children: Vec<Child> = [get, get, write, write].map(start).into();
        for child in &children {
            std::thread::sleep(Duration::from_micros(dice.roll(micros + 1) as u64));
            signal(child, dice.pick(&[Signal::KILL, Signal::TERM]));
        }
        for child in &mut children {
            let has_ended = child.wait().unwrap().success();
            class.ended(has_ended);
            // Aims for half of them to be killed.
            micros = if has_ended { micros * 20 / 21 } else { micros * 21 / 20 + 1 };
        }

        let output = test.command().output().unwrap();
        // There may be no file yet, but none that is empty.
        let file = fs::read_to_string(&pgpass).ok();
        files += usize::from(file.is_some());
        let is_whole = file.as_deref().is_none_or(|file| {
            let password = file.trim_end().rsplit(':').next().unwrap_or_default();
            workspace.signer.check(password, Scope::Database).is_ok()
        });
        for n in 0..4 {
            let held = delivered(&workspace, &output, ME);
            let held = held.and(holds(is_whole, || format!("half a file: {file:?}")));
            class.tried(format!("round {round}, process {n}"), held);
        }
    }

    let left = fs::read_dir(test.home.path()).unwrap().count();
    assert!(files > 0, "no file was ever written");
    class.tried("files left behind", holds(left < 4 + 2 * rounds, || format!("{left}")));
    class.end();
}

#[test]
fn a_stopped_process_with_the_lock_does_not_block_others() {
    let mut class = Class::new("processes: a stopped holder of the lock", BOTH);
    for _ in 0..times(2, 20) {
        let workspace = workspace();
        let test = Test::at(&workspace);
        workspace.fault(TOKEN, 1, Answer::Hang(Duration::from_secs(30)));
        let mut command = test.command();
        command.args(["--timeout", "30s"]);
        let mut holder = quiet(command);
        while workspace.count(TOKEN) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        signal(&holder, Signal::STOP);

        let stopwatch = Stopwatch::start();
        let mut command = test.command();
        command.args(["--timeout", "1s"]);
        let waiting: Vec<Child> = (0..5).map(|_| spawn(&mut copy_of(&command))).collect();
        for child in waiting {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_clear = output.status.code() == Some(5)
                && output.stdout.is_empty()
                && stderr
                    .contains("another lakebase-token process is still getting this credential");
            let held = holds(is_clear, || format!("{:?} {stderr}", output.status));
            class.tried("a waiting process", held);
            class.ended(output.status.success());
        }
        let (took, late) = stopwatch.stop();
        let is_in_time = took < Duration::from_secs(3) + late;
        class.tried("in time", holds(is_in_time, || format!("{took:?} {late:?}")));

        holder.kill().unwrap();
        holder.wait().unwrap();
        let output = test.command().output().unwrap();
        class.tried("after it was killed", delivered(&workspace, &output, ME));
        class.ended(output.status.success());
    }
    class.end();
}

/// A copy: `Command` cannot be cloned.
fn copy_of(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args()).env_clear().stdin(Stdio::null());
    copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    copy
}

#[test]
fn processes_of_many_identities_get_their_own_credentials() {
    let workspace = workspace();
    let identities = 10;
    for n in 0..identities {
        workspace.state().clients.insert(format!("client-{n}"), format!("secret-{n}"));
    }
    let shared = Test::at(&workspace);
    let cache = shared.cache_folder();
    let ttls = ["", "10m", "15m", "20m", "30m"];
    let mut class = Class::new("processes: mixed identities and targets", ALL_DELIVER);
    let mut dice = Dice::seeded(6);
    let count = times(100, 500);
    let mut children = Vec::new();
    for _ in 0..count {
        let client = dice.roll(identities);
        let ttl = dice.pick(&ttls);
        let mut command = shared.command();
        command.env("DATABRICKS_CLIENT_ID", format!("client-{client}"));
        command.env("DATABRICKS_CLIENT_SECRET", format!("secret-{client}"));
        command.env("LAKEBASE_TOKEN_TTL", ttl).env("LAKEBASE_TOKEN_CACHE", &cache);
        command.env("LAKEBASE_TOKEN_TIMEOUT", "60s");
        children.push((client, ttl, spawn(&mut command)));
    }
    for (client, ttl, child) in children {
        let output = child.wait_with_output().unwrap();
        let held = delivered(&workspace, &output, &format!("client-{client}"));
        class.tried(format!("client {client}, {ttl}"), held);
        class.ended(output.status.success());
    }

    let mints = workspace.count(MINT);
    let max_mints = identities * ttls.len();
    class.tried("mints", holds(mints <= max_mints, || format!("{mints} for {max_mints} keys")));
    class.end();
}

#[test]
fn many_failing_callers_share_one_request() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong").set("LAKEBASE_TOKEN_TIMEOUT", "60s");
    let mut class = Class::new("processes: storms of failing callers", ALL_REFUSE);
    let began = Instant::now();
    for child in (0..times(100, 1_000)).map(|_| test.start("")).collect::<Vec<_>>() {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_clear = output.status.code() == Some(4)
            && output.stdout.is_empty()
            && stderr.contains("invalid_client");
        class.tried("a caller", holds(is_clear, || format!("{:?} {stderr}", output.status)));
        class.ended(output.status.success());
    }

    // A refusal is cached for three seconds.
    let took = began.elapsed();
    let max_requests = 1 + took.as_secs() as usize / 3 + 1;
    let requests = workspace.count(TOKEN);
    let held = holds(requests <= max_requests, || format!("{requests} in {took:?}"));
    class.tried("requests", held);
    class.end();
}

#[test]
fn with_few_descriptors_it_works_or_fails_clearly() {
    let workspace = workspace();
    let mut class = Class::new("processes: descriptors exhausted", BOTH);
    for limit in 3..times(12, 24) {
        for (what, args, is_cached) in
            [("cached", "", true), ("minting", "", false), ("writing", "write file t", false)]
        {
            let test = Test::at(&workspace);
            if is_cached {
                test.run("").token();
            }

            let before = format!("cd '{}' && ulimit -n {limit} &&", test.home.path().display());
            let output = test.shell(&format!("{before} exec \"$0\" {args}"));
            let stderr = String::from_utf8_lossy(&output.stderr);
            let held = match output.status.code() {
                Some(0) if args.is_empty() => delivered(&workspace, &output, ME),
                Some(0) => {
                    holds(test.home.path().join("t").exists(), || "nothing written".to_owned())
                }
                // The dynamic loader itself opens files.
                Some(127) => holds(stderr.contains("shared libraries"), || stderr.to_string()),
                _ => holds(
                    output.stdout.is_empty() && stderr.contains("lakebase-token: error: "),
                    || format!("{:?} {stderr}", output.status),
                ),
            };
            class.tried(format!("{limit}, {what}"), held);
            class.ended(output.status.success());
        }
    }
    class.end();
}

#[test]
fn without_a_thread_it_fails_clearly() {
    if !has("faults::processes::threads", "prlimit") {
        return;
    }
    let workspace = workspace();
    let mut class = Class::new("processes: no thread left", BOTH);
    // Run as another user: the limit does not apply to root.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("lakebase-token");
    // Copied by another process: a file cannot be executed while a child that a test of this
    // process has forked meanwhile has it open for writing.
    assert!(Command::new("cp").arg(executable()).arg(&program).status().unwrap().success());
    let as_other_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let limited = ["prlimit", "--nproc=1", program.to_str().unwrap()];
    let mut words: Vec<&str> = Vec::new();
    if is_root() {
        words.extend(as_other_user);
    }
    words.extend(limited);

    let file = folder.path().join("t");
    let file = file.to_str().unwrap();
    // A literal address needs no thread, a signal handler does.
    for (args, code) in [(&["--no-cache"][..], 0), (&["watch", "--no-cache", "file", file], 1)] {
        let test = Test::at(&workspace);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).envs(test.env.iter().cloned());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_clear = output.status.code() == Some(code)
            && output.stdout.is_empty() == (code != 0)
            && (code == 0 || stderr.starts_with("lakebase-token: error: "));
        class.tried(args[0], holds(is_clear, || format!("{:?} {stderr}", output.status)));
        class.ended(output.status.success());
    }
    class.end();
}

#[test]
fn closed_streams_in_all_combinations() {
    let workspace = workspace();
    let mut class = Class::new("processes: closed streams", BOTH);
    for streams in 0..8 {
        let redirections: Vec<&str> = ["<&-", ">&-", "2>&-"]
            .into_iter()
            .enumerate()
            .filter(|(n, _)| streams & (1 << n) != 0)
            .map(|(_, words)| words)
            .collect();
        let redirections = redirections.join(" ");
        for (what, args) in
            [("cached", ""), ("minting", "--refresh"), ("failing", "--offline --ttl 5m")]
        {
            let test = Test::at(&workspace);
            test.run("").token();
            let output = test.shell(&format!("exec \"$0\" {args} {redirections}"));
            let has_stdout = streams & 2 == 0;
            let has_stderr = streams & 4 == 0;
            let held = match what {
                "failing" => holds(
                    output.status.code() == Some(5)
                        && output.stdout.is_empty()
                        && has_stderr != output.stderr.is_empty(),
                    || format!("{output:?}"),
                ),
                _ if has_stdout => delivered(&workspace, &output, ME),
                _ => holds(output.status.success() && output.stdout.is_empty(), || {
                    format!("{output:?}")
                }),
            };
            class.tried(format!("{what} {redirections}"), held);
            class.ended(output.status.success());

            // A file that the program opens may get the number of a closed stream; what is printed
            // must not end up in it.
            let entries = test.entries();
            let mut texts = entries.iter().map(|path| fs::read(path).unwrap());
            let are_clean = texts.all(|text| text.starts_with(b"lakebase-token-cache "));
            class.tried(
                format!("{what} {redirections}: entries"),
                holds(are_clean, || "overwritten".to_owned()),
            );
        }
    }
    class.end();
}
