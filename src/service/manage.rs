//! A service: `write` for one target, scheduled for good. Its names and files, its restart and its
//! removal.
//!
//! A [`ServiceDefinition`] is decided from an update that has been checked (`definition.rs`), with every setting recorded
//! in an environment file that only its user can read (`env_file.rs`), so that the job does the same
//! in every session. Later commands use what was recorded, not what is configured by then. Unit
//! files and the service manager's programs are the business of `manager.rs`, installing that of
//! `install.rs`, the state that of `status.rs`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::connection::{Connection, Tls};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::plan::{DEFAULT_PORT, Plan};
use crate::platform::context::{Context, NO_HOME};
use crate::platform::files;
use crate::platform::lock::LockFile;
use crate::platform::path_owners::open_folder;
use crate::platform::target_file::{HookMark, TargetFile};
use crate::platform::time::Deadline;
use crate::service::definition::ServiceDefinition;
use crate::service::env_file::EnvFile;
use crate::service::manager::Manager;
use crate::service::manager_call::ServiceManagerCall;
use crate::service::paths::real;
use crate::session::Session;
use crate::targets::table::file_target;
use crate::targets::target::{Entry, Target};
use crate::targets::update::Update;

/// How long the service manager's programs, and a lock, may take.
pub(super) const CONTROL_WAIT: Duration = Duration::from_secs(60);

/// How long a job may run: `TimeoutStartSec=` of the unit.
pub(super) const RUN_WAIT: Duration = Duration::from_secs(30 * 60);

const MAX_NAME_CHARS: usize = 64;

pub struct Service<'a> {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) manager: Manager,
    pub(super) context: &'a Context,
    /// The variable that `oidc_token_env` names, which no program of the service manager may see.
    token_variable: Option<String>,
}

impl<'a> Service<'a> {
    /// The service that keeps this target up to date. `--name` replaces the name of the target.
    pub fn new(
        target: Target,
        settings: &Settings,
        manager: Manager,
        context: &'a Context,
    ) -> Result<Service<'a>> {
        let path = target.path.as_deref().map(real).transpose()?;
        let target = Target { path, ..target };
        let own_name = match settings.text(Id::Name) {
            Some(name) => checked_name(name)?,
            None => default_name(&target),
        };
        let name = format!("lakebase-token-{own_name}");
        let token_variable = settings.text(Id::OidcTokenEnv).map(str::to_owned);
        Ok(Service { name, target, manager, context, token_variable })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command line for an action on this service.
    pub fn command(&self, action: &str) -> String {
        let default = format!("lakebase-token-{}", default_name(&self.target));
        let name = if self.name == default {
            String::new()
        } else {
            format!(" --name {}", self.name.strip_prefix("lakebase-token-").unwrap_or(""))
        };
        format!("lakebase-token service {action} {}{name}", self.target.words().join(" "))
    }

    /// Decides what the job does. `flags` are those of the command line.
    pub fn job(&self, update: &Update<'_>, flags: &[(Id, String)]) -> Result<ServiceDefinition> {
        ServiceDefinition::of(
            &self.name,
            self.env_file_path()?,
            &self.target,
            update,
            flags,
            self.context,
        )
    }

