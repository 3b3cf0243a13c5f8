//! `login --pat`: the pasted token, and the rotating tokens that are created with it. Also what happens in the
//! middle of a call: another login, or a sleep of the machine.

#[cfg(unix)]
use std::collections::HashMap;
use std::fs;
use std::io::Write;
#[cfg(unix)]
use std::process::Command;
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lakebase_token::platform::time::Timestamp;
use serde_json::Value;

use super::login::login_file;
use super::stopwatch::Stopwatch;
#[cfg(unix)]
use super::support::{Dice, executable, has};
use super::support::{HOUR, MINUTE, SECOND, Test, call, started, workspace};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{
    CLIENT_ID, CLIENT_SECRET, MINT, OTHER_USER, PAT, Pat, State, USER, Workspace,
};

const CREATE: &str = "/api/2.0/token/create";
#[cfg(unix)]
const DELETE: &str = "/api/2.0/token/delete";
const LIST: &str = "/api/2.0/token/list";
const ME: &str = "/api/2.0/preview/scim/v2/Me";

/// Runs the program with this text on stdin.
fn run_with_stdin(test: &Test, args: &[&str], stdin: &str) -> Output {
    let mut command = test.command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = started(|| command.spawn());
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn log_in(test: &Test, args: &[&str]) -> Output {
    let output =
        run_with_stdin(test, &[&["login", "--pat"], args].concat(), &format!("  {PAT} \r\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The valid rotating tokens in the workspace, oldest first.
fn rotating_tokens(workspace: &Workspace) -> Vec<String> {
    let state = workspace.state();
    let time = now(&state);
    let is_valid = |pat: &&Pat| pat.comment.starts_with("lakebase-token ") && pat.expires > time;
    state.pats.iter().filter(is_valid).map(|pat| pat.value.clone()).collect()
}

/// The workspace's clock, in seconds.
fn now(state: &State) -> i64 {
    Timestamp::of_system().0 / SECOND + state.skew
}

/// A call in the middle of which something happens: each time that it reads the clock, `happens` sees the
/// workspace, and says how far the clock is ahead.
fn run_while(
    test: &Test,
    workspace: &Workspace,
    line: &str,
    happens: impl Fn(&mut State) -> i64 + 'static,
) -> (u8, String) {
    let shared = workspace.shared();
    let mut context = test.context(|_| ());
    context.now =
        Box::new(move || Timestamp::of_system().plus(happens(&mut shared.lock().unwrap())));
    let (code, stdout, _) = call(&context, line);
    (code, stdout)
}

/// Whether this path was requested.
fn was_requested(state: &State, path: &str) -> bool {
    state.requests.iter().any(|request| request.path == path)
}

/// Role and token of a line of a password file.
fn role_and_token(line: &str) -> (String, String) {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    (fields[3].to_owned(), fields[4].to_owned())
}

#[test]
fn a_credential_that_expires_while_the_role_is_requested_is_not_printed() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    test.set("DATABRICKS_TOKEN", PAT);
    let (code, line) = run_while(&test, &workspace, "get -f pgpass", |state| {
        let slept = if was_requested(state, ME) { 2 * HOUR } else { 0 };
        state.skew = slept / SECOND;
        slept
    });
    assert_eq!((code, workspace.count(MINT)), (0, 2));
    let time = now(&workspace.state());
    let (role, token) = role_and_token(&line);
    assert_eq!(workspace.signer.check_at(&token, Scope::Database, time).as_deref(), Ok(&*role));
}

#[test]
fn a_person_who_logs_in_during_a_call_gets_role_and_token() {
    const OTHER_PAT: &str = "dapi11111111111111111111111111111111";
    let workspace = workspace();
    let (test, other) = (Test::of_person(&workspace), Test::of_person(&workspace));
    log_in(&test, &[]);
    workspace.state().pats.push(Pat {
        value: OTHER_PAT.to_owned(),
        id: "other".to_owned(),
        comment: "made by hand".to_owned(),
        owner: OTHER_USER.to_owned(),
        created: 0,
        expires: i64::MAX,
    });
    let output = run_with_stdin(&other, &["login", "--pat"], OTHER_PAT);
    assert!(output.status.success(), "{output:?}");
    let (login, former) = (login_file(&other), login_file(&test));
    let (code, line) = run_while(&test, &workspace, "get -f pgpass", move |state| {
        if was_requested(state, MINT) {
            fs::copy(&login, &former).unwrap();
        }
        0
    });
    let (role, token) = role_and_token(&line);
    assert_eq!((code, &*role), (0, OTHER_USER));
    assert_eq!(workspace.signer.check(&token, Scope::Database).as_deref(), Ok(OTHER_USER));
}

/// Moves the clock forward for the stored login and for the workspace.
fn pass(test: &Test, workspace: &Workspace, millis: i64) {
    let path = login_file(test);
    let mut login: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let shift = |value: &mut Value| {
        if let Some(time) = value.as_str().and_then(Timestamp::parse) {
            *value = time.plus(-millis).to_string().into();
        }
    };
    for name in ["issued_at", "expires_at", "begun_at"] {
        shift(&mut login[name]);
    }
    if login["pat"]["former"].is_object() {
        shift(&mut login["pat"]["former"]["replaced_at"]);
        shift(&mut login["pat"]["former"]["expires_at"]);
    }
    fs::write(path, login.to_string()).unwrap();
    workspace.state().skew += millis / SECOND;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_pasted_token_is_used_to_create_a_rotating_token() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    let output = log_in(&test, &[]);
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with(&format!("logged in as {USER} at {}", workspace.url)), "{stdout}");
    assert!(
        stdout.contains(
            "replaced when it is used after 10m; the login ends if it is not used for 24h"
        ),
        "{stdout}"
    );
    let page = format!("{}/settings/user/developer/access-tokens", workspace.url);
    assert!(text(&output.stderr).contains(&page));
    let requests = workspace.take_requests();
    assert_eq!(requests, [format!("GET {ME}"), format!("GET {LIST}"), format!("POST {CREATE}")]);

    // The workspace has one rotating token, marked by its comment. The pasted token is stored nowhere.
    let [token] = &rotating_tokens(&workspace)[..] else { panic!("not one rotating token") };
    let state = workspace.state();
    let created = state.pats.iter().find(|pat| pat.value == *token).unwrap();
    let install = fs::read_to_string(test.state_folder().join("install-id"));
    let expected = format!("lakebase-token {} --host {}", install.unwrap().trim(), workspace.url);
    assert_eq!(created.comment, expected);
    assert_eq!(created.expires - created.created, 24 * 3600);
    drop(state);
    assert!(!fs::read_to_string(login_file(&test)).unwrap().contains(PAT));
    assert!(!text(&output.stderr).contains(PAT) && !stdout.contains(PAT));

    // The rotating token is the workspace token, never the password, and it is not in the cache.
    assert_eq!(test.run("--for workspace").token(), *token);
    assert_ne!(test.run("").token(), *token);
    assert!(test.entries().iter().all(|entry| !fs::read_to_string(entry).unwrap().contains(token)));
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["auth_type"], "pat");
    assert_eq!(status["login"]["who"], USER);
    assert_eq!(status["login"]["then"], "replaced when it is used after 10m");

    // Using it creates and deletes no token.
    let requests = workspace.take_requests();
    assert!(requests.iter().all(|line| !line.contains("/token/")), "{requests:?}");
}

/// `external-browser` means each stored login, whose tokens are cached only if they are no personal ones.
#[test]
fn a_login_by_a_pasted_token_that_external_browser_names_is_not_cached() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    log_in(&test, &[]);
    test.set("DATABRICKS_AUTH_TYPE", "external-browser");
    let token = test.run("--for workspace").token();
    let text = |path: &std::path::PathBuf| fs::read_to_string(path).unwrap();
    assert!(test.entries().iter().all(|path| !text(path).contains(&token)));
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["auth_type"], "pat");
}

