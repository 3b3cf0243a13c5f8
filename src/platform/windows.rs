//! What the rest of `platform` is made of on Windows: the counterpart of `unix.rs`.
//!
//! Windows has no modes, no `flock`, no `execve` and no signals. A private file has an access control
//! list for its owner alone; a lock is a file that only one process has open; `exec` waits for its child
//! in a job; the events of the console take the place of signals. Calls without a safe wrapper are in
//! `windows_calls.rs`, what access control lists amount to in `windows_acl.rs`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::windows::fs::{FileTypeExt, OpenOptionsExt};
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_BAD_EXE_FORMAT, ERROR_SHARING_VIOLATION,
    ERROR_STOPPED_ON_SYMLINK, GENERIC_READ, GENERIC_WRITE, STATUS_CONTROL_C_EXIT,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, FILE_APPEND_DATA, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_DELETE_ON_CLOSE,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, OPEN_ALWAYS, READ_CONTROL, SYNCHRONIZE, WRITE_DAC,
};
use windows_sys::Win32::System::Console::ENABLE_ECHO_INPUT;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW,
};

use crate::credential::encoding::hex;
use crate::platform::file_metadata::FileMetadata;
use crate::platform::time::Deadline;
use crate::platform::windows_acl::{self as acl, THIS_USER};
use crate::platform::windows_calls::{self as calls, Job};

/// The variable with the user's home.
pub const HOME: &str = "USERPROFILE";

/// The variable with the folder for temporary files, and that folder without it.
pub const TEMPORARY_FOLDER: (&str, &str) = ("TEMP", r"C:\Windows\Temp");

const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// How long a file is tried again that another process, perhaps a virus scanner, has open just now.
const SHARING_WAIT: Duration = Duration::from_secs(2);
const SHARING_PAUSE: Duration = Duration::from_millis(5);

pub fn user_id() -> u32 {
    THIS_USER
}

pub fn group_id() -> u32 {
    acl::SYSTEM
}

pub fn real_user_id() -> u32 {
    THIS_USER
}

/// An administrator has no right to other users' files that this program would have to refuse.
pub fn is_root() -> bool {
    false
}

pub fn metadata_of(file: &File) -> io::Result<FileMetadata> {
    acl::metadata(file, is_link(&file.metadata()?))
}

pub fn symlink_metadata(path: &Path) -> io::Result<FileMetadata> {
    metadata_of(&open_for_metadata(path, FILE_FLAG_OPEN_REPARSE_POINT)?)
}

pub fn metadata_behind_links(path: &Path) -> io::Result<FileMetadata> {
    metadata_of(&open_for_metadata(path, 0)?)
}

fn open_for_metadata(path: &Path, flags: u32) -> io::Result<File> {
    OpenOptions::new()
        .access_mode(READ_CONTROL | FILE_READ_ATTRIBUTES)
        .share_mode(SHARE_ALL)
        .custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)
}

/// A symbolic link or a junction.
fn is_link(meta: &fs::Metadata) -> bool {
    let kind = meta.file_type();
    kind.is_symlink() || kind.is_symlink_dir() || kind.is_symlink_file()
}

/// Whether this is, perhaps behind symbolic links, a file that may be run.
pub fn is_executable(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXECUTABLE.iter().any(|known| extension.eq_ignore_ascii_case(known)) && path.is_file()
}

/// The extensions of programs that this program runs, of those in `PATHEXT`.
const EXECUTABLE: [&str; 4] = ["com", "exe", "bat", "cmd"];

