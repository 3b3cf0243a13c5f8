//! Services: installed, run, shown and uninstalled with a real systemd; a real cron; the files of
//! all of them, parsed by the programs that read them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lakebase_token::platform::context::Context;
use lakebase_token::service::definition::ServiceDefinition;
use lakebase_token::service::env_file::EnvFile;
use lakebase_token::service::manager::Manager;

use super::machine::{Machine, UID};
use super::support::{Test, executable, has, repository, wait_for, words, workspace};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, MINT, PAT};

/// A name with characters that systemd, a shell or XML interprets.
const ODD: &str = "o\"d'd 100%h $HOME ${X} a&b;<c> \\ é";

/// A booted machine whose user has the sandbox's variables.
pub fn machine(test: &str) -> Option<(Sandbox, Machine)> {
    let sandbox = Sandbox::start().unwrap();
    let mut machine = Machine::boot(test)?;
    fs::copy(&sandbox.certificates.authority, machine.folder.path().join("ca.pem")).unwrap();
    for (name, value) in sandbox.env() {
        match name {
            "HOME" => (),
            "SSL_CERT_FILE" => machine.env.push((name.into(), "/mnt/ca.pem".into())),
            _ => machine.env.push((name.into(), value)),
        }
    }
    Some((sandbox, machine))
}

impl Machine {
    /// Runs a line as the user, and checks its exit code and that its output has these words.
    #[track_caller]
    fn says(&self, line: &str, code: i32, expected: &[&str]) -> String {
        let output = self.run(line);
        let said = words(&output);
        assert_eq!(output.status.code(), Some(code), "{line}\n{said}");
        for words in expected {
            assert!(said.contains(words), "{words:?} is missing in\n{line}\n{said}");
        }
        said
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
    }

    fn password(&self) -> String {
        let file = fs::read_to_string(self.home(".pgpass")).unwrap_or_default();
        let line = file.lines().find(|line| line.contains(CLIENT_ID)).unwrap_or_default();
        line.rsplit(':').next().unwrap_or_default().to_owned()
    }

    fn remove_cache(&self) {
        fs::remove_dir_all(self.home(".cache/lakebase-token")).unwrap();
    }
}

const LOGIN: &str = "env -u PGPASSWORD psql -wAtc 'select current_user'";
const FOREIGN: &str = "other:5432:db:me:mine";

