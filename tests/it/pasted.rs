//! `login --pat`: what becomes of a pasted token, and of the tokens that replace themselves.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lakebase_token::platform::time::Timestamp;
use serde_json::Value;

use super::login::login_file;
use super::support::{HOUR, MINUTE, SECOND, Test, executable, has, workspace};
use crate::sandbox::jwt::random;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT, PAT, Pat, USER, Workspace};

const CREATE: &str = "/api/2.0/token/create";
const DELETE: &str = "/api/2.0/token/delete";
const LIST: &str = "/api/2.0/token/list";
const ME: &str = "/api/2.0/preview/scim/v2/Me";

/// Somebody with nothing but a workspace.
fn person(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("LAKEBASE_ENDPOINT", ENDPOINT);
    test
}

/// Calls the program with something on stdin.
fn piped(test: &Test, args: &[&str], stdin: &str) -> Output {
    let mut command = test.command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn log_in(test: &Test, args: &[&str]) -> Output {
    let output = piped(test, &[&["login", "--pat"], args].concat(), &format!("  {PAT} \r\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The living tokens of ours, oldest first.
fn ours(workspace: &Workspace) -> Vec<String> {
    let state = workspace.state();
    let time = now(&state);
    let own = |pat: &&Pat| pat.comment.starts_with("lakebase-token ") && pat.expires > time;
    state.pats.iter().filter(own).map(|pat| pat.value.clone()).collect()
}

/// The workspace's time.
fn now(state: &crate::sandbox::workspace::State) -> i64 {
    Timestamp::of_system().0 / SECOND + state.skew
}

/// Lets time pass for a login and for the workspace.
fn pass(test: &Test, workspace: &Workspace, millis: i64) {
    let path = login_file(test);
    let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let shift = |value: &mut Value| {
        if let Some(time) = value.as_str().and_then(Timestamp::parse) {
            *value = time.plus(-millis).to_string().into();
        }
    };
    for name in ["issued_at", "expires_at", "begun_at"] {
        shift(&mut kept[name]);
    }
    if kept["pat"]["former"].is_object() {
        shift(&mut kept["pat"]["former"]["replaced_at"]);
        shift(&mut kept["pat"]["former"]["expires_at"]);
    }
    fs::write(path, kept.to_string()).unwrap();
    workspace.state().skew += millis / SECOND;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_pasted_token_becomes_one_of_ours() {
    let workspace = workspace();
    let test = person(&workspace);
    let output = log_in(&test, &[]);
    let said = text(&output.stdout);
    assert!(said.starts_with(&format!("logged in as {USER} at {}", workspace.url)), "{said}");
    assert!(said.contains("replaced when used after 10m; unused for 24h, it ends"), "{said}");
    let page = format!("{}/settings/user/developer/access-tokens", workspace.url);
    assert!(text(&output.stderr).contains(&page));
    let asked = workspace.take_requests();
    assert_eq!(asked, [format!("GET {ME}"), format!("GET {LIST}"), format!("POST {CREATE}")]);
    // One of ours, named by its comment, and nothing of the pasted one anywhere.
    let [ours] = &ours(&workspace)[..] else { panic!("not one token of ours") };
    let state = workspace.state();
    let made = state.pats.iter().find(|pat| pat.value == *ours).unwrap();
    let install =
        fs::read_to_string(test.home.path().join(".local/state/lakebase-token/install-id"));
    let expected = format!("lakebase-token {} --host {}", install.unwrap().trim(), workspace.url);
    assert_eq!(made.comment, expected);
    assert_eq!(made.expires - made.created, 24 * 3600);
    drop(state);
    assert!(!fs::read_to_string(login_file(&test)).unwrap().contains(PAT));
    assert!(!text(&output.stderr).contains(PAT) && !said.contains(PAT));
    // It is the bearer, never the password, and no copy of it is cached.
    assert_eq!(test.run("--for workspace").token(), *ours);
    assert_ne!(test.run("").token(), *ours);
    assert!(test.entries().iter().all(|entry| !fs::read_to_string(entry).unwrap().contains(ours)));
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["auth_type"], "pat");
    assert_eq!(status["login"]["who"], USER);
    assert_eq!(status["login"]["then"], "replaced when it is used after 10m");
    // Nothing was made or deleted by using it.
    let asked = workspace.take_requests();
    assert!(asked.iter().all(|line| !line.contains("/token/")), "{asked:?}");
}

#[test]
fn a_token_that_is_none_leaves_nothing() {
    let workspace = workspace();
    let mut test = person(&workspace);
    // No other identity is tried, however good it is.
    test.set("DATABRICKS_TOKEN", PAT);
    for (pasted, code, words) in [
        ("dapi00000000000000000000000000000000\n", 4, "refused to say who this is"),
        ("\n", 2, "no token was pasted"),
        ("", 2, "no token was pasted"),
        ("not a token\n", 2, "what was pasted"),
    ] {
        let output = piped(&test, &["login", "--pat"], pasted);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{pasted}: {said}");
        assert!(
            said.contains(words) && said.contains("/settings/user/developer/access-tokens"),
            "{said}"
        );
        assert!(pasted.trim().len() < 20 || !said.contains(pasted.trim()), "{said}");
    }
    assert!(ours(&workspace).is_empty());
    let folder = test.home.path().join(".local/state/lakebase-token");
    let left = fs::read_dir(folder).map_or(0, |folder| folder.count());
    assert_eq!(left, 0);
    for (line, words) in [
        ("login --pat --no-browser", "no use for --no-browser"),
        ("login --pat-lifetime 1h", "no use for --pat-lifetime"),
        ("login --pat --pat-lifetime 10m", "allowed is 15m to 90d"),
        ("login --pat --pat-lifetime 91d", "allowed is 15m to 90d"),
        ("login --pat --pat-lifetime 1h --pat-max-age 50m", "allowed is 10m to 40m"),
    ] {
        test.run(line).fails(2, &[words]);
    }
}

#[test]
fn a_used_token_replaces_itself_and_nobodys_dies_in_his_hand() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &["--pat-lifetime", "1h"]);
    let token = |test: &Test| test.run("--for workspace").token();
    let first = token(&test);
    pass(&test, &workspace, 9 * MINUTE);
    assert_eq!(token(&test), first);
    pass(&test, &workspace, MINUTE);
    let second = token(&test);
    assert_ne!(second, first);
    assert_eq!(ours(&workspace), [first.clone(), second.clone()]);
    pass(&test, &workspace, 9 * MINUTE + 50 * SECOND);
    assert_eq!((token(&test), ours(&workspace).len()), (second.clone(), 2));
    // Ten minutes later the first is deleted, and the second, used, replaced.
    pass(&test, &workspace, 15 * SECOND);
    let third = token(&test);
    assert_eq!(ours(&workspace), [second.clone(), third.clone()]);
    // Nobody asks: nothing is made.
    pass(&test, &workspace, 50 * MINUTE);
    assert_eq!(ours(&workspace), std::slice::from_ref(&third), "the second died by itself");
    let fourth = token(&test);
    assert_eq!(ours(&workspace), [third, fourth]);
    // Idle past its life.
    pass(&test, &workspace, 61 * MINUTE);
    let hint = format!("hint: lakebase-token login --pat --host {}", workspace.url);
    workspace.take_requests();
    test.run("--for workspace").fails(3, &["has ended", "nobody used it in time", &hint]);
    // It might have been our clock.
    assert_eq!(workspace.take_requests(), [format!("GET {ME}")]);
    assert_eq!(test.run("status").code, 3);
    assert_eq!(workspace.state().most_alike, 2);
    assert!(workspace.state().pats.iter().any(|pat| pat.value == PAT), "not ours");
}

#[test]
fn one_that_was_revoked_elsewhere_ends_the_login() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let current = ours(&workspace).remove(0);
    workspace.state().revoked.push(current);
    let hint = format!("hint: lakebase-token login --pat --host {}", workspace.url);
    test.run("").fails(3, &["has ended", "Invalid access token", &hint]);
    // A client that does not stop asking costs nothing.
    workspace.take_requests();
    for _ in 0..10 {
        test.run("").fails(3, &["has ended"]);
    }
    assert!(workspace.take_requests().is_empty());
    // Nor is it handed out to those who would find out for themselves.
    test.run("--for workspace --no-cache").fails(3, &["has ended", "Invalid access token"]);
    log_in(&test, &[]);
    test.run("").token();
}

#[test]
fn a_workspace_that_is_away_costs_nobody_the_token() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    pass(&test, &workspace, 11 * MINUTE);
    workspace.fault(CREATE, 1, Answer::Json(503, "busy".into()));
    assert_eq!(test.run("--for workspace").notes("is not replaced yet"), first);
    // For half a minute nobody tries again.
    workspace.take_requests();
    assert_eq!(test.run("--for workspace").token(), first);
    assert!(workspace.take_requests().is_empty());
    // One that hangs holds nobody up for longer than two seconds.
    pass(&test, &workspace, MINUTE);
    workspace.fault(LIST, 1, Answer::Hang(Duration::from_secs(4)));
    let began = Instant::now();
    assert_eq!(test.run("--for workspace").notes("is not replaced yet"), first);
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
    assert_eq!(test.run("--for workspace --offline").token(), first);
}

