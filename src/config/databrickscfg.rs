//! The notation of `.databrickscfg`: read it, and keep our own profile in it.
//!
//! It is read as the Databricks SDK for Go reads it (go-ini): sections in brackets, `key = value` or
//! `key: value`, keys before the first section belong to `DEFAULT`, a `#` after a blank begins a
//! comment (a `;` too, if there is no such `#`), one pair of surrounding quotes is dropped. A key or
//! section may come again, and the later value counts. Continued lines, go-ini's multi-line quotes and
//! keys in quotes are refused, because the SDKs do not agree on what they mean and Databricks writes
//! none. Unknown keys are ignored. `tests/it/ini.rs` compares with go-ini.
//!
//! A profile that this program writes ([`put`], [`remove`]) is marked by a comment; all other bytes
//! of the file stay as they are. Which profile is read is `profile.rs`'s business, when one is
//! written that of `targets/table.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// The largest configuration file that is read; fifty profiles have about 10 KB.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The keys and values of one profile, in the order of the file.
pub type Section<'a> = Vec<(&'a str, &'a str)>;

/// The section of the keys before any header, as in go-ini.
pub const DEFAULT: &str = "DEFAULT";

/// The section for settings of the Databricks CLI itself; it is not a profile.
pub const RESERVED: &str = "__settings__";

/// The comment that marks our profile. Files hold it, so it cannot change.
const MARK: &str = "# kept by lakebase-token, which updates host, token and auth_type";

/// Windows editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The names of all sections that hold at least one key, in order.
pub fn sections(text: &str) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    let mut known = BTreeSet::new();
    for_each_pair(text, |name, _, _| {
        if known.insert(name) {
            names.push(name);
        }
    })?;
    Ok(names)
}

/// The pairs of one section; none if it is missing.
pub fn section<'a>(text: &'a str, wanted: &str) -> Result<Section<'a>> {
    let mut pairs = Section::new();
    let mut positions = BTreeMap::new();
    for_each_pair(text, |name, key, value| {
        if name == wanted {
            let position = *positions.entry(key).or_insert(pairs.len());
            match pairs.get_mut(position) {
                Some(pair) => pair.1 = value,
                None => pairs.push((key, value)),
            }
        }
    })?;
    Ok(pairs)
}

/// Calls `each` with section, key and value.
fn for_each_pair<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str, &'a str)) -> Result<()> {
    let mut name = DEFAULT;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let malformed = |why: &str| Err(Error::usage(format!("line {}: {why}", number + 1)));
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }

        if let Some(rest) = line.strip_prefix('[') {
            let Some(end) = rest.rfind(']') else { return malformed("unclosed section") };
            name = &rest[..end];
            if name.is_empty() {
                return malformed("empty section name");
            }
            continue;
        }

        let Some(at) = line.find(['=', ':']) else {
            return malformed("neither a [section] nor a `key = value`");
        };
        let key = line[..at].trim();
        if key.is_empty() {
            return malformed("no key before the `=`");
        }
        if key.starts_with(['"', '`']) {
            return malformed("a key in quotes is not supported");
        }
        if key == "-" {
            return malformed("a value without a name is not supported");
        }
        let text = line[at + 1..].trim();
        if text.ends_with('\\') || text.starts_with('`') || text.starts_with("\"\"\"") {
            return malformed("values over several lines are not supported");
        }
        let value = value(text);
        each(name, key, value);
    }
    Ok(())
}

/// A value without its comment and its surrounding quotes.
fn value(text: &str) -> &str {
    let comment = text.find(" #").or_else(|| text.find(" ;"));
    let text = text[..comment.unwrap_or(text.len())].trim();

    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner;
        }
    }
    text
}

