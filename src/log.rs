//! The log for those who want one: `LAKEBASE_TOKEN_LOG=path`, a line an event.
//!
//! `2027-01-15T08:00:00Z info minted …`: RFC 3339 in UTC, a level, words that hold no secret.
//! The file is ours and 0600; at 1 MiB it becomes `path.1` and a new one begins. A log that cannot
//! be written is a note, never a failure. Without the variable nothing is logged.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod};

use crate::file::{Held, Lock};
use crate::world::World;

/// Where a log ends and the next one begins.
const MOST: u64 = 1024 * 1024;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something was done.
    Info,
    /// Something went wrong, but nobody was left without.
    Warning,
    /// Somebody was left without.
    Error,
}

/// Writes an event down.
pub fn event(world: &World, level: Level, words: &str) {
    let Some(path) = world.var("LAKEBASE_TOKEN_LOG").map(PathBuf::from) else { return };
    let level = match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = format!("{} {level} {words}\n", world.now());
    if let Err(e) = append(&path, &line) {
        world.note(&format!("cannot write LAKEBASE_TOKEN_LOG {}: {e}", path.display()));
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = open(path)?;
    if file.metadata()?.len() + line.len() as u64 > MOST && set_aside(path, &file)? {
        file = open(path)?;
    }
    // One write, so that lines of many processes do not mix.
    file.write_all(line.as_bytes())
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if meta.mode() & 0o777 != 0o600 {
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(file)
}

/// Makes the full log the previous one, unless somebody else is about to or has done so.
fn set_aside(path: &Path, full: &File) -> io::Result<bool> {
    let mut lock = Lock::new(full.try_clone()?);
    let Some(_held) = Held::take(&mut lock)? else { return Ok(false) };
    if fs::metadata(path)?.ino() == full.metadata()?.ino() {
        let mut previous = OsString::from(path);
        previous.push(".1");
        fs::rename(path, previous)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt;
    use std::rc::Rc;

    fn world(path: &Path) -> (World, Rc<RefCell<String>>) {
        let notes = Rc::new(RefCell::new(String::new()));
        let said = notes.clone();
        let env = [(OsString::from("LAKEBASE_TOKEN_LOG"), OsString::from(path))];
        let world = World {
            env: env.into_iter().collect(),
            now: Box::new(|| Timestamp(1_800_000_000_000)),
            say: Box::new(move |text| said.borrow_mut().push_str(text)),
            ..World::of_process()
        };
        (world, notes)
    }

    #[test]
    fn a_line_an_event_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let (world, notes) = world(&path);
        event(&world, Level::Info, "minted\nsomething");
        event(&world, Level::Error, "no");
        let text = fs::read_to_string(&path).unwrap();
        let expected =
            "2027-01-15T08:00:00Z info minted something\n2027-01-15T08:00:00Z error no\n";
        assert_eq!((text.as_str(), notes.borrow().as_str()), (expected, ""));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_log_is_kept_beside_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (world, _) = world(&path);
        for line in ["first ", "second ", "third "] {
            event(&world, Level::Info, &line.repeat(90_000));
        }
        let previous = fs::read_to_string(folder.path().join("log.1")).unwrap();
        assert!(previous.contains("second") && !previous.contains("first"));
        assert!(fs::read_to_string(&path).unwrap().contains("third"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_that_cannot_be_is_a_note() {
        for path in ["/nowhere/log", "/dev/null", "/"] {
            let (world, notes) = world(Path::new(path));
            event(&world, Level::Info, "x");
            assert!(notes.borrow().contains("cannot write LAKEBASE_TOKEN_LOG"), "{path}");
        }
    }
}
