//! The workspace URL as users paste it, normalised.
//!
//! As in the Databricks SDKs, `https://` is added, path, query and fragment are dropped, and ids in
//! the query are kept (`?o=` of a browser's address bar, `?w=`, `?a=`). Unlike in the SDKs, a URL is
//! refused if it would leak a secret or cannot be meant: user information, `http://` to another
//! machine, a port that is not a number, white space.

use std::fmt::Display;

use crate::credential::destination::is_loopback;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::http::check_url;

/// A workspace URL and the ids that its query holds.
#[derive(Debug, PartialEq, Eq)]
pub struct WorkspaceUrl {
    /// Scheme, host and port in lower case, without a slash at the end.
    pub url: String,
    /// From `?w=`, `?o=` or `?workspace_id=`.
    pub workspace_id: Option<String>,
    /// From `?a=` or `?account_id=`.
    pub account_id: Option<String>,
}

impl WorkspaceUrl {
    /// Reads a workspace URL; messages name its `origin`.
    pub fn parse(text: &str, origin: impl Display) -> Result<WorkspaceUrl> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let end = rest.bytes().position(|b| b"/?#".contains(&b)).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);

        let checked = check(text, scheme, authority);
        let bare = text.trim_matches(['"', '\'']);
        let url = checked.map_err(|why| {
            let error = Error::usage(format!("the workspace URL from {origin} {why}"));
            if bare.len() < text.len() {
                return error.hint(format!("{origin}={}  # without the quotes", redact(bare)));
            }
            error.hint(
                "a URL such as https://my-workspace.cloud.databricks.com, as the browser shows it",
            )
        })?;

        // Most URLs have no query, and this runs at every call.
        if tail.len() < 2 {
            return Ok(WorkspaceUrl { url, workspace_id: None, account_id: None });
        }
        let query = tail.split('#').next().and_then(|tail| tail.split_once('?'));
        let query = query.map_or("", |(_, query)| query);
        Ok(WorkspaceUrl {
            url,
            workspace_id: id_in(query, "w", is_id)
                .or_else(|| id_in(query, "o", is_number))
                .or_else(|| id_in(query, "workspace_id", is_number)),
            account_id: id_in(query, "a", is_id).or_else(|| id_in(query, "account_id", is_id)),
        })
    }
}

/// The normalised URL; or why it is refused, as the end of a sentence.
fn check(text: &str, scheme: &str, authority: &str) -> std::result::Result<String, String> {
    if authority.contains('@') {
        // The text is not repeated, since it may hold a password.
        return Err("holds a user name or password".to_owned());
    }
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    if !text.bytes().all(|b| b.is_ascii_graphic()) && text.contains(is_blank) {
        return Err(format!("holds white space: {}", redact(text)));
    }

    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return Err(format!("has quotes around it: {}", redact(text)));
    }

    // As in `https//x`, `https:/x` and `https://https://x`.
    let name = authority.trim_end_matches(':');
    if name.eq_ignore_ascii_case("https") || name.eq_ignore_ascii_case("http") {
        return Err(format!("has a broken or doubled https://: {}", redact(text)));
    }
    if authority.bytes().all(|b| b.is_ascii_digit()) && authority.len() > 3 {
        return Err(format!("is a workspace id and no URL: {authority}"));
    }

    let (host, port) = split_port(authority);
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if host.is_empty() || !host.bytes().all(is_legal) {
        return Err(format!("names no host: {}", redact(authority)));
    }
    let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) {
        return Err(format!("has a port that is not a number: {}", redact(authority)));
    }

    if scheme.eq_ignore_ascii_case("http") {
        if !is_loopback(host) {
            return Err(format!(
                "is not https, so secrets would be sent in clear text: http://{host}"
            ));
        }
    } else if !scheme.eq_ignore_ascii_case("https") {
        return Err(format!("does not begin with https://: {}", redact(text)));
    }

    let mut url = [scheme, "://", authority].concat();
    url.make_ascii_lowercase();
    let is_bracketed = host.starts_with('[') && host.ends_with(']') && !host[1..].contains('[');
    let has_brackets = host.contains(['[', ']', ':']);
    if has_brackets && (!is_bracketed || check_url(&url).is_err()) {
        return Err(format!("names no host: {}", redact(authority)));
    }
    // The port of https, which a browser does not show.
    if scheme.eq_ignore_ascii_case("https") && port == Some("443") {
        url.truncate(url.len() - ":443".len());
    }
    Ok(url)
}

