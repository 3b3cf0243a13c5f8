//! Runs the service manager's own programs (`systemctl`, `loginctl`, `journalctl`, `launchctl`) for
//! one service. Which of them, and what their output means, is the business of `systemd.rs` and
//! `launchd.rs`.

use std::ffi::OsStr;

use crate::config::variables::is_withheld_from_local_tools;
use crate::credential::redact::redact;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::context::Context;
use crate::platform::process::{Program, run_tool};
use crate::platform::time::Deadline;

pub struct ServiceManagerCall<'a> {
    /// The job's name.
    pub name: &'a str,
    /// The path of the job's first unit file.
    pub unit: Option<String>,
    pub context: &'a Context,
    /// The variable that `oidc_token_env` names.
    pub token_variable: Option<&'a str>,
    /// When every program must have ended.
    pub deadline: Deadline,
}

/// The job's state. The texts are for people.
pub struct State {
    pub is_scheduled: bool,
    pub next_run: String,
    pub last_run: String,
    /// Why the last run failed.
    pub error: Option<Error>,
}

/// What a program printed.
pub struct Output {
    pub success: bool,
    pub stdout: String,
    /// Redacted, on one line.
    pub stderr: String,
}

impl ServiceManagerCall<'_> {
    /// Runs a program, which may fail.
    pub fn try_run(&self, program: &str, args: &[&str]) -> Result<Output> {
        let path = self
            .context
            .find_program(program)
            .ok_or_else(|| Error::failed(format!("there is no {program} on PATH")))?;
        let tool = Program {
            path: &path,
            arguments: args,
            sees: &|name| !is_withheld_from_local_tools(name, self.token_variable.map(OsStr::new)),
            variables: &[],
            locks: [None, None],
        };
        let shown = format!("{program} {}", args.join(" "));
        let said = run_tool(self.context, &tool, &shown, self.deadline)?;
        Ok(Output {
            success: said.status.success(),
            stdout: String::from_utf8_lossy(&said.stdout).into_owned(),
            stderr: redact(&said.stderr),
        })
    }

    /// Runs a program, which must succeed, and returns its stdout.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = self.try_run(program, args)?;
        if output.success {
            return Ok(output.stdout);
        }
        Err(Error::failed(format!("`{program} {}` failed", args.join(" "))).because(output.stderr))
    }

    /// The error of a job that failed: what the last run wrote to stderr, which is part of `log`.
    pub fn job_error(&self, exit_code: Option<u8>, log: &str) -> Error {
        let kind = exit_code.and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Failed);
        let mut error = Error::new(kind, format!("{} was started and failed", self.name));
        error = match exit_code {
            Some(code) => error.because(format!("exit code {code}")),
            None => error.because("it could not be run, or was killed"),
        };

        let start = log.rfind(ERROR_LINE).unwrap_or(log.len());
        let lines = |label: &'static str| {
            log[start..].lines().filter_map(move |line| line.strip_prefix(label)).map(redact)
        };
        for reason in lines(ERROR_LINE).chain(lines("lakebase-token: because: ")) {
            error = error.because(reason);
        }
        for hint in lines("lakebase-token: hint: ") {
            error = error.hint(hint);
        }
        error
    }
}

/// How our error begins on stderr (`lib.rs`).
pub const ERROR_LINE: &str = "lakebase-token: error: ";
