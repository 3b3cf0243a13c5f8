//! The environment file of a service: every setting, recorded at installation.
//!
//! Its first lines name the command and the target, so that later commands know what was installed.
//! Flags and variables are recorded as variables; a profile by its name, so that a secret that is
//! changed in the profile is used; database, host and role as they were resolved. Secrets from the
//! environment stand in this file, which only its user can read, never in a unit. A setting without
//! a value is recorded as empty, which counts as unset, so that the session in which a timer runs
//! has no influence.
//!
//! The notation, `NAME="value"` with `\` before `"`, `\`, `$` and a backquote, is read alike by
//! systemd (systemd.exec(5), `EnvironmentFile=`), by `sh` and by [`EnvFile::parse`].

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::files::expand_home;
use crate::config::settings::Settings;
use crate::config::table::{Id, SETTINGS, Setting, ValueKind};
use crate::config::value::Origin;
use crate::credential::connection::Purpose;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::lakebase::credentials::MintTarget;
use crate::login::store::BROWSER;
use crate::net::connect::ROUTE_VARIABLES;
use crate::platform::context::Context;
use crate::platform::request_log::RequestLog;
use crate::platform::time::Deadline;
use crate::service::paths::{absolute, is_uncarriable, text};
use crate::session::Session;
use crate::targets::target::{EntryEditor, Target};
use crate::targets::update::Update;

#[derive(Debug, Default, PartialEq)]
pub struct EnvFile {
    /// The program and its arguments.
    command: Vec<String>,
    /// `Target::id`.
    target: Vec<String>,
    /// Variables and their values; an empty value counts as unset.
    variables: Vec<(String, Secret)>,
}

/// The flags that name files with secrets.
pub const SECRET_FILES: [Id; 2] = [Id::ClientSecretFile, Id::TokenFile];

/// The file that such a flag names, if it can be read again: neither stdin nor a shell's pipe.
pub fn rereadable_file(id: Id, flags: &[(Id, String)]) -> Option<&Path> {
    let (_, path) = flags.iter().find(|(flag, _)| *flag == id)?;
    // In /dev/shm, Linux keeps ordinary files.
    let is_device = path.starts_with("/dev/") && !path.starts_with("/dev/shm/");
    let is_stream = path == "-" || is_device || path.starts_with("/proc/");
    (!is_stream).then(|| Path::new(path))
}

/// What precedes the command and the target in the file.
const COMMAND_COMMENT: &str = "# command: ";
const TARGET_COMMENT: &str = "# target: ";

/// Variables that are no settings of ours, but decide which CLI runs, where it keeps its login, and
/// where ours are.
const OTHER_VARIABLES: [&str; 5] = [
    "PATH",
    "DATABRICKS_AUTH_STORAGE",
    "AZURE_CONFIG_DIR",
    "DATABRICKS_DISCOVERY_HOST",
    "XDG_STATE_HOME",
];

/// Settings whose value was resolved; without a value, the setting is recorded as unset.
type Resolved = Vec<(Id, Option<String>)>;

/// The variables of the file while they are collected.
#[derive(Default)]
struct Variables {
    set: Vec<(String, Secret)>,
    unset: Vec<(String, Secret)>,
}

impl Variables {
    fn set(&mut self, name: &str, value: Secret) {
        self.set.push((name.to_owned(), value));
    }

    fn unset(&mut self, name: &str) {
        self.unset.push((name.to_owned(), Secret::new("")));
    }
}

