//! `completions`: what a shell needs to complete our command line, made from the tables of commands,
//! flags, targets, formats and auth types.
//!
//! Each script is a template (`completions/*.in`) with the names filled in. Behind a flag it offers
//! the flag's values, behind a dash the command's flags, behind `--` what the child program takes,
//! otherwise the command's words. Values that only a workspace or a file knows are not looked up:
//! pressing Tab must not wait.

use crate::auth::chain;
use crate::commands::command::{Call, Command, ROW};
use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats::FORMATS;
use crate::quoting;
use crate::suggest::nearest;

pub const COMMAND: Command = Command {
    name: "completions",
    about: "print what a shell needs to complete command lines",
    usage: "bash|zsh|fish|powershell",
    more: "bash: put `eval \"$(lakebase-token completions bash)\"` into ~/.bashrc. zsh: the same, after \
           compinit. fish: write it to ~/.config/fish/completions/lakebase-token.fish. PowerShell: \
           put `lakebase-token completions powershell | Out-String | Invoke-Expression` into $PROFILE.",
    max_words: 1,
    words: || SHELLS.iter().map(|shell| shell.name).collect(),
    codes: "exit codes: 0 printed, 2 no such shell",
    run,
    ..ROW
};

struct Shell {
    name: &'static str,
    script: fn(&Table) -> String,
}

const SHELLS: [Shell; 4] = [
    Shell { name: "bash", script: bash },
    Shell { name: "zsh", script: zsh },
    Shell { name: "fish", script: fish },
    Shell { name: "powershell", script: powershell },
];

fn run(mut call: Call<'_>) -> Result<u8> {
    let names = || SHELLS.iter().map(|shell| shell.name);
    let word = call.words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let Some(shell) = SHELLS.iter().find(|shell| shell.name == word) else {
        let words = match &*word {
            "" => "completions for which shell?".to_owned(),
            other => format!("there are no completions for {}", redact(other)),
        };
        let hint = nearest(&word, names()).map_or(COMMAND.usage.to_owned(), str::to_owned);
        return Err(Error::usage(words).hint(format!("lakebase-token completions {hint}")));
    };

    let script = (shell.script)(&Table(call.commands));
    call.print(&script)?;
    Ok(0)
}

/// The template with each `{{name}}` replaced.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

/// The commands that are for people.
struct Table(&'static [Command]);

impl Table {
    fn commands(&self) -> impl Iterator<Item = &'static Command> {
        self.0.iter().filter(|command| command.is_public())
    }

    fn names(&self) -> String {
        self.commands().map(|command| command.name).collect::<Vec<_>>().join(" ")
    }

    /// The command that is meant where none is named.
    fn default(&self) -> &'static str {
        self.0[0].name
    }
}

fn flags(command: &'static Command) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| !row.flag.is_empty() && command.takes(row.id))
}

