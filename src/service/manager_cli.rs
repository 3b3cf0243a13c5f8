//! The platform's own programs (`systemctl`, `launchctl`), asked about one job.

use crate::credential::redact::redact;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::context::Context;
use crate::platform::process::{Program, find_program, run_tool};
use crate::platform::time::Deadline;

/// Asks them.
pub struct Tools<'a> {
    /// The job's name.
    pub name: &'a str,
    /// Its first file.
    pub unit: Option<String>,
    /// The surroundings.
    pub context: &'a Context,
    /// When all must have ended.
    pub deadline: Deadline,
}

/// How a job fares.
pub struct State {
    /// Whether it is scheduled.
    pub scheduled: bool,
    /// When it will run next, for people.
    pub next: String,
    /// How the last run ended, for people.
    pub last: String,
    /// Why, where it failed.
    pub error: Option<Error>,
}

/// What a program said.
pub struct Said {
    /// Whether it succeeded.
    pub success: bool,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr, in one line.
    pub stderr: String,
}

impl Tools<'_> {
    /// Runs one of the platform's programs.
    pub fn ask(&self, program: &str, args: &[&str]) -> Result<Said> {
        let path = find_program(self.context, program)
            .ok_or_else(|| Error::failed(format!("there is no {program} on PATH")))?;
        let tool =
            Program { path: &path, arguments: args, sees: &|_| true, variables: &[], lock: None };
        let shown = format!("{program} {}", args.join(" "));
        let said = run_tool(self.context, &tool, &shown, self.deadline)?;
        Ok(Said {
            success: said.status.success(),
            stdout: String::from_utf8_lossy(&said.stdout).into_owned(),
            stderr: redact(&said.stderr),
        })
    }

    /// The same, where anything but success is a failure.
    pub fn tell(&self, program: &str, args: &[&str]) -> Result<String> {
        let said = self.ask(program, args)?;
        if said.success {
            return Ok(said.stdout);
        }
        Err(Error::failed(format!("`{program} {}` failed", args.join(" "))).because(said.stderr))
    }

    /// A run's failure, in the words that it said itself on stderr, which is somewhere in `log`.
    pub fn failure(&self, code: Option<u8>, log: &str) -> Error {
        let last = log.rfind("lakebase-token: error: ").unwrap_or(log.len());
        let said = |mark: &'static str| {
            log[last..].lines().filter_map(move |line| line.strip_prefix(mark)).map(redact)
        };
        let kind = code.and_then(ErrorKind::from_code).unwrap_or(ErrorKind::Failed);
        let mut error = Error::new(kind, format!("{} was started and failed", self.name));
        match code {
            Some(code) => error = error.because(format!("exit code {code}")),
            None => error = error.because("it could not be run, or was killed"),
        }
        for reason in said("lakebase-token: error: ").chain(said("lakebase-token: because: ")) {
            error = error.because(reason);
        }
        for hint in said("lakebase-token: hint: ") {
            error = error.hint(hint);
        }
        error
    }
}