impl EnvFile {
    /// Resolves every setting, with requests where necessary. `flags` are those of the command line.
    pub fn of(
        update: &Update<'_>,
        target: &Target,
        flags: &[(Id, String)],
        command: &[String],
        context: &Context,
    ) -> Result<EnvFile> {
        let mut resolved = resolved_here(update, target, context)?;
        if update.plan.purpose == Purpose::Database {
            resolved.extend(resolved_by_requests(update, context)?);
        }

        let mut variables = Variables::default();
        for row in SETTINGS.iter().filter(|row| !row.env.is_empty()) {
            match recorded_value(row, &resolved, &update.plan.settings, flags) {
                Some(value) => variables.set(row.env[0], value),
                None => row.env.iter().for_each(|name| variables.unset(name)),
            }
        }
        add_other_variables(&mut variables, context)?;

        let Variables { set, unset } = variables;
        Ok(EnvFile {
            command: command.to_vec(),
            target: target.id(),
            variables: set.into_iter().chain(unset).collect(),
        })
    }

    /// The file's text. `name` is the service's.
    pub fn render(&self, name: &str) -> Result<Secret> {
        let mut text = format!(
            "# The settings of {name}, recorded by `lakebase-token service install`. They may be\n\
             # secret. An empty value counts as unset, even if the session's environment has one.\n\
             {COMMAND_COMMENT}{}\n{TARGET_COMMENT}{}\n",
            Value::from(self.command.clone()),
            Value::from(self.target.clone())
        );
        for (name, value) in &self.variables {
            let value = value.expose();
            if value.chars().any(is_uncarriable) {
                return Err(Error::usage(format!("{name} has a control character"))
                    .because("the environment file of a service cannot hold it"));
            }
            let _ = match value {
                "" => writeln!(text, "{name}="),
                _ => writeln!(text, "{name}=\"{}\"", escaped(value)),
            };
        }
        Ok(Secret::new(text))
    }

    /// Reads what [`EnvFile::render`] has written.
    pub fn parse(text: &str) -> EnvFile {
        let mut file = EnvFile::default();
        let mut rest = text;
        while !rest.is_empty() {
            let line = rest.split('\n').next().unwrap_or_default();
            let assignment = line.split_once('=').filter(|_| !line.starts_with('#'));
            let Some((name, value)) = assignment else {
                file.parse_comment(line);
                rest = rest[line.len()..].strip_prefix('\n').unwrap_or_default();
                continue;
            };

            // A quoted value may have several lines.
            let after_name = &rest[name.len() + 1..];
            let (value, after) = match after_name.strip_prefix('"') {
                Some(quoted) => unescaped(quoted),
                None => (value.to_owned(), &after_name[value.len()..]),
            };
            file.variables.push((name.to_owned(), Secret::new(value)));
            rest = after.strip_prefix('\n').unwrap_or(after);
        }
        file
    }

    fn parse_comment(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix(COMMAND_COMMENT) {
            self.command = serde_json::from_str(command).unwrap_or_default();
        }
        if let Some(target) = line.strip_prefix(TARGET_COMMENT) {
            self.target = serde_json::from_str(target).unwrap_or_default();
        }
    }

    /// `Target::id`, as it was at installation.
    pub fn target_id(&self) -> &[String] {
        &self.target
    }

    /// The path of the target, where that is a file.
    pub fn target_path(&self) -> Option<&Path> {
        self.target.get(1).filter(|path| !path.is_empty()).map(Path::new)
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

    /// The value of a variable that is no secret.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.variables.iter().filter(|(known, _)| known == name);
        let (_, value) = values.find(|(_, value)| !value.expose().is_empty())?;
        Some(value.expose())
    }

    /// The context in which the job runs.
    pub fn context(&self, ours: &Context) -> Context {
        let now = ours.now();
        let variables = self.variables.iter();
        let variables =
            variables.map(|(name, value)| (name.into(), OsString::from(value.expose())));
        let home = ours.home().map(|home| ("HOME".into(), home.into()));
        Context {
            env: variables.chain(home).collect(),
            now: Box::new(move || now),
            cache_home: ours.cache_home,
            state_home: recorded_state_home,
            say: Box::new(|_| ()),
            quiet: Cell::new(true),
            request_log: RequestLog::default(),
            instance_metadata: ours.instance_metadata.clone(),
            machine: ours.machine,
            signal_state: ours.signal_state.clone(),
            program: ours.program,
            own_executable: ours.own_executable,
        }
    }
}

