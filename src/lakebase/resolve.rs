//! Resolves what the user named (endpoint, instance, host, project or nothing) to the database that
//! credentials are minted for.
//!
//! `plan.rs` builds the selector from the settings, `lakebase/credentials.rs` mints, `session.rs`
//! caches the result.

use std::fmt::Display;

use serde_json::Value;

use crate::config::value::Origin;
use crate::credential::destination::{is_database_host, is_host};
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::{INSTANCES, MintTarget, POSTGRES};
use crate::lakebase::listing::{
    Endpoint, Project, branches, check_resource_name, checked_name, endpoints, instances,
    is_resource_id, projects, with_names,
};
use crate::lakebase::pooled::direct_host;
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::{CallError, Outcome};
use crate::quoting::sh_word;

/// What the user named, before any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseSelector {
    /// An endpoint or instance by its name: there is nothing to resolve.
    Named(MintTarget),
    /// The read-write endpoint of this project or branch.
    Parent(String),
    /// The endpoint or instance with this Postgres host.
    Host(String),
    /// Nothing: the only project of the workspace.
    Only,
}

impl DatabaseSelector {
    /// Parses the name of an endpoint, branch or project.
    pub fn parse(text: &str, origin: &Origin) -> Result<DatabaseSelector> {
        let mut parts: Vec<&str> = text.split('/').collect();
        // A database or a role belongs to its branch.
        if let ["projects", _, "branches", _, "databases" | "roles", _] = parts[..] {
            parts.truncate(4);
        }
        let ids = |ids: &[&str]| ids.iter().all(|id| is_resource_id(id));
        match parts[..] {
            ["projects", p, "branches", b, "endpoints", e] if ids(&[p, b, e]) => {
                Ok(DatabaseSelector::endpoint(p, b, e))
            }
            ["projects", p, "branches", b] if ids(&[p, b]) => {
                Ok(DatabaseSelector::Parent(parts.join("/")))
            }
            ["projects", p] if ids(&[p]) => Ok(DatabaseSelector::Parent(text.to_owned())),
            // Databricks Apps set LAKEBASE_ENDPOINT to the host of a Provisioned instance.
            [host] if host.contains('.') => DatabaseSelector::host(host, origin),
            [label] if is_label(label) => Err(label_error(label, origin)),
            [p] if ids(&[p]) => Ok(DatabaseSelector::Parent(format!("projects/{p}"))),
            [p, b] if p != "projects" && ids(&[p, b]) => {
                Ok(DatabaseSelector::Parent(format!("projects/{p}/branches/{b}")))
            }
            [p, b, e] if p != "projects" && ids(&[p, b, e]) => {
                Ok(DatabaseSelector::endpoint(p, b, e))
            }
            // A connection URL, which has slashes too.
            _ if text.contains("://") => DatabaseSelector::host(text, origin),
            _ => Err(Error::usage(format!(
                "the endpoint from {origin} is not a resource name: {}",
                redact(text)
            ))
            .hint("projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT, or only projects/PROJECT")),
        }
    }

    fn endpoint(project: &str, branch: &str, endpoint: &str) -> DatabaseSelector {
        let name = format!("projects/{project}/branches/{branch}/endpoints/{endpoint}");
        DatabaseSelector::Named(MintTarget::Endpoint { name, host: None })
    }

    /// Checks a Postgres host whose endpoint or instance must be resolved.
    pub fn host(text: &str, origin: &Origin) -> Result<DatabaseSelector> {
        check_host(text, origin)?;
        Ok(DatabaseSelector::Host(text.to_ascii_lowercase()))
    }

    /// Whether it is certainly a Provisioned instance.
    pub fn is_instance(&self) -> bool {
        match self {
            DatabaseSelector::Named(MintTarget::Instance { .. }) => true,
            DatabaseSelector::Host(host) => host.starts_with("instance-"),
            _ => false,
        }
    }

    /// The name in the settings, for cache keys.
    pub fn name(&self) -> &str {
        match self {
            DatabaseSelector::Named(database) => database.name(),
            DatabaseSelector::Parent(name) | DatabaseSelector::Host(name) => name,
            DatabaseSelector::Only => "",
        }
    }
}

