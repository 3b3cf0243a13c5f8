//! The secrets of a request. Servers repeat what they receive, so an answer's text is
//! redacted of all of them before any part of it becomes a message.
//!
//! Everything counts as secret but what is listed here as harmless.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::credential::encoding::percent_decode;
use crate::credential::redact::{redact, redact_secret};
use crate::credential::secret::Secret;

const HARMLESS_HEADERS: [&str; 2] = ["X-Databricks-Workspace-Id", "Metadata"];

const HARMLESS_PARAMETERS: [&str; 12] = [
    "assume_group",
    "audience",
    "client_assertion_type",
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "grant_type",
    "redirect_uri",
    "requested_token_type",
    "resource",
    "scope",
    "subject_token_type",
];

/// The field of a JSON body that holds a secret (databricks-sdk-go `service/workspace`, `PutSecret`).
const SECRET_FIELD: &str = "string_value";

/// The secrets of a request.
#[derive(Default)]
pub struct SentSecrets(Vec<Secret>);

impl SentSecrets {
    pub fn by(
        headers: &[(&'static str, String)],
        body: Option<&(&'static str, String)>,
    ) -> SentSecrets {
        let mut secrets = Vec::new();
        for (name, value) in headers {
            if !HARMLESS_HEADERS.contains(name) {
                add_header(&mut secrets, value);
            }
        }
        match body {
            Some((kind, body)) if kind.contains("form") => add_form(&mut secrets, body),
            Some((_, body)) => {
                let body: Value = serde_json::from_str(body).unwrap_or_default();
                secrets.extend(body[SECRET_FIELD].as_str().map(Secret::new));
            }
            None => (),
        }
        SentSecrets(secrets)
    }

    /// A text of the answer for a message.
    pub fn redacted(&self, text: &str) -> String {
        let hidden = self
            .0
            .iter()
            .fold(text.to_owned(), |text, secret| redact_secret(&text, secret.expose()));
        redact(&hidden)
    }
}

/// The value without its scheme; of a Basic header also the password in it.
fn add_header(secrets: &mut Vec<Secret>, value: &str) {
    let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
    let is_scheme = |name: &str| scheme.eq_ignore_ascii_case(name);
    secrets.push(Secret::new(if is_scheme("bearer") || is_scheme("basic") {
        token
    } else {
        value
    }));
    if !is_scheme("basic") {
        return;
    }
    let pair = BASE64_STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok());
    if let Some((_, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
        secrets.push(Secret::new(percent_decode(password)));
    }
}

fn add_form(secrets: &mut Vec<Secret>, body: &str) {
    for (name, value) in body.split('&').filter_map(|pair| pair.split_once('=')) {
        if !HARMLESS_PARAMETERS.contains(&name) {
            secrets.push(Secret::new(percent_decode(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr%t/ü +&=x";

    #[test]
    fn every_secret_of_a_request_is_removed_from_a_text() {
        use crate::credential::encoding::{form, percent_encode};

        let basic = BASE64_STANDARD.encode(format!("id:{}", percent_encode(SECRET)));
        let requests = [
            (vec![("Authorization", format!("Bearer {SECRET}"))], None),
            (vec![("Authorization", format!("Basic {basic}"))], None),
            (vec![("X-Databricks-Azure-SP-Management-Token", SECRET.to_owned())], None),
            (vec![], Some(("application/x-www-form-urlencoded", form(&[("code", SECRET)])))),
            (
                vec![],
                Some((
                    "application/json",
                    serde_json::json!({ "string_value": SECRET }).to_string(),
                )),
            ),
        ];
        for (headers, body) in requests {
            let sent = SentSecrets::by(&headers, body.as_ref());
            for text in
                [format!("no '{SECRET}' here"), format!("no '{}' here", percent_encode(SECRET))]
            {
                assert_eq!(sent.redacted(&text), "no '***' here", "{headers:?}");
            }
        }
    }

    #[test]
    fn names_and_scopes_stay_readable() {
        use crate::credential::encoding::form;

        let headers = [("X-Databricks-Workspace-Id", "900800700600".to_owned())];
        let pairs = [("client_id", "an-application"), ("scope", "all-apis")];
        let body = Some(("application/x-www-form-urlencoded", form(&pairs)));
        let text = "an-application has no all-apis at 900800700600";
        assert_eq!(SentSecrets::by(&headers, body.as_ref()).redacted(text), text);
    }
}
