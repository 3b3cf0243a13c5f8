//! A place that the system's own timer keeps up to date: `write`, scheduled for good.
//!
//! A [`Job`] is decided from an update that would work here and now (`service/job.rs`): the command,
//! how often, and every setting that was found, written down in an environment file that only its
//! user can read (`service/pins.rs`), so that the job does the same whatever session it is started
//! from. The files that schedule it and the programs that are asked to are one row a platform
//! (`service/systemd.rs`, `service/launchd.rs`). A job that was not seen to succeed once is not
//! installed: what was there before is put back. All that is done later goes by what was written
//! down, whatever is configured by then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Connection;
use crate::credential::jwt::{expiry_within, holds_token};
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::LEAST_LIFE;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::lock::LockFile;
use crate::platform::private_file::private_folder;
use crate::platform::target_file::{Change, HookMark, TargetFile};
use crate::platform::time::Deadline;
use crate::service::env_file::EnvFile;
use crate::service::job::Job;
use crate::service::manager::Manager;
use crate::service::manager_cli::Tools;
use crate::session::Session;
use crate::targets::table::{Entry, Target};
use crate::targets::update::Update;

/// What can be done with a service.
pub const ACTIONS: [&str; 4] = ["install", "uninstall", "status", "restart"];

/// What `service status` found.
pub struct ServiceReport {
    /// The job, its timer, its last run, its file.
    pub lines: Vec<(&'static str, String)>,
    /// 0 where all is well.
    pub code: u8,
}

/// A service by its name.
pub struct Service<'a> {
    name: String,
    target: Target,
    manager: Manager,
    context: &'a Context,
}

impl<'a> Service<'a> {
    /// The service that looks after this place; `name` tells it from another one.
    pub fn new(
        target: Target,
        name: Option<&str>,
        manager: Manager,
        context: &'a Context,
    ) -> Result<Service<'a>> {
        const MOST: usize = 64;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let path = target.path.as_deref().map(crate::service::paths::real).transpose()?;
        let own = match name {
            Some(name) if name.len() <= MOST && name.chars().all(legal) => name.to_owned(),
            Some(name) => {
                let words = format!("--name is not a service's name: {}", redact(name));
                return Err(Error::usage(words).hint("up to 64 letters, digits, `.`, `_` and `-`"));
            }
            None => {
                let file =
                    path.as_deref().and_then(Path::file_name).filter(|_| target.row.takes_path());
                let file = file.map(|file| file.to_string_lossy().into_owned());
                let parts = file.into_iter().chain(target.keys.iter().cloned());
                parts.fold(target.row.name.to_owned(), |name, part| {
                    let plain = part.chars().take(MOST).map(|c| if legal(c) { c } else { '-' });
                    format!("{name}-{}", plain.collect::<String>())
                })
            }
        };
        let target = Target { path, ..target };
        Ok(Service { name: format!("lakebase-token-{own}"), target, manager, context })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decides what the job does. `flags` are those of the command line.
    pub fn job(&self, update: &Update<'_>, flags: &[(Id, String)]) -> Result<Job> {
        Job::of(&self.name, self.environment()?, &self.target, update, flags, self.context)
    }

