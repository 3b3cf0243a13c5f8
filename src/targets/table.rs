//! The table of targets, and which of them a command line names.
//!
//! A row is a kind of target. `target.rs` explains the columns.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::config::databrickscfg;
use crate::config::files::expand_home;
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS};
use crate::config::value::Origin;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats;
use crate::platform::context::{Context, NO_HOME};
use crate::platform::files;
use crate::quoting::sh_word;
use crate::suggest::{is_plain, nearest};
use crate::targets::auth_file::AUTH_FILE;
use crate::targets::databrickscfg_profile::PROFILE;
use crate::targets::file::FILE;
use crate::targets::pgpass::{PASSWORD_FILE, PGPASS};
use crate::targets::target::{EntryEditor, Storage, Target, TargetRow};

/// All targets, in the order of `--help`.
pub static TARGETS: &[TargetRow] = &[
    TargetRow {
        name: "pgpass",
        about: "a line in ~/.pgpass; all other lines stay as they are",
        usage: "",
        keys: &[],
        flags: &[Id::PgPassFile],
        format: Some(&formats::PGPASS),
        purpose: Some(Purpose::Database),
        storage: Storage::File(&PGPASS),
    },
    TargetRow {
        name: "file",
        about: "a file with the credential alone, in any format",
        usage: "PATH",
        keys: &[],
        flags: &[Id::Format, Id::For, Id::Force],
        format: None,
        purpose: None,
        storage: Storage::File(&FILE),
    },
    TargetRow {
        name: "databrickscfg",
        about: "a profile in ~/.databrickscfg, for tools that read only it",
        usage: "--to NAME",
        keys: &[Id::To],
        flags: &[Id::Force],
        format: Some(&formats::RAW),
        purpose: Some(Purpose::Workspace),
        storage: Storage::File(&PROFILE),
    },
    TargetRow {
        name: "secret",
        about: "a Databricks secret, for apps that read one",
        usage: "--scope SCOPE --key KEY",
        keys: &[Id::Scope, Id::Key],
        flags: &[Id::CreateScope, Id::Force],
        format: Some(&formats::RAW),
        purpose: Some(Purpose::Database),
        storage: Storage::Secret,
    },
];

pub fn names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|row| row.name)
}

/// The flags that identify a target or that not every target takes, each once.
pub fn flags() -> impl Iterator<Item = Id> {
    let all = || TARGETS.iter().flat_map(|row| row.keys.iter().chain(row.flags));
    let first = move |(n, id): &(usize, &Id)| all().position(|known| known == *id) == Some(*n);
    all().enumerate().filter(first).map(|(_, id)| *id)
}

/// The target that the words of a command line name.
pub fn named(words: &[&OsStr], settings: &Settings, context: &Context) -> Result<Target> {
    let row = named_row(words.first().copied())?;
    check_flags(row, settings)?;
    if words.len() > 1 && !row.takes_path() {
        return Err(Error::usage(format!("target {} takes no path", row.name))
            .hint("lakebase-token write file PATH, or --pgpass-file PATH"));
    }

    let path = path_of(row, words.get(1).copied(), settings, context)?;
    let mut keys = Vec::new();
    for id in row.keys {
        keys.push(key_of(row, *id, settings)?);
    }

    let takes_pgpass_file = row.flags.contains(&Id::PgPassFile);
    Ok(Target {
        row,
        path,
        how: file_target(row, settings.text(Id::Format)),
        keys,
        force: settings.is_on(Id::Force),
        explicit: row.takes_path() || takes_pgpass_file && is_flag(settings, Id::PgPassFile),
    })
}

/// How the file of a row is kept up to date, in this format.
pub fn file_target(row: &TargetRow, format: Option<&str>) -> Option<&'static EntryEditor> {
    let shares_file = || format.and_then(formats::find).is_some_and(|format| format.shares_file);
    match row.storage {
        Storage::File(_) if row.takes_path() && shares_file() => Some(&AUTH_FILE),
        Storage::File(file) => Some(file),
        Storage::Secret => None,
    }
}

