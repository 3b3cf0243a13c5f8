//! `integrations/desktop`: the command lines of its README, run as the desktop programs run them.

use std::process::Output;

use super::{Installation, shell_block};
use crate::sandbox::workspace::CLIENT_ID;
use crate::support::{not_run, repository, words};

/// Calls the class of pgAdmin that runs the password command, with stand-ins for the parts of pgAdmin
/// that the class imports.
const PGADMIN_SCRIPT: &str = "
import logging, sys, time, types, zipfile

wheel, line, host, port, user = sys.argv[1:]

def module(name, **names):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(names)

module('flask', current_app=types.SimpleNamespace(logger=logging.getLogger()))
module('config', SERVER_MODE=False, PG_DEFAULT_DRIVER='psycopg3')
module('pgadmin')
module('pgadmin.utils')
driver = types.SimpleNamespace(qtIdent=lambda _, name: '\"' + name + '\"')
module('pgadmin.utils.driver', get_driver=lambda _: driver)

source = zipfile.ZipFile(wheel).read('pgadmin4/pgadmin/utils/passexec.py')
exec(compile(source, 'passexec.py', 'exec'))
password = PasswordExec(line, host, port, user, expiration_seconds=0)
print(password.get())
time.sleep(2.1)
print(password.get())
";

#[test]
fn the_command_lines_for_desktop_programs_work() {
    let Some(installation) = Installation::with_postgres("consumers::desktop") else { return };
    let readme = installation.integration_file("desktop/README.md", &[]);

    // pgAdmin fills in the placeholders, quotes the role as in SQL, and runs the line in a shell.
    let line = shell_block(&readme)
        .replace("%HOSTNAME%", "127.0.0.1")
        .replace("%PORT%", &installation.port().to_string())
        .replace("%USERNAME%", &format!("\"{CLIENT_ID}\""));
    let run_line =
        || -> Output { installation.command("sh").args(["-c", &line]).output().unwrap() };
    let output = run_line();
    assert!(output.status.success(), "{}", words(&output));
    installation.assert_logs_in(String::from_utf8(output.stdout).unwrap().trim());

    // Postico reads an object of libpq's keywords.
    let mut postico = installation.command("lakebase-token");
    let output = postico.args(["-f", "libpq-json"]).output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["user"], CLIENT_ID);

    installation.reject_client_secret();
    let output = run_line();
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn pgadmins_own_class_runs_the_command_at_each_connection() {
    let test = "consumers::pgadmin";
    let folder = repository().join("target/pgadmin");
    let wheel = folder.join("pgadmin4-9.18-py3-none-any.whl");
    if !wheel.exists() {
        if std::env::var_os("CI").is_none() {
            return not_run(test, "pgAdmin's wheel (126 MB) is downloaded only with CI=true");
        }
        let mut pip = std::process::Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "pgadmin4==9.18", "-d"]);
        let output = pip.arg(&folder).output().unwrap();
        if !wheel.exists() {
            return not_run(test, &format!("no pgAdmin: {}", words(&output)));
        }
    }
    let Some(installation) = Installation::with_postgres(test) else { return };
    let readme = installation.integration_file("desktop/README.md", &[]);
    let line = shell_block(&readme).trim();
    let run_class = || -> Output {
        let mut python = installation.command("python3");
        python.args(["-c", PGADMIN_SCRIPT]).arg(&wheel).arg(line).arg("127.0.0.1");
        python.arg(installation.port().to_string()).arg(CLIENT_ID).output().unwrap()
    };

    installation.sandbox.workspace.state().credential_life = 2;
    let output = run_class();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let passwords: Vec<&str> = stdout.lines().collect();
    assert!(output.status.success() && passwords.len() == 2, "{}", words(&output));
    assert_ne!(passwords[0], passwords[1], "the command runs at each connection");
    installation.assert_logs_in(passwords[1]);

    installation.reject_client_secret();
    let output = run_class();
    assert!(!output.status.success() && words(&output).contains("invalid_client"));
}
