//! From what the user named to what is minted for: endpoint, instance, host, project, or nothing.

use std::fmt::Display;

use serde_json::Value;

use crate::credential::destination::{is_database_host, is_host};
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::{Database, INSTANCES, POSTGRES};
use crate::lakebase::workspace_api::{Api, every_page};
use crate::net::refusal::{CallError, Outcome, require};

/// What the user named, before anything was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseSelector {
    /// An endpoint or instance by name, so there is nothing to find.
    Named(Database),
    /// A project or branch: its read-write endpoint.
    Parent(String),
    /// A Postgres host, of either product.
    Host(String),
    /// Nothing: the only project there is.
    Only,
}

impl DatabaseSelector {
    /// Reads the name of an endpoint, branch or project.
    pub fn parse(text: &str, origin: impl Display) -> Result<DatabaseSelector> {
        let parts: Vec<&str> = text.split('/').collect();
        let ids = |ids: &[&str]| ids.iter().all(|id| is_resource_id(id));
        match parts[..] {
            ["projects", p, "branches", b, "endpoints", e] if ids(&[p, b, e]) => {
                Ok(DatabaseSelector::Named(Database::Endpoint { name: text.to_owned(), host: None }))
            }
            ["projects", p, "branches", b] if ids(&[p, b]) => Ok(DatabaseSelector::Parent(text.to_owned())),
            ["projects", p] if ids(&[p]) => Ok(DatabaseSelector::Parent(text.to_owned())),
            // Databricks Apps put the host into LAKEBASE_ENDPOINT for Provisioned databases.
            [host] if host.contains('.') => DatabaseSelector::host(host, origin),
            [label] if label.starts_with("ep-") => Err(Error::usage(format!(
                "the endpoint from {origin} is only a label: {}",
                redact(label)
            ))
            .because("the API wants the endpoint's resource name, not its uid")
            .hint("projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT, or the whole host with --pg-host")),
            _ => Err(Error::usage(format!(
                "the endpoint from {origin} is not a resource name: {}",
                redact(text)
            ))
            .hint("projects/PROJECT/branches/BRANCH/endpoints/ENDPOINT, or only projects/PROJECT")),
        }
    }

    /// A Postgres host to find the endpoint or instance of.
    pub fn host(text: &str, origin: impl Display) -> Result<DatabaseSelector> {
        check_host(text, origin)?;
        Ok(DatabaseSelector::Host(text.to_ascii_lowercase()))
    }

    /// What the user named, as a part of a cache key.
    pub fn name(&self) -> &str {
        match self {
            DatabaseSelector::Named(database) => database.name(),
            DatabaseSelector::Parent(name) | DatabaseSelector::Host(name) => name,
            DatabaseSelector::Only => "",
        }
    }
}

/// Refuses what cannot be the host of a Lakebase database.
pub fn check_host(text: &str, origin: impl Display) -> Result<()> {
    if !is_host(text) {
        return Err(Error::usage(format!(
            "{origin} is not a host name or an IP address: {}",
            redact(text)
        ))
        .because("a password is sent to one named server only, never to a socket or a list")
        .hint("PGHOST with the host that the workspace shows, or --endpoint projects/PROJECT"));
    }
    refuse_pooler(text, origin)
}

/// The pooled host takes native Postgres passwords only.
fn refuse_pooler(host: &str, origin: impl Display) -> Result<()> {
    const POOLED: &str = "-pooler";
    let (label, rest) = host.split_once('.').unwrap_or((host, ""));
    let ends = label.split_at_checked(label.len().saturating_sub(POOLED.len()));
    let Some((direct, _)) = ends.filter(|(_, end)| end.eq_ignore_ascii_case(POOLED)) else {
        return Ok(());
    };
    Err(Error::usage(format!("{origin} is a pooled host, and those take no OAuth credentials"))
        .because("Lakebase's own PgBouncer knows native Postgres passwords only")
        .hint(format!("{origin}={}", redact(&format!("{direct}.{rest}")))))
}

/// RFC 1123 style, 1 to 63 characters (`service/postgres/model.go`).
fn is_resource_id(id: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&id.len()) && id.bytes().all(legal)
}

/// Finds what the target names; `origin` says in messages where that name came from.
pub fn find(api: &Api<'_>, target: &DatabaseSelector, origin: impl Display) -> Outcome<Database> {
    match target {
        DatabaseSelector::Named(database) => Ok(database.clone()),
        DatabaseSelector::Parent(name) if name.contains("/branches/") => {
            read_write_endpoint(api, name)
        }
        DatabaseSelector::Parent(name) => {
            let project = api.get("to show the project", &format!("{POSTGRES}/{name}"))?;
            read_write_endpoint(api, &default_branch(api, &project, name)?)
        }
        DatabaseSelector::Host(host) => by_host(api, host, origin),
        DatabaseSelector::Only => only_project(api),
    }
}

