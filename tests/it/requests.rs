//! The requests of each auth type, compared with those of the official SDKs in the same environment:
//! method, host, path, parameters and credentials. The order is not compared, and the SDKs' discovery
//! requests are left out (we make them only if the usual endpoint does not exist).

use std::path::PathBuf;
use std::process::Command;

use super::differential;
use super::identities::{Around, KNOWN, Known, asked_of_az};
use super::login;
use super::official_sdk;
use super::support::{Test, has, not_run, repository, workspace};
use crate::sandbox::server::{Request, decode};
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, Workspace, basic};

static M2M: Known = Known {
    name: "oauth-m2m",
    settings: &[("DATABRICKS_CLIENT_ID", CLIENT_ID), ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET)],
    asks: &[],
    role: None,
};

/// A request as one line, without what differs from run to run.
fn shown(request: &Request) -> Option<String> {
    // Discovery, and the login page that names the tenant.
    if request.path.contains("/.well-known/") || request.path == "/aad/auth" {
        return None;
    }
    // Any API will do: what counts is how the client authenticates.
    let is_api = request.path.starts_with("/api/");
    let (method, path) =
        if is_api { ("ANY", "/api") } else { (request.method.as_str(), request.path.as_str()) };
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
    // The SDK for Python also sends Entra a scope of the workspace, which Entra ignores.
    pairs.retain(|(name, _)| !is_entra || name != "scope");
    for (_, value) in &mut pairs {
        if value.starts_with("eyJ") {
            *value = "a JWT".to_owned();
        }
    }
    pairs.sort();
    let mut headers: Vec<String> = Vec::new();
    for (name, value) in &request.headers {
        // Other headers differ from client to client.
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
    // One of the SDKs doubles the slash after the collection's URL.
    let path = path.replace("//", "/");
    Some(without_ports(&format!("{method} {host} {path} {pairs:?} {headers:?}")))
}

/// Ports differ from run to run.
fn without_ports(line: &str) -> String {
    let mut pieces = line.split("127.0.0.1:");
    let first = pieces.next().unwrap_or_default().to_owned();
    let bare = |piece: &str| piece.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    pieces.fold(first, |text, piece| text + "127.0.0.1:" + &bare(piece))
}

/// The command lines of `az`, with their words sorted.
fn of_az(test: &Test) -> Vec<String> {
    let sorted = |line: String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    };
    let mut lines: Vec<String> = asked_of_az(test).into_iter().map(sorted).collect();
    lines.sort();
    lines
}

/// The requests of one client, and its command lines of `az`.
#[derive(Debug, PartialEq)]
struct Asked(Vec<String>, Vec<String>);

impl Asked {
    /// The same requests, each no more often: the SDK for Python asks for some twice.
    fn is_like(&self, other: &Asked) -> bool {
        let is_like = |ours: &Vec<String>, theirs: &Vec<String>| {
            let times = |all: &Vec<String>, line| all.iter().filter(|known| *known == line).count();
            theirs.iter().all(|line| (1..=times(theirs, line)).contains(&times(ours, line)))
                && ours.iter().all(|line| theirs.contains(line))
        };
        is_like(&self.0, &other.0) && is_like(&self.1, &other.1)
    }
}

fn asked(workspace: &Workspace, test: &Test) -> Asked {
    let requests = std::mem::take(&mut workspace.state().requests);
    let mut requests: Vec<String> = requests.iter().filter_map(shown).collect();
    requests.sort();
    Asked(requests, of_az(test))
}

/// The official SDKs, each as a program: `ask` asks a workspace for its own user name, `login` logs in.
fn judges(test: &str, program: &str) -> Vec<(&'static str, PathBuf, Option<PathBuf>)> {
    let mut judges = Vec::new();
    if has(test, "go") {
        match differential::go(program) {
            Ok(judge) => judges.push(("Go", PathBuf::from(judge.get_program()), None)),
            Err(why) => not_run(test, &format!("no SDK for Go: {why}")),
        }
    }
    let script = repository().join(format!("tests/it/differential/{program}.py"));
    match official_sdk::python() {
        Ok(python) => judges.push(("Python", python, Some(script))),
        Err(why) => not_run(test, &format!("no SDK for Python: {why}")),
    }
    judges
}

