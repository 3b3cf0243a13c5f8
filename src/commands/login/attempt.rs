//! One attempt to log in: which person's login, at which workspace, and how long it may take.

use std::time::Duration;

use crate::commands::logout;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::error::Result;
use crate::login::store::{Login, LoginKey, Logins};
use crate::plan;
use crate::platform::context::Context;
use crate::platform::time::{Deadline, SECOND, show_duration};

/// How long the workspace may take, and a renewal that goes on just now.
pub const WORKSPACE_LIMIT: Duration = Duration::from_secs(60);

/// Who wants to log in where.
pub struct Attempt<'a> {
    pub context: &'a Context,
    pub settings: &'a Settings,
    pub key: LoginKey,
    pub host: &'a str,
    pub logins: Logins<'a>,
    /// How long the person is waited for.
    pub deadline: Deadline,
}

impl Attempt<'_> {
    /// Ends the former login of this key in favour of a new one, which is stored in its place.
    pub fn store(&self, login: &Login) -> Result<()> {
        let former = self.logins.get(&self.key);
        self.logins.store(login, Deadline::after(WORKSPACE_LIMIT))?;
        // Only now: until then it was the only one.
        if let Some(former) = former
            && let Err(error) = logout::revoke(self.context, &former)
        {
            self.context.note(&error.message);
        }
        Ok(())
    }
}

/// A duration among the flags, in milliseconds.
pub fn duration(settings: &Settings, id: Id, default: i64, least: i64, most: i64) -> Result<i64> {
    let Some(asked) = plan::duration(settings, id)? else { return Ok(default) };
    let asked = asked.as_millis().try_into().unwrap_or(i64::MAX);
    let show = |millis: i64| show_duration(Duration::from_millis(millis as u64));
    if !(least..=most).contains(&asked) || asked % SECOND != 0 {
        let bounds = format!("{} to {}", show(least), show(most));
        return Err(plan::out_of_bounds(settings, id, &bounds));
    }
    Ok(asked)
}
