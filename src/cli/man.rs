//! `man`: the manual page, from the tables that `--help` is made from. The notation is man(7).

use crate::commands::command::{Call, Command, ROW};
use crate::config::table::{SETTINGS, Setting};
use crate::error::Result;
use crate::formats::FORMATS;
use crate::targets::table::TARGETS;

pub const COMMAND: Command = Command {
    name: "man",
    about: "print the manual page",
    usage: "> lakebase-token.1",
    more: "To read it at once: lakebase-token man | man -l -",
    codes: "exit codes: 0 printed",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let page = page(call.commands);
    call.print(&page)?;
    Ok(0)
}

/// Text as man(7) wants it: no line may begin with a dot or an apostrophe, and a dash is a dash.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn page(commands: &[Command]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH LAKEBASE\\-TOKEN 1 \"\" \"lakebase\\-token {version}\" \"User Commands\"\n\
         .SH NAME\n\
         lakebase\\-token \\- print a fresh Databricks Lakebase (Postgres) password\n\
         .SH SYNOPSIS\n"
    );
    let commands = || commands.iter().filter(|command| command.is_public());
    for command in commands() {
        page.push_str(&format!(
            ".B lakebase\\-token {}\n{}\n.br\n",
            escaped(command.name),
            escaped(command.usage)
        ));
    }
    page.push_str(
        ".SH DESCRIPTION\n\
         Databricks Lakebase is Postgres whose passwords are OAuth tokens that die within the hour.\n\
         .B lakebase\\-token\n\
         prints one: from its cache while it is fresh, otherwise minted from the workspace, under a \
         lock, by exactly one of however many processes ask.\nWithout a command it is\n.BR get .\n",
    );
    for command in commands() {
        page.push_str(&format!(".SS {} \\- {}\n", escaped(command.name), escaped(command.about)));
        for paragraph in command.more.split("\n\n") {
            page.push_str(&format!(".PP\n{}\n", escaped(&joined(paragraph))));
        }
        page.push_str(&format!(".PP\n{}.\n", escaped(&joined(command.codes))));
    }
    page.push_str(".SH PLACES\n");
    for row in TARGETS {
        item(&mut page, &row.command(), row.about);
    }
    page.push_str(".SH FORMATS\n");
    for format in FORMATS {
        item(&mut page, format.name, format.about);
    }
    page.push_str(".SH OPTIONS\n");
    for row in SETTINGS.iter().filter(|row| !row.flag.is_empty()) {
        option(&mut page, row);
    }
    item(&mut page, "-h, --help", "print help");
    item(&mut page, "-V, --version", "print the version");
    page.push_str(
        ".SH ENVIRONMENT\n\
         A flag wins over the environment, that over the profile. All variables of Databricks unified \
         authentication are understood, and\n",
    );
    item(&mut page, "LAKEBASE_TOKEN_LOG", "a file for a line a mint, write and failure");
    page.push_str(
        ".SH FILES\n\
         .TP\n.I ~/.databrickscfg\nprofiles\n\
         .TP\n.I ~/.cache/lakebase\\-token\nthe cache; delete it to forget everything\n\
         .TP\n.I ~/.local/state/lakebase\\-token\nlogins\n\
         .SH SEE ALSO\n.BR psql (1),\n.BR systemd.timer (5)\n",
    );
    page
}

/// A paragraph of our sources as one line.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn item(page: &mut String, name: &str, about: &str) {
    page.push_str(&format!(".TP\n.B {}\n{}\n", escaped(name), escaped(about)));
}

fn option(page: &mut String, row: &Setting) {
    let short = row.short.map_or(String::new(), |short| format!("-{short}, "));
    let name = format!("{short}--{} {}", row.flag, row.value);
    let variables = match row.env {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    item(page, name.trim_end(), &format!("{}{variables}", row.about));
}
