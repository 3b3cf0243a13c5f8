//! Selects the current user four times, more than an expiry apart, in one sqlx pool whose options get a
//! new password each time.

#[path = "../lakebase.rs"]
mod lakebase;

use std::env;
use std::error::Error;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = env::var("SSL_CERT_FILE")?;
    let options = PgConnectOptions::new().ssl_root_cert(authority);
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
    for n in 0..4 {
        if n > 0 {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        pool.set_connect_options(options.clone().password(&lakebase::password().await?));

        let mut connection = pool.acquire().await?;
        let role: String =
            sqlx::query_scalar("select current_user::text").fetch_one(&mut *connection).await?;
        println!("{role}");
        connection.close().await?;
    }
    Ok(())
}
