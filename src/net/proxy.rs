//! The proxy for a request, from `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (`no_proxy.rs`).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ureq::{Proxy, ProxyProtocol, http};

use crate::credential::destination::is_loopback;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::net::no_proxy;
use crate::platform::context::{Context, INSTANCE_METADATA};
use crate::platform::dns;
use crate::platform::process::within;
use crate::platform::time::Deadline;

/// The host of a cloud's instance metadata service, which answers on the machine itself.
pub const INSTANCE_METADATA_HOST: &str = INSTANCE_METADATA.split_at("http://".len()).1;

const HTTPS_PORT: u16 = 443;

/// How long a proxy is asked which login it requires, and how much of its answer is read.
const AUTHENTICATION_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The proxy for this URL. A request that does not leave the machine never uses a proxy.
pub fn proxy_for(context: &Context, uri: &http::Uri) -> Result<Option<Proxy>> {
    let host = uri.host().unwrap_or_default();
    if is_loopback(host) || host == INSTANCE_METADATA_HOST {
        return Ok(None);
    }

    let exceptions = first_set(context, &["NO_PROXY", "no_proxy"]).map_or("", |(_, list)| list);
    if no_proxy::covers(exceptions, host, uri.port_u16().unwrap_or(HTTPS_PORT)) {
        return Ok(None);
    }

    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some((name, url)) = first_set(context, &names) else { return Ok(None) };
    let is_socks = url.to_ascii_lowercase().starts_with("socks");
    if is_socks && name.eq_ignore_ascii_case("ALL_PROXY") {
        // Set for other programs: Go's do not read this variable at all.
        return Ok(None);
    }

    // ureq ignores a proxy of another protocol and connects without one.
    let is_http =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    // An unescaped `/`, `?` or `#` in a password ends the authority, and the URL parser would take the start of
    // the password for the port.
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    let is_whole = !authority.trim_end_matches('/').contains(['/', '?', '#']);
    match Proxy::new(url).ok().filter(is_http).filter(|_| is_whole) {
        Some(proxy) => Ok(Some(proxy)),
        // The URL may contain a password, so the message does not repeat it.
        None if is_socks => Err(Error::usage(format!(
            "{name} is a SOCKS proxy, which is not supported"
        ))
        .hint(format!("{name} with an HTTP proxy, or NO_PROXY={host} to connect without one"))),
        None => Err(Error::usage(format!("{name} is not the URL of an HTTP proxy")).hint(format!(
            "{name}=http://proxy.example.com:3128, or NO_PROXY={host} to connect without a proxy"
        ))),
    }
}

/// The hint for a proxy that refuses a tunnel because it requires a login. It depends on the schemes
/// that the proxy knows.
pub fn authentication_hint(proxy: &Proxy, uri: &http::Uri, deadline: Deadline) -> Option<String> {
    let limit = AUTHENTICATION_PROBE_TIMEOUT.min(deadline.left());
    let address = (proxy.host().to_owned(), proxy.port());
    let target =
        format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(HTTPS_PORT));
    // A thread, since a proxy may send its answer one byte at a time.
    let schemes =
        within(limit, move || authentication_schemes(&address.0, address.1, &target, limit));
    let schemes = schemes.ok()??.ok()??;
    let names = schemes.join(", ");
    let knows_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    Some(if knows_basic {
        format!(
            "HTTPS_PROXY=http://USER:PASSWORD@{}:{}  # it requires a login",
            proxy.host(),
            proxy.port()
        )
    } else {
        format!(
            "a local proxy that logs in for you, such as cntlm or px: this one takes only {names}"
        )
    })
}

/// The schemes in which a proxy requires a login (RFC 9110 §11.7.1), asked without one; `None` if it
/// requires none.
fn authentication_schemes(
    host: &str,
    port: u16,
    target: &str,
    limit: Duration,
) -> io::Result<Option<Vec<String>>> {
    let addresses = dns::resolve(host, port, limit)?;
    let address = addresses.first().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(address, limit)?;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes())?;

    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n")
        && head.len() < MAX_HEAD_BYTES
        && stream.read(&mut byte)? == 1
    {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    if lines.next().and_then(|line| line.split(' ').nth(1)) != Some("407") {
        return Ok(None);
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"));
    let schemes = fields.filter_map(|(_, value)| value.split_whitespace().next());
    Ok(Some(schemes.map(redact).collect()))
}

/// The first of these variables that is set, with its name.
fn first_set<'c>(context: &'c Context, names: &[&'static str]) -> Option<(&'static str, &'c str)> {
    names.iter().find_map(|name| Some((*name, context.var(name)?.to_str()?)))
}