#[test]
fn a_login_with_an_invalid_token_stores_nothing() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    // A configured identity is not used instead.
    test.set("DATABRICKS_TOKEN", PAT);
    for (pasted, code, words) in [
        ("dapi00000000000000000000000000000000\n", 4, "refused to say who this is"),
        ("\n", 2, "no token was pasted"),
        ("", 2, "no token was pasted"),
        ("not a token\n", 2, "the pasted token has characters that no token has"),
    ] {
        let output = run_with_stdin(&test, &["login", "--pat"], pasted);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{pasted}: {stderr}");
        assert!(
            stderr.contains(words) && stderr.contains("/settings/user/developer/access-tokens"),
            "{stderr}"
        );
        assert!(pasted.trim().len() < 20 || !stderr.contains(pasted.trim()), "{stderr}");
    }
    assert!(rotating_tokens(&workspace).is_empty());
    let folder = test.state_folder();
    let left = fs::read_dir(folder).map_or(0, |folder| folder.count());
    assert_eq!(left, 0);
    for (line, words) in [
        ("login --pat --no-browser", "no use for --no-browser"),
        ("login --pat-lifetime 1h", "no use for --pat-lifetime"),
        ("login --pat --pat-lifetime 10m", "it must be between 15m and 90d"),
        ("login --pat --pat-lifetime 91d", "it must be between 15m and 90d"),
        ("login --pat --pat-lifetime 1h --pat-max-age 50m", "it must be between 10m and 40m"),
    ] {
        test.run(line).fails(2, &[words]);
    }
}

