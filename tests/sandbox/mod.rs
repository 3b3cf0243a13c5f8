//! The servers that lakebase-token calls, on this machine: a stand-in workspace over HTTPS and, if
//! PostgreSQL is installed, a real server that accepts the workspace's credentials as passwords.
//!
//! `main.rs` demonstrates the program with them (`cargo run --example sandbox`); the tests use the
//! parts.

// The tests and the example each use only a part of this module.
#![allow(dead_code, clippy::unwrap_used)]

pub mod identity_services;
pub mod jwt;
pub mod ldap;
pub mod models;
#[cfg(unix)]
pub mod postgres;
pub mod request_rules;
pub mod server;
pub mod workspace;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
#[cfg(unix)]
use serde_json::json;

#[cfg(unix)]
use postgres::Postgres;
#[cfg(unix)]
use workspace::{CLIENT_ID, CLIENT_SECRET, OTHER_USER, USER, Workspace};

/// A certificate authority, and a server certificate for loopback that it has signed.
pub struct Certificates {
    /// The authority's certificate (PEM), for `SSL_CERT_FILE`.
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub tls: Arc<ServerConfig>,
}

impl Certificates {
    pub fn make(folder: &Path) -> io::Result<Certificates> {
        Certificates::with(folder, |_| ())
    }

    /// Like [`Certificates::make`], but `change` makes the server certificate invalid.
    pub fn with(
        folder: &Path,
        change: impl Fn(&mut CertificateParams),
    ) -> io::Result<Certificates> {
        let other = |e: rcgen::Error| io::Error::other(e);
        let mut params = CertificateParams::new(Vec::new()).map_err(other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Wine's store passes over an authority without a purpose.
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let name = format!("sandbox authority {}", jwt::hex(&jwt::random::<4>()));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().map_err(other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(other)?;
        let names = ["127.0.0.1", "localhost"].into_iter().chain(identity_services::NAMES);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let server_key = KeyPair::generate().map_err(other)?;
        let mut server = CertificateParams::new(names).map_err(other)?;
        change(&mut server);
        let server = server.signed_by(&server_key, &authority).map_err(other)?;

        let write = |name: &str, text: String| -> io::Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };

        let chain = CertificateDer::from_pem_slice(server.pem().as_bytes()).unwrap();
        let private = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![chain], private)
            .map_err(io::Error::other)?;
        Ok(Certificates {
            authority: write("ca.pem", authority.pem())?,
            certificate: write("server.pem", server.pem())?,
            key: write("server.key", server_key.serialize_pem())?,
            tls: Arc::new(tls),
        })
    }
}

/// Workspace, database server, certificates and a home folder.
#[cfg(unix)]
pub struct Sandbox {
    pub workspace: Workspace,
    /// The database server, or why it did not start.
    pub postgres: Result<Postgres, String>,
    pub certificates: Certificates,
    /// Deleted when the sandbox is dropped.
    pub folder: tempfile::TempDir,
}

#[cfg(unix)]
impl Sandbox {
    pub fn start() -> io::Result<Sandbox> {
        let folder = tempfile::Builder::new().prefix("lakebase-sandbox-").tempdir()?;
        let certificates = Certificates::make(folder.path())?;
        let workspace = Workspace::start(Some(certificates.tls.clone()))?;
        let directory = ldap::start(workspace.signer.clone(), workspace.shared())?;
        let postgres = Postgres::start(
            folder.path(),
            &certificates.certificate,
            &certificates.key,
            directory,
            &[CLIENT_ID, USER, OTHER_USER],
        );

        // The endpoint's host is loopback, so that PGHOST alone selects the endpoint.
        workspace.state().projects[0].branches[0].endpoints[0].hosts =
            json!({ "host": "127.0.0.1" });
        fs::create_dir(folder.path().join("home"))?;
        Ok(Sandbox {
            workspace,
            postgres: postgres.map_err(|e| e.to_string()),
            certificates,
            folder,
        })
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The environment of a Databricks App with an attached database, and a home folder.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let port = self.postgres.as_ref().map_or(5432, |postgres| postgres.port);
        vec![
            ("HOME", path(&self.home())),
            ("SSL_CERT_FILE", path(&self.certificates.authority)),
            ("DATABRICKS_HOST", self.workspace.url.clone()),
            ("DATABRICKS_CLIENT_ID", CLIENT_ID.to_owned()),
            ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", port.to_string()),
            ("PGDATABASE", postgres::DATABASE.to_owned()),
            ("PGUSER", CLIENT_ID.to_owned()),
            ("PGSSLMODE", "require".to_owned()),
        ]
    }
}
