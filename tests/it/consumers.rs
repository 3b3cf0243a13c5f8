//! The folders of `integrations/`: their very files, handed to the programs that they are for, with
//! the sandbox's Postgres behind them.

mod shared_folders;
mod yaml;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::support::{executable, has, is_root, not_run, repository, say_not_run};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT};

/// The whole sandbox, with a folder of programs on PATH.
pub struct Place {
    pub sandbox: Sandbox,
    programs: PathBuf,
}

const HOST: &str = "ep-cool-sky-1234abcd.database.us-east-1.cloud.databricks.com";

impl Place {
    pub fn new(test: &str) -> Option<Place> {
        let sandbox = Sandbox::start().unwrap();
        if let Err(why) = &sandbox.postgres {
            not_run(test, why);
            return None;
        }
        if !has(test, "psql") {
            return None;
        }
        let programs = sandbox.folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(executable(), programs.join("lakebase-token")).unwrap();
        Some(Place { sandbox, programs })
    }

    fn port(&self) -> u16 {
        self.sandbox.postgres.as_ref().unwrap().port
    }

    /// A program in the sandbox's surroundings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let usual = std::env::var("PATH").unwrap();
        command.env_clear().envs(self.sandbox.env());
        command.env("PATH", format!("{}:{usual}", self.programs.display()));
        command.current_dir(self.sandbox.home());
        command
    }

    /// One of our files, with what is meant as an example filled in.
    fn file(&self, name: &str, filled: &[(&str, &str)]) -> String {
        let path = repository().join("integrations").join(name);
        let mut text = fs::read_to_string(path).unwrap();
        let home = self.sandbox.home().display().to_string();
        for (example, meant) in [(HOST, "127.0.0.1"), ("/home/ada", home.as_str())] {
            text = text.replace(example, meant);
        }
        for (example, meant) in filled {
            assert!(text.contains(example), "{name} has no {example}");
            text = text.replace(example, meant);
        }
        text
    }

    pub fn refuse_the_secret(&self) {
        let other = "dose9999999999999999999999999999".to_owned();
        self.sandbox.workspace.state().clients.insert(CLIENT_ID.to_owned(), other);
        let cache = self.sandbox.home().join(".cache");
        if cache.exists() {
            fs::remove_dir_all(cache).unwrap();
        }
    }
}

pub fn words(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}: {}{}", output.status.code(), part(&output.stdout), part(&output.stderr))
}

#[track_caller]
fn prints(output: &Output, expected: &str) {
    let said = words(output);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{said}");
}

const WHO: &str = "select current_user";

