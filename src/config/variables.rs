//! The environment variables that are settings, by the table of `config/table.rs`, and those that may
//! hold a secret.

use std::ffi::OsStr;

use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::environment::is_same_name;
use crate::suggest::distance;

/// The variable that holds an identity token if `oidc_token_env` names no other.
pub const OIDC_TOKEN: &str = "DATABRICKS_OIDC_TOKEN";

/// The variable with the bearer token of an Azure DevOps job.
pub const DEVOPS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";

/// The variables that may hold a Databricks secret. `oidc_token_env` may name another one.
pub fn secret_variables<'n>() -> impl Iterator<Item = &'n str> {
    let secrets = SETTINGS.iter().filter(|row| row.kind == ValueKind::Secret);
    secrets.flat_map(|row| row.env).copied().chain([OIDC_TOKEN, DEVOPS_TOKEN])
}

/// The variables that take part in Databricks unified authentication: with them, a Databricks tool would authenticate
/// as their identity. Where its configuration file and its CLI are stays.
pub fn identity_variables<'n>() -> impl Iterator<Item = &'n str> {
    let rows = SETTINGS[..=Id::DebugHeaders as usize].iter();
    let is_place = |row: &&Setting| matches!(row.id, Id::ConfigFile | Id::DatabricksCliPath);
    rows.filter(move |row| !is_place(row)).flat_map(|row| row.env).copied()
}

/// Whether a variable may hold a secret. A tool that does not need it is started without it.
/// `token_variable` is what `oidc_token_env` names.
pub fn holds_secret(name: &OsStr, token_variable: Option<&OsStr>) -> bool {
    is_same_name(name, "PGPASSWORD")
        || token_variable.and_then(OsStr::to_str).is_some_and(|known| is_same_name(name, known))
        || secret_variables().any(|known| is_same_name(name, known))
}

/// The same for a program that needs no proxy either, such as psql: the URL of a proxy may have a
/// password.
pub fn is_withheld_from_local_tools(name: &OsStr, token_variable: Option<&OsStr>) -> bool {
    let is_proxy = name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy");
    is_proxy || holds_secret(name, token_variable)
}

/// A variable that is set, and the setting that it sets.
pub struct Variable<'w> {
    pub row: &'static Setting,
    pub name: &'static str,
    pub text: &'w str,
}

/// All variables that are settings and not empty, in the order of the table.
pub fn read_variables(context: &Context) -> Result<Vec<Variable<'_>>> {
    let mut variables = Vec::with_capacity(16);
    for row in SETTINGS {
        for &name in row.env {
            let Some(value) = context.var(name) else { continue };
            let Some(text) = value.to_str() else {
                return Err(Error::usage(format!("{name} is not valid UTF-8")));
            };
            if is_meant(name, text) {
                variables.push(Variable { row, name, text });
            } else if !variables.iter().any(|known| known.row.id == row.id) {
                context.note(&format!(
                    "{name} is ignored, since its value does not begin with projects/"
                ));
            }
        }
    }
    Ok(variables)
}

/// Databricks' samples use these names, but so do other programs: only a resource name counts.
fn is_meant(name: &str, text: &str) -> bool {
    const SHARED: [&str; 3] = ["LAKEBASE_ENDPOINT_NAME", "LAKEBASE_ENDPOINT_PATH", "ENDPOINT_NAME"];
    !SHARED.contains(&name) || text.trim_start().starts_with("projects/")
}

/// Variables of ours and of Databricks' that no setting has.
const OTHERS: [&str; 6] = [
    "LAKEBASE_TOKEN_LOG",
    "LAKEBASE_TOKEN_EXPIRES_AT",
    "LAKEBASE_DATABASE_URL",
    "LAKEBASE_URL",
    OIDC_TOKEN,
    "DATABRICKS_RUNTIME_VERSION",
];

/// The most letters by which a mistyped name differs.
const MAX_MISTAKES: usize = 2;

/// A sentence for each variable that is set and nearly has the name of a setting.
pub fn misspelled_variables(context: &Context) -> Vec<String> {
    let known = || SETTINGS.iter().flat_map(|row| row.env).copied().chain(OTHERS);
    let is_ours = |name: &&str| {
        ["LAKEBASE", "DATABRICK"].iter().any(|start| name.to_ascii_uppercase().starts_with(start))
    };
    let names = context.env.iter().filter_map(|(name, _)| name.to_str());
    let unknown = names.filter(is_ours).filter(|name| !known().any(|known| known == *name));
    let found = unknown.filter_map(|name| {
        let (distance, meant) = known().map(|known| (distance(name, known), known)).min()?;
        (distance <= MAX_MISTAKES)
            .then(|| format!("{name} is set and means nothing; is it {meant}?"))
    });
    found.collect()
}

/// Variables in which other programs name a database, and which are not read here.
const OTHER_DATABASES: [&str; 9] = [
    "DATABASE_URL",
    "LAKEBASE_DATABASE_URL",
    "LAKEBASE_URL",
    "POSTGRES_URL",
    "POSTGRES_HOST",
    "PG_URL",
    "DB_HOST",
    "JDBC_DATABASE_URL",
    "SQLALCHEMY_DATABASE_URI",
];

/// The first of these variables that is set.
pub fn other_database(context: &Context) -> Option<&'static str> {
    OTHER_DATABASES.into_iter().find(|name| context.var(name).is_some())
}
