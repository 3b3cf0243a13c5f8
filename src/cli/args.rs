//! The command line: command, flags, arguments and, for `exec`, a child program. Reading it touches
//! neither files nor network.
//!
//! The flags are rows of the settings table (`config/table.rs`); the command's row says which of them
//! it takes. `config/resolve.rs` checks the values. A message never repeats a value, because a user
//! may type a secret there.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use crate::cli::table::{self, COMMANDS};
use crate::commands::command::Command;
use crate::commands::psql;
use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::quoting;
use crate::suggest::{is_plain, nearest};
use crate::targets::table::TARGETS;

/// A command line.
pub struct Args {
    pub command: &'static Command,
    /// The flags with their values; a switch has an empty one.
    pub flags: Vec<(Id, String)>,
    /// The arguments after the command's name.
    pub words: Vec<OsString>,
    /// The child program and its arguments, from after `--`.
    pub child: Vec<OsString>,
    /// Set if the user asks for help or the version; then the command does not run.
    pub show: Option<Show>,
}

/// What to print instead of running the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The help of the command if the command line names one, otherwise of the program.
    Help {
        command: bool,
    },
    Version,
    /// `version --output json`.
    JsonVersion,
    /// `help settings`: all flags and variables.
    Settings,
    /// `help formats`.
    Formats,
}

/// Reads the arguments that follow the program's name.
pub fn parse(argv: &[OsString]) -> Result<Args> {
    let (own, child) = split(argv);
    let mut parser = Parser::from_args(own);
    let mut line = Line::default();

    let mut own_words = own.iter().filter_map(|word| word.to_str());
    match own_words.next() {
        Some("help") if own.len() <= 2 => {
            line.help = true;
            match own_words.next() {
                None => (),
                Some("settings") => line.topic = Some(Show::Settings),
                Some("formats") => line.topic = Some(Show::Formats),
                Some(word) => match nearest(word, ["settings", "formats"].into_iter()) {
                    Some(topic) if table::find(word).is_none() => {
                        return Err(Error::usage(format!("there is no help for {}", redact(word)))
                            .hint(format!("lakebase-token help {topic}")));
                    }
                    _ => line.command = Some(find_command(word)?),
                },
            }
            return Ok(line.into_args(child));
        }
        Some("version") if own.len() == 1 => {
            line.version = true;
            return Ok(line.into_args(child));
        }
        // As Databricks' SDK for Python asks the Databricks CLI.
        Some("version") if own_words.eq(["--output", "json"]) => {
            line.topic = Some(Show::JsonVersion);
            return Ok(line.into_args(child));
        }
        _ => (),
    }

    while let Some(arg) = parser.next().map_err(unreadable)? {
        let row = match arg {
            Arg::Short('h') | Arg::Long("help") => {
                line.help = true;
                continue;
            }
            Arg::Short('V') | Arg::Long("version") => {
                line.version = true;
                continue;
            }
            Arg::Value(word) if line.command.is_none() && word == psql::PROGRAM => {
                line.command = Some(&psql::COMMAND);
                // Without `--`, all that follows is psql's.
                if own.len() == argv.len() {
                    line.add_psql(parser.raw_args().map_err(unreadable)?.collect())?;
                    break;
                }
                line.child = vec![psql::PROGRAM.into()];
                continue;
            }
            Arg::Value(word) if line.lacks_dashes() => {
                let rest: Vec<OsString> = parser.raw_args().map_err(unreadable)?.collect();
                return Err(line.without_dashes(&[&[word][..], &rest, child].concat()));
            }
            Arg::Value(word) if line.command.is_none() && word == "run" => {
                let mut rest: Vec<OsString> = parser.raw_args().map_err(unreadable)?.collect();
                rest.extend_from_slice(child);
                let error = Error::usage("unknown command run");
                return Err(error.hint(if rest.is_empty() {
                    "lakebase-token exec -- PROGRAM".to_owned()
                } else {
                    exec_line("exec", &rest)
                }));
            }
            Arg::Value(word) => {
                line.add_word(word)?;
                continue;
            }
            Arg::Short(short) => find_short_flag(short)?,
            Arg::Long(long) => find_flag(long)?,
        };
        let value = flag_value(&mut parser, row)?;
        line.add_flag(row, value)?;
    }

    let args = line.into_args(child);
    if args.show.is_none() {
        check(&args)?;
    }
    Ok(args)
}

