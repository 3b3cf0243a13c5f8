//! `write`: brings one place up to date, once.

use super::{Call, Verb};
use crate::error::Result;
use crate::place::Change;
use crate::settings::Id;
use crate::update::Update;

pub const VERB: Verb = Verb {
    name: "write",
    about: "bring ~/.pgpass, a file, a profile or a secret up to date, once",
    usage: "PLACE [FLAGS]",
    more: "A file is replaced whole, with mode 0600, and only if it changes; of ~/.pgpass and \
           ~/.databrickscfg every byte stays that is not ours. A profile gets the workspace token, \
           a secret the database credential, which every reader must read again for each \
           connection. A command of --then has --timeout to end. With --interval what is written \
           lives until the look after the next, which is what a timer wants.",
    flags: &[Id::Interval, Id::Then, Id::Remove],
    place: true,
    common: super::COMMON,
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
