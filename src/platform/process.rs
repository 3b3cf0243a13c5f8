//! Child programs: finding them, running them, becoming one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::credential::encoding::hex;
use crate::error::{Error, Result, TIMEOUT_HINT};
use crate::platform::context::Context;
use crate::platform::environment::is_same_name;
use crate::platform::files::{self, has_separator};
use crate::platform::lock::LockGuard;
use crate::platform::peer::is_windows_subsystem;
use crate::platform::steps::{Step, step, try_step};
use crate::platform::system;
use crate::platform::time::{Deadline, Pauses};

/// The longest `#!` line that Linux reads is 255 bytes (execve(2)).
const MAX_FIRST_LINE_BYTES: u64 = 256;

/// How much is read of a child's stdout and of its stderr.
const MAX_OUTPUT_BYTES: u64 = 256 * 1024;

/// A child that writes more than this is killed, so that it does not fill the memory or the disk.
const RUNAWAY_OUTPUT_BYTES: u64 = 16 * 1024 * 1024;

/// How long the rest of a pipe is waited for after its child has ended.
const PIPE_WAIT: Duration = Duration::from_millis(200);

/// The interval at which a running child is checked: the first one, and the longest.
const FIRST_POLL: Duration = Duration::from_micros(500);
const MAX_POLL: Duration = Duration::from_millis(10);

/// Hooks take longer than tools, and nothing waits for the millisecond.
const MAX_HOOK_POLL: Duration = Duration::from_millis(50);

/// The result of the work, or `None` if it takes longer; its thread is then left behind. An error
/// means that the system has no thread left.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        // The receiver may have stopped waiting.
        let _ = sender.send(work());
    })?;
    Ok(receiver.recv_timeout(limit).ok())
}

/// A child program, with its arguments and variables.
pub struct Program<'a> {
    pub path: &'a Path,
    pub arguments: &'a [&'a str],
    /// Which of our variables it inherits.
    pub sees: &'a dyn Fn(&OsStr) -> bool,
    pub variables: &'a [(&'a str, String)],
    /// Locks that the child shares while it runs.
    pub locks: [Option<&'a LockGuard<'a>>; 2],
}

enum Run {
    Ended {
        status: ExitStatus,
        /// The beginning of its stdout, and of its stderr.
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },
    /// The deadline has passed; the child continues.
    StillRunning,
}

/// Runs a program without interaction: it has no stdin, its output is not mixed with ours, and
/// Ctrl-C does not reach it.
///
/// At the deadline it is left running, because it may be replacing a refresh token. For the same
/// reason it writes into files, where pipes would break when this process ends, and it shares the
/// caller's lock.
fn run(context: &Context, program: &Program<'_>, deadline: Deadline) -> io::Result<Run> {
    system::check_arguments(program.path, program.arguments.iter().map(OsStr::new))?;
    let (stdout, stdout_end) = ChildOutput::new(context)?;
    let (stderr, stderr_end) = ChildOutput::new(context)?;
    let variables = context.env.for_child().filter(|(name, _)| (program.sees)(name));
    let mut command = Command::new(program.path);
    command
        .args(program.arguments)
        .env_clear()
        .envs(variables)
        .envs(program.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout_end)
        .stderr(stderr_end);
    let [first, second] = program.locks;
    try_step(Step::StartChild)?;
    let child =
        shared(first, || shared(second, || system::spawn_in_own_group(&mut command, false)));
    // It holds our copies of the child's ends of pipes.
    drop(command);
    let mut child = child?;

    let mut pauses = Pauses::new(FIRST_POLL, MAX_POLL);
    loop {
        if let Some(status) = child.try_wait()? {
            step(Step::ChildEnded);
            let (stdout, stderr) = (stdout.beginning()?, stderr.beginning()?);
            return Ok(Run::Ended { status, stdout, stderr });
        }
        if stdout.length()?.max(stderr.length()?) > RUNAWAY_OUTPUT_BYTES {
            system::end_group(child.id(), true)?;
        }
        if deadline.passed() {
            program.locks.iter().flatten().for_each(|lock| lock.hand_over());
            return Ok(Run::StillRunning);
        }
        context.sleep(pauses.take(), deadline);
    }
}

fn shared<T>(lock: Option<&LockGuard<'_>>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match lock {
        Some(lock) => lock.shared_with(spawn),
        None => spawn(),
    }
}

/// Runs a program with our own environment and output, and kills it if it does not end within the
/// limit; then there is no status. `started` gets its process id. What the program has started is left
/// to [`end_own_group`].
pub fn supervise(
    program: &OsStr,
    arguments: &[OsString],
    limit: Duration,
    started: impl FnOnce(u32),
) -> io::Result<Option<ExitStatus>> {
    system::lead_group()?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    started(child.id());

    let deadline = Deadline::after(limit);
    let mut pauses = Pauses::new(FIRST_POLL, MAX_POLL);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline.passed() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pauses.take());
    }
}

