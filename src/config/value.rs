//! A value of a setting, and where it came from.

use std::fmt;

use crate::config::table::Trim;
use crate::credential::secret::Secret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Env(&'static str),
    /// A profile of the configuration file.
    Profile(String),
    /// The query of the workspace URL.
    Query,
    /// The only stored login, if nothing else names a workspace or a profile.
    Login,
    Default,
}

impl Origin {
    /// The flag or the variable with another value, as a hint says it.
    pub fn assignment(&self, value: &str) -> Option<String> {
        match self {
            Origin::Flag(flag) => Some(format!("--{flag} {value}")),
            Origin::Env(variable) => Some(format!("{variable}={value}")),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "--{name}"),
            Origin::Env(name) => f.write_str(name),
            Origin::Profile(name) => write!(f, "profile {name}"),
            Origin::Query => f.write_str("the workspace URL"),
            Origin::Login => f.write_str("the only login"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value with its origin. Every value is stored as a secret; `Settings::text` hands out only those
/// whose row is not secret.
#[derive(Clone, Debug)]
pub struct Value {
    pub(super) text: Secret,
    pub origin: Origin,
}

/// A value without what surrounds it by accident.
pub fn trimmed(text: &str, trim: Trim) -> &str {
    // Characters without a width, among them the byte order mark.
    let is_invisible = |c: char| matches!(c, '\u{feff}' | '\u{200b}'..='\u{200d}');
    match trim {
        Trim::Blanks => text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c)),
        Trim::LineEnds => text.trim_matches(['\r', '\n', '\u{feff}']),
        Trim::Nothing => text,
    }
}

/// What a secret looks like if it is not the secret itself, but what a file or a tool should have
/// replaced by it.
pub fn unfilled(text: &str) -> Option<&'static str> {
    let is_within =
        |open: &str, close: &str| text.len() > 1 && text.starts_with(open) && text.ends_with(close);
    if is_within("\"", "\"") || is_within("'", "'") {
        return Some("has quotes around it");
    }
    if text.contains("${") || text.contains("$(") || is_within("%", "%") || is_within("<", ">") {
        return Some("is a placeholder that nothing has replaced by the secret");
    }
    const STORES: [&str; 8] = [
        "op://",
        "vault:",
        "ref+",
        "{{",
        "@Microsoft.KeyVault(",
        "arn:aws:",
        "projects/",
        "akv://",
    ];
    let names_store = STORES.iter().any(|start| text.starts_with(start));
    names_store.then_some("is a reference to a secret store, not the secret")
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The OAuth scopes in a comma-separated list, sorted and without duplicates; without any, those for
/// all APIs. As in the SDK for Go (`config/config.go`).
pub fn scopes(list: Option<&str>) -> Vec<&str> {
    let parts = list.unwrap_or_default().split(',').map(str::trim);
    let mut scopes: Vec<&str> = parts.filter(|scope| !scope.is_empty()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() { vec!["all-apis"] } else { scopes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_known_by_what_surrounds_it() {
        for (text, words) in [
            ("\"s\"", "quotes"),
            ("''", "quotes"),
            ("${SECRET}", "placeholder"),
            ("a$(cat b)", "placeholder"),
            ("%SECRET%", "placeholder"),
            ("<secret>", "placeholder"),
            ("op://vault/item", "reference"),
            ("{{secrets/scope/key}}", "reference"),
        ] {
            assert!(unfilled(text).is_some_and(|why| why.contains(words)), "{text}");
        }
        for secret in ["", "\"", "%", "\"s", "s'", "<s", "s>", "%s", "a$b", "s{{", "dose1"] {
            assert_eq!(unfilled(secret), None, "{secret}");
        }
    }

    #[test]
    fn booleans_are_those_of_go() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Some(false), "{text}");
        }
        for text in ["", "yes", "tRUE", "2"] {
            assert_eq!(parse_bool(text), None, "{text}");
        }
    }

    #[test]
    fn scopes_are_sorted_without_duplicates() {
        assert_eq!(scopes(None), ["all-apis"]);
        assert_eq!(scopes(Some(" , ")), ["all-apis"]);
        assert_eq!(scopes(Some("sql, postgres,,sql")), ["postgres", "sql"]);
    }
}
