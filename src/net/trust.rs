//! The certificates that a server's certificate must lead to: those of `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, as OpenSSL reads them, or else the system's.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::Certificate;

use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::Context;

/// Where Linux distributions and macOS keep their bundle (Go's `crypto/x509`, `root_linux.go`).
const SYSTEM_BUNDLES: &[&str] = if cfg!(unix) {
    &[
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ]
} else {
    &[]
};

/// How many problems of reading certificates an error lists.
const MAX_LISTED_PROBLEMS: usize = 3;

/// The trusted certificates as ureq takes them.
pub fn trusted_certificates(context: &Context) -> Result<Vec<Certificate<'static>>> {
    let certificates = certificates(context)?;
    Ok(certificates.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect())
}

/// The certificates that servers' certificates must lead to.
pub fn certificates(context: &Context) -> Result<Vec<CertificateDer<'static>>> {
    let file = context.var("SSL_CERT_FILE").map(Path::new);
    let folder = context.var("SSL_CERT_DIR").map(Path::new);
    if let Some(file) = file.filter(|file| !file.is_file()) {
        let file = redact(&file.to_string_lossy());
        return Err(Error::usage(format!("SSL_CERT_FILE is not a file: {file}"))
            .hint("unset SSL_CERT_FILE, or SSL_CERT_FILE=/path/to/ca.pem"));
    }

    let loaded = if file.is_none() && folder.is_none() {
        load_from_system()
    } else {
        load_certs_from_paths(file, folder.filter(|folder| folder.is_dir()))
    };
    if loaded.certs.is_empty() {
        return Err(no_certificates(&loaded));
    }
    Ok(loaded.certs)
}

/// The certificates in a file; or why there are none.
pub fn certificates_in(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let loaded = load_certs_from_paths(Some(file), None);
    if !loaded.certs.is_empty() {
        return Ok(loaded.certs);
    }
    let file = file.display();
    Err(match loaded.errors.first() {
        Some(problem) => format!("cannot read the certificates of {file}: {problem}"),
        None => format!("there is no certificate in {file}"),
    })
}

/// One bundle is enough: `load_native_certs` would also parse the folder that holds the same
/// certificates in a file each.
fn load_from_system() -> CertificateResult {
    // On macOS, the keychain may have more than the bundle.
    match system_bundle().filter(|_| cfg!(target_os = "linux")) {
        Some(bundle) => load_certs_from_paths(Some(bundle), None),
        None => load_native_certs(),
    }
}

/// The file with the certificates that the system trusts.
pub fn system_bundle() -> Option<&'static Path> {
    SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists())
}

fn no_certificates(loaded: &CertificateResult) -> Error {
    let error = Error::usage("no trusted certificates found, so no TLS connection can be made");
    let problems = loaded.errors.iter().take(MAX_LISTED_PROBLEMS);
    problems
        .fold(error, |error, problem| error.because(redact(&problem.to_string())))
        .hint("apt-get install ca-certificates, or SSL_CERT_FILE=/path/to/ca.pem")
}
