//! Which user has the other end of a connection on loopback.
//!
//! Linux tells it in `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)). No other platform has it in a
//! file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use crate::platform::files;
use crate::platform::unix;

/// The state of a connection that neither end has closed (`TCP_ESTABLISHED` of Linux).
const ESTABLISHED: &str = "01";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This user or root.
    Trusted,
    /// Another user, or a connection that is closed: it no longer tells whose it was.
    Untrusted,
    /// This platform does not tell.
    Unknown,
}

/// The user at the other end of a connection that this process has accepted.
pub fn peer_of(stream: &TcpStream) -> Peer {
    if !cfg!(target_os = "linux") {
        return Peer::Unknown;
    }
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else {
        return Peer::Untrusted;
    };

    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| files::read_or_empty(Path::new(path)));
    let owner = tables.iter().find_map(|table| owner_in(table, peer, own));
    match owner {
        Some(user) if user == 0 || user == unix::real_user_id() => Peer::Trusted,
        // A browser of Windows has no socket in this system.
        None if is_windows_subsystem() => Peer::Unknown,
        _ => Peer::Untrusted,
    }
}

/// The owner of the socket at `peer` that is connected to `own`.
fn owner_in(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, inode, ..] = fields[..] else {
            return None;
        };
        let is_it = is_written(local, peer) && is_written(remote, own);
        // A closed socket belongs to no process: it has the inode 0 and shows root as its owner.
        (is_it && state == ESTABLISHED && inode != "0").then(|| user.parse().ok()).flatten()
    })
}

/// Whether this is the address as the kernel writes it, perhaps mapped into IPv6.
fn is_written(text: &str, address: SocketAddr) -> bool {
    let port = address.port();
    let words: Vec<[u8; 4]> = match address.ip() {
        IpAddr::V4(ip) => {
            if text == format!("{}:{port:04X}", words_of(&[ip.octets()])) {
                return true;
            }
            four_bytes(&mapped(ip))
        }
        IpAddr::V6(ip) => four_bytes(&ip.octets()),
    };
    text == format!("{}:{port:04X}", words_of(&words))
}

fn mapped(ip: Ipv4Addr) -> [u8; 16] {
    ip.to_ipv6_mapped().octets()
}

fn four_bytes(bytes: &[u8; 16]) -> Vec<[u8; 4]> {
    bytes.chunks_exact(4).map(|chunk| [chunk[0], chunk[1], chunk[2], chunk[3]]).collect()
}

/// The kernel writes each four bytes of an address as a number in the machine's byte order.
fn words_of(words: &[[u8; 4]]) -> String {
    words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
}

fn is_windows_subsystem() -> bool {
    let release = files::read_or_empty(Path::new("/proc/sys/kernel/osrelease"));
    release.to_ascii_lowercase().contains("microsoft")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_connection_of_this_user_is_trusted_until_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            client.write_all(b"x").unwrap();
            assert_eq!(peer_of(&accepted), Peer::Trusted, "{address}");

            drop(client);
            assert_eq!(peer_of(&accepted), Peer::Untrusted, "{address}");
        }
    }

    #[test]
    fn the_owner_is_that_of_the_open_socket_of_the_peer() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F54 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
             1: 0100007F:9C40 0100007F:1F54 01 00000000:00000000 00:00000000 00000000  4242        0 22 1\n\
             2: 0100007F:9C41 0100007F:1F54 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n\
             3: 0000000000000000FFFF00000100007F:9C42 0000000000000000FFFF00000100007F:1F54 01 0:0 0:0 0  77  0 33 1\n";
        let own = "127.0.0.1:8020".parse().unwrap();
        for (peer, owner) in [
            ("127.0.0.1:40000", Some(4242)),
            ("127.0.0.1:40001", None),
            ("127.0.0.1:40002", Some(77)),
        ] {
            assert_eq!(owner_in(table, peer.parse().unwrap(), own), owner, "{peer}");
        }
    }
}
