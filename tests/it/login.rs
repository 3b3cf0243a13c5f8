//! `login` with a browser or a pasted address, for a workspace or a profile; `logout`. The browser is a
//! stand-in; `browsers.rs` has real ones, and `renewals.rs` what interrupts a renewal.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::rc::Rc;

use lakebase_token::login::record::Login;
use lakebase_token::platform::steps::{Step, set_hook};
use lakebase_token::platform::time::Timestamp;
use serde_json::{Value, json};

use super::support::{
    HOUR, Test, assert_private, call, login_of, spawn, store_login, wait_for, workspace,
};
use crate::sandbox::jwt::Scope;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{Consent, ENDPOINT, OTHER_USER, PAT, TOKEN, USER, Workspace};

/// A person without any Databricks setting but the workspace, and a browser that keeps the last page.
pub fn person(workspace: &Workspace) -> Test {
    let mut test = Test::of_person(workspace);
    let page = test.home.path().join("page");
    let browser = test.tool("browser", json!([{ "get": page.to_str().unwrap() }]));
    test.set("BROWSER", browser.to_str().unwrap());
    workspace.state().consent = Consent::Allow;
    test
}

/// The last page that the browser has received. The next call waits for another page.
pub fn page(test: &Test) -> String {
    let path = test.home.path().join("page");
    let page = wait_for("the page", || {
        fs::read_to_string(&path).ok().filter(|page| page.contains("</html>"))
    });
    fs::remove_file(path).unwrap();
    page
}

/// Makes the tokens of a login older.
pub fn age(test: &Test, millis: i64) {
    let path = login_file(test);
    let mut login: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for name in ["issued_at", "expires_at"] {
        let time = Timestamp::parse(login[name].as_str().unwrap()).unwrap();
        login[name] = time.plus(-millis).to_string().into();
    }
    fs::write(path, login.to_string()).unwrap();
}

pub fn login_file(test: &Test) -> PathBuf {
    let folder = fs::read_dir(test.state_folder()).unwrap();
    let mut files = folder.map(|entry| entry.unwrap().path());
    let is_login = |path: &PathBuf| {
        path.extension().is_none()
            && path.file_name().unwrap().to_string_lossy().starts_with("login-")
    };
    files.find(is_login).unwrap()
}

pub fn logged_in(workspace: &Workspace) -> Test {
    let test = person(workspace);
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    test
}

#[test]
fn after_a_login_with_a_browser_no_command_opens_it_again() {
    let workspace = workspace();
    let test = person(&workspace);
    test.run("").fails(2, &["no Databricks identity", "lakebase-token login --host"]);
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.stdout, format!("logged in as {USER} at {0} (--host {0})\n", workspace.url));
    assert!(page(&test).contains(&format!("<p>You are {USER}. ")));

    // The login is a private file in the state folder.
    let file = login_file(&test);
    assert_private(&file);
    let login: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();

    // Neither the terminal nor the cache has the refresh token.
    let refresh = login["refresh_token"].as_str().unwrap();
    assert!(!outcome.stderr.contains(refresh) && !outcome.stdout.contains(refresh));

    workspace.take_requests();
    test.run("").token();
    for entry in test.entries() {
        assert!(!fs::read_to_string(entry).unwrap().contains(refresh));
    }
    assert_eq!(workspace.count("/oidc/v1/authorize"), 0);
    assert_eq!(workspace.count(TOKEN), 0, "the login's own token is still valid");

    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["auth_type"], "external-browser");
    assert_eq!(status["login"]["who"], USER);
}

#[test]
fn with_no_browser_the_person_pastes_the_address() {
    let workspace = workspace();
    let test = person(&workspace);
    let mut command = test.command();
    let mut child: Child = spawn(command.args(["login", "--no-browser"]).stdin(Stdio::piped()));
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = stderr.lines().map(|line| line.unwrap());
    let url = lines.find(|line| line.trim().starts_with("http")).unwrap().trim().to_owned();

    let agent: ureq::Agent = ureq::Agent::config_builder().max_redirects(0).build().into();
    let answer = agent.get(&url).call().unwrap();
    let back = answer.headers()["location"].to_str().unwrap();
    assert!(back.starts_with("http://localhost:8020/?code="));
    writeln!(child.stdin.take().unwrap(), "  {back}").unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    test.run("").token();
}

