//! `NO_PROXY`: a list covers a host if one of its entries does, in any order and case.
//! `tests/it/proxies.rs` compares single entries with Go.

#![no_main]

use lakebase_token::net::no_proxy::covers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The host and the list, from one text.
    let Some((host, list)) = text.split_once('\n') else { return };
    let covered = covers(list, host, 443);
    assert_eq!(covered, list.split(',').any(|entry| covers(entry, host, 443)));
    let reversed: Vec<_> = list.rsplit(',').collect();
    assert_eq!(covered, covers(&reversed.join(","), host, 443));
    assert_eq!(covered, covers(&list.to_ascii_uppercase(), host, 443));
    assert!(covers(&format!("{list},*"), host, 443));
    // A plain name covers itself and what is below it, at each port.
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    if !host.is_empty() && host.chars().all(is_name) {
        for list in [host.to_owned(), format!("{host}:443"), format!("x,{host}")] {
            assert!(covers(&list, host, 443) && covers(&list, &format!("a.{host}"), 443));
            assert_eq!(covers(&list, host, 444), !list.ends_with(":443") || host == "localhost");
        }
    }
});
