//! An LDAP server that checks whether a password is a valid credential of the role that logs in.
//! Postgres asks it at each login (`ldap` in pg_hba.conf). So several credentials are valid at once
//! and an expired credential is refused, as at Lakebase. The server understands only the simple bind
//! of RFC 4511, with the definite lengths that libldap sends.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::jwt::{Scope, Signer, now};
use super::workspace::State;

/// The prefix that Postgres puts before the role (`ldapprefix`).
pub const PREFIX: &str = "cn=";

const SUCCESS: u8 = 0;
const INVALID_CREDENTIALS: u8 = 49;

/// Starts the server, with the workspace's clock, and returns its port. The server runs until the process ends.
pub fn start(signer: Arc<Signer>, workspace: Arc<Mutex<State>>) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (signer, workspace) = (signer.clone(), workspace.clone());
            std::thread::spawn(move || serve(stream, &signer, &workspace));
        }
    });
    Ok(port)
}

fn serve(mut stream: TcpStream, signer: &Signer, workspace: &Mutex<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    loop {
        // LDAPMessage: SEQUENCE { messageID INTEGER, protocolOp }
        let message = read_value(&mut stream)?;
        let mut rest = &message[..];
        let id = take(&mut rest, 0x02)?.to_vec();
        let mut bind = take(&mut rest, 0x60)?; // [APPLICATION 0] BindRequest; unbind ends here
        take(&mut bind, 0x02)?; // version
        let name = String::from_utf8_lossy(take(&mut bind, 0x04)?).into_owned();
        let password = String::from_utf8_lossy(take(&mut bind, 0x80)?).into_owned();

        let role = name.strip_prefix(PREFIX).unwrap_or_default();
        let time = now() + workspace.lock().ok()?.skew;
        let checked = signer.check_at(&password, Scope::Database, time);
        let is_valid = checked.is_ok_and(|subject| subject == role);
        let code = if is_valid { SUCCESS } else { INVALID_CREDENTIALS };
        // [APPLICATION 1] BindResponse: resultCode ENUMERATED, matchedDN, diagnosticMessage
        let response = value(0x61, &[0x0a, 1, code, 0x04, 0, 0x04, 0]);
        let answer = value(0x30, &[value(0x02, &id), response].concat());
        stream.write_all(&answer).ok()?;
    }
}

/// Reads the content of a SEQUENCE from the stream.
fn read_value(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    if byte[0] != 0x30 {
        return None;
    }
    stream.read_exact(&mut byte).ok()?;
    let length = match byte[0] {
        short @ 0..=0x7f => usize::from(short),
        long => {
            let mut bytes = vec![0; usize::from(long & 0x7f).min(4)];
            stream.read_exact(&mut bytes).ok()?;
            bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
    };
    let mut content = vec![0; length.min(1 << 20)];
    stream.read_exact(&mut content).ok()?;
    Some(content)
}

/// Takes the content of the next element, which must have this tag.
fn take<'b>(rest: &mut &'b [u8], tag: u8) -> Option<&'b [u8]> {
    let (head, mut tail) = rest.split_at_checked(2)?;
    if head[0] != tag {
        return None;
    }
    let length = match head[1] {
        short @ 0..=0x7f => usize::from(short),
        long => {
            let (bytes, after) = tail.split_at_checked(usize::from(long & 0x7f))?;
            tail = after;
            bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
    };
    let (content, after) = tail.split_at_checked(length)?;
    *rest = after;
    Some(content)
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("answers are short");
    [&[tag, length], content].concat()
}
