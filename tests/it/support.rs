//! What all tests use: a context for calls, their outcomes, and which programs are installed.

// On Windows fewer tests are compiled, and use less of this.
#![cfg_attr(windows, allow(dead_code))]

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use lakebase_token::credential::secret::Secret;
use lakebase_token::error::Error;
use lakebase_token::login::record::{Login, LoginKey, RenewWith};
use lakebase_token::login::store::Logins;
use lakebase_token::platform::context::Context;
use lakebase_token::platform::time::{Deadline, Timestamp};
use serde_json::{Value, json};

#[cfg(unix)]
use crate::sandbox::Sandbox;
use crate::sandbox::jwt::Scope;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT, State, Workspace};

/// The variable with the user's home.
pub const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

/// The cache folder, below the home.
const CACHE: &str =
    if cfg!(windows) { r"local\lakebase-token\cache" } else { ".cache/lakebase-token" };

/// The folder for logins, below the home.
const STATE: &str =
    if cfg!(windows) { r"local\lakebase-token" } else { ".local/state/lakebase-token" };

/// libpq's password file, below the home.
const PGPASS: &str = if cfg!(windows) { r"settings\postgresql\pgpass.conf" } else { ".pgpass" };

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;

/// The context of calls: an empty home, a list of variables, a clock that is moved by hand.
pub struct Test {
    pub home: tempfile::TempDir,
    pub env: Vec<(OsString, OsString)>,
    /// The URL of the cloud's instance metadata service.
    pub instance_metadata: String,
    /// The machine's name, which differs where machines share a home.
    pub machine: fn() -> String,
    ahead: Rc<Cell<i64>>,
    /// The workspace's state, whose clock is moved with ours.
    workspace: Option<Arc<Mutex<State>>>,
}

/// The outcome of a call.
pub struct Outcome {
    pub code: u8,
    pub stdout: String,
    /// Errors and notes, in their order.
    pub stderr: String,
}

impl Test {
    /// Without any setting.
    pub fn bare() -> Test {
        let home = tempfile::tempdir().unwrap();
        let mut test = Test {
            env: Vec::new(),
            ahead: Rc::default(),
            workspace: None,
            home,
            instance_metadata: String::new(),
            machine: || "one".to_owned(),
        };
        let path = test.home.path().to_str().unwrap().to_owned();
        test.set(HOME, &path);
        if cfg!(windows) {
            // Where Windows has programs' own files; and what its libraries need.
            test.set("LOCALAPPDATA", &format!(r"{path}\local"));
            test.set("APPDATA", &format!(r"{path}\settings"));
            test.set("SystemRoot", &std::env::var("SystemRoot").unwrap());
        }
        test
    }

