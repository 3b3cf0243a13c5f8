//! What the access control list of a file amounts to: metadata of files, with the mode that Unix would have for
//! the list. Windows' own calls are in `windows_calls.rs`.

use std::fs::File;
use std::io;
use std::path::Path;

use windows_sys::Win32::Foundation::{GENERIC_ALL, GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_ADD_FILE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_READONLY, FILE_DELETE_CHILD,
    FILE_READ_DATA, FILE_TYPE_DISK, FILE_TYPE_PIPE, WRITE_DAC, WRITE_OWNER,
};

use crate::platform::file_metadata::{FileKind, FileMetadata};
use crate::platform::windows_calls::{self as calls, AccessEntries, Trustee};

/// The owners that [`FileMetadata`] tells apart.
pub const SYSTEM: u32 = 0;
pub const THIS_USER: u32 = 1;
const ANOTHER_USER: u32 = 2;

/// The metadata of an open file or folder. The mode is derived from the access control list: all
/// rights for this user; for group and others, the rights of every trustee except this user, the owner and
/// the system.
pub fn metadata(file: &File, is_symlink: bool) -> io::Result<FileMetadata> {
    let file_type = calls::file_type(file);
    if file_type != FILE_TYPE_DISK {
        let is_pipe = file_type == FILE_TYPE_PIPE;
        return Ok(metadata_of_no_file(
            if is_pipe { FileKind::Fifo } else { FileKind::Other },
            0o600,
        ));
    }

    let (metadata, times) = calls::disk_metadata(file)?;
    let is_folder = metadata.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0;
    let is_read_only = !is_folder && metadata.dwFileAttributes & FILE_ATTRIBUTE_READONLY != 0;
    let own = match (is_folder, is_read_only) {
        (true, _) => 0o700,
        (_, true) => 0o400,
        (_, false) => 0o600,
    };
    let (owner, rights) = calls::owner_and_rights(file)?;
    let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    Ok(FileMetadata {
        kind: match (is_symlink, is_folder) {
            (true, _) => FileKind::Symlink,
            (_, true) => FileKind::Folder,
            (_, false) => FileKind::Regular,
        },
        owner: match owner {
            Trustee::Us => THIS_USER,
            Trustee::System => SYSTEM,
            Trustee::Owner | Trustee::Other => ANOTHER_USER,
        },
        group: 0,
        mode: own | bits_of(rights_of_others(rights), is_folder),
        size: both(metadata.nFileSizeHigh, metadata.nFileSizeLow),
        links: metadata.nNumberOfLinks.into(),
        inode: both(metadata.nFileIndexHigh, metadata.nFileIndexLow),
        change_stamp: (times.ChangeTime, times.LastWriteTime),
    })
}

fn metadata_of_no_file(kind: FileKind, mode: u32) -> FileMetadata {
    let (owner, change_stamp) = (THIS_USER, (0, 0));
    FileMetadata { kind, owner, group: 0, mode, size: 0, links: 1, inode: 0, change_stamp }
}

/// The metadata of a file or folder whose rights may not be read, as if it were another user's, open to all;
/// an error if it is a link.
pub fn metadata_without_rights(path: &Path) -> io::Result<FileMetadata> {
    let meta = path.symlink_metadata()?;
    let kind = if meta.is_dir() { FileKind::Folder } else { FileKind::Regular };
    if meta.file_type().is_symlink() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(FileMetadata { owner: ANOTHER_USER, ..metadata_of_no_file(kind, 0o777) })
}

fn rights_of_others(rights: Option<AccessEntries>) -> u32 {
    let Some(rights) = rights else { return GENERIC_ALL };
    let of_others = rights.iter().filter(|(who, _)| *who == Trustee::Other);
    of_others.fold(0, |all, (_, mask)| all | mask)
}

/// The rights that matter, as bits of a mode: to read, and to change or replace. FILE_APPEND_DATA (for a
/// folder: FILE_ADD_SUBDIRECTORY) is ignored, since every user has it in `C:\`. FILE_ADD_FILE alone lets a
/// user add files to a folder and replace none, so the mode also gets the sticky bit.
fn bits_of(mask: u32, is_folder: bool) -> u32 {
    const READ: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL;
    const REPLACE: u32 =
        FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;
    let read = if mask & READ != 0 { 0o044 } else { 0 };
    // FILE_ADD_FILE has the value of FILE_WRITE_DATA.
    let change = match (mask & REPLACE != 0, mask & FILE_ADD_FILE != 0) {
        (true, _) => 0o022,
        (false, true) if is_folder => 0o1022,
        (false, true) => 0o022,
        (false, false) => 0,
    };
    read | change
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_others_become_the_bits_of_a_mode() {
        let bits =
            |who, mask, is_folder| bits_of(rights_of_others(Some(vec![(who, mask)])), is_folder);
        assert_eq!(bits(Trustee::Other, FILE_READ_DATA, false), 0o044);
        assert_eq!(bits(Trustee::Other, FILE_ADD_FILE, false), 0o022, "FILE_WRITE_DATA");
        assert_eq!(bits(Trustee::Other, FILE_ADD_FILE, true), 0o1022, "adds and replaces none");
        assert_eq!(bits(Trustee::Other, FILE_ADD_FILE | FILE_DELETE_CHILD, true), 0o022);
        assert_eq!(bits(Trustee::Other, WRITE_DAC, false), 0o022);
        for who in [Trustee::Us, Trustee::System, Trustee::Owner] {
            assert_eq!(bits(who, GENERIC_ALL, false), 0);
        }
        assert_eq!(bits_of(rights_of_others(None), false), 0o066, "no list");
    }
}
