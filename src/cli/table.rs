//! The table of commands, in the order of `--help`.

use crate::cli::{completions, man};
use crate::commands::command::Command;
use crate::commands::{
    auth, doctor, exec, get, login, logout, psql, renew_login, run_cli, service, status, watch,
    write,
};

/// All commands. The first one is the default.
pub static COMMANDS: &[Command] = &[
    get::COMMAND,
    exec::COMMAND,
    psql::COMMAND,
    write::COMMAND,
    watch::COMMAND,
    service::COMMAND,
    login::COMMAND,
    logout::COMMAND,
    status::COMMAND,
    doctor::COMMAND,
    auth::COMMAND,
    completions::COMMAND,
    man::COMMAND,
    renew_login::COMMAND,
    run_cli::COMMAND,
];

pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}
