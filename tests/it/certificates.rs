//! Files of certificates as people have them, and servers whose certificates are not accepted: the
//! message names the file, the algorithm or the dates.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::support::{Test, has};
use crate::sandbox::Certificates;
use crate::sandbox::workspace::Workspace;

fn at(workspace: &Workspace, authority: &str) -> Test {
    let mut test = Test::at(workspace);
    test.set("SSL_CERT_FILE", authority);
    test
}

#[test]
fn a_file_of_certificates_is_read_or_told_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::make(folder.path()).unwrap();
    let workspace = Workspace::start(Some(made.tls.clone())).unwrap();
    let pem = fs::read_to_string(&made.authority).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let utf16: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let trusted = pem.replace("CERTIFICATE-----", "TRUSTED CERTIFICATE-----");
    let key = fs::read(&made.key).unwrap();

    let good: [(&str, Vec<u8>); 3] = [
        ("plain", pem.clone().into()),
        ("with a byte order mark", format!("\u{feff}{pem}").into()),
        (
            "with text and Windows' line ends",
            format!("# ours\r\n{}", pem.replace('\n', "\r\n")).into(),
        ),
    ];
    let path = folder.path().join("given.pem");
    let given = path.display().to_string();
    for (what, content) in good {
        fs::write(&path, content).unwrap();
        let outcome = at(&workspace, &given).run("--no-cache");
        assert_eq!(outcome.code, 0, "{what}: {outcome:?}");
    }

    let cut = &pem[..pem.len() / 2];
    let damaged = pem.replacen("MII", "AAA", 1);
    let bad: [(&[u8], &str); 10] = [
        (cut.as_bytes(), "has a certificate that is damaged or incomplete"),
        (damaged.as_bytes(), "has a certificate that is damaged or incomplete"),
        (&der, "is in DER; convert it: openssl x509 -inform der"),
        (&utf16, "is in UTF-16"),
        (&[&[0xff, 0xfe][..], &utf16].concat(), "is in UTF-16"),
        (trusted.as_bytes(), "OpenSSL's own form"),
        (&key, "has a private key and no certificate"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello", "has no line -----BEGIN CERTIFICATE-----"),
    ];
    for (content, words) in bad {
        fs::write(&path, content).unwrap();
        let outcome = at(&workspace, &given).run("--no-cache");
        outcome.fails(2, &["SSL_CERT_FILE has no usable certificate: ", &given, words]);
    }
    let folder = folder.path().display().to_string();
    at(&workspace, &folder).run("").fails(2, &[&folder, "it is not a regular file"]);
    at(&workspace, "/nowhere.pem").run("").fails(2, &["/nowhere.pem: No such file"]);
}

#[test]
fn a_list_of_folders_may_have_empty_and_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::make(folder.path()).unwrap();
    let workspace = Workspace::start(Some(made.tls.clone())).unwrap();
    let certificates = folder.path().join("certs");
    let empty = folder.path().join("empty");
    fs::create_dir(&certificates).unwrap();
    fs::create_dir(&empty).unwrap();
    // OpenSSL finds a certificate by the hash of its name.
    fs::copy(&made.authority, certificates.join("0a1b2c3d.0")).unwrap();
    let (certificates, empty) = (certificates.display(), empty.display());

    for list in [
        format!("{certificates}"),
        format!("/nowhere:{certificates}"),
        format!(":{empty}::{certificates}:"),
    ] {
        let mut test = Test::at(&workspace);
        test.set("SSL_CERT_DIR", &list).run("--no-cache").token();
        // Beside a file, both count.
        let other = tempfile::tempdir().unwrap();
        let other = Certificates::make(other.path()).unwrap();
        test.set("SSL_CERT_FILE", other.authority.to_str().unwrap_or_default());
        test.run("--no-cache").token();
    }
    // Folders without certificates do not hide the system's.
    for list in ["/nowhere".to_owned(), format!("{empty}"), ":".to_owned()] {
        let mut test = Test::at(&workspace);
        let outcome = test.set("SSL_CERT_DIR", &list).run("--no-cache");
        outcome.fails(5, &["no verified TLS connection"]);
    }
}

#[test]
fn where_other_programs_have_certificates_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::make(folder.path()).unwrap();
    let workspace = Workspace::start(Some(made.tls.clone())).unwrap();
    for name in
        ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DATABRICKS_CA_BUNDLE"]
    {
        let mut test = Test::at(&workspace);
        test.set(name, "/corp.pem");
        let hint = format!("hint: SSL_CERT_FILE=\"${name}\"");
        test.run("--no-cache").fails(5, &["no verified TLS connection", &hint]);
    }
    let outcome = Test::at(&workspace).run("--no-cache");
    outcome.fails(5, &["SSL_CERT_FILE=/path/to/ca.pem"]);
}

#[test]
fn a_wrong_clock_is_reported_with_both_dates() {
    for (before, after, words) in [
        (2020, 2021, "the certificate is valid until 2021-01-01T00:00:00Z"),
        (2090, 2091, "the certificate is valid from 2090-01-01T00:00:00Z"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let made = Certificates::with(folder.path(), |params| {
            params.not_before = rcgen::date_time_ymd(before, 1, 1);
            params.not_after = rcgen::date_time_ymd(after, 1, 1);
        });
        let made = made.unwrap();
        let workspace = Workspace::start(Some(made.tls.clone())).unwrap();
        let outcome = at(&workspace, made.authority.to_str().unwrap()).run("--no-cache");
        outcome
            .fails(5, &[words, "this machine's clock says 20", "hint: check this machine's clock"]);
    }
}

#[test]
fn an_algorithm_that_is_not_supported_is_named() {
    if !has("certificates::an_algorithm", "openssl") {
        return;
    }
    for (curve, digest, words) in [
        ("secp521r1", "sha512", "ECDSA with SHA-512"),
        ("prime256v1", "sha512", "ECDSA with SHA-512"),
        ("secp384r1", "sha512", "ECDSA with SHA-512"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "set -e; cd '{}'\n\
             openssl ecparam -name {curve} -genkey -noout -out ca.key\n\
             openssl req -x509 -new -key ca.key -{digest} -days 3 -subj /CN=inspection -out ca.pem\n\
             openssl ecparam -name prime256v1 -genkey -noout -out raw.key\n\
             openssl pkcs8 -topk8 -nocrypt -in raw.key -out server.key\n\
             openssl req -new -key server.key -subj /CN=x -out server.csr\n\
             echo 'subjectAltName=IP:127.0.0.1' >ext\n\
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -{digest} \
             -days 2 -extfile ext -out server.pem",
            folder.path().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let chain = CertificateDer::from_pem_file(folder.path().join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let workspace = Workspace::start(Some(Arc::new(tls))).unwrap();
        let authority = folder.path().join("ca.pem").display().to_string();
        let outcome = at(&workspace, &authority).run("--no-cache");
        outcome
            .fails(5, &[words, "which is not supported", "hint: a certificate with ECDSA P-256"]);
    }
}
