//! What this program assumes about the platform and `doctor` can test, for `doctor --report`: the first
//! reports from live workspaces confirm or refute it. Most are documented without an example, or known
//! from the official SDKs only.

use crate::commands::doctor::findings::Findings;
use crate::credential::connection::VERIFY_FULL;
use crate::credential::destination::domain_of;
use crate::credential::jwt::Claims;
use crate::formats::PGBOUNCER_PASSWORD_BYTES;
use crate::lakebase::credentials::{INSTANCES, MintTarget, POSTGRES};
use crate::platform::request_log::Exchange;
use crate::platform::time::MINUTE;

pub struct Assumption {
    pub text: &'static str,
    /// Whether it holds; nothing if the findings do not show it.
    pub holds: fn(&Findings) -> Option<bool>,
}

pub const ASSUMPTIONS: &[Assumption] = &[
    Assumption {
        text: "the token endpoint is /oidc/v1/token on the workspace's own host",
        holds: |found| Some(exchange(found, "POST", "/oidc/v1/token")?.status == 200),
    },
    Assumption {
        text: "a token answer has access_token as text and expires_in as number",
        holds: |found| {
            let answer = answered(found, "POST", "/oidc/v1/token")?;
            Some(has(answer, "access_token", "text") && has(answer, "expires_in", "number"))
        },
    },
    Assumption {
        text: "SCIM Me has userName as text",
        holds: |found| Some(has(scim_me(found)?, "userName", "text")),
    },
    Assumption {
        text: "the groups of SCIM Me have display as text",
        holds: |found| {
            let answer = scim_me(found)?;
            // An empty list shows nothing.
            (!has(answer, "groups", "list")).then(|| has(answer, "groups[].display", "text"))
        },
    },
    Assumption {
        text: "the subject of a database credential is the userName of SCIM Me",
        holds: |found| {
            let subject = Claims::of(token(found)?).sub;
            Some(subject? == found.identity.as_ref()?.user_name)
        },
    },
    Assumption {
        text: "an endpoint has status.hosts.host and status.current_state as text",
        holds: |found| {
            let answer = endpoint(found)?;
            Some(has(answer, "status.hosts.host", "text") && has(answer, STATE, "text"))
        },
    },
    Assumption {
        text: "an endpoint has status.hosts.read_write_pooled_host",
        holds: |found| Some(has(endpoint(found)?, "status.hosts.read_write_pooled_host", "text")),
    },
    Assumption {
        text: "an instance has read_write_dns and state as text",
        holds: |found| {
            let answer = found.exchanges.iter().find(|exchange| {
                exchange.status == 200 && exchange.path.starts_with(&format!("{INSTANCES}/"))
            })?;
            Some(has(answer, "read_write_dns", "text") && has(answer, "state", "text"))
        },
    },
    Assumption {
        text: "the Postgres host is in a domain of Databricks",
        holds: |found| {
            let connection = &found.credential.as_ref()?.connection;
            Some(domain_of(connection.host.as_ref()?).is_some())
        },
    },
    Assumption {
        text: "a mint for an endpoint answers with token and expire_time as text",
        holds: |found| {
            let answer = answered(found, "POST", "/api/2.0/postgres/credentials")?;
            Some(has(answer, "token", "text") && has(answer, "expire_time", "text"))
        },
    },
    Assumption {
        text: "a mint for an instance answers with token and expiration_time as text",
        holds: |found| {
            let answer = answered(found, "POST", "/api/2.0/database/credentials")?;
            Some(has(answer, "token", "text") && has(answer, "expiration_time", "text"))
        },
    },
    Assumption {
        text: "a mint for an endpoint needs no request_id",
        holds: |found| {
            let first = exchange(found, "POST", "/api/2.0/postgres/credentials")?;
            matches!(first.status, 200 | 400).then_some(first.status == 200)
        },
    },
    Assumption {
        text: "a database credential is a JWT with the claims sub, iat and exp",
        holds: |found| {
            let claims = Claims::of(token(found)?);
            Some(claims.sub.is_some() && claims.iat.is_some() && claims.exp.is_some())
        },
    },
    Assumption {
        text: "a database credential lives one hour, if no other lifetime is asked for",
        holds: |found| {
            let lifetime = found.credential.as_ref()?.token.lifetime;
            (!found.has_ttl).then_some((59 * MINUTE..=61 * MINUTE).contains(&lifetime))
        },
    },
    Assumption {
        text: "a database credential has fewer than 2048 bytes, as PgBouncer up to 1.25 needs",
        holds: |found| Some(token(found)?.len() < PGBOUNCER_PASSWORD_BYTES),
    },
    Assumption {
        text: "Postgres asks for the password in clear text, inside TLS",
        holds: |found| match &found.logged_in {
            Some(login) => Some(login.uses_cleartext_password),
            None => found.asked_for_other_method.then_some(false),
        },
    },
    Assumption {
        text: "the server's certificate and name are verified with the authorities of this machine",
        holds: |found| {
            let verifies = found.credential.as_ref()?.connection.tls.mode == VERIFY_FULL;
            match &found.logged_in {
                Some(_) => verifies.then_some(true),
                None => found.is_certificate_rejected.then_some(false),
            }
        },
    },
    Assumption {
        text: "current_user is the role that was asked for",
        holds: |found| {
            let asked = found.credential.as_ref()?.connection.user.as_ref()?;
            Some(found.logged_in.as_ref()?.role == *asked)
        },
    },
];

const STATE: &str = "status.current_state";

/// The first request of this kind.
fn exchange<'f>(found: &'f Findings, method: &str, path: &str) -> Option<&'f Exchange> {
    found.exchanges.iter().find(|known| known.method == method && known.path == path)
}

/// The same, if it has succeeded.
fn answered<'f>(found: &'f Findings, method: &str, path: &str) -> Option<&'f Exchange> {
    let is_it = |known: &&Exchange| known.method == method && known.path == path;
    found.exchanges.iter().filter(is_it).find(|known| known.status == 200)
}

fn scim_me(found: &Findings) -> Option<&Exchange> {
    answered(found, "GET", "/api/2.0/preview/scim/v2/Me")
}

/// The answer that shows the endpoint.
fn endpoint(found: &Findings) -> Option<&Exchange> {
    let Some(MintTarget::Endpoint { name, .. }) = &found.database else { return None };
    answered(found, "GET", &format!("{POSTGRES}/{name}"))
}

fn token(found: &Findings) -> Option<&str> {
    Some(found.credential.as_ref()?.token.secret.expose())
}

fn has(exchange: &Exchange, field: &str, kind: &str) -> bool {
    exchange.fields.iter().any(|(name, known)| name == field && *known == kind)
}
