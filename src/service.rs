//! A place that the system's own timer keeps up to date: `write`, scheduled for good.
//!
//! A [`Job`] is decided from an update that would work here and now (`service/job.rs`): the command,
//! how often, and every setting that was found, written down in an environment file that only its
//! user can read (`service/pins.rs`), so that the job does the same whatever session it is started
//! from. The files that schedule it and the programs that are asked to are one row a platform
//! (`service/systemd.rs`, `service/launchd.rs`). A job that was not seen to succeed once is not
//! installed: what was there before is put back. All that is done later goes by what was written
//! down, whatever is configured by then.

pub mod job;
pub mod launchd;
pub mod pins;
pub mod systemd;
mod tools;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result, clean};
use crate::file::{Lock, private_folder, while_held};
use crate::get::Session;
use crate::place::{Change, Place, Telling};
use crate::plan::Plan;
use crate::secret::Secret;
use crate::settings::{Id, Settings};
use crate::sink::{Entry, Spot};
use crate::time::Deadline;
use crate::token::{Connection, LEAST_LIFE, expiry_within, holds_token};
use crate::update::Update;
use crate::world::World;
pub use job::Job;
use pins::Pins;
pub use tools::Tools;

/// A platform's timer.
pub struct Manager {
    /// Its name.
    pub name: &'static str,
    /// Where its files are.
    pub folder: fn(&World) -> Option<PathBuf>,
    /// How the names of a job's files end.
    pub endings: &'static [&'static str],
    /// What those files say.
    pub files: fn(&Job, &World) -> Vec<String>,
    /// Fails, with what else there is, where it cannot be asked.
    pub reach: fn(&Tools<'_>) -> Result<()>,
    /// Reads the job's files anew and schedules it from now on.
    pub load: fn(&Tools<'_>) -> Result<()>,
    /// Runs the loaded job once, or waits for the run that loading has begun.
    pub run: fn(&Tools<'_>) -> Result<()>,
    /// Stops the job, while its files are still there.
    pub unload: fn(&Tools<'_>) -> Result<()>,
    /// Notices that its files are gone.
    pub forget: fn(&Tools<'_>) -> Result<()>,
    /// How the job fares.
    pub state: fn(&Tools<'_>) -> Result<State>,
    /// Lets it run without anybody logged in, if asked to; what there is to know if it does not.
    pub linger: fn(&Tools<'_>, bool) -> Result<Option<&'static str>>,
}

/// What can be done with a service.
pub const ACTIONS: [&str; 4] = ["install", "uninstall", "status", "restart"];

/// The one of this platform.
pub static MANAGER: &Manager =
    if cfg!(target_os = "macos") { &launchd::LAUNCHD } else { &systemd::SYSTEMD };

/// How a job fares.
pub struct State {
    /// Whether it is scheduled.
    pub scheduled: bool,
    /// When it will run next, for people.
    pub next: String,
    /// How the last run ended, for people.
    pub last: String,
    /// Why, where it failed.
    pub error: Option<Error>,
}

/// What `service status` found.
pub struct Report {
    /// The job, its timer, its last run, its file.
    pub lines: Vec<(&'static str, String)>,
    /// 0 where all is well.
    pub code: u8,
}

/// A service by its name.
pub struct Service<'a> {
    name: String,
    spot: Spot,
    manager: &'static Manager,
    world: &'a World,
}

impl<'a> Service<'a> {
    /// The service that looks after this place; `name` tells it from another one.
    pub fn new(
        spot: Spot,
        name: Option<&str>,
        manager: &'static Manager,
        world: &'a World,
    ) -> Result<Service<'a>> {
        const MOST: usize = 64;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let path = spot.path.as_deref().map(job::real).transpose()?;
        let own = match name {
            Some(name) if name.len() <= MOST && name.chars().all(legal) => name.to_owned(),
            Some(name) => {
                let words = format!("--name is not a service's name: {}", clean(name));
                return Err(Error::usage(words).hint("up to 64 letters, digits, `.`, `_` and `-`"));
            }
            None => {
                let file =
                    path.as_deref().and_then(Path::file_name).filter(|_| spot.sink.takes_path());
                let file = file.map(|file| file.to_string_lossy().into_owned());
                let parts = file.into_iter().chain(spot.keys.iter().cloned());
                parts.fold(spot.sink.name.to_owned(), |name, part| {
                    let plain = part.chars().take(MOST).map(|c| if legal(c) { c } else { '-' });
                    format!("{name}-{}", plain.collect::<String>())
                })
            }
        };
        let spot = Spot { path, ..spot };
        Ok(Service { name: format!("lakebase-token-{own}"), spot, manager, world })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decides what the job does. `flags` are those of the command line.
    pub fn job(&self, update: &Update<'_>, flags: &[(Id, String)]) -> Result<Job> {
        Job::of(&self.name, self.environment()?, &self.spot, update, flags, self.world)
    }

    /// Puts the job's files in place, runs it once, schedules it. Says what it did.
    pub fn install(&self, job: &Job, linger: bool) -> Result<&'static str> {
        let tools = self.tools(LONGEST_RUN);
        (self.manager.reach)(&tools)?;
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let units = self.units()?;
        private_folder(&folder(&job.environment)).map_err(|e| cannot(&job.environment, e))?;
        for unit in &units {
            fs::create_dir_all(folder(unit)).map_err(|e| cannot(unit, e))?;
        }
        self.alone(&tools, || self.install_alone(job, linger, &tools))
    }

    fn install_alone(&self, job: &Job, linger: bool, tools: &Tools<'_>) -> Result<&'static str> {
        self.pinned()?;
        let units = self.units()?;
        let mut files = vec![(job.environment.clone(), job.pins.render(&self.name)?)];
        let contents = (self.manager.files)(job, self.world).into_iter().map(Secret::new);
        files.extend(units.into_iter().zip(contents));
        let mut former = Vec::new();
        for (path, _) in &files {
            former.push((path.clone(), Place::open(path)?.read()?));
        }
        let (mut changed, existed) = (false, former.iter().all(|(_, content)| content.is_some()));
        let mut owes = None;
        let installed = (|| {
            for (path, content) in &files {
                changed |= self.put(path, content.expose().as_bytes())? != Change::Unchanged;
            }
            if let (true, Some(path), true) = (changed, &self.spot.path, job.tells()) {
                // Whoever is to be told of changes has not been told of what is there.
                owes = Place::open(path)?.owe(self.world, tools.deadline)?;
            }
            (self.manager.load)(tools)?;
            (self.manager.run)(tools)?;
            if linger {
                (self.manager.linger)(tools, true)?;
            }
            Ok(())
        })();
        if let Err(error) = installed {
            let error: Error = error;
            if let (Some(owed), Some(path), false) = (owes, &self.spot.path, existed) {
                let _ = Place::open(path).and_then(|p| p.settle(self.world, tools.deadline, &owed));
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
        (self.manager.linger)(&self.tools(MINUTE), false).ok().flatten()
    }

    /// Runs the job now and schedules it anew.
    pub fn restart(&self) -> Result<()> {
        let tools = self.tools(LONGEST_RUN);
        if let Some(path) = self.pinned_spot(&self.installed()?).path {
            // Its folder may be gone, of which the unit's sandbox would only say a number.
            Place::open(&path)?;
        }
        (self.manager.reach)(&tools)?;
        (self.manager.load)(&tools)?;
        (self.manager.run)(&tools)
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
        (self.manager.reach)(&tools)?;
        self.alone(&tools, || self.uninstall_alone(&files, pins, purge, &tools))
    }

    fn uninstall_alone(
        &self,
        files: &[PathBuf],
        pins: Option<Pins>,
        purge: bool,
        tools: &Tools<'_>,
    ) -> Result<bool> {
        (self.manager.unload)(tools)?;
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
            let _ = fs::remove_dir(folder);
        }
        (self.manager.forget)(tools)?;
        let purged = purged.map(|()| true);
        purged.map_err(|error| error.because(format!("{} is uninstalled nevertheless", self.name)))
    }

    /// How it fares, in words and as an exit code.
    pub fn status(&self) -> Result<Report> {
        let pins = self.installed()?;
        let tools = self.tools(MINUTE);
        (self.manager.reach)(&tools)?;
        let state = (self.manager.state)(&tools)?;
        let (content, good) = self.entry(&pins);
        let timer = if state.scheduled { "scheduled, next look" } else { "not scheduled" };
        let mut lines = vec![
            ("service", format!("{} ({})", self.name, self.manager.name)),
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
        Ok(Report { lines, code })
    }

    /// What the place says of us, and whether that is a living credential.
    fn entry(&self, pins: &Pins) -> (String, bool) {
        let spot = self.pinned_spot(pins);
        let Some((file, path)) = spot.file() else {
            return ("only the last look tells".to_owned(), true);
        };
        let content = match Place::open(path).and_then(|place| place.read()) {
            Ok(Some(content)) => content,
            Ok(None) => return ("there is no such file".to_owned(), false),
            Err(error) => return (error.to_string(), false),
        };
        let connection = connection(pins);
        let entry = Entry { spot: &spot, connection: &connection, workspace: "" };
        let part = (file.part)(&entry, &content).filter(|part| holds_token(part));
        let Some(part) = part else { return ("it has nothing of ours".to_owned(), false) };
        match expiry_within(part) {
            None => ("it has a token that does not tell its end".to_owned(), true),
            Some(expires) if expires.since(self.world.now()) < LEAST_LIFE => {
                (format!("expired at {expires}"), false)
            }
            Some(expires) => (format!("good until {expires}"), true),
        }
    }

    /// The place as it was when it was installed.
    fn pinned_spot(&self, pins: &Pins) -> Spot {
        let path = pins.path().map(Path::to_owned);
        Spot { path: path.or(self.spot.path.clone()), ..self.spot.clone() }
    }

    /// Removes our part of the place and what this identity has cached; the one also where the
    /// other cannot be.
    fn purge(&self, pins: &Pins) -> Result<()> {
        let world = pins.world(self.world);
        let settings = || Settings::resolve(&pins.flags(), &world);
        let spot = self.pinned_spot(pins);
        let removed = match spot.file() {
            Some((file, path)) => (|| {
                let connection = connection(pins);
                let entry = Entry { spot: &spot, connection: &connection, workspace: "" };
                let edit = (file.remove)(&entry)?;
                let place = Place::open(path)?;
                place.change(self.world, Deadline::after(MINUTE), Telling::NoMore, edit.as_ref())
            })()
            .map(|_| ()),
            None => {
                let words: Vec<_> = [spot.sink.name.into()].into();
                settings().and_then(|s| Update::new(s, &words, &world)?.remove()).map(|_| ())
            }
        };
        Session::new(&Plan::new(settings()?, &world)?, &world).forget();
        removed
    }

    /// What was written down when it was installed; its files must be there.
    fn installed(&self) -> Result<Pins> {
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
    fn pinned(&self) -> Result<Option<Pins>> {
        let path = self.environment()?;
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let content = Place::open(&path)?.read()?.unwrap_or_default();
        let pins = Pins::parse(&String::from_utf8_lossy(&content));
        let asked = self.spot.id();
        let differs = pins.place().iter().zip(&asked).enumerate().any(|(n, (pinned, asked))| {
            // The second is the path, which need not be named again.
            pinned != asked && (n != 1 || self.spot.explicit)
        });
        if !differs {
            return Ok(Some(pins));
        }
        Err(Error::usage(format!("{} looks after another place", self.name))
            .because(format!(
                "that is {}, not {}",
                self.pinned_spot(&pins).shown(),
                self.spot.shown()
            ))
            .hint("--name NAME for a second service, or name that place"))
    }

    /// The command line that does something with this very service.
    pub fn command(&self, action: &str) -> String {
        let usual = Service::new(self.spot.clone(), None, self.manager, self.world);
        let name = match usual {
            Ok(usual) if usual.name == self.name => String::new(),
            _ => format!(" --name {}", self.name.strip_prefix("lakebase-token-").unwrap_or("")),
        };
        format!("lakebase-token service {action} {}{name}", self.spot.words().join(" "))
    }

    /// Puts back what was there.
    fn restore(&self, former: &[(PathBuf, Option<Vec<u8>>)], existed: bool) -> Result<()> {
        let tools = self.tools(MINUTE);
        if !existed {
            (self.manager.unload)(&tools)?;
        }
        for (path, content) in former {
            match content {
                Some(content) => self.put(path, content).map(|_| ())?,
                None => remove(path)?,
            }
        }
        if existed { (self.manager.load)(&tools) } else { (self.manager.forget)(&tools) }
    }

    fn put(&self, path: &Path, content: &[u8]) -> Result<Change> {
        let place = Place::open(path)?;
        let edit = |_: Option<&[u8]>| Ok(Some(content.to_vec()));
        let deadline = Deadline::after(MINUTE);
        Ok(place.change(self.world, deadline, Telling::Nobody, &edit)?.0)
    }

    /// Does something while nobody else installs a service or takes one away. The lock is on a
    /// folder that none of a service's files is in, since each of those is locked for itself.
    fn alone<T>(&self, tools: &Tools<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let units = self.units()?;
        let folder = units.first().and_then(|unit| unit.parent()?.parent());
        let folder = folder.unwrap_or(Path::new("/"));
        let cannot =
            |e| Error::failed(format!("cannot lock the folder {}", folder.display())).because(e);
        let mut lock = File::open(folder).map(Lock::new).map_err(cannot)?;
        while_held(&mut lock, self.world, tools.deadline, work).map_err(cannot)?.unwrap_or_else(
            || Err(Error::unavailable("somebody else is installing a service at the moment")),
        )
    }

    fn environment(&self) -> Result<PathBuf> {
        let folder = self.world.config_home().ok_or_else(no_home)?;
        Ok(folder.join(format!("lakebase-token/{}.env", self.name)))
    }

    fn units(&self) -> Result<Vec<PathBuf>> {
        let folder = (self.manager.folder)(self.world).ok_or_else(no_home)?;
        let path = |ending| folder.join(format!("{}{ending}", self.name));
        Ok(self.manager.endings.iter().map(path).collect())
    }

    fn tools(&self, limit: Duration) -> Tools<'_> {
        let unit = |path: PathBuf| path.to_string_lossy().into_owned();
        Tools {
            name: &self.name,
            unit: self.units().ok().and_then(|units| units.into_iter().next()).map(unit),
            world: self.world,
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
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", path.display())).because(e))
        }
        _ => Ok(()),
    }
}

/// The connection that a job's environment file describes.
fn connection(pins: &Pins) -> Connection {
    let text = |name| pins.text(name).map(str::to_owned);
    Connection {
        user: text("PGUSER"),
        host: text("PGHOST"),
        port: pins.text("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(5432),
        database: text("PGDATABASE"),
        sslmode: "",
    }
}
