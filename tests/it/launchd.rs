//! Services of launchd. `launchctl` is a stand-in that does what launchctl(1) says and runs the agent as
//! its property list says; the agent is the executable itself.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lakebase_token::config::settings::Settings;
use lakebase_token::config::table::Id;
use lakebase_token::error::{Error, Result};
use lakebase_token::platform::context::Context;
use lakebase_token::service::manage::Service;
use lakebase_token::service::manager::Manager;
use lakebase_token::targets::table;
use lakebase_token::targets::update::Update;

use super::support::{Test, executable, has, wait_for, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, MINT, TOKEN, Workspace};

/// The stand-in. Its folder has a file for each loaded agent, and files by which a test makes it fail.
const LAUNCHCTL: &str = r#"#!/usr/bin/python3
import json, os, plistlib, subprocess, sys, time

own = os.path.join(os.environ["HOME"], "launchd")
os.makedirs(own, exist_ok=True)
action, words = sys.argv[1], sys.argv[2:]
with open(os.path.join(own, "calls"), "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")

def fail(code, text):
    print(text, file=sys.stderr)
    sys.exit(code)

def told(name):
    return os.path.exists(os.path.join(own, name))

domain, _, label = words[0].partition("/")[2].partition("/")
state = os.path.join(own, label + ".state")

if told("no-session"):
    fail(125, "Could not print domain: 125: Domain does not support specified action")
if action == "enable":
    sys.exit(0)
if action == "print" and not label:
    print("gui/%s = {\n\ttype = login\n}" % domain)
elif action == "print":
    if not os.path.exists(state):
        fail(113, "Bad request.\nCould not find service \"%s\" in domain for user gui: %s" % (label, domain))
    ended = os.path.exists(state + ".ended")
    line = open(state + ".ended").read() if ended else "last exit code = (never exited)"
    if ended and told("vanish"):
        os.remove(sys.argv[0])
    print("gui/%s/%s = {\n\tstate = %s\n\truns = 1\n\t%s\n}" % (domain, label, "not running" if ended else "running", line))
elif action == "bootout":
    if not os.path.exists(state):
        fail(3, "Boot-out failed: 3: No such process")
    os.remove(state)
    if os.path.exists(state + ".ended"):
        os.remove(state + ".ended")
    # The agent ends after this answer.
    open(os.path.join(own, label + ".ending"), "w").close()
elif action == "bootstrap":
    plist = words[1]
    agent = plistlib.load(open(plist, "rb"))
    label = agent["Label"]
    state = os.path.join(own, label + ".state")
    ending = os.path.join(own, label + ".ending")
    if os.path.exists(ending):
        os.remove(ending)
        fail(5, "Bootstrap failed: 5: Input/output error")
    if os.path.exists(state) or told("refuse"):
        fail(5, "Bootstrap failed: 5: Input/output error")
    with open(state, "w") as known:
        known.write(plist)
    if os.fork() == 0:
        os.setsid()
        log = os.open(agent["StandardErrorPath"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0), os.dup2(null, 1), os.dup2(log, 2)
        os.umask(agent["Umask"])
        environment = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
        child = subprocess.Popen(agent["ProgramArguments"], env=environment)
        with open(os.path.join(own, label + ".pid"), "w") as pid:
            pid.write(str(child.pid))
        code = child.wait()
        line = "last exit code = %d" % code if code >= 0 else "last terminating signal = Killed: %d" % -code
        with open(state + ".new", "w") as ended:
            ended.write(line)
        os.rename(state + ".new", state + ".ended")
        os._exit(0)
else:
    fail(64, "Unrecognized subcommand: " + action)
"#;

fn user(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.program("launchctl", LAUNCHCTL);
    let path = format!("{}/bin:/usr/bin:/bin", test.home.path().display());
    test.set("PATH", &path);
    test
}

fn installed(context: &Context, name: &str, interval: &str) -> Result<&'static str> {
    let mut flags = vec![(Id::Interval, interval.to_owned())];
    if !name.is_empty() {
        flags.push((Id::Name, name.to_owned()));
        flags.push((Id::PgDatabase, format!("of_{name}")));
    }
    let settings = Settings::resolve(&flags, context)?;
    let words = [OsString::from("pgpass")];
    let mut target = table::named(&[words[0].as_os_str()], &settings, context)?;
    target.explicit = true;
    let service = Service::new(target, &settings, Manager::Launchd, context)?;
    let update = Update::new(settings, &words, context)?;
    let mut job = service.job(&update, &flags)?;
    // The one that is being tested, not a file that only root can replace.
    job.command[0] = executable().to_str().unwrap().to_owned();
    service.install(&job, false)
}

