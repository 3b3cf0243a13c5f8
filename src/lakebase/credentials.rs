//! The two Lakebase products in the API: minting a database credential, and the host and state of a
//! database. `lakebase/resolve.rs` resolves what the user named, `session.rs` caches the results.
//!
//! Autoscaling (`/api/2.0/postgres`: projects, branches, endpoints) and Provisioned
//! (`/api/2.0/database`: instances) differ in the request, the answer and the name of the expiry
//! field, so each call has one branch for each product. Fields are those of databricks-sdk-go
//! `service/postgres` and `service/database`.

use serde_json::{Value, json};

use crate::credential::encoding::{hex, percent_encode};
use crate::credential::redact::{begins_like_api_secret, redact};
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::{Api, listed_text};
use crate::net::refusal::{CallError, Outcome, require};
use crate::platform::context::Context;
use crate::platform::time::Timestamp;

pub const POSTGRES: &str = "/api/2.0/postgres";
pub const INSTANCES: &str = "/api/2.0/database/instances";

/// A database that credentials are minted for, and its host once that is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintTarget {
    /// Autoscaling: the full resource name, and the endpoint's host.
    Endpoint { name: String, host: Option<String> },
    /// Provisioned: the instance's name, and its read-write host.
    Instance { name: String, host: Option<String> },
}

impl MintTarget {
    pub fn name(&self) -> &str {
        match self {
            MintTarget::Endpoint { name, .. } | MintTarget::Instance { name, .. } => name,
        }
    }

    /// The API's term for this product's databases.
    pub fn kind(&self) -> &'static str {
        match self {
            MintTarget::Endpoint { .. } => "endpoint",
            MintTarget::Instance { .. } => "instance",
        }
    }

    pub fn host(&self) -> Option<&str> {
        match self {
            MintTarget::Endpoint { host, .. } | MintTarget::Instance { host, .. } => {
                host.as_deref()
            }
        }
    }

    /// The same database, whose host must be resolved.
    pub fn without_host(mut self) -> MintTarget {
        let (MintTarget::Endpoint { host, .. } | MintTarget::Instance { host, .. }) = &mut self;
        *host = None;
        self
    }

    /// One line of JSON for the cache.
    pub fn to_line(&self) -> String {
        json!([self.kind(), self.name(), self.host()]).to_string()
    }

    /// Reads the output of [`MintTarget::to_line`].
    pub fn from_line(line: &str) -> Option<MintTarget> {
        let value: Value = serde_json::from_str(line).ok()?;
        let name = value[1].as_str()?.to_owned();
        let host = value[2].as_str().map(str::to_owned);
        match value[0].as_str()? {
            "endpoint" => Some(MintTarget::Endpoint { name, host }),
            "instance" => Some(MintTarget::Instance { name, host }),
            _ => None,
        }
    }
}

/// A request that mints a credential, and the field of its answer that has the expiry.
struct MintRequest {
    path: &'static str,
    body: Value,
    expiry_field: &'static str,
}

impl MintRequest {
    fn of(
        database: &MintTarget,
        ttl: Option<u64>,
        tables: &[String],
        context: &Context,
    ) -> Result<MintRequest> {
        let mut request = match database {
            MintTarget::Endpoint { name, .. } => MintRequest {
                path: "/api/2.0/postgres/credentials",
                body: json!({ "endpoint": name }),
                expiry_field: "expire_time",
            },
            MintTarget::Instance { name, .. } => MintRequest {
                path: "/api/2.0/database/credentials",
                body: json!({ "instance_names": [name], "request_id": uuid(context)? }),
                expiry_field: "expiration_time",
            },
        };
        if let Some(seconds) = ttl {
            request.body["ttl"] = format!("{seconds}s").into();
        }
        if !tables.is_empty() {
            let resources: Vec<Value> =
                tables.iter().map(|name| json!({ "table_name": name })).collect();
            let claim = json!({ "permission_set": "READ_ONLY", "resources": resources });
            request.body["claims"] = json!([claim]);
        }
        Ok(request)
    }

    fn send(&self, api: &Api<'_>) -> Outcome<Value> {
        api.post("to mint a database credential", self.path, &self.body)
    }

    /// Whether the workspace refuses the request because it has no `request_id`. The field is not in
    /// the SDK's type for endpoints, but one workspace has asked for it.
    fn lacks_request_id(&self, outcome: &Outcome<Value>) -> bool {
        let Err(CallError::Refused(refusal)) = outcome else { return false };
        refusal.status == 400
            && self.body["request_id"].is_null()
            && refusal.message.contains("request_id")
    }
}

