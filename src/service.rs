//! A place that the system's own timer keeps up to date: `write`, scheduled for good.
//!
//! A [`Job`] is decided from an update that would work here and now: the command, how often, and
//! every setting that was found, written down in an environment file that only its user can read
//! (`service/pins.rs`), so that the job does the same whatever session it is started from. The
//! files that schedule it and the programs that are asked to are one row a platform
//! (`service/systemd.rs`, `service/launchd.rs`). A job that was not seen to succeed once is not
//! installed: what was there before is put back.

pub mod launchd;
pub mod pins;
pub mod systemd;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result, clean};
use crate::file::private_folder;
use crate::get::Session;
use crate::place::{Change, Place, Telling};
use crate::plan::Plan;
use crate::secret::Secret;
use crate::settings::{Id, SETTINGS, Settings};
use crate::sink::Sink;
use crate::time::{Deadline, show_duration};
use crate::token::{Connection, LEAST_LIFE, expiry_within};
use crate::update::Update;
use crate::world::World;
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
    /// A word in the notation of the first of them.
    pub quote: fn(&str) -> String,
    /// Fails, with what else there is, where it cannot be asked.
    pub reach: fn(&Tools<'_>) -> Result<()>,
    /// Reads the files anew and runs the job once.
    pub prove: fn(&Tools<'_>) -> Result<()>,
    /// Schedules the job from now on.
    pub schedule: fn(&Tools<'_>) -> Result<()>,
    /// Stops the job, while its files are still there.
    pub cancel: fn(&Tools<'_>) -> Result<()>,
    /// Notices that its files are gone.
    pub forget: fn(&Tools<'_>) -> Result<()>,
    /// How the job fares.
    pub state: fn(&Tools<'_>) -> Result<State>,
    /// Lets it run without anybody logged in, if asked to; what there is to know if it does not.
    pub linger: fn(&Tools<'_>, bool) -> Result<Option<&'static str>>,
}

/// The one of this platform.
pub static MANAGER: &Manager =
    if cfg!(target_os = "macos") { &launchd::LAUNCHD } else { &systemd::SYSTEMD };

/// What a timer shall do.
pub struct Job {
    /// Its name, which begins the names of its files.
    pub name: String,
    /// The place, for people.
    pub place: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How often.
    pub interval: Duration,
    /// The environment file.
    pub environment: PathBuf,
    /// The folders it writes to: the place's, cache and log.
    pub folders: Vec<String>,
}

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
    sink: &'static Sink,
    path: PathBuf,
    manager: &'static Manager,
    world: &'a World,
}

impl<'a> Service<'a> {
    /// The service that looks after this place; `name` tells it from another one.
    pub fn new(
        (sink, path): (&'static Sink, PathBuf),
        name: Option<&str>,
        manager: &'static Manager,
        world: &'a World,
    ) -> Result<Service<'a>> {
        const MOST: usize = 64;
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let path = absolute(&path)?;
        let own = match (name, path.file_name().filter(|_| sink.has_path)) {
            (Some(name), _) if name.len() <= MOST && name.chars().all(legal) => name.to_owned(),
            (Some(name), _) => {
                let words = format!("--name is not a service's name: {}", clean(name));
                return Err(Error::usage(words).hint("up to 64 letters, digits, `.`, `_` and `-`"));
            }
            (None, Some(file)) => {
                let file = file.to_string_lossy();
                let plain = file.chars().take(MOST).map(|c| if legal(c) { c } else { '-' });
                format!("{}-{}", sink.name, plain.collect::<String>())
            }
            (None, None) => sink.name.to_owned(),
        };
        Ok(Service { name: format!("lakebase-token-{own}"), sink, path, manager, world })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decides what the job does. `flags` are those of the command line.
    pub fn job(&self, update: &Update<'_>, flags: &[(Id, String)]) -> Result<(Job, Pins)> {
        let plan = &update.plan;
        for id in [Id::Refresh, Id::Offline] {
            if plan.settings.is_on(id) {
                let flag = SETTINGS[id as usize].flag;
                return Err(Error::usage(format!("a service cannot do with --{flag}"))
                    .hint(format!("leave out --{flag}")));
            }
        }
        let own = if self.sink.has_path { None } else { Some(text(&self.path)?) };
        let pins = Pins::of(update, flags, own, self.world)?;
        let program = std::env::current_exe()
            .map_err(|e| Error::failed("cannot find this program's own file").because(e))?;
        let mut command = vec![text(&program)?, "write".to_owned()];
        command.push(self.sink.name.to_owned());
        if self.sink.has_path {
            command.push(text(&self.path)?);
        }
        let interval = plan.interval.unwrap_or_default();
        command.extend(["--interval".to_owned(), show_duration(interval)]);
        for id in [Id::For, Id::Format, Id::Then] {
            if let Some(value) = plan.settings.text(id) {
                command.extend([format!("--{}", SETTINGS[id as usize].flag), value.to_owned()]);
            }
        }
        for id in [Id::ClientSecretFile, Id::TokenFile] {
            let given = flags.iter().find(|(flag, path)| *flag == id && path != "-");
            if let Some((_, path)) = given {
                let path = text(&absolute(Path::new(path))?)?;
                command.extend([format!("--{}", SETTINGS[id as usize].flag), path]);
            }
        }
        if plan.settings.is_on(Id::Verbose) {
            command.push("--verbose".to_owned());
        }
        let mut folders = vec![text(update.path().parent().unwrap_or(Path::new("/")))?];
        for name in ["LAKEBASE_TOKEN_CACHE", "LAKEBASE_TOKEN_LOG"] {
            let value = pins.text(name).filter(|value| value.starts_with('/'));
            let Some(path) = value.map(Path::new) else { continue };
            let folder = if name == "LAKEBASE_TOKEN_LOG" { path.parent() } else { Some(path) };
            folders.extend(folder.map(text).transpose()?);
        }
        let words = command.iter().chain(&folders);
        if let Some(word) = words.clone().find(|word| word.chars().any(is_uncarriable)) {
            let words = format!("a unit file cannot carry this: {}", clean(word));
            return Err(Error::usage(words).because("it holds a control character"));
        }
        let job = Job {
            name: self.name.clone(),
            place: text(&self.path)?,
            command,
            interval,
            environment: self.environment()?,
            folders,
        };
        Ok((job, pins))
    }

    /// Puts the job's files in place, runs it once, schedules it. Says what it did.
    pub fn install(&self, job: &Job, pins: &Pins, linger: bool) -> Result<&'static str> {
        let tools = self.tools(LONGEST_RUN);
        (self.manager.reach)(&tools)?;
        if linger {
            (self.manager.linger)(&tools, true)?;
        }
        self.refuse_other_place(job, pins)?;
        let cannot = |what: &Path, e| {
            Error::failed(format!("cannot make the folder {}", what.display())).because(e)
        };
        let units = self.units()?;
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let private = folder(&job.environment);
        private_folder(&private).map_err(|e| cannot(&private, e))?;
        for folder in units.iter().map(|unit| folder(unit)) {
            fs::create_dir_all(&folder).map_err(|e| cannot(&folder, e))?;
        }
        let mut files = vec![(job.environment.clone(), pins.render(&self.name)?)];
        files.extend(
            units
                .into_iter()
                .zip((self.manager.files)(job, self.world).into_iter().map(Secret::new)),
        );
        let mut former = Vec::new();
        for (path, _) in &files {
            former.push((path.clone(), Place::open(path)?.read()?));
        }
        let (mut changed, existed) = (false, former.iter().all(|(_, content)| content.is_some()));
        let installed = (|| {
            for (path, content) in &files {
                let content = content.expose().as_bytes();
                changed |= self.put(path, Some(content))? != Change::Unchanged;
            }
            (self.manager.prove)(&tools)?;
            (self.manager.schedule)(&tools)
        })();
        if let Err(error) = installed {
            let restored = self.restore(&former, existed);
            let words = if existed { "the former service is back" } else { "nothing is installed" };
            return Err(match restored {
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
        self.installed()?;
        (self.manager.reach)(&tools)?;
        (self.manager.schedule)(&tools)?;
        (self.manager.prove)(&tools)
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
        (self.manager.reach)(&tools)?;
        (self.manager.cancel)(&tools)?;
        if purge {
            self.purge()?;
        }
        for file in files.iter().filter(|file| file.symlink_metadata().is_ok()) {
            self.put(file, None)?;
        }
        if let Some(folder) = files.last().and_then(|file| file.parent()) {
            // Another service's file keeps it.
            let _ = fs::remove_dir(folder);
        }
        (self.manager.forget)(&tools)?;
        Ok(true)
    }

    /// How it fares, in words and as an exit code.
    pub fn status(&self) -> Result<Report> {
        self.installed()?;
        let tools = self.tools(MINUTE);
        (self.manager.reach)(&tools)?;
        let state = (self.manager.state)(&tools)?;
        let place = self.place();
        let (content, good) = self.entry(&place);
        let timer = if state.scheduled { "scheduled, next look" } else { "not scheduled" };
        let mut lines = vec![
            ("service", format!("{} ({})", self.name, self.manager.name)),
            ("timer", format!("{timer} {}", state.next).trim_end().to_owned()),
            ("last look", state.last),
            ("file", format!("{}: {content}", place.display())),
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

    /// The place as the job knows it.
    fn place(&self) -> PathBuf {
        let pinned = self.pinned().ok().and_then(|pins| pins.text("PGPASSFILE").map(PathBuf::from));
        pinned.filter(|_| !self.sink.has_path).unwrap_or_else(|| self.path.clone())
    }

    /// What the place says of us, and whether that is a living credential.
    fn entry(&self, place: &Path) -> (String, bool) {
        let content = match Place::open(place).and_then(|place| place.read()) {
            Ok(Some(content)) => content,
            Ok(None) => return ("there is no such file".to_owned(), false),
            Err(error) => return (error.to_string(), false),
        };
        let connection = self.pinned().ok().map(|pins| connection(&pins));
        let part = match &connection {
            Some(connection) => (self.sink.part)(connection, &content),
            None => None,
        };
        let Some(part) = part else { return ("it has nothing of ours".to_owned(), false) };
        match expiry_within(part) {
            None => ("it has a credential that does not tell its end".to_owned(), true),
            Some(expires) if expires.since(self.world.now()) < LEAST_LIFE => {
                (format!("expired at {expires}"), false)
            }
            Some(expires) => (format!("good until {expires}"), true),
        }
    }

    /// Removes our part of the place and what this identity has cached.
    fn purge(&self) -> Result<()> {
        let pins = self.pinned()?;
        let deadline = Deadline::after(MINUTE);
        if let Ok(place) = Place::open(&self.place()) {
            let connection = connection(&pins);
            let edit = (self.sink.remove)(&connection)?;
            place.change(self.world, deadline, Telling::NoMore, edit.as_ref())?;
        }
        let world = pins.world(self.world);
        match Settings::resolve(&[], &world).and_then(|settings| Plan::new(settings, &world)) {
            Ok(plan) => Session::new(&plan, &world).forget(),
            Err(error) => self.world.note(&format!("its cache entries stay: {error}")),
        }
        Ok(())
    }

    /// Refuses to take a name away from a service that looks after another place.
    fn refuse_other_place(&self, job: &Job, pins: &Pins) -> Result<()> {
        let Some(unit) = self.units()?.first().and_then(|unit| fs::read_to_string(unit).ok())
        else {
            return Ok(());
        };
        let quoted = |path: &str| unit.contains(&(self.manager.quote)(path));
        let same = match self.sink.has_path {
            true => job.command.get(3).is_some_and(|path| quoted(path)),
            false => {
                self.pinned().is_ok_and(|old| old.text("PGPASSFILE") == pins.text("PGPASSFILE"))
            }
        };
        if same {
            return Ok(());
        }
        Err(Error::usage(format!("{} looks after another file already", self.name))
            .because(format!("see {}", self.environment()?.display()))
            .hint("--name NAME for a second service"))
    }

    fn installed(&self) -> Result<()> {
        let units = self.units()?;
        let missing = units.iter().find(|unit| unit.symlink_metadata().is_err());
        missing.map_or(Ok(()), |unit| {
            let install = format!("lakebase-token service install {}", self.sink.usage());
            Err(Error::usage(format!("{} is not installed", self.name))
                .because(format!("there is no {}", unit.display()))
                .hint(install))
        })
    }

    /// Puts back what was there.
    fn restore(&self, former: &[(PathBuf, Option<Vec<u8>>)], existed: bool) -> Result<()> {
        let tools = self.tools(MINUTE);
        if !existed {
            let _ = (self.manager.cancel)(&tools);
        }
        for (path, content) in former {
            self.put(path, content.as_deref())?;
        }
        if existed { (self.manager.schedule)(&tools) } else { (self.manager.forget)(&tools) }
    }

    fn put(&self, path: &Path, content: Option<&[u8]>) -> Result<Change> {
        let place = Place::open(path)?;
        let content = content.map(<[u8]>::to_vec);
        let deadline = Deadline::after(MINUTE);
        Ok(place.change(self.world, deadline, Telling::Nobody, &|_| content.clone())?.0)
    }

    fn pinned(&self) -> Result<Pins> {
        let path = self.environment()?;
        let cannot =
            |why: &str| Error::failed(format!("cannot read {}", path.display())).because(why);
        let content = Place::open(&path)?.read()?.ok_or_else(|| cannot("there is no such file"))?;
        let text = String::from_utf8(content).map_err(|_| cannot("it is not valid UTF-8"))?;
        Ok(Pins::parse(&text))
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

/// A control character that the notations of units and environment files cannot all carry.
fn is_uncarriable(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("a unit file cannot carry this path: {}", path.display()))
            .because("it is not valid UTF-8")
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::failed(format!("cannot find {}", path.display())).because(e))
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