/// What runs in one environment.
type Use<'u> = dyn FnMut(&Workspace, Test) + 'u;

/// Compares all clients, each in a new environment.
fn same(test: &str, provider: &str, absent: &[&str], around: &dyn Fn(&mut Use<'_>)) {
    let mut ours = None;
    around(&mut |workspace, test| {
        test.run("").token();
        ours = Some(asked(workspace, &test));
    });
    for (name, program, script) in judges(test, "ask") {
        if absent.contains(&name) {
            continue;
        }
        around(&mut |workspace, mut test| {
            // With a named auth type, the SDKs say why they fail.
            test.set("DATABRICKS_AUTH_TYPE", provider);
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
                "{provider}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let (ours, theirs) = (ours.as_ref().unwrap(), asked(workspace, &test));
            assert!(ours.is_like(&theirs), "{name}, {provider}: {ours:#?}\n{theirs:#?}");
        });
    }
}

#[test]
fn each_auth_type_makes_the_requests_of_the_sdks() {
    for provider in KNOWN.iter().chain([&M2M]) {
        // See the differences in `differential/differences.rs`; a notebook's context cannot be had here, and the
        // SDKs have no azure-workload-identity.
        let absent: &[&str] = match provider.name {
            "runtime-oauth" | "azure-workload-identity" => &["Go", "Python"],
            "azure-msi" => &["Python"],
            _ => &[],
        };
        same("requests::each_auth_type", provider.name, absent, &|call| {
            let around = Around::new();
            call(&around.workspace, around.configured(provider));
        });
    }
}

/// The requests of a login and of its refresh, in order, without what differs from run to run: the names of all
/// parameters, and the values of those that do not.
fn logged_in_by(workspace: &Workspace) -> Vec<String> {
    let requests = std::mem::take(&mut workspace.state().requests);
    let is_of_login = |request: &&Request| request.path.starts_with("/oidc/v1/");
    let shown = |request: &Request| {
        let pairs = request.query.split('&').chain(request.body.split('&'));
        let mut pairs: Vec<String> = pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| match name {
                "code" | "state" | "code_challenge" | "code_verifier" | "refresh_token" => {
                    assert!(value.len() >= 22, "{name} has too few bits: {value}");
                    name.to_owned()
                }
                "scope" => {
                    let value = decode(value);
                    let mut scopes: Vec<&str> = value.split(' ').collect();
                    scopes.sort_unstable();
                    format!("{name}={}", scopes.join(" "))
                }
                // Each takes a free one.
                "redirect_uri" => {
                    let value = decode(value);
                    let port = value.strip_prefix("http://localhost:80").unwrap();
                    format!("{name} of {} digits", port.len())
                }
                _ => format!("{name}={}", decode(value)),
            })
            .collect();
        pairs.sort();
        format!("{} {} {pairs:?}", request.method, request.path)
    };
    requests.iter().filter(is_of_login).map(shown).collect()
}

#[test]
fn a_login_and_its_refresh_make_the_requests_of_the_sdks() {
    let workspace = workspace();
    let person = login::logged_in(&workspace);
    person.run("--for workspace --refresh").token();
    let ours = logged_in_by(&workspace);
    let grants = [("GET", "authorize"), ("POST", "token"), ("POST", "token")];
    assert_eq!(ours.len(), grants.len(), "{ours:#?}");
    for (line, (method, path)) in ours.iter().zip(grants) {
        assert!(line.starts_with(&format!("{method} /oidc/v1/{path} ")), "{line}");
    }
    for (name, program, script) in judges("requests::a_login_and_its_refresh", "login") {
        let mut command = Command::new("timeout");
        command.arg("60").arg(&program).args(&script);
        command.env_clear().env("DATABRICKS_HOST", &workspace.url);
        command.env("HOME", person.home.path()).env("NO_PROXY", "127.0.0.1,localhost");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert_eq!(ours, logged_in_by(&workspace), "{name}");
    }
}
