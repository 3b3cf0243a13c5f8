//! The commands: one file each, with its row in the table and its function; and what several of them
//! share (`command.rs`, `wait.rs`).

pub mod auth;
pub mod command;
pub mod doctor;
pub mod exec;
pub mod get;
pub mod login;
pub mod logout;
pub mod psql;
pub mod renew_login;
pub mod run_cli;
pub mod service;
pub mod status;
pub mod wait;
pub mod watch;
pub mod write;
