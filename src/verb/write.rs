//! `write`: brings one place up to date, once.

use super::{Call, Verb};
use crate::error::Result;
use crate::place::Change;
use crate::settings::Id;
use crate::update::Update;

pub const VERB: Verb = Verb {
    name: "write",
    about: "bring ~/.pgpass, a file, a profile or a secret up to date, once",
    usage: "pgpass|file PATH|databrickscfg --to NAME|secret --scope SCOPE --key KEY [FLAGS]",
    more: "pgpass is one line of the password file, beside all that others have there; file is a \
           file of its own in any --format; databrickscfg is a profile with the workspace token, \
           for what reads nothing but that file; secret is a Databricks secret with the database \
           credential, which every reader must read again for each connection. A file is replaced \
           whole, with mode 0600, and only if it changes. A command of --then has --timeout to end. \
           With --interval what is written lives until the look after the next, which is what a \
           timer wants.",
    flags: &[
        Id::PgPassFile,
        Id::Format,
        Id::For,
        Id::To,
        Id::Scope,
        Id::Key,
        Id::CreateScope,
        Id::Force,
        Id::Interval,
        Id::Then,
        Id::Remove,
    ],
    words: 2,
    command: false,
    codes: "exit codes: 0 up to date, 1 broken, 2 usage or configuration, 3 log in first, 4 refused,\n\
            5 not available now",
    failure: None,
    run,
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let update = Update::new(call.settings()?, call.words, call.world)?;
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