/// Runs `login --no-browser` with this text on stdin.
fn paste(test: &Test, text: &str) -> (Option<i32>, String) {
    let mut command = test.command();
    let mut child = spawn(command.args(["login", "--no-browser"]).stdin(Stdio::piped()));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_no_address_of_this_login_is_refused_and_asked_for_again() {
    let workspace = workspace();
    let test = person(&workspace);
    let expected = "paste the address that begins with http://localhost:8020/?code=";
    for nothing in ["", "\n", "  \n"] {
        let (code, said) = paste(&test, nothing);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("no address was pasted") && said.contains(expected), "{said}");
    }

    // Another address is asked for again; nothing of it is repeated, since it may be a secret.
    let (code, said) = paste(&test, "https://other.example/?token=eyJsecret\nhello\n");
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(said.matches("this is another address").count(), 2, "{said}");
    assert!(!said.contains("eyJsecret") && said.contains("no address was pasted"), "{said}");

    // The answer to another login, and a refusal.
    let (code, said) = paste(&test, "http://localhost:8020/?code=c0de&state=other\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another login") && !said.contains("c0de"), "{said}");
    assert_eq!(workspace.count(TOKEN), 0);
}

#[cfg(unix)]
#[test]
fn a_folder_of_logins_that_others_may_change_is_mended_by_its_hint() {
    let workspace = workspace();
    let test = logged_in(&workspace);
    super::support::set_mode(&test.state_folder(), 0o777);
    let outcome = test.run("login");
    let folder = test.state_folder().display().to_string();
    outcome.fails(1, &[&format!("hint: chmod -R go= {folder}")]);
    let chmod = ["-R", "go=", &folder];
    assert!(std::process::Command::new("chmod").args(chmod).status().unwrap().success());
    assert_eq!(test.run("login").code, 0);
}

#[test]
fn over_ssh_a_login_says_how_to_paste() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.set("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22");
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let line = format!("lakebase-token login --no-browser --host {}", workspace.url);
    assert!(outcome.stderr.contains(&line), "{outcome:?}");
}

#[test]
fn a_login_belongs_to_its_profile_and_workspace() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("DATABRICKS_HOST");
    test.write(".databrickscfg", &format!("[work]\nhost = {}\n", workspace.url));
    assert_eq!(test.run("login --profile work").code, 0);
    test.run("--profile work").token();
    test.set("DATABRICKS_HOST", &workspace.url);
    let hint = format!("hint: --profile work  # the login of {USER}");
    test.run("").fails(2, &["no Databricks identity", &hint]);

    // The login does not apply to another workspace in the same profile.
    test.unset("DATABRICKS_HOST");
    test.write(".databrickscfg", "[work]\nhost = https://elsewhere.cloud.databricks.com\n");
    test.run("--profile work").fails(2, &["no Databricks identity"]);

    // The workspace has a login of its own. The login of a deleted profile can still be removed.
    test.write(".databrickscfg", "");
    test.set("DATABRICKS_HOST", &workspace.url);
    assert_eq!(test.run("login").code, 0);
    let out = test.run("logout --profile work").stdout;
    assert_eq!(out, format!("logged out {USER} (--profile work)\n"));
    let outcome = test.run("logout --profile work");
    assert_eq!(outcome.stdout, "not logged in\n");
    assert!(outcome.stderr.contains("has no profile work"), "{outcome:?}");
    test.run("").token();
    // A profile cannot use a login of another workspace.
    test.write(".databrickscfg", "[work]\nhost = https://elsewhere.cloud.databricks.com\n");
    test.set("DATABRICKS_CONFIG_PROFILE", "work");
    let words = ["profile work is for another host", "comes from DATABRICKS_HOST"];
    test.run("login").fails(2, &words);
    test.unset("DATABRICKS_CONFIG_PROFILE");
    // A login that the profile uses is named.
    test.write(".databrickscfg", &format!("[work]\nhost = {}\n", workspace.url));
    test.unset("DATABRICKS_HOST");
    let outcome = test.run("logout --profile work");
    let hint = format!("to end it, too: lakebase-token logout --host {}", workspace.url);
    assert!(outcome.code == 0 && outcome.stderr.contains(&hint), "{outcome:?}");
}

