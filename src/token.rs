//! What a credential is: a [`Token`] with its life, and a [`Credential`] with everything a
//! format may print beside it, above all the [`Connection`] that it opens.
//!
//! Freshness is not decided here (`freshness.rs` has that table); this file only knows when a token
//! really ends. A JWT's claims are read without checking the signature: they are the server's
//! own words about its own answer, used for expiry and for noticing that somebody else has
//! logged in, never for trust.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::destination::is_host;
use crate::error::{Error, Result, clean};
use crate::secret::Secret;
use crate::time::{MINUTE, Timestamp};

/// The longest token taken from anybody. Postgres itself stops at 65,535 bytes
/// (`PG_MAX_AUTH_TOKEN_LENGTH`), real ones have one or two thousand.
pub const MAX_TOKEN: usize = 16 * 1024;

/// What is assumed where neither the answer nor the JWT tells an expiry
/// (databricks-ai-bridge keeps a token for as long).
const UNKNOWN_LIFE: i64 = 15 * MINUTE;

/// With less life than this a token is no use to anybody: the backend refuses the last 30
/// seconds, and it has yet to be sent.
pub const LEAST_LIFE: i64 = MINUTE;

/// A bearer token or database credential, and how long it lives.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: Secret,
    /// When its answer was received, by our clock.
    pub issued: Timestamp,
    /// When it dies, by our clock. None: never, as a PAT of which nothing is known.
    pub expires: Option<Timestamp>,
    /// Full life in milliseconds, by the clock of whoever issued it.
    pub lifetime: i64,
    /// The JWT's `sub`, where it is one.
    pub subject: Option<String>,
}

impl Token {
    /// Takes a token out of an answer that was received `now`. `stated` is the expiry the
    /// answer gives. `what` names the token in messages: "the workspace's token".
    pub fn received(
        what: &str,
        text: &str,
        stated: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Token> {
        check_text(what, text)?;
        let claims = Claims::of(text);
        // Where they differ, whoever checks it may go by either.
        let stated = stated.into_iter().chain(claims.exp).min();
        let lifetime = match (claims.iat, claims.exp, stated) {
            (Some(iat), Some(exp), _) if exp > iat => exp.since(iat),
            (_, _, Some(stated)) => stated.since(now),
            _ => UNKNOWN_LIFE,
        };
        let by_life = now.plus(lifetime);
        let expires = stated.map_or(by_life, |stated| stated.min(by_life));
        if expires <= now {
            return Err(Error::failed(format!("{what} has already expired, at {expires}"))
                .because(format!("it is {now} here; one of the two clocks may be wrong"))
                .hint("date -u"));
        }
        // A workspace far behind may give one that is nearly dead by our clock; its bands must
        // not be wider than what is left, or each call would mint.
        let lifetime = lifetime.min(expires.since(now));
        let secret = Secret::new(text);
        Ok(Token { secret, issued: now, expires: Some(expires), lifetime, subject: claims.sub })
    }

    /// A secret of which no expiry is known: a configured personal access token.
    pub fn unbounded(secret: Secret, now: Timestamp) -> Token {
        Token { secret, issued: now, expires: None, lifetime: i64::MAX, subject: None }
    }

    /// Milliseconds of life left.
    pub fn left(&self, now: Timestamp) -> i64 {
        self.expires.map_or(i64::MAX, |expires| expires.since(now))
    }
}

/// Whose it is and how long it lives, for people.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject {}, ", clean(self.subject.as_deref().unwrap_or("unnamed")))?;
        match self.expires {
            Some(expires) => write!(f, "good until {expires}"),
            None => f.write_str("with no known end"),
        }
    }
}

/// Refuses what could not be a token. The alphabet is RFC 6750's `b64token`; anything else
/// would have to be escaped in some format, and several readers of those unescape wrongly.
pub fn check_text(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::failed(format!("{what} is empty")));
    }
    if text.len() > MAX_TOKEN {
        let length = text.len();
        return Err(Error::failed(format!("{what} has {length} bytes; {MAX_TOKEN} are the most")));
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !text.bytes().all(legal) {
        return Err(Error::failed(format!("{what} holds characters that no token has")));
    }
    Ok(())
}

/// The claims of a JWT that concern us; all missing where it is none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    sub: Option<String>,
    iat: Option<Timestamp>,
    exp: Option<Timestamp>,
}

