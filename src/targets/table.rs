//! The places that can be kept up to date: one row each, for `write`, `watch` and `service`.
//!
//! A row says which place the command line means, how the credential is printed for it, and what
//! becomes of what was there before. Most are files (`place.rs`); a Databricks secret is not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::databrickscfg;
use crate::config::resolve::{Origin, Settings, expand_home};
use crate::config::table::{Id, SETTINGS};
use crate::credential::connection::{Connection, Purpose};
use crate::credential::jwt::holds_token;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats::PgpassKey;
use crate::platform::context::Context;
use crate::platform::target_file::Edit;
use crate::suggest::{is_plain, nearest};
use crate::targets::pgpass_lines;

/// A kind of place.
pub struct TargetRow {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    /// The flags that say which place of its kind.
    pub keys: &'static [Id],
    /// The other flags that only it takes.
    pub flags: &'static [Id],
    /// The format it takes, where there is no choice.
    pub format: Option<&'static str>,
    /// The token it takes, where there is no choice.
    pub purpose: Option<Purpose>,
    /// How it is changed.
    pub kind: Storage,
}

/// How a place is changed.
pub enum Storage {
    /// A file.
    File(&'static FileTarget),
    /// A secret in a scope of the workspace.
    Secret,
}

/// What is done with a file.
pub struct FileTarget {
    /// The setting that names the file, and its name in HOME; without these, a word does.
    pub home: Option<(Id, &'static str)>,
    /// Whether the role and the host decide what is ours in it.
    pub shared: bool,
    /// Refuses what is somebody else's.
    pub check: fn(&Target, &[u8]) -> Result<()>,
    /// Puts in what the format has printed.
    pub put: for<'e> fn(&Entry<'e>, &'e str) -> Result<Box<Edit<'e>>>,
    /// Our part of what it says.
    pub part: for<'e> fn(&Entry<'_>, &'e [u8]) -> Option<&'e [u8]>,
    /// Takes our part out.
    pub remove: for<'e> fn(&Entry<'e>) -> Result<Box<Edit<'e>>>,
}

/// A place, decided.
#[derive(Clone)]
pub struct Target {
    /// Its kind.
    pub row: &'static TargetRow,
    /// The file, where it is one.
    pub path: Option<PathBuf>,
    /// The values of the row's keys.
    pub keys: Vec<String>,
    /// Whether what is somebody else's may be taken over.
    pub force: bool,
    /// Whether the command line names the file itself.
    pub explicit: bool,
}

/// A place, and what our part of it is about.
pub struct Entry<'e> {
    /// The place.
    pub target: &'e Target,
    /// Where the credential is the password.
    pub connection: &'e Connection,
    /// The workspace's URL.
    pub workspace: &'e str,
}

/// All sinks, in the order of `--help`.
pub static TARGETS: &[TargetRow] = &[
    TargetRow {
        name: "pgpass",
        about: "a line of ~/.pgpass, beside all that others have there",
        usage: "",
        keys: &[],
        flags: &[Id::PgPassFile],
        format: Some("pgpass"),
        purpose: Some(Purpose::Database),
        kind: Storage::File(&PGPASS),
    },
    TargetRow {
        name: "file",
        about: "a file of its own, in any format",
        usage: "PATH",
        keys: &[],
        flags: &[Id::Format, Id::For, Id::Force],
        format: None,
        purpose: None,
        kind: Storage::File(&OWN_FILE),
    },
    TargetRow {
        name: "databrickscfg",
        about: "a profile in ~/.databrickscfg, for what reads only that",
        usage: "--to NAME",
        keys: &[Id::To],
        flags: &[Id::Force],
        format: Some("raw"),
        purpose: Some(Purpose::Workspace),
        kind: Storage::File(&PROFILE),
    },
    TargetRow {
        name: "secret",
        about: "a Databricks secret, for apps that read one",
        usage: "--scope SCOPE --key KEY",
        keys: &[Id::Scope, Id::Key],
        flags: &[Id::CreateScope, Id::Force],
        format: Some("raw"),
        purpose: Some(Purpose::Database),
        kind: Storage::Secret,
    },
];

