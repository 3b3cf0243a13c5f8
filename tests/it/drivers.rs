//! Drivers and pools that get a password for each new connection: the files of `integrations/`,
//! built with their own toolchains, against the sandbox's Postgres.
//!
//! Each program in `drivers/` opens four connections, more than an expiry apart, and prints the role
//! of each. It must fail with lakebase-token's message if lakebase-token fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::clients::{JDBC, has_node_postgres, node_path};
use super::consumers::{Installation, python_with, words};
use super::support::{has, not_run, repository, say_not_run};
use crate::sandbox::workspace::CLIENT_ID;

/// Runs a program of `drivers/` twice: with passwords that expire after two seconds, and with a
/// workspace that rejects the client secret.
fn check_driver(test: &str, command: impl Fn(&Installation) -> Command) {
    let Some(installation) = Installation::with_postgres(test) else { return };

    installation.sandbox.workspace.state().credential_life = 2;
    let output = command(&installation).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(stdout.lines().collect::<Vec<_>>(), [CLIENT_ID; 4], "{}", words(&output));

    // New connections got new passwords. (Three may be enough: a pool that replaces its connections
    // opens the next one early, so the last two can share a password.)
    assert!(installation.sandbox.workspace.count("/api/2.0/postgres/credentials") >= 3);

    installation.reject_client_secret();
    let output = command(&installation).output().unwrap();
    let said = words(&output);
    assert!(!output.status.success() && said.contains("invalid_client"), "{said}");
}

fn integration(name: &str) -> PathBuf {
    repository().join("integrations").join(name)
}

fn program(name: &str) -> PathBuf {
    repository().join("tests/it/drivers").join(name)
}

