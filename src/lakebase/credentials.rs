//! The two Lakebase products on the wire: minting a credential, and where it can be used.
//! Finding what to mint for is `lakebase/find.rs`.
//!
//! Autoscaling (`/api/2.0/postgres`: projects, branches, endpoints) and Provisioned
//! (`/api/2.0/database`: instances) differ in request, answer and the name of the expiry field,
//! so each call is written for one of them. Fields are those of databricks-sdk-go
//! `service/postgres` and `service/database`. What is cached of all this is `get.rs`'s business.

use serde_json::{Value, json};

use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::{CallError, Outcome, require};
use crate::platform::context::Context;
use crate::platform::time::Timestamp;

/// What to mint for, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Autoscaling.
    Endpoint {
        /// The full resource name.
        name: String,
        /// The read-write host, once known.
        host: Option<String>,
    },
    /// Provisioned.
    Instance {
        /// The instance's name.
        name: String,
        /// The read-write host, once known.
        host: Option<String>,
    },
}

impl Database {
    /// The resource name, or the instance's.
    pub fn name(&self) -> &str {
        match self {
            Database::Endpoint { name, .. } | Database::Instance { name, .. } => name,
        }
    }

    /// What the API calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Database::Endpoint { .. } => "endpoint",
            Database::Instance { .. } => "instance",
        }
    }

    /// The host, once known.
    pub fn host(&self) -> Option<&str> {
        match self {
            Database::Endpoint { host, .. } | Database::Instance { host, .. } => host.as_deref(),
        }
    }

    /// As one line for the cache.
    pub fn to_line(&self) -> String {
        json!([self.kind(), self.name(), self.host()]).to_string()
    }

    /// What [`Database::to_line`] wrote.
    pub fn from_line(line: &str) -> Option<Database> {
        let value: Value = serde_json::from_str(line).ok()?;
        let name = value[1].as_str()?.to_owned();
        let host = value[2].as_str().map(str::to_owned);
        match value[0].as_str()? {
            "endpoint" => Some(Database::Endpoint { name, host }),
            "instance" => Some(Database::Instance { name, host }),
            _ => None,
        }
    }
}

/// Mints a credential: `POST /api/2.0/postgres/credentials` or `…/database/credentials`.
pub fn mint(
    api: &Api<'_>,
    database: &Database,
    ttl: Option<u64>,
    context: &Context,
) -> Outcome<Token> {
    const WHAT: &str = "to mint a database credential";
    let (path, mut body, expiry) = match database {
        Database::Endpoint { name, .. } => {
            ("/api/2.0/postgres/credentials", json!({ "endpoint": name }), "expire_time")
        }
        Database::Instance { name, .. } => (
            "/api/2.0/database/credentials",
            json!({ "instance_names": [name], "request_id": uuid(context)? }),
            "expiration_time",
        ),
    };
    if let Some(seconds) = ttl {
        body["ttl"] = format!("{seconds}s").into();
    }
    let answer = match api.post(WHAT, path, &body) {
        // Not in the SDK's type, yet one workspace was seen to ask for it.
        Err(CallError::Refused(no))
            if no.status == 400
                && body["request_id"].is_null()
                && no.message.contains("request_id") =>
        {
            body["request_id"] = uuid(context)?.into();
            api.post(WHAT, path, &body)
        }
        other => other,
    }?;
    let text = require(&answer, "token", "the workspace's credential answer")?;
    let stated = match &answer[expiry] {
        Value::Null => None,
        value => Some(value.as_str().and_then(Timestamp::parse).ok_or_else(|| {
            Error::failed(format!(
                "the workspace's credential answer has an {expiry} that is no time"
            ))
            .because(redact(&value.to_string()))
        })?),
    };
    Ok(Token::received("the database credential", text, stated, context.now())?)
}

/// Asks for the host of something that was named.
pub fn locate(api: &Api<'_>, database: Database) -> Outcome<Database> {
    match database {
        Database::Endpoint { name, .. } => {
            let answer = api.get("to show the endpoint", &format!("{POSTGRES}/{name}"))?;
            let host =
                require(&answer["status"]["hosts"], "host", "the workspace's endpoint")?.to_owned();
            Ok(Database::Endpoint { name, host: Some(host) })
        }
        Database::Instance { name, .. } => {
            let path = format!("{INSTANCES}/{}", percent_encode(&name));
            let answer = api.get("to show the instance", &path)?;
            let host = require(&answer, "read_write_dns", "the workspace's instance")?.to_owned();
            Ok(Database::Instance { name, host: Some(host) })
        }
    }
}

/// In which state it is, in the API's words; nothing where it does not say.
pub fn state(api: &Api<'_>, database: &Database) -> Outcome<String> {
    let answer = match database {
        Database::Endpoint { name, .. } => api
            .get("to show the endpoint", &format!("{POSTGRES}/{name}"))?["status"]["current_state"]
            .take(),
        Database::Instance { name, .. } => {
            let path = format!("{INSTANCES}/{}", percent_encode(name));
            api.get("to show the instance", &path)?["state"].take()
        }
    };
    Ok(answer.as_str().unwrap_or_default().to_owned())
}

pub const POSTGRES: &str = "/api/2.0/postgres";
pub const INSTANCES: &str = "/api/2.0/database/instances";

/// A version 4 UUID (RFC 9562), for `request_id`.
fn uuid(context: &Context) -> Result<String> {
    let mut bytes = context.random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = crate::credential::encoding::hex(&bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_survive_the_cache() {
        for database in [
            Database::Endpoint { name: "projects/p".to_owned(), host: None },
            Database::Instance { name: "a \"b\"".to_owned(), host: Some("h".to_owned()) },
        ] {
            assert_eq!(Database::from_line(&database.to_line()), Some(database));
        }
        assert_eq!(Database::from_line("[]"), None);
    }
}
