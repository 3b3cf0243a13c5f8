//! What a service works with: every setting that was found, written down as an environment file.
//!
//! The command stands at its top, so that all that is done later knows what it is about. Flags and
//! variables are pinned as variables; a profile by its name, so that a secret that is
//! changed there is found; database, host and role as they were looked up. Secrets of the
//! environment stand in the file, which only its user can read, never in a unit. Settings that have
//! no value are pinned to nothing, which counts as unset, so that the session that a timer runs in
//! has no say.
//!
//! The notation, `NAME="value"` with `\` before `"`, `\`, `$` and a backquote, is read alike by
//! systemd (systemd.exec(5), `EnvironmentFile=`), by `sh` and by [`EnvFile::parse`].

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::resolve::{Origin, Settings, expand_home};
use crate::config::table::{Id, SETTINGS, ValueKind};
use crate::credential::connection::Purpose;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::lakebase::credentials::Database;
use crate::net::connect::ROUTE_VARIABLES;
use crate::platform::context::Context;
use crate::platform::time::Deadline;
use crate::service::paths::{absolute, is_uncarriable, text};
use crate::session::Session;
use crate::targets::table::{FileTarget, Target};
use crate::targets::update::Update;

/// What is written down.
#[derive(Debug, Default, PartialEq)]
pub struct EnvFile {
    /// The program and its arguments.
    command: Vec<String>,
    /// What tells the place from every other one.
    place: Vec<String>,
    /// Variables and their values; an empty one is unset.
    variables: Vec<(String, Secret)>,
}

/// The flags that name files with secrets.
pub const SECRET_FILES: [Id; 2] = [Id::ClientSecretFile, Id::TokenFile];

/// The file that such a flag names, if it can be read again: neither stdin nor a pipe of a shell.
pub fn kept_file(id: Id, flags: &[(Id, String)]) -> Option<&Path> {
    let (_, path) = flags.iter().find(|(flag, _)| *flag == id)?;
    let lasting = path != "-" && !path.starts_with("/dev/") && !path.starts_with("/proc/");
    lasting.then(|| Path::new(path))
}

/// Before the command, in the file.
const COMMAND: &str = "# command: ";

/// Before the place, in the file.
const PLACE: &str = "# place: ";

/// What decides, beside a request's ways, which CLI is asked and how it keeps its login, and where
/// ours are kept.
const ALSO: [&str; 5] = [
    "PATH",
    "DATABRICKS_AUTH_STORAGE",
    "AZURE_CONFIG_DIR",
    "DATABRICKS_DISCOVERY_HOST",
    "XDG_STATE_HOME",
];

