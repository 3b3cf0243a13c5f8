//! Child programs: finding them, running them, becoming one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use crate::credential::encoding::hex;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::lock::LockGuard;
use crate::platform::time::Deadline;
use crate::platform::unix;

/// How much is read of a child's stdout and of its stderr.
const MAX_OUTPUT_BYTES: u64 = 256 * 1024;

/// A child that writes more than this is killed, so that it does not fill the memory or the disk.
const RUNAWAY_OUTPUT_BYTES: u64 = 16 * 1024 * 1024;

/// The interval at which a running child is checked: the first one, and the longest.
const FIRST_POLL: Duration = Duration::from_micros(500);
const MAX_POLL: Duration = Duration::from_millis(10);

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
    let stdout = output_file(context)?;
    let stderr = output_file(context)?;
    let variables = context.env.for_child().filter(|(name, _)| (program.sees)(name));
    let mut command = Command::new(program.path);
    command
        .args(program.arguments)
        .env_clear()
        .envs(variables)
        .envs(program.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let [first, second] = program.locks;
    let mut child = shared(first, || shared(second, || unix::spawn_in_own_group(&mut command)))?;

    let mut pause = FIRST_POLL;
    loop {
        if let Some(status) = child.try_wait()? {
            let stdout = beginning_of(stdout)?;
            let stderr = beginning_of(stderr)?;
            return Ok(Run::Ended { status, stdout, stderr });
        }
        if stdout.metadata()?.len().max(stderr.metadata()?.len()) > RUNAWAY_OUTPUT_BYTES {
            unix::end_group(child.id(), true)?;
        }
        if deadline.passed() {
            program.locks.iter().flatten().for_each(|lock| lock.leave());
            return Ok(Run::StillRunning);
        }
        context.sleep(pause, deadline);
        pause = (pause * 2).min(MAX_POLL);
    }
}

fn shared<T>(lock: Option<&LockGuard<'_>>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match lock {
        Some(lock) => lock.shared_with(spawn),
        None => spawn(),
    }
}

/// Runs a program with our own environment and output, and kills it with all that it has started if
/// it does not end within the limit; then there is no status. `started` gets its process id.
pub fn supervise(
    program: &OsStr,
    arguments: &[OsString],
    limit: Duration,
    started: impl FnOnce(u32),
) -> io::Result<Option<ExitStatus>> {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    started(child.id());

    let deadline = Deadline::after(limit);
    let mut pause = FIRST_POLL;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline.passed() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MAX_POLL);
    }
}

/// Kills all processes of our group, and with them this one, if it leads a group.
pub fn end_own_group() {
    let _ = unix::end_group(std::process::id(), true);
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
    let run = run(context, program, deadline)
        .map_err(|e| Error::failed(format!("cannot run {}", program.path.display())).because(e))?;
    match run {
        Run::Ended { status, stdout, stderr } => {
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            Ok(ToolOutput { status, stdout, stderr })
        }
        Run::StillRunning => Err(Error::unavailable(format!("`{shown}` has not ended in time"))
            .because("it continues in the background, because it may be refreshing a login")
            .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT")),
    }
}

fn output_file(context: &Context) -> io::Result<File> {
    let random = context.random::<16>().map_err(|e| io::Error::other(e.message))?;
    let folder = context.var("TMPDIR").map_or(PathBuf::from("/tmp"), PathBuf::from);
    unix::nameless_file(&folder.join(hex(&random)))
}

fn beginning_of(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a line in `sh`, without the hidden variables; its output goes to our stderr. At the
/// deadline it is killed, with all processes that it has started, and there is no status.
pub fn run_shell_line(
    context: &Context,
    line: &str,
    hidden: &[&str],
    deadline: Deadline,
) -> io::Result<Option<ExitStatus>> {
    let is_seen = |name: &OsStr| !hidden.iter().any(|hidden| name == *hidden);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .env_clear()
        .envs(context.env.for_child().filter(|(name, _)| is_seen(name)))
        .stdin(Stdio::null())
        .stdout(unix::stderr_as_stdout()?);
    let mut child = unix::spawn_in_own_group(&mut command)?;

    let group = child.id();
    context.signal_state.child_group.store(group, Ordering::SeqCst);
    let mut pause = Duration::from_millis(1);
    loop {
        let ended = child.try_wait()?;
        if ended.is_some() || deadline.passed() {
            context.signal_state.child_group.store(0, Ordering::SeqCst);
            if ended.is_none() {
                unix::end_group(group, true)?;
                child.wait()?;
            }
            return Ok(ended);
        }
        context.sleep(pause, deadline);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Replaces this process by a program with exactly these variables; returns only if that fails.
pub fn become_program(
    program: &OsStr,
    arguments: &[OsString],
    variables: &[(OsString, OsString)],
) -> io::Error {
    let mut command = Command::new(program);
    let variables = variables.iter().map(|(name, value)| (name, value));
    unix::replace_process(command.args(arguments).env_clear().envs(variables))
}

/// Opens a page with a command of `$BROWSER` (separated by colons, `%s` stands for the URL), or
/// with the platform's opener. Returns whether a program was started; whether it shows the page is
/// unknown.
pub fn open_in_browser(context: &Context, url: &str, sees: &dyn Fn(&OsStr) -> bool) -> bool {
    let configured = context.var("BROWSER").map(|list| list.to_string_lossy().into_owned());
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let list = configured.unwrap_or(opener.to_owned());
    list.split(':').any(|line| start_browser(context, line, url, sees))
}

fn start_browser(context: &Context, line: &str, url: &str, sees: &dyn Fn(&OsStr) -> bool) -> bool {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else { return false };
    let program =
        if name.contains('/') { Some(PathBuf::from(name)) } else { context.find_program(name) };
    let Some(program) = program else { return false };

    let mut command = Command::new(program);
    command.args(words.map(|word| word.replace("%s", url)));
    if !line.contains("%s") {
        command.arg(url);
    }
    command.env_clear().envs(context.env.for_child().filter(|(name, _)| sees(name)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    unix::spawn_in_own_group(&mut command).is_ok()
}

/// From now on no core dump has our memory, and no other process of this user reads it (Linux).
pub fn keep_memory_private() {
    unix::keep_memory_private();
}

/// The user who is logged in.
pub fn user_id() -> u32 {
    unix::real_user_id()
}

/// As process 1 of a container: reaps processes whose parents have ended.
pub fn reap_orphans() {
    unix::reap_orphans();
}
