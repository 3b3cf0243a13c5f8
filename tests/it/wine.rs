//! The program for Windows as Linux sees it: beside psql for Windows at a server of this machine, at a
//! console, and with another certificate store.
//!
//! `tests/windows/run` starts these tests, one at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::{assert_prints, can_unshare, repository};
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

fn program() -> String {
    named("LAKEBASE_TOKEN_WINDOWS").to_str().unwrap().to_owned()
}

fn psql() -> String {
    drive_z(&named("LAKEBASE_TOKEN_WINDOWS_PSQL"))
}

/// A command in the sandbox's environment, whose certificates are trusted.
fn command(sandbox: &Sandbox, words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").args(words);
    command.envs(sandbox.env().into_iter().filter(|(name, _)| *name != "HOME"));
    let authority = drive_z(&sandbox.certificates.authority);
    command.env("SSL_CERT_FILE", &authority);
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &authority);
    command.env("LAKEBASE_TOKEN_CACHE", drive_z(&sandbox.folder.path().join("cache")));
    command
}

fn wine(sandbox: &Sandbox, words: &[&str]) -> Output {
    command(sandbox, &[&["wine"], words].concat()).output().unwrap()
}

#[test]
#[ignore = "tests/windows/run starts it"]
fn psql_logs_in_by_exec_and_by_the_password_file() {
    let sandbox = Sandbox::start().unwrap();
    let (program, psql) = (program(), psql());
    let query = [&psql, "--no-password", "-At", "-c", "SELECT current_user", "-d", DATABASE];

    let direct = wine(&sandbox, &query);
    assert!(!direct.status.success(), "psql logs in without a password: {direct:?}");
    assert_prints(&wine(&sandbox, &[&[&program, "exec", "--"], &query[..]].concat()), CLIENT_ID);

    let written = wine(&sandbox, &[&program, "write", "pgpass"]);
    assert!(written.status.success(), "{written:?}");
    assert!(String::from_utf8_lossy(&written.stdout).contains(r"\postgresql\pgpass.conf"));
    assert_prints(&wine(&sandbox, &query), CLIENT_ID);
}

/// Ctrl-C is psql's: it cancels the query, and neither psql nor `exec` ends.
#[test]
#[ignore = "tests/windows/run starts it"]
fn ctrl_c_at_a_console_reaches_the_child_of_exec() {
    let sandbox = Sandbox::start().unwrap();
    let script = repository().join("tests/it/scripts/console.py");
    let typed = [
        ["", "=>"],
        [r"select pg_sleep(60);\r", "pg_sleep(60);"],
        [r"\x03", "canceling statement due to user request"],
        [r"select 'al' || 'ive';\r", "alive"],
        [r"\\q\r", ""],
    ];
    let (program, psql) = (program(), psql());
    let start = ["python3", script.to_str().unwrap()];
    let psql = ["--", "wine", &program, "exec", "--", &psql, "-d", DATABASE];
    let words = [&start[..], &typed.concat(), &psql].concat();
    let output = command(&sandbox, &words).env("TERM", "xterm").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Wine fills its store from the system's bundle when its server starts.
#[test]
#[ignore = "tests/windows/run starts it"]
fn the_certificates_of_the_store_are_trusted_and_no_others() {
    if !can_unshare("wine::the_certificates_of_the_store", "--mount") {
        return;
    }
    let sandbox = Sandbox::start().unwrap();
    let server = named("LAKEBASE_TOKEN_WINE_SERVER");
    let server = server.to_str().unwrap();
    let bundle = lakebase_token::net::trust::system_bundle().expect("a bundle of certificates");
    // A server that still runs has the store of its start; it is no mistake if none does.
    let end_server = || Command::new(server).arg("-k").status().unwrap();
    let asks = |setup: &str| {
        end_server();
        let script = format!("{setup} && wine '{}' get --no-cache", program());
        let mut asks = command(&sandbox, &["unshare", "--mount", "sh", "-c", &script]);
        asks.env_remove("SSL_CERT_FILE").output().unwrap()
    };
    let trusting =
        format!("mount --bind {} {}", sandbox.certificates.authority.display(), bundle.display());
    for setup in ["true", &trusting, "true"] {
        let output = asks(setup);
        if setup == trusting {
            assert!(output.status.success() && output.stdout.starts_with(b"eyJ"), "{output:?}");
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(5), "{stderr}");
            assert!(stderr.contains("UnknownIssuer"), "{stderr}");
        }
    }
    end_server();
}
