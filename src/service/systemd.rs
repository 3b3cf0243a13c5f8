//! systemd: a oneshot service and a timer of the user's own manager (systemd.service(5),
//! systemd.timer(5), systemd.syntax(7)).
//!
//! The unit files are those of `integrations/systemd`, with a few assignments filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::process::real_user_id;
use crate::platform::time::Deadline;
use crate::service::definition::ServiceDefinition;
use crate::service::manager_call::{ERROR_LINE, Output, ServiceManagerCall, State};

pub const EXTENSIONS: [&str; 2] = [".service", ".timer"];

const SERVICE: &str = include_str!("../../integrations/systemd/lakebase-token-pgpass.service");
const TIMER: &str = include_str!("../../integrations/systemd/lakebase-token-pgpass.timer");

/// The properties of a service that describe its last run.
const LAST_RUN: &str = "--property=SubState,Result,ExecMainCode,ExecMainStatus,\
                        ExecMainExitTimestamp,ExecMainPID";

/// systemd's own exit codes for failures to set up mounts and users (systemd.exec(5)).
const EXIT_NAMESPACE: u8 = 226;
const EXIT_USER: u8 = 217;

/// systemd's own exit code for a program that it cannot start.
const EXIT_EXEC: u8 = 203;

/// journald may take a moment to store the last lines of a run.
const JOURNAL_POLL_INTERVAL: Duration = Duration::from_millis(100);
const JOURNAL_POLLS: usize = 11;

pub fn folder(context: &Context) -> Option<PathBuf> {
    Some(context.config_home()?.join("systemd/user"))
}

pub fn files(job: &ServiceDefinition) -> Vec<String> {
    let description = format!("lakebase-token: {}", rest_of_line(&job.target));
    let [program, arguments @ ..] = &job.command[..] else { return Vec::new() };
    let mut command = quoted(program, false);
    for word in arguments {
        command.push(' ');
        command.push_str(&quoted(word, true));
    }

    // systemd skips a missing folder behind a `-`: only the target's own folder has to exist.
    let others = job.folders.iter().map(|folder| format!("-{folder}"));
    let folders = job.target_folder.clone().into_iter().chain(others);
    let folders: Vec<String> = folders.map(|folder| quoted(&folder, false)).collect();

    let service = filled(
        SERVICE,
        &[
            ("Description", &description),
            ("EnvironmentFile", &rest_of_line(&job.env_file_path.to_string_lossy())),
            ("ExecStart", &command),
            ("ReadWritePaths", &folders.join(" ")),
        ],
    );
    // Rounded down to whole minutes. Where they do not divide an hour, the last interval of each
    // hour is a shorter one.
    let minutes = (job.interval.as_secs() / 60).max(1);
    let calendar = format!("*:0/{minutes}");
    let timer = filled(TIMER, &[("Description", &description), ("OnCalendar", &calendar)]);
    vec![service, timer]
}

