//! Finds pieces of secrets in a text, in each form that a program may write them in: as they are, base64 and
//! its form for URLs at each of their three alignments, hexadecimal, percent-encoded.

use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

/// Sentinels: no other text has a piece of them.
pub const ID: &str = "11111111-2222-3333-4444-555555555555";
pub const SECRET: &str = "doseZQXJVKWMPYBFGHDLsentinel";
pub const PAT: &str = "dapiJQZVXKWMPYBFGHDLsentinelpat";

/// The length of a piece, in bytes of the secret.
const PIECE_BYTES: usize = 8;

/// A piece of one of the secrets that is in the text.
pub fn piece_of(secrets: &[&str], text: &str) -> Option<String> {
    let forms = secrets.iter().flat_map(|secret| forms(secret));
    forms.into_iter().find(|form| text.contains(form))
}

fn forms(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for piece in secret.as_bytes().windows(PIECE_BYTES) {
        forms.extend(std::str::from_utf8(piece).ok().map(str::to_owned));
        let written = |of: fn(u8) -> String| piece.iter().map(|byte| of(*byte)).collect::<String>();
        forms.push(written(|byte| format!("{byte:02x}")));
        forms.push(written(|byte| format!("{byte:02X}")));
        forms.push(written(|byte| format!("%{byte:02X}")));
        forms.push(written(|byte| format!("%{byte:02x}")));
        forms.push(written(in_url));
        // The first and the last letters also depend on what stands beside the piece.
        for before in 0..3 {
            let padded = [&[0; 3][..before], piece].concat();
            for encoded in [BASE64_STANDARD.encode(&padded), BASE64_URL_SAFE.encode(&padded)] {
                let first = (before * 8).div_ceil(6);
                let last = padded.len() * 8 / 6;
                forms.push(encoded[first..last].to_owned());
            }
        }
    }
    forms
}

/// As in a URL: letters, digits and a few others stand for themselves.
fn in_url(byte: u8) -> String {
    let mut text = String::new();
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        text.push(char::from(byte));
    } else {
        write!(text, "%{byte:02X}").unwrap();
    }
    text
}

#[test]
fn a_piece_is_found_in_each_form() {
    let secret = "dose/QXJ+VKW&MPYB FGHDL";
    let middle = &secret[3..15];
    let hex: String = middle.bytes().map(|byte| format!("{byte:02x}")).collect();
    let each: String = middle.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let in_url: String = middle.bytes().map(in_url).collect();
    let mut texts =
        vec![middle.to_owned(), hex.to_uppercase(), hex, each.to_uppercase(), each, in_url];
    for before in ["", "x", "xy", "xyz"] {
        let around = format!("{before}{middle}!!");
        texts.extend([BASE64_STANDARD.encode(&around), BASE64_URL_SAFE.encode(&around)]);
    }
    for text in texts {
        assert!(piece_of(&[secret], &format!("<{text}>")).is_some(), "{text}");
    }
    assert_eq!(piece_of(&[secret], "dose/QX and other texts"), None);
    assert_eq!(piece_of(&[secret], &BASE64_STANDARD.encode("dose/QX and other texts")), None);
}