#[test]
fn fifty_at_once_make_one_successor() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    pass(&test, &workspace, 11 * MINUTE);
    let start = |_| {
        let mut command = test.command();
        command.args(["--for", "workspace"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..50).map(start).collect();
    let answers: Vec<Output> =
        children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
    let alive = ours(&workspace);
    assert_eq!((alive.len(), &alive[0]), (2, &first));
    for answer in answers {
        assert!(answer.status.success(), "{}", text(&answer.stderr));
        assert!(alive.contains(&text(&answer.stdout).trim().to_owned()));
    }
    assert_eq!(workspace.count(CREATE), 2);
}

#[test]
fn a_login_that_is_being_renewed_is_not_thrown_away() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let held = fs::File::create(login_file(&test).with_extension("lock")).unwrap();
    held.lock().unwrap();
    for line in ["logout --timeout 300ms", "logout --all --timeout 300ms"] {
        let began = Instant::now();
        test.run(line).fails(5, &["still renewing this login"]);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(ours(&workspace).len(), 1);
    }
    drop(held);
    assert!(test.run("logout").stdout.starts_with("logged out "));
    assert!(ours(&workspace).is_empty());
}

#[test]
fn a_host_that_is_a_flag_is_not_the_variables_profile() {
    let (one, other) = (workspace(), workspace());
    let mut test = person(&one);
    test.unset("DATABRICKS_HOST");
    test.write(".databrickscfg", &format!("[work]\nhost = {}\n", one.url));
    log_in(&test, &["--profile", "work"]);
    test.set("DATABRICKS_CONFIG_PROFILE", "work");
    log_in(&test, &["--host", &other.url]);
    assert_eq!((ours(&one).len(), ours(&other).len()), (1, 1));
    test.run("").token();
    test.run(&format!("--host {}", other.url)).token();
    let said = test.run(&format!("logout --host {}", other.url)).stdout;
    assert!(said.ends_with(&format!("(--host {})\n", other.url)), "{said}");
    assert_eq!((ours(&one).len(), ours(&other).len()), (1, 0));
    let said = test.run(&format!("logout --host {}", one.url)).stdout;
    assert!(said.ends_with("(--profile work)\n"), "{said}");
    assert!(ours(&one).is_empty());
}