/// The names that a program of this name may have.
pub fn program_names(name: &OsStr) -> Vec<OsString> {
    let has_extension = Path::new(name).extension().is_some_and(|extension| {
        EXECUTABLE.iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    if has_extension {
        return vec![name.to_owned()];
    }
    let with =
        |extension: &&str| [name, OsStr::new("."), OsStr::new(extension)].into_iter().collect();
    EXECUTABLE.iter().map(with).collect()
}

/// Removes a file, also if a virus scanner has it open just now.
pub fn remove_file(path: &Path) -> io::Result<()> {
    while_in_use(|| fs::remove_file(path))
}

/// Opens a file for reading, never a symbolic link.
pub fn open_file(path: &Path) -> io::Result<File> {
    // A folder opens only with FILE_FLAG_BACKUP_SEMANTICS.
    let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
    let open =
        || OpenOptions::new().read(true).share_mode(SHARE_ALL).custom_flags(flags).open(path);
    no_link(while_shared(open)?)
}

fn no_link(file: File) -> io::Result<File> {
    if is_link(&file.metadata()?) {
        return Err(io::Error::from_raw_os_error(ERROR_STOPPED_ON_SYMLINK as i32));
    }
    Ok(file)
}

/// Tries again while another process has the file open in a way that forbids this.
fn while_shared<T>(work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retried(work, |e| is(e, ERROR_SHARING_VIOLATION))
}

/// The same where the other process leads to a refusal of access, too.
fn while_in_use<T>(work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retried(work, |e| is(e, ERROR_SHARING_VIOLATION) || is(e, ERROR_ACCESS_DENIED))
}

fn retried<T>(
    mut work: impl FnMut() -> io::Result<T>,
    is_passing: impl Fn(&io::Error) -> bool,
) -> io::Result<T> {
    let deadline = Deadline::after(SHARING_WAIT);
    loop {
        match work() {
            Err(e) if is_passing(&e) && !deadline.passed() => {
                std::thread::sleep(SHARING_PAUSE);
            }
            done => return done,
        }
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code as i32)
}

/// Whether opening failed because a symbolic link is there.
pub fn is_symlink_error(error: &io::Error) -> bool {
    is(error, ERROR_STOPPED_ON_SYMLINK)
}

/// Whether a program did not start because the system knows no program of its form.
pub fn is_not_executable_format(error: &io::Error) -> bool {
    is(error, ERROR_BAD_EXE_FORMAT)
}

/// Windows has no such error.
pub fn is_mount_error(_: &io::Error) -> bool {
    false
}

/// Removes other users' rights to a file. Every mode that callers set is private, so the mode is ignored.
pub fn set_mode(file: &File, _: u32) -> io::Result<()> {
    let is_private = metadata_of(file)?.mode & 0o077 == 0;
    if is_private { Ok(()) } else { calls::make_private(file) }
}

/// Windows gives a new file the owner that this user's files have.
pub fn set_owner(_: &File, _: Option<u32>, _: u32) -> io::Result<()> {
    Ok(())
}

/// The beginning of an absolute path: a drive or a share.
pub fn root_of(path: &Path) -> PathBuf {
    path.components()
        .take_while(|part| matches!(part, Component::Prefix(_) | Component::RootDir))
        .collect()
}

/// A file, folder or symbolic link on a path.
pub struct PathPart(PathBuf);

impl PathPart {
    /// The beginning of an absolute path.
    pub fn root(path: &Path) -> io::Result<PathPart> {
        Ok(PathPart(root_of(path)))
    }

    /// What has this name in the folder.
    pub fn part(&self, name: &OsStr) -> io::Result<PathPart> {
        let path = self.0.join(name);
        path.symlink_metadata().map(|_| PathPart(path))
    }

    /// If the access control list may not be read (as for folders above a home), the part counts as writable
    /// by others; a link is then an error.
    pub fn metadata(&self) -> io::Result<FileMetadata> {
        match symlink_metadata(&self.0) {
            Err(e) if is(&e, ERROR_ACCESS_DENIED) => acl::metadata_without_rights(&self.0),
            metadata => metadata,
        }
    }

    pub fn link_target(&self) -> io::Result<PathBuf> {
        fs::read_link(&self.0)
    }

    pub fn folder(&self) -> io::Result<Folder> {
        Folder::open(&self.0)
    }
}

/// An open folder. While it is open, it cannot be renamed or removed.
pub struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Folder> {
        let handle = OpenOptions::new()
            .read(true)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Folder { path: path.to_owned(), handle })
    }

    pub fn metadata(&self) -> io::Result<FileMetadata> {
        metadata_of(&self.handle)
    }

    /// The metadata of a file in the folder; a symbolic link is not followed.
    pub fn metadata_of(&self, name: &OsStr) -> io::Result<Option<FileMetadata>> {
        found(while_shared(|| symlink_metadata(&self.path.join(name))))
    }

    /// Opens a file for reading, never a symbolic link; `None` if it is missing.
    pub fn open_file(&self, name: &OsStr) -> io::Result<Option<File>> {
        found(open_file(&self.path.join(name)))
    }

    /// Creates a file that only this user can read; fails if the name is taken.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let access = GENERIC_READ | GENERIC_WRITE | WRITE_DAC;
        calls::open_private(&self.path.join(name), access, SHARE_ALL, CREATE_NEW, 0)
    }

    /// Opens a file of our own, creating it so that only this user can read it.
    pub fn open_or_create_private(&self, name: &OsStr, append: bool) -> io::Result<File> {
        let write = if append { FILE_APPEND_DATA } else { GENERIC_READ | GENERIC_WRITE };
        let access = write | READ_CONTROL | WRITE_DAC | FILE_READ_ATTRIBUTES | SYNCHRONIZE;
        let (path, flags) = (self.path.join(name), FILE_FLAG_OPEN_REPARSE_POINT);
        let open = || calls::open_private(&path, access, SHARE_ALL, OPEN_ALWAYS, flags);
        no_link(while_shared(open)?)
    }

    /// Makes a folder in it that only we can enter, if there is none.
    pub fn create_private_folder(&self, name: &OsStr) -> io::Result<()> {
        match calls::create_private_folder(&self.path.join(name)) {
            Err(e) if !is(&e, ERROR_ALREADY_EXISTS) => Err(e),
            _ => Ok(()),
        }
    }

    /// A file that is read-only stays that; Windows replaces none.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let to = self.path.join(to);
        let old = to.symlink_metadata().map(|meta| meta.permissions());
        let read_only = old.ok().filter(|old| old.readonly());
        if let Some(old) = &read_only {
            let mut writable = old.clone();
            #[allow(clippy::permissions_set_readonly_false)]
            writable.set_readonly(false);
            fs::set_permissions(&to, writable)?;
        }
        let renamed = while_in_use(|| fs::rename(self.path.join(from), &to));
        let restored = read_only.map_or(Ok(()), |old| fs::set_permissions(&to, old));
        renamed.and(restored)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        remove_file(&self.path.join(name))
    }

    /// NTFS writes renames and removals into its journal; a folder cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Only a try tells: an access control list has many forms of refusal.
    pub fn check_writable(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// A file that only one process has open at a time: the locks of LockFileEx end with the process that
/// took them, while a child must be able to keep one.
pub struct Lock(PathBuf);

/// A lock that is held.
pub struct HeldLock<'a>(File, PhantomData<&'a mut Lock>);

