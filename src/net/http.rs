//! One request in, one answer or an error out: the only user of ureq.
//!
//! What holds for every request is decided here: https only (http to a literal loopback address,
//! for tests and local stand-ins, and to the hypervisor), no redirect is followed, an answer has at most 1 MiB, and
//! everything ends by the deadline, a server that drips included. 429, 502, 503, 504 and failed
//! connections are tried three times inside it. What an answer means is its caller's business.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, http};

use crate::credential::destination::is_loopback;
use crate::credential::encoding::form;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::connect::HYPERVISOR;
use crate::platform::context::Context;
use crate::platform::process::within;
use crate::platform::time::{Deadline, show_duration};

/// The largest answer that is read. The largest honest one, a page of projects, has some 100 KiB.
const MAX_BODY: u64 = 1024 * 1024;

/// So often is a request sent at the most.
const TRIES: u32 = 3;

/// The pause before the second try; it doubles.
const BACKOFF: Duration = Duration::from_millis(250);

/// A request. It holds secrets, so it cannot be printed.
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The whole URL.
    pub url: &'a str,
    /// Headers beside `Accept` and `User-Agent`.
    pub headers: &'a [(&'static str, String)],
    /// The body with its content type.
    pub body: Option<(&'static str, String)>,
    /// It must not reach the server twice: a code or a refresh token may be good for once. Most
    /// may: minting twice gives two good tokens.
    pub once: bool,
}

impl<'a> Request<'a> {
    /// A question.
    pub fn get(url: &'a str, headers: &'a [(&'static str, String)]) -> Request<'a> {
        Request { method: "GET", url, headers, body: None, once: false }
    }

    /// A form.
    pub fn form(
        url: &'a str,
        headers: &'a [(&'static str, String)],
        pairs: &[(&str, &str)],
    ) -> Request<'a> {
        let body = Some(("application/x-www-form-urlencoded", form(pairs)));
        Request { method: "POST", url, headers, body, once: false }
    }
}

/// An answer whose status is no passing trouble. It may hold a token,
/// so it cannot be printed.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type, or nothing.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
    /// Who answered, for messages.
    pub host: String,
    /// Where it redirects to, or nothing.
    pub location: String,
}

impl Answer {
    /// The body as JSON, or why it is none; `what` was asked, as in "to show the endpoint".
    pub fn json(&self, what: &str) -> Result<Value> {
        let host = &self.host;
        if self.is_html() {
            return Err(Error::failed(format!(
                "{host} was asked {what} and answered with a web page, probably a login page"
            ))
            .because(redact(&self.words()))
            .hint("check the host; a unified host also needs DATABRICKS_WORKSPACE_ID"));
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            Error::failed(format!(
                "{host} was asked {what} and answered with something that is not JSON"
            ))
            .because(e)
        })
    }

    /// The error code and message, in each shape that Databricks is known to answer with
    /// (databricks-sdk-go `apierr`): JSON of several API generations, `CODE: message`, HTML.
    pub fn said(&self) -> (String, String) {
        let first = |body: &Value, names: &[&str]| {
            let texts = names.iter().map(|name| match &body[*name] {
                Value::String(text) => redact(text),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            });
            texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
        };
        match serde_json::from_slice::<Value>(&self.body) {
            // Azure's resource manager wraps it once more.
            Ok(body) if body["error"].is_object() => {
                (first(&body["error"], &["code"]), first(&body["error"], &["message"]))
            }
            Ok(body) if body.is_object() => (
                first(&body, &["error_code", "errorCode", "error", "scimType"]),
                first(&body, &["message", "error_description", "errorSummary", "detail", "error"]),
            ),
            _ => {
                let words = redact(&self.words());
                let is_code =
                    |code: &str| code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                match words.split_once(": ") {
                    Some((code, rest)) if is_code(code) => (code.to_owned(), rest.to_owned()),
                    _ => (String::new(), words),
                }
            }
        }
    }

    /// Whether this is a page for people.
    fn is_html(&self) -> bool {
        let start = self.body.trim_ascii_start();
        self.content_type.contains("text/html") || start.starts_with(b"<")
    }

    /// What the page or text says, without its markup. Old deployments put the message into
    /// `<pre>`; of other pages the title is the best there is.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        for (open, close) in [("<pre>", "</pre>"), ("<title>", "</title>")] {
            let inner = text.split_once(open).and_then(|(_, rest)| rest.split_once(close));
            if let Some((inner, _)) = inner {
                return inner.trim().to_owned();
            }
        }
        if self.is_html() { "an HTML page without a title".to_owned() } else { text.into_owned() }
    }
}

/// Sends requests over one kept connection.
pub struct Client<'a> {
    context: &'a Context,
    auth_type: &'static str,
    // Made by the first request: the cached path reads no certificates, and plain HTTP needs none.
    secure: OnceCell<Agent>,
    plain: OnceCell<Agent>,
}