#[test]
fn a_booted_systemd_keeps_pgpass_up_to_date() {
    let test = "service::a_booted_systemd";
    if !has(test, "psql") {
        return;
    }
    let Some((sandbox, mut machine)) = machine(test) else { return };
    fs::write(machine.home(".pgpass"), FOREIGN).unwrap();
    chown(machine.home(".pgpass"), Some(UID), Some(UID)).unwrap();

    // A program that another user could replace is refused, and so is one that does not last.
    for place in ["/tmp", "/var/tmp", "/mnt/home/.cache/uv"] {
        let line = format!("mkdir -p {place} && cp /mnt/bin/lakebase-token {place}/");
        machine.says(&line, 0, &[]);
        let line = format!("{place}/lakebase-token service install pgpass");
        machine.says(&line, 2, &["a service cannot run", "because: ", "hint: put lakebase-token"]);
    }
    machine.says("rm -r .cache", 0, &[]);
    machine.says("chmod 777 /mnt/bin", 0, &[]);
    machine.says(
        "lakebase-token service install pgpass",
        2,
        &["another user can replace /mnt/bin"],
    );
    machine.says("chmod 755 /mnt/bin", 0, &[]);

    // Not installed yet.
    machine.says("lakebase-token service status pgpass", 2, &["is not installed", "hint: "]);
    machine.says("lakebase-token service restart pgpass", 2, &["is not installed"]);
    machine.says("lakebase-token service uninstall pgpass", 0, &["unchanged: "]);

    // Installed, unchanged, replaced; each is proven by a login.
    machine.says(
        "lakebase-token service install pgpass",
        0,
        &["installed lakebase-token-pgpass: "],
    );
    machine.says(LOGIN, 0, &[CLIENT_ID]);
    machine.says("lakebase-token service install pgpass", 0, &["unchanged lakebase-token-pgpass"]);

    // The path by which it was started is in the unit, also if that is a link to a versioned file.
    machine.says("mkdir -p .local/bin && ln -s /mnt/bin/lakebase-token .local/bin/lbt", 0, &[]);
    let linked = "PATH=$HOME/.local/bin:$PATH lbt service install pgpass --name linked";
    machine.says(linked, 0, &["installed lakebase-token-linked"]);
    let unit = "grep ExecStart .config/systemd/user/lakebase-token-linked.service";
    machine.says(unit, 0, &["/mnt/home/.local/bin/lbt"]);
    machine.says("lakebase-token service uninstall pgpass --name linked", 0, &[]);
    machine.says("rm .local/bin/lbt", 0, &[]);
    let other = "lakebase-token service install pgpass --interval 5m";
    machine.says(other, 0, &["replaced lakebase-token-pgpass", "every 5m"]);
    let expected = ["scheduled, next check ", "last check  succeeded, ", "valid until "];
    machine.says("lakebase-token service status pgpass", 0, &expected);

    // The secret stands in the private environment file, and in no unit.
    let environment = machine.home(".config/lakebase-token/lakebase-token-pgpass.env");
    assert!(fs::read_to_string(&environment).unwrap().contains(CLIENT_SECRET));
    assert_eq!(environment.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let units = machine.home(".config/systemd/user");
    for unit in fs::read_dir(&units).unwrap().map(|unit| unit.unwrap().path()) {
        assert!(unit.is_dir() || !fs::read_to_string(&unit).unwrap().contains(CLIENT_SECRET));
    }

    // Seconds instead of minutes, by a drop-in.
    sandbox.workspace.state().credential_life = 8;
    machine.remove_cache();
    let drop_in = machine.home(".config/systemd/user/lakebase-token-pgpass.timer.d");
    fs::create_dir(&drop_in).unwrap();
    let seconds =
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n";
    fs::write(drop_in.join("seconds.conf"), seconds).unwrap();
    let hourly = machine.password();
    machine.says("systemctl --user daemon-reload", 0, &[]);
    machine.says("systemctl --user restart lakebase-token-pgpass.timer", 0, &[]);
    let first = wait_for("a new entry", || Some(machine.password()).filter(|now| *now != hourly));
    machine.says(LOGIN, 0, &[CLIENT_ID]);
    let old = format!("PGPASSWORD={first} psql -wAtc 'select 1'");
    machine.says(&old, 0, &["1"]);
    wait_for("its expiry", || (!machine.run(&old).status.success()).then_some(()));
    machine.says(LOGIN, 0, &[CLIENT_ID]);
    assert_ne!(machine.password(), first);

    // A client secret that is no longer valid: the timer's runs fail, and status says why.
    fs::remove_dir_all(&drop_in).unwrap();
    machine.says("systemctl --user daemon-reload", 0, &[]);
    sandbox.workspace.state().credential_life = 3600;
    let set_secret = |secret: &str| {
        sandbox.workspace.state().clients.insert(CLIENT_ID.to_owned(), secret.to_owned());
    };
    set_secret("another");
    machine.remove_cache();
    let before = machine.password();
    machine.says("systemctl --user start lakebase-token-pgpass.service", 1, &[]);
    let why = ["last check  failed, ", "invalid_client", "exit code 4", "hint  "];
    machine.says("lakebase-token service status pgpass", 4, &why);
    machine.says("lakebase-token service restart pgpass", 4, &["invalid_client"]);
    let unit = units.join("lakebase-token-pgpass.service");
    let former = fs::read(&unit).unwrap();
    machine.says("lakebase-token service install pgpass --interval 7m", 4, &["invalid_client"]);
    assert_eq!(fs::read(&unit).unwrap(), former);
    assert_eq!(machine.password(), before, "a failure leaves the file as it is");
    set_secret(CLIENT_SECRET);
    // A refusal is cached for three seconds, both for the unit and for the user's shell.
    for line in ["lakebase-token service restart pgpass", "lakebase-token"] {
        wait_for("the right secret", || machine.run(line).status.success().then_some(()));
    }
    machine.says("lakebase-token service status pgpass", 0, &["succeeded"]);

    // A program that has been moved away: status says what systemd's code means.
    machine.says("mv /mnt/bin/lakebase-token /mnt/bin/moved", 0, &[]);
    machine.says("systemctl --user start lakebase-token-pgpass.service", 1, &[]);
    let why =
        ["last check  failed, ", "systemd cannot start the program", "service install TARGET"];
    let said = machine.run("moved service status pgpass");
    let said = words(&said);
    assert!(why.iter().all(|words| said.contains(words)), "{said}");
    machine.says("mv /mnt/bin/moved /mnt/bin/lakebase-token", 0, &[]);
    machine.says("lakebase-token service restart pgpass", 0, &[]);

    // What works here but not in the unit fails when the unit is run, and is undone.
    for (name, words) in
        [("second", "nothing is installed"), ("pgpass", "the former service is restored")]
    {
        let drop_in =
            machine.home(&format!(".config/systemd/user/lakebase-token-{name}.service.d"));
        fs::create_dir(&drop_in).unwrap();
        fs::write(drop_in.join("x.conf"), "[Service]\nExecStart=\nExecStart=/bin/false\n").unwrap();
        let line = format!("lakebase-token service install pgpass --name {name} --interval 8m");
        machine.says(&line, 1, &["was started and failed", words, "hint: journalctl"]);
        fs::remove_dir_all(&drop_in).unwrap();
    }
    assert_eq!(fs::read(&unit).unwrap(), former);
    assert!(!units.join("lakebase-token-second.service").exists());
    assert!(!machine.home(".config/lakebase-token/lakebase-token-second.env").exists());
    machine.says("systemctl --user is-active lakebase-token-pgpass.timer", 0, &["active"]);

    // A secret on stdin is read once and recorded.
    let stdin = "printf %s \"$DATABRICKS_CLIENT_SECRET\" | env -u DATABRICKS_CLIENT_SECRET \
                 lakebase-token service install pgpass --client-secret-file - --name stdin";
    machine.says(stdin, 0, &["installed lakebase-token-stdin"]);
    machine.says("lakebase-token service uninstall pgpass --name stdin", 0, &["uninstalled"]);
    let elsewhere = "XDG_CONFIG_HOME=/mnt/home/config lakebase-token service install pgpass";
    machine.says(elsewhere, 2, &["systemd reads no units from", "hint: unset XDG_CONFIG_HOME"]);

    // Another target of the same name is refused, and so is a flag without an effect.
    machine.set("PGPASSFILE", "/mnt/home/elsewhere");
    machine.says("lakebase-token service install pgpass", 2, &["another target", "hint: --name"]);
    machine.set("PGPASSFILE", "");
    machine.says("lakebase-token service status pgpass --interval 5m", 2, &["--interval"]);
    machine.says("lakebase-token service uninstall --help", 0, &["usage: "]);
    machine.says("lakebase-token service install pgpass", 0, &["note: ", "enable-linger"]);
    let lingering = machine.says("lakebase-token service install pgpass --linger", 0, &[]);
    assert!(!lingering.contains("note: "), "{lingering}");
    machine.says("loginctl show-user tester -p Linger", 0, &["Linger=yes"]);

    // A stopped timer is a failure.
    machine.says("systemctl --user stop lakebase-token-pgpass.timer", 0, &[]);
    machine.says("lakebase-token service status pgpass", 1, &["not scheduled"]);

    // Nothing is left but what was there before.
    machine.says("lakebase-token service uninstall pgpass --purge", 0, &["uninstalled "]);
    machine.says("lakebase-token service uninstall pgpass --purge", 0, &["unchanged: "]);
    assert_eq!(fs::read_to_string(machine.home(".pgpass")).unwrap(), format!("{FOREIGN}\n"));
    let left = machine.says("cd && find . -type f ! -name '*.lock' -o -type l", 0, &[]);
    assert_eq!(left, "Some(0): ./.pgpass\n");
    machine.says("systemctl --user list-unit-files --no-legend 'lakebase*'; systemctl --user list-units --all --no-legend 'lakebase*'", 0, &[]);
}

#[test]
fn systemd_reads_odd_values_as_they_are() {
    let Some((_sandbox, mut machine)) = machine("service::systemd_reads") else { return };
    // The program (which systemd refuses to start with a quote or a backslash in its path), the
    // file, the role and the command all have odd names.
    let program = ODD.replace(['"', '\'', '\\'], "");
    for folder in [&program, ODD] {
        let folder = machine.home(folder);
        fs::create_dir(&folder).unwrap();
        fs::copy(executable(), folder.join("lakebase-token")).unwrap();
        chown(&folder, Some(UID), Some(UID)).unwrap();
    }
    machine.set("PROGRAM", &format!("/mnt/home/{program}/lakebase-token"));
    machine.set("PGUSER", ODD);
    machine.set("DATABRICKS_TOKEN_AUDIENCE", "first SECOND=\"2\" 'a' `x`");
    machine.set("ODD", &format!("/mnt/home/{ODD}"));
    let then = "env -0 >\"$HOME/$PGUSER/env\"\nprintf '%s|' \"a\\b\" '$HOME' 100%h >\"$HOME/$PGUSER/then\"";
    machine.set("THEN", then);
    let line = "\"$PROGRAM\" service install file \"$ODD/a file\" --format json \
                --then \"$THEN\"";
    machine.says(line, 0, &["installed lakebase-token-file-a-file: "]);
    let json = fs::read_to_string(machine.home(&format!("{ODD}/a file"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["user"], ODD);
    assert_eq!(
        fs::read_to_string(machine.home(&format!("{ODD}/then"))).unwrap(),
        "a\\b|$HOME|100%h|"
    );
    let env = fs::read_to_string(machine.home(&format!("{ODD}/env"))).unwrap();
    for expected in [
        &format!("PGUSER={ODD}"),
        "DATABRICKS_TOKEN_AUDIENCE=first SECOND=\"2\" 'a' `x`",
        "DATABRICKS_AUTH_TYPE=oauth-m2m",
    ] {
        assert!(env.split('\0').any(|line| line == expected), "{expected} is missing in {env:?}");
    }
    assert!(!env.contains(CLIENT_SECRET), "the hook sees no secret");
    let status = "\"$PROGRAM\" service status file \"$ODD/a file\"";
    machine.says(status, 0, &["valid until "]);
    // A file of the same name in another folder is another target.
    for line in [
        "install file 'x/a file' --format json",
        "status file 'x/a file'",
        "uninstall file 'x/a file' --purge",
    ] {
        let line = format!("mkdir -p x && \"$PROGRAM\" service {line}");
        machine.says(&line, 2, &["keeps another target up to date", "hint: --name"]);
    }
    let uninstall = "\"$PROGRAM\" service uninstall file \"$ODD/a file\" --purge";
    machine.says(uninstall, 0, &["uninstalled"]);
    assert!(!machine.home(&format!("{ODD}/a file")).exists());
}

#[test]
fn a_file_in_any_folder_is_kept_and_the_cache_is_recreated() {
    let Some((sandbox, machine)) = machine("service::a_file_in_any_folder") else { return };
    let install = "mkdir -p a b && cd a && lakebase-token service install file ../b/app.env \
                   --format dotenv --then 'echo x >>../../mnt/home/b/hook'";
    machine.says(install, 0, &["installed lakebase-token-file-app.env: "]);
    // The cache, and the folder of the file.
    for folder in [".cache/lakebase-token", "b"] {
        assert!(machine.home(folder).exists());
    }
    machine.remove_cache();
    machine.says("lakebase-token service restart file b/app.env", 0, &["restarted"]);
    let mints = sandbox.workspace.count(MINT);
    machine.says("lakebase-token service restart file b/app.env", 0, &["restarted"]);
    assert_eq!(sandbox.workspace.count(MINT), mints, "it is cached again");
    fs::write(machine.home("b/app.env"), "junk").unwrap();
    machine.says("lakebase-token service status file b/app.env", 1, &["it has no entry of ours"]);
    // Without the environment file, nothing is known that could be purged; the rest is removed.
    fs::remove_file(machine.home(".config/lakebase-token/lakebase-token-file-app.env.env"))
        .unwrap();
    let uninstall = "lakebase-token service uninstall file b/app.env --purge";
    machine.says(uninstall, 1, &["its environment file is missing"]);
    machine.says(uninstall, 0, &["unchanged: "]);
}

#[test]
fn a_login_a_profile_and_a_secret_are_kept_from_within_a_unit() {
    let Some((sandbox, mut machine)) = machine("service::a_login") else { return };
    machine.env.retain(|(name, _)| !name.starts_with("DATABRICKS_CLIENT"));
    let log_in = format!("printf {PAT} | lakebase-token login --pat");
    machine.says(&log_in, 0, &["logged in as ada.lovelace@example.com"]);
    let profile = "databrickscfg --to agents";
    let install = format!("lakebase-token service install {profile}");
    machine.says(&install, 2, &["is too long for this login", "hint: --interval 5m"]);
    let name = "lakebase-token-databrickscfg-agents";
    machine.says(&format!("{install} --interval 5m"), 0, &["installed", name, "profile agents in"]);
    let token = || {
        let file = fs::read_to_string(machine.home(".databrickscfg")).unwrap();
        file.lines().find_map(|line| line.strip_prefix("token = ")).unwrap().to_owned()
    };
    let first = token();
    assert!(first.starts_with("dapi"));
    machine.says(&format!("lakebase-token service status {profile}"), 0, &["succeeded"]);
    // The unit replaces the token itself: its sandbox has the logins.
    let folder = machine.home(".local/state/lakebase-token");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_none());
    let login = files.find(|path| path.to_string_lossy().contains("/login-")).unwrap();
    let old = fs::read_to_string(&login).unwrap();
    let mut kept: serde_json::Value = serde_json::from_str(&old).unwrap();
    kept["issued_at"] = "2026-01-01T00:00:00Z".into();
    fs::write(&login, kept.to_string()).unwrap();
    machine.says(&format!("lakebase-token service restart {profile}"), 0, &["restarted"]);
    assert_ne!(token(), first);
    // A secret of the workspace.
    let secret = "secret --scope app --key pg";
    let install = format!("lakebase-token service install {secret} --create-scope");
    machine.says(&install, 0, &["installed lakebase-token-secret-app-pg: secret app/pg"]);
    let kept = || sandbox.workspace.state().secrets["app"].get("pg").cloned();
    assert!(kept().unwrap().starts_with("eyJ"));
    machine.says(&format!("lakebase-token service status {secret}"), 0, &["secret app/pg"]);
    for target in [secret, profile] {
        let line = format!("lakebase-token service uninstall {target} --purge");
        machine.says(&line, 0, &["uninstalled "]);
    }
    assert_eq!(kept(), None);
    assert_eq!(fs::read_to_string(machine.home(".databrickscfg")).unwrap(), "");
    machine.says("lakebase-token logout", 0, &["logged out ada"]);
}

#[test]
fn the_units_work_by_hand_as_their_readme_says() {
    let Some((_sandbox, machine)) = machine("service::the_units") else { return };
    let readme = fs::read_to_string(repository().join("integrations/systemd/README.md")).unwrap();
    let by_hand = readme.split("```sh\n").skip(1).find(|block| block.contains("cp ")).unwrap();
    let by_hand = by_hand.split("```").next().unwrap();
    let files = machine.folder.path().join("integrations/systemd");
    fs::create_dir_all(&files).unwrap();
    for file in fs::read_dir(repository().join("integrations/systemd")).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, files.join(file.file_name().unwrap())).unwrap();
    }
    machine.says("mkdir -p ~/.cargo/bin && cp /mnt/bin/lakebase-token ~/.cargo/bin", 0, &[]);
    // The settings that the README tells the reader to fill in.
    let mut settings = String::new();
    for (name, value) in &machine.env {
        settings.push_str(&format!("{name}=\"{value}\"\n"));
    }
    fs::write(machine.folder.path().join("mine.env"), settings).unwrap();
    let by_hand = by_hand.replace("${EDITOR:-vi}", "cp /mnt/mine.env");
    machine.says(&format!("cd /mnt && set -e\n{by_hand}"), 0, &[]);
    machine.says("systemctl --user is-active lakebase-token-pgpass.timer", 0, &["active"]);
    assert!(machine.password().starts_with("eyJ"));
}

