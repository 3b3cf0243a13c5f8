//! The workspace's lists: projects, their branches, their endpoints; instances. What is deleted may still be in a
//! list for a while, and is left out. Which of them is meant is `resolve.rs`'s business. Fields are those of databricks-sdk-go `service/postgres` and `service/database`.

use serde_json::Value;

use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::lakebase::credentials::{INSTANCES, POSTGRES, hosts_of_endpoint};
use crate::lakebase::workspace_api::{Api, every_page, listed_text};
use crate::net::refusal::Outcome;

/// How many names an error lists to choose from.
const MAX_LISTED_NAMES: usize = 20;

/// What is kept of a project in an answer. No text is checked yet.
pub struct Project {
    pub name: Option<String>,
    pub default_branch: Option<String>,
}

pub struct Branch {
    pub name: Option<String>,
    pub is_default: bool,
}

pub struct Endpoint {
    pub name: Option<String>,
    pub uid: Option<String>,
    pub host: Option<String>,
    /// Every host that the API states for it, that of `host` among them.
    pub hosts: Vec<String>,
    pub is_usable_read_write: bool,
}

/// A Provisioned instance.
pub struct Instance {
    pub name: Option<String>,
    pub uid: Option<String>,
}

impl Project {
    pub fn of(project: &Value) -> Project {
        Project {
            name: listed_text(&project["name"]),
            default_branch: listed_text(&project["status"]["default_branch"]),
        }
    }
}

impl Branch {
    fn of(branch: &Value) -> Branch {
        Branch {
            name: listed_text(&branch["name"]),
            is_default: branch["status"]["default"] == true,
        }
    }
}

impl Endpoint {
    fn of(endpoint: &Value) -> Endpoint {
        let status = &endpoint["status"];
        let is_read_write = status["endpoint_type"] == "ENDPOINT_TYPE_READ_WRITE";
        Endpoint {
            name: listed_text(&endpoint["name"]),
            uid: listed_text(&endpoint["uid"]),
            host: listed_text(&status["hosts"]["host"]),
            hosts: hosts_of_endpoint(endpoint),
            is_usable_read_write: is_read_write && status["disabled"] != true,
        }
    }
}

pub fn projects(api: &Api<'_>) -> Outcome<Vec<Project>> {
    let keep = |project: &Value| (!is_gone(project)).then(|| Project::of(project));
    let path = format!("{POSTGRES}/projects");
    let listed = every_page(api, "to list projects", &path, "projects", keep)?;
    Ok(listed.into_iter().flatten().collect())
}

pub fn branches(api: &Api<'_>, project: &str) -> Outcome<Vec<Branch>> {
    let keep = |branch: &Value| (!is_gone(branch)).then(|| Branch::of(branch));
    let path = format!("{POSTGRES}/{project}/branches");
    let listed = every_page(api, "to list branches", &path, "branches", keep)?;
    Ok(listed.into_iter().flatten().collect())
}

/// Whether a listed project or branch is deleted or archived.
fn is_gone(listed: &Value) -> bool {
    let is_deleted = listed["delete_time"].as_str().is_some_and(|time| !time.is_empty());
    let state = listed["status"]["current_state"].as_str();
    is_deleted || matches!(state, Some("ARCHIVED" | "DELETED"))
}

pub fn endpoints(api: &Api<'_>, branch: &str) -> Outcome<Vec<Endpoint>> {
    let path = format!("{POSTGRES}/{branch}/endpoints");
    every_page(api, "to list endpoints", &path, "endpoints", Endpoint::of)
}

pub fn instances(api: &Api<'_>) -> Outcome<Vec<Instance>> {
    let keep = |instance: &Value| Instance {
        name: listed_text(&instance["name"]),
        uid: listed_text(&instance["uid"]),
    };
    every_page(api, "to list instances", INSTANCES, "database_instances", keep)
}

/// RFC 1123 style, 1 to 63 characters (databricks-sdk-go `service/postgres/model.go`).
pub fn is_resource_id(id: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&id.len()) && id.bytes().all(legal)
}

/// A resource's name, checked: it becomes part of a path.
pub fn checked_name<'n>(name: &'n Option<String>, what: &str) -> Result<&'n str> {
    let name = name.as_deref();
    let name =
        name.ok_or_else(|| Error::failed(format!("the workspace's {what} has no field `name`")))?;
    check_resource_name(name, what).map(|()| name)
}

pub fn check_resource_name(name: &str, what: &str) -> Result<()> {
    if name.starts_with("projects/") && name.split('/').all(is_resource_id) {
        return Ok(());
    }
    Err(Error::failed(format!("the workspace gives a {what} an invalid name: {}", redact(name))))
}

/// Adds names to choose from to an error.
pub fn with_names<'v>(error: Error, names: impl Iterator<Item = &'v str>) -> Error {
    names.take(MAX_LISTED_NAMES).fold(error, |error, name| error.because(redact(name)))
}
