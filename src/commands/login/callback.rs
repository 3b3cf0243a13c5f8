//! The listener on loopback that the browser calls after a login. It understands one request line.
//!
//! The ports are those that the public client `databricks-cli` is registered for. Only programs on
//! this machine can connect. `platform/peer.rs` tells whose they are, `login/oauth.rs` checks the
//! `state` of what they send.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::peer::{Peer, peer_of};
use crate::platform::time::Deadline;
use crate::quoting;

/// databricks-sdk-go `credentials/u2m`: the first free port is used.
const PORTS: RangeInclusive<u16> = 8020..=8040;

/// Browsers send cookies of any web application on localhost, so requests may be long.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

const MAX_CONNECTIONS: usize = 64;

/// How long a connection may stay open without a whole request. A browser needs less.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two checks of all connections.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The configured port; 0 counts as unset, as in databricks-sdk-go.
pub fn port(settings: &Settings) -> Result<Option<u16>> {
    let Some(text) = settings.text(Id::OauthCallbackPort) else { return Ok(None) };
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => {
            let origin = settings.origin(Id::OauthCallbackPort);
            Err(Error::usage(format!("oauth_callback_port from {origin} is not a port: {text}")))
        }
    }
}

/// Waits for the browser.
pub struct Listener {
    port: u16,
    /// On both loopback addresses, if the machine has both: `localhost` may mean either.
    sockets: Vec<TcpListener>,
    /// Connections whose request is not complete yet. A browser opens some in advance.
    connections: RefCell<Vec<Connection>>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    deadline: Deadline,
}

/// What a connection has sent so far.
enum Received {
    Incomplete,
    /// It is no HTTP request, too long or too late.
    Invalid,
    /// A whole GET request, and the target in its request line.
    Request(String),
}

impl Connection {
    fn new(stream: TcpStream) -> Option<Connection> {
        stream.set_nonblocking(true).ok()?;
        let deadline = Deadline::after(REQUEST_TIMEOUT);
        Some(Connection { stream, received: Vec::new(), deadline })
    }

    fn receive(&mut self) -> Received {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Received::Invalid,
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Received::Invalid,
            }
            if self.received.len() > MAX_REQUEST_BYTES {
                return Received::Invalid;
            }
        }

        let is_complete = self.received.windows(4).any(|end| end == b"\r\n\r\n");
        if is_complete {
            self.request()
        } else if self.deadline.passed() {
            Received::Invalid
        } else {
            Received::Incomplete
        }
    }

    fn request(&self) -> Received {
        let line = self.received.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("GET"), Some(target)) => Received::Request(target.to_owned()),
            _ => Received::Invalid,
        }
    }
}

/// A request of the browser that waits for an answer.
pub struct BrowserRequest {
    stream: Cell<Option<TcpStream>>,
    target: String,
    /// Whose browser it was, as far as the system tells once the request is complete.
    pub peer: Peer,
}

impl Listener {
    /// Listens on the given port, or on the first free port of [`PORTS`].
    pub fn open(port: Option<u16>) -> Result<Listener> {
        let ports = port.map_or(PORTS, |port| port..=port);
        let mut reason = None;
        for port in ports.clone() {
            match bind(port) {
                Ok(sockets) => {
                    let ready = sockets.iter().try_for_each(|socket| socket.set_nonblocking(true));
                    ready.map_err(cannot_listen)?;
                    return Ok(Listener { port, sockets, connections: RefCell::default() });
                }
                Err(e) => reason = Some(e),
            }
        }

        let first = ports.start();
        let last = ports.end();
        let message = if first == last {
            format!("port {first} is not free for the browser's answer")
        } else {
            format!("no port from {first} to {last} is free for the browser's answer")
        };
        let error = Error::failed(message).hint("--no-browser");
        Err(match reason {
            Some(e) => error.because(e),
            None => error,
        })
    }

    /// The address that the workspace sends the browser to.
    pub fn address(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Waits for the next request; returns `None` after the deadline.
    pub fn wait(&self, context: &Context, deadline: Deadline) -> Result<Option<BrowserRequest>> {
        let mut connections = self.connections.borrow_mut();
        while !deadline.passed() {
            self.accept(&mut connections)?;
            if let Some(request) = next_request(&mut connections) {
                return Ok(Some(request));
            }
            context.sleep(POLL_INTERVAL, deadline);
        }
        Ok(None)
    }

    fn accept(&self, connections: &mut Vec<Connection>) -> Result<()> {
        for socket in &self.sockets {
            match socket.accept() {
                Ok((stream, _)) => connections.extend(Connection::new(stream)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => (),
                Err(e) => return Err(cannot_listen(e)),
            }
            // The oldest connections give way, so that idle ones cannot keep the browser out.
            let surplus = connections.len().saturating_sub(MAX_CONNECTIONS);
            connections.drain(..surplus);
        }
        Ok(())
    }
}

/// Listens on both loopback addresses, or on 127.0.0.1 only if the machine has no ::1.
fn bind(port: u16) -> io::Result<Vec<TcpListener>> {
    let mut sockets = vec![TcpListener::bind(("127.0.0.1", port))?];
    match TcpListener::bind(("::1", port)) {
        Ok(socket) => sockets.push(socket),
        // The program that has this port on ::1 would receive the browser's answer.
        Err(e) if e.kind() == ErrorKind::AddrInUse => return Err(e),
        Err(_) => (),
    }
    Ok(sockets)
}

/// Reads from all connections, and takes out the first that has sent a whole request.
fn next_request(connections: &mut Vec<Connection>) -> Option<BrowserRequest> {
    let mut index = 0;
    while index < connections.len() {
        match connections[index].receive() {
            Received::Incomplete => index += 1,
            Received::Invalid => drop(connections.remove(index)),
            Received::Request(target) => {
                let stream = connections.remove(index).stream;
                stream.set_nonblocking(false).ok();
                let peer = peer_of(&stream);
                return Some(BrowserRequest { stream: Cell::new(Some(stream)), target, peer });
            }
        }
    }
    None
}

fn cannot_listen(why: io::Error) -> Error {
    Error::failed("cannot listen for the browser").because(why)
}

impl BrowserRequest {
    /// The query of the workspace's redirection. `None` for any other request.
    pub fn query(&self) -> Option<&str> {
        let (path, query) = self.target.split_once('?')?;
        (path == "/").then_some(query)
    }

    /// Sends a page. Its script removes the code from the browser's address bar.
    pub fn answer(&self, status: u16, headline: &str, words: &str) {
        let Some(mut stream) = self.stream.take() else { return };
        let headline = quoting::markup(&redact(headline));
        let words = quoting::markup(&redact(words));
        let color = if status == 200 { "#176e2c" } else { "#a3201d" };
        let page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{headline} · lakebase-token</title></head>\
             <body style=\"font:1.1em/1.5 sans-serif;margin:15vh auto;padding:0 1em;max-width:34em\">\
             <h1 style=\"color:{color}\">{headline}</h1><p>{words}</p><p>lakebase-token</p>\
             <script>history.replaceState(null,'','/')</script></body></html>\n"
        );
        let head = format!(
            "HTTP/1.1 {status} \r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
            page.len()
        );

        // If the browser has closed the connection, the terminal still shows the outcome.
        let _ = stream.write_all((head + &page).as_bytes());
    }
}