impl EnvFile {
    /// Looks up what is not known yet, and pins all.
    pub fn of(
        update: &Update<'_>,
        target: &Target,
        flags: &[(Id, String)],
        command: &[String],
        context: &Context,
    ) -> Result<EnvFile> {
        let plan = &update.plan;
        let settings = &plan.settings;
        let mut known = vec![(Id::AuthType, Some(plan.provider.name.to_owned()))];
        if let Some((FileTarget { home: Some((id, _)), .. }, path)) = target.file() {
            known.push((*id, Some(text(path)?)));
        }
        // Another password file is none of this job's business.
        known.push((Id::PgPassFile, None));
        if let Some((name, _)) = &settings.profile {
            known.push((Id::Profile, Some(name.clone())));
        }
        for id in [Id::ConfigFile, Id::DatabricksCliPath, Id::OidcTokenFile, Id::Log] {
            // The CLI may be named without a folder, which means PATH.
            let is_path = |path: &&str| id != Id::DatabricksCliPath || path.contains('/');
            if known.iter().any(|(known, _)| *known == id) {
                continue;
            }
            if let Some(path) = settings.text(id).filter(is_path) {
                known.push((id, Some(text(&absolute(&expand_home(path, context)?)?)?)));
            }
        }
        known.push((
            Id::CacheDir,
            Some(match &plan.cache {
                Some(folder) => text(&absolute(folder)?)?,
                None => "off".to_owned(),
            }),
        ));
        if plan.purpose == Purpose::Database {
            let session = Session::new(plan, context);
            let deadline = Deadline::after(plan.timeout);
            let (endpoint, instance) = match session.database(deadline)? {
                Database::Endpoint { name, .. } => (Some(name), None),
                Database::Instance { name, .. } => (None, Some(name)),
            };
            known.extend([(Id::Endpoint, endpoint), (Id::Instance, instance)]);
            let connection = session.connection(update.wants(), deadline)?;
            if connection.host.is_some() {
                known.push((Id::PgPort, Some(connection.port.to_string())));
            }
            let found = [
                (Id::PgHost, connection.host),
                (Id::PgDatabase, connection.database),
                (Id::PgUser, connection.user),
            ];
            known.extend(found.into_iter().filter(|(_, value)| value.is_some()));
        }
        let from_file = |id| match id {
            Id::ClientSecret => kept_file(Id::ClientSecretFile, flags).is_some(),
            Id::Token => kept_file(Id::TokenFile, flags).is_some(),
            _ => false,
        };
        let (mut pins, mut unset) = (Vec::new(), Vec::new());
        for row in SETTINGS.iter().filter(|row| !row.env.is_empty()) {
            let value = match known.iter().find(|(id, _)| *id == row.id) {
                Some((_, value)) => value.clone().map(Secret::new),
                None if from_file(row.id) => None,
                None => given(settings, row.id),
            };
            match value {
                Some(value) => pins.push((row.env[0].to_owned(), value)),
                None => {
                    unset.extend(row.env.iter().map(|name| ((*name).to_owned(), Secret::new(""))));
                }
            }
        }
        for name in ROUTE_VARIABLES.into_iter().chain(ALSO) {
            match context.var(name) {
                Some(value) if name.starts_with("SSL_") => {
                    pins.push((name.to_owned(), Secret::new(text(&absolute(Path::new(value))?)?)));
                }
                Some(value) => pins.push((name.to_owned(), Secret::new(text(Path::new(value))?))),
                // Without PATH there would be no Databricks CLI.
                None if name == "PATH" => (),
                None => unset.push((name.to_owned(), Secret::new(""))),
            }
        }
        pins.append(&mut unset);
        Ok(EnvFile { command: command.to_vec(), place: target.id(), variables: pins })
    }

    /// The file. `name` is the service's.
    pub fn render(&self, name: &str) -> Result<Secret> {
        let mut text = format!(
            "# What {name} works with, as `lakebase-token service install` found it. It may hold\n\
             # secrets. What has no value counts as unset, whatever the session's environment says.\n\
             {COMMAND}{}\n{PLACE}{}\n",
            Value::from(self.command.clone()),
            Value::from(self.place.clone())
        );
        for (name, value) in &self.variables {
            let value = value.expose();
            if value.chars().any(is_uncarriable) {
                return Err(Error::usage(format!("{name} holds a control character"))
                    .because("the environment file of a service cannot carry it"));
            }
            let _ = match value {
                "" => writeln!(text, "{name}="),
                _ => writeln!(text, "{name}=\"{}\"", escaped(value)),
            };
        }
        Ok(Secret::new(text))
    }

    /// Reads what [`EnvFile::render`] wrote.
    pub fn parse(text: &str) -> EnvFile {
        let mut pins = EnvFile::default();
        let mut rest = text;
        while !rest.is_empty() {
            let line = rest.split('\n').next().unwrap_or_default();
            let assigned = line.split_once('=').filter(|_| !line.starts_with('#'));
            let Some((name, value)) = assigned else {
                if let Some(command) = line.strip_prefix(COMMAND) {
                    pins.command = serde_json::from_str(command).unwrap_or_default();
                }
                if let Some(place) = line.strip_prefix(PLACE) {
                    pins.place = serde_json::from_str(place).unwrap_or_default();
                }
                rest = rest[line.len()..].strip_prefix('\n').unwrap_or_default();
                continue;
            };
            let behind = &rest[name.len() + 1..];
            let (value, after) = match behind.strip_prefix('"') {
                Some(quoted) => unescaped(quoted),
                None => (value.to_owned(), &behind[value.len()..]),
            };
            pins.variables.push((name.to_owned(), Secret::new(value)));
            rest = after.strip_prefix('\n').unwrap_or(after);
        }
        pins
    }

    /// What tells the place from every other one (`Target::id`).
    pub fn place(&self) -> &[String] {
        &self.place
    }

    /// The file, where the place is one.
    pub fn path(&self) -> Option<&Path> {
        self.place.get(1).filter(|path| !path.is_empty()).map(Path::new)
    }

