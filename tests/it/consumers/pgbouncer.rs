//! `integrations/pgbouncer`: its script, run by a user of a booted systemd, and clients of the real
//! PgBouncer that it sets up, between them and the sandbox's Postgres.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::SELECT_USER;
use crate::machine::{Machine, UID};
use crate::password_file_readers::{JDBC, has_node_postgres, node_path};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::CLIENT_ID;
use crate::service::machine;
use crate::support::{has, not_run, repository, spawn};
use crate::support::{wait_for, words};

/// The first length of a password that PgBouncer 1.18 refuses, and that lakebase-token warns of.
const REFUSED_LENGTH: usize = 2048;

/// A user who is neither root nor the one that PgBouncer runs as.
const OTHER: &str = "65534";

/// A machine whose user has run the script.
struct PgBouncer {
    sandbox: Sandbox,
    machine: Machine,
    port: u16,
}

impl PgBouncer {
    fn set_up(test: &str) -> Option<PgBouncer> {
        if !has(test, "pgbouncer") || !has(test, "psql") {
            return None;
        }
        let (sandbox, machine) = machine(test)?;
        if let Err(why) = &sandbox.postgres {
            not_run(test, why);
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = repository().join("integrations/pgbouncer/setup.sh");
        let script = fs::read_to_string(script).unwrap().replace("6543", &port.to_string());
        fs::write(machine.folder.path().join("setup.sh"), script).unwrap();

        let pgbouncer = PgBouncer { sandbox, machine, port };
        pgbouncer.run_script();
        Some(pgbouncer)
    }

    fn run_script(&self) {
        self.run("sh /mnt/setup.sh");
        wait_for("pgbouncer", || self.psql(&self.socket(), "").status.success().then_some(()));
    }

    /// Runs a line as the user.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let output = self.machine.run(line);
        assert!(output.status.success(), "{line}\n{}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.machine.home(".config/lakebase-pgbouncer").join(name)
    }

    fn socket(&self) -> String {
        self.path("socket").display().to_string()
    }

    fn auth_file(&self) -> String {
        fs::read_to_string(self.path("userlist.txt")).unwrap()
    }

    /// The password of the user `local`.
    fn local_password(&self) -> String {
        let file = self.auth_file();
        let line = file.lines().find(|line| line.starts_with("\"local\"")).unwrap();
        line.rsplit('"').nth(1).unwrap().to_owned()
    }

    /// psql, from outside the machine. "" is no password.
    fn psql(&self, host: &str, password: &str) -> Output {
        self.psql_by("psql", &[], host, password)
    }

    fn psql_by(&self, program: &str, arguments: &[&str], host: &str, password: &str) -> Output {
        let mut psql = Command::new(program);
        psql.args(arguments).args(["-h", host, "-p", &self.port.to_string(), "-U", "local"]);
        psql.args(["-d", "databricks_postgres", "-wAtc", SELECT_USER]);
        psql.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        psql.env("PGPASSWORD", password).current_dir("/").output().unwrap()
    }

    #[track_caller]
    fn assert_logs_in(&self, host: &str, password: &str) {
        let output = self.psql(host, password);
        let role = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success() && role == CLIENT_ID, "{host}: {}", words(&output));
    }

    fn write_new_password(&self) {
        let before = self.auth_file();
        self.run(
            "lakebase-token write file .config/lakebase-pgbouncer/userlist.txt --format pgbouncer \
             --refresh --then 'kill -HUP $(cat .config/lakebase-pgbouncer/pid)'",
        );
        assert_ne!(self.auth_file(), before);
    }

    fn set_auth_file(&self, text: &str) {
        // PgBouncer does not notice a file that changes twice within a second.
        std::thread::sleep(Duration::from_millis(1100));
        let path = self.path("userlist.txt");
        fs::write(&path, text).unwrap();
        chown(&path, Some(UID), Some(UID)).unwrap();
        self.reload();
    }

    fn reload(&self) {
        self.run("kill -HUP $(cat .config/lakebase-pgbouncer/pid)");
        // Until PgBouncer has closed its connection, which it would use again.
        std::thread::sleep(Duration::from_millis(2500));
    }

    /// Connections that live a second, so that PgBouncer logs in with each password.
    fn shorten_connections(&self) {
        let path = self.path("pgbouncer.ini");
        let configuration = fs::read_to_string(&path).unwrap();
        assert!(configuration.contains("server_lifetime = 3600"));
        fs::write(&path, configuration.replace("server_lifetime = 3600", "server_lifetime = 1"))
            .unwrap();
        self.reload();
    }
}

#[test]
fn each_client_of_pgbouncer_logs_in_through_three_expiries() {
    let test = "consumers::pgbouncer";
    if !has(test, "node") || !has(test, "javac") {
        return;
    }
    if !has_node_postgres() || !PathBuf::from(JDBC).exists() {
        return not_run(test, "node-postgres or pgjdbc is not installed");
    }
    let Some(pgbouncer) = PgBouncer::set_up(test) else { return };
    let (socket, password) = (pgbouncer.socket(), pgbouncer.local_password());
    assert_eq!(password.len(), 48);
    pgbouncer.assert_logs_in("127.0.0.1", &password);
    pgbouncer.run(
        "lakebase-token service status file .config/lakebase-pgbouncer/userlist.txt | grep valid",
    );

    // A second run keeps the password of programs that know it.
    pgbouncer.run_script();
    assert_eq!(pgbouncer.local_password(), password);

    pgbouncer.sandbox.workspace.state().credential_life = 4;
    pgbouncer.shorten_connections();
    pgbouncer.write_new_password();
    let clients = [
        ("node-postgres", node_client(&pgbouncer, &socket, "")),
        ("node-postgres over TCP", node_client(&pgbouncer, "127.0.0.1", &password)),
        ("pgjdbc", java_client(&pgbouncer, &password)),
    ];
    let mut passwords = 0;
    while passwords < 3 || clients.iter().any(|(_, client)| is_running(client)) {
        std::thread::sleep(Duration::from_millis(1500));
        pgbouncer.write_new_password();
        passwords += 1;
        std::thread::sleep(Duration::from_millis(500));
        pgbouncer.assert_logs_in(&socket, "");
        pgbouncer.assert_logs_in("127.0.0.1", &password);
    }
    for (name, client) in clients {
        let output = client.wait_with_output().unwrap();
        let roles = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(roles.lines().collect::<Vec<_>>(), [CLIENT_ID; 4], "{name}: {}", words(&output));
    }
    assert_eq!(pgbouncer.local_password(), password);

    // Without a new password, logins fail after the expiry.
    wait_for("the last password's expiry", || {
        (!pgbouncer.psql(&socket, "").status.success()).then_some(())
    });
}

