//! `watch`: keeps one place up to date in the foreground, for containers.
//!
//! It looks at least every `--interval` by the wall clock, so that a laptop that wakes has a fresh
//! file within a second, and sooner where a credential lives shorter than that. After a failure it
//! looks again soon, then less and less soon. Each look is a `write` of its own, with settings
//! read anew, and mints once at the most. systemd's notification protocol is sd_notify(3).

use std::time::Duration;

use crate::commands::command::{COMMON, Call, Command, ROW, print};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::context::Context;
use crate::platform::log;
use crate::platform::log::Level;
use crate::platform::process;
use crate::platform::target_file::Change;
use crate::platform::time::{Deadline, Timestamp};
use crate::service::env_file::kept_file;
use crate::targets::table;
use crate::targets::update::{DEFAULT_INTERVAL, Update};

pub const COMMAND: Command = Command {
    name: "watch",
    about: "keep one of those places up to date until stopped",
    usage: "PLACE [FLAGS]",
    more: "What `write` does, every --interval, for containers and other places without a timer. \
           Says a line for each change and each failure, and ends at once when it is told to \
           (SIGTERM, SIGINT), also as PID 1. What it writes lives until the look after the next.",
    flags: &[Id::Interval, Id::Then],
    takes_target: true,
    words: || table::names().collect(),
    common: COMMON,
    max_words: 2,
    codes: "exit codes: those of write, if the first look fails for another reason than 5; all other\n\
            failures are said and tried again",
    run,
    ..ROW
};

fn run(call: Call<'_>) -> Result<u8> {
    for id in [Id::ClientSecretFile, Id::TokenFile] {
        if call.flags.iter().any(|(flag, _)| *flag == id) && kept_file(id, call.flags).is_none() {
            return Err(Error::usage(
                "watch reads secrets anew at each look, and stdin or a pipe can be read once",
            )
            .hint("a file that stays"));
        }
    }
    call.context.end_on_signals()?;
    let mut flags = call.flags.to_vec();
    if !flags.iter().any(|(id, _)| *id == Id::Interval) {
        flags.push((Id::Interval, DEFAULT_INTERVAL.to_owned()));
    }
    let look = || {
        let update =
            Update::new(Settings::resolve(&flags, call.context)?, call.words, call.context)?;
        update.run().map(|done| (done, update))
    };
    let (mut failures, mut ready) = (0, false);
    loop {
        process::reap_orphans();
        let looked = call.context.now();
        let (failure, longest) = match look() {
            Ok((mut done, update)) => {
                if done.change != Change::Unchanged {
                    call.explain(&update.plan, &done.token);
                    // Who does not listen must not keep the file from being true.
                    let _ = print(call.stdout, &format!("{done}\n"));
                }
                if !ready {
                    call.context.notify_systemd("READY=1");
                }
                ready = true;
                let left = done.token.left(call.context.now());
                (done.failure.take(), until_next(update.plan.interval.unwrap_or(LONGEST), left))
            }
            // At the beginning only what passes by itself is waited for.
            Err(error) if !ready && error.kind != ErrorKind::Unavailable => return Err(error),
            Err(error) => (Some(error), LONGEST),
        };
        failures = if failure.is_some() { failures + 1 } else { 0 };
        let pause = if failures > 0 { back_off(failures).min(longest) } else { longest };
        let pause = call.context.jittered(pause);
        if let Some(error) = failure {
            let reasons: String = error.because.iter().map(|r| format!(", {r}")).collect();
            let wait = pause.as_secs().max(1);
            call.context.note(&format!("{error}{reasons}; the next look is in {wait} s"));
            log::event(call.context, Level::Error, &format!("watch: {error}"));
        }
        wait(call.context, looked, pause);
    }
}

/// The longest pause after failures: no longer than the shortest interval.
const LONGEST: Duration = Duration::from_secs(60);

/// Until the next look after a good one: what was written must not die before.
fn until_next(interval: Duration, left: i64) -> Duration {
    let half = Duration::from_millis(left.max(0) as u64 / 2);
    interval.min(half).max(Duration::from_secs(1))
}

/// Until the next look after so many failures in a row.
fn back_off(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(5);
    FIRST.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST)
}

/// Waits until so much time has passed by the wall clock, which goes on while a laptop sleeps and
/// may be set back, after which nothing is known about how much has passed.
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
    fn the_next_look_comes_before_the_credential_dies() {
        assert_eq!(until_next(10 * MINUTE, 55 * 60_000), 10 * MINUTE);
        assert_eq!(until_next(10 * MINUTE, 5 * 60_000), 5 * MINUTE / 2);
        assert_eq!(until_next(10 * MINUTE, 0), Duration::from_secs(1), "never in a tight loop");
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let pauses: Vec<u64> = (1..=9).map(|n| back_off(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX), LONGEST);
    }

    #[test]
    fn a_clock_that_was_set_on_or_back_ends_the_wait() {
        for jump in [3_600_000, -3_600_000] {
            let mut context = Context::of_process();
            context.now = Box::new(move || Timestamp::of_system().plus(jump));
            wait(&context, Timestamp::of_system(), 10 * MINUTE);
        }
    }
}
