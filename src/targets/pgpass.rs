//! The target `pgpass`: one line of a password file, every other byte of which stays as it is.
//!
//! `host:port:database:user:password`; `\` escapes `:` and itself, `*` alone matches everything, `#`
//! in the first column begins a comment, and libpq uses the first line that matches, however old its
//! password is (<https://www.postgresql.org/docs/current/libpq-pgpass.html>, `passwordFromFile` in
//! libpq's `fe-connect.c`). How a line is printed is the business of `formats.rs`, how a file is
//! replaced that of `platform/target_file.rs`.

use crate::config::table::Id;
use crate::credential::jwt::holds_token;
use crate::error::Result;
use crate::formats::{ANY, PgpassKey};
use crate::platform::target_file::Edit;
use crate::targets::target::{Entry, EntryEditor};

/// The setting that names the password file, and its usual name in the home.
pub const PASSWORD_FILE: (Id, &str) = (
    Id::PgPassFile,
    if cfg!(windows) { "AppData/Roaming/postgresql/pgpass.conf" } else { ".pgpass" },
);

pub static PGPASS: EntryEditor = EntryEditor {
    // Where libpq reads it.
    home: Some(PASSWORD_FILE),
    shared: true,
    check: |_, _| Ok(()),
    put: put_entry,
    read: |entry, file| password(file, &PgpassKey::of(entry.connection).ok()?),
    remove: remove_entry,
};

fn put_entry<'e>(entry: &Entry<'e>, line: &'e str) -> Result<Box<Edit<'e>>> {
    let key = PgpassKey::of(entry.connection)?;
    Ok(Box::new(move |old| {
        Ok(Some(put(old.unwrap_or_default(), &key, line.trim_end_matches('\n'))))
    }))
}

/// An empty file stays: it may be a link's target, or have been there before us.
fn remove_entry<'e>(entry: &Entry<'e>) -> Result<Box<Edit<'e>>> {
    let key = PgpassKey::of(entry.connection)?;
    Ok(Box::new(move |old| {
        Ok(old.map(|file| {
            // A native password is the user's own, even with our key.
            let is_ours = password(file, &key).is_some_and(holds_token);
            if is_ours { remove(file, &key) } else { file.to_vec() }
        }))
    }))
}

/// What a line of the file is to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// It has the same four fields.
    Same,
    /// Its fields differ, but libpq may use it for a connection that the key's line is for.
    Shadows,
    Unrelated,
}

fn relation(key: &PgpassKey<'_>, line: &[u8]) -> Relation {
    if line.starts_with(b"#") {
        return Relation::Unrelated;
    }
    let port = key.port.to_string();
    let Some(host) = field(line, key.host) else { return Relation::Unrelated };
    let Some(port) = field(host.rest, &port) else { return Relation::Unrelated };

    // A key for every database matches a field of any text, which may end at any colon.
    let is_any = key.database == ANY;
    let databases = if is_any {
        all_fields(port.rest)
    } else {
        field(port.rest, key.database).into_iter().collect()
    };

    let mut relation = Relation::Unrelated;
    for database in databases {
        let Some(user) = field(database.rest, key.user) else { continue };
        if host.is_named && port.is_named && user.is_named && database.is_named != is_any {
            return Relation::Same;
        }
        relation = Relation::Shadows;
    }
    relation
}

/// The first field of a line.
struct Field<'l> {
    /// Whether it has the text, rather than `*`.
    is_named: bool,
    /// The line after the field and its colon.
    rest: &'l [u8],
}

/// The first field of a line, if libpq takes it for `text`. A colon ends the field only after all
/// of `text`, so a colon in the text needs no backslash (`pwdfMatchesString`).
fn field<'l>(line: &'l [u8], text: &str) -> Option<Field<'l>> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(Field { is_named: false, rest });
    }

    let mut rest = line;
    for expected in text.as_bytes() {
        let (byte, after) = match rest {
            [b'\\', byte, after @ ..] | [byte, after @ ..] => (byte, after),
            [] => return None,
        };
        if byte != expected {
            return None;
        }
        rest = after;
    }
    let rest = rest.strip_prefix(b":")?;
    Some(Field { is_named: true, rest })
}

/// Every first field that libpq may see in a line, depending on the text that it compares.
fn all_fields(line: &[u8]) -> Vec<Field<'_>> {
    let is_any = line.starts_with(b"*:");
    let colons = line.iter().enumerate().filter(|(_, byte)| **byte == b':');
    colons.map(|(at, _)| Field { is_named: !(is_any && at == 1), rest: &line[at + 1..] }).collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|byte| *byte == b'\n')
}

/// A line's text and its end: `\n`, `\r\n`, or nothing at the end of the file.
fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(text) = line.strip_suffix(b"\n") else { return (line, b"") };
    line.split_at(text.strip_suffix(b"\r").map_or(text.len(), <[u8]>::len))
}

