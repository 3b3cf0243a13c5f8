//! Which database the settings mean, and which of them counts if several name one. How a name is read and resolved
//! is `lakebase/resolve.rs`'s business.

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::destination::in_databricks_domain;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::MintTarget;
use crate::lakebase::resolve::DatabaseSelector;

/// What to mint for, and the setting that names it.
pub fn selector(settings: &Settings) -> Result<(DatabaseSelector, Option<Id>)> {
    let Some(id) = selecting_setting(settings)? else {
        return Ok((DatabaseSelector::Only, None));
    };
    let text = settings.text(id).unwrap_or_default();
    let origin = settings.origin(id);
    let selector = match id {
        Id::Endpoint => DatabaseSelector::parse(text, origin)?,
        Id::PgHost => DatabaseSelector::host(text, origin)?,
        _ => instance(text, origin)?,
    };
    Ok((selector, Some(id)))
}

/// The setting that decides what to mint for: an endpoint or an instance, whichever has the stronger
/// origin, else the Postgres host.
fn selecting_setting(settings: &Settings) -> Result<Option<Id>> {
    let rank_of = |id| settings.get(id).map(|value| rank(&value.origin));
    match (rank_of(Id::Endpoint), rank_of(Id::Instance)) {
        (Some(endpoint), Some(instance)) if endpoint == instance => {
            Err(Error::usage("an endpoint and an instance are both named")
                .because(value_and_origin(settings, Id::Endpoint))
                .because(value_and_origin(settings, Id::Instance))
                .hint("remove one of them, or name the one that is meant: --endpoint, --instance"))
        }
        (Some(endpoint), Some(instance)) if instance < endpoint => Ok(Some(Id::Instance)),
        (Some(_), _) => Ok(Some(Id::Endpoint)),
        (None, Some(_)) => Ok(Some(Id::Instance)),
        (None, None) => Ok(settings.get(Id::PgHost).map(|_| Id::PgHost)),
    }
}

/// The lower, the stronger.
fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Flag(_) => 0,
        Origin::Env(_) => 1,
        _ => 2,
    }
}

fn instance(name: &str, origin: &Origin) -> Result<DatabaseSelector> {
    if name.contains(['/', '?', '#']) || name.chars().any(|c| c.is_control()) {
        let name = redact(name);
        return Err(Error::usage(format!("{origin} is not an instance name: {name}")));
    }
    Ok(DatabaseSelector::Named(MintTarget::Instance { name: name.to_owned(), host: None }))
}

/// Whether a pooled host is asked for. Only endpoints have one.
pub fn pooled(settings: &Settings, selector: &DatabaseSelector) -> Result<bool> {
    let pooled = settings.is_on(Id::Pooled);
    if pooled && selector.is_instance() {
        let origin = settings.origin(Id::Pooled);
        return Err(Error::usage(format!(
            "{origin} is for Autoscaling: a Provisioned instance has no pooled host"
        ))
        .because(format!("the instance is {}", redact(selector.name())))
        .hint(format!("leave out {origin}")));
    }
    Ok(pooled)
}

/// The variable with an endpoint's host that a stronger setting overrides: an endpoint that a flag or the profile
/// of `--profile` names. `env` and `exec` have set the variable for another call. A host outside Databricks'
/// domains stays: it leads to the named endpoint, such as a tunnel.
pub fn overridden_host(
    settings: &Settings,
    selector: &DatabaseSelector,
    selector_origin: Id,
) -> Option<&'static str> {
    let Origin::Env(name) = settings.origin(Id::PgHost) else { return None };
    let is_stronger = |id| rank(settings.origin(id)) < rank(settings.origin(Id::PgHost));
    let is_of_profile = matches!(settings.origin(selector_origin), Origin::Profile(_));
    let is_overridden = is_stronger(selector_origin) || is_of_profile && is_stronger(Id::Profile);
    let names_endpoint =
        matches!(selector, DatabaseSelector::Named(_) | DatabaseSelector::Parent(_));
    let host = settings.text(Id::PgHost).unwrap_or_default();
    (is_overridden && names_endpoint && in_databricks_domain(host)).then_some(name)
}

/// A setting as a reason in a message.
fn value_and_origin(settings: &Settings, id: Id) -> String {
    let text = redact(settings.text(id).unwrap_or_default());
    format!("{text} from {}", settings.origin(id))
}