static PGPASS: FileTarget = FileTarget {
    shared: true,
    // Where libpq looks for it.
    home: Some((Id::PgPassFile, ".pgpass")),
    check: |_, _| Ok(()),
    put: |entry, line| {
        let key = PgpassKey::of(entry.connection)?;
        Ok(Box::new(move |old| {
            let file = old.unwrap_or_default();
            Ok(Some(pgpass_lines::put(file, &key, line.trim_end_matches('\n'))))
        }))
    },
    part: |entry, file| pgpass_lines::password(file, &PgpassKey::of(entry.connection).ok()?),
    remove: |entry| {
        let key = PgpassKey::of(entry.connection)?;
        // A native password is somebody's own, whatever it is for.
        let is_ours = move |file: &[u8], key: &PgpassKey| {
            pgpass_lines::password(file, key).is_some_and(holds_token)
        };
        // An empty file stays: it may be a link's target, or have been there before.
        Ok(Box::new(move |old| {
            Ok(old.map(|file| match is_ours(file, &key) {
                true => pgpass_lines::remove(file, &key),
                false => file.to_vec(),
            }))
        }))
    },
};

static OWN_FILE: FileTarget = FileTarget {
    shared: false,
    home: None,
    // Somebody may have mistaken the path: what holds no token is not ours.
    check: |target, file| {
        if target.force || file.trim_ascii().is_empty() || holds_token(file) {
            return Ok(());
        }
        let path = target.path.as_deref().unwrap_or(Path::new("")).display();
        Err(Error::usage(format!("{path} is somebody else's: it holds no token"))
            .hint("another path, or --force to replace it"))
    },
    put: |entry, text| {
        let target = entry.target;
        Ok(Box::new(move |old| {
            (OWN_FILE.check)(target, old.unwrap_or_default())?;
            Ok(Some(text.as_bytes().to_vec()))
        }))
    },
    part: |_, file| Some(file),
    remove: |_| Ok(Box::new(|old| Ok(old.filter(|text| !holds_token(text)).map(<[u8]>::to_vec)))),
};

/// The keys of a profile of ours. The auth type keeps other settings from having a say.
const PROFILE_KEYS: [&str; 3] = ["host", "token", "auth_type"];

static PROFILE: FileTarget = FileTarget {
    shared: false,
    home: Some((Id::ConfigFile, ".databrickscfg")),
    check: |target, file| {
        let name = target.profile();
        // What cannot be read cannot be kept, either.
        databrickscfg::section(&String::from_utf8_lossy(file), name)
            .map_err(|e| Error::usage("cannot read the configuration file").because(e.message))?;
        let owner = databrickscfg::owner(file, name);
        if name == databrickscfg::DEFAULT && owner.is_none() && !target.force {
            return Err(Error::usage("DEFAULT is what everybody uses who names no profile")
                .hint("another name, or --force if that is meant"));
        }
        if target.force || owner != Some(false) {
            return Ok(());
        }
        Err(Error::usage(format!("profile {} is somebody else's", redact(name)))
            .because("it has not been written by lakebase-token")
            .hint("another name, or --force to take it over"))
    },
    put: |entry, line| {
        let target = entry.target;
        let name = target.profile();
        let values = [entry.workspace, line.trim_end_matches('\n'), "pat"];
        Ok(Box::new(move |old| {
            let file = old.unwrap_or_default();
            (PROFILE.check)(target, file)?;
            let pairs: Vec<_> = PROFILE_KEYS.into_iter().zip(values).collect();
            Ok(Some(databrickscfg::put(file, name, &pairs)))
        }))
    },
    part: |entry, file| databrickscfg::ours(file, entry.target.profile(), "token"),
    remove: |entry| {
        let name = entry.target.profile();
        Ok(Box::new(
            move |old| Ok(old.map(|file| databrickscfg::remove(file, name, &PROFILE_KEYS))),
        ))
    },
};