#[test]
fn logout_deletes_ours_and_nothing_else() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    pass(&test, &workspace, 11 * MINUTE);
    test.run("--for workspace").token();
    assert_eq!(ours(&workspace).len(), 2);
    let said = test.run("logout");
    assert_eq!(said.stdout, format!("logged out {USER} (--host {})\n", workspace.url));
    assert!(ours(&workspace).is_empty());
    assert_eq!(workspace.state().pats.len(), 1);
    test.run("--for workspace").fails(2, &["no Databricks identity"]);
    // A workspace that cannot be asked keeps them; that is said, with where they can be deleted.
    log_in(&test, &[]);
    workspace.fault(LIST, 9, Answer::Json(503, "busy".into()));
    test.run("logout").fails(5, &["tokens of ours are left until", "/developer/access-tokens"]);
    test.run("").fails(2, &["no Databricks identity"]);
}

#[test]
fn the_pasted_one_is_deleted_only_on_request() {
    for others in [false, true] {
        let workspace = workspace();
        let test = person(&workspace);
        let mut pasted = PAT.to_owned();
        if others {
            // Another one beside it: the digest tells them apart.
            let api = format!("{}{CREATE}", workspace.url);
            let answer = ureq::post(&api)
                .header("Authorization", &format!("Bearer {PAT}"))
                .send("{\"comment\":\"a CI job's\"}")
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            pasted = answer["token_value"].as_str().unwrap().to_owned();
        }
        let output = piped(&test, &["login", "--pat", "--revoke-pasted"], &pasted);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let state = workspace.state();
        assert!(state.pats.iter().all(|pat| pat.value != pasted));
        assert_eq!(state.pats.iter().any(|pat| pat.value == PAT), others);
    }
    // One that is no personal access token at all is not in the list.
    let workspace = workspace();
    let test = person(&workspace);
    let login = "grant_type=client_credentials";
    let basic = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    let answer = ureq::post(format!("{}/oidc/v1/token", workspace.url))
        .header("Authorization", &format!("Basic {basic}"))
        .send(login)
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    workspace.state().pats[0].owner = CLIENT_ID.to_owned();
    let pasted = answer["access_token"].as_str().unwrap();
    let output = piped(&test, &["login", "--pat", "--revoke-pasted"], pasted);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(workspace.state().pats[0].value, PAT);
}

