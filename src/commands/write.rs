//! `write`: brings one target up to date, once.
//!
//! The work is in `targets/update.rs`, which `watch` and `service` use too.

use crate::commands::command::{
    Call, Command, DATABASE_FLAGS, FOREIGN_PASSWORD, ROW, has_foreign_password,
};
use crate::config::table::Id;
use crate::error::Result;
use crate::platform::target_file::Change;
use crate::targets::table;
use crate::targets::update::Update;

pub const COMMAND: Command = Command {
    name: "write",
    about: "bring ~/.pgpass, a file, a profile or a secret up to date, once",
    usage: "TARGET [FLAGS]",
    more: "A file is replaced as a whole, with mode 0600, and only if its content changes. In \
           ~/.pgpass every line for the same host, port, database and role becomes ours, in \
           ~/.databrickscfg only our profile changes; every other byte stays. A profile gets the workspace token. A Databricks secret gets the database \
           credential; its readers must read it again for each connection.\n\n\
           With --interval, for a timer that runs this command, the credential outlives the next \
           two runs. A --then command is stopped after --timeout.",
    flags: &[Id::Interval, Id::Then, Id::Remove, Id::ReadOnly],
    takes_target: true,
    completions: || table::names().collect(),
    common: DATABASE_FLAGS,
    max_words: 2,
    exit_codes: "exit codes: 0 up to date, 1 internal failure or malformed response,\n\
            2 usage or configuration, 3 login required, 4 refused by the server,\n\
            5 temporarily unavailable",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let update = Update::new(call.settings()?, call.words, call.context)?;
    let line = if update.plan.settings.is_on(Id::Remove) {
        remove(&update)?
    } else {
        write(&update, &call)?
    };
    call.print_lines(&line)?;
    Ok(0)
}

fn remove(update: &Update<'_>) -> Result<String> {
    let (change, target) = update.remove()?;
    Ok(match change {
        Change::Unchanged => format!("unchanged: no entry of ours in {target}\n"),
        _ => format!("removed from {target}\n"),
    })
}

fn write(update: &Update<'_>, call: &Call<'_>) -> Result<String> {
    let mut done = update.run()?;
    if update.is_password_file() && has_foreign_password(call.context) {
        call.context.note(FOREIGN_PASSWORD);
    }
    if let Some(error) = done.failure.take() {
        return Err(error);
    }
    call.explain(&update.plan, &done.token);
    Ok(format!("{done}\n"))
}
