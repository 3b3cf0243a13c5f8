//! One private file for each thing that is cached, and a lock file beside it.
//!
//! What an entry is for makes its name: a hash of workspace, auth type, identity and scopes, then
//! a hash of all that and of purpose, target and lifetime. So entries of one identity share a
//! prefix and can be dropped together. The entry repeats its key, carries a salted fingerprint of
//! the static secret it was had with (another secret finds nothing here) and ends in a tag over
//! all of it.
//! Anything odd about it is a note and a miss, never an error: a cache must not stop a
//! credential. A recent failure is remembered in the same file.
//!
//! When an entry is fresh enough is decided in `freshness.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest;

use crate::error::{Error, Kind};
use crate::file::{self, Found, Lock, hex};
use crate::secret::Secret;
use crate::time::{DAY, Timestamp};
use crate::token::{MAX_TOKEN, Token};
use crate::world::World;

/// First line of every entry; another one is another version's business.
const MAGIC: &str = "lakebase-token-cache 1";

/// No entry is larger: a token and a failure's words.
const MAX_ENTRY: usize = MAX_TOKEN + 16 * 1024;

/// An entry from further ahead than this was written before the clock was set back.
const MAX_AHEAD: i64 = 60 * 1000;

/// Entries dead for a day that one store removes at the most.
const SWEEP: usize = 32;

/// The entries of one identity at one workspace.
pub struct Cache<'a> {
    world: &'a World,
    folder: Option<&'a Path>,
    identity: digest::Context,
    prefix: String,
    secret: Option<&'a Secret>,
}

impl<'a> Cache<'a> {
    /// `folder` is none where nothing is to be cached, `identity` is everything that tells one
    /// identity from another, `secret` the static secret it authenticates with.
    pub fn new(
        world: &'a World,
        folder: Option<&'a Path>,
        identity: &[&str],
        secret: Option<&'a Secret>,
    ) -> Cache<'a> {
        let mut context = digest::Context::new(&digest::SHA256);
        feed(&mut context, identity);
        let prefix = hex(&context.clone().finish().as_ref()[..16]);
        Cache { world, folder, identity: context, prefix, secret }
    }

    /// The place of one entry.
    pub fn slot(&self, parts: &[&str]) -> Slot<'_> {
        let mut context = self.identity.clone();
        feed(&mut context, parts);
        let digest = context.finish();
        let key = hex(&digest.as_ref()[..16]);
        let name = [&self.prefix, "-", &key].concat();
        Slot { cache: self, name, digest, key }
    }

    /// Drops all entries of this identity but one.
    fn drop_all_but(&self, keep: &Slot<'_>) {
        let Some(entries) = self.folder.and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(&self.prefix) && !name.ends_with(LOCK) && name != keep.name {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The end of a lock file's name.
const LOCK: &str = ".lock";

/// The place of one entry.
pub struct Slot<'a> {
    cache: &'a Cache<'a>,
    name: String,
    digest: digest::Digest,
    key: String,
}

/// What stands in a slot.
#[derive(Debug, Default)]
pub struct Seen {
    /// The last token, perhaps dead.
    pub token: Option<Token>,
    /// The last failure, perhaps long ago.
    pub failure: Option<Failure>,
}

/// A failure and when it was.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// What.
    pub error: Error,
}