#[test]
fn a_pasted_one_that_cannot_be_told_from_others_stays() {
    // Its id is not what it has been so far.
    let workspace = workspace();
    let test = person(&workspace);
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
    let output = piped(&test, &["login", "--pat", "--revoke-pasted"], PAT);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot be told from others")
            && said.contains("you are logged in nevertheless"),
        "{said}"
    );
    assert_eq!(workspace.state().pats.len(), 4);
    test.run("").token();
}

#[test]
fn logging_in_again_goes_on_with_what_somebody_holds() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    log_in(&test, &["--pat-lifetime", "2h"]);
    let second = test.run("--for workspace").token();
    assert_eq!(ours(&workspace), [first.clone(), second.clone()]);
    // Not a third while somebody may hold the first.
    log_in(&test, &[]);
    assert_eq!(test.run("--for workspace").token(), second);
    assert_eq!(ours(&workspace), [first, second]);
    assert_eq!(workspace.state().most_alike, 2);
}

#[test]
fn a_login_that_cannot_be_stored_costs_nobody_the_former_one() {
    if !has("pasted::a_login_that_cannot", "strace") {
        return;
    }
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    // As somebody else, on a disk that is full.
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
    let mut child = command.spawn().unwrap();
    let pasted = b"dapi99990123456789abcdef0123456789abcdef\n";
    child.stdin.take().unwrap().write_all(pasted).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(test.run("--for workspace").token(), first);
    assert_eq!(
        ours(&workspace),
        std::slice::from_ref(&first),
        "the new one is deleted, the old one stays"
    );
    // Where it can be stored, the former one's tokens are deleted.
    assert!(
        piped(&test, &["login", "--pat"], "dapi99990123456789abcdef0123456789abcdef")
            .status
            .success()
    );
    let bobs = test.run("--for workspace").token();
    assert_eq!(ours(&workspace), [bobs]);
}

#[test]
fn what_is_pasted_or_listed_may_be_odd() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let own = test.run("--for workspace").token();
    for _ in 0..2 {
        let output = piped(&test, &["login", "--pat", "--revoke-pasted"], &own);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("is a token of ours"));
        assert_eq!(ours(&workspace), std::slice::from_ref(&own));
        // Also where nobody knows of it here any more.
        let _ = fs::remove_file(login_file(&test));
        fs::write(test.home.path().join(".local/state/lakebase-token/login-x"), "").unwrap();
    }
    for list in ["{}", "{\"token_infos\":{}}", "{\"token_infos\":[],\"next_page_token\":\"x\"}"] {
        workspace.fault(LIST, 1, Answer::Json(200, serde_json::from_str(list).unwrap()));
        let output = piped(&test, &["login", "--pat"], PAT);
        assert_eq!(output.status.code(), Some(1), "{list}");
        assert!(text(&output.stderr).contains("list of personal access tokens makes no sense"));
    }
    assert_eq!(ours(&workspace), [own]);
}

