//! What `write`, `watch` and `service` keep up to date: password files, files, profiles, secrets.

mod auth_file;
mod databrickscfg_profile;
mod file;
mod hook;
pub mod pgpass;
mod secret;
pub mod table;
pub mod target;
pub mod update;
