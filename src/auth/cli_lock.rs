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
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::lock::{LockFile, LockGuard};
use crate::platform::path_owners::other_owner;
use crate::platform::private_file::private_folder;
use crate::platform::process::ToolOutput;
use crate::platform::time::{Timestamp, show_duration};

/// How long a run may take. The CLI itself retries for minutes where a workspace does not answer.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A run that takes longer than this keeps others waiting, who are told so.
const LONG: Duration = Duration::from_secs(2);

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
    let path = match prepare(call.context) {
        Ok(path) => path,
        Err(why) => {
            if call.settings.is_on(Id::Verbose) {
                call.context.note(&format!("the Databricks CLI runs without a lock: {why}"));
            }
            return supervised(call, program, arguments, kept, shown, None);
        }
    };
    let cannot_lock = |e| Error::failed(format!("cannot lock {}", path.display())).because(e);
    let mut lock = LockFile::open(&path).map_err(cannot_lock)?;

    let deadline = call.deadline.at_most(call.lock_wait);
    let work = |guard: &LockGuard<'_>| {
        supervised(call, program, arguments, kept, shown, Some((&path, guard)))
    };
    let ran = lock.while_locked(call.context, deadline, work).map_err(cannot_lock)?;
    ran.unwrap_or_else(|| Err(busy_with(CurrentRun::recorded(&path).as_ref(), call.context)))
}

/// The lock's file, in a folder that exists; or why there can be none.
fn prepare(context: &Context) -> std::result::Result<PathBuf, String> {
    let path = lock_path(context).ok_or("HOME is not set")?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if other_owner(folder).is_some() {
        return Err("root does not write into another user's home".to_owned());
    }
    if !folder.is_dir() {
        private_folder(folder).map_err(|e| e.to_string())?;
    }
    LockFile::open(&path).map_err(|e| e.to_string())?;
    Ok(path)
}

fn lock_path(context: &Context) -> Option<PathBuf> {
    Some(context.home()?.join(".databricks/lakebase-token.lock"))
}

fn supervised(
    call: &ProviderCall<'_>,
    program: &Path,
    arguments: &[&str],
    kept: &[&str],
    shown: &str,
    lock: Option<(&Path, &LockGuard<'_>)>,
) -> Result<ToolOutput> {
    let own = (call.context.own_executable)()
        .map_err(|e| Error::failed("cannot find this program's own file").because(e))?;
    let limit = RUN_LIMIT.as_secs().to_string();
    let file = lock.map_or("", |(path, _)| path.to_str().unwrap_or_default());
    let program = program.to_str().ok_or_else(|| {
        let program = program.display();
        Error::usage(format!("the path of the Databricks CLI is not valid UTF-8: {program}"))
    })?;
    let mut words = vec!["run-cli", &limit, file, shown, "--", program];
    words.extend(arguments);
    call.run_cli(&own, &words, kept, lock.map(|(_, guard)| guard), shown)
}

/// A run that has the lock, as its supervisor has recorded it.
pub struct CurrentRun {
    /// The process id of the CLI.
    pub process: u32,
    pub began: Timestamp,
    /// The command line.
    pub shown: String,
}

impl CurrentRun {
    pub fn record(&self, lock_file: &Path) {
        let CurrentRun { process, began, shown } = self;
        // Without it, a message says less.
        let _ = LockFile::note_holder(lock_file, &format!("{process} {} {shown}\n", began.0));
    }

    fn recorded(lock_file: &Path) -> Option<CurrentRun> {
        let text = files::read_or_empty(lock_file);
        let mut parts = text.trim_end().splitn(3, ' ');
        Some(CurrentRun {
            process: parts.next()?.parse().ok()?,
            began: Timestamp(parts.next()?.parse().ok()?),
            shown: parts.next()?.to_owned(),
        })
    }
}

/// What keeps all other runs waiting: a run that has taken long already.
pub fn busy(context: &Context) -> Option<Error> {
    let path = lock_path(context)?;
    let run = CurrentRun::recorded(&path)?;
    if context.now().since(run.began) < LONG.as_millis() as i64 {
        return None;
    }
    let mut lock = LockFile::open(&path).ok()?;
    let is_free = lock.try_lock().ok()?.is_some();
    (!is_free).then(|| busy_with(Some(&run), context))
}

fn busy_with(run: Option<&CurrentRun>, context: &Context) -> Error {
    // Another caller may have more time to wait.
    let busy =
        |message| Error { time_lacking: Some(Duration::ZERO), ..Error::unavailable(message) };
    let Some(CurrentRun { process, began, shown }) = run else {
        return busy("another run of the Databricks CLI has not ended".to_owned())
            .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT");
    };
    let age =
        show_duration(Duration::from_secs((context.now().since(*began) / 1000).max(0) as u64));
    busy(format!("another run of the Databricks CLI has not ended: {}", redact(shown)))
        .because(format!(
            "process {process} has run for {age}; one run at a time keeps logins valid"
        ))
        .hint(format!("kill {process}  # if it hangs; lakebase-token ends it after two minutes"))
}
