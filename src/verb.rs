//! What the program can be told to do: one file a verb, one row each.

mod completions;
mod doctor;
mod exec;
mod get;
mod login;
mod logout;
mod man;
mod renew;
mod service;
mod status;
mod watch;
mod write;

use std::ffi::OsString;
use std::io::Write;

use crate::error::{Error, Result, clean};
use crate::plan::Plan;
use crate::settings::{Id, Settings};
use crate::sink;
use crate::token::Token;
use crate::world::World;

/// A verb.
pub struct Verb {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for `--help`; empty for what nobody needs to know of.
    pub about: &'static str,
    /// What follows the name in its usage line.
    pub usage: &'static str,
    /// A paragraph for its own help.
    pub more: &'static str,
    /// The flags it takes beside the common ones.
    pub flags: &'static [Id],
    /// Those that it has in common with others.
    pub common: &'static [Id],
    /// Whether it takes a place, and so the flags of places.
    pub place: bool,
    /// How many words may follow its name.
    pub words: usize,
    /// Whether a command follows behind `--`.
    pub command: bool,
    /// Its exit codes, for its help.
    pub codes: &'static str,
    /// The exit code for any failure of ours, where the kinds' codes are not free.
    pub failure: Option<u8>,
    /// Does it; the number is the exit code.
    pub run: fn(Call<'_>) -> Result<u8>,
}

/// What a verb works with.
pub struct Call<'a> {
    /// Checked flags.
    pub flags: &'a [(Id, String)],
    /// What follows the verb's name.
    pub words: &'a [OsString],
    /// What follows `--`.
    pub command: &'a [OsString],
    /// The surroundings.
    pub world: &'a World,
    /// Where the result goes, and nothing else.
    pub stdout: &'a mut dyn Write,
}

impl Call<'_> {
    fn settings(&self) -> Result<Settings> {
        let settings = Settings::resolve(self.flags, self.world)?;
        if settings.is_on(Id::Verbose) && !settings.ignored.is_empty() {
            let names = settings.ignored.join(", ");
            self.world.note(&format!("--profile takes precedence; ignored: {names}"));
        }
        Ok(settings)
    }

    /// With `-v`: whose credential it is and where it comes from.
    fn explain(&self, plan: &Plan, token: &Token) {
        let now = self.world.now();
        if plan.interval.is_none() && token.left(now) < plan.min_ttl {
            let until = token.expires.map_or(String::new(), |expires| expires.to_string());
            self.world.note(&format!("it dies at {until}, sooner than --min-ttl asks for"));
        }
        if plan.settings.is_on(Id::Verbose) {
            let until = token.expires.map_or("no known end".to_owned(), |e| format!("until {e}"));
            let who = clean(token.subject.as_deref().unwrap_or("unnamed"));
            let target = plan.target.name();
            let (source, url, issued) = (plan.source.name, plan.workspace().0, token.issued);
            self.world.note(&format!("workspace {url}, auth type {source}, subject {who}"));
            let target = if target.is_empty() { "of the only project" } else { target };
            self.world.note(&format!("database {target}"));
            let cache =
                plan.cache.as_ref().map_or("nowhere".to_owned(), |p| p.display().to_string());
            self.world.note(&format!("issued {issued}, good {until}, cached in {cache}"));
        }
    }

    /// Writes the result.
    pub fn print(&mut self, text: &str) -> Result<()> {
        print(self.stdout, text)
    }
}

/// Writes a result; a credential that did not arrive is a failure.
fn print(stdout: &mut dyn Write, text: &str) -> Result<()> {
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| Error::failed("cannot write to stdout").because(e))
}

/// The flags that verbs take for people: which workspace.
pub static PERSON: &[Id] = &[Id::Host, Id::Profile, Id::Timeout, Id::CacheDir, Id::Verbose];

/// The flags that all other verbs take: which workspace, which database, how fresh.
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

/// All verbs, in the order of `--help`. The first is meant where none is named.
pub static VERBS: &[Verb] = &[
    get::VERB,
    exec::VERB,
    write::VERB,
    watch::VERB,
    service::VERB,
    login::VERB,
    logout::VERB,
    status::VERB,
    doctor::VERB,
    completions::VERB,
    man::VERB,
    renew::VERB,
];

/// The verb of this name.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

impl Verb {
    /// Whether it takes this flag.
    pub fn takes(&self, id: Id) -> bool {
        let of_place = self.place && sink::flags().any(|known| known == id);
        of_place || self.common.contains(&id) || self.flags.contains(&id)
    }
}
