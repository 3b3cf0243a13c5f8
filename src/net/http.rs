//! One request in, one answer or an error out. With its neighbours in this folder, this is the only
//! user of ureq.
//!
//! The rules for every request: only https (http to a literal loopback address, for tests and local
//! servers, and to the instance metadata service); no redirect is followed; an answer has at most
//! 512 KiB; and everything ends by the deadline, even if a server sends one byte at a time. 429, 502,
//! 503, 504 and failed connections are tried three times inside the deadline.
//!
//! What a failed exchange means is in `send_failure.rs`, how a connection is made in `connect.rs`,
//! `proxy.rs` and `trust.rs`, what a refusal says in `answer.rs` and `refusal.rs`. What an answer means
//! is up to the caller.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, Proxy, http};

use crate::credential::destination::is_loopback;
use crate::credential::encoding::form;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::answer::Answer;
use crate::net::connect::{LimitedResolver, LimitedTcp, MIN_TIMEOUT};
use crate::net::proxy::{INSTANCE_METADATA_HOST, authentication_hint, proxy_for};
use crate::net::send_failure::{Route, SendFailure, classify};
use crate::net::sent_secrets::SentSecrets;
use crate::net::trust::{other_certificates, trusted_certificates};
use crate::platform::context::Context;
use crate::platform::process::within;
use crate::platform::steps::{Step, step};
use crate::platform::time::{Deadline, show_duration};

/// The largest answer that is read. A page of projects, the largest regular one, has some 100 KiB. As
/// parsed JSON, the smallest objects take eighty times their bytes.
const MAX_BODY_BYTES: u64 = 512 * 1024;

/// How often a request is sent at most.
const MAX_TRIES: u32 = 3;

/// The pause before the second try; it doubles before the third.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// A request. It holds secrets, so it cannot be printed.
pub struct Request<'a> {
    pub method: &'static str,
    /// The whole URL.
    pub url: &'a str,
    /// Headers besides `Accept` and `User-Agent`.
    pub headers: &'a [(&'static str, String)],
    /// The content type and the body.
    pub body: Option<(&'static str, String)>,
    /// The server must not process the request twice, because it carries a code or a refresh token that is
    /// valid once. So it is sent again only if it was not processed: no connection was made, or the answer is
    /// 429. Other requests may be processed twice: two mints give two valid tokens.
    pub once: bool,
}

impl<'a> Request<'a> {
    pub fn get(url: &'a str, headers: &'a [(&'static str, String)]) -> Request<'a> {
        Request { method: "GET", url, headers, body: None, once: false }
    }

    /// A POST of a form.
    pub fn form(
        url: &'a str,
        headers: &'a [(&'static str, String)],
        pairs: &[(&str, &str)],
    ) -> Request<'a> {
        let body = Some(("application/x-www-form-urlencoded", form(pairs)));
        Request { method: "POST", url, headers, body, once: false }
    }
}

/// Sends requests and keeps the connection between them.
pub struct Client<'a> {
    context: &'a Context,
    auth_type: &'static str,
    // Made by the first request: the cached path reads no certificates, and plain HTTP needs none.
    secure: OnceCell<Agent>,
    plain: OnceCell<Agent>,
}

