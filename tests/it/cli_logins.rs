//! Logins of the Databricks CLI while many processes use them: one run at a
//! time. The stand-in CLI has the races of the real one (databricks/cli v1.13): it rewrites one file
//! for all profiles without a lock, and refresh tokens work once.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::stopwatch::Stopwatch;
use super::support::{MINUTE, Outcome, Test, executable, has, spawn, workspace};
use crate::sandbox::workspace::{ENDPOINT, USER, Workspace};

/// `databricks auth token`: renews a login that has expired, and writes the file as it was read at the
/// start with one login changed. It takes 0.2 s. While the file `hang` exists it does not end. Where there is a
/// socket `gate`, it waits there before its request and before it writes.
const CLI: &str = r#"#!/usr/bin/python3
import datetime, json, os, socket, sys, time, urllib.error, urllib.parse, urllib.request
home = os.environ["HOME"]
def pause(seconds):
    with socket.socket(socket.AF_UNIX) as gate:
        try:
            gate.connect(home + "/gate")
            gate.recv(1)
        except OSError:
            time.sleep(seconds)
with open(home + "/runs", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\n")
while os.path.exists(home + "/hang"):
    time.sleep(0.05)
path = home + "/.databricks/token-cache.json"
cache = json.load(open(path))
flag = "--profile" if "--profile" in sys.argv else "--host"
login = cache["tokens"][cache["selectors"][sys.argv[sys.argv.index(flag) + 1]]]
if "--force-refresh" in sys.argv or login["expires"] - time.time() < 40:
    pause(0)
    form = {"grant_type": "refresh_token", "client_id": "databricks-cli", "refresh_token": login["refresh"]}
    try:
        answer = json.load(urllib.request.urlopen(cache["url"] + "/oidc/v1/token", urllib.parse.urlencode(form).encode()))
    except urllib.error.HTTPError as error:
        sys.exit("Error: A new access token could not be retrieved because the refresh token is invalid.")
    pause(0.2)
    login["access"], login["refresh"] = answer["access_token"], answer["refresh_token"]
    login["expires"] = time.time() + answer["expires_in"]
    open(path, "w").write(json.dumps(cache))
else:
    pause(0.2)
expiry = datetime.datetime.fromtimestamp(login["expires"], datetime.timezone.utc).isoformat()
print(json.dumps({"access_token": login["access"], "token_type": "Bearer", "expiry": expiry}))
"#;

/// A person with a login of the CLI for each of these profiles. The first is also that of the host.
pub fn person_of_the_cli(workspace: &Workspace, profiles: &[&str]) -> Test {
    let mut test = Test::bare();
    test.program("databricks", CLI);
    test.set("PATH", &format!("{}/bin:/usr/bin:/bin", test.home.path().display()));
    test.set("LAKEBASE_ENDPOINT", ENDPOINT);
    let sections = profiles
        .iter()
        .map(|name| format!("[{name}]\nhost = {}\nauth_type = databricks-cli\n", workspace.url));
    test.write(".databrickscfg", &sections.collect::<String>());

    let mut cache = json!({ "url": workspace.url, "tokens": {}, "selectors": {} });
    for name in profiles {
        let refresh = workspace.state().log_in(USER);
        cache["tokens"][name] = json!({ "access": "old", "refresh": refresh, "expires": 0 });
        cache["selectors"][name] = (*name).into();
    }
    cache["selectors"][&workspace.url] = profiles[0].into();
    test.write(".databricks/token-cache.json", &cache.to_string());
    test
}

/// Whether the login in the CLI's file can still be renewed.
pub fn is_alive(workspace: &Workspace, test: &Test, profile: &str) -> bool {
    let path = test.home.path().join(".databricks/token-cache.json");
    let cache: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let refresh = cache["tokens"][profile]["refresh"].as_str().unwrap();
    workspace.state().accepts_refresh(refresh)
}

pub type Selector = (&'static str, &'static [(&'static str, &'static str)]);

/// Ways to select the same login.
pub const SELECTORS: [Selector; 6] = [
    ("-p work", &[]),
    ("", &[("DATABRICKS_HOST", "URL"), ("DATABRICKS_AUTH_TYPE", "databricks-cli")]),
    ("-p work --no-cache", &[]),
    (
        "",
        &[("DATABRICKS_CONFIG_PROFILE", "work"), ("DATABRICKS_CONFIG_FILE", "HOME/.databrickscfg")],
    ),
    ("-p work", &[("DATABRICKS_AUTH_STORAGE", "plaintext")]),
    ("-p work", &[("LAKEBASE_TOKEN_CACHE", "HOME/elsewhere"), ("XDG_STATE_HOME", "HOME/state")]),
];

fn start(test: &Test, workspace: &Workspace, (flags, variables): &Selector) -> Child {
    let home = test.home.path().display().to_string();
    let mut command = Command::new(executable());
    command.args(flags.split_whitespace()).args(["--timeout", "60s"]);
    command.env_clear().envs(test.env.iter().cloned());
    for (name, value) in *variables {
        command.env(name, value.replace("URL", &workspace.url).replace("HOME", &home));
    }
    spawn(&mut command)
}

/// What each of the processes said that did not print a password.
fn failures(children: Vec<Child>) -> Vec<String> {
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let failed =
        outputs.filter(|output| !(output.status.success() && output.stdout.starts_with(b"eyJ")));
    failed.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).collect()
}

