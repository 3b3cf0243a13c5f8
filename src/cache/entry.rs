//! The text of a cache entry: lines of a name and a value.
//!
//! An entry repeats its key, carries a salted fingerprint of what authenticated it, so that a
//! different secret is a miss, and ends in a hash of the whole, so that a damaged entry is a miss.

use std::hash::{DefaultHasher, Hasher};

use ring::digest;

use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::platform::time::Timestamp;

/// The first line of every entry. An entry of another version is a miss.
const MAGIC: &str = "lakebase-token-cache 3";

const DAMAGED: &str = "it is damaged";
const OTHER_VERSION: &str = "another version wrote it";

/// Something that the cache can hold.
pub trait Cacheable: Sized {
    fn to_fields(&self) -> Vec<(&'static str, String)>;
    fn from_fields(fields: &Fields<'_>) -> Option<Self>;
    fn issued(&self) -> Timestamp;
    fn expires(&self) -> Option<Timestamp>;

    /// Full life in milliseconds, as its server counts it.
    fn lifetime(&self) -> i64;

    /// Whose it is, as far as it says so.
    fn subject(&self) -> Option<&str>;

    /// Whether it is this very token.
    fn is(&self, _token: &Secret) -> bool {
        false
    }

    /// Milliseconds of life left.
    fn left(&self, now: Timestamp) -> i64 {
        self.expires().map_or(i64::MAX, |expires| expires.since(now))
    }
}

impl Cacheable for Token {
    fn to_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = life_fields(self);
        fields.push(("text", self.secret.expose().to_owned()));
        fields
    }

    fn from_fields(fields: &Fields<'_>) -> Option<Token> {
        Some(Token {
            secret: Secret::new(fields.text("text")?),
            issued: fields.time("issued")?,
            expires: fields.time("expires"),
            lifetime: fields.number("lifetime")?,
            subject: fields.text("subject").map(str::to_owned),
        })
    }

    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    fn lifetime(&self) -> i64 {
        self.lifetime
    }

    fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    fn is(&self, token: &Secret) -> bool {
        self.secret == *token
    }
}

/// A text that had to be asked for, such as the host of an endpoint, and that is no secret.
#[derive(Clone, Debug)]
pub struct CachedText {
    pub text: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
    /// On whose behalf it was asked for.
    pub subject: Option<String>,
}

impl Cacheable for CachedText {
    fn to_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = life_fields(self);
        fields.push(("text", self.text.clone()));
        fields
    }

    fn from_fields(fields: &Fields<'_>) -> Option<CachedText> {
        Some(CachedText {
            text: fields.text("text")?.to_owned(),
            issued: fields.time("issued")?,
            expires: fields.time("expires")?,
            subject: fields.text("subject").map(str::to_owned),
        })
    }

    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.expires)
    }

    fn lifetime(&self) -> i64 {
        self.expires.since(self.issued)
    }

    fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
}

/// A token, or the knowledge that there is none to be had for a while.
#[derive(Clone, Debug)]
pub struct OptionalToken {
    pub secret: Option<Secret>,
    pub issued: Timestamp,
    pub expires: Option<Timestamp>,
    pub lifetime: i64,
}

impl From<Token> for OptionalToken {
    fn from(token: Token) -> OptionalToken {
        let Token { secret, issued, expires, lifetime, .. } = token;
        OptionalToken { secret: Some(secret), issued, expires, lifetime }
    }
}

impl Cacheable for OptionalToken {
    fn to_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = life_fields(self);
        if let Some(secret) = &self.secret {
            fields.push(("text", secret.expose().to_owned()));
        }
        fields
    }

    fn from_fields(fields: &Fields<'_>) -> Option<OptionalToken> {
        Some(OptionalToken {
            secret: fields.text("text").map(Secret::new),
            issued: fields.time("issued")?,
            expires: fields.time("expires"),
            lifetime: fields.number("lifetime")?,
        })
    }

    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    fn lifetime(&self) -> i64 {
        self.lifetime
    }

    fn subject(&self) -> Option<&str> {
        None
    }
}

fn life_fields(cached: &impl Cacheable) -> Vec<(&'static str, String)> {
    let mut fields = vec![("issued", cached.issued().0.to_string())];
    fields.extend(cached.expires().map(|expires| ("expires", expires.0.to_string())));
    fields.push(("lifetime", cached.lifetime().to_string()));
    fields.extend(cached.subject().map(|subject| ("subject", subject.to_owned())));
    fields
}

/// The values of an entry by their names.
pub struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    pub fn time(&self, name: &str) -> Option<Timestamp> {
        self.number(name).map(Timestamp)
    }
}

/// An entry's key, and the secret whose fingerprint it carries.
pub struct EntryKey<'a> {
    pub key: &'a str,
    /// What authenticated the entry, as far as it is at hand.
    pub secret: Option<&'a Secret>,
}

