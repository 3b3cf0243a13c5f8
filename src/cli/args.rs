//! The command line, read without touching anything: command, flags, and for `exec` a command.
//!
//! Flags are the rows of the settings table that have one; which of them a command takes is the
//! command's row. Values are not looked at here, and never repeated in a message: somebody will put
//! a secret there.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use crate::cli::table::{self, COMMANDS};
use crate::commands::command::Command;
use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::suggest::{is_plain, nearest};

/// A command line.
pub struct Args {
    /// What to do.
    pub command: &'static Command,
    /// Flags and their texts.
    pub flags: Vec<(Id, String)>,
    /// What follows the command's name.
    pub words: Vec<OsString>,
    /// What follows `--`.
    pub child: Vec<OsString>,
    /// Help or version was asked for, so nothing else counts.
    pub show: Option<Show>,
}

/// What to show instead of doing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The help of the program, or of the command.
    Help {
        /// A command was named.
        command: bool,
    },
    /// The version.
    Version,
}

/// Reads what comes behind the program's name.
pub fn parse(argv: &[OsString]) -> Result<Args> {
    let (ours, child) = split(argv);
    let mut parser = Parser::from_args(ours);
    let mut named: Option<&'static Command> = None;
    let mut flags: Vec<(Id, String)> = Vec::new();
    let mut words = Vec::new();
    let mut show = None;
    while let Some(arg) = parser.next().map_err(bad)? {
        let row = match arg {
            Arg::Short('h') | Arg::Long("help") => {
                show = Some(Show::Help { command: false });
                continue;
            }
            Arg::Short('V') | Arg::Long("version") => {
                show = show.or(Some(Show::Version));
                continue;
            }
            Arg::Value(word) => {
                match named {
                    None => named = Some(find_command(&word.to_string_lossy())?),
                    Some(command) if command.takes_child => {
                        return Err(Error::usage(format!(
                            "{} wants `--` before the command",
                            command.name
                        ))
                        .hint(format!("lakebase-token {} -- COMMAND", command.name)));
                    }
                    Some(command) if words.len() < command.max_words => words.push(word),
                    Some(command) => {
                        return Err(Error::usage(format!(
                            "{} takes no further words",
                            command.name
                        ))
                        .hint(format!("lakebase-token {} --help", command.name)));
                    }
                }
                continue;
            }
            Arg::Short(short) => {
                SETTINGS.iter().find(|row| row.short == Some(short)).ok_or_else(|| {
                    Error::usage(format!("unknown flag -{short}")).hint("lakebase-token --help")
                })?
            }
            Arg::Long(long) => find_flag(long)?,
        };
        let text = if row.kind == ValueKind::Switch {
            String::new()
        } else {
            let value = parser.value().map_err(|_| {
                Error::usage(format!("--{} wants a value: {}", row.flag, row.value))
            })?;
            value.into_string().map_err(|_| {
                Error::usage(format!("the value of --{} is not valid UTF-8", row.flag))
            })?
        };
        if flags.iter().any(|(id, _)| *id == row.id) {
            return Err(Error::usage(format!("--{} is given twice", row.flag)));
        }
        flags.push((row.id, text));
    }
    let command = named.unwrap_or(&COMMANDS[0]);
    if let Some(Show::Help { command }) = &mut show {
        *command = named.is_some();
    }
    let args = Args { command, flags, words, child: child.to_vec(), show };
    if args.show.is_none() {
        check(&args)?;
    }
    Ok(args)
}

/// Ours, and the command behind `--`.
fn split(argv: &[OsString]) -> (&[OsString], &[OsString]) {
    let end = argv.iter().position(|arg| arg == "--").unwrap_or(argv.len());
    (&argv[..end], argv.get(end + 1..).unwrap_or_default())
}