fn named_row(word: Option<&OsStr>) -> Result<&'static TargetRow> {
    let Some(name) = word.map(OsStr::to_string_lossy) else {
        return Err(Error::usage(format!("missing target: {}", alternatives()))
            .hint("the name of a target, such as pgpass"));
    };
    if let Some(row) = TARGETS.iter().find(|row| row.name == name) {
        return Ok(row);
    }

    // A path in the place of a target's name.
    if name.ends_with(".pgpass") || name.ends_with("pgpass.conf") {
        return Err(Error::usage("a target is named by its kind, not by its path").hint(format!(
            "lakebase-token write pgpass --pgpass-file {}",
            sh_word(&redact(&name))
        )));
    }
    if name.contains(['/', '.']) {
        let path = sh_word(&redact(&name));
        return Err(Error::usage("a target is named by its kind, not by its path")
            .hint(format!("lakebase-token write file {path} --format FORMAT")));
    }
    let message = if is_plain(&name) {
        format!("unknown target: {name}")
    } else {
        // The word may be a secret.
        "unknown target".to_owned()
    };
    Err(match nearest(&name, names()) {
        Some(near) => Error::usage(message).hint(near),
        None => Error::usage(message).hint(alternatives()),
    })
}

/// All names, as in "pgpass, file, databrickscfg or secret".
fn alternatives() -> String {
    let names: Vec<&str> = names().collect();
    match &names[..] {
        [names @ .., last] => format!("{} or {last}", names.join(", ")),
        [] => String::new(),
    }
}

/// A flag that only another target takes is a mistake.
fn check_flags(row: &TargetRow, settings: &Settings) -> Result<()> {
    for other in TARGETS {
        for id in other.keys.iter().chain(other.flags) {
            let is_taken = row.keys.contains(id) || row.flags.contains(id);
            if is_flag(settings, *id) && !is_taken {
                return Err(unused_flag(row, *id, other));
            }
        }
    }
    Ok(())
}

fn unused_flag(row: &TargetRow, id: Id, other: &TargetRow) -> Error {
    let flag = SETTINGS[id as usize].flag;
    match row.format {
        Some(format) if id == Id::Format => {
            Error::usage(format!("target {} is always in format {}", row.name, format.name))
                .hint("leave out --format, or lakebase-token write file PATH --format NAME")
        }
        _ => Error::usage(format!("target {} does not take --{flag}", row.name))
            .hint(format!("--{flag} is for target {}", other.name)),
    }
}

fn is_flag(settings: &Settings, id: Id) -> bool {
    settings.get(id).is_some_and(|value| matches!(value.origin, Origin::Flag(_)))
}

/// The file, where the target is one.
fn path_of(
    row: &TargetRow,
    word: Option<&OsStr>,
    settings: &Settings,
    context: &Context,
) -> Result<Option<PathBuf>> {
    match row.storage {
        Storage::Secret => Ok(None),
        Storage::File(EntryEditor { home: Some((id, name)), .. }) => {
            path_in_home(*id, name, settings, context).map(Some)
        }
        Storage::File(EntryEditor { home: None, .. }) => {
            let Some(path) = word.filter(|word| !word.is_empty()).map(PathBuf::from) else {
                return Err(
                    Error::usage(format!("target {} needs a path", row.name)).hint(row.command())
                );
            };
            // Elsewhere it means the standard output.
            if path.as_os_str() == "-" {
                return Err(Error::usage(format!("target {} needs a path, not -", row.name))
                    .hint("lakebase-token, which prints the credential"));
            }
            refuse_shared(&path, settings, context)?;
            Ok(Some(path))
        }
    }
}

/// The password file that libpq reads.
pub fn password_file(settings: &Settings, context: &Context) -> Result<PathBuf> {
    let (id, name) = PASSWORD_FILE;
    path_in_home(id, name, settings, context)
}

/// The file that a setting names, else the one of this name in HOME.
fn path_in_home(id: Id, name: &str, settings: &Settings, context: &Context) -> Result<PathBuf> {
    if let Some(path) = settings.text(id) {
        let origin = settings.origin(id);
        if matches!(origin, Origin::Env(_)) && path.starts_with("~/") {
            return Err(Error::usage(format!(
                "{origin} begins with a literal ~: {}",
                redact(path)
            ))
            .because("libpq does not expand it, so it would read another file")
            .hint(format!("{origin}=\"$HOME{}\"", redact(&path[1..]))));
        }
        return expand_home(path, context);
    }
    if let Some(path) = context.in_home(name) {
        return Ok(path);
    }

    let error = Error::usage(format!("{NO_HOME}, so there is no ~/{name}"));
    let row = &SETTINGS[id as usize];
    Err(match row.flag {
        "" => error.hint(format!("{}=/path/to/{name}", row.env[0])),
        flag => error.hint(format!("--{flag} PATH")),
    })
}

