//! A secret in a scope of the workspace (databricks-sdk-go `service/workspace`, Secrets API).
//!
//! There is no lock in that API, and none is needed: whoever writes last writes a living
//! credential. The secret is read before it is written, so that a look that changes nothing
//! leaves no trace in the workspace's audit log.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::api::{Api, CallError, Outcome, Refusal};
use crate::error::Error;
use crate::http::percent_encode;
use crate::place::Change;
use crate::secret::Secret;
use crate::token::holds_token;

const SECRETS: &str = "/api/2.0/secrets";

/// Which secret, and what may be done about it.
pub struct Target<'t> {
    /// The scope.
    pub scope: &'t str,
    /// The key.
    pub key: &'t str,
    /// Whether a scope that is not there is made.
    pub create_scope: bool,
    /// Whether a value that is no token is replaced.
    pub force: bool,
}

/// Puts a value into a secret.
pub fn put(api: &Api<'_>, target: &Target<'_>, value: &Secret) -> Outcome<Change> {
    let Target { scope, key, create_scope: create, force } = *target;
    match get(api, scope, key)? {
        Some(old) if old == *value => return Ok(Change::Unchanged),
        Some(old) if !force && !holds_token(old.expose().as_bytes()) => {
            let words = format!("secret {scope}/{key} is somebody else's: it holds no token");
            let error = Error::usage(words).hint("another key, or --force to replace it");
            return Err(CallError::Other(error));
        }
        _ => (),
    }
    let body = json!({ "scope": scope, "key": key, "string_value": value.expose() });
    let written = || api.post("to write the secret", &format!("{SECRETS}/put"), &body);
    match written() {
        Err(CallError::Refused(no)) if is_missing(&no) && create => {
            let made = api.post(
                "to make the scope",
                &format!("{SECRETS}/scopes/create"),
                &json!({ "scope": scope }),
            );
            match made {
                // Somebody else has made it just now.
                Err(CallError::Refused(no)) if no.code == "RESOURCE_ALREADY_EXISTS" => (),
                made => drop(made?),
            }
            written()?;
        }
        Err(CallError::Refused(no)) if is_missing(&no) => {
            let error =
                Error::new(crate::error::Kind::Denied, format!("there is no scope {scope}"));
            let error = error.because(no.into_error().message);
            return Err(CallError::Other(error.hint("--create-scope, to make it")));
        }
        outcome => drop(outcome?),
    }
    Ok(Change::Written)
}

/// Deletes a secret, if it is a token.
pub fn remove(api: &Api<'_>, target: &Target<'_>) -> Outcome<Change> {
    let Target { scope, key, .. } = *target;
    let Some(value) = get(api, scope, key)? else { return Ok(Change::Unchanged) };
    if !holds_token(value.expose().as_bytes()) {
        let error = Error::usage(format!("secret {scope}/{key} holds no token, so it stays"));
        return Err(CallError::Other(error));
    }
    let body = json!({ "scope": scope, "key": key });
    api.post("to delete the secret", &format!("{SECRETS}/delete"), &body)?;
    Ok(Change::Removed)
}

/// What a secret says; nothing where there is none, or where we may not see it.
fn get(api: &Api<'_>, scope: &str, key: &str) -> Outcome<Option<Secret>> {
    let (scope, key) = (percent_encode(scope), percent_encode(key));
    let path = format!("{SECRETS}/get?scope={scope}&key={key}");
    match api.get("to read the secret", &path) {
        Err(CallError::Refused(no)) if is_missing(&no) => Ok(None),
        Err(CallError::Refused(no)) if no.status == 403 && !no.is_about_token() => Ok(None),
        answer => {
            let answer = answer?;
            let bytes = answer["value"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
            Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new))
        }
    }
}

fn is_missing(no: &Refusal) -> bool {
    no.status == 404 || no.code == "RESOURCE_DOES_NOT_EXIST"
}