/// What may stand behind a flag.
enum Values {
    /// It is a switch.
    None,
    File,
    These(Vec<&'static str>),
    /// Only a workspace or the user knows.
    Any,
}

fn values(row: &Setting) -> Values {
    match (row.id, row.kind) {
        (_, ValueKind::Switch) => Values::None,
        (Id::Format, _) => Values::These(FORMATS.iter().map(|format| format.name).collect()),
        (Id::For, _) => Values::These(vec!["database", "workspace"]),
        (Id::AuthType, _) => Values::These(chain::supported()),
        _ if row.value.starts_with("PATH") => Values::File,
        _ => Values::Any,
    }
}

/// `pattern) body ;;` for each row of a `case`, in sh's notation.
fn cases(rows: impl Iterator<Item = (String, String)>) -> String {
    rows.map(|(pattern, body)| format!("        {pattern}) {body} ;;\n")).collect()
}

/// How a flag is typed: `--format`, and `-f` where there is one.
fn typed(row: &Setting, between: &str) -> String {
    let short = row.short.map_or(String::new(), |short| format!("{between}-{short}"));
    format!("--{}{short}", row.flag)
}

/// The flags that take values, and what completes those, in sh's notation.
fn value_cases(file: &str, these: fn(&str) -> String) -> String {
    let rows = SETTINGS.iter().filter(|row| !row.flag.is_empty());
    cases(rows.filter_map(|row| {
        let body = match values(row) {
            Values::None => return None,
            Values::File => file.to_owned(),
            Values::These(names) => these(&names.join(" ")),
            Values::Any => "return".to_owned(),
        };
        Some((typed(row, "|"), body))
    }))
}

fn bash(table: &Table) -> String {
    let commands = cases(table.commands().map(|command| {
        let flags: Vec<String> = flags(command).map(|row| typed(row, " ")).collect();
        let (flags, words) = (flags.join(" "), (command.words)().join(" "));
        let body = format!("flags='{flags} --help -h --version -V' words='{words}'");
        (command.name.to_owned(), body)
    }));
    let values = value_cases("compopt -o default; return", |names| {
        format!("mapfile -t COMPREPLY < <(compgen -W '{names}' -- \"$word\"); return")
    });
    filled(
        include_str!("completions/bash.in"),
        &[("names", &table.names()), ("values", &values), ("commands", &commands)],
    )
}

fn zsh(table: &Table) -> String {
    let described_flags = |command: &'static Command| {
        let described = flags(command).flat_map(|row| {
            let about = row.about.replace(':', "\\:");
            let short = row.short.map(|short| quoting::sh(&format!("-{short}:{about}")));
            [Some(quoting::sh(&format!("--{}:{about}", row.flag))), short]
        });
        let described = described.flatten().chain(["'--help:this text'".to_owned()]);
        described.collect::<Vec<_>>().join(" ")
    };
    let described =
        table.commands().map(|command| quoting::sh(&format!("{}:{}", command.name, command.about)));
    let described = described.collect::<Vec<_>>().join(" ");
    let commands = cases(table.commands().map(|command| {
        let words = (command.words)().join(" ");
        let body = format!("flags=({}) words_=({words})", described_flags(command));
        (command.name.to_owned(), body)
    }));
    let values = value_cases("_files; return", |names| format!("compadd -- {names}; return"));
    filled(
        include_str!("completions/zsh.in"),
        &[
            ("described", &described),
            ("names", &table.names()),
            ("values", &values),
            ("commands", &commands),
        ],
    )
}

fn fish(table: &Table) -> String {
    const BEFORE: &str = "__lakebase_token_before_child";
    let mut lines = Vec::new();
    for command in table.commands() {
        let (names, about) = (table.names(), quoting::fish(command.about));
        lines.push(format!(
            "complete -c lakebase-token -n '{BEFORE}; and not __fish_seen_subcommand_from {names}' \
             -a {} -d {about}",
            command.name
        ));
    }
    for command in table.commands() {
        let condition = if command.name == table.default() {
            // It is meant where no other one is named.
            let others = table.commands().map(|other| other.name);
            let others: Vec<&str> = others.filter(|name| *name != command.name).collect();
            format!("not __fish_seen_subcommand_from {}", others.join(" "))
        } else {
            format!("__fish_seen_subcommand_from {}", command.name)
        };
        let start = format!("complete -c lakebase-token -n '{BEFORE}; and {condition}'");
        lines.extend(fish_lines(command, &start));
    }
    filled(include_str!("completions/fish.in"), &[("lines", &lines.join("\n"))])
}

fn fish_lines(command: &'static Command, start: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let words = (command.words)();
    if !words.is_empty() {
        lines.push(format!("{start} -F -a {}", quoting::fish(&words.join(" "))));
    }
    for row in flags(command) {
        let short = row.short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = match values(row) {
            Values::None => String::new(),
            Values::File => " -r -F".to_owned(),
            Values::These(names) => format!(" -x -a {}", quoting::fish(&names.join(" "))),
            Values::Any => " -x".to_owned(),
        };
        let about = quoting::fish(row.about);
        lines.push(format!("{start} -l {}{short}{value} -d {about}", row.flag));
    }
    lines
}

fn powershell(table: &Table) -> String {
    let list = |names: &[&str]| {
        names.iter().map(|name| quoting::powershell(name)).collect::<Vec<_>>().join(", ")
    };
    let commands: String = table
        .commands()
        .map(|command| {
            let flags: Vec<String> = flags(command).map(|row| format!("--{}", row.flag)).collect();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let (flags, words) = (list(&flags), list(&(command.words)()));
            format!("        '{}' = @({flags}), @({words})\n", command.name)
        })
        .collect();
    let known = SETTINGS.iter().filter(|row| !row.flag.is_empty());
    let values: String = known
        .filter_map(|row| match values(row) {
            Values::These(names) => {
                Some(format!("        '--{}' = @({})\n", row.flag, list(&names)))
            }
            _ => None,
        })
        .collect();
    filled(
        include_str!("completions/powershell.in"),
        &[("commands", &commands), ("values", &values)],
    )
}
