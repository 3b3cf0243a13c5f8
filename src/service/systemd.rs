//! systemd: a oneshot service and a timer of the user's own manager (systemd.service(5),
//! systemd.timer(5), systemd.syntax(7)).
//!
//! The files are those of `integrations/systemd`, with a few assignments filled in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::process::user_id;
use crate::platform::time::Deadline;
use crate::service::job::Job;
use crate::service::manager_cli::{State, Tools};

pub const ENDINGS: [&str; 2] = [".service", ".timer"];

const SERVICE: &str = include_str!("../../integrations/systemd/lakebase-token-pgpass.service");
const TIMER: &str = include_str!("../../integrations/systemd/lakebase-token-pgpass.timer");

pub fn folder(context: &Context) -> Option<PathBuf> {
    Some(context.config_home()?.join("systemd/user"))
}

pub fn files(job: &Job) -> Vec<String> {
    let about = format!("lakebase-token: {}", plain(&job.place));
    let [program, arguments @ ..] = &job.command[..] else { return Vec::new() };
    let mut line = quoted(program, false);
    for word in arguments {
        line.push(' ');
        line.push_str(&quote(word));
    }
    // The others are no reason to fail, so they are passed over where they are not there.
    let others = job.folders.iter().map(|folder| format!("-{folder}"));
    let folders = job.place_folder.clone().into_iter().chain(others);
    let folders = folders.map(|folder| quoted(&folder, false));
    let service = filled(
        SERVICE,
        &[
            ("Description", &about),
            ("EnvironmentFile", &plain(&job.environment.to_string_lossy())),
            ("ExecStart", &line),
            ("ReadWritePaths", &folders.collect::<Vec<_>>().join(" ")),
        ],
    );
    // Rounded down to minutes that an hour has; the first of the next hour comes early at worst.
    let minutes = (job.interval.as_secs() / 60).max(1);
    let timer =
        filled(TIMER, &[("Description", &about), ("OnCalendar", &format!("*:0/{minutes}"))]);
    vec![service, timer]
}

/// A file with the first assignment of each name replaced.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut left = values.to_vec();
    let mut text = String::with_capacity(template.len() * 2);
    for line in template.lines() {
        let name = line.split_once('=').map_or("", |(name, _)| name);
        match left.iter().position(|(known, _)| *known == name) {
            Some(found) => {
                let (name, value) = left.remove(found);
                text.extend([name, "=", value]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    assert!(left.is_empty(), "the template has no {left:?}");
    text
}

/// A value that is taken to the end of its line, which a backslash would join to the next.
fn plain(text: &str) -> String {
    let text = text.replace('%', "%%").replace('\n', " ");
    if text.ends_with('\\') { text + " " } else { text }
}

fn quote(word: &str) -> String {
    quoted(word, true)
}

/// A word that is unquoted and whose specifiers and, but for the program's, variables are expanded.
fn quoted(word: &str, variables: bool) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '%' => text.push_str("%%"),
            '$' if variables => text.push_str("$$"),
            _ => text.push(c),
        }
    }
    text.push('"');
    text
}

pub fn check_reachable(tools: &Tools<'_>) -> Result<()> {
    let asked = tools.tell("systemctl", &["--user", "show", "--property=Version,UnitPath"]);
    let asked = asked.map_err(|error| {
        let mut refusal = Error::failed("no systemd user manager answers here");
        refusal.because = error.because;
        let uid = user_id();
        refusal
            .hint(format!("after su or sudo: export XDG_RUNTIME_DIR=/run/user/{uid}"))
            .hint("without systemd: lakebase-token watch, or cron with lakebase-token write")
    })?;
    let folder = folder(tools.context).unwrap_or_default();
    if value(&asked, "UnitPath").split(' ').any(|known| Path::new(known) == folder) {
        return Ok(());
    }
    Err(Error::usage(format!("systemd looks for no units in {}", folder.display()))
        .because("HOME or XDG_CONFIG_HOME is not what its user manager was started with")
        .hint("unset XDG_CONFIG_HOME"))
}

fn user(tools: &Tools<'_>, words: &[&str]) -> Result<String> {
    tools.tell("systemctl", &[&["--user"], words].concat())
}

pub fn load(tools: &Tools<'_>) -> Result<()> {
    let (service, timer) = (format!("{}.service", tools.name), format!("{}.timer", tools.name));
    user(tools, &["daemon-reload"])?;
    // A run that waits to be tried again is none of the new unit's business.
    tools.ask("systemctl", &["--user", "stop", &service])?;
    tools.ask("systemctl", &["--user", "reset-failed", &service, &timer])?;
    user(tools, &["enable", &timer])?;
    user(tools, &["restart", &timer]).map(|_| ())
}

pub fn run(tools: &Tools<'_>) -> Result<()> {
    let unit = format!("{}.service", tools.name);
    let started = tools.ask("systemctl", &["--user", "start", &unit])?;
    if started.success {
        return Ok(());
    }
    let ended = user(tools, &["show", &unit, PROPERTIES])?;
    let error = failure(tools, &ended, &started.stderr);
    tools.ask("systemctl", &["--user", "stop", &unit])?;
    Err(error)
}