/// What has been read of a command line.
#[derive(Default)]
struct Line {
    command: Option<&'static Command>,
    flags: Vec<(Id, String)>,
    words: Vec<OsString>,
    /// What precedes the words after `--` in the child's command line.
    child: Vec<OsString>,
    help: bool,
    version: bool,
    /// What `help TOPIC` shows.
    topic: Option<Show>,
}

impl Line {
    /// The words after `psql`: psql's own, but for a lone request for help.
    fn add_psql(&mut self, words: Vec<OsString>) -> Result<()> {
        if let [word] = &words[..] {
            self.help = word == "-h" || word == "--help";
            self.version = word == "-V" || word == "--version";
        }
        for (position, word) in words.iter().enumerate() {
            if let Some(row) = word.to_str().and_then(flag_of_ours_only) {
                return Err(misplaced(&words, position, row));
            }
        }
        self.child = [psql::PROGRAM.into()].into_iter().chain(words).collect();
        Ok(())
    }

    /// The first word names the command, the others are its arguments.
    fn add_word(&mut self, word: OsString) -> Result<()> {
        let Some(command) = self.command else {
            self.command = Some(find_command(&word.to_string_lossy())?);
            return Ok(());
        };

        let name = command.name;
        if self.words.len() == command.max_words {
            return Err(superfluous(name, &word.to_string_lossy()));
        }
        self.words.push(word);
        Ok(())
    }

    /// Whether another word can only be the beginning of a child program's command line.
    fn lacks_dashes(&self) -> bool {
        let is_full = |command: &Command| self.words.len() == command.max_words;
        self.command.is_some_and(|command| command.takes_child && is_full(command))
    }

    fn without_dashes(&self, child: &[OsString]) -> Error {
        let name = self.command.map_or("exec", |command| command.name);
        Error::usage(format!("{name} needs `--` before the program to run"))
            .hint(exec_line(name, child))
    }

    fn add_flag(&mut self, row: &Setting, value: String) -> Result<()> {
        if self.flags.iter().any(|(id, _)| *id == row.id) {
            return Err(Error::usage(format!("--{} is given twice", row.flag)));
        }
        self.flags.push((row.id, value));
        Ok(())
    }

    fn into_args(self, child: &[OsString]) -> Args {
        let show = if let Some(topic) = self.topic {
            Some(topic)
        } else if self.help {
            Some(Show::Help { command: self.command.is_some() })
        } else if self.version {
            Some(Show::Version)
        } else {
            None
        };
        Args {
            command: self.command.unwrap_or(&COMMANDS[0]),
            flags: self.flags,
            words: self.words,
            child: self.child.into_iter().chain(child.iter().cloned()).collect(),
            show,
        }
    }
}

/// The program's own arguments, and what follows `--`.
fn split(argv: &[OsString]) -> (&[OsString], &[OsString]) {
    let end = argv.iter().position(|arg| arg == "--").unwrap_or(argv.len());
    (&argv[..end], argv.get(end + 1..).unwrap_or_default())
}

fn flag_value(parser: &mut Parser, row: &Setting) -> Result<String> {
    let flag = row.flag;
    if row.kind == ValueKind::Switch {
        return Ok(String::new());
    }
    let missing = || {
        let example = if row.value == "TIME" { ", such as 10m" } else { "" };
        Error::usage(format!("--{flag} needs a value: {}{example}", row.value))
    };
    let value = parser.value().map_err(|_| missing())?;
    if value.to_str().and_then(|value| value.strip_prefix("--")).and_then(row_of).is_some() {
        return Err(missing());
    }
    value
        .into_string()
        .map_err(|_| Error::usage(format!("the value of --{flag} is not valid UTF-8")))
}

