//! What a command is: its row in the table of commands (`cli/table.rs`), and the [`Call`] that its
//! function gets.
//!
//! Reading the command line is left to `cli/args.rs`, printing help to `cli/help.rs`.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::config::variables::misspelled_variables;
use crate::credential::connection::Connection;
use crate::credential::redact::{printable, redact};
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::formats::EXPIRES_AT;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::time::Timestamp;
use crate::quoting::sh_word;
use crate::targets::table;
use crate::targets::update::DEFAULT_INTERVAL;

pub struct Command {
    pub name: &'static str,
    /// One line for `--help`; empty for an internal command, which no help shows.
    pub about: &'static str,
    /// What follows the name in its usage line.
    pub usage: &'static str,
    /// Paragraphs for its own help.
    pub more: &'static str,
    /// The flags that only this command takes.
    pub flags: &'static [Id],
    /// The flags that it shares with other commands.
    pub common: &'static [Id],
    /// Whether it takes a target, and with it the flags of targets.
    pub takes_target: bool,
    /// What `--timeout` limits, and its default.
    pub timeout: &'static str,
    /// How many arguments may follow its name.
    pub max_words: usize,
    /// The arguments that completions offer after its name.
    pub completions: fn() -> Vec<&'static str>,
    /// Its subcommands, such as `service install`.
    pub subcommands: &'static [Subcommand],
    /// Whether a child program follows after `--`.
    pub takes_child: bool,
    /// Whether `--format` selects the form of a report (text or JSON), not of a credential.
    pub prints_report: bool,
    /// Its exit codes, for its help.
    pub exit_codes: &'static str,
    /// The exit code for all failures, where the usual codes could be the child program's.
    pub failure_code: Option<u8>,
    /// Carries out the command and returns the exit code.
    pub run: fn(Call<'_>) -> Result<u8>,
}

/// The defaults. Each command states what differs.
pub const ROW: Command = Command {
    name: "",
    about: "",
    usage: "[FLAGS]",
    more: "",
    flags: &[],
    common: &[],
    takes_target: false,
    timeout: "time limit of the whole call (10s)",
    max_words: 0,
    completions: Vec::new,
    subcommands: &[],
    takes_child: false,
    prints_report: false,
    exit_codes: "",
    failure_code: None,
    run: |_| Ok(0),
};

/// A subcommand, with some of the flags of its command.
pub struct Subcommand {
    pub name: &'static str,
    pub about: &'static str,
    pub takes: fn(Id) -> bool,
    pub run: fn(Call<'_>, &[OsString]) -> Result<u8>,
}

impl Command {
    pub fn takes(&self, id: Id) -> bool {
        let is_target_flag = self.takes_target && table::flags().any(|known| known == id);
        is_target_flag || self.common.contains(&id) || self.flags.contains(&id)
    }

    /// Whether help, manual and completions show it.
    pub fn is_public(&self) -> bool {
        !self.about.is_empty()
    }
}

/// What a command's function gets.
pub struct Call<'a> {
    /// The flags of the command line, all of which the command takes.
    pub flags: &'a [(Id, String)],
    /// The arguments after the command's name.
    pub words: &'a [OsString],
    /// The child program and its arguments, from after `--`.
    pub child: &'a [OsString],
    pub context: &'a Context,
    /// All commands, for those that describe them.
    pub commands: &'static [Command],
    /// Gets the result and nothing else.
    pub stdout: &'a mut dyn Write,
}

impl Call<'_> {
    pub fn settings(&self) -> Result<Settings> {
        let settings = Settings::resolve(self.flags, self.context)?;
        if settings.is_on(Id::Verbose) && !settings.ignored.is_empty() {
            let names = settings.ignored.join(", ");
            self.context.note(&format!("--profile takes precedence; ignored: {names}"));
        }
        Ok(settings)
    }

    /// See [`misspelled_variables`].
    pub fn note_misspelled_variables(&self) {
        misspelled_variables(self.context).iter().for_each(|words| self.context.note(words));
    }

    pub fn has_flag(&self, id: Id) -> bool {
        self.flags.iter().any(|(known, _)| *known == id)
    }

    /// The flags, with the default check interval if the command line names none.
    pub fn flags_with_interval(&self) -> Vec<(Id, String)> {
        let mut flags = self.flags.to_vec();
        if !self.has_flag(Id::Interval) {
            flags.push((Id::Interval, DEFAULT_INTERVAL.to_owned()));
        }
        flags
    }

