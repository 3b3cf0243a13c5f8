//! What a call depends on besides its arguments: environment, clock, folders, notes, randomness.
//!
//! It is plain data and closures, so that a test can build another one, with a list for the
//! environment and a clock that the test moves. What it takes from the operating system is in the
//! other files of `platform`.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use crate::credential::redact::printable;
use crate::error::{Error, Result};
use crate::platform::environment::Environment;
use crate::platform::files;
use crate::platform::folders;
use crate::platform::path_owners::replaceable_part;
use crate::platform::request_log::RequestLog;
use crate::platform::signals::{self, SignalState};
use crate::platform::steps::{Step, step};
use crate::platform::system;
use crate::platform::time::{Deadline, Timestamp};

/// The address at which a machine in a cloud gets its own identity. It is link-local, so requests
/// to it do not leave the machine.
pub const INSTANCE_METADATA: &str = "http://169.254.169.254";

/// Where Windows has programs' settings, below the home.
const SETTINGS_FOLDER: &str = "AppData/Roaming/";

/// The variable with the user's home.
pub const HOME: &str = system::HOME;

/// What an error says if there is no home.
pub const NO_HOME: &str = if cfg!(windows) { "USERPROFILE is not set" } else { "HOME is not set" };

/// The context of one call.
pub struct Context {
    pub env: Environment,
    /// The wall clock.
    pub now: Box<dyn Fn() -> Timestamp>,
    /// The folder for cache entries if no setting names another one.
    pub cache_home: fn(&Context) -> Option<PathBuf>,
    /// The folder for logins, which no cache setting changes.
    pub state_home: fn(&Context) -> Option<PathBuf>,
    /// Writes a line to stderr.
    pub say: Box<dyn Fn(&str)>,
    /// Set by `--quiet`: no notes are written.
    pub quiet: Cell<bool>,
    /// What was requested, if a report wants it.
    pub request_log: RequestLog,
    pub instance_metadata: Cow<'static, str>,
    /// Distinguishes this machine from others that share its home.
    pub machine: fn() -> String,
    pub signal_state: Arc<SignalState>,
    /// The path of this program's file, for a service that runs it later.
    pub program: fn(&Context) -> io::Result<PathBuf>,
    /// A path by which this process can start its own program now.
    pub own_executable: fn() -> io::Result<PathBuf>,
}

impl Context {
    pub fn of_process() -> Context {
        Context {
            env: std::env::vars_os().collect(),
            now: Box::new(Timestamp::of_system),
            cache_home: |context| context.home().and_then(|_| folders::cache_home(&context.env)),
            state_home: |context| context.home().and_then(|_| folders::state_home(&context.env)),
            say: Box::new(|text| {
                // A closed stderr must not cost the credential.
                let _ = writeln!(io::stderr(), "{text}");
            }),
            quiet: Cell::new(false),
            request_log: RequestLog::default(),
            instance_metadata: Cow::Borrowed(INSTANCE_METADATA),
            machine: system::machine,
            signal_state: Arc::default(),
            program: start_path,
            own_executable,
        }
    }