    /// Puts the job's files in place, runs it once, schedules it. Says what it did.
    pub fn install(&self, job: &Job, linger: bool) -> Result<&'static str> {
        let tools = self.tools(LONGEST_RUN);
        self.manager.check_reachable(&tools)?;
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let units = self.units()?;
        private_folder(&folder(&job.environment)).map_err(|e| cannot(&job.environment, e))?;
        for unit in &units {
            files::create_folders(&folder(unit)).map_err(|e| cannot(unit, e))?;
        }
        self.alone(&tools, || self.install_alone(job, linger, &tools))
    }

    fn install_alone(&self, job: &Job, linger: bool, tools: &Tools<'_>) -> Result<&'static str> {
        self.pinned()?;
        let units = self.units()?;
        let mut files = vec![(job.environment.clone(), job.pins.render(&self.name)?)];
        let contents = self.manager.files(job, self.context).into_iter().map(Secret::new);
        files.extend(units.into_iter().zip(contents));
        let mut former = Vec::new();
        for (path, _) in &files {
            former.push((path.clone(), TargetFile::open(path)?.read()?));
        }
        let (mut changed, existed) = (false, former.iter().all(|(_, content)| content.is_some()));
        let mut owes = None;
        let installed = (|| {
            for (path, content) in &files {
                changed |= self.put(path, content.expose().as_bytes())? != Change::Unchanged;
            }
            if let (true, Some(path), true) = (changed, &self.target.path, job.tells()) {
                // Whoever is to be told of changes has not been told of what is there.
                owes = TargetFile::open(path)?.mark_hook(self.context, tools.deadline)?;
            }
            self.manager.load(tools)?;
            self.manager.run(tools)?;
            if linger {
                self.manager.linger(tools, true)?;
            }
            Ok(())
        })();
        if let Err(error) = installed {
            let error: Error = error;
            if let (Some(owed), Some(path), false) = (owes, &self.target.path, existed) {
                let _ = TargetFile::open(path)
                    .and_then(|p| p.hook_succeeded(self.context, tools.deadline, &owed));
            }
            let words = if existed { "the former service is back" } else { "nothing is installed" };
            return Err(match self.restore(&former, existed) {
                Ok(()) => error.because(words),
                Err(e) => error.because(format!("and undoing it failed: {e}")),
            });
        }
        Ok(match (existed, changed) {
            (false, _) => "installed",
            (true, true) => "replaced",
            (true, false) => "unchanged",
        })
    }

    /// What there is to know about a job that runs only while its user is logged in.
    pub fn linger_note(&self) -> Option<&'static str> {
        self.manager.linger(&self.tools(MINUTE), false).ok().flatten()
    }

    /// Runs the job now and schedules it anew.
    pub fn restart(&self) -> Result<()> {
        let tools = self.tools(LONGEST_RUN);
        if let Some(path) = self.pinned_spot(&self.installed()?).path {
            // Its folder may be gone, of which the unit's sandbox would only say a number.
            TargetFile::open(&path)?;
        }
        self.manager.check_reachable(&tools)?;
        self.manager.load(&tools)?;
        self.manager.run(&tools)
    }

    /// Takes the job's files away, and with `purge` what it has written and cached. Whether there
    /// was anything.
    pub fn uninstall(&self, purge: bool) -> Result<bool> {
        let tools = self.tools(MINUTE);
        let mut files = self.units()?;
        files.push(self.environment()?);
        if !files.iter().any(|file| file.symlink_metadata().is_ok()) {
            return Ok(false);
        }
        let pins = self.pinned()?;
        self.manager.check_reachable(&tools)?;
        self.alone(&tools, || self.uninstall_alone(&files, pins, purge, &tools))
    }

    fn uninstall_alone(
        &self,
        files: &[PathBuf],
        pins: Option<EnvFile>,
        purge: bool,
        tools: &Tools<'_>,
    ) -> Result<bool> {
        self.manager.unload(tools)?;
        let purged = match (purge, pins) {
            (false, _) => Ok(()),
            (true, Some(pins)) => self.purge(&pins),
            (true, None) => Err(Error::failed(format!(
                "what {} wrote and cached stays: it has no environment file any more",
                self.name
            ))),
        };
        for file in files {
            remove(file)?;
        }
        if let Some(folder) = files.last().and_then(|file| file.parent()) {
            // Another service's file keeps it.
            let _ = files::remove_empty_folder(folder);
        }
        self.manager.forget(tools)?;
        let purged = purged.map(|()| true);
        purged.map_err(|error| error.because(format!("{} is uninstalled nevertheless", self.name)))
    }

    /// How it fares, in words and as an exit code.
    pub fn status(&self) -> Result<ServiceReport> {
        let pins = self.installed()?;
        let tools = self.tools(MINUTE);
        self.manager.check_reachable(&tools)?;
        let state = self.manager.state(&tools)?;
        let (content, good) = self.entry(&pins);
        let timer = if state.scheduled { "scheduled, next look" } else { "not scheduled" };
        let mut lines = vec![
            ("service", format!("{} ({})", self.name, self.manager.name())),
            ("timer", format!("{timer} {}", state.next).trim_end().to_owned()),
            ("last look", state.last),
            ("place", format!("{}: {content}", self.pinned_spot(&pins).shown())),
        ];
        let code = match &state.error {
            Some(error) => error.kind as u8,
            None => u8::from(!state.scheduled || !good),
        };
        if let Some(error) = state.error {
            lines.extend(error.because.into_iter().map(|reason| ("because", reason)));
            lines.extend(error.hints.into_iter().map(|hint| ("hint", hint)));
        }
        Ok(ServiceReport { lines, code })
    }

    /// What the place says of us, and whether that is a living credential.
    fn entry(&self, pins: &EnvFile) -> (String, bool) {
        let target = self.pinned_spot(pins);
        let Some((file, path)) = target.file() else {
            return ("only the last look tells".to_owned(), true);
        };
        let content = match TargetFile::open(path).and_then(|place| place.read()) {
            Ok(Some(content)) => content,
            Ok(None) => return ("there is no such file".to_owned(), false),
            Err(error) => return (error.to_string(), false),
        };
        let connection = connection(pins);
        let entry = Entry { target: &target, connection: &connection, workspace: "" };
        let part = (file.part)(&entry, &content).filter(|part| holds_token(part));
        let Some(part) = part else { return ("it has nothing of ours".to_owned(), false) };
        match expiry_within(part) {
            None => ("it has a token that does not tell its end".to_owned(), true),
            Some(expires) if expires.since(self.context.now()) < LEAST_LIFE => {
                (format!("expired at {expires}"), false)
            }
            Some(expires) => (format!("good until {expires}"), true),
        }
    }

    /// The place as it was when it was installed.
    fn pinned_spot(&self, pins: &EnvFile) -> Target {
        let path = pins.path().map(Path::to_owned);
        Target { path: path.or(self.target.path.clone()), ..self.target.clone() }
    }

    /// Removes our part of the place and what this identity has cached; the one also where the
    /// other cannot be.
    fn purge(&self, pins: &EnvFile) -> Result<()> {
        let context = pins.context(self.context);
        let settings = || Settings::resolve(&pins.flags(), &context);
        let target = self.pinned_spot(pins);
        let removed = match target.file() {
            Some((file, path)) => (|| {
                let connection = connection(pins);
                let entry = Entry { target: &target, connection: &connection, workspace: "" };
                let edit = (file.remove)(&entry)?;
                let place = TargetFile::open(path)?;
                place.change(
                    self.context,
                    Deadline::after(MINUTE),
                    HookMark::Cancelled,
                    edit.as_ref(),
                )
            })()
            .map(|_| ()),
            None => {
                let words: Vec<_> = [target.row.name.into()].into();
                settings().and_then(|s| Update::new(s, &words, &context)?.remove()).map(|_| ())
            }
        };
        Session::new(&Plan::new(settings()?, &context)?, &context).evict_all();
        removed
    }

    /// What was written down when it was installed; its files must be there.
    fn installed(&self) -> Result<EnvFile> {
        let pins = self.pinned()?;
        let mut files = self.units()?;
        files.push(self.environment()?);
        let missing = files.iter().find(|file| file.symlink_metadata().is_err());
        match (pins, missing) {
            (Some(pins), None) => Ok(pins),
            (_, missing) => {
                let missing = missing.map(|file| format!("there is no {}", file.display()));
                Err(Error::usage(format!("{} is not installed", self.name))
                    .because(missing.unwrap_or_default())
                    .hint(self.command("install")))
            }
        }
    }

    /// What was written down, if anything was, and if it is about this place: a name belongs to
    /// one place.
    fn pinned(&self) -> Result<Option<EnvFile>> {
        let path = self.environment()?;
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let content = TargetFile::open(&path)?.read()?.unwrap_or_default();
        let pins = EnvFile::parse(&String::from_utf8_lossy(&content));
        let asked = self.target.id();
        let differs = pins.place().iter().zip(&asked).enumerate().any(|(n, (pinned, asked))| {
            // The second is the path, which need not be named again.
            pinned != asked && (n != 1 || self.target.explicit)
        });
        if !differs {
            return Ok(Some(pins));
        }
        Err(Error::usage(format!("{} looks after another place", self.name))
            .because(format!(
                "that is {}, not {}",
                self.pinned_spot(&pins).shown(),
                self.target.shown()
            ))
            .hint("--name NAME for a second service, or name that place"))
    }

    /// The command line that does something with this very service.
    pub fn command(&self, action: &str) -> String {
        let usual = Service::new(self.target.clone(), None, self.manager, self.context);
        let name = match usual {
            Ok(usual) if usual.name == self.name => String::new(),
            _ => format!(" --name {}", self.name.strip_prefix("lakebase-token-").unwrap_or("")),
        };
        format!("lakebase-token service {action} {}{name}", self.target.words().join(" "))
    }

    /// Puts back what was there.
    fn restore(&self, former: &[(PathBuf, Option<Vec<u8>>)], existed: bool) -> Result<()> {
        let tools = self.tools(MINUTE);
        if !existed {
            self.manager.unload(&tools)?;
        }
        for (path, content) in former {
            match content {
                Some(content) => self.put(path, content).map(|_| ())?,
                None => remove(path)?,
            }
        }
        if existed { self.manager.load(&tools) } else { self.manager.forget(&tools) }
    }

    fn put(&self, path: &Path, content: &[u8]) -> Result<Change> {
        let place = TargetFile::open(path)?;
        let edit = |_: Option<&[u8]>| Ok(Some(content.to_vec()));
        let deadline = Deadline::after(MINUTE);
        Ok(place.change(self.context, deadline, HookMark::None, &edit)?.0)
    }

    /// Does something while nobody else installs a service or takes one away. The lock is on a
    /// folder that none of a service's files is in, since each of those is locked for itself.
    fn alone<T>(&self, tools: &Tools<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let units = self.units()?;
        let folder = units.first().and_then(|unit| unit.parent()?.parent());
        let folder = folder.unwrap_or(Path::new("/"));
        let cannot =
            |e| Error::failed(format!("cannot lock the folder {}", folder.display())).because(e);
        let mut lock = LockFile::on_folder(folder).map_err(cannot)?;
        lock.while_locked(self.context, tools.deadline, work).map_err(cannot)?.unwrap_or_else(
            || Err(Error::unavailable("somebody else is installing a service at the moment")),
        )
    }

    fn environment(&self) -> Result<PathBuf> {
        let folder = self.context.config_home().ok_or_else(no_home)?;
        Ok(folder.join(format!("lakebase-token/{}.env", self.name)))
    }

    fn units(&self) -> Result<Vec<PathBuf>> {
        let folder = self.manager.folder(self.context).ok_or_else(no_home)?;
        let path = |ending| folder.join(format!("{}{ending}", self.name));
        Ok(self.manager.endings().iter().map(path).collect())
    }

    fn tools(&self, limit: Duration) -> Tools<'_> {
        let unit = |path: PathBuf| path.to_string_lossy().into_owned();
        Tools {
            name: &self.name,
            unit: self.units().ok().and_then(|units| units.into_iter().next()).map(unit),
            context: self.context,
            deadline: Deadline::after(limit),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// `TimeoutStartSec=` of the unit.
const LONGEST_RUN: Duration = Duration::from_secs(30 * 60);

fn no_home() -> Error {
    Error::usage("HOME is not set, so a service has no place").hint("export HOME=/home/you")
}

fn cannot(path: &Path, why: std::io::Error) -> Error {
    Error::failed(format!("cannot make the folder of {}", path.display())).because(why)
}

/// Removes a file, or the link that is there in its place.
fn remove(path: &Path) -> Result<()> {
    match files::remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", path.display())).because(e))
        }
        _ => Ok(()),
    }
}

/// The connection that a job's environment file describes.
fn connection(pins: &EnvFile) -> Connection {
    let text = |name| pins.text(name).map(str::to_owned);
    Connection {
        user: text("PGUSER"),
        host: text("PGHOST"),
        port: pins.text("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(5432),
        database: text("PGDATABASE"),
        sslmode: "",
    }
}
