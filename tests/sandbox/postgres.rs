//! A real PostgreSQL server that checks logins as Lakebase does: over TLS, and at each login by the
//! credential's signature, expiry and role (`ldap.rs`).

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::ldap::PREFIX;

pub const DATABASE: &str = "databricks_postgres";

/// A running server. It is stopped when this is dropped.
pub struct Postgres {
    pub port: u16,
    /// Its data folder, and its log beside that.
    data: PathBuf,
    server: Child,
}

/// The folder with `initdb` and `postgres`: Debian's, or one on PATH.
pub fn binaries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    debian
        .chain(path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

impl Postgres {
    /// Starts a server in `folder` with these roles. `certificate` and `key` are PEM files.
    pub fn start(
        folder: &Path,
        certificate: &Path,
        key: &Path,
        directory_port: u16,
        roles: &[&str],
    ) -> io::Result<Postgres> {
        let binaries = binaries().ok_or_else(|| io::Error::other("no PostgreSQL here"))?;
        let data = folder.join("data");
        fs::create_dir(&data)?;
        let account = unprivileged()?;
        let own = |path: &Path, mode| -> io::Result<()> {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            account.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
        };
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        own(&data, 0o700)?;
        let command = |program: &str| {
            let mut command = Command::new(binaries.join(program));
            command.current_dir(&data).stdin(Stdio::null()).stdout(Stdio::null());
            if let Some((uid, gid)) = account {
                command.uid(uid).gid(gid);
            }
            command
        };

        let init =
            ["--auth=trust", "--username=sandbox", "--no-sync", "--encoding=UTF8", "--locale=C"];
        run(command("initdb").args(init).arg("--pgdata").arg(&data))?;
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = data.join(to);
            fs::copy(from, &to)?;
            own(&to, 0o600)?;
        }

        let access = format!(
            "local all sandbox trust\n\
             hostssl all all 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={directory_port} \
             ldapprefix=\"{PREFIX}\" ldapsuffix=\"\"\n"
        );
        fs::write(data.join("pg_hba.conf"), access)?;

        // Roles and database are created before the server listens.
        let mut script = format!("CREATE DATABASE {DATABASE};\n");
        for role in roles {
            let role = role.replace('"', "\"\"");
            script.push_str(&format!("CREATE ROLE \"{role}\" LOGIN;\n"));
        }
        if let Some(owner) = roles.first() {
            script.push_str(&format!("ALTER DATABASE {DATABASE} OWNER TO \"{owner}\";\n"));
        }
        let mut single = command("postgres")
            .args(["--single", "-D"])
            .arg(&data)
            .arg("postgres")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        io::Write::write_all(&mut single.stdin.take().expect("piped"), script.as_bytes())?;
        if !single.wait()?.success() {
            return Err(io::Error::other("postgres --single failed"));
        }

        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(folder.join("postgres.log"))?;
        let server = command("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "ssl=on", "-c", "fsync=off", "-c", "log_connections=on"])
            .args(["-c", "max_connections=50"])
            .stderr(log)
            // Ctrl-C is for the command in the terminal: psql cancels a query by it.
            .process_group(0)
            .spawn()?;

        let postgres = Postgres { port, data: data.clone(), server };
        let deadline = Instant::now() + Duration::from_secs(30);
        // The port is open a moment before the server takes connections.
        let socket = data.join(format!(".s.PGSQL.{port}"));
        let ready = || {
            let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            socket.exists() && status.lines().nth(7).is_some_and(|line| line.trim() == "ready")
        };
        while !ready() {
            if Instant::now() > deadline {
                return Err(io::Error::other("postgres did not start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(postgres)
    }
}

impl Postgres {
    /// Gives it another certificate and key (PEM files) for all later connections.
    pub fn use_certificate(&self, certificate: &Path, key: &Path) -> io::Result<()> {
        // Copied onto the old files, so that their owner and mode stay.
        fs::write(self.data.join("server.crt"), fs::read(certificate)?)?;
        fs::write(self.data.join("server.key"), fs::read(key)?)?;

        let reloads = || self.log().matches("received SIGHUP").count();
        let before = reloads();
        let server = rustix::process::Pid::from_raw(self.server.id() as i32).expect("it runs");
        rustix::process::kill_process(server, rustix::process::Signal::HUP)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while reloads() == before {
            if Instant::now() > deadline {
                return Err(io::Error::other("postgres did not reload its configuration"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let path = self.data.with_file_name("postgres.log");
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT requests a fast shutdown: the server ends sessions and writes its data.
        if let Some(pid) = rustix::process::Pid::from_raw(self.server.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.server.wait();
    }
}

/// initdb refuses root, so for root the ids of an unprivileged account.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let ids = ids("postgres").or_else(|| ids("nobody"));
    ids.map(Some).ok_or_else(|| io::Error::other("neither postgres nor nobody is an account"))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
