//! `.databrickscfg`: the reader never panics, and a profile that was written is read back while all
//! others stay as they were.

#![no_main]

use lakebase_token::config::databrickscfg::{put, remove, section, sections};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(text) = std::str::from_utf8(file) else { return };
    let Ok(names) = sections(text) else { return };
    for name in &names {
        let _ = section(text, name);
    }
    let written = put(file, "kept", &[("host", "https://x"), ("token", "dapi1")]);
    let after = std::str::from_utf8(&written).unwrap();
    let kept = section(after, "kept").unwrap();
    assert!(kept.contains(&("host", "https://x")) && kept.contains(&("token", "dapi1")));
    let removed = remove(&written, "kept", &["host", "token"]);
    let removed = std::str::from_utf8(&removed).unwrap();
    for name in names.iter().filter(|name| **name != "kept") {
        let Ok(before) = section(text, name) else { continue };
        assert_eq!(section(after, name).unwrap(), before);
        assert_eq!(section(removed, name).unwrap(), before);
    }
});
