//! The files that settings come from: `.databrickscfg` as text, and files that hold one secret. What
//! the text means is `databrickscfg.rs`'s business, which profile is read `profile.rs`'s.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::databrickscfg;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::context::{Context, NO_HOME};
use crate::platform::files;
use crate::platform::process::within;
use crate::platform::time::show_duration;

/// How much of a file is read to find a secret in its first line.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// The text of the configuration file; `None` if there is no such file.
pub fn read_config(path: &Path) -> Result<Option<String>> {
    // The usual way to say that there is no such file.
    let is_null_device = cfg!(windows) && path.as_os_str().eq_ignore_ascii_case("NUL");
    if is_null_device || path == Path::new("/dev/null") {
        return Ok(Some(String::new()));
    }
    let bytes = match files::read_limited(path, databrickscfg::MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot_read(path, e)),
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(cannot_read(path, "it is not valid UTF-8")),
    }
}

pub fn cannot_read(path: &Path, why: impl Display) -> Error {
    Error::usage(format!("cannot read {}", path.display())).because(why)
}

/// The first line of a file or of stdin. Either may be a pipe, such as `<(vault …)`, so reading ends
/// after `limit`.
pub fn read_secret(flag: &str, path: &str, limit: Duration) -> Result<Secret> {
    let shown = format!("--{flag} {}", redact(path));
    let cannot_read = |e: io::Error| Error::usage(format!("cannot read {shown}")).because(e);

    let path = path.to_owned();
    let read =
        within(limit, move || files::read_start(&path, MAX_SECRET_FILE_BYTES).map(Secret::new));
    let Some(content) = read.map_err(cannot_read)? else {
        let waited = show_duration(limit);
        return Err(Error::usage(format!("no data came from {shown} within {waited}")));
    };

    let content = content.map_err(cannot_read)?;
    let line = content.expose().lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(Error::usage(format!("{shown} is empty")));
    }
    Ok(Secret::new(line))
}

/// A path in which a leading `~` means HOME, as in the SDKs.
pub fn expand_home(path: &str, context: &Context) -> Result<PathBuf> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
    let Some(home) = context.home() else {
        let shown = redact(path);
        return Err(Error::usage(format!("cannot resolve {shown}: {NO_HOME}")));
    };
    Ok(home.join(rest.trim_start_matches(std::path::is_separator)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_whole_first_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = "x".repeat(32 * 1024);
        std::fs::write(file.path(), format!(" {secret} \nanother line\n")).unwrap();
        let path = file.path().to_str().unwrap();
        let read = read_secret("client-secret-file", path, Duration::from_secs(10)).unwrap();
        assert_eq!(read.expose(), secret);
    }
}
