//! The lines of a password file, byte for byte.
//!
//! `host:port:database:user:password`; `\` escapes `:` and itself, `*` alone stands for anything,
//! `#` in the first column begins a comment, and the first line that matches counts, however stale
//! it is (<https://www.postgresql.org/docs/current/libpq-pgpass.html>, `passwordFromFile` in
//! libpq). Every line that is not ours is kept as it is, whatever bytes it has. Where the file is,
//! and how it is replaced, is `place.rs`'s business.

use crate::formats::{ANY, PgpassKey};

/// How a line of a file stands to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// It has the same four fields.
    Same,
    /// Other fields, but libpq may take it where the key's line is meant.
    Shadows,
    /// They never meet.
    Apart,
}

impl PgpassKey<'_> {
    fn stands(&self, line: &[u8]) -> Stands {
        if line.starts_with(b"#") {
            return Stands::Apart;
        }
        let port = self.port.to_string();
        let Some(host) = field(line, self.host) else { return Stands::Apart };
        let Some(port) = field(host.rest, &port) else { return Stands::Apart };
        let every = self.database == ANY;
        let mut best = Stands::Apart;
        // What matches a database that nobody has named yet may end at any colon.
        let databases = if every {
            fields(port.rest)
        } else {
            field(port.rest, self.database).into_iter().collect()
        };
        for database in databases {
            let Some(user) = field(database.rest, self.user) else { continue };
            let same = host.named && port.named && user.named && database.named != every;
            if same {
                return Stands::Same;
            }
            best = Stands::Shadows;
        }
        best
    }
}

/// A field that a line begins with.
struct Field<'l> {
    /// It says what was looked for, rather than `*`.
    named: bool,
    /// What follows it.
    rest: &'l [u8],
}

/// The field that `line` begins with, if libpq takes it where it looks for `text`. A colon ends it
/// only when all of `text` has been seen, so one within needs no backslash (`pwdfMatchesString`).
fn field<'l>(line: &'l [u8], text: &str) -> Option<Field<'l>> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(Field { named: false, rest });
    }
    let mut rest = line;
    for wanted in text.as_bytes() {
        let (byte, after) = match rest {
            [b'\\', byte, after @ ..] | [byte, after @ ..] => (byte, after),
            [] => return None,
        };
        if byte != wanted {
            return None;
        }
        rest = after;
    }
    let rest = rest.strip_prefix(b":")?;
    Some(Field { named: true, rest })
}

/// The fields that `line` may begin with, whatever is looked for.
fn fields(line: &[u8]) -> Vec<Field<'_>> {
    let any = line.starts_with(b"*:");
    let colons = line.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let ends = colons.map(|(at, _)| Field { named: !(any && at == 1), rest: &line[at + 1..] });
    ends.collect()
}

/// A line and what ends it: `\n`, `\r\n`, or nothing at the end of the file.
fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(words) = line.strip_suffix(b"\n") else { return (line, b"") };
    line.split_at(words.strip_suffix(b"\r").map_or(words.len(), <[u8]>::len))
}

/// The file with our line, as [`PgpassKey::line`] has it, brought up to date. It stays where it is unless
/// a line before it would be taken in its place; then it stands before that one. Later lines with
/// our fields go.
pub fn put(file: &[u8], key: &PgpassKey<'_>, ours: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(file.len() + ours.len() + 2);
    let mut placed = false;
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let (words, end) = split_end(line);
        let stands = key.stands(words);
        if stands != Stands::Apart && !placed {
            text.extend(ours.as_bytes());
            // A line of its own ends as its successor does.
            let end = if stands == Stands::Shadows && end.is_empty() { b"\n" } else { end };
            text.extend(end);
            placed = true;
        }
        if stands != Stands::Same {
            text.extend(line);
        }
    }
    if !placed {
        let mut lines = file.split_inclusive(|byte| *byte == b'\n');
        let crlf = lines.next().is_some_and(|line| line.ends_with(b"\r\n"));
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.extend(end);
        }
        text.extend(ours.as_bytes());
        text.extend(end);
    }
    text
}

/// The file without our lines.
pub fn remove(file: &[u8], key: &PgpassKey<'_>) -> Vec<u8> {
    let lines = file.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| key.stands(split_end(line).0) != Stands::Same).flatten().copied().collect()
}