impl Deref for HeldLock<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Lock {
    /// Fails if the file cannot be opened, even if the lock is free. It is held for a moment, in which
    /// another process may find it held.
    pub fn on_file(folder: &Folder, name: &OsStr) -> io::Result<Lock> {
        let mut lock = Lock(folder.path.join(name));
        match lock.try_hold() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => (),
        }
        Ok(lock)
    }

    /// A folder cannot be locked; a file among our own takes its place.
    pub fn on_folder(
        folder: &Folder,
        locks: impl FnOnce() -> io::Result<Folder>,
    ) -> io::Result<Lock> {
        let path = fs::canonicalize(&folder.path)?.to_string_lossy().to_lowercase();
        let name = hex(digest(&SHA256, path.as_bytes()).as_ref());
        Lock::on_file(&locks()?, OsStr::new(&name))
    }

    /// An error of the kind `WouldBlock` means that another process holds the lock.
    pub fn try_hold(&mut self) -> io::Result<HeldLock<'_>> {
        let access = GENERIC_READ | GENERIC_WRITE;
        let flags = FILE_FLAG_OPEN_REPARSE_POINT;
        match calls::open_private(&self.0, access, 0, OPEN_ALWAYS, flags) {
            Ok(file) => Ok(HeldLock(no_link(file)?, PhantomData)),
            Err(e) if is(&e, ERROR_SHARING_VIOLATION) => Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(e),
        }
    }
}

