//! The settings that are durations: their bounds, and whether a lifetime fits its check interval.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::resolve::DatabaseSelector;
use crate::login::store::{ROTATION_GRACE_MS, RenewWith};
use crate::platform::context::Context;
use crate::platform::time::{MINUTE, SECOND, parse_duration, show_duration};

/// What the API accepts (databricks-sdk-go `service/postgres/model.go`).
const TTL_SECONDS: RangeInclusive<u64> = 300..=3600;

const INTERVAL: RangeInclusive<Duration> = MIN_INTERVAL..=Duration::from_secs(30 * 60);
const MIN_INTERVAL: Duration = Duration::from_secs(60);

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 60);

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A setting that is a duration.
pub fn duration(settings: &Settings, id: Id) -> Result<Option<Duration>> {
    let Some(text) = settings.text(id) else { return Ok(None) };
    match parse_duration(text) {
        Ok(duration) => Ok(Some(duration)),
        Err(e) => {
            let error = Error::usage(format!("{} is {e}: {}", settings.origin(id), redact(text)));
            Err(match missing_unit(id, text) {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
    }
}

/// The hint for a bare number.
fn missing_unit(id: Id, text: &str) -> Option<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = text.parse().unwrap_or(u64::MAX);
    if number == 0 {
        return None;
    }
    let seconds = || Some(format!("{text}s, if these are seconds"));
    let minutes = || Some(format!("{text}m, if these are minutes"));
    match id {
        // Users bring the interval of databricks-oauth-rotator, 50 minutes.
        Id::Interval if number > 30 => Some("1m to 30m; 10m without it".to_owned()),
        Id::Interval => minutes(),
        Id::Ttl | Id::MinTtl if number <= 60 => minutes(),
        _ => seconds(),
    }
}

/// The error for a duration outside its bounds.
pub fn out_of_bounds(settings: &Settings, id: Id, bounds: &str) -> Error {
    let text = redact(settings.text(id).unwrap_or_default());
    Error::usage(format!("{} is {text}; it must be between {bounds}", settings.origin(id)))
}

/// In milliseconds; 0 if it is not set.
pub fn min_ttl(settings: &Settings) -> Result<i64> {
    let min_ttl = duration(settings, Id::MinTtl)?.unwrap_or_default();
    Ok(min_ttl.as_millis().try_into().unwrap_or(i64::MAX))
}

pub fn interval(settings: &Settings) -> Result<Option<Duration>> {
    let interval = duration(settings, Id::Interval)?;
    if interval.is_some_and(|interval| !INTERVAL.contains(&interval)) {
        return Err(out_of_bounds(settings, Id::Interval, "1m and 30m"));
    }
    Ok(interval)
}

pub fn timeout(settings: &Settings) -> Result<Duration> {
    let timeout = duration(settings, Id::Timeout)?.unwrap_or(DEFAULT_TIMEOUT);
    if !TIMEOUT.contains(&timeout) {
        return Err(out_of_bounds(settings, Id::Timeout, "100ms and 10m"));
    }
    Ok(timeout)
}

/// How long to try to log in. With `--offline`, and for a workspace token, there is no login.
pub fn wait(settings: &Settings, is_database: bool) -> Result<Option<Duration>> {
    let Some(wait) = duration(settings, Id::Wait)? else { return Ok(None) };
    if !WAIT.contains(&wait) {
        return Err(out_of_bounds(settings, Id::Wait, "1s and 30m"));
    }
    let why = if settings.is_on(Id::Offline) {
        "--wait and --offline contradict each other"
    } else if is_database {
        return Ok(Some(wait));
    } else {
        "--wait is for a database, and this is a workspace token"
    };

    match settings.origin(Id::Wait) {
        Origin::Flag(_) => Err(Error::usage(why).hint("leave out --wait")),
        _ => Ok(None),
    }
}

/// The lifetime to ask for, in seconds.
pub fn ttl(settings: &Settings, selector: &DatabaseSelector) -> Result<Option<u64>> {
    let Some(ttl) = duration(settings, Id::Ttl)? else { return Ok(None) };
    if !TTL_SECONDS.contains(&ttl.as_secs()) || ttl.subsec_nanos() > 0 {
        return Err(out_of_bounds(settings, Id::Ttl, "5m and 1h"));
    }

    if selector.is_instance() {
        let origin = settings.origin(Id::Ttl);
        return Err(Error::usage(format!(
            "a Provisioned instance has no choice of lifetime, but {origin} asks for one"
        ))
        .because("its credentials are valid for one hour")
        .hint(format!("leave out {origin}")));
    }
    Ok(Some(ttl.as_secs()))
}

/// The life, in milliseconds, that must be left in what a target holds: enough for one check that
/// fails and the next one that is late.
pub fn min_life_ms(interval: Duration) -> i64 {
    2 * interval.as_millis() as i64 + 5 * MINUTE
}

/// Refuses a lifetime that cannot keep the promise. One hour always can: the API gives no more.
pub fn check_ttl(settings: &Settings, ttl: Option<u64>, interval: Option<Duration>) -> Result<()> {
    let (Some(ttl), Some(interval)) = (ttl, interval) else { return Ok(()) };
    let needed = (min_life_ms(interval) / SECOND) as u64;
    let needed = needed.min(*TTL_SECONDS.end());
    if ttl >= needed {
        return Ok(());
    }

    let ttl = Duration::from_secs(ttl);
    let needed = show_duration(Duration::from_secs(needed));
    let shorter_helps = ttl.as_millis() as i64 >= min_life_ms(MIN_INTERVAL);
    let or_shorter = if shorter_helps { ", or a shorter --interval" } else { "" };
    Err(Error::usage(format!(
        "a lifetime of {} is too short for a check interval of {}",
        show_duration(ttl),
        show_duration(interval)
    ))
    .because(format!("the lifetime comes from {}", settings.origin(Id::Ttl)))
    .hint(format!("--ttl {needed} or more{or_shorter}")))
}

/// Checks the personal access token of a stored login against the check interval. It is deleted ten
/// minutes after its replacement, so the program that reads the target must find the next one
/// before that; and the oldest one that is handed out must keep the promise.
pub fn check_rotation(settings: &Settings, interval: Duration, context: &Context) -> Result<()> {
    let renew_with = settings.login(context).map(|login| &login.renew_with);
    let Some(RenewWith::Pat(token)) = renew_with else { return Ok(()) };

    if token.lifetime - token.max_age < min_life_ms(interval) {
        let lifetime = show_duration(Duration::from_millis(token.lifetime as u64));
        return Err(Error::usage(format!(
            "a token lifetime of {lifetime} is too short for a target"
        ))
        .hint("lakebase-token login --pat --pat-lifetime 1h, or more"));
    }

    let max_interval = Duration::from_millis(ROTATION_GRACE_MS as u64 / 2);
    if interval <= max_interval {
        return Ok(());
    }
    let interval = show_duration(interval);
    Err(Error::usage(format!("a check interval of {interval} is too long for this login"))
        .because("tokens of `login --pat` are deleted ten minutes after they are replaced")
        .hint(format!("--interval {} or less", show_duration(max_interval))))
}
