//! From a host name to its addresses, for both address families at once.
//!
//! Each family is asked for by itself: musl's resolver takes an error for one family (some name
//! servers answer AAAA with one) for an error of the name, and forgets the good answer for the other.
//! The order follows RFC 6724 as far as it matters here: IPv6 first where this machine has a route.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

use crate::platform::files;
use crate::platform::time::show_duration;

/// How long the other family is waited for once one has an answer.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(300);

/// A resolver that has tried for so long has had no answer; both libcs give up after five seconds.
const NO_ANSWER_DELAY: Duration = Duration::from_secs(3);

/// The addresses of a host at this port. An error says what is wrong with the name or the name server.
pub fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }

    let began = Instant::now();
    let (sender, receiver) = mpsc::channel();
    for family in [AddrFamily::Inet6, AddrFamily::Inet] {
        let (sender, host) = (sender.clone(), host.to_owned());
        std::thread::Builder::new().spawn(move || {
            // The receiver may have stopped waiting.
            let _ = sender.send(addresses(&host, port, family));
        })?;
    }
    drop(sender);

    let mut found: Vec<SocketAddr> = Vec::new();
    let mut failure = None;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let wait = if found.is_empty() { left } else { left.min(OTHER_FAMILY_WAIT) };
        match receiver.recv_timeout(wait) {
            Ok(Ok(addresses)) => found.extend(addresses),
            Ok(Err(kind)) => failure = Some(worse(failure, kind)),
            // Both have answered, or there is no time left for the other one.
            Err(_) => break,
        }
    }
    if found.is_empty() {
        return Err(explained(host, failure, began.elapsed()));
    }
    let has_route = found.iter().find(|address| address.is_ipv6()).is_some_and(is_routed);
    found.sort_by_key(|address| address.is_ipv6() != has_route);
    Ok(found)
}

fn addresses(
    host: &str,
    port: u16,
    family: AddrFamily,
) -> Result<Vec<SocketAddr>, LookupErrorKind> {
    let hints = AddrInfoHints {
        address: family.into(),
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|e| e.kind())?;
    let addresses = found.filter_map(|address| Some(address.ok()?.sockaddr.ip()));
    Ok(addresses.map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Of two failures, the worse one: that a name is unknown is an answer, a silent server is none.
fn worse(known: Option<LookupErrorKind>, new: LookupErrorKind) -> LookupErrorKind {
    match known {
        Some(LookupErrorKind::NoName | LookupErrorKind::NoData) | None => new,
        Some(known) => known,
    }
}

/// Whether this machine has a route to the address. Connecting a UDP socket sends nothing.
fn is_routed(address: &SocketAddr) -> bool {
    UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(address).is_ok())
}

fn explained(host: &str, failure: Option<LookupErrorKind>, took: Duration) -> io::Error {
    let servers = name_servers();
    let names = if servers.is_empty() { String::new() } else { format!(" ({servers})") };
    let words = match failure {
        Some(LookupErrorKind::NoName | LookupErrorKind::NoData) => {
            format!("DNS does not know the name {host}")
        }
        Some(LookupErrorKind::Again) | None if took >= NO_ANSWER_DELAY || failure.is_none() => {
            let took = show_duration(Duration::from_secs(took.as_secs().max(1)));
            format!("no name server has answered within {took}{names}")
        }
        Some(LookupErrorKind::Again | LookupErrorKind::Fail) => {
            format!("the name server cannot look up {host}{names}")
        }
        _ => format!("the system cannot look up {host}"),
    };
    io::Error::new(io::ErrorKind::HostUnreachable, words)
}

/// The name servers of resolv.conf(5).
fn name_servers() -> String {
    let text = files::read_or_empty(Path::new("/etc/resolv.conf"));
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers.map(str::trim).collect::<Vec<_>>().join(", ")
}