/// The file with our line, as [`PgpassKey::line`] prints it. The line stays where it is, or is put
/// before the first line that libpq would use in its place. Later lines with the same fields are
/// removed.
pub fn put(file: &[u8], key: &PgpassKey<'_>, our_line: &str) -> Vec<u8> {
    let mut new = Vec::with_capacity(file.len() + our_line.len() + 2);
    let mut is_placed = false;
    for line in lines(file) {
        let (text, end) = split_end(line);
        let relation = relation(key, text);
        if relation != Relation::Unrelated && !is_placed {
            new.extend(our_line.as_bytes());
            // A line that is put before the last one needs an end of its own.
            let end = if relation == Relation::Shadows && end.is_empty() { b"\n" } else { end };
            new.extend(end);
            is_placed = true;
        }
        if relation != Relation::Same {
            new.extend(line);
        }
    }

    if !is_placed {
        let has_crlf = lines(file).next().is_some_and(|line| line.ends_with(b"\r\n"));
        let end: &[u8] = if has_crlf { b"\r\n" } else { b"\n" };
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.extend(end);
        }
        new.extend(our_line.as_bytes());
        new.extend(end);
    }
    new
}

/// The file without the lines that have the key's fields.
pub fn remove(file: &[u8], key: &PgpassKey<'_>) -> Vec<u8> {
    let is_kept = |line: &&[u8]| relation(key, split_end(line).0) != Relation::Same;
    lines(file).filter(is_kept).flatten().copied().collect()
}

/// The password of the first line with the key's fields: what follows its last colon, since tokens
/// have none.
pub fn password<'f>(file: &'f [u8], key: &PgpassKey<'_>) -> Option<&'f [u8]> {
    let mut texts = lines(file).map(|line| split_end(line).0);
    let line = texts.find(|line| relation(key, line) == Relation::Same)?;
    line.rsplit(|byte| *byte == b':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PgpassKey<'static> = PgpassKey { host: "h", port: 5432, database: "d", user: "u" };
    const ANY_DATABASE: PgpassKey<'static> = PgpassKey { database: ANY, ..KEY };

    #[track_caller]
    fn becomes(key: &PgpassKey<'_>, before: &[u8], after: &[u8]) {
        let our_line = key.line("T");
        let file = put(before, key, &our_line);
        assert_eq!(file.escape_ascii().to_string(), after.escape_ascii().to_string());
        assert_eq!(put(&file, key, &our_line), file, "a second call changes nothing");
        assert_eq!(password(&file, key), Some(&b"T"[..]));
        assert_eq!(password(&remove(&file, key), key), None);
    }

    #[test]
    fn our_line_is_updated_in_place_and_every_other_byte_is_kept() {
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
    fn our_line_is_put_before_a_line_that_would_shadow_it() {
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
    fn libpq_accepts_a_colon_in_a_field_without_a_backslash() {
        let key = PgpassKey { host: "::1", user: "a:b", ..KEY };
        becomes(&key, b"::1:5432:d:a:b:O\n", b"\\:\\:1:5432:d:a\\:b:T\n");
        becomes(&key, b"::1:*:d:a:b:O\n", b"\\:\\:1:5432:d:a\\:b:T\n::1:*:d:a:b:O\n");
        becomes(&key, b"::1:5432:d:a:O\n", b"::1:5432:d:a:O\n\\:\\:1:5432:d:a\\:b:T\n");
        becomes(&ANY_DATABASE, b"h:5432:x:y:u:O\n", b"h:5432:*:u:T\nh:5432:x:y:u:O\n");
    }

    #[test]
    fn a_carriage_return_alone_does_not_end_a_line() {
        becomes(&KEY, b"b:1:d:b:pw\n*:*:*:*:x\r", b"b:1:d:b:pw\nh:5432:d:u:T\n*:*:*:*:x\r");
        becomes(&KEY, b"b:1:d:b:pw\r", b"b:1:d:b:pw\r\nh:5432:d:u:T\n");
    }

    #[test]
    fn one_line_can_serve_every_database() {
        becomes(&ANY_DATABASE, b"h:5432:d:u:O\n", b"h:5432:*:u:T\nh:5432:d:u:O\n");
        becomes(&ANY_DATABASE, b"h:5432:*:u:O\nh:5432:d:u:O\n", b"h:5432:*:u:T\nh:5432:d:u:O\n");
        becomes(&KEY, b"h:5432:*:u:O\n", b"h:5432:d:u:T\nh:5432:*:u:O\n");
    }

    #[test]
    fn fields_are_compared_unescaped() {
        let odd = PgpassKey { host: "::1", port: 1, database: "a\\b", user: "*" };
        assert_eq!(odd.line("T"), "\\:\\:1:1:a\\\\b:\\*:T");
        becomes(&odd, b"\\:\\:1:1:\\a\\\\b:\\*:O\n", b"\\:\\:1:1:a\\\\b:\\*:T\n");
        becomes(&odd, b"\\:\\:1:1:a\\\\b:*:O\n", b"\\:\\:1:1:a\\\\b:\\*:T\n\\:\\:1:1:a\\\\b:*:O\n");
        // A `*` within a field is a literal one.
        becomes(&KEY, b"h*:5432:d:u:p\n", b"h*:5432:d:u:p\nh:5432:d:u:T\n");
        becomes(&KEY, b"h:5432:d:u\\", b"h:5432:d:u\\\nh:5432:d:u:T\n");
    }
}
