//! `--help`, made from the tables of commands, places, settings and formats, so that it cannot drift.

use std::fmt::Write as _;

use crate::cli::table::COMMANDS;
use crate::commands::command::Command;
use crate::config::table::{Id, SETTINGS, Setting};
use crate::formats;
use crate::formats::FORMATS;
use crate::targets::table;
use crate::targets::table::TARGETS;

/// The version line.
pub fn version() -> String {
    format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"))
}

/// The help of the whole program.
pub fn program() -> String {
    let mut text = String::from(
        "lakebase-token prints a fresh Databricks Lakebase (Postgres) password: from its cache, or\n\
         minted by exactly one of however many ask.\n\n\
         usage: lakebase-token [COMMAND] [FLAGS]\n\n",
    );
    for command in COMMANDS.iter().filter(|command| command.is_public()) {
        let _ = writeln!(text, "  {:<12} {}", command.name, command.about);
    }
    text.push_str(
        "\nexamples:\n\
         \x20 PGPASSWORD=$(lakebase-token) psql      with PGHOST and PGUSER set\n\
         \x20 lakebase-token login --host URL        a person logs in, with a browser\n\
         \x20 lakebase-token exec -- psql            with nothing set but a Databricks login\n\
         \x20 lakebase-token -f json                 token, expiry, role, host\n\
         \x20 lakebase-token service install pgpass  keep ~/.pgpass true for all that read it\n\
         \x20 lakebase-token status                  what is configured, and where\n\n\
         `lakebase-token COMMAND --help` lists a command's flags.\n\n",
    );
    let _ = writeln!(text, "{}", COMMANDS[0].codes);
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
    if command.takes_target {
        text.push_str("\nplaces:\n");
        for row in TARGETS {
            let _ = writeln!(text, "  {:<32} {}", row.command(), row.about);
        }
    }
    let own = table::flags().filter(|_| command.takes_target).chain(command.flags.iter().copied());
    let own: Vec<Id> = own.collect();
    if !own.is_empty() {
        text.push('\n');
        flags(&mut text, &own);
    }
    let (database, alone) = (command.takes(Id::Endpoint), command.common.is_empty());
    text.push_str(match (alone, database) {
        (true, _) => "\n",
        (false, true) => "\nworkspace, database, freshness:\n",
        (false, false) => "\nworkspace:\n",
    });
    flags(&mut text, command.common);
    text.push_str(
        "  -h, --help                       this text\n  -V, --version                    the version\n",
    );
    if command.takes(Id::Format) && !command.prints_report {
        text.push_str("\nformats:\n");
        for format in FORMATS {
            let _ = writeln!(text, "  {:<16} {}", format.name, format.about);
        }
        let able: Vec<&str> = formats::for_workspaces().map(|format| format.name).collect();
        if let [names @ .., last] = &able[..] {
            let names = names.join(", ");
            let _ = writeln!(text, "\n{names} and {last} also print a workspace token.");
        }
    }
    if alone {
        let _ = writeln!(text, "\n{}", command.codes);
        return text;
    }
    text.push_str("\nenvironment (a flag wins; then the first of these; then the profile):\n");
    for row in SETTINGS.iter().filter(|row| command.takes(row.id) && !row.env.is_empty()) {
        let _ = writeln!(text, "  --{:<16} {}", row.flag, row.env.join(", "));
    }
    text.push_str(
        "  all of Databricks unified authentication (DATABRICKS_CLIENT_ID, …)\n\
         \x20 LAKEBASE_TOKEN_LOG=PATH  a line there for each mint, write and failure\n\n",
    );
    let _ = writeln!(text, "{}", command.codes);
    text
}

fn flags(text: &mut String, ids: &[Id]) {
    for row in ids.iter().map(|id| &SETTINGS[*id as usize]) {
        let _ = writeln!(text, "  {:<32} {}", left(row), row.about);
    }
}

fn left(row: &Setting) -> String {
    let short = row.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    format!("{short}--{} {}", row.flag, row.value)
}

/// Breaks paragraphs into lines of at most 90 characters.
fn wrapped(paragraphs: &str) -> String {
    paragraphs.split("\n\n").map(lines).collect::<Vec<_>>().join("\n\n")
}

fn lines(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 90 => {
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