/// What is resolved without a request: auth type, profile, and the paths of files.
fn resolved_here(update: &Update<'_>, target: &Target, context: &Context) -> Result<Resolved> {
    let plan = &update.plan;
    let settings = &plan.settings;
    // A stored login's own name, `pat`, is also that of a configured token.
    let name = if plan.provider.stored_login { BROWSER } else { plan.provider.name };
    let mut resolved = vec![(Id::AuthType, Some(name.to_owned()))];

    if let Some((EntryEditor { home: Some((id, _)), .. }, path)) = target.file() {
        resolved.push((*id, Some(text(path)?)));
    }
    // Only the target pgpass has a password file, and its path is resolved already.
    resolved.push((Id::PgPassFile, None));
    if let Some((name, _)) = &settings.profile {
        resolved.push((Id::Profile, Some(name.clone())));
    }

    let paths = [
        Id::ConfigFile,
        Id::DatabricksCliPath,
        Id::OidcTokenFile,
        Id::AzureFederatedTokenFile,
        Id::Log,
    ];
    for id in paths {
        if resolved.iter().any(|(known, _)| *known == id) {
            continue;
        }
        // The CLI's name without a folder is searched on PATH.
        let is_path = |path: &&str| id != Id::DatabricksCliPath || path.contains('/');
        if let Some(path) = settings.text(id).filter(is_path) {
            resolved.push((id, Some(text(&absolute(&expand_home(path, context)?)?)?)));
        }
    }

    let cache = match plan.cache.folder() {
        Some(folder) => text(&absolute(folder)?)?,
        None => "off".to_owned(),
    };
    resolved.push((Id::CacheDir, Some(cache)));
    Ok(resolved)
}

/// The database, and what the target says of the connection to it.
fn resolved_by_requests(update: &Update<'_>, context: &Context) -> Result<Resolved> {
    let session = Session::new(&update.plan, context);
    let deadline = Deadline::after(update.plan.timeout);
    let (endpoint, instance) = match session.database(deadline)? {
        MintTarget::Endpoint { name, .. } => (Some(name), None),
        MintTarget::Instance { name, .. } => (None, Some(name)),
    };
    // A pooled host is recorded as the host.
    let mut resolved = vec![(Id::Endpoint, endpoint), (Id::Instance, instance), (Id::Pooled, None)];

    let connection = session.connection(update.wants(), deadline)?;
    if connection.host.is_some() {
        resolved.push((Id::PgPort, Some(connection.port.to_string())));
    }
    let names = [
        (Id::PgHost, connection.host),
        (Id::PgDatabase, connection.database),
        (Id::PgUser, connection.user),
    ];
    resolved.extend(names.into_iter().filter(|(_, value)| value.is_some()));
    Ok(resolved)
}

/// The value that a setting is recorded with; nothing to record it as unset.
fn recorded_value(
    row: &Setting,
    resolved: &Resolved,
    settings: &Settings,
    flags: &[(Id, String)],
) -> Option<Secret> {
    if let Some((_, value)) = resolved.iter().find(|(id, _)| *id == row.id) {
        return value.clone().map(Secret::new);
    }
    let file = match row.id {
        Id::ClientSecret => rereadable_file(Id::ClientSecretFile, flags),
        Id::Token => rereadable_file(Id::TokenFile, flags),
        _ => None,
    };
    if file.is_some() {
        // The job reads the file itself.
        return None;
    }

    let value = settings.get(row.id)?;
    // The job reads the profile itself, too.
    let is_of_profile = matches!(value.origin, Origin::Profile(_));
    if is_of_profile { None } else { settings.secret(row.id).cloned() }
}

