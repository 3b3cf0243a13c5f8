//! What people have logged in with: one private file a login, in the state folder.
//!
//! A login belongs to a profile, or to a workspace where none was named. It outlives every cache
//! setting, and nothing but `logout` and a new login takes it away. What it is renewed with may be
//! good for once only, so a login is renewed under a lock of its own, and what came of it is on
//! the disk before anything else is done with it (`place.rs` syncs and renames).
//!
//! `login/oauth.rs` has the grants of a browser's login, `login/pat.rs` the personal access tokens
//! that replace themselves, `login/renew.rs` decides when and by which of them. How a login comes
//! about is `verb/login.rs`'s business.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::credential::encoding::hex;
use crate::credential::redact::redact;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::lock::LockFile;
use crate::platform::private_file::{Found, private_folder, read_private};
use crate::platform::target_file::{HookMark, TargetFile};
use crate::platform::time::{Deadline, MINUTE, SECOND, Timestamp};

/// The auth type of a login with a browser.
pub const BROWSER: &str = "external-browser";

/// The auth type of a login with a personal access token.
pub const PAT: &str = "pat";

/// A login has two tokens of a few kilobytes; what an answer can hold must be read again.
const MOST: usize = 1024 * 1024;

/// How long another process may take to write into the folder.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the names of logins begin.
const PREFIX: &str = "login-";

/// A login.
#[derive(Clone, Debug)]
pub struct Login {
    /// What it belongs to.
    pub key: LoginKey,
    /// The workspace's URL.
    pub host: String,
    /// The routing header's value, where the host serves several workspaces.
    pub workspace_id: Option<String>,
    /// Who this is, as the workspace says.
    pub who: String,
    /// When somebody logged in.
    pub since: Timestamp,
    /// The token that it stands for now.
    pub access: Secret,
    /// When that was received.
    pub issued: Timestamp,
    /// When it dies, by our clock.
    pub expires: Timestamp,
    /// When a renewal was begun that has not ended well yet.
    pub begun: Option<Timestamp>,
    /// What the next one is had with.
    pub renew_with: RenewWith,
}

/// What a login is renewed with.
#[derive(Clone, Debug)]
pub enum RenewWith {
    /// A refresh token, which the browser's login has brought; none where it cannot be renewed.
    Refresh(Option<Secret>),
    /// The token itself: a personal access token that makes its successor.
    Pat(RotatingPat),
}

/// What a login belongs to: a profile's name, or a workspace's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginKey {
    /// A profile.
    Profile(String),
    /// A workspace, without a profile.
    Host(String),
}

impl RenewWith {
    /// Databricks' name for how such a login authenticates.
    pub fn auth_type(&self) -> &'static str {
        match self {
            RenewWith::Refresh(_) => BROWSER,
            RenewWith::Pat(_) => PAT,
        }
    }
}

impl LoginKey {
    /// The flag that names it, and its value.
    pub fn words(&self) -> [&str; 2] {
        match self {
            LoginKey::Profile(name) => ["--profile", name],
            LoginKey::Host(url) => ["--host", url],
        }
    }

    /// The same as one text.
    pub fn flag(&self) -> String {
        self.words().join(" ")
    }

    /// The same for people: a profile's name may hold anything.
    pub fn shown(&self) -> String {
        redact(&self.flag())
    }

    fn file(&self) -> String {
        let digest = digest(&SHA256, self.flag().as_bytes());
        format!("{PREFIX}{}", hex(&digest.as_ref()[..16]))
    }
}

/// The tokens of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatingPat {
    /// The id of the one that is handed out.
    pub id: String,
    /// The comment of all of them, which no other token has.
    pub comment: String,
    /// How long each lives, in milliseconds.
    pub lifetime: i64,
    /// At which age one is replaced, in milliseconds.
    pub max_age: i64,
    /// The one before.
    pub former: Option<ReplacedPat>,
}

/// A token that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedPat {
    /// Its id.
    pub id: String,
    /// When its successor took over.
    pub replaced: Timestamp,
    /// When it dies by itself.
    pub expires: Timestamp,
}

/// How long a token stays good after its replacement: Claude Code and Codex do not ask again when
/// a workspace answers 403, and hold what they have for five minutes and more.
pub const ROTATION_GRACE_MS: i64 = 10 * MINUTE;

impl RotatingPat {
    /// Whether a former token has to go.
    pub fn has_waste(&self, now: Timestamp) -> bool {
        self.former.as_ref().is_some_and(|former| former.is_waste(now))
    }

