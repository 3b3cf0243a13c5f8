//! A file that other programs read: changed whole, under a lock on its folder.
//!
//! The file is one of the user's own (`~/.pgpass`, an environment file), so its owner, its mode
//! and a symbolic link that leads to it are kept, and it is never wider than 0600 for an instant.
//! A new one is written beside it under a random name (0600, O_EXCL), synced and renamed over it,
//! so that a reader, a crash or a kill sees the old file or the new one. Whoever changes a file
//! holds an flock on the folder: everyone who shares the folder sees that, and a temporary file
//! found under the lock is what a killed run left. What the file says is the caller's business.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, Result, clean};
use crate::file::{Found, Lock, hex, read_private, while_held};
use crate::time::Deadline;
use crate::world::World;

/// Ten thousand lines with a token each have twenty million bytes; nobody has more by intention.
const MOST: u64 = 64 * 1024 * 1024;

/// How a temporary file's name begins; sixteen digits follow.
const TEMPORARY: &str = ".lakebase-token.";

/// Where such a file is, or will be.
pub struct Place {
    /// The file itself, behind all links.
    path: PathBuf,
    name: OsString,
    folder: File,
}

/// What a change makes of a file's content; `None` is no file.
pub type Edit<'e> = dyn Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>> + 'e;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It already said so.
    Unchanged,
    /// It was replaced, or made.
    Written,
    /// It is gone.
    Removed,
}

/// Who is to be told of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nobody.
    Nobody,
    /// Somebody, until he has heard.
    Somebody,
    /// Nobody any more: something is taken out.
    NoMore,
}

/// The mark that somebody still has to be told of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed(Vec<u8>);

/// What is there, as far as it was looked at.
struct Old {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    stamp: Stamp,
}

/// What changes when somebody writes into a file or replaces it: inode, size, time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(meta: &fs::Metadata) -> Stamp {
        Stamp(meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec())
    }
}

impl Place {
    /// Finds the file, and refuses at once what cannot be one. The file may be missing, its
    /// folder may not.
    pub fn open(path: &Path) -> Result<Place> {
        let absolute = std::path::absolute(path).map_err(|e| cannot("find", path, e))?;
        let (target, linkers) = behind_links(absolute)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(unfit(&target, "it is a folder"));
        };
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(unfit(&target, "its name ends like a folder's"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent, flags, Mode::empty()).map_err(|e| {
            let error = cannot("open the folder of", &target, e.into());
            let missing = e == Errno::NOENT;
            if missing { error.hint(format!("mkdir -p {}", shown(parent))) } else { error }
        })?;
        let (name, folder) = (name.to_owned(), File::from(folder));
        let place = Place { path: target, name, folder };
        place.check(&linkers)?;
        Ok(place)
    }

    /// Refuses a folder that no file can be put into.
    pub fn check_folder(&self) -> Result<()> {
        rustix::fs::accessat(&self.folder, ".", Access::WRITE_OK, AtFlags::empty())
            .map_err(|e| cannot("write into the folder of", &self.path, e.into()))
    }