    /// A variable; an empty one counts as unset, as in Databricks' SDKs.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.env.get(name).filter(|value| !value.is_empty())
    }

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Writes a note to stderr: a message that is not an error.
    pub fn note(&self, text: &str) {
        if !self.quiet.get() {
            self.say(&format!("lakebase-token: note: {text}"));
        }
    }

    /// Writes a line for the person at the terminal.
    pub fn say(&self, text: &str) {
        (self.say)(&printable(text));
    }

    /// The user's home, if HOME (on Windows USERPROFILE) names one.
    pub fn home(&self) -> Option<&Path> {
        self.var(system::HOME).map(Path::new).filter(|home| home.is_absolute())
    }

    /// A file in the home. Windows may have the folder for settings elsewhere, say on a server.
    pub fn in_home(&self, name: &str) -> Option<PathBuf> {
        let settings = name.strip_prefix(SETTINGS_FOLDER).filter(|_| cfg!(windows));
        match (settings, self.var("APPDATA")) {
            (Some(rest), Some(folder)) => Some(PathBuf::from(folder).join(rest)),
            _ => Some(self.home()?.join(name)),
        }
    }

    /// An executable of this name on PATH.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let names = &system::program_names(OsStr::new(name));
        std::env::split_paths(self.var("PATH")?)
            .filter(|folder| folder.is_absolute())
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
            .find(|path| files::is_executable(path))
    }

    /// The folder for settings of programs (XDG Base Directory Specification).
    pub fn config_home(&self) -> Option<PathBuf> {
        let configured = self.var("XDG_CONFIG_HOME").map(PathBuf::from);
        let configured = configured.filter(|path| path.is_absolute());
        configured.or_else(|| Some(self.home()?.join(".config")))
    }

    pub fn cache_home(&self) -> Option<PathBuf> {
        (self.cache_home)(self)
    }

    pub fn state_home(&self) -> Option<PathBuf> {
        (self.state_home)(self)
    }

    /// Random bytes from the system.
    pub fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::failed("the operating system gives no random bytes"))?;
        Ok(bytes)
    }

    /// A duration between half of `base` and the whole of it, so that processes that wait for the
    /// same thing do not all wake at once.
    pub fn jittered(&self, base: Duration) -> Duration {
        let part = self.random::<1>().map_or(255, |[byte]| u32::from(byte));
        base / 2 + base * part / 512
    }

    /// This program's own file, to start it again.
    pub fn own_file(&self) -> Result<PathBuf> {
        let cannot = |e| Error::failed("cannot find this program's own file").because(e);
        (self.own_executable)().map_err(|e| cannot(e).unshared())
    }

    /// Sleeps for the duration, or until the deadline.
    pub fn sleep(&self, duration: Duration, deadline: Deadline) {
        if !step(Step::Sleep) {
            std::thread::sleep(duration.min(deadline.left()));
        }
    }

    /// See [`signals::end_on_signals`].
    pub fn end_on_signals(&self) -> Result<()> {
        signals::end_on_signals(&self.signal_state, self.var("NOTIFY_SOCKET"))
    }

    /// Reports the state of a service to systemd, if systemd asks for it (sd_notify(3)).
    pub fn notify_systemd(&self, state: &str) {
        signals::notify_systemd(self.var("NOTIFY_SOCKET"), state);
    }
}

/// The path that this program was started by, also if that is a symbolic link: package managers put a
/// link at a lasting path and the file at one that changes with each version.
fn start_path(context: &Context) -> io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    let called = std::env::args_os().next().unwrap_or_default();
    let start = match called.to_str() {
        Some(name) if !files::has_separator(OsStr::new(name)) => context.find_program(name),
        _ => std::path::absolute(&called).ok(),
    };
    let is_same = |start: &PathBuf| matches!((files::canonical(start), files::canonical(&file)), (Ok(a), Ok(b)) if a == b);
    Ok(start.filter(is_same).unwrap_or(file))
}

/// Linux names the file that is running. Elsewhere its path counts, unless another user may have put
/// another program there.
fn own_executable() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        return Ok(running);
    }
    let path = std::env::current_exe()?;
    match replaceable_part(&path) {
        Some(part) => {
            let part = part.display();
            Err(io::Error::other(format!("another user can replace {part}")))
        }
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_starts_its_own_program_and_not_what_is_at_its_path() {
        let own = (Context::of_process().own_executable)().unwrap();
        assert_eq!(own, Path::new("/proc/self/exe"));
    }

    #[test]
    fn jitter_stays_between_half_and_whole_and_spreads() {
        let context = Context::of_process();
        let base = Duration::from_millis(1000);
        let draws: Vec<Duration> = (0..200).map(|_| context.jittered(base)).collect();

        assert!(draws.iter().all(|draw| (base / 2..=base).contains(draw)));
        let spread = draws.iter().max().unwrap().saturating_sub(*draws.iter().min().unwrap());
        assert!(spread > base / 4, "{spread:?}");
    }
}
