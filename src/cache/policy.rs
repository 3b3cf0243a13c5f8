//! When a cached token is good enough, and which process fetches another one. [`Policy::get`] carries
//! out this table for all tokens:
//!
//! | life left                               | what a caller gets                           |
//! |-----------------------------------------|----------------------------------------------|
//! | over 20 min, or half of the lifetime    | the cached one: no lock, no network          |
//! | over 10 min, or a third of the lifetime | the cached one; the process that gets the    |
//! |                                         | lock at once refreshes it, for at most 2 s   |
//! | less                                    | wait for the lock, read the cache again,     |
//! |                                         | else fetch; if that fails temporarily, the   |
//! |                                         | cached one while it has a minute             |
//!
//! The table holds for a token that is printed. A token that is only used in this call is fresh while
//! it has more than a minute left and the workspace has not refused it. With `--refresh`, only a token
//! that was issued after the call began is fresh.
//!
//! `freshness.rs` has the limits, `session.rs` fetches a token, `store.rs` stores it.

use std::time::Duration;

use crate::cache::entry::Cacheable;
use crate::cache::failures::PastFailure;
use crate::cache::freshness::{Freshness, is_young};
use crate::cache::store::Slot;
use crate::credential::secret::Secret;
use crate::credential::token::{MIN_LIFE_MS, with_our_time};
use crate::error::{Error, ErrorKind, Result, TIMEOUT_HINT};
use crate::platform::context::Context;
use crate::platform::lock::{LockFile, LockGuard};
use crate::platform::log::{self, Level};
use crate::platform::time::{Deadline, Pauses, SECOND, Timestamp};

/// How long an early refresh may hold up its caller.
const EARLY_REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a refusal (exit code 3 or 4) counts: clients call a failing helper many times a second.
const REFUSAL_CACHE_MS: i64 = 3 * SECOND;

/// How long no early refresh is tried after any other failure.
const EARLY_REFRESH_PAUSE_MS: i64 = 30 * SECOND;

/// The pause between two tries to take a lock that another process holds: the first, and the
/// longest.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// What a cached token is needed for.
#[derive(Clone, Copy)]
pub enum Need<'s> {
    /// It is printed, and must have at least this many milliseconds of life; 0 if the caller did not
    /// say.
    Printed { min_ttl: i64 },
    /// It is used for requests of this call. `refused` is one that the workspace has already refused.
    Used { refused: Option<&'s Secret> },
}

/// How something is fetched.
pub type Fetch<'f, T> = dyn Fn(&FetchCall<'_>) -> Result<T> + 'f;

/// What a fetch may use.
pub struct FetchCall<'a> {
    pub deadline: Deadline,
    /// The lock of the slot; `None` where there could be none.
    pub lock: Option<&'a LockGuard<'a>>,
    /// How long it may wait for another process that is busy.
    pub lock_wait: Duration,
}

/// One value to get: its slot in the cache, how fresh it must be, how to fetch another one, and until
/// when.
pub struct CacheRequest<'a, T> {
    pub slot: &'a Slot<'a, T>,
    pub need: Need<'a>,
    pub fetch: &'a Fetch<'a, T>,
    pub deadline: Deadline,
    /// How long to wait for another process that is busy, as the caller's own fetch may.
    pub lock_wait: Duration,
}

/// What is the same for all values that one call gets.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    pub context: &'a Context,
    /// When the call began.
    pub began: Timestamp,
    /// `--refresh`: what is printed must be minted now.
    pub refresh: bool,
    /// `--offline`: no request may be made.
    pub offline: bool,
    /// Another person may log in while this call runs.
    pub login_can_change: bool,
    /// Whether recent failures count. With `--wait` each attempt is made.
    pub uses_cached_failures: bool,
    /// What keeps every fetch waiting: a run of a tool that does not end.
    pub blocking_run: fn(&Context) -> Option<Error>,
}

