//! No secret in output or files where it does not belong: the tests configure sentinels and search
//! all output and files for them. `faults/secrets.rs` does the same for more commands and answers.

use std::fs;
use std::path::Path;

use lakebase_token::credential::encoding::percent_encode;
use serde_json::json;

use super::leaks::{ID, PAT, SECRET, piece_of};
use super::support::{Outcome, Test, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN, Workspace};

/// Fails if a piece of a secret is in the text; `name` names the text.
#[track_caller]
fn holds_none(text: &str, secrets: &[&str], name: &str) {
    let piece = piece_of(secrets, text);
    assert_eq!(piece, None, "{name}");
}

fn context(workspace: &Workspace) -> Test {
    workspace.state().clients.insert(ID.to_owned(), SECRET.to_owned());
    let mut test = Test::at(workspace);
    test.set("DATABRICKS_CLIENT_ID", ID).set("DATABRICKS_CLIENT_SECRET", SECRET);
    test
}

#[track_caller]
fn check(test: &Test, outcome: &Outcome, secrets: &[&str], line: &str) {
    holds_none(&outcome.stderr, secrets, line);
    if outcome.code != 0 || line.starts_with("status") || line.contains("help") {
        holds_none(&outcome.stdout, secrets, line);
    }
    walk(test.home.path(), &mut |path| {
        holds_none(&path.to_string_lossy(), secrets, line);
        // Tokens are in the cache on purpose; the secret that they were requested with is not.
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        holds_none(&text, &[SECRET, PAT], &path.to_string_lossy());
    });
}

fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, each) } else { each(&path) }
    }
}

const LINES: [&str; 11] = [
    "",
    "get -v",
    "get -f json -v",
    "get --for workspace -v",
    "get -f yaml",
    "status",
    "status -v",
    "status --format json",
    "get --help",
    "get --refresh -v",
    "get --offline",
];

#[test]
fn a_successful_call_shows_no_other_secret() {
    let workspace = workspace();
    let test = context(&workspace);
    let password = test.run("").token();
    let token = test.run("--for workspace").token();

    // The end of the payload and the signature differ between tokens.
    let tail = |token: &str| token[token.len() - 60..].to_owned();
    let secrets = [SECRET, &tail(&password), &tail(&token)];
    for line in LINES {
        check(&test, &test.run(line), &secrets, line);
    }
}

#[test]
fn no_error_repeats_a_secret_that_the_server_repeats() {
    let workspace = workspace();
    let test = context(&workspace);
    let paths = [TOKEN, MINT];
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{ID}:{SECRET}"));
    for path in paths {
        for answer in [
            Answer::Json(401, json!({ "error": "invalid_client", "error_description": "no" })),
            Answer::Json(403, json!({ "error_code": "403", "message": "Invalid access token." })),
            Answer::Json(200, json!({ "access_token": 1, "token": 1 })),
            Answer::html(200, "<html>sign in</html>"),
            Answer::redirect(302, "https://elsewhere.example/"),
            Answer::Close,
            Answer::Json(
                401,
                json!({ "error": "invalid_client", "error_description": format!("not {SECRET}!") }),
            ),
            Answer::Json(400, json!({ "message": format!("bad header: Basic {basic}") })),
            Answer::html(403, &format!("<pre>{SECRET} is wrong</pre>")),
            Answer::Json(503, json!({ "message": format!("Bearer {SECRET}") })),
            Answer::redirect(302, &format!("https://elsewhere.example/#{SECRET}")),
        ] {
            workspace.fault(path, 4, answer);
            for line in ["--no-cache", "--no-cache -v", "--refresh -v"] {
                let outcome = test.run(line);
                check(&test, &outcome, &[SECRET, &basic[20..]], line);
            }
            workspace.state().faults.clear();
        }
    }
}

#[test]
fn a_secret_is_redacted_in_each_encoding_that_the_server_repeats() {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

    let secret = "Zq&x<vW kmp/yb+fgh'dl%sentinel";
    let workspace = workspace();
    workspace.state().clients.insert(ID.to_owned(), secret.to_owned());
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_ID", ID).set("DATABRICKS_CLIENT_SECRET", secret);

    let encoded = percent_encode(secret);
    let pair = format!("{}:{encoded}", percent_encode(ID));
    for form in [
        encoded.clone(),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#39;"),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#x27;"),
        BASE64_STANDARD.encode(secret),
        BASE64_STANDARD_NO_PAD.encode(&pair),
        BASE64_STANDARD.encode(format!("{ID}:{secret}")),
        format!("Authorization=Basic {}", BASE64_STANDARD.encode(&pair)),
        format!("Authorization={}", BASE64_STANDARD.encode(&pair)),
    ] {
        let answer =
            json!({ "error": "invalid_client", "error_description": format!("not {form} here") });
        workspace.fault(TOKEN, 1, Answer::Json(401, answer));
        let outcome = test.run("--no-cache");
        outcome.fails(4, &["not ", "*** here"]);
        let body = form.trim_start_matches("Authorization=").trim_start_matches("Basic ");
        holds_none(&outcome.stderr, &[body], &form);
    }
}

