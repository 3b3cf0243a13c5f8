//! When a cached token will do, and who fetches another: the table of freshness and the one
//! function that carries it out, for both levels, the workspace's access token and the database
//! credential minted with it.
//!
//! | life left      | what a caller gets                                                       |
//! |----------------|--------------------------------------------------------------------------|
//! | more than soft | the cached one: no lock, no network                                      |
//! | soft to hard   | the cached one; whoever gets the lock at once refreshes it, 2 s at most  |
//! | less than hard | the lock, a second look, a fetch; if that fails for a passing reason the |
//! |                | old one while it has a minute left; whoever waited shares the outcome    |
//!
//! How a token is fetched is `get.rs`'s business, how it is stored `cache.rs`'s.

use std::time::Duration;

use crate::cache::{PastFailure, Slot};
use crate::error::{Error, Kind, Result};
use crate::file::Held;
use crate::log::{self, Level};
use crate::secret::Secret;
use crate::time::{Deadline, MINUTE, SECOND, Timestamp};
use crate::token::{LEAST_LIFE, Token};
use crate::world::World;

/// A refresh that nobody needs yet may hold its caller up this long.
const SOFT_WAIT: Duration = Duration::from_secs(2);

/// A "no" (exit code 3 or 4) is remembered this long: clients call a failing helper many times a second.
const REFUSAL: i64 = 3 * SECOND;

/// After any other failure, refreshes that nobody needs yet are left alone this long.
const TROUBLE: i64 = 30 * SECOND;

/// When an entry is fresh.
pub enum Freshness<'s> {
    /// It is handed out, with at least so much life.
    Printed {
        /// Milliseconds; 0 where nobody asked.
        min_ttl: i64,
    },
    /// It is used up in this call; the workspace may have refused one already.
    Used {
        /// Not this one again.
        refused: Option<&'s Secret>,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Band {
    Fresh,
    Soft,
    Hard,
}

impl Freshness<'_> {
    /// The table at the head of this file.
    fn band(&self, token: &Token, now: Timestamp, began: Timestamp, refresh: bool) -> Band {
        let left = token.left(now);
        if left <= 0 {
            return Band::Hard;
        }
        match self {
            Freshness::Used { refused: Some(refused) } if token.secret == **refused => Band::Hard,
            Freshness::Used { .. } if left > LEAST_LIFE => Band::Fresh,
            Freshness::Used { .. } => Band::Hard,
            // Whoever asked while it was being minted wanted this one.
            Freshness::Printed { .. } if token.issued > began && token.issued <= now => Band::Fresh,
            Freshness::Printed { .. } if refresh => Band::Hard,
            Freshness::Printed { min_ttl } => {
                let (soft, hard) =
                    bands(token.lifetime, if is_young(token, now) { 0 } else { *min_ttl });
                match left {
                    left if left > soft => Band::Fresh,
                    left if left > hard => Band::Soft,
                    _ => Band::Hard,
                }
            }
        }
    }

    /// Whether the old one may stand in where there is no new one.
    fn tolerates(&self, token: &Token, now: Timestamp, refresh: bool) -> bool {
        let wanted = match self {
            Freshness::Printed { .. } => !refresh,
            Freshness::Used { refused } => refused.is_none(),
        };
        wanted && token.left(now) >= LEAST_LIFE
    }
}

/// One issued so lately satisfies everybody: minting again would not give a better one.
fn is_young(token: &Token, now: Timestamp) -> bool {
    now.since(token.issued) <= MINUTE
}

/// Whether a token was handed out although it has less life than was asked for.
pub fn falls_short(token: &Token, min_ttl: i64, now: Timestamp) -> bool {
    token.left(now) < min_ttl && !is_young(token, now)
}

/// The two limits for a token of this lifetime, in milliseconds: soft and hard.
pub fn bands(lifetime: i64, min_ttl: i64) -> (i64, i64) {
    let hard = (10 * MINUTE).min(lifetime / 3);
    let soft = (20 * MINUTE).min(lifetime / 2);
    if min_ttl == 0 {
        return (soft, hard);
    }
    let hard = hard.max(min_ttl);
    (lifetime.min(soft.max(hard.saturating_add(5 * MINUTE))), hard)
}

/// How a token is fetched: inside this deadline, under this lock.
pub type Fetch<'f> = dyn Fn(Deadline, Option<&Held<'_>>) -> Result<Token> + 'f;

