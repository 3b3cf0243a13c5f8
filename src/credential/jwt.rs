//! What a JWT says of itself (RFC 7519).
//!
//! Its signature is not checked: the claims are the server's own words about its own answer, used for
//! expiry, for messages and for noticing that another person has logged in, never for trust.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::platform::time::Timestamp;

/// The claims of a JWT that concern us; all missing where it is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub sub: Option<String>,
    pub iat: Option<Timestamp>,
    pub exp: Option<Timestamp>,
}

impl Claims {
    pub fn of(text: &str) -> Claims {
        let Some(claims) = payload(text) else { return Claims::default() };
        // RFC 7519 §2: NumericDate may have a fraction.
        let time = |name: &str| {
            let value = &claims[name];
            let seconds = value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))?;
            Some(Timestamp::from_seconds(seconds))
        };
        let sub = claims["sub"].as_str().filter(|sub| !sub.is_empty()).map(subject);
        Claims { sub, iat: time("iat"), exp: time("exp") }
    }
}

/// Issuer, subject and audiences of a JWT, as they stand there: what federation policies are about.
/// For messages, never for trust.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`, one or several.
    pub audience: String,
}

impl Names {
    /// Reads them; nothing where it is no JWT.
    pub fn of(text: &str) -> Option<Names> {
        let claims = payload(text)?;
        let one = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let audience = match &claims["aud"] {
            serde_json::Value::Array(several) => {
                several.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            single => one(single),
        };
        Some(Names { issuer: one(&claims["iss"]), subject: one(&claims["sub"]), audience })
    }
}

/// All that a JWT says, but for what is new in each: a policy may look at any of it.
pub fn lasting_claims(text: &str) -> Option<String> {
    // RFC 7519 §4.1; then Microsoft Entra's (its reference of access token claims).
    const NEW: [&str; 8] = ["iat", "exp", "nbf", "jti", "uti", "rh", "aio", "auth_time"];
    let mut claims = payload(text)?;
    let object = claims.as_object_mut()?;
    object.retain(|name, _| !NEW.contains(&name.as_str()));
    // When the kubelet is to have replaced it (Kubernetes, `pkg/serviceaccount/claims.go`).
    let kubernetes = object.get_mut("kubernetes.io").and_then(|claims| claims.as_object_mut());
    kubernetes.map(|claims| claims.remove("warnafter"));
    Some(claims.to_string())
}

/// The second part of a JWT, if it is one.
fn payload(text: &str) -> Option<serde_json::Value> {
    let mut parts = text.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// When the JWT that stands somewhere in a text dies, by the clock of whoever issued it.
pub fn expiry_within(text: &[u8]) -> Option<Timestamp> {
    let in_jwt = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let words = text.split(|b| !in_jwt(b)).filter_map(|word| std::str::from_utf8(word).ok());
    words.filter_map(|word| Claims::of(word).exp).next()
}

/// Whether a token stands somewhere in a text: a JWT, or a personal access token (`dapi` and 32
/// hexadecimal digits, sometimes more).
pub fn holds_token(text: &[u8]) -> bool {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    let mut digits = words.filter_map(|word| word.strip_prefix(b"dapi"));
    let is_pat = |digits: &[u8]| digits.len() >= 32 && digits.iter().all(u8::is_ascii_hexdigit);
    expiry_within(text).is_some() || digits.any(is_pat)
}

/// A subject that fits a line, and still differs from every other one.
fn subject(sub: &str) -> String {
    if sub.len() <= 200 && !sub.chars().any(char::is_control) {
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
    fn what_is_new_in_each_token_makes_no_other_identity() {
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
    fn an_expiry_is_found_wherever_the_jwt_stands() {
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
    fn a_token_is_told_from_a_word_that_begins_alike() {
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
    fn subjects_stay_apart_and_fit_a_line() {
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