#[test]
fn a_real_cron_runs_the_documented_line() {
    let test = "service::a_real_cron";
    if !has(test, "crontab") {
        return;
    }
    let Some((_sandbox, machine)) = machine(test) else { return };
    let table = fs::read_to_string(repository().join("integrations/cron/crontab")).unwrap();
    let line = table.lines().find(|line| line.starts_with("*/10 * * * * ")).unwrap();
    // Every minute instead of every ten, so that the test need not wait for ten.
    let mut crontab = String::from("SSL_CERT_FILE=/mnt/ca.pem\n");
    let mut profile = String::from("[lakebase]\n");
    for (name, value) in &machine.env {
        match name.strip_prefix("DATABRICKS_") {
            Some(key) => profile.push_str(&format!("{} = {value}\n", key.to_lowercase())),
            None if name.starts_with("PG") => crontab.push_str(&format!("{name}={value}\n")),
            None => (),
        }
    }
    crontab.push_str(&format!("{}\n", line.replacen("*/10", "*", 1)));
    fs::write(machine.folder.path().join("crontab.txt"), crontab).unwrap();
    fs::write(machine.home(".databrickscfg"), profile).unwrap();
    machine.says("mkdir -p ~/.cargo/bin && cp /mnt/bin/lakebase-token ~/.cargo/bin", 0, &[]);
    machine.says("crontab /mnt/crontab.txt", 0, &[]);
    let output = machine.root(&["systemctl", "start", "cron"]);
    assert!(output.status.success(), "{}", words(&output));
    wait_for("cron", || machine.password().starts_with("eyJ").then_some(()));
    machine.says("psql -wAtc 'select current_user'", 0, &[CLIENT_ID]);
}

