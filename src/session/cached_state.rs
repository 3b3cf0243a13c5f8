//! What the cache holds, for `status` and `doctor`: no request, and no refresh.

use crate::cache::entry::Cacheable;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::Error;
use crate::lakebase::credentials::MintTarget;
use crate::plan::CacheLocation;
use crate::session::{ROLE, Session};

impl Session<'_> {
    /// What is cached, without a request: the credential and the workspace token.
    pub fn peek(&self) -> [(Purpose, Option<Token>); 2] {
        let database = self.database_slot().load();
        [(Purpose::Database, database), (Purpose::Workspace, self.workspace_slot().load())]
    }

    /// The last failure of each, without a request.
    pub fn peek_failures(&self) -> impl Iterator<Item = Error> {
        let slots = [self.workspace_slot(), self.database_slot()];
        slots.into_iter().filter_map(|slot| slot.last_failure().map(|failure| failure.error))
    }

    /// The cached database and role, without a request.
    pub fn peek_resolved(&self) -> (Option<MintTarget>, Option<String>) {
        let load = |what: &str| {
            let cached = self.text_slot(what).load()?;
            (cached.left(self.policy.context.now()) > 0).then_some(cached.text)
        };
        let database = |key: String| MintTarget::from_line(&load(&key)?);
        let resolved = database(self.location_key()).or_else(|| {
            let selected = database(self.selector_key())?;
            Some(if self.plan.pooled { selected.without_host() } else { selected })
        });
        (resolved, load(ROLE))
    }

    /// Where credentials are cached, or why they are not.
    pub fn cache_words(&self) -> String {
        match (&self.plan.cache, self.cache.problem()) {
            (CacheLocation::Folder(folder), None) => format!("cached in {}", folder.display()),
            (CacheLocation::Folder(folder), Some(why)) => {
                format!("not cached in {}: {why}", folder.display())
            }
            (CacheLocation::Off, _) => "not cached, since the cache is off".to_owned(),
            (CacheLocation::Nowhere(why), _) => format!("not cached: {why}"),
        }
    }

    /// Why nothing can be stored in the cache folder, tried with a file.
    pub fn cache_problem(&self) -> Option<String> {
        match &self.plan.cache {
            CacheLocation::Folder(folder) => {
                let why = self.cache.problem().or_else(|| self.cache.try_to_store())?;
                let names_path = why.contains(std::path::MAIN_SEPARATOR);
                let folder = redact(&folder.to_string_lossy());
                Some(if names_path { why } else { format!("{folder}: {why}") })
            }
            CacheLocation::Off => None,
            CacheLocation::Nowhere(why) => Some((*why).to_owned()),
        }
    }
}