/// From a host back to what listens there. `instance-<uid>` is one call; there is none for
/// endpoints, so projects, branches and endpoints are listed.
///
/// The whole host must be one that the API states: a name that only begins like a known one could
/// be anybody's, and the password would go there.
fn by_host(api: &Api<'_>, host: &str, origin: impl Display) -> Outcome<Database> {
    let label = host.split('.').next().unwrap_or(host);
    if let Some(uid) = label.strip_prefix("instance-") {
        let uid = uid.strip_prefix("ro-").or(uid.strip_suffix("-ro")).unwrap_or(uid);
        return instance_by_host(api, host, uid, origin);
    }
    for project in projects(api)? {
        for branch in branches(api, name_of(&project, "project")?)? {
            if matches!(state(&branch), Some("ARCHIVED" | "DELETED")) {
                continue;
            }
            for endpoint in endpoints(api, name_of(&branch, "branch")?)? {
                let hosts = endpoint["status"]["hosts"].as_object();
                let stated = hosts.into_iter().flatten().filter_map(|(_, host)| host.as_str());
                let uid = endpoint["uid"].as_str().unwrap_or_default();
                if listens_on(api, host, &stated.collect::<Vec<_>>(), uid, label) {
                    let name = name_of(&endpoint, "endpoint")?.to_owned();
                    return Ok(Database::Endpoint { name, host: Some(host.to_owned()) });
                }
            }
        }
    }
    let words = format!("no endpoint of this workspace listens on {} from {origin}", redact(host));
    let error = Error::usage(words)
        .because("none of the projects that this identity sees has it")
        .hint("name the endpoint: --endpoint projects/PROJECT, or LAKEBASE_ENDPOINT");
    Err(CallError::Other(error))
}

