//! Installs a service: writes its files, runs its job once and schedules it. If the job fails, the
//! files that were there before are restored.

use std::io;
use std::path::{Path, PathBuf};

use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::files;
use crate::platform::private_file::private_folder;
use crate::platform::target_file::{Change, HookMark, PendingHook, TargetFile};
use crate::platform::time::Deadline;
use crate::service::definition::ServiceDefinition;
use crate::service::manage::{CONTROL_WAIT, RUN_WAIT, Service, remove};
use crate::service::manager_call::ServiceManagerCall;

/// The content of a file before the installation; nothing where there was no file.
type FormerFile = (PathBuf, Option<Vec<u8>>);

/// What an installation has done until it failed.
#[derive(Default)]
struct Progress {
    has_changed: bool,
    pending_hook: Option<PendingHook>,
}

impl Service<'_> {
    /// Writes the job's files, runs it once and schedules it. Returns what it did, in a word.
    pub fn install(&self, job: &ServiceDefinition, linger: bool) -> Result<&'static str> {
        let control = self.control(RUN_WAIT);
        self.manager.check_reachable(&control)?;

        let env_file = &job.env_file_path;
        private_folder(folder_of(env_file)).map_err(|e| cannot_create_folder(env_file, e))?;
        for unit in &self.unit_paths()? {
            files::create_folders(folder_of(unit)).map_err(|e| cannot_create_folder(unit, e))?;
        }
        self.locked(&control, || self.install_locked(job, linger, &control))
    }

    fn install_locked(
        &self,
        job: &ServiceDefinition,
        linger: bool,
        control: &ServiceManagerCall<'_>,
    ) -> Result<&'static str> {
        // Fails if another target's service has this name.
        self.recorded()?;
        let files = self.files_of(job)?;
        let mut former: Vec<FormerFile> = Vec::new();
        for (path, _) in &files {
            former.push((path.clone(), TargetFile::open(path)?.read()?));
        }
        let existed = former.iter().all(|(_, content)| content.is_some());

        let mut progress = Progress::default();
        if let Err(error) = self.put_and_run(job, &files, linger, control, &mut progress) {
            if !existed {
                self.cancel_hook(&progress, control);
            }
            return Err(self.undo(error, &former, existed));
        }
        Ok(match (existed, progress.has_changed) {
            (false, _) => "installed",
            (true, true) => "replaced",
            (true, false) => "unchanged",
        })
    }

    /// The job's files and their contents, the environment file first.
    fn files_of(&self, job: &ServiceDefinition) -> Result<Vec<(PathBuf, Secret)>> {
        let mut files = vec![(job.env_file_path.clone(), job.env_file.render(&self.name)?)];
        let contents = self.manager.files(job, self.context).into_iter().map(Secret::new);
        files.extend(self.unit_paths()?.into_iter().zip(contents));
        Ok(files)
    }

    fn put_and_run(
        &self,
        job: &ServiceDefinition,
        files: &[(PathBuf, Secret)],
        linger: bool,
        control: &ServiceManagerCall<'_>,
        progress: &mut Progress,
    ) -> Result<()> {
        for (path, content) in files {
            let change = self.put(path, content.expose().as_bytes())?;
            progress.has_changed |= change != Change::Unchanged;
        }
        if let Some(path) = &self.target.path
            && progress.has_changed
            && job.has_hook()
        {
            // A new hook has to run for the content that is there, even if that does not change.
            let file = TargetFile::open(path)?;
            progress.pending_hook = file.mark_hook(self.context, control.deadline)?;
        }

        self.manager.load(control)?;
        self.manager.run(control)?;
        if linger {
            self.manager.linger(control, true)?;
        }
        Ok(())
    }

    fn cancel_hook(&self, progress: &Progress, control: &ServiceManagerCall<'_>) {
        if let (Some(hook), Some(path)) = (&progress.pending_hook, &self.target.path) {
            let _ = TargetFile::open(path)
                .and_then(|file| file.hook_succeeded(self.context, control.deadline, hook));
        }
    }

    /// Restores the former files, and adds to the error what became of that.
    fn undo(&self, error: Error, former: &[FormerFile], existed: bool) -> Error {
        match self.restore(former, existed) {
            Ok(()) if existed => error.because("the former service is restored"),
            Ok(()) => error.because("nothing is installed"),
            Err(e) => error.because(format!("undoing the installation failed, too: {e}")),
        }
    }

    fn restore(&self, former: &[FormerFile], existed: bool) -> Result<()> {
        let control = self.control(CONTROL_WAIT);
        if !existed {
            self.manager.unload(&control)?;
        }
        for (path, content) in former {
            match content {
                Some(content) => self.put(path, content).map(|_| ())?,
                None => remove(path)?,
            }
        }
        if existed { self.manager.load(&control) } else { self.manager.notice_removal(&control) }
    }

    fn put(&self, path: &Path, content: &[u8]) -> Result<Change> {
        let file = TargetFile::open(path)?;
        let edit = |_: Option<&[u8]>| Ok(Some(content.to_vec()));
        let deadline = Deadline::after(CONTROL_WAIT);
        Ok(file.change(self.context, deadline, HookMark::None, &edit)?.0)
    }
}

fn cannot_create_folder(file: &Path, why: io::Error) -> Error {
    Error::failed(format!("cannot create the folder of {}", file.display())).because(why)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}
