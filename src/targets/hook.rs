//! The hook: the command of `--then`, which runs after a change until it has succeeded once.
//!
//! A mark beside the file (`platform/target_file.rs`) says that the hook is pending, so that the
//! next run repeats a hook that failed, timed out or was killed.

use crate::config::table::Id;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::process::run_shell_line;
use crate::platform::target_file::{HookMark, PendingHook, TargetFile};
use crate::platform::time::Deadline;

/// The mark that a change leaves.
pub fn mark(plan: &Plan) -> HookMark {
    if plan.settings.get(Id::Then).is_some() { HookMark::Pending } else { HookMark::None }
}

/// Runs a pending hook. A message never repeats the command: it may hold a secret.
pub fn run(plan: &Plan, file: &TargetFile, pending: &PendingHook, context: &Context) -> Result<()> {
    let Some(command) = plan.settings.text(Id::Then) else { return Ok(()) };
    context.end_on_signals()?;
    let hidden: Vec<&str> = plan.settings.secret_variables().chain(["PGPASSWORD"]).collect();

    let reason = match run_shell_line(context, command, &hidden, Deadline::after(plan.timeout)) {
        Ok(Some(status)) if status.success() => {
            return file.hook_succeeded(context, Deadline::after(plan.timeout), pending);
        }
        Ok(Some(status)) => status.to_string(),
        Ok(None) => "it took longer than --timeout and was stopped".to_owned(),
        Err(e) => e.to_string(),
    };
    let path = file.path().display();
    Err(Error::failed("the command of --then failed")
        .because(reason)
        .because(format!("{path} is written; the command is run again next time")))
}
