//! `.databrickscfg`, read the way the Databricks Go SDK reads it (go-ini).
//!
//! Sections in brackets, `key = value` or `key: value`, keys before the first section belonging
//! to `DEFAULT`, comments behind a `#` or `;` that follows white space, one pair of surrounding
//! quotes dropped. A repeated key or section goes on where it left off and the later value wins.
//! Continued lines and go-ini's multi-line quotes are not values that Databricks writes; they
//! are refused, not guessed at. Unknown keys are somebody else's business.

use crate::error::{Error, Result};

/// The largest file that is read. Fifty profiles have about ten thousand bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// One profile's keys and values, in the file's order.
pub type Section<'a> = Vec<(&'a str, &'a str)>;

/// The name of the section for keys before any header, as in go-ini.
pub const DEFAULT: &str = "DEFAULT";

/// Names of all sections that hold at least one key, in order.
pub fn sections(text: &str) -> Result<Vec<&str>> {
    let mut names: Vec<&str> = Vec::new();
    walk(text, |name, _, _| {
        if !names.contains(&name) {
            names.push(name);
        }
    })?;
    Ok(names)
}

/// The keys of one section; empty where it is missing.
pub fn section<'a>(text: &'a str, wanted: &str) -> Result<Section<'a>> {
    let mut found = Section::new();
    walk(text, |name, key, value| {
        if name == wanted {
            match found.iter_mut().find(|(known, _)| *known == key) {
                Some(pair) => pair.1 = value,
                None => found.push((key, value)),
            }
        }
    })?;
    Ok(found)
}

fn walk<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str, &'a str)) -> Result<()> {
    let mut name = DEFAULT;
    // Windows editors leave a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let broken = |why: &str| Err(Error::usage(format!("line {}: {why}", number + 1)));
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let Some(end) = rest.rfind(']') else { return broken("unclosed section") };
            name = rest[..end].trim();
            if name.is_empty() {
                return broken("empty section name");
            }
            continue;
        }
        let Some(at) = line.find(['=', ':']) else {
            return broken("neither a [section] nor a `key = value`");
        };
        let key = line[..at].trim();
        if key.is_empty() {
            return broken("no key before the `=`");
        }
        let value = value(&line[at + 1..]);
        if value.ends_with('\\') || value.starts_with(['`']) || value.starts_with("\"\"\"") {
            return broken("values over several lines are not supported");
        }
        each(name, key, value);
    }
    Ok(())
}

fn value(text: &str) -> &str {
    let text = text.trim();
    let comment = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| text.find(mark)).min();
    let text =
        if text.starts_with(['#', ';']) { "" } else { &text[..comment.unwrap_or(text.len())] };
    let text = text.trim();
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, wanted: &str) -> Vec<(String, String)> {
        let owned = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        section(text, wanted).unwrap().into_iter().map(owned).collect()
    }

    #[test]
    fn reads_what_go_ini_reads() {
        let text = "\u{feff}host = https://a\r\n# c\n; c\n\n[prod.eu]\nhost: https://b # why\n\
                    token=\"a b\"\nclient_id = 'x'\n  pg_user=me#1;2\nquoted = \"a\" and \"b\"\n\
                    empty =\n[ spaced ]\nk=v\n[prod.eu]\nclient_id = y\n";
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        assert_eq!(get(text, "DEFAULT"), pairs(&[("host", "https://a")]));
        assert_eq!(
            get(text, "prod.eu"),
            pairs(&[
                ("host", "https://b"),
                ("token", "a b"),
                ("client_id", "y"),
                ("pg_user", "me#1;2"),
                ("quoted", "\"a\" and \"b\""),
                ("empty", ""),
            ])
        );
        assert_eq!(get(text, "spaced"), pairs(&[("k", "v")]));
        assert_eq!(get(text, "absent"), pairs(&[]));
        assert_eq!(sections(text).unwrap(), ["DEFAULT", "prod.eu", "spaced"]);
    }

    #[test]
    fn says_which_line_is_broken() {
        for (text, line) in
            [("[a\n", 1), ("\nnonsense\n", 2), ("= 1\n", 1), ("a = b\\\n", 1), ("[]\n", 1)]
        {
            let error = section(text, "a").unwrap_err();
            assert!(error.message.starts_with(&format!("line {line}: ")), "{error:?}");
        }
    }
}
