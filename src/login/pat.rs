//! A personal access token that replaces itself: the Token API of a workspace
//! (databricks-sdk-go `service/settings`), and what is done with it in which order.
//!
//! At most two tokens of ours are alive: the one that is handed out, and the one before it, which
//! somebody may still hold, until [`GRACE`] after its replacement. So the former is deleted before
//! a successor is made. A note that this was begun is on the disk first: where a kill or a lost
//! answer leaves a token that nobody has, the next run knows it by its comment and deletes it.
//! Nothing is deleted but by an id or an exact comment of ours.

use serde_json::{Value, json};

use super::{Key, Login, Means};
use crate::api::{Api, CallError, Outcome, require};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::time::{MINUTE, SECOND, Timestamp};
use crate::token::check_text;
use crate::world::World;

/// What a workspace must allow whoever has such tokens.
const RIGHT: &str = "CAN USE on personal access tokens";

/// The page of a workspace where they are made and deleted by hand.
pub fn page(host: &str) -> String {
    format!("{host}/settings/user/developer/access-tokens")
}

/// How all comments of ours begin.
const OURS: &str = "lakebase-token ";

/// The comment of all tokens of a login.
pub fn comment(install_id: &str, key: &Key) -> String {
    let name = match key {
        Key::Profile(name) => name.clone(),
        // A profile may be called like a workspace.
        Key::Host(_) => key.flag(),
    };
    format!("{OURS}{install_id} {name}")
}

/// Whether a token with this comment is one of ours, here or elsewhere.
pub fn is_ours(comment: &str) -> bool {
    comment.starts_with(OURS)
}

/// How long a token stays good after its replacement: Claude Code and Codex do not ask again when
/// a workspace answers 403, and hold what they have for five minutes and more.
pub const GRACE: i64 = 10 * MINUTE;

/// The tokens of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The id of the one that is handed out.
    pub id: String,
    /// The comment of all of them, which no other token has.
    pub comment: String,
    /// How long each lives, in milliseconds.
    pub lifetime: i64,
    /// At which age one is replaced, in milliseconds.
    pub max_age: i64,
    /// The one before.
    pub former: Option<Former>,
}

/// A token that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its id.
    pub id: String,
    /// When its successor took over.
    pub replaced: Timestamp,
    /// When it dies by itself.
    pub expires: Timestamp,
}

/// A token that was made.
pub struct Made {
    /// What it authenticates with.
    pub value: Secret,
    /// What it is deleted by.
    pub id: String,
}

impl Chain {
    /// Whether a former token has to go.
    pub fn has_waste(&self, now: Timestamp) -> bool {
        self.former.as_ref().is_some_and(|former| former.is_waste(now))
    }

    pub(super) fn value(&self) -> Value {
        json!({
            "id": self.id,
            "comment": self.comment,
            "lifetime_seconds": self.lifetime / SECOND,
            "max_age_seconds": self.max_age / SECOND,
            "former": self.former.as_ref().map(|former| json!({
                "id": former.id,
                "replaced_at": former.replaced.to_string(),
                "expires_at": former.expires.to_string(),
            })),
        })
    }

    pub(super) fn parse(value: &Value) -> Option<Chain> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let time = |value: &Value| Timestamp::parse(value.as_str()?);
        let seconds = |name: &str| Some(value[name].as_i64()?.saturating_mul(SECOND));
        let former = match &value["former"] {
            Value::Null => None,
            former => Some(Former {
                id: text(&former["id"])?,
                replaced: time(&former["replaced_at"])?,
                expires: time(&former["expires_at"])?,
            }),
        };
        Some(Chain {
            id: text(&value["id"])?,
            comment: text(&value["comment"])?,
            lifetime: seconds("lifetime_seconds")?,
            max_age: seconds("max_age_seconds")?,
            former,
        })
    }
}

impl Former {
    /// Whether it goes: nobody should hold it any more. The time of its replacement is kept in
    /// whole seconds, rounded down.
    fn is_waste(&self, now: Timestamp) -> bool {
        now.since(self.replaced) >= GRACE + SECOND
    }
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
    world: &World,
    api: &Api<'_>,
    store: &dyn Fn(&Login) -> Result<()>,
) -> Outcome<Login> {
    let Means::Pat(mut chain) = login.means.clone() else { return Ok(login) };
    let (was_cut_off, waste) = (login.begun.is_some(), chain.has_waste(world.now()));
    if !was_cut_off && !waste && (chain.former.is_some() || !replace) {
        return Ok(login);
    }
    login.begun = Some(world.now());
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
        if former.expires > world.now() {
            delete(api, &former.id)?;
        }
    }
    let mut next = Login { begun: None, ..login };
    if !replace || chain.former.is_some() {
        next.means = Means::Pat(chain);
        store(&next)?;
        return Ok(next);
    }
    let asked = world.now();
    let made = create(api, &chain.comment, chain.lifetime)?;
    let id = std::mem::replace(&mut chain.id, made.id.clone());
    chain.former = Some(Former { id, replaced: world.now(), expires: next.expires });
    (next.access, next.issued) = (made.value, asked);
    next.expires = asked.plus(chain.lifetime);
    next.means = Means::Pat(chain);
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
    let Means::Pat(chain) = &login.means else { return Ok(()) };
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
