//! The cache folder: one private file for each thing that is cached, and a lock file beside it.
//!
//! What an entry is for is its key: workspace, auth type, identity and scopes, then purpose, target
//! and lifetime. The entry repeats the key word for word; its name only has to find it: a hash of
//! the part of the key that names the identity, then one of the whole key. So entries of one identity
//! share a prefix and can be evicted together. Anything odd about an entry is a note and a miss,
//! never an error: a cache must not stop a credential.
//!
//! `entry.rs` has what an entry says, `freshness.rs` when it is fresh enough.

use std::cell::{OnceCell, RefCell};
use std::ffi::OsStr;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::cache::entry::{Cacheable, EntryKey, Fields, hash};
use crate::config::settings::Settings;
use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::MAX_TOKEN_BYTES;
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::lock::LockFile;
use crate::platform::private_file::{self, PrivateRead, Replacement};
use crate::platform::time::{DAY, MINUTE, Timestamp};

/// The largest file that is read: room for a token, or for the text of an error.
const MAX_ENTRY_BYTES: usize = MAX_TOKEN_BYTES + 16 * 1024;

/// How far in the future `issued` may lie; a later one means that the clock was set back.
const MAX_AHEAD_MS: i64 = MINUTE;

/// The most expired entries that one store removes.
const MAX_SWEPT: usize = 32;

/// The end of a lock file's name.
const LOCK: &str = ".lock";

/// The end of the name of a cached failure.
pub const FAILURE: &str = ".failure";

/// What the cache of one call works with.
pub struct CacheInputs<'a> {
    pub context: &'a Context,
    /// None where nothing is cached.
    pub folder: Option<&'a Path>,
    /// What the identity authenticates with, as far as it is at hand.
    pub secret: Option<Secret>,
    pub settings: &'a Settings,
    /// The files that change when a user logs in.
    pub login_files: fn(&Settings, &Context) -> Vec<PathBuf>,
    /// Variables that decide how a provider reaches what it asks, beside those of every request.
    pub route_variables: &'a [&'a str],
}

/// The entries of one identity at one workspace.
pub struct CacheFolder<'a> {
    pub(super) cache: CacheInputs<'a>,
    identity: String,
    prefix: String,
    pub(super) failure_inputs: OnceCell<String>,
    /// What could not be stored in the folder, by the name of the entry. So this call requests it only
    /// once all the same.
    in_memory: RefCell<Vec<(String, Secret)>>,
    /// Why something could not be stored.
    problem: RefCell<Option<String>>,
}

/// One entry of the folder, whether it exists or not.
pub struct Slot<'a, T> {
    pub(super) folder: &'a CacheFolder<'a>,
    pub(super) name: String,
    key: String,
    holds: PhantomData<T>,
}

impl<'a> CacheFolder<'a> {
    /// `identity` is everything that tells one identity from another.
    pub fn new(identity: &[&str], cache: CacheInputs<'a>) -> CacheFolder<'a> {
        let identity = with_parts("", identity);
        let prefix = hash(&identity);
        CacheFolder {
            cache,
            identity,
            prefix,
            failure_inputs: OnceCell::new(),
            in_memory: RefCell::default(),
            problem: RefCell::default(),
        }
    }

    pub fn slot<T: Cacheable>(&self, parts: &[&str]) -> Slot<'_, T> {
        let key = with_parts(&self.identity, parts);
        let name = [self.prefix.as_str(), "-", &hash(&key)].concat();
        Slot { folder: self, name, key, holds: PhantomData }
    }

    /// Why something could not be stored in this call.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Stores and removes a file that means nothing. Returns why that fails.
    pub fn try_to_store(&self) -> Option<String> {
        let (folder, context) = (self.cache.folder?, self.cache.context);
        let random = context.random::<8>().ok()?;
        let name = format!(".{}", hex(&random));
        let how = Replacement { temporary: format!("{name}.new").into(), ..Replacement::default() };
        let stored = private_file::private_folder(folder).and_then(|folder| {
            private_file::replace(&folder, OsStr::new(&name), b"usable", &how)?;
            folder.remove(OsStr::new(&name))
        });
        stored.err().map(|why| why.to_string())
    }

