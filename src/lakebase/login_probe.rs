//! One login to Postgres, as libpq would make it with a password: TLS, start-up, a password in clear
//! text inside TLS, one query (PostgreSQL documentation, "Frontend/Backend Protocol").
//!
//! What a refusal means is `login_refusal.rs`'s business. Other authentication methods than a password
//! in clear text are reported and not tried: Lakebase takes a token in no other way.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::credential::connection::Tls;
use crate::credential::secret::Secret;
use crate::net::connect::{ADDRESS_TIMEOUT, MIN_TIMEOUT};
use crate::net::postgres_tls::secured;
use crate::net::tls_failure::TlsFailure;
use crate::platform::context::Context;
use crate::platform::dns;
use crate::platform::time::Deadline;

/// The largest message that is read. A server's error has some hundred bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most messages that are read in one login.
const MAX_MESSAGES: usize = 200;

/// The beginning of a ParameterStatus of the server's version.
const VERSION: &[u8] = b"server_version\0";

/// What to log in with.
pub struct PostgresLogin<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
    pub password: &'a Secret,
    pub tls: &'a Tls,
    /// `PGOPTIONS`.
    pub options: Option<&'a str>,
}

/// Why a login has failed.
#[derive(Debug)]
pub enum LoginFailure {
    /// The host name is unknown.
    NotResolved(io::Error),
    NotConnected(io::Error),
    /// The server has answered nothing in time, or closed the connection.
    NoAnswer(io::Error),
    /// The server offers no TLS.
    NoTls,
    Certificate(TlsFailure),
    /// The server asks for another authentication method.
    Method(&'static str),
    /// The server's own words.
    Refused(ServerError),
    NotPostgres(String),
}

/// An ErrorResponse: its SQLSTATE and its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub sqlstate: String,
    pub message: String,
}

type Outcome<T> = std::result::Result<T, LoginFailure>;

/// What a login has shown.
#[derive(Clone, Debug, Default)]
pub struct PostgresSession {
    pub role: String,
    /// `server_version`; empty if the server does not state it.
    pub server_version: String,
    /// Whether the server has asked for the password in clear text.
    pub uses_cleartext_password: bool,
}

/// Ends a session (PostgreSQL documentation, "Message Formats").
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Logs in and returns what the server says.
pub fn log_in(
    login: &PostgresLogin<'_>,
    context: &Context,
    deadline: Deadline,
) -> Outcome<PostgresSession> {
    let mut stream = connect(login.host, login.port, deadline)?;
    if !offers_tls(&mut stream, deadline)? {
        return Err(LoginFailure::NoTls);
    }
    let stream = secured(stream, login.host, login.tls, context);
    let mut stream = stream.map_err(LoginFailure::Certificate)?;

    send(&mut stream, &startup(login))?;
    let session = answer_server(&mut stream, login, deadline)?;
    let _ = send(&mut stream, &TERMINATE);
    Ok(session)
}

/// Answers the server's messages until it has said who is logged in.
pub fn answer_server(
    stream: &mut (impl Read + Write),
    login: &PostgresLogin<'_>,
    deadline: Deadline,
) -> Outcome<PostgresSession> {
    let mut is_in = false;
    let mut is_asked = false;
    let mut shown = PostgresSession::default();
    for _ in 0..MAX_MESSAGES {
        if deadline.passed() {
            return Err(LoginFailure::NoAnswer(io::ErrorKind::TimedOut.into()));
        }
        match next_message(stream)? {
            Message::AuthenticationOk => is_in = true,
            Message::CleartextPassword => {
                shown.uses_cleartext_password = true;
                send(stream, &text_message(b'p', login.password.expose()))?;
            }
            Message::OtherMethod(name) => return Err(LoginFailure::Method(name)),
            Message::Error(error) => return Err(LoginFailure::Refused(error)),
            Message::Ready if !is_in => {
                return Err(LoginFailure::NotPostgres(
                    "it sent ReadyForQuery before a login".to_owned(),
                ));
            }
            Message::Ready if shown.role.is_empty() && is_asked => {
                return Err(LoginFailure::NotPostgres(
                    "it does not say who is logged in".to_owned(),
                ));
            }
            Message::Ready if shown.role.is_empty() => {
                is_asked = true;
                send(stream, &text_message(b'Q', "select current_user"))?;
            }
            Message::Ready => return Ok(shown),
            Message::Row(text) => shown.role = text,
            Message::Version(text) => shown.server_version = text,
            Message::Other => (),
        }
    }
    Err(LoginFailure::NotPostgres(format!("it sent over {MAX_MESSAGES} messages")))
}