    /// The file's path, behind all links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's content; nothing where there is no file.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.look()?.map(|old| old.content))
    }

    /// Puts in the file's place what `edit` makes of it; `None` removes it. Where somebody is to be
    /// told, a mark is left before anything changes, so that it is not forgotten whenever the run
    /// ends; it comes back until [`Place::settle`] has taken it.
    pub fn change(
        &self,
        world: &World,
        deadline: Deadline,
        telling: Telling,
        edit: &Edit<'_>,
    ) -> Result<(Change, Option<Owed>)> {
        self.locked(world, deadline, || {
            self.sweep()?;
            // Somebody who appends a line while we write does not do so all the time.
            for _ in 0..100 {
                if let Some(done) = self.try_change(world, telling, edit)? {
                    return Ok(done);
                }
            }
            Err(unfit(&self.path, "somebody else keeps writing into it"))
        })
    }

    /// One try; nothing where somebody else has changed the file meanwhile.
    fn try_change(
        &self,
        world: &World,
        telling: Telling,
        edit: &Edit<'_>,
    ) -> Result<Option<(Change, Option<Owed>)>> {
        let old = self.look()?;
        let new = edit(old.as_ref().map(|old| old.content.as_slice()))?;
        let change = match (&old, &new) {
            (None, None) => Change::Unchanged,
            // What stays although ours is taken out is not ours to narrow.
            (Some(old), Some(new))
                if old.content == *new && (old.mode & 0o177 == 0 || telling == Telling::NoMore) =>
            {
                Change::Unchanged
            }
            (Some(_), None) => Change::Removed,
            (_, Some(_)) => Change::Written,
        };
        let (before, owing) = (self.owed(), telling == Telling::Somebody);
        if change != Change::Unchanged && owing {
            let nonce = hex(&world.random::<8>()?).into_bytes();
            self.replace(world, &self.mark(), &nonce, None, || true)?;
        }
        let same = || self.is_as_it_was(old.as_ref());
        let done = match (change, &new) {
            (Change::Written, Some(new)) => {
                self.replace(world, &self.name, new, old.as_ref(), same)
            }
            (Change::Removed, _) if same() => self.remove().map(|()| true),
            (Change::Removed, _) => Ok(false),
            _ => Ok(true),
        };
        let changed = matches!(done, Ok(true));
        if telling == Telling::NoMore && changed || owing && !changed && before.is_none() {
            let _ = rustix::fs::unlinkat(&self.folder, self.mark(), AtFlags::empty());
        }
        Ok(done?.then(|| (change, self.owed().filter(|_| owing))))
    }

    /// The mark, if there is one and it is ours.
    fn owed(&self) -> Option<Owed> {
        match read_private(&self.path.with_file_name(self.mark()), 100) {
            Found::Content(nonce) => Some(Owed(nonce)),
            _ => None,
        }
    }

    /// Leaves a mark although nothing changes: somebody is to be told of what is there.
    pub fn owe(&self, world: &World, deadline: Deadline) -> Result<Option<Owed>> {
        self.locked(world, deadline, || {
            let nonce = hex(&world.random::<8>()?).into_bytes();
            self.replace(world, &self.mark(), &nonce, None, || true)?;
            Ok(self.owed())
        })
    }

    /// Takes a mark away, unless the file has changed again since.
    pub fn settle(&self, world: &World, deadline: Deadline, owed: &Owed) -> Result<()> {
        self.locked(world, deadline, || {
            if self.owed().as_ref() == Some(owed) {
                let mark = self.path.with_file_name(self.mark());
                fs::remove_file(&mark).map_err(|e| cannot("remove", &mark, e))?;
            }
            Ok(())
        })
    }

    /// The name of the mark.
    fn mark(&self) -> OsString {
        let mut name = OsString::from(".lakebase-token.owed.");
        name.push(&self.name);
        name
    }

    /// Does something while nobody else changes a file in this folder.
    fn locked<T>(
        &self,
        world: &World,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let cannot = |e: io::Error| {
            cannot("lock the folder of", &self.path, e)
                .hint("a place on a local disk: --pgpass-file, PGPASSFILE")
        };
        let mut lock = Lock::new(self.folder.try_clone().map_err(cannot)?);
        while_held(&mut lock, world, deadline, work).map_err(cannot)?.unwrap_or_else(|| {
            let path = shown(&self.path);
            Err(Error::unavailable(format!("somebody else keeps {path} locked"))
                .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT"))
        })
    }

    /// What stands in the way is told before anything is minted for it.
    fn check(&self, linkers: &[u32]) -> Result<()> {
        let us = geteuid();
        // Whoever makes links must not decide which of our files is replaced, or where one is made.
        if linkers.iter().any(|uid| *uid != us.as_raw() && *uid != 0) {
            return Err(unfit(
                &self.path,
                "a symbolic link that another user has made leads to it",
            ));
        }
        let found = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match found {
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(cannot("look at", &self.path, e.into())),
            Ok(stat) => stat,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_uid == us.as_raw() => Ok(()),
            // Root may keep somebody's file for him, but not by way of a link, nor where anybody else
            // could have put it.
            FileType::RegularFile
                if us.is_root() && linkers.is_empty() && self.is_of(stat.st_uid)? =>
            {
                Ok(())
            }
            FileType::RegularFile => Err(unfit(&self.path, "it belongs to another user")),
            FileType::Directory => Err(unfit(&self.path, "it is a folder")),
            FileType::Fifo => Err(unfit(&self.path, "it is a FIFO")),
            FileType::Symlink => Err(unfit(&self.path, "it became a symbolic link just now")),
            _ => Err(unfit(&self.path, "it is a device or a socket")),
        }
    }

    /// Whether this user and root are the only ones who can put files into the folder.
    fn is_of(&self, user: u32) -> Result<bool> {
        let folder = rustix::fs::fstat(&self.folder);
        let folder = folder.map_err(|e| cannot("look at the folder of", &self.path, e.into()))?;
        Ok(folder.st_mode & 0o022 == 0 && (folder.st_uid == user || folder.st_uid == 0))
    }

    fn look(&self) -> Result<Option<Old>> {
        // Checked before it is opened, since opening a device may do something; O_NONBLOCK in
        // case it becomes a FIFO in between.
        self.check(&[])?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(cannot("read", &self.path, e.into())),
        };
        let meta = file.metadata().map_err(|e| cannot("read", &self.path, e))?;
        if !meta.is_file() {
            return Err(unfit(&self.path, "it is not a regular file"));
        }
        if meta.len() > MOST {
            return Err(unfit(&self.path, "it has more than 64 MiB"));
        }
        let mut content = Vec::with_capacity(meta.len() as usize + 1);
        let read = file.take(MOST).read_to_end(&mut content);
        read.map_err(|e| cannot("read", &self.path, e))?;
        let owner = (meta.uid(), meta.gid());
        let stamp = Stamp::of(&meta);
        Ok(Some(Old { content, mode: meta.mode() & 0o7777, owner, stamp }))
    }

    /// Whether the file is as it was when it was read: an editor knows nothing of our lock.
    fn is_as_it_was(&self, old: Option<&Old>) -> bool {
        let now = self.path.symlink_metadata().ok();
        now.map(|meta| Stamp::of(&meta)) == old.map(|old| old.stamp)
    }

    /// Writes beside, then renames over, if that is still right. The old one's owner and narrow
    /// mode are kept.
    fn replace(
        &self,
        world: &World,
        name: &OsString,
        content: &[u8],
        old: Option<&Old>,
        still: impl Fn() -> bool,
    ) -> Result<bool> {
        // A poisoned one is as good: it guards nothing but the time.
        let _writing = world.busy.writing.lock();
        let temporary = format!("{TEMPORARY}{}", hex(&world.random::<8>()?));
        let discard = || rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
        let written = self.write_new(&temporary, content, old).and_then(|()| {
            if !still() {
                return discard().map(|()| false);
            }
            rustix::fs::renameat(&self.folder, &temporary, &self.folder, name)?;
            rustix::fs::fsync(&self.folder).map(|()| true)
        });
        written.map_err(|e| {
            let _ = discard();
            if e == Errno::BUSY {
                return self.is_mounted();
            }
            cannot("write", &self.path, e.into())
        })
    }

    fn write_new(
        &self,
        name: &str,
        content: &[u8],
        old: Option<&Old>,
    ) -> std::result::Result<(), Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let own = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.folder, name, flags, own)?);
        file.write_all(content).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let mut mode = own;
        if let Some(Old { mode: kept, owner: (user, group), .. }) = old {
            let meta = file.metadata().map_err(|_| Errno::IO)?;
            if meta.uid() != *user {
                let user = Some(Uid::from_raw(*user));
                rustix::fs::fchown(&file, user, Some(Gid::from_raw(*group)))?;
            } else if meta.gid() != *group {
                // Only as far as we may: nobody reads it by its group.
                let _ = rustix::fs::fchown(&file, None, Some(Gid::from_raw(*group)));
            }
            if kept & 0o200 == 0 {
                mode = Mode::RUSR;
            }
        }
        // Also where the umask takes away more than it should.
        rustix::fs::fchmod(&file, mode)?;
        rustix::fs::fsync(&file)
    }

    fn remove(&self) -> Result<()> {
        let removed = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty())
            .and_then(|()| rustix::fs::fsync(&self.folder));
        match removed {
            Err(Errno::BUSY) => Err(self.is_mounted()),
            removed => removed.map_err(|e| cannot("remove", &self.path, e.into())),
        }
    }

    /// Removes what killed runs have left.
    fn sweep(&self) -> Result<()> {
        let cannot = |e: Errno| cannot("list the folder of", &self.path, e.into());
        let ours = geteuid().as_raw();
        for entry in Dir::read_from(&self.folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name();
            let random = name.to_bytes().strip_prefix(TEMPORARY.as_bytes());
            if !random.is_some_and(|r| r.len() == 16 && r.iter().all(u8::is_ascii_hexdigit)) {
                continue;
            }
            let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
            // Root gives a new file to its owner before it is in place.
            if stat.is_ok_and(|stat| stat.st_uid == ours || ours == 0) {
                let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
            }
        }
        Ok(())
    }

    fn is_mounted(&self) -> Error {
        let folder = self.path.parent().unwrap_or(Path::new("/")).display();
        unfit(&self.path, "it is a mount point of its own, so it cannot be replaced")
            .hint(format!("mount the folder {folder}, not the file"))
    }
}

