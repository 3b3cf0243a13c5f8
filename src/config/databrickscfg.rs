//! `.databrickscfg`, read the way the Databricks Go SDK reads it (go-ini).
//!
//! Sections in brackets, `key = value` or `key: value`, keys before the first section belonging
//! to `DEFAULT`, comments behind a `#` or `;` that follows white space, one pair of surrounding
//! quotes dropped. A repeated key or section goes on where it left off and the later value wins.
//! Continued lines and go-ini's multi-line quotes are not values that Databricks writes; they
//! are refused, not guessed at. Unknown keys are somebody else's business.
//!
//! A profile of ours ([`put`], [`remove`]) is known by a comment in it; all other bytes of the file
//! stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// The largest file that is read. Fifty profiles have about ten thousand bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// One profile's keys and values, in the file's order.
pub type Section<'a> = Vec<(&'a str, &'a str)>;

/// The name of the section for keys before any header, as in go-ini.
pub const DEFAULT: &str = "DEFAULT";

/// A section for settings of the CLI itself, not a profile.
pub const RESERVED: &str = "__settings__";

/// Names of all sections that hold at least one key, in order.
pub fn sections(text: &str) -> Result<Vec<&str>> {
    let (mut names, mut known) = (Vec::new(), BTreeSet::new());
    walk(text, |name, _, _| {
        if known.insert(name) {
            names.push(name);
        }
    })?;
    Ok(names)
}

