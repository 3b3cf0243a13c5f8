//! What stands in an entry: lines of a name and a value.
//!
//! It repeats its key, carries a salted fingerprint of the static secret it was had with (another
//! secret finds nothing here) and ends in a hash of all of it.

use std::fmt::Write as _;
use std::time::Duration;

use ring::digest;

use super::PastFailure;
use crate::error::{Error, Kind};
use crate::file::{HEX, hex};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::token::Token;

/// First line of every entry; another one is another version's business.
const MAGIC: &str = "lakebase-token-cache 2";

/// A token as lines.
pub fn of_token(token: &Token) -> String {
    let mut body = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(body, "{name} {value}");
    };
    line("issued", &token.issued.0);
    if let Some(expires) = token.expires {
        line("expires", &expires.0);
    }
    line("lifetime", &token.lifetime);
    if let Some(subject) = &token.subject {
        line("subject", subject);
    }
    line("text", &token.secret.expose());
    body
}

/// A failure as lines.
pub fn of_failure(error: &Error, at: Timestamp) -> String {
    let Error { kind, message, because, hints, lacked, .. } = error;
    let lacked = lacked.map(|lacked| lacked.as_millis() as u64);
    let words = serde_json::json!([*kind as u8, message, because, hints, lacked]);
    format!("failed {}\nfailure {words}\n", at.0)
}

/// What tells an entry from all others, and a whole one from a damaged one.
pub struct Seal<'a> {
    /// The key.
    pub key: &'a str,
    /// The static secret that the identity authenticates with.
    pub secret: Option<&'a Secret>,
}

impl Seal<'_> {
    /// The text of an entry with these lines. The salt is new at each store.
    pub fn close(&self, body: &str, salt: [u8; 8]) -> String {
        let mut text = format!("{MAGIC}\nkey {}\n", self.key);
        let salt = hex(&salt);
        if let Some(fingerprint) = self.fingerprint(&salt) {
            let _ = writeln!(text, "salt {salt}\nfingerprint {fingerprint}");
        }
        text.push_str(body);
        let tag = hash(&text);
        let _ = writeln!(text, "tag {}", tag.as_str());
        text
    }

    /// The fields of an entry; none where it was had with another secret.
    pub fn open<'t>(
        &self,
        content: &'t [u8],
    ) -> std::result::Result<Option<Fields<'t>>, &'static str> {
        const TORN: &str = "it is damaged";
        let text = std::str::from_utf8(content).map_err(|_| TORN)?;
        // The tag has one length, so it is found from the end.
        let (body, last) = text.split_at_checked(text.len().wrapping_sub(TAG_LINE)).ok_or(TORN)?;
        let tag = last.strip_prefix("tag ").and_then(|last| last.strip_suffix('\n'));
        let Some(body) = body.strip_prefix(MAGIC) else { return Err("another version wrote it") };
        if tag != Some(hash(&text[..MAGIC.len() + body.len()]).as_str()) {
            return Err(TORN);
        }
        let key = body.strip_prefix("\nkey ").and_then(|key| key.strip_prefix(self.key));
        let mut rest =
            key.and_then(|rest| rest.strip_prefix('\n')).ok_or("it is of another key")?;
        let mut fields = Fields::default();
        while let Some((name, after)) = rest.split_once(' ') {
            let value;
            (value, rest) = match name {
                // The last one, and so long that nobody need look for its end.
                "text" => (after.strip_suffix('\n').ok_or(TORN)?, ""),
                _ => after.split_once('\n').ok_or(TORN)?,
            };
            *fields.place(name).ok_or("another version wrote it")? = Some(value);
        }
        // Not a fault: somebody else's credential, or a secret that was replaced.
        let ours = self.fingerprint(fields.salt.unwrap_or_default());
        Ok((fields.fingerprint == ours.as_deref()).then_some(fields))
    }

    /// A salted hash of the static secret; it is never compared across salts.
    fn fingerprint(&self, salt: &str) -> Option<String> {
        let secret = self.secret?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(salt.as_bytes());
        context.update(secret.expose().as_bytes());
        Some(hex(&context.finish().as_ref()[..16]))
    }
}

