//! Answers that a generator makes malformed in many ways. The program never panics, and never
//! prints a token that is not in the answer or that has expired.

use serde_json::{Value, json};

use super::{Class, holds, times};
use crate::sandbox::jwt::{Scope, Signer, claims, now};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN};
use crate::support::{Dice, Test, workspace};

/// A text in the place of a token: valid, expired or not a token at all.
fn token(dice: &mut Dice, signer: &Signer) -> String {
    let times = [
        json!(now() + 3600),
        json!(now() - 1),
        json!(now() - 86_400),
        json!(0),
        json!(-1),
        json!(13_569_465_600_i64),
        json!(1e300),
        json!(u64::MAX),
        json!((now() + 3600).to_string()),
        json!(now() as f64 + 3600.5),
        Value::Null,
        json!([]),
    ];
    let claims = json!({ "sub": "me", "iat": times[dice.roll(12)], "exp": times[dice.roll(12)] });
    match dice.roll(24) {
        0 => "opaque-token".to_owned(),
        1 => String::new(),
        2 => " ".to_owned(),
        3 => "two words".to_owned(),
        4 => "line\nline".to_owned(),
        5 => "bell\u{7}".to_owned(),
        6 => "schlüssel".to_owned(),
        7 => "x".repeat(dice.roll(300_000)),
        8 => "eyJ.bm90IGpzb24.x".to_owned(),
        9 => "a.b.c".to_owned(),
        10..16 => signer.sign_claims(&claims),
        _ => signer.sign("me", Scope::Database, 3600, 0),
    }
}

/// An expiry in a valid or invalid notation.
fn expiry(dice: &mut Dice) -> Value {
    let numbers = [
        json!(3600),
        json!(0),
        json!(-3600),
        json!(f64::MAX),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.5),
        json!("3600"),
        json!(" 60 "),
        json!("soon"),
        json!(""),
        Value::Null,
        json!(true),
        json!([3600]),
        json!({ "seconds": 3600 }),
    ];
    let texts = [
        "2400-01-01T00:00:00Z",
        "2001-01-01T00:00:00Z",
        "2400-01-01T00:00:00+25:00",
        "2400-13-01T00:00:00Z",
        "2400-02-30T00:00:00Z",
        "2400-01-01",
        "2400-01-01 00:00:00",
        "2400-01-01T00:00:00",
        "2400-01-01T24:00:00Z",
        "2400-01-01T23:59:60Z",
        "20240101T000000Z",
        "99999-01-01T00:00:00Z",
        "-2400-01-01T00:00:00Z",
        "Fri, 01 Jan 2400 00:00:00 GMT",
        "1700000000",
        "2400-01-01T00:00:00.123456789123456789Z",
        "2400-01-01T00:00:00z",
        "２４００-01-01T00:00:00Z",
    ];
    match dice.roll(2) {
        0 => numbers[dice.roll(numbers.len())].clone(),
        _ => json!(dice.pick(&texts)),
    }
}

/// A malformed answer. Some are nearly valid: their first field is `token`.
fn malformed(dice: &mut Dice, signer: &Signer) -> Vec<u8> {
    let text = malformed_object(dice, signer);
    let mut bytes = match dice.roll(24) {
        0 => format!("\u{feff}{text}"),
        1 => format!("{text}{text}"),
        2 => format!("[{text}]"),
        3 => format!("{}{text}", "[".repeat(50_000)),
        4 => text.replace("\": ", "\": \u{1}"),
        5 => text.replace('"', "'"),
        6 => text[..text.len() - 1].to_owned(),
        7 => format!("{text} trailing"),
        _ => text,
    }
    .into_bytes();

    match dice.roll(16) {
        0 => {
            let at = dice.roll(bytes.len());
            bytes[at] = dice.roll(256) as u8;
        }
        1 => bytes.truncate(dice.roll(bytes.len())),
        2 => bytes.insert(dice.roll(bytes.len()), 0xff),
        _ => {}
    }
    bytes
}

/// An object with up to six fields, whose values may have the wrong type.
fn malformed_object(dice: &mut Dice, signer: &Signer) -> String {
    let names =
        ["token", "access_token", "expire_time", "expiration_time", "expires_in", "expires_on"];
    let mut text = String::from("{");
    for n in 0..1 + dice.roll(6) {
        let name = if n == 0 { "token" } else { dice.pick(&names) };
        let value = if name.contains("token") { json!(token(dice, signer)) } else { expiry(dice) };
        let value = match dice.roll(20) {
            0 => expiry(dice),
            1 => json!({ "value": value }),
            2 => json!([value]),
            _ => value,
        };
        text.push_str(&format!("{}\"{name}\": {value}", if n == 0 { "" } else { ", " }));
    }
    text.push('}');
    text
}

/// Whether a printed token can be valid: it is in the answer, it has a token's alphabet, and
/// neither it nor the answer says that it has expired.
fn is_valid(printed: &str, body: &[u8]) -> Result<(), String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~+/=-".contains(&b);
    let has_alphabet = !printed.is_empty() && printed.bytes().all(is_allowed);
    holds(has_alphabet, || "not a token's alphabet".to_owned())?;

    let body: Value = serde_json::from_slice(body)
        .map_err(|e| format!("printed although the answer is not JSON: {e}"))?;
    holds(body["token"] == printed, || "not the answer's token".to_owned())?;

    let claims = claims(printed);
    let is_expired = claims["exp"].as_f64().is_some_and(|expires| expires <= now() as f64);
    holds(!is_expired, || format!("it says that it has expired: {claims}"))?;

    // `expiration_time` belongs to the other credential API.
    let past = body["expire_time"].as_str().is_some_and(|time| time.starts_with("2001-"));
    holds(!past, || "the answer says that it has expired".to_owned())
}

#[test]
fn no_malformed_token_is_printed() {
    let workspace = workspace();
    let mut dice = Dice::seeded(20_261_121);
    let mut class = Class::new("answers: malformed", [2, 50]);
    let test = Test::at(&workspace);
    for n in 0..times(500, 20_000) {
        let path = if dice.roll(3) == 0 { TOKEN } else { MINT };
        let body = malformed(&mut dice, &workspace.signer);
        let status = dice.pick(&[200, 200, 200, 200, 200, 200, 400, 401, 403, 404, 409, 500]);
        let types = ["application/json", "text/html", "text/plain; charset=utf-16", ""];
        let headers = vec![("Content-Type".to_owned(), (dice.pick(&types)).to_owned())];
        workspace.state().faults.clear();
        workspace.take_requests();
        workspace.fault(path, 2, Answer::Text { status, headers, body: body.clone() });

        let outcome = test.run("--no-cache --timeout 5s");
        let printed = outcome.stdout.trim_end();
        let is_ours = |printed| workspace.signer.check(printed, Scope::Database).is_ok();
        let held = match outcome.code {
            0 if path == TOKEN && is_ours(printed) => Ok(()),
            0 => is_valid(printed, &body),
            1 | 4 | 5 => {
                let has_error = outcome.stderr.contains("lakebase-token: error: ");
                let is_printable = !outcome.stderr.chars().any(|c| c.is_control() && c != '\n');
                holds(printed.is_empty() && has_error && is_printable, || format!("{outcome:?}"))
            }
            code => Err(format!("exit code {code}")),
        };
        class.ended(outcome.code == 0);
        let shown = || String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
        class.tried(
            format!("{n} {path} {status}"),
            held.map_err(|why| format!("{why}: {}", shown())),
        );
    }
    class.end();
}
