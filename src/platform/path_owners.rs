//! Which other users can decide what a path leads to: the owners and modes of the folders and
//! symbolic links on it.
//!
//! A symbolic link of another user could lead a secret to a place of that user's choice; a folder
//! that another user can change could hold another program tomorrow. Folders that merely belong to
//! another user are no links: a container's bind mounts are such folders.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::platform::file_metadata::{FileKind, FileMetadata};
use crate::platform::system::{self, Folder, PathPart};

/// As many symbolic links as Linux follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Groups below this number are the distribution's own, whose members administer the machine
/// (Debian Policy §9.2.2: ids 0 to 99 are allocated statically). So Debian's `/usr/local` may be
/// writable for `staff`, and Homebrew's folders for `admin`.
const FIRST_USER_GID: u32 = 100;

/// Why nothing is stored in a folder that [`is_root_in_other_users_folder`].
pub const NOT_ROOTS_HOME: &str = "root does not write into another user's home";

/// The end of a path, behind all symbolic links.
pub struct PathEnd {
    folder: PathPart,
    /// The name in the folder.
    pub name: OsString,
    /// What has that name, if there is anything.
    part: Option<PathPart>,
    /// The path without symbolic links.
    pub path: PathBuf,
    /// Whether the last part of the given path is a symbolic link.
    pub is_link: bool,
}

impl PathEnd {
    /// Follows a path, but no symbolic link of another user than us and root.
    pub fn of(path: &Path) -> io::Result<PathEnd> {
        let root = root_owner();
        let is_foreign = |metadata: &FileMetadata| {
            metadata.kind == FileKind::Symlink && !is_trusted(metadata.owner, root)
        };
        walk(path, is_foreign).map_err(|stop| match stop {
            Stop::Refused(link) => {
                let link = link.display();
                io::Error::other(format!("the path has another user's symbolic link: {link}"))
            }
            Stop::Failed(e) => e,
        })
    }

    pub fn folder(&self) -> io::Result<Folder> {
        self.folder.folder()
    }
}

