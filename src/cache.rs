//! One private file for each thing that is cached, and a lock file beside it.
//!
//! What an entry is for makes its name: a hash of workspace, auth type, identity and scopes, then
//! a hash of all that and of purpose, target and lifetime. So entries of one identity share a
//! prefix and can be dropped together. The entry repeats its key, carries a salted fingerprint of
//! the static secret it was had with (another secret finds nothing here) and ends in a tag over
//! all of it. Anything odd about it is a note and a miss, never an error: a cache must not stop
//! a credential. A recent failure is remembered beside it, in a file of the same kind.
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

/// The end of the name of a remembered failure.
const FAILURE: &str = ".failure";

/// The place of one entry.
pub struct Slot<'a> {
    cache: &'a Cache<'a>,
    name: String,
    digest: digest::Digest,
    key: String,
}

/// A failure and when it was.
#[derive(Clone, Debug)]
pub struct PastFailure {
    /// When.
    pub at: Timestamp,
    /// What.
    pub error: Error,
}

impl Slot<'_> {
    /// Reads the entry's token, perhaps a dead one, without a lock.
    pub fn look(&self) -> Option<Token> {
        let token = self.read(&self.name, |fields| fields.token())?;
        if token.issued.since(self.cache.world.now()) > MAX_AHEAD {
            self.complain(&self.name, "it was issued in the future");
            return None;
        }
        Some(token)
    }

    /// Reads what went wrong last, perhaps long ago.
    pub fn failure(&self) -> Option<PastFailure> {
        let failure = self.read(&self.failure_name(), |fields| fields.failure())?;
        (failure.at <= self.cache.world.now()).then_some(failure)
    }

    /// Writes the token; where that is impossible, nothing is cached and nothing is said.
    pub fn store(&self, token: &Token) {
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
        // The file's time is the entry's end, so that a sweep need not read entries.
        let ends = token.expires.unwrap_or_else(|| self.cache.world.now());
        if self.write(&self.name, &body, ends) {
            self.remove(&self.failure_name());
            self.sweep();
        }
    }

    /// Writes down what went wrong, in a file of its own: the failure of whoever has a wrong
    /// secret must not cost others the token.
    pub fn remember(&self, error: &Error) {
        let Error { kind, message, because, hints, .. } = error;
        let now = self.cache.world.now();
        let words = serde_json::json!([*kind as u8, message, because, hints]);
        let body = format!("failed {}\nfailure {words}\n", now.0);
        self.write(&self.failure_name(), &body, now);
    }

    /// Removes the entry.
    pub fn forget(&self) {
        self.remove(&self.name);
    }

    /// Drops what this identity has beside this entry if it was of another subject: somebody
    /// else has logged in.
    pub fn drop_strangers(&self, subject: Option<&str>) {
        let former = self.look().and_then(|token| token.subject);
        if former.is_some() && subject.is_some() && former.as_deref() != subject {
            self.cache.drop_all_but(self);
        }
    }

    /// Opens the entry's lock file; none where there can be no file.
    pub fn lock_file(&self) -> Option<Lock> {
        let folder = self.cache.folder?;
        file::private_folder(folder).ok()?;
        file::lock_file(&folder.join(format!("{}{LOCK}", self.name))).ok()
    }

    fn failure_name(&self) -> String {
        [&self.name, FAILURE].concat()
    }

    fn remove(&self, name: &str) {
        if let Some(folder) = self.cache.folder {
            let _ = fs::remove_file(folder.join(name));
        }
    }

    fn complain(&self, name: &str, reason: &str) {
        let path = self.cache.folder.unwrap_or(Path::new("")).join(name);
        self.cache.world.note(&format!("{} is not used: {reason}", path.display()));
    }

    fn read<T>(&self, name: &str, take: impl FnOnce(&Fields<'_>) -> Option<T>) -> Option<T> {
        let path = self.cache.folder?.join(name);
        let reason = match file::read_private(&path, MAX_ENTRY) {
            Found::Nothing => return None,
            Found::Unsafe(reason) => reason,
            Found::Content(content) => match self.parse(&content) {
                Ok(fields) => return take(&fields?),
                Err(reason) => reason,
            },
        };
        self.complain(name, reason);
        None
    }

    fn write(&self, name: &str, body: &str, ends: Timestamp) -> bool {
        let Some(folder) = self.cache.folder else { return false };
        let world = self.cache.world;
        let (Ok(salt), Ok(random)) = (world.random::<12>(), world.random::<8>()) else {
            return false;
        };
        let mut text = format!("{MAGIC}\nkey {}\n", self.key);
        if let Some(fingerprint) = self.fingerprint(&salt) {
            let _ = writeln!(text, "fingerprint {fingerprint}");
        }
        text.push_str(body);
        let tag = self.checksum(&salt, &text);
        let _ = writeln!(text, "tag {} {tag}", hex(&salt));
        file::private_folder(folder).is_ok()
            && file::replace(folder, name, text.as_bytes(), ends, random).is_ok()
    }

    /// The fields of an entry; none where it was had with another secret.
    fn parse<'t>(
        &self,
        content: &'t [u8],
    ) -> std::result::Result<Option<Fields<'t>>, &'static str> {
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
        if tag != self.checksum(&salt, body) {
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
        let ours = fields.fingerprint == self.fingerprint(&salt).as_deref();
        Ok(ours.then_some(fields))
    }

    /// A salted hash of the static secret; it is never compared across salts.
    fn fingerprint(&self, salt: &Salt) -> Option<String> {
        let secret = self.cache.secret?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(salt);
        context.update(secret.expose().as_bytes());
        Some(hex(&context.finish().as_ref()[..16]))
    }

    /// Tells a damaged entry from a whole one, and one entry from another; it proves nothing
    /// against whoever can write here (the file's owner and mode do). It is Poly1305, since
    /// SHA-256 over a token would cost more instructions than the rest of a cached call.
    fn checksum(&self, salt: &Salt, text: &str) -> String {
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
        None => {
            let name = name.strip_suffix(FAILURE).unwrap_or(name);
            name.split_once('-').is_some_and(|(a, b)| hex(a, 32) && hex(b, 32))
        }
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

    fn failure(&self) -> Option<PastFailure> {
        let at = Timestamp(self.failed?.parse().ok()?);
        let words: serde_json::Value = serde_json::from_str(self.failure?).ok()?;
        let kind = Kind::from_code(words[0].as_u64()?.try_into().ok()?)?;
        let list = |value: &serde_json::Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let message = words[1].as_str()?.to_owned();
        let (because, hints) = (list(&words[2]), list(&words[3]));
        let error = Error { kind, message, because, hints, remembered: true, exit: None };
        Some(PastFailure { at, error })
    }
}