    /// A note for the user, if the job runs only while its user is logged in.
    pub fn linger_note(&self) -> Option<&'static str> {
        self.manager.linger(&self.control(CONTROL_WAIT), false).ok().flatten()
    }

    /// Runs the job now and schedules it anew.
    pub fn restart(&self) -> Result<()> {
        let control = self.control(RUN_WAIT);
        if let Some(path) = self.recorded_target(&self.installed()?).path {
            // A missing folder is an error here; the unit's sandbox would only give a number.
            TargetFile::open(&path)?;
        }
        self.manager.check_reachable(&control)?;
        self.manager.load(&control)?;
        self.manager.run(&control)
    }

    /// Removes the job's files; with `purge`, also what it has written and cached. Returns whether
    /// the service was installed.
    pub fn uninstall(&self, purge: bool) -> Result<bool> {
        let control = self.control(CONTROL_WAIT);
        let files = self.all_paths()?;
        if !files.iter().any(|file| exists(file)) {
            return Ok(false);
        }

        let recorded = self.recorded()?;
        self.manager.check_reachable(&control)?;
        self.locked(&control, || self.uninstall_locked(&files, recorded, purge, &control))
    }

    fn uninstall_locked(
        &self,
        files: &[PathBuf],
        recorded: Option<EnvFile>,
        purge: bool,
        control: &ServiceManagerCall<'_>,
    ) -> Result<bool> {
        self.manager.unload(control)?;
        let purged = match recorded {
            _ if !purge => Ok(()),
            Some(recorded) => self.purge(&recorded),
            None => Err(Error::failed(format!(
                "cannot purge what {} wrote and cached: its environment file is missing",
                self.name
            ))),
        };

        for file in files {
            remove(file)?;
        }
        if let Some(folder) = files.last().and_then(|file| file.parent()) {
            // It stays while other services have files there.
            let _ = files::remove_empty_folder(folder);
        }
        self.manager.notice_removal(control)?;
        match purged {
            Ok(()) => Ok(true),
            Err(error) => Err(error.because(format!("{} itself is uninstalled", self.name))),
        }
    }

    /// Removes our entry from the target, then everything that is cached for the recorded identity,
    /// even if the first fails.
    fn purge(&self, recorded: &EnvFile) -> Result<()> {
        let context = recorded.context(self.context);
        let removed = self.remove_entry(recorded, &context);

        let settings = Settings::resolve(&recorded.flags(), &context)?;
        Session::new(&Plan::new(settings, &context)?, &context).evict_all();
        removed
    }

    fn remove_entry(&self, recorded: &EnvFile, context: &Context) -> Result<()> {
        let target = self.recorded_target(recorded);
        let Some((how, path)) = target.file() else {
            let settings = Settings::resolve(&recorded.flags(), context)?;
            let words = [target.row.name.into()];
            Update::new(settings, &words, context)?.remove()?;
            return Ok(());
        };

        let connection = connection(recorded);
        let entry = Entry { target: &target, connection: &connection, workspace: "" };
        let edit = (how.remove)(&entry)?;
        let file = TargetFile::open(path)?;
        let deadline = Deadline::after(CONTROL_WAIT);
        file.change(self.context, deadline, HookMark::Cancelled, edit.as_ref())?;
        Ok(())
    }

    /// The environment file of an installed service; an error if any of its files is missing.
    pub(super) fn installed(&self) -> Result<EnvFile> {
        let recorded = self.recorded()?;
        let missing = self.all_paths()?.into_iter().find(|file| !exists(file));
        match (recorded, missing) {
            (Some(recorded), None) => Ok(recorded),
            (_, missing) => {
                let missing = missing.map(|file| format!("there is no {}", file.display()));
                Err(Error::usage(format!("{} is not installed", self.name))
                    .because(missing.unwrap_or_default())
                    .hint(self.command("install")))
            }
        }
    }

    /// The environment file, if there is one; an error if it is about another target.
    pub(super) fn recorded(&self) -> Result<Option<EnvFile>> {
        let path = self.env_file_path()?;
        if !exists(&path) {
            return Ok(None);
        }

        let content = TargetFile::open(&path)?.read()?.unwrap_or_default();
        let recorded = EnvFile::parse(&String::from_utf8_lossy(&content));
        let named = self.target.id();
        let mut parts = recorded.target_id().iter().zip(&named).enumerate();
        let differs = parts.any(|(position, (recorded, named))| {
            // The second part is the path, which the command line may leave out.
            recorded != named && (position != 1 || self.target.explicit)
        });
        if !differs {
            return Ok(Some(recorded));
        }
        let other = self.recorded_target(&recorded).shown();
        Err(Error::usage(format!("{} keeps another target up to date", self.name))
            .because(format!("that is {other}, not {}", self.target.shown()))
            .hint("--name NAME for a second service, or name that target"))
    }

    /// The target as it was at installation.
    pub(super) fn recorded_target(&self, recorded: &EnvFile) -> Target {
        let path = recorded.target_path().map(Path::to_owned);
        let flags = recorded.flags();
        let format = flags.iter().find(|(id, _)| *id == Id::Format).map(|(_, name)| name.as_str());
        Target {
            path: path.or(self.target.path.clone()),
            how: file_target(self.target.row, format),
            ..self.target.clone()
        }
    }

    /// Runs `work` while no other process installs or uninstalls a service. The lock is on the
    /// folder above the unit files: each of a service's files is changed under a lock on its own
    /// folder.
    pub(super) fn locked<T>(
        &self,
        control: &ServiceManagerCall<'_>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let units = self.unit_paths()?;
        let folder = units.first().and_then(|unit| unit.parent()?.parent());
        let folder = folder.unwrap_or(Path::new("/"));
        let cannot_lock =
            |e| Error::failed(format!("cannot lock the folder {}", folder.display())).because(e);

        let mut lock = open_folder(folder)
            .and_then(|folder| LockFile::on_folder(self.context, &folder))
            .map_err(cannot_lock)?;
        let done =
            lock.while_locked(self.context, control.deadline, |_| work()).map_err(cannot_lock)?;
        done.unwrap_or_else(|| {
            Err(Error::unavailable("another process is installing or uninstalling a service"))
        })
    }

    pub(super) fn env_file_path(&self) -> Result<PathBuf> {
        let folder = self.context.config_home().ok_or_else(no_home)?;
        Ok(folder.join(format!("lakebase-token/{}.env", self.name)))
    }

    pub(super) fn unit_paths(&self) -> Result<Vec<PathBuf>> {
        let folder = self.manager.folder(self.context).ok_or_else(no_home)?;
        let path = |extension| folder.join(format!("{}{extension}", self.name));
        Ok(self.manager.extensions().iter().map(path).collect())
    }

    /// The unit files, then the environment file.
    fn all_paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = self.unit_paths()?;
        paths.push(self.env_file_path()?);
        Ok(paths)
    }

    pub(super) fn control(&self, wait: Duration) -> ServiceManagerCall<'_> {
        let units = self.unit_paths().unwrap_or_default();
        ServiceManagerCall {
            name: &self.name,
            unit: units.first().map(|path| path.to_string_lossy().into_owned()),
            context: self.context,
            token_variable: self.token_variable.as_deref(),
            deadline: Deadline::after(wait),
        }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn checked_name(name: &str) -> Result<String> {
    if name.len() <= MAX_NAME_CHARS && name.chars().all(is_name_char) {
        return Ok(name.to_owned());
    }
    Err(Error::usage(format!("--name {} is not a valid service name", redact(name)))
        .hint("up to 64 letters, digits, `.`, `_` and `-`"))
}

