//! One attempt to log in: the settings, the key of the login, and how long the attempt may take. What
//! `browser.rs` and `paste.rs` have in common.

use std::time::Duration;

use crate::commands::logout;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::error::Result;
use crate::login::record::{Login, LoginKey};
use crate::login::store::Logins;
use crate::plan;
use crate::platform::context::Context;
use crate::platform::time::{Deadline, SECOND, show_duration};

/// How long the workspace may take to answer, and another process to finish a renewal.
pub const WORKSPACE_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Attempt<'a> {
    pub context: &'a Context,
    pub settings: &'a Settings,
    pub key: LoginKey,
    pub host: &'a str,
    pub logins: Logins<'a>,
    /// When the person must have logged in.
    pub deadline: Deadline,
}

impl Attempt<'_> {
    /// Stores a new login, then revokes the tokens of the previous login with the same key.
    pub fn store(&self, login: &Login) -> Result<()> {
        let previous = self.logins.get_usable(&self.key)?;
        self.logins.store(login, Deadline::after(WORKSPACE_TIMEOUT))?;

        // Only after the new login is stored: if that fails, the person keeps the previous login.
        if let Some(previous) = previous
            && let Err(error) = logout::revoke(self.context, &previous)
        {
            self.context.note(&error.message);
        }
        Ok(())
    }
}

/// A duration setting in milliseconds: whole seconds from `min` to `max`.
pub fn duration_ms(settings: &Settings, id: Id, default: i64, min: i64, max: i64) -> Result<i64> {
    let Some(duration) = plan::duration(settings, id)? else { return Ok(default) };
    let millis = duration.as_millis().try_into().unwrap_or(i64::MAX);
    if !(min..=max).contains(&millis) || millis % SECOND != 0 {
        let range = format!("{} and {}", show_millis(min), show_millis(max));
        return Err(plan::out_of_bounds(settings, id, &range));
    }
    Ok(millis)
}

pub fn show_millis(millis: i64) -> String {
    show_duration(Duration::from_millis(millis as u64))
}
