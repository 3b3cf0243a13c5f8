//! Paths and texts in the form that unit files and environment files can hold.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::platform::files;

/// Whether a unit file or an environment file cannot hold this character.
pub fn is_uncarriable(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

pub fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("a unit file cannot hold this path: {}", path.display()))
            .because("it is not valid UTF-8")
    })
}

/// The same path for a file, however its folder is written. A symbolic link that is the file itself
/// stays in the path.
pub fn real(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    Ok(files::canonical(folder).map_or(path.clone(), |folder| folder.join(name)))
}

pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::failed(format!("cannot resolve {}", path.display())).because(e))
}