#[test]
fn no_name_from_a_server_turns_a_line_of_the_terminal() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", crate::sandbox::workspace::PAT);
    let me = json!({ "userName": "ada\u{202e}moc.elpmaxe@" });
    workspace.fault("/api/2.0/preview/scim/v2/Me", 1, Answer::Json(200, me));
    test.run("-f json").token();

    for line in ["status", "status -v", "write pgpass"] {
        let outcome = test.run(line);
        let text = [outcome.stdout, outcome.stderr].concat();
        assert!(text.contains("ada moc.elpmaxe@"), "{line}: {text}");
        assert!(!text.contains('\u{202e}'), "{line}: {text}");
    }
}

#[test]
fn a_token_that_the_server_repeats_is_redacted() {
    let workspace = workspace();
    let test = context(&workspace);
    let token = test.run("--for workspace").token();
    let echo = json!({ "message": format!("I do not like {token}, nor Bearer {token}") });
    workspace.fault(MINT, 9, Answer::Json(400, echo));
    let outcome = test.run("");
    outcome.fails(4, &["I do not like ***"]);
    check(&test, &outcome, &[&token[40..]], "");
}

#[test]
fn an_opaque_token_that_the_server_repeats_is_redacted_too() {
    let workspace = workspace();
    let test = context(&workspace);
    let opaque = "QmVhcmVyT3BhcXVlZZZ";
    let answer = json!({ "access_token": opaque, "expires_in": 3600 });
    workspace.fault(TOKEN, 9, Answer::Json(200, answer));
    for status in [400, 403, 404] {
        let echo = json!({ "message": format!("no session for {opaque} here") });
        workspace.fault(MINT, 1, Answer::Json(status, echo));
        let outcome = test.run("--refresh");
        outcome.fails(4, &["no session for *** here"]);
        walk(&test.cache_folder(), &mut |path| {
            let is_failure = path.to_string_lossy().ends_with(".failure");
            assert!(!is_failure || !fs::read_to_string(path).unwrap().contains(opaque));
        });
    }
}

#[test]
fn status_shows_no_password_of_a_url() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "https://me:hunter2pw@ws.example.com")
        .set("PGHOST", "a:hunter2pw@b");
    for line in ["status", "status --format json"] {
        let outcome = test.run(line);
        assert_eq!(outcome.code, 2);
        holds_none(&outcome.stdout, &["hunter2pw"], line);
    }
}

#[test]
fn a_password_in_a_setting_is_not_repeated() {
    let workspace = workspace();
    for (name, value) in [
        ("LAKEBASE_ENDPOINT", "postgresql://me:hunter2pw@h/db"),
        ("PGHOST", "me:hunter2pw@h"),
        ("DATABRICKS_AUTH_TYPE", PAT),
        ("DATABRICKS_DISCOVERY_URL", "https://me:hunter2pw@127.0.0.1:1/x"),
        ("PGSSLMODE", PAT),
        ("PGPORT", PAT),
    ] {
        let mut test = context(&workspace);
        if name == "PGHOST" {
            test.unset("LAKEBASE_ENDPOINT");
        }
        let outcome = test.set(name, value).run("");
        outcome.fails(2, &[name]);
        holds_none(&outcome.stderr, &["hunter2pw", PAT], name);
        walk(test.home.path(), &mut |path| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            holds_none(&text, &["hunter2pw"], name);
        });
    }
}

#[test]
fn an_invalid_identity_token_is_not_cached() {
    let workspace = workspace();
    let mut test = context(&workspace);
    test.unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_AUTH_TYPE", "env-oidc")
        .set("DATABRICKS_OIDC_TOKEN", PAT);
    test.run("").fails(4, &["the token from DATABRICKS_OIDC_TOKEN is not a JWT"]);
    let mut failures = 0;
    walk(test.home.path(), &mut |path| {
        failures += usize::from(path.to_string_lossy().ends_with(".failure"));
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        holds_none(&text, &[PAT], &path.to_string_lossy());
    });
    assert!(failures > 0);
}

#[test]
fn a_personal_access_token_is_not_copied() {
    let workspace = workspace();
    workspace.state().pats[0].value = PAT.to_owned();
    let mut test = context(&workspace);
    test.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", PAT);
    for line in LINES {
        let outcome = test.run(line);
        let printed = outcome.stdout.contains(PAT);
        assert_eq!(printed, line.contains("workspace"), "{line}");
        holds_none(&outcome.stderr, &[PAT], line);
        walk(test.home.path(), &mut |path| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            holds_none(&text, &[PAT], &path.to_string_lossy());
        });
    }
}

#[test]
fn errors_about_settings_hide_their_secrets() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "x")
        .set("DATABRICKS_TOKEN", PAT)
        .set("DATABRICKS_CLIENT_SECRET", SECRET);
    for line in LINES {
        let outcome = test.run(line);
        holds_none(&(outcome.stdout + &outcome.stderr), &[PAT, SECRET], line);
    }

    let test = Test::bare();
    test.write(".databrickscfg", &format!("[DEFAULT]\nhost = x\ntoken {PAT}\n"));
    for line in LINES {
        let outcome = test.run(line);
        holds_none(&(outcome.stdout + &outcome.stderr), &[PAT], line);
    }
}