/// Four connections of node-postgres, more than a second apart.
fn node_client(pgbouncer: &PgBouncer, host: &str, password: &str) -> Child {
    const PROGRAM: &str = "
        const { Client } = require('pg');
        (async () => {
            for (let n = 0; n < 4; n++) {
                if (n > 0) await new Promise((done) => setTimeout(done, 2100));
                const client = new Client();
                await client.connect();
                console.log((await client.query('select current_user as role')).rows[0].role);
                await client.end();
            }
        })().catch((error) => { console.error(error.message); process.exit(1); });";
    let mut node = Command::new("node");
    node.args(["-e", PROGRAM]).env("NODE_PATH", node_path().1);
    node.env("PGHOST", host).env("PGPORT", pgbouncer.port.to_string()).env("PGUSER", "local");
    node.env("PGPASSWORD", password).env("PGDATABASE", "databricks_postgres");
    spawn(&mut node)
}

fn java_client(pgbouncer: &PgBouncer, password: &str) -> Child {
    let url = format!(
        "jdbc:postgresql://127.0.0.1:{}/databricks_postgres?user=local&password={password}",
        pgbouncer.port
    );
    let mut java = Command::new("java");
    java.args(["-cp", JDBC]).arg(repository().join("tests/it/drivers/Pgjdbc.java")).arg(url);
    spawn(&mut java)
}

fn is_running(client: &Child) -> bool {
    // A child that has ended is a zombie until it is waited for.
    let stat = fs::read_to_string(format!("/proc/{}/stat", client.id())).unwrap_or_default();
    !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z')
}

#[test]
fn no_other_user_gets_through_pgbouncer() {
    let test = "consumers::pgbouncer_of_another_user";
    if !has(test, "setpriv") {
        return;
    }
    let Some(pgbouncer) = PgBouncer::set_up(test) else { return };
    let user = [format!("--reuid={OTHER}"), format!("--regid={OTHER}")];
    let as_other = [user[0].as_str(), &user[1], "--clear-groups", "psql"];
    let by = |host: &str, password: &str| pgbouncer.psql_by("setpriv", &as_other, host, password);

    let refused = |output: &Output, why: &str| {
        let said = words(output);
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    refused(&by(&pgbouncer.socket(), ""), "Permission denied");
    refused(&by("127.0.0.1", ""), "no password supplied");
    refused(&by("127.0.0.1", "guess"), "SASL authentication failed");
    let folder = fs::metadata(pgbouncer.path("")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    for name in ["userlist.txt", "pgbouncer.ini", "hba", "log"] {
        let mode = fs::metadata(pgbouncer.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    // The same user can, so the tries above fail for their user and password only.
    pgbouncer.assert_logs_in("127.0.0.1", &pgbouncer.local_password());
}

/// A line for the `auth_file` whose password has a length in this range, made by padding the tokens.
/// lakebase-token must warn exactly of the lengths that PgBouncer 1.18 refuses.
fn line_of_length(
    pgbouncer: &PgBouncer,
    padding: usize,
    expected: std::ops::Range<usize>,
) -> String {
    pgbouncer.sandbox.workspace.signer.padding.store(padding, Ordering::SeqCst);
    let output = pgbouncer.machine.run("lakebase-token --format pgbouncer --refresh");
    let line = String::from_utf8(output.stdout).unwrap();

    let length = line.rsplit('"').nth(1).unwrap().len();
    assert!(expected.contains(&length), "{length}");
    let warns = String::from_utf8_lossy(&output.stderr).contains("2,048 bytes");
    assert_eq!(warns, length >= REFUSED_LENGTH, "{length}");
    line
}

/// Both sides of the length that PgBouncer 1.18 takes; later versions take both.
#[test]
fn a_password_that_pgbouncer_refuses_is_warned_of() {
    let Some(pgbouncer) = PgBouncer::set_up("consumers::pgbouncer_lengths") else { return };
    let shorter = line_of_length(&pgbouncer, 1270, 2030..REFUSED_LENGTH);
    let longer = line_of_length(&pgbouncer, 1280, REFUSED_LENGTH..2070);
    line_of_length(&pgbouncer, 600, 0..REFUSED_LENGTH);
    pgbouncer.shorten_connections();

    let version = Command::new("pgbouncer").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    // The bound was raised after 1.25.2.
    let is_old = minor.is_some_and(|minor| minor <= 25);
    let local = format!("\"local\" \"{}\"\n", pgbouncer.local_password());
    for (line, is_accepted) in [(longer, !is_old), (shorter, true)] {
        pgbouncer.set_auth_file(&format!("{local}{line}"));
        let output = pgbouncer.psql(&pgbouncer.socket(), "");
        assert_eq!(output.status.success(), is_accepted, "{}", words(&output));
    }
}
