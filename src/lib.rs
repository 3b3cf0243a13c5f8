//! lakebase-token: asked for the Lakebase password, it prints one.
//!
//! ```text
//! argv ─args─▶ Args ─settings─▶ Settings ─plan─▶ Plan ─get─▶ Credential ─┬─ format ─▶ stdout
//!     no I/O      flag>env>profile   checked, nothing        cache, lock,├─ exec   ─▶ environment
//!                 with its origin    fetched yet             source, mint└─ sink   ─▶ .pgpass, file, profile, secret
//! ```
//!
//! Read `freshness.rs` first: the table of freshness and the one function that carries it out.
//! Then `get.rs` (the pipeline), `plan.rs` (what was asked), `source.rs` with
//! `source/oauth_m2m.rs` (where workspace tokens come from), `lakebase.rs` (what is minted with
//! them), `format.rs` (how it is printed).
//!
//! Layers; imports point upwards in this list only (`tests/it/tidy.rs` checks it):
//!
//! | layer | files | job |
//! |---|---|---|
//! | 0 | `destination` `error` `secret` `time` `token` | which hosts may get a secret; kinds and words; a text that cannot be printed; what a credential is |
//! | 1 | `environment` `file` `context` | private files and locks; the door to everything else outside |
//! | 2 | `http` `ini` `pgpass` `place` `log` | one request in, one answer out; lines of `.databrickscfg` and `.pgpass`; a file that others read; what happened |
//! | 3 | `settings` `cache` `api` `login` | where values come from; what is kept; calls of the workspace; what people log in with |
//! | 4 | `source` `lakebase` `format` `sink` | workspace tokens; the two credential APIs; how it is printed; where it is kept |
//! | 5 | `plan` `freshness` `get` `update` `service` | what will be done; when the cache will do; the pipeline; a place brought up to date, and scheduled |
//! | 6 | `command` | one file a command |
//! | 7 | `args` `help` | the command line in, help out |
//!
//! Five tables hold all growth: settings, sources, formats, sinks, commands. Adding one is a row and a
//! function; help, completeness tests and documentation follow from the row.
//!
//! The library is for this program and its tests; it promises no stable interface.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod config;
pub mod credential;
pub mod error;
pub mod formats;
pub mod lakebase;
pub mod login;
pub mod net;
pub mod plan;
pub mod platform;
pub mod quoting;
pub mod service;
pub mod session;
pub mod suggest;
pub mod targets;

use std::ffi::OsString;
use std::io::Write;

use crate::cli::args::{self, Show};
use crate::cli::help;
use crate::cli::table::COMMANDS;
use crate::commands::command::{Call, Command};
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::log;

/// The whole program: takes the arguments after the program's name, returns the exit code.
///
/// stdout gets the result and nothing else, and nothing at all on failure. stderr gets the errors,
/// in lines that start with the program's name.
pub fn run(
    argv: &[OsString],
    context: &Context,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    match run_command(argv, context, stdout) {
        Ok(code) => code,
        Err(error) => {
            print_error(&error, stderr);

            let command = args::named(argv);
            let code = exit_code(&error, command);
            let name = command.unwrap_or(&COMMANDS[0]).name;
            log::event(context, log::Level::Error, &format!("failed {name} ({code}): {error}"));
            code
        }
    }
}

/// Reads the command line and runs the command, or prints help.
fn run_command(argv: &[OsString], context: &Context, stdout: &mut dyn Write) -> Result<u8> {
    let args = args::parse(argv)?;
    let mut call = Call {
        flags: &args.flags,
        words: &args.words,
        child: &args.child,
        context,
        commands: COMMANDS,
        stdout,
    };

    let text = match args.show {
        None => return (args.command.run)(call),
        Some(Show::Version) => help::version(),
        Some(Show::Help { command: true }) => help::command(args.command),
        Some(Show::Help { command: false }) => help::program(),
    };
    call.print(&text)?;
    Ok(0)
}

/// The error's own code, else the command's (`exec`: 125), else that of the error's kind.
fn exit_code(error: &Error, command: Option<&Command>) -> u8 {
    let of_command = command.and_then(|command| command.failure);
    error.exit.or(of_command).unwrap_or(error.kind as u8)
}

fn print_error(error: &Error, stderr: &mut dyn Write) {
    let lines = error.lines().map(|(label, text)| format!("lakebase-token: {label}: {text}\n"));
    let text: String = lines.collect();
    // One write, so that the lines of processes that fail at once do not mix. If stderr is closed,
    // the exit code still says what failed.
    let _ = stderr.write_all(text.as_bytes());
}