/// Target `file` replaces the whole file, so it must not be one in which other programs have
/// entries, too.
fn refuse_shared(path: &Path, settings: &Settings, context: &Context) -> Result<()> {
    if settings.is_on(Id::Force) {
        return Ok(());
    }
    for row in TARGETS {
        let Storage::File(EntryEditor { home: Some((_, name)), .. }) = row.storage else {
            continue;
        };
        if context.in_home(name).is_some_and(|usual| is_same_file(path, &usual)) {
            return Err(Error::usage(format!(
                "{} also has entries of other programs",
                path.display()
            ))
            .because("target file replaces the whole file")
            .hint(format!("lakebase-token write {}", row.command()))
            .hint("--force to replace it"));
        }
    }
    Ok(())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    match (files::canonical(one), files::canonical(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn key_of(row: &TargetRow, id: Id, settings: &Settings) -> Result<String> {
    let flag = SETTINGS[id as usize].flag;
    let Some(value) = settings.text(id) else {
        return Err(Error::usage(format!("target {} needs --{flag}", row.name)).hint(row.command()));
    };
    check_key(id, value)?;
    Ok(value.to_owned())
}

/// databricks-sdk-go `service/workspace`, Secrets API: the bound on the names of scopes and keys.
const MAX_SECRET_NAME_CHARS: usize = 128;

/// Refuses a name that the target cannot have.
fn check_key(id: Id, value: &str) -> Result<()> {
    let is_profile = id == Id::To;
    let is_valid = if is_profile { is_profile_name(value) } else { is_secret_name(value) };
    if is_valid {
        return Ok(());
    }

    let flag = SETTINGS[id as usize].flag;
    let value = redact(value);
    Err(Error::usage(if is_profile {
        format!("--{flag} {value} is not a valid profile name")
    } else {
        format!("--{flag} {value} is not valid: up to 128 letters, digits, `-`, `_`, `.`")
    }))
}

fn is_profile_name(name: &str) -> bool {
    let breaks_header = |c: char| c.is_control() || "[]".contains(c);
    !name.contains(breaks_header) && name.trim() == name && name != databrickscfg::RESERVED
}

fn is_secret_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= MAX_SECRET_NAME_CHARS && name.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target by its words on the command line and these flags.
    fn target(words: &[&str], flags: &[(Id, &str)], env: &[(&str, &str)]) -> Target {
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let context = Context { env, ..Context::of_process() };
        let flags: Vec<_> = flags.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        let settings = Settings::resolve(&flags, &context).unwrap();
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        named(&words, &settings, &context).unwrap()
    }

    #[test]
    fn a_target_is_named_by_the_words_that_chose_it() {
        for (words, flags, id) in [
            (&["file", "a b"][..], &[][..], &["file", "a b"][..]),
            (&["databrickscfg", "--to", "x"], &[(Id::To, "x")], &["databrickscfg", "cfg", "x"]),
            (
                &["secret", "--scope", "s", "--key", "k"],
                &[(Id::Scope, "s"), (Id::Key, "k")],
                &["secret", "", "s", "k"],
            ),
        ] {
            let env = [("DATABRICKS_CONFIG_FILE", "cfg")];
            let path = &words[..if flags.is_empty() { 2 } else { 1 }];
            let target = target(path, flags, &env);
            assert_eq!(target.words(), words);
            assert_eq!(target.id(), id);
        }
    }

    #[test]
    fn a_path_that_the_command_line_names_is_explicit() {
        let by_flag = [(Id::PgPassFile, "p")];
        let by_variable = [("PGPASSFILE", "p")];
        assert!(target(&["file", "x"], &[], &[]).explicit);
        assert!(target(&["pgpass"], &by_flag, &[]).explicit);
        assert!(!target(&["pgpass"], &[], &by_variable).explicit);
        let cfg = [("DATABRICKS_CONFIG_FILE", "cfg")];
        assert!(!target(&["databrickscfg"], &[(Id::To, "x")], &cfg).explicit);
    }

    #[test]
    fn the_password_file_is_the_one_of_libpq() {
        let env = [("PGPASSFILE".into(), "p".into())].into_iter().collect();
        let context = Context { env, ..Context::of_process() };
        let settings = Settings::resolve(&[], &context).unwrap();
        assert_eq!(password_file(&settings, &context).unwrap(), PathBuf::from("p"));
    }

    #[test]
    fn names_are_unique_and_descriptions_are_short() {
        for (position, row) in TARGETS.iter().enumerate() {
            assert!(TARGETS[position + 1..].iter().all(|other| other.name != row.name));
            assert!(row.about.len() < 60 && !row.about.ends_with('.'));
        }
    }
}
