//! The profile: which section of which file is read, and what is said if either is missing.
//!
//! It follows the Databricks SDK for Go (`config/config_file.go`): the requested profile, else the
//! file's `default_profile`, else `DEFAULT`, which no other profile inherits from. Whether a profile
//! is needed at all is decided in `resolve.rs`; `databrickscfg.rs` has the notation of the file.

use std::borrow::Borrow;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::config::databrickscfg::{self, DEFAULT, RESERVED, Section};
use crate::config::files::{cannot_read, read_config};
use crate::config::host_url::WorkspaceUrl;
use crate::config::value::Origin;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::context::{Context, NO_HOME};
use crate::quoting;
use crate::suggest::nearest;

/// What became of the configuration file, so that messages can say why a setting is missing.
#[derive(Debug, Default)]
pub enum ConfigFile {
    /// Workspace or auth method were known without it, and no profile was named.
    #[default]
    NotNeeded,
    /// HOME is not set.
    NoHome,
    Missing(PathBuf),
    /// No profile was named, and there is none called DEFAULT.
    NoDefault {
        path: PathBuf,
        /// The names of the file's profiles.
        profiles: Vec<String>,
    },
    Read,
}

impl ConfigFile {
    /// Whether the file, from which no profile was read, has this one.
    pub fn has_profile(&self, name: &str) -> bool {
        matches!(self, ConfigFile::NoDefault { profiles, .. } if profiles.iter().any(|p| p == name))
    }
}

/// The profile that a flag or variable names.
#[derive(Clone, Copy)]
pub struct Requested<'r> {
    pub name: &'r str,
    pub origin: &'r Origin,
    /// The workspace, if it is known before the profile is read.
    pub host: Option<&'r str>,
}

/// A profile as it is written in the file.
pub struct Profile {
    pub name: String,
    pub pairs: Vec<(String, String)>,
}

impl Profile {
    pub fn host(&self) -> Option<&str> {
        self.value("host")
    }

