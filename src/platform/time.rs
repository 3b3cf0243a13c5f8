//! Points in time, durations as people write them, and the one deadline of a call.
//!
//! Freshness is judged by the wall clock ([`Timestamp`], from `Context::now`), because a laptop
//! sleeps while tokens age; waiting is bounded by the monotonic one ([`Deadline`]). The formats
//! are RFC 3339 and what `databricks auth token` prints: any offset, any number of digits after the
//! second, and, from old versions, no zone at all, which means UTC.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

// In milliseconds, like a `Timestamp`.
pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The system's clock. Only `Context` reads it.
    pub fn of_system() -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX)))
    }

    /// From whole seconds, as in JWTs and `expires_on`.
    pub fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(SECOND))
    }

    /// Milliseconds since `earlier`; negative if that is later.
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn plus(self, millis: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(millis))
    }

    /// Reads RFC 3339, and the same without a zone as UTC.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let text = text.trim();
        let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text.parse::<jiff::civil::DateTime>().ok()?;
            jiff::tz::Offset::UTC.to_timestamp(civil).ok()
        })?;
        Some(Timestamp(instant.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, in whole seconds, rounded down so that an expiry is never shown too late. A
    /// time after the year 9999 is shown as its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = jiff::Timestamp::MAX.as_second();
        let seconds = self.0.div_euclid(1000).clamp(0, last);
        let instant = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{instant}")
    }
}

/// Reads `90s`, `15m`, `1h`, `1h 30m` or `30d`. A bare number is refused: seconds or minutes?
pub fn parse_duration(text: &str) -> Result<Duration> {
    let days = text.strip_suffix('d').filter(|days| days.bytes().all(|b| b.is_ascii_digit()));
    if let Some(days) = days.and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * (DAY / SECOND) as u64));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .filter(|_| !text.starts_with(['P', 'p', '-', '+']))
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| Error::usage("not a duration like 90s, 15m or 1h"))
}

/// A duration in the notation that [`parse_duration`] reads.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        s if s % 86400 == 0 && s > 86400 => format!("{}d", s / 86400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A point in time by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    pub fn now() -> Moment {
        Moment(Instant::now())
    }
}

/// Growing pauses between tries: each is twice as long as the one before, up to the longest.
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub fn new(first: Duration, longest: Duration) -> Pauses {
        Pauses { next: first, longest }
    }

    pub fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// The time by which a call must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(limit: Duration) -> Deadline {
        Deadline::since(Moment::now(), limit)
    }

    pub fn since(began: Moment, limit: Duration) -> Deadline {
        Deadline(began.0.checked_add(limit).unwrap_or(began.0))
    }

    /// This one, or `limit` from now, whichever comes first.
    pub fn at_most(self, limit: Duration) -> Deadline {
        let end = Instant::now().checked_add(limit);
        Deadline(end.map_or(self.0, |end| self.0.min(end)))
    }

    /// The remaining time; zero once the deadline has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_workspace_and_the_cli_are_parsed() {
        let expected = Timestamp(1_701_443_988_007);
        for text in [
            "2023-12-01T15:19:48.007742617Z",
            "2023-12-01T16:19:48.0077+01:00",
            "2023-12-01 15:19:48.007",
            " 2023-12-01T15:19:48.007Z\n",
        ] {
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        for text in ["", "tomorrow", "2023-13-01T00:00:00Z", "1701443988", "2023-12-01"] {
            assert!(
                Timestamp::parse(text).is_none_or(|t| text == "2023-12-01" && t.0 > 0),
                "{text}"
            );
        }
    }

    #[test]
    fn times_are_printed_in_whole_seconds_and_utc() {
        assert_eq!(Timestamp(1_701_443_988_999).to_string(), "2023-12-01T15:19:48Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("15m").unwrap(), Duration::from_secs(900));
        assert_eq!(parse_duration("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("900s").unwrap(), Duration::from_secs(900));
        for text in ["", "900", "-5m", "m", "PT5M", "5 parsecs", "999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
