//! `.databrickscfg`: a profile that was written is read back, and every line of another profile stays. The
//! lines are told apart by a reader of this file, which knows headers and keys only.

#![no_main]

use lakebase_token::config::databrickscfg::{put, remove, section, sections};
use libfuzzer_sys::fuzz_target;

/// The lines of the profile `kept`, and all others, without blank ones.
fn split(file: &str) -> (Vec<&str>, Vec<&str>) {
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let mut is_kept = false;
    file.lines().map(str::trim).filter(|line| !line.is_empty()).partition(|line| {
        if let Some(rest) = line.strip_prefix('[') {
            is_kept = rest[..rest.rfind(']').unwrap()] == *"kept";
        }
        is_kept
    })
}

/// The last value of a key, which is the one that counts.
fn last<'f>(lines: &[&'f str], key: &str) -> Option<&'f str> {
    let pairs = lines.iter().filter(|line| !line.starts_with(['#', ';', '[']));
    let mut pairs = pairs.filter_map(|line| line.split_once(['=', ':']));
    let found = pairs.rfind(|(name, _)| name.trim().eq_ignore_ascii_case(key));
    found.map(|(_, value)| value.trim())
}

fuzz_target!(|file: &[u8]| {
    let Ok(text) = std::str::from_utf8(file) else { return };
    let Ok(names) = sections(text) else { return };
    for name in names {
        section(text, name).unwrap();
    }

    let written = put(file, "kept", &[("host", "https://x"), ("token", "dapi1")]);
    let written = std::str::from_utf8(&written).unwrap();
    let (kept, others) = split(written);
    assert_eq!(last(&kept, "host"), Some("https://x"));
    assert_eq!(last(&kept, "token"), Some("dapi1"));
    assert_eq!(others, split(text).1, "another profile has changed");
    let read = section(written, "kept").unwrap();
    assert!(read.contains(&("host", "https://x")) && read.contains(&("token", "dapi1")));

    let removed = remove(written.as_bytes(), "kept", &["host", "token"]);
    let (left, others) = split(std::str::from_utf8(&removed).unwrap());
    assert_eq!((last(&left, "host"), last(&left, "token")), (None, None));
    assert_eq!(others, split(text).1, "another profile has changed");
});