/// Checks what is known only after the last argument: whether the command takes these flags and a
/// child program.
fn check(args: &Args) -> Result<()> {
    let name = args.command.name;
    for (id, value) in &args.flags {
        if !args.command.takes(*id) {
            let flag = SETTINGS[*id as usize].flag;
            let error = Error::usage(format!("{name} has no flag --{flag}"));
            return Err(error.hint(command_with(*id, value).unwrap_or(format!("{name} --help"))));
        }
    }

    let has_child = !args.child.is_empty();
    if args.command.takes_child && !has_child {
        return Err(Error::usage(format!("{name} needs a program to run"))
            .hint(format!("lakebase-token {name} -- psql")));
    }
    if has_child && !args.command.takes_child {
        return Err(Error::usage(format!("{name} does not run a program"))
            .hint("lakebase-token exec -- psql"));
    }
    Ok(())
}

/// A command line that takes this flag.
fn command_with(id: Id, value: &str) -> Option<String> {
    let command = COMMANDS.iter().find(|other| other.is_public() && other.takes(id))?;
    if let Some(target) = TARGETS.iter().find(|target| target.keys.contains(&id)) {
        return Some(format!("lakebase-token {} {}", command.name, target.command()));
    }
    let flag = SETTINGS[id as usize].flag;
    let value = if value.is_empty() { String::new() } else { format!(" {}", shown_word(value)) };
    Some(format!("lakebase-token {} --{flag}{value}", command.name))
}

/// The error for a word that a command has no use for.
fn superfluous(command: &str, word: &str) -> Error {
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

/// The command line that starts this child program. Flags that only we have are moved to us, and a
/// whole line in quotes is taken apart.
fn exec_line(command: &str, child: &[OsString]) -> String {
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
            None if child.len() == 1 => theirs.push(redact(&word)),
            None => theirs.push(shown_word(&word)),
        }
    }
    let line = [
        &["lakebase-token".to_owned(), command.to_owned()][..],
        &ours,
        &["--".to_owned()],
        &theirs,
    ];
    line.concat().join(" ")
}

/// The flag of ours that a word is, if psql has no such flag.
fn flag_of_ours_only(word: &str) -> Option<&'static Setting> {
    let name = word.strip_prefix("--")?.split('=').next()?;
    let is_psqls = ["host", "quiet", "version", "output"].contains(&name);
    row_of(name).filter(|_| !is_psqls)
}

fn row_of(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|row| !row.flag.is_empty() && row.flag == flag)
}

/// The error for a flag of ours after `psql`, with the line that was meant.
fn misplaced(words: &[OsString], position: usize, row: &Setting) -> Error {
    let has_value =
        row.kind != ValueKind::Switch && !words[position].to_string_lossy().contains('=');
    let end = words.len().min(position + 1 + usize::from(has_value));
    let [ours, before, after] = [&words[position..end], &words[..position], &words[end..]];
    let line = [ours, &[psql::PROGRAM.into()], before, after].concat();
    let line: Vec<String> = line.iter().map(|word| shown_word(&word.to_string_lossy())).collect();
    Error::usage(format!("psql has no flag --{}: it is one of lakebase-token's", row.flag))
        .hint(format!("lakebase-token {}", line.join(" ")))
}

/// A word of a command line, as a shell takes it.
fn shown_word(word: &str) -> String {
    quoting::sh_word(&redact(word))
}

fn unreadable(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            Error::usage(format!("{option} takes no value"))
        }
        _ => Error::usage("cannot read the command line").hint("lakebase-token --help"),
    }
}