/// Whether a resource listens on this host: the API states it, or it states none, and the host's
/// label is the resource's uid and its domain is Databricks'.
fn listens_on(api: &Api<'_>, host: &str, stated: &[&str], uid: &str, label: &str) -> bool {
    if stated.iter().any(|stated| stated.eq_ignore_ascii_case(host)) {
        return true;
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
) -> Outcome<Database> {
    let path = format!("{INSTANCES}:findByUid?uid={}", percent_encode(uid));
    let answer = api.get("to find the instance", &path)?;
    let read_write = answer["read_write_dns"].as_str().unwrap_or_default();
    // `read_only_dns` is stated only where there are readable secondaries; both spellings of their
    // host are in use.
    let replicas = [
        answer["read_only_dns"].as_str().unwrap_or_default().to_owned(),
        read_write.replacen("instance-", "instance-ro-", 1),
        read_write.replacen('.', "-ro.", 1),
    ];
    let mut stated = vec![read_write];
    stated.extend(replicas.iter().map(String::as_str).filter(|_| !read_write.is_empty()));
    let known = answer["uid"].as_str().unwrap_or(uid);
    if !listens_on(api, host, &stated, known, uid) {
        let error = Error::usage(format!(
            "the instance with the uid in {} from {origin} does not listen on it",
            redact(host)
        ))
        .because(format!("the workspace states {}", redact(stated[0])))
        .hint("name the instance: --instance NAME, or LAKEBASE_INSTANCE");
        return Err(CallError::Other(error));
    }
    let name = match answer["name"].as_str() {
        Some(name) => name.to_owned(),
        None => instance_name(api, uid)?,
    };
    Ok(Database::Instance { name, host: Some(host.to_owned()) })
}

/// The name of an instance whose own answer leaves it out, from the list.
fn instance_name(api: &Api<'_>, uid: &str) -> Outcome<String> {
    let all = every_page(api, "to list instances", INSTANCES, "database_instances")?;
    let found = all.iter().find(|instance| instance["uid"] == uid);
    let found = found.unwrap_or(&Value::Null);
    Ok(require(found, "name", "the workspace's instance")?.to_owned())
}

/// The only project's default branch's read-write endpoint, or a list to choose from.
fn only_project(api: &Api<'_>) -> Outcome<Database> {
    let projects = projects(api)?;
    let names: Vec<&str> = projects.iter().filter_map(|project| project["name"].as_str()).collect();
    match (&projects[..], &names[..]) {
        ([project], [name]) => read_write_endpoint(api, &default_branch(api, project, name)?),
        _ => {
            let found = if names.is_empty() { "no project" } else { "several projects" };
            let mut error = Error::usage(format!(
                "no database was named, and this identity sees {found} in the workspace"
            ));
            for name in names.iter().take(20) {
                error = error.because(redact(name));
            }
            let example = names.first().map_or("projects/PROJECT".to_owned(), |name| redact(name));
            Err(CallError::Other(error.hint(format!("--endpoint {example}, or LAKEBASE_ENDPOINT"))))
        }
    }
}

fn default_branch(api: &Api<'_>, project: &Value, name: &str) -> Outcome<String> {
    if let Some(branch) = project["status"]["default_branch"].as_str().filter(|b| !b.is_empty()) {
        let full = branch.starts_with("projects/");
        let branch = if full { branch.to_owned() } else { format!("{name}/branches/{branch}") };
        return Ok(check_resource_name(&branch, "branch").map(|()| branch)?);
    }
    let branches = branches(api, name)?;
    let default = branches.iter().find(|branch| branch["status"]["default"] == true);
    match default {
        Some(branch) => Ok(name_of(branch, "branch")?.to_owned()),
        None => {
            let error = Error::usage(format!("{name} has no default branch"))
                .hint(format!("--endpoint {name}/branches/BRANCH"));
            Err(CallError::Other(error))
        }
    }
}

/// The enabled read-write endpoint of a branch.
fn read_write_endpoint(api: &Api<'_>, branch: &str) -> Outcome<Database> {
    let endpoints = endpoints(api, branch)?;
    let usable = |endpoint: &&Value| {
        let status = &endpoint["status"];
        status["endpoint_type"] == "ENDPOINT_TYPE_READ_WRITE" && status["disabled"] != true
    };
    let usable: Vec<&Value> = endpoints.iter().filter(usable).collect();
    let error = match usable[..] {
        [endpoint] => {
            let name = name_of(endpoint, "endpoint")?.to_owned();
            let host = endpoint["status"]["hosts"]["host"].as_str().map(str::to_owned);
            return Ok(Database::Endpoint { name, host });
        }
        [] => Error::usage(format!("{branch} has no enabled read-write endpoint")),
        _ => Error::usage(format!("{branch} has several read-write endpoints")),
    };
    let names = endpoints.iter().filter_map(|endpoint| endpoint["name"].as_str());
    let error = names.take(20).fold(error, |error, name| error.because(redact(name)));
    Err(CallError::Other(error.hint(format!("--endpoint {branch}/endpoints/ENDPOINT"))))
}

fn projects(api: &Api<'_>) -> Outcome<Vec<Value>> {
    every_page(api, "to list projects", &format!("{POSTGRES}/projects"), "projects")
}

fn branches(api: &Api<'_>, project: &str) -> Outcome<Vec<Value>> {
    every_page(api, "to list branches", &format!("{POSTGRES}/{project}/branches"), "branches")
}

fn endpoints(api: &Api<'_>, branch: &str) -> Outcome<Vec<Value>> {
    every_page(api, "to list endpoints", &format!("{POSTGRES}/{branch}/endpoints"), "endpoints")
}

fn state(branch: &Value) -> Option<&str> {
    branch["status"]["current_state"].as_str()
}

/// A resource's name, fit to become part of a path.
fn name_of<'v>(resource: &'v Value, what: &str) -> Result<&'v str> {
    let name = require(resource, "name", &format!("the workspace's {what}"))?;
    check_resource_name(name, what).map(|()| name)
}

fn check_resource_name(name: &str, what: &str) -> Result<()> {
    if name.starts_with("projects/") && name.split('/').all(is_resource_id) {
        return Ok(());
    }
    Err(Error::failed(format!("the workspace names a {what} oddly: {}", redact(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_targets() {
        let parse = |text: &str| DatabaseSelector::parse(text, "LAKEBASE_ENDPOINT");
        let endpoint = "projects/p1/branches/production/endpoints/primary";
        let named = Database::Endpoint { name: endpoint.to_owned(), host: None };
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
            "primary",
            "projects/",
            "projects/p/branches",
            "projects/P",
            "projects/p/branches/b/endpoints/e/x",
            "projects/a b",
            "projects/../x",
            "/projects/p",
            "ep-x-pooler.database.us-east-1.cloud.databricks.com",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.kind as u8 == 2 && !error.hints.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_pooled_host_is_refused_with_the_direct_one() {
        let error = refuse_pooler("ep-x-pooler.db.example.com", "PGHOST").unwrap_err();
        assert_eq!(error.hints, ["PGHOST=ep-x.db.example.com"]);
        assert!(refuse_pooler("ep-pooler-x.db.example.com", "PGHOST").is_ok());
    }

    #[test]
    fn hosts_that_are_none_tell_no_endpoint() {
        for host in ["", "/var/run/postgresql", "a,b", "a b", "a\nb"] {
            assert!(DatabaseSelector::host(host, "PGHOST").is_err(), "{host}");
        }
    }
}
