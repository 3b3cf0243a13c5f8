//! Which other users can decide what a path leads to: the owners and modes of the folders and
//! symbolic links on it.
//!
//! A symbolic link of another user could lead a secret to a place of that user's choice; a folder
//! that another user can change could hold another program tomorrow. Folders that merely belong to
//! another user are no links: a container's bind mounts are such folders.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::platform::files;
use crate::platform::unix::{self, FileFacts, FileKind};

/// As many symbolic links as Linux follows (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

/// Groups below this number are the distribution's own, whose members administer the machine
/// (Debian Policy §9.2.2: ids 0 to 99 are allocated statically). So Debian's `/usr/local` may be
/// writable for `staff`, and Homebrew's folders for `admin`.
const FIRST_OTHER_GROUP: u32 = 100;

/// The first symbolic link on this path that belongs to another user than us and root.
pub fn foreign_link(path: &Path) -> Option<PathBuf> {
    let root = root_owner();
    first_part(path, |facts| facts.kind == FileKind::Symlink && !is_trusted(facts.owner, root))
}

/// The first part of this path that another user than us and root can replace.
pub fn replaceable_part(path: &Path) -> Option<PathBuf> {
    let root = root_owner();
    first_part(path, |facts| {
        // Every symbolic link has all rights: who can replace it is the folder's business.
        let is_writable = facts.kind != FileKind::Symlink
            && (facts.mode & 0o002 != 0
                || facts.mode & 0o020 != 0 && !is_trusted_group(facts.group));
        is_writable || !is_trusted(facts.owner, root)
    })
}

/// The user whose folder this is or would be made in, if we are root and it is another user's.
pub fn other_owner(folder: &Path) -> Option<u32> {
    if !unix::is_root() {
        return None;
    }
    let existing = folder.ancestors().find_map(|part| part.metadata().ok())?;
    let owner = FileFacts::of(&existing).owner;
    (owner != 0 && owner != root_owner()).then_some(owner)
}

/// In a user namespace, root's files have another owner: that of `/`.
fn root_owner() -> u32 {
    FileFacts::at(Path::new("/")).map_or(0, |facts| facts.owner)
}

fn is_trusted(owner: u32, root: u32) -> bool {
    owner == 0 || owner == root || owner == unix::user_id()
}

fn is_trusted_group(group: u32) -> bool {
    group < FIRST_OTHER_GROUP || group == unix::group_id()
}

/// The first existing part of this path, links followed, that `is_meant` accepts.
fn first_part(path: &Path, is_meant: impl Fn(&FileFacts) -> bool) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let mut left: VecDeque<OsString> = parts(&path);
    let mut here = PathBuf::from("/");
    let mut links = 0;

    while let Some(part) = left.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let facts = FileFacts::at(&next).ok()?;
        if is_meant(&facts) {
            return Some(next);
        }
        if facts.kind != FileKind::Symlink {
            here = next;
            continue;
        }

        links += 1;
        let target = read_link(&next, links).ok()?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    None
}

fn read_link(link: &Path, links: usize) -> io::Result<PathBuf> {
    if links > MAX_LINKS {
        return Err(io::Error::other("too many symbolic links"));
    }
    files::link_target(link)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    const OTHER: u32 = 4243;

    #[test]
    fn a_part_that_others_can_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let folder = dir.join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("program");
        fs::write(&file, "").unwrap();

        // The temporary folder itself, whose mode is 1777.
        let first = replaceable_part(&file).unwrap();
        assert!(dir.starts_with(&first) && first != dir, "{}", first.display());

        let part = |mode: u32| {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            first_part(&file, |facts| {
                facts.inode == FileFacts::at(&folder).unwrap().inode && (facts.mode & 0o002 != 0)
            })
        };
        assert_eq!(part(0o755), None);
        assert_eq!(part(0o1777), Some(folder.clone()));
    }

    #[test]
    fn a_link_of_another_user_is_found_anywhere_on_the_path() {
        if !unix::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink("real", at("ours")).unwrap();
        symlink("real", at("theirs")).unwrap();
        symlink(at("theirs"), at("chain")).unwrap();
        lchown(at("theirs"), Some(OTHER), Some(OTHER)).unwrap();

        assert_eq!(foreign_link(&at("ours/x")), None);
        assert_eq!(foreign_link(&at("real/x")), None);
        assert_eq!(foreign_link(&at("theirs/x")), Some(at("theirs")));
        assert_eq!(foreign_link(&at("chain/x/y")), Some(at("theirs")));
        assert_eq!(foreign_link(&at("real/../theirs/x")), Some(at("theirs")));

        // A loop leads nowhere, and a folder of another user is no link.
        symlink("loop", at("loop")).unwrap();
        lchown(at("real"), Some(OTHER), Some(OTHER)).unwrap();
        assert_eq!(foreign_link(&at("loop/x")), None);
        assert_eq!(foreign_link(&at("real/x")), None);
        assert_eq!(other_owner(&at("real/new/er")), Some(OTHER));
        assert_eq!(other_owner(&at("new")), None);
    }
}
