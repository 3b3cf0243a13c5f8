//! `completions`: prints a script with which a shell completes lakebase-token's command lines, made
//! from the tables of commands, flags, targets, formats and auth types.
//!
//! Each script is a template (`completions/*.in`) with the names filled in. After a flag it offers
//! the flag's values, after a dash the command's flags, after `--` what the child program takes,
//! otherwise the command's arguments. Names that only a workspace or a file knows (endpoints,
//! profiles) are not completed: pressing Tab must not wait for a request.

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
    about: "print a script that lets a shell complete command lines",
    usage: "bash|zsh|fish|powershell",
    more: "bash: put `eval \"$(lakebase-token completions bash)\"` into ~/.bashrc.\n\n\
           zsh: put `eval \"$(lakebase-token completions zsh)\"` into ~/.zshrc, after compinit.\n\n\
           fish: write the script to ~/.config/fish/completions/lakebase-token.fish.\n\n\
           PowerShell: put `lakebase-token completions powershell | Out-String | \
           Invoke-Expression` into $PROFILE.",
    max_words: 1,
    completions: || SHELLS.iter().map(|shell| shell.name).collect(),
    exit_codes: "exit codes: 0 printed, 2 unknown shell",
    run,
    ..ROW
};

struct Shell {
    name: &'static str,
    script: fn(&Commands) -> String,
}

const SHELLS: [Shell; 4] = [
    Shell { name: "bash", script: bash },
    Shell { name: "zsh", script: zsh },
    Shell { name: "fish", script: fish },
    Shell { name: "powershell", script: powershell },
];

fn run(mut call: Call<'_>) -> Result<u8> {
    let name = call.words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let Some(shell) = SHELLS.iter().find(|shell| shell.name == name) else {
        return Err(unknown_shell(&name));
    };

    let script = (shell.script)(&Commands(call.commands));
    call.print(&script)?;
    Ok(0)
}

fn unknown_shell(name: &str) -> Error {
    let error = if name.is_empty() {
        Error::usage("missing shell")
    } else {
        Error::usage(format!("there are no completions for {}", redact(name)))
    };
    let names = || SHELLS.iter().map(|shell| shell.name);
    let near = nearest(name, names()).unwrap_or("bash");
    let others: Vec<&str> = names().filter(|name| *name != near).collect();
    error.hint(format!("lakebase-token completions {near}  # or {}", others.join(", ")))
}

/// The template with each `{{name}}` replaced.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

struct Commands(&'static [Command]);

impl Commands {
    fn public(&self) -> impl Iterator<Item = &'static Command> {
        self.0.iter().filter(|command| command.is_public())
    }

    fn names(&self) -> String {
        self.public().map(|command| command.name).collect::<Vec<_>>().join(" ")
    }

    fn default(&self) -> &'static str {
        self.0[0].name
    }
}

fn flags(command: &'static Command) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| !row.flag.is_empty() && command.takes(row.id))
}

