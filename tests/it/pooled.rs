//! Pooled hosts: which one a call connects to, and a real PgBouncer in the place of an endpoint's own,
//! which accepts tokens or refuses them.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use super::consumers::Installation;
use super::support::{Test, has, is_root, wait_for, words, workspace};
use crate::sandbox::workspace::*;

const POOLED: &str = "ep-cool-sky-1234abcd-pooler.database.us-east-1.cloud.databricks.com";
const ENDPOINT_PATH: &str =
    "GET /api/2.0/postgres/projects/shop/branches/production/endpoints/primary";

/// The host that is printed for these settings.
#[track_caller]
fn host_of(test: &Test, line: &str) -> String {
    let printed = test.run(&format!("-f json {line}")).token();
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    printed["host"].as_str().unwrap().to_owned()
}

fn set_hosts(workspace: &Workspace, hosts: serde_json::Value) {
    workspace.state().projects[0].branches[0].endpoints[0].hosts = hosts;
}

#[test]
fn a_pooled_host_selects_its_endpoint_and_is_connected_to() {
    let workspace = workspace();
    let stated = json!({ "host": ENDPOINT_HOST, "read_write_pooled_host": POOLED });
    // The API may leave out the pooled host.
    for hosts in [stated, json!({ "host": ENDPOINT_HOST }), json!({})] {
        set_hosts(&workspace, hosts);
        for variable in ["PGHOST", "DATABRICKS_PG_HOST", "LAKEBASE_HOST", "LAKEBASE_ENDPOINT"] {
            let mut test = Test::at(&workspace);
            test.unset("LAKEBASE_ENDPOINT").set(variable, &POOLED.to_uppercase());
            assert_eq!(host_of(&test, "").to_lowercase(), POOLED, "{variable}");
        }
    }
    set_hosts(&workspace, json!({ "host": ENDPOINT_HOST }));
    for other in [
        "ep-cool-sky-1234abcd-pooler.example.net",
        "ep-other-pooler.database.us-east-1.cloud.databricks.com",
    ] {
        let mut test = Test::at(&workspace);
        test.unset("LAKEBASE_ENDPOINT").set("PGHOST", other);
        test.run("").fails(2, &["no endpoint of this workspace listens on"]);
    }
    let mut test = Test::at(&workspace);
    assert_eq!(host_of(test.set("PGHOST", POOLED), ""), POOLED);
}

#[test]
fn pooled_takes_the_place_of_the_endpoints_own_host() {
    let workspace = workspace();
    const READ_ONLY: &str = "ep-cool-sky-1234abcd-ro.database.us-east-1.cloud.databricks.com";
    const READ_ONLY_POOLED: &str =
        "ep-cool-sky-1234abcd-ro-pooler.database.us-east-1.cloud.databricks.com";
    set_hosts(
        &workspace,
        json!({
            "host": ENDPOINT_HOST, "read_write_pooled_host": POOLED,
            "read_only_host": READ_ONLY, "read_only_pooled_host": READ_ONLY_POOLED,
        }),
    );
    for (host, expected) in [
        ("", POOLED),
        (ENDPOINT_HOST, POOLED),
        (POOLED, POOLED),
        (READ_ONLY, READ_ONLY_POOLED),
        (READ_ONLY_POOLED, READ_ONLY_POOLED),
    ] {
        for endpoint in [ENDPOINT, "shop", ""] {
            let mut test = Test::at(&workspace);
            test.set("PGHOST", host).set("LAKEBASE_ENDPOINT", endpoint);
            assert_eq!(host_of(&test, "--pooled"), expected, "{host} {endpoint}");
            test.set("LAKEBASE_TOKEN_POOLED", "1");
            assert_eq!(host_of(&test, ""), expected, "{host} {endpoint}");
            let direct = if host.is_empty() { ENDPOINT_HOST } else { host };
            assert_eq!(host_of(test.set("LAKEBASE_TOKEN_POOLED", "false"), ""), direct);
        }
    }

    workspace.state().projects[0].branches[0].endpoints[0].kind = "ENDPOINT_TYPE_READ_ONLY";
    assert_eq!(host_of(&Test::at(&workspace), "--pooled"), READ_ONLY_POOLED);
}

#[test]
fn pooled_asks_once_a_day_and_shares_the_credential() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGUSER", CLIENT_ID);
    assert_eq!(host_of(&test, "--pooled"), POOLED);
    let requests = workspace.take_requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests.contains(&ENDPOINT_PATH.to_owned()), "{requests:?}");

    let token = test.run("").token();
    assert_eq!(test.run("--pooled").token(), token);
    assert_eq!(host_of(&test, "--pooled"), POOLED);
    let status = |line: &str| test.run(&format!("status --format json {line}")).stdout;
    assert!(status("--pooled").contains(&format!("\"host\":\"{POOLED}\"")));
    assert!(!status("").contains(POOLED));
    assert!(workspace.take_requests().is_empty());

    let line = test.run("-f pgpass --pooled").token();
    assert!(line.starts_with(POOLED), "{line}");
}