#[test]
fn no_other_identity_takes_the_place_of_an_unusable_login() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("DATABRICKS_HOST");
    let profile = format!("[work]\nhost = {}\n", workspace.url);
    test.write(".databrickscfg", &profile);
    assert_eq!(test.run("login --profile work").code, 0);
    let file = login_file(&test);
    // At the same workspace, another person has a login, and the Databricks CLI has a login.
    let now = test.context(|_| ()).now();
    let others = login_of(&workspace, OTHER_USER, now);
    store_login(&others, &test.context(|_| ())).unwrap();
    test.tool("databricks", json!([{ "stdout": "{}" }]));

    let login = Login::parse(&fs::read(&file).unwrap()).unwrap();
    let write = |content: &[u8]| fs::write(&file, content).unwrap();
    let restore = || {
        let _ = fs::remove_file(&file);
        store_login(&login, &test.context(|_| ())).unwrap();
    };
    let is_the_persons = || {
        let token = test.run("--profile work").token();
        assert_eq!(workspace.signer.check(&token, Scope::Database), Ok(USER.to_owned()));
    };
    let login_again = "hint: lakebase-token login --profile work\n";
    let damages: &[(&str, &str, &dyn Fn())] = &[
        ("it is damaged", login_again, &|| write(b"{")),
        ("it is damaged", login_again, &|| write(others.to_text().as_bytes())),
        ("it is too large", login_again, &|| write(&vec![b'x'; 2 << 20])),
        #[cfg(unix)]
        ("others may read it", login_again, &|| super::support::set_mode(&file, 0o644)),
        #[cfg(unix)]
        ("it is a symbolic link", login_again, &|| {
            let elsewhere = test.home.path().join("elsewhere");
            fs::rename(&file, &elsewhere).unwrap();
            std::os::unix::fs::symlink(elsewhere, &file).unwrap();
        }),
        #[cfg(unix)]
        ("it is not a regular file", "hint: mv ", &|| {
            fs::remove_file(&file).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&file).status();
            assert!(made.unwrap().success());
        }),
    ];
    for (reason, hint, damage) in damages {
        damage();
        for line in [
            "get",
            "get --refresh",
            "get --for workspace",
            "auth token",
            "write file x",
            "watch file x",
            "psql",
            "doctor",
        ] {
            let outcome = test.run(&format!("--profile work {line}"));
            let code = if line == "psql" { 125 } else { 3 };
            assert_eq!(outcome.code, code, "{reason}, {line}: {outcome:?}");
            let told = format!("{}{}", outcome.stdout, outcome.stderr);
            let is_told = told.contains(" is unusable") && told.contains(reason);
            assert!(is_told && !told.contains("eyJ"), "{reason}, {line}: {outcome:?}");
            assert!(line == "doctor" || told.contains(hint), "{reason}, {line}: {outcome:?}");
        }
        assert_eq!(test.run("status --profile work").code, 3);
        // To an SDK that asks the Databricks CLI, this login is the CLI's.
        test.write(".databrickscfg", &format!("{profile}auth_type = databricks-cli\n"));
        test.run("auth token --profile work").fails(3, &[" is unusable", reason]);
        test.write(".databrickscfg", &profile);
        // The number of logins is unknown, so that none of them names the workspace.
        let hint = format!("hint: --host {}  # the login of {OTHER_USER}", workspace.url);
        test.run("").fails(2, &["no Databricks identity", reason, &hint]);
        assert_eq!(test.tool_log("databricks"), "", "{reason}");
        restore();
    }

    write(b"{");
    assert_eq!(test.run("login --profile work").code, 0);
    is_the_persons();
    write(b"{");
    assert!(test.run("logout --profile work").stdout.contains("its tokens stay valid"));
    restore();
    is_the_persons();

    // The only login: damaged, and in another login's place.
    assert_eq!(test.run("logout --all").code, 0);
    let elsewhere = file.with_file_name("login-0123456789abcdef0123456789abcdef");
    for damage in [&|| write(b"{"), &|| fs::rename(&file, &elsewhere).unwrap()] as [&dyn Fn(); 2] {
        restore();
        damage();
        test.run("").fails(3, &["it is damaged", "hint: lakebase-token logout --all\n"]);
        // An entry of its file can be removed.
        let removed = test.run("write file x --remove");
        assert_eq!(removed.code, 0, "{removed:?}");
        assert_eq!(test.run("logout --all").code, 0);
        test.run("").fails(2, &["no Databricks identity"]);
    }
    assert_eq!(test.tool_log("databricks"), "");
}

