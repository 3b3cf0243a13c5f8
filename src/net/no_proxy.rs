//! `NO_PROXY`: the hosts that are reached without a proxy, as Go reads the list
//! (golang.org/x/net/http/httpproxy), since Databricks' own tools read it so. `tests/it/proxies.rs`
//! compares the two.

use std::net::IpAddr;

/// Whether a list names this host at this port: `*`, an address, a network (`10.0.0.0/8`), a domain
/// with all hosts below it, or with a leading dot only those. An entry may have a port.
pub fn covers(list: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let address = address(host);
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }

    let entries = || list.split(',').map(|entry| entry.trim().to_lowercase());
    entries().any(|entry| entry == "*" || entry_covers(&entry, host, address, port))
}

fn entry_covers(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if let Some((network, bits)) = network(entry) {
        return address.is_some_and(|address| is_in(address, network, bits));
    }
    let (name, wanted) = split_port(entry).unwrap_or((entry, ""));
    let is_port = wanted.is_empty() || wanted == port.to_string();
    if let Some(meant) = self::address(name) {
        return is_port && address == Some(meant);
    }

    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match name.strip_prefix('.') {
        _ if name.is_empty() => false,
        Some(domain) => is_port && is_below(domain),
        None => is_port && (host == name || is_below(name)),
    }
}

/// An address; IPv4 in IPv6's notation is IPv4.
fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

/// The parts of `10.0.0.0/8`.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (start, bits) = entry.split_once('/')?;
    let start = start.parse::<IpAddr>().ok()?;
    let bits =
        Some(bits).filter(|bits| bits.bytes().all(|b| b.is_ascii_digit()))?.parse::<u32>().ok()?;
    let most = if start.is_ipv4() { 32 } else { 128 };
    if bits > most {
        return None;
    }
    // A network of IPv4 addresses in IPv6's notation is one of IPv4.
    let canonical = start.to_canonical();
    let is_mapped = canonical.is_ipv4() && start.is_ipv6();
    Some((canonical, if is_mapped { bits.saturating_sub(96) } else { bits }))
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    // As numbers of 128 bits, whose first ones count.
    let (address, network, unused) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits().into(), network.to_bits().into(), 32 - bits)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits(), network.to_bits(), 128 - bits)
        }
        _ => return false,
    };
    let prefix = |number: u128| number.checked_shr(unused).unwrap_or(0);
    prefix(address) == prefix(network)
}

/// The parts of `host:port` or `[address]:port`, as Go's `net.SplitHostPort` splits them.
fn split_port(entry: &str) -> Option<(&str, &str)> {
    if let Some(rest) = entry.strip_prefix('[') {
        return rest.split_once("]:").filter(|(_, port)| !port.contains([':', '[', ']']));
    }
    entry.split_once(':').filter(|(name, port)| {
        !port.contains(':') && ![name, port].iter().any(|part| part.contains(['[', ']']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_a_domain_and_the_hosts_below_it() {
        for (list, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            (".example.com", "a.example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "a.EXAMPLE.com", true),
            ("example.com:443", "a.example.com", true),
            ("example.com:8443", "a.example.com", false),
            ("example.com", "badexample.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("2001:db8::/32", "[2001:db8::1]", true),
            ("[2001:db8::1]:443", "[2001:db8::1]", true),
            ("a, b ,*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(covers(list, host, 443), expected, "{list} {host}");
        }
    }
}