/// A line without its end, and its range in the file.
struct Line<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl Line<'_> {
    /// The key in lower case, as Python's reader has it.
    fn key(&self) -> Option<String> {
        let at = self.separator()?;
        let key = trim(&self.text[..at]);
        if key.is_empty() || b"#;".contains(&key[0]) {
            return None;
        }
        Some(String::from_utf8_lossy(key).to_ascii_lowercase())
    }

    fn has_key(&self, wanted: &str) -> bool {
        self.key().as_deref() == Some(wanted)
    }

    fn separator(&self) -> Option<usize> {
        self.text.iter().position(|byte| b"=:".contains(byte))
    }

    fn is_mark(&self) -> bool {
        self.text == MARK.as_bytes()
    }
}

/// The lines of one profile, which may be in several parts of the file.
struct ProfileLines<'a> {
    headers: Vec<Line<'a>>,
    body: Vec<Line<'a>>,
}

impl<'a> ProfileLines<'a> {
    fn of(file: &'a [u8], name: &str) -> ProfileLines<'a> {
        let mut headers = Vec::new();
        let mut body = Vec::new();
        let mut start = 0;
        let mut is_inside = name == DEFAULT;
        for text in file.split_inclusive(|byte| *byte == b'\n') {
            let end = start + text.len();
            let text = if start == 0 { without_byte_order_mark(text) } else { text };
            let line = Line { text: trim(text), start, end };
            start = end;

            if let Some(rest) = line.text.strip_prefix(b"[") {
                let close = rest.iter().rposition(|byte| *byte == b']').unwrap_or(0);
                is_inside = &rest[..close] == name.as_bytes();
                if is_inside {
                    headers.push(line);
                }
            } else if is_inside {
                body.push(line);
            }
        }
        ProfileLines { headers, body }
    }

    fn exists(&self) -> bool {
        !self.headers.is_empty() || self.has_keys()
    }

    fn has_keys(&self) -> bool {
        self.body.iter().any(|line| line.key().is_some())
    }

    fn is_marked(&self) -> bool {
        self.body.iter().any(Line::is_mark)
    }

    fn is_ours(&self) -> bool {
        self.exists() && self.is_marked()
    }
}

fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Trims the same white space as the reader.
fn trim(bytes: &[u8]) -> &[u8] {
    std::str::from_utf8(bytes).map_or(bytes.trim_ascii(), |text| text.trim().as_bytes())
}

/// Whether the file has this profile, and whether it is ours.
pub fn is_our_profile(file: &[u8], name: &str) -> Option<bool> {
    let lines = ProfileLines::of(file, name);
    lines.exists().then(|| lines.is_marked())
}

/// The value of a key in our profile.
pub fn value_in_our_profile<'a>(file: &'a [u8], name: &str, wanted: &str) -> Option<&'a [u8]> {
    let lines = ProfileLines::of(file, name);
    if !lines.is_ours() {
        return None;
    }
    let line = lines.body.iter().rev().find(|line| line.has_key(wanted))?;
    Some(trim(&line.text[line.separator()? + 1..]))
}

/// Text that replaces a range of the file.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

impl Edit {
    fn insert(at: usize, text: String) -> Edit {
        Edit { start: at, end: at, text }
    }

    fn delete(start: usize, end: usize) -> Edit {
        Edit { start, end, text: String::new() }
    }
}

/// Gives a profile these values and our mark. Its other keys stay, and so does every other byte of
/// the file; a new profile is appended.
pub fn put(file: &[u8], name: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
    let newline = newline_of(file);
    let lines = ProfileLines::of(file, name);
    let written = |(key, value): &(&str, &str)| format!("{key} = {value}{newline}");

    let mut edits = Vec::new();
    for line in &lines.body {
        if let Some(pair) = pairs.iter().find(|(key, _)| line.has_key(key)) {
            edits.push(Edit { start: line.start, end: line.end, text: written(pair) });
        }
    }

    let mark = if lines.is_marked() { String::new() } else { format!("{MARK}{newline}") };
    let is_missing = |(key, _): &&(&str, &str)| !lines.body.iter().any(|line| line.has_key(key));
    let missing: String = pairs.iter().filter(is_missing).map(written).collect();
    edits.push(insertion(file, name, &lines, mark + &missing));
    apply(file, edits)
}