impl<'a> Client<'a> {
    /// The auth type becomes part of the user agent.
    pub fn new(context: &'a Context, auth_type: &'static str) -> Client<'a> {
        Client { context, auth_type, secure: OnceCell::new(), plain: OnceCell::new() }
    }

    /// Sends a request, with retries. A redirect is an error.
    pub fn send(&self, request: &Request<'_>, deadline: Deadline) -> Result<Answer> {
        let answer = self.send_with_retries(request, deadline)?;
        match answer.status {
            300..400 => Err(redirect(&answer)),
            _ => Ok(answer),
        }
    }

    /// Like [`Client::send`], but a redirect is an answer and no error.
    pub fn page(&self, url: &str, deadline: Deadline) -> Result<Answer> {
        self.send_with_retries(&Request::get(url, &[]), deadline)
    }

    fn send_with_retries(&self, request: &Request<'_>, deadline: Deadline) -> Result<Answer> {
        let uri = check_url(request.url)?;
        let mut backoff = FIRST_BACKOFF;
        let mut tries = 1;
        loop {
            let (error, retry_after, is_unprocessed) = match self.send_once(request, &uri, deadline)
            {
                Ok((answer, _)) if !is_retryable(answer.status) => return Ok(answer),
                // After 429 the server has processed nothing, so even a `once` request may be sent again
                // (Databricks' SDKs do so for every request).
                Ok((answer, retry_after)) => (busy(&answer), retry_after, answer.status == 429),
                Err(SendFailure::Final(error)) => return Err(error),
                Err(SendFailure::Unsent(error)) => (error, Duration::ZERO, true),
                Err(SendFailure::Retryable(error)) => (error, Duration::ZERO, false),
            };
            if tries == MAX_TRIES || request.once && !is_unprocessed {
                return Err(error);
            }

            // `Retry-After` is a minimum (RFC 9110 §10.2.3), so the jitter comes on top.
            let pause = backoff.max(retry_after) + self.context.jittered(FIRST_BACKOFF / 2);
            if pause >= deadline.left() {
                return Err(no_time_to_retry(error, pause, retry_after));
            }
            self.context.sleep(pause, deadline);
            backoff *= 2;
            tries += 1;
        }
    }

    /// The answer, and how long the server asks to wait before another try.
    fn send_once(
        &self,
        request: &Request<'_>,
        uri: &http::Uri,
        deadline: Deadline,
    ) -> std::result::Result<(Answer, Duration), SendFailure> {
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let agent = self.agent(uri).map_err(SendFailure::Final)?;
        let sent = SentSecrets::by(request.headers, request.body.as_ref());
        let method = request.method;
        let request = http_request(request, uri).map_err(SendFailure::Final)?;
        let proxy = proxy_for(self.context, uri).map_err(SendFailure::Final)?;
        let proxy_name = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));

        step(Step::Request);
        let asked = proxy.clone();
        let is_proxied = proxy.is_some();
        let exchange = move || exchange(&agent, request, proxy, deadline);
        let exchanged = if is_proxied {
            // ureq applies the timeout to each read of a proxy's answer, so it would never give up
            // on a proxy that sends one byte at a time. A thread can be left behind.
            let in_time = within(deadline.left(), exchange).map_err(ureq::Error::from);
            in_time
                .and_then(|done| done.unwrap_or(Err(ureq::Error::Timeout(ureq::Timeout::Global))))
        } else {
            exchange()
        };

        step(Step::Answer);
        let other_certificates = other_certificates(self.context);
        let route = Route { host, proxy: proxy_name.as_deref(), other_certificates };
        let response = exchanged.map_err(|error| {
            let is_refused = matches!(error, ureq::Error::ConnectProxyFailed(_));
            let failure = classify(error, &route, deadline);
            let asked = asked.as_ref().filter(|_| is_refused);
            match asked.and_then(|proxy| authentication_hint(proxy, uri, deadline)) {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })?;
        let retry_after = retry_after(&response);
        let answer = answer_of(host, response, sent);
        self.context.request_log.record(|| answer.exchange(method, uri.path()));
        Ok((answer, retry_after))
    }

    fn agent(&self, uri: &http::Uri) -> Result<Agent> {
        let is_https = uri.scheme_str() == Some("https");
        let kept = if is_https { &self.secure } else { &self.plain };
        if let Some(agent) = kept.get() {
            return Ok(agent.clone());
        }

        let roots = if is_https { trusted_certificates(self.context)? } else { Vec::new() };
        let agent = new_agent(roots, self.auth_type);
        Ok(kept.get_or_init(|| agent).clone())
    }
}

fn new_agent(roots: Vec<Certificate<'static>>, auth_type: &str) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
    let version = env!("CARGO_PKG_VERSION");
    let os = std::env::consts::OS;
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(format!("lakebase-token/{version} os/{os} auth/{auth_type}"))
        .accept("application/json")
        .build();

    let connector = ConnectProxyConnector::default()
        .chain(LimitedTcp::default())
        .chain(RustlsConnector::default());
    Agent::with_parts(config, connector, LimitedResolver::default())
}

fn http_request(request: &Request<'_>, uri: &http::Uri) -> Result<http::Request<Vec<u8>>> {
    let mut builder = http::Request::builder().method(request.method).uri(uri);
    for (name, value) in request.headers {
        builder = builder.header(*name, value);
    }

    let mut content = Vec::new();
    if let Some((content_type, body)) = &request.body {
        builder = builder.header("Content-Type", *content_type);
        content = body.clone().into_bytes();
    }
    builder
        .body(content)
        .map_err(|_| Error::usage("a setting has characters that an HTTP header cannot carry"))
}