/// Callers that wait for the same credential share a failure through the cache.
#[test]
fn that_a_login_could_not_be_read_is_no_shared_failure() {
    let workspace = workspace();
    let test = logged_in(&workspace);
    let mut failures = 0;
    for number in 1..20 {
        let reads = Cell::new(0);
        set_hook(Some(Rc::new(move |step| {
            reads.set(reads.get() + i32::from(step == Step::Read));
            step == Step::Read && reads.get() == number
        })));
        let (code, _, stderr) = call(&test.context(|_| ()), "get");
        set_hook(None);
        if code != 0 {
            assert!(code == 1 && stderr.contains("cannot read the login in "), "{code}: {stderr}");
            failures += 1;
        }
        for entry in test.entries() {
            assert!(!fs::read_to_string(entry).unwrap().contains("cannot read"), "{number}");
        }
        test.run("").token();
        fs::remove_dir_all(test.cache_folder()).unwrap();
    }
    assert!(failures > 1, "it was read before the cache, and once more for the token");
}

#[test]
fn a_login_at_a_host_of_several_workspaces_is_for_its_own() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.set("DATABRICKS_WORKSPACE_ID", "5");
    assert_eq!(test.run("login").code, 0);
    test.run("").token();
    test.set("DATABRICKS_WORKSPACE_ID", "6");
    test.run("").fails(2, &["no Databricks identity"]);
    // A host that only a login names is that login's: the Databricks CLI's is not used there.
    test.unset("DATABRICKS_HOST").tool("databricks", json!([]));
    test.run("").fails(2, &["no Databricks identity"]);
    assert_eq!(test.tool_log("databricks"), "");
    // Where no workspace is named, the login's own is meant.
    test.set("DATABRICKS_HOST", &workspace.url).unset("DATABRICKS_WORKSPACE_ID").run("").token();
}

#[test]
fn without_settings_the_only_login_names_the_workspace() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("DATABRICKS_HOST");
    let line = format!("login --host {}", workspace.url);
    assert_eq!(test.run(&line).code, 0);
    test.run("").token();
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["settings"]["host"]["origin"], "the only login");

    // An incomplete service principal is an error, never a fallback to the login.
    test.set("DATABRICKS_CLIENT_ID", "x");
    test.run("").fails(2, &["client_id from DATABRICKS_CLIENT_ID has no client_secret"]);
    test.unset("DATABRICKS_CLIENT_ID");
    // Nor does the login name the workspace of another identity, or of a profile.
    workspace.take_requests();
    test.set("DATABRICKS_TOKEN", PAT).run("").fails(2, &["no workspace is configured"]);
    test.unset("DATABRICKS_TOKEN").write(".databrickscfg", "[p]\nlakebase_endpoint = shop\n");
    test.run("-p p").fails(2, &["no Databricks identity"]);
    assert!(workspace.take_requests().is_empty());
    let outcome = test.run("logout");
    assert!(outcome.stdout.starts_with("logged out"), "{outcome:?}");
    assert_eq!(test.run(&line).code, 0);

    // With two logins, neither of them names the workspace.
    let other = crate::sandbox::workspace::Workspace::start(None).unwrap();
    other.state().consent = Consent::Allow;
    assert_eq!(test.run(&format!("login --host {}", other.url)).code, 0);
    test.run("").fails(2, &["no Databricks identity"]);
    test.run(&format!("logout --all --host {}", other.url)).fails(2, &["contradict each other"]);
    assert_eq!(test.run("logout --all").stdout.lines().count(), 2);

    // For an unknown host name no browser is opened.
    let unknown = test.run("login --host https://no.such.host.invalid");
    unknown.fails(5, &["cannot reach no.such.host.invalid", "comes from --host"]);
    assert!(!unknown.stderr.contains("log in at this address"));
}