fn newline_of(file: &[u8]) -> &'static str {
    match file.iter().position(|byte| *byte == b'\n') {
        Some(at) if at > 0 && file[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    }
}

/// Where the new lines of a profile go: after its first header, or at the end with a new one.
fn insertion(file: &[u8], name: &str, lines: &ProfileLines<'_>, new: String) -> Edit {
    let newline = newline_of(file);
    if let Some(header) = lines.headers.first() {
        let is_ended = file[..header.end].ends_with(b"\n");
        let lead = if is_ended { "" } else { newline };
        return Edit::insert(header.end, format!("{lead}{new}"));
    }
    if name == DEFAULT && lines.has_keys() {
        // The keys before the first header. A byte order mark must stay at the beginning.
        let start = file.len() - without_byte_order_mark(file).len();
        return Edit::insert(start, new);
    }

    let blank = match file {
        b"" => "",
        _ if file.ends_with(b"\n") => newline,
        _ => &newline.repeat(2),
    };
    Edit::insert(file.len(), format!("{blank}[{name}]{newline}{new}"))
}

/// Removes these keys and our mark from our profile, and the whole profile if nothing else is left
/// of it.
pub fn remove(file: &[u8], name: &str, keys: &[&str]) -> Vec<u8> {
    let lines = ProfileLines::of(file, name);
    if !lines.is_ours() {
        return file.to_vec();
    }

    let is_ours = |line: &&Line<'_>| line.is_mark() || keys.iter().any(|key| line.has_key(key));
    let ours = lines.body.iter().filter(is_ours);
    let mut edits: Vec<Edit> = ours.map(|line| Edit::delete(line.start, line.end)).collect();

    let is_rest = |line: &Line<'_>| !is_ours(&line) && !line.text.is_empty();
    if !lines.body.iter().any(is_rest) {
        for header in &lines.headers {
            // With the blank line before it.
            let before = &file[..header.start];
            let blank = [&b"\r\n\r\n"[..], b"\n\n"].into_iter().find(|end| before.ends_with(end));
            let start = header.start - blank.map_or(0, |end| end.len() / 2);
            edits.push(Edit::delete(start, header.end));
        }
    }
    apply(file, edits)
}

