//! `renew-login`: an internal command, which no help shows. It renews a login in a process of its
//! own, so that the rotated token is stored even if the process that started it is killed.
//!
//! `auth/providers/stored_login.rs` starts it and reads the JSON object that it prints; the renewal
//! itself is in `login/renewal.rs`.

use crate::commands::command::{Call, Command, ROW, WORKSPACE_FLAGS};
use crate::config::table::Id;
use crate::error::{Error, Result};
use crate::login::renewal::{TokenNeed, renew, report};
use crate::login::store::LoginKey;
use crate::platform::process::keep_memory_private;
use crate::platform::signals;

pub const COMMAND: Command = Command {
    name: "renew-login",
    usage: "--host URL|--profile NAME another|MILLISECONDS",
    more: "Renews a login and prints the outcome as JSON. lakebase-token runs this command itself.",
    common: WORKSPACE_FLAGS,
    max_words: 1,
    exit_codes: "exit codes: 0, with one JSON object on stdout",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let flag = |id: Id| call.flags.iter().find(|(known, _)| *known == id).map(|(_, text)| text);
    let key = match (flag(Id::Profile), flag(Id::Host)) {
        (Some(name), None) => LoginKey::Profile(name.clone()),
        (None, Some(url)) => LoginKey::Host(url.clone()),
        _ => return Err(wrong_usage()),
    };

    let word = call.words.first().and_then(|word| word.to_str()).ok_or_else(wrong_usage)?;
    let need = match word {
        "another" => TokenNeed::Another,
        min_life => TokenNeed::Life(min_life.parse().map_err(|_| wrong_usage())?),
    };

    signals::ignore_signals()?;
    keep_memory_private();
    let outcome = renew(call.context, &key, need);
    call.print(&format!("{}\n", report(&outcome)))?;
    Ok(0)
}

fn wrong_usage() -> Error {
    Error::usage("renew-login is an internal command of lakebase-token")
}
