//! The Unix system calls that the rest of `platform` is made of.
//!
//! Only this file names `rustix`, `signal_hook` and `std::os::unix`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::platform::file_metadata::{FileKind, FileMetadata};

/// The variable with the user's home.
pub const HOME: &str = "HOME";

/// The variable with the folder for temporary files, and that folder without it.
pub const TEMPORARY_FOLDER: (&str, &str) = ("TMPDIR", "/tmp");

pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub fn group_id() -> u32 {
    rustix::process::getegid().as_raw()
}

/// The user who is logged in, even if the program runs with another user's rights (getuid(2)).
pub fn real_user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

pub fn is_root() -> bool {
    user_id() == 0
}

pub fn metadata_of(file: &File) -> io::Result<FileMetadata> {
    Ok(metadata(&file.metadata()?))
}

pub fn symlink_metadata(path: &Path) -> io::Result<FileMetadata> {
    Ok(metadata(&path.symlink_metadata()?))
}

pub fn metadata_behind_links(path: &Path) -> io::Result<FileMetadata> {
    Ok(metadata(&path.metadata()?))
}

fn metadata(meta: &fs::Metadata) -> FileMetadata {
    FileMetadata {
        kind: kind_of(meta.mode()),
        owner: meta.uid(),
        group: meta.gid(),
        mode: meta.mode() & 0o7777,
        size: meta.len(),
        links: meta.nlink(),
        inode: meta.ino(),
        change_stamp: (meta.ctime(), meta.ctime_nsec()),
    }
}

/// Whether this is, perhaps behind symbolic links, a file that may be run.
pub fn is_executable(path: &Path) -> bool {
    metadata_behind_links(path)
        .is_ok_and(|metadata| metadata.kind == FileKind::Regular && metadata.mode & 0o111 != 0)
}

/// The names that a program of this name may have.
pub fn program_names(name: &OsStr) -> Vec<OsString> {
    vec![name.to_owned()]
}

fn kind_of(mode: u32) -> FileKind {
    // S_IFMT of stat(2): the same bits on Linux and macOS.
    match mode & 0o170_000 {
        0o100_000 => FileKind::Regular,
        0o040_000 => FileKind::Folder,
        0o120_000 => FileKind::Symlink,
        0o010_000 => FileKind::Fifo,
        _ => FileKind::Other,
    }
}

pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Opens a file for reading, never a symbolic link. O_NONBLOCK: opening a FIFO must not wait for a
/// writer.
pub fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Whether opening failed because a symbolic link is there.
pub fn is_symlink_error(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Whether a program did not start because the system knows no program of its form.
pub fn is_not_executable_format(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOEXEC)
}

/// Whether the file cannot be replaced because it is a mount point.
pub fn is_mount_error(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}

pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode as _))?)
}

/// Gives a file to a user and a group; without a user only the group changes.
pub fn set_owner(file: &File, user: Option<u32>, group: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, user.map(Uid::from_raw), Some(Gid::from_raw(group)))?)
}

/// The beginning of an absolute path.
pub fn root_of(_: &Path) -> PathBuf {
    PathBuf::from("/")
}

/// A file, folder or symbolic link on a path. On Linux it is open (O_PATH), so that no process
/// can replace it meanwhile.
#[cfg(target_os = "linux")]
pub struct PathPart(File);

#[cfg(target_os = "linux")]
impl PathPart {
    /// The beginning of an absolute path.
    pub fn root(_: &Path) -> io::Result<PathPart> {
        PathPart::open(rustix::fs::CWD, OsStr::new("/"))
    }

    /// What has this name in the folder.
    pub fn part(&self, name: &OsStr) -> io::Result<PathPart> {
        PathPart::open(&self.0, name)
    }

    fn open(folder: impl std::os::fd::AsFd, name: &OsStr) -> io::Result<PathPart> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(PathPart(File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?)))
    }

    pub fn metadata(&self) -> io::Result<FileMetadata> {
        metadata_of(&self.0)
    }

    pub fn link_target(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.0, "", Vec::new())?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    pub fn folder(&self) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(File::from(rustix::fs::openat(&self.0, ".", flags, Mode::empty())?)))
    }
}

/// A file, folder or symbolic link on a path. There is no call that keeps it open here.
#[cfg(not(target_os = "linux"))]
pub struct PathPart(PathBuf);

#[cfg(not(target_os = "linux"))]
impl PathPart {
    /// The beginning of an absolute path.
    pub fn root(_: &Path) -> io::Result<PathPart> {
        Ok(PathPart(PathBuf::from("/")))
    }

