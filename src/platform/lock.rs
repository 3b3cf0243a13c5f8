//! Locks between processes: `flock` on files and folders.
//!
//! A lock file is never removed: after a removal, two processes could hold the same lock. A lock
//! ends with the processes that hold it. A child can share its parent's lock, so that the lock
//! lasts as long as the child's work, even if the parent ends first.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::platform::context::Context;
use crate::platform::time::Deadline;
use crate::platform::unix::{self, Folder};

/// The pause between two tries to take a lock: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// An open file that a lock can be taken on.
pub struct LockFile(fd_lock::RwLock<File>);

impl LockFile {
    /// Opens a lock file and creates it if it is missing.
    pub fn open(folder: &Folder, name: &str) -> io::Result<LockFile> {
        Ok(LockFile::on(folder.open_or_create_private(OsStr::new(name), false)?))
    }

    pub fn on_folder(path: &Path) -> io::Result<LockFile> {
        Ok(LockFile::on(Folder::open(path)?.file()?))
    }

    /// A lock on an open file or folder.
    pub fn on(file: File) -> LockFile {
        LockFile(fd_lock::RwLock::new(file))
    }

    /// Takes the lock unless another process has it.
    pub fn try_lock(&mut self) -> io::Result<Option<LockGuard<'_>>> {
        match self.0.try_write() {
            Ok(guard) => Ok(Some(LockGuard { guard: Some(guard), left: Cell::new(false) })),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Runs `work` under the lock; `None` if the deadline passes first.
    pub fn while_locked<T>(
        &mut self,
        context: &Context,
        deadline: Deadline,
        work: impl FnOnce(&LockGuard<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(guard) = self.try_lock()? {
                return Ok(Some(work(&guard)));
            }
            if deadline.passed() {
                return Ok(None);
            }
            context.sleep(context.jittered(pause), deadline);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Replaces the content of a lock file, which says who holds the lock.
    pub fn note_holder(folder: &Folder, name: &str, text: &str) -> io::Result<()> {
        let mut file = folder.open_or_create_private(OsStr::new(name), false)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }
}

/// A lock, held until this is dropped.
pub struct LockGuard<'a> {
    guard: Option<fd_lock::RwLockWriteGuard<'a, File>>,
    left: Cell<bool>,
}

impl LockGuard<'_> {
    /// Runs `spawn` so that the process it starts holds the lock too, until it ends.
    pub fn shared_with<T>(&self, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(file) = self.guard.as_deref() else { return spawn() };
        unix::set_inherited(file, true)?;
        let spawned = spawn();
        unix::set_inherited(file, false)?;
        spawned
    }

    /// Leaves the lock to the process that shares it: dropping this does not unlock.
    pub fn leave(&self) {
        self.left.set(true);
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        if self.left.get() {
            // The guard's own drop would unlock for every process that shares the open file.
            std::mem::forget(self.guard.take());
        }
    }
}