/// What may follow a flag.
enum Values {
    /// The flag is a switch.
    None,
    File,
    OneOf(Vec<&'static str>),
    /// Only a workspace or the user knows the values.
    Unknown,
}

fn values(row: &Setting) -> Values {
    match (row.id, row.kind) {
        (_, ValueKind::Switch) => Values::None,
        (Id::Format, _) => Values::OneOf(FORMATS.iter().map(|format| format.name).collect()),
        (Id::For, _) => Values::OneOf(vec!["database", "workspace"]),
        (Id::AuthType, _) => Values::OneOf(chain::supported()),
        _ if row.value.starts_with("PATH") => Values::File,
        _ => Values::Unknown,
    }
}

/// `pattern) body ;;` for each row of a `case`, in sh's notation.
fn cases(rows: impl Iterator<Item = (String, String)>) -> String {
    rows.map(|(pattern, body)| format!("        {pattern}) {body} ;;\n")).collect()
}

/// How the user types a flag: `--format`, and `-f` if there is a short form.
fn typed(row: &Setting, separator: &str) -> String {
    let short = row.short.map_or(String::new(), |short| format!("{separator}-{short}"));
    format!("--{}{short}", row.flag)
}

/// For each flag with a value, the code that completes the value, in sh's notation.
fn value_cases(complete_file: &str, complete_one_of: fn(&str) -> String) -> String {
    let rows = SETTINGS.iter().filter(|row| !row.flag.is_empty());
    cases(rows.filter_map(|row| {
        let body = match values(row) {
            Values::None => return None,
            Values::File => complete_file.to_owned(),
            Values::OneOf(names) => complete_one_of(&names.join(" ")),
            Values::Unknown => "return".to_owned(),
        };
        Some((typed(row, "|"), body))
    }))
}

fn bash(commands: &Commands) -> String {
    let cases = cases(commands.public().map(|command| {
        let flags: Vec<String> = flags(command).map(|row| typed(row, " ")).collect();
        let flags = flags.join(" ");
        let words = (command.completions)().join(" ");
        let body = format!("flags='{flags} --help -h --version -V' words='{words}'");
        (command.name.to_owned(), body)
    }));
    let values = value_cases("compopt -o default; return", |names| {
        format!("mapfile -t COMPREPLY < <(compgen -W '{names}' -- \"$word\"); return")
    });

    filled(
        include_str!("completions/bash.in"),
        &[("names", &commands.names()), ("values", &values), ("commands", &cases)],
    )
}

fn zsh(commands: &Commands) -> String {
    let described: Vec<String> = commands
        .public()
        .map(|command| quoting::sh(&format!("{}:{}", command.name, command.about)))
        .collect();
    let cases = cases(commands.public().map(|command| {
        let flags = zsh_flags(command);
        let words = (command.completions)().join(" ");
        (command.name.to_owned(), format!("flags=({flags}) words_=({words})"))
    }));
    let values = value_cases("_files; return", |names| format!("compadd -- {names}; return"));

    filled(
        include_str!("completions/zsh.in"),
        &[
            ("described", &described.join(" ")),
            ("names", &commands.names()),
            ("values", &values),
            ("commands", &cases),
        ],
    )
}

/// The flags with their descriptions, as `_describe` takes them.
fn zsh_flags(command: &'static Command) -> String {
    let mut described = Vec::new();
    for row in flags(command) {
        let about = row.about.replace(':', "\\:");
        described.push(quoting::sh(&format!("--{}:{about}", row.flag)));
        described.extend(row.short.map(|short| quoting::sh(&format!("-{short}:{about}"))));
    }
    described.push(quoting::sh("--help:print this help"));
    described.join(" ")
}

fn fish(commands: &Commands) -> String {
    const BEFORE_CHILD: &str = "__lakebase_token_before_child";

    let names = commands.names();
    let mut lines = Vec::new();
    for command in commands.public() {
        let about = quoting::fish(command.about);
        lines.push(format!(
            "complete -c lakebase-token \
             -n '{BEFORE_CHILD}; and not __fish_seen_subcommand_from {names}' -a {} -d {about}",
            command.name
        ));
    }
    for command in commands.public() {
        let condition = if command.name == commands.default() {
            // It also applies while the line names no command.
            let others = commands.public().map(|other| other.name);
            let others: Vec<&str> = others.filter(|name| *name != command.name).collect();
            format!("not __fish_seen_subcommand_from {}", others.join(" "))
        } else {
            format!("__fish_seen_subcommand_from {}", command.name)
        };
        let start = format!("complete -c lakebase-token -n '{BEFORE_CHILD}; and {condition}'");
        lines.extend(fish_lines(command, &start));
    }

    filled(include_str!("completions/fish.in"), &[("lines", &lines.join("\n"))])
}

fn fish_lines(command: &'static Command, start: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let words = (command.completions)();
    if !words.is_empty() {
        lines.push(format!("{start} -F -a {}", quoting::fish(&words.join(" "))));
    }

    for row in flags(command) {
        let short = row.short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = match values(row) {
            Values::None => String::new(),
            Values::File => " -r -F".to_owned(),
            Values::OneOf(names) => format!(" -x -a {}", quoting::fish(&names.join(" "))),
            Values::Unknown => " -x".to_owned(),
        };
        let about = quoting::fish(row.about);
        lines.push(format!("{start} -l {}{short}{value} -d {about}", row.flag));
    }
    lines
}

fn powershell(commands: &Commands) -> String {
    let rows: String = commands
        .public()
        .map(|command| {
            let flags: Vec<String> = flags(command).map(|row| format!("--{}", row.flag)).collect();
            let flags = powershell_list(flags.iter().map(String::as_str));
            let words = powershell_list((command.completions)().into_iter());
            format!("        '{}' = @({flags}), @({words})\n", command.name)
        })
        .collect();
    let values: String = SETTINGS
        .iter()
        .filter(|row| !row.flag.is_empty())
        .filter_map(|row| {
            let Values::OneOf(names) = values(row) else { return None };
            let names = powershell_list(names.into_iter());
            Some(format!("        '--{}' = @({names})\n", row.flag))
        })
        .collect();

    filled(include_str!("completions/powershell.in"), &[("commands", &rows), ("values", &values)])
}

fn powershell_list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(quoting::powershell).collect::<Vec<_>>().join(", ")
}