/// Ends our part in a lock that a child shares: the child has the file open.
pub fn release_without_unlock(held: HeldLock<'_>) {
    drop(held);
}

/// How the file is called that says who holds a lock: the lock's own file cannot be read meanwhile.
pub const NOTE_SUFFIX: &str = ".holder";

/// Windows has no limit of file sizes.
pub fn limits_file_sizes() -> bool {
    false
}

/// Sets whether processes that are started from now on inherit this open file, and with it its
/// lock.
pub fn set_inherited(file: &File, inherited: bool) -> io::Result<()> {
    calls::set_inherited(file, inherited)
}

/// A file for a child's output that is gone once no process has it open: a pipe would break when we end.
pub fn nameless_file(path: &Path) -> io::Result<File> {
    let access = GENERIC_READ | GENERIC_WRITE;
    calls::open_private(path, access, SHARE_ALL, CREATE_NEW, FILE_FLAG_DELETE_ON_CLOSE)
}

/// The jobs of commands that [`spawn_in_own_group`] has started, by process id.
static GROUPS: Mutex<Vec<(u32, Job)>> = Mutex::new(Vec::new());

/// Starts a command in a job of its own, out of the reach of Ctrl-C. Only one that writes to the terminal
/// has a console: the end of the console would end it.
pub fn spawn_in_own_group(command: &mut Command, to_terminal: bool) -> io::Result<Child> {
    calls::keep_own_streams();
    let job = Job::new()?;
    let window = if to_terminal && io::stderr().is_terminal() { 0 } else { CREATE_NO_WINDOW };
    let flags = CREATE_NEW_PROCESS_GROUP | window;
    // A renewal must not end with the job that this process is in, if that lets its processes leave; a
    // hook, which writes to the terminal, ends with it.
    let leaves = if to_terminal { 0 } else { CREATE_BREAKAWAY_FROM_JOB };
    let child = match command.creation_flags(flags | leaves).spawn() {
        Err(e) if is(&e, ERROR_ACCESS_DENIED) => command.creation_flags(flags).spawn()?,
        child => child?,
    };
    // A child that has ended already cannot be added.
    if job.add(child.as_handle()).is_ok()
        && let Ok(mut groups) = GROUPS.lock()
    {
        groups.retain(|(_, job)| job.has_processes());
        groups.push((child.id(), job));
    }
    Ok(child)
}

/// Ends all processes of a group.
pub fn end_group(group: u32, _at_once: bool) -> io::Result<()> {
    if group == std::process::id() {
        return OWN_GROUP.get().map_or(Ok(()), Job::end);
    }
    let Ok(groups) = GROUPS.lock() else { return Ok(()) };
    groups.iter().filter(|(id, _)| *id == group).try_for_each(|(_, job)| job.end())
}

/// The job that [`lead_group`] has put this process into.
static OWN_GROUP: OnceLock<Job> = OnceLock::new();

/// Makes this process and all that it starts a group, for [`end_group`].
pub fn lead_group() -> io::Result<()> {
    let job = Job::new()?;
    job.add_this_process()?;
    let _ = OWN_GROUP.set(job);
    Ok(())
}

/// Runs a command in place of this process: leaves Ctrl-C to it, ends it if this process is killed, and
/// ends with its exit code. Returns only if the command does not start.
pub fn replace_process(command: &mut Command) -> io::Error {
    let mut run = || {
        let job = Job::new()?;
        job.add_this_process()?;
        job.set_ends_with_us(true)?;
        calls::on_console_event(None)?;
        let status = command.spawn()?.wait()?;
        // What the program has started in the background continues.
        job.set_ends_with_us(false)?;
        Ok(status.code().unwrap_or(1))
    };
    match run() {
        Ok(code) => std::process::exit(code),
        Err(e) => e,
    }
}