impl<'a> Client<'a> {
    /// A client that names the auth type it works for.
    pub fn new(context: &'a Context, auth_type: &'static str) -> Client<'a> {
        Client { context, auth_type, secure: OnceCell::new(), plain: OnceCell::new() }
    }

    /// Sends a request until an answer stands, three times at most; a redirect is an error.
    pub fn send(&self, request: &Request<'_>, deadline: Deadline) -> Result<Answer> {
        let answer = self.answered(request, deadline)?;
        match answer.status {
            300..400 => Err(redirect(&answer.host, answer.status, &answer.location)),
            _ => Ok(answer),
        }
    }

    /// Where a page redirects to, without going there.
    pub fn redirection(&self, url: &str, deadline: Deadline) -> Result<String> {
        let Answer { host, status, location, .. } =
            self.answered(&Request::get(url, &[]), deadline)?;
        match status {
            300..400 => Ok(location),
            500.. => {
                Err(Error::unavailable(format!("{host} is not available: HTTP status {status}")))
            }
            _ => Err(Error::failed(format!("{host} does not redirect (HTTP status {status})"))),
        }
    }

    fn answered(&self, request: &Request<'_>, deadline: Deadline) -> Result<Answer> {
        let uri = check_url(request.url)?;
        let mut backoff = BACKOFF;
        let mut tries = 1;
        loop {
            let (mut asked, mut unsent) = (Duration::ZERO, false);
            let trouble = match self.send_once(request, &uri, deadline) {
                Ok((answer, _)) if !passing(answer.status) => return Ok(answer),
                Ok((answer, wait)) => {
                    asked = wait;
                    let (code, message) = answer.said();
                    let Answer { host, status, .. } = answer;
                    let error = Error::unavailable(format!(
                        "{host} is not available: HTTP status {status}"
                    ));
                    match [code, message].join(" ").trim() {
                        "" => error,
                        words => error.because(words),
                    }
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) => error,
                Err(Trouble::Unsent(error)) => {
                    unsent = true;
                    error
                }
            };
            if tries == TRIES || request.once && !unsent {
                return Err(trouble);
            }
            // `Retry-After` is a least, so the jitter comes on top.
            let pause = backoff.max(asked) + self.context.jittered(BACKOFF / 2);
            if pause >= deadline.left() {
                let wait = show_duration(asked);
                let words = format!("it asks to wait {wait}, longer than --timeout allows");
                let trouble = trouble.lacking(pause);
                return Err(if asked.is_zero() { trouble } else { trouble.because(words) });
            }
            self.context.sleep(pause, deadline);
            backoff *= 2;
            tries += 1;
        }
    }

    fn send_once(
        &self,
        request: &Request<'_>,
        uri: &http::Uri,
        deadline: Deadline,
    ) -> std::result::Result<(Answer, Duration), Trouble> {
        let host = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
        let agent = self.agent(uri)?;
        let mut builder = http::Request::builder().method(request.method).uri(uri);
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        let body = match &request.body {
            Some((content_type, body)) => {
                builder = builder.header("Content-Type", *content_type);
                body.clone().into_bytes()
            }
            None => Vec::new(),
        };
        let request = builder.body(body).map_err(|_| {
            Trouble::Final(Error::usage("a setting holds characters that no HTTP header can carry"))
        })?;
        let proxy = crate::net::connect::proxy(self.context, uri).map_err(Trouble::Final)?;
        let via = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let exchange = move || {
            let left = deadline.left().max(Duration::from_millis(1));
            let request = agent.configure_request(request).timeout_global(Some(left)).proxy(proxy);
            let mut response = agent.run(request.build())?;
            // A redirect is refused, whatever comes with it.
            let limit = if response.status().is_redirection() { 0 } else { MAX_BODY };
            let body = response.body_mut().with_config().limit(limit).read_to_vec();
            let body = if limit == 0 { Vec::new() } else { body? };
            Ok((response.status().as_u16(), response.headers().clone(), body))
        };
        let exchanged = match via {
            None => exchange(),
            // ureq gives each read of a proxy's greeting the whole time again, so a dripping one
            // would never end; a thread can be left behind.
            Some(_) => within(deadline.left(), exchange)
                .map_err(ureq::Error::from)
                .and_then(|done| done.unwrap_or(Err(ureq::Error::Timeout(ureq::Timeout::Global)))),
        };
        let (status, headers, body) =
            exchanged.map_err(|error| trouble(error, &host, via.as_deref(), deadline))?;
        let header = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        // The platform sends seconds; the date form of RFC 9110 is not worth a parser here.
        let wait = Duration::from_secs(header("retry-after").trim().parse().unwrap_or(0));
        let (content_type, location) = (header("content-type"), header("location"));
        Ok((Answer { status, content_type, body, host, location }, wait))
    }

    fn agent(&self, uri: &http::Uri) -> std::result::Result<Agent, Trouble> {
        let (kept, roots) = match uri.scheme_str() {
            Some("https") => (&self.secure, crate::net::connect::trusted as fn(&Context) -> _),
            _ => (&self.plain, (|_: &Context| Ok(Vec::new())) as fn(&Context) -> _),
        };
        if let Some(agent) = kept.get() {
            return Ok(agent.clone());
        }
        let roots = roots(self.context).map_err(Trouble::Final)?;
        let config = Agent::config_builder()
            .tls_config(
                TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build(),
            )
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(format!(
                "lakebase-token/{} os/{} auth/{}",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                self.auth_type
            ))
            .accept("application/json")
            .build();
        let connector = ConnectProxyConnector::default()
            .chain(crate::net::connect::PatientTcp::default())
            .chain(RustlsConnector::default());
        let agent = Agent::with_parts(config, connector, crate::net::connect::PatientResolver);
        Ok(kept.get_or_init(|| agent).clone())
    }
}