fn job() -> ServiceDefinition {
    ServiceDefinition {
        name: "lakebase-token-x".to_owned(),
        target: format!("/home/{ODD}/.pgpass"),
        command: vec![format!("/opt/{ODD}/lakebase-token"), "write".into(), "two\nlines\t".into()],
        interval: Duration::from_secs(7 * 60 + 30),
        env_file_path: PathBuf::from(format!("/home/{ODD}/x.env")),
        env_file: EnvFile::default(),
        target_folder: Some("/home".into()),
        folders: Vec::new(),
    }
}

fn files(manager: Manager) -> Vec<String> {
    let env = [(OsString::from("HOME"), OsString::from(format!("/Users/{ODD}")))];
    manager.files(&job(), &Context { env: env.into_iter().collect(), ..Context::of_process() })
}

#[test]
fn a_property_list_is_parsed_as_it_was_meant() {
    if !has("service::a_property_list", "python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let parse = |text: &str| -> serde_json::Value {
        let path = folder.path().join("x.plist");
        fs::write(&path, text).unwrap();
        let script =
            "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
        let output = Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let ours = files(Manager::Launchd);
    let ours = parse(&ours[0]);
    let job = job();
    assert_eq!(ours["Label"], "lakebase-token-x");
    let words = ours["ProgramArguments"].as_array().unwrap();
    assert_eq!(words[..2], ["/bin/sh", "-c"]);
    assert_eq!(words[4], job.env_file_path.to_str().unwrap());
    assert_eq!(words[5..], job.command[..]);
    let minutes = ours["StartCalendarInterval"].as_array().unwrap();
    let minutes: Vec<i64> = minutes.iter().map(|m| m["Minute"].as_i64().unwrap()).collect();
    assert_eq!(minutes, [0, 7, 14, 21, 28, 35, 42, 49, 56]);
    assert_eq!(
        ours["StandardErrorPath"],
        format!("/Users/{ODD}/Library/Logs/lakebase-token-x.log")
    );
    assert_eq!((&ours["RunAtLoad"], &ours["Umask"]), (&true.into(), &0o077.into()));
    assert_eq!(ours["ProcessType"], "Background");
    assert_eq!(ours.as_object().unwrap().len(), 7);
    // The property list for installation by hand has the same keys.
    let path = repository().join("integrations/launchd/lakebase-token-pgpass.plist");
    let by_hand = parse(&fs::read_to_string(path).unwrap());
    let keys = |list: &serde_json::Value| -> Vec<String> {
        list.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&by_hand), keys(&ours));
}