impl Slot<'_> {
    /// Reads the entry, without a lock.
    pub fn look(&self) -> Seen {
        let Some(folder) = self.cache.folder else { return Seen::default() };
        let path = folder.join(&self.name);
        let reason = match file::read_private(&path, MAX_ENTRY) {
            Found::Nothing => return Seen::default(),
            Found::Unsafe(reason) => reason,
            Found::Content(content) => match self.parse(&content) {
                Ok(seen) => return seen,
                Err(reason) => reason,
            },
        };
        self.cache.world.note(&format!("{} is not used: {reason}", path.display()));
        Seen::default()
    }

    /// Writes the entry; where that is impossible, nothing is cached and nothing is said.
    pub fn store(&self, seen: &Seen) {
        let Some(folder) = self.cache.folder else { return };
        let world = self.cache.world;
        let (Ok(salt), Ok(random)) = (world.random::<12>(), world.random::<8>()) else { return };
        let content = self.render(seen, &salt);
        // The file's time is the entry's end, so that a sweep need not read entries.
        let ends = seen.token.as_ref().and_then(|token| token.expires);
        let ends = ends.unwrap_or_else(|| world.now());
        if file::private_folder(folder).is_ok()
            && file::replace(folder, &self.name, content.as_bytes(), ends, random).is_ok()
        {
            self.sweep();
        }
    }

    /// Drops what this identity has beside this entry if it was of another subject: somebody
    /// else has logged in.
    pub fn drop_strangers(&self, subject: Option<&str>) {
        let former = self.look().token.and_then(|token| token.subject);
        if former.is_some() && subject.is_some() && former.as_deref() != subject {
            self.cache.drop_all_but(self);
        }
    }

    /// Removes the entry.
    pub fn forget(&self) {
        if let Some(folder) = self.cache.folder {
            let _ = fs::remove_file(folder.join(&self.name));
        }
    }

    /// Opens the entry's lock file; none where there can be no file.
    pub fn lock_file(&self) -> Option<Lock> {
        let folder = self.cache.folder?;
        file::private_folder(folder).ok()?;
        file::lock_file(&folder.join(format!("{}{LOCK}", self.name))).ok()
    }

    fn render(&self, seen: &Seen, salt: &Salt) -> String {
        let mut text = format!("{MAGIC}\nkey {}\n", self.key);
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name} {value}");
        };
        if let Some(fingerprint) = self.fingerprint(salt) {
            line("fingerprint", &fingerprint);
        }
        if let Some(token) = &seen.token {
            line("issued", &token.issued.0);
            if let Some(expires) = token.expires {
                line("expires", &expires.0);
            }
            line("lifetime", &token.lifetime);
            if let Some(subject) = &token.subject {
                line("subject", subject);
            }
            line("text", &token.secret.expose());
        }
        if let Some(failure) = &seen.failure {
            let Error { kind, message, because, hints } = &failure.error;
            let words = serde_json::json!([*kind as u8, message, because, hints]);
            line("failed", &failure.at.0);
            line("failure", &words);
        }
        let tag = self.tag(salt, &text);
        let _ = writeln!(text, "tag {} {tag}", hex(salt));
        text
    }

    fn parse(&self, content: &[u8]) -> std::result::Result<Seen, &'static str> {
        const TORN: &str = "it is damaged";
        let text = std::str::from_utf8(content).map_err(|_| TORN)?;
        // The tag has one length, so it is found from the end.
        let (body, last) = text.split_at_checked(text.len().wrapping_sub(TAG_LINE)).ok_or(TORN)?;
        let last = last.strip_prefix("tag ").and_then(|last| last.strip_suffix('\n'));
        let (salt, tag) = last.and_then(|last| last.split_once(' ')).ok_or(TORN)?;
        let salt = unhex(salt).ok_or(TORN)?;
        if !body.starts_with(MAGIC) {
            return Err("another version wrote it");
        }
        if tag != self.tag(&salt, body) {
            return Err(TORN);
        }
        let mut fields = Fields::default();
        for line in body.lines().skip(1) {
            let (name, value) = line.split_once(' ').ok_or(TORN)?;
            *fields.place(name).ok_or("another version wrote it")? = Some(value);
        }
        if fields.key != Some(&self.key) {
            return Err("it is of another key");
        }
        // Not a fault: somebody else's credential, or a secret that was replaced.
        if fields.fingerprint != self.fingerprint(&salt).as_deref() {
            return Ok(Seen::default());
        }
        let token = fields.token();
        let now = self.cache.world.now();
        if token.as_ref().is_some_and(|token| token.issued.since(now) > MAX_AHEAD) {
            return Err("it was issued in the future");
        }
        Ok(Seen { token, failure: fields.failure().filter(|failure| failure.at <= now) })
    }

    /// A salted hash of the static secret; it is never compared across salts.
    fn fingerprint(&self, salt: &Salt) -> Option<String> {
        let secret = self.cache.secret?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(salt);
        context.update(secret.expose().as_bytes());
        Some(hex(&context.finish().as_ref()[..16]))
    }

    /// A Poly1305 tag under the entry's key: SHA-256 over a token costs more instructions than
    /// all else on the cached path where the processor has none for it.
    fn tag(&self, salt: &Salt, text: &str) -> String {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.digest.as_ref()).map(LessSafeKey::new);
        let nonce = Nonce::assume_unique_for_key(*salt);
        let tag = key.and_then(|key| {
            key.seal_in_place_separate_tag(nonce, Aad::from(text.as_bytes()), &mut [])
        });
        tag.map_or(String::new(), |tag| hex(tag.as_ref()))
    }

    /// Removes some entries that died a day ago or more, and what killed processes left.
    fn sweep(&self) {
        let Some(entries) = self.cache.folder.and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        let before = self.cache.world.now().plus(-DAY);
        let dead = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| !name.ends_with(LOCK) && is_ours(name));
            let ended = |meta: fs::Metadata| {
                let time = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
                Some(Timestamp(time.as_millis().try_into().ok()?))
            };
            ours && entry.metadata().ok().and_then(ended).is_some_and(|ended| ended < before)
        };
        for entry in entries.flatten().filter(dead).take(SWEEP) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a name can be an entry or a temporary file of ours: the folder may be shared.
fn is_ours(name: &str) -> bool {
    let hex =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    match name.strip_prefix('.') {
        Some(random) => hex(random, 16),
        None => name.split_once('-').is_some_and(|(a, b)| hex(a, 32) && hex(b, 32)),
    }
}

/// Length-prefixed, so that no two lists of parts look alike.
fn feed(context: &mut digest::Context, parts: &[&str]) {
    for part in parts {
        context.update(&(part.len() as u32).to_le_bytes());
        context.update(part.as_bytes());
    }
}

/// What each entry's fingerprint and tag are made with, new at each store.
type Salt = [u8; 12];

/// `tag`, the salt and 16 bytes in hexadecimal, blanks and the newline.
const TAG_LINE: usize = 4 + 24 + 1 + 32 + 1;

fn unhex(text: &str) -> Option<Salt> {
    let mut salt = Salt::default();
    for (byte, digits) in salt.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(salt)
}

#[derive(Default)]
struct Fields<'a> {
    key: Option<&'a str>,
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
            "key" => &mut self.key,
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

    fn token(&self) -> Option<Token> {
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

    fn failure(&self) -> Option<Failure> {
        let at = Timestamp(self.failed?.parse().ok()?);
        let words: serde_json::Value = serde_json::from_str(self.failure?).ok()?;
        let kind = Kind::from_code(words[0].as_u64()?.try_into().ok()?)?;
        let list = |value: &serde_json::Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let message = words[1].as_str()?.to_owned();
        let error = Error { kind, message, because: list(&words[2]), hints: list(&words[3]) };
        Some(Failure { at, error })
    }
}