/// Mints a database credential. With `tables`, it is for reading these alone.
pub fn mint(
    api: &Api<'_>,
    database: &MintTarget,
    ttl: Option<u64>,
    tables: &[String],
    context: &Context,
) -> Outcome<Token> {
    const ANSWER: &str = "the workspace's credential answer";
    let mut request = MintRequest::of(database, ttl, tables, context)?;
    let mut outcome = request.send(api);
    if request.lacks_request_id(&outcome) {
        request.body["request_id"] = uuid(context)?.into();
        outcome = request.send(api);
    }

    let answer = outcome?;
    let text = require(&answer, "token", ANSWER)?;
    refuse_other_secret(text, api)?;
    let expiry = &answer[request.expiry_field];
    let expires = if expiry.is_null() {
        None
    } else {
        Some(expiry.as_str().and_then(Timestamp::parse).ok_or_else(|| {
            Error::failed(format!("{ANSWER} has an {} that is not a time", request.expiry_field))
                .because(redact(&expiry.to_string()))
        })?)
    };
    Ok(Token::received("the database credential", text, expires, context.now())?)
}

/// Refuses a secret that is for the REST APIs: it would be sent to a Postgres server.
fn refuse_other_secret(text: &str, api: &Api<'_>) -> Result<()> {
    // Two JWTs with the same claims differ only in their signature.
    let claims = |token: &str| token.rsplit_once('.').map(|(claims, _)| claims.to_owned());
    let is_same =
        |known: &str| text == known || claims(known).is_some_and(|k| claims(text) == Some(k));
    let mut known = api.headers.iter().map(|(_, secret)| secret).chain([api.token]);
    if !known.any(|known| is_same(known.expose())) && !begins_like_api_secret(text) {
        return Ok(());
    }
    Err(Error::failed("the workspace answers with a secret that is not a database credential")
        .because("it is the token of the request, or begins like a personal access token"))
}

/// Resolves the host of a database that the user named.
pub fn resolve_host(api: &Api<'_>, database: MintTarget) -> Outcome<MintTarget> {
    match database {
        MintTarget::Endpoint { name, .. } => {
            let answer = endpoint(api, &name)?;
            let hosts = &answer["status"]["hosts"];
            let host = require(hosts, "host", "the workspace's endpoint")?.to_owned();
            Ok(MintTarget::Endpoint { name, host: Some(host) })
        }
        MintTarget::Instance { name, .. } => {
            let answer = instance(api, &name)?;
            let host = require(&answer, "read_write_dns", "the workspace's instance")?.to_owned();
            Ok(MintTarget::Instance { name, host: Some(host) })
        }
    }
}

/// The state of a database in the API's terms; empty if the answer has none.
pub fn state(api: &Api<'_>, database: &MintTarget) -> Outcome<String> {
    let state = match database {
        MintTarget::Endpoint { name, .. } => endpoint(api, name)?["status"]["current_state"].take(),
        MintTarget::Instance { name, .. } => instance(api, name)?["state"].take(),
    };
    Ok(state.as_str().unwrap_or_default().to_owned())
}

pub fn endpoint(api: &Api<'_>, name: &str) -> Outcome<Value> {
    api.get("to show the endpoint", &format!("{POSTGRES}/{name}"))
}

/// The hosts of an endpoint (databricks-sdk-go `service/postgres/model.go`, `EndpointHosts`).
const HOST_FIELDS: [&str; 4] =
    ["host", "read_only_host", "read_write_pooled_host", "read_only_pooled_host"];

/// Every host that the API states for an endpoint.
pub fn hosts_of_endpoint(endpoint: &Value) -> Vec<String> {
    let hosts = &endpoint["status"]["hosts"];
    HOST_FIELDS.iter().filter_map(|field| listed_text(&hosts[field])).collect()
}

fn instance(api: &Api<'_>, name: &str) -> Outcome<Value> {
    api.get("to show the instance", &format!("{INSTANCES}/{}", percent_encode(name)))
}

/// A version 4 UUID (RFC 9562), for `request_id`.
fn uuid(context: &Context) -> Result<String> {
    let mut bytes = context.random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;

    let digits = hex(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_the_same_after_writing_and_reading_its_line() {
        for database in [
            MintTarget::Endpoint { name: "projects/p".to_owned(), host: None },
            MintTarget::Instance { name: "a \"b\"".to_owned(), host: Some("h".to_owned()) },
        ] {
            assert_eq!(MintTarget::from_line(&database.to_line()), Some(database));
        }
        assert_eq!(MintTarget::from_line("[]"), None);
    }
}