#[test]
fn where_no_pooled_host_can_be_meant_the_error_says_so() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    for hosts in [
        json!({ "host": ENDPOINT_HOST }),
        json!({ "host": ENDPOINT_HOST, "read_write_pooled_host": "" }),
    ] {
        set_hosts(&workspace, hosts);
        let direct = format!("the direct host is {ENDPOINT_HOST}");
        test.run("-f json --pooled")
            .fails(4, &["states no pooled host", &direct, "leave out --pooled"]);
    }
    // What is missing now is asked for again.
    set_hosts(&workspace, json!({ "host": ENDPOINT_HOST, "read_write_pooled_host": POOLED }));
    test.pass(4_000);
    assert_eq!(host_of(&test, "--pooled"), POOLED);

    for other in ["localhost", "ep-other-1.database.us-east-1.cloud.databricks.com"] {
        let mut test = Test::at(&workspace);
        let words = format!("{other} from PGHOST is not a host of {ENDPOINT}");
        test.set("PGHOST", other)
            .run("-f json --pooled")
            .fails(2, &[&words, "leave out PGHOST, or --pooled"]);
    }
    workspace.take_requests();
    for (setting, value) in [("LAKEBASE_INSTANCE", INSTANCE), ("PGHOST", INSTANCE_HOST)] {
        let mut test = Test::at(&workspace);
        test.unset("LAKEBASE_ENDPOINT").set(setting, value).set("LAKEBASE_TOKEN_POOLED", "true");
        test.run("").fails(2, &["has no pooled host", "leave out LAKEBASE_TOKEN_POOLED"]);
    }
    test.set("LAKEBASE_TOKEN_POOLED", "perhaps")
        .run("")
        .fails(2, &["is not true or false: perhaps"]);
    assert!(workspace.take_requests().is_empty());

    // An answer does not decide where the password goes.
    set_hosts(
        &workspace,
        json!({ "host": ENDPOINT_HOST, "read_write_pooled_host": "evil.example" }),
    );
    Test::at(&workspace)
        .run("-f json --pooled")
        .fails(1, &["outside Databricks' domains: evil.example"]);
}

/// A PgBouncer in transaction mode in front of the sandbox's Postgres, on the same port of another
/// loopback address. Killed when the test ends.
struct PgBouncer {
    process: Child,
    _folder: tempfile::TempDir,
}

const POOLED_ADDRESS: &str = "127.0.0.2";

impl PgBouncer {
    /// `auth_type` decides what it asks clients for: `plain` a password in clear text, as for tokens.
    fn start(installation: &Installation, auth_type: &str, users: &str) -> PgBouncer {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = installation.sandbox.postgres.as_ref().unwrap().port;
        fs::copy(&installation.sandbox.certificates.certificate, path("server.pem")).unwrap();
        fs::copy(&installation.sandbox.certificates.key, path("server.key")).unwrap();
        fs::write(path("users"), users).unwrap();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={port}\n[pgbouncer]\n\
             listen_addr = {POOLED_ADDRESS}\nlisten_port = {port}\nunix_socket_dir =\n\
             pool_mode = transaction\nauth_type = {auth_type}\nauth_file = {}\n\
             client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
             server_tls_sslmode = require\nignore_startup_parameters = extra_float_digits\n",
            path("users"),
            path("server.pem"),
            path("server.key")
        );
        fs::write(path("pgbouncer.ini"), configuration).unwrap();
        let mut command = Command::new("pgbouncer");
        if is_root() {
            // PgBouncer refuses to run as root.
            let status = Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status();
            assert!(status.unwrap().success());
            command.args(["-u", "postgres"]);
        }
        command.arg("-q").arg(path("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        wait_for("pgbouncer", || std::net::TcpStream::connect((POOLED_ADDRESS, port)).ok());
        PgBouncer { process, _folder: folder }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_pgbouncer_that_takes_tokens_is_used_and_one_that_does_not_is_explained() {
    let test = "pooled::a_pgbouncer";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "pgbouncer"))
    else {
        return;
    };
    set_hosts(
        &installation.sandbox.workspace,
        json!({ "host": "127.0.0.1", "read_write_pooled_host": POOLED_ADDRESS }),
    );
    let lakebase_token = |words: &[&str]| -> Output {
        installation.command("lakebase-token").args(words).output().unwrap()
    };
    let psql =
        ["--pooled", "psql", "-wAtc", "begin; select current_user, inet_server_port(); commit"];

    let users = lakebase_token(&["-f", "pgbouncer"]);
    let users = String::from_utf8(users.stdout).unwrap();
    let pgbouncer = PgBouncer::start(&installation, "plain", &users);
    let output = lakebase_token(&psql);
    assert!(output.status.success(), "{}", words(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains(CLIENT_ID), "{}", words(&output));
    drop(pgbouncer);

    // doctor mints anew, and this PgBouncer knows only the token in its file. So it asks for none.
    let pgbouncer = PgBouncer::start(&installation, "trust", &users);
    let output = lakebase_token(&["doctor", "--pooled"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("through the pooled host"), "{text}");
    drop(pgbouncer);

    // A native password is asked for by SCRAM, which takes no token.
    let users = format!("\"{CLIENT_ID}\" \"native\"\n");
    let _pgbouncer = PgBouncer::start(&installation, "scram-sha-256", &users);
    assert!(!lakebase_token(&psql).status.success());
    let output = lakebase_token(&["doctor", "--pooled"]);
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "SASL (SCRAM), which takes no token",
        "native Postgres passwords only",
        "PGHOST=127.0.0.1  # the direct host",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in {text}");
    }
    let output = lakebase_token(&["exec", "--pooled", "--wait", "20s", "--", "true"]);
    assert_eq!(
        output.status.code(),
        Some(125),
        "a refusal of tokens does not pass: {}",
        words(&output)
    );
    let output = lakebase_token(&["psql", "-wAtc", "select 1"]);
    assert!(output.status.success(), "{}", words(&output));
}
