//! The repository itself: what is agreed upon and a compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{has, repository, words};

/// The layers of `src/`, low to high, by the beginnings of module paths. A file may import from its
/// own layer and from lower ones. The longest beginning counts.
const LAYERS: [&[&str]; 12] = [
    &[
        "error",
        "suggest",
        "quoting",
        "credential::secret",
        "credential::redact",
        "credential::encoding",
        "credential::destination",
    ],
    &["platform"],
    &["credential"],
    &["net", "login::store", "login::record"],
    &["config"],
    &["cache", "lakebase", "login"],
    &["auth"],
    &["formats", "plan", "session"],
    &["targets"],
    &["service"],
    &["commands"],
    &["cli"],
];

/// Files below a folder, with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|known| known == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The code of a file without its tests and comments.
fn code_of(path: &Path) -> String {
    let text = read(path);
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code = code.split("#[cfg(all(test").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// All modules of `src/` but the two roots, with their code.
fn modules() -> BTreeMap<String, String> {
    let source = repository().join("src");
    let mut modules = BTreeMap::new();
    for path in files("src", "rs") {
        let relative = path.strip_prefix(&source).unwrap().with_extension("");
        let name = relative.to_str().unwrap().replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        if !["lib", "main"].contains(&name.as_str()) {
            modules.insert(name, code_of(&path));
        }
    }
    modules
}

/// The paths behind `crate::` in a file, with lists in braces taken apart.
fn imported_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        let head = rest[..end].trim_end_matches(':');
        match rest[end..].strip_prefix('{') {
            Some(list) => {
                let list = &list[..list.find('}').unwrap()];
                let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
                paths.extend(items.map(|item| format!("{head}::{item}")));
            }
            None => paths.push(head.to_owned()),
        }
    }
    paths
}

