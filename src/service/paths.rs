//! Paths and texts as unit files and environment files can carry them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::platform::files;

/// A control character that the notations of units and environment files cannot all carry.
pub fn is_uncarriable(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// A path as a text.
pub fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("a unit file cannot carry this path: {}", path.display()))
            .because("it is not valid UTF-8")
    })
}

/// The one path of a file, whatever folders and links lead to it; a link in its place stays.
pub fn real(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    Ok(files::canonical(folder).map_or(path.clone(), |folder| folder.join(name)))
}

/// A path that means the same wherever one is.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Error::failed(format!("cannot find {}", path.display())).because(e))
}