#[test]
fn without_settings_the_only_login_names_its_profile() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("DATABRICKS_HOST").unset("LAKEBASE_ENDPOINT");
    let profile =
        |name| format!("[{name}]\nhost = {}\nlakebase_endpoint = {ENDPOINT}\n", workspace.url);
    test.write(".databrickscfg", &profile("work"));
    assert_eq!(test.run("login --profile work").code, 0);
    // The profile names the database, too.
    test.run("").token();
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["settings"]["profile"]["origin"], "the only login");

    // The profile may have become another workspace's.
    let other = |line: &str| format!("{}{line}\n", profile("work"));
    for text in [
        "[work]\nhost = https://elsewhere.cloud.databricks.com\n".to_owned(),
        other("token = dapi0"),
        other("client_id = x"),
        other("auth_type = databricks-cli"),
    ] {
        test.write(".databrickscfg", &text);
        let outcome = test.run("");
        outcome.fails(2, &["no Databricks identity"]);
        assert!(!outcome.stderr.contains("the login of"), "{outcome:?}");
    }

    // Or one of another workspace at the same host.
    test.write(".databrickscfg", &other("workspace_id = 5"));
    assert_eq!(test.run("login --profile work").code, 0);
    for (id, is_meant) in [("6", false), ("5", true), ("none", true)] {
        test.write(".databrickscfg", &other(&format!("workspace_id = {id}")));
        let outcome = test.run("status --format json");
        let status: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let origin = &status["settings"]["profile"]["origin"];
        assert_eq!(origin == "the only login", is_meant, "{id}: {status}");
    }

    // With several logins, none is meant, and hints name each.
    test.write(".databrickscfg", &(profile("work") + &profile("home")));
    assert_eq!(test.run("login --profile home").code, 0);
    let outcome = test.run("");
    for name in ["work", "home"] {
        let hint = format!("hint: --profile {name}  # the login of {USER}");
        outcome.fails(2, &["no Databricks identity", &hint]);
    }

    // The login of a profile that is gone means nothing, and can be removed.
    assert_eq!(test.run("logout --profile home").code, 0);
    test.write(".databrickscfg", &profile("other"));
    test.run("").fails(2, &["no Databricks identity"]);
    assert_eq!(test.run("logout --all").code, 0);
}

#[test]
fn a_login_that_its_profile_passes_over_is_said_with_the_remedy() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("DATABRICKS_HOST");
    let profile =
        |auth_type: &str| format!("[work]\nhost = {}\nauth_type = {auth_type}\n", workspace.url);
    test.write(".databrickscfg", &profile("databricks-cli"));
    let outcome = test.run("login --profile work");
    for said in [
        "takes precedence over this login: auth_type from profile work",
        "to use the login: --auth-type external-browser, or auth_type = external-browser in profile work",
    ] {
        assert!(outcome.stderr.contains(said), "{said}: {outcome:?}");
    }
    // Both remedies work as they are said.
    test.run("--profile work --auth-type external-browser").token();
    test.write(".databrickscfg", &profile("external-browser"));
    test.run("--profile work").token();
    let outcome = test.run("login --profile work");
    assert!(!outcome.stderr.contains("precedence"), "{outcome:?}");
}

#[cfg(unix)]
#[test]
fn a_login_for_a_new_profile_says_how_to_create_it() {
    let workspace = workspace();
    for file in [None, Some("[other]\nhost = https://x.cloud.databricks.com"), Some("[news]\n")] {
        let mut test = person(&workspace);
        test.unset("DATABRICKS_HOST");
        if let Some(text) = file {
            test.write(".databrickscfg", text);
        }
        let line = format!("login --host {} --profile new", workspace.url);
        let outcome = test.run(&line);
        outcome.fails(2, &["profile new", "hint: printf"]);
        assert!(!outcome.stderr.contains("hint: databricks"), "it is not installed");
        let hint = outcome.stderr.lines().find_map(|line| line.split_once("hint: printf"));
        let pasted = format!("printf{}", hint.unwrap().1);
        assert!(std::process::Command::new("sh").args(["-c", &pasted]).status().unwrap().success());
        assert_eq!(test.run(&line).code, 0, "{pasted}");
        test.run("--profile new").token();
    }
}