#[test]
fn a_used_token_is_replaced_and_a_token_in_use_is_never_deleted_early() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &["--pat-lifetime", "1h"]);
    let token = |test: &Test| test.run("--for workspace").token();
    let first = token(&test);
    pass(&test, &workspace, 9 * MINUTE);
    assert_eq!(token(&test), first);
    pass(&test, &workspace, MINUTE);
    let second = token(&test);
    assert_ne!(second, first);
    assert_eq!(rotating_tokens(&workspace), [first.clone(), second.clone()]);
    pass(&test, &workspace, 9 * MINUTE + 50 * SECOND);
    assert_eq!((token(&test), rotating_tokens(&workspace).len()), (second.clone(), 2));

    // Ten minutes after its replacement the first is deleted; the second is used, so it is replaced.
    pass(&test, &workspace, 15 * SECOND);
    let third = token(&test);
    assert_eq!(rotating_tokens(&workspace), [second.clone(), third.clone()]);

    // Without use, no token is created.
    pass(&test, &workspace, 50 * MINUTE);
    assert_eq!(rotating_tokens(&workspace), std::slice::from_ref(&third), "the second has expired");
    let fourth = token(&test);
    assert_eq!(rotating_tokens(&workspace), [third, fourth]);

    // Unused until the token has expired.
    pass(&test, &workspace, 61 * MINUTE);
    let hint = format!("hint: lakebase-token login --pat --host {}", workspace.url);
    workspace.take_requests();
    test.run("--for workspace").fails(3, &["has ended", "it was not used in time", &hint]);
    // The workspace is asked, since the local clock may be wrong.
    assert_eq!(workspace.take_requests(), [format!("GET {ME}")]);
    assert_eq!(test.run("status").code, 3);
    assert_eq!(workspace.state().max_valid_alike, 2);
    assert!(workspace.state().pats.iter().any(|pat| pat.value == PAT), "the pasted token stays");
}

