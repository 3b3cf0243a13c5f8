//! A place brought up to date, once: what `write` does, `watch` repeats and a `service` schedules.
//!
//! What can be refused on this machine is refused before anything is minted. The place then gets a
//! credential that lives at least until the look after the next (`Plan::min_ttl` under
//! `--interval`); where there is none, it gets the best there is and the call fails, so that
//! whoever schedules it tries again soon. A command that is to be told of changes (`--then`) is
//! run until it has succeeded once after the last change.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use crate::cache::policy::falls_short;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Connection;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::formats;
use crate::formats::Format;
use crate::lakebase::workspace_api::Api;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::log;
use crate::platform::log::Level;
use crate::platform::process::run_shell_line;
use crate::platform::target_file::{Change, HookMark, PendingHook, TargetFile};
use crate::platform::time::Deadline;
use crate::session::{Session, Wants};
use crate::targets::table::{Entry, FileTarget, Target};
use crate::targets::{secret, table};

/// A place and what it shall say, decided.
pub struct Update<'a> {
    /// Whose credential, and for what.
    pub plan: Plan,
    context: &'a Context,
    target: Target,
    format: &'static Format,
    place: Where,
}

/// What is changed.
enum Where {
    /// A file, and how.
    File(&'static FileTarget, TargetFile),
    /// A secret of the workspace.
    Secret,
}

/// What an update did.
pub struct Done {
    /// The place, for people.
    place: String,
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
        write!(f, "{what} {}: {}", self.place, self.token)
    }
}

/// How often a `watch` or a `service` looks where nobody says.
pub const DEFAULT_INTERVAL: &str = "10m";