    /// With a service principal of this workspace, and an endpoint by name.
    pub fn at(workspace: &Workspace) -> Test {
        let mut test = Test::bare();
        test.workspace = Some(workspace.shared());
        test.set("DATABRICKS_HOST", &workspace.url);
        test.set("DATABRICKS_CLIENT_ID", CLIENT_ID);
        test.set("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET);
        test.set("LAKEBASE_ENDPOINT", ENDPOINT);
        test
    }

    /// With a person who is not logged in yet, and an endpoint by name.
    pub fn of_person(workspace: &Workspace) -> Test {
        let mut test = Test::at(workspace);
        test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
        test
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Test {
        self.unset(name);
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn unset(&mut self, name: &str) -> &mut Test {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Moves our clock and the workspace's.
    pub fn pass(&self, millis: i64) {
        self.set_clock(millis);
        if let Some(workspace) = &self.workspace {
            workspace.lock().unwrap().skew += millis / 1000;
        }
    }

    /// The time by our clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::of_system().plus(self.ahead.get())
    }

    /// Moves our clock alone.
    pub fn set_clock(&self, millis: i64) {
        self.ahead.set(self.ahead.get() + millis);
    }

    /// Writes a file below the home.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes an executable and makes its folder the only one on PATH.
    pub fn program(&mut self, name: &str, text: &str) -> PathBuf {
        // It may be a link to the tool below, which all tests share.
        let _ = fs::remove_file(self.home.path().join("bin").join(name));
        let path = self.write(&format!("bin/{name}"), text);
        set_mode(&path, 0o755);
        let folder = path.parent().unwrap().to_str().unwrap().to_owned();
        self.set("PATH", &folder);
        path
    }

    /// Puts a stand-in for a tool on PATH, which does these steps (`tests/sandbox/tool.rs`).
    pub fn tool(&mut self, name: &str, steps: Value) -> PathBuf {
        self.tool_by_line(name, json!([{ "for": "", "do": steps }]))
    }

    /// The same, with steps for each kind of command line.
    pub fn tool_by_line(&mut self, name: &str, cases: Value) -> PathBuf {
        self.write(&format!("bin/{name}.json"), &cases.to_string());
        let folder = self.home.path().join("bin");
        self.set("PATH", folder.to_str().unwrap());
        let path = folder.join(name.to_owned() + std::env::consts::EXE_SUFFIX);
        if !path.exists() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(tool(), &path).unwrap();
            #[cfg(windows)]
            fs::copy(tool(), &path).unwrap();
        }
        path
    }

    /// What a tool has logged: its command lines, and what must not reach it.
    pub fn tool_log(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(format!("bin/{name}.log"))).unwrap_or_default()
    }

    pub fn cache_folder(&self) -> PathBuf {
        self.home.path().join(CACHE)
    }

    pub fn password_file(&self) -> PathBuf {
        self.home.path().join(PGPASS)
    }

    pub fn state_folder(&self) -> PathBuf {
        self.home.path().join(STATE)
    }

    /// The cache entries, without lock files.
    pub fn entries(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.cache_folder()) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_none_or(|end| end != "lock")).collect();
        paths.sort();
        paths
    }

    /// Calls the program as a function. Blanks separate the words.
    pub fn run(&self, line: &str) -> Outcome {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        self.run_args(&argv)
    }

    pub fn run_args(&self, argv: &[OsString]) -> Outcome {
        self.try_refused(argv);
        self.call(argv)
    }

    /// Where the workspace is a variant that refuses: tries the call in a copy of the home first, and checks that the
    /// refusal is told and no credential printed but one that is still valid. Then the workspace refuses no more.
    fn try_refused(&self, argv: &[OsString]) {
        let Some(workspace) = &self.workspace else { return };
        // A browser knows only the real home.
        if argv.first().is_some_and(|word| word == "login") {
            return;
        }
        let Some(words) = begin_refusing(&mut workspace.lock().unwrap()) else { return };
        let home = tempfile::tempdir().unwrap();
        let all = self.home.path().join(".");
        let copied = Command::new("cp").arg("-a").args([&all, home.path()]).status();
        assert!(copied.unwrap().success());
        let (old, new) = (self.home.path().to_str().unwrap(), home.path().to_str().unwrap());
        let moved = |text: &OsString| OsString::from(text.to_str().unwrap().replace(old, new));
        let argv: Vec<OsString> = argv.iter().map(moved).collect();
        let copy = Test {
            env: self.env.iter().map(|(name, value)| (name.clone(), moved(value))).collect(),
            instance_metadata: self.instance_metadata.clone(),
            machine: self.machine,
            ahead: self.ahead.clone(),
            workspace: None,
            home,
        };
        let outcome = copy.call(&argv);
        let mut state = workspace.lock().unwrap();
        state.refuses = false;
        if std::mem::take(&mut state.refusals) == 0 {
            return;
        }
        let notes = outcome.stderr.contains("note: ") && outcome.stderr.contains("status 403");
        let is_told = if outcome.code == 0 { notes } else { outcome.stderr.contains(words) };
        let is_printed = outcome.code != 0 && outcome.stdout.contains("eyJ");
        assert!([0, 4].contains(&outcome.code) && is_told && !is_printed, "{argv:?}: {outcome:?}");
    }

    fn call(&self, argv: &[OsString]) -> Outcome {
        let notes = Rc::new(RefCell::new(String::new()));
        let said = notes.clone();
        let context = self.context(move |text| said.borrow_mut().push_str(&format!("{text}\n")));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let code = lakebase_token::run(argv, &context, &mut stdout, &mut stderr);
        let stderr = notes.borrow().clone() + &String::from_utf8(stderr).unwrap();
        Outcome { code, stdout: String::from_utf8(stdout).unwrap(), stderr }
    }

    /// The context of a call, which hands its notes to `say`.
    pub fn context(&self, say: impl Fn(&str) + 'static) -> Context {
        let ahead = self.ahead.clone();
        Context {
            env: self.env.iter().cloned().collect(),
            now: Box::new(move || Timestamp::of_system().plus(ahead.get())),
            cache_home: |context| Some(context.home()?.join(CACHE)),
            state_home: |context| {
                if cfg!(windows) {
                    return Some(context.home()?.join(r"local\lakebase-token"));
                }
                let named = context.var("XDG_STATE_HOME").map(PathBuf::from);
                let states = named.filter(|path| path.is_absolute());
                let states = states.or_else(|| Some(context.home()?.join(".local/state")))?;
                Some(states.join("lakebase-token"))
            },
            quiet: std::cell::Cell::new(false),
            request_log: lakebase_token::platform::request_log::RequestLog::default(),
            say: Box::new(say),
            instance_metadata: self.instance_metadata.clone().into(),
            machine: self.machine,
            signal_state: Arc::default(),
            // No unit runs it; it is a file that only root can replace.
            program: |_| Ok(PathBuf::from("/bin/sh")),
            own_executable: || Ok(executable()),
        }
    }

    /// The executable with these variables and no others.
    pub fn command(&self) -> Command {
        let mut command = Command::new(executable());
        command.env_clear().envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs a line of the shell, in which `$0` is the executable.
    #[cfg(unix)]
    pub fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).arg(executable());
        command.env_clear().envs(self.env.iter().cloned()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Starts the executable. Blanks separate the words.
    pub fn start(&self, line: &str) -> Child {
        spawn(self.command().args(line.split_whitespace()))
    }

    /// Starts the executable this many times at once, and waits for all.
    pub fn start_many(&self, count: usize, line: &str) -> Vec<Output> {
        let children: Vec<Child> = (0..count).map(|_| self.start(line)).collect();
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
    }
}