/// Opens a folder, following no symbolic link of another user.
pub fn open_folder(path: &Path) -> io::Result<Folder> {
    match PathEnd::of(path)?.part {
        Some(part) => part.folder(),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Opens a folder, making it and those that lead to it if they are missing, so that only we can enter
/// them.
pub fn open_or_create_folder(path: &Path) -> io::Result<Folder> {
    match open_folder(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => (),
        opened => return opened,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    open_or_create_folder(parent)?.create_private_folder(name)?;
    open_folder(path)
}

/// The first part of this path that another user than us and root can replace.
pub fn replaceable_part(path: &Path) -> Option<PathBuf> {
    let root = root_owner();
    let path = &std::path::absolute(path).unwrap_or(path.to_owned());
    let is_replaceable = |metadata: &FileMetadata| {
        // Every symbolic link has all rights: who can replace it is the folder's business.
        let is_writable = metadata.kind != FileKind::Symlink
            && !adds_only(metadata)
            && (metadata.mode & 0o002 != 0
                || metadata.mode & 0o020 != 0 && !is_trusted_group(metadata.group));
        is_writable || !is_trusted(metadata.owner, root)
    };
    let start = system::root_of(path);
    if system::symlink_metadata(&start).is_ok_and(|metadata| is_replaceable(&metadata)) {
        return Some(start);
    }
    let folder = path.parent().filter(|_| cfg!(windows));
    let takes_files = |folder: &&Path| {
        system::metadata_behind_links(folder).is_ok_and(|metadata| metadata.mode & 0o022 != 0)
    };
    first_part(path, is_replaceable).or_else(|| folder.filter(takes_files).map(Path::to_owned))
}

/// Whether others can put files into a folder and replace none, as in `C:\ProgramData`. A program's own
/// folder must not be such: a library there would become a part of the program.
fn adds_only(metadata: &FileMetadata) -> bool {
    cfg!(windows) && metadata.kind == FileKind::Folder && metadata.mode & 0o1000 != 0
}

/// Whether this process is root and the folder is, or would be created, in another user's folder.
pub fn is_root_in_other_users_folder(folder: &Path) -> bool {
    let existing = || folder.ancestors().find_map(|part| system::metadata_behind_links(part).ok());
    let owner = || existing().map(|metadata| metadata.owner);
    system::is_root() && owner().is_some_and(|owner| owner != 0 && owner != root_owner())
}

/// In a user namespace, root's files have another owner: that of `/`. Windows has no such thing.
fn root_owner() -> u32 {
    if cfg!(windows) {
        return 0;
    }
    system::symlink_metadata(Path::new("/")).map_or(0, |metadata| metadata.owner)
}

fn is_trusted(owner: u32, root: u32) -> bool {
    owner == 0 || owner == root || owner == system::user_id()
}

fn is_trusted_group(group: u32) -> bool {
    group < FIRST_USER_GID || group == system::group_id()
}

/// The first existing part of this path, links followed, that `is_meant` accepts.
fn first_part(path: &Path, is_meant: impl Fn(&FileMetadata) -> bool) -> Option<PathBuf> {
    match walk(path, is_meant) {
        Err(Stop::Refused(part)) => Some(part),
        _ => None,
    }
}

/// Why a walk has ended early.
enum Stop {
    Refused(PathBuf),
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Follows a path to its end, which may be missing, until a part is refused.
fn walk(
    path: &Path,
    is_refused: impl Fn(&FileMetadata) -> bool,
) -> std::result::Result<PathEnd, Stop> {
    let mut walk = Walk::begin(path)?;
    while let Some(name) = walk.left.pop_front() {
        if name == ".." {
            walk.go_up();
            continue;
        }
        let part = walk.part(&name)?;
        let metadata = part.as_ref().map(PathPart::metadata).transpose()?;
        if metadata.as_ref().is_some_and(&is_refused) {
            return Err(Stop::Refused(walk.path.join(&name)));
        }

        match part {
            Some(link) if metadata.is_some_and(|metadata| metadata.kind == FileKind::Symlink) => {
                walk.follow(&link)?;
            }
            part if walk.left.is_empty() => return Ok(walk.end(name, part)?),
            Some(part) => walk.go_down(name, part),
            None => break,
        }
    }
    Ok(walk.end_without_name()?)
}

/// How far a path has been followed.
struct Walk {
    /// The parts that are left.
    left: VecDeque<OsString>,
    /// The folders that lead to where we are, and their path without symbolic links.
    folders: Vec<PathPart>,
    path: PathBuf,
    links: usize,
    /// Whether the last part of the given path is a symbolic link.
    is_link: bool,
}

impl Walk {
    fn begin(path: &Path) -> io::Result<Walk> {
        let path = std::path::absolute(path)?;
        Ok(Walk {
            left: parts(&path),
            folders: vec![PathPart::root(&path)?],
            path: system::root_of(&path),
            links: 0,
            is_link: false,
        })
    }

    /// What has this name here. Only the last part may be missing.
    fn part(&self, name: &OsStr) -> io::Result<Option<PathPart>> {
        let here = self.folders.last().ok_or(io::ErrorKind::NotFound)?;
        match here.part(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.left.is_empty() => Ok(None),
            part => part.map(Some),
        }
    }

    fn go_up(&mut self) {
        if self.folders.len() > 1 {
            self.folders.pop();
        }
        self.path.pop();
    }

    fn go_down(&mut self, name: OsString, folder: PathPart) {
        self.folders.push(folder);
        self.path.push(name);
    }

    fn follow(&mut self, link: &PathPart) -> io::Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        self.is_link |= self.left.is_empty();

        let mut target = link.link_target()?;
        if target.has_root() {
            // On Windows, it may begin on the same drive.
            target = self.path.join(target);
            self.folders = vec![PathPart::root(&target)?];
            self.path = system::root_of(&target);
        }
        parts(&target).into_iter().rev().for_each(|part| self.left.push_front(part));
        Ok(())
    }

    fn end(mut self, name: OsString, part: Option<PathPart>) -> io::Result<PathEnd> {
        let folder = self.folders.pop().ok_or(io::ErrorKind::NotFound)?;
        let path = self.path.join(&name);
        Ok(PathEnd { folder, name, part, path, is_link: self.is_link })
    }

    /// The path, or the last link on it, ends in `..` or `/`.
    fn end_without_name(mut self) -> io::Result<PathEnd> {
        let part = self.folders.pop();
        let folder = PathPart::root(&self.path)?;
        Ok(PathEnd { folder, name: OsString::new(), part, path: self.path, is_link: self.is_link })
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

// Modes, owners and symbolic links are those of Unix; tests/it/windows.rs has their counterparts.
#[cfg(all(test, unix))]
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
            first_part(&file, |metadata| {
                metadata.inode == system::symlink_metadata(&folder).unwrap().inode
                    && (metadata.mode & 0o002 != 0)
            })
        };
        assert_eq!(part(0o755), None);
        assert_eq!(part(0o1777), Some(folder.clone()));
    }

    #[test]
    fn a_link_of_another_user_is_found_anywhere_on_the_path() {
        if !system::is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink("real", at("ours")).unwrap();
        symlink("real", at("theirs")).unwrap();
        symlink(at("theirs"), at("chain")).unwrap();
        lchown(at("theirs"), Some(OTHER), Some(OTHER)).unwrap();

        let end =
            |name: &str| PathEnd::of(&at(name)).map(|end| end.path).map_err(|e| e.to_string());
        let refused = || {
            Err(format!("the path has another user's symbolic link: {}", at("theirs").display()))
        };
        assert_eq!(end("ours/x"), Ok(at("real/x")));
        assert_eq!(end("real/x"), Ok(at("real/x")));
        assert_eq!(end("theirs/x"), refused());
        assert_eq!(end("theirs"), refused());
        assert_eq!(end("chain/x/y"), refused());
        assert_eq!(end("real/../theirs/x"), refused());

        // A loop leads nowhere, and a folder of another user is no link.
        symlink("loop", at("loop")).unwrap();
        lchown(at("real"), Some(OTHER), Some(OTHER)).unwrap();
        assert!(end("loop/x").is_err());
        assert_eq!(end("real/x"), Ok(at("real/x")));
        assert!(open_folder(&at("real/..")).is_ok() && open_folder(&at("nothing")).is_err());
        assert!(is_root_in_other_users_folder(&at("real/new/er")));
        assert!(!is_root_in_other_users_folder(&at("new")));
    }
}
