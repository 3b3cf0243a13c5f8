//! What a timer shall do, decided from an update that would work here and now.
//!
//! What has a variable is pinned as one (`pins.rs`); the words of the command are the place, and
//! those flags that have none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::table::{Id, SETTINGS};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::private_file::private_folder;
use crate::platform::time::show_duration;
use crate::service::env_file;
use crate::service::env_file::EnvFile;
use crate::service::paths::{absolute, is_uncarriable, real, text};
use crate::targets::table::Target;
use crate::targets::update::Update;

/// What a timer shall do.
pub struct Job {
    /// Its name, which begins the names of its files.
    pub name: String,
    /// The place, for people.
    pub place: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How often.
    pub interval: Duration,
    /// The environment file.
    pub environment: PathBuf,
    /// What that says.
    pub pins: EnvFile,
    /// The folder of the place, where that is a file: it must be there.
    pub place_folder: Option<String>,
    /// The other folders it writes to: of logins, cache and log.
    pub folders: Vec<String>,
}

impl Job {
    /// Decides. `flags` are those of the command line.
    pub fn of(
        name: &str,
        environment: PathBuf,
        target: &Target,
        update: &Update<'_>,
        flags: &[(Id, String)],
        context: &Context,
    ) -> Result<Job> {
        let plan = &update.plan;
        for id in [Id::Refresh, Id::Offline] {
            if plan.settings.is_on(id) {
                let flag = SETTINGS[id as usize].flag;
                return Err(Error::usage(format!("a service cannot do with --{flag}"))
                    .hint(format!("leave out --{flag}")));
            }
        }
        if let Some(path) = &target.path {
            text(path)?;
        }
        let mut command = vec![program(context)?, "write".to_owned()];
        command.extend(target.words());
        command.extend(repeated(plan, flags)?);
        let place_folder = update.path().map(folder).transpose()?;
        let folders = folders(update, context)?;
        let words = command.iter().chain(&place_folder).chain(&folders);
        if let Some(word) = words.clone().find(|word| word.chars().any(is_uncarriable)) {
            let words = format!("a unit file cannot carry this: {}", redact(word));
            return Err(Error::usage(words).because("it holds a control character"));
        }
        let pins = EnvFile::of(update, target, flags, &command, context)?;
        let interval = plan.interval.unwrap_or_default();
        let (name, place) = (name.to_owned(), target.shown());
        Ok(Job { name, place, command, interval, environment, pins, place_folder, folders })
    }
}

impl Job {
    /// Whether somebody is told of changes.
    pub fn tells(&self) -> bool {
        self.pins.flags().iter().any(|(id, _)| *id == Id::Then)
    }
}

fn program(context: &Context) -> Result<String> {
    let program = (context.program)();
    text(&program.map_err(|e| Error::failed("cannot find this program's own file").because(e))?)
}

/// The flags that no variable stands for.
fn repeated(plan: &Plan, flags: &[(Id, String)]) -> Result<Vec<String>> {
    let flag = |id: Id| format!("--{}", SETTINGS[id as usize].flag);
    let interval = show_duration(plan.interval.unwrap_or_default());
    let mut words = vec![flag(Id::Interval), interval];
    for id in [Id::For, Id::Format, Id::Then] {
        if let Some(value) = plan.settings.text(id) {
            words.extend([flag(id), value.to_owned()]);
        }
    }
    for id in env_file::SECRET_FILES {
        if let Some(path) = env_file::kept_file(id, flags) {
            words.extend([flag(id), text(&absolute(path)?)?]);
        }
    }
    for id in [Id::CreateScope, Id::Force, Id::Verbose] {
        words.extend(plan.settings.is_on(id).then(|| flag(id)));
    }
    Ok(words)
}

/// The folder of a file. systemd wants it without `..` and links.
fn folder(path: &Path) -> Result<String> {
    text(real(path)?.parent().unwrap_or(Path::new("/")))
}

/// What is written to beside the place.
fn folders(update: &Update<'_>, context: &Context) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    if let Some(logins) = context.state_home().filter(|_| update.plan.provider.stored_login) {
        folders.push(folder(&logins.join("login"))?);
    }
    if let Some(cache) = &update.plan.cache {
        // Where there can be none, there will be none.
        let _ = private_folder(cache);
        folders.push(folder(&cache.join("entry"))?);
    }
    if let Some(kept) = context.var("AZURE_CONFIG_DIR").and_then(|kept| kept.to_str()) {
        folders.push(folder(&Path::new(kept).join("token"))?);
    }
    if let Some(log) = update.plan.settings.text(Id::Log) {
        folders.push(folder(Path::new(log))?);
    }
    Ok(folders)
}