fn find_command(word: &str) -> Result<&'static Command> {
    if let Some(command) = table::find(word) {
        return Ok(command);
    }
    if let Some(meant) = meant_command(word) {
        return Err(
            Error::usage(format!("unknown command {word}")).hint(format!("lakebase-token {meant}"))
        );
    }

    // What a word processor makes of two dashes.
    if let Some(flag) = word.strip_prefix(['\u{2013}', '\u{2014}']) {
        let error =
            Error::usage("a flag begins with two dashes, and this is a dash of another kind");
        return Err(if is_plain(flag) { error.hint(format!("--{flag}")) } else { error });
    }
    // Anything but a plain word may be a secret, and is not repeated.
    let error = Error::usage(if is_plain(word) {
        format!("unknown command {word}")
    } else {
        "unknown command".to_owned()
    });
    let known = COMMANDS.iter().filter(|command| command.is_public());
    Err(match nearest(word, known.map(|command| command.name)) {
        Some(name) => error.hint(format!("lakebase-token {name}")),
        None => error.hint("lakebase-token --help"),
    })
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
        "check" => "doctor",
        "install" => "service install pgpass",
        "uninstall" => "service uninstall pgpass",
        "pgpass" => "write pgpass",
        "file" => "write file PATH",
        "databrickscfg" => "write databrickscfg --to NAME",
        "secret" => "write secret --scope SCOPE --key KEY",
        _ => return None,
    })
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
        _ => return None,
    })
}

fn find_short_flag(short: char) -> Result<&'static Setting> {
    SETTINGS.iter().find(|row| row.short == Some(short)).ok_or_else(|| {
        let hint = match short {
            'o' => "-f, as in -f json",
            'U' => "--pg-user",
            'd' => "--pg-database",
            'c' | 'A' | 't' | 'X' | 'w' => "lakebase-token psql, with psql's own flags after it",
            _ => "lakebase-token --help",
        };
        Error::usage(format!("unknown flag -{short}")).hint(hint)
    })
}

fn find_flag(long: &str) -> Result<&'static Setting> {
    // What the Databricks CLI calls it.
    let long = if long == "project" { "endpoint" } else { long };
    if let Some(row) = row_of(long) {
        return Ok(row);
    }
    if let Some(meant) = meant_flag(long) {
        return Err(Error::usage(format!("unknown flag --{long}")).hint(meant));
    }
    let is_secret =
        |row: &&Setting| row.kind == ValueKind::Secret && row.name.replace('_', "-") == long;
    if let Some(row) = SETTINGS.iter().find(is_secret) {
        return Err(secret_as_flag(long, row));
    }

    let error = Error::usage(format!("unknown flag --{}", redact(long)));
    let flags = SETTINGS.iter().map(|row| row.flag).filter(|flag| !flag.is_empty());
    Err(match nearest(long, flags.chain(["help", "version"])) {
        Some(flag) => error.hint(format!("--{flag}")),
        None => error.hint("lakebase-token --help"),
    })
}

/// Refuses a secret on the command line and names the settings that may hold it.
fn secret_as_flag(long: &str, row: &Setting) -> Error {
    let variable = row.env.first().unwrap_or(&"the profile");
    let file = SETTINGS.iter().find(|other| other.flag == format!("{long}-file"));

    let error = Error::usage(format!("there is no --{long}: `ps` would show the secret"));
    match file {
        Some(file) => error.hint(format!("{variable}, or --{} PATH", file.flag)),
        None => error.hint(variable),
    }
}

