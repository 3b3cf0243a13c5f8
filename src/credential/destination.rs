//! Which hosts a secret may be sent to (SECURITY.md, "Where a secret may go").
//!
//! Pure functions over host names: nothing here reads a setting or makes a request. The callers
//! know where a name came from. The domains are those that Databricks has in each cloud
//! (databricks-sdk-go `common/environment`).

use std::net::IpAddr;

/// A host in one of these domains belongs to Databricks.
const DOMAINS: [&str; 7] = [
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

/// Whether this is one host name or one IP address. With a socket path, a list of hosts, an option
/// or a `user@host`, libpq or a driver would send the password to another host.
pub fn is_host(text: &str) -> bool {
    is_host_name(text) || text.parse::<IpAddr>().is_ok()
}

fn is_host_name(text: &str) -> bool {
    // A fully qualified name may end with a dot.
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)
}

/// Whether a host is below one of Databricks' domains.
pub fn in_databricks_domain(host: &str) -> bool {
    domain_of(host).is_some()
}

/// The domain of Databricks' that a host is below.
pub fn domain_of(host: &str) -> Option<&'static str> {
    let host = normalised(host);
    let is_below = |domain: &&&str| is_host(&host) && host.ends_with(**domain);
    DOMAINS.iter().find(is_below).copied()
}

/// Whether a database password may be sent to this host because the workspace's answer names it.
/// The host must be in Databricks' domains, the workspace's own host or below it, or, for a
/// workspace on this machine, another address of this machine.
pub fn is_database_host(host: &str, workspace_url: &str) -> bool {
    let host = normalised(host);
    let workspace = normalised(host_of(workspace_url));
    if !is_host(&host) {
        return false;
    }

    let is_below_workspace = || {
        let is_domain = workspace.parse::<IpAddr>().is_err() && workspace.contains('.');
        is_domain && host.strip_suffix(&workspace).is_some_and(|rest| rest.ends_with('.'))
    };
    in_databricks_domain(&host)
        || host == workspace
        || is_below_workspace()
        || (is_loopback(&workspace) && is_loopback(&host))
}

/// Whether Entra's tokens may be sent to this workspace: only to Databricks' domains and to this
/// machine itself.
pub fn takes_entra_tokens(workspace_url: &str) -> bool {
    let host = host_of(workspace_url);
    in_databricks_domain(host) || is_loopback(host)
}

/// Whether this is a literal loopback address. A name is not enough: it can resolve to any address.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The same for the host of a URL without a user name.
pub fn is_loopback_url(url: &str) -> bool {
    is_loopback(host_of(url))
}

/// The host of a URL, without the brackets of an IPv6 address.
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
    fn a_host_is_a_single_name_or_address() {
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
    fn a_domain_covers_hosts_below_it_and_no_similar_names() {
        for host in [
            "ep-x.database.us-east-1.cloud.databricks.com",
            "instance-1.database.azuredatabricks.net",
            "X.Databricks.Azure.CN",
            "x.gcp.databricks.com.",
        ] {
            assert!(in_databricks_domain(host), "{host}");
        }
        for host in [
            "databricks.com",
            "evildatabricks.com",
            "x.databricks.com.evil.example",
            "",
            "a/.databricks.com",
        ] {
            assert!(!in_databricks_domain(host), "{host}");
        }
    }

    #[test]
    fn a_database_host_is_in_a_domain_or_belongs_to_the_workspace() {
        for (host, url, expected) in [
            ("ep-x.database.cloud.databricks.com", "https://ws.example", true),
            ("ws.example", "https://ws.example:8443", true),
            ("db.ws.example", "https://ws.example", true),
            ("badws.example", "https://ws.example", false),
            ("127.0.0.1", "https://127.0.0.1:4433", true),
            ("::1", "http://[::1]:80", true),
            ("127.0.0.2", "http://127.0.0.1:80", true),
            ("::1", "http://127.0.0.1", true),
            ("ws.example", "", false),
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
