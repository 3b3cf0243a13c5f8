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

pub mod oauth;
pub mod pat;
pub mod renew;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::{Error, Result, clean};
use crate::file::{Found, hex, lock_file, private_folder, read_private, while_held};
use crate::place::{Place, Telling};
use crate::secret::Secret;
use crate::settings::host::Host;
use crate::settings::{Id, Origin, Settings};
use crate::time::{Deadline, Timestamp};
use crate::world::World;
use pat::Chain;

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
    pub key: Key,
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
    pub means: Means,
}

/// What a login is renewed with.
#[derive(Clone, Debug)]
pub enum Means {
    /// A refresh token, which the browser's login has brought; none where it cannot be renewed.
    Refresh(Option<Secret>),
    /// The token itself: a personal access token that makes its successor.
    Pat(Chain),
}

/// What a login belongs to: a profile's name, or a workspace's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A profile.
    Profile(String),
    /// A workspace, without a profile.
    Host(String),
}

impl Means {
    /// Databricks' name for how such a login authenticates.
    pub fn auth_type(&self) -> &'static str {
        match self {
            Means::Refresh(_) => BROWSER,
            Means::Pat(_) => PAT,
        }
    }
}

impl Key {
    /// What a login that is made with these settings belongs to.
    pub fn of(settings: &Settings) -> Option<Key> {
        let host = settings.text(Id::Host);
        // A flag that names another workspace than the profile means that one.
        let flagged = matches!(settings.origin(Id::Host), Origin::Flag(_));
        let other = |own: &String| {
            let own = Host::parse(own, &Origin::Default).ok();
            flagged && own.is_some_and(|own| Some(own.url.as_str()) != host)
        };
        match &settings.profile {
            Some((name, own)) if !own.as_ref().is_some_and(other) => {
                Some(Key::Profile(name.clone()))
            }
            _ => host.map(|host| Key::Host(host.to_owned())),
        }
    }

    /// The flag that names it, and its value.
    pub fn words(&self) -> [&str; 2] {
        match self {
            Key::Profile(name) => ["--profile", name],
            Key::Host(url) => ["--host", url],
        }
    }

    /// The same as one text.
    pub fn flag(&self) -> String {
        self.words().join(" ")
    }

    /// The same for people: a profile's name may hold anything.
    pub fn shown(&self) -> String {
        clean(&self.flag())
    }

    fn file(&self) -> String {
        let digest = digest(&SHA256, self.flag().as_bytes());
        format!("{PREFIX}{}", hex(&digest.as_ref()[..16]))
    }
}