    pub fn part(&self, name: &OsStr) -> io::Result<PathPart> {
        let path = self.0.join(name);
        path.symlink_metadata().map(|_| PathPart(path))
    }

    pub fn metadata(&self) -> io::Result<FileMetadata> {
        symlink_metadata(&self.0)
    }

    pub fn link_target(&self) -> io::Result<PathBuf> {
        fs::read_link(&self.0)
    }

    pub fn folder(&self) -> io::Result<Folder> {
        Folder::open(&self.0)
    }
}

/// An open folder. Renaming a folder of its path does not redirect what is done in it.
pub struct Folder(File);

impl Folder {
    pub fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(File::from(rustix::fs::open(path, flags, Mode::empty())?)))
    }

    pub fn metadata(&self) -> io::Result<FileMetadata> {
        metadata_of(&self.0)
    }

    /// The metadata of a file in the folder; a symbolic link is not followed.
    pub fn metadata_of(&self, name: &OsStr) -> io::Result<Option<FileMetadata>> {
        let stat = match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        Ok(Some(FileMetadata {
            kind: kind_of(stat.st_mode as u32),
            owner: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode as u32 & 0o7777,
            size: stat.st_size as u64,
            links: stat.st_nlink as u64,
            inode: stat.st_ino,
            change_stamp: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }))
    }

    /// Opens a file for reading, never a symbolic link; `None` if it is missing.
    pub fn open_file(&self, name: &OsStr) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            file => Ok(Some(File::from(file?))),
        }
    }

    /// Creates a file with mode 0600; fails if the name is taken.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        survive_size_limit();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens a file of our own, creating it with mode 0600.
    pub fn open_or_create_private(&self, name: &OsStr, append: bool) -> io::Result<File> {
        survive_size_limit();
        let access = if append { OFlags::WRONLY | OFlags::APPEND } else { OFlags::RDWR };
        let flags = access | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Makes a folder in it that only we can enter, if there is none.
    pub fn create_private_folder(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Makes renames and removals survive a power failure.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    pub fn check_writable(&self) -> io::Result<()> {
        Ok(rustix::fs::accessat(&self.0, ".", Access::WRITE_OK, AtFlags::empty())?)
    }

    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }
}

/// A file or folder that `flock` locks.
pub struct Lock(fd_lock::RwLock<File>);

pub type HeldLock<'a> = fd_lock::RwLockWriteGuard<'a, File>;

impl Lock {
    /// On a file, which is created if it is missing.
    pub fn on_file(folder: &Folder, name: &OsStr) -> io::Result<Lock> {
        Ok(Lock(fd_lock::RwLock::new(folder.open_or_create_private(name, false)?)))
    }

    /// On a folder; the second argument is for a platform that has no such lock.
    pub fn on_folder(folder: &Folder, _: impl FnOnce() -> io::Result<Folder>) -> io::Result<Lock> {
        Ok(Lock(fd_lock::RwLock::new(folder.0.try_clone()?)))
    }

    /// An error of the kind `WouldBlock` means that another process holds the lock.
    pub fn try_hold(&mut self) -> io::Result<HeldLock<'_>> {
        self.0.try_write()
    }
}

/// Ends our part in a lock that a child shares. The guard's own drop would unlock for the child, too;
/// our file is closed with the [`Lock`].
pub fn release_without_unlock(held: HeldLock<'_>) {
    std::mem::forget(held);
}

/// The file of a lock says itself who holds it.
pub const NOTE_SUFFIX: &str = "";

/// From now on a write beyond the limit of file sizes (`ulimit -f`) fails, instead of ending this
/// process. A handler, which children do not inherit, unlike an ignored signal.
fn survive_size_limit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Without it, only such a write is worse off.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    });
}

/// Whether the size of files is limited (setrlimit(2), RLIMIT_FSIZE).
pub fn limits_file_sizes() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some()
}

/// Sets whether processes that are started from now on inherit this open file, and with it its
/// lock.
pub fn set_inherited(file: &File, inherited: bool) -> io::Result<()> {
    let flags = if inherited { FdFlags::empty() } else { FdFlags::CLOEXEC };
    Ok(fcntl_setfd(file, flags)?)
}

/// A file without a name, for a child's output: a pipe would break when we end.
#[cfg(target_os = "linux")]
pub fn nameless_file(_: &Path) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("output", MemfdFlags::CLOEXEC)?.into())
}

