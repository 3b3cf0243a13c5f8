//! The places that can be kept up to date: one row each, for `write`, `watch` and `service`.
//!
//! Each is a file (`place.rs`); a sink says which one, how the credential is printed for it, and
//! what becomes of what the file said before.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::error::{Error, Result, is_plain, nearest};
use crate::pgpass::{self, Key};
use crate::place::Edit;
use crate::settings::{Id, Settings, expand_home};
use crate::token::{Connection, holds_token};
use crate::world::World;

/// A kind of place.
pub struct Sink {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Whether a path follows the name.
    pub has_path: bool,
    /// The format it takes, where there is no choice.
    pub format: Option<&'static str>,
    /// The file, where no path follows.
    path: fn(&Settings, &World) -> Result<PathBuf>,
    /// Puts in what the format has printed.
    pub put: for<'e> fn(&'e Connection, &'e str) -> Result<Box<Edit<'e>>>,
    /// Our part of what it says.
    pub part: for<'e> fn(&'e Connection, &'e [u8]) -> Option<&'e [u8]>,
    /// Takes our part out.
    pub remove: for<'e> fn(&'e Connection) -> Result<Box<Edit<'e>>>,
}

/// All sinks, in the order of `--help`.
pub static SINKS: &[Sink] = &[
    Sink {
        name: "pgpass",
        about: "a line of ~/.pgpass, beside all that others have there",
        has_path: false,
        format: Some("pgpass"),
        path: pgpass_file,
        put: |connection, line| {
            let key = Key::of(connection)?;
            Ok(Box::new(move |old| {
                let file = old.unwrap_or_default();
                Ok(Some(pgpass::put(file, &key, line.trim_end_matches('\n'))))
            }))
        },
        part: |connection, file| pgpass::password(file, &Key::of(connection).ok()?),
        remove: |connection| {
            let key = Key::of(connection)?;
            // An empty file stays: it may be a link's target, or have been there before.
            Ok(Box::new(move |old| Ok(old.map(|file| pgpass::remove(file, &key)))))
        },
    },
    Sink {
        name: "file",
        about: "a file of its own, in any format",
        has_path: true,
        format: None,
        path: |_, _| Err(Error::usage("file wants a path").hint("lakebase-token write file PATH")),
        put: |_, text| Ok(Box::new(|_| Ok(Some(text.as_bytes().to_vec())))),
        part: |_, file| Some(file),
        // Somebody may have mistaken the path: what holds no token is not ours.
        remove: |_| {
            Ok(Box::new(|old| Ok(old.filter(|text| !holds_token(text)).map(<[u8]>::to_vec))))
        },
    },
];

impl Sink {
    /// How it is named on the command line.
    pub fn usage(&self) -> String {
        if self.has_path { format!("{} PATH", self.name) } else { self.name.to_owned() }
    }
}

/// The sink that the words on the command line name, and its file.
pub fn named(
    words: &[&OsStr],
    settings: &Settings,
    world: &World,
) -> Result<(&'static Sink, PathBuf)> {
    let names = || SINKS.iter().map(|sink| sink.name);
    let all = || names().collect::<Vec<_>>().join(" or ");
    let Some(name) = words.first().map(|name| name.to_string_lossy()) else {
        return Err(Error::usage("which place?").hint(format!("one of: {}", all())));
    };
    let Some(sink) = SINKS.iter().find(|sink| sink.name == name) else {
        let error = Error::usage(match is_plain(&name) {
            true => format!("there is no place called {name}"),
            false => "there is no such place".to_owned(),
        });
        return Err(match nearest(&name, names()) {
            Some(near) => error.hint(near),
            None => error.hint(format!("one of: {}", all())),
        });
    };
    match words.get(1) {
        None => Ok((sink, (sink.path)(settings, world)?)),
        Some(path) if sink.has_path && !path.is_empty() => Ok((sink, PathBuf::from(path))),
        Some(_) if sink.has_path => (sink.path)(settings, world).map(|path| (sink, path)),
        Some(_) => Err(Error::usage(format!("{name} takes no path"))
            .hint("--pgpass-file PATH, or lakebase-token write file PATH")),
    }
}

/// Where libpq looks for it.
fn pgpass_file(settings: &Settings, world: &World) -> Result<PathBuf> {
    if let Some(path) = settings.text(Id::PgPassFile) {
        return expand_home(path, world);
    }
    let home = world.home().ok_or_else(|| {
        Error::usage("HOME is not set, so there is no ~/.pgpass").hint("--pgpass-file PATH")
    })?;
    Ok(home.join(".pgpass"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        for (position, sink) in SINKS.iter().enumerate() {
            assert!(SINKS[position + 1..].iter().all(|other| other.name != sink.name));
            assert!(sink.about.len() < 60 && !sink.about.ends_with('.'));
            let known = sink.format.is_none_or(|name| crate::format::find(name).is_some());
            assert!(known, "{}", sink.name);
        }
    }
}
