//! A file's kind, owner and rights, as every platform has them in its own way.
//!
//! The numbers are those of Unix. On Windows `windows.rs` says what the access control list of a file
//! amounts to: owner 1 is this user, owner 0 the system and its administrators.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::platform::system;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Folder,
    Symlink,
    Fifo,
    Other,
}

/// A file's metadata. Size, inode and time of change together tell whether another program has
/// written to it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    pub kind: FileKind,
    pub owner: u32,
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    pub size: u64,
    /// How many names the file has.
    pub links: u64,
    pub inode: u64,
    pub changed: (i64, i64),
}

impl FileFacts {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<FileFacts> {
        system::facts_of(file)
    }

    /// Of the file itself; a symbolic link is not followed.
    pub fn at(path: &Path) -> io::Result<FileFacts> {
        system::facts_at(path)
    }

    /// Of what a path leads to, behind all symbolic links.
    pub fn behind(path: &Path) -> io::Result<FileFacts> {
        system::facts_behind(path)
    }
}
