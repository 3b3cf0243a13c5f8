//! What the user may have meant with a name that the workspace does not know: the endpoints of the same branch,
//! the branches of the same project, the projects; or the instances.

use crate::credential::redact::redact;
use crate::error::Error;
use crate::lakebase::listing::{
    branches, check_resource_name, endpoints, instances, projects, with_names,
};
use crate::lakebase::resolve::DatabaseSelector;
use crate::lakebase::workspace_api::Api;
use crate::net::refusal::Outcome;
use crate::quoting::sh_word;
use crate::suggest::nearest;

/// Names of one kind that exist.
pub struct Alternatives {
    /// What they are, in the plural, and where: `branches of projects/shop`.
    what: String,
    names: Vec<String>,
    /// The flag that takes one of them.
    flag: &'static str,
    /// Whether the project exists, and a part of the missing name below it may just be being created.
    pub in_existing_project: bool,
    /// The flag for a database of the other product that has the very name.
    namesake: Option<String>,
}

impl Alternatives {
    /// Lists those beside a name that is missing.
    pub fn of(api: &Api<'_>, missing: &DatabaseSelector) -> Outcome<Alternatives> {
        if missing.is_instance() {
            let found = Alternatives::of_instance(api, missing.name())?;
            // Without instances, the database is one of a project.
            if !found.names.is_empty() {
                return Ok(found);
            }
        }
        Alternatives::of_resource(api, missing.name())
    }

    fn of_instance(api: &Api<'_>, missing: &str) -> Outcome<Alternatives> {
        let names = instances(api)?.into_iter().filter_map(|instance| instance.name).collect();
        let project = format!("projects/{missing}");
        let projects = projects(api).unwrap_or_default();
        let is_project = projects.iter().any(|known| known.name.as_ref() == Some(&project));
        Ok(Alternatives {
            what: "instances".to_owned(),
            names,
            flag: "--instance",
            in_existing_project: false,
            namesake: is_project.then(|| format!("--endpoint {project}")),
        })
    }

    /// The same for a project, a branch or an endpoint: what there is beside the first part that does not exist.
    fn of_resource(api: &Api<'_>, missing: &str) -> Outcome<Alternatives> {
        let parts: Vec<&str> = missing.split('/').collect();
        let parent = |ids: usize| parts.get(..2 * ids).map(|parts| parts.join("/"));
        let mut found = Alternatives {
            what: "projects".to_owned(),
            names: names_of(projects(api)?.into_iter().map(|project| project.name)),
            flag: "--endpoint",
            in_existing_project: false,
            namesake: None,
        };

        let Some(project) = parent(1).filter(|name| found.names.contains(name)) else {
            let id = parts.get(1).copied().unwrap_or_default();
            let instances = instances(api).unwrap_or_default();
            let is_instance = instances.iter().any(|known| known.name.as_deref() == Some(id));
            found.namesake = is_instance.then(|| format!("--instance {id}"));
            return Ok(found);
        };
        found.in_existing_project = parts.len() > 2;
        found.what = format!("branches of {project}");
        found.names = names_of(branches(api, &project)?.into_iter().map(|branch| branch.name));

        let Some(branch) = parent(2).filter(|name| found.names.contains(name)) else {
            return Ok(found);
        };
        found.what = format!("endpoints of {branch}");
        found.names = names_of(endpoints(api, &branch)?.into_iter().map(|endpoint| endpoint.name));
        // A list may still have what is gone.
        found.names.retain(|name| name != missing);
        Ok(found)
    }

    /// Adds them to the error for the missing name.
    pub fn explain(&self, error: Error, missing: &DatabaseSelector) -> Error {
        let Alternatives { what, names, flag, namesake, .. } = self;
        let error = if names.is_empty() {
            error.because(format!("this identity sees no {what} in the workspace"))
        } else {
            let words = format!("this identity sees these {what} in the workspace:");
            with_names(error.because(words), names.iter().map(String::as_str))
        };
        let nearest = nearest(missing.name(), names.iter().map(String::as_str));
        match (namesake, nearest.or(names.first().map(String::as_str))) {
            (Some(flag), _) => error.hint(flag),
            (None, Some(name)) => error.hint(format!("{flag} {}", sh_word(&redact(name)))),
            (None, None) => error,
        }
    }
}

/// The names that can be pasted into a shell and a path.
fn names_of(names: impl Iterator<Item = Option<String>>) -> Vec<String> {
    names.flatten().filter(|name| check_resource_name(name, "resource").is_ok()).collect()
}
