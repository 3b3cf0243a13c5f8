//! What `write`, `watch` and `service` keep up to date: password files, files, profiles, secrets.

pub mod pgpass_lines;
pub mod secret;
pub mod table;
pub mod update;
