//! `watch`: keeps one target up to date in the foreground, for containers.
//!
//! It checks at least every `--interval` by the wall clock, so that a laptop that wakes up has a
//! fresh file within a second, and earlier if the credential expires earlier. After failures it
//! retries with growing pauses. Each check does what `write` does (`targets/update.rs`), with
//! settings read again, and mints at most once. systemd's notification protocol is sd_notify(3).

use std::time::Duration;

use crate::commands::command::{Call, Command, DATABASE_FLAGS, ROW, print};
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::context::Context;
use crate::platform::log;
use crate::platform::log::Level;
use crate::platform::process;
use crate::platform::target_file::Change;
use crate::platform::time::{Deadline, Timestamp};
use crate::service::env_file::rereadable_file;
use crate::targets::table;
use crate::targets::update::Update;

pub const COMMAND: Command = Command {
    name: "watch",
    about: "keep one of these targets up to date until stopped",
    usage: "TARGET [FLAGS]",
    more: "Does what write does, every --interval, for containers and other systems without a \
           timer. Each credential outlives the next two checks. Prints a line for each change and \
           each failure. SIGTERM and SIGINT end it at once, also as process 1 of a container.",
    flags: &[Id::Interval, Id::Then],
    timeout: "time limit of each check (10s)",
    takes_target: true,
    completions: || table::names().collect(),
    common: DATABASE_FLAGS,
    max_words: 2,
    exit_codes: "exit codes: as for write, if the first check fails and the failure is not temporary (5);\n\
            every other failure is reported and retried",
    run,
    ..ROW
};

/// The pauses after failures. The longest is no longer than the shortest check interval.
const FIRST_RETRY_PAUSE: Duration = Duration::from_secs(5);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// What one check led to.
struct Checked {
    failure: Option<Error>,
    /// The longest time until the next check.
    max_pause: Duration,
}

fn run(mut call: Call<'_>) -> Result<u8> {
    refuse_one_time_secrets(&call)?;
    call.context.end_on_signals()?;
    process::keep_memory_private();
    let flags = call.flags_with_interval();

    let mut failures = 0;
    let mut is_ready = false;
    loop {
        process::reap_orphans();
        let began = call.context.now();
        let checked = match check(&mut call, &flags, !is_ready) {
            // At the start only a temporary failure is retried.
            Err(error) if !is_ready && error.kind != ErrorKind::Unavailable => return Err(error),
            Err(error) => Checked { failure: Some(error), max_pause: MAX_RETRY_PAUSE },
            Ok(checked) => {
                is_ready = true;
                checked
            }
        };

        failures = if checked.failure.is_some() { failures + 1 } else { 0 };
        let pause = if failures > 0 {
            retry_pause(failures).min(checked.max_pause)
        } else {
            checked.max_pause
        };
        let pause = call.context.jittered(pause);
        if let Some(error) = checked.failure {
            report(call.context, &error, pause);
        }
        wait(call.context, began, pause);
    }
}

/// Each check reads the secrets again, which stdin and pipes do not allow.
fn refuse_one_time_secrets(call: &Call<'_>) -> Result<()> {
    for id in [Id::ClientSecretFile, Id::TokenFile] {
        if call.has_flag(id) && rereadable_file(id, call.flags).is_none() {
            let flag = SETTINGS[id as usize].flag;
            return Err(Error::usage(format!(
                "watch reads --{flag} at each check, but stdin or a pipe can be read once"
            ))
            .hint(format!("--{flag} with the path of a file")));
        }
    }
    Ok(())
}

fn check(call: &mut Call<'_>, flags: &[(Id, String)], is_first: bool) -> Result<Checked> {
    let settings = Settings::resolve(flags, call.context)?;
    let update = Update::new(settings, call.words, call.context)?;
    let mut done = update.run()?;

    if done.change != Change::Unchanged {
        call.explain(&update.plan, &done.token);
        // A stdout that nothing reads must not stop the updates.
        let _ = print(call.stdout, &format!("{done}\n"));
    }
    if is_first {
        call.context.notify_systemd("READY=1");
    }

    let left = done.token.left(call.context.now());
    let interval = update.plan.interval.unwrap_or(MAX_RETRY_PAUSE);
    Ok(Checked { failure: done.failure.take(), max_pause: until_next(interval, left) })
}

fn report(context: &Context, error: &Error, pause: Duration) {
    let reasons: String = error.because.iter().map(|reason| format!(", {reason}")).collect();
    let seconds = pause.as_secs().max(1);
    context.note(&format!("{error}{reasons}; the next check is in {seconds} s"));
    log::event(context, Level::Error, &format!("watch: {error}"));
}

/// The time from a successful check to the next one, which must come before the credential expires.
fn until_next(interval: Duration, left: i64) -> Duration {
    let half = Duration::from_millis(left.max(0) as u64 / 2);
    interval.min(half).max(Duration::from_secs(1))
}

/// The pause after this many failures in a row.
fn retry_pause(failures: u32) -> Duration {
    FIRST_RETRY_PAUSE.saturating_mul(1 << (failures - 1).min(10)).min(MAX_RETRY_PAUSE)
}

/// Waits until the wall clock has advanced by the pause. The wall clock continues while a laptop
/// sleeps. If it is set back, the time that has passed is unknown, and the wait ends.
fn wait(context: &Context, since: Timestamp, pause: Duration) {
    const SLICE: Duration = Duration::from_secs(1);
    loop {
        let Ok(passed) = u64::try_from(context.now().since(since)) else { return };
        let Some(left) = pause.checked_sub(Duration::from_millis(passed)) else { return };

        context.sleep(left.min(SLICE), Deadline::after(SLICE));
        if left.is_zero() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_next_check_comes_before_the_credential_expires() {
        assert_eq!(until_next(10 * MINUTE, 55 * 60_000), 10 * MINUTE);
        assert_eq!(until_next(10 * MINUTE, 5 * 60_000), 5 * MINUTE / 2);
        assert_eq!(until_next(10 * MINUTE, 0), Duration::from_secs(1), "never in a tight loop");
    }

    #[test]
    fn pauses_grow_with_the_failures() {
        let pauses: Vec<u64> = (1..=9).map(|n| retry_pause(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
        assert_eq!(retry_pause(u32::MAX), MAX_RETRY_PAUSE);
    }

    #[test]
    fn a_clock_that_is_set_forward_or_back_ends_the_wait() {
        for jump in [3_600_000, -3_600_000] {
            let mut context = Context::of_process();
            context.now = Box::new(move || Timestamp::of_system().plus(jump));
            wait(&context, Timestamp::of_system(), 10 * MINUTE);
        }
    }
}
