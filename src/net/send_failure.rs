//! What a failed exchange means: which error the user sees, and whether the request may be sent
//! again (`http.rs` does that).

use std::io;
use std::time::Duration;

use crate::credential::redact::redact;
use crate::error::{Error, TIMEOUT_HINT};
use crate::net::tls_failure::TlsFailure;
use crate::platform::time::Deadline;

/// Time that is too short for another answer: a timeout this close to the deadline is the deadline.
const DEADLINE_TOLERANCE: Duration = Duration::from_millis(5);

const PROXY_HINT: &str = "check HTTPS_PROXY and NO_PROXY";

/// Why one try got no answer.
pub enum SendFailure {
    /// Another try may succeed.
    Retryable(Error),
    /// Another try may succeed, and the request has not reached the server.
    Unsent(Error),
    Final(Error),
}

impl SendFailure {
    /// The failure with one more hint, which comes first. It is final: another try would fail alike.
    pub fn with_hint(self, hint: String) -> SendFailure {
        use SendFailure::{Final, Retryable, Unsent};
        let add = |mut error: Error| {
            error.hints.insert(0, hint);
            error
        };
        match self {
            Retryable(error) | Unsent(error) | Final(error) => Final(add(error)),
        }
    }
}

/// The server and proxy of an exchange, as messages name them.
pub struct Route<'a> {
    pub host: &'a str,
    /// Host and port of the proxy.
    pub proxy: Option<&'a str>,
    /// A variable in which other programs find certificates.
    pub other_certificates: Option<&'static str>,
}

impl Route<'_> {
    fn through_proxy(&self) -> String {
        self.proxy.map_or(String::new(), |proxy| format!(" through the proxy {proxy}"))
    }

    fn with_proxy_hint(&self, error: Error) -> Error {
        if self.proxy.is_some() { error.hint(PROXY_HINT) } else { error }
    }

    fn unreachable(&self, why: &str) -> Error {
        let error =
            Error::unavailable(format!("cannot reach {}{}", self.host, self.through_proxy()))
                .unreachable(self.host)
                .because(redact(why.trim_start_matches("io: ")));
        self.with_proxy_hint(error)
    }

    fn invalid_http(&self, why: &str) -> Error {
        let (host, through) = (self.host, self.through_proxy());
        let error = Error::failed(format!("invalid HTTP response from {host}{through}"))
            .because(redact(why));
        self.with_proxy_hint(error)
    }

    fn no_answer_in_time(&self) -> Error {
        let (host, through) = (self.host, self.through_proxy());
        Error::unavailable(format!("no answer from {host}{through} before the deadline"))
            .with_time_lacking(Duration::ZERO)
            .hint(TIMEOUT_HINT)
    }

    fn untrusted(&self, failure: &TlsFailure) -> Error {
        let error = Error::unavailable(format!("no verified TLS connection to {}", self.host))
            .because(redact(&failure.why));
        if let Some(hint) = failure.hint {
            return error.hint(hint);
        }
        if !failure.is_untrusted {
            return error;
        }
        match self.other_certificates {
            Some(name) => {
                error.hint(format!("SSL_CERT_FILE=\"${name}\"  # other programs here use it"))
            }
            // Windows gets the certificates of an authority when it first needs them.
            None if cfg!(windows) => error
                .hint("open the workspace once in a Windows browser, and try again")
                .hint(INSPECTION_HINT),
            None => error.hint(INSPECTION_HINT),
        }
    }
}

const INSPECTION_HINT: &str = "SSL_CERT_FILE=/path/to/ca.pem, if your company inspects TLS";

/// Classifies an error of ureq.
pub fn classify(error: ureq::Error, route: &Route<'_>, deadline: Deadline) -> SendFailure {
    use SendFailure::{Final, Retryable, Unsent};
    use ureq::Error as E;
    match error {
        E::BodyExceedsLimit(limit) => {
            let host = route.host;
            let kib = limit / 1024;
            Final(Error::failed(format!("{host} sent an answer of more than {kib} KiB")))
        }
        E::Timeout(_) if deadline.left() < DEADLINE_TOLERANCE => Final(route.no_answer_in_time()),
        E::Rustls(error) => Final(route.untrusted(&TlsFailure::of_rustls(&error))),
        // rustls reports what it rejects about the peer as InvalidData.
        E::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            let failure = TlsFailure::of(&error).unwrap_or_else(|| TlsFailure::new(&error));
            Final(route.untrusted(&failure))
        }
        E::Protocol(_) | E::LargeResponseHeader(..) => {
            Final(route.invalid_http(&error.to_string()))
        }
        E::HostNotFound
        | E::ConnectionFailed
        | E::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            Unsent(route.unreachable(&error.to_string()))
        }
        E::Io(ref io) if io.kind() == io::ErrorKind::HostUnreachable => {
            let host = route.proxy.unwrap_or(route.host);
            let hint = format!("check the spelling of {host}, and the network");
            Unsent(route.unreachable(&error.to_string()).hint(hint))
        }
        E::Io(ref io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            Unsent(route.unreachable(&error.to_string()))
        }
        other => Retryable(route.unreachable(&other.to_string())),
    }
}
