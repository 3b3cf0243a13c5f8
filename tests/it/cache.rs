//! The cache: what its entries hold, who may read them, and what happens to a damaged one.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

#[cfg(unix)]
use super::support::is_root;
use super::support::{Test, workspace};
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, Workspace};

/// A test whose cache has a database credential and a workspace token; the credential, and its
/// entry.
fn filled(workspace: &Workspace) -> (Test, String, PathBuf) {
    let test = Test::at(workspace);
    let token = test.run("").token();
    let entries = test.entries();
    assert_eq!(entries.len(), 2, "{entries:?}");
    let holds = |path: &&PathBuf| fs::read_to_string(path).unwrap().contains(&token);
    let database = entries.iter().find(holds).unwrap().clone();
    workspace.take_requests();
    (test, token, database)
}

#[cfg(unix)]
#[test]
fn entries_are_private_in_a_private_folder() {
    let workspace = workspace();
    let (test, _, _) = filled(&workspace);
    assert_eq!(fs::metadata(test.cache_folder()).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(test.cache_folder()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn neither_the_secret_nor_its_plain_hash_is_stored() {
    let workspace = workspace();
    let (test, _, _) = filled(&workspace);
    let hash = ring::digest::digest(&ring::digest::SHA256, CLIENT_SECRET.as_bytes());
    let hash = lakebase_token::credential::encoding::hex(&hash.as_ref()[..8]);
    for path in test.entries() {
        let text = fs::read_to_string(&path).unwrap() + path.to_str().unwrap();
        assert!(!text.contains(CLIENT_SECRET) && !text.contains(&hash));
    }
}

#[test]
fn an_odd_entry_is_a_note_and_a_miss_and_is_replaced() {
    let workspace = workspace();
    type Harm = fn(&PathBuf, &str);
    let harms: &[(&str, Harm)] = &[
        ("damaged", |path, text| fs::write(path, &text[..text.len() / 2]).unwrap()),
        ("damaged", |path, _| fs::write(path, "").unwrap()),
        ("damaged", |path, _| fs::write(path, [0xff; 400]).unwrap()),
        ("damaged", |path, text| {
            fs::write(path, text.replace("lifetime 3", "lifetime 4")).unwrap()
        }),
        ("another version", |path, text| {
            fs::write(path, text.replace("cache 3", "cache 9")).unwrap()
        }),
        #[cfg(unix)]
        ("others may read", |path, _| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        #[cfg(unix)]
        ("symbolic link", |path, _| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            symlink(path.with_extension("moved"), path).unwrap();
        }),
        ("too large", |path, text| fs::write(path, text.repeat(100)).unwrap()),
        ("not a regular file", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (words, harm) in harms {
        let (test, first, database) = filled(&workspace);
        harm(&database, &fs::read_to_string(&database).unwrap());
        let outcome = test.run("");
        let second = outcome.notes(words);
        assert_ne!(first, second, "{words}");
        if *words != "not a regular file" {
            assert_eq!(test.run("").token(), second, "replaced: {words}");
        }
    }
}

#[test]
fn an_entry_under_another_name_is_a_miss() {
    let workspace = workspace();
    let (mut test, first, database) = filled(&workspace);
    test.set("LAKEBASE_TOKEN_TTL", "15m");
    let other = test.run("").token();
    let is_new = |path: &&PathBuf| fs::read_to_string(path).unwrap().contains(&other);
    let entries = test.entries();
    let target = entries.iter().find(is_new).unwrap();
    fs::copy(&database, target).unwrap();
    let outcome = test.run("");
    // The entry repeats its key, which is another one.
    assert!(![first, other].contains(&outcome.notes("is not used")));
}

#[test]
fn every_input_of_a_credential_is_part_of_the_key() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let mut seen = vec![test.run("").token()];
    let mut differs = |test: &Test, what: &str| {
        let token = test.run("").token();
        assert!(!seen.contains(&token), "{what}");
        seen.push(token);
    };
    test.set("LAKEBASE_TOKEN_TTL", "10m");
    differs(&test, "ttl");
    test.set("LAKEBASE_ENDPOINT", "projects/shop");
    differs(&test, "target");
    test.set("DATABRICKS_WORKSPACE_ID", "5");
    differs(&test, "workspace id");
    test.set("DATABRICKS_ACCOUNT_ID", "6");
    differs(&test, "account id");
    workspace.state().clients.insert("other".to_owned(), CLIENT_SECRET.to_owned());
    test.set("DATABRICKS_CLIENT_ID", "other");
    differs(&test, "identity");
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("DATABRICKS_TOKEN", crate::sandbox::workspace::PAT);
    differs(&test, "auth type");
}

#[test]
fn another_secret_is_a_miss_and_the_right_one_is_still_a_hit() {
    let workspace = workspace();
    let (mut test, first, _) = filled(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "stolen-or-rotated");
    for _ in 0..3 {
        test.run("").fails(4, &["invalid_client"]);
    }
    assert_eq!(workspace.take_requests().len(), 1, "its refusal is cached");
    test.set("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET);
    assert_eq!(test.run("").token(), first, "a wrong secret does not evict the entry");
}

#[test]
fn the_right_secret_works_at_once_after_a_wrong_one() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong");
    test.run("").fails(4, &["invalid_client"]);
    test.set("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET);
    test.run("").token();
}

#[cfg(unix)]
#[test]
fn without_a_home_there_is_no_cache_and_no_message() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("HOME");
    test.run("").token();
    test.set("HOME", "relative/home");
    let output = test.command().output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!std::path::Path::new("relative").exists());
}

#[test]
fn an_unusable_folder_costs_nothing_but_the_cache() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let file = test.write("file", "");
    test.set("LAKEBASE_TOKEN_CACHE", file.join("below").to_str().unwrap());
    test.run("").token();
    let place = file.join("below").display().to_string();
    test.run("-v").notes(&format!("not cached in {place}: "));
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["cache"]["path"], place.as_str());
    assert_eq!(status["cache"]["usable"], false);
    assert!(status["cache"]["reason"].is_string());

    // One call asks each thing once all the same, and so without a cache.
    test.unset("LAKEBASE_ENDPOINT");
    for line in ["-f json", "-f json --no-cache"] {
        workspace.take_requests();
        test.run(line).token();
        let mut requests = workspace.take_requests();
        let all = requests.len();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), all, "{line}: {requests:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_may_change_is_no_cache() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    // Other users could plant or remove entries here.
    let wide = test.home.path().join("wide");
    fs::create_dir(&wide).unwrap();
    fs::set_permissions(&wide, fs::Permissions::from_mode(0o777)).unwrap();
    test.set("LAKEBASE_TOKEN_CACHE", wide.to_str().unwrap());
    test.run("").token();
    assert_eq!(fs::read_dir(&wide).unwrap().count(), 0);
    if !is_root() {
        let locked = test.home.path().join("locked");
        fs::create_dir(&locked).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
        test.set("LAKEBASE_TOKEN_CACHE", locked.to_str().unwrap());
        test.run("").token();
    }
}

#[test]
fn a_store_removes_entries_that_expired_a_day_ago_and_nothing_else() {
    let workspace = workspace();
    let (test, _, database) = filled(&workspace);
    let folder = test.cache_folder();
    let old = SystemTime::now() - Duration::from_secs(3 * 86400);
    let create = |name: String, time: SystemTime| {
        let path = folder.join(name);
        let file = fs::File::create(&path).unwrap();
        file.set_modified(time).unwrap();
        path
    };
    let expired: Vec<PathBuf> =
        (0..40).map(|n| create(format!("{n:016x}-{n:016x}"), old)).collect();
    let kept = [
        create(format!("{:016x}-{:016x}.lock", 1, 1), old),
        create("README".to_owned(), old),
        create(format!("{:016x}-{:016x}", 99, 99), SystemTime::now()),
        database,
    ];
    let left_by_a_kill = create(".0123456789abcdef".to_owned(), old);
    test.run("--refresh").token();
    let left =
        expired.iter().filter(|path| path.exists()).count() + usize::from(left_by_a_kill.exists());
    assert_eq!(left, 41 - 32, "a store removes 32");
    test.run("--refresh").token();
    assert!(expired.iter().all(|path| !path.exists()) && !left_by_a_kill.exists());
    assert!(kept.iter().all(|path| path.exists()));
}

#[test]
fn a_personal_access_token_is_not_copied_into_the_cache() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("DATABRICKS_TOKEN", crate::sandbox::workspace::PAT);
    test.run("").token();
    test.run("--for workspace").token();
    assert_eq!(test.entries().len(), 1);
    let text = fs::read_to_string(&test.entries()[0]).unwrap();
    assert!(!text.contains(crate::sandbox::workspace::PAT) && !text.contains(CLIENT_ID));
}