fn exchange(
    agent: &Agent,
    request: http::Request<Vec<u8>>,
    proxy: Option<Proxy>,
    deadline: Deadline,
) -> std::result::Result<http::Response<Vec<u8>>, ureq::Error> {
    let timeout = deadline.left().max(MIN_TIMEOUT);
    let request = agent.configure_request(request).timeout_global(Some(timeout)).proxy(proxy);
    let (head, mut body) = agent.run(request.build())?.into_parts();

    // A redirect is always refused, so its body is not needed.
    let is_redirect = head.status.is_redirection();
    let max_bytes = if is_redirect { 0 } else { MAX_BODY_BYTES };
    let content = body.with_config().limit(max_bytes).read_to_vec();
    let content = if is_redirect { Vec::new() } else { content? };
    Ok(http::Response::from_parts(head, content))
}

/// A header's value; an empty text if it is missing.
fn header<'r>(response: &'r http::Response<Vec<u8>>, name: &str) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// How long the server asks to wait. Databricks sends seconds; the date that RFC 9110 §10.2.3 also
/// allows is ignored.
fn retry_after(response: &http::Response<Vec<u8>>) -> Duration {
    Duration::from_secs(header(response, "retry-after").trim().parse().unwrap_or(0))
}

fn answer_of(host: &str, response: http::Response<Vec<u8>>, sent: SentSecrets) -> Answer {
    Answer {
        status: response.status().as_u16(),
        content_type: header(&response, "content-type").to_owned(),
        host: host.to_owned(),
        location: header(&response, "location").to_owned(),
        body: response.into_body(),
        sent,
    }
}

fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

fn not_available(host: &str, status: u16) -> Error {
    Error::unavailable(format!("{host} is not available: HTTP status {status}"))
}

fn busy(answer: &Answer) -> Error {
    let error = not_available(&answer.host, answer.status);
    let (code, message) = answer.error_code_and_message();
    match [code, message].join(" ").trim() {
        "" => error,
        reason => error.because(reason),
    }
}

fn no_time_to_retry(error: Error, pause: Duration, retry_after: Duration) -> Error {
    let error = error.with_time_lacking(pause);
    if retry_after.is_zero() {
        return error;
    }
    let wait = show_duration(retry_after);
    error.because(format!("the server asks to wait {wait}, longer than --timeout allows"))
}

fn redirect(answer: &Answer) -> Error {
    let Answer { host, status, location, sent, .. } = answer;
    let (target, query) = location.split_once('?').unwrap_or((location, ""));
    let target = target.split('#').next().unwrap_or_default();
    let error = Error::failed(format!(
        "{host} redirects (HTTP status {status}); credentials are not sent to another address"
    ))
    .because(format!("it points to {}", sent.redacted(target)));

    if query.contains("private-link") {
        error.hint("this workspace accepts connections by private link only: use its network")
    } else {
        error.hint("check the host: it should be the workspace's own URL")
    }
}

/// Refuses a URL with a user name or password, which would appear in messages and cache entries.
pub fn refuse_user_info(uri: &http::Uri) -> Result<()> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let Some((_, host)) = authority.rsplit_once('@') else { return Ok(()) };

    let scheme = uri.scheme_str().unwrap_or("https");
    Err(Error::usage(format!("the URL of {host} has a user name or password in it"))
        .because("it would appear in messages, and no request uses it")
        .hint(format!("{scheme}://{host}{}", uri.path())))
}

/// Parses a URL and refuses one that would send a secret over the network in clear text.
pub fn check_url(url: &str) -> Result<http::Uri> {
    let uri: http::Uri =
        url.parse().map_err(|_| Error::usage(format!("not a URL: {}", redact(url))))?;
    refuse_user_info(&uri)?;

    let is_token_request = || uri.path().starts_with("/metadata/identity/");
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(uri),
        (Some("http"), Some(host)) if is_loopback(host) => Ok(uri),
        // The request for a machine's own token sends no secret, and the machine answers it itself.
        (Some("http"), Some(INSTANCE_METADATA_HOST)) if is_token_request() => Ok(uri),
        _ => Err(Error::usage(format!("{} is not https", redact(url)))
            .because("a secret would be sent over the network in clear text")
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