/// Refuses arguments that `cmd.exe`, which runs `.cmd` and `.bat` files, would take for its own syntax.
pub fn check_arguments<'a>(
    program: &Path,
    mut arguments: impl Iterator<Item = &'a OsStr>,
) -> io::Result<()> {
    let extension = program.extension().unwrap_or_default();
    let is_batch = ["bat", "cmd"].iter().any(|batch| extension.eq_ignore_ascii_case(batch));
    let is_syntax = |c: char| "\"&|<>^%!\r\n".contains(c);
    if is_batch && arguments.any(|argument| argument.to_string_lossy().contains(is_syntax)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "cmd.exe would interpret a character of its arguments",
        ));
    }
    Ok(())
}

/// A command that runs a line as the system's shell does.
pub fn shell(line: &str) -> Command {
    let system = std::env::var_os("SystemRoot").unwrap_or(r"C:\Windows".into());
    let mut command = Command::new(Path::new(&system).join(r"System32\cmd.exe"));
    // /D: no AutoRun; /S: the quotes around the line are removed, and no others.
    command.raw_arg(format!("/D /S /C \"{line}\""));
    command
}

/// Our stderr, as a child's stdout.
pub fn stderr_as_stdout() -> io::Result<Stdio> {
    let stderr: OwnedHandle = io::stderr().as_handle().try_clone_to_owned()?;
    Ok(stderr.into())
}

/// Windows lets other processes of this user read our memory, whatever we do.
pub fn keep_memory_private() {}

/// Windows has no orphans to reap.
pub fn reap_orphans() {}

/// Windows has no systemd.
pub fn send_datagram(_: &OsStr, _: &str) {}

/// Windows has no signals; every event of the console takes their place.
pub const END_SIGNALS: [i32; 1] = [0];
pub const END_SIGNALS_AND_HANGUP: [i32; 1] = [0];

/// Calls `then` on the first event of the console, in a thread of its own.
pub fn on_signal(signals: &[i32], then: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    let signal = signals.first().copied().unwrap_or_default();
    calls::on_console_event(Some(Box::new(move || then(signal))))
}

/// Ends with the exit code that Ctrl-C leads to.
pub fn end_by_signal(_: i32) -> ! {
    std::process::exit(STATUS_CONTROL_C_EXIT)
}

/// From now on no event of the console has an effect.
pub fn ignore_signals() -> io::Result<()> {
    calls::on_console_event(None)
}

/// The console's mode before it was told to hide what is typed.
#[derive(Debug)]
pub struct TerminalSettings(u32);

/// As long as the lines that `terminal.rs` reads.
pub const MAX_TERMINAL_LINE_BYTES: usize = 64 * 1024;

/// MSYS terminals without a console, such as mintty, pass for terminals.
const NO_CONSOLE: &str =
    "this terminal cannot hide what is typed: put winpty before the command, or use a pipe";

/// Hides what is typed on stdin if that is a console.
pub fn hide_input(remember: impl FnOnce(TerminalSettings)) -> io::Result<()> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let before = calls::input_mode().map_err(|_| io::Error::other(NO_CONSOLE))?;
    remember(TerminalSettings(before));
    calls::set_input_mode(before & !ENABLE_ECHO_INPUT)
}

/// Shows again what is typed, and discards input that was not read.
pub fn show_input(before: &TerminalSettings) {
    calls::discard_input();
    let _ = calls::set_input_mode(before.0);
}

/// An id of this machine.
pub fn machine() -> String {
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    calls::machine_guid().unwrap_or_default() + &name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::file_metadata::FileKind;

    #[test]
    fn a_new_file_is_private_and_a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let file = folder.create_file(OsStr::new("file")).unwrap();
        let metadata = metadata_of(&file).unwrap();
        assert_eq!((metadata.kind, metadata.owner), (FileKind::Regular, THIS_USER));
        assert_eq!(metadata.mode & 0o077, 0);
        assert!(folder.create_file(OsStr::new("file")).is_err());

        let mut first = Lock::on_file(&folder, OsStr::new("lock")).unwrap();
        let mut second = Lock::on_file(&folder, OsStr::new("lock")).unwrap();
        let held = first.try_hold().unwrap();
        let refused = second.try_hold().map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        second.try_hold().unwrap();
    }
}
