//! The claims of a JWT (RFC 7519).
//!
//! The signature is not checked. The claims are used for expiry, for messages and to notice that
//! another person has logged in, never for a decision about trust.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::platform::time::Timestamp;

/// The claims that this program uses. All are missing if the text is not a JWT.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub sub: Option<String>,
    pub iat: Option<Timestamp>,
    pub exp: Option<Timestamp>,
}

impl Claims {
    pub fn of(text: &str) -> Claims {
        let Some(claims) = payload(text) else { return Claims::default() };
        // A NumericDate may have a fraction (RFC 7519 §2).
        let time = |name: &str| {
            let value = &claims[name];
            let seconds = value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))?;
            Some(Timestamp::from_seconds(seconds))
        };
        let sub = claims["sub"].as_str().filter(|sub| !sub.is_empty()).map(subject);
        Claims { sub, iat: time("iat"), exp: time("exp") }
    }
}

/// The claims that federation policies match. For messages only.
#[derive(Debug, PartialEq, Eq)]
pub struct PolicyClaims {
    pub issuer: String,
    pub subject: String,
    /// All audiences, separated by spaces.
    pub audience: String,
}

impl PolicyClaims {
    pub fn of(text: &str) -> Option<PolicyClaims> {
        let claims = payload(text)?;
        let audience = match &claims["aud"] {
            Value::Array(audiences) => audiences.iter().map(text_of).collect::<Vec<_>>().join(" "),
            audience => text_of(audience),
        };
        Some(PolicyClaims {
            issuer: text_of(&claims["iss"]),
            subject: text_of(&claims["sub"]),
            audience,
        })
    }
}

fn text_of(claim: &Value) -> String {
    claim.as_str().unwrap_or_default().to_owned()
}

/// Claims that differ in every token of the same identity: RFC 7519 §4.1, then Microsoft Entra's
/// (its "access token claims reference").
const CLAIMS_OF_ONE_TOKEN: [&str; 8] =
    ["iat", "exp", "nbf", "jti", "uti", "rh", "aio", "auth_time"];

/// The claims that all tokens of an identity share. A federation policy may match any of them.
pub fn lasting_claims(text: &str) -> Option<String> {
    let mut claims = payload(text)?;
    let object = claims.as_object_mut()?;
    object.retain(|name, _| !CLAIMS_OF_ONE_TOKEN.contains(&name.as_str()));

    // The time by which the kubelet should have replaced the token (Kubernetes,
    // `pkg/serviceaccount/claims.go`).
    let kubernetes = object.get_mut("kubernetes.io").and_then(|claims| claims.as_object_mut());
    kubernetes.map(|claims| claims.remove("warnafter"));
    Some(claims.to_string())
}

/// The second of a JWT's three parts.
fn payload(text: &str) -> Option<Value> {
    let parts: Vec<&str> = text.splitn(4, '.').collect();
    let [_header, payload, _signature] = parts[..] else { return None };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// When the first JWT in a text expires, by its issuer's clock.
pub fn expiry_within(text: &[u8]) -> Option<Timestamp> {
    let in_jwt = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let words = text.split(|b| !in_jwt(b)).filter_map(|word| std::str::from_utf8(word).ok());
    words.filter_map(|word| Claims::of(word).exp).next()
}

/// Whether a text contains a token: a JWT, or a personal access token (`dapi` and 32 hexadecimal
/// digits, sometimes more).
pub fn holds_token(text: &[u8]) -> bool {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    let mut digits = words.filter_map(|word| word.strip_prefix(b"dapi"));
    let is_pat = |digits: &[u8]| digits.len() >= 32 && digits.iter().all(u8::is_ascii_hexdigit);
    expiry_within(text).is_some() || digits.any(is_pat)
}

/// A subject of at most this length is stored as it is.
const MAX_SUBJECT_BYTES: usize = 200;

/// The subject, or its hash if it does not fit a line of a cache entry. Different subjects stay
/// different.
fn subject(sub: &str) -> String {
    if sub.len() <= MAX_SUBJECT_BYTES && !sub.chars().any(char::is_control) {
        return sub.to_owned();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, sub.as_bytes());
    format!("sha256:{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(payload))
    }

    #[test]
    fn tokens_of_the_same_identity_have_the_same_lasting_claims() {
        let claims = |text: &str| lasting_claims(&jwt(text));
        let pod = |after: u32, name: &str| {
            claims(&format!(
                r#"{{"sub":"s","exp":{after},"jti":"{after}","kubernetes.io":{{"pod":{{"name":"{name}"}},"warnafter":{after}}}}}"#
            ))
        };
        assert_eq!(pod(1, "a"), pod(2, "a"));
        assert_ne!(pod(1, "a"), pod(1, "b"));
        assert_eq!(claims(r#"{"oid":"o","uti":"1","rh":"1"}"#), claims(r#"{"oid":"o","uti":"2"}"#));
        assert_eq!(claims("[]"), None);
    }

    #[test]
    fn the_expiry_of_a_jwt_inside_a_text_is_found() {
        let token = jwt(r#"{"exp":1800000600}"#);
        for text in [
            format!("{token}\n"),
            format!("PGHOST=a.b.c\nPGPASSWORD={token}\n"),
            format!("{{\"token\":\"{token}\"}}"),
            format!("postgresql://me:{token}@h/d"),
        ] {
            let expires = expiry_within(text.as_bytes());
            assert_eq!(expires, Some(Timestamp::from_seconds(1_800_000_600)), "{text}");
        }
        assert_eq!(expiry_within(b"a.b.c dapi0123 \xff"), None);
    }

    #[test]
    fn a_word_that_begins_like_a_token_is_not_a_token() {
        for (text, expected) in [
            ("token = dapi0123456789abcdef0123456789abcdef\n", true),
            ("dapi0123456789abcdef0123456789abcdef-2", true),
            ("https://cloudapi.example/dapi", false),
            ("dapi0123", false),
            ("", false),
        ] {
            assert_eq!(holds_token(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn different_subjects_stay_different_and_fit_a_line() {
        let of = |sub: &str| {
            Claims::of(&jwt(&serde_json::json!({ "sub": sub }).to_string())).sub.unwrap()
        };
        let long = "x".repeat(300);
        let subs = [
            "user:ada@x.com",
            "user:bob@x.com",
            "a\nb",
            "a\tb",
            &(long.clone() + "1"),
            &(long + "2"),
        ];
        for (n, sub) in subs.iter().enumerate() {
            assert!(!of(sub).contains('\n') && of(sub).len() <= 200);
            assert!(subs[n + 1..].iter().all(|other| of(other) != of(sub)), "{sub}");
        }
        assert_eq!(of("user:ada@x.com"), "user:ada@x.com");
    }
}
