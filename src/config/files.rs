//! The files that settings come from: `.databrickscfg` as a text, what it has instead of a profile
//! that is missing, and files that hold one secret.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::databrickscfg;
use crate::config::databrickscfg::RESERVED;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::files;
use crate::platform::process::within;
use crate::platform::time::show_duration;
use crate::suggest::nearest;

/// The configuration file's text; nothing where there is none.
pub fn read_config(path: &Path) -> Result<Option<String>> {
    let cannot =
        |why: &dyn Display| Error::usage(format!("cannot read {}", path.display())).because(why);
    let bytes = match files::read_limited(path, databrickscfg::MAX_FILE) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(&e)),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| cannot(&"it is not valid UTF-8"))
}

/// The names of all profiles, as a text.
pub fn profiles(text: &str) -> String {
    let names = databrickscfg::sections(text).unwrap_or_default();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != RESERVED).collect();
    if names.is_empty() { "no profile at all".to_owned() } else { names.join(", ") }
}

pub fn no_profile(path: &Path, name: &str, origin: impl Display, text: &str) -> Error {
    let (path, shown) = (path.display(), redact(name));
    let error = Error::usage(format!("{path} has no {shown} profile configured"))
        .because(format!("profile {shown} comes from {origin}"))
        .because(format!("the file has {}", redact(&profiles(text))));
    let names = databrickscfg::sections(text).unwrap_or_default();
    match nearest(name, names.into_iter().filter(|name| *name != RESERVED)) {
        Some(near) => error.hint(format!("--profile {near}, or DATABRICKS_CONFIG_PROFILE={near}")),
        None => error
            .hint(format!("databricks auth login --profile {shown}"))
            .hint("lakebase-token login --host https://…"),
    }
}

/// The longest beginning of a file that is read for a secret.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// The first line of a file or of stdin. A pipe may be one (`<(vault …)`), but not for ever.
pub fn read_secret(flag: &str, path: &str, patience: Duration) -> Result<Secret> {
    let from = path.to_owned();
    let shown = format!("--{flag} {}", redact(path));
    let unread = |e: std::io::Error| Error::usage(format!("cannot read {shown}")).because(e);
    let given =
        within(patience, move || files::read_start(&from, MAX_SECRET_FILE_BYTES).map(Secret::new));
    let text = given.map_err(unread)?.ok_or_else(|| {
        Error::usage(format!("{shown} has given nothing for {}", show_duration(patience)))
    })?;
    let text = text.map_err(unread)?;
    match text.expose().lines().next().unwrap_or_default().trim() {
        "" => Err(Error::usage(format!("{shown} is empty"))),
        line => Ok(Secret::new(line)),
    }
}