#[test]
fn a_configured_auth_type_takes_precedence_over_a_login_and_a_note_says_so() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.set("DATABRICKS_TOKEN", crate::sandbox::workspace::PAT);
    let outcome = test.run("login");
    assert!(
        outcome.stderr.contains("pat is configured and takes precedence over this login"),
        "{outcome:?}"
    );
    let chosen = test.run("status --format json --auth-type external-browser").stdout;
    assert!(chosen.contains("\"auth_type\":\"external-browser\""), "{chosen}");
}

#[test]
fn the_error_for_an_ended_login_names_the_login_command() {
    let workspace = workspace();
    let test = logged_in(&workspace);
    age(&test, HOUR);
    workspace.end_logins();

    let hint = format!("hint: lakebase-token login --host {}", workspace.url);
    test.run("").fails(3, &["has ended", "Refresh token is invalid", &hint]);
    let status = test.run("status");
    assert_eq!(status.code, 3, "{status:?}");
    assert!(status.stdout.starts_with("error       the login of"), "{status:?}");

    // The next login invalidates it.
    assert_eq!(test.run("login").code, 0);
    assert_eq!(test.run("status").code, 0);
    test.run("").token();

    let named = test.run("--auth-type external-browser --host https://127.0.0.1:1");
    named.fails(
        3,
        &[
            "no login is stored for workspace https://127.0.0.1:1",
            "lakebase-token login --host https://127.0.0.1:1",
        ],
    );
}

#[test]
fn logout_removes_the_login_and_its_cache_entries() {
    let workspace = workspace();
    let test = logged_in(&workspace);
    test.run("").token();
    assert!(!test.entries().is_empty());
    assert_eq!(
        test.run("logout").stdout,
        format!("logged out {USER} (--host {})\n", workspace.url)
    );
    assert!(test.entries().is_empty(), "{:?}", test.entries());
    test.run("").fails(2, &["no Databricks identity"]);
    assert_eq!(test.run("logout").stdout, "not logged in\n");
    test.run("login");
    assert!(test.run("logout --all").stdout.starts_with("logged out "));

    // A setting that has nothing to do with the login may be invalid.
    test.run("login");
    test.run("").token();
    let mut test = test;
    test.set("LAKEBASE_INSTANCE", "both").set("PGPORT", "none");
    assert_eq!(test.run("logout").code, 0);
    let texts = test.entries().into_iter().map(|path| fs::read_to_string(path).unwrap());
    let left: Vec<String> = texts.filter(|text| text.contains("eyJ")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn fifty_processes_at_once_refresh_once_and_the_login_stays_valid() {
    let workspace = workspace();
    let test = logged_in(&workspace);
    age(&test, HOUR);
    workspace.take_requests();
    let answers = test.start_many(50, "");
    for answer in &answers {
        let stderr = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success() && answer.stdout == answers[0].stdout, "{stderr}");
    }
    assert_eq!(workspace.count(TOKEN), 1);

    // Each process asks for a new token, and no refresh token is used twice.
    let answers = test.start_many(10, "--for workspace --refresh --no-cache");
    assert!(answers.iter().all(|answer| answer.status.success()));
    assert!(workspace.count(TOKEN) > 1);
    assert!(test.run("--for workspace --refresh").code == 0, "the login survives");
}

/// A code and a refresh token are valid once, so a request that the workspace may have processed is not sent
/// again.
#[test]
fn a_code_is_sent_again_only_after_429() {
    for (status, code) in [(429, 0), (503, 5), (504, 5)] {
        let workspace = workspace();
        let test = person(&workspace);
        workspace.fault(TOKEN, 1, Answer::Json(status, json!({ "error": "later" })));
        assert_eq!(test.run("login").code, code, "{status}");
        assert_eq!(workspace.count(TOKEN), if code == 0 { 2 } else { 1 });
    }
}

#[test]
fn a_refresh_token_that_the_workspace_keeps_is_used_again() {
    let workspace = workspace();
    workspace.state().rotates = false;
    let test = person(&workspace);
    test.run("login");
    for refreshes in 1..=3 {
        age(&test, 2 * HOUR);
        let outcome = test.run("--for workspace --no-cache");
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(workspace.count(TOKEN), 1 + refreshes);
    }
}
