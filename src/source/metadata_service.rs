//! `metadata-service`: a parent process on this machine, such as the VS Code extension, hands out
//! its tokens (databricks-sdk-go `config/auth_metadata_service.go`).

use super::{Ask, ROW, Source, has, hashed};
use crate::api::{Refusal, access_token};
use crate::error::{Error, Result};
use crate::http::Request;
use crate::secret::Secret;
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "metadata-service",
    needs: "host and metadata_service_url",
    configured: |settings, _| has(settings, &[Id::Host, Id::MetadataServiceUrl]),
    // Whoever knows the URL gets the tokens.
    identity: |settings, _| hashed(settings, Id::MetadataServiceUrl),
    secret: Some(Id::MetadataServiceUrl),
    switches: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let url = ask.settings.secret(Id::MetadataServiceUrl).map_or("", |url| url.expose());
    let origin = ask.settings.origin(Id::MetadataServiceUrl);
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
    let token = match get(ask, &format!("127.0.0.1{port}{path}")) {
        // `localhost` may be either.
        Err(e) if url.starts_with(local[0]) && e.message.starts_with("cannot reach ") => {
            get(ask, &format!("[::1]{port}{path}")).map_err(|_| e)
        }
        token => token,
    };
    // Its path may be what makes it private, and servers repeat what they are asked for.
    token.map_err(|e| {
        let words = format!("metadata_service_url comes from {origin}");
        e.because(words).without(&Secret::new(path))
    })
}

fn get(ask: &Ask<'_>, address: &str) -> Result<Token> {
    let headers = [
        ("X-Databricks-Metadata-Version", "1".to_owned()),
        ("X-Databricks-Host", ask.url.to_owned()),
    ];
    let url = format!("http://{address}");
    let answer = ask.client.send(&Request::get(&url, &headers), ask.deadline)?;
    if answer.status != 200 {
        return Err(Refusal::of("to hand out a token", &answer).into_error());
    }
    let body = answer.json("question for a token")?;
    access_token("the metadata service", &body, ask.world.now())
}
