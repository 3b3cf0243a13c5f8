//! `integrations/pgbouncer`: a real PgBouncer with our configuration, between psql and the sandbox's
//! Postgres, while `write file` replaces its `auth_file`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Installation, SELECT_USER, words};
use crate::machine::wait_for;
use crate::sandbox::workspace::CLIENT_ID;
use crate::support::{has, is_root};

/// The first length of a password that PgBouncer 1.18 refuses, and that lakebase-token warns of.
const REFUSED_LENGTH: usize = 2048;

/// PgBouncer refuses to run as root.
const USER: &str = "postgres";

/// A PgBouncer in a folder of its own, killed when the test ends.
struct PgBouncer<'i> {
    installation: &'i Installation,
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Drop for PgBouncer<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl PgBouncer<'_> {
    /// Writes the configuration and an empty `auth_file`, but starts nothing yet.
    fn configured(installation: &Installation) -> PgBouncer<'_> {
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            let status = Command::new("chown").arg(USER).arg(folder.path()).status().unwrap();
            assert!(status.success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let pgbouncer = PgBouncer { installation, folder, port, process: None };
        pgbouncer.write_configuration();

        // The file's owner stays the same when root replaces the file.
        let list = pgbouncer.auth_file();
        fs::write(&list, "").unwrap();
        let owner = pgbouncer.folder.path().metadata().unwrap();
        chown(&list, Some(owner.uid()), Some(owner.gid())).unwrap();
        pgbouncer
    }

    fn write_configuration(&self) {
        let mut config = self.installation.integration_file(
            "pgbouncer/pgbouncer.ini",
            &[
                ("port=5432", &format!("port={}", self.installation.port())),
                ("listen_port = 6432", &format!("listen_port = {}", self.port)),
                ("/etc/pgbouncer/lakebase/userlist.txt", self.auth_file().to_str().unwrap()),
                // Short-lived connections, so that PgBouncer logs in with each password.
                ("server_lifetime = 3600", "server_lifetime = 1"),
            ],
        );
        config.push_str(&format!(
            "unix_socket_dir =\nlogfile = {}\npidfile = {}\n",
            self.path("log").display(),
            self.path("pid").display()
        ));
        fs::write(self.path("pgbouncer.ini"), config).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn auth_file(&self) -> PathBuf {
        self.path("userlist.txt")
    }

    fn start(&mut self) {
        let mut command = Command::new("pgbouncer");
        if is_root() {
            command.args(["-u", USER]);
        }
        command.arg("-q").arg(self.path("pgbouncer.ini"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        wait_for("pgbouncer", || self.log_in().status.success().then_some(()));
    }

    /// Runs `write file` with a hook that makes PgBouncer read the file, and returns the new line.
    fn write_auth_file(&self, refresh: bool) -> String {
        let pid_file = self.path("pid");
        let reload = format!("! test -e {0} || kill -HUP $(cat {0})", pid_file.display());
        let mut command = self.installation.command("lakebase-token");
        command.args(["write", "file"]).arg(self.auth_file()).args(["--format", "pgbouncer"]);
        command.args(["--then", &reload]).args(refresh.then_some("--refresh"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        fs::read_to_string(self.auth_file()).unwrap()
    }

    fn reload(&self) {
        let pid = fs::read_to_string(self.path("pid")).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
        // Until PgBouncer has closed its connection, which it would use again.
        std::thread::sleep(Duration::from_millis(2500));
    }

    fn log_in(&self) -> Output {
        let mut psql = self.installation.command("psql");
        psql.env("PGPORT", self.port.to_string()).env("PGSSLMODE", "disable");
        psql.env_remove("PGPASSWORD").args(["-wAtc", SELECT_USER]).output().unwrap()
    }

    #[track_caller]
    fn assert_logs_in(&self) {
        let output = self.log_in();
        assert!(output.status.success(), "{}", words(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), CLIENT_ID);
    }
}

/// A line for the `auth_file` whose password has a length in this range, made by padding the tokens.
/// lakebase-token must warn exactly of the lengths that PgBouncer 1.18 refuses.
fn line_of_length(
    installation: &Installation,
    padding: usize,
    expected: std::ops::Range<usize>,
) -> String {
    installation.sandbox.workspace.signer.padding.store(padding, Ordering::SeqCst);
    let mut command = installation.command("lakebase-token");
    let output = command.args(["--format", "pgbouncer", "--refresh"]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();

    let length = line.rsplit('"').nth(1).unwrap().len();
    assert!(expected.contains(&length), "{length}");
    let warns = String::from_utf8_lossy(&output.stderr).contains("2,048 bytes");
    assert_eq!(warns, length >= REFUSED_LENGTH, "{length}");
    line
}

/// Both sides of the length that PgBouncer 1.18 takes; later versions take both.
fn check_password_lengths(pgbouncer: &PgBouncer<'_>, shorter: &str, longer: &str) {
    let version = Command::new("pgbouncer").arg("--version").output().unwrap();
    let is_old = String::from_utf8_lossy(&version.stdout).starts_with("PgBouncer 1.18.");

    for (line, is_accepted) in [(longer, !is_old), (shorter, true)] {
        fs::write(pgbouncer.auth_file(), line).unwrap();
        pgbouncer.reload();
        let output = pgbouncer.log_in();
        assert_eq!(output.status.success(), is_accepted, "{}", words(&output));
    }
}

/// A client logs in all the time, while the password changes three times. Returns the number of
/// logins.
fn rotate_under_a_client(pgbouncer: &PgBouncer<'_>, first: &str) -> usize {
    let stop = AtomicBool::new(false);
    let logins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                pgbouncer.assert_logs_in();
                logins.fetch_add(1, Ordering::SeqCst);
            }
        });

        let mut last = first.to_owned();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(2));
            let before = logins.load(Ordering::SeqCst);
            let line = pgbouncer.write_auth_file(true);
            assert_ne!(line, last);
            last = line;
            // Each password is used, on a slow machine, too.
            let was_used = || (logins.load(Ordering::SeqCst) > before + 1).then_some(());
            wait_for("two logins", was_used);
        }
        stop.store(true, Ordering::SeqCst);
        client.join().unwrap();
    });
    logins.into_inner()
}

#[test]
fn pgbouncers_clients_log_in_through_three_rotations() {
    let test = "consumers::pgbouncer";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "pgbouncer"))
    else {
        return;
    };
    let mut pgbouncer = PgBouncer::configured(&installation);
    let shorter = line_of_length(&installation, 1270, 2030..REFUSED_LENGTH);
    let longer = line_of_length(&installation, 1280, REFUSED_LENGTH..2070);
    line_of_length(&installation, 600, 0..REFUSED_LENGTH);

    installation.sandbox.workspace.state().credential_life = 4;
    pgbouncer.write_auth_file(false);
    pgbouncer.start();
    check_password_lengths(&pgbouncer, &shorter, &longer);

    pgbouncer.write_auth_file(true);
    pgbouncer.reload();
    let first = pgbouncer.write_auth_file(true);
    let logins = rotate_under_a_client(&pgbouncer, &first);
    eprintln!("{logins} logins through PgBouncer, 3 rotations");

    // Without a new line, logins fail after the expiry. PgBouncer does not notice a file that changes
    // twice within a second, hence the pause.
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(pgbouncer.auth_file(), &first).unwrap();
    pgbouncer.reload();
    wait_for("the first password's expiry", || {
        (!pgbouncer.log_in().status.success()).then_some(())
    });
}