fn check(args: &Args) -> Result<()> {
    let Args { command, flags, child, .. } = args;
    for (id, _) in flags {
        if !command.takes(*id) {
            let flag = SETTINGS[*id as usize].flag;
            return Err(Error::usage(format!("{} has no flag --{flag}", command.name))
                .hint(format!("lakebase-token {} --help", command.name)));
        }
    }
    match (command.takes_child, child.is_empty()) {
        (true, true) => Err(Error::usage(format!("{} wants a command", command.name))
            .hint(format!("lakebase-token {} -- psql", command.name))),
        (false, false) => Err(Error::usage(format!("{} takes no command", command.name))
            .hint("lakebase-token exec -- COMMAND")),
        _ => Ok(()),
    }
}

fn bad(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            Error::usage(format!("{option} takes no value"))
        }
        _ => Error::usage("the command line cannot be read").hint("lakebase-token --help"),
    }
}

fn find_command(word: &str) -> Result<&'static Command> {
    if let Some(command) = table::find(word) {
        return Ok(command);
    }
    if let Some((_, meant)) = WORDS.iter().find(|(theirs, _)| *theirs == word) {
        let meant = format!("lakebase-token {meant}");
        return Err(Error::usage(format!("unknown command {word}")).hint(meant));
    }
    let error = Error::usage(if is_plain(word) {
        format!("unknown command {word}")
    } else {
        "the first word is no command".to_owned()
    });
    let known = COMMANDS.iter().filter(|command| command.is_public());
    Err(match nearest(word, known.map(|command| command.name)) {
        Some(name) => error.hint(format!("lakebase-token {name}")),
        None => error.hint("lakebase-token --help"),
    })
}

/// Verbs that people try, and what they mean.
const WORDS: [(&str, &str); 9] = [
    ("psql", "exec -- psql"),
    ("install", "service install pgpass"),
    ("uninstall", "service uninstall pgpass"),
    ("pgpass", "write pgpass"),
    ("file", "write file PATH"),
    ("databrickscfg", "write databrickscfg --to NAME"),
    ("secret", "write secret --scope SCOPE --key KEY"),
    ("help", "--help"),
    ("version", "--version"),
];

/// Flags of psql and of databricks-oauth-rotator, and what takes their place.
const FLAGS: [(&str, &str); 9] = [
    ("port", "--pg-port"),
    ("username", "--pg-user"),
    ("user", "--pg-user"),
    ("dbname", "--pg-database"),
    ("pg-username", "--pg-user"),
    ("workspace-url", "--host"),
    ("client-id", "DATABRICKS_CLIENT_ID"),
    ("once", "lakebase-token write pgpass"),
    ("log-file", "LAKEBASE_TOKEN_LOG"),
];

fn find_flag(long: &str) -> Result<&'static Setting> {
    if let Some(row) = SETTINGS.iter().find(|row| !row.flag.is_empty() && row.flag == long) {
        return Ok(row);
    }
    if let Some((_, ours)) = FLAGS.iter().find(|(theirs, _)| *theirs == long) {
        return Err(Error::usage(format!("unknown flag --{long}")).hint(ours));
    }
    let secret =
        |row: &&Setting| row.kind == ValueKind::Secret && row.name.replace('_', "-") == long;
    if let Some(row) = SETTINGS.iter().find(secret) {
        let file = SETTINGS.iter().find(|other| other.flag == format!("{long}-file"));
        let variable = row.env.first().unwrap_or(&"the profile");
        let error = Error::usage(format!("there is no --{long}: `ps` would show the secret"));
        return Err(match file {
            Some(file) => error.hint(format!("{variable}, or --{} PATH", file.flag)),
            None => error.hint(variable),
        });
    }
    let error = Error::usage(format!("unknown flag --{}", redact(long)));
    let flags = SETTINGS.iter().map(|row| row.flag).filter(|flag| !flag.is_empty());
    Err(match nearest(long, flags.chain(["help", "version"])) {
        Some(flag) => error.hint(format!("--{flag}")),
        None => error.hint("lakebase-token --help"),
    })
}