impl Claims {
    fn of(text: &str) -> Claims {
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

/// Which of the two tokens is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A Postgres password, minted by the credential API.
    Database,
    /// The workspace's own access token, for its REST APIs.
    Workspace,
}

/// Everything a format may print. What it did not ask for is missing.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Decides which formats make sense.
    pub purpose: Purpose,
    /// The token.
    pub token: Token,
    /// The workspace's URL.
    pub workspace: String,
    /// Where it is the password.
    pub connection: Connection,
    /// The `apiVersion` that the caller of an exec plugin wants back.
    pub api_version: &'static str,
}

/// Where to connect to, and as whom. What nobody asked for is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The Postgres role.
    pub user: Option<String>,
    /// The Postgres host.
    pub host: Option<String>,
    /// The Postgres port.
    pub port: u16,
    /// The database's name.
    pub database: Option<String>,
    /// libpq's `sslmode`.
    pub sslmode: &'static str,
}

impl Connection {
    /// The role, for whoever cannot do without.
    pub fn user(&self) -> Result<&str> {
        known("role", &self.user)
    }

    /// The host, for whoever cannot do without. One that is not a single host is refused in every
    /// format: libpq takes a path for a socket and a list for several servers.
    pub fn host(&self) -> Result<&str> {
        let host = known("host", &self.host)?;
        if !is_host(host) {
            return Err(Error::usage(format!("not a host name or an IP address: {}", clean(host))));
        }
        Ok(host)
    }

    /// The database, for whoever cannot do without.
    pub fn database(&self) -> Result<&str> {
        known("database", &self.database)
    }
}

/// A name that is there and that every notation can carry.
fn known<'a>(name: &str, text: &'a Option<String>) -> Result<&'a str> {
    let text = text.as_deref().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::failed(format!("the {name} is not known")))?;
    check_name(format!("the {name}"), text)?;
    Ok(text)
}

/// Refuses a name that some notation cannot carry; `what` it is goes into the message.
pub fn check_name(what: impl fmt::Display, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        let words = format!("{what} holds a control character, which no format can carry");
        return Err(Error::usage(words));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn jwt(payload: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(payload))
    }

    fn minutes(token: &Token) -> i64 {
        token.left(NOW) / 60_000
    }

    #[test]
    fn life_is_the_jwts_and_expiry_the_earlier_one() {
        // The workspace's clock is an hour ahead of ours: its expiry would let us use a dead token.
        let text = jwt(r#"{"sub":"me","iat":1800003600,"exp":1800007200}"#);
        let stated = Some(Timestamp::from_seconds(1_800_007_200));
        let token = Token::received("token", &text, stated, NOW).unwrap();
        assert_eq!((minutes(&token), token.lifetime), (60, 3_600_000));
        assert_eq!(token.subject.as_deref(), Some("me"));

        // Its clock is ten minutes behind: the stated expiry is the earlier one.
        let text = jwt(r#"{"iat":1799999400,"exp":1800003000}"#);
        let stated = Some(Timestamp::from_seconds(1_800_003_000));
        let token = Token::received("token", &text, stated, NOW).unwrap();
        assert_eq!((minutes(&token), token.lifetime), (50, 3_000_000));
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
    fn without_an_expiry_the_jwt_tells_and_then_fifteen_minutes() {
        let token = Token::received("token", &jwt(r#"{"exp":1800000600}"#), None, NOW).unwrap();
        assert_eq!(minutes(&token), 10);
        for opaque in ["dapi0123", "a.b.c", &jwt("[1,2]"), &jwt(r#"{"exp":"soon","scope":[1]}"#)] {
            assert_eq!(minutes(&Token::received("token", opaque, None, NOW).unwrap()), 15);
        }
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

    #[test]
    fn dead_or_impossible_tokens_are_refused() {
        let past = Some(Timestamp(NOW.0 - 1));
        assert!(Token::received("token", "abc", past, NOW).is_err());
        assert!(Token::received("token", &jwt(r#"{"exp":1}"#), None, NOW).is_err());
        for text in ["", "a b", "a\nb", "a\0", "é", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(Token::received("token", text, None, NOW).is_err());
        }
        // The year 292 million neither panics nor wraps around.
        let far = Token::received("token", &jwt(r#"{"exp":9e18}"#), None, NOW).unwrap();
        assert!(far.left(NOW) > 0);
    }
}
