//! The event log: `LAKEBASE_TOKEN_LOG=path`, one line for each event.
//!
//! `2027-01-15T08:00:00Z info minted …`: RFC 3339 in UTC, a level, a text without secrets. The file
//! belongs to the user and has mode 0600; at 1 MiB it becomes `path.1` and a new one begins. A log
//! that cannot be written is a note, never an error. Without the variable no log is written.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::credential::redact::printable;
use crate::platform::context::Context;
use crate::platform::file_metadata::FileKind;
use crate::platform::lock::LockFile;
use crate::platform::path_owners::PathEnd;
use crate::platform::system::{self, Folder};

/// A larger log is renamed to `path.1`.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    /// Something went wrong, and the caller got a credential all the same.
    Warning,
    /// The caller got no credential.
    Error,
}

pub fn event(context: &Context, level: Level, text: &str) {
    let Some(path) = context.var("LAKEBASE_TOKEN_LOG").map(PathBuf::from) else { return };
    if !path.is_absolute() {
        let path = path.display();
        return context.note(&format!("LAKEBASE_TOKEN_LOG is not an absolute path: {path}"));
    }
    let level = match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let text = printable(text).replace('\n', " ");
    let line = format!("{} {level} {text}\n", context.now());
    if let Err(e) = append(context, &path, &line) {
        context.note(&format!("cannot write LAKEBASE_TOKEN_LOG {}: {e}", path.display()));
    }
}

fn append(context: &Context, path: &Path, line: &str) -> io::Result<()> {
    let end = PathEnd::of(path)?;
    let folder = end.folder()?;
    let mut file = open(&folder, &end.name)?;
    let size = file.metadata()?.len() + line.len() as u64;
    if size > MAX_LOG_BYTES && rotate(context, &folder, &end.name, &file)? {
        file = open(&folder, &end.name)?;
    }
    // One write, so that lines of many processes do not mix.
    file.write_all(line.as_bytes())
}

fn open(folder: &Folder, name: &OsStr) -> io::Result<File> {
    let file = folder.open_or_create_private(name, true)?;
    let metadata = system::metadata_of(&file)?;
    if metadata.kind != FileKind::Regular {
        return Err(io::Error::other("it is not a regular file"));
    }
    // Another name of the file may be another program's, which needs its mode and its content.
    if metadata.links > 1 {
        return Err(io::Error::other("the file has several hard links"));
    }
    if metadata.owner != system::user_id() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode & 0o777 != 0o600 {
        system::set_mode(&file, 0o600)?;
    }
    Ok(file)
}

/// Renames the full log, unless another process does so or has done so.
fn rotate(context: &Context, folder: &Folder, name: &OsStr, full: &File) -> io::Result<bool> {
    // On Windows, a file that is open cannot be locked. Elsewhere another user could lock the folder.
    let mut lock = if cfg!(windows) {
        LockFile::on_folder(context, folder)?
    } else {
        LockFile::open(folder, name)?
    };
    let Some(_guard) = lock.try_lock()? else { return Ok(false) };

    let inode = system::metadata_of(full)?.inode;
    if folder.metadata_of(name)?.is_some_and(|metadata| metadata.inode == inode) {
        let mut previous = name.to_owned();
        previous.push(".1");
        folder.rename(name, &previous)?;
    }
    Ok(true)
}

// Modes, owners and symbolic links are those of Unix; tests/it/windows.rs has their counterparts.
#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::platform::time::Timestamp;
    use std::cell::RefCell;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::rc::Rc;

    fn context(path: &Path) -> (Context, Rc<RefCell<String>>) {
        let notes = Rc::new(RefCell::new(String::new()));
        let said = notes.clone();
        let env = [(OsString::from("LAKEBASE_TOKEN_LOG"), OsString::from(path))];
        let context = Context {
            env: env.into_iter().collect(),
            now: Box::new(|| Timestamp(1_800_000_000_000)),
            say: Box::new(move |text| said.borrow_mut().push_str(text)),
            ..Context::of_process()
        };
        (context, notes)
    }

    #[test]
    fn each_event_is_a_line_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (context, notes) = context(&path);
        event(&context, Level::Info, "minted\nsomething");
        event(&context, Level::Error, "no");
        let text = fs::read_to_string(&path).unwrap();
        let expected =
            "2027-01-15T08:00:00Z info minted something\n2027-01-15T08:00:00Z error no\n";
        assert_eq!((text.as_str(), notes.borrow().as_str()), (expected, ""));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_log_with_another_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "content").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
        let path = folder.path().join("log");
        fs::hard_link(&other, &path).unwrap();

        let (context, notes) = context(&path);
        event(&context, Level::Info, "minted");
        assert!(notes.borrow().contains("the file has several hard links"), "{}", notes.borrow());
        assert_eq!(fs::read_to_string(&other).unwrap(), "content");
        assert_eq!(other.metadata().unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_full_log_is_renamed_and_a_new_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (context, _) = context(&path);
        for line in ["first ", "second ", "third "] {
            event(&context, Level::Info, &line.repeat(90_000));
        }
        let previous = fs::read_to_string(folder.path().join("log.1")).unwrap();
        assert!(previous.contains("second") && !previous.contains("first"));
        assert!(fs::read_to_string(&path).unwrap().contains("third"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_a_note() {
        for path in ["/nowhere/log", "/dev/null", "/"] {
            let (context, notes) = context(Path::new(path));
            event(&context, Level::Info, "x");
            assert!(notes.borrow().contains("cannot write LAKEBASE_TOKEN_LOG"), "{path}");
        }
    }
}
