//! Sentinel secrets in every command, format and verbosity, in success and in failure, with servers
//! that repeat what they are sent. All output and all files are then searched for the sentinels.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use lakebase_token::formats::FORMATS;

use super::{BOTH, Class, holds, is_campaign};
use crate::leaks::{ID, PAT, SECRET, piece_of};
use crate::sandbox::Sandbox;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, MINT, TOKEN, Workspace};
use crate::support::{Test, executable, has, workspace};

/// Finds a piece of a sentinel or, if `jwts` count too, a text that begins like a JWT and
/// is as long as one.
fn leak(text: &str, jwts: bool) -> Option<String> {
    if let Some(piece) = piece_of(&[SECRET, PAT], text) {
        return Some(piece);
    }

    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    let jwt = words.find(|word| jwts && word.contains("eyJ") && word.len() > 60);
    jwt.map(|word| word.chars().take(40).collect())
}

/// Searches the names and contents of all files below a folder, except those that hold the secret on purpose.
fn search(folder: &Path, holders: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        found.extend(leak(&name, true).map(|piece| format!("the name {name} holds {piece}")));
        if path.is_dir() {
            search(&path, holders, found);
            continue;
        }

        let is_holder = holders.iter().any(|known| name.ends_with(known));
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        // The cache and targets contain tokens on purpose, a log contains none.
        let piece = leak(&text, name.ends_with("log")).filter(|_| !is_holder);
        found.extend(piece.map(|piece| format!("{name} holds {piece}")));
    }
}

/// Where the secret is configured.
const ORIGINS: [&str; 4] = ["environment", "file", "profile", "personal access token"];

/// A context with the secret in this origin, and the flag that names it.
fn context(workspace: &Workspace, origin: &str) -> (Test, String) {
    workspace.state().clients.insert(ID.to_owned(), SECRET.to_owned());
    workspace.state().pats[0].value = PAT.to_owned();
    let mut test = Test::at(workspace);
    test.unset("DATABRICKS_CLIENT_SECRET").set("DATABRICKS_CLIENT_ID", ID);
    let log = test.home.path().join("log").to_str().unwrap().to_owned();
    test.set("LAKEBASE_TOKEN_LOG", &log).set("PGHOST", "db.example").set("PGUSER", "me");

    let mut flag = String::new();
    match origin {
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

/// Answers of a server that repeats the secret and the token.
fn faults() -> Vec<(&'static str, Option<(&'static str, Answer)>)> {
    let message = format!("bad {SECRET} or {PAT}: Bearer {PAT}, https://me:{SECRET}@x/?t={PAT}");
    let text =
        |status, body: String| Answer::Text { status, headers: Vec::new(), body: body.into() };
    vec![
        ("none", None),
        (
            "refused",
            Some((
                TOKEN,
                Answer::Json(
                    401,
                    json!({ "error": "invalid_client", "error_description": message }),
                ),
            )),
        ),
        (
            "not minted",
            Some((MINT, Answer::Json(403, json!({ "error_code": "X", "message": message })))),
        ),
        ("not found", Some((MINT, Answer::Json(404, json!({ "message": message }))))),
        ("a page", Some((MINT, Answer::html(200, &format!("<title>{message}</title>"))))),
        ("no JSON", Some((MINT, text(200, message.clone())))),
        ("busy", Some((MINT, text(503, message.clone())))),
        (
            "redirected",
            Some((TOKEN, Answer::redirect(302, &format!("https://{SECRET}.example/?{PAT}")))),
        ),
        ("a token with more", Some((MINT, Answer::Json(200, json!({ "token": message }))))),
        ("no HTTP", Some((MINT, Answer::Raw(message.into_bytes())))),
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
        lines.push(format!("write file target --format {}", format.name));
    }
    lines
        .extend(["raw", "header", "json"].map(|format| format!("get --for workspace -f {format}")));
    lines
}

#[test]
fn no_command_shows_a_secret() {
    let mut class = Class::new("secrets: commands, formats, verbosity", BOTH);
    let workspace = workspace();
    for (n, (fault, answer)) in faults().into_iter().enumerate() {
        for origin in ORIGINS {
            for (m, line) in lines().into_iter().enumerate() {
                // A campaign tries all of them, a usual run a ninth.
                if !is_campaign() && (n + m) % 9 != 0 && answer.is_some() {
                    continue;
                }

                let (test, flag) = context(&workspace, origin);
                let target = test.home.path().join("target").to_str().unwrap().to_owned();
                let line = line.replace("file target", &format!("file {target}"));
                workspace.state().faults.clear();
                if let Some((path, answer)) = &answer {
                    workspace.fault(path, 9, answer.clone());
                }
                let flags = if line.starts_with("service") {
                    String::new()
                } else {
                    format!("{flag} -v --timeout 1s")
                };
                let outcome = test.run(&format!("{line}{flags}"));

                let prints = line.starts_with("get");
                let printed = outcome.stdout.clone();
                // `--for workspace` prints a configured personal access token on purpose.
                let prints_pat =
                    prints && line.contains("--for workspace") && origin.starts_with("personal");
                let on_stdout = leak(&printed, !prints).filter(|_| !prints_pat);
                let mut found: Vec<String> = Vec::new();
                found.extend(on_stdout.map(|piece| format!("stdout holds {piece}")));
                found.extend(
                    leak(&outcome.stderr, true).map(|piece| format!("stderr holds {piece}")),
                );
                let holders: &[&str] = match origin {
                    "file" => &["prepared-secret"],
                    "profile" => &[".databrickscfg"],
                    // What is written for the workspace is this token.
                    "personal access token" if line.starts_with("write databrickscfg") => {
                        &[".databrickscfg"]
                    }
                    _ => &[],
                };
                search(test.home.path(), holders, &mut found);
                let held = holds(found.is_empty(), || found.join("; "));
                class.tried(format!("{line}, {origin}, {fault}"), held);
                class.ended(outcome.code == 0);
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
    sandbox.workspace.state().clients.insert(CLIENT_ID.to_owned(), SECRET.to_owned());
    let mut class = Class::new("secrets: argument lists", BOTH);
    let home = sandbox.home();
    let commands: [&[&str]; 6] = [
        &["exec", "--", "sh", "-c", "true"],
        &["exec", "--for", "workspace", "--", "sh", "-c", "env >/dev/null"],
        &["doctor"],
        &["write", "pgpass", "--then", "true"],
        &["write", "file", "target", "--format", "url", "--then", "sh -c 'exit 3'"],
        &["get", "-v"],
    ];
    for arguments in commands {
        let trace = home.join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o"]).arg(&trace);
        command.arg(executable()).args(arguments).env_clear().envs(sandbox.env());
        command.env("DATABRICKS_CLIENT_SECRET", SECRET);
        command.env("PATH", "/usr/bin:/bin").env("LAKEBASE_ENDPOINT", ENDPOINT).current_dir(&home);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = fs::read_to_string(&trace).unwrap();
        let started = text.lines().filter(|line| line.contains("execve(")).count();
        let expected = if arguments[0] == "get" { 1 } else { 2 };
        assert!(started >= expected, "{arguments:?}: {text} {output:?}");
        let piece = leak(&text, true);
        class.tried(arguments.join(" "), holds(piece.is_none(), || format!("{piece:?}")));
        class.ended(output.status.success());
    }
    class.end();
}
