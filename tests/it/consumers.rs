//! The files of `integrations/`, each used by the real program that it is for, against the sandbox's
//! workspace and Postgres server.
//!
//! `consumers/` has the longer ones: `kubernetes.rs`, `pgbouncer.rs`, `terraform.rs`, `desktop.rs`, and
//! `shared_folders.rs`, which reads the manifests. Drivers are tested by `drivers.rs`, coding agents by
//! `agents.rs`, units by `service.rs`.

mod desktop;
mod kubernetes;
mod pgbouncer;
mod shared_folders;
mod terraform;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::support::{assert_prints, executable, has, is_root, not_run, repository, words};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT};

/// The Postgres host of the examples in `integrations/`.
const EXAMPLE_HOST: &str = "ep-cool-sky-1234abcd.database.us-east-1.cloud.databricks.com";

const SELECT_USER: &str = "select current_user";

/// A sandbox with lakebase-token in a folder that is first on PATH.
pub struct Installation {
    pub sandbox: Sandbox,
    programs: PathBuf,
}

impl Installation {
    /// With a Postgres server and psql; reports the test as not run if one of them is missing.
    pub fn with_postgres(test: &str) -> Option<Installation> {
        let installation = Installation::without_postgres();
        if let Err(why) = &installation.sandbox.postgres {
            not_run(test, why);
            return None;
        }
        has(test, "psql").then_some(installation)
    }

    fn without_postgres() -> Installation {
        let sandbox = Sandbox::start().unwrap();
        let programs = sandbox.folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(executable(), programs.join("lakebase-token")).unwrap();
        Installation { sandbox, programs }
    }

    fn port(&self) -> u16 {
        self.sandbox.postgres.as_ref().unwrap().port
    }

    /// A program with the variables of the sandbox.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let inherited_path = std::env::var("PATH").unwrap();
        command.env_clear().envs(self.sandbox.env());
        command.env("PATH", format!("{}:{inherited_path}", self.programs.display()));
        command.current_dir(self.sandbox.home());
        command
    }

    /// A file of `integrations/` in which the example values are replaced.
    pub fn integration_file(&self, name: &str, replacements: &[(&str, &str)]) -> String {
        let path = repository().join("integrations").join(name);
        let home = self.sandbox.home().display().to_string();
        let mut text = fs::read_to_string(path).unwrap();
        text = text.replace(EXAMPLE_HOST, "127.0.0.1").replace("/home/ada", &home);

        for (example, value) in replacements {
            assert!(text.contains(example), "{name} has no {example}");
            text = text.replace(example, value);
        }
        let authority = self.sandbox.certificates.authority.display().to_string();
        text.replace("/etc/ssl/certs/ca-certificates.crt", &authority)
    }

    /// Makes the workspace reject the client secret, and removes everything that is cached.
    pub fn reject_client_secret(&self) {
        let other = "dose9999999999999999999999999999".to_owned();
        self.sandbox.workspace.state().clients.insert(CLIENT_ID.to_owned(), other);
        self.remove_cache();
    }

    fn remove_cache(&self) {
        let cache = self.sandbox.home().join(".cache");
        if cache.exists() {
            fs::remove_dir_all(cache).unwrap();
        }
    }

    /// Logs in with psql and this password, and no other one.
    #[track_caller]
    fn assert_logs_in(&self, password: &str) {
        let mut psql = self.command("psql");
        psql.env("PGPASSWORD", password).args(["-wAtc", SELECT_USER]);
        assert_prints(&psql.output().unwrap(), CLIENT_ID);
    }
}

/// A Python with these packages from PyPI, installed once into a folder below `target/`.
pub fn python_with(packages: &[&str], module: &str, folder: &str) -> Result<PathBuf, String> {
    let folder = repository().join("target").join(folder);
    let python = folder.join("bin/python");
    if imports(&python, module) {
        return Ok(python);
    }

    let created = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    created.map_err(|e| e.to_string())?;

    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(packages);
    let installed = pip.output().map_err(|e| e.to_string())?;
    if imports(&python, module) {
        Ok(python)
    } else {
        Err(format!("no {module}: {}", words(&installed)))
    }
}

fn imports(python: &Path, module: &str) -> bool {
    let output = Command::new(python).args(["-c", &format!("import {module}")]).output();
    output.is_ok_and(|output| output.status.success())
}

/// The first block of shell lines in a README.
fn shell_block(readme: &str) -> &str {
    readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap()
}

