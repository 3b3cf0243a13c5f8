//! Which hosts a secret may be sent to (SECURITY.md, "Where a secret may go").
//!
//! Pure functions over host names: no request and no setting is looked at here. The callers say
//! where a name came from. The zones are Databricks' own domains, as its documentation lists them
//! for each cloud (reference: databricks-sdk-go `common/environment`).

use std::net::IpAddr;

/// A host in one of these domains belongs to Databricks.
const ZONES: [&str; 7] = [
    ".cloud.databricks.com",
    ".databricks.com",
    ".gcp.databricks.com",
    ".databricks.us",
    ".azuredatabricks.net",
    ".databricks.azure.us",
    ".databricks.azure.cn",
];

/// The longest host name (RFC 1123 §2.1), and its longest label (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Whether this is one host name or one IP address. A socket path, a list of hosts, an option and
/// a `user@host` are none: libpq or a driver would send the password somewhere else.
pub fn is_host(text: &str) -> bool {
    is_host_name(text) || text.parse::<IpAddr>().is_ok()
}

fn is_host_name(text: &str) -> bool {
    // A final dot ends a fully qualified name.
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)
}

/// Whether a host lies in one of Databricks' domains.
pub fn in_databricks_zone(host: &str) -> bool {
    let host = normalised(host);
    is_host(&host) && ZONES.iter().any(|zone| host.len() > zone.len() && host.ends_with(zone))
}

/// Whether a workspace may send a database password to this host, which an answer of it names:
/// one in Databricks' domains, the workspace's own, a name below that, or, for a workspace on this
/// machine, another address of this machine.
pub fn is_database_host(host: &str, workspace_url: &str) -> bool {
    let (host, own) = (normalised(host), normalised(host_of(workspace_url)));
    if !is_host(&host) {
        return false;
    }
    let below_own = || {
        let is_name = own.parse::<IpAddr>().is_err() && own.contains('.');
        is_name && host.strip_suffix(&own).is_some_and(|rest| rest.ends_with('.'))
    };
    in_databricks_zone(&host)
        || (!own.is_empty() && host == own)
        || below_own()
        || (is_loopback(&own) && is_loopback(&host))
}

/// Whether Entra's tokens may be sent to this workspace: to Databricks' domains, and to this
/// machine itself.
pub fn takes_entra_tokens(workspace_url: &str) -> bool {
    let host = host_of(workspace_url);
    in_databricks_zone(host) || is_loopback(host)
}

/// Whether this is a literal loopback address; a name could be resolved to anything.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host in a URL of scheme, host and port, without brackets.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn normalised(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_name_or_one_address() {
        for text in ["db", "a.b-c.example", "my_db", "127.0.0.1", "::1", "ep-x.example."] {
            assert!(is_host(text), "{text}");
        }
        let long = "a".repeat(MAX_LABEL_BYTES + 1);
        for text in [
            "",
            ".",
            "a..b",
            "-h",
            "a b",
            "a,b",
            "/tmp",
            "@abstract",
            "u@h",
            "h:1",
            "[::1]",
            "a\n",
            "host=a user=b",
            "a%00",
            "é",
            "a.-b",
            &long,
        ] {
            assert!(!is_host(text), "{text}");
        }
    }

    #[test]
    fn zones_are_domains_and_not_endings() {
        for host in [
            "ep-x.database.us-east-1.cloud.databricks.com",
            "instance-1.database.azuredatabricks.net",
            "X.Databricks.Azure.CN",
            "x.gcp.databricks.com.",
        ] {
            assert!(in_databricks_zone(host), "{host}");
        }
        for host in [
            "databricks.com",
            "evildatabricks.com",
            "x.databricks.com.evil.example",
            "",
            "a/.databricks.com",
        ] {
            assert!(!in_databricks_zone(host), "{host}");
        }
    }

    #[test]
    fn an_answers_host_is_databricks_or_the_workspaces_own() {
        for (host, url, expected) in [
            ("ep-x.database.cloud.databricks.com", "https://ws.example", true),
            ("ws.example", "https://ws.example:8443", true),
            ("db.ws.example", "https://ws.example", true),
            ("badws.example", "https://ws.example", false),
            ("127.0.0.1", "https://127.0.0.1:4433", true),
            ("::1", "http://[::1]:80", true),
            ("127.0.0.1", "https://ws.example", false),
            ("db.127.0.0.1", "https://127.0.0.1", false),
            ("db.example", "https://example", false),
            ("/tmp/evil", "https://ws.example", false),
            ("ws.example,evil.example", "https://ws.example", false),
        ] {
            assert_eq!(is_database_host(host, url), expected, "{host} at {url}");
        }
    }
}