/// The keys of one section; empty where it is missing.
pub fn section<'a>(text: &'a str, wanted: &str) -> Result<Section<'a>> {
    let (mut found, mut known) = (Section::new(), BTreeMap::new());
    walk(text, |name, key, value| {
        if name == wanted {
            let place = *known.entry(key).or_insert(found.len());
            match found.get_mut(place) {
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
            name = &rest[..end];
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
    let mark = |pair: &[u8]| matches!(pair, [b' ' | b'\t', b'#' | b';']);
    let comment = text.as_bytes().windows(2).position(mark);
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

/// The comment that a profile of ours has.
const MARK: &str = "# kept by lakebase-token: what stands here is replaced";

/// A line without its end, and where it is.
struct Line<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

/// The lines of a profile behind its headers, and the headers; a profile may go on elsewhere.
fn lines_of<'a>(file: &'a [u8], name: &str) -> (Vec<Line<'a>>, Vec<Line<'a>>) {
    let (mut headers, mut lines) = (Vec::new(), Vec::new());
    let (mut start, mut inside) = (0, name == DEFAULT);
    for text in file.split_inclusive(|byte| *byte == b'\n') {
        let end = start + text.len();
        // Only at the beginning is it a byte order mark.
        let mark: &[u8] = if start == 0 { b"\xef\xbb\xbf" } else { b"" };
        let bare = trimmed(text.strip_prefix(mark).unwrap_or(text));
        let line = Line { text: bare, start, end };
        start = end;
        match bare.strip_prefix(b"[") {
            Some(rest) => {
                let close = rest.iter().rposition(|byte| *byte == b']').unwrap_or(0);
                inside = &rest[..close] == name.as_bytes();
                if inside {
                    headers.push(line);
                }
            }
            None if inside => lines.push(line),
            None => (),
        }
    }
    (headers, lines)
}

/// Without blanks at its ends, and the same ones that the reader knows.
fn trimmed(bytes: &[u8]) -> &[u8] {
    std::str::from_utf8(bytes).map_or(bytes.trim_ascii(), |text| text.trim().as_bytes())
}

/// A line's key in small letters, as Python's reader has it.
fn key(line: &[u8]) -> Option<String> {
    let at = line.iter().position(|byte| b"=:".contains(byte))?;
    let key = trimmed(&line[..at]);
    (!key.is_empty() && !b"#;".contains(&key[0]))
        .then(|| String::from_utf8_lossy(key).to_ascii_lowercase())
}

/// Whether a file has a profile, and whether it is ours.
pub fn owner(file: &[u8], name: &str) -> Option<bool> {
    let (headers, lines) = lines_of(file, name);
    let exists = !headers.is_empty() || lines.iter().any(|line| key(line.text).is_some());
    exists.then(|| lines.iter().any(|line| line.text == MARK.as_bytes()))
}

/// The value that a profile of ours has for a key.
pub fn ours<'a>(file: &'a [u8], name: &str, wanted: &str) -> Option<&'a [u8]> {
    owner(file, name).filter(|ours| *ours)?;
    let (_, lines) = lines_of(file, name);
    let line = lines.iter().rev().find(|line| key(line.text).as_deref() == Some(wanted))?;
    let at = line.text.iter().position(|byte| b"=:".contains(byte))?;
    Some(trimmed(&line.text[at + 1..]))
}

/// Gives a profile these values and our comment. What else it has stays, and so does every other
/// byte; a new profile stands at the end.
pub fn put(file: &[u8], name: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
    let newline = match file.iter().position(|byte| *byte == b'\n') {
        Some(at) if at > 0 && file[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    };
    let (headers, lines) = lines_of(file, name);
    let line = |(key, value): &(&str, &str)| format!("{key} = {value}{newline}");
    let is = |at: &Line<'_>, pair: &(&str, &str)| key(at.text).as_deref() == Some(pair.0);
    let missing = pairs.iter().filter(|pair| !lines.iter().any(|at| is(at, pair)));
    let mut new = String::new();
    if !lines.iter().any(|line| line.text == MARK.as_bytes()) {
        new.push_str(&format!("{MARK}{newline}"));
    }
    new.extend(missing.map(line));
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for at in &lines {
        if let Some(pair) = pairs.iter().find(|pair| is(at, pair)) {
            edits.push((at.start, at.end, line(pair)));
        }
    }
    match (headers.first(), name) {
        (Some(header), _) => {
            let ended = file[..header.end].ends_with(b"\n");
            let lead = if ended { "" } else { newline };
            edits.push((header.end, header.end, format!("{lead}{new}")));
        }
        (None, DEFAULT) if lines.iter().any(|line| key(line.text).is_some()) => {
            // Keys before the first header; a byte order mark stays the first of all.
            let start = if file.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            edits.push((start, start, new));
        }
        (None, _) => {
            let blank = match file {
                b"" => "",
                _ if file.ends_with(b"\n") => newline,
                _ => &newline.repeat(2),
            };
            edits.push((file.len(), file.len(), format!("{blank}[{name}]{newline}{new}")));
        }
    }
    edited(file, edits)
}

/// Takes these keys and our comment out of a profile of ours, and the profile where nothing else
/// is left of it.
pub fn remove(file: &[u8], name: &str, keys: &[&str]) -> Vec<u8> {
    if owner(file, name) != Some(true) {
        return file.to_vec();
    }
    let (headers, lines) = lines_of(file, name);
    let goes = |line: &&Line<'_>| {
        line.text == MARK.as_bytes() || key(line.text).is_some_and(|key| keys.contains(&&*key))
    };
    let stays = |line: &&Line<'_>| !goes(line) && !line.text.is_empty();
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    let gone = lines.iter().filter(goes).map(|line| (line.start, line.end, String::new()));
    edits.extend(gone);
    if !lines.iter().any(|line| stays(&line)) {
        for header in &headers {
            // The blank line before it, too.
            let before = &file[..header.start];
            let blank = [&b"\r\n\r\n"[..], b"\n\n"].into_iter().find(|end| before.ends_with(end));
            let start = header.start - blank.map_or(0, |end| end.len() / 2);
            edits.push((start, header.end, String::new()));
        }
    }
    edited(file, edits)
}

fn edited(file: &[u8], mut edits: Vec<(usize, usize, String)>) -> Vec<u8> {
    // What is put in stands before what is replaced at the same place.
    edits.sort_by_key(|(start, end, _)| (*start, *end));
    let (mut new, mut done) = (Vec::with_capacity(file.len() + 256), 0);
    for (start, end, text) in edits {
        new.extend_from_slice(&file[done..start.max(done)]);
        new.extend_from_slice(text.as_bytes());
        done = end.max(done);
    }
    new.extend_from_slice(&file[done..]);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(&str, &str); 2] = [("host", "https://h"), ("token", "t2")];

    fn after_put(file: &str) -> String {
        String::from_utf8(put(file.as_bytes(), "x", &PAIRS)).unwrap()
    }

    #[test]
    fn a_profile_is_put_beside_all_others() {
        let ours = format!("[x]\n{MARK}\nhost = https://h\ntoken = t2\n");
        assert_eq!(after_put(""), ours);
        assert_eq!(after_put("[a]\nk = 1"), format!("[a]\nk = 1\n\n{ours}"));
        assert_eq!(after_put("# c\n[a]\nk: 1\n"), format!("# c\n[a]\nk: 1\n\n{ours}"));
        let windows = "[a]\r\nk = 1\r\n";
        assert_eq!(after_put(windows), format!("{windows}\r\n{}", ours.replace('\n', "\r\n")));
        // Again, with another value: only that line.
        let old =
            format!("[x]\n{MARK}\nhost = https://h\nTOKEN: t1\npg_user = me\n\n[b]\ntoken = b\n");
        assert_eq!(after_put(&old), old.replace("TOKEN: t1", "token = t2"));
        assert_eq!(after_put(&after_put(&old)), after_put(&old));
        assert_eq!(
            after_put("[x]\n[a]\nk=1\n[x]\ntoken=1\ntoken=2\n"),
            format!("[x]\n{MARK}\nhost = https://h\n[a]\nk=1\n[x]\ntoken = t2\ntoken = t2\n")
        );
        assert_eq!(after_put("[x]"), format!("[x]\n{MARK}\nhost = https://h\ntoken = t2\n"));
        // Bytes that are no UTF-8 stay.
        let latin = b"# caf\xe9\n[a]\nk=1\n";
        assert!(put(latin, "x", &PAIRS).starts_with(latin));
    }

    #[test]
    fn the_profile_before_all_headers_is_one_too() {
        let put = |file: &str| String::from_utf8(put(file.as_bytes(), DEFAULT, &PAIRS)).unwrap();
        assert_eq!(
            put("k = 1\n[a]\n"),
            format!("{MARK}\nhost = https://h\ntoken = t2\nk = 1\n[a]\n")
        );
        assert_eq!(
            put("[a]\nk=1\n"),
            format!("[a]\nk=1\n\n[DEFAULT]\n{MARK}\nhost = https://h\ntoken = t2\n")
        );
        assert_eq!(owner(b"# only a word\n[a]\nk=1\n", DEFAULT), None);
        // A comment is no such profile: keys above all headers would be unreadable to Python.
        assert!(put("; c\n\n[a]\nk=1\n").starts_with("; c\n\n[a]\nk=1\n\n[DEFAULT]\n"));
    }

    #[test]
    fn what_was_put_can_be_taken_out_again() {
        let keys = ["host", "token"];
        let without = |file: &str| String::from_utf8(remove(file.as_bytes(), "x", &keys)).unwrap();
        for file in ["", "[a]\nk=1\n", "[a]\r\nk=1\r\n", "# c\n\n[a]\nk=1\n\n"] {
            assert_eq!(without(&after_put(file)), file, "{file:?}");
        }
        let more = after_put("[a]\nk=1\n") + "pg_user = me\n\n[b]\nk=2\n";
        assert_eq!(without(&more), "[a]\nk=1\n\n[x]\npg_user = me\n\n[b]\nk=2\n");
        assert_eq!(without("[x]\ntoken=theirs\n"), "[x]\ntoken=theirs\n", "not ours");
    }

    #[test]
    fn whose_a_profile_is() {
        assert_eq!(owner(b"[a]\nk=1\n", "x"), None);
        assert_eq!(owner(b"[a]\nk=1\n", "a"), Some(false));
        assert_eq!(owner(after_put("").as_bytes(), "x"), Some(true));
        assert_eq!(ours(after_put("").as_bytes(), "x", "token"), Some(&b"t2"[..]));
        assert_eq!(ours(b"[x]\ntoken=theirs\n", "x", "token"), None);
    }

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
        // As in the SDKs: the blanks are part of the name.
        assert_eq!(get(text, " spaced "), pairs(&[("k", "v")]));
        assert_eq!(get(text, "absent"), pairs(&[]));
        assert_eq!(sections(text).unwrap(), ["DEFAULT", "prod.eu", " spaced "]);
    }

    #[test]
    fn reader_and_writer_know_the_same_blanks() {
        // Found by fuzzing: a header behind a vertical tab was one to the reader only.
        let file = b"[kept]\nk = v\n\x0b[a]\nhost = https://a\n";
        let written = put(file, "kept", &[("host", "https://x")]);
        let text = std::str::from_utf8(&written).unwrap();
        assert_eq!(section(text, "a").unwrap(), [("host", "https://a")]);
        assert!(section(text, "kept").unwrap().contains(&("host", "https://x")));
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