/// Which module imports which.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules();
    let module_of = |path: &str| {
        // What `system` is depends on the platform; the others' files import no more than Unix'.
        let path = path.replace("platform::system", "platform::unix");
        let mut path = path.as_str();
        loop {
            if modules.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let imports_of = |(name, code): (&String, &String)| {
        let imported = imported_paths(code).into_iter().filter_map(|path| module_of(&path));
        (name.clone(), imported.filter(|imported| imported != name).collect())
    };
    modules.iter().map(imports_of).collect()
}

fn layer_of(module: &str) -> usize {
    let fits = |beginning: &&&str| {
        let rest = module.strip_prefix(**beginning);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let layers = LAYERS.iter().enumerate();
    let fitting =
        layers.flat_map(|(n, layer)| layer.iter().filter(fits).map(move |b| (b.len(), n)));
    fitting.max().unwrap_or_else(|| panic!("{module} is in no layer")).1
}

#[test]
fn imports_point_downwards_only() {
    for (module, imported) in imports() {
        for used in imported {
            assert!(layer_of(&used) <= layer_of(&module), "{module} imports {used}");
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imports();
    // What imports nothing that is left cannot be part of a circle.
    loop {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, imported)| !imported.iter().any(|used| left.contains_key(used)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|module| drop(left.remove(module)));
    }
    assert!(left.is_empty(), "in a circle, or importing one: {:?}", left.keys());
}

#[test]
fn the_operating_system_is_behind_platform() {
    const OF_A_SYSTEM: [&str; 7] = [
        "rustix",
        "signal_hook",
        "std::os::unix",
        "os::linux",
        "std::os::windows",
        "windows_sys",
        "unsafe {",
    ];
    const OF_PLATFORM_ONLY: [&str; 9] = [
        "std::fs",
        "fs::read",
        "fs::write",
        "Instant",
        "SystemTime",
        "thread::sleep",
        "thread::spawn",
        "thread::Builder",
        "Command::new",
    ];
    for (module, code) in modules() {
        let is_for_a_system = match module.as_str() {
            "platform::unix" | "platform::windows" | "platform::windows_acl" => {
                !code.contains("unsafe")
            }
            "platform::windows_calls" => true,
            _ => false,
        };
        for name in OF_A_SYSTEM.into_iter().filter(|_| !is_for_a_system) {
            assert!(!code.contains(name), "{module} names {name}");
        }
        for name in OF_PLATFORM_ONLY.into_iter().filter(|_| !module.starts_with("platform")) {
            assert!(!code.contains(name), "{module} names {name}");
        }
    }
}

/// A judge that uses the code which it judges agrees with its mistakes. `main.rs` demonstrates the program.
#[test]
fn the_stand_in_workspace_shares_no_code_with_the_program() {
    for path in files("tests/sandbox", "rs") {
        let is_judge = !path.ends_with("main.rs");
        assert!(!is_judge || !code_of(&path).contains("lakebase_token::"), "{}", path.display());
    }
}

#[test]
fn every_file_says_its_job_first() {
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let text = read(&path);
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(head >= 1, "{} does not say what it is for", path.display());
    }
}

#[test]
fn files_that_comments_name_exist() {
    for path in files("src", "rs") {
        let text = read(&path);
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        for word in comments.flat_map(|line| line.split('`')).filter(|word| word.ends_with(".rs")) {
            let known = [
                repository().join("src").join(word),
                repository().join(word),
                path.with_file_name(word),
            ];
            assert!(known.iter().any(|path| path.exists()), "{}: {word}", path.display());
        }
    }
}

#[test]
fn secrets_leave_their_type_in_few_places() {
    let exposing = modules().into_iter().filter(|(_, code)| code.contains(".expose()"));
    let exposing: Vec<String> = exposing.map(|(module, _)| module).collect();
    // A new line here wants a reason.
    let allowed = [
        "auth::entra",                              // a bearer, for the resource manager
        "auth::provider",                           // the hash of a static secret
        "auth::providers::azure_client_secret",     // what is sent for a token
        "auth::providers::azure_workload_identity", // the same
        "auth::providers::file_oidc",               // the same
        "auth::providers::github_oidc",             // a bearer, for GitHub
        "auth::providers::github_oidc_azure",       // what is sent for a token
        "auth::providers::metadata_service",        // an address that may be private
        "auth::providers::oauth_m2m",               // the Basic header
        "auth::providers::pat",                     // its alphabet
        "auth::providers::runtime_oauth",           // what is sent for a token
        "auth::token_exchange",                     // the same
        "cache::entry",                             // the entry, and the fingerprint
        "cache::store",                             // what this call could not write
        "commands::auth",                           // the answer to an SDK
        "commands::doctor::assumptions",            // its claims and its length
        "commands::doctor::psql",                   // removed from what psql says
        "commands::exec",                           // the child's environment
        "commands::login::browser",                 // the code in a pasted URL
        "commands::login::paste",                   // its alphabet, its digest
        "config::checks",        // a control character, shown unless it is a secret
        "config::files",         // the first line of a file
        "config::resolve",       // the same
        "config::settings",      // values that are no secrets, by their row
        "error",                 // what is redacted
        "formats",               // the output
        "lakebase::credentials", // compared with the request's token
        "lakebase::login_probe", // the login itself
        "lakebase::login_refusal", // removed from what the server says
        "lakebase::workspace_api", // the bearer header
        "login::oauth",          // what is sent with a grant
        "login::record",         // the login's file, 0600
        "login::renewal",        // what the refreshing process hands over
        "login::rotating_pat",   // whether a token of its kind asks
        "net::sent_secrets",     // removed from answers
        "service::env_file",     // the environment file, 0600
        "service::install",      // the same
        "targets::secret",       // the Databricks secret
        "targets::update",       // what is put into a file
    ];
    assert_eq!(exposing, allowed);
}

#[test]
fn only_a_stopwatch_bounds_times_in_tests() {
    // These wait, or measure something else.
    let allowed = [
        "stopwatch.rs",
        "support.rs",
        "tidy.rs",
        "wait.rs",
        "write.rs",
        "http.rs",
        "processes.rs",
        "interleavings.rs",
    ];
    for path in files("tests/it", "rs") {
        let is_allowed = allowed.iter().any(|name| path.ends_with(name));
        let has_clock = read(&path).contains("Instant::now()");
        assert!(is_allowed || !has_clock, "{} has no control, as Stopwatch has", path.display());
    }
}

#[test]
fn the_changes_of_the_protocol_fit_its_code() {
    let check = "import runpy, sys; sys.argv = ['x', '--check']; runpy.run_path('tests/protocol')";
    if !has("tidy::the_changes_of_the_protocol", "python3") {
        return;
    }
    let mut python = Command::new("python3");
    let output = python.args(["-Bc", check]).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn this_version_has_a_heading_in_the_changelog() {
    let changelog = read(&repository().join("CHANGELOG.md"));
    assert!(changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_readme_is_short() {
    let words = read(&repository().join("README.md")).split_whitespace().count();
    assert!(words <= 1700, "{words} words");
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let allowed = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "integrations",
        "src",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(repository()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn every_shipped_crate_says_why_it_is_here() {
    let manifest = read(&repository().join("Cargo.toml"));
    let mut is_shipped = false;
    let mut line_before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_shipped = line.contains("dependencies") && !line.contains("dev-");
        } else if is_shipped && line.contains(" = ") {
            assert!(line_before.starts_with('#'), "{line}");
        }
        line_before = line;
    }
}