/// A folder below `target/` for a toolchain to build in.
fn build_folder(name: &str) -> PathBuf {
    let folder = repository().join("target/drivers").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[track_caller]
fn build(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Runs a program for node with the packages of this `node_modules` folder.
fn node(installation: &Installation, name: &str, packages: &str) -> Command {
    let mut node = installation.command("node");
    node.arg(program(name)).arg(integration("node/lakebase.js")).env("NODE_PATH", packages);
    node
}

/// Installs packages from npm once, without running their scripts. Returns their folder.
fn npm_install(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let folder = build_folder(name);
    let mark = folder.join("node_modules/.installed");
    if mark.exists() {
        return Some(folder);
    }

    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    let output = npm.arg(&folder).args(packages).output();
    if !output.is_ok_and(|output| output.status.success()) {
        return None;
    }
    fs::write(mark, "").unwrap();
    Some(folder)
}

#[test]
fn node_postgres_gets_a_password_for_each_connection() {
    let test = "drivers::node_postgres";
    if !has(test, "node") {
        return;
    }
    if !has_node_postgres() {
        return not_run(test, "the package pg for node is not installed");
    }
    check_driver(test, |installation| node(installation, "node-postgres.js", &node_path().1));
}

#[test]
fn drizzle_gets_a_password_for_each_connection() {
    let test = "drivers::drizzle";
    if !has(test, "node") {
        return;
    }
    let Some(folder) = npm_install("drizzle", &["drizzle-orm@0.45", "pg@8"]) else {
        return say_not_run(test, "npm cannot install drizzle-orm");
    };
    let packages = folder.join("node_modules").display().to_string();
    check_driver(test, |installation| node(installation, "drizzle.js", &packages));
}

#[test]
fn prisma_gets_a_password_for_each_connection() {
    let test = "drivers::prisma";
    if !has(test, "node") {
        return;
    }
    if std::env::var_os("CI").is_none() && !build_folder("prisma").join("node_modules").exists() {
        return say_not_run(test, "Prisma (320 MB) is downloaded only with CI=true");
    }
    let packages = ["prisma@7", "@prisma/client@7", "@prisma/adapter-pg@7", "pg@8"];
    let Some(folder) = npm_install("prisma", &packages) else {
        return say_not_run(test, "npm cannot install Prisma");
    };

    fs::copy(program("schema.prisma"), folder.join("schema.prisma")).unwrap();
    let mut generate = Command::new(folder.join("node_modules/.bin/prisma"));
    generate.args(["generate", "--schema", "schema.prisma"]).current_dir(&folder);
    // Prisma would download its engine for migrations, which this test does not need.
    generate.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true").env("CHECKPOINT_DISABLE", "1");
    build(&mut generate);

    let packages = folder.join("node_modules").display().to_string();
    check_driver(test, |installation| node(installation, "prisma.js", &packages));
}

#[test]
fn psycopg_sqlalchemy_and_asyncpg_get_a_password_for_each_connection() {
    let test = "drivers::python";
    let packages = ["psycopg[binary]", "psycopg_pool", "sqlalchemy", "asyncpg"];
    let python = match python_with(&packages, "asyncpg, psycopg_pool, sqlalchemy", "python-drivers")
    {
        Ok(python) => python,
        Err(why) => return not_run(test, &why),
    };

    for name in ["python_psycopg.py", "python_sqlalchemy.py", "python_asyncpg.py"] {
        check_driver(test, |installation| {
            let mut command = installation.command(python.to_str().unwrap());
            command.arg(program(name)).env("PYTHONPATH", integration("python/src"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        });
    }
}

#[test]
fn pgx_gets_a_password_for_each_connection() {
    let test = "drivers::pgx";
    if let Some(path) = build_pgx(test) {
        check_driver(test, |installation| installation.command(path.to_str().unwrap()));
    }
}

/// The program `pgx.go`, built; nothing if it cannot be.
pub fn build_pgx(test: &str) -> Option<PathBuf> {
    // Two tests may build at once.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock();
    if !has(test, "go") {
        return None;
    }
    let folder = build_folder("pgx");
    fs::create_dir_all(folder.join("lakebase")).unwrap();
    fs::copy(program("pgx.go"), folder.join("main.go")).unwrap();
    fs::copy(integration("go/lakebase.go"), folder.join("lakebase/lakebase.go")).unwrap();

    if !folder.join("go.sum").exists() {
        fs::write(folder.join("go.mod"), "module drivertests\n\ngo 1.22\n").unwrap();
        let mut get = Command::new("go");
        get.args(["get", "github.com/jackc/pgx/v5@v5.7.2"]).current_dir(&folder);
        let output = get.output().unwrap();
        if !output.status.success() {
            let _ = fs::remove_file(folder.join("go.sum"));
            not_run(test, &format!("no pgx: {}", words(&output)));
            return None;
        }
    }

    let mut go = Command::new("go");
    build(go.args(["build", "-mod=mod", "-o", "drivertests", "."]).current_dir(&folder));
    Some(folder.join("drivertests"))
}

/// Compiles a Java program and our plugin with these archives. Returns the class path.
pub fn build_java(test: &str, class: &str, archives: &[&str]) -> Option<String> {
    if !has(test, "javac") {
        return None;
    }
    if let Some(missing) = archives.iter().find(|archive| !Path::new(archive).exists()) {
        not_run(test, &format!("{missing} does not exist"));
        return None;
    }

    let folder = build_folder(&test.replace("::", "-"));
    let class_path = format!("{}:{}", archives.join(":"), folder.display());
    let mut javac = Command::new("javac");
    javac.args(["-cp", &class_path, "-d"]).arg(&folder);
    javac.arg(integration("java/LakebasePassword.java")).arg(program(&format!("{class}.java")));
    build(&mut javac);
    Some(class_path)
}

fn check_java_driver(test: &str, class: &str, archives: &[&str]) {
    let Some(class_path) = build_java(test, class, archives) else { return };
    check_driver(test, |installation| {
        let mut java = installation.command("java");
        java.args(["-cp", &class_path, class]);
        java
    });
}

#[test]
fn pgjdbc_gets_a_password_for_each_connection() {
    check_java_driver("drivers::pgjdbc", "Pgjdbc", &[JDBC]);
}

#[test]
fn hikaricp_gets_a_password_for_each_connection() {
    let archives = [JDBC, "/usr/share/java/HikariCP.jar", "/usr/share/java/slf4j-api.jar"];
    check_java_driver("drivers::hikaricp", "Hikari", &archives);
}

/// One test for both, since their common dependencies take most of the build time.
#[test]
fn tokio_postgres_and_sqlx_get_a_password_for_each_connection() {
    let test = "drivers::rust";
    let folder = build_folder("rust");
    fs::create_dir_all(folder.join("src/bin")).unwrap();
    fs::copy(program("manifest.toml"), folder.join("Cargo.toml")).unwrap();
    fs::copy(integration("rust/lakebase.rs"), folder.join("src/lakebase.rs")).unwrap();
    let names = ["tokio_postgres", "sqlx"];
    for name in names {
        let file = format!("{name}.rs");
        fs::copy(program(&file), folder.join("src/bin").join(&file)).unwrap();
    }

    let mut fetch = Command::new("cargo");
    if !fetch.args(["fetch", "--quiet"]).current_dir(&folder).output().unwrap().status.success() {
        return not_run(test, "cargo cannot fetch the crates");
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--target-dir"]).arg(folder.join("target"));
    build(cargo.current_dir(&folder).env_remove("CARGO_BUILD_TARGET"));

    for name in names {
        let path = folder.join("target/debug").join(name);
        check_driver(test, |installation| installation.command(path.to_str().unwrap()));
    }
}