/// All Rust files of these folders, joined.
fn rust_files(folders: &[&str]) -> String {
    let mut text = String::new();
    for folder in folders {
        for file in fs::read_dir(repository().join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[test]
fn every_integration_has_a_test_and_a_short_readme() {
    let tests = rust_files(&["tests/it", "tests/it/consumers"]);
    let list = fs::read_to_string(repository().join("integrations/README.md")).unwrap();

    for folder in fs::read_dir(repository().join("integrations")).unwrap() {
        let path = folder.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let readme = fs::read_to_string(path.join("README.md")).unwrap();
        assert!(readme.lines().count() <= 40, "{name}: its README has more than 40 lines");

        let mentions = [format!("integrations/{name}"), format!("\"{name}/")];
        assert!(mentions.iter().any(|text| tests.contains(text)), "{name} has no test");
        assert!(list.contains(&format!("]({name})")), "{name} is not in integrations/README.md");
    }
}

/// Each row of the table says what was tried; what was, has a README that names the test.
#[test]
fn the_table_of_integrations_says_what_was_tried() {
    let list = fs::read_to_string(repository().join("integrations/README.md")).unwrap();
    let rows: Vec<&str> =
        list.lines().filter(|line| line.contains("](") && line.starts_with("| ")).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, folder, _, _, tried] = cells[..] else { continue };
        let folder = folder.split("](").nth(1).unwrap().trim_end_matches(')');
        let readme = repository().join("integrations").join(folder).join("README.md");
        let readme = fs::read_to_string(readme).unwrap();
        assert!(!tried.is_empty(), "{row}");
        if tried != "untried" {
            assert!(readme.contains("Tested"), "{folder}");
            let mut files =
                readme.split("`tests/it/").skip(1).map(|rest| rest.split('`').next().unwrap());
            assert!(
                files.all(|file| repository().join("tests/it").join(file).exists()),
                "{folder}"
            );
        }
    }
}

#[test]
fn psql_starts_with_a_fresh_password_from_each_shell() {
    let test = "consumers::psql";
    let shells = ["bash", "dash", "zsh", "fish"];
    let has_shells = shells.iter().all(|shell| has(test, shell));
    let Some(installation) = Installation::with_postgres(test).filter(|_| has_shells) else {
        return;
    };
    let lbpsql = installation.programs.join("lbpsql");
    fs::copy(repository().join("integrations/psql/lbpsql"), lbpsql).unwrap();
    assert_prints(
        &installation.command("lbpsql").args(["-Atc", SELECT_USER]).output().unwrap(),
        CLIENT_ID,
    );

    // After an expiry, too.
    installation.sandbox.workspace.state().credential_life = 2;
    installation.remove_cache();
    for _ in 0..2 {
        assert_prints(
            &installation.command("lbpsql").args(["-Atc", SELECT_USER]).output().unwrap(),
            CLIENT_ID,
        );
        std::thread::sleep(Duration::from_millis(2100));
    }
    installation.sandbox.workspace.state().credential_life = 3600;

    let functions = installation.integration_file("psql/functions.sh", &[]);
    for shell in ["bash", "dash", "zsh"] {
        let split = if shell == "zsh" { "setopt shwordsplit\n" } else { "" };
        let calls = format!("lbpsql -Atc '{SELECT_USER}' && $PSQL -Atc 'select 1'");
        let script = format!("{split}{functions}\n{calls}");
        let expected = format!("{CLIENT_ID}\n1");
        assert_prints(
            &installation.command(shell).args(["-c", &script]).output().unwrap(),
            &expected,
        );
    }
    let functions = installation.integration_file("psql/functions.fish", &[]);
    let script = format!("{functions}\nlbpsql -Atc '{SELECT_USER}'");
    assert_prints(&installation.command("fish").args(["-c", &script]).output().unwrap(), CLIENT_ID);
}

#[test]
fn prompts_show_when_the_password_expires() {
    let test = "consumers::prompts";
    let has_programs = ["tmux", "jq", "script"].iter().all(|program| has(test, program));
    let Some(installation) = Installation::with_postgres(test).filter(|_| has_programs) else {
        return;
    };
    let starship = installation.integration_file("psql/starship.toml", &[]);
    let line = starship.split("'''").nth(1).unwrap();
    let shown = |expected: &str| {
        assert_prints(&installation.command("sh").args(["-c", line]).output().unwrap(), expected);
    };
    shown("-");
    assert!(installation.command("lakebase-token").output().unwrap().status.success());
    let status =
        installation.command("lakebase-token").args(["status", "--format", "json"]).output();
    let status: Value = serde_json::from_slice(&status.unwrap().stdout).unwrap();
    let expires = status["cached"][0]["expires_at"].as_str().unwrap();
    shown(expires);

    // tmux shows the line to a terminal only. The server is its own, and has the sandbox's environment.
    let socket = installation.sandbox.home().join("tmux");
    let configuration = repository().join("integrations/psql/tmux.conf");
    let (socket, configuration) = (socket.display(), configuration.display());
    let tmux = format!("TERM=xterm tmux -S {socket} -f {configuration} new-session 'sleep 5'");
    let script = format!("stty cols 120 rows 30; {tmux}");
    let output = installation.command("script").args(["-qec", &script, "/dev/null"]).output();
    let output = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    assert!(output.contains(&format!("lakebase until {expires}")), "{output:?}");
}

#[test]
fn a_failure_stops_the_script_of_the_psql_readme() {
    let test = "consumers::psql_readme";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "zsh")) else {
        return;
    };
    let readme = installation.integration_file("psql/README.md", &[]);
    let script = shell_block(&readme);
    assert_prints(&installation.command("sh").args(["-c", script]).output().unwrap(), "1");

    installation.reject_client_secret();
    for shell in ["sh", "bash", "zsh"] {
        let output = installation.command(shell).args(["-c", script]).output().unwrap();
        let said = words(&output);
        assert!(output.status.code() == Some(4) && output.stdout.is_empty(), "{shell}: {said}");
        assert!(said.contains("invalid_client") && !said.contains("psql: error"), "{said}");
    }

    let lbpsql = repository().join("integrations/psql/lbpsql");
    let mut lbpsql = installation.command(lbpsql.to_str().unwrap());
    let output = lbpsql.args(["-Atc", SELECT_USER]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", words(&output));
}