/// The target's name, then that of its file or its keys.
fn default_name(target: &Target) -> String {
    let file = target.path.as_deref().and_then(Path::file_name);
    let file = file.filter(|_| target.row.takes_path());
    let file = file.map(|file| file.to_string_lossy().into_owned());

    let mut name = target.row.name.to_owned();
    for part in file.iter().chain(&target.keys) {
        let part = part.chars().take(MAX_NAME_CHARS);
        name.push('-');
        name.extend(part.map(|c| if is_name_char(c) { c } else { '-' }));
    }
    name
}

fn no_home() -> Error {
    Error::usage(format!("{NO_HOME}, so there is no folder for the files of a service"))
        .hint("export HOME=/home/you")
}

/// Whether there is a file or a symbolic link, even one that leads nowhere.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Removes a file or a symbolic link. A missing file is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    match files::remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", path.display())).because(e))
        }
        _ => Ok(()),
    }
}

/// The connection that an environment file records.
pub(super) fn connection(recorded: &EnvFile) -> Connection {
    let text = |name| recorded.text(name).map(str::to_owned);
    let port = recorded.text("PGPORT").and_then(|port| port.parse().ok());
    Connection {
        user: text("PGUSER"),
        host: text("PGHOST"),
        port: port.unwrap_or(DEFAULT_PORT),
        database: text("PGDATABASE"),
        tls: Tls::encrypted(),
    }
}