/// All logins of this user.
pub struct Logins<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Logins<'a> {
    /// Where they are, which HOME tells.
    pub fn of(world: &'a World) -> Result<Logins<'a>> {
        let folder = world.state_home().ok_or_else(|| {
            Error::usage("HOME is not set, so logins have no place").hint("export HOME=/home/you")
        })?;
        Ok(Logins { world, folder })
    }

    /// The login that these settings mean: the profile's, else the workspace's.
    pub fn find(&self, settings: &Settings) -> Option<Login> {
        let host = settings.text(Id::Host)?;
        let workspace = Key::Host(host.to_owned());
        let own = Key::of(settings).filter(|key| *key != workspace);
        // A profile that was pointed at another workspace is another identity.
        let keys = own.into_iter().chain([workspace]);
        let mut found = keys.filter_map(|key| self.get(&key));
        let other = |login: &Login| match (login.workspace_id.as_deref(), settings.workspace_id()) {
            (Some(theirs), Some(ours)) => theirs != ours,
            _ => false,
        };
        found.find(|login| login.host == host && !other(login))
    }

    /// The login of this key.
    pub fn get(&self, key: &Key) -> Option<Login> {
        let path = self.path(key);
        let reason = match read_private(&path, MOST) {
            Found::Nothing => return None,
            Found::Unsafe(reason) => reason,
            Found::Content(content) => match Login::parse(&content) {
                Some(login) if login.key == *key => return Some(login),
                _ => "it is damaged",
            },
        };
        self.world.note(&format!("{} is not used: {reason}", path.display()));
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
    pub fn discard(&self, key: Option<&Key>) -> Result<Vec<PathBuf>> {
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
            fs::remove_file(path).map_err(|e| self.cannot("remove", path, e))?;
        }
        Ok(broken)
    }

    fn paths(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let named = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(PREFIX) && !name.contains('.'))
        };
        entries.flatten().map(|entry| entry.path()).filter(named).collect()
    }

    /// Fails where no login could be kept, before anybody is sent to a browser.
    pub fn check(&self) -> Result<()> {
        self.prepare()
            .and_then(|()| Place::open(&self.folder.join(PREFIX))?.check_folder())
            .map_err(|error| error.hint("XDG_STATE_HOME, with a folder that can be written"))
    }

    /// Does something while nobody else renews this login, makes it anew or ends it.
    pub fn alone<T>(
        &self,
        key: &Key,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.prepare()?;
        let path = self.path(key).with_extension("lock");
        let mut lock = lock_file(&path).map_err(|e| self.cannot("open", &path, e))?;
        let done = while_held(&mut lock, self.world, deadline, work);
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
        let new = hex(&self.world.random::<8>()?);
        // Somebody else may have been first.
        let edit = |old: Option<&[u8]>| {
            let kept = old.map(text).filter(good);
            Ok(Some(format!("{}\n", kept.as_ref().unwrap_or(&new)).into_bytes()))
        };
        let place = Place::open(&path)?;
        place.change(self.world, Deadline::after(PATIENCE), Telling::Nobody, &edit)?;
        Ok(place.read()?.map_or(new, |content| text(&content)))
    }

    /// Keeps a login in the place of the former one.
    pub fn store(&self, login: &Login, deadline: Deadline) -> Result<()> {
        let text = login.text();
        self.put(&login.key, deadline, Some(text))
    }

    /// Takes a login away.
    pub fn remove(&self, key: &Key, deadline: Deadline) -> Result<()> {
        self.put(key, deadline, None)
    }

    fn put(&self, key: &Key, deadline: Deadline, text: Option<String>) -> Result<()> {
        let path = self.path(key);
        if path.is_symlink() {
            // Nobody makes links here for any good.
            fs::remove_file(&path).map_err(|e| self.cannot("remove", &path, e))?;
        }
        let place = Place::open(&path)?;
        let edit = |_: Option<&[u8]>| Ok(text.clone().map(String::into_bytes));
        match place.change(self.world, deadline, Telling::Nobody, &edit) {
            // Whatever went wrong after it was in its place.
            Err(_) if place.read().is_ok_and(|now| now == text.map(String::into_bytes)) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    fn prepare(&self) -> Result<()> {
        private_folder(&self.folder).map_err(|e| self.cannot("make the folder", &self.folder, e))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.file())
    }

    fn cannot(&self, what: &str, path: &Path, why: std::io::Error) -> Error {
        Error::failed(format!("cannot {what} {}", path.display())).because(why)
    }
}

impl Login {
    /// How somebody logs in anew.
    pub fn command(&self) -> String {
        let pat = if matches!(self.means, Means::Pat(_)) { " --pat" } else { "" };
        format!("lakebase-token login{pat} {}", self.key.shown())
    }

    /// The life that is left in its token, in milliseconds.
    pub fn left(&self, now: Timestamp) -> i64 {
        self.expires.since(now)
    }

    fn text(&self) -> String {
        let (kind, name) = match &self.key {
            Key::Profile(name) => ("profile", name),
            Key::Host(url) => ("workspace", url),
        };
        let (refresh, pat) = match &self.means {
            Means::Refresh(token) => (token.as_ref().map(Secret::expose), Value::Null),
            Means::Pat(chain) => (None, chain.value()),
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
                "profile" => Key::Profile(named),
                "workspace" => Key::Host(named),
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
            means: match &value["pat"] {
                Value::Null => Means::Refresh(text("refresh_token").map(Secret::new)),
                pat => Means::Pat(Chain::parse(pat)?),
            },
        })
    }
}
