//! launchd: an agent with calendar intervals (launchd.plist(5), launchctl(1)).
//!
//! The property list is that of `integrations/launchd`, with a few values filled in. launchd reads
//! no environment file, so a shell reads it. launchd does not repeat a failed run either, so the
//! next check does: the credential outlives it (`Plan::min_ttl`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::process::real_user_id;
use crate::platform::time::Deadline;
use crate::quoting;
use crate::service::definition::ServiceDefinition;
use crate::service::manager_call::{ServiceManagerCall, State};

pub const EXTENSIONS: [&str; 1] = [".plist"];

const PLIST: &str = include_str!("../../integrations/launchd/lakebase-token-pgpass.plist");

/// How long launchd may take to end the previous agent of the same label.
const UNLOAD_WAIT: Duration = Duration::from_secs(15);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The exit code that stands for the end by a signal: a shell adds the signal's number to it.
const KILLED: u8 = 128;

pub fn folder(context: &Context) -> Option<PathBuf> {
    Some(context.home()?.join("Library/LaunchAgents"))
}

pub fn linger(enable: bool) -> Result<Option<&'static str>> {
    if enable {
        return Err(Error::usage("launchd runs agents only of users who are logged in")
            .hint("leave out --linger"));
    }
    Ok(None)
}

pub fn plist(job: &ServiceDefinition, context: &Context) -> String {
    let env_file = job.env_file_path.to_string_lossy();
    let shell = ["/bin/sh", "-c", "set -a; . \"$1\"; shift; exec \"$@\"", &job.name, &env_file];
    let words = shell.iter().copied().chain(job.command.iter().map(String::as_str));

    let step = (job.interval.as_secs() / 60).clamp(1, 60) as usize;
    let minutes = (0..60).step_by(step);
    let minute = |n| format!("<dict><key>Minute</key><integer>{n}</integer></dict>");

    let values = [
        ("Label", string(&job.name)),
        ("ProgramArguments", array(words.map(string))),
        ("StartCalendarInterval", array(minutes.map(minute))),
        ("StandardErrorPath", string(&log(context, &job.name).to_string_lossy())),
    ];
    values.iter().fold(PLIST.to_owned(), |text, (key, value)| replaced(&text, key, value))
}

fn string(text: &str) -> String {
    format!("<string>{}</string>", quoting::markup(text))
}

fn array(items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("\t\t{item}\n")).collect();
    format!("<array>\n{items}\t</array>")
}

/// The property list with another value for a key of its outer dictionary.
fn replaced(plist: &str, key: &str, value: &str) -> String {
    let key = format!("\n\t<key>{key}</key>\n\t");
    let (before, rest) = plist.split_once(&key).expect("the template has all keys");
    let end = rest.find("\n\t<key>").unwrap_or(rest.len());
    [before, &key, value, &rest[end..]].concat()
}

/// The user's graphical session (launchctl(1)).
fn domain() -> String {
    format!("gui/{}", real_user_id())
}

/// The agent, as launchctl(1) names it.
fn service_target(control: &ServiceManagerCall<'_>) -> String {
    format!("{}/{}", domain(), control.name)
}

pub fn check_reachable(control: &ServiceManagerCall<'_>) -> Result<()> {
    control.run("launchctl", &["print", &domain()]).map(|_| ()).map_err(|error| {
        let mut refusal = Error::failed("launchd has no session for this user");
        refusal.because = error.because;
        refusal.hint("log in at the machine itself, or lakebase-token watch")
    })
}

/// Loads the agent, which starts a run. launchd refuses while the previous agent is still ending.
pub fn load(control: &ServiceManagerCall<'_>) -> Result<()> {
    if let Some(folder) = log(control.context, control.name).parent() {
        // launchd does not start an agent whose log has no folder.
        let _ = files::create_folders(folder);
    }
    control.run("launchctl", &["enable", &service_target(control)])?;
    unload(control)?;

    let unit = control.unit.as_deref().unwrap_or_default();
    let deadline = Deadline::after(UNLOAD_WAIT);
    loop {
        let loaded = control.run("launchctl", &["bootstrap", &domain(), unit]);
        if loaded.is_ok() || deadline.passed() {
            return loaded.map(|_| ());
        }
        control.context.sleep(POLL_INTERVAL, deadline);
    }
}

/// Waits for the end of the run that loading has started.
pub fn run(control: &ServiceManagerCall<'_>) -> Result<()> {
    loop {
        let printed = control.run("launchctl", &["print", &service_target(control)])?;
        match last_exit_code(&printed) {
            Some(0) => return Ok(()),
            Some(code) => return Err(job_error(control, code)),
            None if control.deadline.passed() => {
                return Err(Error::unavailable(format!("{} has not ended in time", control.name)));
            }
            None => control.context.sleep(POLL_INTERVAL, Deadline::after(POLL_INTERVAL)),
        }
    }
}

/// The exit code of the last run, as `launchctl print` has it (`0`, or `78: EX_CONFIG`), or
/// [`KILLED`]; nothing where no run has ended.
fn last_exit_code(printed: &str) -> Option<u8> {
    let code = value(printed, "last exit code");
    let code = code.and_then(|text| text.split(':').next()?.parse().ok());
    code.or_else(|| value(printed, "last terminating signal").map(|_| KILLED))
}

fn job_error(control: &ServiceManagerCall<'_>, code: u8) -> Error {
    let log = files::read_or_empty(&log(control.context, control.name));
    control.job_error(Some(code).filter(|code| *code != KILLED), &log)
}

/// The file that stderr is appended to.
fn log(context: &Context, name: &str) -> PathBuf {
    let home = context.home().unwrap_or(Path::new(""));
    home.join(format!("Library/Logs/{name}.log"))
}

pub fn unload(control: &ServiceManagerCall<'_>) -> Result<()> {
    // It fails where no agent is loaded.
    control.try_run("launchctl", &["bootout", &service_target(control)]).map(|_| ())
}

pub fn state(control: &ServiceManagerCall<'_>) -> Result<State> {
    let printed = control.try_run("launchctl", &["print", &service_target(control)])?;
    let code = last_exit_code(&printed.stdout);
    let last_run = match code {
        None => "none since it was loaded",
        Some(0) => "succeeded",
        Some(_) => "failed",
    };
    let next_run = if printed.success { "by the calendar" } else { "(it is not loaded)" };
    Ok(State {
        is_scheduled: printed.success,
        next_run: next_run.to_owned(),
        last_run: last_run.to_owned(),
        error: code.filter(|code| *code != 0).map(|code| job_error(control, code)),
    })
}

/// The value of a line `name = value`, as `launchctl print` indents it.
fn value<'t>(printed: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = printed.lines().filter_map(|line| line.trim().split_once(" = "));
    lines.find(|(known, _)| *known == name).map(|(_, value)| value)
}
