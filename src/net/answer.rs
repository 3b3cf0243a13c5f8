//! The answer to a request: its JSON, and the server's error in each shape that Databricks is known to
//! send. What the error means is in `refusal.rs`.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::net::sent_secrets::SentSecrets;
use crate::platform::request_log::Exchange;

/// An answer with a status that is not worth another try. It may hold a token, so it cannot be
/// printed.
pub struct Answer {
    pub status: u16,
    /// Empty if the server sent none.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
    /// The server, for messages.
    pub host: String,
    /// The target of a redirect; empty if the server sent none.
    pub location: String,
    /// The secrets of the request, which the answer may repeat.
    pub sent: SentSecrets,
}

impl Answer {
    /// The body as JSON. `what` names the request in the error, as in "to show the endpoint".
    pub fn json(&self, what: &str) -> Result<Value> {
        let answered = format!("{} answered the request {what} with", self.host);
        if self.is_html() {
            let message = format!("{answered} a web page, probably a login page");
            return Err(Error::failed(message)
                .because(self.sent.redacted(&self.plain_text()))
                .hint("check the host; a unified host also needs DATABRICKS_WORKSPACE_ID"));
        }

        // Some calls answer with nothing at all where an empty object is meant.
        if self.body.trim_ascii().is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::failed(format!("{answered} something that is not JSON")).because(e))
    }

    /// The server's error code and message, in each shape that Databricks is known to send
    /// (databricks-sdk-go `apierr`): JSON of several API generations, `CODE: message`, HTML.
    pub fn error_code_and_message(&self) -> (String, String) {
        match serde_json::from_slice::<Value>(&self.body) {
            // Azure's resource manager puts the object into another one.
            Ok(body) if body["error"].is_object() => {
                let error = &body["error"];
                (self.first_text(error, &["code"]), self.first_text(error, &["message"]))
            }
            Ok(body) if body.is_object() => {
                let codes = ["error_code", "errorCode", "error", "scimType"];
                let messages = ["message", "error_description", "errorSummary", "detail", "error"];
                (self.first_text(&body, &codes), self.first_text(&body, &messages))
            }
            _ => split_code(self.sent.redacted(&self.plain_text())),
        }
    }

    /// The first of these fields that has a text or a number.
    fn first_text(&self, object: &Value, fields: &[&str]) -> String {
        let texts = fields.iter().map(|field| match &object[*field] {
            Value::String(text) => self.sent.redacted(text),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        });
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// What a report says of this answer.
    pub(super) fn exchange(&self, method: &'static str, path: &str) -> Exchange {
        let mut fields = Vec::new();
        if let Ok(body) = serde_json::from_slice(&self.body) {
            add_fields(&body, "", &mut fields);
        }
        Exchange { method, path: path.to_owned(), status: self.status, fields }
    }

    fn is_html(&self) -> bool {
        let start = self.body.trim_ascii_start();
        self.content_type.contains("text/html") || start.starts_with(b"<")
    }

    /// The text of the body without its markup. Old deployments put the message into `<pre>`; of
    /// other pages only the title is worth showing.
    fn plain_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        for (open, close) in [("<pre>", "</pre>"), ("<title>", "</title>")] {
            let inner = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
            if let Some((inner, _)) = inner {
                return inner.trim().to_owned();
            }
        }
        if self.is_html() { "an HTML page without a title".to_owned() } else { text.into_owned() }
    }
}

/// The names of all fields, as in `status.hosts.host`; of a list those of its first object.
fn add_fields(value: &Value, path: &str, fields: &mut Vec<(String, &'static str)>) {
    let kind = match value {
        Value::Object(object) => {
            for (name, value) in object {
                add_fields(value, format!("{path}.{name}").trim_start_matches('.'), fields);
            }
            return;
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            return add_fields(&list[0], &format!("{path}[]"), fields);
        }
        Value::Array(_) => "list",
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    fields.push((path.to_owned(), kind));
}

/// Splits `CODE: message`; a text without a code is all message.
fn split_code(text: String) -> (String, String) {
    let is_code = |code: &str| code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    match text.split_once(": ") {
        Some((code, message)) if is_code(code) => (code.to_owned(), message.to_owned()),
        _ => (String::new(), text),
    }
}
