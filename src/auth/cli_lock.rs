//! The lock around every run of the Databricks CLI in a home.
//!
//! Two runs at once use the same refresh token twice, which ends the login; and each run rewrites the
//! CLI's one file of logins, so that tokens of other profiles are lost. So one lock serves all
//! profiles, hosts and settings. It lies beside the CLI's own files, since XDG folders differ between
//! a shell and a unit, and it is taken after all other locks.
//!
//! A run is supervised by a process of its own (`commands/run_cli.rs`), which holds the lock too, ends
//! a run that hangs, and records in the lock's file what runs. What the CLI prints is the business of
//! `providers/databricks_cli.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::provider::ProviderCall;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result, TIMEOUT_HINT};
use crate::platform::context::{Context, NO_HOME};
use crate::platform::files;
use crate::platform::lock::{LockFile, LockGuard, note_name};
use crate::platform::path_owners::{
    NOT_ROOTS_HOME, is_root_in_other_users_folder, open_folder, open_or_create_folder,
};
use crate::platform::process::ToolOutput;
use crate::platform::time::{Timestamp, show_duration};

/// How long a run may take. The CLI itself retries for minutes where a workspace does not answer.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// A run that takes longer than this keeps others waiting, who are told so.
const NOTICE_DELAY: Duration = Duration::from_secs(2);

/// What the supervisor prints after it has ended a run.
pub const STOPPED: &str = "lakebase-token stopped the Databricks CLI, which had not ended within";

/// Runs the CLI under the lock. `shown` is the command line for messages.
pub fn run(
    call: &ProviderCall<'_>,
    program: &Path,
    arguments: &[&str],
    kept: &[&str],
    shown: &str,
) -> Result<ToolOutput> {
    let mut lock = match open(call.context) {
        Ok(lock) => lock,
        Err(why) => {
            if call.settings.is_on(Id::Verbose) {
                call.context.note(&format!("the Databricks CLI runs without a lock: {why}"));
            }
            return supervised(call, program, arguments, kept, shown, None);
        }
    };
    let deadline = call.deadline.at_most(call.lock_wait);
    let work =
        |guard: &LockGuard<'_>| supervised(call, program, arguments, kept, shown, Some(guard));
    let ran = lock.while_locked(call.context, deadline, work);
    let ran = ran.map_err(|e| {
        Error::failed("cannot lock the Databricks CLI's logins").because(e).unshared()
    })?;
    ran.unwrap_or_else(|| Err(busy_with(CurrentRun::recorded(call.context).as_ref(), call.context)))
}

/// The lock, or why there can be none.
fn open(context: &Context) -> std::result::Result<LockFile, String> {
    let folder = folder(context).ok_or(NO_HOME)?;
    if is_root_in_other_users_folder(&folder) {
        return Err(NOT_ROOTS_HOME.to_owned());
    }
    open_or_create_folder(&folder)
        .and_then(|folder| LockFile::open(&folder, LOCK))
        .map_err(|e| e.to_string())
}

/// The folder of the CLI's own files.
fn folder(context: &Context) -> Option<PathBuf> {
    Some(context.home()?.join(".databricks"))
}

const LOCK: &str = "lakebase-token.lock";

fn supervised(
    call: &ProviderCall<'_>,
    program: &Path,
    arguments: &[&str],
    kept: &[&str],
    shown: &str,
    lock: Option<&LockGuard<'_>>,
) -> Result<ToolOutput> {
    let own = call.context.own_file()?;
    let limit = RUN_TIMEOUT.as_secs().to_string();
    let locked = if lock.is_some() { "locked" } else { "unlocked" };
    let program = program.to_str().ok_or_else(|| {
        let program = program.display();
        Error::usage(format!("the path of the Databricks CLI is not valid UTF-8: {program}"))
    })?;
    let mut words = vec!["run-cli", &limit, locked, shown, "--", program];
    words.extend(arguments);
    call.run_cli(&own, &words, kept, lock, shown)
}

/// A run that has the lock, as its supervisor has recorded it.
pub struct CurrentRun {
    /// The process id of the CLI.
    pub process: u32,
    pub began: Timestamp,
    pub shown: String,
}

impl CurrentRun {
    pub fn record(&self, context: &Context) {
        let CurrentRun { process, began, shown } = self;
        write_record(context, &format!("{process} {} {shown}\n", began.0));
    }

    /// After the time that a run may take, the record is of a run that has ended, and its process id may be
    /// another process's.
    fn recorded(context: &Context) -> Option<CurrentRun> {
        let text = files::read_or_empty(&folder(context)?.join(note_name(LOCK)));
        let mut parts = text.trim_end().splitn(3, ' ');
        let run = CurrentRun {
            process: parts.next()?.parse().ok()?,
            began: Timestamp(parts.next()?.parse().ok()?),
            shown: parts.next()?.to_owned(),
        };
        let age = context.now().since(run.began);
        (age <= RUN_TIMEOUT.as_millis() as i64).then_some(run)
    }

    /// Removes the record of a run that has ended.
    pub fn forget(context: &Context) {
        write_record(context, "");
    }
}

fn write_record(context: &Context, text: &str) {
    let folder = folder(context).and_then(|folder| open_folder(&folder).ok());
    // Without it, a message says less.
    let _ = folder.map(|folder| LockFile::note_holder(&folder, LOCK, text));
}

/// What keeps all other runs waiting: a run that has taken long already.
pub fn blocking_run(context: &Context) -> Option<Error> {
    let run = CurrentRun::recorded(context)?;
    if context.now().since(run.began) < NOTICE_DELAY.as_millis() as i64 {
        return None;
    }
    let mut lock = open(context).ok()?;
    let is_free = lock.try_lock().ok()?.is_some();
    (!is_free).then(|| busy_with(Some(&run), context))
}

fn busy_with(run: Option<&CurrentRun>, context: &Context) -> Error {
    // Another caller may have more time to wait.
    let unavailable =
        |message| Error { time_lacking: Some(Duration::ZERO), ..Error::unavailable(message) };
    let Some(CurrentRun { process, began, shown }) = run else {
        return unavailable("another run of the Databricks CLI has not ended".to_owned())
            .hint(TIMEOUT_HINT);
    };
    let age =
        show_duration(Duration::from_secs((context.now().since(*began) / 1000).max(0) as u64));
    unavailable(format!("another run of the Databricks CLI has not ended: {}", redact(shown)))
        .because(format!(
            "process {process} has run for {age}; one run at a time keeps logins valid"
        ))
        .hint(format!("kill {process}  # if it hangs; lakebase-token ends it after two minutes"))
}