/// The first value of this name in a query that can be an id.
fn id_in(query: &str, name: &str, is_legal: fn(&str) -> bool) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    values.find(|value| !value.is_empty() && is_legal(value)).map(str::to_owned)
}

/// Whether this text can be an id in a header or a path.
pub fn is_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address stand in brackets.
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_urls_are_normalised() {
        for (text, url) in [
            ("adb-1.2.azuredatabricks.net", "https://adb-1.2.azuredatabricks.net"),
            ("https://x.cloud.databricks.com/", "https://x.cloud.databricks.com"),
            ("https://X.cloud.databricks.com/sql/editor#top\n", "https://x.cloud.databricks.com"),
            ("x:8443/path", "https://x:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://[::1]", "http://[::1]"),
            ("x:443", "https://x"),
            ("https://x:443/path", "https://x"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443"),
            ("404", "https://404"),
        ] {
            assert_eq!(WorkspaceUrl::parse(text, "test").unwrap().url, url);
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        for (text, words) in [
            ("https://é", "names no host"),
            ("https://a b", "holds white space"),
            ("\"https://x", "has quotes around it"),
            ("https://x'", "has quotes around it"),
        ] {
            let error = WorkspaceUrl::parse(text, "DATABRICKS_HOST").unwrap_err();
            assert!(error.message.contains(words), "{text}: {error:?}");
        }
    }

    #[test]
    fn only_quotes_are_said_to_be_in_the_way() {
        let hint = |text| WorkspaceUrl::parse(text, "DATABRICKS_HOST").unwrap_err().hints.remove(0);
        // Each system's shell spells the assignment in its own way.
        let quotes = hint("'https://x'");
        assert!(
            quotes.contains("https://x") && quotes.ends_with("# without the quotes"),
            "{quotes}"
        );
        assert!(hint("http://x.example").starts_with("a URL such as "));
    }

    #[test]
    fn ids_in_the_query_are_kept() {
        let ids = |text: &str| {
            let host = WorkspaceUrl::parse(text, "test").unwrap();
            (host.workspace_id.unwrap_or_default(), host.account_id.unwrap_or_default())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(ids("https://x/?o=123"), pair("123", ""));
        assert_eq!(ids("x?o=123&w=abc&a=acc"), pair("abc", "acc"));
        assert_eq!(ids("x/?o=12x"), pair("", ""));
        assert_eq!(ids("x/?workspace_id=5&account_id=6#?o=7"), pair("5", "6"));
    }

    #[test]
    fn unusable_urls_are_refused_without_repeating_a_password() {
        for text in [
            "",
            "https://",
            "https://a b",
            "a\nb",
            "https://me:hunter2@x",
            "http://x.example",
            "http://localhost:8080",
            "https://x:port",
            "https://x:99999",
            "ftp://x",
            "::1",
            "[",
            "a]b",
            "https://::1",
            "https//x.example",
            "https:/x.example",
            "https://https://x.example",
            "1234567890123456",
            "1234",
            "\"https://x\"",
            "https://[::1].cloud.databricks.com",
            "https://[2001:db8::1]evil.example:443",
            "https://[::1][::2]",
            "https://é",
        ] {
            let error = WorkspaceUrl::parse(text, "DATABRICKS_HOST").unwrap_err();
            assert_eq!(error.kind as u8, 2, "{text}");
            assert!(
                error.message.contains("DATABRICKS_HOST") && !error.message.contains("hunter2")
            );
        }
    }
}
