//! `write`: brings one place up to date, once.

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::config::table::Id;
use crate::error::Result;
use crate::platform::target_file::Change;
use crate::targets::table;
use crate::targets::update::Update;

pub const COMMAND: Command = Command {
    name: "write",
    about: "bring ~/.pgpass, a file, a profile or a secret up to date, once",
    usage: "PLACE [FLAGS]",
    more: "A file is replaced whole, with mode 0600, and only if it changes; of ~/.pgpass and \
           ~/.databrickscfg every byte stays that is not ours. A profile gets the workspace token, \
           a secret the database credential, which every reader must read again for each \
           connection. A command of --then has --timeout to end. With --interval what is written \
           lives until the look after the next, which is what a timer wants.",
    flags: &[Id::Interval, Id::Then, Id::Remove],
    takes_target: true,
    words: || table::names().collect(),
    common: COMMON,
    max_words: 2,
    codes: "exit codes: 0 up to date, 1 broken, 2 usage or configuration, 3 log in first, 4 refused,\n\
            5 not available now",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let update = Update::new(call.settings()?, call.words, call.context)?;
    let place = update.shown();
    let line = if update.plan.settings.is_on(Id::Remove) {
        match update.remove()? {
            Change::Unchanged => format!("unchanged: nothing of ours is in {place}\n"),
            _ => format!("removed from {place}\n"),
        }
    } else {
        let mut done = update.run()?;
        if let Some(error) = done.failure.take() {
            return Err(error);
        }
        call.explain(&update.plan, &done.token);
        format!("{done}\n")
    };
    call.print(&line)?;
    Ok(0)
}
