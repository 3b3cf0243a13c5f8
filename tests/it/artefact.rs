//! The static executable that `tests/run` names: static, position-independent, hardened, small.

use std::fs;
use std::process::Command;

use super::support::executable;

/// 3.6 MB: TLS, certificates and JSON are most of it. Pooled hosts, read-only credentials, scopes, the
/// SDKs' protocol and doctor's report took 120 kB of it.
const MAX_SIZE_BYTES: usize = 3_600_000;

/// Types of program headers (elf(5)).
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_RELRO: u32 = 0x6474_e552;
const PT_GNU_STACK: u32 = 0x6474_e551;

/// Bits of a segment's flags.
const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;

/// The program headers of an ELF file for 64 bits: type and flags.
fn segments(bytes: &[u8]) -> Vec<(u32, u32)> {
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (offset, size, count) = (number(32..40), number(54..56), number(56..58));
    let header = |n: usize| offset + n * size;
    let word = |at: usize| number(at..at + 4) as u32;
    (0..count).map(|n| (word(header(n)), word(header(n) + 4))).collect()
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn it_is_static_position_independent_and_small() {
    let bytes = fs::read(executable()).unwrap();
    assert!(bytes.len() <= MAX_SIZE_BYTES, "{} bytes", bytes.len());

    // ELF: e_type 3 is position-independent.
    assert_eq!((&bytes[..4], bytes[16]), (&b"\x7fELF"[..], 3));
    let segments = segments(&bytes);
    assert!(segments.iter().all(|(kind, _)| *kind != PT_INTERP), "it needs a dynamic linker");
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn its_memory_is_hardened() {
    let segments = segments(&fs::read(executable()).unwrap());
    let loaded = || segments.iter().filter(|(kind, _)| *kind == PT_LOAD).map(|(_, flags)| flags);
    assert!(loaded().all(|flags| flags & (EXECUTABLE | WRITABLE) != EXECUTABLE | WRITABLE));
    assert!(loaded().any(|flags| flags & (EXECUTABLE | WRITABLE) == 0), "a read-only segment");
    assert!(segments.iter().any(|(kind, _)| *kind == PT_GNU_RELRO), "RELRO");
    let stack = segments.iter().find(|(kind, _)| *kind == PT_GNU_STACK).unwrap();
    assert_eq!(stack.1 & EXECUTABLE, 0, "the stack is not executable");
}

#[test]
fn it_runs_with_an_empty_environment() {
    let output = Command::new(executable()).arg("--version").env_clear().output().unwrap();
    let version = format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
