//! `metadata-service`: a process on this machine, such as the VS Code extension, hands out its tokens
//! over HTTP (databricks-sdk-go `config/auth_metadata_service.go`).

use crate::auth::provider::{Provider, ProviderCall, ROW, has, hashed};
use crate::config::table::Id;
use crate::credential::secret::Secret;
use crate::credential::token::Token;
use crate::error::{Error, Result};
use crate::lakebase::workspace_api::access_token;
use crate::net::http::Request;
use crate::net::refusal::ask_json;

pub const PROVIDER: Provider = Provider {
    name: "metadata-service",
    needs: "host and metadata_service_url",
    configured: |settings, _| has(settings, &[Id::Host, Id::MetadataServiceUrl]),
    // Every process that knows the URL gets the tokens, so it is a secret.
    identity: |settings, _| hashed(settings, Id::MetadataServiceUrl),
    secret: Some(Id::MetadataServiceUrl),
    login_can_change: true,
    fetch: Some(fetch),
    ..ROW
};

const LOCALHOST: &str = "http://localhost";
const LOOPBACK: &str = "http://127.0.0.1";

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let url = call.settings.secret(Id::MetadataServiceUrl).map_or("", |url| url.expose());
    let origin = call.settings.origin(Id::MetadataServiceUrl);
    let Some((port, path)) = local_port_and_path(url) else {
        return Err(Error::usage(format!(
            "metadata_service_url from {origin} is not on this machine"
        ))
        .hint("a URL that begins with http://localhost or http://127.0.0.1"));
    };

    let token = match get(call, &format!("127.0.0.1{port}{path}")) {
        // The service may listen on the IPv6 address of `localhost` only.
        Err(e) if url.starts_with(LOCALHOST) && e.unreachable.is_some() => {
            get(call, &format!("[::1]{port}{path}")).map_err(|_| e)
        }
        token => token,
    };
    // The path may be what keeps the URL secret, and servers repeat it in their answers.
    token.map_err(|e| {
        e.because(format!("metadata_service_url comes from {origin}")).redacted(&Secret::new(path))
    })
}

/// The port with its colon, "" if there is none, and the path of a URL on this machine.
fn local_port_and_path(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix(LOCALHOST).or(url.strip_prefix(LOOPBACK))?;
    let (port, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if port.is_empty() {
        return Some((port, path));
    }
    port.strip_prefix(':')?.parse::<u16>().ok()?;
    Some((port, path))
}

fn get(call: &ProviderCall<'_>, address: &str) -> Result<Token> {
    let headers = [
        ("X-Databricks-Metadata-Version", "1".to_owned()),
        ("X-Databricks-Host", call.url.to_owned()),
    ];
    let url = format!("http://{address}");
    let request = Request::get(&url, &headers);
    let body = ask_json(call.client, &request, "to hand out a token", call.deadline)?;
    access_token("the metadata service", &body, call.context.now())
}
