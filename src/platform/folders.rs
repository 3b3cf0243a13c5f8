//! Where this platform keeps caches and state. Callers check first that HOME is set: without it,
//! `directories` takes the home from the passwd file, which may be another user's.

use std::path::PathBuf;

use directories::BaseDirs;

/// The name of our folder in each of them.
const NAME: &str = "lakebase-token";

pub fn cache_home() -> Option<PathBuf> {
    Some(BaseDirs::new()?.cache_dir().join(NAME))
}

/// `~/.local/state` on Linux; the other platforms have no folder of that kind.
pub fn state_home() -> Option<PathBuf> {
    let folders = BaseDirs::new()?;
    Some(folders.state_dir().unwrap_or(folders.data_local_dir()).join(NAME))
}