impl TargetRow {
    /// Whether a word says which file it is.
    pub fn takes_path(&self) -> bool {
        matches!(self.kind, Storage::File(FileTarget { home: None, .. }))
    }

    /// How it is named on the command line.
    pub fn command(&self) -> String {
        [self.name, self.usage].join(" ").trim_end().to_owned()
    }
}

impl Target {
    /// The words of a command line that mean it.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.row.name.to_owned()];
        if let (Some(path), true) = (&self.path, self.row.takes_path()) {
            words.push(path.display().to_string());
        }
        for (id, value) in self.row.keys.iter().zip(&self.keys) {
            words.extend([format!("--{}", SETTINGS[*id as usize].flag), value.clone()]);
        }
        words
    }

    /// The file, and what is done with it, where it is one.
    pub fn file(&self) -> Option<(&'static FileTarget, &Path)> {
        match (&self.row.kind, &self.path) {
            (Storage::File(file), Some(path)) => Some((file, path)),
            _ => None,
        }
    }

    /// The profile, where it is one.
    fn profile(&self) -> &str {
        self.keys.first().map_or("", |name| name)
    }

    /// What tells it from every other place.
    pub fn id(&self) -> Vec<String> {
        let path = self.path.as_ref().map_or(String::new(), |path| path.display().to_string());
        [vec![self.row.name.to_owned(), path], self.keys.clone()].concat()
    }

    /// The file, or what else it is, for people.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) if self.keys.is_empty() => path.display().to_string(),
            Some(path) => format!("profile {} in {}", self.keys.join(" "), path.display()),
            None => format!("secret {}", self.keys.join("/")),
        }
    }
}

/// The names of all targets.
pub fn names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|row| row.name)
}

/// The flags that say which place, or are for some kinds only.
pub fn flags() -> impl Iterator<Item = Id> {
    let all = || TARGETS.iter().flat_map(|row| row.keys.iter().chain(row.flags));
    let first = move |(n, id): &(usize, &Id)| all().position(|known| known == *id) == Some(*n);
    all().enumerate().filter(first).map(|(_, id)| *id)
}

/// A file that others have lines in is none of its own.
fn refuse_shared(path: &Path, settings: &Settings, context: &Context) -> Result<()> {
    let Some(home) = context.home().filter(|_| !settings.is_on(Id::Force)) else { return Ok(()) };
    for row in TARGETS {
        let Storage::File(FileTarget { home: Some((_, name)), .. }) = row.kind else { continue };
        let shared = home.join(name);
        let real = |path: &Path| path.canonicalize().ok();
        if path == shared || real(path).is_some_and(|path| Some(path) == real(&shared)) {
            return Err(Error::usage(format!("{} is not ours alone", path.display()))
                .because("programs and people keep lines of their own there")
                .hint(format!("lakebase-token write {}", row.command()))
                .hint("--force to replace it"));
        }
    }
    Ok(())
}

