//! The only door to the outside that is not a file or a request: environment, clock, sleep,
//! randomness, folders, notes to the user, the terminal, signals, child processes, the browser.
//!
//! Environment, clock and notes are plain data and closures, so a test builds another world: a
//! list for the environment, a clock moved by hand. Most that is Unix-only is here and in `file.rs`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::file::Held;
use crate::secret::Secret;
use crate::time::{Deadline, Timestamp};

/// The most that is taken of a child's stdout or stderr.
const MAX_OUTPUT: u64 = 256 * 1024;

/// Where a machine in a cloud asks for its own identity: link-local, so nothing leaves the machine
/// that it runs on.
const INSTANCE_METADATA: &str = "http://169.254.169.254";
/// The host of that.
pub const HYPERVISOR: &str = INSTANCE_METADATA.split_at("http://".len()).1;

/// A child that writes more than this is stopped.
const RUNAWAY: u64 = 16 * 1024 * 1024;

/// What the work comes to, or nothing where it takes longer; then its thread is left behind. An
/// error is the system's, which has no thread for it.
pub fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    // Not a channel: its variables of each thread are so large that libc's own memory for these
    // is not enough, which costs each start of the program a page.
    let done = Arc::new((Mutex::new(None), Condvar::new()));
    let there = done.clone();
    std::thread::Builder::new().spawn(move || {
        let result = work();
        *there.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        there.1.notify_one();
    })?;
    let (result, bell) = &*done;
    let result = result.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = bell.wait_timeout_while(result, patience, |result| result.is_none());
    Ok(waited.unwrap_or_else(PoisonError::into_inner).0.take())
}

/// The surroundings of one call.
pub struct World {
    /// A snapshot of the environment.
    pub env: Environment,
    /// The wall clock.
    pub now: Box<dyn Fn() -> Timestamp>,
    /// Where cache entries belong where no setting says otherwise.
    pub cache_home: fn(&World) -> Option<PathBuf>,
    /// Says a line on stderr that is no error.
    pub say: Box<dyn Fn(&str)>,
    /// Where a machine in a cloud asks for its own identity.
    pub instance_metadata: Cow<'static, str>,
    /// What tells this machine from others that share a home with it.
    pub machine: fn() -> String,
    /// What a signal has to know of.
    pub busy: Arc<Busy>,
    /// This program's own file, for whoever starts it again.
    pub program: fn() -> std::io::Result<PathBuf>,
}

/// What a process is doing that a signal must not cut short, or must end as well.
#[derive(Debug, Default)]
pub struct Busy {
    /// Held while a file is replaced: a signal waits for that, if not for long.
    pub writing: Mutex<()>,
    /// The process group of a command that runs; 0 for none.
    command: AtomicI32,
    /// Whether signals are listened for already.
    listening: AtomicBool,
    /// The terminal as it was before it was told to show nothing.
    terminal: Mutex<Option<Termios>>,
}

impl Busy {
    /// The terminal shows again what is typed.
    fn show_input(&self) {
        if let Ok(Some(before)) = self.terminal.lock().map(|mut terminal| terminal.take()) {
            // What else was pasted is not for the shell.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &before);
        }
    }
}

impl World {
    /// The surroundings of this very process.
    pub fn of_process() -> World {
        World::with(std::env::vars_os().collect())
    }

    /// The same where the environment is known already.
    pub fn with(env: Environment) -> World {
        World {
            env,
            now: Box::new(Timestamp::of_system),
            cache_home,
            say: Box::new(|text| {
                // A closed stderr must not cost the credential.
                let _ = writeln!(std::io::stderr(), "{text}");
            }),
            instance_metadata: Cow::Borrowed(INSTANCE_METADATA),
            machine,
            busy: Arc::default(),
            program: std::env::current_exe,
        }
    }