    /// The host that the profile's owner meant, however its key is spelt: a secret is sent to no other.
    pub fn meant_host(&self) -> Option<&str> {
        let is_host = |key: &str| {
            let letters = key.chars().filter(char::is_ascii_alphanumeric);
            let letters = letters.collect::<String>().to_ascii_lowercase();
            ["host", "databrickshost", "workspaceurl", "url"].contains(&letters.as_str())
        };
        let mut hosts = self.pairs.iter().filter(|(key, value)| is_host(key) && !value.is_empty());
        self.host().or_else(|| hosts.next().map(|(_, value)| value.as_str()))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(key, _)| key == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Reads the profile from the file at `path`, which is missing if HOME is not set. It is an error
/// only if the requested profile cannot be read, or the file is malformed.
pub fn read_profile(
    path: Option<PathBuf>,
    requested: Option<Requested<'_>>,
    context: &Context,
) -> Result<(ConfigFile, Option<Profile>)> {
    let Some(path) = path else {
        return match requested {
            None => Ok((ConfigFile::NoHome, None)),
            Some(_) => Err(Error::usage(format!("{NO_HOME}, so there is no ~/.databrickscfg"))
                .hint("DATABRICKS_CONFIG_FILE=/path/to/.databrickscfg")),
        };
    };
    let Some(text) = read_config(&path)? else {
        if let Some(requested) = requested {
            report_missing_file(&path, requested, context)?;
        }
        return Ok((ConfigFile::Missing(path), None));
    };

    let selected = match requested {
        Some(requested) => Some(requested.name),
        None => default_profile(&text).map_err(|e| cannot_read(&path, e.message))?,
    };
    let name = selected.unwrap_or(DEFAULT);
    if name == RESERVED {
        return Err(Error::usage(format!("{RESERVED} is a reserved section, not a profile")));
    }

    let section = databrickscfg::section(&text, name).map_err(|e| cannot_read(&path, e.message))?;
    if section.is_empty() {
        if selected.is_some() {
            return Err(unknown_profile(&path, name, requested, &text, context));
        }
        let profiles = profile_names(&text).into_iter().map(str::to_owned).collect();
        return Ok((ConfigFile::NoDefault { path, profiles }, None));
    }

    let pairs = section.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let profile = Profile { name: name.to_owned(), pairs: pairs.collect() };
    Ok((ConfigFile::Read, Some(profile)))
}

/// The profile that the Databricks CLI's settings in the file name.
fn default_profile(text: &str) -> Result<Option<&str>> {
    let section = databrickscfg::section(text, RESERVED)?;
    let is_default = |(key, value): &&(&str, &str)| *key == "default_profile" && !value.is_empty();
    Ok(section.iter().find(is_default).map(|(_, value)| value.trim()))
}

/// The SDKs go on without the file. For a profile that is named by variable so do we, with a note;
/// for one that is named by flag it is an error.
fn report_missing_file(file: &Path, requested: Requested<'_>, context: &Context) -> Result<()> {
    let path = file.display();
    let name = redact(requested.name);
    let origin = requested.origin;
    if matches!(origin, Origin::Flag(_)) {
        let error = Error::usage(format!("profile {name} from {origin}: there is no {path}"));
        return Err(with_ways_to_create(error, file, requested, context));
    }
    context.note(&format!("profile {name} from {origin} is not used: there is no {path}"));
    Ok(())
}

fn unknown_profile(
    file: &Path,
    name: &str,
    requested: Option<Requested<'_>>,
    text: &str,
    context: &Context,
) -> Error {
    let path = file.display();
    let shown = redact(name);
    let origin: &dyn Display = match &requested {
        Some(requested) => requested.origin,
        None => &"its default_profile",
    };
    let error = Error::usage(format!("{path} has no profile {shown}"))
        .because(format!("profile {shown} comes from {origin}"))
        .because(format!("the file has {}", redact(&list(&profile_names(text)))));

    let names = profile_names(text);
    let same = names.iter().copied().find(|known| known.eq_ignore_ascii_case(name));
    let near = same.or_else(|| nearest(name, names.into_iter()));
    let error = match near {
        Some(near) => {
            let near = quoting::sh_word(near);
            error.hint(format!("--profile {near}, or DATABRICKS_CONFIG_PROFILE={near}"))
        }
        None => error,
    };
    match requested {
        // With a workspace, a new profile is meant.
        Some(requested) if near.is_none() || requested.host.is_some() => {
            with_ways_to_create(error, file, requested, context)
        }
        None if near.is_none() => error.hint("--profile NAME, with one of these names"),
        _ => error,
    }
}

/// Hints that create the profile, or do without it.
fn with_ways_to_create(
    error: Error,
    file: &Path,
    requested: Requested<'_>,
    context: &Context,
) -> Error {
    // Both may come from a variable, and a person pastes the hints into a shell.
    let name = quoting::sh_word(&redact(requested.name));
    let url = requested.host.map_or("https://WORKSPACE-URL".to_owned(), redact);
    let url = quoting::sh_word(&url);
    let mut error = error;
    if let Some(host) = requested.host {
        let section = format!("[{}]", redact(requested.name));
        let lines = [section, format!("host = {}", redact(host))].map(|line| quoting::sh(&line));
        let file = quoting::sh(&file.to_string_lossy());
        error = error.hint(format!("printf '%s\\n' '' {} >>{file}", lines.join(" ")));
    }
    if context.find_program("databricks").is_some() {
        error = error.hint(format!("databricks auth login --profile {name} --host {url}"));
    }
    let unset = match requested.origin {
        Origin::Env(variable) => format!("env -u {variable} "),
        _ => String::new(),
    };
    error.hint(format!("{unset}lakebase-token login --host {url}  # without a profile"))
}

fn profile_names(text: &str) -> Vec<&str> {
    let names = databrickscfg::sections(text).unwrap_or_default();
    names.into_iter().filter(|name| *name != RESERVED).collect()
}

/// The names of profiles in a message.
pub fn list<T: Borrow<str>>(names: &[T]) -> String {
    if names.is_empty() { "no profile at all".to_owned() } else { names.join(", ") }
}

/// The profiles of this file that are for a workspace.
pub fn profiles_at<'t>(text: &'t str, workspace: &str) -> Vec<&'t str> {
    let is_at =
        |name: &&str| is_at(&databrickscfg::section(text, name).unwrap_or_default(), workspace);
    profile_names(text).into_iter().filter(is_at).collect()
}

fn is_at(section: &Section<'_>, workspace: &str) -> bool {
    let mut hosts = section.iter().filter(|(key, _)| *key == "host");
    hosts.any(|(_, url)| {
        WorkspaceUrl::parse(url, Origin::Default).is_ok_and(|host| host.url == workspace)
    })
}

/// Whether a profile of this file is a login of the Databricks CLI at this workspace: `databricks
/// auth login` leaves one, with this `auth_type`.
pub fn has_cli_login(text: &str, workspace: &str) -> bool {
    let names = databrickscfg::sections(text).unwrap_or_default();
    names.into_iter().any(|name| {
        let section = databrickscfg::section(text, name).unwrap_or_default();
        let is_cli =
            |(key, value): &(&str, &str)| *key == "auth_type" && *value == "databricks-cli";
        section.iter().any(is_cli) && is_at(&section, workspace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_login_of_the_cli_at_this_workspace_counts() {
        for (section, is_login) in [
            ("host = https://x\nauth_type = databricks-cli\n", true),
            ("host = https://y\nauth_type = databricks-cli\n", false),
            ("host = https://x\nauth_type = pat\n", false),
            ("host = https://x\ncluster_id = databricks-cli\n", false),
        ] {
            let text = format!("[other]\nhost = https://x\n[a]\n{section}");
            assert_eq!(has_cli_login(&text, "https://x"), is_login, "{section}");
        }
    }
}
