//! Pooled hosts: an endpoint's PgBouncer listens there. The first label of their names ends with
//! `-pooler` (databricks-sdk-go `service/postgres/model.go`, `EndpointHosts`).
//!
//! Whether a pooled host accepts tokens depends on the workspace. So none is refused here, and a
//! failed login says it (`login_refusal.rs`).

use serde_json::Value;

use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::error::Error;
use crate::lakebase::credentials::{MintTarget, endpoint, hosts_of_endpoint};
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::{CallError, Outcome};

const SUFFIX: &str = "-pooler";

/// The endpoint's own host, if this is a pooled one.
pub fn direct_host(host: &str) -> Option<String> {
    let (label, domain) = host.split_once('.').unwrap_or((host, ""));
    let (direct, suffix) = label.split_at_checked(label.len().checked_sub(SUFFIX.len())?)?;
    (suffix.eq_ignore_ascii_case(SUFFIX) && !direct.is_empty())
        .then(|| format!("{direct}.{domain}"))
}

/// Resolves the pooled host of an endpoint: the read-only one for a read-only endpoint, and where the
/// settings name the read-only host. `named` is a host in the settings, with its origin; `pooled` is the
/// setting that asks for a pooled host.
pub fn resolve_host(
    api: &Api<'_>,
    database: &MintTarget,
    named: Option<(&str, &Origin)>,
    pooled: &Origin,
) -> Outcome<MintTarget> {
    let MintTarget::Endpoint { name, .. } = database else {
        return Err(Error::usage("a Provisioned instance has no pooled host").into());
    };
    let answer = endpoint(api, name)?;
    let hosts = &answer["status"]["hosts"];
    let is_named = |field: &str| {
        let stated = hosts[field].as_str().unwrap_or_default();
        named.is_some_and(|(host, _)| stated.eq_ignore_ascii_case(host))
    };
    if let Some((host, origin)) = named
        && !hosts_of_endpoint(&answer).iter().any(|stated| stated.eq_ignore_ascii_case(host))
    {
        let error = Error::usage(format!("{} from {origin} is not a host of {name}", redact(host)))
            .because("a pooled host takes its place only if it is a host of that endpoint")
            .hint(format!("leave out {origin}, or {pooled}"));
        return Err(error.into());
    }

    let is_read_only = answer["status"]["endpoint_type"] == "ENDPOINT_TYPE_READ_ONLY"
        || is_named("read_only_host")
        || is_named("read_only_pooled_host");
    let field = if is_read_only { "read_only_pooled_host" } else { "read_write_pooled_host" };
    match hosts[field].as_str().filter(|host| !host.is_empty()) {
        Some(host) => Ok(MintTarget::Endpoint { name: name.clone(), host: Some(host.to_owned()) }),
        None => Err(not_stated(name, field, hosts, pooled)),
    }
}

fn not_stated(name: &str, field: &str, hosts: &Value, pooled: &Origin) -> CallError {
    let direct = redact(hosts["host"].as_str().unwrap_or("not known"));
    Error::denied(format!("the workspace states no pooled host for {name}"))
        .because(format!("its answer has no field `{field}`; the direct host is {direct}"))
        .hint(format!("leave out {pooled}"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooled_host_is_told_by_the_end_of_its_first_label() {
        for (host, direct) in [
            ("ep-x-pooler.db.example.com", Some("ep-x.db.example.com")),
            ("EP-X-Pooler.db.example.com", Some("EP-X.db.example.com")),
            ("ep-pooler-x.db.example.com", None),
            ("ep-x.db-pooler.example.com", None),
            ("-pooler.example.com", None),
            ("", None),
        ] {
            assert_eq!(direct_host(host).as_deref(), direct, "{host}");
        }
    }
}
