//! Clients that read only the password file, while `write pgpass` replaces the password in it.
//!
//! Each program in `scripts/` logs in again and again, and must never fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::support::{executable, not_run, repository, spawn};
use crate::sandbox::Sandbox;

pub const JDBC: &str = "/usr/share/java/postgresql.jar";

const ROTATIONS: usize = 1000;

struct Client {
    name: &'static str,
    /// The command that logs in, or why the client cannot run on this machine.
    command: Result<Vec<String>, &'static str>,
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// A folder for packages from npm, and a NODE_PATH with these packages and Debian's.
pub fn node_path() -> (PathBuf, String) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("node");
    let path = format!("{}/node_modules:/usr/share/nodejs", folder.display());
    (folder, path)
}

/// Whether node can use the package pg, which npm installs if it is missing.
pub fn has_node_postgres() -> bool {
    let (folder, path) = node_path();
    if requires_pg(&path) {
        return true;
    }

    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--prefix"]).arg(&folder).arg("pg@8");
    succeeds(&mut npm) && requires_pg(&path)
}

fn requires_pg(node_path: &str) -> bool {
    succeeds(Command::new("node").args(["-e", "require('pg')"]).env("NODE_PATH", node_path))
}

fn clients() -> Vec<Client> {
    let file = |name: &str| format!("{}/tests/it/scripts/{name}", repository().display());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();

    let has_psql = succeeds(Command::new("psql").arg("--version"));
    let psql = has_psql.then(|| words(&["sh", &file("login.sh")]));

    // Debian's packages are visible only to Debian's own Python.
    let mut pythons = ["/usr/bin/python3", "python3"].into_iter();
    let python =
        pythons.find(|python| succeeds(Command::new(python).args(["-c", "import asyncpg"])));
    let asyncpg = python.map(|python| words(&[python, &file("login.py")]));

    let node_postgres = has_node_postgres().then(|| words(&["node", &file("login.js")]));

    let has_java = Path::new(JDBC).exists() && succeeds(Command::new("javac").arg("-version"));
    let pgjdbc = has_java.then(|| words(&["java", "-cp", JDBC, &file("Login.java")]));

    vec![
        Client { name: "psql", command: psql.ok_or("psql is not installed") },
        Client { name: "asyncpg", command: asyncpg.ok_or("no python3 has asyncpg") },
        Client {
            name: "node-postgres",
            command: node_postgres.ok_or("node or its package pg is not installed"),
        },
        Client { name: "pgjdbc", command: pgjdbc.ok_or("a JDK or pgjdbc is not installed") },
    ]
}

/// Starts a client, which logs in until the file `stop` exists.
fn start(sandbox: &Sandbox, words: &[String], stop: &Path) -> Child {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().envs(sandbox.env());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.env("NODE_PATH", node_path().1).env("STOP", stop);
    // A JVM takes the user's home from /etc/passwd, not from HOME.
    command.env("PGPASSFILE", sandbox.home().join(".pgpass"));
    spawn(command.stdin(Stdio::null()))
}

fn write_new_password(sandbox: &Sandbox) -> String {
    let mut command = Command::new(executable());
    command.args(["write", "pgpass", "--refresh"]).env_clear().envs(sandbox.env());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_client_fails_during_a_thousand_rotations() {
    let test = "password_file_readers::no_client_fails_during_a_thousand_rotations";
    let sandbox = Sandbox::start().unwrap();
    if let Err(why) = &sandbox.postgres {
        return not_run(test, why);
    }
    // Short enough that a client with an old password would fail.
    sandbox.workspace.state().credential_life = 10;
    let stop = sandbox.folder.path().join("stop");
    write_new_password(&sandbox);

    let mut running: Vec<(&str, Child)> = Vec::new();
    for client in clients() {
        match client.command {
            Err(why) => not_run(&format!("{test}: {}", client.name), why),
            Ok(words) => running.push((client.name, start(&sandbox, &words, &stop))),
        }
    }

    for _ in 0..ROTATIONS {
        assert!(write_new_password(&sandbox).starts_with("wrote "));
    }
    fs::write(&stop, "").unwrap();

    for (name, child) in running {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {stderr}");

        let logins: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        eprintln!("{name}: {logins} logins during {ROTATIONS} rotations");
        assert!(logins > 20, "{name}: {logins}");
    }
}
