//! How a connection comes about: through which proxy, to which of a host's addresses, trusting
//! whose certificates. The rest of ureq's chain of connectors is its own.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use ureq::config::Config;
use ureq::tls::Certificate;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Proxy, ProxyProtocol, http};

use crate::credential::destination::is_loopback;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::{Context, INSTANCE_METADATA};
use crate::platform::process::within;
use crate::platform::time::Deadline;

/// The host of the instance metadata service.
pub const HYPERVISOR: &str = INSTANCE_METADATA.split_at("http://".len()).1;

/// Connecting to one address may take this long; then the next one has its turn.
const CONNECT: Duration = Duration::from_millis(1500);

/// The variables that decide the way of a request.
pub const ROUTE_VARIABLES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The proxy for this URL, from the usual variables. What does not leave the machine is never proxied.
pub fn proxy(context: &Context, uri: &http::Uri) -> Result<Option<Proxy>> {
    let host = uri.host().unwrap_or_default();
    if is_loopback(host) || host == HYPERVISOR {
        return Ok(None);
    }
    let var = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, context.var(name)?.to_str()?)))
    };
    let bypass = var(["NO_PROXY", "no_proxy"]).is_some_and(|(_, list)| bypasses(list, host));
    let Some((name, url)) = var(["HTTPS_PROXY", "https_proxy"])
        .or_else(|| var(["ALL_PROXY", "all_proxy"]))
        .filter(|_| !bypass)
    else {
        return Ok(None);
    };
    // The URL may hold a password, so the message does not repeat it. Other protocols than
    // these ureq would pass over silently, and go without a proxy.
    let http = [ProxyProtocol::Http, ProxyProtocol::Https];
    let proxy = Proxy::new(url).ok().filter(|proxy| http.contains(&proxy.protocol()));
    proxy.map(Some).ok_or_else(|| {
        Error::usage(format!("{name} is not the URL of an HTTP proxy"))
            .hint(format!("{name}=http://proxy.example.com:3128, or NO_PROXY={host} to go without"))
    })
}

/// `NO_PROXY` as curl and Go read it: `*`, a host, or a domain with all that is below it.
fn bypasses(list: &str, host: &str) -> bool {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.rsplit_once(':').map_or(entry, |(name, _)| name);
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        let host = host.to_ascii_lowercase();
        let domain = domain.to_ascii_lowercase();
        entry == "*"
            || host == domain
            || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// The system's resolver, which knows no time limit of its own.
#[derive(Debug)]
pub struct PatientResolver;

impl Resolver for PatientResolver {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let place = uri.scheme().zip(uri.authority());
        let place = place.and_then(|(scheme, host)| DefaultResolver::host_and_port(scheme, host));
        let place = place.ok_or(ureq::Error::HostNotFound)?;
        let found = within(*timeout.after, move || place.to_socket_addrs())?;
        let found = found.ok_or(ureq::Error::Timeout(timeout.reason))??;
        let mut addresses = self.empty();
        // As many as there is room for.
        found.take(16).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// TCP with a limit for each address, so that a dead first one does not eat the deadline.
#[derive(Debug, Default)]
pub struct PatientTcp(TcpConnector);

impl<In: Transport> Connector<In> for PatientTcp {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> std::result::Result<Option<Self::Out>, ureq::Error> {
        if chained.is_some() {
            return self.0.connect(details, chained); // a proxy has connected already
        }
        let deadline = Deadline::after(*details.timeout.after);
        let mut last = ureq::Error::HostNotFound;
        for address in &details.addrs {
            let mut addrs = details.resolver.empty();
            addrs.push(*address);
            let after = CONNECT.min(deadline.left()).max(Duration::from_millis(1));
            let one = ConnectionDetails {
                uri: details.uri,
                addrs,
                config: details.config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: details.now,
                timeout: NextTimeout { after: after.into(), ..details.timeout },
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            match self.0.connect(&one, None) {
                Ok(connection) => return Ok(connection),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// The certificates to trust: `SSL_CERT_FILE` and `SSL_CERT_DIR` as OpenSSL reads them, else
/// the platform's.
pub fn trusted(context: &Context) -> Result<Vec<Certificate<'static>>> {
    let (file, folder) = (context.var("SSL_CERT_FILE"), context.var("SSL_CERT_DIR"));
    if let Some(file) = file.filter(|file| !Path::new(file).is_file()) {
        let file = redact(&file.to_string_lossy());
        return Err(Error::usage(format!("SSL_CERT_FILE is not a file: {file}"))
            .hint("unset SSL_CERT_FILE, or SSL_CERT_FILE=/path/to/ca.pem"));
    }
    let found = match (file, folder) {
        (None, None) => match SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
            // One bundle, not also the folder with the same certificates one by one.
            Some(bundle) => rustls_native_certs::load_certs_from_paths(Some(bundle), None),
            None => rustls_native_certs::load_native_certs(),
        },
        _ => rustls_native_certs::load_certs_from_paths(
            file.map(Path::new),
            folder.map(Path::new).filter(|folder| folder.is_dir()),
        ),
    };
    if found.certs.is_empty() {
        let mut error =
            Error::usage("no trusted certificates found, so no TLS connection can be made");
        for problem in found.errors.iter().take(3) {
            error = error.because(redact(&problem.to_string()));
        }
        return Err(error.hint("apt-get install ca-certificates, or SSL_CERT_FILE=/path/to/ca.pem"));
    }
    Ok(found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect())
}

/// Where distributions keep their bundle, as Go's `crypto/x509` knows them.
const SYSTEM_BUNDLES: &[&str] = if cfg!(target_os = "linux") {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    use ureq::Agent;
    use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};

    use super::*;

    /// A name with these addresses.
    #[derive(Debug)]
    struct Addresses(Vec<SocketAddr>);

    impl Resolver for Addresses {
        fn resolve(
            &self,
            _: &http::Uri,
            _: &ureq::config::Config,
            _: NextTimeout,
        ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            self.0.iter().for_each(|address| found.push(*address));
            Ok(found)
        }
    }

    /// A server whose second address this is; how long a request takes.
    fn behind(first: SocketAddr) -> Duration {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            client.write_all(answer).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        });
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(8))).build();
        let connector = ().chain(PatientTcp::default());
        let agent = Agent::with_parts(config, connector, Addresses(vec![first, second]));
        let began = Instant::now();
        assert_eq!(agent.get("http://two.example/").call().unwrap().status(), 200);
        began.elapsed()
    }

    #[test]
    fn a_first_address_that_never_answers_costs_a_second_and_a_half() {
        // Nobody accepts, and the queue of those who wait is full: the next one hears nothing.
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = hole.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 10_000, "the queue has no end");
        }
        let took = behind(address);
        assert!((CONNECT..2 * CONNECT).contains(&took), "{took:?}");
    }

    #[test]
    fn a_first_address_that_refuses_costs_nothing() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(behind(free) < CONNECT);
    }

    #[test]
    fn no_proxy_covers_a_domain_and_what_is_below() {
        for (list, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.EXAMPLE.com", true),
            ("example.com:443", "a.example.com", true),
            ("example.com", "badexample.com", false),
            ("a, b ,*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(bypasses(list, host), expected, "{list} {host}");
        }
    }
}