#[test]
fn every_integration_has_a_test_and_a_short_readme() {
    let tests: String = fs::read_dir(repository().join("tests/it"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let list = fs::read_to_string(repository().join("integrations/README.md")).unwrap();
    for folder in fs::read_dir(repository().join("integrations")).unwrap() {
        let path = folder.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let readme = fs::read_to_string(path.join("README.md")).unwrap();
        assert!(readme.lines().count() <= 40, "{name}: its README has more than 40 lines");
        let used = [format!("integrations/{name}"), format!("\"{name}/")];
        assert!(used.iter().any(|words| tests.contains(words)), "{name} has no test");
        assert!(list.contains(&format!("]({name})")), "{name} is not in integrations/README.md");
    }
}

#[test]
fn psql_and_the_shells() {
    let test = "consumers::psql";
    let shells = ["bash", "dash", "zsh", "fish"];
    let (Some(place), true) = (Place::new(test), shells.iter().all(|shell| has(test, shell)))
    else {
        return;
    };
    fs::copy(repository().join("integrations/psql/lbpsql"), place.programs.join("lbpsql")).unwrap();
    prints(&place.command("lbpsql").args(["-Atc", WHO]).output().unwrap(), CLIENT_ID);
    // An expiry later.
    place.sandbox.workspace.state().credential_life = 2;
    fs::remove_dir_all(place.sandbox.home().join(".cache")).unwrap();
    for _ in 0..2 {
        prints(&place.command("lbpsql").args(["-Atc", WHO]).output().unwrap(), CLIENT_ID);
        std::thread::sleep(Duration::from_millis(2100));
    }
    place.sandbox.workspace.state().credential_life = 3600;
    let functions = place.file("psql/functions.sh", &[]);
    for shell in ["bash", "dash", "zsh"] {
        let split = if shell == "zsh" { "setopt shwordsplit\n" } else { "" };
        let script = format!("{split}{functions}\nlbpsql -Atc '{WHO}' && $PSQL -Atc 'select 1'");
        let output = place.command(shell).args(["-c", &script]).output().unwrap();
        prints(&output, &format!("{CLIENT_ID}\n1"));
    }
    let script = format!("{}\nlbpsql -Atc '{WHO}'", place.file("psql/functions.fish", &[]));
    prints(&place.command("fish").args(["-c", &script]).output().unwrap(), CLIENT_ID);
    // A helper that fails stops the script of the README, and psql is not asked.
    let readme = place.file("psql/README.md", &[]);
    let script = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    prints(&place.command("sh").args(["-c", script]).output().unwrap(), "1");
    place.refuse_the_secret();
    for shell in ["sh", "bash", "zsh"] {
        let output = place.command(shell).args(["-c", script]).output().unwrap();
        let said = words(&output);
        assert!(output.status.code() == Some(4) && output.stdout.is_empty(), "{shell}: {said}");
        assert!(said.contains("invalid_client") && !said.contains("psql: error"), "{said}");
    }
    let output = place.command("lbpsql").args(["-Atc", WHO]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", words(&output));
}

#[test]
fn a_service_file_and_direnv_read_the_file_that_is_kept_true() {
    let test = "consumers::a_service_file";
    let (Some(place), true) = (Place::new(test), has(test, "direnv")) else { return };
    let port = place.port().to_string();
    let wrote = place.command("lakebase-token").args(["write", "pgpass"]).output().unwrap();
    assert!(wrote.status.success(), "{}", words(&wrote));
    let filled = [("5432", port.as_str()), ("ada@example.com", CLIENT_ID)];
    let services = place.file("psql/pg_service.conf", &filled);
    fs::write(place.sandbox.home().join(".pg_service.conf"), services).unwrap();
    let mut psql = place.command("psql");
    for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"] {
        psql.env_remove(name);
    }
    prints(&psql.args(["-wAtc", WHO, "service=lakebase"]).output().unwrap(), CLIENT_ID);
    let project = place.sandbox.home().join("project");
    fs::create_dir(&project).unwrap();
    let filled = [("ada@example.com", CLIENT_ID)];
    fs::write(project.join(".envrc"), place.file("psql/envrc", &filled)).unwrap();
    let line = format!("direnv allow . && direnv exec . psql -wAtc '{WHO}'");
    let mut sh = place.command("sh");
    sh.args(["-c", &line]).current_dir(&project).env_remove("PGUSER");
    prints(&sh.output().unwrap(), CLIENT_ID);
}

/// A PgBouncer, ended with the test.
struct Bouncer(Child);

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pgbouncer_lives_through_rotations_and_its_clients_notice_nothing() {
    let test = "consumers::pgbouncer";
    let (Some(place), true) = (Place::new(test), has(test, "pgbouncer")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let user = if is_root() { "postgres" } else { "" };
    if is_root() {
        let status = Command::new("chown").arg(user).arg(folder.path()).status().unwrap();
        assert!(status.success());
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (server, own) = (place.port().to_string(), port.to_string());
    let list = path("userlist.txt");
    let mut config = place.file(
        "pgbouncer/pgbouncer.ini",
        &[
            ("port=5432", &format!("port={server}")),
            ("listen_port = 6432", &format!("listen_port = {own}")),
            ("/etc/pgbouncer/lakebase/userlist.txt", list.to_str().unwrap()),
            // New logins all the time, so that each password is tried.
            ("server_lifetime = 3600", "server_lifetime = 1"),
        ],
    );
    config.push_str(&format!(
        "unix_socket_dir =\nlogfile = {}\npidfile = {}\n",
        path("log").display(),
        path("pid").display()
    ));
    fs::write(path("pgbouncer.ini"), config).unwrap();
    // Its user's file; root keeps it for him.
    fs::write(&list, "").unwrap();
    let owner = folder.path().metadata().unwrap();
    chown(&list, Some(owner.uid()), Some(owner.gid())).unwrap();
    let reload = format!("! test -e {0} || kill -HUP $(cat {0})", path("pid").display());
    let write = |refresh: bool| {
        let mut command = place.command("lakebase-token");
        command.args(["write", "file"]).arg(&list).args(["--format", "pgbouncer"]);
        command.args(["--then", &reload]).args(refresh.then_some("--refresh"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        fs::read_to_string(&list).unwrap()
    };
    // Longer ones than Debian's PgBouncer takes are warned of; see below.
    let long = |padding: usize| {
        place.sandbox.workspace.signer.padding.store(padding, Ordering::SeqCst);
        let mut command = place.command("lakebase-token");
        let output = command.args(["--format", "pgbouncer", "--refresh"]).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let length = line.rsplit('"').nth(1).unwrap().len();
        let warned = String::from_utf8_lossy(&output.stderr).contains("2,048 bytes");
        assert_eq!(warned, length >= 2048, "{length}");
        (line, length)
    };
    let (shorter, length) = long(1270);
    assert!((2030..2048).contains(&length), "{length}");
    let (longer, length) = long(1280);
    assert!((2048..2070).contains(&length), "{length}");
    long(600);
    place.sandbox.workspace.state().credential_life = 4;
    write(false);
    let mut pgbouncer = Command::new("pgbouncer");
    if is_root() {
        pgbouncer.args(["-u", user]);
    }
    pgbouncer.arg("-q").arg(path("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
    let _bouncer = Bouncer(pgbouncer.spawn().unwrap());
    let log_in = || {
        let mut psql = place.command("psql");
        psql.env("PGPORT", &own).env("PGSSLMODE", "disable");
        psql.env_remove("PGPASSWORD").args(["-wAtc", WHO]).output().unwrap()
    };
    super::machine::wait_for("pgbouncer", || log_in().status.success().then_some(()));
    // Both sides of the length that 1.18 takes.
    let version = Command::new("pgbouncer").arg("--version").output().unwrap();
    let is_old = String::from_utf8_lossy(&version.stdout).starts_with("PgBouncer 1.18.");
    let read_anew = || {
        let pid = fs::read_to_string(path("pid")).unwrap();
        assert!(Command::new("kill").args(["-HUP", pid.trim()]).status().unwrap().success());
        // So that the old connection is not used once more.
        std::thread::sleep(Duration::from_millis(2500));
    };
    for (line, taken) in [(&longer, !is_old), (&shorter, true)] {
        fs::write(&list, line).unwrap();
        read_anew();
        let output = log_in();
        assert_eq!(output.status.success(), taken, "{}", words(&output));
    }
    write(true);
    read_anew();
    let first = write(true);
    let (stop, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                prints(&log_in(), CLIENT_ID);
                logins.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut last = first.clone();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(2));
            let before = logins.load(Ordering::SeqCst);
            let now = write(true);
            assert_ne!(now, last);
            last = now;
            // On a slow machine, too, each password is tried.
            let tried = || (logins.load(Ordering::SeqCst) > before + 1).then_some(());
            super::machine::wait_for("two logins", tried);
        }
        stop.store(true, Ordering::SeqCst);
        client.join().unwrap();
    });
    eprintln!("{} logins through PgBouncer, 3 rotations", logins.load(Ordering::SeqCst));
    // Without the timer it would have been over by now. (A file that was changed in place within the
    // same second is no change to PgBouncer.)
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(&list, &first).unwrap();
    read_anew();
    super::machine::wait_for("its end", || (!log_in().status.success()).then_some(()));
}

/// The sandbox and a kubeconfig for it, without a Postgres.
fn cluster() -> (Place, PathBuf) {
    let sandbox = Sandbox::start().unwrap();
    let programs = sandbox.folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(executable(), programs.join("lakebase-token")).unwrap();
    let place = Place { sandbox, programs };
    let url = place.sandbox.workspace.url.clone();
    let authority = place.sandbox.certificates.authority.display().to_string();
    let text = place.file(
        "kubernetes/kubeconfig.yaml",
        &[("https://my-api.example.com", &url), ("/etc/ssl/certs/ca-certificates.crt", &authority)],
    );
    let config = place.sandbox.home().join("kubeconfig");
    fs::write(&config, text).unwrap();
    (place, config)
}

/// Asks for the server's version, by whatever reads a kubeconfig; and once more without a token.
fn asks_a_cluster(place: &Place, ask: &dyn Fn() -> Output) {
    let output = ask();
    assert!(output.status.success() && words(&output).contains("v1.33.1"), "{}", words(&output));
    let seen = place.sandbox.workspace.state().requests.len();
    place.refuse_the_secret();
    let output = ask();
    let said = words(&output);
    assert!(!output.status.success() && !said.contains("v1.33.1"), "{said}");
    // Nobody was let in on the old token.
    let state = place.sandbox.workspace.state();
    let late = state.requests.iter().skip(seen);
    let mut asked = late.filter(|request| request.path.starts_with("/version"));
    assert!(asked.all(|request| request.header("authorization").is_none()), "{said}");
}

#[test]
fn kubectl_asks_the_plugin_in_either_version() {
    if !has("consumers::kubectl", "kubectl") {
        return;
    }
    for version in ["v1", "v1beta1"] {
        let (place, config) = cluster();
        let text = fs::read_to_string(&config).unwrap();
        let api = format!("authentication.k8s.io/{version}\n");
        fs::write(&config, text.replace("authentication.k8s.io/v1\n", &api)).unwrap();
        asks_a_cluster(&place, &|| {
            let mut kubectl = place.command("kubectl");
            kubectl.arg("--kubeconfig").arg(&config).args(["get", "--raw", "/version"]);
            let output = kubectl.output().unwrap();
            let said = words(&output);
            assert!(output.status.success() || said.contains("invalid_client"), "{said}");
            output
        });
    }
}

#[test]
fn the_python_client_asks_the_plugin() {
    let python = match python_with(&["kubernetes"], "kubernetes", "kubernetes-client") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::kubernetes_python", &why),
    };
    let (place, config) = cluster();
    let script = "import sys\n\
                  from kubernetes import client, config\n\
                  config.load_kube_config(sys.argv[1])\n\
                  print(client.VersionApi().get_code().git_version)";
    asks_a_cluster(&place, &|| {
        let mut command = place.command(python.to_str().unwrap());
        command.args(["-c", script]).arg(&config).output().unwrap()
    });
}

#[test]
fn the_node_client_asks_the_plugin() {
    let test = "consumers::kubernetes_node";
    if !has(test, "node") {
        return;
    }
    let folder = repository().join("target/kubernetes-node");
    let package = folder.join("node_modules/@kubernetes/client-node");
    if !package.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        let _ = npm.arg("@kubernetes/client-node@1").output();
        if !package.exists() {
            return say_not_run(test, "npm cannot install @kubernetes/client-node");
        }
    }
    let (place, config) = cluster();
    let script = format!(
        "import('{}/dist/index.js').then(async (k8s) => {{\n\
         const config = new k8s.KubeConfig();\n\
         config.loadFromFile(process.argv[1]);\n\
         const info = await config.makeApiClient(k8s.VersionApi).getCode();\n\
         console.log(info.gitVersion);\n\
         }}).catch((e) => {{ console.error(String(e.message)); process.exit(1); }});",
        package.display()
    );
    asks_a_cluster(&place, &|| {
        let mut node = place.command("node");
        node.args(["-e", &script]).arg(&config).output().unwrap()
    });
}

#[test]
fn kubernetes_manifests_are_valid_by_their_schemas() {
    let packages = ["kubernetes-validate"];
    let python = match python_with(&packages, "kubernetes_validate", "kubernetes") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::kubernetes_manifests", &why),
    };
    let script = "import sys, yaml, kubernetes_validate as k\n\
                  for name in sys.argv[1:]:\n\
                  \x20 for document in yaml.safe_load_all(open(name)):\n\
                  \x20   k.validate(document, '1.33', strict=True)\n\
                  print('valid')";
    let folder = repository().join("integrations/kubernetes");
    let mut validate = Command::new(&python);
    validate.args(["-c", script]).args([folder.join("sidecar.yaml"), folder.join("cronjob.yaml")]);
    prints(&validate.output().unwrap(), "valid");
}

/// The reader that `shared_folders` uses, and PyYAML with all scalars as text.
#[test]
fn our_yaml_reader_agrees_with_pyyaml() {
    let packages = ["kubernetes-validate"];
    let python = match python_with(&packages, "yaml", "kubernetes") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::our_yaml_reader", &why),
    };
    let script = "import json, sys, yaml\n\
                  print(json.dumps(list(yaml.load_all(open(sys.argv[1]), yaml.BaseLoader))))";
    for path in shared_folders::yaml_files() {
        let output = Command::new(&python).args(["-c", script]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));

        let expected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let documents = yaml::documents(&fs::read_to_string(&path).unwrap());
        assert_eq!(serde_json::Value::Array(documents), expected, "{}", path.display());
    }
}

