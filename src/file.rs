//! Private files: read without being fooled, replaced whole, guarded by a lock file.
//!
//! A private file belongs to us, nobody else may read it, and it is never a link, a FIFO or a
//! folder. It is replaced by renaming a new one over it, created with mode 0600 and O_EXCL under
//! a random name, so that neither a reader nor whoever comes after a killed process sees half of
//! it. (Whoever comes after a power failure may; an entry ends in a hash.) Locks are `flock`s on
//! files of their own, never unlinked (two processes would then hold "the" lock), and die with
//! whoever holds them.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::time::{Deadline, Timestamp};
use crate::world::World;

/// What was found where a private file should be.
pub enum Found {
    /// Nothing, or nothing that can be reached.
    Nothing,
    /// Something, and why it is not trusted.
    Unsafe(&'static str),
    /// Its content.
    Content(Vec<u8>),
}

/// Reads a private file of at most `most` bytes.
pub fn read_private(path: &Path, most: usize) -> Found {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Found::Unsafe("it is a symbolic link"),
        Err(_) => return Found::Nothing,
    };
    let Ok(meta) = file.metadata() else { return Found::Nothing };
    if !meta.is_file() {
        return Found::Unsafe("it is not a regular file");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Found::Unsafe("it belongs to another user");
    }
    if meta.mode() & 0o077 != 0 {
        return Found::Unsafe("others may read it");
    }
    let size = meta.len() as usize;
    if size > most {
        return Found::Unsafe("it is too large");
    }
    // Exactly what it has: entries are replaced, never written to, so it cannot have grown.
    let mut content = vec![0; size];
    match (&file).read_exact(&mut content) {
        Ok(()) => Found::Content(content),
        Err(_) => Found::Nothing,
    }
}

/// Makes a folder (and what leads to it) that only we can enter, or checks the one that is
/// there: it must be ours, and nobody else may put files into it.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = fs::metadata(path)?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write into it"));
    }
    Ok(())
}

/// Puts `content` in the place of `folder/name`, whole or not at all. `modified` becomes the
/// file's time.
pub fn replace(
    folder: &Path,
    name: &str,
    content: &[u8],
    modified: Timestamp,
    random: [u8; 8],
) -> io::Result<()> {
    let temporary = folder.join(format!(".{}", hex(&random)));
    let written = write_new(&temporary, content, modified)
        .and_then(|()| fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, content: &[u8], modified: Timestamp) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    file.write_all(content)?;
    let time = Duration::from_millis(modified.0.max(0) as u64);
    // Only a hint for the sweep: a file system without times still keeps the content.
    if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(time) {
        let _ = file.set_modified(time);
    }
    Ok(())
}

/// A private file that is gone from its folder at once.
#[cfg(not(target_os = "linux"))]
pub fn nameless(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// A lock file, open; nobody holds it yet.
pub type Lock = fd_lock::RwLock<File>;

/// Opens a lock file, creating it if need be.
pub fn lock_file(path: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)?;
    Ok(Lock::new(file))
}

/// A lock, held until this is dropped.
pub struct Held<'a> {
    guard: Option<fd_lock::RwLockWriteGuard<'a, File>>,
    left: Cell<bool>,
}

impl<'a> Held<'a> {
    /// Takes the lock unless somebody else has it.
    pub fn take(lock: &'a mut Lock) -> io::Result<Option<Held<'a>>> {
        match lock.try_write() {
            Ok(guard) => Ok(Some(Held { guard: Some(guard), left: Cell::new(false) })),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Runs `spawn` so that the process it starts holds the lock too, until it ends.
    pub fn bequeath<T>(&self, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(file) = self.guard.as_deref() else { return spawn() };
        fcntl_setfd(file, FdFlags::empty())?;
        let spawned = spawn();
        fcntl_setfd(file, FdFlags::CLOEXEC)?;
        spawned
    }

    /// Leaves the lock to the process it was bequeathed to: dropping this does not unlock.
    pub fn leave(&self) {
        self.left.set(true);
    }
}

/// Does something while nobody else has the lock; nothing where the deadline comes first.
pub fn while_held<T>(
    lock: &mut Lock,
    world: &World,
    deadline: Deadline,
    work: impl FnOnce() -> T,
) -> io::Result<Option<T>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(_held) = Held::take(lock)? {
            return Ok(Some(work()));
        }
        if deadline.passed() {
            return Ok(None);
        }
        world.sleep(world.jittered(pause), deadline);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.left.get() {
            // The guard's drop would unlock for everybody who shares the open file.
            std::mem::forget(self.guard.take());
        }
    }
}

/// The digits of lower-case hexadecimal.
pub const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const THEN: Timestamp = Timestamp(1_800_000_000_000);

    fn reason(path: &Path) -> &'static str {
        match read_private(path, 100) {
            Found::Unsafe(reason) => reason,
            Found::Nothing => "nothing",
            Found::Content(_) => "content",
        }
    }

    #[test]
    fn a_replaced_file_is_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private_folder(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for content in [&b"one"[..], b"two"] {
            replace(&folder, "entry", content, THEN, [7; 8]).unwrap();
            let Found::Content(read) = read_private(&folder.join("entry"), 100) else { panic!() };
            assert_eq!(read, content);
        }
        let meta = fs::metadata(folder.join("entry")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.mtime()), (0o600, 1_800_000_000));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_planted_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let planted = dir.path().join(format!(".{}", hex(&[7; 8])));
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        assert!(replace(dir.path(), "entry", b"new", THEN, [7; 8]).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn nothing_foreign_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("wide"), "x").unwrap();
        fs::set_permissions(at("wide"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(reason(&at("wide")), "others may read it");
        replace(dir.path(), "large", &[0; 101], THEN, [1; 8]).unwrap();
        assert_eq!(reason(&at("large")), "it is too large");
        std::os::unix::fs::symlink(at("large"), at("link")).unwrap();
        assert_eq!(reason(&at("link")), "it is a symbolic link");
        assert_eq!(reason(dir.path()), "it is not a regular file");
        assert_eq!(reason(&at("absent")), "nothing");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wide = dir.path().join("wide");
        private_folder(&wide).unwrap();
        fs::set_permissions(&wide, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(&wide).is_err());
    }
}
