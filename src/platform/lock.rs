//! Locks between processes, on files and folders: `flock`, and on Windows files that are open alone.
//!
//! A lock file is never removed: after a removal, two processes could hold the same lock. A lock
//! ends with the processes that hold it. A child can share its parent's lock, so that the lock
//! lasts as long as the child's work, even if the parent ends first.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

use crate::platform::context::Context;
use crate::platform::path_owners::open_or_create_folder;
use crate::platform::steps::{Step, try_step};
use crate::platform::system::{self, Folder, HeldLock, Lock};
use crate::platform::time::{Deadline, Pauses};

/// The pause between two tries to take a lock: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// What a lock can be taken on.
pub struct LockFile(Lock);

impl LockFile {
    /// Opens a lock file and creates it if it is missing.
    pub fn open(folder: &Folder, name: impl AsRef<OsStr>) -> io::Result<LockFile> {
        Ok(LockFile(Lock::on_file(folder, name.as_ref())?))
    }

    /// The lock on a folder itself, which leaves no file in it.
    pub fn on_folder(context: &Context, folder: &Folder) -> io::Result<LockFile> {
        let locks = || {
            let home = context.state_home().ok_or(io::ErrorKind::NotFound)?;
            open_or_create_folder(&home.join("locks"))
        };
        Ok(LockFile(Lock::on_folder(folder, locks)?))
    }

    /// Takes the lock unless another process has it.
    pub fn try_lock(&mut self) -> io::Result<Option<LockGuard<'_>>> {
        try_step(Step::TryLock)?;
        match self.0.try_hold() {
            Ok(guard) => {
                Ok(Some(LockGuard { guard: Some(guard), is_handed_over: Cell::new(false) }))
            }
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
        let mut pauses = Pauses::new(FIRST_PAUSE, MAX_PAUSE);
        loop {
            if let Some(guard) = self.try_lock()? {
                return Ok(Some(work(&guard)));
            }
            if deadline.passed() {
                return Ok(None);
            }
            context.sleep(context.jittered(pauses.take()), deadline);
        }
    }

    /// Records who holds the lock.
    pub fn note_holder(folder: &Folder, name: &str, text: &str) -> io::Result<()> {
        let mut file = folder.open_or_create_private(OsStr::new(&note_name(name)), false)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }
}

/// The file that says who holds a lock.
pub fn note_name(lock: &str) -> String {
    format!("{lock}{}", system::NOTE_SUFFIX)
}

/// A lock, held until this is dropped.
pub struct LockGuard<'a> {
    guard: Option<HeldLock<'a>>,
    is_handed_over: Cell<bool>,
}

impl LockGuard<'_> {
    /// Runs `spawn` so that the process it starts holds the lock too, until it ends.
    pub fn shared_with<T>(&self, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(file) = self.guard.as_deref() else { return spawn() };
        system::set_inherited(file, true)?;
        let spawned = spawn();
        system::set_inherited(file, false)?;
        spawned
    }

    /// Hands the lock over to the process that shares it: dropping this does not unlock.
    pub fn hand_over(&self) {
        self.is_handed_over.set(true);
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // A panic unwinds in tests only (`tests/it/interleavings.rs`), in the place of a kill, which leaves the
        // lock to a child.
        if self.is_handed_over.get() || std::thread::panicking() {
            self.guard.take().map(system::release_without_unlock);
        }
    }
}