#[test]
fn the_units_have_the_jobs_values() {
    let units = files(Manager::Systemd);
    assert!(units[1].contains("\nOnCalendar=*:0/7\n"));
    let assigned = |name: &str| {
        let line = units[0].lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once('=').unwrap().1.to_owned()
    };
    assert!(!assigned("Description").contains(" 100%h"), "specifiers are escaped");
    assert!(assigned("ExecStart").ends_with(" write \"two\\nlines\\t\""));
    assert_eq!(assigned("ReadWritePaths"), "/home");
}

#[test]
fn mistakes_are_refused_before_any_request() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for (line, words) in [
        (
            "service",
            &["missing service action", "install pgpass  # or uninstall, status, restart"][..],
        ),
        (
            "service instal pgpass",
            &["unknown service action: instal", "hint: lakebase-token service install"],
        ),
        ("service install", &["missing target: pgpass, file, databrickscfg or secret"]),
        ("service install pgpas", &["unknown target: pgpas", "hint: pgpass"]),
        ("service install pgpass --name a/b", &["--name a/b is not a valid service name"]),
        ("service install pgpass --interval 59s", &["--interval", "1m and 30m"]),
        ("service install pgpass --offline", &["a service does not take --offline"]),
        ("service install pgpass --purge", &["install has no flag --purge"]),
        ("service status pgpass --pg-host x", &["status has no flag --pg-host"]),
        ("service uninstall pgpass --linger", &["uninstall has no flag --linger"]),
    ] {
        test.run(line).fails(2, words);
    }
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn without_a_user_manager_nothing_is_installed() {
    let test_name = "service::without_a_user_manager";
    if !has(test_name, "systemctl") {
        return;
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PATH", "/usr/bin:/bin");
    // As after `su`: no session, so no bus.
    for action in ["install", "status", "restart", "uninstall"] {
        let outcome = test.run(&format!("service {action} pgpass --verbose"));
        match action {
            "install" => outcome.fails(
                1,
                &[
                    "cannot reach the systemd user manager",
                    "hint: after su or sudo: export XDG_RUNTIME_DIR=/run/user/",
                    "lakebase-token watch",
                ],
            ),
            "uninstall" => assert!(outcome.stdout.starts_with("unchanged: "), "{outcome:?}"),
            _ => outcome.fails(2, &["is not installed"]),
        }
    }
    assert!(!test.home.path().join(".config").exists(), "nothing is left");
}
