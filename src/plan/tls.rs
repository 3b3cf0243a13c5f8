//! How a Postgres server must prove who it is before it gets a password: libpq's `sslmode` and
//! `sslrootcert` (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
//!
//! A host of Databricks' domains has a certificate that public authorities have signed, so there it is
//! verified by default. Elsewhere (a tunnel, a proxy) nothing is known about the certificate, and the
//! connection is only encrypted unless a stricter mode is set. Connecting is left to libpq and the
//! drivers, and to `lakebase/login_probe.rs`.

use std::path::PathBuf;

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::connection::{LIBPQ_ROOT_FILE, REQUIRE, SYSTEM, Tls, VERIFY_FULL};
use crate::credential::destination::in_databricks_domain;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::trust::bundle_for_libpq;
use crate::platform::context::Context;

/// What the settings say about TLS to the Postgres server.
#[derive(Debug, Default)]
pub struct TlsSettings {
    /// `require` or stricter. Weaker modes count as unset: the token is sent as a clear-text password.
    mode: Option<&'static str>,
    root_file: Option<String>,
}

impl TlsSettings {
    pub fn new(settings: &Settings) -> Result<TlsSettings> {
        let mode = match settings.text(Id::PgSslMode) {
            None | Some("disable" | "allow" | "prefer") => None,
            Some("require") => Some(REQUIRE),
            Some("verify-ca") => Some("verify-ca"),
            Some("verify-full") => Some(VERIFY_FULL),
            Some(other) => {
                let origin = settings.origin(Id::PgSslMode);
                return Err(Error::usage(format!("{origin} is not an sslmode: {}", redact(other)))
                    .hint("require, verify-ca or verify-full"));
            }
        };
        let root_file = settings.text(Id::PgSslRootCert).map(str::to_owned);
        Ok(TlsSettings { mode, root_file })
    }

    /// For a connection to this host.
    pub fn towards(&self, host: &str, context: &Context) -> Tls {
        let root_file = self.root_file.clone();
        if root_file.as_deref() == Some(SYSTEM) {
            // libpq accepts no weaker mode with it.
            return Tls { mode: VERIFY_FULL, mode_elsewhere: VERIFY_FULL, root_file };
        }

        let mode_elsewhere = self.mode.unwrap_or(REQUIRE);
        let bundle = || bundle(context);
        match self.mode {
            None if in_databricks_domain(host) => {
                let root_file = root_file.or_else(bundle);
                let mode = if root_file.is_some() { VERIFY_FULL } else { REQUIRE };
                Tls { mode, mode_elsewhere, root_file }
            }
            // With a root file, libpq would verify the certificate in spite of this mode. The
            // caller's own file is meant so; the bundle comes from an earlier call of ours.
            None | Some(REQUIRE) => {
                let root_file = root_file.filter(|file| bundle().as_ref() != Some(file));
                Tls { mode: REQUIRE, mode_elsewhere, root_file }
            }
            Some(mode) => {
                let root_file = root_file.or_else(|| {
                    let usual = context.in_home(LIBPQ_ROOT_FILE);
                    let has_own = usual.is_some_and(|file| file.is_file());
                    if has_own { None } else { bundle() }
                });
                Tls { mode, mode_elsewhere, root_file }
            }
        }
    }
}

/// The certificates that this machine trusts, as a file: every libpq reads one, while only libpq 16
/// and later know `sslrootcert=system`.
fn bundle(context: &Context) -> Option<String> {
    let named = || context.var("SSL_CERT_FILE").map(PathBuf::from).filter(|file| file.is_file());
    let path = bundle_for_libpq(context).or_else(named)?;
    Some(path.to_str()?.to_owned())
}
