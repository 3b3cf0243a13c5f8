//! What a browser comes back to: a listener on loopback that understands one request line.
//!
//! The ports are the ones that the client `databricks-cli` is registered for. Only this machine
//! can connect; what comes is believed by its `state`, which is `oauth.rs`'s business.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::time::Deadline;
use crate::quoting;

/// databricks-sdk-go `credentials/u2m`: the first free one.
const PORTS: std::ops::RangeInclusive<u16> = 8020..=8040;

/// The longest request that is read: what browsers send has grown with their cookies.
const MOST: usize = 64 * 1024;

/// The port that is asked for; 0 counts as unset, as in databricks-sdk-go.
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

/// So many may be connected at once.
const MOST_CALLERS: usize = 64;

/// Waits for the browser.
pub struct Listener {
    port: u16,
    /// On both loopback addresses, where there are two: `localhost` may mean either.
    sockets: Vec<TcpListener>,
    /// Those who have not said all yet.
    callers: RefCell<Vec<Caller>>,
}

/// Somebody who has connected.
struct Caller {
    stream: TcpStream,
    head: Vec<u8>,
    deadline: Deadline,
}

/// What a caller has said so far.
enum Heard {
    Nothing,
    Nonsense,
    /// What a whole request asks for.
    Target(String),
}

impl Caller {
    fn new(stream: TcpStream) -> Option<Caller> {
        // Whoever has not said a request by then is no browser.
        const PATIENCE: Duration = Duration::from_secs(60);
        stream.set_nonblocking(true).ok()?;
        Some(Caller { stream, head: Vec::new(), deadline: Deadline::after(PATIENCE) })
    }

    fn hear(&mut self) -> Heard {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Nonsense,
                Ok(length) => self.head.extend(&buffer[..length]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Heard::Nonsense,
            }
            if self.head.len() > MOST {
                return Heard::Nonsense;
            }
        }
        if !self.head.windows(4).any(|end| end == b"\r\n\r\n") {
            return if self.deadline.passed() { Heard::Nonsense } else { Heard::Nothing };
        }
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["GET", target, ..] => Heard::Target(target.to_owned()),
            _ => Heard::Nonsense,
        }
    }
}

/// A request of the browser's.
pub struct Visit {
    stream: Cell<Option<TcpStream>>,
    target: String,
}

impl Listener {
    /// Listens on the port that is asked for, or on the first one that is free.
    pub fn open(asked: Option<u16>) -> Result<Listener> {
        let ports = asked.map_or(PORTS, |port| port..=port);
        let mut why = None;
        for port in ports.clone() {
            let bound = TcpListener::bind(("127.0.0.1", port)).and_then(|socket| {
                match TcpListener::bind(("::1", port)) {
                    // Whoever has it would get what is meant for us.
                    Err(e) if e.kind() == ErrorKind::AddrInUse => Err(e),
                    other => Ok([Some(socket), other.ok()]),
                }
            });
            match bound {
                Ok(sockets) => {
                    let sockets: Vec<TcpListener> = sockets.into_iter().flatten().collect();
                    let ready = sockets.iter().try_for_each(|socket| socket.set_nonblocking(true));
                    ready.map_err(|e| Error::failed("cannot listen for the browser").because(e))?;
                    return Ok(Listener { port, sockets, callers: RefCell::default() });
                }
                Err(e) => why = Some(e),
            }
        }
        let (first, last) = (ports.start(), ports.end());
        let error =
            Error::failed(format!("no port from {first} to {last} is free for the browser"));
        Err(why.map_or(error.clone(), |e| error.because(e)).hint("--no-browser"))
    }

    /// Where the browser is to come back to.
    pub fn address(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The next request; none by the deadline.
    pub fn wait(&self, context: &Context, deadline: Deadline) -> Result<Option<Visit>> {
        const POLL: Duration = Duration::from_millis(10);
        // A browser opens connections that it has no use for yet.
        let mut callers = self.callers.borrow_mut();
        while !deadline.passed() {
            for socket in &self.sockets {
                match socket.accept() {
                    Ok((stream, _)) => {
                        callers.extend(Caller::new(stream));
                        // The oldest have had their time.
                        let most = callers.len().min(MOST_CALLERS);
                        let first = callers.len() - most;
                        callers.drain(..first);
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => (),
                    Err(e) => {
                        return Err(Error::failed("cannot listen for the browser").because(e));
                    }
                }
            }
            let mut at = 0;
            while at < callers.len() {
                match callers[at].hear() {
                    Heard::Nothing => at += 1,
                    Heard::Nonsense => drop(callers.remove(at)),
                    Heard::Target(target) => {
                        let stream = callers.remove(at).stream;
                        stream.set_nonblocking(false).ok();
                        return Ok(Some(Visit { stream: Cell::new(Some(stream)), target }));
                    }
                }
            }
            context.sleep(POLL, deadline);
        }
        Ok(None)
    }
}

impl Visit {
    /// What the browser came back with; none where it asks for something else.
    pub fn query(&self) -> Option<&str> {
        let (path, query) = self.target.split_once('?')?;
        (path == "/").then_some(query)
    }

    /// Says how it ended. The address bar forgets what the browser came back with.
    pub fn answer(&self, status: u16, headline: &str, words: &str) {
        let Some(mut stream) = self.stream.take() else { return };
        let safe = |text: &str| quoting::markup(&redact(text));
        let (headline, words) = (safe(headline), safe(words));
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
        // A browser that has gone away has its answer on the terminal.
        let _ = stream.write_all((head + &page).as_bytes());
    }
}
