//! `exec`, as a process: the environment of the child program, and the exit codes.

use serde_json::json;

use super::support::{Test, started, workspace};
use crate::sandbox::jwt::Scope;
#[cfg(unix)]
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, ENDPOINT_HOST, Workspace};

#[test]
fn the_secrets_of_another_host_are_not_handed_on_beside_this_one() {
    let (workspace, other) = (workspace(), super::support::workspace());
    let mut test = prepared(&other);
    test.set("DATABRICKS_TOKEN", "dapi-of-the-other-host").unset("DATABRICKS_CLIENT_ID");
    test.unset("DATABRICKS_CLIENT_SECRET");
    let profile = format!(
        "[b]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n",
        workspace.url
    );
    test.write(".databrickscfg", &profile);
    for flags in
        [&["-p", "b", "--for", "workspace", "--as", "TOK"][..], &["-p", "b", "--for", "workspace"]]
    {
        let variables = environment(&test, flags);
        assert_eq!(value(&variables, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
        let holds = |text: &str| variables.iter().any(|(_, value)| value.contains(text));
        assert!(!holds("of-the-other-host"), "{flags:?}: {variables:?}");
    }
}

/// Beside another host than the inherited variables name, none of their identity is handed on.
#[test]
fn no_variable_of_another_identity_is_handed_on_beside_this_host() {
    let (workspace, other) = (workspace(), super::support::workspace());
    let profiles = format!(
        "[a]\nhost = {}\ntoken = dapi-of-the-other-host\n[b]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n",
        other.url, workspace.url
    );
    let secrets = [
        ("DATABRICKS_CLIENT_ID", "canary-id"),
        ("DATABRICKS_CLIENT_SECRET", "canary-secret"),
        ("ARM_CLIENT_SECRET", "canary-arm"),
        ("DATABRICKS_OIDC_TOKEN_ENV", "CI_JWT"),
        ("CI_JWT", "canary-jwt"),
        ("DATABRICKS_OIDC_TOKEN_FILEPATH", "/canary"),
        ("DATABRICKS_WORKSPACE_ID", "1111"),
        ("DATABRICKS_ACCOUNT_ID", "canary-account"),
    ];
    for inherited in [
        &[("DATABRICKS_CONFIG_PROFILE", "a")][..],
        &[("DATABRICKS_HOST", &other.url)],
        &[("DATABRICKS_HOST", &other.url), ("DATABRICKS_CONFIG_PROFILE", "a")],
        &[],
    ] {
        let mut test = prepared(&other);
        test.write(".databrickscfg", &profiles);
        test.unset("DATABRICKS_HOST");
        for (name, value) in secrets.iter().chain(inherited) {
            test.set(name, value);
        }
        for flags in [&["--as", "TOK"][..], &[], &["--clean", "--as", "TOK"]] {
            let flags = [&["-p", "b", "--for", "workspace"], flags].concat();
            let variables = environment(&test, &flags);
            assert_eq!(value(&variables, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
            assert_eq!(value(&variables, "DATABRICKS_CONFIG_PROFILE"), None, "{flags:?}");
            let leaked = |(name, value): &&(String, String)| {
                name != "HOME" && (value.contains("canary") || value == "1111")
            };
            let leaked: Vec<_> = variables.iter().filter(leaked).collect();
            assert!(leaked.is_empty(), "{inherited:?} {flags:?}: {leaked:?}");
        }
    }
    // Where the inherited variables mean this host, they stay.
    let mut test = prepared(&workspace);
    test.write(".databrickscfg", &profiles);
    test.set("DATABRICKS_CONFIG_PROFILE", "b");
    let variables = environment(&test, &["-p", "b", "--for", "workspace", "--as", "TOK"]);
    assert_eq!(value(&variables, "DATABRICKS_CONFIG_PROFILE"), Some("b"));
    assert_eq!(value(&variables, "DATABRICKS_CLIENT_SECRET"), Some(CLIENT_SECRET));
}

/// A variable holds a secret even if the setting that names it does not count.
#[test]
fn clean_hides_a_token_that_an_ignored_setting_names() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    let profile = format!(
        "[b]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n",
        workspace.url
    );
    test.write(".databrickscfg", &profile);
    test.set("DATABRICKS_OIDC_TOKEN_ENV", "CI_JWT");
    test.set("CI_JWT", "canary");
    for flags in [&["-p", "b", "--clean"][..], &["-p", "b", "--clean", "--for", "workspace"]] {
        let variables = environment(&test, flags);
        assert!(!variables.iter().any(|(_, value)| value == "canary"), "{flags:?}");
    }
}

/// The environment of the child program.
fn environment(test: &Test, flags: &[&str]) -> Vec<(String, String)> {
    let tool = test.home.path().join("bin/environment");
    let output = started(|| test.command().arg("exec").args(flags).arg("--").arg(&tool).output());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| line.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn value<'e>(environment: &'e [(String, String)], name: &str) -> Option<&'e str> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn code(test: &Test, args: &[&str]) -> (i32, String) {
    let output = started(|| test.command().args(args).output());
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

fn prepared(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.tool("environment", json!([{ "environment": null }]));
    test.set("PATH", "/usr/bin:/bin");
    test
}

#[test]
fn the_child_gets_the_variables_of_libpq_and_loses_those_that_lead_elsewhere() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("PGPASSWORD", "stale").set("PGSERVICE", "elsewhere").set("PGHOSTADDR", "10.0.0.1");
    test.set("PGAPPNAME", "kept");
    let variables = environment(&test, &[]);
    for (name, expected) in [
        ("PGHOST", ENDPOINT_HOST),
        ("PGPORT", "5432"),
        ("PGDATABASE", "databricks_postgres"),
        ("PGUSER", CLIENT_ID),
        ("PGSSLMODE", "verify-full"),
        ("PGAPPNAME", "kept"),
        ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET),
    ] {
        assert_eq!(value(&variables, name), Some(expected), "{name}");
    }

    let password = value(&variables, "PGPASSWORD").unwrap();
    assert!(workspace.signer.check(password, Scope::Database).is_ok());
    assert_eq!((value(&variables, "PGSERVICE"), value(&variables, "PGHOSTADDR")), (None, None));
    assert_eq!(variables.iter().filter(|(name, _)| name == "PGPASSWORD").count(), 1);
}

#[cfg(unix)]
#[test]
fn it_starts_what_env_starts_and_says_why_it_cannot() {
    use std::os::unix::fs::PermissionsExt;

    let workspace = workspace();
    let mut test = prepared(&workspace);
    let script = |name: &str, text: &str| {
        let path = test.write(&format!("tools/{name}"), text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let plain = script("plain", "echo \"$PGUSER $1\"\n");
    let crlf = script("crlf", "#!/bin/sh\r\necho x\r\n");
    let lost = script("lost", "#!/nowhere/python3 -u\n");
    let folder = test.home.path().join("tools").display().to_string();
    test.set("PATH", &format!("/usr/bin:/bin:{folder}"));

    // A script without `#!`, by path and by name, also of the static build.
    for program in [plain.as_str(), "plain"] {
        let output = test.command().args(["exec", "--", program, "a b"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, format!("{CLIENT_ID} a b\n"), "{output:?}");
    }
    for (program, words) in [
        (crlf.as_str(), "its first line ends with CRLF, as on Windows, after /bin/sh"),
        ("crlf", "its first line ends with CRLF, as on Windows"),
        (lost.as_str(), "the interpreter in its first line is missing: /nowhere/python3"),
        ("psql -c x", "hint: lakebase-token exec -- psql -c x"),
        ("nothing-here", "it is not found"),
    ] {
        let (code, said) = code(&test, &["exec", "--", program]);
        assert_eq!(code, 127, "{program}: {said}");
        assert!(said.contains(words), "{program}: {said}");
    }

    // The child has the usual effect of SIGPIPE, and of a file that grows too large.
    let script = "yes | head -n 1 >/dev/null; echo \"${PIPESTATUS[0]}\"";
    let output = test.command().args(["exec", "--", "bash", "-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "141\n");
}

#[test]
fn clean_removes_databricks_secrets_from_the_environment_of_the_child() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("DATABRICKS_OIDC_TOKEN", "o").set("DATABRICKS_AUTH_TYPE", "oauth-m2m");
    test.set("ARM_CLIENT_SECRET", "a").set("DATABRICKS_PASSWORD", "p").set("DATABRICKS_TOKEN", "t");
    let variables = environment(&test, &["--clean"]);
    for name in [
        "DATABRICKS_CLIENT_SECRET",
        "DATABRICKS_OIDC_TOKEN",
        "DATABRICKS_TOKEN",
        "DATABRICKS_PASSWORD",
        "ARM_CLIENT_SECRET",
    ] {
        assert_eq!(value(&variables, name), None, "{name}");
    }

    test.set("DATABRICKS_OIDC_TOKEN_ENV", "MINE").set("MINE", "m");
    let named = environment(&test, &["--clean"]);
    assert_eq!((value(&named, "MINE"), value(&named, "DATABRICKS_OIDC_TOKEN")), (None, None));
    assert!(
        value(&variables, "DATABRICKS_CLIENT_ID").is_some()
            && value(&variables, "PGPASSWORD").is_some()
    );
}

#[test]
fn for_workspace_sets_what_databricks_tools_read() {
    let workspace = workspace();
    let mut test = prepared(&workspace);
    test.set("PGPASSWORD", "untouched");
    let variables = environment(&test, &["--for", "workspace", "--clean"]);
    assert_eq!(value(&variables, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
    let token = value(&variables, "DATABRICKS_TOKEN").unwrap();
    assert!(workspace.signer.check(token, Scope::Workspace).is_ok());
    assert_eq!(
        value(&variables, "DATABRICKS_AUTH_TYPE"),
        Some("pat"),
        "beside an inherited client id"
    );
    assert_eq!(value(&variables, "DATABRICKS_WORKSPACE_ID"), None);
    assert_eq!(value(&variables, "PGPASSWORD"), Some("untouched"));

    let mut several_workspaces = prepared(&workspace);
    several_workspaces.set("DATABRICKS_HOST", &format!("{}/?o=9008", workspace.url));
    let variables = environment(&several_workspaces, &["--for", "workspace"]);
    assert_eq!(value(&variables, "DATABRICKS_HOST"), Some(workspace.url.as_str()));
    assert_eq!(value(&variables, "DATABRICKS_WORKSPACE_ID"), Some("9008"));

    let variables = environment(&test, &["--for", "workspace", "--as", "ANTHROPIC_AUTH_TOKEN"]);
    assert!(
        value(&variables, "ANTHROPIC_AUTH_TOKEN").is_some()
            && value(&variables, "DATABRICKS_TOKEN").is_none()
    );

    // For a database, beside libpq's variables, in any format of one line.
    for (format, beginning) in [
        ("raw", "eyJ"),
        ("url", "postgresql://"),
        ("json", "{\"database\""),
        ("headers-json", "{\"Auth"),
    ] {
        let variables = environment(&test, &["--as", "DATABASE_URL", "--format", format]);
        let given = value(&variables, "DATABASE_URL").unwrap();
        assert!(given.starts_with(beginning) && !given.contains('\n'), "{format}: {given}");
        assert!(value(&variables, "PGPASSWORD").unwrap().starts_with("eyJ"));
    }
    for flags in [
        &["exec", "--as", "X", "--format", "env", "--", "true"][..],
        &["exec", "--format", "url", "--", "true"],
        &["exec", "--for", "workspace", "--as", "X", "--format", "json", "--", "true"],
    ] {
        assert_eq!(code(&test, flags).0, 125, "{flags:?}");
    }
    assert_eq!(code(&test, &["exec", "--for", "workspace", "--as", "1X", "--", "true"]).0, 125);
    assert_eq!(code(&test, &["exec", "--for", "workspace", "--as", "A=B", "--", "true"]).0, 125);
}

#[cfg(unix)]
#[test]
fn the_exit_code_is_that_of_the_child_or_says_why_it_did_not_start() {
    let workspace = workspace();
    let test = prepared(&workspace);
    assert_eq!(code(&test, &["exec", "--", "sh", "-c", "exit 7"]), (7, String::new()));
    assert_eq!(code(&test, &["exec", "--", "true"]), (0, String::new()));

    let (exit_code, stderr) = code(&test, &["exec", "--", "no-such-command"]);
    assert_eq!(exit_code, 127);
    assert!(stderr.starts_with("lakebase-token: error: cannot run no-such-command\n"), "{stderr}");

    let plain = test.write("plain", "not a program");
    let (exit_code, stderr) = code(&test, &["exec", "--", plain.to_str().unwrap()]);
    assert_eq!(exit_code, 126, "{stderr}");

    use std::os::unix::process::ExitStatusExt;
    let killed = test.command().args(["exec", "--", "sh", "-c", "kill -TERM $$"]).status().unwrap();
    assert_eq!(killed.signal(), Some(15));

    workspace.fault("/", 99, Answer::Json(403, json!({ "message": "no" })));
    assert_eq!(code(&test, &["--pg-database", "exec", "--ttl", "1m"]).0, 2, "no command is named");
    for args in [
        &["exec", "--no-cache", "--", "true"][..],
        &["exec"],
        &["exec", "true"],
        &["exec", "--formt", "--", "true"],
        &["--clean", "exec"],
    ] {
        let (exit_code, stderr) = code(&test, args);
        assert_eq!(exit_code, 125, "{args:?} {stderr}");
        assert!(stderr.starts_with("lakebase-token: error: "), "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn of_two_variables_with_one_name_the_child_gets_the_one_that_exec_read() {
    // A shell cannot make such an environment; Python can, and so can an attacker.
    if !super::support::has("exec::of_two_variables", "python3") {
        return;
    }
    let workspace = workspace();
    let test = prepared(&workspace);

    let tool = super::support::executable();
    let script = "import ctypes, os, sys\n\
        names = [k + b'=' + v for k, v in os.environb.items()] + [b'TWICE=first', b'TWICE=second']\n\
        argv = [sys.argv[1].encode(), b'exec', b'--', b'/usr/bin/printenv', b'TWICE']\n\
        array = lambda texts: (ctypes.c_char_p * (len(texts) + 1))(*texts, None)\n\
        ctypes.CDLL(None).execve(argv[0], array(argv), array(names))\n";

    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(tool).env_clear().envs(test.env.iter().cloned());
    let path = std::env::var_os("PATH").unwrap();
    let output = python.env("PATH", path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\n", "{output:?}");
}

#[cfg(unix)]
#[test]
fn the_child_replaces_the_process() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let child = test
        .command()
        .args(["exec", "--", "sh", "-c", "echo $$"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), id.to_string());
}

#[cfg(unix)]
#[test]
fn the_password_is_in_no_argument_list() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let output = test
        .command()
        .args(["exec", "--", "sh", "-c", "cat /proc/$$/cmdline; printf '|%s' \"$PGPASSWORD\""])
        .output()
        .unwrap();

    let text = String::from_utf8(output.stdout).unwrap();
    let (cmdline, password) = text.rsplit_once('|').unwrap();
    assert!(password.len() > 100 && !cmdline.contains(&password[..20]));
}

#[cfg(unix)]
#[test]
fn the_child_inherits_no_lock_and_no_open_file() {
    let workspace = workspace();
    let test = prepared(&workspace);
    let open_files = |command: &mut std::process::Command| {
        let output = command.arg("/proc/self/fd").stdin(std::process::Stdio::null()).output();
        String::from_utf8(output.unwrap().stdout).unwrap().lines().count()
    };

    let without_exec = open_files(&mut std::process::Command::new("ls"));
    assert_eq!(open_files(test.command().args(["exec", "--", "ls"])), without_exec);
}
