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
use crate::targets::target::TargetRow;

/// A line of a paragraph, so that the help fits a terminal of 100 columns.
const MAX_LINE_BYTES: usize = 90;

pub fn version() -> String {
    format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"))
}

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
         More: `lakebase-token help COMMAND`, `help settings`, `help formats`.\n\n",
    );
    exit_codes(&mut text, &COMMANDS[0]);
    text
}

/// The longest help of a command, so that it fits a terminal of 24 lines.
const MAX_LINES: usize = 24;

/// The flags that a command's help shows of those that commands share.
const SHOWN: [Id; 5] = [Id::Profile, Id::Host, Id::Endpoint, Id::PgUser, Id::Timeout];

pub fn command(command: &Command) -> String {
    let name = format!("lakebase-token {}", command.name);
    let usage = with_targets(command.usage);
    let head = format!("{name}: {}\n\nusage: {name} {usage}\n", command.about);

    let mut list = String::new();
    if command.subcommands.is_empty() {
        flags(&mut list, command, |_| true);
    } else {
        for subcommand in command.subcommands {
            item(&mut list, 12, subcommand.name, subcommand.about);
        }
    }
    let foot = match command.subcommands.first() {
        Some(first) => format!("The flags of an action: `{name} {} --help`\n", first.name),
        None => pointers(command),
    };
    page(&head, command.more, &list, &foot)
}

/// The help of `service install` and of the other subcommands.
pub fn subcommand(command: &Command, subcommand: &Subcommand) -> String {
    let name = format!("lakebase-token {} {}", command.name, subcommand.name);
    let usage = with_targets("TARGET [FLAGS]");
    let head = format!("{name}: {}\n\nusage: {name} {usage}\n", subcommand.about);
    let mut list = String::new();
    flags(&mut list, command, subcommand.takes);
    let more = format!("See also: `lakebase-token {} --help`", command.name);
    page(&head, &more, &list, &pointers(command))
}

/// A page of help, with as many paragraphs as there is room for.
fn page(head: &str, more: &str, list: &str, foot: &str) -> String {
    let count = |text: &str| text.lines().count();
    // A blank line precedes the list and the foot.
    let mut room = MAX_LINES.saturating_sub(count(head) + 1 + count(list) + 1 + count(foot));
    let mut text = head.to_owned();
    for paragraph in more.split("\n\n").map(wrapped_paragraph) {
        let needed = 1 + count(&paragraph);
        if needed > room {
            break;
        }
        room -= needed;
        text.push_str(&format!("\n{paragraph}\n"));
    }
    format!("{text}\n{list}\n{foot}")
}

fn pointers(command: &Command) -> String {
    if command.common.is_empty() {
        return "lakebase-token man prints the manual.\n".to_owned();
    }
    let formats = command.takes(Id::Format) && !command.prints_report;
    let formats = if formats { " `lakebase-token help formats`," } else { "" };
    format!("more: `lakebase-token help settings`,{formats} `lakebase-token man`\n")
}

/// A usage line that names the targets.
fn with_targets(usage: &str) -> String {
    let name = |row: &TargetRow| {
        if row.takes_path() { format!("{} PATH", row.name) } else { row.name.to_owned() }
    };
    let names: Vec<String> = TARGETS.iter().map(name).collect();
    usage.replacen("TARGET", &names.join("|"), 1)
}

fn flags(text: &mut String, command: &Command, takes: fn(Id) -> bool) {
    let of_targets = table::flags().filter(|_| command.takes_target);
    let own = of_targets.chain(command.flags.iter().copied()).filter(|id| takes(*id));
    let shared = SHOWN.iter().copied().filter(|id| command.common.contains(id) && takes(*id));
    for id in own.chain(shared) {
        let row = &SETTINGS[id as usize];
        item(text, 32, &flag(row), if id == Id::Timeout { command.timeout } else { row.about });
    }
    item(text, 32, "-h, --help", "print this help");
}

fn flag(row: &Setting) -> String {
    let short = row.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
    format!("{short}--{} {}", row.flag, row.value)
}

/// `help settings`: every flag with its variables, then the settings without a flag.
pub fn all_settings() -> String {
    let mut text = String::from(
        "Precedence: flag, then the variables from left to right, then the profile of\n\
         ~/.databrickscfg, then the default. A profile named by --profile takes\n\
         precedence over inherited variables.\n\n",
    );
    for row in SETTINGS.iter().filter(|row| !row.flag.is_empty()) {
        item(&mut text, 32, &flag(row), row.about);
        if !row.env.is_empty() {
            item(&mut text, 32, "", &row.env.join(", "));
        }
    }

    text.push_str("\nDatabricks unified authentication and libpq, without a flag:\n");
    for row in SETTINGS.iter().filter(|row| row.flag.is_empty()) {
        let names =
            if row.env.is_empty() { "in a profile only".to_owned() } else { row.env.join(", ") };
        item(&mut text, 32, row.name, &names);
    }
    text.push('\n');
    exit_codes(&mut text, &COMMANDS[0]);
    text
}

/// `help formats`.
pub fn all_formats() -> String {
    let mut text = String::from("Values of --format for get, write file and watch file:\n\n");
    for format in FORMATS {
        item(&mut text, 16, format.name, format.about);
    }
    let names: Vec<&str> = formats::for_workspaces().map(|format| format.name).collect();
    if let [names @ .., last] = &names[..] {
        let names = names.join(", ");
        let _ = writeln!(text, "\n{names} and {last} also print a workspace token.");
    }
    text
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
