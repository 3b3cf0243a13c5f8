//! What an auth type is: its row in the credential chain, and what its `fetch` gets to work with.
//!
//! The order of the rows, and which one is used, is in `chain.rs`.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest;
use serde_json::Value;

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::net::http::Client;
use crate::platform::context::Context;
use crate::platform::environment::{begins_with, is_same_name};
use crate::platform::lock::LockGuard;
use crate::platform::process::{Program, ToolOutput, run_tool};
use crate::platform::time::Deadline;

/// An auth type. Functions of a row make no request, except `fetch` and those of `azure`.
pub struct Provider {
    /// Databricks' name for the auth type.
    pub name: &'static str,
    /// What must be configured for it, as the end of "needs …". Users read it.
    pub needs: &'static str,
    /// Whether everything it needs is configured.
    pub configured: fn(&Settings, &Context) -> bool,
    /// All that decides whose token it gets, for the key of the cache entry.
    pub identity: fn(&Settings, &Context) -> String,
    /// The error if the program or the login that it needs is not on this machine.
    pub missing: fn(&Settings, &Context) -> Option<Error>,
    /// The static secret that it authenticates with.
    pub secret: Option<Id>,
    /// The settings that say where its secret is, if they are not secret themselves.
    pub secret_pointers: &'static [Id],
    /// The identity token that it will send, if it is known without a request.
    pub identity_token: fn(&Settings, &Context) -> Option<Secret>,
    /// Refuses settings that would send a token to a wrong host.
    pub check: fn(&Settings) -> Result<()>,
    /// The setting that is also the name of the Postgres role: a service principal's client id.
    pub role: Option<Id>,
    /// Whether another person can log in without a change of any setting.
    pub login_can_change: bool,
    /// Variables that decide how its requests are routed, beside those of all requests.
    pub route_variables: &'static [&'static str],
    /// Whether a token that the workspace refuses can be replaced by another `fetch`.
    pub renews: bool,
    /// Whether its tokens are cached. Personal access tokens are not: a copy is only one more leak.
    pub cached: bool,
    /// Whether it is a person's login, made by any program.
    pub login: bool,
    /// Whether it is a login made by `lakebase-token login`.
    pub stored_login: bool,
    /// Whether it asks the workspace's token endpoint itself (`token_endpoint.rs`): with the scopes of
    /// the settings, and as their group (`group_id`).
    pub uses_token_endpoint: bool,
    /// For auth types that get tokens from Azure.
    pub azure: Option<AzureTokens>,
    /// What keeps every fetch waiting: a run of its tool that does not end.
    pub blocking_run: fn(&Context) -> Option<Error>,
    /// The files that change when a user logs in.
    pub login_files: fn(&Settings, &Context) -> Vec<PathBuf>,
    /// Gets a workspace token; `None` if the auth type is not supported.
    pub fetch: Option<fn(&ProviderCall<'_>) -> Result<Token>>,
    /// What to use in place of an auth type that is not supported. Users read it.
    pub instead: &'static str,
}

/// The defaults of a row.
pub const ROW: Provider = Provider {
    name: "",
    needs: "",
    configured: |_, _| false,
    identity: |_, _| String::new(),
    missing: |_, _| None,
    secret: None,
    secret_pointers: &[],
    identity_token: |_, _| None,
    check: |_| Ok(()),
    role: None,
    login_can_change: false,
    route_variables: &[],
    renews: true,
    cached: true,
    login: false,
    stored_login: false,
    uses_token_endpoint: false,
    azure: None,
    blocking_run: |_| None,
    login_files: |_, _| Vec::new(),
    fetch: None,
    instead: "",
};

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The name, marked for a stored login, since `pat` is the name of two rows.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.stored_login { f.write_str(" (lakebase-token login)") } else { Ok(()) }
    }
}