fn label_error(label: &str, origin: &Origin) -> Error {
    Error::usage(format!("the endpoint from {origin} is only a label: {}", redact(label)))
        .because("the API needs the endpoint's resource name, not its uid")
        .hint(
            "projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT, or the whole host with --pg-host",
        )
}

/// Whether this is the first label of a Lakebase host, without the domain.
fn is_label(text: &str) -> bool {
    (text.starts_with("ep-") || text.starts_with("instance-")) && !text.contains('.')
}

/// What people write in the place of a host, and what they mean.
fn mistaken_host(text: &str, origin: &Origin) -> Option<(&'static str, String)> {
    let named = |host: String| origin.assignment(&host).unwrap_or(format!("PGHOST={host}"));
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = redact(host.split(':').next().unwrap_or_default());
        return Some(match scheme {
            "postgres" | "postgresql" => ("is a connection URL", named(host)),
            // Each Lakebase host has this label, and no workspace has it.
            _ if host.contains(".database.") => ("is a URL", named(host)),
            _ => {
                let words = "if it is the workspace; the database is --endpoint projects/PROJECT";
                ("is a URL", format!("DATABRICKS_HOST=https://{host}, {words}"))
            }
        });
    }
    let bare = text.trim_matches(['"', '\'']);
    if bare != text {
        return Some(("has quotes around it", named(sh_word(&redact(bare)))));
    }
    is_label(text).then(|| {
        let words = "the whole host as the workspace shows it, or --endpoint projects/PROJECT";
        ("is only the first label of a host", words.to_owned())
    })
}

/// Refuses a text that cannot be the host of a Lakebase database.
pub fn check_host(text: &str, origin: &Origin) -> Result<()> {
    if let Some((what, hint)) = mistaken_host(text, origin) {
        let shown = redact(text);
        return Err(Error::usage(format!("{origin} {what}: {shown}")).hint(hint));
    }
    if !is_host(text) {
        return Err(Error::usage(format!(
            "{origin} is not a host name or an IP address: {}",
            redact(text)
        ))
        .because("a password is sent to one named server only, never to a socket or a list")
        .hint(match origin {
            Origin::Env(name) => format!(
                "unset {name}  # the host is then that of --endpoint, or of the only project"
            ),
            _ => "--pg-host with the host that the workspace shows, or --endpoint projects/PROJECT"
                .to_owned(),
        }));
    }
    Ok(())
}

/// Resolves a selector. `origin` is the setting that it comes from, for messages.
pub fn database(
    api: &Api<'_>,
    selector: &DatabaseSelector,
    origin: impl Display,
) -> Outcome<MintTarget> {
    match selector {
        DatabaseSelector::Named(database) => Ok(database.clone()),
        DatabaseSelector::Parent(name) if name.contains("/branches/") => {
            read_write_endpoint(api, name)
        }
        DatabaseSelector::Parent(name) => {
            let project = api.get("to show the project", &format!("{POSTGRES}/{name}"))?;
            let project = Project::of(&project);
            read_write_endpoint(api, &default_branch(api, &project, name)?)
        }
        DatabaseSelector::Host(host) => database_by_host(api, host, origin),
        DatabaseSelector::Only => only_project(api),
    }
}

/// Resolves a Postgres host. For `instance-<uid>` this is one request. The API has no such request for
/// endpoints, so projects, branches and endpoints are listed.
///
/// The API must state the whole host: another server may have a host with the same first label, and
/// the password would go to that server.
fn database_by_host(api: &Api<'_>, host: &str, origin: impl Display) -> Outcome<MintTarget> {
    let label = host.split('.').next().unwrap_or(host);
    if let Some(uid) = label.strip_prefix("instance-") {
        let uid = uid.strip_prefix("ro-").or(uid.strip_suffix("-ro")).unwrap_or(uid);
        return instance_by_host(api, host, uid, origin);
    }

    let mut names = Vec::new();
    let mut closed = Vec::new();
    for project in projects(api)? {
        let project = checked_name(&project.name, "project")?.to_owned();
        let branches = if_open(branches(api, &project), &project, &mut closed)?;
        names.push(project);
        for branch in &branches {
            let branch = checked_name(&branch.name, "branch")?;
            for endpoint in if_open(endpoints(api, branch), branch, &mut closed)? {
                let uid = endpoint.uid.as_deref().unwrap_or_default();
                if listens_on(api, host, &endpoint.hosts, uid, label) {
                    let name = checked_name(&endpoint.name, "endpoint")?.to_owned();
                    return Ok(MintTarget::Endpoint { name, host: Some(host.to_owned()) });
                }
            }
        }
    }

    let message = format!(
        "no endpoint of this workspace listens on {}, which comes from {origin}",
        redact(host)
    );
    let example = names.first().map_or("projects/PROJECT", String::as_str);
    let error = Error::usage(message)
        .because("no project that this identity may see has an endpoint with this host:");
    let error = with_names(error, names.iter().map(String::as_str));
    let error = match &closed[..] {
        [] => error,
        _ => {
            let error = error.because("the workspace does not show what is in these of them:");
            with_names(error, closed.iter().map(String::as_str))
        }
    };
    let error = error
        .hint(format!("--endpoint {example}, and no {origin}, if that is of another database"))
        .hint(format!("--endpoint {example} --pg-host {}, if it is a tunnel", redact(host)));
    Err(CallError::Other(error))
}

