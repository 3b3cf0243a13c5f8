//! `renew-login`: what `source/login.rs` starts, since what is begun here must be finished however
//! its caller ends. It is in no help: it prints one JSON object for the process that started it.

use super::{Call, Verb};
use crate::error::{Error, Result};
use crate::login::Key;
use crate::login::renew::{Need, renew, report};
use crate::settings::Id;

pub const VERB: Verb = Verb {
    name: "renew-login",
    about: "",
    usage: "--host URL|--profile NAME another|MILLISECONDS",
    more: "Renews a login and prints what came of it, for lakebase-token itself.",
    flags: &[],
    place: false,
    common: super::PERSON,
    words: 1,
    command: false,
    codes: "exit codes: 0, and one JSON object",
    failure: None,
    run,
};

fn run(mut call: Call<'_>) -> Result<u8> {
    let wanted = || Error::usage("renew-login is for lakebase-token itself");
    let flag = |id: Id| call.flags.iter().find(|(known, _)| *known == id).map(|(_, text)| text);
    let key = match (flag(Id::Profile), flag(Id::Host)) {
        (Some(name), None) => Key::Profile(name.clone()),
        (None, Some(url)) => Key::Host(url.clone()),
        _ => return Err(wanted()),
    };
    let word = call.words.first().and_then(|word| word.to_str()).ok_or_else(wanted)?;
    let need = match word {
        "another" => Need::Another,
        least => Need::Life(least.parse().map_err(|_| wanted())?),
    };
    call.world.ignore_signals()?;
    call.print(&format!("{}\n", report(&renew(call.world, &key, need))))?;
    Ok(0)
}
