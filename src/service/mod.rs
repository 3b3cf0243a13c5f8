//! `write`, scheduled by the platform's service manager: systemd or launchd.

pub mod definition;
pub mod env_file;
mod install;
mod launchd;
pub mod manage;
pub mod manager;
mod manager_call;
mod paths;
mod status;
mod systemd;