#[test]
fn a_profile_called_like_the_workspace_has_tokens_of_its_own() {
    let workspace = workspace();
    let mut test = person(&workspace);
    log_in(&test, &[]);
    let first = test.run("--for workspace").token();
    let url = workspace.url.clone();
    test.unset("DATABRICKS_HOST").write(".databrickscfg", &format!("[{url}]\nhost = {url}\n"));
    log_in(&test, &["--profile", &url]);
    assert!(ours(&workspace).contains(&first) && ours(&workspace).len() == 2);
}

#[test]
fn a_clock_that_was_wrong_costs_nobody_the_login() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &["--pat-lifetime", "1h"]);
    let first = test.run("--for workspace").token();
    // Made while the clock was two hours ahead.
    pass(&test, &workspace, -2 * HOUR);
    workspace.state().skew = 0;
    let second = test.run("--for workspace").token();
    assert_ne!(second, first);
    // The clock is ahead now: the workspace knows better.
    pass(&test, &workspace, 2 * HOUR);
    workspace.state().skew = 0;
    assert_eq!(test.run("--for workspace").code, 0);
}

#[test]
fn what_is_printed_promises_no_longer_life_than_a_replaced_one_has() {
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let printed: Value = serde_json::from_str(&test.run("--for workspace -f json").stdout).unwrap();
    let expires = Timestamp::parse(printed["expires_at"].as_str().unwrap()).unwrap();
    let left = expires.since(Timestamp::of_system());
    assert!((9 * MINUTE..=10 * MINUTE).contains(&left), "{left}");
}

#[test]
fn a_login_that_cannot_be_read_can_be_ended() {
    let workspace = workspace();
    let test = person(&workspace);
    for damage in ["chmod 644", "truncate -s -3", "ln -sf /dev/null"] {
        log_in(&test, &[]);
        let path = login_file(&test);
        let line = format!("{damage} '{}'", path.display());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
        let said = test.run("logout");
        assert!(said.stdout.contains("which cannot be read"), "{damage}: {said:?}");
        assert!(path.symlink_metadata().is_err());
        assert_eq!(test.run("logout --all").stdout, "nobody was logged in\n");
    }
}

