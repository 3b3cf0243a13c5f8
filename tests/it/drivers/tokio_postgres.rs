//! Asks connections of tokio-postgres who they are, four times, an expiry apart.

#[path = "../lakebase.rs"]
mod lakebase;

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let var = |name: &str| env::var(name).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let authority = std::fs::read(var("SSL_CERT_FILE"))?;
    for one in rustls_pemfile::certs(&mut &authority[..]) {
        roots.add(one?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider);
    let tls = tls.with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let mut config = tokio_postgres::Config::new();
    config.host(var("PGHOST")).port(var("PGPORT").parse()?);
    config.user(var("PGUSER")).dbname(var("PGDATABASE"));
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
