//! The repository itself: what is agreed upon and a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::repository;

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

/// The layer of a module, as the table in `lib.rs` has it.
fn layers() -> Vec<(u32, Vec<String>)> {
    let table = read(&repository().join("src/lib.rs"));
    let rows = table.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.filter_map(|row| {
        let (number, rest) = row.split_once(" | ")?;
        let (modules, _) = rest.split_once(" | ")?;
        let modules = modules.split_whitespace().map(|name| name.trim_matches('`').to_owned());
        Some((number.parse().ok()?, modules.collect()))
    });
    let rows: Vec<(u32, Vec<String>)> = rows.collect();
    assert_eq!(rows.len(), 8);
    rows
}

fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(repository().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_point_upwards_only() {
    let layers = layers();
    let layer = |module: &str| {
        let found = layers.iter().find(|(_, modules)| modules.iter().any(|known| known == module));
        found.unwrap_or_else(|| panic!("{module} is in no layer of lib.rs")).0
    };
    for path in files("src", "rs") {
        let module = module_of(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let text = read(&path);
        // Tests at the end of a file may use what they like.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for rest in code.split("crate::").skip(1) {
            let used: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed = used == module || layer(&used) <= layer(&module);
            assert!(allowed, "{}: {module} uses {used}", path.display());
        }
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
fn secrets_leave_their_type_in_few_places() {
    let mut places: Vec<String> = Vec::new();
    for path in files("src", "rs") {
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        if code.contains(".expose()") {
            places.push(path.strip_prefix(repository().join("src")).unwrap().display().to_string());
        }
    }
    // Whoever adds one here has thought about it.
    let allowed = [
        "api.rs",                        // the bearer header
        "cache/entry.rs",                // the entry, and the fingerprint
        "error.rs",                      // what is blotted out
        "format.rs",                     // the output
        "get.rs",                        // names that were found, kept like tokens
        "login/oauth.rs",                // what is sent with a grant
        "login/pat.rs",                  // whether one of its kind asks
        "login/renew.rs",                // what the renewing process hands over
        "login.rs",                      // the login's file, 0600
        "service/pins.rs",               // the environment file, 0600
        "service.rs",                    // the same
        "settings/file.rs",              // the first line of a file
        "settings.rs",                   // values that are none, by their row
        "sink/secret.rs",                // the secret
        "source/azure.rs",               // a bearer, for the resource manager
        "source/azure_client_secret.rs", // what is sent for a token
        "source/exchange.rs",            // the same
        "source/file_oidc.rs",           // what a file holds, but for its line end
        "source/github_oidc.rs",         // a bearer, for GitHub
        "source/github_oidc_azure.rs",   // what is sent for a token
        "source/metadata_service.rs",    // an address that may be private
        "source/oauth_m2m.rs",           // the Basic header
        "source/pat.rs",                 // its alphabet
        "source/runtime_oauth.rs",       // what is sent for a token
        "source.rs",                     // the hash of a static one
        "update.rs",                     // what is put into a file
        "verb/exec.rs",                  // the child's environment
        "verb/login/browser.rs",         // the code in a pasted address
        "verb/login/pasted.rs",          // its alphabet, its digest
    ];
    assert_eq!(places, allowed);
}

#[test]
fn this_version_has_a_heading_in_the_changelog() {
    let changelog = read(&repository().join("CHANGELOG.md"));
    assert!(changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let allowed = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
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
    let mut shipped = false;
    let mut before = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            shipped = line.contains("dependencies") && !line.contains("dev-");
        } else if shipped && line.contains(" = ") {
            assert!(before.starts_with('#'), "{line}");
        }
        before = line;
    }
}
