//! A file of the user that is replaced as a whole, under a lock on its folder: targets, stored logins, a
//! service's files, reports.
//!
//! The file belongs to the user (`~/.pgpass`, an environment file), so its owner, its mode and a
//! symbolic link that leads to it are kept, and other users can never read it. A new file is
//! written in the same folder, synced and renamed over the old one, so that readers see the old
//! content or the new one, even after a crash. Every process that changes a file holds an flock on
//! the folder. A temporary file that is found under this lock was left by a killed process. What
//! the file contains is up to the caller.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::credential::encoding::hex;
use crate::credential::redact::redact;
use crate::error::{Error, Result, TIMEOUT_HINT};
use crate::platform::context::Context;
use crate::platform::file_metadata::{FileKind, FileMetadata};
use crate::platform::lock::LockFile;
use crate::platform::path_owners::PathEnd;
use crate::platform::private_file::{self, PrivateRead, Replaced, Replacement, read_private_in};
use crate::platform::system::{self, Folder};
use crate::platform::time::Deadline;
use crate::quoting::sh_word;

/// The largest file that is read: room for some 30,000 lines with a token.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// How a temporary file's name begins; sixteen digits follow.
const TEMPORARY: &str = ".lakebase-token.";

/// How often a change is tried while another program keeps writing to the file.
const MAX_TRIES: u32 = 100;

/// A file to change or create.
pub struct TargetFile {
    /// The file itself, behind all symbolic links.
    path: PathBuf,
    name: OsString,
    folder: Folder,
}

/// Computes a file's new content from the old one; `None` means no file.
pub type Edit<'e> = dyn Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>> + 'e;

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Unchanged,
    Written,
    Removed,
}

/// Whether a hook has to run after a change. A mark in the file's folder records it, so that the
/// hook runs however the process ends that made the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMark {
    /// There is no hook.
    None,
    /// A hook has to run until it has succeeded once.
    Pending,
    /// Our entry is removed, and a hook that was pending is not needed any more.
    Cancelled,
}

/// The mark of a hook that has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingHook(Vec<u8>);

/// The file as it was when it was read.
struct Old {
    content: Vec<u8>,
    metadata: FileMetadata,
}

impl TargetFile {
    /// Resolves the path and refuses at once what cannot be a file. The file may be missing, its
    /// folder must exist.
    pub fn open(path: &Path) -> Result<TargetFile> {
        let absolute = std::path::absolute(path).map_err(|e| cannot("find", path, e))?;
        let end = PathEnd::of(&absolute).map_err(|e| cannot_follow(&absolute, e))?;
        let target = end.path.clone();
        if end.name.is_empty() {
            return Err(unfit(&target, "it is a folder"));
        }
        if ends_like_a_folder(path) {
            return Err(unfit(&target, "its name ends like a folder's"));
        }

        let folder = end.folder().map_err(|e| cannot("open the folder of", &target, e))?;
        let file = TargetFile { name: end.name, folder, path: target };
        file.check(end.is_link)?;
        Ok(file)
    }

    /// Refuses a folder that cannot be written to.
    pub fn check_folder(&self) -> Result<()> {
        let writable = self.folder.check_writable();
        writable.map_err(|e| cannot("write into the folder of", &self.path, e))
    }

