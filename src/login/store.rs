//! The folder of stored logins: one private file for each login, in the state folder.
//!
//! Cache settings do not affect this folder; only `logout` and a new login remove a login from it.
//! A refresh token can be used only once, so a login is renewed under a lock of its own, and the new
//! token is on the disk before it is used (`platform/target_file.rs` syncs and renames).
//!
//! `login/record.rs` has the fields and the format of a login, `login/oauth.rs` the grants of a login
//! with a browser, `login/rotating_pat.rs` the rotating tokens, and `login/renewal.rs` decides when
//! which of them is used. `commands/login/` creates logins.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::credential::encoding::hex;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
pub use crate::login::record::{BROWSER, Login, LoginKey, PAT, ROTATION_GRACE_MS, RenewWith};
use crate::platform::context::{Context, NO_HOME};
use crate::platform::files;
use crate::platform::lock::LockFile;
use crate::platform::path_owners::{NOT_ROOTS_HOME, is_root_in_other_users_folder};
use crate::platform::private_file::{
    Folder, NOT_REGULAR, OF_ANOTHER_USER, OTHERS_MAY_WRITE, PrivateRead, private_folder,
    read_private,
};
use crate::platform::target_file::{HookMark, TargetFile};
use crate::platform::time::Deadline;
use crate::quoting::sh_word;

/// A login has two tokens of a few kilobytes. Every answer that `net/http.rs` accepts must fit, so
/// that a stored login can be read again.
const MAX_LOGIN_BYTES: usize = 1024 * 1024;

/// How long another process may take to write into the folder.
const FOLDER_LOCK_WAIT: Duration = Duration::from_secs(10);

/// The beginning of the name of every login's file.
const FILE_PREFIX: &str = "login-";

/// The hint for a folder or a login of another user.
const AS_OWNER: &str = "start lakebase-token as that user, or set HOME to this user's own";

/// All logins of this user.
pub struct Logins<'a> {
    context: &'a Context,
    folder: PathBuf,
}