/// What came in the way of an answer.
enum Trouble {
    Passing(Error),
    /// The same, and nothing has reached the server.
    Unsent(Error),
    Final(Error),
}

fn passing(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// What mends most trouble with a proxy.
const PROXIES: &str = "check HTTPS_PROXY and NO_PROXY";

fn trouble(error: ureq::Error, host: &str, via: Option<&str>, deadline: Deadline) -> Trouble {
    use ureq::Error as E;
    let way = via.map_or(String::new(), |proxy| format!(" through the proxy {proxy}"));
    let unreachable = |why: &str| {
        let error = Error::unavailable(format!("cannot reach {host}{way}"))
            .unreachable(host)
            .because(redact(why.trim_start_matches("io: ")));
        if via.is_some() { error.hint(PROXIES) } else { error }
    };
    match error {
        E::BodyExceedsLimit(_) => Trouble::Final(Error::failed(format!(
            "{host} sent an answer of more than {} KiB",
            MAX_BODY / 1024
        ))),
        E::Timeout(_) if deadline.left() < Duration::from_millis(5) => Trouble::Final(
            Error::unavailable(format!("no answer from {host}{way} before the deadline"))
                .lacking(Duration::ZERO)
                .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT"),
        ),
        E::Rustls(e) => Trouble::Final(tls_trouble(host, &e.to_string())),
        // rustls reports what it dislikes about the peer as InvalidData.
        E::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
            Trouble::Final(tls_trouble(host, &e.to_string()))
        }
        E::Protocol(_) | E::LargeResponseHeader(..) => {
            let error = Error::failed(format!("{host}{way} does not speak proper HTTP"))
                .because(redact(&error.to_string()));
            Trouble::Final(if via.is_some() { error.hint(PROXIES) } else { error })
        }
        E::HostNotFound
        | E::ConnectionFailed
        | E::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
            Trouble::Unsent(unreachable(&error.to_string()))
        }
        E::Io(ref e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            Trouble::Unsent(unreachable(&error.to_string()))
        }
        other => Trouble::Passing(unreachable(&other.to_string())),
    }
}

fn tls_trouble(host: &str, words: &str) -> Error {
    let failed = Error::unavailable(format!("no trustworthy TLS connection to {host}"))
        .because(redact(words));
    if words.contains("UnknownIssuer") || words.contains("BadSignature") {
        failed.hint("SSL_CERT_FILE=/path/to/ca.pem, if your company inspects TLS")
    } else {
        failed
    }
}

fn redirect(host: &str, status: u16, location: &str) -> Error {
    let (target, query) = location.split_once('?').unwrap_or((location, ""));
    let refused = Error::failed(format!(
        "{host} redirects (HTTP status {status}); credentials are never sent along"
    ))
    .because(format!("it points to {}", redact(target.split('#').next().unwrap_or_default())));
    if query.contains("private-link") {
        refused.hint("this workspace is reached by private link only: connect from its network")
    } else {
        refused.hint("check the host: it should be the workspace's own URL")
    }
}

/// A URL with a user name or password in it is refused: messages and cache entries would hold it.
pub fn refuse_user_info(uri: &http::Uri) -> Result<()> {
    let whole = uri.authority().map_or("", |authority| authority.as_str());
    let Some((_, place)) = whole.rsplit_once('@') else { return Ok(()) };
    let scheme = uri.scheme_str().unwrap_or("https");
    Err(Error::usage(format!("the URL of {place} has a user name or password in it"))
        .because("messages would show it, and nobody asks for it")
        .hint(format!("{scheme}://{place}{}", uri.path())))
}

/// Reads a URL and refuses those that would show a secret to the network.
pub fn check_url(url: &str) -> Result<http::Uri> {
    let uri: http::Uri =
        url.parse().map_err(|_| Error::usage(format!("not a URL: {}", redact(url))))?;
    refuse_user_info(&uri)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(uri),
        (Some("http"), Some(host)) if is_loopback(host) => Ok(uri),
        // Where no secret is sent to, but a token asked for.
        (Some("http"), Some(HYPERVISOR)) if uri.path().starts_with("/metadata/identity/") => {
            Ok(uri)
        }
        _ => Err(Error::usage(format!("{} is not https", redact(url)))
            .because("a secret would cross the network in clear text")
            .hint(format!("https://{}", uri.host().unwrap_or("…")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_a_literal_loopback() {
        for url in
            ["https://a.example", "http://127.0.0.1:8080/x", "http://[::1]:1/", "http://127.9.9.9"]
        {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://a.example",
            "http://localhost",
            "http://127.0.0.1.example",
            "ftp://a",
            "a.example",
            "",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
