//! `write`, scheduled by the platform's own timer: systemd or launchd.

pub mod env_file;
pub mod job;
mod launchd;
pub mod manage;
pub mod manager;
mod manager_cli;
mod paths;
mod systemd;
