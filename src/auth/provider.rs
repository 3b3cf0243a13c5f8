//! One auth type: its row in the credential chain, and what it gets to work with.
//!
//! The order of the rows, and which one is used, is in `chain.rs`.

use std::fmt;

use ring::digest;

use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::encoding::hex;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::Result;
use crate::net::http::Client;
use crate::platform::context::Context;
use crate::platform::lock::LockGuard;
use crate::platform::time::Deadline;

/// An auth type.
pub struct Provider {
    /// Databricks' name for it.
    pub name: &'static str,
    /// What makes it the one, for messages.
    pub needs: &'static str,
    /// Whether all it needs is there.
    pub configured: fn(&Settings, &Context) -> bool,
    /// Who this is, as far as it can be known without asking anybody: all that decides it.
    pub identity: fn(&Settings, &Context) -> String,
    /// Whether the program it needs is on this machine; asked only when it is needed.
    pub ready: fn(&Settings, &Context) -> bool,
    /// The static secret it authenticates with.
    pub secret: Option<Id>,
    /// The settings that say where its secret is, if it is none itself.
    pub secret_places: &'static [Id],
    /// The identity token that it will send, as far as it is at hand without a request.
    pub identity_token: fn(&Settings, &Context) -> Option<Secret>,
    /// Refuses settings that would send a token where it must not go.
    pub check: fn(&Settings) -> Result<()>,
    /// The setting that is the role's name too: a service principal's client id.
    pub role: Option<Id>,
    /// Whether the one who is logged in can change without any setting changing.
    pub login_can_change: bool,
    /// Variables that decide how it gets where it asks, beside those of every request.
    pub route_variables: &'static [&'static str],
    /// Whether a refused token can be replaced by asking again.
    pub renews: bool,
    /// Whether its tokens are cached: a copy of a personal access token would only be one more.
    pub cached: bool,
    /// Whether it is a person's login, of whichever program.
    pub login: bool,
    /// Whether it is a login that `login` has made.
    pub stored_login: bool,
    /// Whether it can act as a group (`group_id`).
    pub groups: bool,
    /// What more it can do as a service of Azure's.
    pub azure: Option<Service>,
    /// Gets a token, or says why there is none.
    pub fetch: Option<fn(&ProviderCall<'_>) -> Result<Token>>,
    /// What to use in its place, where there is no `fetch`.
    pub instead: &'static str,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Its name, and whose login it is where two rows have one.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if self.stored_login { f.write_str(" (lakebase-token login)") } else { Ok(()) }
    }
}

/// A service of Azure's that gives tokens for any of its resources.
pub struct Service {
    /// Gets a token for a resource.
    pub token: fn(&ProviderCall<'_>, &str) -> Result<Token>,
    /// Whether it cannot do without the management token. Where it can, a refusal is believed for
    /// an hour.
    pub must_manage: bool,
}

/// What a provider may use.
pub struct ProviderCall<'a> {
    /// All settings.
    pub settings: &'a Settings,
    /// The workspace's URL.
    pub url: &'a str,
    /// The surroundings.
    pub context: &'a Context,
    /// Sends requests.
    pub client: &'a Client<'a>,
    /// Finds something out by the given request, and believes it for a day.
    pub look_up: &'a LookUp<'a>,
    /// The lock this runs under, if there could be one.
    pub lock: Option<&'a LockGuard<'a>>,
    /// The workspace has refused the last token, so a cached one will not do.
    pub refused: bool,
    /// The least life that is wanted, in milliseconds; `i64::MAX` for a new one.
    pub least_life: i64,
    /// When all must have ended.
    pub deadline: Deadline,
}

/// See [`ProviderCall::look_up`]: what it is, and how to find it.
pub type LookUp<'a> = dyn Fn(&str, &dyn Fn() -> Result<String>) -> Result<String> + 'a;

/// What holds for most: each row says what is different.
pub const ROW: Provider = Provider {
    name: "",
    needs: "",
    configured: |_, _| false,
    identity: |_, _| String::new(),
    ready: |_, _| true,
    secret: None,
    secret_places: &[],
    identity_token: |_, _| None,
    check: |_| Ok(()),
    login: false,
    role: None,
    login_can_change: false,
    route_variables: &[],
    renews: true,
    cached: true,
    stored_login: false,
    groups: false,
    azure: None,
    fetch: None,
    instead: "",
};

/// What tells a setting's secret from another, and not what it is. The entry's fingerprint says
/// more, under salt.
pub fn hashed(settings: &Settings, id: Id) -> String {
    let secret = settings.secret(id).map_or("", |secret| secret.expose());
    hex(&digest::digest(&digest::SHA256, secret.as_bytes()).as_ref()[..8])
}

pub fn has(settings: &Settings, ids: &[Id]) -> bool {
    ids.iter().all(|id| settings.get(*id).is_some())
}
