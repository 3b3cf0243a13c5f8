//! launchd: an agent with calendar intervals (launchd.plist(5), launchctl(1)).
//!
//! The property list is the one of `integrations/launchd`, with a few values filled in. launchd
//! reads no environment files, so a shell does; nor does it try again soon after a failure, so
//! only the next look does, which is what the promise of `plan.rs` leaves room for.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::process::user_id;
use crate::platform::time::Deadline;
use crate::quoting;
use crate::service::job::Job;
use crate::service::manager_cli::{State, Tools};

pub const ENDINGS: [&str; 1] = [".plist"];

pub fn folder(context: &Context) -> Option<PathBuf> {
    Some(context.home()?.join("Library/LaunchAgents"))
}

pub fn linger(wanted: bool) -> Result<Option<&'static str>> {
    if wanted {
        return Err(Error::usage("launchd runs agents of users who are logged in, no others")
            .hint("leave out --linger"));
    }
    Ok(None)
}

const PLIST: &str = include_str!("../../integrations/launchd/lakebase-token-pgpass.plist");

pub fn plist(job: &Job, context: &Context) -> String {
    let string = |text: &str| format!("<string>{}</string>", quoting::markup(text));
    let list = |items: Vec<String>| {
        let items: String = items.iter().map(|item| format!("\t\t{item}\n")).collect();
        format!("<array>\n{items}\t</array>")
    };
    let environment = job.environment.to_string_lossy();
    let shell = ["/bin/sh", "-c", "set -a; . \"$1\"; shift; exec \"$@\"", &job.name, &environment];
    let words = shell.iter().copied().chain(job.command.iter().map(String::as_str));
    let step = (job.interval.as_secs() / 60).clamp(1, 60) as usize;
    let minutes = (0..60).step_by(step);
    let minute = |n| format!("<dict><key>Minute</key><integer>{n}</integer></dict>");
    let values = [
        ("Label", string(&job.name)),
        ("ProgramArguments", list(words.map(string).collect())),
        ("StartCalendarInterval", list(minutes.map(minute).collect())),
        ("StandardErrorPath", string(&log(context, &job.name).to_string_lossy())),
    ];
    values.iter().fold(PLIST.to_owned(), |text, (key, value)| replaced(&text, key, value))
}

/// The list with another value for a key of its outer dictionary.
fn replaced(plist: &str, key: &str, value: &str) -> String {
    let mark = format!("\n\t<key>{key}</key>\n\t");
    let (before, rest) = plist.split_once(&mark).expect("the template has all keys");
    let end = rest.find("\n\t<key>").unwrap_or(rest.len());
    [before, &mark, value, &rest[end..]].concat()
}

/// The session of the one who is logged in.
fn domain() -> String {
    format!("gui/{}", user_id())
}

fn target(tools: &Tools<'_>) -> String {
    format!("{}/{}", domain(), tools.name)
}

pub fn check_reachable(tools: &Tools<'_>) -> Result<()> {
    tools.tell("launchctl", &["print", &domain()]).map(|_| ()).map_err(|error| {
        let mut refusal = Error::failed("launchd has no session of yours");
        refusal.because = error.because;
        refusal.hint("log in at the machine itself, or lakebase-token watch")
    })
}

/// Loads the agent, which begins a run. Its former self may take a moment to go.
pub fn load(tools: &Tools<'_>) -> Result<()> {
    let target = target(tools);
    if let Some(folder) = log(tools.context, tools.name).parent() {
        // launchd refuses to start what has no place for its words.
        let _ = files::create_folders(folder);
    }
    tools.tell("launchctl", &["enable", &target])?;
    unload(tools)?;
    let unit = tools.unit.as_deref().unwrap_or_default();
    let gone = Deadline::after(GONE);
    loop {
        let loaded = tools.tell("launchctl", &["bootstrap", &domain(), unit]);
        if loaded.is_ok() || gone.passed() {
            return loaded.map(|_| ());
        }
        tools.context.sleep(POLL, gone);
    }
}

/// How long a label may be busy after its agent was told to go.
const GONE: Duration = Duration::from_secs(15);

/// Waits for the end of the run that loading has begun.
pub fn run(tools: &Tools<'_>) -> Result<()> {
    loop {
        let shown = tools.tell("launchctl", &["print", &target(tools)])?;
        match ended(&shown) {
            Some(0) => return Ok(()),
            Some(code) => return Err(failure(tools, code)),
            None if tools.deadline.passed() => {
                return Err(Error::unavailable(format!("{} has not ended in time", tools.name)));
            }
            None => tools.context.sleep(POLL, Deadline::after(POLL)),
        }
    }
}

/// The exit code of the last run, as `launchctl print` tells it (`0`, or `78: EX_CONFIG`); what a
/// shell would make of a signal; none where no run has ended.
fn ended(shown: &str) -> Option<u8> {
    let code = value(shown, "last exit code").and_then(|text| text.split(':').next()?.parse().ok());
    code.or_else(|| value(shown, "last terminating signal").map(|_| KILLED))
}

const KILLED: u8 = 128;

/// Why a run failed, as far as its stderr tells.
fn failure(tools: &Tools<'_>, code: u8) -> Error {
    let log = files::read_or_empty(&log(tools.context, tools.name));
    tools.failure(Some(code).filter(|code| *code != KILLED), &log)
}

const POLL: Duration = Duration::from_millis(100);

/// Where stderr goes, which has a line for each failure.
fn log(context: &Context, name: &str) -> PathBuf {
    context.home().unwrap_or(std::path::Path::new("")).join(format!("Library/Logs/{name}.log"))
}

pub fn unload(tools: &Tools<'_>) -> Result<()> {
    // It fails where nothing is loaded, which is what is wanted.
    tools.ask("launchctl", &["bootout", &target(tools)]).map(|_| ())
}

pub fn state(tools: &Tools<'_>) -> Result<State> {
    let said = tools.ask("launchctl", &["print", &target(tools)])?;
    let code = ended(&said.stdout);
    let error = code.filter(|code| *code != 0).map(|code| failure(tools, code));
    let last = match code {
        None => "none since it was loaded",
        Some(0) => "succeeded",
        Some(_) => "failed",
    };
    let next = if said.success { "by the calendar" } else { "(it is not loaded)" };
    Ok(State { scheduled: said.success, next: next.to_owned(), last: last.to_owned(), error })
}

/// `name = value`, as `launchctl print` indents it.
fn value<'t>(shown: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = shown.lines().filter_map(|line| line.trim().split_once(" = "));
    lines.find(|(known, _)| *known == name).map(|(_, value)| value)
}