#[test]
fn a_rotating_token_that_is_revoked_in_the_workspace_ends_the_login() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let current = rotating_tokens(&workspace).remove(0);
    workspace.state().revoked.push(current);
    let hint = format!("hint: lakebase-token login --pat --host {}", workspace.url);
    test.run("").fails(3, &["has ended", "Invalid access token", &hint]);

    // Further calls make no request.
    workspace.take_requests();
    for _ in 0..10 {
        test.run("").fails(3, &["has ended"]);
    }
    assert!(workspace.take_requests().is_empty());

    // Without the cache the token is not handed out either.
    test.run("--for workspace --no-cache").fails(3, &["has ended", "Invalid access token"]);
    log_in(&test, &[]);
    test.run("").token();
}

#[test]
fn while_the_workspace_is_unavailable_the_old_token_is_used() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    pass(&test, &workspace, 11 * MINUTE);
    workspace.fault(CREATE, 1, Answer::Json(503, "busy".into()));
    assert_eq!(test.run("--for workspace").notes("is not replaced yet"), first);

    // The rotation is not tried again for half a minute.
    workspace.take_requests();
    assert_eq!(test.run("--for workspace").token(), first);
    assert!(workspace.take_requests().is_empty());

    // A workspace that does not answer delays a caller by two seconds at most.
    pass(&test, &workspace, MINUTE);
    workspace.fault(LIST, 1, Answer::Hang(Duration::from_secs(30)));
    let stopwatch = Stopwatch::start();
    assert_eq!(test.run("--for workspace").notes("is not replaced yet"), first);
    stopwatch.assert_within(Duration::from_millis(3500));
    assert_eq!(test.run("--for workspace --offline").token(), first);
}

#[test]
fn fifty_processes_at_once_create_one_successor() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    pass(&test, &workspace, 11 * MINUTE);
    let answers = test.start_many(50, "--for workspace");
    let valid = rotating_tokens(&workspace);
    assert_eq!((valid.len(), &valid[0]), (2, &first));
    for answer in answers {
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert!(valid.contains(&text(&answer.stdout).trim().to_owned()));
    }
    assert_eq!(workspace.count(CREATE), 2);
}

#[test]
fn logout_waits_for_a_renewal() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let held = fs::File::create(login_file(&test).with_extension("lock")).unwrap();
    held.lock().unwrap();
    for line in ["logout --timeout 300ms", "logout --all --timeout 300ms"] {
        let stopwatch = Stopwatch::start();
        test.run(line).fails(5, &["still renewing this login"]);
        stopwatch.assert_within(Duration::from_secs(1));
        assert_eq!(rotating_tokens(&workspace).len(), 1);
    }
    drop(held);
    assert!(test.run("logout").stdout.starts_with("logged out "));
    assert!(rotating_tokens(&workspace).is_empty());
}

#[test]
fn a_login_with_the_host_flag_does_not_belong_to_the_profile_variable() {
    let (one, other) = (workspace(), workspace());
    let mut test = Test::of_person(&one);
    test.unset("DATABRICKS_HOST");
    test.write(".databrickscfg", &format!("[work]\nhost = {}\n", one.url));
    log_in(&test, &["--profile", "work"]);
    test.set("DATABRICKS_CONFIG_PROFILE", "work");
    log_in(&test, &["--host", &other.url]);
    assert_eq!((rotating_tokens(&one).len(), rotating_tokens(&other).len()), (1, 1));
    test.run("").token();
    test.run(&format!("--host {}", other.url)).token();
    let stdout = test.run(&format!("logout --host {}", other.url)).stdout;
    assert!(stdout.ends_with(&format!("(--host {})\n", other.url)), "{stdout}");
    assert_eq!((rotating_tokens(&one).len(), rotating_tokens(&other).len()), (1, 0));
    let stdout = test.run(&format!("logout --host {}", one.url)).stdout;
    assert!(stdout.ends_with("(--profile work)\n"), "{stdout}");
    assert!(rotating_tokens(&one).is_empty());
}

