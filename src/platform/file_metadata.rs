//! A file's kind, owner and rights, as every platform has them in its own way.
//!
//! The numbers are those of Unix. On Windows `windows.rs` says what the access control list of a file
//! amounts to: owner 1 is this user, owner 0 the system and its administrators; the sticky bit of a folder
//! means that others can add files and replace none.

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
pub struct FileMetadata {
    pub kind: FileKind,
    pub owner: u32,
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    pub size: u64,
    /// How many names the file has.
    pub links: u64,
    pub inode: u64,
    /// Differs after each change; compare only for equality.
    pub change_stamp: (i64, i64),
}