/// What follows the last colon of the first line with our fields: tokens have none.
pub fn password<'f>(file: &'f [u8], key: &PgpassKey<'_>) -> Option<&'f [u8]> {
    let mut lines = file.split_inclusive(|byte| *byte == b'\n').map(|line| split_end(line).0);
    let line = lines.find(|line| key.stands(line) == Stands::Same)?;
    line.rsplit(|byte| *byte == b':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PgpassKey<'static> = PgpassKey { host: "h", port: 5432, database: "d", user: "u" };
    const EVERY: PgpassKey<'static> = PgpassKey { database: ANY, ..KEY };

    #[track_caller]
    fn becomes(key: &PgpassKey<'_>, before: &[u8], after: &[u8]) {
        let ours = key.line("T");
        let text = put(before, key, &ours);
        assert_eq!(text.escape_ascii().to_string(), after.escape_ascii().to_string());
        assert_eq!(put(&text, key, &ours), text, "a second time changes nothing");
        assert_eq!(password(&text, key), Some(&b"T"[..]));
        let without = remove(&text, key);
        assert_eq!(password(&without, key), None);
    }

    #[test]
    fn our_line_is_updated_in_place_and_every_other_byte_kept() {
        becomes(&KEY, b"", b"h:5432:d:u:T\n");
        becomes(
            &KEY,
            b"# c\n\nx:1:y:z:p\nh:5432:d:u:OLD\nlast:1:b:bob:hunter2",
            b"# c\n\nx:1:y:z:p\nh:5432:d:u:T\nlast:1:b:bob:hunter2",
        );
        becomes(&KEY, b"a:1:b:c:\xff\xfe\r\nh:5432:d:u:O", b"a:1:b:c:\xff\xfe\r\nh:5432:d:u:T");
        becomes(&KEY, b"h:5432:d:u:O\r\nx\r\n", b"h:5432:d:u:T\r\nx\r\n");
        becomes(&KEY, b"h:5432:d:alice:p\n", b"h:5432:d:alice:p\nh:5432:d:u:T\n");
        becomes(&KEY, b"x:1:b:bob:hunter2", b"x:1:b:bob:hunter2\nh:5432:d:u:T\n");
        becomes(&KEY, b"x:1:b:bob:p\r\ny", b"x:1:b:bob:p\r\ny\r\nh:5432:d:u:T\r\n");
        becomes(
            &KEY,
            b"#h:5432:d:u:no\nh:5432:d:u\n",
            b"#h:5432:d:u:no\nh:5432:d:u\nh:5432:d:u:T\n",
        );
    }

    #[test]
    fn our_line_stands_before_what_would_shadow_it() {
        becomes(&KEY, b"x:1:y:z:p\n*:*:*:*:pw\n", b"x:1:y:z:p\nh:5432:d:u:T\n*:*:*:*:pw\n");
        becomes(&KEY, b"*:*:*:*:pw", b"h:5432:d:u:T\n*:*:*:*:pw");
        becomes(
            &KEY,
            b"h:5432:*:u:OLD\r\nx\nh:5432:d:u:O\nh:5432:d:u:P",
            b"h:5432:d:u:T\r\nh:5432:*:u:OLD\r\nx\n",
        );
        becomes(&KEY, b"h:5432:d:u:O\n*:*:*:*:p\nh:5432:d:u:Q\n", b"h:5432:d:u:T\n*:*:*:*:p\n");
        becomes(&KEY, b"h:*:d:other:p\n", b"h:*:d:other:p\nh:5432:d:u:T\n");
    }

    #[test]
    fn a_colon_within_a_field_needs_no_backslash_for_libpq() {
        let key = PgpassKey { host: "::1", user: "a:b", ..KEY };
        becomes(&key, b"::1:5432:d:a:b:O\n", b"\\:\\:1:5432:d:a\\:b:T\n");
        becomes(&key, b"::1:*:d:a:b:O\n", b"\\:\\:1:5432:d:a\\:b:T\n::1:*:d:a:b:O\n");
        becomes(&key, b"::1:5432:d:a:O\n", b"::1:5432:d:a:O\n\\:\\:1:5432:d:a\\:b:T\n");
        becomes(&EVERY, b"h:5432:x:y:u:O\n", b"h:5432:*:u:T\nh:5432:x:y:u:O\n");
    }

    #[test]
    fn a_carriage_return_alone_ends_no_line() {
        becomes(&KEY, b"b:1:d:b:pw\n*:*:*:*:x\r", b"b:1:d:b:pw\nh:5432:d:u:T\n*:*:*:*:x\r");
        becomes(&KEY, b"b:1:d:b:pw\r", b"b:1:d:b:pw\r\nh:5432:d:u:T\n");
    }

    #[test]
    fn one_line_may_serve_every_database() {
        becomes(&EVERY, b"h:5432:d:u:O\n", b"h:5432:*:u:T\nh:5432:d:u:O\n");
        becomes(&EVERY, b"h:5432:*:u:O\nh:5432:d:u:O\n", b"h:5432:*:u:T\nh:5432:d:u:O\n");
        becomes(&KEY, b"h:5432:*:u:O\n", b"h:5432:d:u:T\nh:5432:*:u:O\n");
    }

    #[test]
    fn fields_are_compared_unescaped() {
        let odd = PgpassKey { host: "::1", port: 1, database: "a\\b", user: "*" };
        assert_eq!(odd.line("T"), "\\:\\:1:1:a\\\\b:\\*:T");
        becomes(&odd, b"\\:\\:1:1:\\a\\\\b:\\*:O\n", b"\\:\\:1:1:a\\\\b:\\*:T\n");
        becomes(&odd, b"\\:\\:1:1:a\\\\b:*:O\n", b"\\:\\:1:1:a\\\\b:\\*:T\n\\:\\:1:1:a\\\\b:*:O\n");
        // A `*` that is part of a text stands for itself alone.
        becomes(&KEY, b"h*:5432:d:u:p\n", b"h*:5432:d:u:p\nh:5432:d:u:T\n");
        becomes(&KEY, b"h:5432:d:u\\", b"h:5432:d:u\\\nh:5432:d:u:T\n");
    }
}
