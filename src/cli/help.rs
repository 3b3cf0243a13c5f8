//! `--help`, made from the tables of commands, targets, settings and formats, so that it cannot
//! differ from them.

use std::fmt::Write as _;

use crate::cli::table::COMMANDS;
use crate::commands::command::{Command, Subcommand};
use crate::config::table::{Id, SETTINGS, Setting};
use crate::formats;
use crate::formats::FORMATS;
use crate::targets::table;
use crate::targets::table::TARGETS;

/// A line of a paragraph, so that the help fits a terminal of 100 columns.
const MAX_LINE_BYTES: usize = 90;

pub fn version() -> String {
    format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"))
}

/// The help of the whole program.
pub fn program() -> String {
    let mut text = String::from(
        "lakebase-token prints a valid Databricks Lakebase (Postgres) password, from its cache or\n\
         newly minted. If many processes ask at once, only one of them mints.\n\n\
         usage: lakebase-token [COMMAND] [FLAGS]\n\n",
    );
    for command in COMMANDS.iter().filter(|command| command.is_public()) {
        item(&mut text, 12, command.name, command.about);
    }

    text.push_str(
        "\nexamples:\n\
         \x20 lakebase-token psql                    connect; needs only a Databricks login\n\
         \x20 lakebase-token exec -- pg_dump         run any program with a password\n\
         \x20 lakebase-token login --host URL        log in with a browser\n\
         \x20 lakebase-token -f json                 print token, expiry, role and host\n\
         \x20 lakebase-token service install pgpass  keep ~/.pgpass up to date for all programs\n\
         \x20 lakebase-token status                  show the settings and where they come from\n\n\
         in a script, with PGHOST and PGUSER set:\n\
         \x20 PGPASSWORD=$(lakebase-token) && export PGPASSWORD && psql\n\n\
         `lakebase-token COMMAND --help` lists the flags of a command.\n\n",
    );
    exit_codes(&mut text, &COMMANDS[0]);
    text
}

/// The help of one command.
pub fn command(command: &Command) -> String {
    let mut text = format!(
        "lakebase-token {}: {}\n\nusage: lakebase-token {} {}\n\n{}\n",
        command.name,
        command.about,
        command.name,
        command.usage,
        wrapped(command.more)
    );
    subcommands(&mut text, command);
    targets(&mut text, command);
    flags(&mut text, command, |_| true);
    formats(&mut text, command);
    environment(&mut text, command);
    text.push('\n');
    exit_codes(&mut text, command);
    text
}

/// The help of `service install` and of the other subcommands.
pub fn subcommand(command: &Command, subcommand: &Subcommand) -> String {
    let name = format!("lakebase-token {} {}", command.name, subcommand.name);
    let mut text = format!(
        "{name}: {}\n\nusage: {name} TARGET [FLAGS]\n\n`lakebase-token {} --help` says more.\n",
        subcommand.about, command.name
    );
    targets(&mut text, command);
    flags(&mut text, command, subcommand.takes);
    text
}

fn subcommands(text: &mut String, command: &Command) {
    if !command.subcommands.is_empty() {
        text.push_str("\nactions:\n");
        for subcommand in command.subcommands {
            item(text, 12, subcommand.name, subcommand.about);
        }
    }
}

fn targets(text: &mut String, command: &Command) {
    if command.takes_target {
        text.push_str("\ntargets:\n");
        for row in TARGETS {
            item(text, 32, &row.command(), row.about);
        }
    }
}

fn flags(text: &mut String, command: &Command, takes: fn(Id) -> bool) {
    let of_targets = table::flags().filter(|_| command.takes_target);
    let own = of_targets.chain(command.flags.iter().copied());
    let own: Vec<Id> = own.filter(|id| takes(*id)).collect();
    if !own.is_empty() {
        text.push('\n');
        settings(text, &own);
    }

    let common: Vec<Id> = command.common.iter().copied().filter(|id| takes(*id)).collect();
    text.push_str(if common.contains(&Id::Endpoint) {
        "\nworkspace, database, freshness:\n"
    } else if common.contains(&Id::Host) {
        "\nworkspace:\n"
    } else {
        "\n"
    });
    settings(text, &common);
    item(text, 32, "-h, --help", "print this help");
    item(text, 32, "-V, --version", "print the version");
}

fn settings(text: &mut String, ids: &[Id]) {
    for row in ids.iter().map(|id| &SETTINGS[*id as usize]) {
        item(text, 32, &flag(row), row.about);
    }
}

fn flag(row: &Setting) -> String {
    let short = row.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    format!("{short}--{} {}", row.flag, row.value)
}

fn formats(text: &mut String, command: &Command) {
    if !command.takes(Id::Format) || command.prints_report {
        return;
    }
    text.push_str("\nformats:\n");
    for format in FORMATS {
        item(text, 16, format.name, format.about);
    }

    let names: Vec<&str> = formats::for_workspaces().map(|format| format.name).collect();
    if let [names @ .., last] = &names[..] {
        let names = names.join(", ");
        let _ = writeln!(text, "\n{names} and {last} also print a workspace token.");
    }
}

/// The variables that a command reads. A command without shared flags reads none.
fn environment(text: &mut String, command: &Command) {
    if command.common.is_empty() {
        return;
    }
    text.push_str(
        "\nenvironment (precedence: flag, then variables from left to right, then profile):\n",
    );
    for row in SETTINGS.iter().filter(|row| command.takes(row.id) && !row.env.is_empty()) {
        item(text, 18, &format!("--{}", row.flag), &row.env.join(", "));
    }
    text.push_str(
        "  and every variable of Databricks unified authentication (DATABRICKS_CLIENT_ID, …)\n\
         \x20 LAKEBASE_TOKEN_LOG=PATH  append a line to this file for each mint, write, failure\n",
    );
}

fn exit_codes(text: &mut String, command: &Command) {
    let _ = writeln!(text, "{}", command.exit_codes);
}

/// An item of a list: the name in a column of this width, then what it is, which may need more lines.
fn item(text: &mut String, width: usize, name: &str, about: &str) {
    let mut name = name;
    let mut line = String::new();
    for word in about.split(' ') {
        if !line.is_empty() && width + line.len() + word.len() > MAX_LINE_BYTES {
            let _ = writeln!(text, "  {name:<width$}{line}");
            name = "";
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "  {name:<width$}{line}");
}

fn wrapped(paragraphs: &str) -> String {
    paragraphs.split("\n\n").map(wrapped_paragraph).collect::<Vec<_>>().join("\n\n")
}

fn wrapped_paragraph(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < MAX_LINE_BYTES => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