    /// The flags of the command.
    pub fn flags(&self) -> Vec<(Id, String)> {
        let mut words = self.command.iter();
        let mut flags = Vec::new();
        while let Some(word) = words.next() {
            let row = word.strip_prefix("--").and_then(|flag| {
                SETTINGS.iter().find(|row| !row.flag.is_empty() && row.flag == flag)
            });
            match row {
                Some(row) if row.kind == ValueKind::Switch => flags.push((row.id, String::new())),
                Some(row) => flags.extend(words.next().map(|value| (row.id, value.clone()))),
                None => (),
            }
        }
        flags
    }

    /// A value that is no secret.
    pub fn text(&self, name: &str) -> Option<&str> {
        let pin = self
            .variables
            .iter()
            .find(|(known, value)| known == name && !value.expose().is_empty());
        pin.map(|(_, value)| value.expose())
    }

    /// The context that the job runs in.
    pub fn context(&self, ours: &Context) -> Context {
        let now = ours.now();
        let pins = self.variables.iter();
        let pins = pins.map(|(name, value)| (name.into(), OsString::from(value.expose())));
        let home = ours.home().map(|home| ("HOME".into(), home.into()));
        Context {
            env: pins.chain(home).collect(),
            now: Box::new(move || now),
            cache_home: ours.cache_home,
            state_home: pinned_state_home,
            say: Box::new(|_| ()),
            instance_metadata: ours.instance_metadata.clone(),
            machine: ours.machine,
            signal_state: ours.signal_state.clone(),
            program: ours.program,
        }
    }
}

/// Where logins are by the variables that were pinned (XDG Base Directory Specification).
fn pinned_state_home(context: &Context) -> Option<PathBuf> {
    let named = context.var("XDG_STATE_HOME").map(PathBuf::from);
    let states = named.or_else(|| Some(context.home()?.join(".local/state")))?;
    Some(states.join("lakebase-token"))
}

/// A value of a flag, a variable or the workspace's URL; what a profile says is read there anew.
fn given(settings: &Settings, id: Id) -> Option<Secret> {
    let value = settings.get(id)?;
    let pinned = !matches!(value.origin, Origin::Profile(_));
    pinned.then(|| settings.secret(id).cloned()).flatten()
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    for c in value.chars() {
        if "\\\"$`".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// A value up to its closing quote, and what follows that.
fn unescaped(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Values that somebody will have one day.
    pub const ODD: [&str; 7] = [
        "two words",
        "a\"b'c`d",
        "100%h $HOME ${X} \\",
        "first\nsecond=\"x\"\n",
        "a&b<c>;|#",
        "\ttab é",
        "'",
    ];

    fn pins() -> EnvFile {
        let pin = |(n, value): (usize, &&str)| (format!("PIN{n}"), Secret::new(*value));
        let empty = [("EMPTY".to_owned(), Secret::new(""))];
        let command = ["/p", "write", "file", "/a file", "--then", "x\ny\"", "--token-file", "/t"];
        EnvFile {
            command: command.map(str::to_owned).to_vec(),
            place: vec!["file".to_owned(), "/a file".to_owned()],
            variables: ODD.iter().enumerate().map(pin).chain(empty).collect(),
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let text = pins().render("x").unwrap();
        let parsed = EnvFile::parse(text.expose());
        assert_eq!(parsed, pins());
        assert_eq!(parsed.path(), Some(Path::new("/a file")));
        let flags = [(Id::Then, "x\ny\"".to_owned()), (Id::TokenFile, "/t".to_owned())];
        assert_eq!(parsed.flags(), flags);
        assert_eq!(parsed.text("EMPTY"), None);
        assert_eq!(parsed.text("PIN0"), Some("two words"));
        for broken in ["A=\"never ends", "A", "=", "A=\"x\"junk\nB=1"] {
            EnvFile::parse(broken);
        }
    }

    #[test]
    fn a_shell_reads_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pins().render("x").unwrap().expose()).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "set -a; . \"$1\"; env -0", "sh"]).arg(file.path()).env_clear();
        let output = shell.output().unwrap();
        let env = String::from_utf8(output.stdout).unwrap();
        for (n, value) in ODD.iter().enumerate() {
            assert!(env.split('\0').any(|line| line == format!("PIN{n}={value}")), "{value:?}");
        }
        assert!(env.split('\0').any(|line| line == "EMPTY="));
    }

    #[test]
    fn what_no_file_can_carry_is_refused() {
        let variables = vec![("PGUSER".to_owned(), Secret::new("a\rb"))];
        let pins = EnvFile { variables, ..EnvFile::default() };
        assert!(pins.render("x").unwrap_err().message.contains("PGUSER"));
    }
}
