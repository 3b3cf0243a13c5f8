//! `metadata-service`: a parent process on this machine, such as the VS Code extension, hands out
//! its tokens (databricks-sdk-go `config/auth_metadata_service.go`).

use ring::digest;

use super::{Ask, ROW, Source, has};
use crate::api::{Refusal, access_token};
use crate::error::{Error, Result};
use crate::file::hex;
use crate::http::Request;
use crate::settings::Id;
use crate::token::Token;

pub const SOURCE: Source = Source {
    name: "metadata-service",
    needs: "host and metadata_service_url",
    configured: |settings, _| has(settings, &[Id::Host, Id::MetadataServiceUrl]),
    // Whoever knows the URL gets the tokens.
    identity: |settings, _| {
        let url = settings.secret(Id::MetadataServiceUrl).map_or("", |url| url.expose());
        hex(digest::digest(&digest::SHA256, url.as_bytes()).as_ref())
    },
    secret: Some(Id::MetadataServiceUrl),
    switches: true,
    fetch: Some(fetch),
    ..ROW
};

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let url = ask.settings.secret(Id::MetadataServiceUrl).map_or("", |url| url.expose());
    let origin = ask.settings.origin(Id::MetadataServiceUrl);
    let local = ["http://localhost", "http://127.0.0.1"];
    let rest = local.iter().find_map(|start| url.strip_prefix(start));
    let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
    else {
        return Err(Error::usage(format!(
            "metadata_service_url from {origin} is not on this machine"
        ))
        .hint("an address that begins with http://localhost or http://127.0.0.1"));
    };
    let headers = [
        ("X-Databricks-Metadata-Version", "1".to_owned()),
        ("X-Databricks-Host", ask.url.to_owned()),
    ];
    let get = |address: &str| {
        let url = format!("http://{address}{rest}");
        let request =
            Request { method: "GET", url: &url, headers: &headers, body: None, once: false };
        ask.client.send(&request, ask.deadline)
    };
    // `localhost` may be either.
    let answer = match get("127.0.0.1") {
        Err(e) if url.starts_with(local[0]) && e.message.starts_with("cannot reach ") => {
            get("[::1]").map_err(|_| e)?
        }
        answer => answer?,
    };
    if answer.status != 200 {
        let error = Refusal::of("to hand out a token", &answer).into_error();
        return Err(error.because(format!("metadata_service_url comes from {origin}")));
    }
    let body = answer.json("question for a token")?;
    access_token("the metadata service", &body, ask.world.now())
}
