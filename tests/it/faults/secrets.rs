//! Sentinel secrets through every verb, format and verbosity, in success and in failure, with servers
//! that repeat what they are sent; then a search of all that came out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use lakebase_token::formats::FORMATS;

use super::{Class, holds, is_campaign};
use crate::sandbox::Sandbox;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{ENDPOINT, Workspace};
use crate::support::{Test, executable, has, workspace};

const ID: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "doseZQXJVKWMPYBFGHDLsentinel";
const PAT: &str = "dapiJQZVXKWMPYBFGHDLsentinelpat";
const TOKEN: &str = "/oidc/v1/token";
const MINT: &str = "/api/2.0/postgres/credentials";

/// Any eight characters of a sentinel, or anything that begins like a JWT and is as long as one.
fn leak(text: &str, jwts: bool) -> Option<String> {
    let sentinels = [SECRET, PAT].into_iter().flat_map(|secret| secret.as_bytes().windows(8));
    let mut pieces = sentinels.map(|piece| std::str::from_utf8(piece).unwrap());
    if let Some(piece) = pieces.find(|piece| text.contains(piece)) {
        return Some(piece.to_owned());
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    let jwt = words.find(|word| jwts && word.contains("eyJ") && word.len() > 60);
    jwt.map(|word| word.chars().take(40).collect())
}

/// What lies below a folder: paths, and what it holds but for what these tests put there.
fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        found.extend(leak(&name, true).map(|piece| format!("the name {name} holds {piece}")));
        if path.is_dir() {
            search(&path, found);
            continue;
        }
        let prepared =
            ["prepared-secret", ".databrickscfg"].iter().any(|known| name.ends_with(known));
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        // Tokens lie in the cache and in places; in a log nothing does.
        let piece = leak(&text, name.ends_with("log")).filter(|_| !prepared);
        found.extend(piece.map(|piece| format!("{name} holds {piece}")));
    }
}

/// How the secret is given, with the arguments that say so.
const ROUTE_VARIABLES: [&str; 4] = ["environment", "file", "profile", "personal access token"];

fn surroundings(workspace: &Workspace, way: &str) -> (Test, String) {
    workspace.state().clients.insert(ID.to_owned(), SECRET.to_owned());
    workspace.state().pats[0].value = PAT.to_owned();
    let mut test = Test::at(workspace);
    test.unset("DATABRICKS_CLIENT_SECRET").set("DATABRICKS_CLIENT_ID", ID);
    let log = test.home.path().join("log").to_str().unwrap().to_owned();
    test.set("LAKEBASE_TOKEN_LOG", &log).set("PGHOST", "db.example").set("PGUSER", "me");
    let mut flag = String::new();
    match way {
        "environment" => drop(test.set("DATABRICKS_CLIENT_SECRET", SECRET)),
        "file" => {
            let path = test.write("prepared-secret", SECRET);
            flag = format!(" --client-secret-file {}", path.display());
        }
        "profile" => {
            let text = format!(
                "[DEFAULT]\nhost = {}\nclient_id = {ID}\nclient_secret = {SECRET}\n",
                workspace.url
            );
            test.write(".databrickscfg", &text);
            test.unset("DATABRICKS_HOST").unset("DATABRICKS_CLIENT_ID");
        }
        _ => drop(test.unset("DATABRICKS_CLIENT_ID").set("DATABRICKS_TOKEN", PAT)),
    }
    (test, flag)
}

/// What a server may say that knows the secret and the bearer.
fn faults() -> Vec<(&'static str, Option<(&'static str, Answer)>)> {
    let words = format!("bad {SECRET} or {PAT}: Bearer {PAT}, https://me:{SECRET}@x/?t={PAT}");
    let text =
        |status, body: String| Answer::Text { status, headers: Vec::new(), body: body.into() };
    vec![
        ("none", None),
        (
            "refused",
            Some((
                TOKEN,
                Answer::Json(401, json!({ "error": "invalid_client", "error_description": words })),
            )),
        ),
        (
            "not minted",
            Some((MINT, Answer::Json(403, json!({ "error_code": "X", "message": words })))),
        ),
        ("not found", Some((MINT, Answer::Json(404, json!({ "message": words }))))),
        ("a page", Some((MINT, Answer::html(200, &format!("<title>{words}</title>"))))),
        ("no JSON", Some((MINT, text(200, words.clone())))),
        ("busy", Some((MINT, text(503, words.clone())))),
        (
            "redirected",
            Some((TOKEN, Answer::redirect(302, &format!("https://{SECRET}.example/?{PAT}")))),
        ),
        ("a token with more", Some((MINT, Answer::Json(200, json!({ "token": words }))))),
        ("no HTTP", Some((MINT, Answer::Raw(words.into_bytes())))),
    ]
}