/// The command that a command line names, even if the rest of the line is wrong. The exit code of the
/// error depends on it.
pub fn named_command(argv: &[OsString]) -> Option<&'static Command> {
    let mut parser = Parser::from_args(split(argv).0);
    let mut is_value_of_unknown_flag = false;
    loop {
        let row = match parser.next() {
            Ok(None) => return None,
            Ok(Some(Arg::Value(word))) => match word.to_str().and_then(table::find) {
                Some(command) => return Some(command),
                None if is_value_of_unknown_flag => continue,
                None => return None,
            },
            Ok(Some(Arg::Short(short))) => SETTINGS.iter().find(|row| row.short == Some(short)),
            Ok(Some(Arg::Long(long))) => row_of(long),
            // For example a value for a switch.
            Err(_) => continue,
        };
        is_value_of_unknown_flag = row.is_none();
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
    fn flags_may_stand_anywhere_and_the_default_command_is_get() {
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
    fn words_after_psql_are_its_own() {
        for (line, child, flags) in [
            ("psql", "psql", 0),
            ("psql -h db -c x", "psql -h db -c x", 0),
            ("--endpoint shop psql -U me", "psql -U me", 1),
            ("psql --host db --quiet", "psql --host db --quiet", 0),
            ("psql --endpoint shop -- -c x", "psql -c x", 1),
            ("--endpoint shop psql -- --version", "psql --version", 1),
        ] {
            let args = parse(&argv(line)).ok().unwrap();
            assert_eq!(args.command.name, "psql", "{line}");
            assert_eq!(
                (args.child, args.flags.len(), args.show),
                (argv(child), flags, None),
                "{line}"
            );
        }
        for line in ["psql --help", "psql -h", "help psql", "psql -h --"] {
            let show = parse(&argv(line)).ok().unwrap().show;
            assert_eq!(show, Some(Show::Help { command: true }), "{line}");
        }
        assert_eq!(parse(&argv("psql -V")).ok().unwrap().show, Some(Show::Version));
        assert_eq!(parse(&argv("version")).ok().unwrap().show, Some(Show::Version));
        assert_eq!(parse(&argv("help")).ok().unwrap().show, Some(Show::Help { command: false }));
        let args = parse(&argv("--project shop")).ok().unwrap();
        assert_eq!(args.flags, [(Id::Endpoint, "shop".to_owned())]);
    }

    #[test]
    fn help_and_version_take_precedence() {
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
    fn errors_suggest_what_the_user_probably_meant() {
        for (line, message, hint) in [
            ("stauts", "unknown command stauts", "lakebase-token status"),
            ("--formt raw", "unknown flag --formt", "--format"),
            ("-x", "unknown flag -x", "lakebase-token --help"),
            ("-p a -p b", "--profile is given twice", ""),
            ("--profile", "--profile needs a value: NAME", ""),
            (
                "exec psql",
                "exec needs `--` before the program to run",
                "lakebase-token exec -- psql",
            ),
            ("exec", "exec needs a program to run", "lakebase-token exec -- psql"),
            ("get -- psql", "get does not run a program", "lakebase-token exec -- psql"),
            ("status --clean", "status has no flag --clean", "lakebase-token exec --clean"),
            ("run -- psql -c x", "unknown command run", "lakebase-token exec -- psql -c x"),
            ("run", "unknown command run", "lakebase-token exec -- PROGRAM"),
            ("run psql -c x", "unknown command run", "lakebase-token exec -- psql -c x"),
            (
                "exec psql -c x",
                "exec needs `--` before the program to run",
                "lakebase-token exec -- psql -c x",
            ),
            ("-o json", "unknown flag -o", "-f, as in -f json"),
            ("--json", "unknown flag --json", "--format json"),
            ("--workspace x", "unknown flag --workspace", "--host"),
            ("get --all", "get has no flag --all", "lakebase-token logout --all"),
            (
                "psql -c x --endpoint shop",
                "psql has no flag --endpoint: it is one of lakebase-token's",
                "lakebase-token --endpoint shop psql -c x",
            ),
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
    fn a_wrong_line_still_names_its_command_and_a_value_is_no_command() {
        for (line, command) in [
            ("exec --formt x", "exec"),
            ("--clean exec", "exec"),
            ("--refresh=yes exec", "exec"),
            ("--bogus x exec", "exec"),
            ("-p exec status", "status"),
            ("-p exec", ""),
            ("help exec", ""),
            ("--pg-database exec --ttl 1m", ""),
            ("-- exec", ""),
        ] {
            assert_eq!(
                named_command(&argv(line)).map_or("", |command| command.name),
                command,
                "{line}"
            );
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