/// An identity of Azure's, which can get a token for any resource.
pub struct AzureTokens {
    /// Gets a token for a resource.
    pub token: fn(&ProviderCall<'_>, &str) -> Result<Token>,
    /// Whether it needs the management token. If not, a refusal of that token is cached for an hour.
    pub must_manage: bool,
}

/// What a provider gets for one `fetch`.
pub struct ProviderCall<'a> {
    pub settings: &'a Settings,
    /// The workspace URL.
    pub url: &'a str,
    pub context: &'a Context,
    pub client: &'a Client<'a>,
    /// Resolves a text by a request, and caches it for a day.
    pub resolve_cached: &'a ResolveCached<'a>,
    /// What a tool says that is asked once only, however many tokens are needed.
    pub tool_answer: &'a OnceCell<Value>,
    /// The lock under which this call runs; `None` if there could be none.
    pub lock: Option<&'a LockGuard<'a>>,
    /// How long it may wait for another process that is busy.
    pub lock_wait: Duration,
    /// The workspace has refused the last token, so it must be another one.
    pub refused: bool,
    /// The least life of the token, in milliseconds; `i64::MAX` for a new one.
    pub min_life_ms: i64,
    pub deadline: Deadline,
}

impl ProviderCall<'_> {
    /// Runs the CLI that has the login, under this call's lock and another one. It sees no secret, and
    /// of Databricks' variables only those in `kept`: an inherited host or profile would change whose
    /// token it prints.
    pub fn run_cli(
        &self,
        path: &Path,
        arguments: &[&str],
        kept: &[&str],
        lock: Option<&LockGuard<'_>>,
        shown: &str,
    ) -> Result<ToolOutput> {
        let sees = |name: &OsStr| cli_sees(self.settings, kept, name);
        let locks = [self.lock, lock];
        // `az` prints colours and warnings into its answer otherwise.
        let variables = [
            (RUN_BY_US, "1".to_owned()),
            ("AZURE_CORE_NO_COLOR", "true".to_owned()),
            ("AZURE_CORE_ONLY_SHOW_ERRORS", "true".to_owned()),
        ];
        let tool = Program { path, arguments, sees: &sees, variables: &variables, locks };
        run_tool(self.context, &tool, shown, self.deadline)
    }
}

/// Set for the tools that this program runs, so that it notices if they run it in turn.
pub const RUN_BY_US: &str = "LAKEBASE_TOKEN_RUNS_CLI";

fn cli_sees(settings: &Settings, kept: &[&str], name: &OsStr) -> bool {
    let is_kept = kept.iter().any(|kept| is_same_name(name, kept));
    is_kept || !begins_with(name, "DATABRICKS_") && !settings.holds_secret(name)
}

/// See [`ProviderCall::resolve_cached`]. The arguments are the text's name and the request.
pub type ResolveCached<'a> = dyn Fn(&str, &dyn Fn() -> Result<String>) -> Result<String> + 'a;

/// A hash that tells two secrets apart without showing them, for keys of cache entries. The entry's
/// own fingerprint of the secret is keyed and longer.
pub fn hashed(settings: &Settings, id: Id) -> String {
    let secret = settings.secret(id).map_or("", |secret| secret.expose());
    hex(&digest::digest(&digest::SHA256, secret.as_bytes()).as_ref()[..8])
}

pub fn has(settings: &Settings, ids: &[Id]) -> bool {
    ids.iter().all(|id| settings.get(*id).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cli_sees_no_secret_and_no_variable_that_changes_its_answer() {
        let settings = Settings::default();
        for (name, is_seen) in [
            ("PATH", true),
            ("DBUS_SESSION_BUS_ADDRESS", true),
            ("DATABRICKS_CONFIG_FILE", true),
            ("DATABRICKS_HOST", false),
            ("DATABRICKS_CONFIG_PROFILE", false),
            ("DATABRICKS_CLIENT_SECRET", false),
            ("ARM_CLIENT_SECRET", false),
        ] {
            let sees = cli_sees(&settings, &["DATABRICKS_CONFIG_FILE"], OsStr::new(name));
            assert_eq!(sees, is_seen, "{name}");
        }
    }
}