/// The row that the words on the command line name, and the place.
pub fn named(words: &[&OsStr], settings: &Settings, context: &Context) -> Result<Target> {
    let names = || TARGETS.iter().map(|row| row.name);
    let all = || names().collect::<Vec<_>>().join(", ");
    let Some(name) = words.first().map(|name| name.to_string_lossy()) else {
        return Err(Error::usage("which place?").hint(format!("one of: {}", all())));
    };
    let Some(row) = TARGETS.iter().find(|row| row.name == name) else {
        let error = Error::usage(match is_plain(&name) {
            true => format!("there is no place called {name}"),
            false => "there is no such place".to_owned(),
        });
        return Err(match nearest(&name, names()) {
            Some(near) => error.hint(near),
            None => error.hint(format!("one of: {}", all())),
        });
    };
    check_flags(row, settings)?;
    if words.len() > 1 && !row.takes_path() {
        return Err(Error::usage(format!("{name} takes no path"))
            .hint("lakebase-token write file PATH, or --pgpass-file PATH"));
    }
    let word = words.get(1).filter(|word| !word.is_empty()).map(PathBuf::from);
    let path = match (&row.kind, word) {
        (Storage::File(FileTarget { home: Some(home), .. }), _) => {
            Some(at_home(*home, settings, context)?)
        }
        (Storage::File(_), Some(word)) => Some(word),
        (Storage::File(_), None) => {
            return Err(Error::usage(format!("{name} wants a path")).hint(row.command()));
        }
        (Storage::Secret, _) => None,
    };
    if let (Some(path), true) = (&path, row.takes_path()) {
        refuse_shared(path, settings, context)?;
    }
    let mut keys = Vec::new();
    for id in row.keys {
        let flag = SETTINGS[*id as usize].flag;
        let value = settings
            .text(*id)
            .ok_or_else(|| Error::usage(format!("{name} wants --{flag}")).hint(row.command()))?;
        check_key(*id, value)?;
        keys.push(value.to_owned());
    }
    let by_flag = row.flags.iter().any(|id| *id == Id::PgPassFile && is_flag(settings, *id));
    let explicit = by_flag || row.takes_path();
    Ok(Target { row, path, keys, force: settings.is_on(Id::Force), explicit })
}

/// A file that has its place.
fn at_home((id, name): (Id, &str), settings: &Settings, context: &Context) -> Result<PathBuf> {
    if let Some(path) = settings.text(id) {
        return expand_home(path, context);
    }
    let home = context.home().ok_or_else(|| {
        let row = &SETTINGS[id as usize];
        let error = Error::usage(format!("HOME is not set, so there is no ~/{name}"));
        match row.flag {
            "" => error.hint(format!("{}=/path/to/{name}", row.env[0])),
            flag => error.hint(format!("--{flag} PATH")),
        }
    })?;
    Ok(home.join(name))
}

fn is_flag(settings: &Settings, id: Id) -> bool {
    settings.get(id).is_some_and(|value| matches!(value.origin, Origin::Flag(_)))
}

/// A flag that only another place takes would be a mistake.
fn check_flags(row: &TargetRow, settings: &Settings) -> Result<()> {
    for other in TARGETS {
        for id in other.keys.iter().chain(other.flags) {
            let takes = row.keys.contains(id) || row.flags.contains(id);
            if is_flag(settings, *id) && !takes {
                let (name, flag) = (row.name, SETTINGS[*id as usize].flag);
                return Err(match (*id, row.format, row.purpose) {
                    (Id::Format, Some(own), _) => Error::usage(format!(
                        "{name} has a format of its own, {own}"
                    ))
                    .hint("leave out --format, or lakebase-token write file PATH --format NAME"),
                    _ => Error::usage(format!("{name} has no use for --{flag}"))
                        .hint(format!("--{flag} is for {}", other.name)),
                });
            }
        }
    }
    Ok(())
}

/// A name that the place cannot carry.
fn check_key(id: Id, text: &str) -> Result<()> {
    // databricks-sdk-go `service/workspace`, Secrets API: up to 128 characters of these.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = match id {
        Id::To => {
            let odd = |c: char| c.is_control() || "[]".contains(c);
            !text.contains(odd) && text.trim() == text && text != databrickscfg::RESERVED
        }
        _ => text.len() <= 128 && text.chars().all(plain),
    };
    if fits {
        return Ok(());
    }
    let (flag, shown) = (SETTINGS[id as usize].flag, redact(text));
    Err(Error::usage(match id {
        Id::To => format!("--{flag} {shown} cannot be a profile's name"),
        _ => format!("--{flag} {shown} is not possible: up to 128 letters, digits, `-`, `_`, `.`"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        for (position, row) in TARGETS.iter().enumerate() {
            assert!(TARGETS[position + 1..].iter().all(|other| other.name != row.name));
            assert!(row.about.len() < 60 && !row.about.ends_with('.'));
            let known = row.format.is_none_or(|name| crate::formats::find(name).is_some());
            assert!(known, "{}", row.name);
        }
    }
}
