//! The rotating token: a personal access token that replaces itself through the workspace's Token
//! API (databricks-sdk-go `service/settings`). `login/renewal.rs` decides when, `login/record.rs` has
//! the fields.
//!
//! At most two tokens of a login are valid: the current token, and the previous token, which a
//! program may still hold until [`ROTATION_GRACE_MS`](crate::login::record::ROTATION_GRACE_MS) after
//! its replacement. So the previous token is deleted before a successor is created.
//!
//! The login on the disk says that a rotation has begun before the first request is sent. If a kill
//! or a lost answer leaves a token that is not stored, the next rotation finds it by its comment and
//! deletes it. A token is deleted only by an id or an exact comment of this program.

use serde_json::{Value, json};

use crate::credential::secret::Secret;
use crate::credential::token::check_text;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::Api;
use crate::login::record::{Login, LoginKey, RenewWith, ReplacedPat, RotatingPat};
use crate::net::refusal::{CallError, Outcome, require};
use crate::platform::context::Context;
use crate::platform::time::SECOND;

/// The permission that a workspace's admin grants for personal access tokens.
const PERMISSION: &str = "CAN USE on personal access tokens";

/// The beginning of the comment of every rotating token, on any machine.
const COMMENT_PREFIX: &str = "lakebase-token ";

/// The workspace's page where a person creates and deletes personal access tokens.
pub fn page(host: &str) -> String {
    format!("{host}/settings/user/developer/access-tokens")
}

/// The comment of all tokens of a login.
pub fn token_comment(install_id: &str, key: &LoginKey) -> String {
    let name = match key {
        LoginKey::Profile(name) => name.clone(),
        // With its flag, since a profile may have the name of a workspace.
        LoginKey::Host(_) => key.flag(),
    };
    format!("{COMMENT_PREFIX}{install_id} {name}")
}

/// Whether lakebase-token has created the token with this comment, here or on another machine.
pub fn is_rotating_token(comment: &str) -> bool {
    comment.starts_with(COMMENT_PREFIX)
}

pub struct CreatedPat {
    pub secret: Secret,
    pub token_id: String,
}

/// Creates a token. A request whose answer is lost is not sent again: it may have created a token that is
/// not stored.
pub fn create(api: &Api<'_>, comment: &str, lifetime: i64) -> Outcome<CreatedPat> {
    const ANSWER: &str = "the workspace's new token";
    let body = json!({ "comment": comment, "lifetime_seconds": lifetime / SECOND });
    let answer = api
        .post_once("to create a personal access token", &path("create"), &body)
        .map_err(|failure| failure.with_missing_right(PERMISSION))?;

    let secret = require(&answer, "token_value", ANSWER)?;
    check_text(ANSWER, secret)?;
    let token_id = require(&answer["token_info"], "token_id", ANSWER)?;
    Ok(CreatedPat { secret: Secret::new(secret), token_id: token_id.to_owned() })
}

/// Deletes a token. A token that does not exist is no error.
pub fn delete(api: &Api<'_>, token_id: &str) -> Outcome<()> {
    let body = json!({ "token_id": token_id });
    match api.post("to delete a personal access token", &path("delete"), &body) {
        Err(CallError::Refused(refusal))
            if refusal.status == 404 || refusal.code == "RESOURCE_DOES_NOT_EXIST" =>
        {
            Ok(())
        }
        outcome => outcome.map(|_| ()),
    }
}

/// A token in the workspace's list.
pub struct ListedPat {
    pub token_id: String,
    pub comment: String,
}

/// Lists all tokens of the calling user.
pub fn list(api: &Api<'_>) -> Outcome<Vec<ListedPat>> {
    let answer = api
        .get("to list personal access tokens", &path("list"))
        .map_err(|failure| failure.with_missing_right(PERMISSION))?;
    let is_complete = answer["next_page_token"].as_str().is_none_or(str::is_empty);
    // A caller with a personal access token must be in the list itself.
    let may_be_missing = !api.token.expose().starts_with("dapi");

    match &answer["token_infos"] {
        Value::Array(infos) if is_complete => Ok(infos.iter().map(listed_pat).collect()),
        Value::Null if is_complete && may_be_missing => Ok(Vec::new()),
        _ => {
            let message =
                "the workspace's list of personal access tokens is incomplete or malformed";
            Err(CallError::Other(Error::failed(message)))
        }
    }
}

