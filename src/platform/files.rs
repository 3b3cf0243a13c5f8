//! Plain files and folders: reading with a limit, listing, removing. Files that hold secrets are in
//! `private_file.rs`, files of the user that this program changes in `target_file.rs`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::platform::file_metadata::FileMetadata;
use crate::platform::steps::{Step, try_step};
use crate::platform::system;
use crate::platform::time::Timestamp;

/// Reads a regular file of at most this many bytes. A folder, a device or a larger file is an error.
pub fn read_limited(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let meta = path.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if meta.len() > max_bytes {
        return Err(io::Error::other(format!("it has more than {} MiB", max_bytes >> 20)));
    }
    let mut content = Vec::with_capacity(meta.len() as usize + 1);
    File::open(path)?.take(max_bytes).read_to_end(&mut content)?;
    Ok(content)
}

/// Reads the beginning of a file, a pipe or, for `-`, of stdin, as a text.
pub fn read_start(path: &str, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    match path {
        "-" => std::io::stdin().lock().take(max_bytes).read_to_string(&mut text)?,
        path => File::open(path)?.take(max_bytes).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// Reads a text; an unreadable file is an empty one.
pub fn read_or_empty(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The files of a folder; none if it cannot be read.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// When a file was last modified.
pub fn modified(path: &Path) -> Option<Timestamp> {
    let time = path.symlink_metadata().ok()?.modified().ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp(since.as_millis().try_into().ok()?))
}

/// Whether this is, perhaps behind symbolic links, a file that may be run.
pub fn is_executable(path: &Path) -> bool {
    system::is_executable(path)
}

/// A text that is another one after each change of a file.
pub fn change_stamp(path: &Path) -> String {
    match system::symlink_metadata(path) {
        Ok(FileMetadata { inode, size, change_stamp: (seconds, nanos), .. }) => {
            format!("{inode}:{size}:{seconds}.{nanos}")
        }
        Err(_) => "none".to_owned(),
    }
}

/// Whether group or others may read or write this file. libpq ignores such a password file.
pub fn is_open_to_others(path: &Path) -> bool {
    system::metadata_behind_links(path).is_ok_and(|metadata| metadata.mode & 0o077 != 0)
}

pub fn create_folders(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Whether this is a path, and not a name that is looked up on PATH.
pub fn has_separator(program: &OsStr) -> bool {
    program.as_encoded_bytes().iter().any(|byte| std::path::is_separator(char::from(*byte)))
}

/// Removes a file, or the symbolic link in its place.
pub fn remove(path: &Path) -> io::Result<()> {
    try_step(Step::Remove)?;
    system::remove_file(path)
}

/// Removes a folder if it is empty.
pub fn remove_empty_folder(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)
}

/// The path without symbolic links and `..`.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}
