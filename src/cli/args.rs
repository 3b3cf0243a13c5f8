//! The command line: command, flags, arguments and, for `exec`, a child program. Reading it touches
//! neither files nor network.
//!
//! The flags are rows of the settings table (`config/table.rs`); the command's row says which of them
//! it takes. `config/checks.rs` checks the values. `mistakes.rs` has the errors.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use crate::cli::mistakes;
use crate::cli::table::{self, COMMANDS};
use crate::commands::command::Command;
use crate::commands::psql;
use crate::config::table::{Id, SETTINGS, Setting, ValueKind, flag_row};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::suggest::nearest;

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
    let line = match help_or_version(own)? {
        Some(line) => line,
        None => Line::read(own, child, own.len() < argv.len())?,
    };
    let args = line.into_args(child);
    if args.show.is_none() {
        check(&args)?;
    }
    Ok(args)
}

/// Whether a third word can be a subcommand: `help service install`.
fn is_help_for(own: &[OsString]) -> bool {
    own.len() < 3 || own[1].to_str().is_some_and(|word| table::find(word).is_some())
}

/// The commands `help` and `version`; nothing for any other.
fn help_or_version(own: &[OsString]) -> Result<Option<Line>> {
    let mut line = Line::default();
    let mut words = own.iter().filter_map(|word| word.to_str());
    match words.next() {
        Some("help") if own.len() <= 3 && is_help_for(own) => {
            line.help = true;
            match words.next() {
                None => (),
                Some("settings") => line.topic = Some(Show::Settings),
                Some("formats") => line.topic = Some(Show::Formats),
                Some(word) => match nearest(word, ["settings", "formats"].into_iter()) {
                    Some(topic) if table::find(word).is_none() => {
                        return Err(Error::usage(format!("there is no help for {}", redact(word)))
                            .hint(format!("lakebase-token help {topic}")));
                    }
                    _ => {
                        line.command = Some(find_command(word)?);
                        // As `service install --help`.
                        line.words = own[2..].to_vec();
                    }
                },
            }
        }
        Some("version") if own.len() == 1 => line.version = true,
        // As Databricks' SDK for Python asks the Databricks CLI.
        Some("version") if words.eq(["--output", "json"]) => line.topic = Some(Show::JsonVersion),
        _ => return Ok(None),
    }
    Ok(Some(line))
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
    /// Reads our own arguments; `child` has those after `--`, if `has_dashes`.
    fn read(own: &[OsString], child: &[OsString], has_dashes: bool) -> Result<Line> {
        // What follows psql is psql's.
        for word in own.iter().take_while(|word| *word != psql::PROGRAM) {
            mistakes::refuse_one_dash(word)?;
        }
        let mut line = Line::default();
        let mut parser = Parser::from_args(own);
        while let Some(arg) = parser.next().map_err(mistakes::unreadable)? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => line.help = true,
                Arg::Short('V') | Arg::Long("version") => line.version = true,
                Arg::Value(word) if line.command.is_none() && word == psql::PROGRAM => {
                    line.command = Some(&psql::COMMAND);
                    if has_dashes {
                        line.child = vec![psql::PROGRAM.into()];
                    } else {
                        // Without `--`, all that follows is psql's.
                        line.add_psql(rest(&mut parser)?)?;
                    }
                }
                Arg::Value(word) if line.lacks_dashes() => {
                    return Err(
                        line.without_dashes(&[&[word][..], &rest(&mut parser)?, child].concat())
                    );
                }
                Arg::Value(word) if line.command.is_none() && word == "run" => {
                    return Err(mistakes::run(&line.flags, &[&rest(&mut parser)?, child].concat()));
                }
                Arg::Value(word) => line.add_word(word)?,
                Arg::Short(short) => {
                    let row = find_short_flag(short)?;
                    line.add_flag(row, flag_value(&mut parser, row)?)?;
                }
                Arg::Long(long) => {
                    let row = find_flag(long)?;
                    line.add_flag(row, flag_value(&mut parser, row)?)?;
                }
            }
        }
        Ok(line)
    }

    /// The words after `psql`: psql's own, but for a lone request for help.
    fn add_psql(&mut self, words: Vec<OsString>) -> Result<()> {
        if let [word] = &words[..] {
            self.help = word == "-h" || word == "--help";
            self.version = word == "-V" || word == "--version";
        }
        for (position, word) in words.iter().enumerate() {
            if let Some(row) = word.to_str().and_then(mistakes::flag_of_ours_only) {
                return Err(mistakes::misplaced(&self.flags, &words, position, row));
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
            return Err(mistakes::superfluous(name, &word.to_string_lossy()));
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
            .hint(mistakes::exec_line(name, &self.flags, child))
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

/// The arguments that are left.
fn rest(parser: &mut Parser) -> Result<Vec<OsString>> {
    Ok(parser.raw_args().map_err(mistakes::unreadable)?.collect())
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
    if value.to_str().and_then(|value| value.strip_prefix("--")).and_then(flag_row).is_some() {
        return Err(missing());
    }
    value
        .into_string()
        .map_err(|_| Error::usage(format!("the value of --{flag} is not valid UTF-8")))
}

fn find_command(word: &str) -> Result<&'static Command> {
    table::find(word).ok_or_else(|| mistakes::unknown_command(word))
}

fn find_short_flag(short: char) -> Result<&'static Setting> {
    let row = SETTINGS.iter().find(|row| row.short == Some(short));
    row.ok_or_else(|| mistakes::unknown_short_flag(short))
}

fn find_flag(long: &str) -> Result<&'static Setting> {
    // What the Databricks CLI calls it.
    let long = if long == "project" { "endpoint" } else { long };
    flag_row(long).ok_or_else(|| mistakes::unknown_flag(long))
}

/// Checks what is known only after the last argument: whether the command takes these flags and a
/// child program.
fn check(args: &Args) -> Result<()> {
    let name = args.command.name;
    for (id, value) in &args.flags {
        if !args.command.takes(*id) {
            let flag = SETTINGS[*id as usize].flag;
            let error = Error::usage(format!("{name} has no flag --{flag}"));
            return Err(
                error.hint(mistakes::command_with(*id, value).unwrap_or(format!("{name} --help")))
            );
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
            Ok(Some(Arg::Long(long))) => flag_row(long),
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
