//! TLS to a Postgres server by libpq's rules: `verify-full`, `verify-ca`, or `require`, which verifies
//! nothing (<https://www.postgresql.org/docs/current/libpq-ssl.html>). TLS to a workspace is ureq's.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};

use crate::credential::connection::{LIBPQ_ROOT_FILE, REQUIRE, SYSTEM, Tls, VERIFY_FULL};
use crate::net::tls_failure::TlsFailure;
use crate::net::trust;
use crate::platform::context::Context;

/// A connection to a server whose certificate is as the mode wants it.
pub type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Begins TLS. The handshake happens with the first bytes that are sent.
pub fn secured(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
    context: &Context,
) -> Result<Secured, TlsFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.root_file {
        // With a root file, libpq verifies the certificate even under `require`.
        None if tls.mode == REQUIRE => {
            Arc::new(AnyName { chain: None, provider: provider.clone() })
        }
        root_file => {
            let roots = Arc::new(roots(root_file.as_deref(), context)?);
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            let verifier = builder.build().map_err(TlsFailure::new)?;
            if tls.mode == VERIFY_FULL {
                verifier
            } else {
                Arc::new(AnyName { chain: Some(verifier), provider: provider.clone() })
            }
        }
    };

    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsFailure::new)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(TlsFailure::new)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(TlsFailure::new)?;
    Ok(StreamOwned::new(connection, stream))
}

/// The certificates of `sslrootcert`; without one, those of the file where libpq looks by itself.
fn roots(root_file: Option<&str>, context: &Context) -> Result<RootCertStore, TlsFailure> {
    let certificates = match root_file {
        Some(SYSTEM) => trust::certificates(context).map_err(|e| TlsFailure::new(e.message))?,
        Some(file) => trust::certificates_in(Path::new(file)).map_err(TlsFailure::new)?,
        None => {
            let usual = context.in_home(LIBPQ_ROOT_FILE).unwrap_or_default();
            trust::certificates_in(&usual).map_err(TlsFailure::new)?
        }
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    Ok(store)
}

/// Accepts a certificate for any name.
#[derive(Debug)]
struct AnyName {
    /// With `verify-ca`, what checks the chain. Without it, as with `require`, any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
