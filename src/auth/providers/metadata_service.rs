//! `metadata-service`: a parent process on this machine, such as the VS Code extension, hands out
//! its tokens (databricks-sdk-go `config/auth_metadata_service.go`).

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
    // Whoever knows the URL gets the tokens.
    identity: |settings, _| hashed(settings, Id::MetadataServiceUrl),
    secret: Some(Id::MetadataServiceUrl),
    login_can_change: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    let url = call.settings.secret(Id::MetadataServiceUrl).map_or("", |url| url.expose());
    let origin = call.settings.origin(Id::MetadataServiceUrl);
    let local = ["http://localhost", "http://127.0.0.1"];
    let rest = local.iter().find_map(|start| url.strip_prefix(start)).and_then(|rest| {
        let (port, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let digits = port.strip_prefix(':').unwrap_or("80");
        let is_port = digits.parse::<u16>().is_ok() && (port.is_empty() || port.starts_with(':'));
        is_port.then_some((port, path))
    });
    let Some((port, path)) = rest else {
        return Err(Error::usage(format!(
            "metadata_service_url from {origin} is not on this machine"
        ))
        .hint("an address that begins with http://localhost or http://127.0.0.1"));
    };
    let token = match get(call, &format!("127.0.0.1{port}{path}")) {
        // `localhost` may be either.
        Err(e) if url.starts_with(local[0]) && e.unreachable.is_some() => {
            get(call, &format!("[::1]{port}{path}")).map_err(|_| e)
        }
        token => token,
    };
    // Its path may be what makes it private, and servers repeat what they are asked for.
    token.map_err(|e| {
        let words = format!("metadata_service_url comes from {origin}");
        e.because(words).without(&Secret::new(path))
    })
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
