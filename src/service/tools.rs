//! The platform's own programs (`systemctl`, `launchctl`), asked about one job.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result, clean};
use crate::time::Deadline;
use crate::world::{Run, World};

/// Asks them.
pub struct Tools<'a> {
    /// The job's name.
    pub name: &'a str,
    /// Its first file.
    pub unit: Option<String>,
    /// The surroundings.
    pub world: &'a World,
    /// When all must have ended.
    pub deadline: Deadline,
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
        let path = self
            .world
            .find_program(program)
            .ok_or_else(|| Error::failed(format!("there is no {program} on PATH")))?;
        let run = self.world.run(&path, args, |_: &OsStr| true, &[], None, self.deadline);
        match run.map_err(|e| Error::failed(format!("cannot run {program}")).because(e))? {
            Run::Ended { status, stdout, stderr } => Ok(Said {
                success: status.success(),
                stdout: String::from_utf8_lossy(&stdout).into_owned(),
                stderr: clean(&String::from_utf8_lossy(&stderr)),
            }),
            Run::StillRunning => {
                let args = args.join(" ");
                Err(Error::unavailable(format!("`{program} {args}` has not ended in time")))
            }
        }
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
            log[last..].lines().filter_map(move |line| line.strip_prefix(mark)).map(clean)
        };
        let kind = code.and_then(Kind::from_code).unwrap_or(Kind::Failed);
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
