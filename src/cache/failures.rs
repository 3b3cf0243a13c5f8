//! The failure cache: what went wrong last, so that a crowd of callers does not fail one after the
//! other, and a client that calls a failing helper many times a second does not flood the server.
//!
//! A failure is in a file of its own beside the entry: that one caller has a wrong secret must
//! not cost the others their token.

use std::ffi::OsStr;

use crate::cache::entry::{Cacheable, Fields, hash};
use crate::cache::store::{CacheFolder, FAILURE, Slot, with_parts};
use crate::error::Error;
use crate::net::connect::ROUTE_VARIABLES;
use crate::platform::files;
use crate::platform::time::Timestamp;

/// A failure, and when it was.
#[derive(Clone, Debug)]
pub struct PastFailure {
    pub at: Timestamp,
    pub error: Error,
}

impl<T: Cacheable> Slot<'_, T> {
    /// What went wrong last with the same inputs as ours, perhaps long ago.
    pub fn failure(&self) -> Option<PastFailure> {
        self.failure_in(&self.failure_name())
    }

    /// What went wrong last, with any inputs.
    pub fn last_failure(&self) -> Option<PastFailure> {
        let paths = files::list(self.folder.cache.folder?);
        let names = paths.iter().filter_map(|path| path.file_name().and_then(OsStr::to_str));
        let failures = names.filter(|name| self.is_failure(name));
        failures.filter_map(|name| self.failure_in(name)).max_by_key(|failure| failure.at)
    }

    pub fn cache_failure(&self, error: &Error) {
        let now = self.context().now();
        let fields = [
            ("failed", now.0.to_string()),
            ("logins", self.folder.logins()),
            ("failure", error.to_json().to_string()),
        ];
        self.write(&self.failure_name(), &fields, now);
    }

    fn failure_in(&self, name: &str) -> Option<PastFailure> {
        // A login since then invalidates the failure.
        let is_present = |fields: &Fields<'_>| fields.text("logins") == Some(&self.folder.logins());
        let failure =
            self.read(name, |fields| past_failure(fields).filter(|_| is_present(fields)))?;
        (failure.at <= self.context().now()).then_some(failure)
    }

    fn failure_name(&self) -> String {
        format!("{}-{}{FAILURE}", self.name, self.folder.failure_inputs())
    }
}

fn past_failure(fields: &Fields<'_>) -> Option<PastFailure> {
    let error = Error::from_json(&serde_json::from_str(fields.text("failure")?).ok()?)?;
    Some(PastFailure { at: fields.time("failed")?, error: Error { from_cache: true, ..error } })
}

impl CacheFolder<'_> {
    /// The state of the files that a login changes.
    fn logins(&self) -> String {
        let files = (self.cache.login_files)(self.cache.settings, self.cache.context);
        files.iter().map(|path| files::change_stamp(path)).collect::<Vec<_>>().join(" ")
    }

    /// The inputs that must match before another caller's failure is reused: the route to a server
    /// or to another program, and where settings come from, which its words name.
    fn failure_inputs(&self) -> &str {
        self.failure_inputs.get_or_init(|| {
            let route = |name: &&str| {
                let value = self.cache.context.var(name).unwrap_or_default().to_string_lossy();
                // Without what may be a proxy's password.
                value.rsplit('@').next().unwrap_or_default().to_owned()
            };
            let routes = ROUTE_VARIABLES.iter().chain(self.cache.route_variables).map(route);
            let origins = self.cache.settings.origins();
            let origins = origins.map(|(row, origin)| format!("{}{origin}", row.name));
            let inputs: Vec<String> = routes.chain(origins).collect();
            hash(&with_parts("", &inputs.iter().map(String::as_str).collect::<Vec<_>>()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::entry::CachedText;
    use crate::cache::store::CacheInputs;
    use crate::config::settings::Settings;
    use crate::platform::context::Context;

    #[test]
    fn a_login_since_then_invalidates_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let login = folder.path().join("login");
        let variables = [("LOGIN".into(), login.clone().into())];
        let context = Context { env: variables.into_iter().collect(), ..Context::of_process() };
        let settings = Settings::default();
        let cache = CacheInputs {
            context: &context,
            folder: Some(&folder.path().join("cache")),
            secret: None,
            settings: &settings,
            login_files: |_, context| vec![context.var("LOGIN").unwrap().into()],
            route_variables: &[],
        };
        let cache = CacheFolder::new(&["ada"], cache);
        let slot = cache.slot::<CachedText>(&["one"]);
        slot.cache_failure(&Error::login("the login has ended"));
        assert!(slot.failure().is_some());
        fs::write(&login, "a new one").unwrap();
        assert!(slot.failure().is_none());
        slot.cache_failure(&Error::login("it has ended, too"));
        assert!(slot.failure().is_some());
        fs::write(&login, "another one").unwrap();
        assert!(slot.failure().is_none());
    }
}
