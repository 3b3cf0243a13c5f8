//! The target `file` in the format `pgbouncer`: one line of PgBouncer's `auth_file`, which may have
//! lines of other users. These stay as they are.
//!
//! A line is `"user" "password"`, with quotes doubled; `;` begins a comment
//! (<https://www.pgbouncer.org/config.html>, "Authentication file format"). How a line is printed is
//! the business of `formats.rs`.

use crate::credential::jwt::holds_token;
use crate::error::{Error, Result};
use crate::formats::auth_file_user;
use crate::platform::target_file::Edit;
use crate::targets::target::{Entry, EntryEditor, Target};

pub static AUTH_FILE: EntryEditor =
    EntryEditor { home: None, shared: true, check, put: put_entry, read, remove: remove_entry };

/// The path may be a mistake: PgBouncer stops at a line that is none of its own.
fn check(target: &Target, file: &[u8]) -> Result<()> {
    if target.force || is_auth_file(file) {
        return Ok(());
    }
    let path = target.shown_path();
    Err(Error::usage(format!("{path} is not an auth_file of PgBouncer"))
        .because("each of its lines must begin with a quote, or with ; for a comment")
        .hint("name a file of PgBouncer's, or --force"))
}

fn is_auth_file(file: &[u8]) -> bool {
    let is_line = |line: &[u8]| matches!(line.trim_ascii().first(), None | Some(b'"' | b';'));
    lines(file).all(is_line)
}

/// Whether this is an auth_file with a line that lakebase-token did not write.
pub fn has_other_lines(file: &[u8]) -> bool {
    is_auth_file(file)
        && lines(file).any(|line| line.trim_ascii_start().starts_with(b"\"") && !holds_token(line))
}

fn put_entry<'e>(entry: &Entry<'e>, line: &'e str) -> Result<Box<Edit<'e>>> {
    let target = entry.target;
    let user = auth_file_user(entry.connection)?;
    Ok(Box::new(move |old| {
        let old = old.unwrap_or_default();
        check(target, old)?;
        let old = if is_auth_file(old) { old } else { &[] };
        Ok(Some(put(old, &user, line.as_bytes())))
    }))
}

/// The file with our line in the place of the first one of this user, or at its end.
fn put(file: &[u8], user: &str, our_line: &[u8]) -> Vec<u8> {
    let mut new = Vec::with_capacity(file.len() + our_line.len() + 1);
    let mut is_placed = false;
    for line in lines(file) {
        if !is_of(line, user) {
            new.extend(line);
        } else if !is_placed {
            new.extend(our_line);
            is_placed = true;
        }
    }
    if !is_placed {
        if !new.is_empty() && !new.ends_with(b"\n") {
            new.push(b'\n');
        }
        new.extend(our_line);
    }
    new
}

fn read<'e>(entry: &Entry<'_>, file: &'e [u8]) -> Option<&'e [u8]> {
    let user = auth_file_user(entry.connection).ok()?;
    lines(file).find(|line| is_of(line, &user))
}

fn remove_entry<'e>(entry: &Entry<'e>) -> Result<Box<Edit<'e>>> {
    let user = auth_file_user(entry.connection)?;
    Ok(Box::new(move |old| {
        let Some(file) = old else { return Ok(None) };
        // A native password is the user's own, even of our role.
        let is_ours = |line: &[u8]| is_of(line, &user) && holds_token(line);
        let kept: Vec<u8> = lines(file).filter(|line| !is_ours(line)).flatten().copied().collect();
        Ok((!kept.is_empty() || file.is_empty()).then_some(kept))
    }))
}

/// Whether a line is of this user, who is quoted as in the file.
fn is_of(line: &[u8], user: &str) -> bool {
    let rest = line.trim_ascii_start().strip_prefix(user.as_bytes());
    rest.and_then(|rest| rest.first()).is_some_and(u8::is_ascii_whitespace)
}

/// The lines of a file, each with its end.
fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::credential::connection::{Connection, Tls};
    use crate::platform::context::Context;
    use crate::targets::table::named;

    const OURS: &[u8] = b"\"me\" \"new\"\n";

    #[test]
    fn our_line_takes_the_place_of_the_old_one_and_others_stay() {
        for (before, after) in [
            ("", "\"me\" \"new\"\n"),
            ("\"me\" \"old\"\n", "\"me\" \"new\"\n"),
            ("\"local\" \"p\"", "\"local\" \"p\"\n\"me\" \"new\"\n"),
            (
                "; mine\n\"me\" \"old\"\n\n\"local\" \"p\"\n",
                "; mine\n\"me\" \"new\"\n\n\"local\" \"p\"\n",
            ),
            ("\"me\" \"a\"\n\"x\" \"b\"\n\"me\"\t\"c\"\n", "\"me\" \"new\"\n\"x\" \"b\"\n"),
            (
                "\"me\"\"\" \"a\"\n\"mee\" \"b\"\n",
                "\"me\"\"\" \"a\"\n\"mee\" \"b\"\n\"me\" \"new\"\n",
            ),
        ] {
            let new = put(before.as_bytes(), "\"me\"", OURS);
            assert_eq!(String::from_utf8(new).unwrap(), after, "{before}");
        }
    }

    #[test]
    fn our_line_is_found_and_no_other_one() {
        let words = ["file", "users.txt"].map(std::ffi::OsStr::new);
        let (settings, context) = (Settings::default(), Context::of_process());
        let target = named(&words, &settings, &context).unwrap();
        let connection = Connection {
            user: Some("me".to_owned()),
            host: None,
            port: 5432,
            database: None,
            tls: Tls::encrypted(),
        };
        let entry = Entry { target: &target, connection: &connection, workspace: "" };
        let file = b"\"mee\" \"a\"\n\"me\" \"b\"\n\"x\" \"c\"\n";
        assert_eq!(read(&entry, file), Some(&b"\"me\" \"b\"\n"[..]));
        assert_eq!(read(&entry, b"\"mee\" \"a\"\n"), None);
    }

    #[test]
    fn only_lines_of_pgbouncer_make_an_auth_file() {
        for (file, expected) in [
            ("", true),
            ("\n; c\n \"a\" \"b\"\n", true),
            ("export A=b\n", false),
            ("\"a\" \"b\"\n{}\n", false),
        ] {
            assert_eq!(is_auth_file(file.as_bytes()), expected, "{file}");
        }
        assert!(has_other_lines(b"\"a\" \"b\"\n") && !has_other_lines(b"; c\n"));
    }
}