    fn value(&self) -> Value {
        json!({
            "id": self.id,
            "comment": self.comment,
            "lifetime_seconds": self.lifetime / SECOND,
            "max_age_seconds": self.max_age / SECOND,
            "former": self.former.as_ref().map(|former| json!({
                "id": former.id,
                "replaced_at": former.replaced.to_string(),
                "expires_at": former.expires.to_string(),
            })),
        })
    }

    fn parse(value: &Value) -> Option<RotatingPat> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let time = |value: &Value| Timestamp::parse(value.as_str()?);
        let seconds = |name: &str| Some(value[name].as_i64()?.saturating_mul(SECOND));
        let former = match &value["former"] {
            Value::Null => None,
            former => Some(ReplacedPat {
                id: text(&former["id"])?,
                replaced: time(&former["replaced_at"])?,
                expires: time(&former["expires_at"])?,
            }),
        };
        Some(RotatingPat {
            id: text(&value["id"])?,
            comment: text(&value["comment"])?,
            lifetime: seconds("lifetime_seconds")?,
            max_age: seconds("max_age_seconds")?,
            former,
        })
    }
}

impl ReplacedPat {
    /// Whether it goes: nobody should hold it any more. The time of its replacement is kept in
    /// whole seconds, rounded down.
    fn is_waste(&self, now: Timestamp) -> bool {
        now.since(self.replaced) >= ROTATION_GRACE_MS + SECOND
    }
}

/// All logins of this user.
pub struct Logins<'a> {
    context: &'a Context,
    folder: PathBuf,
}