/// A Python with packages from PyPI, made once below `target/`.
pub fn python_with(packages: &[&str], module: &str, folder: &str) -> Result<PathBuf, String> {
    let folder = repository().join("target").join(folder);
    let python = folder.join("bin/python");
    let imports = || {
        let checked = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        checked.is_ok_and(|output| output.status.success())
    };
    if !imports() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
        made.map_err(|e| e.to_string())?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet"]).args(packages);
        let output = pip.output().map_err(|e| e.to_string())?;
        if !imports() {
            return Err(format!("no {module}: {}", words(&output)));
        }
    }
    Ok(python)
}

#[test]
#[ignore = "wants the static file: tests/run"]
fn the_image_has_all_that_the_program_needs() {
    let test = "consumers::the_image";
    if !is_root() {
        return not_run(test, "only root can change its root");
    }
    let sandbox = Sandbox::start().unwrap();
    let root = sandbox.folder.path().join("root");
    // What `integrations/kubernetes/Dockerfile` copies, with the sandbox's authority.
    fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
    let authority = root.join("etc/ssl/certs/ca-certificates.crt");
    fs::copy(&sandbox.certificates.authority, authority).unwrap();
    fs::copy(executable(), root.join("lakebase-token")).unwrap();
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg("--userspec=65532:65532").arg(&root).arg("/lakebase-token").env_clear();
    command.envs(sandbox.env()).env_remove("HOME").env_remove("SSL_CERT_FILE");
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"eyJ"), "{}", words(&output));
}

