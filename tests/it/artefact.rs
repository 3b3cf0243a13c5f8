//! The static artefact, where `tests/run` names one: static, small, and the same version.

use std::fs;
use std::process::Command;

use super::support::executable;

#[test]
#[ignore = "needs the static file: tests/run"]
fn it_is_static_and_at_most_three_megabytes() {
    let bytes = fs::read(executable()).unwrap();
    assert!(bytes.len() <= 3_000_000, "{} bytes", bytes.len());
    // ELF: e_type 2 is position-dependent, and a static file names no interpreter (PT_INTERP).
    assert_eq!((&bytes[..4], bytes[16]), (&b"\x7fELF"[..], 2));
    let text = |range: std::ops::Range<usize>| {
        u64::from_le_bytes(bytes[range].try_into().unwrap()) as usize
    };
    let (offset, size, count) = (text(32..40), bytes[54] as usize, bytes[56] as usize);
    let kinds = (0..count).map(|n| bytes[offset + n * size]);
    assert!(!kinds.into_iter().any(|kind| kind == 3), "it needs a dynamic linker");
}

#[test]
fn it_runs_with_an_empty_environment() {
    let output = Command::new(executable()).arg("--version").env_clear().output().unwrap();
    let version = format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
