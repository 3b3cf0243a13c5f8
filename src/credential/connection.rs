//! A credential with everything that a format may print beside it, above all the connection that it
//! opens.

use std::fmt;

use crate::credential::destination::is_host;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};

/// Which of the two tokens is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A Postgres password, minted by the credential API.
    Database,
    /// The workspace's own access token, for its REST APIs.
    Workspace,
}

/// Everything a format may print. What it did not ask for is missing.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Decides which formats make sense.
    pub purpose: Purpose,
    /// The token.
    pub token: Token,
    /// The workspace's URL.
    pub workspace: String,
    /// Where it is the password.
    pub connection: Connection,
    /// The `apiVersion` that the caller of an exec plugin wants back.
    pub api_version: &'static str,
}

/// Where to connect to, and as whom. What nobody asked for is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The Postgres role.
    pub user: Option<String>,
    /// The Postgres host.
    pub host: Option<String>,
    /// The Postgres port.
    pub port: u16,
    /// The database's name.
    pub database: Option<String>,
    /// libpq's `sslmode`.
    pub sslmode: &'static str,
}

impl Connection {
    /// The role, for whoever cannot do without.
    pub fn user(&self) -> Result<&str> {
        known("role", &self.user)
    }

    /// The host, for whoever cannot do without. One that is not a single host is refused in every
    /// format: libpq takes a path for a socket and a list for several servers.
    pub fn host(&self) -> Result<&str> {
        let host = known("host", &self.host)?;
        if !is_host(host) {
            return Err(Error::usage(format!(
                "not a host name or an IP address: {}",
                redact(host)
            )));
        }
        Ok(host)
    }

    /// The database, for whoever cannot do without.
    pub fn database(&self) -> Result<&str> {
        known("database", &self.database)
    }
}

/// A name that is there and that every notation can carry.
fn known<'a>(name: &str, text: &'a Option<String>) -> Result<&'a str> {
    let text = text.as_deref().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::failed(format!("the {name} is not known")))?;
    check_name(format!("the {name}"), text)?;
    Ok(text)
}

/// Refuses a name that some notation cannot carry; `what` it is goes into the message.
pub fn check_name(what: impl fmt::Display, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        let words = format!("{what} holds a control character, which no format can carry");
        return Err(Error::usage(words));
    }
    Ok(())
}
