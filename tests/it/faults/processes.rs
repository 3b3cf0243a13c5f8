//! Processes that die, stop, crowd and run out of descriptors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Class, holds, times};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::Workspace;
use crate::support::{Dice, Test, executable, has, is_root, workspace};

const TOKEN: &str = "/oidc/v1/token";
const MINT: &str = "/api/2.0/postgres/credentials";

fn quiet(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn piped(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// A credential of this subject on stdout and nothing on stderr.
fn delivered(workspace: &Workspace, output: &Output, subject: &str) -> Result<(), String> {
    let printed = String::from_utf8_lossy(&output.stdout);
    let checked = workspace.signer.check(printed.trim_end(), Scope::Database);
    let right = output.status.success() && checked.as_deref() == Ok(subject);
    holds(right, || {
        format!("{:?} {checked:?} {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

const ME: &str = crate::sandbox::workspace::CLIENT_ID;

#[test]
fn killed_at_any_instant_under_load() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let place = test.home.path().join(".pgpass");
    let mut class = Class::new("processes: killed and told to end");
    let mut dice = Dice(3);
    let rounds = times(25, 500);
    for round in 0..rounds {
        // Four at once, of which each may be killed; two write a file.
        let mut children: Vec<Child> = (0..4)
            .map(|n| {
                let mut command = test.command();
                match n {
                    0 | 1 => command.arg("--refresh"),
                    _ => command.args([
                        "write",
                        "pgpass",
                        "--pg-host",
                        "h",
                        "--pg-user",
                        "u",
                        "--refresh",
                    ]),
                };
                quiet(command)
            })
            .collect();
        for child in &children {
            std::thread::sleep(Duration::from_micros(dice.roll(2500) as u64));
            signal(child, dice.pick(&[Signal::KILL, Signal::TERM]));
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        let output = test.command().output().unwrap();
        let file = fs::read_to_string(&place).unwrap_or_default();
        let password = file.trim_end().rsplit(':').next().unwrap_or_default();
        let whole = file.is_empty() || workspace.signer.check(password, Scope::Database).is_ok();
        for n in 0..4 {
            let held = delivered(&workspace, &output, ME);
            let held = held.and(holds(whole, || format!("half a file: {file:?}")));
            class.tried(format!("round {round}, process {n}"), held);
        }
    }
    let left = fs::read_dir(test.home.path()).unwrap().count();
    class.tried("files left behind", holds(left < 4 + 2 * rounds, || format!("{left}")));
    class.end();
}

#[test]
fn a_stopped_holder_of_the_lock_stops_nobody() {
    let mut class = Class::new("processes: a stopped holder of the lock");
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
        let began = Instant::now();
        let mut command = test.command();
        command.args(["--timeout", "1s"]);
        let waiting: Vec<Child> = (0..5).map(|_| piped(command_again(&command))).collect();
        for child in waiting {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let clear = output.status.code() == Some(5)
                && output.stdout.is_empty()
                && said.contains("another lakebase-token is still fetching it");
            class.tried("a waiting one", holds(clear, || format!("{:?} {said}", output.status)));
        }
        let took = began.elapsed();
        class.tried("in time", holds(took < Duration::from_secs(3), || format!("{took:?}")));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let output = test.command().output().unwrap();
        class.tried("when it is gone", delivered(&workspace, &output, ME));
    }
    class.end();
}

/// The same once more: a `Command` starts one process.
fn command_again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).env_clear().stdin(Stdio::null());
    again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    again
}

#[test]
fn each_gets_its_own_whoever_else_asks() {
    let workspace = workspace();
    let identities = 10;
    for n in 0..identities {
        workspace.state().clients.insert(format!("client-{n}"), format!("secret-{n}"));
    }
    let shared = Test::at(&workspace);
    let cache = shared.cache_folder();
    let ttls = ["", "10m", "15m", "20m", "30m"];
    let mut class = Class::new("processes: mixed identities and targets");
    let mut dice = Dice(6);
    let count = times(100, 500);
    let mut children = Vec::new();
    for _ in 0..count {
        let (who, ttl) = (dice.roll(identities), dice.pick(&ttls));
        let mut command = shared.command();
        command.env("DATABRICKS_CLIENT_ID", format!("client-{who}"));
        command.env("DATABRICKS_CLIENT_SECRET", format!("secret-{who}"));
        command.env("LAKEBASE_TOKEN_TTL", ttl).env("LAKEBASE_TOKEN_CACHE", &cache);
        command.env("LAKEBASE_TOKEN_TIMEOUT", "60s");
        children.push((who, ttl, piped(command)));
    }
    for (who, ttl, child) in children {
        let output = child.wait_with_output().unwrap();
        class.tried(
            format!("client {who}, {ttl}"),
            delivered(&workspace, &output, &format!("client-{who}")),
        );
    }
    let (minted, most) = (workspace.count(MINT), identities * ttls.len());
    class.tried("mints", holds(minted <= most, || format!("{minted} for {most} keys")));
    class.end();
}

#[test]
fn a_storm_of_failing_callers_is_one_request() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong").set("LAKEBASE_TOKEN_TIMEOUT", "60s");
    let mut class = Class::new("processes: storms of failing callers");
    let began = Instant::now();
    for child in (0..times(100, 1_000)).map(|_| piped(test.command())).collect::<Vec<_>>() {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let clear = output.status.code() == Some(4)
            && output.stdout.is_empty()
            && said.contains("invalid_client");
        class.tried("a caller", holds(clear, || format!("{:?} {said}", output.status)));
    }
    // A refusal is remembered three seconds.
    let most = 1 + began.elapsed().as_secs() as usize / 3 + 1;
    let asked = workspace.count(TOKEN);
    class.tried("requests", holds(asked <= most, || format!("{asked} in {:?}", began.elapsed())));
    class.end();
}

/// Runs the program by a shell that does something before.
fn shell(test: &Test, before: &str, args: &str, redirections: &str) -> Output {
    let line = format!("{before} exec '{}' {args} {redirections}", executable().display());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line]).env_clear().envs(test.env.iter().cloned());
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn without_descriptors_it_fails_clearly_or_works() {
    let workspace = workspace();
    let mut class = Class::new("processes: descriptors exhausted");
    for most in 3..times(12, 24) {
        for (what, args, warm) in
            [("cached", "", true), ("minting", "", false), ("writing", "write file t", false)]
        {
            let test = Test::at(&workspace);
            if warm {
                test.run("").token();
            }
            let before = format!("cd '{}' && ulimit -n {most} &&", test.home.path().display());
            let output = shell(&test, &before, args, "");
            let said = String::from_utf8_lossy(&output.stderr);
            let held = match output.status.code() {
                Some(0) if args.is_empty() => delivered(&workspace, &output, ME),
                Some(0) => {
                    holds(test.home.path().join("t").exists(), || "nothing written".to_owned())
                }
                // The dynamic loader itself opens files.
                Some(127) => holds(said.contains("shared libraries"), || said.to_string()),
                _ => holds(
                    output.stdout.is_empty() && said.contains("lakebase-token: error: "),
                    || format!("{:?} {said}", output.status),
                ),
            };
            class.tried(format!("{most}, {what}"), held);
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
    let mut class = Class::new("processes: no thread left");
    // Another user's limit: none holds root back.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("lakebase-token");
    // By another process: what a child of ours still has open to write cannot be executed.
    assert!(Command::new("cp").arg(executable()).arg(&program).status().unwrap().success());
    let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let one = ["prlimit", "--nproc=1", program.to_str().unwrap()];
    let words: Vec<&str> = match is_root() {
        true => other.into_iter().chain(one).collect(),
        false => one.to_vec(),
    };
    let file = folder.path().join("t");
    let file = file.to_str().unwrap();
    for (args, code) in [(&["--no-cache"][..], 5), (&["watch", "--no-cache", "file", file], 1)] {
        let test = Test::at(&workspace);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).envs(test.env.iter().cloned());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let clear = output.status.code() == Some(code)
            && output.stdout.is_empty()
            && said.starts_with("lakebase-token: error: ");
        class.tried(args[0], holds(clear, || format!("{:?} {said}", output.status)));
    }
    class.end();
}

#[test]
fn closed_streams_in_all_combinations() {
    let workspace = workspace();
    let mut class = Class::new("processes: closed streams");
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
            let output = shell(&test, "", args, &redirections);
            let (open, speaks) = (streams & 2 == 0, streams & 4 == 0);
            let held = match what {
                "failing" => holds(
                    output.status.code() == Some(5)
                        && output.stdout.is_empty()
                        && speaks != output.stderr.is_empty(),
                    || format!("{output:?}"),
                ),
                _ if open => delivered(&workspace, &output, ME),
                _ => holds(output.status.success() && output.stdout.is_empty(), || {
                    format!("{output:?}")
                }),
            };
            class.tried(format!("{what} {redirections}"), held);
            // None of the files that it opens may have taken the place of a stream.
            let entries = test.entries();
            let texts = entries.iter().map(|path| fs::read(path).unwrap());
            let clean = texts.clone().all(|text| text.starts_with(b"lakebase-token-cache "));
            class.tried(
                format!("{what} {redirections}: entries"),
                holds(clean, || "overwritten".to_owned()),
            );
        }
    }
    class.end();
}