impl Policy<'_> {
    /// Gets a value by the table at the head of this file.
    pub fn get<T: Cacheable>(&self, request: &CacheRequest<'_, T>) -> Result<T> {
        let cached = request.slot.load();
        let freshness = cached
            .as_ref()
            .map_or(Freshness::MustRefresh, |cached| self.freshness(request, cached));
        // The machine may sleep for hours during the fetch.
        let (got, is_late) = match (freshness, cached) {
            (Freshness::Fresh, Some(cached)) => return Ok(cached),
            (Freshness::RefreshEarly, Some(cached)) => {
                let got = self.refresh_early(request, cached)?;
                let is_late = self.freshness(request, &got) == Freshness::MustRefresh;
                (got, is_late)
            }
            (_, cached) => {
                let got = self.must_refresh(request, cached)?;
                let is_late = got.left(self.context.now()) <= 0;
                (got, is_late)
            }
        };
        let got = if is_late { self.must_refresh(request, Some(got))? } else { got };
        self.unexpired(got)
    }

    /// Gets a token that is stored elsewhere; only its refusals are cached.
    pub fn fetch_uncached<T: Cacheable>(
        &self,
        slot: &Slot<'_, T>,
        deadline: Deadline,
        fetch: &Fetch<'_, T>,
    ) -> Result<T> {
        if let Some(refusal) = self.refusal(slot.failure()) {
            return Err(refusal);
        }
        let call = FetchCall { deadline, lock: None, lock_wait: Duration::MAX };
        let got = fetch(&call).inspect_err(|error| cache_failure(slot, error, deadline))?;
        self.unexpired(got)
    }

    /// Refuses what expired during the fetch: nothing that has expired is handed out.
    fn unexpired<T: Cacheable>(&self, got: T) -> Result<T> {
        let now = self.context.now();
        match got.expires().filter(|expires| *expires <= now) {
            Some(expires) => {
                let words =
                    format!("the new credential expired before it could be used, at {expires}");
                Err(with_our_time(Error::unavailable(words), now))
            }
            None => Ok(got),
        }
    }

    fn freshness<T: Cacheable>(&self, request: &CacheRequest<'_, T>, cached: &T) -> Freshness {
        let now = self.context.now();
        let left = cached.left(now);
        if left <= 0 {
            return Freshness::MustRefresh;
        }

        match request.need {
            Need::Used { refused } => {
                let is_refused = refused.is_some_and(|refused| cached.is(refused));
                if left > MIN_LIFE_MS && !is_refused {
                    Freshness::Fresh
                } else {
                    Freshness::MustRefresh
                }
            }
            Need::Printed { min_ttl } => self.freshness_of_printed(cached, min_ttl, now),
        }
    }

    fn freshness_of_printed<T: Cacheable>(
        &self,
        cached: &T,
        min_ttl: i64,
        now: Timestamp,
    ) -> Freshness {
        // Minted after this call began: as new as any that we could get.
        if cached.issued() > self.began && cached.issued() <= now {
            return Freshness::Fresh;
        }
        if self.refresh {
            return Freshness::MustRefresh;
        }

        let min_ttl = if is_young(cached.issued(), now) { 0 } else { min_ttl };
        Freshness::of(cached.lifetime(), cached.left(now), min_ttl)
    }

    /// The second row: no caller has to wait, so only the first one tries.
    fn refresh_early<T: Cacheable>(&self, request: &CacheRequest<'_, T>, old: T) -> Result<T> {
        let CacheRequest { slot, fetch, deadline, .. } = request;
        if self.offline || self.failed_lately(slot) {
            return Ok(old);
        }
        let Some(mut lock) = slot.lock_file() else { return Ok(old) };
        let Ok(Some(guard)) = lock.try_lock() else { return Ok(old) };

        // Another process may have stored it between the read and the lock.
        if let Some(cached) = slot.load().filter(|cached| self.is_fresh(request, cached)) {
            return Ok(cached);
        }
        if self.failed_lately(slot) {
            return Ok(old);
        }

        let soon = deadline.at_most(EARLY_REFRESH_TIMEOUT);
        let call = FetchCall { deadline: soon, lock: Some(&guard), lock_wait: Duration::ZERO };
        match fetch(&call) {
            Ok(new) => Ok(store(slot, new)),
            Err(error) => {
                cache_failure(slot, &error, soon);
                if self.was_evicted(slot) {
                    return Err(error);
                }
                // What is too old by now is no fallback, which `get` notices.
                let is_late = self.freshness(request, &old) == Freshness::MustRefresh;
                Ok(if is_late { old } else { self.fall_back(old, &error) })
            }
        }
    }

    /// The last row: one process fetches, and all others wait for it.
    fn must_refresh<T: Cacheable>(
        &self,
        request: &CacheRequest<'_, T>,
        mut old: Option<T>,
    ) -> Result<T> {
        let CacheRequest { slot, deadline, lock_wait, .. } = request;
        if self.offline {
            return self.fall_back_or_fail(request, old, offline());
        }

        let lock_deadline = deadline.at_most(*lock_wait);
        let mut lock = slot.lock_file();
        let mut pauses = Pauses::new(FIRST_PAUSE, MAX_PAUSE);
        let guard = loop {
            if let Some(error) = self.shared_failure(slot, *deadline) {
                return self.fall_back_or_fail(request, old, error);
            }
            // Without a lock file there is no cache either, so each process fetches for itself.
            let Some(Ok(guard)) = lock.as_mut().map(LockFile::try_lock) else { break None };

            // Another process may have stored it between the read and the lock.
            old = slot.load();
            if let Some(cached) = old.take_if(|cached| self.is_fresh(request, cached)) {
                return Ok(cached);
            }
            if guard.is_some() {
                break guard;
            }
            if self.is_usable(old.as_ref()) || lock_deadline.passed() {
                if let Some(error) = (self.blocking_run)(self.context) {
                    return self.fall_back_or_fail(request, old, error);
                }
                if deadline.passed() {
                    return self.fall_back_or_fail(request, old, still_fetching());
                }
            }
            self.context.sleep(self.context.jittered(pauses.take()), *deadline);
        };
        self.fetch_or_fall_back(request, guard.as_ref(), old)
    }

    fn fetch_or_fall_back<T: Cacheable>(
        &self,
        request: &CacheRequest<'_, T>,
        guard: Option<&LockGuard<'_>>,
        old: Option<T>,
    ) -> Result<T> {
        let CacheRequest { slot, fetch, deadline, .. } = request;
        // Another process may have failed between the last check and the lock.
        if let Some(error) = self.shared_failure(slot, *deadline) {
            return self.fall_back_or_fail(request, old, error);
        }
        let usual = request.lock_wait;
        let lock_wait =
            if self.is_usable(old.as_ref()) { usual.min(EARLY_REFRESH_TIMEOUT) } else { usual };
        match fetch(&FetchCall { deadline: *deadline, lock: guard, lock_wait }) {
            Ok(new) => Ok(store(slot, new)),
            Err(error) => {
                cache_failure(slot, &error, *deadline);
                self.fall_back_or_fail(request, old, error)
            }
        }
    }

    /// Whether the cached token can serve as a fallback.
    fn is_usable<T: Cacheable>(&self, old: Option<&T>) -> bool {
        old.is_some_and(|old| old.left(self.context.now()) >= MIN_LIFE_MS)
    }

    fn is_fresh<T: Cacheable>(&self, request: &CacheRequest<'_, T>, cached: &T) -> bool {
        self.freshness(request, cached) == Freshness::Fresh
    }

    /// Whether the entry went while its successor was being fetched: another person has logged in,
    /// so the former one's token must not be used.
    fn was_evicted<T: Cacheable>(&self, slot: &Slot<'_, T>) -> bool {
        self.login_can_change && slot.load().is_none()
    }

    /// The cached one if the failure is temporary, with a note; else the error.
    fn fall_back_or_fail<T: Cacheable>(
        &self,
        request: &CacheRequest<'_, T>,
        old: Option<T>,
        error: Error,
    ) -> Result<T> {
        let will_do = match request.need {
            Need::Printed { .. } => !self.refresh,
            Need::Used { refused } => refused.is_none(),
        };
        let is_good = |old: &T| {
            error.kind == ErrorKind::Unavailable
                && will_do
                && self.is_usable(Some(old))
                && !self.was_evicted(request.slot)
        };
        match old.filter(is_good) {
            Some(old) => Ok(self.fall_back(old, &error)),
            None => Err(error),
        }
    }

    fn fall_back<T>(&self, old: T, error: &Error) -> T {
        self.context.note(&format!("using the cached credential: {error}"));
        log::event(self.context, Level::Warning, &format!("used the cached credential: {error}"));
        old
    }

    /// A refusal that still counts; under `--refresh` only one that came after this call began.
    fn refusal(&self, failure: Option<PastFailure>) -> Option<Error> {
        let PastFailure { at, error } = failure.filter(|_| self.uses_cached_failures)?;
        let counts = is_refusal(&error)
            && self.context.now().since(at) < REFUSAL_CACHE_MS
            && (!self.refresh || at > self.began);
        counts.then_some(error)
    }

    /// The failure to return instead of fetching: either one that another process had after this call
    /// began, unless it ran out of time and we have enough left; or a recent refusal. So callers that
    /// wait for the same fetch fail together, and not one after the other.
    fn shared_failure<T: Cacheable>(
        &self,
        slot: &Slot<'_, T>,
        deadline: Deadline,
    ) -> Option<Error> {
        let past = slot.failure().filter(|_| self.uses_cached_failures)?;
        let passed = Duration::from_millis(self.context.now().since(past.at).max(0) as u64);
        let has_time = |lacking| has_more_time(deadline.left(), lacking, passed);
        let is_shared = past.at > self.began && !past.error.time_lacking.is_some_and(has_time);
        if is_shared { Some(past.error) } else { self.refusal(Some(past)) }
    }

    /// Whether the last try failed so shortly ago that no process need try early again.
    fn failed_lately<T: Cacheable>(&self, slot: &Slot<'_, T>) -> bool {
        let Some(PastFailure { at, error }) = slot.failure() else { return false };
        let counts = if is_refusal(&error) { REFUSAL_CACHE_MS } else { EARLY_REFRESH_PAUSE_MS };
        self.context.now().since(at) < counts
    }
}