/// With long words cut off, so that tokens stay readable.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.stdout.split_inclusive(|c: char| !c.is_alphanumeric());
        let cut = |word: &str| word.chars().take(24).collect::<String>();
        let stdout: String = words.map(cut).collect();
        write!(f, "exit code {}\nstdout: {stdout}\nstderr: {}", self.code, self.stderr)
    }
}

impl Outcome {
    /// The printed credential; nothing else may be printed.
    #[track_caller]
    pub fn token(&self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        assert!(self.stdout.ends_with('\n'));
        self.stdout.trim_end().to_owned()
    }

    /// Checks a failure: this exit code, these words on stderr, an empty stdout.
    #[track_caller]
    pub fn fails(&self, code: u8, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        assert!(self.stderr.contains("lakebase-token: error: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in {self:?}");
        }
    }

    /// The printed credential of a success with these words in a note.
    #[track_caller]
    pub fn notes(&self, words: &str) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(self.stderr.contains("note: ") && self.stderr.contains(words), "{self:?}");
        self.stdout.trim_end().to_owned()
    }
}

/// Calls the program in a context. Returns the exit code, stdout without its line end, and stderr.
pub fn call(context: &Context, line: &str) -> (u8, String, String) {
    let argv: Vec<_> = line.split(' ').map(std::ffi::OsString::from).collect();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = lakebase_token::run(&argv, context, &mut stdout, &mut stderr);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (code, text(stdout).trim_end().to_owned(), text(stderr))
}

