//! What a failed TLS handshake means, in words: the certificates and algorithms that rustls rejects.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error};

use crate::platform::time::Timestamp;

/// A failed handshake, and what helps.
#[derive(Debug)]
pub struct TlsFailure {
    pub why: String,
    pub hint: Option<&'static str>,
    /// Whether the certificate is for another name.
    pub is_other_name: bool,
    /// Whether no trusted certificate has signed it.
    pub is_untrusted: bool,
}

/// A captive portal or a proxy that answers itself sends a page in the place of a handshake.
const NO_TLS_HINT: &str = "check the host, its port and the proxy, and whether the network has a login page: the response was not TLS";

const CLOCK_HINT: &str = "check this machine's clock: date";

/// *ring*, which rustls uses here, has P-256 with SHA-256, P-384 with SHA-384, Ed25519 and RSA.
const ALGORITHM_HINT: &str = "a certificate with ECDSA P-256 and SHA-256, P-384 and SHA-384, or RSA \
                              in your TLS inspection proxy, or a network without TLS inspection";

impl TlsFailure {
    pub fn new(why: impl ToString) -> TlsFailure {
        TlsFailure { why: why.to_string(), hint: None, is_other_name: false, is_untrusted: false }
    }

    /// The failure in an error of a stream, if it is one of TLS.
    pub fn of(error: &io::Error) -> Option<TlsFailure> {
        Some(TlsFailure::of_rustls(error.get_ref()?.downcast_ref()?))
    }

    pub fn of_rustls(error: &Error) -> TlsFailure {
        let Error::InvalidCertificate(reason) = error else {
            let hint = matches!(error, Error::InvalidMessage(_)).then_some(NO_TLS_HINT);
            return TlsFailure { hint, ..TlsFailure::new(error) };
        };
        let plain = TlsFailure::new(error);
        let dated = |words: &str, limit: &UnixTime, now: &UnixTime| TlsFailure {
            why: format!(
                "the certificate {words} {}, and this machine's clock says {}",
                shown(limit),
                shown(now)
            ),
            hint: Some(CLOCK_HINT),
            ..TlsFailure::new("")
        };
        match reason {
            CertificateError::ExpiredContext { time, not_after } => {
                dated("is valid until", not_after, time)
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                dated("is valid from", not_before, time)
            }
            CertificateError::Expired | CertificateError::NotValidYet => {
                TlsFailure { hint: Some(CLOCK_HINT), ..plain }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFailure { is_other_name: true, ..plain }
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsFailure { is_untrusted: true, ..plain }
            }
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                ..
            } => unsupported(signature_algorithm_id, &[]),
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id,
            } => unsupported(signature_algorithm_id, public_key_algorithm_id),
            _ => plain,
        }
    }
}

fn shown(time: &UnixTime) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Object identifiers of algorithms that certificates are signed with (RFC 5758, RFC 5480, RFC 8017).
const ALGORITHMS: [(&[u8], &str); 8] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], "ECDSA with SHA-256"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], "ECDSA with SHA-384"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], "ECDSA with SHA-512"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "RSA with SHA-1"),
    (&[0x2b, 0x81, 4, 0, 0x23], "a key of the curve P-521"),
    (&[0x2b, 0x81, 4, 0, 0x22], "a key of the curve P-384"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], "a key of the curve P-256"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
];

fn unsupported(signature: &[u8], key: &[u8]) -> TlsFailure {
    let named = |id: &[u8]| {
        let holds = |oid: &&[u8]| id.windows(oid.len()).any(|part| part == *oid);
        ALGORITHMS.iter().find(|(oid, _)| holds(oid)).map(|(_, name)| *name)
    };
    let names: Vec<&str> = [signature, key].into_iter().filter_map(named).collect();
    let names =
        if names.is_empty() { "an unknown algorithm".to_owned() } else { names.join(" and ") };
    TlsFailure {
        why: format!("the certificate is signed with {names}, which is not supported"),
        hint: Some(ALGORITHM_HINT),
        ..TlsFailure::new("")
    }
}
