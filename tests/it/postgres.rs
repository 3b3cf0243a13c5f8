//! A real psql logs in to a real server that checks the token.

use std::process::{Command, Output};
use std::time::Duration;

use super::support::{assert_prints, executable, sandbox_with_psql};
use crate::sandbox::Sandbox;
use crate::sandbox::jwt::Scope;
use crate::sandbox::workspace::{CLIENT_ID, MINT, PAT, USER};

/// Runs a shell line with `DATABRICKS_*` and `PG*` set, and with lakebase-token on PATH.
fn shell(sandbox: &Sandbox, line: &str) -> Output {
    let folder = sandbox.folder.path().join("tools");
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(executable(), folder.join("lakebase-token")).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env_clear().env("PATH", path).envs(sandbox.env());
    command.output().unwrap()
}

fn login(sandbox: &Sandbox, role: &str, password: &str) -> Result<String, String> {
    let output = shell(
        sandbox,
        &format!("PGUSER='{role}' PGPASSWORD='{password}' psql -wAtc 'select current_user'"),
    );
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn psql_logs_in_with_nothing_but_the_usual_variables() {
    let Some(sandbox) = sandbox_with_psql("postgres::psql_logs_in") else { return };
    let line = "PGPASSWORD=$(lakebase-token) psql -Atc 'select current_user'";
    assert_prints(&shell(&sandbox, line), CLIENT_ID);
    assert_prints(&shell(&sandbox, line), CLIENT_ID);
    let mints = sandbox.workspace.count(MINT);
    assert_eq!(mints, 1, "the second one came from the cache");
}

#[test]
fn exec_and_every_format_for_psql_log_in() {
    let Some(sandbox) = sandbox_with_psql("postgres::exec_and_every_format") else { return };
    let psql = "psql -wAtc 'select current_user'";
    for line in [
        format!("lakebase-token exec -- {psql}"),
        format!(
            "PGPASSWORD=stale PGSERVICE=none PGHOSTADDR=192.0.2.1 lakebase-token exec -- {psql}"
        ),
        format!("eval \"$(lakebase-token -f env)\"; {psql}"),
        "psql -wAt \"$(lakebase-token -f url)\" -c 'select current_user'".to_owned(),
        format!(
            "umask 077; lakebase-token -f pgpass > \"$HOME/pass\"; PGPASSFILE=\"$HOME/pass\" {psql}"
        ),
        format!(
            "umask 077; lakebase-token -f dotenv > \"$HOME/env\"; set -a; . \"$HOME/env\"; {psql}"
        ),
    ] {
        assert_prints(&shell(&sandbox, &line), CLIENT_ID);
    }
}

#[test]
fn a_user_logs_in_with_a_personal_access_token() {
    let Some(sandbox) = sandbox_with_psql("postgres::a_user") else { return };
    let line = format!(
        "unset DATABRICKS_CLIENT_ID DATABRICKS_CLIENT_SECRET PGUSER; export DATABRICKS_TOKEN={PAT}; \
         lakebase-token exec -- psql -Atc 'select current_user'"
    );
    assert_prints(&shell(&sandbox, &line), USER);
}

#[test]
fn the_server_refuses_what_lakebase_would_refuse() {
    let Some(sandbox) = sandbox_with_psql("postgres::the_server_refuses") else { return };
    let signer = &sandbox.workspace.signer;
    let good = signer.sign(CLIENT_ID, Scope::Database, 60, 0);
    assert_eq!(login(&sandbox, CLIENT_ID, &good), Ok(CLIENT_ID.to_owned()));
    let refused = |role: &str, password: &str| {
        let words = login(&sandbox, role, password).unwrap_err();
        assert!(words.contains("authentication failed"), "{words}");
    };
    refused(CLIENT_ID, &signer.sign(CLIENT_ID, Scope::Database, -1, 0)); // expired
    refused(USER, &good); // the role of another identity
    refused(CLIENT_ID, &signer.sign(CLIENT_ID, Scope::Workspace, 60, 0)); // a workspace token
    refused(CLIENT_ID, PAT);
    let (body, _) = good.rsplit_once('.').unwrap();
    refused(CLIENT_ID, &format!("{body}.AAAA")); // a wrong signature
}

#[test]
fn each_new_connection_outlives_the_expiry_of_the_last() {
    let Some(sandbox) = sandbox_with_psql("postgres::each_new_connection") else { return };
    sandbox.workspace.state().credential_life = 2;
    let line = "PGPASSWORD=$(lakebase-token) psql -Atc 'select 1'";
    let old = shell(&sandbox, "lakebase-token").stdout;
    let old = String::from_utf8(old).unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2100));
        assert_prints(&shell(&sandbox, line), "1");
    }
    assert!(login(&sandbox, CLIENT_ID, old.trim()).is_err(), "the first one has expired");
}

#[test]
fn a_failure_stops_a_script_with_set_e() {
    let Some(sandbox) = sandbox_with_psql("postgres::a_failure_stops") else { return };
    let line = "set -e; PGPASSWORD=$(DATABRICKS_CLIENT_SECRET=wrong lakebase-token); \
                export PGPASSWORD; echo reached";
    let output = shell(&sandbox, line);
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty());
}

#[test]
fn psql_is_started_with_its_own_words_and_ours_before_them() {
    let Some(sandbox) = sandbox_with_psql("postgres::psql_is_started") else { return };
    assert_prints(&shell(&sandbox, "lakebase-token psql -Atc 'select current_user'"), CLIENT_ID);
    let line = "lakebase-token --pg-database nope psql -d databricks_postgres -Atc 'select current_database()'";
    assert_prints(&shell(&sandbox, line), "databricks_postgres");
    assert_prints(&shell(&sandbox, "lakebase-token psql --clean -- -Atc 'select 2'"), "2");

    // Its exit code is psql's own.
    let output = shell(&sandbox, "lakebase-token psql -c nonsense");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = shell(&sandbox, "lakebase-token psql --endpoint shop -c x");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}