fn apply(file: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    // An insertion goes before a replacement at the same position.
    edits.sort_by_key(|edit| (edit.start, edit.end));

    let mut new = Vec::with_capacity(file.len() + 256);
    let mut done = 0;
    for edit in edits {
        new.extend_from_slice(&file[done..edit.start.max(done)]);
        new.extend_from_slice(edit.text.as_bytes());
        done = edit.end.max(done);
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
    fn a_new_profile_leaves_all_others_alone() {
        let ours = format!("[x]\n{MARK}\nhost = https://h\ntoken = t2\n");
        assert_eq!(after_put(""), ours);
        assert_eq!(after_put("[a]\nk = 1"), format!("[a]\nk = 1\n\n{ours}"));
        assert_eq!(after_put("\n[a]\nk = 1\n"), format!("\n[a]\nk = 1\n\n{ours}"));
        assert_eq!(after_put("# c\n[a]\nk: 1\n"), format!("# c\n[a]\nk: 1\n\n{ours}"));
        let windows = "[a]\r\nk = 1\r\n";
        assert_eq!(after_put(windows), format!("{windows}\r\n{}", ours.replace('\n', "\r\n")));
        // With another value, only that line changes.
        let old =
            format!("[x]\n{MARK}\nhost = https://h\nTOKEN: t1\npg_user = me\n\n[b]\ntoken = b\n");
        assert_eq!(after_put(&old), old.replace("TOKEN: t1", "token = t2"));
        assert_eq!(after_put(&after_put(&old)), after_put(&old));
        assert_eq!(
            after_put("[x]\n[a]\nk=1\n[x]\ntoken=1\ntoken=2\n"),
            format!("[x]\n{MARK}\nhost = https://h\n[a]\nk=1\n[x]\ntoken = t2\ntoken = t2\n")
        );
        assert_eq!(after_put("[x]"), format!("[x]\n{MARK}\nhost = https://h\ntoken = t2\n"));
        let with_mark = after_put("\u{feff}[x]\ntoken = t1\n");
        assert_eq!(with_mark, format!("\u{feff}[x]\n{MARK}\nhost = https://h\ntoken = t2\n"));
        // Bytes that are not UTF-8 stay.
        let latin = b"# caf\xe9\n[a]\nk=1\n";
        assert!(put(latin, "x", &PAIRS).starts_with(latin));
    }

    #[test]
    fn keys_before_all_headers_are_the_default_profile() {
        let put = |file: &str| String::from_utf8(put(file.as_bytes(), DEFAULT, &PAIRS)).unwrap();
        assert_eq!(
            put("k = 1\n[a]\n"),
            format!("{MARK}\nhost = https://h\ntoken = t2\nk = 1\n[a]\n")
        );
        assert_eq!(
            put("[a]\nk=1\n"),
            format!("[a]\nk=1\n\n[DEFAULT]\n{MARK}\nhost = https://h\ntoken = t2\n")
        );
        assert_eq!(is_our_profile(b"# a comment\n[a]\nk=1\n", DEFAULT), None);
        // Comments are not a profile: Python cannot read keys before all headers.
        assert!(put("; c\n\n[a]\nk=1\n").starts_with("; c\n\n[a]\nk=1\n\n[DEFAULT]\n"));
    }

    #[test]
    fn a_profile_exists_by_a_header_or_by_keys_before_all_headers() {
        for (file, name, expected) in [
            ("k = 1\n[a]\n", DEFAULT, Some(false)),
            ("k = 1\n[a]\n", "b", None),
            ("k = 1\n[a]\n", "a", Some(false)),
            ("[DEFAULT]\n", DEFAULT, Some(false)),
            ("# k = 1\n; k = 1\n= 1\n[a]\n", DEFAULT, None),
        ] {
            assert_eq!(is_our_profile(file.as_bytes(), name), expected, "{file:?} {name}");
        }
        let before = "token = theirs\n[a]\nk = 1\n";
        assert_eq!(after_put(before), format!("{before}\n{}", after_put("")));
    }

    #[test]
    fn remove_reverts_put() {
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
    fn is_our_profile_tells_our_profile_from_others() {
        assert_eq!(is_our_profile(b"[a]\nk=1\n", "x"), None);
        assert_eq!(is_our_profile(b"[a]\nk=1\n", "a"), Some(false));
        assert_eq!(is_our_profile(after_put("").as_bytes(), "x"), Some(true));
        assert_eq!(value_in_our_profile(after_put("").as_bytes(), "x", "token"), Some(&b"t2"[..]));
        assert_eq!(value_in_our_profile(b"[x]\ntoken=theirs\n", "x", "token"), None);
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
        // As in the SDKs, the blanks are part of the name.
        assert_eq!(get(text, " spaced "), pairs(&[("k", "v")]));
        assert_eq!(get(text, "absent"), pairs(&[]));
        assert_eq!(sections(text).unwrap(), ["DEFAULT", "prod.eu", " spaced "]);
    }

    #[test]
    fn reader_and_writer_trim_the_same_white_space() {
        // Found by fuzzing: only the reader saw a header behind a vertical tab.
        let file = b"[kept]\nk = v\n\x0b[a]\nhost = https://a\n";
        let written = put(file, "kept", &[("host", "https://x")]);
        let text = std::str::from_utf8(&written).unwrap();
        assert_eq!(section(text, "a").unwrap(), [("host", "https://a")]);
        assert!(section(text, "kept").unwrap().contains(&("host", "https://x")));
    }

    #[test]
    fn an_error_names_the_malformed_line() {
        for (text, line) in
            [("[a\n", 1), ("\nnonsense\n", 2), ("= 1\n", 1), ("a = b\\\n", 1), ("[]\n", 1)]
        {
            let error = section(text, "a").unwrap_err();
            assert!(error.message.starts_with(&format!("line {line}: ")), "{error:?}");
        }
    }
}