fn connect(host: &str, port: u16, deadline: Deadline) -> Outcome<TcpStream> {
    let resolved = dns::resolve(host, port, deadline.left());
    let addresses = resolved.map_err(LoginFailure::NotResolved)?;

    let mut failure = io::Error::other("the name has no address");
    for address in addresses {
        let limit = ADDRESS_TIMEOUT.min(deadline.left()).max(MIN_TIMEOUT);
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                let left = deadline.left().max(MIN_TIMEOUT);
                let timeouts = stream
                    .set_read_timeout(Some(left))
                    .and_then(|()| stream.set_write_timeout(Some(left)));
                return timeouts.map(|()| stream).map_err(LoginFailure::NotConnected);
            }
            Err(e) => failure = e,
        }
    }
    Err(LoginFailure::NotConnected(failure))
}

/// Whether the server takes TLS. It answers an SSLRequest with one byte, S or N, or with an error.
fn offers_tls(stream: &mut TcpStream, deadline: Deadline) -> Outcome<bool> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    send(stream, &SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(|e| {
        if deadline.passed() {
            LoginFailure::NoAnswer(io::ErrorKind::TimedOut.into())
        } else {
            LoginFailure::NoAnswer(e)
        }
    })?;
    match answer[0] {
        b'S' => Ok(true),
        b'N' => Ok(false),
        b'E' => match body(stream).and_then(|body| error_in(&body)) {
            Ok(error) => Err(LoginFailure::Refused(error)),
            Err(_) => {
                Err(LoginFailure::NotPostgres("its answer to SSLRequest is broken".to_owned()))
            }
        },
        _ => {
            let words = "its answer to SSLRequest is neither S nor N";
            Err(LoginFailure::NotPostgres(words.to_owned()))
        }
    }
}

fn send(stream: &mut impl Write, bytes: &[u8]) -> Outcome<()> {
    stream.write_all(bytes).and_then(|()| stream.flush()).map_err(failed_io)
}

/// A failure of a stream that is TLS: rustls reports what it rejects about the peer as InvalidData.
fn failed_io(error: io::Error) -> LoginFailure {
    match TlsFailure::of(&error) {
        Some(failure) => LoginFailure::Certificate(failure),
        None => LoginFailure::NoAnswer(error),
    }
}

/// The StartupMessage of protocol 3.0.
fn startup(login: &PostgresLogin<'_>) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    let parameters = [
        ("user", login.user),
        ("database", login.database),
        ("client_encoding", "UTF8"),
        ("application_name", "lakebase-token"),
    ];
    let options = login.options.map(|options| ("options", options));
    for (name, value) in parameters.into_iter().chain(options) {
        body.extend(name.as_bytes());
        body.push(0);
        body.extend(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

fn text_message(kind: u8, text: &str) -> Vec<u8> {
    let length = (text.len() as u32 + 5).to_be_bytes();
    [&[kind], &length[..], text.as_bytes(), &[0]].concat()
}

/// A message of the server, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    AuthenticationOk,
    CleartextPassword,
    OtherMethod(&'static str),
    Error(ServerError),
    Ready,
    /// The first column of a row.
    Row(String),
    /// The parameter `server_version`.
    Version(String),
    Other,
}

fn next_message(stream: &mut impl Read) -> Outcome<Message> {
    let mut kind = [0];
    stream.read_exact(&mut kind).map_err(failed_io)?;
    let body = body(stream)?;
    message(kind[0], &body)
}

fn body(stream: &mut impl Read) -> Outcome<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed_io)?;
    let length = (u32::from_be_bytes(length) as usize).checked_sub(4);
    let length = length.filter(|length| *length <= MAX_MESSAGE_BYTES).ok_or_else(|| {
        LoginFailure::NotPostgres("it sends a message of an impossible length".to_owned())
    })?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(failed_io)?;
    Ok(body)
}