/// Tells a damaged text from a whole one, and spreads names; it proves nothing against whoever can
/// write here (the file's owner and mode do) and is kept simple, since SHA-256 over a token would
/// cost more instructions than the rest of a cached call. Each step is one that can be undone, so
/// no single change goes unnoticed. It is FxHash, of Firefox and rustc, but for the shift in place
/// of a rotation, with which one letter could undo what another had changed.
pub fn hash(text: &str) -> Hash {
    const SEED: u64 = 0x517c_c1b7_2722_0a95;
    let step = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(SEED);
        hash ^ hash >> 29
    };
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let hash =
        words.iter().fold(text.len() as u64, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)));
    Hash(std::array::from_fn(|n| HEX[(hash >> (60 - 4 * n) & 15) as usize]))
}

/// A hash in hexadecimal.
pub struct Hash([u8; 16]);

impl Hash {
    /// Its digits.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// `tag`, 8 bytes in hexadecimal, a blank and the newline.
const TAG_LINE: usize = 4 + 16 + 1;

/// The lines of an entry.
#[derive(Default)]
pub struct Fields<'a> {
    salt: Option<&'a str>,
    fingerprint: Option<&'a str>,
    issued: Option<&'a str>,
    expires: Option<&'a str>,
    lifetime: Option<&'a str>,
    subject: Option<&'a str>,
    text: Option<&'a str>,
    failed: Option<&'a str>,
    failure: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn place(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "salt" => &mut self.salt,
            "fingerprint" => &mut self.fingerprint,
            "issued" => &mut self.issued,
            "expires" => &mut self.expires,
            "lifetime" => &mut self.lifetime,
            "subject" => &mut self.subject,
            "text" => &mut self.text,
            "failed" => &mut self.failed,
            "failure" => &mut self.failure,
            _ => return None,
        })
    }

    /// The token in it.
    pub fn token(&self) -> Option<Token> {
        let expires = match self.expires {
            Some(text) => Some(Timestamp(text.parse().ok()?)),
            None => None,
        };
        Some(Token {
            secret: Secret::new(self.text?),
            issued: Timestamp(self.issued?.parse().ok()?),
            expires,
            lifetime: self.lifetime?.parse().ok()?,
            subject: self.subject.map(str::to_owned),
        })
    }

    /// The failure in it.
    pub fn failure(&self) -> Option<PastFailure> {
        let at = Timestamp(self.failed?.parse().ok()?);
        let words: serde_json::Value = serde_json::from_str(self.failure?).ok()?;
        let kind = Kind::from_code(words[0].as_u64()?.try_into().ok()?)?;
        let list = |value: &serde_json::Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let message = words[1].as_str()?.to_owned();
        let (because, hints) = (list(&words[2]), list(&words[3]));
        let lacked = words[4].as_u64().map(Duration::from_millis);
        let error = Error { kind, message, because, hints, remembered: true, lacked, exit: None };
        Some(PastFailure { at, error })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_differ_in_two_letters_have_two_hashes() {
        let key = "42:https://adb-1234567890123456.7.example.com,0:,0:,9:oauth-m2m,36:\
                   8f2c1d04-0000-4000-8000-1234567890ab,0:,8:database,17:instance pg-00,0:,";
        for (first, distance) in (0..key.len()).flat_map(|at| (1..=17).map(move |far| (at, far))) {
            let mut text = key.as_bytes().to_vec();
            let mut seen = HashSet::new();
            for (a, b) in (b'0'..=b'9').flat_map(|a| (b'0'..=b'9').map(move |b| (a, b))) {
                let Some(second) = text.get_mut(first + distance) else { break };
                *second = b;
                text[first] = a;
                assert!(seen.insert(hash(str::from_utf8(&text).unwrap()).0), "{first} {distance}");
            }
        }
    }
}
