//! `write`, scheduled by the platform's service manager: systemd or launchd.

pub mod env_file;
mod install;
pub mod job;
mod job_control;
mod launchd;
pub mod manage;
pub mod manager;
mod paths;
mod status;
mod systemd;
