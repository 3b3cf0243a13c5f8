//! The environment variables that are settings, by the table of `table.rs`.

use std::ffi::OsStr;

use crate::config::table::{SETTINGS, Setting};
use crate::error::{Error, Result};
use crate::platform::context::Context;

/// The variable that holds an identity token if `oidc_token_env` names no other.
pub const OIDC_TOKEN: &str = "DATABRICKS_OIDC_TOKEN";

/// The variable with the bearer token of an Azure DevOps job.
pub const DEVOPS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";

/// A variable that is set, and the setting that it sets.
pub struct Variable<'w> {
    pub row: &'static Setting,
    pub name: &'static str,
    pub text: &'w str,
}

/// All variables that are settings, sorted so that the first one of a row is the one that counts.
pub fn read_variables(context: &Context) -> Result<Vec<Variable<'_>>> {
    let mut ranked: Vec<(usize, Variable<'_>)> = Vec::new();
    for (name, value) in context.env.iter() {
        let Some((row, rank)) = row_of_variable(name) else { continue };

        let name = row.env[rank];
        let Some(text) = value.to_str() else {
            return Err(Error::usage(format!("{name} is not valid UTF-8")));
        };
        if !text.is_empty() && is_meant(name, text) {
            ranked.push((rank, Variable { row, name, text }));
        }
    }

    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, variable)| variable).collect())
}

/// The setting that a variable sets, and the variable's position among those of that setting.
fn row_of_variable(name: &OsStr) -> Option<(&'static Setting, usize)> {
    SETTINGS.iter().find_map(|row| {
        let rank = row.env.iter().position(|known| name == *known)?;
        Some((row, rank))
    })
}

/// Databricks' samples use ENDPOINT_NAME, but so do other programs: only a resource name counts.
fn is_meant(name: &str, text: &str) -> bool {
    name != "ENDPOINT_NAME" || text.starts_with("projects/")
}
