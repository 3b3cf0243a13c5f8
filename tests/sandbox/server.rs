//! A small HTTP/1.1 server, plain or with TLS, that can also send faulty answers.
//!
//! It has one thread for each connection, keeps connections alive, and sends an answer in one write
//! with TCP_NODELAY (delayed ACKs of 40 ms would dominate every timing). The handler chooses the
//! [`Answer`], and with it the fault.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The path without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The number of the connection, counted from 1.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A value of the query or of a form body, decoded.
    pub fn value(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').chain(self.body.split('&'));
        let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        found.map(|(_, value)| decode(value))
    }
}

#[derive(Clone, Debug)]
pub enum Answer {
    Json(u16, serde_json::Value),
    Text {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Exactly these bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// A JSON answer, one byte at a time with a pause before the next.
    Drip(Duration, serde_json::Value),
    /// No answer for this time, then the connection is closed.
    Hang(Duration),
    /// The connection is closed without an answer.
    Close,
    /// This answer after a pause.
    Late(Duration, Box<Answer>),
}

impl Answer {
    pub fn redirect(status: u16, location: &str) -> Answer {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Answer::Text { status, headers, body: Vec::new() }
    }

    pub fn html(status: u16, body: &str) -> Answer {
        let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
        Answer::Text { status, headers, body: body.as_bytes().to_vec() }
    }
}

type Handler = dyn Fn(Request) -> Answer + Send + Sync;

/// A running server. It accepts no more connections when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    pub fn start(tls: Option<Arc<ServerConfig>>, handler: Arc<Handler>) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Server {
            address: listener.local_addr()?,
            connections: Arc::new(AtomicUsize::new(0)),
            stopped: Arc::new(AtomicBool::new(false)),
        };
        let (connections, stopped) = (server.connections.clone(), server.stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (tls, handler) = (tls.clone(), handler.clone());
                std::thread::spawn(move || {
                    // A client may close its connection at any time.
                    let _ = handle_connection(stream, tls, &*handler, number);
                });
            }
        });
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn handle_connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    handler: &Handler,
    number: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => serve(stream, handler, number),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            serve(StreamOwned::new(connection, stream), handler, number)
        }
    }
}

fn serve(mut stream: impl Read + Write, handler: &Handler, number: usize) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, number)? {
        let mut answer = handler(request);
        while let Answer::Late(pause, inner) = answer {
            std::thread::sleep(pause);
            answer = *inner;
        }
        match answer {
            Answer::Json(status, value) => {
                let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
                stream.write_all(&render(status, &headers, value.to_string().as_bytes()))?;
                stream.flush()?;
            }
            Answer::Text { status, headers, body } => {
                stream.write_all(&render(status, &headers, &body))?;
                stream.flush()?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes)?;
                stream.flush()?;
                return Ok(());
            }
            Answer::Drip(pause, value) => {
                let body = value.to_string();
                for byte in render(200, &[], body.as_bytes()) {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    std::thread::sleep(pause);
                }
            }
            Answer::Hang(time) => {
                std::thread::sleep(time);
                return Ok(());
            }
            Answer::Close => return Ok(()),
            Answer::Late(..) => unreachable!("unwrapped above"),
        }
    }
    Ok(())
}

fn render(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Sandbox\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The next request of a connection. `None` at its end.
fn read_request(
    stream: &mut impl Read,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<Request>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let parsed = head.parse(buffer).map_err(io::Error::other)?;
        if let httparse::Status::Complete(start) = parsed {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers: Vec<(String, String)> = head
                .headers
                .iter()
                .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
                .collect();
            let target = head.path.unwrap_or_default();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut request = Request {
                method: head.method.unwrap_or_default().to_owned(),
                path: path.to_owned(),
                query: query.to_owned(),
                headers,
                body: String::new(),
                connection,
            };
            if request.header("transfer-encoding") == Some("chunked") {
                buffer.drain(..start);
                request.body = text(&read_chunks(stream, buffer)?);
                return Ok(Some(request));
            }
            let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
            while buffer.len() < start + length {
                if fill(stream, buffer)? == 0 {
                    return Ok(None);
                }
            }
            request.body = text(&buffer[start..start + length]);
            buffer.drain(..start + length);
            return Ok(Some(request));
        }
        if fill(stream, buffer)? == 0 {
            return Ok(None);
        }
    }
}

/// A chunked body (RFC 9112 §7.1). The SDK for Go sends forms like this.
fn read_chunks(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (start, length) = match httparse::parse_chunk_size(buffer) {
            Ok(httparse::Status::Complete((start, length))) => (start, length as usize),
            Ok(httparse::Status::Partial) => match fill(stream, buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => continue,
            },
            Err(_) => return Err(io::Error::other("no chunk")),
        };
        // A line end follows each chunk.
        while buffer.len() < start + length + 2 {
            if fill(stream, buffer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.extend_from_slice(&buffer[start..start + length]);
        buffer.drain(..start + length + 2);
        if length == 0 {
            return Ok(body);
        }
    }
}

fn fill(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 8192];
    let read = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..read]);
    Ok(read)
}

/// Decodes percent-encoding and `+`.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            other => other,
        };
        bytes.push(decoded);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
