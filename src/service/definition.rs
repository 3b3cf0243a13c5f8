//! What a service is: the command, its interval and its environment file, decided from an update that has
//! been checked.
//!
//! What has a variable is recorded as one (`env_file.rs`); the words of the command are the target
//! and the flags that have no variable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::table::{Id, SETTINGS};
use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::path_owners::replaceable_part;
use crate::platform::private_file::private_folder;
use crate::platform::time::show_duration;
use crate::service::env_file::{self, EnvFile};
use crate::service::paths::{absolute, is_uncarriable, real, text};
use crate::targets::target::Target;
use crate::targets::update::Update;

pub struct ServiceDefinition {
    /// The name of the service, with which the names of its files begin.
    pub name: String,
    /// The target in a message.
    pub target: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    pub interval: Duration,
    pub env_file_path: PathBuf,
    pub env_file: EnvFile,
    /// The folder of the target, where that is a file. It has to exist.
    pub target_folder: Option<String>,
    /// The other folders that the job writes into: those of logins, cache, log and the Azure CLI.
    pub folders: Vec<String>,
}

impl ServiceDefinition {
    /// `flags` are those of the command line.
    pub fn of(
        name: &str,
        env_file_path: PathBuf,
        target: &Target,
        update: &Update<'_>,
        flags: &[(Id, String)],
        context: &Context,
    ) -> Result<ServiceDefinition> {
        let plan = &update.plan;
        refuse_flags(plan)?;
        if let Some(path) = &target.path {
            text(path)?;
        }

        let mut command = vec![program(context)?, "write".to_owned()];
        command.extend(target.words());
        command.extend(flags_without_variable(plan, flags)?);
        let target_folder = update.path().map(folder_of).transpose()?;
        let folders = other_folders(update, context)?;

        let mut words = command.iter().chain(&target_folder).chain(&folders);
        if let Some(word) = words.find(|word| word.chars().any(is_uncarriable)) {
            return Err(Error::usage(format!("a unit file cannot hold this: {}", redact(word)))
                .because("it has a control character"));
        }

        Ok(ServiceDefinition {
            name: name.to_owned(),
            target: target.shown(),
            interval: plan.interval.unwrap_or_default(),
            env_file: EnvFile::of(update, target, flags, &command, context)?,
            env_file_path,
            command,
            target_folder,
            folders,
        })
    }

    pub fn has_hook(&self) -> bool {
        self.env_file.flags().iter().any(|(id, _)| *id == Id::Then)
    }
}

/// A job that always or never makes requests would not keep a target up to date.
fn refuse_flags(plan: &Plan) -> Result<()> {
    for id in [Id::Refresh, Id::Offline] {
        if plan.settings.is_on(id) {
            let flag = SETTINGS[id as usize].flag;
            return Err(Error::usage(format!("a service does not take --{flag}"))
                .hint(format!("leave out --{flag}")));
        }
    }
    Ok(())
}

/// The path of this program. A service runs what is there for years, so it must be a place that only
/// we and root can change, and that is not emptied.
fn program(context: &Context) -> Result<String> {
    let program = (context.program)(context);
    let program =
        program.map_err(|e| Error::failed("cannot find this program's own file").because(e))?;

    let why = if let Some(part) = replaceable_part(&program) {
        format!("another user can replace {}", redact(&part.to_string_lossy()))
    } else if let Some(folder) = emptied_folders(context).find(|folder| program.starts_with(folder))
    {
        format!("{} is a temporary folder", redact(&folder.to_string_lossy()))
    } else {
        return text(&program);
    };
    let program = redact(&program.to_string_lossy());
    Err(Error::usage(format!("a service cannot run {program}"))
        .because(why)
        .hint("put lakebase-token into /usr/local/bin or ~/.local/bin, and start it from there"))
}

/// Folders for files that may be deleted at any time. `uvx`, for one, keeps programs in a cache.
fn emptied_folders(context: &Context) -> impl Iterator<Item = PathBuf> {
    let named = ["TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"];
    let named = named.into_iter().filter_map(|name| context.var(name).map(PathBuf::from));
    let cache = context.home().map(|home| home.join(".cache"));
    named.chain(cache).filter(|folder| folder.is_absolute())
}

fn flags_without_variable(plan: &Plan, flags: &[(Id, String)]) -> Result<Vec<String>> {
    let flag = |id: Id| format!("--{}", SETTINGS[id as usize].flag);
    let interval = show_duration(plan.interval.unwrap_or_default());
    let mut words = vec![flag(Id::Interval), interval];
    for id in [Id::For, Id::Format, Id::Then, Id::Scopes] {
        let is_flag = matches!(plan.settings.origin(id), Origin::Flag(_));
        if let Some(value) = plan.settings.text(id).filter(|_| is_flag) {
            words.extend([flag(id), value.to_owned()]);
        }
    }
    for id in env_file::SECRET_FILES {
        if let Some(path) = env_file::rereadable_file(id, flags) {
            words.extend([flag(id), text(&absolute(path)?)?]);
        }
    }
    for id in [Id::CreateScope, Id::Force, Id::Verbose] {
        words.extend(plan.settings.is_on(id).then(|| flag(id)));
    }
    Ok(words)
}

/// The folder of a file, as systemd wants it: without `..` and symbolic links.
fn folder_of(file: &Path) -> Result<String> {
    text(real(file)?.parent().unwrap_or(Path::new("/")))
}

fn other_folders(update: &Update<'_>, context: &Context) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    if let Some(logins) = context.state_home().filter(|_| update.plan.provider.stored_login) {
        folders.push(folder_of(&logins.join("login"))?);
    }
    if let Some(cache) = update.plan.cache.folder() {
        // Created here, since systemd skips a missing folder. Where that fails, the job runs
        // without a cache.
        let _ = private_folder(cache);
        folders.push(folder_of(&cache.join("entry"))?);
    }
    if let Some(azure) = context.var("AZURE_CONFIG_DIR").and_then(|folder| folder.to_str()) {
        folders.push(folder_of(&Path::new(azure).join("token"))?);
    }
    if let Some(log) = update.plan.settings.text(Id::Log) {
        folders.push(folder_of(Path::new(log))?);
    }
    Ok(folders)
}