/// One token of a call: where it is kept, when it will do, how another is fetched, until when.
pub struct Wanted<'a> {
    /// Its entry.
    pub slot: &'a Slot<'a>,
    /// When the one in the entry will do.
    pub freshness: Freshness<'a>,
    /// Gets another one.
    pub fetch: &'a Fetch<'a>,
    /// When all must have ended.
    pub deadline: Deadline,
}

/// What holds for all tokens of one call.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The surroundings.
    pub world: &'a World,
    /// When the call began.
    pub began: Timestamp,
    /// What is printed must be minted now.
    pub refresh: bool,
    /// Nobody may be asked.
    pub offline: bool,
    /// Whoever is logged in can change beneath us.
    pub switches: bool,
}

impl Rules<'_> {
    /// The table at the head of this file.
    pub fn cached(&self, wanted: &Wanted<'_>) -> Result<Token> {
        let seen = wanted.slot.look();
        let band = seen.as_ref().map_or(Band::Hard, |token| self.band(wanted, token));
        match (band, seen) {
            (Band::Fresh, Some(token)) => Ok(token),
            (Band::Soft, Some(token)) => self.refresh_early(wanted, token),
            (_, seen) => self.fetch_now(wanted, seen),
        }
    }

    /// A token that has its own place: only that it was refused is remembered.
    pub fn uncached(
        &self,
        slot: &Slot<'_>,
        deadline: Deadline,
        fetch: &Fetch<'_>,
    ) -> Result<Token> {
        match self.refusal(slot.failure()) {
            Some(refusal) => Err(refusal),
            None => fetch(deadline, None).inspect_err(|error| remember(slot, error, deadline)),
        }
    }

    fn band(&self, wanted: &Wanted<'_>, token: &Token) -> Band {
        wanted.freshness.band(token, self.world.now(), self.began, self.refresh)
    }

    fn is_fresh(&self, wanted: &Wanted<'_>, token: &Token) -> bool {
        self.band(wanted, token) == Band::Fresh
    }

    /// Soft to hard: nobody has to wait, so only the first one tries.
    fn refresh_early(&self, wanted: &Wanted<'_>, old: Token) -> Result<Token> {
        let Wanted { slot, fetch, deadline, .. } = wanted;
        if self.offline || self.leaves_alone(slot) {
            return Ok(old);
        }
        let Some(mut lock) = slot.lock_file() else { return Ok(old) };
        let Ok(Some(held)) = Held::take(&mut lock) else { return Ok(old) };
        if let Some(token) = slot.look().filter(|token| self.is_fresh(wanted, token)) {
            return Ok(token);
        }
        if self.leaves_alone(slot) {
            return Ok(old);
        }
        let soon = deadline.at_most(SOFT_WAIT);
        match fetch(soon, Some(&held)) {
            Ok(token) => Ok(keep(slot, token)),
            Err(error) => {
                remember(slot, &error, soon);
                if self.was_dropped(slot) {
                    return Err(error);
                }
                // The clock went on: most where the machine was asleep meanwhile.
                if self.band(wanted, &old) == Band::Hard {
                    drop(held);
                    return self.fetch_now(wanted, Some(old));
                }
                Ok(self.settle(old, &error))
            }
        }
    }

    /// Less than hard: somebody has to fetch, and everybody else waits for it.
    fn fetch_now(&self, wanted: &Wanted<'_>, mut seen: Option<Token>) -> Result<Token> {
        let Wanted { slot, fetch, deadline, .. } = wanted;
        if self.offline {
            return self.stand_in(wanted, seen, offline());
        }
        let mut lock = slot.lock_file();
        let mut pause = Duration::from_millis(2);
        let held = loop {
            if let Some(error) = self.shared(slot, *deadline) {
                return self.stand_in(wanted, seen, error);
            }
            // Without a lock file there is no cache either, so each fetches for itself.
            let Some(lock) = lock.as_mut() else { break None };
            let held = match Held::take(lock) {
                Ok(held) => held,
                Err(_) => break None,
            };
            // It may have been stored between the look and the lock.
            seen = slot.look();
            if let Some(token) = seen.take_if(|token| self.is_fresh(wanted, token)) {
                return Ok(token);
            }
            if held.is_some() {
                break held;
            }
            if deadline.passed() {
                let waiting = Error::unavailable("another lakebase-token is still fetching it")
                    .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT");
                return self.stand_in(wanted, seen, waiting);
            }
            self.world.sleep(self.world.jittered(pause), *deadline);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        if let Some(error) = self.shared(slot, *deadline) {
            return self.stand_in(wanted, seen, error);
        }
        match fetch(*deadline, held.as_ref()) {
            Ok(token) => Ok(keep(slot, token)),
            Err(error) => {
                remember(slot, &error, *deadline);
                self.stand_in(wanted, seen, error)
            }
        }
    }

    /// Whether the entry went while its successor was being fetched: somebody else has logged
    /// in, so the former one's token must not stand in.
    fn was_dropped(&self, slot: &Slot<'_>) -> bool {
        self.switches && slot.look().is_none()
    }

    /// The old one for a passing reason, with a note; else the error.
    fn stand_in(&self, wanted: &Wanted<'_>, old: Option<Token>, error: Error) -> Result<Token> {
        let now = self.world.now();
        let will_do = |old: &Token| {
            error.kind == Kind::Unavailable
                && wanted.freshness.tolerates(old, now, self.refresh)
                && !self.was_dropped(wanted.slot)
        };
        match old.filter(will_do) {
            Some(old) => Ok(self.settle(old, &error)),
            None => Err(error),
        }
    }

    fn settle(&self, old: Token, error: &Error) -> Token {
        self.world.note(&format!("the cached one is used, since {error}"));
        log::event(self.world, Level::Warning, &format!("kept the cached one: {error}"));
        old
    }

    /// A "no" that still counts; under `--refresh` only one that came after this call began.
    fn refusal(&self, failure: Option<PastFailure>) -> Option<Error> {
        let PastFailure { at, error, .. } = failure?;
        let counts = is_refusal(&error)
            && self.world.now().since(at) < REFUSAL
            && (!self.refresh || at > self.began);
        counts.then_some(error)
    }

    /// What a try came to that this call has waited for, unless it stopped for want of time that
    /// we have; or a "no" that still counts. So a crowd that asks at once is answered at once, and
    /// does not fail one after the other.
    fn shared(&self, slot: &Slot<'_>, deadline: Deadline) -> Option<Error> {
        let past = slot.failure()?;
        let passed = Duration::from_millis(self.world.now().since(past.at).max(0) as u64);
        let has = |lacked: Duration| deadline.left() > lacked.saturating_sub(passed);
        match past.at > self.began && !past.error.lacked.is_some_and(has) {
            true => Some(past.error),
            false => self.refusal(Some(past)),
        }
    }

    /// Whether the last try failed so shortly ago that nobody need try early again.
    fn leaves_alone(&self, slot: &Slot<'_>) -> bool {
        let Some(PastFailure { at, error, .. }) = slot.failure() else { return false };
        self.world.now().since(at) < if is_refusal(&error) { REFUSAL } else { TROUBLE }
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, Kind::Login | Kind::Denied)
}

