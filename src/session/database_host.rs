//! Which database a session mints for, and the host that it listens on: resolved by requests where the
//! settings do not say it, and cached for a day.

use crate::config::table::Id;
use crate::config::value::Origin;
use crate::config::variables::other_database;
use crate::credential::destination::is_database_host;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::{self, MintTarget};
use crate::lakebase::pooled;
use crate::lakebase::resolve::{self, DatabaseSelector};
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::{CallError, Outcome};
use crate::platform::time::Deadline;
use crate::session::{Answered, Session};

impl Session<'_> {
    /// The endpoint or instance that the selector names.
    pub fn database(&self, deadline: Deadline) -> Result<MintTarget> {
        if let DatabaseSelector::Named(database) = &self.plan.selector {
            return Ok(database.clone());
        }
        let origin = self.plan.selector_origin.map(|id| self.plan.settings.origin(id));
        let origin = origin.unwrap_or(&Origin::Default);
        self.resolved_database(&self.selector_key(), deadline, &|deadline| {
            self.with_bearer(deadline, |api| resolve::database(api, &self.plan.selector, origin))
                .inspect(|found| self.note_only_project(&found.answer))
                .map_err(|failure| CallError::Other(self.not_found(failure, deadline)))
        })
    }

    /// The only project is not taken silently if another variable names a database.
    fn note_only_project(&self, found: &MintTarget) {
        let context = self.policy.context;
        if let Some(name) = other_database(context)
            && self.plan.selector == DatabaseSelector::Only
        {
            context.note(&format!(
                "using the only project, {}, since lakebase-token does not read {name}; --endpoint \
                 selects another database",
                redact(found.name())
            ));
        }
    }

    /// The host that libpq connects to.
    pub(super) fn host(&self, deadline: Deadline) -> Result<String> {
        if let Some(host) = self.plan.host() {
            return Ok(host.to_owned());
        }

        let mut database = self.database(deadline)?;
        if database.host().is_none() || self.plan.pooled {
            database = self.resolved_database(&self.location_key(), deadline, &|deadline| {
                self.with_bearer(deadline, |api| self.ask_for_host(api, &database))
                    .map_err(|failure| self.explained(failure))
            })?;
        }
        let host = database.host().ok_or_else(|| Error::failed("the host is not known"))?;

        // An answer does not decide where a password goes.
        if !is_database_host(host, &self.url(deadline)?) {
            return Err(Error::failed(format!(
                "the workspace names a Postgres host outside Databricks' domains: {}",
                redact(host)
            ))
            .because(format!("it is the host of {} {}", database.kind(), redact(database.name())))
            .hint("PGHOST, or --pg-host, if you know that this host is right"));
        }
        Ok(host.to_owned())
    }

    fn ask_for_host(&self, api: &Api<'_>, database: &MintTarget) -> Outcome<MintTarget> {
        if !self.plan.pooled {
            return credentials::resolve_host(api, database.clone());
        }
        let settings = &self.plan.settings;
        let named = self.plan.named_host().map(|host| {
            let id = if settings.get(Id::PgHost).is_some() { Id::PgHost } else { Id::Endpoint };
            (host, settings.origin(id))
        });
        pooled::resolve_host(api, database, named, settings.origin(Id::Pooled))
    }

    fn resolved_database(
        &self,
        what: &str,
        deadline: Deadline,
        ask: &dyn Fn(Deadline) -> Outcome<Answered<MintTarget>>,
    ) -> Result<MintTarget> {
        let line = self.cached_text(what, deadline, &|deadline| {
            let found = ask(deadline).map_err(CallError::into_error)?;
            Ok(Answered { answer: found.answer.to_line(), subject: found.subject })
        })?;
        MintTarget::from_line(&line).ok_or_else(|| {
            Error::failed("the cached name of the database cannot be read")
                .hint("lakebase-token --no-cache")
        })
    }
}
