//! `run-cli`: supervises a run of the Databricks CLI; `auth/cli_lock.rs` starts it.
//!
//! A process of its own, since the call that needs the token may end first: the run, which may be
//! replacing a refresh token, then continues under the inherited lock, and still ends in time.

use std::time::Duration;

use crate::auth::cli_lock::{CurrentRun, STOPPED};
use crate::commands::command::{Call, Command, ROW};
use crate::error::{Error, Result};
use crate::platform::process::{end_own_group, supervise};
use crate::platform::signals;
use crate::platform::time::show_duration;

pub const COMMAND: Command = Command {
    name: "run-cli",
    usage: "SECONDS locked|unlocked SHOWN -- PROGRAM [ARGUMENT…]",
    more: "Runs the Databricks CLI for a limited time. lakebase-token runs this command itself.",
    max_words: 3,
    takes_child: true,
    exit_codes: "exit codes: the program's own; 1 if it was stopped",
    run,
    ..ROW
};

fn run(call: Call<'_>) -> Result<u8> {
    let wrong_usage = || Error::usage("run-cli is an internal command of lakebase-token");
    let ([seconds, locked, shown], [program, arguments @ ..]) = (call.words, call.child) else {
        return Err(wrong_usage());
    };
    let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok());
    let limit = Duration::from_secs(seconds.ok_or_else(wrong_usage)?);

    signals::ignore_signals()?;
    let started = |process| {
        let shown = shown.to_string_lossy().into_owned();
        if locked == "locked" {
            CurrentRun { process, began: call.context.now(), shown }.record(call.context);
        }
    };
    let ended = supervise(program, arguments, limit, started).map_err(|e| {
        Error::failed(format!("cannot run {}", program.to_string_lossy())).because(e)
    })?;

    if locked == "locked" {
        CurrentRun::forget(call.context);
    }
    let Some(status) = ended else {
        call.context.say(&format!("{STOPPED} {}", show_duration(limit)));
        // Its descendants must not keep the lock.
        end_own_group();
        return Ok(1);
    };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