/// Adds the variables that decide how a server is reached, and [`OTHER_VARIABLES`].
fn add_other_variables(variables: &mut Variables, context: &Context) -> Result<()> {
    for name in ROUTE_VARIABLES.into_iter().chain(OTHER_VARIABLES) {
        match context.var(name).map(Path::new) {
            Some(path) if name.starts_with("SSL_") => {
                variables.set(name, Secret::new(text(&absolute(path)?)?));
            }
            Some(value) => variables.set(name, Secret::new(text(value)?)),
            // An empty PATH would hide the Databricks CLI; without it, the platform's applies.
            None if name == "PATH" => (),
            None => variables.unset(name),
        }
    }
    Ok(())
}

/// Where the logins are, by the recorded variables (XDG Base Directory Specification).
fn recorded_state_home(context: &Context) -> Option<PathBuf> {
    let named = context.var("XDG_STATE_HOME").map(PathBuf::from);
    let states = named.or_else(|| Some(context.home()?.join(".local/state")))?;
    Some(states.join("lakebase-token"))
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

/// A value up to its closing quote, and what follows the quote.
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
    #[cfg(unix)]
    use std::process::Command;

    /// Values with characters that systemd or a shell interprets.
    pub const ODD: [&str; 7] = [
        "two words",
        "a\"b'c`d",
        "100%h $HOME ${X} \\",
        "first\nsecond=\"x\"\n",
        "a&b<c>;|#",
        "\ttab é",
        "'",
    ];

    fn env_file() -> EnvFile {
        let variable = |(n, value): (usize, &&str)| (format!("ODD{n}"), Secret::new(*value));
        let empty = [("EMPTY".to_owned(), Secret::new(""))];
        let command = ["/p", "write", "file", "/a file", "--then", "x\ny\"", "--token-file", "/t"];
        EnvFile {
            command: command.map(str::to_owned).to_vec(),
            target: vec!["file".to_owned(), "/a file".to_owned()],
            variables: ODD.iter().enumerate().map(variable).chain(empty).collect(),
        }
    }

    #[test]
    fn a_pipe_cannot_be_read_again_and_a_file_in_memory_can() {
        for (path, expected) in [
            ("-", false),
            ("/dev/stdin", false),
            ("/dev/fd/63", false),
            ("/proc/self/fd/3", false),
            ("/dev/shm/secret", true),
            ("/run/secrets/lakebase", true),
            ("secret", true),
        ] {
            let flags = [(Id::TokenFile, path.to_owned())];
            assert_eq!(rereadable_file(Id::TokenFile, &flags).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn the_file_is_parsed_as_it_was_rendered() {
        let text = env_file().render("x").unwrap();
        let parsed = EnvFile::parse(text.expose());
        assert_eq!(parsed, env_file());
        assert_eq!(parsed.target_path(), Some(Path::new("/a file")));
        let flags = [(Id::Then, "x\ny\"".to_owned()), (Id::TokenFile, "/t".to_owned())];
        assert_eq!(parsed.flags(), flags);
        assert_eq!(parsed.text("EMPTY"), None);
        assert_eq!(parsed.text("ODD0"), Some("two words"));
        for broken in ["A=\"unclosed", "A", "=", "A=\"x\"junk\nB=1"] {
            EnvFile::parse(broken);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_shell_reads_the_same_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), env_file().render("x").unwrap().expose()).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "set -a; . \"$1\"; env -0", "sh"]).arg(file.path()).env_clear();
        let output = shell.output().unwrap();
        let env = String::from_utf8(output.stdout).unwrap();
        for (n, value) in ODD.iter().enumerate() {
            assert!(env.split('\0').any(|line| line == format!("ODD{n}={value}")), "{value:?}");
        }
        assert!(env.split('\0').any(|line| line == "EMPTY="));
    }

    #[test]
    fn a_value_that_the_file_cannot_hold_is_refused() {
        let variables = vec![("PGUSER".to_owned(), Secret::new("a\rb"))];
        let file = EnvFile { variables, ..EnvFile::default() };
        assert!(file.render("x").unwrap_err().message.contains("PGUSER"));
    }
}