/// The path that a chain of symbolic links ends at, whether there is a file or not; and who has
/// made them.
fn behind_links(mut path: PathBuf) -> Result<(PathBuf, Vec<u32>)> {
    /// As many as Linux follows (path_resolution(7)).
    const MOST: usize = 40;
    let mut linkers = Vec::new();
    for _ in 0..=MOST {
        // Whatever else is wrong with it shows when it is opened.
        let Ok(target) = fs::read_link(&path) else { return Ok((path, linkers)) };
        linkers.extend(path.symlink_metadata().map(|meta| meta.uid()));
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(unfit(&path, "its symbolic links lead nowhere"))
}

fn cannot(what: &str, path: &Path, why: io::Error) -> Error {
    Error::failed(format!("cannot {what} {}", shown(path))).because(why)
}

/// A path as it stands in a message.
fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::failed(format!("{} cannot be kept up to date", shown(path))).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Held;
    use std::os::unix::fs::{PermissionsExt, symlink};
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
        let world = World::of_process();
        let edit = |_: Option<&[u8]>| Ok(Some(text.as_bytes().to_vec()));
        Ok(Place::open(path)?.change(&world, soon(), Telling::Nobody, &edit)?.0)
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
    fn what_is_no_file_is_refused_at_once() {
        let folder = Folder::new();
        let fifo = folder.at("fifo");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        for (path, why) in [
            (fifo, "it is a FIFO"),
            (folder.0.path().to_owned(), "it is a folder"),
            (PathBuf::from("/dev/null"), "it is a device or a socket"),
            (folder.at("name/"), "its name ends like a folder's"),
            (PathBuf::from("/"), "it is a folder"),
        ] {
            let error = Place::open(&path).err().unwrap();
            assert_eq!(error.because, [why], "{}", path.display());
        }
        let error = Place::open(&folder.at("missing/file")).err().unwrap();
        assert_eq!(error.hints, [format!("mkdir -p {}", folder.at("missing").display())]);
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_nothing_else() {
        let folder = Folder::new();
        folder.file(".lakebase-token.0123456789abcdef", "secret", 0o600);
        folder.file(".lakebase-token.notes", "mine", 0o644);
        folder.file("file.tmp", "mine", 0o644);
        put(&folder.at("file"), "x").unwrap();
        assert_eq!(folder.names(), [".lakebase-token.notes", "file", "file.tmp"]);
    }

    #[test]
    fn telling_is_owed_until_it_is_settled_for_the_last_change() {
        let folder = Folder::new();
        let world = World::of_process();
        let place = Place::open(&folder.at("file")).unwrap();
        let put = |text: &'static str| {
            place.change(&world, soon(), Telling::Somebody, &|_| Ok(Some(text.into()))).unwrap()
        };
        let (change, first) = put("one");
        assert_eq!(change, Change::Written);
        assert_eq!(put("one"), (Change::Unchanged, first.clone()), "it is still owed");
        let (_, second) = put("two");
        place.settle(&world, soon(), &first.unwrap()).unwrap();
        assert_eq!(put("two"), (Change::Unchanged, second.clone()), "the second one is");
        place.settle(&world, soon(), &second.unwrap()).unwrap();
        assert_eq!(put("two"), (Change::Unchanged, None));
        assert_eq!(folder.names(), ["file"]);
    }

    #[test]
    fn a_locked_folder_is_waited_for_and_then_told() {
        let folder = Folder::new();
        let mut lock = Lock::new(File::open(folder.0.path()).unwrap());
        let held = Held::take(&mut lock).unwrap();
        let place = Place::open(&folder.at("file")).unwrap();
        let soon = Deadline::after(Duration::from_millis(50));
        let error =
            place.change(&World::of_process(), soon, Telling::Nobody, &|_| Ok(None)).err().unwrap();
        assert!(error.message.ends_with("locked"), "{error}");
        drop(held);
        put(&folder.at("file"), "x").unwrap();
    }
}
