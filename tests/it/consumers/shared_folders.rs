//! No container of `integrations/` can read the workspace token of another one: the folders in which
//! lakebase-token keeps tokens (its cache and its stored logins) lie on volumes that only the
//! container of lakebase-token mounts. What it hands over is the password file, nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::yaml;
use crate::support::repository;

/// The variables that decide where lakebase-token keeps tokens.
const FOLDER_VARIABLES: [&str; 4] =
    ["LAKEBASE_TOKEN_CACHE", "HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"];

/// A container of a Kubernetes pod, or a service of a Compose file.
struct Container {
    name: String,
    runs_lakebase_token: bool,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    mounts: Vec<Mount>,
}

struct Mount {
    volume: String,
    path: PathBuf,
}

impl Container {
    fn of_kubernetes(container: &Value) -> Container {
        let variables = items(&container["env"]);
        let mounts = items(&container["volumeMounts"]);
        Container {
            name: text(&container["name"]),
            runs_lakebase_token: runs_lakebase_token(container),
            variables: variables.map(|row| (text(&row["name"]), text(&row["value"]))).collect(),
            arguments: words(container),
            mounts: mounts
                .map(|row| Mount {
                    volume: text(&row["name"]),
                    path: text(&row["mountPath"]).into(),
                })
                .collect(),
        }
    }

    fn of_compose(name: &str, service: &Value) -> Container {
        let variables = match &service["environment"] {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
            list => items(list).filter_map(|row| split(&text(row), '=')).collect(),
        };
        let mounts = items(&service["volumes"]).map(|row| match row {
            Value::Object(_) => (text(&row["source"]), text(&row["target"])),
            short => split(&text(short), ':').expect("VOLUME:PATH"),
        });
        Container {
            name: name.to_owned(),
            runs_lakebase_token: runs_lakebase_token(service),
            variables,
            arguments: words(service),
            mounts: mounts
                .map(|(volume, path)| {
                    let path = path.split(':').next().unwrap_or_default().into();
                    Mount { volume, path }
                })
                .collect(),
        }
    }

    /// The folders in which lakebase-token may keep tokens, as it is started here.
    fn token_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        let named = self.variables.iter().filter(|(name, _)| FOLDER_VARIABLES.contains(&&**name));
        folders.extend(named.map(|(_, value)| PathBuf::from(value)));

        for (at, word) in self.arguments.iter().enumerate() {
            let next = self.arguments.get(at + 1).map(String::as_str);
            let value =
                if word == "--cache-dir" { next } else { word.strip_prefix("--cache-dir=") };
            folders.extend(value.map(PathBuf::from));
        }

        // Container runtimes set HOME to / for a user that the image does not know.
        let home = self.variables.iter().find(|(name, _)| name == "HOME");
        let home = Path::new(home.map_or("/", |(_, value)| value));
        folders.extend([home.join(".cache"), home.join(".local/state")]);
        folders
    }

    /// The volume that holds this folder: the one with the longest mount path.
    fn volume_of(&self, folder: &Path) -> Option<&str> {
        let holding = self.mounts.iter().filter(|mount| folder.starts_with(&mount.path));
        let nearest = holding.max_by_key(|mount| mount.path.components().count())?;
        Some(&nearest.volume)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn split(text: &str, at: char) -> Option<(String, String)> {
    let (left, right) = text.split_once(at)?;
    Some((left.to_owned(), right.to_owned()))
}

/// The command line of a container: lists of words, or in Compose a line.
fn words(container: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for key in ["entrypoint", "command", "args"] {
        words.extend(text(&container[key]).split_whitespace().map(str::to_owned));
        words.extend(items(&container[key]).map(text));
    }
    words
}

fn runs_lakebase_token(container: &Value) -> bool {
    ["image", "command", "args", "entrypoint"]
        .iter()
        .any(|key| container[*key].to_string().contains("lakebase-token"))
}

/// The containers of each pod and each Compose file in a document: those that can share volumes.
fn groups(document: &Value) -> Vec<Vec<Container>> {
    let Value::Object(map) = document else {
        return items(document).flat_map(groups).collect();
    };

    let mut groups: Vec<Vec<Container>> = map.values().flat_map(groups).collect();
    if map.contains_key("containers") {
        let all = items(&document["initContainers"]).chain(items(&document["containers"]));
        groups.push(all.map(Container::of_kubernetes).collect());
    }
    if let Some(services) = document["services"].as_object() {
        groups.push(services.iter().map(|(name, row)| Container::of_compose(name, row)).collect());
    }
    groups
}

/// Each volume with a token folder that another container mounts, too.
fn faults(group: &[Container]) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, container) in group.iter().enumerate() {
        if !container.runs_lakebase_token {
            continue;
        }
        for folder in container.token_folders() {
            let Some(volume) = container.volume_of(&folder) else { continue };
            for (other_index, other) in group.iter().enumerate() {
                let is_mounted = other.mounts.iter().any(|mount| mount.volume == volume);
                if other_index != index && is_mounted {
                    let (folder, name) = (folder.display(), &other.name);
                    faults.push(format!("{folder} is on volume {volume}, which {name} mounts"));
                }
            }
        }
    }
    faults
}