#[test]
fn terraform_keeps_its_state_in_the_database() {
    let test = "consumers::terraform";
    let (Some(place), true) = (Place::new(test), has(test, "terraform")) else { return };
    let folder = place.sandbox.home().join("terraform");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("main.tf"), place.file("terraform/main.tf", &[])).unwrap();
    let run = |args: &[&str]| {
        let mut terraform = place.command("lakebase-token");
        terraform.args(["exec", "--", "terraform"]).args(args).current_dir(&folder);
        terraform.env("CHECKPOINT_DISABLE", "1").output().unwrap()
    };
    for args in [
        &["init", "-input=false", "-no-color"][..],
        &["apply", "-auto-approve", "-input=false", "-no-color"],
    ] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", words(&output));
    }
    prints(&run(&["output", "-raw", "kept_in"]), "Lakebase");
    // An expiry later; and no token lies about.
    place.sandbox.workspace.state().credential_life = 2;
    fs::remove_dir_all(place.sandbox.home().join(".cache")).unwrap();
    assert!(run(&["output"]).status.success());
    std::thread::sleep(Duration::from_millis(2100));
    assert!(run(&["output"]).status.success());
    let held = Command::new("grep").args(["-r", "eyJ"]).arg(&folder).output().unwrap();
    assert!(held.stdout.is_empty(), "{}", words(&held));
    place.refuse_the_secret();
    let output = run(&["output"]);
    assert_eq!(output.status.code(), Some(125), "{}", words(&output));
}

