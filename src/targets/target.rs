//! What a target is: the rows of `table.rs`, and the target that a command line names.
//!
//! What is done with a file is in `pgpass.rs`, `file.rs` and `databrickscfg_profile.rs`, what is
//! done with a secret in `secret.rs`.

use std::path::{Path, PathBuf};

use crate::config::table::{Id, SETTINGS};
use crate::credential::connection::{Connection, Purpose};
use crate::error::Result;
use crate::formats::Format;
use crate::platform::target_file::Edit;

/// A kind of target.
pub struct TargetRow {
    /// The word on the command line.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// What follows the name on the command line.
    pub usage: &'static str,
    /// The flags that identify a target of this kind. Each must be given.
    pub keys: &'static [Id],
    /// The other flags that not every target takes.
    pub flags: &'static [Id],
    /// The only format of this kind; without it, the user chooses.
    pub format: Option<&'static Format>,
    /// The only token of this kind; without it, the user chooses.
    pub purpose: Option<Purpose>,
    pub storage: Storage,
}

pub enum Storage {
    File(&'static EntryEditor),
    /// A secret in a scope of the workspace.
    Secret,
}

/// How a file is kept up to date.
pub struct EntryEditor {
    /// The setting that names the file, and the file's name in HOME. Without these, the command
    /// line has the path.
    pub home: Option<(Id, &'static str)>,
    /// Whether role and host identify our entry among others in the file.
    pub shared: bool,
    /// Refuses a file that lakebase-token did not write.
    pub check: fn(&Target, &[u8]) -> Result<()>,
    /// Puts our entry into the file, as its format has printed it.
    pub put: for<'e> fn(&Entry<'e>, &'e str) -> Result<Box<Edit<'e>>>,
    /// The part of the file that holds our token.
    pub read: for<'e> fn(&Entry<'_>, &'e [u8]) -> Option<&'e [u8]>,
    /// Removes our entry from the file.
    pub remove: for<'e> fn(&Entry<'e>) -> Result<Box<Edit<'e>>>,
}

/// The target that a command line names.
#[derive(Clone)]
pub struct Target {
    pub row: &'static TargetRow,
    /// Absent where the target is a secret.
    pub path: Option<PathBuf>,
    /// How the file is kept up to date, where the target is one.
    pub how: Option<&'static EntryEditor>,
    /// The values of the row's keys.
    pub keys: Vec<String>,
    /// Whether content that lakebase-token did not write may be replaced.
    pub force: bool,
    /// Whether the command line names the file, which then must be the one that a service keeps.
    pub explicit: bool,
}

/// Our entry in a target: the target, and what identifies the entry in it.
pub struct Entry<'e> {
    pub target: &'e Target,
    /// The connection that the credential is for.
    pub connection: &'e Connection,
    /// The workspace's URL.
    pub workspace: &'e str,
}

impl TargetRow {
    /// Whether the command line has the file's path.
    pub fn takes_path(&self) -> bool {
        matches!(self.storage, Storage::File(EntryEditor { home: None, .. }))
    }

    /// The name and what follows it on the command line.
    pub fn command(&self) -> String {
        [self.name, self.usage].join(" ").trim_end().to_owned()
    }
}

impl Target {
    /// The words of a command line that name this target.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.row.name.to_owned()];
        if let Some(path) = self.path.as_ref().filter(|_| self.row.takes_path()) {
            words.push(path.display().to_string());
        }
        for (id, value) in self.row.keys.iter().zip(&self.keys) {
            words.extend([format!("--{}", SETTINGS[*id as usize].flag), value.clone()]);
        }
        words
    }

    /// The file and how it is kept up to date; nothing where the target is a secret.
    pub fn file(&self) -> Option<(&'static EntryEditor, &Path)> {
        Some((self.how?, self.path.as_deref()?))
    }

    /// The first key: the name of a profile, the scope of a secret.
    pub fn first_key(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }

    /// What identifies this target among all targets: name, path, keys.
    pub fn id(&self) -> Vec<String> {
        [vec![self.row.name.to_owned(), self.shown_path()], self.keys.clone()].concat()
    }

    pub fn shown_path(&self) -> String {
        self.path.as_ref().map_or(String::new(), |path| path.display().to_string())
    }

    /// The target in a message.
    pub fn shown(&self) -> String {
        if self.path.is_none() {
            format!("secret {}", self.keys.join("/"))
        } else if self.keys.is_empty() {
            self.shown_path()
        } else {
            format!("profile {} in {}", self.keys.join(" "), self.shown_path())
        }
    }
}