fn listed_pat(info: &Value) -> ListedPat {
    let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
    ListedPat { token_id: text("token_id"), comment: text("comment") }
}

fn path(call: &str) -> String {
    format!("/api/2.0/token/{call}")
}

/// Deletes the tokens that must go, and creates a successor if `replace` asks for it and no previous
/// token is left. `store` writes a login to the disk, `api` calls the workspace with the login's
/// current token.
pub fn rotate(
    mut login: Login,
    replace: bool,
    context: &Context,
    api: &Api<'_>,
    store: &dyn Fn(&Login) -> Result<()>,
) -> Outcome<Login> {
    let RenewWith::Pat(mut pat) = login.renew_with.clone() else { return Ok(login) };
    let was_interrupted = login.renewal_begun.is_some();
    let deletes_previous = pat.must_delete_previous(context.now());
    let creates_successor = replace && (pat.previous.is_none() || deletes_previous);
    if !was_interrupted && !deletes_previous && !creates_successor {
        return Ok(login);
    }

    login.renewal_begun = Some(context.now());
    store(&login)?;
    if was_interrupted {
        delete_leftovers(&pat, api)?;
    }
    if let Some(previous) = pat.previous.take_if(|_| deletes_previous) {
        // The workspace deletes an expired token itself.
        if previous.expires > context.now() {
            delete(api, &previous.token_id)?;
        }
    }

    if creates_successor {
        return create_successor(login, pat, context, api, store);
    }
    let login = Login { renewal_begun: None, renew_with: RenewWith::Pat(pat), ..login };
    store(&login)?;
    Ok(login)
}

/// Deletes the tokens of an interrupted rotation: they have the login's comment and are not stored.
fn delete_leftovers(pat: &RotatingPat, api: &Api<'_>) -> Outcome<()> {
    let previous_id = pat.previous.as_ref().map(|previous| &previous.token_id);
    for ListedPat { token_id, comment } in list(api)? {
        let is_stored = token_id == pat.token_id || Some(&token_id) == previous_id;
        if comment == pat.comment && !is_stored {
            delete(api, &token_id)?;
        }
    }
    Ok(())
}

fn create_successor(
    login: Login,
    pat: RotatingPat,
    context: &Context,
    api: &Api<'_>,
    store: &dyn Fn(&Login) -> Result<()>,
) -> Outcome<Login> {
    // Before the request: the token must not expire in the workspace earlier than here.
    let issued = context.now();
    let created = create(api, &pat.comment, pat.lifetime)?;

    let previous =
        ReplacedPat { token_id: pat.token_id, replaced: context.now(), expires: login.expires };
    let successor = Login {
        access: created.secret,
        issued,
        expires: issued.plus(pat.lifetime),
        renewal_begun: None,
        renew_with: RenewWith::Pat(RotatingPat {
            token_id: created.token_id.clone(),
            previous: Some(previous),
            ..pat
        }),
        ..login
    };
    if let Err(error) = store(&successor) {
        // If this fails too, the stored login still says that a rotation has begun, so the next
        // rotation deletes the token.
        let _ = delete(api, &created.token_id);
        return Err(error.into());
    }
    Ok(successor)
}

/// Deletes all tokens of a login, the current token last, since it authenticates the requests. A
/// failure does not keep the other tokens from being deleted.
pub fn delete_all(login: &Login, api: &Api<'_>) -> Outcome<()> {
    let RenewWith::Pat(pat) = &login.renew_with else { return Ok(()) };
    let listed = list(api);
    let mut other_ids: Vec<&String> = listed
        .iter()
        .flatten()
        .filter(|token| token.comment == pat.comment && token.token_id != pat.token_id)
        .map(|token| &token.token_id)
        .collect();
    if let Some(previous) = &pat.previous
        && !other_ids.contains(&&previous.token_id)
    {
        other_ids.push(&previous.token_id);
    }

    let deleted: Vec<Outcome<()>> = other_ids.into_iter().map(|id| delete(api, id)).collect();
    delete(api, &pat.token_id)?;
    listed?;
    deleted.into_iter().collect()
}

/// The error for a login whose token has expired unused, or was refused before.
pub fn expired_unused(login: &Login) -> Error {
    Error::login(format!("the login of {} has ended", login.who))
        .because(format!("its last token is not valid since {}", login.expires))
        .because("it was not used in time, or it was revoked")
        .hint(login.command())
}
