//! A fresh Lakebase password for each new connection of a deadpool-postgres pool:
//!
//! ```ignore
//! let manager = Manager::from_connect(config, LakebaseConnect(tls), ManagerConfig::default());
//! ```

use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

use crate::lakebase;

pub struct LakebaseConnect<T>(pub T);

type Connecting<'c> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl<T> Connect for LakebaseConnect<T>
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let (mut config, tls) = (config.clone(), self.0.clone());
        Box::pin(async move {
            match lakebase::password().await {
                Ok(password) => _ = config.password(password),
                // tokio_postgres::Error cannot hold our message. Without a password, connecting fails.
                Err(error) => eprintln!("{error}"),
            }
            let (client, connection) = config.connect(tls).await?;
            let connection = tokio::spawn(async move { _ = connection.await });
            Ok((client, connection))
        })
    }
}