impl<'a> Logins<'a> {
    /// Where they are, which HOME tells.
    pub fn of(context: &'a Context) -> Result<Logins<'a>> {
        let folder = context.state_home().ok_or_else(|| {
            Error::usage("HOME is not set, so logins have no place").hint("export HOME=/home/you")
        })?;
        Ok(Logins { context, folder })
    }

    /// The login of this key.
    pub fn get(&self, key: &LoginKey) -> Option<Login> {
        let path = self.path(key);
        let reason = match read_private(&path, MOST) {
            Found::Nothing => return None,
            Found::Unsafe(reason) => reason,
            Found::Content(content) => match Login::parse(&content) {
                Some(login) if login.key == *key => return Some(login),
                _ => "it is damaged",
            },
        };
        self.context.note(&format!("{} is not used: {reason}", path.display()));
        None
    }

    /// Every login there is.
    pub fn all(&self) -> Vec<Login> {
        let read = |path: PathBuf| match read_private(&path, MOST) {
            Found::Content(content) => Login::parse(&content),
            _ => None,
        };
        self.paths().into_iter().filter_map(read).collect()
    }

    /// Removes what stands in a login's place, or in every one's, and cannot be read. Says which.
    pub fn discard(&self, key: Option<&LoginKey>) -> Result<Vec<PathBuf>> {
        let paths = key.map_or_else(|| self.paths(), |key| vec![self.path(key)]);
        let is_whole = |path: &PathBuf| match read_private(path, MOST) {
            Found::Content(content) => {
                Login::parse(&content).is_some_and(|login| self.path(&login.key) == *path)
            }
            _ => false,
        };
        let there = paths.into_iter().filter(|path| path.symlink_metadata().is_ok());
        let broken: Vec<PathBuf> = there.filter(|path| !is_whole(path)).collect();
        for path in &broken {
            files::remove(path).map_err(|e| self.cannot("remove", path, e))?;
        }
        Ok(broken)
    }

    fn paths(&self) -> Vec<PathBuf> {
        let is_login = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(PREFIX) && !name.contains('.'))
        };
        files::list(&self.folder).into_iter().filter(is_login).collect()
    }

    /// Fails where no login could be kept, before anybody is sent to a browser.
    pub fn check(&self) -> Result<()> {
        self.prepare()
            .and_then(|()| TargetFile::open(&self.folder.join(PREFIX))?.check_folder())
            .map_err(|error| error.hint("XDG_STATE_HOME, with a folder that can be written"))
    }

    /// Does something while nobody else renews this login, makes it anew or ends it.
    pub fn alone<T>(
        &self,
        key: &LoginKey,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.prepare()?;
        let path = self.path(key).with_extension("lock");
        let mut lock = LockFile::open(&path).map_err(|e| self.cannot("open", &path, e))?;
        let done = lock.while_locked(self.context, deadline, work);
        done.map_err(|e| self.cannot("lock", &path, e))?.unwrap_or_else(|| {
            Err(Error::unavailable("another lakebase-token is still renewing this login"))
        })
    }

    /// What tells this user's tokens from those of other machines, in their comments.
    pub fn install_id(&self) -> Result<String> {
        let path = self.folder.join("install-id");
        let text = |content: &[u8]| String::from_utf8_lossy(content).trim().to_owned();
        let good = |id: &String| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if let Found::Content(content) = read_private(&path, MOST)
            && let Some(id) = Some(text(&content)).filter(good)
        {
            return Ok(id);
        }
        let new = hex(&self.context.random::<8>()?);
        // Somebody else may have been first.
        let edit = |old: Option<&[u8]>| {
            let kept = old.map(text).filter(good);
            Ok(Some(format!("{}\n", kept.as_ref().unwrap_or(&new)).into_bytes()))
        };
        let place = TargetFile::open(&path)?;
        place.change(self.context, Deadline::after(PATIENCE), HookMark::None, &edit)?;
        Ok(place.read()?.map_or(new, |content| text(&content)))
    }

    /// Keeps a login in the place of the former one.
    pub fn store(&self, login: &Login, deadline: Deadline) -> Result<()> {
        let text = login.text();
        self.put(&login.key, deadline, Some(text))
    }

    /// Takes a login away.
    pub fn remove(&self, key: &LoginKey, deadline: Deadline) -> Result<()> {
        self.put(key, deadline, None)
    }

    fn put(&self, key: &LoginKey, deadline: Deadline, text: Option<String>) -> Result<()> {
        let path = self.path(key);
        if path.is_symlink() {
            // Nobody makes links here for any good.
            files::remove(&path).map_err(|e| self.cannot("remove", &path, e))?;
        }
        let place = TargetFile::open(&path)?;
        let edit = |_: Option<&[u8]>| Ok(text.clone().map(String::into_bytes));
        match place.change(self.context, deadline, HookMark::None, &edit) {
            // Whatever went wrong after it was in its place.
            Err(_) if place.read().is_ok_and(|now| now == text.map(String::into_bytes)) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    fn prepare(&self) -> Result<()> {
        private_folder(&self.folder).map_err(|e| self.cannot("make the folder", &self.folder, e))
    }

    fn path(&self, key: &LoginKey) -> PathBuf {
        self.folder.join(key.file())
    }

    fn cannot(&self, what: &str, path: &Path, why: std::io::Error) -> Error {
        Error::failed(format!("cannot {what} {}", path.display())).because(why)
    }
}

impl Login {
    /// How somebody logs in anew.
    pub fn command(&self) -> String {
        let pat = if matches!(self.renew_with, RenewWith::Pat(_)) { " --pat" } else { "" };
        format!("lakebase-token login{pat} {}", self.key.shown())
    }

    /// The life that is left in its token, in milliseconds.
    pub fn left(&self, now: Timestamp) -> i64 {
        self.expires.since(now)
    }

    fn text(&self) -> String {
        let (kind, name) = match &self.key {
            LoginKey::Profile(name) => ("profile", name),
            LoginKey::Host(url) => ("workspace", url),
        };
        let (refresh, pat) = match &self.renew_with {
            RenewWith::Refresh(token) => (token.as_ref().map(Secret::expose), Value::Null),
            RenewWith::Pat(chain) => (None, chain.value()),
        };
        let value = json!({
            "of": [kind, name],
            "host": self.host,
            "workspace_id": self.workspace_id,
            "who": self.who,
            "since": self.since.to_string(),
            "access_token": self.access.expose(),
            "issued_at": self.issued.to_string(),
            "expires_at": self.expires.to_string(),
            "begun_at": self.begun.map(|begun| begun.to_string()),
            "refresh_token": refresh,
            "pat": pat,
        });
        format!("{value}\n")
    }

    fn parse(content: &[u8]) -> Option<Login> {
        let value: Value = serde_json::from_slice(content).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let time = |name: &str| Timestamp::parse(value[name].as_str()?);
        let named = value["of"][1].as_str()?.to_owned();
        Some(Login {
            key: match value["of"][0].as_str()? {
                "profile" => LoginKey::Profile(named),
                "workspace" => LoginKey::Host(named),
                _ => return None,
            },
            host: text("host")?,
            workspace_id: text("workspace_id"),
            who: text("who")?,
            since: time("since")?,
            access: Secret::new(text("access_token")?),
            issued: time("issued_at")?,
            expires: time("expires_at")?,
            begun: time("begun_at"),
            renew_with: match &value["pat"] {
                Value::Null => RenewWith::Refresh(text("refresh_token").map(Secret::new)),
                pat => RenewWith::Pat(RotatingPat::parse(pat)?),
            },
        })
    }
}
