//! Brings a target up to date, once: what `write` does, `watch` repeats and a service schedules.
//!
//! What can be refused on this machine is refused before a credential is minted. With `--interval`,
//! the target gets a credential that outlives the next two checks (`Plan::min_ttl`). If no such
//! credential can be minted, the newest available one is written and the call fails, so that the scheduler
//! tries again soon. The hook of a change is run by `hook.rs`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use crate::cache::freshness::falls_short;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::connection::{Connection, Credential};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::formats::{self, Format};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::log::{self, Level};
use crate::platform::path_owners::is_root_in_other_users_folder;
use crate::platform::target_file::{Change, HookMark, PendingHook, TargetFile};
use crate::platform::time::Deadline;
use crate::session::{ConnectionParts, Session};
use crate::targets::secret::{self, SecretRef};
use crate::targets::target::{Entry, EntryEditor, Target};
use crate::targets::{hook, table};

/// The check interval of `watch` and services without `--interval`.
pub const DEFAULT_INTERVAL: &str = "10m";

/// An update that has been checked and can be run.
pub struct Update<'a> {
    pub plan: Plan,
    context: &'a Context,
    target: Target,
    format: &'static Format,
    storage: OpenStorage,
}

enum OpenStorage {
    File(&'static EntryEditor, TargetFile),
    Secret,
}

/// What an update did.
pub struct Done {
    /// The target in a message.
    target: String,
    pub change: Change,
    /// The token that the target has now.
    pub token: Token,
    /// Why the update fails although the target is written: the hook failed, or the token expires
    /// too soon.
    pub failure: Option<Error>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.change == Change::Unchanged { "unchanged" } else { "wrote" };
        write!(f, "{what} {}: {}", self.target, self.token)
    }
}

impl<'a> Update<'a> {
    /// `words` name the target on the command line.
    pub fn new(settings: Settings, words: &[OsString], context: &'a Context) -> Result<Update<'a>> {
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let target = table::named(&words, &settings, context)?;
        refuse_own_profile(&target, &settings)?;

        let row = target.row;
        let format = match row.format {
            Some(format) => format,
            None => formats::chosen(settings.text(Id::Format))?,
        };
        let plan = match row.purpose {
            Some(purpose) => Plan::with_purpose(purpose, settings, context)?,
            None => Plan::new(settings, context)?,
        };
        format.check(plan.purpose)?;
        refuse_read_only(&target, format, &plan)?;

        let storage = open_storage(&target, &plan)?;
        Ok(Update { plan, context, target, format, storage })
    }

    /// The file, behind all symbolic links.
    pub fn path(&self) -> Option<&Path> {
        match &self.storage {
            OpenStorage::File(_, file) => Some(file.path()),
            OpenStorage::Secret => None,
        }
    }

    /// The target in a message.
    pub fn shown(&self) -> String {
        Target { path: self.path().map(Path::to_owned), ..self.target.clone() }.shown()
    }

    /// Whether libpq reads the target as a password file.
    pub fn is_password_file(&self) -> bool {
        self.format.name == formats::PGPASS.name
    }

    /// What the format prints beside the token.
    pub fn wants(&self) -> ConnectionParts {
        ConnectionParts { user: self.format.user, host: self.format.host }
    }

    /// Gets a credential and writes it into the target.
    pub fn run(&self) -> Result<Done> {
        let deadline = self.plan.deadline();
        if let OpenStorage::File(how, file) = &self.storage {
            (how.check)(&self.target, &file.read()?.unwrap_or_default())?;
        }

        let session = Session::new(&self.plan, self.context);
        let credential = session.credential(self.wants(), deadline)?;
        let text = Secret::new((self.format.render)(&credential)?);
        if let Some(warning) = self.format.warning(&credential) {
            self.context.note(warning);
        }

        let (change, pending_hook) = self.put(&session, &credential, &text, deadline)?;
        let target = self.shown_entry(&credential.connection);
        let mut done = Done { target, change, token: credential.token, failure: None };
        self.report_change(&done);

        let hook_done = self.run_hook(pending_hook.as_ref());
        done.failure = hook_done.and_then(|()| self.check_life(&done.token)).err();
        Ok(done)
    }

    /// Removes our entry from the target. Returns the target's name, too, with the entry that was looked for.
    pub fn remove(&self) -> Result<(Change, String)> {
        let deadline = self.plan.deadline();
        let session = Session::new(&self.plan, self.context);
        let mut shown = self.shown();
        let change = match &self.storage {
            OpenStorage::File(how, file) => {
                // A file that is not shared has one entry, which needs no role or host to be found.
                let wants = if how.shared { self.wants() } else { ConnectionParts::default() };
                let connection = session.connection(wants, deadline)?;
                shown = self.shown_entry(&connection);
                let edit = (how.remove)(&self.entry(&connection, self.plan.url()))?;
                file.change(self.context, deadline, HookMark::Cancelled, edit.as_ref())?.0
            }
            OpenStorage::Secret => {
                session.ask(deadline, |api| secret::remove(api, &self.secret()))?
            }
        };

        if change != Change::Unchanged {
            let event = format!("removed our entry from {}", self.shown());
            log::event(self.context, Level::Info, &event);
        }
        Ok((change, shown))
    }

    fn put(
        &self,
        session: &Session<'_>,
        credential: &Credential,
        text: &Secret,
        deadline: Deadline,
    ) -> Result<(Change, Option<PendingHook>)> {
        match &self.storage {
            OpenStorage::File(how, file) => {
                let entry = self.entry(&credential.connection, &credential.workspace);
                let edit = (how.put)(&entry, text.expose())?;
                file.change(self.context, deadline, hook::mark(&self.plan), edit.as_ref())
            }
            OpenStorage::Secret => {
                let value = &credential.token.secret;
                let change =
                    session.ask(deadline, |api| secret::put(api, &self.secret(), value))?;
                Ok((change, None))
            }
        }
    }

    fn report_change(&self, done: &Done) {
        if done.change == Change::Unchanged {
            return;
        }
        log::event(self.context, Level::Info, &done.to_string());
        if matches!(self.storage, OpenStorage::Secret) {
            self.context
                .note("programs that use this secret must read it again for each connection");
        }
    }

    fn run_hook(&self, pending: Option<&PendingHook>) -> Result<()> {
        match (&self.storage, pending) {
            (OpenStorage::File(_, file), Some(pending)) => {
                hook::run(&self.plan, file, pending, self.context)
            }
            _ => Ok(()),
        }
    }

    /// Fails where the token does not outlive the next two checks.
    fn check_life(&self, token: &Token) -> Result<()> {
        let falls_short = falls_short(token, self.plan.min_ttl, self.context.now());
        if self.plan.interval.is_none() || !falls_short {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "{} has a credential that does not outlive the next two checks",
            self.shown()
        ))
        .because(format!("no newer one could be minted yet; the current one: {token}")))
    }

    fn entry<'e>(&'e self, connection: &'e Connection, workspace: &'e str) -> Entry<'e> {
        Entry { target: &self.target, connection, workspace }
    }

    fn secret(&self) -> SecretRef<'_> {
        let key = |n: usize| self.target.keys.get(n).map_or("", String::as_str);
        SecretRef {
            scope: key(0),
            key: key(1),
            create_scope: self.plan.settings.is_on(Id::CreateScope),
            force: self.target.force,
        }
    }

    /// The target in a message; of a shared file, with the connection that our entry is for.
    fn shown_entry(&self, connection: &Connection) -> String {
        let is_shared = matches!(&self.storage, OpenStorage::File(how, _) if how.shared);
        match connection {
            Connection {
                user: Some(user), host: Some(host), port, database: Some(name), ..
            } if is_shared => {
                let entry = redact(&format!("{user}@{host}:{port}/{name}"));
                format!("{} for {entry}", self.shown())
            }
            _ => self.shown(),
        }
    }
}