/// Kills all processes of our group, and with them this one, if it leads a group.
pub fn end_own_group() {
    let _ = system::end_group(std::process::id(), true);
}

/// The exit status and output of a command-line tool.
pub struct ToolOutput {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Runs a command-line tool to its end. If it cannot be started or does not end in time, the error
/// shows the command line. What its output means is up to the caller.
pub fn run_tool(
    context: &Context,
    program: &Program<'_>,
    shown: &str,
    deadline: Deadline,
) -> Result<ToolOutput> {
    let run = run(context, program, deadline).map_err(|e| {
        Error::failed(format!("cannot run {}", program.path.display())).because(e).unshared()
    })?;
    match run {
        Run::Ended { status, stdout, stderr } => {
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            Ok(ToolOutput { status, stdout, stderr })
        }
        Run::StillRunning => Err(Error::unavailable(format!("`{shown}` has not ended in time"))
            .because("it continues in the background, because it may be refreshing a login")
            .hint(TIMEOUT_HINT)),
    }
}

/// Where a child's output goes. A file, because a pipe would break when this process ends; but where
/// the sizes of files are limited, a file could not take it.
enum ChildOutput {
    File(File),
    Pipe { read: Arc<Mutex<Vec<u8>>>, reader: JoinHandle<()> },
}

impl ChildOutput {
    /// The output, and the child's end of it.
    fn new(context: &Context) -> io::Result<(ChildOutput, Stdio)> {
        if !system::limits_file_sizes() {
            let file = output_file(context)?;
            let end = file.try_clone()?.into();
            return Ok((ChildOutput::File(file), end));
        }

        let (mut pipe, end) = io::pipe()?;
        let read = Arc::new(Mutex::new(Vec::new()));
        let kept = read.clone();
        let reader = std::thread::Builder::new().spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(size @ 1..) = pipe.read(&mut bytes) {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend(&bytes[..size]);
                }
            }
        })?;
        Ok((ChildOutput::Pipe { read, reader }, end.into()))
    }

    fn length(&self) -> io::Result<u64> {
        match self {
            ChildOutput::File(file) => Ok(file.metadata()?.len()),
            ChildOutput::Pipe { read, .. } => Ok(read.lock().map_or(0, |read| read.len() as u64)),
        }
    }

    /// What the child has written, once it has ended. A process that it has left behind may keep a
    /// pipe open, and is not waited for.
    fn beginning(self) -> io::Result<Vec<u8>> {
        match self {
            ChildOutput::File(file) => beginning_of(file),
            ChildOutput::Pipe { read, reader } => {
                let end = Deadline::after(PIPE_WAIT);
                while !reader.is_finished() && !end.passed() {
                    std::thread::sleep(FIRST_POLL);
                }
                let mut bytes = read.lock().map_or(Vec::new(), |read| read.clone());
                bytes.truncate(MAX_OUTPUT_BYTES as usize);
                Ok(bytes)
            }
        }
    }
}

fn output_file(context: &Context) -> io::Result<File> {
    let random = context.random::<16>().map_err(|e| io::Error::other(e.message))?;
    let (variable, default) = system::TEMPORARY_FOLDER;
    let folder = context.var(variable).map_or(PathBuf::from(default), PathBuf::from);
    system::nameless_file(&folder.join(hex(&random)))
}

fn beginning_of(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a line in the system's shell, without the hidden variables; its output goes to our stderr. At the
/// deadline it is killed, with all processes that it has started, and there is no status.
pub fn run_shell_line(
    context: &Context,
    line: &str,
    hidden: &[&str],
    deadline: Deadline,
) -> io::Result<Option<ExitStatus>> {
    let is_seen = |name: &OsStr| !hidden.iter().any(|hidden| is_same_name(name, hidden));
    let mut command = system::shell(line);
    command
        .env_clear()
        .envs(context.env.for_child().filter(|(name, _)| is_seen(name)))
        .stdin(Stdio::null())
        .stdout(system::stderr_as_stdout()?);
    let mut child = system::spawn_in_own_group(&mut command, true)?;

    let group = child.id();
    context.signal_state.child_group.store(group, Ordering::SeqCst);
    let mut pauses = Pauses::new(FIRST_POLL, MAX_HOOK_POLL);
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || deadline.passed() {
            context.signal_state.child_group.store(0, Ordering::SeqCst);
            if ended.is_none() {
                system::end_group(group, true)?;
                child.wait()?;
            }
            return Ok(ended);
        }
        context.sleep(pauses.take(), deadline);
    }
}

