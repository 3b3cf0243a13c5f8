//! `man`: prints the manual page, made from the same tables as `--help`. The notation is man(7).

use crate::commands::command::{Call, Command, ROW};
use crate::config::table::{SETTINGS, Setting};
use crate::error::Result;
use crate::formats::FORMATS;
use crate::targets::table::TARGETS;

pub const COMMAND: Command = Command {
    name: "man",
    about: "print the manual page",
    usage: "> lakebase-token.1",
    more: "To read it without a file: lakebase-token man | man -l -",
    exit_codes: "exit codes: 0 printed",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let page = page(call.commands);
    call.print(&page)?;
    Ok(0)
}

fn page(commands: &[Command]) -> String {
    let public: Vec<&Command> = commands.iter().filter(|command| command.is_public()).collect();
    let mut page = String::new();
    head(&mut page, &public);
    description(&mut page, &public);
    targets_and_formats(&mut page);
    options(&mut page);
    freshness(&mut page);
    foot(&mut page);
    page
}

fn head(page: &mut String, commands: &[&Command]) {
    let version = env!("CARGO_PKG_VERSION");
    page.push_str(&format!(
        ".TH LAKEBASE\\-TOKEN 1 \"\" \"lakebase\\-token {version}\" \"User Commands\"\n\
         .SH NAME\n\
         lakebase\\-token \\- print a valid Databricks Lakebase (Postgres) password\n\
         .SH SYNOPSIS\n"
    ));
    for command in commands {
        let name = escaped(command.name);
        let usage = escaped(command.usage);
        page.push_str(&format!(".B lakebase\\-token {name}\n{usage}\n.br\n"));
    }
}

fn description(page: &mut String, commands: &[&Command]) {
    page.push_str(
        ".SH DESCRIPTION\n\
         Databricks Lakebase is Postgres with OAuth tokens as passwords, which expire within an \
         hour.\n\
         .B lakebase\\-token\n\
         prints a valid one: from its cache while that one is fresh, otherwise newly minted by the \
         workspace.\nIf many processes ask at once, only one of them mints.\n\
         The default command is\n.BR get .\n",
    );
    for command in commands {
        page.push_str(&format!(".SS {} \\- {}\n", escaped(command.name), escaped(command.about)));
        for paragraph in command.more.split("\n\n") {
            page.push_str(&format!(".PP\n{}\n", escaped(&in_one_line(paragraph))));
        }
        for subcommand in command.subcommands {
            item(page, subcommand.name, subcommand.about);
        }
        page.push_str(&format!(".PP\n{}.\n", escaped(&in_one_line(command.exit_codes))));
    }
}

fn targets_and_formats(page: &mut String) {
    page.push_str(".SH TARGETS\n");
    for row in TARGETS {
        item(page, &row.command(), row.about);
    }
    page.push_str(".SH FORMATS\n");
    for format in FORMATS {
        item(page, format.name, format.about);
    }
}

fn options(page: &mut String) {
    page.push_str(".SH OPTIONS\n");
    for row in SETTINGS.iter().filter(|row| !row.flag.is_empty()) {
        option(page, row);
    }
    item(page, "-h, --help", "print help");
    item(page, "-V, --version", "print the version");
}

fn option(page: &mut String, row: &Setting) {
    let short = row.short.map_or(String::new(), |short| format!("-{short}, "));
    let name = format!("{short}--{} {}", row.flag, row.value);
    let about = if row.long.is_empty() { row.about } else { row.long };
    let variables = match row.env {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    item(page, name.trim_end(), &format!("{about}{variables}"));
}

/// `cache/policy.rs` and `cache/freshness.rs` for users.
fn freshness(page: &mut String) {
    page.push_str(
        ".SH FRESHNESS\n\
         A cached credential is printed at once while it has more than 20 minutes left, or half of \
         its lifetime if that is less. Below that, one caller mints a new one, for at most two \
         seconds, and all others get the cached one without waiting. With less than 10 minutes, or \
         a third of its lifetime, callers wait for the new one; if the workspace does not answer, \
         the cached one is printed while it has a minute left. A credential that has expired is \
         never printed.\n\
         .PP\n\
         Each identity, workspace, database and lifetime has an entry of its own in the cache. When \
         the secret of an identity changes, its entries are no longer used. Postgres checks a \
         password at login only, so open connections outlive it.\n",
    );
}

fn foot(page: &mut String) {
    page.push_str(
        ".SH ENVIRONMENT\n\
         A flag takes precedence over its variables, and these over the profile. lakebase-token \
         reads the variables of Databricks unified authentication (lakebase-token help settings), and:\n",
    );
    item(page, "LAKEBASE_TOKEN_LOG", "a file that gets a line for each mint, write and failure");
    page.push_str(
        ".SH FILES\n\
         .TP\n.I ~/.databrickscfg\nprofiles\n\
         .TP\n.I ~/.cache/lakebase\\-token\nthe cache; it may be deleted at any time\n\
         .TP\n.I ~/.local/state/lakebase\\-token\nlogins\n\
         .SH SEE ALSO\n.BR psql (1),\n.BR systemd.timer (5)\n",
    );
}

fn item(page: &mut String, name: &str, about: &str) {
    page.push_str(&format!(".TP\n.B {}\n{}\n", escaped(name), escaped(about)));
}

/// Text for man(7): a line that begins with a dot or an apostrophe is a request, and an unescaped
/// `-` is a hyphen, which cannot be pasted into a shell.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// Joins the lines of a text of the source code.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