/// What is told of a service's last run.
const PROPERTIES: &str = "--property=SubState,Result,ExecMainCode,ExecMainStatus,\
                          ExecMainExitTimestamp,ExecMainPID";

/// Exit codes of systemd's own (systemd.exec(5)), for mounts and for users.
const NAMESPACE: u8 = 226;
const USER: u8 = 217;

/// How long one waits for the journal at a time.
const LATE: Duration = Duration::from_millis(100);

/// Why the last run failed, as far as the journal has it; `otherwise` what systemd says.
fn failure(tools: &Tools<'_>, shown: &str, otherwise: &str) -> Error {
    // 1 is CLD_EXITED of waitid(2): it ended by itself.
    let exited = value(shown, "ExecMainCode") == "1" && value(shown, "Result") == "exit-code";
    let code = value(shown, "ExecMainStatus").parse().ok().filter(|_| exited);
    // Not by its invocation: of a process that has ended journald does not always know that.
    let run = format!("_PID={}", value(shown, "ExecMainPID"));
    let said = || {
        let log =
            tools.ask("journalctl", &["--user", "--boot", "--output=cat", "--no-pager", &run]);
        log.map(|said| said.stdout).ok().filter(|log| log.contains("lakebase-token: error: "))
    };
    // What was said last may still be on its way into the journal.
    let mut log = said();
    for _ in 0..10 {
        if log.is_some() || code.is_none() {
            break;
        }
        tools.context.sleep(LATE, Deadline::after(LATE));
        log = said();
    }
    let error = tools.failure(code, log.as_deref().unwrap_or_default());
    if log.is_some() {
        return error;
    }
    if matches!(code, Some(NAMESPACE | USER)) {
        return error
            .because("systemd cannot set up the unit's sandbox here")
            .hint(format!("systemctl --user edit {}.service, to turn it off", tools.name))
            .hint("[Service] PrivateUsers=no ProtectSystem=no");
    }
    error.because(otherwise).hint(format!("journalctl --user -u {}", tools.name))
}

pub fn unload(tools: &Tools<'_>) -> Result<()> {
    let (service, timer) = (format!("{}.service", tools.name), format!("{}.timer", tools.name));
    // Each fails where there is nothing to be done; `forget` looks whether all is done.
    for words in [
        &["disable", "--now", &timer][..],
        &["stop", &service],
        // When it ran last, which `Persistent=` writes down.
        &["clean", "--what=state", &timer],
    ] {
        tools.ask("systemctl", &[&["--user"], words].concat())?;
    }
    Ok(())
}

pub fn forget(tools: &Tools<'_>) -> Result<()> {
    let (service, timer) = (format!("{}.service", tools.name), format!("{}.timer", tools.name));
    user(tools, &["daemon-reload"])?;
    tools.ask("systemctl", &["--user", "reset-failed", &service, &timer])?;
    if tools.ask("systemctl", &["--user", "is-active", &service, &timer])?.success {
        return Err(Error::failed(format!("{} cannot be stopped", tools.name))
            .hint(format!("systemctl --user status {timer} {service}")));
    }
    Ok(())
}

pub fn state(tools: &Tools<'_>) -> Result<State> {
    let (service, timer) = (format!("{}.service", tools.name), format!("{}.timer", tools.name));
    let properties = "--property=ActiveState,UnitFileState,NextElapseUSecRealtime";
    let timer = user(tools, &["show", &timer, properties])?;
    let service = user(tools, &["show", &service, PROPERTIES])?;
    let (at, result) = (value(&service, "ExecMainExitTimestamp"), value(&service, "Result"));
    let error = (result != "success").then(|| failure(tools, &service, result));
    let mut last = match &error {
        Some(_) => format!("failed, {at}"),
        None if at.is_empty() => "none since the manager was started".to_owned(),
        None => format!("succeeded, {at}"),
    };
    match value(&service, "SubState") {
        "auto-restart" => last.push_str("; it is tried again soon"),
        "start" => last.push_str("; another one is under way"),
        _ => (),
    }
    let (active, enabled) = (value(&timer, "ActiveState"), value(&timer, "UnitFileState"));
    let scheduled = active == "active" && enabled == "enabled";
    let next = match value(&timer, "NextElapseUSecRealtime") {
        _ if !scheduled => format!("(the timer is {active} and {enabled})"),
        "" => "when the one under way has ended".to_owned(),
        next => next.to_owned(),
    };
    Ok(State { scheduled, next, last, error })
}

pub fn linger(tools: &Tools<'_>, wanted: bool) -> Result<Option<&'static str>> {
    let uid = user_id().to_string();
    if wanted {
        tools.tell("loginctl", &["enable-linger", &uid])?;
    }
    // It fails for a user who neither is logged in nor lingers.
    let said = tools.ask("loginctl", &["show-user", &uid, "--property=Linger"])?;
    const NOT: &str =
        "it runs while you are logged in; for always: --linger, or loginctl enable-linger";
    Ok((value(&said.stdout, "Linger") != "yes").then_some(NOT))
}

/// A property as `systemctl show` prints it.
fn value<'t>(shown: &'t str, name: &str) -> &'t str {
    let mut lines = shown.lines().filter_map(|line| line.split_once('='));
    lines.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}