#[test]
fn logout_deletes_the_rotating_tokens_and_no_other_token() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    pass(&test, &workspace, 11 * MINUTE);
    test.run("--for workspace").token();
    assert_eq!(rotating_tokens(&workspace).len(), 2);
    let outcome = test.run("logout");
    assert_eq!(outcome.stdout, format!("logged out {USER} (--host {})\n", workspace.url));
    assert!(rotating_tokens(&workspace).is_empty());
    assert_eq!(workspace.state().pats.len(), 1);
    test.run("--for workspace").fails(2, &["no Databricks identity"]);

    // If the workspace is unavailable, the error names the page where a person can delete them.
    log_in(&test, &[]);
    workspace.fault(LIST, 9, Answer::Json(503, "busy".into()));
    test.run("logout")
        .fails(5, &["tokens of this login stay valid until", "/developer/access-tokens"]);
    test.run("").fails(2, &["no Databricks identity"]);
}

#[test]
fn the_pasted_token_is_deleted_only_with_revoke_pasted() {
    for others in [false, true] {
        let workspace = workspace();
        let test = Test::of_person(&workspace);
        let mut pasted = PAT.to_owned();
        if others {
            // Another token of the same person: the digests distinguish the two.
            let api = format!("{}{CREATE}", workspace.url);
            let answer = ureq::post(&api)
                .header("Authorization", &format!("Bearer {PAT}"))
                .header("Content-Type", "application/json")
                .send("{\"comment\":\"a CI job's\"}")
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            pasted = answer["token_value"].as_str().unwrap().to_owned();
        }
        let output = run_with_stdin(&test, &["login", "--pat", "--revoke-pasted"], &pasted);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let state = workspace.state();
        assert!(state.pats.iter().all(|pat| pat.value != pasted));
        assert_eq!(state.pats.iter().any(|pat| pat.value == PAT), others);
    }

    // An OAuth token is not in the list of personal access tokens.
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    let login = "grant_type=client_credentials&scope=all-apis";
    let basic = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    let answer = ureq::post(format!("{}/oidc/v1/token", workspace.url))
        .header("Authorization", &format!("Basic {basic}"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .send(login)
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    workspace.state().pats[0].owner = CLIENT_ID.to_owned();
    let pasted = answer["access_token"].as_str().unwrap();
    let output = run_with_stdin(&test, &["login", "--pat", "--revoke-pasted"], pasted);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(workspace.state().pats[0].value, PAT);
}

#[test]
fn a_pasted_token_whose_id_is_not_its_digest_is_not_deleted() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    for id in ["a", "b"] {
        let mut state = workspace.state();
        let (comment, owner) = ("a CI job's".to_owned(), USER.to_owned());
        let value = format!("dapi{id}");
        state.pats.push(Pat {
            value,
            id: id.to_owned(),
            comment,
            owner,
            created: 0,
            expires: i64::MAX,
        });
    }
    workspace.state().pats[0].id = "c".to_owned();
    let output = run_with_stdin(&test, &["login", "--pat", "--revoke-pasted"], PAT);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("no token in the workspace's list has its id")
            && stderr.contains("the login itself succeeded"),
        "{stderr}"
    );
    assert_eq!(workspace.state().pats.len(), 4);
    test.run("").token();
}

#[test]
fn a_second_login_keeps_the_tokens_that_are_in_use() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    log_in(&test, &["--pat-lifetime", "2h"]);
    let second = test.run("--for workspace").token();
    assert_eq!(rotating_tokens(&workspace), [first.clone(), second.clone()]);

    // No third token while a program may still hold the first.
    log_in(&test, &[]);
    assert_eq!(test.run("--for workspace").token(), second);
    assert_eq!(rotating_tokens(&workspace), [first, second]);
    assert_eq!(workspace.state().max_valid_alike, 2);
}

