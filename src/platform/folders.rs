//! Where this platform keeps caches and state. Callers check first that HOME is set: without it,
//! `directories` takes the home from the passwd file, which may be another user's.

use std::path::PathBuf;

use directories::BaseDirs;

use crate::platform::context::Context;

/// The name of our folder in each of them.
const NAME: &str = "lakebase-token";

pub fn cache_home(context: &Context) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(state_home(context)?.join("cache"));
    }
    Some(BaseDirs::new()?.cache_dir().join(NAME))
}

/// `~/.local/state` on Linux; the other platforms have no folder of that kind. On Windows a variable
/// names the folder, as it does that of libpq's files ([`Context::in_home`]).
pub fn state_home(context: &Context) -> Option<PathBuf> {
    if cfg!(windows) {
        let named = context.var("LOCALAPPDATA").map(PathBuf::from);
        let local = named.filter(|path| path.is_absolute());
        return Some(local.or_else(|| Some(context.home()?.join("AppData/Local")))?.join(NAME));
    }
    let folders = BaseDirs::new()?;
    Some(folders.state_dir().unwrap_or(folders.data_local_dir()).join(NAME))
}
