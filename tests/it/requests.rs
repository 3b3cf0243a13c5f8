//! Each source's requests, compared with those that the official SDKs make in the same surroundings:
//! what is asked of whom, with which parameters and proofs. The order is not compared, and nothing
//! that the SDKs ask only to find out where to ask (we know, and look it up where that fails).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::differential;
use super::identities::{Around, KNOWN, Known, asked_of_az};
use super::official;
use super::support::{Test, has, not_run, repository};
use crate::sandbox::server::{Request, decode};
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, Workspace, basic};

static M2M: Known = Known {
    name: "oauth-m2m",
    settings: &[("DATABRICKS_CLIENT_ID", CLIENT_ID), ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET)],
    asks: &[],
    role: None,
};

/// A request without what is new each time.
fn shown(request: &Request) -> Option<String> {
    // Where to ask, and whose login page there is.
    if request.path.contains("/.well-known/") || request.path == "/aad/auth" {
        return None;
    }
    // Which call it is does not matter, but how the caller proves who he is.
    let is_api = request.path.starts_with("/api/");
    let (method, path) = match is_api {
        true => ("ANY", "/api"),
        false => (request.method.as_str(), request.path.as_str()),
    };
    let pairs = request.query.split('&').chain(request.body.split('&'));
    let mut pairs: Vec<(String, String)> = pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .filter(|_| !is_api)
        .collect();
    // The SDK for Go sends Entra the id and the secret in a header, the one for Python as we do.
    let is_entra = path.ends_with("/oauth2/token");
    let pair = basic(request).filter(|_| is_entra);
    if let Some((id, secret)) = &pair {
        pairs.extend(
            [("client_id", id), ("client_secret", secret)].map(|(n, v)| (n.to_owned(), v.clone())),
        );
    }
    // The one for Python asks Entra for a scope of the workspace's, too, which it does not know.
    pairs.retain(|(name, _)| !is_entra || name != "scope");
    for (_, value) in &mut pairs {
        if value.starts_with("eyJ") {
            *value = "a JWT".to_owned();
        }
    }
    pairs.sort();
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in &request.headers {
        // Not of each client's own.
        let ours = ["metadata", "authorization"].contains(&name.as_str())
            || name.starts_with("x-databricks-azure")
            || name.starts_with("x-databricks-metadata")
            || name == "x-databricks-host";
        if ours && !(pair.is_some() && name == "authorization") {
            let (word, is_jwt) =
                value.split_once("eyJ").map_or((&**value, ""), |(w, _)| (w, "a JWT"));
            headers.push(format!("{name}: {word}{is_jwt}"));
        }
    }
    headers.sort();
    let host = request.header("host").unwrap_or_default();
    // One of the SDKs joins the collection's URL with another slash.
    let path = path.replace("//", "/");
    Some(without_ports(&format!("{method} {host} {path} {pairs:?} {headers:?}")))
}

/// Ports are new each time.
fn without_ports(line: &str) -> String {
    let mut pieces = line.split("127.0.0.1:");
    let first = pieces.next().unwrap_or_default().to_owned();
    let bare = |piece: &str| piece.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    pieces.fold(first, |text, piece| text + "127.0.0.1:" + &bare(piece))
}

/// The command lines of `az`, whatever the order of their words.
fn of_az(test: &Test) -> BTreeSet<String> {
    let sorted = |line: String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    };
    asked_of_az(test).into_iter().map(sorted).collect()
}

/// What somebody has asked: of the network, and of `az`.
#[derive(Debug, PartialEq)]
struct Asked(BTreeSet<String>, BTreeSet<String>);

fn asked(workspace: &Workspace, test: &Test) -> Asked {
    let requests = std::mem::take(&mut workspace.state().requests);
    Asked(requests.iter().filter_map(shown).collect(), of_az(test))
}

/// The official SDKs, each as a program that asks a workspace who it is.
fn judges(test: &str) -> Vec<(&'static str, PathBuf, Option<PathBuf>)> {
    let mut judges = Vec::new();
    if has(test, "go") {
        match differential::go("ask") {
            Ok(judge) => judges.push(("Go", PathBuf::from(judge.get_program()), None)),
            Err(why) => not_run(test, &format!("no SDK for Go: {why}")),
        }
    }
    let script = repository().join("tests/it/differential/ask.py");
    match official::python() {
        Ok(python) => judges.push(("Python", python, Some(script))),
        Err(why) => not_run(test, &format!("no SDK for Python: {why}")),
    }
    judges
}

/// What is done in surroundings.
type Use<'u> = dyn FnMut(&Workspace, Test) + 'u;

/// Compares what they ask in surroundings that are made anew for each.
fn same(test: &str, source: &str, absent: &[&str], around: &dyn Fn(&mut Use<'_>)) {
    let mut ours = None;
    around(&mut |workspace, test| {
        test.run("").token();
        ours = Some(asked(workspace, &test));
    });
    for (name, program, script) in judges(test) {
        if absent.contains(&name) {
            continue;
        }
        around(&mut |workspace, mut test| {
            // So that they say why, where they fail.
            test.set("DATABRICKS_AUTH_TYPE", source);
            let mut command = Command::new(&program);
            command.args(&script).env_clear().envs(test.env.iter().cloned());
            command.env("METADATA", &test.instance_metadata).env("NO_PROXY", "127.0.0.1,localhost");
            if let Some((_, authority)) = test.env.iter().find(|(name, _)| name == "SSL_CERT_FILE")
            {
                command.env("REQUESTS_CA_BUNDLE", authority);
            }
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{source}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(ours.as_ref(), Some(&asked(workspace, &test)), "{name}, {source}");
        });
    }
}

#[test]
fn each_source_asks_what_the_sdks_ask() {
    for source in KNOWN.iter().chain([&M2M]) {
        // See the list of differences in `differential.rs`; what a notebook has is in no reach here.
        let absent: &[&str] = match source.name {
            "runtime-oauth" => &["Go", "Python"],
            "azure-msi" => &["Python"],
            _ => &[],
        };
        same("requests::each_source", source.name, absent, &|call| {
            let around = Around::new();
            call(&around.workspace, around.configured(source));
        });
    }
}