#[test]
fn no_two_selectors_of_a_login_end_it() {
    if !has("cli_logins::no_two_selectors", "python3") {
        return;
    }
    let workspace = workspace();
    for (n, first) in SELECTORS.iter().enumerate() {
        for second in &SELECTORS[n + 1..] {
            let test = person_of_the_cli(&workspace, &["work"]);
            // 50 callers; of those without a cache, each of which runs the CLI, there are 20.
            let alternating = |n| {
                let selector = if n % 2 == 0 { first } else { second };
                let is_left_out = selector.0.contains("--no-cache") && n >= 40;
                (!is_left_out).then_some(selector)
            };
            let selectors = (0..50).filter_map(alternating);
            let children = selectors.map(|selector| start(&test, &workspace, selector)).collect();
            let failed = failures(children);
            assert!(failed.is_empty(), "{first:?} {second:?}: {}\n{}", failed.len(), failed[0]);
            assert!(is_alive(&workspace, &test, "work"), "{first:?} {second:?}");
        }
    }
}

#[test]
fn profiles_do_not_lose_each_others_logins() {
    if !has("cli_logins::profiles", "python3") {
        return;
    }
    const PROFILES: [&str; 6] = ["work", "b", "c", "d", "e", "f"];
    const FLAGS: [Selector; 6] = [
        ("-p work", &[]),
        ("-p b", &[]),
        ("-p c", &[]),
        ("-p d", &[]),
        ("-p e", &[]),
        ("-p f", &[]),
    ];
    let workspace = workspace();
    let test = person_of_the_cli(&workspace, &PROFILES);
    let children = (0..48).map(|n| start(&test, &workspace, &FLAGS[n % 6])).collect();
    let failed = failures(children);
    assert!(failed.is_empty(), "{}: {}", failed.len(), failed[0]);
    for profile in PROFILES {
        assert!(is_alive(&workspace, &test, profile), "{profile}");
    }
    let runs = fs::read_to_string(test.home.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 6, "{runs}");
}

/// A run that hangs costs the others nothing but its login, and they are told which run it is.
#[test]
fn a_run_that_hangs_is_named_and_others_use_what_they_have() {
    if !has("cli_logins::a_run_that_hangs", "python3") {
        return;
    }
    let workspace = workspace();
    let test = person_of_the_cli(&workspace, &["work", "other"]);
    workspace.state().token_life = 600;
    test.run("-p other").token();
    fs::write(test.home.path().join("hang"), "").unwrap();
    test.run("-p work --timeout 300ms").fails(5, &["has not ended in time"]);

    // Without a credential: told at the deadline. Process and command are those of the run.
    let within = |seconds: u64, line: &str| -> Outcome {
        let stopwatch = Stopwatch::start();
        let outcome = test.run(line);
        stopwatch.assert_within(Duration::from_secs(seconds));
        outcome
    };
    std::thread::sleep(Duration::from_secs(2));
    for line in ["-p work --timeout 1s", "-p other --no-cache --timeout 1s"] {
        let outcome = within(2, line);
        let words =
            ["another run of the Databricks CLI", "auth token --profile work", "hint: kill "];
        outcome.fails(5, &words);
    }
    // With one that is due: it is used at once.
    test.pass(54 * MINUTE);
    let outcome = within(4, "-p other");
    outcome.notes("using the cached credential: another run of the Databricks CLI");
    test.pass(-54 * MINUTE);

    // After the run, each caller gets a credential, and both logins are alive.
    fs::remove_file(test.home.path().join("hang")).unwrap();
    test.run("-p work").token();
    test.run("-p other --refresh").token();
    for profile in ["work", "other"] {
        assert!(is_alive(&workspace, &test, profile), "{profile}");
    }
}

#[test]
fn the_supervisor_ends_a_run_and_all_that_it_has_started() {
    let test = Test::bare();
    let script = "sleep 60 & echo $! >\"$HOME/pid\"; wait";
    let mut command = test.command();
    command.args([
        "run-cli",
        "1",
        "unlocked",
        "databricks auth token",
        "--",
        "/bin/sh",
        "-c",
        script,
    ]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let stopwatch = Stopwatch::start();
    let output = command.stderr(Stdio::piped()).output().unwrap();
    stopwatch.assert_within(Duration::from_secs(20));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("had not ended within 1s"), "{said}");
    let sleeper = fs::read_to_string(test.home.path().join("pid")).unwrap();
    // A signal takes a moment.
    super::support::wait_for("its end", || {
        let path = format!("/proc/{}/stat", sleeper.trim());
        let state = fs::read_to_string(path).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn where_there_can_be_no_lock_the_cli_runs_without_one() {
    if !has("cli_logins::no_lock", "python3") {
        return;
    }
    let workspace = workspace();
    let test = person_of_the_cli(&workspace, &["work"]);
    let folder = test.home.path().join(".databricks/lakebase-token.lock");
    fs::create_dir(&folder).unwrap();
    test.run("-p work -v").notes("the Databricks CLI runs without a lock: ");
    test.run("-p work --refresh").token();
}

#[test]
fn a_login_invalidates_a_cached_refusal() {
    if !has("cli_logins::forgotten", "python3") {
        return;
    }
    let workspace = workspace();
    let test = person_of_the_cli(&workspace, &["work"]);
    let path = test.home.path().join(".databricks/token-cache.json");
    let good = fs::read_to_string(&path).unwrap();
    let ended = good.replace("refresh-", "ended-");
    fs::write(&path, ended).unwrap();
    let runs = || fs::read_to_string(test.home.path().join("runs")).unwrap().lines().count();
    test.run("-p work").fails(3, &["databricks auth login --profile work"]);
    test.run("-p work").fails(3, &["databricks auth login --profile work"]);
    assert_eq!(runs(), 1, "the refusal is cached");
    assert_eq!(test.run("status -p work").code, 3);

    // `databricks auth login` writes the file.
    fs::write(&path, good).unwrap();
    assert_eq!(test.run("status -p work").code, 0);
    test.run("-p work").token();
}
