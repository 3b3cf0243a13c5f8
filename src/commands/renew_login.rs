//! `renew-login`: what `source/login.rs` starts, since what is begun here must be finished however
//! its caller ends. It is in no help: it prints one JSON object for the process that started it.

use crate::commands::command::{Call, Command, PERSON, ROW};
use crate::config::table::Id;
use crate::error::{Error, Result};
use crate::login::renewal::{Need, renew, report};
use crate::login::store::LoginKey;
use crate::platform::signals;

pub const COMMAND: Command = Command {
    name: "renew-login",
    usage: "--host URL|--profile NAME another|MILLISECONDS",
    more: "Renews a login and prints what came of it, for lakebase-token itself.",
    common: PERSON,
    max_words: 1,
    codes: "exit codes: 0, and one JSON object",
    run,
    ..ROW
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let wanted = || Error::usage("renew-login is for lakebase-token itself");
    let flag = |id: Id| call.flags.iter().find(|(known, _)| *known == id).map(|(_, text)| text);
    let key = match (flag(Id::Profile), flag(Id::Host)) {
        (Some(name), None) => LoginKey::Profile(name.clone()),
        (None, Some(url)) => LoginKey::Host(url.clone()),
        _ => return Err(wanted()),
    };
    let word = call.words.first().and_then(|word| word.to_str()).ok_or_else(wanted)?;
    let need = match word {
        "another" => Need::Another,
        least => Need::Life(least.parse().map_err(|_| wanted())?),
    };
    signals::ignore_signals()?;
    call.print(&format!("{}\n", report(&renew(call.context, &key, need))))?;
    Ok(0)
}
