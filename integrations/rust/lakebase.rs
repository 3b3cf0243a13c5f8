//! A fresh Lakebase password for each new connection:
//!
//! ```ignore
//! let (client, connection) = config.password(lakebase::password().await?).connect(tls).await?;
//! ```

use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// A password that is good for ten minutes at least; lakebase-token caches it, so ask as often as you connect.
pub async fn password() -> io::Result<String> {
    let asked = Command::new("lakebase-token").stdin(Stdio::null()).output().await?;
    if !asked.status.success() {
        let words = String::from_utf8_lossy(&asked.stderr).trim().to_owned();
        return Err(io::Error::other(words));
    }
    let password = String::from_utf8(asked.stdout).map_err(io::Error::other)?;
    Ok(password.trim_end().to_owned())
}
