//! What the settings let a credential do: tables that it may only read (`--read-only`), and the OAuth
//! scopes of the workspace token (`--scopes`). The workspace and Postgres enforce both.

use crate::auth::provider::Provider;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::error::{Error, Result};

/// The tables of a read-only credential, sorted; none for a credential with all rights.
pub fn tables(settings: &Settings, purpose: Purpose) -> Result<Vec<String>> {
    let Some(list) = settings.text(Id::ReadOnly) else { return Ok(Vec::new()) };
    if purpose == Purpose::Workspace {
        return Err(Error::usage("--read-only is for a database, and this is a workspace token")
            .hint("leave out --read-only"));
    }

    let mut tables: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
    if let Some(name) = tables.iter().find(|name| !is_table(name)) {
        return Err(Error::usage(format!(
            "--read-only names {}, which is not a table",
            redact(name)
        ))
        .because("the name of a table has three parts with dots between them, and no spaces")
        .hint("the names in Unity Catalog: --read-only CATALOG.SCHEMA.TABLE[,…]"));
    }
    tables.sort_unstable();
    tables.dedup();
    Ok(tables)
}

/// Whether this is the full name of a table. No part has a dot, a blank or a slash (Databricks
/// documentation, "Names").
fn is_table(name: &str) -> bool {
    let is_legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    let parts: Vec<&str> = name.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.chars().all(is_legal))
}

/// Refuses scopes that no request would ask for.
pub fn check_scopes(settings: &Settings, provider: &Provider) -> Result<()> {
    let is_flag = matches!(settings.origin(Id::Scopes), Origin::Flag(_));
    if !is_flag || provider.uses_token_endpoint {
        return Ok(());
    }

    let error = Error::usage(format!("--scopes has no effect on {provider}"));
    Err(if provider.stored_login {
        error
            .because("the scopes of a login are those that it was made with")
            .hint("lakebase-token login --scopes SCOPE[,SCOPE…]")
    } else {
        error
            .because("its token is made by another program, or is configured as it is")
            .hint("leave out --scopes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_three_names() {
        for (name, expected) in [
            ("main.sales.orders", true),
            ("a-b.c_d.é", true),
            ("sales.orders", false),
            ("main.sales.orders.x", false),
            ("main..orders", false),
            ("main.sales.o r", false),
            ("main.sales/x.o", false),
            ("", false),
        ] {
            assert_eq!(is_table(name), expected, "{name}");
        }
    }
}
