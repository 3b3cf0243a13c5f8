//! One private file for each thing that is cached, and a lock file beside it.
//!
//! What an entry is for is its key: workspace, auth type, identity and scopes, then purpose, target
//! and lifetime. The entry holds it, word for word, and is nobody else's; its name only has to
//! find it: a hash of the first part of the key, then one of all of it. So entries of one identity
//! share a prefix and can be dropped together. Anything odd about an entry is a note and a miss,
//! never an error: a cache must not stop a credential. A recent failure is remembered beside it, in
//! a file of the same kind, for whoever is in the same circumstances: others may have more luck.
//!
//! What stands in an entry is `cache/entry.rs`'s business, when it is fresh enough
//! `freshness.rs`'s.

mod entry;

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::file::{self, Found, Lock};
use crate::http::WAYS;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::time::{DAY, MINUTE, Timestamp};
use crate::token::{MAX_TOKEN, Token};
use crate::world::World;
use entry::{Fields, Hash, Seal, hash};

/// No entry is larger: a token and a failure's words.
const MAX_ENTRY: usize = MAX_TOKEN + 16 * 1024;

/// An entry from further ahead than this was written before the clock was set back.
const MAX_AHEAD: i64 = MINUTE;

/// Entries dead for a day that one store removes at the most.
const SWEEP: usize = 32;

/// The entries of one identity at one workspace.
pub struct Cache<'a> {
    world: &'a World,
    folder: Option<&'a Path>,
    /// What stands before each key.
    identity: String,
    prefix: Hash,
    secret: Option<Secret>,
    settings: &'a Settings,
    ways: &'a [&'a str],
    // Asked for only where something fails or is waited for, and then often.
    circumstances: OnceCell<Hash>,
}

