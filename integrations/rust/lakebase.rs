//! A fresh Lakebase password for each new connection:
//!
//! ```ignore
//! let (client, connection) = config.password(lakebase::password().await?).connect(tls).await?;
//! ```

use std::io;
use std::process::Stdio;

use tokio::process::Command;

/// Returns a password that is valid for at least ten minutes (one while the workspace is unreachable). lakebase-token caches it, so call this for each
/// connection.
pub async fn password() -> io::Result<String> {
    let output = Command::new("lakebase-token").stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(message));
    }

    let password = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    Ok(password.trim_end().to_owned())
}
