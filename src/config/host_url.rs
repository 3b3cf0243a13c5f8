//! The workspace's URL as people paste it, made into the one form that is used.
//!
//! As Databricks' SDKs do: `https://` is added, path, query and fragment are dropped, and hints in
//! the query (`?o=` of a browser's address bar, `?w=`, `?a=`) are kept as ids. Unlike them, a URL
//! that would leak something or cannot be meant is refused: user information, `http://` to
//! another machine, a port that is no number, white space.

use std::fmt::Display;

use crate::credential::destination::is_loopback;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::http::check_url;

/// A workspace's URL and what else its text said.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// Scheme, host and port; no slash at the end.
    pub url: String,
    /// From `?w=`, `?o=` or `?workspace_id=`.
    pub workspace_id: Option<String>,
    /// From `?a=` or `?account_id=`.
    pub account_id: Option<String>,
}

impl Host {
    /// Reads a workspace URL; `origin` says in messages where it came from.
    pub fn parse(text: &str, origin: impl Display) -> Result<Host> {
        let refuse = |why: &str| {
            Err(Error::usage(format!("the workspace URL from {origin} {why}"))
                .hint("DATABRICKS_HOST=https://adb-1234567890123456.7.azuredatabricks.net"))
        };
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let end = rest.bytes().position(|b| b"/?#".contains(&b)).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            // Not repeated: there may be a password in it.
            return refuse("holds a user name or password");
        }
        let is_blank = |c: char| c.is_whitespace() || c.is_control();
        if !text.bytes().all(|b| b.is_ascii_graphic()) && text.contains(is_blank) {
            return refuse(&format!("holds white space: {}", redact(text)));
        }
        let (host, port) = split_port(authority);
        let legal = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
        if host.is_empty() || !host.bytes().all(legal) {
            return refuse(&format!("names no host: {}", redact(authority)));
        }
        let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok();
        if port.is_some_and(|port| !is_port(port)) {
            return refuse(&format!("has a port that is no number: {}", redact(authority)));
        }
        if scheme.eq_ignore_ascii_case("http") {
            if !is_loopback(host) {
                return refuse(&format!("is not https, so it would show secrets: http://{host}"));
            }
        } else if !scheme.eq_ignore_ascii_case("https") {
            return refuse(&format!("is not https: {}", redact(scheme)));
        }
        let mut url = [scheme, "://", authority].concat();
        url.make_ascii_lowercase();
        if host.contains(['[', ']', ':']) && check_url(&url).is_err() {
            return refuse(&format!("names no host: {}", redact(authority)));
        }
        if tail.len() < 2 {
            return Ok(Host { url, workspace_id: None, account_id: None });
        }
        let query = tail.split('#').next().and_then(|tail| tail.split_once('?'));
        let query = query.map_or("", |(_, query)| query);
        let hint = |name: &str, legal: fn(&str) -> bool| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
            found.filter(|value| !value.is_empty()).find(|value| legal(value)).map(str::to_owned)
        };
        let digits = |value: &str| value.bytes().all(|b| b.is_ascii_digit());
        Ok(Host {
            url,
            workspace_id: hint("w", is_id)
                .or_else(|| hint("o", digits))
                .or_else(|| hint("workspace_id", digits)),
            account_id: hint("a", is_id).or_else(|| hint("account_id", is_id)),
        })
    }
}

/// Whether this can be an id in a header or path.
pub fn is_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // An IPv6 address has colons of its own, inside brackets.
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_urls_become_one_form() {
        for (text, url) in [
            ("adb-1.2.azuredatabricks.net", "https://adb-1.2.azuredatabricks.net"),
            ("https://x.cloud.databricks.com/", "https://x.cloud.databricks.com"),
            ("https://X.cloud.databricks.com/sql/editor#top\n", "https://x.cloud.databricks.com"),
            ("x:8443/path", "https://x:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://[::1]:80/", "http://[::1]:80"),
        ] {
            assert_eq!(Host::parse(text, "test").unwrap().url, url);
        }
    }

    #[test]
    fn hints_in_the_query_are_kept() {
        let ids = |text: &str| {
            let host = Host::parse(text, "test").unwrap();
            (host.workspace_id.unwrap_or_default(), host.account_id.unwrap_or_default())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(ids("https://x/?o=123"), pair("123", ""));
        assert_eq!(ids("x?o=123&w=abc&a=acc"), pair("abc", "acc"));
        assert_eq!(ids("x/?o=12x"), pair("", ""));
        assert_eq!(ids("x/?workspace_id=5&account_id=6#?o=7"), pair("5", "6"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_passwords_are_not_repeated() {
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
            "https://é",
        ] {
            let error = Host::parse(text, "DATABRICKS_HOST").unwrap_err();
            assert_eq!(error.kind as u8, 2, "{text}");
            assert!(
                error.message.contains("DATABRICKS_HOST") && !error.message.contains("hunter2")
            );
        }
    }
}