/// The profile that a call's credentials come from would lose them.
fn refuse_own_profile(target: &Target, settings: &Settings) -> Result<()> {
    match &settings.profile {
        Some((profile, _))
            if target.row.keys == [Id::To] && target.first_key() == profile.as_str() =>
        {
            Err(Error::usage(format!(
                "profile {profile} has the credentials that this command logs in with"
            ))
            .hint("--to with another name"))
        }
        _ => Ok(()),
    }
}

/// A password that only reads some tables must not stand where programs look for the role's own.
fn refuse_read_only(target: &Target, format: &Format, plan: &Plan) -> Result<()> {
    if plan.tables.is_empty() || (target.row.takes_path() && !format.is_found_by_role) {
        return Ok(());
    }
    Err(Error::usage(format!("{} takes no --read-only", target.shown()))
        .because("programs would take it for the role's own password")
        .hint("lakebase-token write file PATH --read-only TABLE  # in another format"))
}

/// The folder of `pgpass.conf`, which nothing makes when libpq is installed.
fn make_usual_folder(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let cannot =
        |e| Error::failed(format!("cannot make the folder {}", folder.display())).because(e);
    files::create_folders(folder).map_err(cannot)
}

fn open_storage(target: &Target, plan: &Plan) -> Result<OpenStorage> {
    if let Some((how, path)) = target.file() {
        let is_usual = how.home.is_some_and(|(id, _)| plan.settings.text(id).is_none());
        if cfg!(windows) && is_usual {
            make_usual_folder(path)?;
        }
        // The owner of the home could not read it.
        let removes = plan.settings.is_on(Id::Remove);
        if is_usual && !removes && !path.exists() && is_root_in_other_users_folder(path) {
            let path = redact(&path.to_string_lossy());
            return Err(Error::usage(format!("{path} would be root's, in another user's home"))
                .hint("sudo -u NAME lakebase-token …, with the name of that user"));
        }
        let file = TargetFile::open(path)?;
        file.check_folder()?;
        return Ok(OpenStorage::File(how, file));
    }
    if plan.settings.get(Id::Then).is_some() {
        return Err(Error::usage(format!("target {} does not take --then", target.row.name))
            .because("the programs that read it run on other machines"));
    }
    Ok(OpenStorage::Secret)
}
