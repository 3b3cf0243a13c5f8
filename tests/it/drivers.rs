//! Drivers that ask for each new connection: the files of `integrations/`, run by their own
//! toolchains with the sandbox's Postgres behind them, through three expiries and with a helper
//! that fails. The programs that use them are in `drivers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::clients::{JDBC, has_node_postgres, node_path};
use super::consumers::{Installation, python_with, words};
use super::support::{has, not_run, repository, say_not_run};
use crate::sandbox::workspace::CLIENT_ID;

/// A program that opens a connection four times, more than a credential's life apart, prints who
/// it was each time, and fails where connecting fails: run with good and with bad luck.
fn tried(test: &str, command: impl Fn(&Installation) -> Command) {
    let Some(place) = Installation::with_postgres(test) else { return };
    let run = || -> Output { command(&place).output().unwrap() };
    place.sandbox.workspace.state().credential_life = 2;
    let output = run();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(said.lines().collect::<Vec<_>>(), [CLIENT_ID; 4], "{}", words(&output));
    // Connections were made after a former one's credential had died. (A pool that replaces its
    // connections does so ahead, so the last one may have been made with the third.)
    assert!(place.sandbox.workspace.count("/api/2.0/postgres/credentials") >= 3);
    place.reject_client_secret();
    let output = run();
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
fn folder(name: &str) -> PathBuf {
    let folder = repository().join("target/drivers").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[track_caller]
fn build(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Runs a program of node's beside `packages`, which is a folder with node_modules in it.
fn node(place: &Installation, name: &str, packages: &str) -> Command {
    let mut node = place.command("node");
    node.arg(program(name)).arg(integration("node/lakebase.js")).env("NODE_PATH", packages);
    node
}

#[test]
fn node_postgres_asks_for_each_connection() {
    let test = "drivers::node_postgres";
    if !has(test, "node") {
        return;
    }
    if !has_node_postgres() {
        return not_run(test, "there is no package pg for node");
    }
    tried(test, |place| node(place, "node-postgres.js", &node_path().1));
}

/// Installs packages of npm's once below `target/`, without running any script of theirs.
fn npm(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let folder = folder(name);
    let done = folder.join("node_modules/.installed");
    if !done.exists() {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ]);
        if !npm.arg(&folder).args(packages).output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        fs::write(done, "").unwrap();
    }
    Some(folder)
}

#[test]
fn drizzle_asks_for_each_connection() {
    let test = "drivers::drizzle";
    if !has(test, "node") {
        return;
    }
    let Some(folder) = npm("drizzle", &["drizzle-orm@0.45", "pg@8"]) else {
        return say_not_run(test, "npm cannot install drizzle-orm");
    };
    let packages = folder.join("node_modules").display().to_string();
    tried(test, |place| node(place, "drizzle.js", &packages));
}

#[test]
fn prisma_asks_for_each_connection() {
    let test = "drivers::prisma";
    if !has(test, "node") {
        return;
    }
    if std::env::var_os("CI").is_none() && !folder("prisma").join("node_modules").exists() {
        return say_not_run(test, "Prisma, 320 MB, is only fetched with CI=true");
    }
    let packages = ["prisma@7", "@prisma/client@7", "@prisma/adapter-pg@7", "pg@8"];
    let Some(folder) = npm("prisma", &packages) else {
        return say_not_run(test, "npm cannot install Prisma");
    };
    fs::copy(program("schema.prisma"), folder.join("schema.prisma")).unwrap();
    let mut generate = Command::new(folder.join("node_modules/.bin/prisma"));
    generate.args(["generate", "--schema", "schema.prisma"]).current_dir(&folder);
    // Its engine for migrations, which would be downloaded, has nothing to do here.
    generate.env("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/true").env("CHECKPOINT_DISABLE", "1");
    build(&mut generate);
    let packages = folder.join("node_modules").display().to_string();
    tried(test, |place| node(place, "prisma.js", &packages));
}

#[test]
fn psycopg_sqlalchemy_and_asyncpg_ask_for_each_connection() {
    let test = "drivers::python";
    let packages = ["psycopg[binary]", "psycopg_pool", "sqlalchemy", "asyncpg"];
    let python = match python_with(&packages, "asyncpg, psycopg_pool, sqlalchemy", "python-drivers")
    {
        Ok(python) => python,
        Err(why) => return not_run(test, &why),
    };
    for name in ["python_psycopg.py", "python_sqlalchemy.py", "python_asyncpg.py"] {
        tried(test, |place| {
            let mut command = place.command(python.to_str().unwrap());
            command.arg(program(name)).env("PYTHONPATH", integration("python/src"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        });
    }
}

#[test]
fn pgx_asks_for_each_connection() {
    let test = "drivers::pgx";
    if !has(test, "go") {
        return;
    }
    let folder = folder("go");
    fs::create_dir_all(folder.join("lakebase")).unwrap();
    fs::copy(program("pgx.go"), folder.join("main.go")).unwrap();
    fs::copy(integration("go/lakebase.go"), folder.join("lakebase/lakebase.go")).unwrap();
    if !folder.join("go.sum").exists() {
        fs::write(folder.join("go.mod"), "module tried\n\ngo 1.22\n").unwrap();
        let mut get = Command::new("go");
        get.args(["get", "github.com/jackc/pgx/v5@v5.7.2"]).current_dir(&folder);
        let output = get.output().unwrap();
        if !output.status.success() {
            let _ = fs::remove_file(folder.join("go.sum"));
            return not_run(test, &format!("no pgx: {}", words(&output)));
        }
    }
    let mut go = Command::new("go");
    build(go.args(["build", "-mod=mod", "-o", "tried", "."]).current_dir(&folder));
    tried(test, |place| place.command(folder.join("tried").to_str().unwrap()));
}

/// Builds one program of Java's with our plugin, and runs it beside these archives.
fn java(test: &str, class: &str, archives: &[&str]) {
    if !has(test, "javac") {
        return;
    }
    if let Some(missing) = archives.iter().find(|archive| !Path::new(archive).exists()) {
        return not_run(test, &format!("there is no {missing}"));
    }
    let folder = folder("java");
    let path = format!("{}:{}", archives.join(":"), folder.display());
    let mut javac = Command::new("javac");
    javac.args(["-cp", &path, "-d"]).arg(&folder);
    javac.arg(integration("java/LakebasePassword.java")).arg(program(&format!("{class}.java")));
    build(&mut javac);
    tried(test, |place| {
        let mut java = place.command("java");
        java.args(["-cp", &path, class]);
        java
    });
}

#[test]
fn pgjdbc_asks_for_each_connection() {
    java("drivers::pgjdbc", "Pgjdbc", &[JDBC]);
}

#[test]
fn hikaricp_asks_for_each_connection() {
    let archives = [JDBC, "/usr/share/java/HikariCP.jar", "/usr/share/java/slf4j-api.jar"];
    java("drivers::hikaricp", "Hikari", &archives);
}

/// Both at once, since what they share takes the longest to build.
#[test]
fn tokio_postgres_and_sqlx_ask_for_each_connection() {
    let test = "drivers::rust";
    let folder = folder("rust");
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
        return not_run(test, "crates cannot be fetched here");
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--target-dir"]).arg(folder.join("target"));
    build(cargo.current_dir(&folder).env_remove("CARGO_BUILD_TARGET"));
    for name in names {
        let path = folder.join("target/debug").join(name);
        tried(test, |place| place.command(path.to_str().unwrap()));
    }
}
