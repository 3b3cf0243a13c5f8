//! `psql`: starts psql with the password in its environment, as `exec -- psql` does.
//!
//! Words before `psql` are flags of ours, words after it psql's own: `cli/args.rs` separates them.

use crate::commands::command::{Command, DATABASE_FLAGS, ROW};
use crate::commands::exec;
use crate::config::table::Id;

pub const COMMAND: Command = Command {
    name: "psql",
    about: "start psql with a password",
    usage: "[PSQL-ARGUMENT…]",
    more: "The same as exec -- psql. Flags before the word psql are lakebase-token's, those after it \
           are psql's: lakebase-token --endpoint shop psql -c 'select 1'. If a -- follows psql, the \
           flags before the -- are lakebase-token's, too.",
    flags: &[Id::Clean, Id::ReadOnly, Id::Wait],
    common: DATABASE_FLAGS,
    takes_child: true,
    exit_codes: exec::COMMAND.exit_codes,
    failure_code: exec::COMMAND.failure_code,
    run: exec::COMMAND.run,
    ..ROW
};

pub const PROGRAM: &str = "psql";
