//! A token with its life: when it was issued, when it expires, whose it is.
//!
//! When a token is fresh enough is `cache/policy.rs`'s business; this file only knows when it really
//! ends.

use std::fmt;

use crate::credential::jwt::Claims;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::time::{MINUTE, Timestamp};

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
        write!(f, "subject {}, ", redact(self.subject.as_deref().unwrap_or("unnamed")))?;
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
    fn without_an_expiry_the_jwt_tells_and_then_fifteen_minutes() {
        let token = Token::received("token", &jwt(r#"{"exp":1800000600}"#), None, NOW).unwrap();
        assert_eq!(minutes(&token), 10);
        for opaque in ["dapi0123", "a.b.c", &jwt("[1,2]"), &jwt(r#"{"exp":"soon","scope":[1]}"#)] {
            assert_eq!(minutes(&Token::received("token", opaque, None, NOW).unwrap()), 15);
        }
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