    /// A variable; an empty one counts as unset, as in Databricks' SDKs.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.env.get(name).filter(|value| !value.is_empty())
    }

    /// The time by the wall clock.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Says something on stderr that is no error.
    pub fn note(&self, text: &str) {
        (self.say)(&format!("lakebase-token: note: {text}"));
    }

    /// Says something to the person at the terminal who is waited for.
    pub fn say(&self, text: &str) {
        (self.say)(text);
    }

    /// The user's home, if HOME names one.
    pub fn home(&self) -> Option<&Path> {
        self.var("HOME").map(Path::new).filter(|home| home.is_absolute())
    }

    /// Where settings of programs belong (XDG Base Directory Specification).
    pub fn config_home(&self) -> Option<PathBuf> {
        let named =
            self.var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| Some(self.home()?.join(".config")))
    }

    /// Where this program keeps what no cache setting touches.
    pub fn state_home(&self) -> Option<PathBuf> {
        state_home(self)
    }

    /// Opens a page: with `$BROWSER` (commands with a colon between them, `%s` where the address
    /// goes), or in the platform's way. Whether any could be started; whether it shows anything
    /// nobody knows.
    pub fn browse(&self, url: &str) -> bool {
        let named = self.var("BROWSER").map(|list| list.to_string_lossy().into_owned());
        let usual = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        let list = named.unwrap_or(usual.to_owned());
        list.split(':').any(|line| {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { return false };
            let program = match name.contains('/') {
                true => Some(PathBuf::from(name)),
                false => self.find_program(name),
            };
            let Some(program) = program else { return false };
            let mut command = Command::new(program);
            command.args(words.map(|word| word.replace("%s", url)));
            if !line.contains("%s") {
                command.arg(url);
            }
            command.env_clear().envs(self.env.iter().rev()).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().is_ok()
        })
    }

    /// A line of stdin, without the blanks around it. Unless it may be shown a terminal does not
    /// show what is typed, and is as it was when this ends or a signal ends us.
    pub fn read_line(&self, shown: bool) -> Result<Secret> {
        const MOST: u64 = 64 * 1024;
        /// Longer ones arrive cut off: termios(3), canonical mode; 1024 on macOS.
        const LONGEST_LINE: usize = if cfg!(target_os = "linux") { 4095 } else { 1023 };
        let cannot = |e: std::io::Error| Error::failed("cannot read stdin").because(e);
        let stdin = std::io::stdin();
        if !shown && stdin.is_terminal() {
            self.end_on(&[SIGTERM, SIGINT, SIGHUP])?;
            let before = tcgetattr(&stdin).map_err(|e| cannot(e.into()))?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            silent.local_modes.insert(LocalModes::ECHONL);
            for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
                silent.special_codes[key] = if cfg!(target_os = "linux") { 0 } else { 0xff }; // _POSIX_VDISABLE
            }
            if let Ok(mut terminal) = self.busy.terminal.lock() {
                *terminal = Some(before);
            }
            let silenced = tcsetattr(&stdin, OptionalActions::Flush, &silent);
            silenced.map_err(|e| cannot(e.into()))?;
        }
        let mut line = Zeroizing::new(String::new());
        let read = std::io::BufReader::new(stdin.lock().take(MOST)).read_line(&mut line);
        self.busy.show_input();
        read.map_err(cannot)?;
        if stdin.is_terminal() && line.len() >= LONGEST_LINE {
            return Err(Error::usage("a terminal cannot carry so long a line")
                .hint("the same by a pipe: … < FILE"));
        }
        Ok(Secret::new(line.trim()))
    }

    /// Random bytes from the system.
    pub fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::failed("the system gives no random bytes"))?;
        Ok(bytes)
    }

    /// A duration between half of `base` and the whole of it, so that a herd spreads.
    pub fn jittered(&self, base: Duration) -> Duration {
        let part = self.random::<1>().map_or(255, |[byte]| u32::from(byte));
        base / 2 + base * part / 512
    }

    /// Sleeps for the duration, or until the deadline.
    pub fn sleep(&self, duration: Duration, deadline: Deadline) {
        std::thread::sleep(duration.min(deadline.left()));
    }

    /// From now on SIGTERM and SIGINT end the process within 100 ms whatever it is doing, but for
    /// the replacement of a file, which is finished if it can be, and a command of ours is told to
    /// end, too. The process dies of the signal, as its parent expects; process 1 of a container,
    /// which no signal kills, exits with 128 and the signal's number.
    pub fn end_on_signals(&self) -> Result<()> {
        self.end_on(&[SIGTERM, SIGINT])
    }

    fn end_on(&self, signals: &[i32]) -> Result<()> {
        const PATIENCE: Duration = Duration::from_millis(80);
        if self.busy.listening.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let cannot = |e: std::io::Error| Error::failed("cannot wait for signals").because(e);
        let mut signals = Signals::new(signals).map_err(cannot)?;
        let busy = self.busy.clone();
        let supervisor = self.var("NOTIFY_SOCKET").map(OsStr::to_owned);
        let listener = std::thread::Builder::new().spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            if let Some(group) = Pid::from_raw(busy.command.load(Ordering::SeqCst)) {
                let _ = kill_process_group(group, Signal::TERM);
            }
            notify(supervisor.as_deref(), "STOPPING=1");
            busy.show_input();
            let began = Instant::now();
            let _writing = loop {
                match busy.writing.try_lock() {
                    Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    held => break held,
                }
            };
            if std::process::id() != 1 {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            std::process::exit(128 + signal);
        });
        listener.map(drop).map_err(cannot)
    }

    /// From now on nothing but SIGKILL ends the process: what it does must be finished, and is
    /// bounded.
    pub fn ignore_signals(&self) -> Result<()> {
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::flag::register(signal, Arc::default())
                .map_err(|e| Error::failed("cannot ignore signals").because(e))?;
        }
        Ok(())
    }

    /// This program, to be started again; also where its file was replaced meanwhile.
    pub fn itself(&self) -> std::io::Result<PathBuf> {
        let program = (self.program)()?;
        let gone = cfg!(target_os = "linux") && !program.exists();
        Ok(if gone { PathBuf::from("/proc/self/exe") } else { program })
    }

    /// Tells systemd, where it wants to know (sd_notify(3)).
    pub fn notify(&self, state: &str) {
        notify(self.var("NOTIFY_SOCKET"), state);
    }

    /// An executable of this name on PATH.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(self.var("PATH")?)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
    }

    /// Runs a program that must never ask anything: no stdin, its output kept apart from ours, the
    /// variables that `env` lets through and the extra ones,
    /// in a process group of its own so that Ctrl-C does not reach it halfway. Where the
    /// deadline passes first it is left running, not killed: it may be in the middle of
    /// replacing a refresh token. For the same reason it writes into files, not into pipes
    /// that would break with us, and inherits the lock it works under, so that the lock lasts
    /// as long as the work.
    pub fn run(
        &self,
        program: &Path,
        args: &[&str],
        env: impl Fn(&OsStr) -> bool,
        extra: &[(&str, String)],
        held: Option<&Held>,
        deadline: Deadline,
    ) -> std::io::Result<Run> {
        let (stdout, stderr) = (self.scratch()?, self.scratch()?);
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().rev().filter(|(name, _)| env(name)))
            .envs(extra.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .process_group(0);
        let mut child = match held {
            Some(held) => held.bequeath(|| command.spawn())?,
            None => command.spawn()?,
        };
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Run::Ended {
                    status,
                    stdout: written(stdout)?,
                    stderr: written(stderr)?,
                });
            }
            if stdout.metadata()?.len().max(stderr.metadata()?.len()) > RUNAWAY {
                // Whoever writes that much is not renewing a login.
                child.kill()?;
            }
            if deadline.passed() {
                held.inspect(|held| held.leave());
                return Ok(Run::StillRunning);
            }
            self.sleep(pause, deadline);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Runs a line in `sh`, without the variables that are hidden from it; what it prints goes to
    /// our stderr. Where the deadline passes first it is stopped, with all that it has started,
    /// and there is no status.
    pub fn shell(
        &self,
        line: &str,
        hidden: &[&str],
        deadline: Deadline,
    ) -> std::io::Result<Option<ExitStatus>> {
        let seen = |name: &OsStr| !hidden.iter().any(|hidden| name == *hidden);
        let mut child = Command::new("/bin/sh")
            .args(["-c", line])
            .env_clear()
            .envs(self.env.iter().rev().filter(|(name, _)| seen(name)))
            .stdin(Stdio::null())
            .stdout(fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?)
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        self.busy.command.store(group.as_raw_nonzero().get(), Ordering::SeqCst);
        let mut pause = Duration::from_millis(1);
        loop {
            let ended = child.try_wait()?;
            if ended.is_some() || deadline.passed() {
                self.busy.command.store(0, Ordering::SeqCst);
                if ended.is_none() {
                    kill_process_group(group, Signal::KILL)?;
                    child.wait()?;
                }
                return Ok(ended);
            }
            self.sleep(pause, deadline);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// As process 1 of a container: takes note of the end of processes whose parents are gone.
    pub fn reap(&self) {
        if std::process::id() == 1 {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        }
    }

    /// A file without a name for a child's output.
    #[cfg(target_os = "linux")]
    fn scratch(&self) -> std::io::Result<File> {
        use rustix::fs::{MemfdFlags, memfd_create};
        Ok(memfd_create("output", MemfdFlags::CLOEXEC)?.into())
    }

    /// A file without a name for a child's output.
    #[cfg(not(target_os = "linux"))]
    fn scratch(&self) -> std::io::Result<File> {
        let folder = self.var("TMPDIR").map_or(PathBuf::from("/tmp"), PathBuf::from);
        let random = self.random::<16>().map_err(|e| std::io::Error::other(e.message))?;
        crate::file::nameless(&folder.join(crate::file::hex(&random)))
    }
}

/// One datagram of sd_notify(3). Nobody is told where nobody listens.
fn notify(socket: Option<&OsStr>, state: &str) {
    let Some(name) = socket.map(OsStr::as_encoded_bytes) else { return };
    let address = match name {
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(rest)
        }
        _ => SocketAddr::from_pathname(OsStr::from_bytes(name)),
    };
    if let (Ok(socket), Ok(address)) = (UnixDatagram::unbound(), address) {
        // Whoever does not listen must not keep us from ending.
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}

/// The beginning of what a child has written.
fn written(mut file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The XDG Base Directory Specification, from the snapshot: `directories` would ask the
/// environment for a dozen folders to tell one, and that is a sixth of a cached call.
#[cfg(target_os = "linux")]
fn cache_home(world: &World) -> Option<PathBuf> {
    let named = world.var("XDG_CACHE_HOME").map(Path::new).filter(|path| path.is_absolute());
    match named {
        Some(caches) => Some(caches.join("lakebase-token")),
        None => Some(world.home()?.join(".cache/lakebase-token")),
    }
}

/// Each platform's own place. Only where HOME is set: without it `directories` guesses one from
/// the passwd file, and a helper that guesses writes into somebody else's home one day.
#[cfg(not(target_os = "linux"))]
fn cache_home(world: &World) -> Option<PathBuf> {
    world.home()?;
    let folders = directories::ProjectDirs::from("", "", "lakebase-token")?;
    Some(folders.cache_dir().to_owned())
}

/// The same for state that is kept.
#[cfg(target_os = "linux")]
fn state_home(world: &World) -> Option<PathBuf> {
    let named = world.var("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let states = named.or_else(|| Some(world.home()?.join(".local/state")))?;
    Some(states.join("lakebase-token"))
}

/// The same for state that is kept.
#[cfg(not(target_os = "linux"))]
fn state_home(world: &World) -> Option<PathBuf> {
    world.home()?;
    let folders = directories::ProjectDirs::from("", "", "lakebase-token")?;
    Some(folders.data_local_dir().to_owned())
}

/// How a child process came out.
pub enum Run {
    /// It ended in time.
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// The beginning of its stdout.
        stdout: Vec<u8>,
        /// The beginning of its stderr.
        stderr: Vec<u8>,
    },
    /// The deadline came first; it goes on without us.
    StillRunning,
}

/// The machine's id (machine-id(5)), which images may share, and its name.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    [read("/etc/machine-id"), read("/proc/sys/kernel/hostname")].concat()
}

/// Whether this is a file that somebody may execute.
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_whose_file_was_replaced_can_still_be_started() {
        let mut world = World::of_process();
        assert!(world.itself().unwrap().is_file());
        world.program = || Ok(PathBuf::from("/nowhere/lakebase-token (deleted)"));
        assert_eq!(world.itself().unwrap(), PathBuf::from("/proc/self/exe"));
    }

    #[test]
    fn jitter_stays_between_half_and_whole_and_spreads() {
        let world = World::of_process();
        let base = Duration::from_millis(1000);
        let draws: Vec<Duration> = (0..200).map(|_| world.jittered(base)).collect();
        assert!(draws.iter().all(|draw| (base / 2..=base).contains(draw)));
        let spread = draws.iter().max().unwrap().saturating_sub(*draws.iter().min().unwrap());
        assert!(spread > base / 4, "{spread:?}");
    }
}
