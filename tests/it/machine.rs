//! A virtual machine for tests: a real systemd that boots in namespaces of this machine.
//!
//! It has its own processes, `/run`, `/tmp` and cgroups, and a user with a home and a systemd user
//! manager. It shares this machine's network, so that it can reach the sandbox; its `/mnt` is
//! [`Machine::folder`]. Needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex};

use super::support::{executable, has, is_root, not_run, wait_for};

/// A user id that is probably unused on this machine.
pub const UID: u32 = 4242;

const BOOT: &str = r#"
set -e
mount --make-rprivate /
for file in passwd group shadow; do
    cp -p "/etc/$file" "$1/$file"
done
echo 'tester:x:4242:4242::/mnt/home:/bin/sh' >>"$1/passwd"
echo 'tester:x:4242:' >>"$1/group"
echo 'tester:*:19000:0:99999:7:::' >>"$1/shadow"
for file in passwd group shadow; do
    mount --bind "$1/$file" "/etc/$file"
done
mount --bind "$1" /mnt
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /var/lib/systemd
mkdir -p /var/log/journal
if [ -d /var/spool/cron/crontabs ]; then
    mount -t tmpfs -o "mode=1730,gid=$(stat -c %g /var/spool/cron/crontabs)" tmpfs /var/spool/cron/crontabs
    : >/mnt/crontab
    mount --bind /mnt/crontab /etc/crontab
    mount -t tmpfs tmpfs /etc/cron.d
fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=docker /lib/systemd/systemd --system --unit=basic.target
"#;

/// The most machines that are booted at once. With more of them, systemd sometimes fails to set up the
/// namespaces of a unit.
const MAX_MACHINES: usize = 2;

static BOOTED: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Room for one machine.
struct Room;

impl Room {
    fn wait_for() -> Room {
        let booted = BOOTED.lock().unwrap();
        *ENDED.wait_while(booted, |booted| *booted >= MAX_MACHINES).unwrap() += 1;
        Room
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *BOOTED.lock().unwrap() -= 1;
        ENDED.notify_one();
    }
}

pub struct Machine {
    pub folder: tempfile::TempDir,
    pub env: Vec<(String, String)>,
    unshare: Child,
    init: String,
    /// Dropped last.
    _room: Room,
}

impl Machine {
    /// Boots a machine, or notes why this test cannot run.
    pub fn boot(test: &str) -> Option<Machine> {
        if !is_root() {
            not_run(test, "only root can boot a systemd in namespaces");
            return None;
        }
        if !Path::new("/lib/systemd/systemd").exists() || !has(test, "unshare") {
            not_run(test, "systemd is not installed");
            return None;
        }

        let room = Room::wait_for();
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "bin"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(UID), Some(UID)).unwrap();
        }
        fs::copy(executable(), folder.path().join("bin/lakebase-token")).unwrap();

        let flags =
            ["--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--uts", "--ipc"];
        let unshare = Command::new("unshare")
            .args(flags)
            .args(["--cgroup", "sh", "-c", BOOT, "sh"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("boot.log")).unwrap())
            .spawn()
            .unwrap();

        let pid = unshare.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let log = folder.path().join("boot.log");
        let init = wait_for("a child of unshare", || {
            let errors = fs::read_to_string(&log).unwrap();
            assert!(errors.is_empty(), "{errors}");
            fs::read_to_string(&children).ok()?.split_whitespace().next().map(str::to_owned)
        });

        let machine = Machine { folder, env: Vec::new(), unshare, init, _room: room };
        wait_for("systemd", || {
            let user_manager = format!("user@{UID}");
            let started = machine.root(&["systemctl", "start", &user_manager]).status.success();
            let ready = || machine.run("systemctl --user is-active timers.target");
            (started && ready().status.success()).then_some(())
        });
        Some(machine)
    }

    /// Runs a command as root.
    pub fn root(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init, "-a"]).args(words).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Runs a shell line as the user.
    pub fn run(&self, line: &str) -> Output {
        let user = format!("--reuid={UID}");
        let group = format!("--regid={UID}");
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{UID}");
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.init, "-a", "setpriv", &user, &group])
            .args(["--clear-groups", "env", "-i", "HOME=/mnt/home", "PATH=/mnt/bin:/usr/bin:/bin"])
            .arg(runtime)
            .args(self.env.iter().map(|(name, value)| format!("{name}={value}")))
            .args(["sh", "-c", &format!("cd && {line}")])
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The path of a file in the user's home, outside the machine.
    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SIGKILL from outside is the only signal that ends a process 1 at once.
        let _ = Command::new("kill").args(["-9", &self.init]).status();
        let _ = self.unshare.wait();
    }
}