/// Reads a message of this kind.
pub fn message(kind: u8, body: &[u8]) -> Outcome<Message> {
    let broken = || LoginFailure::NotPostgres("it sends a broken message".to_owned());
    Ok(match kind {
        b'R' => {
            match body.first_chunk().map(|code| u32::from_be_bytes(*code)).ok_or_else(broken)? {
                0 => Message::AuthenticationOk,
                3 => Message::CleartextPassword,
                5 => Message::OtherMethod("MD5"),
                7 | 8 => Message::OtherMethod("GSSAPI"),
                9 => Message::OtherMethod("SSPI"),
                10..=12 => Message::OtherMethod("SASL (SCRAM)"),
                _ => Message::OtherMethod("an unknown method"),
            }
        }
        b'E' => Message::Error(error_in(body)?),
        b'Z' => Message::Ready,
        b'S' if body.starts_with(VERSION) => {
            let text = body[VERSION.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
            Message::Version(String::from_utf8_lossy(text).into_owned())
        }
        b'D' => Message::Row(first_column(body).ok_or_else(broken)?),
        _ => Message::Other,
    })
}

/// The fields of an ErrorResponse: a letter and a text each, ended by a zero byte.
fn error_in(body: &[u8]) -> Outcome<ServerError> {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((name, text)) = field.split_first() else { continue };
        let text = String::from_utf8_lossy(text).into_owned();
        match name {
            b'C' => error.sqlstate = text,
            b'M' => error.message = text,
            _ => (),
        }
    }
    if error.message.is_empty() && error.sqlstate.is_empty() {
        return Err(LoginFailure::NotPostgres("it sends an empty error".to_owned()));
    }
    Ok(error)
}

fn first_column(body: &[u8]) -> Option<String> {
    let columns = u16::from_be_bytes(*body.first_chunk()?);
    let length = i32::from_be_bytes(*body.get(2..)?.first_chunk()?);
    let length = usize::try_from(length).ok().filter(|_| columns > 0)?;
    Some(String::from_utf8_lossy(body.get(6..6 + length)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_server_are_read_and_broken_ones_refused() {
        let error = ServerError { sqlstate: "28P01".to_owned(), message: "no".to_owned() };
        for (kind, body, expected) in [
            (b'R', &[0, 0, 0, 0][..], Some(Message::AuthenticationOk)),
            (b'R', &[0, 0, 0, 3], Some(Message::CleartextPassword)),
            (b'R', &[0, 0, 0, 10, b'S'], Some(Message::OtherMethod("SASL (SCRAM)"))),
            (b'R', &[0, 0], None),
            (b'E', b"SFATAL\0C28P01\0Mno\0\0", Some(Message::Error(error))),
            (b'E', b"\0", None),
            (b'Z', b"I", Some(Message::Ready)),
            (b'D', b"\0\x01\0\0\0\x02me", Some(Message::Row("me".to_owned()))),
            (b'D', b"\0\x01\0\0\0\x09me", None),
            (b'D', b"\0\x01\xff\xff\xff\xff", None),
            (b'S', b"x", Some(Message::Other)),
            (b'S', b"server_version\x0016.2\0", Some(Message::Version("16.2".to_owned()))),
        ] {
            assert_eq!(message(kind, body).ok(), expected, "{kind} {body:?}");
        }
        for length in [[0, 0, 0, 3], [0xff; 4], [0, 2, 0, 0]] {
            assert!(body(&mut &length[..]).is_err(), "{length:?}");
        }
    }
}
