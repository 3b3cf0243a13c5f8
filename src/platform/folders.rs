//! Where this platform keeps caches and state. Callers check first that HOME is set: without it,
//! `directories` takes the home from the passwd file, which may be another user's.

use std::path::PathBuf;

use directories::ProjectDirs;

pub fn cache_home() -> Option<PathBuf> {
    Some(project()?.cache_dir().to_owned())
}

/// `~/.local/state` on Linux; the other platforms have no folder of that kind.
pub fn state_home() -> Option<PathBuf> {
    let project = project()?;
    Some(project.state_dir().unwrap_or(project.data_local_dir()).to_owned())
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "lakebase-token")
}
