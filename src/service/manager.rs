//! The platform's own timer: systemd or launchd.
//!
//! Both do the same things with a job's files, each in a module of its own.

use std::path::PathBuf;

use crate::error::Result;
use crate::platform::context::Context;
use crate::service::job::Job;
use crate::service::manager_cli::{State, Tools};
use crate::service::{launchd, systemd};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    /// The one of this platform.
    pub const OURS: Manager =
        if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };

    pub fn name(self) -> &'static str {
        match self {
            Manager::Systemd => "systemd",
            Manager::Launchd => "launchd",
        }
    }

    /// Where its files are.
    pub fn folder(self, context: &Context) -> Option<PathBuf> {
        match self {
            Manager::Systemd => systemd::folder(context),
            Manager::Launchd => launchd::folder(context),
        }
    }

    /// How the names of a job's files end.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Manager::Systemd => &systemd::ENDINGS,
            Manager::Launchd => &launchd::ENDINGS,
        }
    }

    /// What those files say.
    pub fn files(self, job: &Job, context: &Context) -> Vec<String> {
        match self {
            Manager::Systemd => systemd::files(job),
            Manager::Launchd => vec![launchd::plist(job, context)],
        }
    }

    /// Fails, with what else there is, if it does not answer.
    pub fn check_reachable(self, tools: &Tools<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::check_reachable(tools),
            Manager::Launchd => launchd::check_reachable(tools),
        }
    }

    /// Reads the job's files anew and schedules it from now on.
    pub fn load(self, tools: &Tools<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::load(tools),
            Manager::Launchd => launchd::load(tools),
        }
    }

    /// Runs the loaded job once, or waits for the run that loading has begun.
    pub fn run(self, tools: &Tools<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::run(tools),
            Manager::Launchd => launchd::run(tools),
        }
    }

    /// Stops the job, while its files are still there.
    pub fn unload(self, tools: &Tools<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::unload(tools),
            Manager::Launchd => launchd::unload(tools),
        }
    }

    /// Notices that the job's files are gone.
    pub fn forget(self, tools: &Tools<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::forget(tools),
            Manager::Launchd => Ok(()),
        }
    }

    pub fn state(self, tools: &Tools<'_>) -> Result<State> {
        match self {
            Manager::Systemd => systemd::state(tools),
            Manager::Launchd => launchd::state(tools),
        }
    }

    /// Lets the job run while its user is not logged in, if that is wanted. What the user should
    /// know if it does not.
    pub fn linger(self, tools: &Tools<'_>, wanted: bool) -> Result<Option<&'static str>> {
        match self {
            Manager::Systemd => systemd::linger(tools, wanted),
            Manager::Launchd => launchd::linger(wanted),
        }
    }
}
