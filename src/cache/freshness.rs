//! How fresh a token is: the limits between the rows of `policy.rs`'s table. What a row leads to is there.

use crate::cache::entry::Cacheable;
use crate::platform::time::{MINUTE, Timestamp};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Fresh,
    RefreshEarly,
    MustRefresh,
}

impl Freshness {
    /// The row for a token that is printed, by its lifetime and the life left, in milliseconds.
    pub fn of(lifetime: i64, left: i64, min_ttl: i64) -> Freshness {
        let (early, must) = refresh_limits(lifetime, min_ttl);
        if left > early {
            Freshness::Fresh
        } else if left > must {
            Freshness::RefreshEarly
        } else {
            Freshness::MustRefresh
        }
    }
}

/// The life left, in milliseconds, below which a token of this lifetime is refreshed early, and below
/// which it must be refreshed.
pub fn refresh_limits(lifetime: i64, min_ttl: i64) -> (i64, i64) {
    let early = (20 * MINUTE).min(lifetime / 2);
    let must = (10 * MINUTE).min(lifetime / 3);
    if min_ttl == 0 {
        return (early, must);
    }

    let must = must.max(min_ttl);
    let early = early.max(must.saturating_add(5 * MINUTE));
    (lifetime.min(early), must)
}

/// A token issued within the last minute satisfies any `--min-ttl`: another mint would not give a
/// better one.
pub fn is_young(issued: Timestamp, now: Timestamp) -> bool {
    now.since(issued) <= MINUTE
}

/// Whether a token was handed out although it has less life than the caller needs.
pub fn falls_short(token: &impl Cacheable, min_ttl: i64, now: Timestamp) -> bool {
    token.left(now) < min_ttl && !is_young(token.issued(), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::secret::Secret;
    use crate::credential::token::Token;

    fn minutes(lifetime: i64, min_ttl: i64) -> (i64, i64) {
        let (early, must) = refresh_limits(lifetime * MINUTE, min_ttl * MINUTE);
        (early / MINUTE, must / MINUTE)
    }

    #[test]
    fn a_credential_falls_short_if_another_would_not() {
        let now = Timestamp(0).plus(100 * MINUTE);
        let falls = |left: i64, age: i64| {
            let token = Token {
                secret: Secret::new("x"),
                issued: now.plus(-age),
                expires: Some(now.plus(left)),
                lifetime: 60 * MINUTE,
                subject: None,
            };
            falls_short(&token, 20 * MINUTE, now)
        };
        assert!(falls(20 * MINUTE - 1, 2 * MINUTE));
        assert!(!falls(20 * MINUTE, 2 * MINUTE));
        assert!(!falls(30 * MINUTE, 2 * MINUTE));
        assert!(!falls(MINUTE, MINUTE) && falls(MINUTE, MINUTE + 1), "a young one");
    }

    #[test]
    fn a_limit_itself_belongs_to_the_later_row() {
        let freshness = |left| Freshness::of(60 * MINUTE, left, 0);
        assert_eq!(freshness(20 * MINUTE + 1), Freshness::Fresh);
        assert_eq!(freshness(20 * MINUTE), Freshness::RefreshEarly);
        assert_eq!(freshness(10 * MINUTE + 1), Freshness::RefreshEarly);
        assert_eq!(freshness(10 * MINUTE), Freshness::MustRefresh);
    }

    #[test]
    fn limits_are_those_of_the_contract() {
        assert_eq!(minutes(60, 0), (20, 10));
        assert_eq!(minutes(15, 0), (7, 5));
        assert_eq!(minutes(600, 0), (20, 10));
        assert_eq!(minutes(60, 5), (20, 10), "less than the usual changes nothing");
        assert_eq!(minutes(60, 20), (25, 20));
        assert_eq!(minutes(60, 58), (60, 58));
        assert_eq!(minutes(60, 180), (60, 180), "nothing is ever fresh enough");
        assert_eq!(refresh_limits(i64::MAX, 0), (20 * MINUTE, 10 * MINUTE));
    }
}