/// The provider cannot be had here; this is its contract: JSON on stdin, a flat object of strings back.
#[test]
fn terraforms_external_program_prints_a_flat_object_of_strings() {
    let Some(place) = Place::new("consumers::external") else { return };
    let example = place.file("terraform/external.tf.example", &[]);
    let line = example.lines().find_map(|line| line.trim().strip_prefix("program = ")).unwrap();
    let program: Vec<String> = serde_json::from_str(line).unwrap();
    let mut sh = place.command("sh");
    sh.args(["-c", "echo '{}' | \"$@\"", "sh"]).args(&program);
    let output = sh.output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let object = object.as_object().unwrap();
    assert!(object.values().all(serde_json::Value::is_string), "{object:?}");
    for used in example.split("lakebase.result.").skip(1) {
        let name = used.split_whitespace().next().unwrap();
        assert!(object.contains_key(name), "{name}");
    }
}

#[test]
fn an_app_needs_nothing_but_what_its_database_resource_brings() {
    let Some(place) = Place::new("consumers::an_app") else { return };
    let app = place.sandbox.home().join("app");
    fs::create_dir_all(app.join("bin")).unwrap();
    fs::copy(executable(), app.join("bin/lakebase-token")).unwrap();
    fs::copy(repository().join("integrations/apps/app.py"), app.join("app.py")).unwrap();
    let config = place.file("apps/app.yaml", &[]);
    let command = config.lines().find_map(|line| line.strip_prefix("command: ")).unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    let mut start = place.command(&command[0]);
    start.args(&command[1..]).current_dir(&app).env("LAKEBASE_ENDPOINT", ENDPOINT);
    start.env("PATH", std::env::var_os("PATH").unwrap());
    start.env("PYTHONPATH", repository().join("integrations/python/src"));
    start.env("PYTHONDONTWRITEBYTECODE", "1");
    prints(&start.output().unwrap(), CLIENT_ID);
}