/// Whether the time left exceeds what another call lacked, less the time that has passed since.
fn has_more_time(left: Duration, lacking: Duration, passed: Duration) -> bool {
    left > lacking.saturating_sub(passed)
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Login | ErrorKind::Denied)
}

fn store<T: Cacheable>(slot: &Slot<'_, T>, new: T) -> T {
    slot.store(&new);
    new
}

/// Caches a failure, unless it came from the cache or belongs to this process alone.
fn cache_failure<T: Cacheable>(slot: &Slot<'_, T>, error: &Error, deadline: Deadline) {
    if !error.from_cache && !error.is_unshared {
        let time_lacking = error.time_lacking.or(deadline.passed().then_some(Duration::ZERO));
        slot.cache_failure(&Error { time_lacking, ..error.clone() });
    }
}

fn still_fetching() -> Error {
    Error::unavailable("another lakebase-token process is still getting this credential")
        .hint(TIMEOUT_HINT)
}

/// What `--offline` leads to where nothing is cached.
pub fn offline() -> Error {
    Error::unavailable("nothing usable is cached, and --offline forbids requests")
        .hint("leave out --offline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::CachedText;
    use crate::cache::store::tests::{NOW, context, in_cache, text};
    use crate::credential::token::Token;
    use crate::platform::time::{DAY, MINUTE};

    /// A call that began this many milliseconds ago.
    fn policy(context: &Context, ago: i64) -> Policy<'_> {
        Policy {
            context,
            began: NOW.plus(-ago),
            refresh: false,
            offline: false,
            login_can_change: false,
            uses_cached_failures: true,
            blocking_run: |_| None,
        }
    }

    /// A request that another process answers.
    fn request<'a, T>(slot: &'a Slot<'a, T>, wait: Duration) -> CacheRequest<'a, T> {
        CacheRequest {
            slot,
            need: Need::Printed { min_ttl: 0 },
            fetch: &|_| panic!("no fetch is needed"),
            deadline: Deadline::after(wait),
            lock_wait: Duration::MAX,
        }
    }

    #[test]
    fn a_refusal_counts_for_three_seconds_and_after_a_refresh_began() {
        let context = context();
        let counts = |refresh: bool, began_ago: i64, failed_ago: i64| {
            let policy = Policy { refresh, ..policy(&context, began_ago) };
            let at = NOW.plus(-failed_ago);
            policy.refusal(Some(PastFailure { at, error: Error::denied("no") })).is_some()
        };
        assert!(counts(false, 0, 2_999) && !counts(false, 0, 3_000));
        assert!(counts(true, 500, 499) && !counts(true, 500, 500) && !counts(true, 500, 501));
        let error = Error::unavailable("later");
        assert!(policy(&context, 0).refusal(Some(PastFailure { at: NOW, error })).is_none());
    }

    #[test]
    fn a_failure_is_shared_with_the_calls_that_began_before_it() {
        let (context, folder) = (context(), tempfile::tempdir().unwrap());
        let (short, long) = (Deadline::after(MS * 900), Deadline::after(MS * 60_000));
        in_cache(Some(folder.path()), "ada", |ada| {
            let slot = ada.slot::<CachedText>(&["one"]);
            let is_shared =
                |ago, deadline| policy(&context, ago).shared_failure(&slot, deadline).is_some();
            slot.cache_failure(&Error::unavailable("later"));
            assert!(is_shared(1, long) && !is_shared(0, long));
            let unused = Policy { uses_cached_failures: false, ..policy(&context, 1) };
            assert!(unused.shared_failure(&slot, long).is_none());
            // It lacked a second, which a call with more time may have.
            slot.cache_failure(&Error::unavailable("slow").with_time_lacking(MS * 1_000));
            assert!(is_shared(1, short) && !is_shared(1, long));
            slot.cache_failure(&Error::denied("no"));
            assert!(is_shared(0, long), "a refusal that still counts");
        });
        assert!(has_more_time(MS * 800, MS * 999, MS * 200));
        assert!(!has_more_time(MS * 800, MS * 1_000, MS * 200));
        assert!(!has_more_time(Duration::ZERO, MS * 1_000, MS * 2_000));
    }

    #[test]
    fn a_failure_says_whether_more_time_could_have_helped() {
        let folder = tempfile::tempdir().unwrap();
        in_cache(Some(folder.path()), "ada", |ada| {
            let slot = ada.slot::<CachedText>(&["one"]);
            let lacking = |error: &Error, deadline| {
                cache_failure(&slot, error, deadline);
                slot.failure().unwrap().error.time_lacking
            };
            let error = Error::unavailable("later");
            assert_eq!(lacking(&error, Deadline::after(MS * 60_000)), None);
            assert_eq!(lacking(&error, Deadline::after(Duration::ZERO)), Some(Duration::ZERO));
            let slow = error.clone().with_time_lacking(MS);
            assert_eq!(lacking(&slow, Deadline::after(Duration::ZERO)), Some(MS));
            // What came from the cache is not cached again.
            let cached = Error { from_cache: true, ..error };
            assert_eq!(lacking(&cached, Deadline::after(MS * 60_000)), Some(MS));
        });
    }

    #[test]
    fn another_process_may_have_stored_it_while_we_waited_for_the_lock() {
        let (context, folder) = (context(), tempfile::tempdir().unwrap());
        in_cache(Some(folder.path()), "ada", |ada| {
            let slot = ada.slot::<Token>(&["one"]);
            let token = |secret: &str, age: i64| Token {
                secret: Secret::new(secret),
                issued: NOW.plus(-age),
                expires: Some(NOW.plus(60 * MINUTE - age)),
                lifetime: 60 * MINUTE,
                subject: None,
            };
            slot.store(&token("theirs", MINUTE));
            let request = request(&slot, MS * 10_000);
            let policy = policy(&context, 0);
            let expired = token("ours", 61 * MINUTE);
            assert_eq!(
                policy.must_refresh(&request, Some(expired)).unwrap().secret.expose(),
                "theirs"
            );
            let old = token("ours", 45 * MINUTE);
            assert_eq!(policy.refresh_early(&request, old).unwrap().secret.expose(), "theirs");
        });
    }

    #[test]
    fn waiting_for_another_process_ends_at_the_deadline_or_where_a_tool_hangs() {
        let (context, folder) = (context(), tempfile::tempdir().unwrap());
        in_cache(Some(folder.path()), "ada", |ada| {
            let slot = ada.slot::<CachedText>(&["one"]);
            let mut held = slot.lock_file().unwrap();
            let _guard = held.try_lock().unwrap().unwrap();
            let begun = std::time::Instant::now();
            let waiting = request(&slot, MS * 300);
            let policy = policy(&context, 0);
            let error = policy.must_refresh(&waiting, None).unwrap_err();
            assert_eq!(error.message, still_fetching().message);
            // A usable credential is given before the deadline if a tool hangs.
            let stuck = Policy { blocking_run: |_| Some(Error::unavailable("stuck")), ..policy };
            assert!(begun.elapsed() >= MS * 300);
            slot.store(&CachedText { expires: NOW.plus(2 * MINUTE), ..text(NOW.plus(-DAY)) });
            let again = request(&slot, MS * 60_000);
            assert_eq!(stuck.must_refresh(&again, None).unwrap().text, "a host");
        });
    }

    const MS: Duration = Duration::from_millis(1);
}