impl<'a> Logins<'a> {
    pub fn of(context: &'a Context) -> Result<Logins<'a>> {
        let folder = context.state_home().ok_or_else(|| {
            Error::usage(format!("{NO_HOME}, so there is no folder for logins"))
                .hint("export HOME=/home/you")
        })?;
        Ok(Logins { context, folder })
    }

    /// The login with this key. An unusable login is an error, so that no other identity takes its
    /// place.
    pub fn get(&self, key: &LoginKey) -> Result<Option<Login>> {
        self.read(&self.path(key), Some(key))
    }

    /// For `login` and `logout`: an unusable login counts as missing, unless only reading it has failed.
    pub fn get_usable(&self, key: &LoginKey) -> Result<Option<Login>> {
        match self.get(key) {
            Err(error) if !error.is_unshared => Ok(None),
            read => read,
        }
    }

    /// The login, if there is only one.
    pub fn only(&self) -> Result<Option<Login>> {
        match &self.paths()[..] {
            [path] => self.read(path, None),
            _ => Ok(None),
        }
    }

    /// All usable logins.
    pub fn all(&self) -> Vec<Login> {
        self.paths().iter().filter_map(|path| self.read(path, None).ok()?).collect()
    }

    /// What is wrong with the other logins.
    pub fn problems(&self) -> Vec<Error> {
        self.paths().iter().filter_map(|path| self.read(path, None).err()).collect()
    }

    /// Removes the file of this login, or of every login, if the login is unusable. Returns the paths
    /// of the removed files.
    pub fn remove_unusable(&self, key: Option<&LoginKey>) -> Result<Vec<PathBuf>> {
        let paths = key.map_or_else(|| self.paths(), |key| vec![self.path(key)]);
        let mut unusable = Vec::new();
        for path in paths {
            match self.read(&path, None) {
                Ok(_) => (),
                // Reading it has failed, perhaps only this time.
                Err(error) if error.is_unshared => return Err(error),
                Err(_) => unusable.push(path),
            }
        }
        if !unusable.is_empty() {
            self.refuse_in_other_users_folder("change")?;
        }
        for path in &unusable {
            files::remove(path).map_err(|e| cannot("remove", path, e))?;
        }
        Ok(unusable)
    }

    /// Reads the login in a file. If its key is known, the hint for an unusable login is to replace it.
    fn read(&self, path: &Path, key: Option<&LoginKey>) -> Result<Option<Login>> {
        let shown = || sh_word(&redact(&path.to_string_lossy()));
        let reason = match read_private(path, MAX_LOGIN_BYTES) {
            PrivateRead::Nothing => return Ok(None),
            PrivateRead::Unreadable(e) => {
                let is_denied = e.kind() == ErrorKind::PermissionDenied;
                // In a folder that this user cannot enter, there is no login of this user.
                if is_denied && path.symlink_metadata().is_err() {
                    return Ok(None);
                }
                let error = cannot("read the login in", path, e);
                let chmod = || format!("chmod 600 {}", shown());
                return Err(if is_denied { error.hint(chmod()) } else { error });
            }
            PrivateRead::Unsafe(reason) => reason,
            PrivateRead::Content(content) => match Login::parse(&content) {
                Some(login) if self.path(&login.key) == *path => return Ok(Some(login)),
                _ => "it is damaged",
            },
        };
        let hint = match (reason, key) {
            (OF_ANOTHER_USER, _) => AS_OWNER.to_owned(),
            (NOT_REGULAR, _) => format!("mv {0} {0}.old", shown()),
            (_, Some(key)) => format!("lakebase-token login {}", key.shown_words()),
            (_, None) => "lakebase-token logout --all".to_owned(),
        };
        let message = format!("the login in {} is unusable", path.display());
        Err(Error::login(message).because(reason).hint(hint))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let is_login = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(FILE_PREFIX) && !name.contains('.'))
        };
        files::list(&self.folder).into_iter().filter(is_login).collect()
    }

    /// Fails if this login could not be stored. A person should not go through a login page in vain.
    pub fn check_writable(&self, key: &LoginKey) -> Result<()> {
        let check = || {
            let path = self.path(key);
            // A link is replaced.
            let is_link = path.is_symlink();
            let path = if is_link { self.folder.join(FILE_PREFIX) } else { path };
            let file = TargetFile::open(&path)?;
            file.check_folder()?;
            file.read().map(|_| ())
        };
        self.create_folder().and_then(|_| check()).map_err(|error| {
            match error.because.iter().any(|why| why == OTHERS_MAY_WRITE) {
                true => {
                    let folder = sh_word(&redact(&self.folder.to_string_lossy()));
                    error.hint(format!("chmod -R go= {folder}"))
                }
                false => error.hint("XDG_STATE_HOME, with a folder that can be written"),
            }
        })
    }

    /// Does `work` under the lock of this login: no other process renews, replaces or removes the
    /// login meanwhile.
    pub fn with_lock<T>(
        &self,
        key: &LoginKey,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let folder = self.create_folder()?;
        let path = self.path(key).with_extension("lock");
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut lock = LockFile::open(&folder, name).map_err(|e| cannot("open", &path, e))?;

        let outcome = lock.while_locked(self.context, deadline, |_| work());
        outcome.map_err(|e| cannot("lock", &path, e))?.unwrap_or_else(|| {
            Err(Error::unavailable("another lakebase-token process is still renewing this login"))
        })
    }

    /// An id that distinguishes the comments of this user's tokens from those of other machines.
    pub fn install_id(&self) -> Result<String> {
        let path = self.folder.join("install-id");
        if let PrivateRead::Content(content) = read_private(&path, MAX_LOGIN_BYTES)
            && let Some(id) = parse_install_id(&content)
        {
            return Ok(id);
        }

        let new = hex(&self.context.random::<8>()?);
        let edit = |old: Option<&[u8]>| {
            // Another process may have written its id meanwhile.
            let id = old.and_then(parse_install_id).unwrap_or(new.clone());
            Ok(Some(format!("{id}\n").into_bytes()))
        };
        let file = TargetFile::open(&path)?;
        file.change(self.context, Deadline::after(FOLDER_LOCK_WAIT), HookMark::None, &edit)?;
        let stored = file.read()?.map(|content| trimmed(&content));
        Ok(stored.unwrap_or(new))
    }

    /// Stores a login, in the place of the previous one with the same key.
    pub fn store(&self, login: &Login, deadline: Deadline) -> Result<()> {
        self.write(&login.key, deadline, Some(login.to_text().into_bytes()))
    }

    pub fn remove(&self, key: &LoginKey, deadline: Deadline) -> Result<()> {
        self.write(key, deadline, None)
    }

    fn write(&self, key: &LoginKey, deadline: Deadline, content: Option<Vec<u8>>) -> Result<()> {
        let path = self.path(key);
        if path.is_symlink() {
            // This program creates no links here, and must not write where another one leads.
            files::remove(&path).map_err(|e| cannot("remove", &path, e))?;
        }

        let file = TargetFile::open(&path)?;
        let edit = |_: Option<&[u8]>| Ok(content.clone());
        match file.change(self.context, deadline, HookMark::None, &edit) {
            // The change itself succeeded, only a later step failed.
            Err(_) if file.read().is_ok_and(|stored| stored == content) => Ok(()),
            outcome => outcome.map(|_| ()).map_err(Error::unshared),
        }
    }

    fn refuse_in_other_users_folder(&self, what: &str) -> Result<()> {
        if !is_root_in_other_users_folder(&self.folder) {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(Error::failed(format!("cannot {what} the folder {folder}"))
            .because(NOT_ROOTS_HOME)
            .hint(AS_OWNER))
    }

    fn create_folder(&self) -> Result<Folder> {
        // A folder of root's there would lock the owner of the home out of it.
        self.refuse_in_other_users_folder("create")?;
        private_folder(&self.folder).map_err(|e| cannot("create the folder", &self.folder, e))
    }

    /// The file of a login.
    pub fn path(&self, key: &LoginKey) -> PathBuf {
        let digest = digest(&SHA256, key.flag().as_bytes());
        self.folder.join(format!("{FILE_PREFIX}{}", hex(&digest.as_ref()[..16])))
    }
}

fn parse_install_id(content: &[u8]) -> Option<String> {
    let id = trimmed(content);
    let is_valid = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_valid.then_some(id)
}

fn trimmed(content: &[u8]) -> String {
    String::from_utf8_lossy(content).trim().to_owned()
}

fn cannot(what: &str, path: &Path, why: std::io::Error) -> Error {
    Error::failed(format!("cannot {what} {}", path.display())).because(why).unshared()
}
