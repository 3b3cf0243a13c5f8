//! The environment variables that are settings, by the table of `table.rs`.

use std::ffi::OsStr;

use crate::config::table::{SETTINGS, Setting, ValueKind};
use crate::error::{Error, Result};
use crate::platform::context::Context;

/// The variable that holds an identity token if `oidc_token_env` names no other.
pub const OIDC_TOKEN: &str = "DATABRICKS_OIDC_TOKEN";

/// The variable with the bearer token of an Azure DevOps job.
pub const DEVOPS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";

/// Whether a variable may hold a secret of a call. A tool that is started for something else, such as
/// `az` or a browser, does not see it.
pub fn holds_secret(name: &OsStr) -> bool {
    let secrets = SETTINGS.iter().filter(|row| row.kind == ValueKind::Secret);
    let names = secrets.flat_map(|row| row.env).chain(&[OIDC_TOKEN, DEVOPS_TOKEN, "PGPASSWORD"]);
    names.into_iter().any(|known| name == *known)
}

/// A variable that is set, and the setting that it sets.
pub struct Variable<'w> {
    pub row: &'static Setting,
    pub name: &'static str,
    pub text: &'w str,
}

/// All variables that are settings and not empty, in the order of the table.
pub fn read_variables(context: &Context) -> Result<Vec<Variable<'_>>> {
    let mut variables = Vec::new();
    for row in SETTINGS {
        for &name in row.env {
            let Some(value) = context.var(name) else { continue };
            let Some(text) = value.to_str() else {
                return Err(Error::usage(format!("{name} is not valid UTF-8")));
            };
            if is_meant(name, text) {
                variables.push(Variable { row, name, text });
            }
        }
    }
    Ok(variables)
}

/// Databricks' samples use ENDPOINT_NAME, but so do other programs: only a resource name counts.
fn is_meant(name: &str, text: &str) -> bool {
    name != "ENDPOINT_NAME" || text.starts_with("projects/")
}
