//! The program for Windows with psql for Windows, both under Wine, at the sandbox's own server.
//!
//! `tests/windows/run` starts this, on Linux, where the server runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::sandbox::Sandbox;
use crate::sandbox::postgres::DATABASE;
use crate::sandbox::workspace::CLIENT_ID;

/// A path as Wine's drive Z: has it.
fn drive_z(path: &Path) -> String {
    format!("Z:{}", path.to_str().unwrap().replace('/', "\\"))
}

fn named(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap())
}

fn wine(sandbox: &Sandbox, program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "wine"]).arg(program).args(arguments);
    command.envs(sandbox.env().into_iter().filter(|(name, _)| *name != "HOME"));
    let authority = drive_z(&sandbox.certificates.authority);
    command.env("SSL_CERT_FILE", &authority);
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &authority);
    command.env("LAKEBASE_TOKEN_CACHE", drive_z(&sandbox.folder.path().join("cache")));
    command.output().unwrap()
}

#[track_caller]
fn prints(output: &Output, expected: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.trim() == expected, "{output:?}");
}

#[test]
#[ignore = "tests/windows/run starts it"]
fn psql_logs_in_by_exec_and_by_the_password_file() {
    let sandbox = Sandbox::start().unwrap();
    let program = named("LAKEBASE_TOKEN_WINDOWS");
    let psql = named("LAKEBASE_TOKEN_WINDOWS_PSQL");
    let query = ["--no-password", "-At", "-c", "SELECT current_user"];
    let query = [&query[..], &["-d", DATABASE]].concat();

    let direct = wine(&sandbox, &psql, &query);
    assert!(!direct.status.success(), "psql logs in without a password: {direct:?}");
    let on_z = drive_z(&psql);
    let words = [&["exec", "--", &on_z], &query[..]].concat();
    prints(&wine(&sandbox, &program, &words), CLIENT_ID);

    let written = wine(&sandbox, &program, &["write", "pgpass"]);
    assert!(written.status.success(), "{written:?}");
    assert!(String::from_utf8_lossy(&written.stdout).contains(r"\postgresql\pgpass.conf"));
    prints(&wine(&sandbox, &psql, &query), CLIENT_ID);
}
