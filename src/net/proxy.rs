//! The proxy for a request, from `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` (`no_proxy.rs`).

use ureq::{Proxy, ProxyProtocol, http};

use crate::credential::destination::is_loopback;
use crate::error::{Error, Result};
use crate::net::no_proxy;
use crate::platform::context::{Context, INSTANCE_METADATA};

/// The host of a cloud's instance metadata service, which answers on the machine itself.
pub const INSTANCE_METADATA_HOST: &str = INSTANCE_METADATA.split_at("http://".len()).1;

/// The proxy for this URL. A request that does not leave the machine never uses a proxy.
pub fn proxy_for(context: &Context, uri: &http::Uri) -> Result<Option<Proxy>> {
    let host = uri.host().unwrap_or_default();
    if is_loopback(host) || host == INSTANCE_METADATA_HOST {
        return Ok(None);
    }

    let exceptions = first_set(context, &["NO_PROXY", "no_proxy"]);
    if exceptions.is_some_and(|(_, list)| no_proxy::covers(list, host)) {
        return Ok(None);
    }

    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some((name, url)) = first_set(context, &names) else { return Ok(None) };

    // ureq ignores a proxy of another protocol and connects without one.
    let is_http =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    // Behind the host, a URL parser would take the rest of a password with `#` or `/` for a path.
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    let is_whole = !authority.trim_end_matches('/').contains(['/', '?', '#']);
    match Proxy::new(url).ok().filter(is_http).filter(|_| is_whole) {
        Some(proxy) => Ok(Some(proxy)),
        // The URL may contain a password, so the message does not repeat it.
        None => Err(Error::usage(format!("{name} is not the URL of an HTTP proxy")).hint(format!(
            "{name}=http://proxy.example.com:3128, or NO_PROXY={host} to connect without a proxy"
        ))),
    }
}

/// The first of these variables that is set, with its name.
fn first_set<'c>(context: &'c Context, names: &[&'static str]) -> Option<(&'static str, &'c str)> {
    names.iter().find_map(|name| Some((*name, context.var(name)?.to_str()?)))
}