/// The command that a command line names, however wrong the rest of it is.
pub fn named(argv: &[OsString]) -> Option<&'static Command> {
    let mut parser = Parser::from_args(split(argv).0);
    loop {
        let row = match parser.next() {
            Ok(None) => return None,
            Ok(Some(Arg::Value(word))) => match word.to_str().and_then(table::find) {
                Some(command) => return Some(command),
                None => continue,
            },
            Ok(Some(Arg::Short(short))) => SETTINGS.iter().find(|row| row.short == Some(short)),
            Ok(Some(Arg::Long(long))) => SETTINGS.iter().find(|row| row.flag == long),
            Err(_) => continue, // a value for a switch, say
        };
        if row.is_some_and(|row| row.kind != ValueKind::Switch) {
            parser.value().ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn error(line: &str) -> Error {
        match parse(&argv(line)) {
            Err(error) => error,
            Ok(_) => panic!("{line}"),
        }
    }

    #[test]
    fn flags_stand_anywhere_and_without_a_verb_it_is_get() {
        for line in ["-p prod -fjson", "get --profile=prod --format json", "-p prod get -f json"] {
            let args = parse(&argv(line)).ok().unwrap();
            assert_eq!(args.command.name, "get");
            let expected = [(Id::Profile, "prod".to_owned()), (Id::Format, "json".to_owned())];
            assert_eq!(args.flags, expected);
        }
        let args = parse(&argv("exec -v -- psql -c x --help")).ok().unwrap();
        assert_eq!(args.child, argv("psql -c x --help"));
        assert_eq!(args.show, None);
    }

    #[test]
    fn help_and_version_win_over_everything() {
        for (line, show) in [
            ("--help", Show::Help { command: false }),
            ("exec -h", Show::Help { command: true }),
            ("status --version", Show::Version),
            ("exec --clean --help -V", Show::Help { command: true }),
        ] {
            assert_eq!(parse(&argv(line)).ok().unwrap().show, Some(show), "{line}");
        }
    }

    #[test]
    fn mistakes_name_what_was_probably_meant() {
        for (line, message, hint) in [
            ("stauts", "unknown command stauts", "lakebase-token status"),
            ("--formt raw", "unknown flag --formt", "--format"),
            ("-x", "unknown flag -x", "lakebase-token --help"),
            ("-p a -p b", "--profile is given twice", ""),
            ("--profile", "--profile wants a value: NAME", ""),
            ("exec psql", "exec wants `--` before the command", "lakebase-token exec -- COMMAND"),
            ("exec", "exec wants a command", "lakebase-token exec -- psql"),
            ("get -- psql", "get takes no command", "lakebase-token exec -- COMMAND"),
            ("status --clean", "status has no flag --clean", "lakebase-token status --help"),
            ("--refresh=yes", "--refresh takes no value", ""),
            (
                "--client-secret dose0123456789",
                "there is no --client-secret: `ps` would show the secret",
                "DATABRICKS_CLIENT_SECRET, or --client-secret-file PATH",
            ),
        ] {
            let error = error(line);
            assert_eq!(error.message, message);
            assert_eq!(error.hints.first().map_or("", |hint| hint), hint, "{line}");
        }
    }

    #[test]
    fn the_named_verb_is_found_in_a_wrong_line_and_not_among_values() {
        for (line, command) in [
            ("exec --formt x", "exec"),
            ("--clean exec", "exec"),
            ("--refresh=yes exec", "exec"),
            ("--bogus x exec", "exec"),
            ("-p exec status", "status"),
            ("-p exec", ""),
            ("--pg-database exec --ttl 1m", ""),
            ("-- exec", ""),
        ] {
            assert_eq!(named(&argv(line)).map_or("", |command| command.name), command, "{line}");
        }
    }

    #[test]
    fn no_message_repeats_a_value() {
        for line in [
            "dapi0123456789",
            "--token=dapi0123456789",
            "get dapi0123456789",
            "-fdapi0123456789 -f x",
        ] {
            let error = error(line);
            assert!(!format!("{error:?}").contains("dapi"), "{line}");
        }
    }
}