/// What a list has. One that this identity may not see, or whose parent is gone, is empty: the host may be
/// elsewhere. Its name is added to `closed`.
fn if_open<T>(listed: Outcome<Vec<T>>, parent: &str, closed: &mut Vec<String>) -> Outcome<Vec<T>> {
    match listed {
        Err(failure) if failure.is_forbidden() || failure.is_missing() => {
            closed.push(parent.to_owned());
            Ok(Vec::new())
        }
        listed => listed,
    }
}

/// Whether an endpoint or instance listens on this host. The API must state this host or, if it is a pooled
/// host, its direct host. If the API states no host, the host's first label must be the uid, and the host
/// must be one that `is_database_host` accepts.
fn listens_on(api: &Api<'_>, host: &str, stated: &[String], uid: &str, label: &str) -> bool {
    if stated.iter().any(|stated| stated.eq_ignore_ascii_case(host)) {
        return true;
    }
    if let Some(direct) = direct_host(host) {
        let label = direct.split('.').next().unwrap_or_default();
        return is_database_host(host, api.url) && listens_on(api, &direct, stated, uid, label);
    }
    stated.iter().all(|stated| stated.is_empty())
        && !uid.is_empty()
        && uid.eq_ignore_ascii_case(label)
        && is_database_host(host, api.url)
}

fn instance_by_host(
    api: &Api<'_>,
    host: &str,
    uid: &str,
    origin: impl Display,
) -> Outcome<MintTarget> {
    let path = format!("{INSTANCES}:findByUid?uid={}", percent_encode(uid));
    let instance = api.get("to find the instance", &path)?;
    let read_write = instance["read_write_dns"].as_str().unwrap_or_default();
    let stated_uid = instance["uid"].as_str().unwrap_or(uid);
    if !listens_on(api, host, &hosts_of_instance(&instance), stated_uid, uid) {
        let reason = if read_write.is_empty() {
            "the workspace states no host for the instance with this uid".to_owned()
        } else {
            format!("the host of the instance with this uid is {}", redact(read_write))
        };
        let error = Error::usage(format!(
            "no instance of this workspace listens on {} from {origin}",
            redact(host)
        ))
        .because(reason)
        .hint("name the instance: --instance NAME, or LAKEBASE_INSTANCE");
        return Err(CallError::Other(error));
    }

    let name = match instance["name"].as_str() {
        Some(name) => name.to_owned(),
        None => instance_name(api, uid)?,
    };
    Ok(MintTarget::Instance { name, host: Some(host.to_owned()) })
}

/// The hosts that the API states for an instance, or none. It states `read_only_dns` only if there are
/// readable secondaries, whose hosts have either of two spellings.
fn hosts_of_instance(instance: &Value) -> Vec<String> {
    let host = |field: &str| instance[field].as_str().unwrap_or_default().to_owned();
    let read_write = host("read_write_dns");
    if read_write.is_empty() {
        return Vec::new();
    }
    let replicas =
        [read_write.replacen("instance-", "instance-ro-", 1), read_write.replacen('.', "-ro.", 1)];
    [read_write, host("read_only_dns")].into_iter().chain(replicas).collect()
}

/// The name of an instance from the list, since `findByUid` may leave it out.
fn instance_name(api: &Api<'_>, uid: &str) -> Outcome<String> {
    let meant = instances(api)?.into_iter().find(|instance| instance.uid.as_deref() == Some(uid));
    let name = meant.and_then(|instance| instance.name);
    Ok(name.ok_or_else(|| Error::failed("the workspace's instance has no field `name`"))?)
}