#[cfg(unix)]
#[test]
fn a_login_that_cannot_be_stored_leaves_the_previous_login_intact() {
    if !has("pat_login::a_login_that_cannot_be_stored", "strace") {
        return;
    }
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();

    // A login as another user, on a full disk.
    workspace.state().pats.push(Pat {
        value: "dapi99990123456789abcdef0123456789abcdef".to_owned(),
        id: "bob".to_owned(),
        comment: String::new(),
        owner: "bob@example.com".to_owned(),
        created: 0,
        expires: i64::MAX,
    });
    let mut command = Command::new("strace");
    command.env_clear().envs(test.env.iter().cloned()).stdin(Stdio::piped());
    command.args(["-f", "-o", "/dev/null", "-e", "inject=renameat:error=ENOSPC"]);
    command.arg(executable()).args(["login", "--pat"]).stderr(Stdio::piped());
    let mut child = started(|| command.spawn());
    let pasted = b"dapi99990123456789abcdef0123456789abcdef\n";
    child.stdin.take().unwrap().write_all(pasted).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(test.run("--for workspace").token(), first);
    assert_eq!(
        rotating_tokens(&workspace),
        std::slice::from_ref(&first),
        "the new token is deleted, the old one stays"
    );

    // Once the new login is stored, the previous login's tokens are deleted.
    assert!(
        run_with_stdin(&test, &["login", "--pat"], "dapi99990123456789abcdef0123456789abcdef")
            .status
            .success()
    );
    let bobs = test.run("--for workspace").token();
    assert_eq!(rotating_tokens(&workspace), [bobs]);
}

#[test]
fn a_rotating_token_and_a_malformed_list_are_refused() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let own = test.run("--for workspace").token();
    for _ in 0..2 {
        let output = run_with_stdin(&test, &["login", "--pat", "--revoke-pasted"], &own);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("is a rotating token of lakebase-token"));
        assert_eq!(rotating_tokens(&workspace), std::slice::from_ref(&own));
        // The second time without the login that it belongs to.
        let _ = fs::remove_file(login_file(&test));
        fs::write(test.state_folder().join("login-x"), "").unwrap();
    }
    for list in ["{}", "{\"token_infos\":{}}", "{\"token_infos\":[],\"next_page_token\":\"x\"}"] {
        workspace.fault(LIST, 1, Answer::Json(200, serde_json::from_str(list).unwrap()));
        let output = run_with_stdin(&test, &["login", "--pat"], PAT);
        assert_eq!(output.status.code(), Some(1), "{list}");
        assert!(
            text(&output.stderr)
                .contains("list of personal access tokens is incomplete or malformed")
        );
    }
    assert_eq!(rotating_tokens(&workspace), [own]);
}

#[test]
fn a_profile_with_the_name_of_the_workspace_has_its_own_tokens() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    let url = workspace.url.clone();
    test.unset("DATABRICKS_HOST").write(".databrickscfg", &format!("[{url}]\nhost = {url}\n"));
    log_in(&test, &["--profile", &url]);
    assert!(rotating_tokens(&workspace).contains(&first) && rotating_tokens(&workspace).len() == 2);
}

#[test]
fn a_wrong_clock_does_not_end_the_login() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &["--pat-lifetime", "1h"]);
    let first = test.run("--for workspace").token();

    // The token was created while the local clock was two hours ahead.
    pass(&test, &workspace, -2 * HOUR);
    workspace.state().skew = 0;
    let second = test.run("--for workspace").token();
    assert_ne!(second, first);

    // The local clock is ahead now, but the workspace still accepts the token.
    pass(&test, &workspace, 2 * HOUR);
    workspace.state().skew = 0;
    assert_eq!(test.run("--for workspace").code, 0);
}

#[test]
fn the_printed_expiry_is_at_most_the_grace_period_of_a_replaced_token() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let printed: Value = serde_json::from_str(&test.run("--for workspace -f json").stdout).unwrap();
    let expires = Timestamp::parse(printed["expires_at"].as_str().unwrap()).unwrap();
    let left = expires.since(Timestamp::of_system());
    assert!((9 * MINUTE..=10 * MINUTE).contains(&left), "{left}");
}