/// A file without a name, for a child's output: a pipe would break when we end.
#[cfg(not(target_os = "linux"))]
pub fn nameless_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file =
        fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Starts a command in a process group of its own, which the terminal's Ctrl-C does not reach. Whether it
/// writes to the terminal matters on Windows only.
pub fn spawn_in_own_group(command: &mut Command, _: bool) -> io::Result<Child> {
    command.process_group(0).spawn()
}

/// Replaces this process by the command; returns only if that fails.
pub fn replace_process(command: &mut Command) -> io::Error {
    command.exec()
}

/// A process group is led from its start; see [`spawn_in_own_group`].
pub fn lead_group() -> io::Result<()> {
    Ok(())
}

/// Every argument reaches a program as it is.
pub fn check_arguments<'a>(_: &Path, _: impl Iterator<Item = &'a OsStr>) -> io::Result<()> {
    Ok(())
}

/// A command that runs a line as the system's shell does.
pub fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

/// The machine's id (machine-id(5)) and its name: several machines of one image may share an id.
pub fn machine() -> String {
    ["/etc/machine-id", "/proc/sys/kernel/hostname"]
        .map(|path| fs::read_to_string(path).unwrap_or_default())
        .concat()
}

/// Our stderr, as a child's stdout.
pub fn stderr_as_stdout() -> io::Result<Stdio> {
    Ok(fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?.into())
}

/// Asks all processes of a group to end, or kills them.
pub fn end_group(group: u32, at_once: bool) -> io::Result<()> {
    let signal = if at_once { Signal::KILL } else { Signal::TERM };
    match Pid::from_raw(group as i32) {
        Some(group) => Ok(kill_process_group(group, signal)?),
        None => Ok(()),
    }
}

/// From now on no core dump has our memory, and no other process of this user reads it. Programs that
/// we start are not concerned.
#[cfg(target_os = "linux")]
pub fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // A failure costs this protection only.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// There is no safe call for this here.
#[cfg(not(target_os = "linux"))]
pub fn keep_memory_private() {}

/// As process 1 of a container: reaps processes whose parents have ended.
pub fn reap_orphans() {
    if std::process::id() == 1 {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

/// Sends one datagram to a Unix socket; `@` begins an abstract name. A missing receiver is not an
/// error.
pub fn send_datagram(address: &OsStr, message: &str) {
    let address = match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    };
    if let (Ok(socket), Ok(address)) = (UnixDatagram::unbound(), address) {
        // A receiver that does not read must not block this process.
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(message.as_bytes(), &address);
    }
}

/// The signals that ask a program to end.
pub const END_SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// The same, and the one that says that the terminal is gone.
pub const END_SIGNALS_AND_HANGUP: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Waits for the first of these signals in a thread of its own, and calls `then` with it.
pub fn on_signal(signals: &[i32], then: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(signals)?;
    std::thread::Builder::new()
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                then(signal);
            }
        })
        .map(drop)
}

/// Ends like a program without a handler, so that the parent sees the signal. A signal does not end
/// process 1 of a container, so that process exits with 128 plus the signal's number.
pub fn end_by_signal(signal: i32) -> ! {
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    std::process::exit(128 + signal)
}

/// From now on none of [`END_SIGNALS_AND_HANGUP`] has an effect.
pub fn ignore_signals() -> io::Result<()> {
    for signal in END_SIGNALS_AND_HANGUP {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// A terminal's settings before it was told to hide what is typed.
#[derive(Debug)]
pub struct TerminalSettings(Termios);

/// The longest line that a terminal passes on whole (termios(3), canonical mode).
pub const MAX_TERMINAL_LINE_BYTES: usize = if cfg!(target_os = "linux") { 4095 } else { 1023 };

/// Hides what is typed on stdin if that is a terminal. The keys for suspending and core dumps are
/// disabled meanwhile, because they would leave the terminal in this state.
pub fn hide_input(remember: impl FnOnce(TerminalSettings)) -> io::Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(());
    }
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    // _POSIX_VDISABLE: no key has this function.
    let no_key = if cfg!(target_os = "linux") { 0 } else { 0xff };
    for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
        hidden.special_codes[key] = no_key;
    }
    remember(TerminalSettings(before));
    Ok(tcsetattr(&stdin, OptionalActions::Flush, &hidden)?)
}

/// Shows again what is typed. Further pasted input is dropped: it must not reach the shell.
pub fn show_input(before: &TerminalSettings) {
    let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &before.0);
}
