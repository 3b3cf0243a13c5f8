//! A personal access token that replaces itself: the Token API of a workspace
//! (databricks-sdk-go `service/settings`), and what is done with it in which order.
//!
//! At most two tokens of ours are alive: the one that is handed out, and the one before it, which
//! somebody may still hold, until [`ROTATION_GRACE_MS`] after its replacement. So the former is deleted before
//! a successor is made. A note that this was begun is on the disk first: where a kill or a lost
//! answer leaves a token that nobody has, the next run knows it by its comment and deletes it.
//! Nothing is deleted but by an id or an exact comment of ours.

use serde_json::{Value, json};

use crate::credential::secret::Secret;
use crate::credential::token::check_text;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::Api;
use crate::login::store::{Login, LoginKey, RenewWith, ReplacedPat};
use crate::net::refusal::{CallError, Outcome, require};
use crate::platform::context::Context;
use crate::platform::time::SECOND;

/// What a workspace must allow whoever has such tokens.
const RIGHT: &str = "CAN USE on personal access tokens";

/// The page of a workspace where they are made and deleted by hand.
pub fn page(host: &str) -> String {
    format!("{host}/settings/user/developer/access-tokens")
}

/// How all comments of ours begin.
const OURS: &str = "lakebase-token ";

/// The comment of all tokens of a login.
pub fn comment(install_id: &str, key: &LoginKey) -> String {
    let name = match key {
        LoginKey::Profile(name) => name.clone(),
        // A profile may be called like a workspace.
        LoginKey::Host(_) => key.flag(),
    };
    format!("{OURS}{install_id} {name}")
}

/// Whether a token with this comment is one of ours, here or elsewhere.
pub fn is_ours(comment: &str) -> bool {
    comment.starts_with(OURS)
}

/// A token that was made.
pub struct Made {
    /// What it authenticates with.
    pub value: Secret,
    /// What it is deleted by.
    pub id: String,
}

/// Makes a token. An answer that was lost leaves one that nobody has, so it is asked for once.
pub fn create(api: &Api<'_>, comment: &str, lifetime: i64) -> Outcome<Made> {
    let body = json!({ "comment": comment, "lifetime_seconds": lifetime / SECOND });
    let answer = api.post_once("to make a personal access token", &path("create"), &body);
    let answer = answer.map_err(|failure| failure.wants(RIGHT))?;
    let value = require(&answer, "token_value", "the workspace's new token")?;
    check_text("the workspace's new token", value)?;
    let id = require(&answer["token_info"], "token_id", "the workspace's new token")?;
    Ok(Made { value: Secret::new(value), id: id.to_owned() })
}

/// Deletes a token; one that is not there is as good as deleted.
pub fn delete(api: &Api<'_>, id: &str) -> Outcome<()> {
    let body = json!({ "token_id": id });
    match api.post("to delete a personal access token", &path("delete"), &body) {
        Err(CallError::Refused(no)) if no.status == 404 || no.code == "RESOURCE_DOES_NOT_EXIST" => {
            Ok(())
        }
        outcome => outcome.map(|_| ()),
    }
}

/// Ids and comments of all tokens of whoever asks.
pub fn list(api: &Api<'_>) -> Outcome<Vec<(String, String)>> {
    let answer = api.get("to list personal access tokens", &path("list"));
    let answer = answer.map_err(|failure| failure.wants(RIGHT))?;
    // Whoever asks with a personal access token has one at least.
    let none = answer["token_infos"].is_null() && !api.token.expose().starts_with("dapi");
    let whole = answer["next_page_token"].as_str().is_none_or(str::is_empty);
    let Some(all) = answer["token_infos"].as_array().filter(|_| whole) else {
        if none && whole {
            return Ok(Vec::new());
        }
        let words = "the workspace's list of personal access tokens makes no sense";
        return Err(CallError::Other(Error::failed(words)));
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(all.iter().map(|info| (text(&info["token_id"]), text(&info["comment"]))).collect())
}

fn path(call: &str) -> String {
    format!("/api/2.0/token/{call}")
}

/// Brings a login on by what is due: deletes what a cut-off run has left and the former token, and,
/// if `replace` says so and no former one is left, makes a successor. `store` puts a login on the
/// disk, `api` calls the workspace with the login's token.
pub fn advance(
    mut login: Login,
    replace: bool,
    context: &Context,
    api: &Api<'_>,
    store: &dyn Fn(&Login) -> Result<()>,
) -> Outcome<Login> {
    let RenewWith::Pat(mut chain) = login.renew_with.clone() else { return Ok(login) };
    let (was_cut_off, waste) = (login.begun.is_some(), chain.has_waste(context.now()));
    if !was_cut_off && !waste && (chain.former.is_some() || !replace) {
        return Ok(login);
    }
    login.begun = Some(context.now());
    store(&login)?;
    if was_cut_off {
        let former = chain.former.as_ref().map(|former| &former.id);
        for (id, comment) in list(api)? {
            if comment == chain.comment && id != chain.id && Some(&id) != former {
                delete(api, &id)?;
            }
        }
    }
    if let Some(former) = chain.former.take_if(|_| waste) {
        // A dead one is gone already.
        if former.expires > context.now() {
            delete(api, &former.id)?;
        }
    }
    let mut next = Login { begun: None, ..login };
    if !replace || chain.former.is_some() {
        next.renew_with = RenewWith::Pat(chain);
        store(&next)?;
        return Ok(next);
    }
    let asked = context.now();
    let made = create(api, &chain.comment, chain.lifetime)?;
    let id = std::mem::replace(&mut chain.id, made.id.clone());
    chain.former = Some(ReplacedPat { id, replaced: context.now(), expires: next.expires });
    (next.access, next.issued) = (made.value, asked);
    next.expires = asked.plus(chain.lifetime);
    next.renew_with = RenewWith::Pat(chain);
    if let Err(error) = store(&next) {
        // Where this fails too, the note on the disk makes the next run do it.
        let _ = delete(api, &made.id);
        return Err(error.into());
    }
    Ok(next)
}

/// Deletes all tokens of a login, the current one last, since it does the deleting. What can be
/// deleted is, whatever goes wrong with another one.
pub fn revoke(login: &Login, api: &Api<'_>) -> Outcome<()> {
    let RenewWith::Pat(chain) = &login.renew_with else { return Ok(()) };
    let listed = list(api);
    let ours = listed.iter().flatten().filter(|(_, comment)| *comment == chain.comment);
    let mut ids: Vec<&String> = ours.map(|(id, _)| id).filter(|id| **id != chain.id).collect();
    if let Some(former) = chain.former.as_ref().filter(|former| !ids.contains(&&former.id)) {
        ids.push(&former.id);
    }
    let deleted = ids.into_iter().map(|id| delete(api, id));
    let trouble: Vec<CallError> = deleted.filter_map(std::result::Result::err).collect();
    delete(api, &chain.id)?;
    listed?;
    trouble.into_iter().next().map_or(Ok(()), Err)
}

/// Words for a login whose token nobody used in time.
pub fn lapsed(login: &Login) -> Error {
    Error::login(format!("the login of {} has ended", login.who))
        .because(format!("nobody used it in time: its last token died at {}", login.expires))
        .hint(login.command())
}
