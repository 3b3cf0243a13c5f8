//! A secret in a scope of the workspace (databricks-sdk-go `service/workspace`, Secrets API).
//!
//! There is no lock in that API, and none is needed: whoever writes last writes a living
//! credential. The secret is read before it is written, so that a look that changes nothing
//! writes nothing.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use crate::credential::encoding::percent_encode;
use crate::credential::jwt::expiry_within;
use crate::credential::secret::Secret;
use crate::error::Error;
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::{CallError, Outcome, Refusal, require};
use crate::platform::target_file::Change;

const SECRETS: &str = "/api/2.0/secrets";

/// Which secret, and what may be done about it.
pub struct SecretRef<'t> {
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
pub fn put(api: &Api<'_>, target: &SecretRef<'_>, value: &Secret) -> Outcome<Change> {
    let SecretRef { scope, key, create_scope: create, force } = *target;
    let old = match get(api, scope, key) {
        // Whoever may not see what is there must say that it may go.
        Err(CallError::Refused(no)) if force && no.status == 403 && !no.is_about_token() => None,
        old => old.map_err(|failure| failure.wants("READ on the scope"))?,
    };
    match old {
        Some(old) if *old == value.expose().as_bytes() => return Ok(Change::Unchanged),
        Some(old) if !force && !is_ours(&old) => {
            let words =
                format!("secret {scope}/{key} is somebody else's: it holds no database credential");
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
                Error::new(crate::error::ErrorKind::Denied, format!("there is no scope {scope}"));
            let error = error.because(no.into_error().message);
            return Err(CallError::Other(error.hint("--create-scope, to make it")));
        }
        outcome => drop(outcome.map_err(|failure| failure.wants("WRITE on the scope"))?),
    }
    Ok(Change::Written)
}

/// Deletes a secret, if it is a token.
pub fn remove(api: &Api<'_>, target: &SecretRef<'_>) -> Outcome<Change> {
    let SecretRef { scope, key, .. } = *target;
    let Some(value) = get(api, scope, key)? else { return Ok(Change::Unchanged) };
    if !is_ours(&value) {
        let error = Error::usage(format!("secret {scope}/{key} holds no token, so it stays"));
        return Err(CallError::Other(error));
    }
    let body = json!({ "scope": scope, "key": key });
    let deleted = api.post("to delete the secret", &format!("{SECRETS}/delete"), &body);
    deleted.map_err(|failure| failure.wants("WRITE on the scope"))?;
    Ok(Change::Removed)
}

/// Whether it is a database credential, of whomever: nothing else is ever written.
fn is_ours(value: &[u8]) -> bool {
    expiry_within(value).is_some()
}

/// What a secret says, in whatever bytes; nothing where there is none.
fn get(api: &Api<'_>, scope: &str, key: &str) -> Outcome<Option<Zeroizing<Vec<u8>>>> {
    let (scope, key) = (percent_encode(scope), percent_encode(key));
    let path = format!("{SECRETS}/get?scope={scope}&key={key}");
    match api.get("to read the secret", &path) {
        Err(CallError::Refused(no)) if is_missing(&no) => Ok(None),
        answer => {
            let answer = answer?;
            let text = require(&answer, "value", "the workspace's secret")?;
            let bytes = BASE64_STANDARD.decode(text).map_err(|_| {
                Error::failed("the workspace's secret has a value that is not base64")
            })?;
            Ok(Some(Zeroizing::new(bytes)))
        }
    }
}

fn is_missing(no: &Refusal) -> bool {
    no.status == 404 || no.code == "RESOURCE_DOES_NOT_EXIST"
}
