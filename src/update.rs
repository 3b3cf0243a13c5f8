//! A place brought up to date, once: what `write` does, `watch` repeats and a `service` schedules.
//!
//! Everything that can be refused is refused before anything is minted. The place then gets a
//! credential that lives at least until the look after the next (`Plan::min_ttl` under
//! `--interval`); where there is none, it gets the best there is and the call fails, so that
//! whoever schedules it tries again soon. A command that is to be told of changes (`--then`) is
//! run until it has succeeded once after the last change.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{self, Format};
use crate::freshness::falls_short;
use crate::get::{Session, Wants};
use crate::log::{self, Level};
use crate::place::{Change, Owed, Place, Telling};
use crate::plan::Plan;
use crate::settings::{Id, Settings};
use crate::sink::{self, Sink};
use crate::time::Deadline;
use crate::token::Token;
use crate::world::World;

/// A place and what it shall say, decided.
pub struct Update<'a> {
    /// Whose credential, and for what.
    pub plan: Plan,
    world: &'a World,
    sink: &'static Sink,
    format: &'static Format,
    place: Place,
}

/// What an update did.
pub struct Done {
    /// The file.
    path: PathBuf,
    /// What became of it.
    pub change: Change,
    /// What it has now.
    pub token: Token,
    /// What went wrong with it nevertheless: nobody could be told of the change, or it is older
    /// than was promised.
    pub failure: Option<Error>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.change == Change::Unchanged { "unchanged" } else { "wrote" };
        write!(f, "{what} {}: {}", self.path.display(), self.token)
    }
}

/// How often a `watch` or a `service` looks where nobody says.
pub const DEFAULT_INTERVAL: &str = "10m";

impl<'a> Update<'a> {
    /// Decides; `words` name the place on the command line.
    pub fn new(settings: Settings, words: &[OsString], world: &'a World) -> Result<Update<'a>> {
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let (sink, path) = sink::named(&words, &settings, world)?;
        if let (Some(own), Some(_)) = (sink.format, settings.get(Id::Format)) {
            return Err(Error::usage(format!("{} has a format of its own, {own}", sink.name))
                .hint("leave out --format, or lakebase-token write file PATH --format NAME"));
        }
        let format = format::chosen(sink.format.or(settings.text(Id::Format)))?;
        let plan = Plan::new(settings, world)?;
        format.check(plan.purpose)?;
        let place = Place::open(&path)?;
        place.check_folder()?;
        Ok(Update { plan, world, sink, format, place })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Gets a credential and brings the file up to date with it.
    pub fn run(&self) -> Result<Done> {
        let deadline = Deadline::after(self.plan.timeout);
        let session = Session::new(&self.plan, self.world);
        let credential = session.credential(self.wants(), deadline)?;
        let text = (self.format.render)(&credential)?;
        let edit = (self.sink.put)(&credential.connection, &text)?;
        let then = self.plan.settings.text(Id::Then);
        let telling = if then.is_some() { Telling::Somebody } else { Telling::Nobody };
        let (change, owed) = self.place.change(self.world, deadline, telling, edit.as_ref())?;
        let path = self.path().to_owned();
        let mut done = Done { path, change, token: credential.token, failure: None };
        if change != Change::Unchanged {
            log::event(self.world, Level::Info, &done.to_string());
        }
        let told = match (then, owed) {
            (Some(command), Some(owed)) => self.tell(command, &owed),
            _ => Ok(()),
        };
        done.failure = told.and_then(|()| self.keeps_promise(&done.token)).err();
        Ok(done)
    }

    /// What others read lives until the look after the next, or whoever schedules it must know.
    fn keeps_promise(&self, token: &Token) -> Result<()> {
        if self.plan.interval.is_none() || !falls_short(token, self.plan.min_ttl, self.world.now())
        {
            return Ok(());
        }
        let path = self.path().display();
        Err(Error::unavailable(format!("{path} has no newer credential yet"))
            .because(format!("what it has: {token}")))
    }

    /// Takes our part out of the file again.
    pub fn remove(&self) -> Result<Change> {
        let deadline = Deadline::after(self.plan.timeout);
        let session = Session::new(&self.plan, self.world);
        // In a file of our own there is nothing to be told from anything.
        let wants = if self.sink.has_path { Wants::default() } else { self.wants() };
        let connection = session.connection(wants, deadline)?;
        let edit = (self.sink.remove)(&connection)?;
        let (change, _) =
            self.place.change(self.world, deadline, Telling::NoMore, edit.as_ref())?;
        if change != Change::Unchanged {
            let words = format!("removed our part of {}", self.path().display());
            log::event(self.world, Level::Info, &words);
        }
        Ok(change)
    }

    /// What the format prints.
    pub fn wants(&self) -> Wants {
        Wants { user: self.format.user, host: self.format.host }
    }

    /// Runs the command that is to be told of a change. Its words are not repeated: they may hold
    /// a secret.
    fn tell(&self, command: &str, owed: &Owed) -> Result<()> {
        self.world.end_on_signals()?;
        let hidden: Vec<&str> = self.plan.settings.secret_variables().collect();
        let deadline = Deadline::after(self.plan.timeout);
        let why = match self.world.shell(command, &hidden, deadline) {
            Ok(Some(status)) if status.success() => {
                let deadline = Deadline::after(self.plan.timeout);
                return self.place.settle(self.world, deadline, owed);
            }
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it took longer than --timeout and was stopped".to_owned(),
            Err(e) => e.to_string(),
        };
        let path = self.path().display();
        Err(Error::failed("the command of --then failed")
            .because(why)
            .because(format!("{path} is written; the command is run again next time")))
    }
}