#[cfg(unix)]
#[test]
fn logout_removes_an_unusable_login() {
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    for damage in ["chmod 644", "truncate -s -3", "ln -sf /dev/null"] {
        log_in(&test, &[]);
        let path = login_file(&test);
        let line = format!("{damage} '{}'", path.display());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        let outcome = test.run("logout");
        assert!(outcome.stdout.contains("its tokens stay valid"), "{damage}: {outcome:?}");
        assert!(path.symlink_metadata().is_err());
        assert_eq!(test.run("logout --all").stdout, "not logged in\n");
    }
}

/// The fault in one rotation.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Refused(&'static str),
    /// The workspace closes the connection.
    Closed(&'static str),
    /// The workspace answers, but the answer is lost.
    LostAnswer(&'static str),
    /// The disk is full at the n-th rename of the process.
    DiskFull(usize),
    /// The process is killed at its n-th rename.
    Kill(usize),
}

/// Runs a renewal like `get`, with this fault. Returns the token that it hands out.
#[cfg(unix)]
fn renew(test: &Test, workspace: &Workspace, fault: Fault) -> Option<String> {
    match fault {
        Fault::Refused(path) => {
            let words = "{\"error_code\":\"QUOTA_EXCEEDED\",\"message\":\"enough\"}";
            let answer = serde_json::from_str(words).unwrap();
            workspace.fault(path, 1, Answer::Json(400, answer));
        }
        Fault::Closed(path) => workspace.fault(path, 1, Answer::Close),
        Fault::LostAnswer(path) => workspace.state().lost_answer = Some(path),
        _ => (),
    }
    let args = ["renew-login", "--host", &workspace.url, "60000"];
    let inject = match fault {
        Fault::DiskFull(nth) => Some(format!("error=ENOSPC:when={nth}")),
        Fault::Kill(nth) => Some(format!("signal=SIGKILL:when={nth}")),
        _ => None,
    };
    let output = match inject {
        None => test.command().args(args).output().unwrap(),
        Some(inject) => {
            let mut command = Command::new("strace");
            command.env_clear().envs(test.env.iter().cloned()).stderr(Stdio::null());
            command.args(["-f", "-o", "/dev/null", "-e", &format!("inject=renameat:{inject}")]);
            command.arg(executable()).args(args).output().unwrap()
        }
    };
    let mut state = workspace.state();
    state.lost_answer = None;
    state.faults.clear();
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    answer["access_token"].as_str().map(str::to_owned)
}

#[cfg(unix)]
#[test]
fn a_thousand_rotations_with_faults_neither_lose_nor_accumulate_tokens() {
    if !has("pat_login::a_thousand_rotations", "strace") {
        return;
    }
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    log_in(&test, &[]);
    let mut handed_out: HashMap<String, i64> = HashMap::new();
    let mut faults = 0;
    let mut replaced = 0;
    let mut killed = 0;
    let mut max_valid = 0;
    let mut last = rotating_tokens(&workspace)[0].clone();
    let mut rotations = 0;
    let mut dice = Dice::seeded(1_000);
    while replaced < 1000 {
        rotations += 1;
        let [kind, which, wait] = [16, 256, 12].map(|sides| dice.roll(sides));
        let path = [CREATE, DELETE, LIST][which % 3];
        let fault = match kind {
            0 | 1 => Fault::Refused(path),
            2 => Fault::Closed(path),
            3 | 4 => Fault::LostAnswer(path),
            5 if which < 128 => Fault::DiskFull(which % 2 + 1),
            6 if which < 128 => Fault::Kill(which % 2 + 1),
            _ => Fault::None,
        };
        pass(&test, &workspace, 5 * MINUTE + wait as i64 * MINUTE);
        let before = rotating_tokens(&workspace);
        let at = now(&workspace.state());
        workspace.state().max_valid_alike = 0;
        let token = renew(&test, &workspace, fault);
        let after = rotating_tokens(&workspace);

        // There is always a valid current token, and only that is handed out.
        let current: Value = serde_json::from_slice(&fs::read(login_file(&test)).unwrap()).unwrap();
        let current = current["access_token"].as_str().unwrap().to_owned();
        assert!(after.contains(&current), "{rotations}: {fault:?}");
        if let Some(token) = &token {
            assert_eq!(*token, current);
            handed_out.insert(token.clone(), at);
        }
        assert!(token.is_some() || matches!(fault, Fault::Kill(_)), "{rotations}: {fault:?}");

        // A token is deleted at the earliest ten minutes after it was handed out last.
        for gone in before.iter().filter(|token| !after.contains(token)) {
            let held = at - handed_out.get(gone).copied().unwrap_or(i64::MIN / 2);
            assert!(held >= 600, "{rotations}: {fault:?}: deleted after {held} s");
        }

        // Never three, not even if a run was killed between creating a token and storing it.
        max_valid = max_valid.max(workspace.state().max_valid_alike).max(after.len());
        assert!(max_valid <= 2, "{rotations}: {fault:?}: {max_valid} valid");
        faults += usize::from(fault != Fault::None);
        killed += usize::from(token.is_none());
        replaced += usize::from(current != last);
        last = current;
    }
    eprintln!(
        "{rotations} renewals, {faults} faults, {killed} killed, {replaced} replaced, at most {max_valid} valid"
    );
    assert!(faults > 200 && killed > 5);
    assert!(workspace.state().pats.iter().any(|pat| pat.value == PAT), "the pasted token stays");
    pass(&test, &workspace, HOUR);
    test.run("--for workspace").token();
    assert!(rotating_tokens(&workspace).len() <= 2);
}

/// Runs a command in a terminal of its own and types these keys.
#[cfg(unix)]
fn run_in_terminal(test: &Test, args: &[&str], keys: &str) -> Value {
    let script = super::support::repository().join("tests/it/scripts/terminal.py");
    let mut command = Command::new("python3");
    command.env_clear().envs(test.env.iter().cloned());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.arg(script).arg(keys).arg(executable()).args(args);
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[cfg(unix)]
#[test]
fn a_terminal_does_not_show_the_token_and_shows_input_again_afterwards() {
    if !has("pat_login::a_terminal", "python3") {
        return;
    }
    let workspace = workspace();
    let test = Test::of_person(&workspace);
    let args = ["login", "--pat", "--host", &workspace.url];
    let outcome = run_in_terminal(&test, &args, &format!(" {PAT} \\n"));
    let shown = outcome["shown"].as_str().unwrap();
    assert_eq!(outcome["code"], 0, "{shown}");
    assert!(shown.contains("paste it here; it is not shown"), "{shown}");
    assert!(shown.contains(&format!("logged in as {USER}")), "{shown}");
    assert!(!shown.contains(&PAT[..12]), "{shown}");
    assert_eq!((&outcome["hidden"], &outcome["echoes"]), (&true.into(), &true.into()));

    // Ctrl-C during a paste; Ctrl-Z and Ctrl-\ have no effect, Ctrl-D is an empty line.
    let outcome = run_in_terminal(&test, &args, &format!("{}\\x1a\\x1c\\x03", &PAT[..12]));
    let shown = outcome["shown"].as_str().unwrap();
    assert_eq!(outcome["code"], -2, "killed by SIGINT: {shown}");
    assert!(!shown.contains(&PAT[..12]), "{shown}");
    assert_eq!((&outcome["hidden"], &outcome["echoes"]), (&true.into(), &true.into()));
    let outcome = run_in_terminal(&test, &args, "\\x04");
    assert_eq!((&outcome["code"], &outcome["echoes"]), (&2.into(), &true.into()));
}
