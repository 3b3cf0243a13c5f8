//! Selects the current user four times, more than an expiry apart, in a deadpool-postgres pool that replaces its connection.

#[path = "../lakebase.rs"]
mod lakebase;
#[path = "../lakebase_deadpool.rs"]
mod lakebase_deadpool;

use std::env;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool};
use lakebase_deadpool::LakebaseConnect;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut &std::fs::read(env::var("SSL_CERT_FILE")?)?[..]) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);

    let mut config = tokio_postgres::Config::new();
    config.host(env::var("PGHOST")?).port(env::var("PGPORT")?.parse()?);
    config.user(env::var("PGUSER")?).dbname(env::var("PGDATABASE")?);
    let manager = Manager::from_connect(config, LakebaseConnect(tls), ManagerConfig::default());
    let pool = Pool::builder(manager).max_size(1).build()?;
    for n in 0..4 {
        if n > 0 {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        let client = pool.get().await?;
        let row = client.query_one("select current_user::text", &[]).await?;
        println!("{}", row.get::<_, String>(0));
        // The pool opens another connection for the next turn.
        drop(Object::take(client));
    }
    Ok(())
}
