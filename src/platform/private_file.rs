//! Private files: checking, reading and replacing them.
//!
//! A private file belongs to us, no other user may read it, and it is never a symbolic link, a FIFO
//! or a folder. It is replaced whole: a new file is created with mode 0600 and O_EXCL under a
//! random name and renamed over the old one, so that a reader, or the next process after a kill,
//! sees the old content or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::platform::file_metadata::{FileKind, FileMetadata};
use crate::platform::path_owners::open_or_create_folder;
use crate::platform::steps::{Step, try_step};
use crate::platform::system;
use crate::platform::time::Timestamp;

pub use crate::platform::system::Folder;

/// The result of reading a private file.
pub enum PrivateRead {
    Nothing,
    /// Reading failed, perhaps only this time.
    Unreadable(io::Error),
    /// A file that is not trusted, with the reason.
    Unsafe(&'static str),
    Content(Vec<u8>),
}

pub const NOT_REGULAR: &str = "it is not a regular file";
pub const OF_ANOTHER_USER: &str = "it belongs to another user";

/// Why a file is not a private one of ours.
fn refusal(metadata: &FileMetadata) -> Option<&'static str> {
    if metadata.kind != FileKind::Regular {
        Some(NOT_REGULAR)
    } else if metadata.owner != system::user_id() {
        Some(OF_ANOTHER_USER)
    } else if metadata.mode & 0o077 != 0 {
        Some("others may read it")
    } else {
        None
    }
}

/// Reads a private file of at most this many bytes.
pub fn read_private(path: &Path, max_bytes: usize) -> PrivateRead {
    content_of(try_step(Step::Read).and_then(|()| system::open_file(path)), max_bytes)
}

/// The same for a file in an open folder.
pub fn read_private_in(folder: &Folder, name: &OsStr, max_bytes: usize) -> PrivateRead {
    match try_step(Step::Read).and_then(|()| folder.open_file(name)) {
        Ok(None) => PrivateRead::Nothing,
        Ok(Some(file)) => content_of(Ok(file), max_bytes),
        Err(e) => content_of(Err(e), max_bytes),
    }
}

fn content_of(file: io::Result<File>, max_bytes: usize) -> PrivateRead {
    let file = match file {
        Ok(file) => file,
        Err(e) if system::is_symlink_error(&e) => {
            return PrivateRead::Unsafe("it is a symbolic link");
        }
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => return PrivateRead::Nothing,
        Err(e) => return PrivateRead::Unreadable(e),
    };
    let metadata = match system::metadata_of(&file) {
        Ok(metadata) => metadata,
        Err(e) => return PrivateRead::Unreadable(e),
    };
    if let Some(reason) = refusal(&metadata) {
        return PrivateRead::Unsafe(reason);
    }
    let size = metadata.size as usize;
    if size > max_bytes {
        return PrivateRead::Unsafe("it is too large");
    }

    // Exactly its size: private files are replaced and never appended to, so it cannot have grown.
    let mut content = vec![0; size];
    match (&file).read_exact(&mut content) {
        Ok(()) => PrivateRead::Content(content),
        Err(e) => PrivateRead::Unreadable(e),
    }
}

pub const OTHERS_MAY_WRITE: &str = "others may write into it";

/// Creates a folder and its parents so that only this user can enter them, or checks an existing
/// one: it must belong to this user, and no other user may write into it.
pub fn private_folder(path: &Path) -> io::Result<Folder> {
    let folder = open_or_create_folder(path)?;
    let metadata = folder.metadata()?;
    if metadata.owner != system::user_id() {
        return Err(io::Error::other(OF_ANOTHER_USER));
    }
    if metadata.mode & 0o022 != 0 {
        return Err(io::Error::other(OTHERS_MAY_WRITE));
    }
    Ok(folder)
}

/// How a file is replaced.
#[derive(Default)]
pub struct Replacement<'a> {
    /// The name of the new file until it is renamed.
    pub temporary: OsString,
    /// The time of modification, if it is not the present.
    pub modified: Option<Timestamp>,
    /// The old file, whose owner, group and narrower mode are kept.
    pub keep: Option<&'a FileMetadata>,
    /// Whether the content must survive a power failure.
    pub sync: bool,
    /// Called just before the rename; `false` cancels the replacement.
    pub still_right: Option<&'a dyn Fn() -> bool>,
}

/// The outcome of a replacement that has not failed.
pub enum Replaced {
    /// `still_right` cancelled it.
    Cancelled,
    Done,
    /// It is done, and a power failure may undo it, since its folder cannot be synced.
    Unsynced(io::Error),
}

