//! lakebase-token prints a valid Lakebase (Postgres) password: from its cache, or newly minted.
//!
//! ```text
//! argv ─cli─▶ Args ─config─▶ Settings ──plan──▶ Plan ─session─▶ Credential ─┬─ formats ─▶ stdout
//!     no I/O     flag > env > profile    checked, nothing     cache, lock,  ├─ targets ─▶ .pgpass, file, profile, secret
//!                with its origin         requested yet        auth, mint    └─ exec    ─▶ environment of a program
//! ```
//!
//! Read `cache/policy.rs` first: when a cached token is good enough, and which process fetches
//! another one. Then `session.rs` (from a plan to a credential), `plan.rs` (what was asked for,
//! checked), `auth/chain.rs` (the order of the auth types) with `auth/providers/oauth_m2m.rs` (one of
//! them), `lakebase/credentials.rs` (the mint) and `formats.rs` (the output).
//!
//! The layers, from low to high; a file imports only from its own layer and from lower ones, never
//! in a circle (`tests/it/tidy.rs` checks both):
//!
//! | layer | what is in it |
//! |---|---|
//! | `error` `suggest` `quoting` | errors with their hints and exit codes; "did you mean"; quoting for shells |
//! | `credential/{secret,redact,encoding,destination}` | a text that is not printed by accident; redaction of secrets in text from outside; percent and hexadecimal encoding; which hosts are trusted with a secret |
//! | `platform/` | the operating system: environment, clocks, locks; `private_file` (our files), `target_file` (files that other programs read), `process` (running a CLI), `signals` (what happens on SIGTERM); only `unix` and `windows*` name crates for a system, only `windows_calls` has unsafe code |
//! | `credential/` | tokens, JWTs, connections |
//! | `net/`, `login/{record,store}` | one HTTP request, its proxies and certificates; TLS to Postgres; the files of stored logins |
//! | `config/` | the table of settings, and where each value comes from |
//! | `cache/` `lakebase/` `login/` | what is kept and for how long; the workspace's APIs: resolve a database, mint; a login to Postgres, and what its refusal means; browser login, refresh, rotating personal access tokens |
//! | `auth/` | the order in which auth types are tried, and in `auth/providers/` a file for each kind of identity |
//! | `formats` `plan` `session` | how a credential is printed; what will be done; the way to a credential |
//! | `targets/` | the entry in `.pgpass`, the file, the profile, the secret; the `--then` hook |
//! | `service/` | systemd, launchd, and the settings that a service runs with |
//! | `commands/` | the commands; `login/` has several files |
//! | `cli/` | command line, help, and the commands that print it: `man`, `completions` |
//!
//! Most extensions are a row in one of five tables: settings (`config/table.rs`), auth types (`auth/chain.rs`), formats
//! (`formats.rs`), targets (`targets/table.rs`) and commands (`cli/table.rs`). To add one is to add a
//! row and a function; help, manual page, completions and the tests of documents follow from the row.
//!
//! The library is for this program and its tests; its interface may change in any version.

#![cfg_attr(not(windows), forbid(unsafe_code))]
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

use crate::cli::args::{self, Args, Show};
use crate::cli::help;
use crate::cli::table::COMMANDS;
use crate::commands::auth::version_for_sdks;
use crate::commands::command::{Call, Command, Subcommand};
use crate::config::table::Id;
use crate::credential::redact::printable;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::log;

/// The whole program: takes the arguments after the program's name, returns the exit code.
///
/// stdout gets the result and nothing else. On failure it is empty, except for the reports of `status`,
/// `service status` and `doctor`. stderr gets the errors, in lines that start with the program's name.
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

            let command = args::named_command(argv);
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
    let is_set = |id: Id| args.flags.iter().any(|(known, _)| *known == id);
    if is_set(Id::Quiet) && is_set(Id::Verbose) {
        return Err(Error::usage("--quiet and --verbose contradict each other"));
    }
    context.quiet.set(is_set(Id::Quiet));
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
        Some(Show::Version) => version_for_sdks(context, false).unwrap_or_else(help::version),
        Some(Show::JsonVersion) => version_for_sdks(context, true).unwrap_or_default(),
        Some(Show::Settings) => help::all_settings(),
        Some(Show::Formats) => help::all_formats(),
        Some(Show::Help { command: true }) => match named_subcommand(&args) {
            Some(subcommand) => help::subcommand(args.command, subcommand),
            None => help::command(args.command),
        },
        Some(Show::Help { command: false }) => help::program(),
    };
    call.print(&text)?;
    Ok(0)
}

/// The subcommand that the first word names, as in `service install --help`.
fn named_subcommand(args: &Args) -> Option<&'static Subcommand> {
    let word = args.words.first()?;
    args.command.subcommands.iter().find(|subcommand| word == subcommand.name)
}

/// The error's own code, else the command's (`exec`: 125), else that of the error's kind.
fn exit_code(error: &Error, command: Option<&Command>) -> u8 {
    let of_command = command.and_then(|command| command.failure_code);
    error.exit.or(of_command).unwrap_or(error.kind as u8)
}

fn print_error(error: &Error, stderr: &mut dyn Write) {
    let lines = error.lines().map(|(label, text)| format!("lakebase-token: {label}: {text}\n"));
    let text = printable(&lines.collect::<String>());
    // One write, so that the lines of processes that fail at once do not mix. If stderr is closed,
    // the exit code still says what failed.
    let _ = stderr.write_all(text.as_bytes());
}
