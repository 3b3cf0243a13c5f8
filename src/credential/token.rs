//! A token with its lifetime: when it was issued, when it expires, and for which subject.
//!
//! Whether a token is fresh enough for a caller is decided in `cache/freshness.rs`.

use std::fmt;

use crate::credential::jwt::Claims;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::time::{MINUTE, Timestamp};

/// The longest token that is accepted, in bytes. Postgres accepts 65,535
/// (`PG_MAX_AUTH_TOKEN_LENGTH`); tokens of Databricks have one or two thousand.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The lifetime that is assumed if neither the answer nor the JWT states an expiry
/// (databricks-ai-bridge assumes the same).
const ASSUMED_LIFE_MS: i64 = 15 * MINUTE;

/// A token with less time left, in milliseconds, is not used: Databricks refuses tokens in their
/// last 30 seconds, and the request takes time too.
pub const MIN_LIFE_MS: i64 = MINUTE;

/// A workspace token or a database credential.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: Secret,
    /// When it was received, by our clock.
    pub issued: Timestamp,
    /// When it expires, by our clock. `None` for a personal access token, whose expiry is unknown.
    pub expires: Option<Timestamp>,
    /// The whole lifetime in milliseconds, by the issuer's clock.
    pub lifetime: i64,
    /// The `sub` of a JWT.
    pub subject: Option<String>,
}

impl Token {
    /// A token from an answer that was received `now`. `stated` is the expiry in the answer; `what`
    /// names the token in messages, as in "the workspace's token".
    pub fn received(
        what: &str,
        text: &str,
        stated: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Token> {
        check_text(what, text)?;
        let claims = Claims::of(text);

        // If answer and JWT differ, a server may check either of them.
        let stated = stated.into_iter().chain(claims.exp).min();
        let lifetime = match (claims.iat, claims.exp, stated) {
            (Some(iat), Some(exp), _) if exp > iat => exp.since(iat),
            (_, _, Some(stated)) => stated.since(now),
            _ => ASSUMED_LIFE_MS,
        };
        let expires_by_lifetime = now.plus(lifetime);
        let expires = stated.map_or(expires_by_lifetime, |stated| stated.min(expires_by_lifetime));
        if expires <= now {
            let error = Error::failed(format!("{what} has already expired, at {expires}"));
            return Err(with_our_time(error, now));
        }

        // If the workspace's clock is far behind, a new token has little time left by ours. The
        // limits for a refresh must not exceed that time, or every call would mint.
        let lifetime = lifetime.min(expires.since(now));
        let secret = Secret::new(text);
        Ok(Token { secret, issued: now, expires: Some(expires), lifetime, subject: claims.sub })
    }

    /// A configured personal access token, whose expiry is unknown.
    pub fn unbounded(secret: Secret, now: Timestamp) -> Token {
        Token { secret, issued: now, expires: None, lifetime: i64::MAX, subject: None }
    }

    /// Milliseconds until it expires.
    pub fn left(&self, now: Timestamp) -> i64 {
        self.expires.map_or(i64::MAX, |expires| expires.since(now))
    }
}

/// For messages: the subject and the expiry.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subject {}, ", redact(self.subject.as_deref().unwrap_or("unnamed")))?;
        match self.expires {
            Some(expires) => write!(f, "valid until {expires}"),
            None => f.write_str("with no known expiry"),
        }
    }
}

/// Adds this machine's time to an error about an expiry.
pub fn with_our_time(error: Error, now: Timestamp) -> Error {
    let reason = format!("this machine's time is {now}; its clock may be wrong");
    error.because(reason).hint("date -u")
}

/// Refuses a text that cannot be a token. The alphabet is RFC 6750's `b64token`. Other characters
/// would need escapes in some formats, and several readers of these formats unescape wrongly.
pub fn check_text(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::failed(format!("{what} is empty")));
    }
    if text.len() > MAX_TOKEN_BYTES {
        let length = text.len();
        let message =
            format!("{what} has {length} bytes, more than the limit of {MAX_TOKEN_BYTES}");
        return Err(Error::failed(message));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !text.bytes().all(is_allowed) {
        return Err(Error::failed(format!("{what} has characters that no token has")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn jwt(payload: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(payload))
    }

    fn minutes(token: &Token) -> i64 {
        token.left(NOW) / MINUTE
    }

    #[test]
    fn the_jwt_gives_the_lifetime_and_the_earlier_expiry_counts() {
        // The workspace's clock is an hour ahead of ours: by its expiry, we would use an expired
        // token.
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
    fn without_a_stated_expiry_the_jwts_counts_or_fifteen_minutes() {
        let token = Token::received("token", &jwt(r#"{"exp":1800000600}"#), None, NOW).unwrap();
        assert_eq!(minutes(&token), 10);
        // A lifetime of zero or less says nothing.
        for text in
            [r#"{"iat":1800007200,"exp":1800003600}"#, r#"{"iat":1800003600,"exp":1800003600}"#]
        {
            assert_eq!(minutes(&Token::received("token", &jwt(text), None, NOW).unwrap()), 60);
        }
        for opaque in ["dapi0123", "a.b.c", &jwt("[1,2]"), &jwt(r#"{"exp":"soon","scope":[1]}"#)] {
            assert_eq!(minutes(&Token::received("token", opaque, None, NOW).unwrap()), 15);
        }
    }

    #[test]
    fn expired_or_impossible_tokens_are_refused() {
        let past = Some(Timestamp(NOW.0 - 1));
        assert!(Token::received("token", "abc", past, NOW).is_err());
        assert!(Token::received("token", &jwt(r#"{"exp":1}"#), None, NOW).is_err());
        for text in ["", "a b", "a\nb", "a\0", "é", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(Token::received("token", text, None, NOW).is_err());
        }
        assert!(Token::received("token", &"x".repeat(MAX_TOKEN_BYTES), None, NOW).is_ok());
        // The year 292 million neither panics nor wraps around.
        let far = Token::received("token", &jwt(r#"{"exp":9e18}"#), None, NOW).unwrap();
        assert!(far.left(NOW) > 0);
    }
}