    /// Warns if the credential expires earlier than `--min-ttl` allows. Under `--verbose` also says
    /// whose credential it is and how it was authenticated.
    pub fn explain(&self, plan: &Plan, token: &Token) {
        let left = token.left(self.context.now());
        if plan.interval.is_none() && left < plan.min_ttl {
            let expiry = token.expires.map(|expires| expires.to_string()).unwrap_or_default();
            self.context.note(&format!(
                "the credential expires at {expiry}, sooner than --min-ttl asks for"
            ));
        }
        if !plan.settings.is_on(Id::Verbose) {
            return;
        }

        let (url, _) = plan.workspace();
        let auth_type = plan.provider.name;
        let subject = redact(token.subject.as_deref().unwrap_or("unnamed"));
        self.context.note(&format!("workspace {url}, auth type {auth_type}, subject {subject}"));

        let database = match plan.selector.name() {
            "" => "of the only project",
            name => name,
        };
        self.context.note(&format!("database {database}"));
        let validity = match token.expires {
            Some(expiry) => format!("valid until {expiry}"),
            None => "without a known expiry".to_owned(),
        };
        self.context.note(&format!("issued {}, {validity}", token.issued));
    }

    /// Says under `--verbose` how the Postgres server must prove who it is.
    pub fn explain_tls(&self, plan: &Plan, connection: &Connection) {
        if plan.settings.is_on(Id::Verbose) && connection.host.is_some() {
            self.context.note(&format!("sslmode {}", connection.tls.words()));
        }
    }

    pub fn print(&mut self, text: &str) -> Result<()> {
        print(self.stdout, text)
    }

    /// Prints lines for a person, which may repeat names from a server.
    pub fn print_lines(&mut self, lines: &str) -> Result<()> {
        self.print(&printable(lines))
    }
}

/// Whether `PGPASSWORD` is set and is not a valid password of ours (`LAKEBASE_TOKEN_EXPIRES_AT`). libpq
/// prefers it to the password file.
pub fn has_foreign_password(context: &Context) -> bool {
    let expires = context.var(EXPIRES_AT).and_then(OsStr::to_str).and_then(Timestamp::parse);
    let is_ours = expires.is_some_and(|expires| expires > context.now());
    context.var("PGPASSWORD").is_some() && !is_ours
}

/// Flags as words of a shell, each with a blank before it.
pub fn flag_words(flags: &[(Id, String)]) -> String {
    let words = flags.iter().map(|(id, value)| {
        let flag = SETTINGS[*id as usize].flag;
        match value.as_str() {
            "" => format!(" --{flag}"),
            value => format!(" --{flag} {}", sh_word(&redact(value))),
        }
    });
    words.collect()
}

/// A whole command line that stands in one word, as words of a shell: with what only a shell understands, it
/// is one for `sh`.
pub fn taken_apart(line: &str) -> String {
    let line = redact(line);
    if cfg!(unix) && line.contains(['$', '|', '&', ';', '<', '>', '`', '*']) {
        format!("sh -c {}", sh_word(&line))
    } else {
        line
    }
}

/// The warning of such a password.
pub const FOREIGN_PASSWORD: &str = "PGPASSWORD is set, and takes precedence over ~/.pgpass";

/// Writes a result. A credential that did not reach the caller is a failure, so stdout is flushed
/// here, where the error still counts.
pub fn print(stdout: &mut dyn Write, text: &str) -> Result<()> {
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| Error::failed("cannot write to stdout").because(e))
}

/// The shared flags of commands that need a workspace and no database.
pub static WORKSPACE_FLAGS: &[Id] =
    &[Id::Host, Id::Profile, Id::Timeout, Id::CacheDir, Id::Verbose, Id::Quiet];

/// The shared flags of all other commands: which workspace, which database, how fresh.
pub static DATABASE_FLAGS: &[Id] = &[
    Id::Host,
    Id::Profile,
    Id::AuthType,
    Id::Scopes,
    Id::ClientSecretFile,
    Id::TokenFile,
    Id::Endpoint,
    Id::Instance,
    Id::PgHost,
    Id::Pooled,
    Id::PgPort,
    Id::PgDatabase,
    Id::PgUser,
    Id::PgSslMode,
    Id::Ttl,
    Id::MinTtl,
    Id::Timeout,
    Id::Refresh,
    Id::Offline,
    Id::CacheDir,
    Id::NoCache,
    Id::Verbose,
    Id::Quiet,
];