impl<'a> Update<'a> {
    /// Decides; `words` name the place on the command line.
    pub fn new(settings: Settings, words: &[OsString], context: &'a Context) -> Result<Update<'a>> {
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let target = table::named(&words, &settings, context)?;
        let row = target.row;
        if let (Some((profile, _)), [Id::To], [to]) =
            (&settings.profile, row.keys, &target.keys[..])
            && profile == to
        {
            return Err(Error::usage(format!(
                "profile {profile} is the one this identity comes from"
            ))
            .hint("--to with another name"));
        }
        let format = formats::chosen(row.format.or(settings.text(Id::Format)))?;
        let plan = match row.purpose {
            Some(purpose) => Plan::with_purpose(purpose, settings, context)?,
            None => Plan::new(settings, context)?,
        };
        format.check(plan.purpose)?;
        let place = match target.file() {
            Some((file, path)) => {
                let place = TargetFile::open(path)?;
                place.check_folder()?;
                Where::File(file, place)
            }
            _ if plan.settings.get(Id::Then).is_some() => {
                return Err(Error::usage(format!("{} has no use for --then", row.name))
                    .because("who reads it is not on this machine"));
            }
            _ => Where::Secret,
        };
        Ok(Update { plan, context, target, format, place })
    }

    /// The file behind all links, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Where::File(_, place) => Some(place.path()),
            Where::Secret => None,
        }
    }

    /// The place, for people.
    pub fn shown(&self) -> String {
        Target { path: self.path().map(Path::to_owned), ..self.target.clone() }.shown()
    }

    /// Gets a credential and brings the place up to date with it.
    pub fn run(&self) -> Result<Done> {
        let deadline = self.plan.deadline();
        if let Where::File(file, place) = &self.place {
            (file.check)(&self.target, &place.read()?.unwrap_or_default())?;
        }
        let session = Session::new(&self.plan, self.context);
        let credential = session.credential(self.wants(), deadline)?;
        let text = Secret::new((self.format.render)(&credential)?);
        if let Some(words) = self.format.warning(&credential) {
            self.context.note(words);
        }
        let then = self.plan.settings.text(Id::Then);
        let telling = if then.is_some() { HookMark::Pending } else { HookMark::None };
        let (change, owed) = match &self.place {
            Where::File(file, place) => {
                let edit = (file.put)(
                    &self.entry(&credential.connection, &credential.workspace),
                    text.expose(),
                )?;
                place.change(self.context, deadline, telling, edit.as_ref())?
            }
            Where::Secret => {
                let put =
                    |api: &Api<'_>| secret::put(api, &self.secret(), &credential.token.secret);
                (session.ask(deadline, put)?, None)
            }
        };
        let place = self.about(&credential.connection);
        let mut done = Done { place, change, token: credential.token, failure: None };
        if change != Change::Unchanged {
            log::event(self.context, Level::Info, &done.to_string());
            if matches!(self.place, Where::Secret) {
                self.context
                    .note("whoever reads this secret must read it again for each connection");
            }
        }
        let told = match (&self.place, then, owed) {
            (Where::File(_, place), Some(command), Some(owed)) => self.tell(place, command, &owed),
            _ => Ok(()),
        };
        done.failure = told.and_then(|()| self.keeps_promise(&done.token)).err();
        Ok(done)
    }

    fn entry<'e>(&'e self, connection: &'e Connection, workspace: &'e str) -> Entry<'e> {
        Entry { target: &self.target, connection, workspace }
    }

    fn secret(&self) -> secret::SecretRef<'_> {
        let [scope, key] = [0, 1].map(|n| self.target.keys.get(n).map_or("", |key| key));
        let create_scope = self.plan.settings.is_on(Id::CreateScope);
        secret::SecretRef { scope, key, create_scope, force: self.target.force }
    }

    /// The place, and which line of it, for people.
    fn about(&self, connection: &Connection) -> String {
        let Connection { user, host, port, database, .. } = connection;
        match (&self.place, user, host, database) {
            (
                Where::File(FileTarget { shared: true, .. }, _),
                Some(user),
                Some(host),
                Some(name),
            ) => {
                let line = redact(&format!("{user}@{host}:{port}/{name}"));
                format!("{} for {line}", self.shown())
            }
            _ => self.shown(),
        }
    }

    /// What others read lives until the look after the next, or whoever schedules it must know.
    fn keeps_promise(&self, token: &Token) -> Result<()> {
        if self.plan.interval.is_none()
            || !falls_short(token, self.plan.min_ttl, self.context.now())
        {
            return Ok(());
        }
        Err(Error::unavailable(format!("{} has no newer credential yet", self.shown()))
            .because(format!("what it has: {token}")))
    }

    /// Takes our part out of the place again.
    pub fn remove(&self) -> Result<Change> {
        let deadline = self.plan.deadline();
        let session = Session::new(&self.plan, self.context);
        let change = match &self.place {
            Where::File(file, place) => {
                // In a file of our own there is nothing to be told from anything.
                let wants = if file.shared { self.wants() } else { Wants::default() };
                let connection = session.connection(wants, deadline)?;
                let edit = (file.remove)(&self.entry(&connection, self.plan.url()))?;
                place.change(self.context, deadline, HookMark::Cancelled, edit.as_ref())?.0
            }
            Where::Secret => session.ask(deadline, |api| secret::remove(api, &self.secret()))?,
        };
        if change != Change::Unchanged {
            log::event(self.context, Level::Info, &format!("removed our part of {}", self.shown()));
        }
        Ok(change)
    }

    /// What the format prints.
    pub fn wants(&self) -> Wants {
        Wants { user: self.format.user, host: self.format.host }
    }

    /// Runs the command that is to be told of a change. Its words are not repeated: they may hold
    /// a secret.
    fn tell(&self, place: &TargetFile, command: &str, owed: &PendingHook) -> Result<()> {
        self.context.end_on_signals()?;
        let hidden: Vec<&str> = self.plan.settings.secret_variables().collect();
        let deadline = Deadline::after(self.plan.timeout);
        let why = match run_shell_line(self.context, command, &hidden, deadline) {
            Ok(Some(status)) if status.success() => {
                let deadline = Deadline::after(self.plan.timeout);
                return place.hook_succeeded(self.context, deadline, owed);
            }
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it took longer than --timeout and was stopped".to_owned(),
            Err(e) => e.to_string(),
        };
        let path = place.path().display();
        Err(Error::failed("the command of --then failed")
            .because(why)
            .because(format!("{path} is written; the command is run again next time")))
    }
}