/// The read-write endpoint of the only project's default branch. With several projects, the error
/// lists their names.
fn only_project(api: &Api<'_>) -> Outcome<MintTarget> {
    let projects = projects(api)?;
    let names: Vec<&str> = projects.iter().filter_map(|project| project.name.as_deref()).collect();
    if let [project] = &projects[..] {
        let name = checked_name(&project.name, "project")?;
        return read_write_endpoint(api, &default_branch(api, project, name)?);
    }

    let count = if names.is_empty() { "no project" } else { "several projects" };
    let message = format!("no database is named, and this identity sees {count} in the workspace");
    // A hint is pasted into a shell.
    let pasteable = names.iter().find(|name| check_resource_name(name, "project").is_ok());
    let example = pasteable.unwrap_or(&"projects/PROJECT");
    let error = with_names(Error::usage(message), names.iter().copied())
        .hint(format!("--endpoint {example}, or LAKEBASE_ENDPOINT"));
    Err(CallError::Other(error))
}

fn default_branch(api: &Api<'_>, project: &Project, name: &str) -> Outcome<String> {
    if let Some(branch) = &project.default_branch {
        let is_full_name = branch.starts_with("projects/");
        let branch =
            if is_full_name { branch.clone() } else { format!("{name}/branches/{branch}") };
        return Ok(check_resource_name(&branch, "branch").map(|()| branch)?);
    }

    let branches = branches(api, name)?;
    match branches.iter().find(|branch| branch.is_default) {
        Some(branch) => Ok(checked_name(&branch.name, "branch")?.to_owned()),
        None => {
            let error = Error::usage(format!("{name} has no default branch"))
                .hint(format!("--endpoint {name}/branches/BRANCH"));
            Err(CallError::Other(error))
        }
    }
}

/// The enabled read-write endpoint of a branch.
fn read_write_endpoint(api: &Api<'_>, branch: &str) -> Outcome<MintTarget> {
    let endpoints = endpoints(api, branch)?;
    let usable: Vec<&Endpoint> =
        endpoints.iter().filter(|endpoint| endpoint.is_usable_read_write).collect();
    let message = match usable[..] {
        [endpoint] => {
            let name = checked_name(&endpoint.name, "endpoint")?.to_owned();
            return Ok(MintTarget::Endpoint { name, host: endpoint.host.clone() });
        }
        [] => format!("{branch} has no enabled read-write endpoint"),
        _ => format!("{branch} has several read-write endpoints"),
    };

    let names = endpoints.iter().filter_map(|endpoint| endpoint.name.as_deref());
    let error = with_names(Error::usage(message), names)
        .hint(format!("--endpoint {branch}/endpoints/ENDPOINT"));
    Err(CallError::Other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_names_are_parsed_and_other_texts_refused() {
        let parse = |text: &str| DatabaseSelector::parse(text, &Origin::Env("LAKEBASE_ENDPOINT"));
        let endpoint = "projects/p1/branches/production/endpoints/primary";
        let named = MintTarget::Endpoint { name: endpoint.to_owned(), host: None };
        assert_eq!(parse(endpoint).unwrap(), DatabaseSelector::Named(named));
        assert_eq!(parse("projects/p").unwrap(), DatabaseSelector::Parent("projects/p".to_owned()));
        assert_eq!(
            parse("projects/p/branches/b").unwrap(),
            DatabaseSelector::Parent("projects/p/branches/b".to_owned())
        );
        let host = "Instance-1.database.cloud.databricks.com";
        assert_eq!(parse(host).unwrap(), DatabaseSelector::Host(host.to_ascii_lowercase()));
        for text in [
            "",
            "ep-cool-sky-1",
            "projects/",
            "projects/p/branches",
            "projects/P",
            "projects/p/branches/b/endpoints/e/x",
            "projects/a b",
            "projects/../x",
            "/projects/p",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind as u8 == 2 && !error.hints.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_host_is_refused() {
        for host in ["", "/var/run/postgresql", "a,b", "a b", "a\nb"] {
            assert!(DatabaseSelector::host(host, &Origin::Env("PGHOST")).is_err(), "{host}");
        }
    }
}