/// Lets a workspace refuse, if it is a variant that does and has nothing else in store for the next call. Returns the
/// words of the refusal.
fn begin_refusing(state: &mut State) -> Option<&'static str> {
    let words = state.variant.refusal()?;
    let is_faulty = state.faults.iter().any(|fault| fault.times > 0)
        || state.change_answer.is_some()
        || state.lost_answer.is_some();
    state.refuses = !is_faulty;
    state.refuses.then_some(words)
}

/// The executable under test: Cargo's, or the static artefact that `tests/run` names.
pub fn executable() -> PathBuf {
    match std::env::var_os("LAKEBASE_TOKEN_TESTED") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_lakebase-token")),
    }
}

/// A command that builds something, without what Cargo and `tests/run` have set for this test: with it, Cargo
/// would build some dependencies again.
pub fn building(program: &str) -> Command {
    let mut command = Command::new(program);
    let is_ours = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "RUSTC_BOOTSTRAP"]
            .iter()
            .any(|ours| name.starts_with(ours))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// An example, built as the tests are. On Windows `tests/windows/run` has built it.
pub fn example(name: &str) -> PathBuf {
    if cfg!(unix) {
        let mut cargo = building("cargo");
        cargo.args(["build", "--quiet", "--locked", "--example", name]);
        assert!(cargo.current_dir(repository()).status().unwrap().success());
    }
    // This test is target/debug/deps/it-….
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    folder.join(name.to_owned() + std::env::consts::EXE_SUFFIX)
}

/// The executable of `tests/sandbox/tool.rs`.
fn tool() -> &'static Path {
    static TOOL: OnceLock<PathBuf> = OnceLock::new();
    TOOL.get_or_init(|| example("tool"))
}

/// A stand-in workspace over plain HTTP, which is allowed on a literal loopback address.
pub fn workspace() -> Workspace {
    Workspace::start(None).unwrap()
}

/// Whether a program is installed. Without it the test cannot run: `tests/run` reports that at its
/// end, and with CI set it is a failure.
pub fn has(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        not_run(test, &format!("{program} is not installed"));
    }
    found
}

/// Whether `unshare` gives a namespace of its own, for which it needs root.
#[cfg(unix)]
pub fn can_unshare(test: &str, namespace: &str) -> bool {
    let tried = Command::new("unshare").args([namespace, "true"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        not_run(test, &format!("unshare {namespace} is not permitted, or not installed"));
    }
    can
}

/// Reports that a test cannot run here. With CI set that is a failure, unless `tests/allowed-skips` has it.
pub fn not_run(test: &str, why: &str) {
    // The name of the thread is that of the test.
    let thread = thread::current();
    let test = thread.name().filter(|name| name.contains("::")).unwrap_or(test);
    report_skip(test, why);
}

/// Reports that a part of a test cannot run here, under the same condition.
pub fn part_not_run(part: &str, why: &str) {
    report_skip(part, &format!("in part: {why}"));
}

fn report_skip(test: &str, why: &str) {
    let allowed = include_str!("../allowed-skips").lines();
    let mut names = allowed.filter_map(|line| line.split_whitespace().next());
    let is_allowed = names.any(|name| test.starts_with(name));
    let is_ci = std::env::var_os("CI").is_some();
    assert!(!is_ci || is_allowed, "{test} cannot run: {why}");
    eprintln!("not run: {test}: {why}");
    if let Some(list) = std::env::var_os("LAKEBASE_TOKEN_NOT_RUN") {
        use std::io::Write;
        let file = fs::OpenOptions::new().append(true).create(true).open(list);
        writeln!(file.unwrap(), "{test}\t{why}").unwrap();
    }
}

/// The whole sandbox; nothing where PostgreSQL or psql is missing, which is reported.
#[cfg(unix)]
pub fn sandbox_with_psql(test: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::start().unwrap();
    if let Err(why) = &sandbox.postgres {
        not_run(test, why);
        return None;
    }
    has(test, "psql").then_some(sandbox)
}

/// Whether we are root, who can read every file.
pub fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(windows)]
    return false;
}