    /// The file's path, behind all symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's content; `None` if there is no file.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.read_old()?.map(|old| old.content))
    }

    /// Replaces the file's content by the result of `edit`; `None` removes the file. A mark for the
    /// hook is written before the file changes, and is returned by every call until
    /// [`TargetFile::hook_succeeded`].
    pub fn change(
        &self,
        context: &Context,
        deadline: Deadline,
        hook: HookMark,
        edit: &Edit<'_>,
    ) -> Result<(Change, Option<PendingHook>)> {
        self.locked(context, deadline, || {
            self.remove_leftovers()?;
            for _ in 0..MAX_TRIES {
                if let Some(done) = self.try_change(context, hook, edit)? {
                    return Ok(done);
                }
            }
            Err(unfit(&self.path, "another program keeps writing into it"))
        })
    }

    /// One try; `None` if another program has changed the file meanwhile.
    fn try_change(
        &self,
        context: &Context,
        hook: HookMark,
        edit: &Edit<'_>,
    ) -> Result<Option<(Change, Option<PendingHook>)>> {
        let old = self.read_old()?;
        let new = edit(old.as_ref().map(|old| old.content.as_slice()))?;
        let change = change_between(old.as_ref(), new.as_deref(), hook);

        let was_pending = self.pending_hook().is_some();
        if change != Change::Unchanged && hook == HookMark::Pending {
            self.write_mark(context)?;
        }

        let applied = self.apply(context, change, old.as_ref(), new.as_deref());
        let is_applied = matches!(applied, Ok(true));
        let is_obsolete = match hook {
            HookMark::None => false,
            HookMark::Pending => !is_applied && !was_pending,
            HookMark::Cancelled => is_applied,
        };
        if is_obsolete {
            let _ = self.folder.remove(&self.mark_name());
        }

        let pending = self.pending_hook().filter(|_| hook == HookMark::Pending);
        Ok(applied?.then_some((change, pending)))
    }

    /// Writes or removes the file. Returns whether that was done; not if another program has changed
    /// the file meanwhile.
    fn apply(
        &self,
        context: &Context,
        change: Change,
        old: Option<&Old>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let is_same = || self.is_as_it_was(old);
        match (change, new) {
            (Change::Written, Some(new)) => {
                self.replace(context, &self.name, new, old, Some(&is_same))
            }
            (Change::Removed, _) if is_same() => self.remove(context).map(|()| true),
            (Change::Removed, _) => Ok(false),
            _ => Ok(true),
        }
    }

    /// The mark of a hook that has to run, if there is one and it is ours.
    fn pending_hook(&self) -> Option<PendingHook> {
        match read_private_in(&self.folder, &self.mark_name(), 100) {
            PrivateRead::Content(nonce) => Some(PendingHook(nonce)),
            _ => None,
        }
    }

    fn write_mark(&self, context: &Context) -> Result<()> {
        let nonce = hex(&context.random::<8>()?);
        self.replace(context, &self.mark_name(), nonce.as_bytes(), None, None)?;
        Ok(())
    }

    /// Writes a mark although the file does not change: the hook has to run for its present
    /// content.
    pub fn mark_hook(&self, context: &Context, deadline: Deadline) -> Result<Option<PendingHook>> {
        self.locked(context, deadline, || {
            self.write_mark(context)?;
            Ok(self.pending_hook())
        })
    }

    /// Removes a mark, unless the file has changed again since.
    pub fn hook_succeeded(
        &self,
        context: &Context,
        deadline: Deadline,
        hook: &PendingHook,
    ) -> Result<()> {
        self.locked(context, deadline, || {
            if self.pending_hook().as_ref() == Some(hook) {
                let mark = self.mark_name();
                self.folder.remove(&mark).map_err(|e| cannot("remove", Path::new(&mark), e))?;
            }
            Ok(())
        })
    }

    fn mark_name(&self) -> OsString {
        let mut name = OsString::from(".lakebase-token.pending.");
        name.push(&self.name);
        name
    }

    /// Runs `work` while no other process of ours changes a file in this folder.
    fn locked<T>(
        &self,
        context: &Context,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let cannot_lock = |e: io::Error| {
            cannot("lock the folder of", &self.path, e).hint("choose a file on a local disk")
        };
        let mut lock = LockFile::on_folder(context, &self.folder).map_err(cannot_lock)?;
        let done = lock.while_locked(context, deadline, |_| work()).map_err(cannot_lock)?;
        done.unwrap_or_else(|| {
            let path = shown(&self.path);
            Err(Error::unavailable(format!("another process keeps {path} locked"))
                .hint(TIMEOUT_HINT))
        })
    }

    /// Refuses a file that cannot be replaced, before a credential is minted for it.
    fn check(&self, is_link: bool) -> Result<()> {
        let metadata = self.folder.metadata_of(&self.name);
        let Some(metadata) = metadata.map_err(|e| cannot("read the metadata of", &self.path, e))?
        else {
            return Ok(());
        };
        match metadata.kind {
            FileKind::Regular if metadata.owner == system::user_id() => Ok(()),
            // An elevated program of this user has made it.
            FileKind::Regular if cfg!(windows) && metadata.owner == 0 => Ok(()),
            // Root may keep a user's file up to date, but not through a link, and not in a folder
            // where another user could have put the file.
            FileKind::Regular if system::is_root() && !is_link && self.is_of(metadata.owner)? => {
                Ok(())
            }
            FileKind::Regular => Err(unfit(&self.path, "it belongs to another user")),
            FileKind::Folder => Err(unfit(&self.path, "it is a folder")),
            FileKind::Fifo => Err(unfit(&self.path, "it is a FIFO")),
            FileKind::Symlink => Err(unfit(&self.path, "it became a symbolic link just now")),
            FileKind::Other => Err(unfit(&self.path, "it is a device or a socket")),
        }
    }

    /// Whether only this user and root can put files into the folder.
    fn is_of(&self, user: u32) -> Result<bool> {
        let folder = self.folder.metadata();
        let folder =
            folder.map_err(|e| cannot("read the metadata of the folder of", &self.path, e))?;
        Ok(folder.mode & 0o022 == 0 && (folder.owner == user || folder.owner == 0))
    }

    fn read_old(&self) -> Result<Option<Old>> {
        // Checked before it is opened: opening a device may have an effect.
        self.check(false)?;
        let cannot_read = |e| cannot("read", &self.path, e);
        let Some(file) = self.folder.open_file(&self.name).map_err(cannot_read)? else {
            return Ok(None);
        };

        let metadata = system::metadata_of(&file).map_err(cannot_read)?;
        if metadata.kind != FileKind::Regular {
            return Err(unfit(&self.path, "it is not a regular file"));
        }
        if metadata.size > MAX_FILE_BYTES {
            return Err(unfit(&self.path, "it has more than 64 MiB"));
        }
        let mut content = Vec::with_capacity(metadata.size as usize + 1);
        file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(cannot_read)?;
        Ok(Some(Old { content, metadata }))
    }

    /// Whether the file is unchanged since it was read: an editor does not use our lock.
    fn is_as_it_was(&self, old: Option<&Old>) -> bool {
        let stamp =
            |metadata: &FileMetadata| (metadata.inode, metadata.size, metadata.change_stamp);
        let now = system::symlink_metadata(&self.path).ok();
        now.as_ref().map(stamp) == old.map(|old| stamp(&old.metadata))
    }

    fn replace(
        &self,
        context: &Context,
        name: &OsStr,
        content: &[u8],
        old: Option<&Old>,
        still_right: Option<&dyn Fn() -> bool>,
    ) -> Result<bool> {
        // A poisoned lock serves as well: it protects no data, it only delays a signal.
        let _writing = context.signal_state.writing.lock();
        let how = Replacement {
            temporary: format!("{TEMPORARY}{}", hex(&context.random::<8>()?)).into(),
            keep: old.map(|old| &old.metadata),
            sync: true,
            still_right,
            ..Replacement::default()
        };
        let replaced = private_file::replace(&self.folder, name, content, &how);
        match replaced.map_err(|e| self.cannot_change("write", e))? {
            Replaced::Cancelled => Ok(false),
            Replaced::Done => Ok(true),
            Replaced::Unsynced(e) => {
                self.note_unsynced(context, &e);
                Ok(true)
            }
        }
    }

    fn remove(&self, context: &Context) -> Result<()> {
        self.folder.remove(&self.name).map_err(|e| self.cannot_change("remove", e))?;
        if let Err(e) = self.folder.sync() {
            self.note_unsynced(context, &e);
        }
        Ok(())
    }

    fn note_unsynced(&self, context: &Context, why: &io::Error) {
        let path = shown(&self.path);
        context.note(&format!("{path} is changed, but a power failure may undo that: {why}"));
    }

    /// Removes the temporary files of killed processes.
    fn remove_leftovers(&self) -> Result<()> {
        let names = self.folder.names();
        let names = names.map_err(|e| cannot("list the folder of", &self.path, e))?;
        let us = system::user_id();
        for name in names.iter().filter(|name| is_temporary(name)) {
            // Root gives a new file to its owner before it renames the file.
            let is_ours = |metadata: FileMetadata| metadata.owner == us || us == 0;
            if self.folder.metadata_of(name).ok().flatten().is_some_and(is_ours) {
                let _ = self.folder.remove(name);
            }
        }
        Ok(())
    }

    fn cannot_change(&self, what: &str, why: io::Error) -> Error {
        if !system::is_mount_error(&why) {
            return cannot(what, &self.path, why);
        }
        let folder = self.path.parent().unwrap_or(Path::new("/")).display();
        unfit(&self.path, "it is a mount point of its own, so it cannot be replaced")
            .hint(format!("mount the folder {folder}, not the file"))
    }
}

