//! The files that settings come from: `.databrickscfg` as a text, what it has instead of a profile
//! that is missing, and files that hold one secret.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result, clean, nearest};
use crate::ini::{self, RESERVED};
use crate::secret::Secret;
use crate::time::show_duration;
use crate::world::within;

/// The configuration file's text; nothing where there is none.
pub fn read_config(path: &Path) -> Result<Option<String>> {
    let cannot = |why: &dyn fmt::Display| {
        Error::usage(format!("cannot read {}", path.display())).because(why)
    };
    let meta = match path.metadata() {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(&e)),
    };
    if !meta.is_file() {
        return Err(cannot(&"it is not a regular file"));
    }
    if meta.len() > ini::MAX_FILE {
        return Err(cannot(&"it has more than 1 MiB"));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    File::open(path)
        .and_then(|file| file.take(ini::MAX_FILE).read_to_end(&mut bytes))
        .map_err(|e| cannot(&e))?;
    String::from_utf8(bytes).map(Some).map_err(|_| cannot(&"it is not valid UTF-8"))
}

/// The names of all profiles, as a text.
pub fn profiles(text: &str) -> String {
    let names = ini::sections(text).unwrap_or_default();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != RESERVED).collect();
    if names.is_empty() { "no profile at all".to_owned() } else { names.join(", ") }
}

pub fn no_profile(path: &Path, name: &str, origin: impl Display, text: &str) -> Error {
    let (path, shown) = (path.display(), clean(name));
    let error = Error::usage(format!("{path} has no {shown} profile configured"))
        .because(format!("profile {shown} comes from {origin}"))
        .because(format!("the file has {}", clean(&profiles(text))));
    let names = ini::sections(text).unwrap_or_default();
    match nearest(name, names.into_iter().filter(|name| *name != RESERVED)) {
        Some(near) => error.hint(format!("--profile {near}, or DATABRICKS_CONFIG_PROFILE={near}")),
        None => error
            .hint(format!("databricks auth login --profile {shown}"))
            .hint("lakebase-token login --host https://…"),
    }
}

/// The first line of a file or of stdin. A pipe may be one (`<(vault …)`), but not for ever.
pub fn read_secret(flag: &str, path: &str, patience: Duration) -> Result<Secret> {
    const MOST: u64 = 64 * 1024;
    let from = path.to_owned();
    let shown = format!("--{flag} {}", clean(path));
    let unread = |e: std::io::Error| Error::usage(format!("cannot read {shown}")).because(e);
    let given = within(patience, move || {
        let mut text = String::new();
        let read = match from.as_str() {
            "-" => std::io::stdin().lock().take(MOST).read_to_string(&mut text),
            path => File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)),
        };
        (read, Secret::new(text))
    });
    let (read, text) = given.map_err(unread)?.ok_or_else(|| {
        Error::usage(format!("{shown} has given nothing for {}", show_duration(patience)))
    })?;
    read.map_err(unread)?;
    match text.expose().lines().next().unwrap_or_default().trim() {
        "" => Err(Error::usage(format!("{shown} is empty"))),
        line => Ok(Secret::new(line)),
    }
}