fn faults_in(text: &str) -> Vec<String> {
    let groups: Vec<_> = yaml::documents(text).iter().flat_map(groups).collect();
    groups.iter().flat_map(|group| faults(group)).collect()
}

fn integration_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().join("integrations")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|known| endings.iter().any(|ending| known == *ending))
}

pub fn yaml_files() -> Vec<PathBuf> {
    let files = integration_files().into_iter();
    files.filter(|path| has_ending(path, &["yaml", "yml"])).collect()
}

#[test]
fn no_container_mounts_the_token_folders_of_another_one() {
    let mut checked = 0;
    for path in yaml_files() {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(faults_in(&text), [""; 0], "{}", path.display());

        let groups: Vec<_> = yaml::documents(&text).iter().flat_map(groups).collect();
        checked += groups.iter().flatten().filter(|each| each.runs_lakebase_token).count();
    }
    assert!(checked >= 2, "{checked} containers with lakebase-token");
}

/// Units and property lists run as the user whose file they keep current: the cache is that user's
/// private folder, and no setting moves it to a folder that others read.
#[test]
fn no_unit_moves_the_token_folders() {
    let mut checked = 0;
    let units = integration_files().into_iter();
    for path in units.filter(|path| has_ending(path, &["service", "plist"])) {
        let text = fs::read_to_string(&path).unwrap();
        for name in FOLDER_VARIABLES {
            let is_set = text.contains(&format!("{name}=")) || text.contains(&format!(">{name}<"));
            assert!(!is_set, "{} sets {name}", path.display());
        }
        if text.contains("\nCacheDirectory=") {
            assert!(text.contains("\nCacheDirectoryMode=0700\n"), "{}", path.display());
        }
        checked += 1;
    }
    assert!(checked >= 2, "{checked} units");
}

fn pod(token_container: &str) -> String {
    format!(
        "spec:
  initContainers:
    - name: lakebase-token
      image: registry.example.com/lakebase-token:0.1.0
{token_container}
  containers:
    - name: app
      image: postgres:17
      volumeMounts: [{{ name: pg, mountPath: /elsewhere }}]
"
    )
}

#[test]
fn a_shared_token_folder_in_a_pod_is_a_fault() {
    for container in [
        "      env: [{ name: LAKEBASE_TOKEN_CACHE, value: /pg/cache }]
      volumeMounts: [{ name: pg, mountPath: /pg }]",
        "      env:\n      - { name: XDG_STATE_HOME, value: /pg }
      volumeMounts: [{ name: pg, mountPath: /pg/ }]",
        "      args: [watch, pgpass, --cache-dir, /pg/cache]
      volumeMounts: [{ name: pg, mountPath: /pg }]",
        "      command: [/lakebase-token, watch, pgpass, --cache-dir=/pg/cache]
      volumeMounts: [{ name: pg, mountPath: /pg }]",
        "      volumeMounts: [{ name: pg, mountPath: / }]",
    ] {
        let faults = faults_in(&pod(container));
        assert!(!faults.is_empty(), "{container}");
        assert!(faults.iter().all(|fault| fault.contains("volume pg, which app mounts")));
    }

    let own_volume = "      env: [{ name: LAKEBASE_TOKEN_CACHE, value: /pg/cache }]
      volumeMounts: [{ name: pg, mountPath: /pg }, { name: cache, mountPath: /pg/cache }]";
    assert_eq!(faults_in(&pod(own_volume)), [""; 0]);
}

#[test]
fn a_shared_token_folder_in_a_compose_file_is_a_fault() {
    let compose = |cache: &str| {
        format!(
            "services:
  lakebase-token:
    image: lakebase-token
    environment:
      LAKEBASE_TOKEN_CACHE: {cache}
    volumes:
      - pg:/pg
      - cache:/cache
  app:
    image: postgres:17
    volumes: [\"pg:/pg:ro\"]
"
        )
    };
    assert_eq!(faults_in(&compose("/pg/cache")).len(), 1);
    assert_eq!(faults_in(&compose("/cache/lakebase-token")), [""; 0]);
}