#[test]
fn a_github_step_masks_the_password_before_anybody_can_print_it() {
    let Some(place) = Place::new("consumers::a_github_step") else { return };
    let action = place.file("github/action.yml", &[]);
    let script = action.split("run: |\n").nth(1).unwrap();
    let variables = place.sandbox.home().join("github.env");
    let run = || {
        let mut bash = place.command("bash");
        bash.args(["-e", "-c", script]).env("GITHUB_ENV", &variables).output().unwrap()
    };
    let output = run();
    let said = words(&output);
    let password = fs::read_to_string(&variables).unwrap();
    let password = password.trim().strip_prefix("PGPASSWORD=").unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("::add-mask::{password}\n"),
        "{said}"
    );
    let mut psql = place.command("psql");
    prints(&psql.env("PGPASSWORD", password).args(["-wAtc", WHO]).output().unwrap(), CLIENT_ID);
    // A helper that fails stops the step, and sets nothing.
    fs::remove_file(&variables).unwrap();
    place.refuse_the_secret();
    let output = run();
    assert!(!output.status.success() && !variables.exists(), "{}", words(&output));
}

#[test]
fn desktop_programs_are_told_command_lines_that_work() {
    let Some(place) = Place::new("consumers::desktop") else { return };
    let readme = place.file("desktop/README.md", &[]);
    let line = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    // As pgAdmin does: the placeholders, the role quoted as in SQL, then a shell.
    let line = line.replace("%HOSTNAME%", "127.0.0.1").replace("%PORT%", &place.port().to_string());
    let line = line.replace("%USERNAME%", &format!("\"{CLIENT_ID}\""));
    let output = place.command("sh").args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    let password = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let mut psql = place.command("psql");
    prints(&psql.env("PGPASSWORD", password).args(["-wAtc", WHO]).output().unwrap(), CLIENT_ID);
    // What Postico reads is an object of libpq's keywords.
    let mut postico = place.command("lakebase-token");
    let output = postico.args(["-f", "libpq-json"]).output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["user"], CLIENT_ID);
    place.refuse_the_secret();
    let output = place.command("sh").args(["-c", &line]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn pgadmins_own_class_asks_at_each_connection() {
    let test = "consumers::pgadmin";
    let folder = repository().join("target/pgadmin");
    let wheel = folder.join("pgadmin4-9.18-py3-none-any.whl");
    if !wheel.exists() {
        if std::env::var_os("CI").is_none() {
            return say_not_run(test, "pgAdmin's wheel, 126 MB, is only fetched with CI=true");
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "pgadmin4==9.18", "-d"]);
        let output = pip.arg(&folder).output().unwrap();
        if !wheel.exists() {
            return say_not_run(test, &format!("no pgAdmin: {}", words(&output)));
        }
    }
    let Some(place) = Place::new(test) else { return };
    let readme = place.file("desktop/README.md", &[]);
    let line = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().trim();
    // What the class wants of pgAdmin, and nothing more.
    let script = "import logging, sys, types, zipfile\n\
                  wheel, line, host, port, user = sys.argv[1:]\n\
                  def module(name, **names):\n\
                  \x20 sys.modules[name] = made = types.ModuleType(name)\n\
                  \x20 vars(made).update(names)\n\
                  module('flask', current_app=types.SimpleNamespace(logger=logging.getLogger()))\n\
                  module('config', SERVER_MODE=False, PG_DEFAULT_DRIVER='psycopg3')\n\
                  module('pgadmin'); module('pgadmin.utils')\n\
                  quoted = types.SimpleNamespace(qtIdent=lambda _, name: '\"' + name + '\"')\n\
                  module('pgadmin.utils.driver', get_driver=lambda _: quoted)\n\
                  source = zipfile.ZipFile(wheel).read('pgadmin4/pgadmin/utils/passexec.py')\n\
                  exec(compile(source, 'passexec.py', 'exec'))\n\
                  asked = PasswordExec(line, host, port, user, expiration_seconds=0)\n\
                  print(asked.get())\n\
                  import time; time.sleep(float(2.1))\n\
                  print(asked.get())";
    place.sandbox.workspace.state().credential_life = 2;
    let run = || {
        let mut python = place.command("python3");
        python.args(["-c", script]).arg(&wheel).arg(line).arg("127.0.0.1");
        python.arg(place.port().to_string()).arg(CLIENT_ID).output().unwrap()
    };
    let output = run();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let passwords: Vec<&str> = said.lines().collect();
    assert!(output.status.success() && passwords.len() == 2, "{}", words(&output));
    assert_ne!(passwords[0], passwords[1], "asked at each connection");
    let mut psql = place.command("psql");
    prints(&psql.env("PGPASSWORD", passwords[1]).args(["-wAtc", WHO]).output().unwrap(), CLIENT_ID);
    place.refuse_the_secret();
    let output = run();
    assert!(!output.status.success() && words(&output).contains("invalid_client"));
}