impl EntryKey<'_> {
    /// The text of an entry with these fields. The salt is new at each store.
    pub fn write(&self, fields: &[(&'static str, String)], salt: [u8; 8]) -> String {
        let mut text = format!("{MAGIC}\nkey {}\n", self.key);
        let salt = hex(&salt);
        if let Some(fingerprint) = self.fingerprint(&salt) {
            text.push_str(&format!("salt {salt}\nfingerprint {fingerprint}\n"));
        }
        for (name, value) in fields {
            text.push_str(&format!("{name} {value}\n"));
        }
        let tag = hash(&text);
        text.push_str(&format!("tag {tag}\n"));
        text
    }

    /// The fields of an entry; none where another secret authenticated it.
    pub fn read<'t>(
        &self,
        content: &'t [u8],
    ) -> std::result::Result<Option<Fields<'t>>, &'static str> {
        let text = std::str::from_utf8(content).map_err(|_| DAMAGED)?;
        let text = text.strip_suffix('\n').ok_or(DAMAGED)?;
        let last_line = text.rfind('\n').ok_or(DAMAGED)? + 1;
        let (tagged, tag) = text.split_at(last_line);
        if !tagged.starts_with(MAGIC) {
            return Err(OTHER_VERSION);
        }
        if tag.strip_prefix("tag ") != Some(hash(tagged).as_str()) {
            return Err(DAMAGED);
        }

        let head = [MAGIC, "\nkey ", self.key, "\n"].concat();
        let lines = tagged.strip_prefix(&head).ok_or("it is of another key")?;
        let fields: Option<Vec<(&str, &str)>> =
            lines.lines().map(|line| line.split_once(' ')).collect();
        let fields = Fields(fields.ok_or(OTHER_VERSION)?);

        // Not a fault: another user of the same home, or a secret that was replaced.
        let ours = self.fingerprint(fields.text("salt").unwrap_or_default());
        Ok((fields.text("fingerprint") == ours.as_deref()).then_some(fields))
    }

    /// A salted hash of the secret; it is never compared across salts.
    fn fingerprint(&self, salt: &str) -> Option<String> {
        let secret = self.secret?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(salt.as_bytes());
        context.update(secret.expose().as_bytes());
        Some(hex(&context.finish().as_ref()[..16]))
    }
}

/// Tells a damaged text from a whole one, and spreads names. It proves nothing against a program
/// that can write here: the file's owner and mode do.
pub fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_key(key: &str) -> EntryKey<'_> {
        EntryKey { key, secret: None }
    }

    fn token() -> Token {
        Token {
            secret: Secret::new("eyJ.a.b"),
            issued: Timestamp(1),
            expires: Some(Timestamp(2)),
            lifetime: 3,
            subject: Some("ada lovelace".to_owned()),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let text = entry_key("k").write(&token().to_fields(), [7; 8]);
        let fields = entry_key("k").read(text.as_bytes()).unwrap().unwrap();
        let read = Token::from_fields(&fields).unwrap();
        assert_eq!(read.secret, token().secret);
        assert_eq!(
            (read.issued, read.expires, read.lifetime),
            (Timestamp(1), Some(Timestamp(2)), 3)
        );
        assert_eq!(read.subject, token().subject);
    }

    /// Writes and reads what is cached.
    fn stored<T: Cacheable>(cached: &T) -> T {
        let text = entry_key("k").write(&cached.to_fields(), [7; 8]);
        T::from_fields(&entry_key("k").read(text.as_bytes()).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_cached_text_lives_from_its_issue_to_its_expiry() {
        let (issued, expires) = (Timestamp(10), Timestamp(50));
        let subject = Some("ada lovelace".to_owned());
        let read = stored(&CachedText { text: "a host".to_owned(), issued, expires, subject });
        assert_eq!(read.text, "a host");
        assert_eq!((read.issued(), read.expires(), read.lifetime()), (issued, Some(expires), 40));
        assert_eq!(read.subject(), Some("ada lovelace"));
        assert_eq!(read.left(Timestamp(20)), 30);
        let lines = read.to_fields();
        assert!(lines.contains(&("lifetime", "40".to_owned())), "{lines:?}");
    }

    #[test]
    fn an_optional_token_is_read_as_it_was_written() {
        for secret in [None, Some(Secret::new("eyJ.a.b"))] {
            let (issued, expires) = (Timestamp(1), Some(Timestamp(2)));
            let written = OptionalToken { secret: secret.clone(), issued, expires, lifetime: 3 };
            assert!(written.to_fields().iter().all(|(name, _)| *name != "subject"));
            let read = stored(&written);
            assert_eq!(read.secret, secret);
            assert_eq!((read.issued(), read.expires(), read.lifetime()), (issued, expires, 3));
            assert_eq!(read.subject(), None);
        }
    }

    #[test]
    fn only_a_token_can_be_the_one_that_was_refused() {
        let [same, other] = ["eyJ.a.b", "eyJ.a.c"].map(Secret::new);
        assert!(token().is(&same) && !token().is(&other));
        assert!(!OptionalToken::from(token()).is(&same));
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let text = entry_key("k").write(&token().to_fields(), [7; 8]);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(entry_key("k").read(&bytes).is_err(), "byte {at}");
            assert!(entry_key("k").read(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(entry_key("other").read(text.as_bytes()).err(), Some("it is of another key"));
    }

    #[test]
    fn another_secret_finds_nothing() {
        let [one, two] = ["one", "two"].map(Secret::new);
        let with = |secret| EntryKey { key: "k", secret };
        let text = with(Some(&one)).write(&token().to_fields(), [7; 8]);
        assert!(with(Some(&one)).read(text.as_bytes()).unwrap().is_some());
        assert!(with(Some(&two)).read(text.as_bytes()).unwrap().is_none());
        assert!(with(None).read(text.as_bytes()).unwrap().is_none());
    }
}