#[test]
fn a_service_file_and_direnv_use_the_password_file() {
    let test = "consumers::a_service_file";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "direnv"))
    else {
        return;
    };
    let mut write = installation.command("lakebase-token");
    let output = write.args(["write", "pgpass"]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));

    let port = installation.port().to_string();
    let replacements = [("5432", port.as_str()), ("ada@example.com", CLIENT_ID)];
    let services = installation.integration_file("psql/pg_service.conf", &replacements);
    fs::write(installation.sandbox.home().join(".pg_service.conf"), services).unwrap();
    let mut psql = installation.command("psql");
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"] {
        psql.env_remove(name);
    }
    assert_prints(
        &psql.args(["-wAtc", SELECT_USER, "service=lakebase"]).output().unwrap(),
        CLIENT_ID,
    );

    let project = installation.sandbox.home().join("project");
    fs::create_dir(&project).unwrap();
    let envrc = installation.integration_file("psql/envrc", &[("ada@example.com", CLIENT_ID)]);
    fs::write(project.join(".envrc"), envrc).unwrap();
    let line = format!("direnv allow . && direnv exec . psql -wAtc '{SELECT_USER}'");
    let mut sh = installation.command("sh");
    sh.args(["-c", &line]).current_dir(&project).env_remove("PGUSER");
    assert_prints(&sh.output().unwrap(), CLIENT_ID);
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_image_contains_all_that_the_program_needs() {
    let test = "consumers::the_image";
    if !is_root() {
        return not_run(test, "only root can use chroot");
    }
    let sandbox = Sandbox::start().unwrap();

    // The files that `integrations/kubernetes/Dockerfile` copies, with the sandbox's authority.
    let root = sandbox.folder.path().join("root");
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    let authorities = root.join("etc/ssl/certs/ca-certificates.crt");
    fs::copy(&sandbox.certificates.authority, authorities).unwrap();
    fs::copy(executable(), root.join("lakebase-token")).unwrap();

    let mut command = Command::new("/usr/sbin/chroot");
    command.arg("--userspec=65532:65532").arg(&root).arg("/lakebase-token").env_clear();
    command.envs(sandbox.env()).env_remove("HOME").env_remove("SSL_CERT_FILE");
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"eyJ"), "{}", words(&output));
}

#[test]
fn an_app_needs_only_the_variables_of_its_database_resource() {
    let Some(installation) = Installation::with_postgres("consumers::an_app") else { return };
    let app = installation.sandbox.home().join("app");
    fs::create_dir_all(app.join("bin")).unwrap();
    fs::copy(executable(), app.join("bin/lakebase-token")).unwrap();
    fs::copy(repository().join("integrations/apps/app.py"), app.join("app.py")).unwrap();

    let config = installation.integration_file("apps/app.yaml", &[]);
    let command = config.lines().find_map(|line| line.strip_prefix("command: ")).unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();

    let mut start = installation.command(&command[0]);
    start.args(&command[1..]).current_dir(&app).env("LAKEBASE_ENDPOINT", ENDPOINT);
    start.env("PATH", std::env::var_os("PATH").unwrap());
    start.env("PYTHONPATH", repository().join("integrations/python/src"));
    start.env("PYTHONDONTWRITEBYTECODE", "1");
    assert_prints(&start.output().unwrap(), CLIENT_ID);
}

#[test]
fn a_github_step_masks_the_password_before_any_step_can_print_it() {
    let Some(installation) = Installation::with_postgres("consumers::a_github_step") else {
        return;
    };
    let action = installation.integration_file("github/action.yml", &[]);
    let script = action.split("run: |\n").nth(1).unwrap();
    let variables = installation.sandbox.home().join("github.env");
    let run_step = || {
        let mut bash = installation.command("bash");
        bash.args(["-e", "-c", script]).env("GITHUB_ENV", &variables).output().unwrap()
    };

    let output = run_step();
    let written = fs::read_to_string(&variables).unwrap();
    let password = written.trim().strip_prefix("PGPASSWORD=").unwrap();
    let mask = format!("::add-mask::{password}\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), mask, "{}", words(&output));
    installation.assert_logs_in(password);
    let cache = installation.sandbox.home().join(".cache");
    assert!(!cache.exists(), "following steps could read a cached workspace token");

    // A failure stops the step, and sets no variable.
    fs::remove_file(&variables).unwrap();
    installation.reject_client_secret();
    let output = run_step();
    assert!(!output.status.success() && !variables.exists(), "{}", words(&output));
}
