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
//! | 1 | `environment` `file` `world` | private files and locks; the door to everything else outside |
//! | 2 | `http` `ini` `pgpass` `place` `log` | one request in, one answer out; lines of `.databrickscfg` and `.pgpass`; a file that others read; what happened |
//! | 3 | `settings` `cache` `api` `login` | where values come from; what is kept; calls of the workspace; what people log in with |
//! | 4 | `source` `lakebase` `format` `sink` | workspace tokens; the two credential APIs; how it is printed; where it is kept |
//! | 5 | `plan` `freshness` `get` `update` `service` | what will be done; when the cache will do; the pipeline; a place brought up to date, and scheduled |
//! | 6 | `verb` | one file a verb |
//! | 7 | `args` `help` | the command line in, help out |
//!
//! Five tables hold all growth: settings, sources, formats, sinks, verbs. Adding one is a row and a
//! function; help, completeness tests and documentation follow from the row.
//!
//! The library is for this program and its tests; it promises no stable interface.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod args;
pub mod cache;
pub mod destination;
pub mod environment;
pub mod error;
pub mod file;
pub mod format;
pub mod freshness;
pub mod get;
pub mod help;
pub mod http;
pub mod ini;
pub mod lakebase;
pub mod log;
pub mod login;
pub mod pgpass;
pub mod place;
pub mod plan;
pub mod secret;
pub mod service;
pub mod settings;
pub mod sink;
pub mod source;
pub mod time;
pub mod token;
pub mod update;
pub mod verb;
pub mod world;

use std::ffi::OsString;
use std::io::Write;

use args::Show;
use error::{Error, Result};
use verb::Call;
use world::World;

/// The whole program: arguments without its name, surroundings, outputs; the exit code comes
/// back.
///
/// The rules of what is printed: stdout has the result and nothing else, and is empty on failure.
/// Errors go to stderr in lines that start with the program's name, lower-case, no full stop.
pub fn run(argv: &[OsString], world: &World, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    match attempt(argv, world, stdout) {
        Ok(code) => code,
        Err(error) => {
            report(&error, stderr);
            let verb = args::named(argv);
            let code = error.exit.or(verb.and_then(|v| v.failure)).unwrap_or(error.kind as u8);
            let name = verb.unwrap_or(&verb::VERBS[0]).name;
            log::event(world, log::Level::Error, &format!("failed {name} ({code}): {error}"));
            code
        }
    }
}

fn attempt(argv: &[OsString], world: &World, stdout: &mut dyn Write) -> Result<u8> {
    let args = args::parse(argv)?;
    let mut call =
        Call { flags: &args.flags, words: &args.words, command: &args.command, world, stdout };
    let text = match args.show {
        None => return (args.verb.run)(call),
        Some(Show::Version) => help::version(),
        Some(Show::Help { verb: true }) => help::verb(args.verb),
        Some(Show::Help { verb: false }) => help::program(),
    };
    call.print(&text)?;
    Ok(0)
}

fn report(error: &Error, stderr: &mut dyn Write) {
    let mut text = format!("lakebase-token: error: {}\n", error.message);
    for reason in &error.because {
        text.push_str(&format!("lakebase-token: because: {reason}\n"));
    }
    for hint in &error.hints {
        text.push_str(&format!("lakebase-token: hint: {hint}\n"));
    }
    // One write, so that lines of many failing at once do not mix. A closed stderr changes nothing.
    let _ = stderr.write_all(text.as_bytes());
}
