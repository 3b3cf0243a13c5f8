//! `.pgpass`: after our line is put in, libpq uses our password; every other line stays as it was,
//! and stays when our line is removed.

#![no_main]

use lakebase_token::formats::PgpassKey;
use lakebase_token::targets::pgpass::{put, remove};
use libfuzzer_sys::fuzz_target;

const KEYS: [PgpassKey<'static>; 4] = [
    PgpassKey { host: "h", port: 5432, database: "d", user: "u" },
    PgpassKey { host: "::1", port: 1, database: "a\\b", user: "*" },
    PgpassKey { host: "h.example", port: 5432, database: "a:b", user: "ada@example.com" },
    PgpassKey { host: "h", port: 5432, database: "d", user: "é" },
];

/// `pwdfMatchesString` of libpq (`fe-connect.c`): what follows a matching field.
fn field<'l>(line: &'l [u8], text: &str) -> Option<&'l [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let (mut line, mut text) = (line, text.as_bytes());
    loop {
        match (line, text) {
            ([b':', rest @ ..], []) => return Some(rest),
            ([b'\\', byte, rest @ ..], [wanted, others @ ..])
            | ([byte, rest @ ..], [wanted, others @ ..])
                if byte == wanted =>
            {
                (line, text) = (rest, others);
            }
            _ => return None,
        }
    }
}

/// `passwordFromFile` of libpq: the rest of the first line that matches.
fn libpq<'f>(file: &'f [u8], key: &PgpassKey<'_>) -> Option<&'f [u8]> {
    let port = key.port.to_string();
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
        let line = &line[..end];
        if line.starts_with(b"#") {
            return None;
        }
        let rest = field(line, key.host).and_then(|rest| field(rest, &port));
        rest.and_then(|rest| field(rest, key.database)).and_then(|rest| field(rest, key.user))
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, file)) = data.split_first() else { return };
    // libpq reads C strings.
    if file.contains(&0) {
        return;
    }
    let key = &KEYS[usize::from(*choice) % KEYS.len()];
    let ours = key.line("T");
    let written = put(file, key, &ours);
    assert_eq!(libpq(&written, key), Some(&b"T"[..]));
    assert_eq!(put(&written, key, &ours), written, "a second call changes nothing");
    let (before, after) = (remove(file, key), remove(&written, key));
    // Our put adds a line end to a last line without one; libpq strips them (`pg_strip_crlf`).
    let is_line_end = |byte: &u8| b"\r\n".contains(byte);
    let bare = |text: &[u8]| {
        text[..text.iter().rposition(|b| !is_line_end(b)).map_or(0, |at| at + 1)].to_vec()
    };
    assert!(before == after || bare(&before) == bare(&after), "another line has changed");
});
