//! The platform's service manager: systemd or launchd. Both do the same with a job's files, each in
//! a module of its own.

use std::path::PathBuf;

use crate::error::Result;
use crate::platform::context::Context;
use crate::service::definition::ServiceDefinition;
use crate::service::manager_call::{ServiceManagerCall, State};
use crate::service::{launchd, systemd};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    /// The service manager of this platform.
    pub const CURRENT: Manager =
        if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };

    pub fn name(self) -> &'static str {
        match self {
            Manager::Systemd => "systemd",
            Manager::Launchd => "launchd",
        }
    }

    /// The folder of the unit files.
    pub fn folder(self, context: &Context) -> Option<PathBuf> {
        match self {
            Manager::Systemd => systemd::folder(context),
            Manager::Launchd => launchd::folder(context),
        }
    }

    /// The extensions of a job's unit files.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Manager::Systemd => &systemd::EXTENSIONS,
            Manager::Launchd => &launchd::EXTENSIONS,
        }
    }

    /// The contents of the job's unit files, in the order of their extensions.
    pub fn files(self, job: &ServiceDefinition, context: &Context) -> Vec<String> {
        match self {
            Manager::Systemd => systemd::files(job),
            Manager::Launchd => vec![launchd::plist(job, context)],
        }
    }

    /// Fails, with alternatives, if the service manager does not answer.
    pub fn check_reachable(self, control: &ServiceManagerCall<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::check_reachable(control),
            Manager::Launchd => launchd::check_reachable(control),
        }
    }

    /// Reads the job's files anew and schedules it from now on.
    pub fn load(self, control: &ServiceManagerCall<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::load(control),
            Manager::Launchd => launchd::load(control),
        }
    }

    /// Runs the loaded job once, or waits for the run that loading has started.
    pub fn run(self, control: &ServiceManagerCall<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::run(control),
            Manager::Launchd => launchd::run(control),
        }
    }

    /// Stops the job, while its files still exist.
    pub fn unload(self, control: &ServiceManagerCall<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::unload(control),
            Manager::Launchd => launchd::unload(control),
        }
    }

    /// Makes the service manager notice that the job's files are removed.
    pub fn notice_removal(self, control: &ServiceManagerCall<'_>) -> Result<()> {
        match self {
            Manager::Systemd => systemd::notice_removal(control),
            Manager::Launchd => Ok(()),
        }
    }

    pub fn state(self, control: &ServiceManagerCall<'_>) -> Result<State> {
        match self {
            Manager::Systemd => systemd::state(control),
            Manager::Launchd => launchd::state(control),
        }
    }

    /// Lets the job run while its user is not logged in, if `enable`. Returns a note for the user if
    /// the job does not run then.
    pub fn linger(
        self,
        control: &ServiceManagerCall<'_>,
        enable: bool,
    ) -> Result<Option<&'static str>> {
        match self {
            Manager::Systemd => systemd::linger(control, enable),
            Manager::Launchd => launchd::linger(enable),
        }
    }
}
