//! Where this platform keeps caches and state. Callers check first that HOME is set: without it,
//! `directories` takes the home from the passwd file, which may be another user's.

use std::path::PathBuf;

use directories::BaseDirs;

use crate::platform::environment::Environment;
use crate::platform::system;

/// The name of our folder in each of them.
const NAME: &str = "lakebase-token";

pub fn cache_home(env: &Environment) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(state_home(env)?.join("cache"));
    }
    Some(BaseDirs::new()?.cache_dir().join(NAME))
}

/// `~/.local/state` on Linux; the other platforms have no folder of that kind. On Windows a variable
/// names the folder.
pub fn state_home(env: &Environment) -> Option<PathBuf> {
    if cfg!(windows) {
        let path = |name| env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = || Some(path(system::HOME)?.join("AppData/Local"));
        return Some(path("LOCALAPPDATA").or_else(usual)?.join(NAME));
    }
    let folders = BaseDirs::new()?;
    Some(folders.state_dir().unwrap_or(folders.data_local_dir()).join(NAME))
}