fn keep(slot: &Slot<'_>, token: Token) -> Token {
    slot.store(&token);
    token
}

/// Writes a failure down, unless it is one that was written down before.
fn remember(slot: &Slot<'_>, error: &Error, deadline: Deadline) {
    if !error.remembered {
        let lacked = error.lacked.or(deadline.passed().then_some(Duration::ZERO));
        slot.remember(&Error { lacked, ..error.clone() });
    }
}

/// What `--offline` leads to where the cache has nothing.
pub fn offline() -> Error {
    Error::unavailable("nothing usable is cached, and --offline forbids asking")
        .hint("leave out --offline")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(lifetime: i64, min_ttl: i64) -> (i64, i64) {
        let (soft, hard) = bands(lifetime * MINUTE, min_ttl * MINUTE);
        (soft / MINUTE, hard / MINUTE)
    }

    #[test]
    fn bands_are_those_of_the_contract() {
        assert_eq!(minutes(60, 0), (20, 10));
        assert_eq!(minutes(15, 0), (7, 5));
        assert_eq!(minutes(600, 0), (20, 10));
        assert_eq!(minutes(60, 5), (20, 10), "less than the usual changes nothing");
        assert_eq!(minutes(60, 20), (25, 20));
        assert_eq!(minutes(60, 58), (60, 58));
        assert_eq!(minutes(60, 180), (60, 180), "nothing is ever fresh enough");
        assert_eq!(bands(i64::MAX, 0), (20 * MINUTE, 10 * MINUTE));
    }
}
