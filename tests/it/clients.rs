//! Clients that know nothing but the password file, while it is rotated under them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::support::{executable, not_run, repository};
use crate::sandbox::Sandbox;

pub const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A client: its name, and the command that logs in by it, if it is on this machine.
struct Client {
    name: &'static str,
    command: Result<Vec<String>, &'static str>,
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Where node finds packages: what npm has put there, then Debian's.
pub fn node_path() -> (PathBuf, String) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("node");
    let path = format!("{}/node_modules:/usr/share/nodejs", folder.display());
    (folder, path)
}

pub fn has_node_postgres() -> bool {
    let (folder, path) = node_path();
    let has = || runs(Command::new("node").args(["-e", "require('pg')"]).env("NODE_PATH", &path));
    let install = || {
        let mut npm = Command::new("npm");
        runs(npm.args(["install", "--silent", "--no-audit", "--prefix"]).arg(&folder).arg("pg@8"))
    };
    has() || (install() && has())
}

fn clients() -> Vec<Client> {
    let file = |name: &str| format!("{}/tests/it/clients/{name}", repository().display());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let psql = runs(Command::new("psql").arg("--version"));
    // Debian's packages are for Debian's own python.
    let mut pythons = ["/usr/bin/python3", "python3"].into_iter();
    let python = pythons.find(|python| runs(Command::new(python).args(["-c", "import asyncpg"])));
    let java = Path::new(JDBC).exists() && runs(Command::new("javac").arg("-version"));
    vec![
        Client {
            name: "psql",
            command: psql.then(|| words(&["sh", &file("login.sh")])).ok_or("psql is not installed"),
        },
        Client {
            name: "asyncpg",
            command: python
                .map(|python| words(&[python, &file("login.py")]))
                .ok_or("no python3 here has asyncpg"),
        },
        Client {
            name: "node-postgres",
            command: has_node_postgres()
                .then(|| words(&["node", &file("login.js")]))
                .ok_or("there is no node, or no package pg for it"),
        },
        Client {
            name: "pgjdbc",
            command: java
                .then(|| words(&["java", "-cp", JDBC, &file("Login.java")]))
                .ok_or("there is no JDK, or no pgjdbc"),
        },
    ]
}

#[test]
fn nobody_notices_a_thousand_rotations() {
    let test = "clients::nobody_notices_a_thousand_rotations";
    let sandbox = Sandbox::start().unwrap();
    if let Err(why) = &sandbox.postgres {
        return not_run(test, why);
    }
    // So short that a stale password would be noticed, too.
    sandbox.workspace.state().credential_life = 10;
    let stop = sandbox.folder.path().join("stop");
    let write = || {
        let mut command = Command::new(executable());
        command.args(["write", "pgpass", "--refresh"]).env_clear().envs(sandbox.env());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    write();
    let mut running: Vec<(&str, Child)> = Vec::new();
    for client in clients() {
        match client.command {
            Err(why) => not_run(&format!("{test}: {}", client.name), why),
            Ok(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).env_clear().envs(sandbox.env());
                command.env("PATH", std::env::var_os("PATH").unwrap());
                command.env("NODE_PATH", node_path().1).env("STOP", &stop);
                // A JVM looks for the user's home in the passwd file.
                command.env("PGPASSFILE", sandbox.home().join(".pgpass"));
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                running.push((client.name, command.spawn().unwrap()));
            }
        }
    }
    for _ in 0..1000 {
        assert!(write().starts_with("wrote "));
    }
    fs::write(&stop, "").unwrap();
    for (name, child) in running {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        let logins: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        eprintln!("{name}: {logins} logins during 1000 rotations");
        assert!(logins > 20, "{name}: {logins}");
    }
}