/// What a fault does to one rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    Refused(&'static str),
    Away(&'static str),
    Lost(&'static str),
    /// The n-th rename of the process fails for want of space.
    Disk(usize),
    /// The process is killed at its n-th rename.
    Kill(usize),
}

/// Runs the renewal as `get` does, perhaps with a fault; the token it hands out.
fn renewed(test: &Test, workspace: &Workspace, trouble: Trouble) -> Option<String> {
    match trouble {
        Trouble::Refused(path) => {
            let words = "{\"error_code\":\"QUOTA_EXCEEDED\",\"message\":\"enough\"}";
            let answer = serde_json::from_str(words).unwrap();
            workspace.fault(path, 1, Answer::Json(400, answer));
        }
        Trouble::Away(path) => workspace.fault(path, 1, Answer::Close),
        Trouble::Lost(path) => workspace.state().lost = Some(path),
        _ => (),
    }
    let words = ["renew-login", "--host", &workspace.url, "60000"];
    let inject = match trouble {
        Trouble::Disk(nth) => Some(format!("error=ENOSPC:when={nth}")),
        Trouble::Kill(nth) => Some(format!("signal=SIGKILL:when={nth}")),
        _ => None,
    };
    let output = match inject {
        None => test.command().args(words).output().unwrap(),
        Some(inject) => {
            let mut command = Command::new("strace");
            command.env_clear().envs(test.env.iter().cloned()).stderr(Stdio::null());
            command.args(["-f", "-o", "/dev/null", "-e", &format!("inject=renameat:{inject}")]);
            command.arg(executable()).args(words).output().unwrap()
        }
    };
    let mut state = workspace.state();
    (state.lost, _) = (None, state.faults.clear());
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    answer["access_token"].as_str().map(str::to_owned)
}

#[test]
fn a_thousand_rotations_with_faults_never_lose_and_never_heap_up() {
    if !has("pasted::a_thousand_rotations", "strace") {
        return;
    }
    let workspace = workspace();
    let test = person(&workspace);
    log_in(&test, &[]);
    let mut handed: HashMap<String, i64> = HashMap::new();
    let (mut faults, mut replaced, mut killed, mut most) = (0, 0, 0, 0);
    let mut last = ours(&workspace)[0].clone();
    let mut rotations = 0;
    while replaced < 1000 {
        rotations += 1;
        let [kind, which, wait, ..] = random::<4>();
        let path = [CREATE, DELETE, LIST][usize::from(which % 3)];
        let trouble = match kind % 16 {
            0 | 1 => Trouble::Refused(path),
            2 => Trouble::Away(path),
            3 | 4 => Trouble::Lost(path),
            5 if which < 128 => Trouble::Disk(usize::from(which % 2) + 1),
            6 if which < 128 => Trouble::Kill(usize::from(which % 2) + 1),
            _ => Trouble::None,
        };
        pass(&test, &workspace, 5 * MINUTE + i64::from(wait % 12) * MINUTE);
        let before = ours(&workspace);
        let at = now(&workspace.state());
        workspace.state().most_alike = 0;
        let token = renewed(&test, &workspace, trouble);
        let after = ours(&workspace);
        // Never none, and what is handed out is good.
        let current: Value = serde_json::from_slice(&fs::read(login_file(&test)).unwrap()).unwrap();
        let current = current["access_token"].as_str().unwrap().to_owned();
        assert!(after.contains(&current), "{rotations}: {trouble:?}");
        if let Some(token) = &token {
            assert_eq!(*token, current);
            handed.insert(token.clone(), at);
        }
        assert!(token.is_some() || matches!(trouble, Trouble::Kill(_)), "{rotations}: {trouble:?}");
        // Nobody's in his hand.
        for gone in before.iter().filter(|token| !after.contains(token)) {
            let held = at - handed.get(gone).copied().unwrap_or(i64::MIN / 2);
            assert!(held >= 600, "{rotations}: {trouble:?}: deleted after {held} s");
        }
        // Never three, not even where a run was cut off between making one and storing it.
        most = most.max(workspace.state().most_alike).max(after.len());
        assert!(most <= 2, "{rotations}: {trouble:?}: {most} alive");
        faults += usize::from(trouble != Trouble::None);
        killed += usize::from(token.is_none());
        replaced += usize::from(current != last);
        last = current;
    }
    eprintln!(
        "{rotations} looks, {faults} faults, {killed} killed, {replaced} replaced, at most {most} alive"
    );
    assert!(faults > 200 && killed > 5);
    assert!(workspace.state().pats.iter().any(|pat| pat.value == PAT), "not ours");
    pass(&test, &workspace, HOUR);
    test.run("--for workspace").token();
    assert!(ours(&workspace).len() <= 2);
}

/// A command in a terminal of its own, where somebody types.
fn typed(test: &Test, args: &[&str], keys: &str) -> Value {
    let script = super::support::repository().join("tests/it/clients/terminal.py");
    let mut command = Command::new("python3");
    command.env_clear().envs(test.env.iter().cloned());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.arg(script).arg(keys).arg(executable()).args(args);
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn a_terminal_shows_no_token_and_is_left_sane() {
    if !has("pasted::a_terminal", "python3") {
        return;
    }
    let workspace = workspace();
    let test = person(&workspace);
    let args = ["login", "--pat", "--host", &workspace.url];
    let outcome = typed(&test, &args, &format!(" {PAT} \\n"));
    let shown = outcome["shown"].as_str().unwrap();
    assert_eq!(outcome["code"], 0, "{shown}");
    assert!(shown.contains("paste it here; it is not shown"), "{shown}");
    assert!(shown.contains(&format!("logged in as {USER}")), "{shown}");
    assert!(!shown.contains(&PAT[..12]), "{shown}");
    assert_eq!((&outcome["hidden"], &outcome["echoes"]), (&true.into(), &true.into()));
    // Ctrl-C in the middle of a paste; Ctrl-Z and Ctrl-\ do nothing, Ctrl-D is an empty line.
    let outcome = typed(&test, &args, &format!("{}\\x1a\\x1c\\x03", &PAT[..12]));
    let shown = outcome["shown"].as_str().unwrap();
    assert_eq!(outcome["code"], -2, "killed by SIGINT: {shown}");
    assert!(!shown.contains(&PAT[..12]), "{shown}");
    assert_eq!((&outcome["hidden"], &outcome["echoes"]), (&true.into(), &true.into()));
    let outcome = typed(&test, &args, "\\x04");
    assert_eq!((&outcome["code"], &outcome["echoes"]), (&2.into(), &true.into()));
}