fn lines() -> Vec<String> {
    let mut lines: Vec<String> = [
        "status",
        "status --format json",
        "write pgpass",
        "write databrickscfg --to x",
        "write secret --scope s --key k",
        "service status pgpass",
        "doctor",
        "get --offline",
        "get -f nonsense",
    ]
    .map(str::to_owned)
    .into();
    for format in FORMATS {
        lines.push(format!("get -f {}", format.name));
        lines.push(format!("write file place --format {}", format.name));
    }
    lines
        .extend(["raw", "header", "json"].map(|format| format!("get --for workspace -f {format}")));
    lines
}

#[test]
fn no_verb_shows_a_secret() {
    let mut class = Class::new("secrets: verbs, formats, verbosity");
    let workspace = workspace();
    for (n, (fault, answer)) in faults().into_iter().enumerate() {
        for way in ROUTE_VARIABLES {
            for (m, line) in lines().into_iter().enumerate() {
                // A campaign tries all of them, each run a ninth.
                if !is_campaign() && (n + m) % 9 != 0 && answer.is_some() {
                    continue;
                }
                let (test, flag) = surroundings(&workspace, way);
                let place = test.home.path().join("place").to_str().unwrap().to_owned();
                let line = line.replace("file place", &format!("file {place}"));
                workspace.state().faults.clear();
                if let Some((path, answer)) = &answer {
                    workspace.fault(path, 9, answer.clone());
                }
                let flags = if line.starts_with("service") { "" } else { &flag };
                let verbose = if line.starts_with("service") { "" } else { " -v --timeout 1s" };
                let outcome = test.run(&format!("{line}{flags}{verbose}"));
                let prints = line.starts_with("get");
                let printed = outcome.stdout.clone();
                // A personal access token is what `--for workspace` prints where there is one.
                let own = prints && line.contains("--for workspace") && way.starts_with("personal");
                let on_stdout = leak(&printed, !prints).filter(|_| !own);
                let mut found: Vec<String> = Vec::new();
                found.extend(on_stdout.map(|piece| format!("stdout holds {piece}")));
                found.extend(
                    leak(&outcome.stderr, true).map(|piece| format!("stderr holds {piece}")),
                );
                search(test.home.path(), &mut found);
                let held = holds(found.is_empty(), || found.join("; "));
                class.tried(format!("{line}, {way}, {fault}"), held);
            }
        }
    }
    class.end();
}

#[test]
fn no_argument_list_holds_a_secret() {
    if !has("faults::secrets", "strace") {
        return;
    }
    let sandbox = Sandbox::start().unwrap();
    sandbox.workspace.state().clients.insert(ID.to_owned(), SECRET.to_owned());
    let mut class = Class::new("secrets: argument lists");
    let home = sandbox.home();
    let commands: [&[&str]; 6] = [
        &["exec", "--", "sh", "-c", "true"],
        &["exec", "--for", "workspace", "--", "sh", "-c", "env >/dev/null"],
        &["doctor"],
        &["write", "pgpass", "--then", "true"],
        &["write", "file", "place", "--format", "url", "--then", "sh -c 'exit 3'"],
        &["get", "-v"],
    ];
    for arguments in commands {
        let trace = home.join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o"]).arg(&trace);
        command.arg(executable()).args(arguments).env_clear().envs(sandbox.env());
        command.env("DATABRICKS_CLIENT_ID", ID).env("DATABRICKS_CLIENT_SECRET", SECRET);
        command.env("PATH", "/usr/bin:/bin").env("LAKEBASE_ENDPOINT", ENDPOINT).current_dir(&home);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = fs::read_to_string(&trace).unwrap();
        let begun = text.lines().filter(|line| line.contains("execve(")).count();
        assert!(
            begun >= if arguments[0] == "get" { 1 } else { 2 },
            "{arguments:?}: {text} {output:?}"
        );
        let piece = leak(&text, true);
        let words = arguments.join(" ");
        class.tried(words, holds(piece.is_none(), || format!("{piece:?}")));
    }
    class.end();
}