/// The template with the first assignment of each name replaced.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut left = values.to_vec();
    let mut text = String::with_capacity(template.len() * 2);
    for line in template.lines() {
        let name = line.split_once('=').map_or("", |(name, _)| name);
        match left.iter().position(|(known, _)| *known == name) {
            Some(position) => {
                let (name, value) = left.remove(position);
                text.extend([name, "=", value]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    assert!(left.is_empty(), "the template has no {left:?}");
    text
}

/// A value that extends to the end of its line. A backslash there would join the next line to it.
fn rest_of_line(text: &str) -> String {
    let text = text.replace('%', "%%").replace('\n', " ");
    if text.ends_with('\\') { text + " " } else { text }
}

/// A word that systemd unquotes. It expands specifiers in every word, and variables in the
/// arguments of a command, but not in the program's path.
fn quoted(word: &str, has_variables: bool) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(is_safe) {
        return word.to_owned();
    }

    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '%' => text.push_str("%%"),
            '$' if has_variables => text.push_str("$$"),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

pub fn check_reachable(control: &ServiceManagerCall<'_>) -> Result<()> {
    let shown = systemctl(control, &["show", "--property=Version,UnitPath"]);
    let shown = shown.map_err(|error| {
        let mut unreachable = Error::failed("cannot reach the systemd user manager");
        unreachable.because = error.because;
        let uid = real_user_id();
        unreachable
            .hint(format!("after su or sudo: export XDG_RUNTIME_DIR=/run/user/{uid}"))
            .hint("without systemd: lakebase-token watch, or cron with lakebase-token write")
    })?;

    let folder = folder(control.context).unwrap_or_default();
    if value(&shown, "UnitPath").split(' ').any(|known| Path::new(known) == folder) {
        return Ok(());
    }
    Err(Error::usage(format!("systemd reads no units from {}", folder.display()))
        .because("the systemd user manager was started with another HOME or XDG_CONFIG_HOME")
        .hint("unset XDG_CONFIG_HOME"))
}

fn systemctl(control: &ServiceManagerCall<'_>, words: &[&str]) -> Result<String> {
    control.run("systemctl", &[&["--user"], words].concat())
}

fn try_systemctl(control: &ServiceManagerCall<'_>, words: &[&str]) -> Result<Output> {
    control.try_run("systemctl", &[&["--user"], words].concat())
}

fn service_unit(control: &ServiceManagerCall<'_>) -> String {
    format!("{}.service", control.name)
}

fn timer_unit(control: &ServiceManagerCall<'_>) -> String {
    format!("{}.timer", control.name)
}

pub fn load(control: &ServiceManagerCall<'_>) -> Result<()> {
    let service = service_unit(control);
    let timer = timer_unit(control);
    systemctl(control, &["daemon-reload"])?;

    // A failed run of the previous unit that waits to be repeated would count as one of the new.
    try_systemctl(control, &["stop", &service])?;
    try_systemctl(control, &["reset-failed", &service, &timer])?;

    systemctl(control, &["enable", &timer])?;
    systemctl(control, &["restart", &timer]).map(|_| ())
}

pub fn run(control: &ServiceManagerCall<'_>) -> Result<()> {
    let service = service_unit(control);
    let started = try_systemctl(control, &["start", &service])?;
    if started.success {
        return Ok(());
    }

    let last_run = systemctl(control, &["show", &service, LAST_RUN])?;
    let error = job_error(control, &last_run, &started.stderr);
    try_systemctl(control, &["stop", &service])?;
    Err(error)
}

/// Why the last run failed: what the journal has of it, else what systemd says.
fn job_error(control: &ServiceManagerCall<'_>, last_run: &str, systemd_says: &str) -> Error {
    // CLD_EXITED of waitid(2) is 1: the process has ended by itself.
    let has_exited =
        value(last_run, "ExecMainCode") == "1" && value(last_run, "Result") == "exit-code";
    let code = value(last_run, "ExecMainStatus").parse().ok().filter(|_| has_exited);

    let log = log_of_run(control, value(last_run, "ExecMainPID"), code.is_some());
    let error = control.job_error(code, log.as_deref().unwrap_or_default());
    if log.is_some() {
        return error;
    }
    if matches!(code, Some(EXIT_NAMESPACE | EXIT_USER)) {
        return error
            .because("systemd cannot set up the unit's sandbox here")
            .hint(format!("systemctl --user edit {}.service, to turn it off", control.name))
            .hint("[Service] PrivateUsers=no ProtectSystem=no");
    }
    if code == Some(EXIT_EXEC) {
        return error
            .because("systemd cannot start the program of the unit: it is gone, or not executable")
            .hint("lakebase-token service install TARGET  # from the program's new path");
    }
    error.because(systemd_says).hint(format!("journalctl --user -u {}", control.name))
}

/// What the journal has of a run, if that includes its error; with `wait`, it may come later.
fn log_of_run(control: &ServiceManagerCall<'_>, pid: &str, wait: bool) -> Option<String> {
    // By the process: of one that has ended, journald does not always know the invocation.
    let run = format!("_PID={pid}");
    let args = ["--user", "--boot", "--output=cat", "--no-pager", &run];
    let polls = if wait { JOURNAL_POLLS } else { 1 };
    for poll in 0..polls {
        if poll > 0 {
            let deadline = Deadline::after(JOURNAL_POLL_INTERVAL);
            control.context.sleep(JOURNAL_POLL_INTERVAL, deadline);
        }
        let log = control.try_run("journalctl", &args).map(|output| output.stdout);
        if let Some(log) = log.ok().filter(|log| log.contains(ERROR_LINE)) {
            return Some(log);
        }
    }
    None
}

pub fn unload(control: &ServiceManagerCall<'_>) -> Result<()> {
    let service = service_unit(control);
    let timer = timer_unit(control);
    // Each fails where there is nothing to do; `notice_removal` checks the result.
    try_systemctl(control, &["disable", "--now", &timer])?;
    try_systemctl(control, &["stop", &service])?;
    // The time of the last run, which `Persistent=` stores.
    try_systemctl(control, &["clean", "--what=state", &timer])?;
    Ok(())
}

pub fn notice_removal(control: &ServiceManagerCall<'_>) -> Result<()> {
    let service = service_unit(control);
    let timer = timer_unit(control);
    systemctl(control, &["daemon-reload"])?;
    try_systemctl(control, &["reset-failed", &service, &timer])?;
    if try_systemctl(control, &["is-active", &service, &timer])?.success {
        return Err(Error::failed(format!("{} cannot be stopped", control.name))
            .hint(format!("systemctl --user status {timer} {service}")));
    }
    Ok(())
}

pub fn state(control: &ServiceManagerCall<'_>) -> Result<State> {
    let properties = "--property=ActiveState,UnitFileState,NextElapseUSecRealtime";
    let timer = systemctl(control, &["show", &timer_unit(control), properties])?;
    let service = systemctl(control, &["show", &service_unit(control), LAST_RUN])?;

    let result = value(&service, "Result");
    let error = (result != "success").then(|| job_error(control, &service, result));
    let (is_scheduled, next_run) = next_run(&timer);
    let last_run = last_run(&service, error.is_some());
    Ok(State { is_scheduled, next_run, last_run, error })
}

fn last_run(service: &str, has_failed: bool) -> String {
    let ended = value(service, "ExecMainExitTimestamp");
    let mut text = if has_failed {
        format!("failed, {ended}")
    } else if ended.is_empty() {
        "none since the systemd user manager was started".to_owned()
    } else {
        format!("succeeded, {ended}")
    };
    match value(service, "SubState") {
        "auto-restart" => text.push_str("; it will be repeated soon"),
        "start" => text.push_str("; another run is in progress"),
        _ => (),
    }
    text
}

/// Whether the timer is set, and when it elapses next.
fn next_run(timer: &str) -> (bool, String) {
    let active = value(timer, "ActiveState");
    let enabled = value(timer, "UnitFileState");
    if active != "active" || enabled != "enabled" {
        return (false, format!("(the timer is {active} and {enabled})"));
    }
    let next = match value(timer, "NextElapseUSecRealtime") {
        "" => "after the run in progress",
        next => next,
    };
    (true, next.to_owned())
}

pub fn linger(control: &ServiceManagerCall<'_>, enable: bool) -> Result<Option<&'static str>> {
    let uid = real_user_id().to_string();
    if enable {
        control.run("loginctl", &["enable-linger", &uid])?;
    }
    // It fails for a user who is not logged in and does not linger.
    let shown = control.try_run("loginctl", &["show-user", &uid, "--property=Linger"])?;
    if value(&shown.stdout, "Linger") == "yes" {
        return Ok(None);
    }
    Ok(Some(
        "the service runs only while you are logged in; to run it always: --linger, or loginctl \
         enable-linger",
    ))
}

/// The value of a property, as `systemctl show` prints it.
fn value<'t>(shown: &'t str, name: &str) -> &'t str {
    let mut lines = shown.lines().filter_map(|line| line.split_once('='));
    lines.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}
