//! The workspace token of a session, and the requests that it authenticates. How a provider gets one is
//! the business of `auth/providers/`.

use crate::auth::entra;
use crate::auth::provider::ProviderCall;
use crate::cache::freshness::refresh_limits;
use crate::cache::policy::{FetchCall, Need, offline};
use crate::config::table::Id;
use crate::config::value::{Origin, scopes};
use crate::credential::jwt::expiry_within;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::credential::token::{MIN_LIFE_MS, Token};
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::Api;
use crate::login::store::Logins;
use crate::net::refusal::{CallError, Outcome, Refusal};
use crate::platform::time::{Deadline, HOUR};
use crate::session::{Answered, Session, provider_key};

impl Session<'_> {
    /// The workspace token, cached or fetched by the chosen provider.
    pub(super) fn workspace_token(&self, need: Need<'_>, deadline: Deadline) -> Result<Token> {
        let provider = self.plan.provider;
        let Some(fetch_from_provider) = provider.fetch else {
            return Err(Error::usage(format!("{provider} gives no tokens")));
        };
        let (refused, min_life_ms) = match need {
            Need::Printed { .. } if self.plan.refresh => (false, i64::MAX),
            Need::Printed { min_ttl } => (false, refresh_limits(HOUR, min_ttl).0),
            Need::Used { refused } => (refused.is_some(), MIN_LIFE_MS),
        };
        let slot = self.workspace_slot();
        let url = self.url(deadline)?;

        let fetch = |call: &FetchCall<'_>| {
            let token = self.with_provider_call(&url, call, |call| {
                fetch_from_provider(&ProviderCall { refused, min_life_ms, ..*call })
            })?;
            if provider.login_can_change {
                slot.evict_other_subjects(token.subject.as_deref());
            }
            if provider.renews {
                self.log(&format!("workspace token by {}", provider.name), &token);
            }
            Ok(token)
        };
        let token = if provider.cached {
            self.get(&slot, need, deadline, &fetch)?
        } else {
            self.policy.fetch_uncached(&slot, deadline, &fetch)?
        };
        self.subject.borrow_mut().clone_from(&token.subject);
        Ok(token)
    }

    fn with_provider_call<T>(
        &self,
        url: &str,
        how: &FetchCall<'_>,
        work: impl FnOnce(&ProviderCall<'_>) -> Result<T>,
    ) -> Result<T> {
        work(&ProviderCall {
            settings: &self.plan.settings,
            url,
            context: self.policy.context,
            client: &self.client,
            resolve_cached: &|what, ask| {
                let ask = |_| Ok(Answered { answer: ask()?, subject: None });
                self.cached_text(&provider_key(what), how.deadline, &ask)
            },
            tool_answer: &self.tool_answer,
            lock: how.lock,
            lock_wait: how.lock_wait,
            refused: false,
            min_life_ms: MIN_LIFE_MS,
            deadline: how.deadline,
        })
    }

    /// The workspace's URL: configured, or resolved by the provider.
    pub fn url(&self, deadline: Deadline) -> Result<String> {
        let service = self.plan.provider.azure.as_ref();
        let Some(service) = service.filter(|_| self.plan.url().is_empty()) else {
            return Ok(self.plan.url().to_owned());
        };
        if let Some(url) = self.resolved_url.get() {
            return Ok(url.clone());
        }
        let url = self.cached_text(&provider_key("workspace"), deadline, &|deadline| {
            let locate = |call: &ProviderCall<'_>| entra::resolve_workspace(call, service);
            let how = FetchCall { deadline, lock: None, lock_wait: self.lock_wait.get() };
            let answer = self.with_provider_call("", &how, locate)?;
            Ok(Answered { answer, subject: None })
        })?;
        Ok(self.resolved_url.get_or_init(|| url).clone())
    }

    /// The headers that Azure's workspaces need beside the bearer token.
    fn azure_headers(&self, url: &str, deadline: Deadline) -> Result<Vec<(&'static str, Secret)>> {
        let Some(service) = &self.plan.provider.azure else { return Ok(Vec::new()) };
        let fetch = |call: &FetchCall<'_>| {
            let ask = |call: &ProviderCall<'_>| entra::management_token(call, service);
            self.with_provider_call(url, call, ask)
        };
        let need = Need::Used { refused: None };
        let token = self.get(&self.management_slot(), need, deadline, &fetch);
        entra::workspace_headers(&self.plan.settings, service, token)
    }

    /// A token with few scopes may not ask who it is. Then its subject is the role, if that is a
    /// person's address.
    pub(super) fn subject_as_role(
        &self,
        failure: CallError,
        deadline: Deadline,
    ) -> Result<Answered<String>> {
        let token = self.workspace_token(Need::Used { refused: None }, deadline)?;
        match token.subject.filter(|subject| subject.contains('@')) {
            Some(address) => Ok(Answered { answer: address.clone(), subject: Some(address) }),
            None => {
                Err(failure.into_error().hint("PGUSER, or --pg-user, with the name of your role"))
            }
        }
    }

    /// Names the scopes that were asked for in an error that is about scopes.
    pub(super) fn with_scopes(&self, error: Error) -> Error {
        let (settings, provider) = (&self.plan.settings, self.plan.provider);
        if !error.about_scopes || error.from_cache {
            return error;
        }
        if provider.stored_login {
            let reason = "the scopes of a login are those that it was made with";
            return if error.because.iter().any(|known| known == reason) {
                error
            } else {
                error.because(reason).hint("lakebase-token login --scopes all-apis")
            };
        }
        if !provider.uses_token_endpoint {
            return error;
        }
        let names = redact(&scopes(settings.text(Id::Scopes)).join(" "));
        let reason = match settings.origin(Id::Scopes) {
            Origin::Default => {
                format!("the scopes asked for are {names}, as no setting names others")
            }
            origin => format!("the scopes asked for are {names}, from {origin}"),
        };
        if error.because.contains(&reason) { error } else { error.because(reason) }
    }

    /// Makes another request to the workspace, as this identity.
    pub fn ask<T>(&self, deadline: Deadline, ask: impl Fn(&Api<'_>) -> Outcome<T>) -> Result<T> {
        self.ask_or_refusal(deadline, ask).map_err(CallError::into_error)
    }

    /// The same for a caller that distinguishes refusals.
    pub fn ask_or_refusal<T>(
        &self,
        deadline: Deadline,
        ask: impl Fn(&Api<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        Ok(self.with_bearer(deadline, ask)?.answer)
    }

    /// Makes a request with the workspace token, and once more with a new one if the workspace
    /// refuses the token.
    pub(super) fn with_bearer<T>(
        &self,
        deadline: Deadline,
        ask: impl Fn(&Api<'_>) -> Outcome<T>,
    ) -> Outcome<Answered<T>> {
        if self.plan.offline {
            return Err(CallError::Other(offline()));
        }
        let url = self.url(deadline)?;
        let token = self.workspace_token(Need::Used { refused: None }, deadline)?;
        match self.ask_with(&token, &url, deadline, &ask) {
            Err(CallError::Refused(refusal)) if refusal.is_about_token() => {
                if !self.plan.provider.renews {
                    return Err(CallError::Other(self.token_refused(refusal)));
                }
                // The refusal does not say which of the two tokens it means.
                self.management_slot().evict();
                let refused = Need::Used { refused: Some(&token.secret) };
                let token = self.workspace_token(refused, deadline)?;
                self.ask_with(&token, &url, deadline, &ask)
            }
            outcome => outcome,
        }
    }

    /// The error for a refused token that is a setting, so that nothing renews it.
    fn token_refused(&self, refusal: Refusal) -> Error {
        let settings = &self.plan.settings;
        let id = self.plan.provider.secret.unwrap_or(Id::Token);
        let origin = settings.origin(id);
        let hint = format!("put a new personal access token in {origin}");
        let error = refusal.into_error().hint(hint);

        let token = settings.secret(id).map(Secret::expose).unwrap_or_default();
        let expired = expiry_within(token.as_bytes()).filter(|at| *at <= self.policy.context.now());
        let error = match expired {
            Some(at) => error.because(format!(
                "the token from {origin} has expired, at {at}: it is an OAuth token, which nothing renews there"
            )),
            None => error,
        };

        let is_named = settings.get(Id::AuthType).is_some();
        let logins = Logins::of(self.policy.context).ok().filter(|_| !is_named);
        let instead = match logins.and_then(|all| settings.find_login(&all).ok()?) {
            Some(login) => format!("to use the login of {}", redact(&login.who)),
            None if expired.is_some() => "and then: lakebase-token login".to_owned(),
            None => return error,
        };
        error.hint(format!("{}  # {instead}", settings.removal(id)))
    }

    fn ask_with<T>(
        &self,
        token: &Token,
        url: &str,
        deadline: Deadline,
        ask: &impl Fn(&Api<'_>) -> Outcome<T>,
    ) -> Outcome<Answered<T>> {
        let headers = self.azure_headers(url, deadline)?;
        let answer = ask(&Api {
            client: &self.client,
            url,
            workspace_id: self.plan.workspace_id(),
            token: &token.secret,
            headers: &headers,
            deadline,
        })?;
        Ok(Answered { answer, subject: token.subject.clone() })
    }
}
