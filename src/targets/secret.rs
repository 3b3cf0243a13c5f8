//! The target `secret`: a secret in a scope of the workspace (databricks-sdk-go
//! `service/workspace`, Secrets API).
//!
//! The API has no lock, and none is needed: whichever process writes last writes a credential that
//! is valid. The secret is read first, so that nothing is written where nothing changes.

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

const SECRETS_PATH: &str = "/api/2.0/secrets";

pub struct SecretRef<'t> {
    pub scope: &'t str,
    pub key: &'t str,
    /// Whether a missing scope is created.
    pub create_scope: bool,
    /// Whether a value that holds no database credential is replaced.
    pub force: bool,
}

/// Writes the value, unless the secret has it already.
pub fn put(api: &Api<'_>, target: &SecretRef<'_>, value: &Secret) -> Outcome<Change> {
    let SecretRef { scope, key, force, .. } = *target;
    let old = match get(api, scope, key) {
        // --force also replaces a value that this identity may not read.
        Err(CallError::Refused(refusal))
            if force && refusal.status == 403 && !refusal.is_about_token() =>
        {
            None
        }
        old => old.map_err(|failure| failure.with_missing_right("READ on the scope"))?,
    };
    if let Some(old) = old {
        if *old == value.expose().as_bytes() {
            return Ok(Change::Unchanged);
        }
        if !force && !is_ours(&old) {
            return Err(CallError::Other(
                Error::usage(format!(
                    "secret {scope}/{key} was not written by lakebase-token (it holds no database \
                     credential)"
                ))
                .hint("another key, or --force to replace it"),
            ));
        }
    }

    match write(api, target, value) {
        Err(CallError::Refused(refusal)) if is_missing(&refusal) && target.create_scope => {
            create_scope(api, scope)?;
            write(api, target, value)?;
        }
        Err(CallError::Refused(refusal)) if is_missing(&refusal) => {
            return Err(CallError::Other(
                Error::denied(format!("there is no scope {scope}"))
                    .because(refusal.into_error().message)
                    .hint("--create-scope, to create it"),
            ));
        }
        written => written.map_err(|failure| failure.with_missing_right("WRITE on the scope"))?,
    }
    Ok(Change::Written)
}

fn write(api: &Api<'_>, target: &SecretRef<'_>, value: &Secret) -> Outcome<()> {
    let body = json!({ "scope": target.scope, "key": target.key, "string_value": value.expose() });
    api.post("to write the secret", &format!("{SECRETS_PATH}/put"), &body).map(|_| ())
}

fn create_scope(api: &Api<'_>, scope: &str) -> Outcome<()> {
    let path = format!("{SECRETS_PATH}/scopes/create");
    match api.post("to create the scope", &path, &json!({ "scope": scope })) {
        // Another process has created it since our write.
        Err(CallError::Refused(refusal)) if refusal.code == "RESOURCE_ALREADY_EXISTS" => Ok(()),
        created => created.map(|_| ()),
    }
}

/// Deletes the secret, if it holds a database credential.
pub fn remove(api: &Api<'_>, target: &SecretRef<'_>) -> Outcome<Change> {
    let SecretRef { scope, key, .. } = *target;
    let Some(value) = get(api, scope, key)? else { return Ok(Change::Unchanged) };
    if !is_ours(&value) {
        return Err(CallError::Other(Error::usage(format!(
            "secret {scope}/{key} stays: it was not written by lakebase-token (it holds no \
             database credential)"
        ))));
    }

    let body = json!({ "scope": scope, "key": key });
    api.post("to delete the secret", &format!("{SECRETS_PATH}/delete"), &body)
        .map_err(|failure| failure.with_missing_right("WRITE on the scope"))?;
    Ok(Change::Removed)
}

/// Whether the value is a database credential, whichever identity it is for: we write nothing else.
fn is_ours(value: &[u8]) -> bool {
    expiry_within(value).is_some()
}

/// The secret's value, which may be any bytes; nothing where there is no secret.
fn get(api: &Api<'_>, scope: &str, key: &str) -> Outcome<Option<Zeroizing<Vec<u8>>>> {
    let scope = percent_encode(scope);
    let key = percent_encode(key);
    let path = format!("{SECRETS_PATH}/get?scope={scope}&key={key}");
    let answer = match api.get("to read the secret", &path) {
        Err(CallError::Refused(refusal)) if is_missing(&refusal) => return Ok(None),
        answer => answer?,
    };

    let text = require(&answer, "value", "the workspace's secret")?;
    let bytes = BASE64_STANDARD
        .decode(text)
        .map_err(|_| Error::failed("the workspace's secret has a value that is not base64"))?;
    Ok(Some(Zeroizing::new(bytes)))
}

fn is_missing(refusal: &Refusal) -> bool {
    refusal.status == 404 || refusal.code == "RESOURCE_DOES_NOT_EXIST"
}
