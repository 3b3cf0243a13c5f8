//! A credential together with the connection that it is for: everything that a format may print.
//! How it is printed is in `formats.rs`, where a password may be sent in `destination.rs`.

use std::fmt;

use crate::credential::destination::is_host;
use crate::credential::redact::redact;
use crate::credential::token::Token;
use crate::error::{Error, Result};

/// Which of the two tokens a call prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A Postgres password, minted by the credential API.
    Database,
    /// A workspace token, for the REST APIs.
    Workspace,
}

/// Everything that a format may print.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Decides which formats are allowed.
    pub purpose: Purpose,
    pub token: Token,
    /// The workspace's URL.
    pub workspace: String,
    pub connection: Connection,
    /// The `apiVersion` that the caller of a Kubernetes exec plugin expects.
    pub api_version: &'static str,
}

/// Parameters of a Postgres connection. Those that the format does not print are not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The Postgres role.
    pub user: Option<String>,
    pub host: Option<String>,
    pub port: u16,
    pub database: Option<String>,
    pub tls: Tls,
}

/// How the server proves who it is, in libpq's terms. Which values apply is decided in `plan/tls.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `sslmode` for a program on this machine.
    pub mode: &'static str,
    /// `sslmode` for a program on another machine, which may lack the certificates of this one.
    pub mode_elsewhere: &'static str,
    /// `sslrootcert` for a program on this machine; unset if there is none.
    pub root_file: Option<String>,
}

/// The `sslmode` that encrypts and verifies nothing, the weakest that is allowed.
pub const REQUIRE: &str = "require";

/// The `sslmode` that also verifies the server's certificate and name.
pub const VERIFY_FULL: &str = "verify-full";

/// The `sslrootcert` that means the certificates which the machine trusts, since libpq 16.
pub const SYSTEM: &str = "system";

/// Where libpq looks if no `sslrootcert` is set, below the home.
pub const LIBPQ_ROOT_FILE: &str =
    if cfg!(windows) { "AppData/Roaming/postgresql/root.crt" } else { ".postgresql/root.crt" };

impl Tls {
    /// Encrypted, without proof of who the server is.
    pub fn encrypted() -> Tls {
        Tls { mode: REQUIRE, mode_elsewhere: REQUIRE, root_file: None }
    }

    /// The mode for `-v`, `status` and `doctor`, with what it does not prove.
    pub fn words(&self) -> String {
        match &self.root_file {
            Some(file) => format!("{}, with the certificates of {}", self.mode, redact(file)),
            None if self.mode == REQUIRE => {
                "require, which encrypts but does not prove who the server is".to_owned()
            }
            None => self.mode.to_owned(),
        }
    }
}

impl Connection {
    /// The role; an error if it is not resolved.
    pub fn user(&self) -> Result<&str> {
        required("role", &self.user)
    }

    /// The host; an error if it is not resolved. A value that is not a single host is refused in
    /// every format: libpq takes a path for a socket and a list for several servers.
    pub fn host(&self) -> Result<&str> {
        let host = required("host", &self.host)?;
        if !is_host(host) {
            let host = redact(host);
            return Err(Error::usage(format!("not a host name or an IP address: {host}")));
        }
        Ok(host)
    }

    /// The database; an error if it is not resolved.
    pub fn database(&self) -> Result<&str> {
        required("database", &self.database)
    }
}

fn required<'a>(name: &str, text: &'a Option<String>) -> Result<&'a str> {
    let text = text.as_deref().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Error::failed(format!("the {name} is not known")))?;
    check_name(format!("the {name}"), text)?;
    Ok(text)
}

/// Refuses a name that a format cannot carry; `what` names it in the message.
pub fn check_name(what: impl fmt::Display, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        let message = format!("{what} has a control character, which no format can carry");
        return Err(Error::usage(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_said_with_what_it_does_not_prove() {
        let words = |mode, file: Option<&str>| {
            Tls { mode, mode_elsewhere: mode, root_file: file.map(str::to_owned) }.words()
        };
        assert_eq!(
            words(REQUIRE, None),
            "require, which encrypts but does not prove who the server is"
        );
        assert_eq!(words(VERIFY_FULL, None), "verify-full");
        assert_eq!(words(VERIFY_FULL, Some("/ca")), "verify-full, with the certificates of /ca");
    }
}
