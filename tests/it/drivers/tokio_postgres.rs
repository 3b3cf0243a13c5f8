//! Selects the current user in four connections of tokio-postgres, more than an expiry apart.

#[path = "../lakebase.rs"]
mod lakebase;

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let tls = trusting(&std::fs::read(env::var("SSL_CERT_FILE")?)?)?;
    let mut config = tokio_postgres::Config::new();
    config.host(env::var("PGHOST")?).port(env::var("PGPORT")?.parse()?);
    config.user(env::var("PGUSER")?).dbname(env::var("PGDATABASE")?);

    for n in 0..4 {
        if n > 0 {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls.clone());
        let (client, connection) = config.password(lakebase::password().await?).connect(tls).await?;
        let connection = tokio::spawn(connection);

        let row = client.query_one("select current_user::text", &[]).await?;
        println!("{}", row.get::<_, String>(0));
        drop(client);
        let _ = connection.await;
    }
    Ok(())
}

/// TLS that trusts these authorities (PEM) and no others.
fn trusting(authorities: &[u8]) -> Result<rustls::ClientConfig, Box<dyn Error>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut &authorities[..]) {
        roots.add(certificate?)?;
    }

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider);
    let tls = tls.with_safe_default_protocol_versions()?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}