fn change_between(old: Option<&Old>, new: Option<&[u8]>, hook: HookMark) -> Change {
    match (old, new) {
        (None, None) => Change::Unchanged,
        (Some(_), None) => Change::Removed,
        (Some(old), Some(new)) if old.content == new => {
            // If our entry is removed, the rest of the file is not ours to make private.
            let is_private = old.metadata.mode & 0o177 == 0;
            if is_private || hook == HookMark::Cancelled {
                Change::Unchanged
            } else {
                Change::Written
            }
        }
        (_, Some(_)) => Change::Written,
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let random = name.as_encoded_bytes().strip_prefix(TEMPORARY.as_bytes());
    random.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn ends_like_a_folder(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}

/// The error for a path that leads to no folder that could hold the file.
fn cannot_follow(path: &Path, why: io::Error) -> Error {
    let is_missing = why.kind() == io::ErrorKind::NotFound;
    let error = cannot("open the folder of", path, why);
    // A path from a unit or a compose file, where no shell replaces `~`.
    let parts = || path.components().map(|part| part.as_os_str().as_encoded_bytes());
    if is_missing && parts().any(|part| part == b"~") {
        return error.hint("a path without ~, such as \"$HOME/file\"");
    }
    if path.is_symlink() {
        return error.hint(format!("create the folder that the link {} leads to", shown(path)));
    }
    match path.parent().filter(|_| is_missing) {
        Some(parent) => error.hint(format!("mkdir -p {}", sh_word(&shown(parent)))),
        None => error,
    }
}

fn cannot(what: &str, path: &Path, why: io::Error) -> Error {
    Error::failed(format!("cannot {what} {}", shown(path))).because(why)
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::failed(format!("{} cannot be kept up to date", shown(path))).because(why)
}

/// A path for messages.
fn shown(path: &Path) -> String {
    redact(&path.to_string_lossy())
}

// Modes, owners and symbolic links are those of Unix; tests/it/windows.rs has their counterparts.
#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::Duration;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            fs::write(self.at(name), text).unwrap();
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
            self.at(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn put(path: &Path, text: &str) -> Result<Change> {
        let context = Context::of_process();
        let edit = |_: Option<&[u8]>| Ok(Some(text.as_bytes().to_vec()));
        Ok(TargetFile::open(path)?.change(&context, soon(), HookMark::None, &edit)?.0)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_file_is_private_and_an_equal_one_is_left_alone() {
        let folder = Folder::new();
        let path = folder.at("new");
        assert_eq!(put(&path, "one").unwrap(), Change::Written);
        assert_eq!(mode(&path), 0o600);
        let inode = path.metadata().unwrap().ino();
        assert_eq!(put(&path, "one").unwrap(), Change::Unchanged);
        assert_eq!(path.metadata().unwrap().ino(), inode);
        assert_eq!(folder.names(), ["new"]);
    }

    #[test]
    fn modes_are_kept_or_narrowed() {
        let folder = Folder::new();
        for (before, after) in [(0o600, 0o600), (0o400, 0o400), (0o644, 0o600), (0o777, 0o600)] {
            let path = folder.file("file", "old", before);
            assert_eq!(put(&path, "new").unwrap(), Change::Written);
            assert_eq!(mode(&path), after, "{before:o}");
            fs::remove_file(path).unwrap();
        }
        let path = folder.file("wide", "same", 0o640);
        assert_eq!(put(&path, "same").unwrap(), Change::Written, "libpq would ignore it");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn links_are_followed_and_kept() {
        let folder = Folder::new();
        fs::create_dir(folder.at("dotfiles")).unwrap();
        symlink("dotfiles/pgpass", folder.at("middle")).unwrap();
        symlink("middle", folder.at("link")).unwrap();
        for text in ["made where the link leads", "changed there"] {
            put(&folder.at("link"), text).unwrap();
            assert_eq!(fs::read_to_string(folder.at("dotfiles/pgpass")).unwrap(), text);
        }
        assert!(folder.at("link").is_symlink() && folder.at("middle").is_symlink());
        symlink("round", folder.at("round")).unwrap();
        assert!(put(&folder.at("round"), "x").is_err());
    }

    #[test]
    fn a_path_that_cannot_be_a_file_is_refused_at_once() {
        let folder = Folder::new();
        let fifo = folder.at("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        for (path, why) in [
            (fifo, "it is a FIFO"),
            (folder.0.path().to_owned(), "it is a folder"),
            (PathBuf::from("/dev/null"), "it is a device or a socket"),
            (folder.at("name/"), "its name ends like a folder's"),
            (PathBuf::from("/"), "it is a folder"),
        ] {
            let error = TargetFile::open(&path).err().unwrap();
            assert_eq!(error.because, [why], "{}", path.display());
        }
        let error = TargetFile::open(&folder.at("missing/file")).err().unwrap();
        assert_eq!(error.hints, [format!("mkdir -p {}", folder.at("missing").display())]);
    }

    #[test]
    fn only_temporary_files_of_killed_processes_are_removed() {
        let folder = Folder::new();
        folder.file(".lakebase-token.0123456789abcdef", "secret", 0o600);
        folder.file(".lakebase-token.notes", "mine", 0o644);
        folder.file("file.tmp", "mine", 0o644);
        put(&folder.at("file"), "x").unwrap();
        assert_eq!(folder.names(), [".lakebase-token.notes", "file", "file.tmp"]);
    }

    #[test]
    fn a_hook_is_pending_until_it_succeeds_after_the_last_change() {
        let folder = Folder::new();
        let context = Context::of_process();
        let target = TargetFile::open(&folder.at("file")).unwrap();
        let put = |text: &'static str| {
            target.change(&context, soon(), HookMark::Pending, &|_| Ok(Some(text.into()))).unwrap()
        };
        let (change, first) = put("one");
        assert_eq!(change, Change::Written);
        assert_eq!(put("one"), (Change::Unchanged, first.clone()), "the hook is still pending");
        let (_, second) = put("two");
        target.hook_succeeded(&context, soon(), &first.unwrap()).unwrap();
        assert_eq!(put("two"), (Change::Unchanged, second.clone()), "the second hook is pending");
        target.hook_succeeded(&context, soon(), &second.unwrap()).unwrap();
        assert_eq!(put("two"), (Change::Unchanged, None));
        assert_eq!(folder.names(), ["file"]);
    }

    #[test]
    fn a_locked_folder_is_waited_for_and_then_reported() {
        let folder = Folder::new();
        let target_folder = super::Folder::open(folder.0.path()).unwrap();
        let mut lock = LockFile::on_folder(&Context::of_process(), &target_folder).unwrap();
        let held = lock.try_lock().unwrap();
        let target = TargetFile::open(&folder.at("file")).unwrap();
        let soon = Deadline::after(Duration::from_millis(50));
        let error = target
            .change(&Context::of_process(), soon, HookMark::None, &|_| Ok(None))
            .err()
            .unwrap();
        assert!(error.message.ends_with("locked"), "{error}");
        drop(held);
        put(&folder.at("file"), "x").unwrap();
    }
}