fn install(test: &Test, interval: &str) -> Result<&'static str> {
    installed(&test.context(|_| ()), "", interval)
}

/// Does something with the service of `~/.pgpass`.
fn with_service<T>(test: &Test, work: impl FnOnce(&Service<'_>) -> T) -> T {
    let context = test.context(|_| ());
    let settings = Settings::resolve(&[], &context).unwrap();
    let mut target = table::named(&["pgpass".as_ref()], &settings, &context).unwrap();
    target.explicit = true;
    work(&Service::new(target, &settings, Manager::Launchd, &context).unwrap())
}

fn status(test: &Test) -> (u8, String) {
    let report = with_service(test, |service| service.status()).unwrap();
    let lines = report.lines.iter().map(|(name, text)| format!("{name}: {text}\n"));
    (report.code, lines.collect())
}

/// The files that an installation makes.
fn files(test: &Test) -> [PathBuf; 2] {
    [
        "Library/LaunchAgents/lakebase-token-pgpass.plist",
        ".config/lakebase-token/lakebase-token-pgpass.env",
    ]
    .map(|name| test.home.path().join(name))
}

fn is_loaded(test: &Test, label: &str) -> bool {
    test.home.path().join(format!("launchd/{label}.state")).exists()
}

fn told(test: &Test, name: &str) {
    test.write(&format!("launchd/{name}"), "");
}

#[track_caller]
fn says(error: &Error, code: u8, words: &[&str]) {
    let text =
        format!("{}\n{}\n{}", error.message, error.because.join("\n"), error.hints.join("\n"));
    assert_eq!(error.kind as u8, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
}

fn password(test: &Test, workspace: &Workspace) -> String {
    let file = fs::read_to_string(test.home.path().join(".pgpass")).unwrap();
    let token = file.trim_end().rsplit(':').next().unwrap();
    workspace.signer.check(token, Scope::Database).unwrap()
}

#[test]
fn an_agent_is_installed_run_shown_restarted_and_uninstalled() {
    if !has("launchd::an_agent", "python3") {
        return;
    }
    let workspace = workspace();
    let test = user(&workspace);
    assert_eq!(install(&test, "10m").unwrap(), "installed");
    assert_eq!(password(&test, &workspace), CLIENT_ID);
    assert!(is_loaded(&test, "lakebase-token-pgpass"));
    let (code, shown) = status(&test);
    assert_eq!(code, 0, "{shown}");
    for words in [
        "lakebase-token-pgpass (launchd)",
        "scheduled, next check by the calendar",
        "last check: succeeded",
        "valid until",
    ] {
        assert!(shown.contains(words), "{words:?} is missing in {shown}");
    }

    // launchd refuses the next agent of a label while the former is still ending.
    assert_eq!(install(&test, "10m").unwrap(), "unchanged");
    assert_eq!(install(&test, "7m").unwrap(), "replaced");
    let plist = fs::read_to_string(&files(&test)[0]).unwrap();
    assert!(plist.contains("<integer>49</integer>") && !plist.contains("<integer>50</integer>"));
    fs::remove_file(test.home.path().join(".pgpass")).unwrap();
    with_service(&test, |service| service.restart()).unwrap();
    assert_eq!(password(&test, &workspace), CLIENT_ID);

    assert!(with_service(&test, |service| service.uninstall(true)).unwrap());
    assert!(!is_loaded(&test, "lakebase-token-pgpass"));
    assert!(files(&test).iter().all(|file| !file.exists()));
    let left = fs::read_to_string(test.home.path().join(".pgpass")).unwrap();
    assert!(!left.contains("eyJ") && test.entries().is_empty(), "{left}");
    assert!(!with_service(&test, |service| service.uninstall(true)).unwrap());
}

#[test]
fn a_failed_first_run_undoes_the_installation_and_says_why() {
    if !has("launchd::a_failed_first_run", "python3") {
        return;
    }
    let workspace = workspace();
    let test = user(&workspace);
    assert_eq!(install(&test, "10m").unwrap(), "installed");
    let before = files(&test).map(|file| fs::read(file).unwrap());
    let no = || {
        Answer::Json(
            403,
            serde_json::json!({ "error_code": "PERMISSION_DENIED", "message": "no permission to mint here" }),
        )
    };
    fs::remove_dir_all(test.cache_folder()).unwrap();
    fs::remove_file(test.home.path().join(".pgpass")).unwrap();

    // The former service comes back; its own run fails as well, which its status says.
    workspace.fault(MINT, 99, no());
    let error = install(&test, "5m").unwrap_err();
    says(
        &error,
        4,
        &[
            "lakebase-token-pgpass was started and failed",
            "exit code 4",
            "no permission to mint here",
            "the former service is restored",
        ],
    );
    assert_eq!(files(&test).map(|file| fs::read(file).unwrap()), before);
    assert!(is_loaded(&test, "lakebase-token-pgpass"));
    wait_for("the run of the former service", || (status(&test).0 == 4).then_some(()));
    let (_, shown) = status(&test);
    assert!(
        shown.contains("last check: failed") && shown.contains("no permission to mint here"),
        "{shown}"
    );

    // Without a former service nothing is left.
    with_service(&test, |service| service.uninstall(false)).unwrap();
    let error = install(&test, "5m").unwrap_err();
    says(&error, 4, &["no permission to mint here", "nothing is installed"]);
    assert!(files(&test).iter().all(|file| !file.exists()));
    assert!(!is_loaded(&test, "lakebase-token-pgpass"));

    // If launchctl is gone by then, the error says both.
    told(&test, "vanish");
    let error = install(&test, "5m").unwrap_err();
    says(
        &error,
        4,
        &[
            "no permission to mint here",
            "undoing the installation failed, too: there is no launchctl on PATH",
        ],
    );
}

#[test]
fn without_a_session_nothing_is_written() {
    if !has("launchd::without_a_session", "python3") {
        return;
    }
    let workspace = workspace();
    let test = user(&workspace);
    told(&test, "no-session");
    let error = install(&test, "10m").unwrap_err();
    says(
        &error,
        1,
        &[
            "launchd has no session for this user",
            "125: Domain does not support",
            "log in at the machine itself, or lakebase-token watch",
        ],
    );
    assert!(!test.home.path().join("Library").exists());
    assert!(files(&test).iter().all(|file| !file.exists()));
}

#[test]
fn a_run_that_is_killed_is_reported_as_failed() {
    if !has("launchd::a_run_that_is_killed", "python3") {
        return;
    }
    let workspace = workspace();
    let test = user(&workspace);
    assert_eq!(install(&test, "10m").unwrap(), "installed");
    fs::remove_dir_all(test.cache_folder()).unwrap();
    fs::remove_file(test.home.path().join(".pgpass")).unwrap();
    workspace.state().requests.clear();
    workspace.fault(TOKEN, 1, Answer::Hang(Duration::from_secs(60)));
    let pid = test.home.path().join("launchd/lakebase-token-pgpass.pid");
    fs::remove_file(&pid).unwrap();

    let env = test.env.clone();
    let restart = std::thread::spawn(move || {
        let mut own = Test::bare();
        own.env = env;
        with_service(&own, |service| service.restart())
    });
    wait_for("the run's request", || (workspace.count(TOKEN) > 0).then_some(()));
    let is_whole = |pid: &String| !pid.is_empty();
    let pid = wait_for("its process", || fs::read_to_string(&pid).ok().filter(is_whole));
    let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
    let error = restart.join().unwrap().unwrap_err();
    says(
        &error,
        1,
        &["lakebase-token-pgpass was started and failed", "it could not be run, or was killed"],
    );
    let (code, shown) = status(&test);
    assert!(code == 1 && shown.contains("last check: failed"), "{code} {shown}");
}

#[test]
fn services_that_are_installed_at_once_are_all_there() {
    if !has("launchd::services_at_once", "python3") {
        return;
    }
    let workspace = workspace();
    let test = user(&workspace);
    std::thread::scope(|scope| {
        for n in 0..12 {
            // Three of each name.
            let (env, name) = (test.env.clone(), format!("s{}", n % 4));
            scope.spawn(move || {
                let mut own = Test::bare();
                own.env = env;
                installed(&own.context(|_| ()), &name, "10m").unwrap();
            });
        }
    });
    let passwords = fs::read_to_string(test.home.path().join(".pgpass")).unwrap();
    for name in ["s0", "s1", "s2", "s3"] {
        assert!(is_loaded(&test, &format!("lakebase-token-{name}")), "{name}");
        assert_eq!(passwords.matches(&format!(":of_{name}:")).count(), 1, "{passwords}");
    }
    assert_eq!(workspace.count(MINT), 1);
}
