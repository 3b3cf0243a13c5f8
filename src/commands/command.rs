//! What a command is: its row in the table of commands (`cli/table.rs`), and what it works with.

use std::ffi::OsString;
use std::io::Write;

use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::targets::table;

/// A command.
pub struct Command {
    pub name: &'static str,
    /// One line for `--help`; empty for a command that is not for people.
    pub about: &'static str,
    /// What follows the name in its usage line.
    pub usage: &'static str,
    /// Paragraphs for its own help.
    pub more: &'static str,
    /// The flags it takes beside the common ones.
    pub flags: &'static [Id],
    /// Those that it has in common with others.
    pub common: &'static [Id],
    /// Whether it takes a target, and so the flags of targets.
    pub takes_target: bool,
    /// How many words may follow its name.
    pub max_words: usize,
    /// The words that may follow its name, for completions.
    pub words: fn() -> Vec<&'static str>,
    /// Whether a child program follows behind `--`.
    pub takes_child: bool,
    /// Whether `--format` is one of its own, and not a credential's.
    pub prints_report: bool,
    /// Its exit codes, for its help.
    pub codes: &'static str,
    /// The exit code for any failure of ours, where the kinds' codes are the child program's.
    pub failure: Option<u8>,
    /// Does it; the number is the exit code.
    pub run: fn(Call<'_>) -> Result<u8>,
}

/// What most commands have in common; each says what is different.
pub const ROW: Command = Command {
    name: "",
    about: "",
    usage: "[FLAGS]",
    more: "",
    flags: &[],
    common: &[],
    takes_target: false,
    max_words: 0,
    words: Vec::new,
    takes_child: false,
    prints_report: false,
    codes: "",
    failure: None,
    run: |_| Ok(0),
};

impl Command {
    pub fn takes(&self, id: Id) -> bool {
        let of_target = self.takes_target && table::flags().any(|known| known == id);
        of_target || self.common.contains(&id) || self.flags.contains(&id)
    }

    /// Whether people are to know of it.
    pub fn is_public(&self) -> bool {
        !self.about.is_empty()
    }
}

/// What a command works with.
pub struct Call<'a> {
    /// Checked flags.
    pub flags: &'a [(Id, String)],
    /// What follows the command's name.
    pub words: &'a [OsString],
    /// The child program, which follows `--`.
    pub child: &'a [OsString],
    pub context: &'a Context,
    /// All commands, for those that describe them.
    pub commands: &'static [Command],
    /// Where the result goes, and nothing else.
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

    /// With `-v`: whose credential it is and where it comes from.
    pub fn explain(&self, plan: &Plan, token: &Token) {
        let now = self.context.now();
        if plan.interval.is_none() && token.left(now) < plan.min_ttl {
            let until = token.expires.map(|expires| expires.to_string()).unwrap_or_default();
            self.context.note(&format!("it expires at {until}, sooner than --min-ttl asks for"));
        }
        if !plan.settings.is_on(Id::Verbose) {
            return;
        }

        let (url, auth_type) = (plan.workspace().0, plan.provider.name);
        let subject = redact(token.subject.as_deref().unwrap_or("unnamed"));
        self.context.note(&format!("workspace {url}, auth type {auth_type}, subject {subject}"));
        let database = match plan.selector.name() {
            "" => "of the only project",
            name => name,
        };
        self.context.note(&format!("database {database}"));
        let until = match token.expires {
            Some(expires) => format!("valid until {expires}"),
            None => "without a known expiry".to_owned(),
        };
        let cached = match &plan.cache {
            Some(folder) => format!("cached in {}", folder.display()),
            None => "not cached".to_owned(),
        };
        self.context.note(&format!("issued {}, {until}, {cached}", token.issued));
    }

    /// Writes the result.
    pub fn print(&mut self, text: &str) -> Result<()> {
        print(self.stdout, text)
    }
}

/// Writes a result; a credential that did not arrive is a failure.
pub fn print(stdout: &mut dyn Write, text: &str) -> Result<()> {
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| Error::failed("cannot write to stdout").because(e))
}

/// The flags of commands for people: which workspace.
pub static PERSON: &[Id] = &[Id::Host, Id::Profile, Id::Timeout, Id::CacheDir, Id::Verbose];

/// The flags of all other commands: which workspace, which database, how fresh.
pub static COMMON: &[Id] = &[
    Id::Host,
    Id::Profile,
    Id::AuthType,
    Id::ClientSecretFile,
    Id::TokenFile,
    Id::Endpoint,
    Id::Instance,
    Id::PgHost,
    Id::PgPort,
    Id::PgDatabase,
    Id::PgUser,
    Id::Ttl,
    Id::MinTtl,
    Id::Timeout,
    Id::Refresh,
    Id::Offline,
    Id::CacheDir,
    Id::NoCache,
    Id::Verbose,
];