    /// Evicts all entries of this identity, or all but one.
    pub fn evict_all_but(&self, kept: Option<&str>) {
        self.in_memory.borrow_mut().retain(|(name, _)| kept == Some(name));
        let Some(folder) = self.cache.folder else { return };
        for path in files::list(folder) {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let is_kept = name.ends_with(LOCK) || kept == Some(name);
            if name.starts_with(&self.prefix) && !is_kept {
                let _ = files::remove(&path);
            }
        }
    }
}

impl<T: Cacheable> Slot<'_, T> {
    /// Reads the entry, perhaps an expired one, without a lock.
    pub fn load(&self) -> Option<T> {
        let cached = self
            .read(&self.name, T::from_fields)
            .or_else(|| self.read_from_memory(T::from_fields))?;
        if cached.issued().since(self.context().now()) > MAX_AHEAD_MS {
            self.note_unusable(&self.name, "it was issued in the future");
            return None;
        }
        Some(cached)
    }

    /// Writes the entry; where that is impossible, it is kept for this call only.
    pub fn store(&self, cached: &T) {
        // The file's time is the entry's end, so that a sweep need not read entries.
        let ends = cached.expires().unwrap_or_else(|| self.context().now());
        let fields = cached.to_fields();
        if self.write(&self.name, &fields, ends) {
            self.sweep();
        } else if let Ok(salt) = self.context().random::<8>() {
            let text = Secret::new(self.entry_key().write(&fields, salt));
            let mut in_memory = self.folder.in_memory.borrow_mut();
            in_memory.retain(|(name, _)| *name != self.name);
            in_memory.push((self.name.clone(), text));
        }
    }

    /// What this call could not write.
    fn read_from_memory<R>(&self, take: impl FnOnce(&Fields<'_>) -> Option<R>) -> Option<R> {
        let in_memory = self.folder.in_memory.borrow();
        let (_, text) = in_memory.iter().find(|(name, _)| *name == self.name)?;
        take(&self.entry_key().read(text.expose().as_bytes()).ok()??)
    }

    pub fn evict(&self) {
        self.folder.in_memory.borrow_mut().retain(|(name, _)| *name != self.name);
        if let Some(folder) = self.folder.cache.folder {
            let _ = files::remove(&folder.join(&self.name));
        }
    }

    /// Evicts what this identity has beside this entry if it was of another subject: another person
    /// has logged in.
    pub fn evict_other_subjects(&self, subject: Option<&str>) {
        let former = self.load();
        let former = former.as_ref().and_then(Cacheable::subject);
        if former.is_some() && subject.is_some() && former != subject {
            self.folder.evict_all_but(Some(&self.name));
        }
    }

    /// Opens the entry's lock file; none where there can be no file.
    pub fn lock_file(&self) -> Option<LockFile> {
        let folder = self.folder.cache.folder?;
        let lock = private_file::private_folder(folder)
            .and_then(|folder| LockFile::open(&folder, format!("{}{LOCK}", self.name)));
        lock.map_err(|e| self.note_problem(&e)).ok()
    }

    fn note_problem(&self, why: &io::Error) {
        self.folder.problem.borrow_mut().get_or_insert_with(|| why.to_string());
    }

    pub(super) fn context(&self) -> &Context {
        self.folder.cache.context
    }

    fn note_unusable(&self, name: &str, reason: &str) {
        let path = self.folder.cache.folder.unwrap_or(Path::new("")).join(name);
        self.context().note(&format!("{} is not used: {reason}", path.display()));
    }

    fn entry_key(&self) -> EntryKey<'_> {
        EntryKey { key: &self.key, secret: self.folder.cache.secret.as_ref() }
    }

    pub(super) fn read<R>(
        &self,
        name: &str,
        take: impl FnOnce(&Fields<'_>) -> Option<R>,
    ) -> Option<R> {
        let path = self.folder.cache.folder?.join(name);
        let reason = match private_file::read_private(&path, MAX_ENTRY_BYTES) {
            PrivateRead::Nothing | PrivateRead::Unreadable(_) => return None,
            PrivateRead::Unsafe(reason) => reason,
            PrivateRead::Content(content) => match self.entry_key().read(&content) {
                Ok(fields) => return take(&fields?),
                Err(reason) => reason,
            },
        };
        self.note_unusable(name, reason);
        None
    }

    pub(super) fn write(
        &self,
        name: &str,
        fields: &[(&'static str, String)],
        ends: Timestamp,
    ) -> bool {
        let Some(folder) = self.folder.cache.folder else { return false };
        let context = self.context();
        let (Ok(salt), Ok(random)) = (context.random::<8>(), context.random::<8>()) else {
            return false;
        };
        let text = self.entry_key().write(fields, salt);
        let how = Replacement {
            temporary: format!(".{}", hex(&random)).into(),
            modified: Some(ends),
            ..Replacement::default()
        };
        private_file::private_folder(folder)
            .and_then(|folder| {
                private_file::replace(&folder, OsStr::new(name), text.as_bytes(), &how)
            })
            .map_err(|e| self.note_problem(&e))
            .is_ok()
    }

    /// Removes the failures of this entry, some entries that expired a day ago or more, and what
    /// killed processes left.
    fn sweep(&self) {
        let Some(folder) = self.folder.cache.folder else { return };
        let a_day_ago = self.context().now().plus(-DAY);
        let mut left = MAX_SWEPT;
        for path in files::list(folder) {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let is_old = left > 0 && is_ours(name) && has_ended(&path, a_day_ago);
            left -= usize::from(is_old);
            if is_old || self.is_failure(name) {
                let _ = files::remove(&path);
            }
        }
    }

    /// Whether a file of this name is a failure of this entry.
    pub(super) fn is_failure(&self, name: &str) -> bool {
        name.starts_with(&self.name) && name.ends_with(FAILURE)
    }
}

fn has_ended(path: &Path, before: Timestamp) -> bool {
    files::modified(path).is_some_and(|ended| ended < before)
}

/// Whether a name can be an entry or a temporary file of ours: the folder may be shared. Lock files
/// are never removed.
fn is_ours(name: &str) -> bool {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(random) = name.strip_prefix('.') {
        return is_hash(random);
    }
    let (name, parts) = match name.strip_suffix(FAILURE) {
        Some(name) => (name, 3),
        None => (name, 2),
    };
    name.split('-').count() == parts && name.split('-').all(is_hash)
}

/// A key that goes on with these parts, as netstrings (<https://cr.yp.to/proto/netstrings.txt>), so
/// that no two lists of parts look alike.
pub(super) fn with_parts(start: &str, parts: &[&str]) -> String {
    // With room for the lengths, so that the key need not grow.
    let room: usize = parts.iter().map(|part| part.len() + 8).sum();
    let mut key = String::with_capacity(start.len() + room);
    key.push_str(start);
    for part in parts {
        key.push_str(&part.len().to_string());
        key.extend([":", part, ","]);
    }
    key
}

// The tests of policy.rs use this cache, too.
#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cache::entry::CachedText;

    pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

    /// A process whose clock stands still.
    pub fn context() -> Context {
        Context { now: Box::new(|| NOW), say: Box::new(|_| ()), ..Context::of_process() }
    }

    /// Calls `f` with the entries of this identity, in a folder or without one.
    pub fn in_cache(folder: Option<&Path>, identity: &str, f: impl FnOnce(&CacheFolder<'_>)) {
        let (context, settings) = (context(), Settings::default());
        let cache = CacheInputs {
            context: &context,
            folder,
            secret: None,
            settings: &settings,
            login_files: |_, _| Vec::new(),
            route_variables: &[],
        };
        f(&CacheFolder::new(&[identity], cache));
    }

    pub fn text(issued: Timestamp) -> CachedText {
        let expires = NOW.plus(DAY);
        CachedText { text: "a host".to_owned(), issued, expires, subject: None }
    }

    #[test]
    fn only_this_identitys_entries_are_evicted_and_never_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let place = Some(folder.path());
        in_cache(place, "ada", |ada| {
            let [kept, gone] = ["kept", "gone"].map(|part| ada.slot::<CachedText>(&[part]));
            kept.store(&text(NOW));
            gone.store(&text(NOW));
            assert!(gone.lock_file().is_some());
            in_cache(place, "ben", |ben| {
                let other = ben.slot::<CachedText>(&["gone"]);
                other.store(&text(NOW));
                ada.evict_all_but(Some(&kept.name));
                assert!(other.load().is_some(), "another identity's");
            });
            assert!(kept.load().is_some() && gone.load().is_none());
            assert!(folder.path().join(format!("{}.lock", gone.name)).exists());
        });
    }

    #[test]
    fn without_a_folder_a_call_remembers_what_it_stored() {
        in_cache(None, "ada", |ada| {
            let [one, two] = ["one", "two"].map(|part| ada.slot::<CachedText>(&[part]));
            one.store(&text(NOW));
            two.store(&text(NOW));
            one.evict();
            assert!(one.load().is_none() && two.load().is_some());
            one.store(&text(NOW));
            ada.evict_all_but(Some(&one.name));
            assert!(one.load().is_some() && two.load().is_none());
        });
    }

    #[test]
    fn the_largest_token_is_read_again_and_the_files_time_is_its_end() {
        let folder = tempfile::tempdir().unwrap();
        in_cache(Some(folder.path()), "ada", |ada| {
            let slot = ada.slot::<CachedText>(&["one"]);
            let text = CachedText {
                text: "x".repeat(MAX_TOKEN_BYTES),
                subject: Some("y".repeat(12 * 1024)),
                ..text(NOW)
            };
            slot.store(&text);
            assert_eq!(slot.load().unwrap().text, text.text);
            assert_eq!(files::modified(&folder.path().join(&slot.name)), Some(text.expires));
        });
        in_cache(Some(folder.path()), "ada", |ada| assert_eq!(ada.try_to_store(), None));
    }

    #[test]
    fn an_entry_may_be_issued_up_to_a_minute_ahead() {
        in_cache(None, "ada", |ada| {
            let slot = ada.slot::<CachedText>(&["one"]);
            for (ahead, is_read) in [(MAX_AHEAD_MS, true), (MAX_AHEAD_MS + 1, false)] {
                slot.store(&text(NOW.plus(ahead)));
                assert_eq!(slot.load().is_some(), is_read, "{ahead}");
            }
        });
    }

    #[test]
    fn what_ended_at_the_moment_itself_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ended = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        file.as_file().set_modified(ended).unwrap();
        assert!(!has_ended(file.path(), NOW));
        assert!(has_ended(file.path(), NOW.plus(1)));
    }

    #[test]
    fn only_names_of_ours_are_swept() {
        let hash = "0123456789abcdef";
        let names = [
            (format!("{hash}-{hash}"), true),
            (format!("{hash}-{hash}-{hash}{FAILURE}"), true),
            (format!(".{hash}"), true),
            (format!("{hash}-{hash}{LOCK}"), false),
            (format!("{hash}-{hash}-{hash}"), false),
            (format!("{hash}-{hash}{FAILURE}"), false),
            (hash.to_owned(), false),
            ("0123-cafe".to_owned(), false),
            (format!("{hash}-a-readable-name-"), false),
            (format!("{hash}-readable-of-16-b"), false),
            (format!("{hash}-of16charactersxx"), false),
            (".cafe".to_owned(), false),
        ];
        for (name, is_swept) in names {
            assert_eq!(is_ours(&name), is_swept, "{name}");
        }
    }

    #[test]
    fn no_two_lists_of_parts_have_the_same_key() {
        assert_eq!(with_parts("k", &["ab", ""]), "k2:ab,0:,");
        assert_ne!(with_parts("", &["a", "b"]), with_parts("", &["a,1:b"]));
    }
}
