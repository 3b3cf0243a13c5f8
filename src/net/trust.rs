//! The certificates that a server's certificate must lead to: those of `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`, as OpenSSL reads them, or else the system's.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::Certificate;

use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::private_file::{self, Replacement, private_folder};

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

/// The largest file of certificates that is read; the system's bundle has some 200 KiB.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The trusted certificates as ureq takes them.
pub fn trusted_certificates(context: &Context) -> Result<Vec<Certificate<'static>>> {
    let certificates = certificates(context)?;
    Ok(certificates.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect())
}

/// The certificates that servers' certificates must lead to.
pub fn certificates(context: &Context) -> Result<Vec<CertificateDer<'static>>> {
    let named = context.var("SSL_CERT_FILE").map(|file| certificates_in(Path::new(file)));
    let named = named.transpose().map_err(|why| {
        Error::usage(format!("SSL_CERT_FILE has no usable certificate: {}", redact(&why)))
            .hint("unset SSL_CERT_FILE  # or SSL_CERT_FILE=/path/to/ca.pem")
    })?;

    // A list, as in PATH. Folders without certificates do not hide the system's.
    let folders = context.var("SSL_CERT_DIR").unwrap_or_default();
    let folders = std::env::split_paths(folders).filter(|folder| folder.is_dir());
    let in_folders = folders.flat_map(|folder| load_certs_from_paths(None, Some(&folder)).certs);
    let found: Vec<_> = named.into_iter().flatten().chain(in_folders).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let loaded = load_from_system();
    if loaded.certs.is_empty() {
        return Err(no_certificates(&loaded));
    }
    Ok(loaded.certs)
}

/// The certificates in a file (PEM); or why there are none.
pub fn certificates_in(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let content = files::read_limited(file, MAX_FILE_BYTES).map_err(|e| format!("{shown}: {e}"))?;
    // Windows editors begin a file with a byte order mark.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    // rustls would silently skip what it cannot parse.
    let is_sound = |certificate: &CertificateDer<'static>| {
        RootCertStore::empty().add(certificate.clone()).is_ok()
    };
    let found = CertificateDer::pem_slice_iter(content).filter_map(std::result::Result::ok);
    let certificates: Vec<_> = found.filter(is_sound).collect();
    if certificates.is_empty() {
        return Err(format!("{shown} {}", what_is_wrong(content)));
    }
    Ok(certificates)
}

/// Why there is no certificate in a file, as the end of a sentence.
fn what_is_wrong(content: &[u8]) -> &'static str {
    let holds = |text: &[u8]| content.windows(text.len()).any(|part| part == text);
    if content.trim_ascii().is_empty() {
        "is empty"
    } else if content.starts_with(&[0x30, 0x82]) {
        "is in DER; convert it: openssl x509 -inform der -in FILE -out ca.pem"
    } else if content.contains(&0) || content.starts_with(&[0xff, 0xfe]) {
        "is in UTF-16; save it as plain text"
    } else if holds(b"-----BEGIN TRUSTED CERTIFICATE-----") {
        "has OpenSSL's own form of certificates; convert it: openssl x509 -in FILE -out ca.pem"
    } else if holds(b"-----BEGIN CERTIFICATE-----") {
        "has a certificate that is damaged or incomplete"
    } else if holds(b"PRIVATE KEY-----") {
        "has a private key and no certificate"
    } else {
        "has no line -----BEGIN CERTIFICATE-----"
    }
}

/// Where other programs look for certificates, if one of these is set.
pub fn other_certificates(context: &Context) -> Option<&'static str> {
    const NAMES: [&str; 4] =
        ["DATABRICKS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
    // One that is in use already helps no further.
    let used = context.var("SSL_CERT_FILE");
    NAMES.into_iter().find(|name| context.var(name).is_some() && context.var(name) != used)
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

/// The same as a file for libpq. Windows has a store instead, so its certificates are written to a
/// file of ours, anew each hour: Windows gets those of an authority when it first needs them.
pub fn bundle_for_libpq(context: &Context) -> Option<PathBuf> {
    if !cfg!(windows) {
        return system_bundle().map(Path::to_owned);
    }
    let folder = context.state_home()?;
    let path = folder.join(EXPORTED);
    let age = files::modified(&path).map(|written| context.now().since(written));
    if !age.is_some_and(|age| (0..EXPORT_LIFE_MS).contains(&age)) {
        export(&folder).ok()?;
    }
    Some(path)
}

const EXPORTED: &str = "system-roots.pem";
const EXPORT_LIFE_MS: i64 = 60 * 60 * 1000;

fn export(folder: &Path) -> io::Result<()> {
    let certificates = load_from_system().certs;
    if certificates.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let text: String = certificates.iter().map(|certificate| pem(certificate)).collect();
    let how = Replacement {
        temporary: format!("{EXPORTED}.{}", std::process::id()).into(),
        ..Replacement::default()
    };
    let folder = private_folder(folder)?;
    private_file::replace(&folder, OsStr::new(EXPORTED), text.as_bytes(), &how).map(drop)
}

/// RFC 7468: base64 in lines of 64 characters.
fn pem(certificate: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = BASE64.encode(certificate);
    for line in encoded.as_bytes().chunks(64) {
        text += &String::from_utf8_lossy(line);
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

fn no_certificates(loaded: &CertificateResult) -> Error {
    let error = Error::usage("no trusted certificates found, so no TLS connection can be made");
    let problems = loaded.errors.iter().take(MAX_LISTED_PROBLEMS);
    problems
        .fold(error, |error, problem| error.because(redact(&problem.to_string())))
        .hint("install the package ca-certificates, or SSL_CERT_FILE=/path/to/ca.pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exported_certificate_can_be_read_again() {
        let certificate: Vec<u8> = (0..=255).collect();
        let text = pem(&certificate).repeat(2);
        let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect();
        assert!(read.len() == 2 && read.iter().all(|read| read.as_ref() == certificate));
    }
}