/// Replaces this process by a program with exactly these variables; returns only if that fails.
pub fn become_program(
    program: &OsStr,
    arguments: &[OsString],
    variables: &[(OsString, OsString)],
) -> io::Error {
    let become_this = |program: &OsStr, arguments: &mut dyn Iterator<Item = &OsString>| {
        let mut command = Command::new(program);
        let variables = variables.iter().map(|(name, value)| (name, value));
        system::replace_process(command.args(arguments).env_clear().envs(variables))
    };
    let found = found_on(path_in(variables), program);
    if cfg!(windows) {
        // Windows would search other folders first, and finds no `.cmd`.
        let program = match found {
            None if !has_separator(program) => return io::ErrorKind::NotFound.into(),
            found => found.unwrap_or(PathBuf::from(program)),
        };
        return match system::check_arguments(&program, arguments.iter().map(OsString::as_os_str)) {
            Ok(()) => become_this(program.as_os_str(), &mut arguments.iter()),
            Err(e) => e,
        };
    }

    let failure = become_this(program, &mut arguments.iter());
    if !system::is_not_executable_format(&failure) {
        return failure;
    }
    // A script without `#!`, which execvp(3) gives to the shell; musl's does not.
    let script = found.unwrap_or(PathBuf::from(program)).into_os_string();
    become_this(OsStr::new("/bin/sh"), &mut std::iter::once(&script).chain(arguments))
}

/// The executable that execvp(3) means by this name.
fn found_on(path: Option<&OsString>, program: &OsStr) -> Option<PathBuf> {
    if has_separator(program) {
        return None;
    }
    let names = &system::program_names(program);
    std::env::split_paths(path?)
        // On Windows, this program ignores relative folders on PATH.
        .filter(|folder| !cfg!(windows) || folder.is_absolute())
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| files::is_executable(path))
}

fn path_in(variables: &[(OsString, OsString)]) -> Option<&OsString> {
    let path = variables.iter().rfind(|(name, _)| is_same_name(name, "PATH"));
    path.map(|(_, path)| path)
}

/// Why a program that exists is reported as missing: the interpreter in its first line is.
pub fn missing_interpreter(program: &OsStr, variables: &[(OsString, OsString)]) -> Option<String> {
    let file = found_on(path_in(variables), program).or_else(|| Some(PathBuf::from(program)))?;
    let start = files::read_start(file.to_str()?, MAX_FIRST_LINE_BYTES).ok()?;
    let line = start.strip_prefix("#!")?.split('\n').next()?;
    let interpreter = line.trim_start().split([' ', '\t']).next()?;
    if interpreter.ends_with('\r') || line.ends_with('\r') {
        let interpreter = interpreter.trim_end_matches('\r');
        return Some(format!("its first line ends with CRLF, as on Windows, after {interpreter}"));
    }
    Some(format!("the interpreter in its first line is missing: {interpreter}"))
}

/// Opens a page with a command of `$BROWSER` (separated by `:`, on Windows by `;`; `%s` stands for the URL), or
/// with the platform's opener, under WSL with Windows' opener first. Returns whether a program was
/// started; whether it shows the page is unknown.
pub fn open_in_browser(context: &Context, url: &str, sees: &dyn Fn(&OsStr) -> bool) -> bool {
    let configured = context.var("BROWSER").map(|list| list.to_string_lossy().into_owned());
    let opener = if cfg!(windows) {
        "rundll32.exe url.dll,FileProtocolHandler"
    } else if cfg!(target_os = "macos") {
        "open"
    } else if is_windows_subsystem() {
        "wslview:rundll32.exe url.dll,FileProtocolHandler:xdg-open"
    } else {
        "xdg-open"
    };
    let list = configured.unwrap_or(opener.to_owned());
    // A path on Windows has a colon.
    let separator = if cfg!(windows) { ';' } else { ':' };
    list.split(separator).any(|line| start_browser(context, line, url, sees))
}

fn start_browser(context: &Context, line: &str, url: &str, sees: &dyn Fn(&OsStr) -> bool) -> bool {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else { return false };
    let program = if has_separator(OsStr::new(name)) {
        Some(PathBuf::from(name))
    } else {
        context.find_program(name)
    };
    let Some(program) = program else { return false };

    let mut command = Command::new(program);
    command.args(words.map(|word| word.replace("%s", url)));
    if !line.contains("%s") {
        command.arg(url);
    }
    command.env_clear().envs(context.env.for_child().filter(|(name, _)| sees(name)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    system::spawn_in_own_group(&mut command, false).is_ok()
}

/// From now on no core dump has our memory, and no other process of this user reads it (Linux).
pub fn keep_memory_private() {
    system::keep_memory_private();
}

/// The real user id (getuid(2)).
pub fn real_user_id() -> u32 {
    system::real_user_id()
}

/// As process 1 of a container: reaps processes whose parents have ended.
pub fn reap_orphans() {
    system::reap_orphans();
}
