//! The first two steps of a connection: resolving a host's name and connecting by TCP, both inside
//! the deadline. Which proxy is used is in `proxy.rs`, which certificates are trusted in
//! `trust.rs`; TLS and the tunnel through a proxy are ureq's own connectors.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use ureq::config::Config;
use ureq::http;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};

use crate::platform::dns;
use crate::platform::time::Deadline;

/// The time limit for connecting to one address. With a total of 10 s, ureq's own connector would
/// spend 6.7 s on the first of two addresses.
pub const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1500);

/// Sockets of the standard library reject a timeout of zero.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// As many addresses as ureq has room for.
const MAX_ADDRESSES: usize = 16;

/// The variables that decide whether and how a server is reached: its proxy and its certificates. A
/// cached failure counts only while they are unchanged.
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

/// The system's resolver with a time limit. It resolves a host once: ureq asks before each request,
/// also if the connection is kept.
#[derive(Debug, Default)]
pub struct LimitedResolver(Mutex<Option<(String, Vec<SocketAddr>)>>);

impl LimitedResolver {
    fn addresses(&self, host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let name = format!("{host}:{port}");
        let mut known = self.0.lock().map_err(|_| io::Error::other("a thread has failed"))?;
        if let Some((_, addresses)) = known.as_ref().filter(|(known, _)| *known == name) {
            return Ok(addresses.clone());
        }
        let addresses = dns::resolve(host, port, limit)?;
        *known = Some((name, addresses.clone()));
        Ok(addresses)
    }
}

impl Resolver for LimitedResolver {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let usual_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(usual_port);

        let mut resolved = self.empty();
        let addresses = self.addresses(host, port, *timeout.after)?;
        addresses.into_iter().take(MAX_ADDRESSES).for_each(|address| resolved.push(address));
        Ok(resolved)
    }
}

/// ureq's TCP connector with a fixed limit for each address, so that a first address that never
/// answers does not use up the deadline.
#[derive(Debug, Default)]
pub struct LimitedTcp(TcpConnector);

impl<In: Transport> Connector<In> for LimitedTcp {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        // A connector before this one has already connected.
        if chained.is_some() {
            return self.0.connect(details, chained);
        }

        let deadline = Deadline::after(*details.timeout.after);
        let mut last_error = ureq::Error::HostNotFound;
        for address in &details.addrs {
            let mut addrs = details.resolver.empty();
            addrs.push(*address);
            let limit = ADDRESS_TIMEOUT.min(deadline.left()).max(MIN_TIMEOUT);
            let details = ConnectionDetails {
                uri: details.uri,
                addrs,
                config: details.config,
                request_level: details.request_level,
                resolver: details.resolver,
                now: details.now,
                timeout: NextTimeout { after: limit.into(), ..details.timeout },
                current_time: details.current_time.clone(),
                run_connector: details.run_connector.clone(),
                register_shutdown: details.register_shutdown.clone(),
            };
            match self.0.connect(&details, None) {
                Ok(connection) => return Ok(connection),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    use ureq::Agent;

    use super::*;

    /// Resolves every name to these addresses.
    #[derive(Debug)]
    struct Addresses(Vec<SocketAddr>);

    impl Resolver for Addresses {
        fn resolve(
            &self,
            _: &http::Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut addresses = self.empty();
            self.0.iter().for_each(|address| addresses.push(*address));
            Ok(addresses)
        }
    }

    /// How long a request takes to a host with two addresses: this one, and one that answers.
    fn request_time(first: SocketAddr) -> Duration {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            client.write_all(answer).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        });

        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(8))).build();
        let connector = ().chain(LimitedTcp::default());
        let agent = Agent::with_parts(config, connector, Addresses(vec![first, second]));
        let began = Instant::now();
        assert_eq!(agent.get("http://two.example/").call().unwrap().status(), 200);
        began.elapsed()
    }

    #[test]
    fn a_first_address_that_never_answers_costs_a_second_and_a_half() {
        // No process accepts, and the queue of waiting connections is full, so the next connection
        // gets no answer.
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = hole.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 10_000, "the queue has no end");
        }

        let took = request_time(address);
        assert!((ADDRESS_TIMEOUT..2 * ADDRESS_TIMEOUT).contains(&took), "{took:?}");
    }

    #[test]
    fn a_first_address_that_refuses_costs_nothing() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(request_time(free) < ADDRESS_TIMEOUT);
    }
}