impl<'a> Cache<'a> {
    /// `folder` is none where nothing is to be cached, `identity` is everything that tells one
    /// identity from another, `secret` what it authenticates with as far as that is at hand, `settings` what all
    /// this comes from, and `ways` are the variables that decide how it gets where it asks, beside
    /// those of every request.
    pub fn new(
        world: &'a World,
        folder: Option<&'a Path>,
        identity: &[&str],
        secret: Option<Secret>,
        settings: &'a Settings,
        ways: &'a [&'a str],
    ) -> Cache<'a> {
        let identity = with_parts("", identity);
        let prefix = hash(&identity);
        let circumstances = OnceCell::new();
        Cache { world, folder, identity, prefix, secret, settings, ways, circumstances }
    }

    /// The place of one entry.
    pub fn slot(&self, parts: &[&str]) -> Slot<'_> {
        let key = with_parts(&self.identity, parts);
        let name = [self.prefix.as_str(), "-", hash(&key).as_str()].concat();
        Slot { cache: self, name, key }
    }

    /// What another's failure must have had in common with us to be ours, too: the way to a server
    /// or to another program, and where settings come from, which its words name.
    fn circumstances(&self) -> &str {
        self.circumstances.get_or_init(|| self.look_around()).as_str()
    }

    fn look_around(&self) -> Hash {
        let way = |name: &&str| {
            let value = self.world.var(name).unwrap_or_default().to_string_lossy();
            // Without what may be a proxy's password.
            value.rsplit('@').next().unwrap_or_default().to_owned()
        };
        let origins = self.settings.origins().map(|(row, origin)| format!("{}{origin}", row.name));
        let all: Vec<_> = WAYS.iter().chain(self.ways).map(way).chain(origins).collect();
        hash(&with_parts("", &all.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Drops all entries of this identity, or all but one.
    pub fn drop_all_but(&self, keep: Option<&Slot<'_>>) {
        let Some(entries) = self.folder.and_then(|folder| fs::read_dir(folder).ok()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kept = name.ends_with(LOCK) || keep.is_some_and(|keep| keep.name == name);
            if name.starts_with(self.prefix.as_str()) && !kept {
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

    /// Reads what went wrong last in our circumstances, perhaps long ago.
    pub fn failure(&self) -> Option<PastFailure> {
        self.failure_in(&self.failure_name())
    }

    /// The same in any.
    pub fn last_failure(&self) -> Option<PastFailure> {
        let entries = fs::read_dir(self.cache.folder?).ok()?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let failures = names.filter(|name| self.is_failure(name));
        failures.filter_map(|name| self.failure_in(&name)).max_by_key(|failure| failure.at)
    }

    fn failure_in(&self, name: &str) -> Option<PastFailure> {
        let failure = self.read(name, |fields| fields.failure())?;
        (failure.at <= self.cache.world.now()).then_some(failure)
    }

    /// Writes the token; where that is impossible, nothing is cached and nothing is said.
    pub fn store(&self, token: &Token) {
        let body = entry::of_token(token);
        // The file's time is the entry's end, so that a sweep need not read entries.
        let ends = token.expires.unwrap_or_else(|| self.cache.world.now());
        if self.write(&self.name, &body, ends) {
            self.sweep();
        }
    }

    /// Writes down what went wrong, in a file of its own: the failure of whoever has a wrong
    /// secret must not cost others the token.
    pub fn remember(&self, error: &Error) {
        let now = self.cache.world.now();
        let body = entry::of_failure(error, now);
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
            self.cache.drop_all_but(Some(self));
        }
    }

    /// Opens the entry's lock file; none where there can be no file.
    pub fn lock_file(&self) -> Option<Lock> {
        let folder = self.cache.folder?;
        file::private_folder(folder).ok()?;
        file::lock_file(&folder.join(format!("{}{LOCK}", self.name))).ok()
    }

    fn failure_name(&self) -> String {
        [&self.name, "-", self.cache.circumstances(), FAILURE].concat()
    }

    /// Whether a file of this name is a failure of this entry's, in whatever circumstances.
    fn is_failure(&self, name: &str) -> bool {
        name.starts_with(&self.name) && name.ends_with(FAILURE)
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

    fn seal(&self) -> Seal<'_> {
        Seal { key: &self.key, secret: self.cache.secret.as_ref() }
    }

    fn read<T>(&self, name: &str, take: impl FnOnce(&Fields<'_>) -> Option<T>) -> Option<T> {
        let path = self.cache.folder?.join(name);
        let reason = match file::read_private(&path, MAX_ENTRY) {
            Found::Nothing => return None,
            Found::Unsafe(reason) => reason,
            Found::Content(content) => match self.seal().open(&content) {
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
        let (Ok(salt), Ok(random)) = (world.random::<8>(), world.random::<8>()) else {
            return false;
        };
        let text = self.seal().close(body, salt);
        file::private_folder(folder).is_ok()
            && file::replace(folder, name, text.as_bytes(), ends, random).is_ok()
    }

    /// Removes the failures of this entry, some entries that died a day ago or more, and what killed
    /// processes left.
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
        let failed = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| self.is_failure(name))
        };
        let mut left = SWEEP;
        for entry in entries.flatten() {
            let swept = left > 0 && dead(&entry);
            left -= usize::from(swept);
            if swept || failed(&entry) {
                let _ = fs::remove_file(entry.path());
            }
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
            let (name, parts) = match name.strip_suffix(FAILURE) {
                Some(name) => (name, 3),
                None => (name, 2),
            };
            name.split('-').count() == parts && name.split('-').all(|part| hex(part, 16))
        }
    }
}

/// A key that goes on with these parts, as netstrings (<https://cr.yp.to/proto/netstrings.txt>), so
/// that no two lists of parts look alike.
fn with_parts(start: &str, parts: &[&str]) -> String {
    let room: usize = parts.iter().map(|part| part.len() + "99:,".len()).sum();
    let mut key = String::with_capacity(start.len() + room);
    key.push_str(start);
    for part in parts {
        push_number(&mut key, part.len());
        key.push(':');
        key.push_str(part);
        key.push(',');
    }
    key
}

fn push_number(text: &mut String, number: usize) {
    if number > 9 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}
