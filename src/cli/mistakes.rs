//! Wrong command lines: what the error says, and the command line that was meant. A message never
//! repeats a value, because a user may type a secret there.

use std::ffi::{OsStr, OsString};

use crate::cli::table::COMMANDS;
use crate::commands::command::{flag_words, taken_apart};
use crate::commands::psql;
use crate::config::table::{Id, SETTINGS, Setting, ValueKind, flag_row};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::quoting;
use crate::suggest::{is_plain, nearest};
use crate::targets::table::TARGETS;

/// The error for a word that is no command.
pub fn unknown_command(word: &str) -> Error {
    if let Some(meant) = meant_command(word) {
        return Error::usage(format!("unknown command {word}"))
            .hint(format!("lakebase-token {meant}"));
    }

    // What a word processor makes of two dashes.
    if let Some(flag) = word.strip_prefix(['\u{2013}', '\u{2014}']) {
        let error =
            Error::usage("a flag begins with two dashes, and this is a dash of another kind");
        return if is_plain(flag) { error.hint(format!("--{flag}")) } else { error };
    }
    // Anything but a plain word may be a secret, and is not repeated.
    let error = Error::usage(if is_plain(word) {
        format!("unknown command {word}")
    } else {
        "unknown command".to_owned()
    });
    let known = COMMANDS.iter().filter(|command| command.is_public());
    match nearest(word, known.map(|command| command.name)) {
        Some(name) => error.hint(format!("lakebase-token {name}")),
        None => error.hint("lakebase-token --help"),
    }
}

/// The command line that users mean by a word that is no command.
fn meant_command(word: &str) -> Option<&'static str> {
    Some(match word {
        "refresh" => "get --refresh",
        "config" => "help settings",
        "env" => "-f env",
        "json" => "-f json",
        "token" => "get",
        "password" => "get",
        "print" => "get",
        "connect" => "psql",
        "whoami" => "status",
        "check" | "test" => "doctor",
        "mint" => "get",
        "install" => "service install pgpass",
        "uninstall" => "service uninstall pgpass",
        "pgpass" => "write pgpass",
        "file" => "write file PATH",
        "databrickscfg" => "write databrickscfg --to NAME",
        "secret" => "write secret --scope SCOPE --key KEY",
        _ => return None,
    })
}

/// The error for a long flag that we do not have.
pub fn unknown_flag(long: &str) -> Error {
    if let Some(meant) = meant_flag(long) {
        return Error::usage(format!("unknown flag --{long}")).hint(meant);
    }
    let is_secret =
        |row: &&Setting| row.kind == ValueKind::Secret && row.name.replace('_', "-") == long;
    if let Some(row) = SETTINGS.iter().find(is_secret) {
        return secret_as_flag(long, row);
    }

    let error = Error::usage(format!("unknown flag --{}", redact(long)));
    let flags = SETTINGS.iter().map(|row| row.flag).filter(|flag| !flag.is_empty());
    match nearest(long, flags.chain(["help", "version"])) {
        Some(flag) => error.hint(format!("--{flag}")),
        None => error.hint("lakebase-token --help"),
    }
}

/// The error for a short flag that we do not have.
pub fn unknown_short_flag(short: char) -> Error {
    let hint = match short {
        'o' => "-f, as in -f json",
        'U' => "--pg-user",
        'd' => "--pg-database",
        'c' | 'A' | 't' | 'X' | 'w' => "lakebase-token psql, with psql's own flags after it",
        _ => "lakebase-token --help",
    };
    Error::usage(format!("unknown flag -{short}")).hint(hint)
}

/// Refuses `-host`, which would be read as several short flags.
pub fn refuse_one_dash(word: &OsStr) -> Result<()> {
    let name = word.to_str().and_then(|word| word.strip_prefix('-')).unwrap_or_default();
    if name.len() < 2 || flag_row(name).is_none() {
        return Ok(());
    }
    Err(Error::usage(format!("-{name} has one dash, and a flag of this name has two"))
        .hint(format!("--{name}")))
}

/// What replaces a flag of psql, of the Databricks CLI or of databricks-oauth-rotator here.
fn meant_flag(long: &str) -> Option<&'static str> {
    Some(match long {
        "workspace" => "--host",
        "url" => "--host",
        "server" => "--host",
        "output" => "--format",
        "json" => "--format json",
        "database" => "--pg-database",
        "role" => "--pg-user",
        "branch" => "--endpoint PROJECT/BRANCH",
        "port" => "--pg-port",
        "username" => "--pg-user",
        "user" => "--pg-user",
        "dbname" => "--pg-database",
        "pg-username" => "--pg-user",
        "workspace-url" => "--host",
        "client-id" => "DATABRICKS_CLIENT_ID",
        "once" => "lakebase-token write pgpass",
        "log-file" => "LAKEBASE_TOKEN_LOG",
        "path" => "--pgpass-file PATH, or lakebase-token write file PATH",
        _ => return None,
    })
}

