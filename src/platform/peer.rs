//! Which user has the other end of a connection on loopback.
//!
//! Linux has it in `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)); elsewhere it is not known. What
//! follows from it is `commands/login/browser.rs`'s business.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;

use crate::platform::files;
use crate::platform::system;

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
        Some(user) if user == 0 || user == system::real_user_id() => Peer::Trusted,
        // A browser of Windows has no socket in this system.
        None if is_windows_subsystem() => Peer::Unknown,
        _ => Peer::Untrusted,
    }
}

/// The owner of the socket at `peer` that is connected to `own`.
fn owner_in(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (peer, own) = (written(peer), written(own));
    let is_one_of = |text: &str, forms: &[String]| forms.iter().any(|form| form == text);
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, inode, ..] = fields[..] else {
            return None;
        };
        // A closed socket belongs to no process: it has the inode 0 and shows root as its owner.
        let is_open = state == ESTABLISHED && inode != "0";
        if is_open && is_one_of(local, &peer) && is_one_of(remote, &own) {
            user.parse().ok()
        } else {
            None
        }
    })
}

/// An address as the kernel writes it; one of IPv4 also in the form of an IPv6 socket.
fn written(address: SocketAddr) -> Vec<String> {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => vec![ip.octets().to_vec(), ip.to_ipv6_mapped().octets().to_vec()],
        IpAddr::V6(ip) => vec![ip.octets().to_vec()],
    };
    let port = address.port();
    bytes.iter().map(|bytes| format!("{}:{port:04X}", hex_words(bytes))).collect()
}

/// The kernel writes each four bytes of an address as a number in the machine's byte order.
fn hex_words(bytes: &[u8]) -> String {
    let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
    words.map(|word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
}

/// Whether this is the Windows Subsystem for Linux, which runs programs of Windows, too.
pub fn is_windows_subsystem() -> bool {
    let release = files::read_or_empty(Path::new("/proc/sys/kernel/osrelease"));
    release.to_ascii_lowercase().contains("microsoft")
}

#[cfg(all(test, target_os = "linux"))]
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