#[cfg(unix)]
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that no other user may read a file.
#[cfg(unix)]
#[track_caller]
pub fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// Wine keeps no access control lists; windows.rs has what can be shown there.
#[cfg(windows)]
pub fn assert_private(_: &Path) {}

/// Windows has no modes; what a test makes is its user's own.
#[cfg(windows)]
pub fn set_mode(_: &Path, _: u32) {}

/// What holds an address that refuses connections.
#[cfg(unix)]
pub type HeldAddress = std::os::fd::OwnedFd;
#[cfg(windows)]
pub type HeldAddress = (std::net::TcpListener, std::net::TcpStream);

/// An address that refuses connections as long as the second value lives: it is bound, so that nothing else gets
/// it, and nothing listens.
#[cfg(unix)]
pub fn refusing_address() -> (SocketAddr, HeldAddress) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    // No program that a test starts inherits it.
    rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC).unwrap();
    bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&held).unwrap();
    (SocketAddr::try_from(address).unwrap(), held)
}

/// The same: the near end of a connection.
#[cfg(windows)]
pub fn refusing_address() -> (SocketAddr, HeldAddress) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream.local_addr().unwrap(), (listener, stream))
}

/// Waits for a result of `check`, for three minutes at most: cron alone takes one.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(result) = check() {
            return result;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The exit code, stdout and stderr of a program, for messages.
pub fn words(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{:?}: {stdout}{stderr}", output.status.code())
}

/// Checks that a program has succeeded and printed this line.
#[track_caller]
pub fn assert_prints(output: &Output, expected: &str) {
    assert!(output.status.success(), "{}", words(output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{}", words(output));
}

/// Starts a process whose output the test reads.
pub fn spawn(command: &mut Command) -> Child {
    started(|| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn())
}

/// What `start` returns. While another process ends, Wine 8 may fail to start one, with the code below. Nothing has
/// run then, so it is tried again.
pub fn started<T>(mut start: impl FnMut() -> io::Result<T>) -> T {
    const ERROR_INTERNAL_ERROR: i32 = 1359;
    for _ in 0..20 {
        match start() {
            Err(e) if cfg!(windows) && e.raw_os_error() == Some(ERROR_INTERNAL_ERROR) => {
                thread::sleep(Duration::from_millis(100));
            }
            result => return result.unwrap(),
        }
    }
    panic!("each of 20 tries to start a process failed");
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Pseudo-random numbers that are the same in each run (xorshift64*).
pub struct Dice(pub u64);

/// The seed that `LAKEBASE_TOKEN_SEED` names, to repeat a run.
pub fn named_seed() -> Option<u64> {
    std::env::var("LAKEBASE_TOKEN_SEED").ok().map(|seed| seed.parse().unwrap())
}

impl Dice {
    /// For a round of its own: of neighbouring seeds, xorshift's first numbers would be alike.
    pub fn of_round(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The seed is this one, or the named one. A failing test shows it.
    pub fn seeded(seed: u64) -> Dice {
        let seed = named_seed().unwrap_or(seed).max(1);
        eprintln!("LAKEBASE_TOKEN_SEED={seed}");
        Dice(seed)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// True with this probability.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// A login of this person that is stored nowhere yet, with a workspace token and without a refresh token.
pub fn login_of(workspace: &Workspace, who: &str, now: Timestamp) -> Login {
    let token = workspace.signer.sign(who, Scope::Workspace, 3600, workspace.state().skew);
    Login {
        key: LoginKey::Host(workspace.url.clone()),
        host: workspace.url.clone(),
        workspace_id: None,
        who: who.to_owned(),
        logged_in: now,
        access: Secret::new(token),
        issued: now,
        expires: now.plus(HOUR),
        renewal_begun: None,
        renew_with: RenewWith::Refresh(None),
    }
}

/// Stores a login as `lakebase-token login` does.
pub fn store_login(login: &Login, context: &Context) -> Result<(), Error> {
    let logins = Logins::of(context)?;
    logins.with_lock(&login.key, soon(), || logins.store(login, soon()))
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}