/// Refuses a secret on the command line and names the settings that may hold it.
fn secret_as_flag(long: &str, row: &Setting) -> Error {
    let variable = row.env.first().unwrap_or(&"the profile");
    let file = SETTINGS.iter().find(|other| other.flag == format!("{long}-file"));

    let error = Error::usage(format!("there is no --{long}: `ps` would show the secret"));
    if row.id == Id::Password {
        return error.hint(
            "DATABRICKS_TOKEN, or DATABRICKS_CLIENT_SECRET: Databricks accepts no passwords",
        );
    }
    match file {
        Some(file) => error.hint(format!("{variable}, or --{} PATH", file.flag)),
        None => error.hint(variable),
    }
}

/// The error for a word that a command has no use for.
pub fn superfluous(command: &str, word: &str) -> Error {
    let is_host = word.contains("://") || word.contains('.') && !word.contains(['/', '@']);
    if is_plain(word) || is_host {
        let shown = shown_word(word);
        let error = Error::usage(format!("{command} takes no argument {shown}"));
        return match command {
            "login" | "logout" | "status" | "doctor" | "get" if is_host => {
                error.hint(format!("lakebase-token {command} --host {shown}"))
            }
            _ => error.hint(format!("lakebase-token {command} --help")),
        };
    }
    // Anything else may be a secret, and is not repeated.
    Error::usage(format!("{command} takes no more arguments"))
        .hint(format!("lakebase-token {command} --help"))
}

/// The command line that starts this child program with these flags. Flags that only we have are moved to us, and
/// a whole line in quotes is taken apart.
pub fn exec_line(command: &str, flags: &[(Id, String)], child: &[OsString]) -> String {
    let mut ours: Vec<String> = Vec::new();
    let mut theirs: Vec<String> = Vec::new();
    let mut words = child.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match flag_of_ours_only(&word) {
            Some(row) => {
                ours.push(shown_word(&word));
                if row.kind != ValueKind::Switch && !word.contains('=') {
                    ours.extend(words.next().map(|value| shown_word(&value)));
                }
            }
            None if child.len() == 1 => theirs.push(taken_apart(&word)),
            None => theirs.push(shown_word(&word)),
        }
    }
    let line = [
        &["lakebase-token".to_owned(), format!("{command}{}", flag_words(flags))][..],
        &ours,
        &["--".to_owned()],
        &theirs,
    ];
    line.concat().join(" ")
}

/// The flag of ours that a word is, if psql has no such flag.
pub fn flag_of_ours_only(word: &str) -> Option<&'static Setting> {
    let name = word.strip_prefix("--")?.split('=').next()?;
    let is_psqls = ["host", "quiet", "version", "output"].contains(&name);
    flag_row(name).filter(|_| !is_psqls)
}

/// The error for the command `run`, which we do not have.
pub fn run(flags: &[(Id, String)], child: &[OsString]) -> Error {
    let error = Error::usage("unknown command run");
    error.hint(if child.is_empty() {
        "lakebase-token exec -- PROGRAM".to_owned()
    } else {
        exec_line("exec", flags, child)
    })
}

/// The error for a flag of ours after `psql`, with the line that was meant.
pub fn misplaced(
    flags: &[(Id, String)],
    words: &[OsString],
    position: usize,
    row: &Setting,
) -> Error {
    let has_value =
        row.kind != ValueKind::Switch && !words[position].to_string_lossy().contains('=');
    let end = words.len().min(position + 1 + usize::from(has_value));
    let [ours, before, after] = [&words[position..end], &words[..position], &words[end..]];
    let line = [ours, &[psql::PROGRAM.into()], before, after].concat();
    let line: Vec<String> = line.iter().map(|word| shown_word(&word.to_string_lossy())).collect();
    Error::usage(format!("psql has no flag --{}: it is one of lakebase-token's", row.flag))
        .hint(format!("lakebase-token{} {}", flag_words(flags), line.join(" ")))
}

/// A command line that takes this flag.
pub fn command_with(id: Id, value: &str) -> Option<String> {
    let command = COMMANDS.iter().find(|other| other.is_public() && other.takes(id))?;
    if let Some(target) = TARGETS.iter().find(|target| target.keys.contains(&id)) {
        return Some(format!("lakebase-token {} {}", command.name, target.command()));
    }
    let flag = SETTINGS[id as usize].flag;
    let value = if value.is_empty() { String::new() } else { format!(" {}", shown_word(value)) };
    Some(format!("lakebase-token {} --{flag}{value}", command.name))
}

/// A word of a command line, as a shell takes it.
fn shown_word(word: &str) -> String {
    quoting::sh_word(&redact(word))
}

pub fn unreadable(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            Error::usage(format!("{option} takes no value"))
        }
        _ => Error::usage("cannot read the command line").hint("lakebase-token --help"),
    }
}