/// Replaces a file by a new one with this content, completely or not at all.
pub fn replace(
    folder: &Folder,
    name: &OsStr,
    content: &[u8],
    how: &Replacement<'_>,
) -> io::Result<Replaced> {
    try_step(Step::Write)?;
    let replaced = write_new(folder, content, how).and_then(|()| {
        if how.still_right.is_some_and(|still_right| !still_right()) {
            folder.remove(&how.temporary)?;
            return Ok(Replaced::Cancelled);
        }
        try_step(Step::Rename)?;
        folder.rename(&how.temporary, name)?;
        // What has taken effect is no failure: some file systems cannot sync a folder (EINVAL).
        match if how.sync { folder.sync() } else { Ok(()) } {
            Ok(()) => Ok(Replaced::Done),
            Err(e) => Ok(Replaced::Unsynced(e)),
        }
    });
    if replaced.is_err() {
        let _ = folder.remove(&how.temporary);
    }
    replaced
}

fn write_new(folder: &Folder, content: &[u8], how: &Replacement<'_>) -> io::Result<()> {
    let mut file = folder.create_file(&how.temporary)?;
    // Some file systems (WSL's drvfs, FAT) have no modes: libpq would ignore the file, and others
    // could read it.
    if system::metadata_of(&file)?.mode & 0o077 != 0 {
        return Err(io::Error::other("this file system lets others read every file"));
    }
    file.write_all(content)?;
    if let Some(modified) = how.modified {
        set_modified(&file, modified);
    }
    if let Some(old) = how.keep {
        keep_owner(&file, old)?;
    }
    if how.sync {
        // The mode is always set: the umask may have removed too much.
        let read_only = how.keep.is_some_and(|old| old.mode & 0o200 == 0);
        let mode = if read_only { 0o400 } else { 0o600 };
        let set = system::set_mode(&file, mode);
        // If this user may not set modes (EPERM), a file that already has the right mode is accepted.
        if system::metadata_of(&file)?.mode & 0o777 != mode {
            set?;
        }
        file.sync_all()?;
    }
    Ok(())
}

/// An error is ignored: the time only helps to find old entries, and some file systems store none.
fn set_modified(file: &File, modified: Timestamp) {
    let since = Duration::from_millis(modified.0.max(0) as u64);
    if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(since) {
        let _ = file.set_modified(time);
    }
}

fn keep_owner(file: &File, old: &FileMetadata) -> io::Result<()> {
    let new = system::metadata_of(file)?;
    if new.owner != old.owner {
        return system::set_owner(file, Some(old.owner), old.group);
    }
    if new.group != old.group {
        // May fail without harm: the group has no right to read the file.
        let _ = system::set_owner(file, None, old.group);
    }
    Ok(())
}

// Modes, owners and symbolic links are those of Unix; tests/it/windows.rs has their counterparts.
#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    const THEN: Timestamp = Timestamp(1_800_000_000_000);

    fn put(folder: &Path, name: &str, content: &[u8]) -> io::Result<Replaced> {
        let how = Replacement {
            temporary: ".temporary".into(),
            modified: Some(THEN),
            ..Replacement::default()
        };
        replace(&Folder::open(folder)?, OsStr::new(name), content, &how)
    }

    fn set_mode(path: &Path, mode: u32) {
        system::set_mode(&File::open(path).unwrap(), mode).unwrap();
    }

    fn reason(path: &Path) -> &'static str {
        match read_private(path, 100) {
            PrivateRead::Unsafe(reason) => reason,
            PrivateRead::Nothing => "nothing",
            PrivateRead::Unreadable(_) => "unreadable",
            PrivateRead::Content(_) => "content",
        }
    }

    #[test]
    fn a_replaced_file_is_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private_folder(&folder).unwrap();
        assert_eq!(system::symlink_metadata(&folder).unwrap().mode, 0o700);

        for content in [&b"one"[..], b"two"] {
            put(&folder, "entry", content).unwrap();
            let PrivateRead::Content(read) = read_private(&folder.join("entry"), 100) else {
                panic!()
            };
            assert_eq!(read, content);
        }

        let entry = folder.join("entry");
        assert_eq!(system::symlink_metadata(&entry).unwrap().mode, 0o600);
        assert_eq!(crate::platform::files::modified(&entry), Some(THEN));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_planted_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".temporary")).unwrap();

        assert!(put(dir.path(), "entry", b"new").is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_is_not_private_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);

        fs::write(at("wide"), "x").unwrap();
        set_mode(&at("wide"), 0o640);
        assert_eq!(reason(&at("wide")), "others may read it");

        put(dir.path(), "large", &[0; 101]).unwrap();
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
        set_mode(&wide, 0o777);
        assert!(private_folder(&wide).is_err());
    }
}
