//! What people have logged in with: one private file a login, in the state folder.
//!
//! A login belongs to a profile, or to a workspace where none was named. It outlives every cache
//! setting, and nothing but `logout` and a new login takes it away. A refresh token may be good
//! for once only, so it is used and replaced under one lock, and the new one is on the disk before
//! anything else is done with the answer (`place.rs` locks, syncs and renames). How a login comes
//! about is `verb/login.rs`'s business, how a grant is asked for `oauth.rs`'s.

use std::fs;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::file::{Found, hex, private_folder, read_private};
use crate::oauth::Grant;
use crate::place::{Place, Telling};
use crate::secret::Secret;
use crate::settings::{Id, Settings};
use crate::time::{Deadline, Timestamp};
use crate::world::World;

/// A login has two tokens of a few kilobytes.
const MOST: usize = 64 * 1024;

/// How the names of logins begin.
const PREFIX: &str = "login-";

/// A login.
#[derive(Clone, Debug)]
pub struct Login {
    /// What it belongs to.
    pub key: Key,
    /// The workspace's URL.
    pub host: String,
    /// Who this is, as the workspace says.
    pub who: String,
    /// When it was made.
    pub since: Timestamp,
    /// The last grant.
    pub grant: Grant,
    /// When the last grant's access token dies, by our clock.
    pub expires: Timestamp,
}

/// What a login belongs to: a profile's name, or a workspace's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A profile.
    Profile(String),
    /// A workspace, without a profile.
    Host(String),
}

impl Key {
    /// What a login that is made with these settings belongs to.
    pub fn of(settings: &Settings) -> Option<Key> {
        match &settings.profile {
            Some((name, _)) => Some(Key::Profile(name.clone())),
            None => settings.text(Id::Host).map(|host| Key::Host(host.to_owned())),
        }
    }

    /// The flag that names it.
    pub fn flag(&self) -> String {
        match self {
            Key::Profile(name) => format!("--profile {name}"),
            Key::Host(url) => format!("--host {url}"),
        }
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
    /// Where they are; none where HOME tells no place.
    pub fn of(world: &'a World) -> Option<Logins<'a>> {
        Some(Logins { world, folder: world.state_home()? })
    }

    /// The login that these settings mean: the profile's, else the workspace's.
    pub fn find(&self, settings: &Settings) -> Option<Login> {
        let host = settings.text(Id::Host)?;
        let keys = [Key::of(settings), Some(Key::Host(host.to_owned()))];
        let found = keys.into_iter().flatten().find_map(|key| self.get(&key));
        // A profile that was pointed at another workspace is another identity.
        found.filter(|login| login.host == host)
    }

    /// The login of this key.
    pub fn get(&self, key: &Key) -> Option<Login> {
        let path = self.path(key);
        match read_private(&path, MOST) {
            Found::Content(content) => Login::parse(&content).filter(|login| login.key == *key),
            Found::Unsafe(reason) => {
                self.world.note(&format!("{} is not used: {reason}", path.display()));
                None
            }
            Found::Nothing => None,
        }
    }

    /// Every login there is.
    pub fn all(&self) -> Vec<Login> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let named = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
        };
        let read = |path: PathBuf| match read_private(&path, MOST) {
            Found::Content(content) => Login::parse(&content),
            _ => None,
        };
        paths.filter(named).filter_map(read).collect()
    }

    /// Keeps a login in the place of the former one.
    pub fn store(&self, login: &Login, deadline: Deadline) -> Result<()> {
        self.change(&login.key, deadline, &|_| Ok(Some(login.clone())))
    }

    /// Takes a login away.
    pub fn remove(&self, key: &Key, deadline: Deadline) -> Result<()> {
        self.change(key, deadline, &|_| Ok(None))
    }

    /// Replaces a login by what `make` makes of it, which nobody else does meanwhile.
    pub fn change(
        &self,
        key: &Key,
        deadline: Deadline,
        make: &dyn Fn(Option<Login>) -> Result<Option<Login>>,
    ) -> Result<()> {
        private_folder(&self.folder).map_err(|e| {
            let folder = self.folder.display();
            Error::failed(format!("cannot make the folder {folder}")).because(e)
        })?;
        let edit = |old: Option<&[u8]>| {
            let made = make(old.and_then(Login::parse))?;
            Ok(made.map(|login| login.text().into_bytes()))
        };
        let place = Place::open(&self.path(key))?;
        place.change(self.world, deadline, Telling::Nobody, &edit).map(|_| ())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.file())
    }
}

impl Login {
    fn text(&self) -> String {
        let (kind, name) = match &self.key {
            Key::Profile(name) => ("profile", name),
            Key::Host(url) => ("workspace", url),
        };
        let value = json!({
            "of": [kind, name],
            "host": self.host,
            "who": self.who,
            "since": self.since.to_string(),
            "access_token": self.grant.access.expose(),
            "refresh_token": self.grant.refresh.as_ref().map(Secret::expose),
            "expires_at": self.expires.to_string(),
        });
        format!("{value}\n")
    }

    fn parse(content: &[u8]) -> Option<Login> {
        let value: Value = serde_json::from_slice(content).ok()?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let named = value["of"][1].as_str()?.to_owned();
        let key = match value["of"][0].as_str()? {
            "profile" => Key::Profile(named),
            "workspace" => Key::Host(named),
            _ => return None,
        };
        let expires = Timestamp::parse(value["expires_at"].as_str()?)?;
        Some(Login {
            key,
            host: text("host")?,
            who: text("who")?,
            since: Timestamp::parse(value["since"].as_str()?)?,
            grant: Grant {
                access: Secret::new(text("access_token")?),
                refresh: text("refresh_token").map(Secret::new),
                life: None,
            },
            expires,
        })
    }
}
