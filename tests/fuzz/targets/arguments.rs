//! The command line: any words are either parsed or refused with exit code 2.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use lakebase_token::cli::args::{named_command, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let words = data.split(|byte| *byte == b'\n');
    let argv: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    let _ = named_command(&argv);
    if let Err(error) = parse(&argv) {
        assert_eq!(error.kind as u8, 2, "{}", error.message);
    }
});
