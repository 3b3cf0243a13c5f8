//! Drivers and pools that get a password for each new connection: the files of `integrations/`,
//! built with their own toolchains, against the sandbox's Postgres.
//!
//! Each program in `drivers/` opens four connections, more than an expiry apart, and prints the role
//! of each. It must fail with lakebase-token's message if lakebase-token fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::consumers::{Installation, python_with};
use super::password_file_readers::{JDBC, has_node_postgres, node_path};
use super::support::{building, has, not_run, part_not_run, repository, spawn, words};
use crate::sandbox::workspace::{CLIENT_ID, MINT};

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
    assert!(installation.sandbox.workspace.count(MINT) >= 3);

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
    npm.arg(&folder).args(packages);
    // A registry may be busy for a moment.
    let mut install = || npm.output().is_ok_and(|output| output.status.success());
    if !(0..3).any(|_| install()) {
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
        return not_run(test, "npm cannot install drizzle-orm");
    };
    let packages = folder.join("node_modules").display().to_string();
    check_driver(test, |installation| node(installation, "drizzle.js", &packages));
}

#[test]
fn postgres_js_knex_typeorm_and_sequelize_get_a_password_for_each_connection() {
    let test = "drivers::node_orms";
    if !has(test, "node") {
        return;
    }
    let packages =
        ["postgres@3", "knex@3", "typeorm@0.3", "sequelize@6", "pg@8", "reflect-metadata@0.2"];
    let Some(folder) = npm_install("node-orms", &packages) else {
        return not_run(test, "npm cannot install postgres, knex, typeorm and sequelize");
    };
    let packages = folder.join("node_modules").display().to_string();
    for name in ["postgres-js.js", "knex.js", "typeorm.js", "sequelize.js"] {
        check_driver(test, |installation| node(installation, name, &packages));
    }
}

/// A tool that reads a URL from a variable logs in once, at its start.
#[test]
fn drizzle_kit_gets_a_url_in_its_environment() {
    let test = "drivers::drizzle_kit";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "node")) else {
        return;
    };
    let Some(folder) =
        npm_install("drizzle-kit", &["drizzle-kit@0.31", "drizzle-orm@0.45", "pg@8"])
    else {
        return not_run(test, "npm cannot install drizzle-kit");
    };
    fs::copy(program("drizzle.config.js"), folder.join("drizzle.config.js")).unwrap();
    fs::copy(program("drizzle-schema.js"), folder.join("drizzle-schema.js")).unwrap();
    let push = || {
        let mut command = installation.command("lakebase-token");
        command.args(["exec", "--as", "DATABASE_URL", "--format", "url", "--", "node"]);
        command.args(["node_modules/.bin/drizzle-kit", "push", "--force"]).current_dir(&folder);
        // node-postgres takes sslmode=require for a verification, and knows no sslrootcert.
        command.env("NODE_EXTRA_CA_CERTS", &installation.sandbox.certificates.authority);
        command.output().unwrap()
    };
    let output = push();
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("Changes applied"), "{}", words(&output));
    assert!(!words(&output).contains("eyJ"), "{}", words(&output));

    installation.reject_client_secret();
    let output = push();
    assert_eq!(output.status.code(), Some(125));
    assert!(words(&output).contains("invalid_client"), "{}", words(&output));
}

#[test]
fn prisma_gets_a_password_for_each_connection() {
    let test = "drivers::prisma";
    if !has(test, "node") {
        return;
    }
    if std::env::var_os("CI").is_none() && !build_folder("prisma").join("node_modules").exists() {
        return not_run(test, "Prisma (320 MB) is downloaded only with CI=true");
    }
    let packages = ["prisma@7", "@prisma/client@7", "@prisma/adapter-pg@7", "pg@8"];
    let Some(folder) = npm_install("prisma", &packages) else {
        return not_run(test, "npm cannot install Prisma");
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
fn pythons_drivers_and_django_get_a_password_for_each_connection() {
    let test = "drivers::python";
    let packages =
        ["psycopg[binary]", "psycopg_pool>=3.3", "sqlalchemy[asyncio]", "asyncpg", "django>=5.1"];
    let imports = "asyncpg, psycopg_pool, sqlalchemy, greenlet, django";
    let python = match python_with(&packages, imports, "python-drivers") {
        Ok(python) => python,
        Err(why) => return not_run(test, &why),
    };

    for (name, with_pool) in [
        ("python_psycopg.py", ""),
        ("python_sqlalchemy.py", ""),
        ("python_asyncpg.py", ""),
        ("python_pool_function.py", ""),
        ("python_django.py", ""),
        ("python_django.py", "1"),
    ] {
        check_driver(test, |installation| {
            let mut command = installation.command(python.to_str().unwrap());
            command.arg(program(name)).env("PYTHONPATH", integration("python/src"));
            command.env("PYTHONDONTWRITEBYTECODE", "1").env("POOL", with_pool);
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

/// The class path with HikariCP 7 and R2DBC, from Maven Central; nothing if they cannot be had.
fn java_libraries(test: &str) -> Option<String> {
    if !has(test, "mvn") || !has(test, "javac") {
        return None;
    }
    let folder = build_folder("java-libraries");
    let jars = folder.join("jars");
    if !jars.join(".complete").exists() {
        fs::copy(program("pom.xml"), folder.join("pom.xml")).unwrap();
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]);
        let output = maven.current_dir(&folder).output().unwrap();
        if !output.status.success() {
            not_run(test, "Maven cannot fetch HikariCP 7 and R2DBC");
            return None;
        }
        fs::write(jars.join(".complete"), "").unwrap();
    }
    let class_path = format!("{}/*:{}", jars.display(), folder.display());
    let mut javac = Command::new("javac");
    javac.args(["-cp", &class_path, "-d"]).arg(&folder);
    javac.args(
        ["LakebasePassword", "LakebaseCredentials"]
            .map(|class| integration(&format!("java/{class}.java"))),
    );
    javac.args(["Hikari7", "R2dbc"].map(|class| program(&format!("{class}.java"))));
    build(&mut javac);
    Some(class_path)
}

#[test]
fn hikaricp_7_and_r2dbc_get_a_password_for_each_connection() {
    let test = "drivers::hikaricp_7";
    let Some(class_path) = java_libraries(test) else { return };
    for class in ["Hikari7", "R2dbc"] {
        check_driver(test, |installation| {
            let mut java = installation.command("java");
            java.args(["-cp", &class_path, class]);
            java
        });
    }
}

/// `integrations/pgpass`: runs a program that reads the password file for each connection, while `write pgpass` replaces the
/// password; then once with an expired one.
fn check_file_reader(test: &str, command: impl Fn(&Installation) -> Command) {
    let Some(installation) = Installation::with_postgres(test) else { return };
    installation.sandbox.workspace.state().credential_life = 2;
    let write = || {
        let mut write = installation.command("lakebase-token");
        write.args(["write", "pgpass", "--refresh"]).output().unwrap()
    };
    let reader = || {
        let mut command = command(&installation);
        // A JVM takes the user's home from /etc/passwd, not from HOME.
        command.env("PGPASSFILE", installation.sandbox.home().join(".pgpass"));
        spawn(&mut command)
    };

    assert!(write().status.success());
    let mut child = reader();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(500));
        assert!(write().status.success());
    }
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(stdout.lines().collect::<Vec<_>>(), [CLIENT_ID; 4], "{}", words(&output));

    installation.reject_client_secret();
    let failed = write();
    assert!(words(&failed).contains("invalid_client"), "{}", words(&failed));
    std::thread::sleep(Duration::from_millis(2100));
    let said = words(&reader().wait_with_output().unwrap());
    assert!(!said.contains(CLIENT_ID) || said.contains("failed"), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn pgjdbc_reads_the_password_file_for_each_connection() {
    let test = "drivers::pgjdbc_file";
    let Some(class_path) = build_java(test, "PgjdbcFile", &[JDBC]) else { return };
    check_file_reader(test, |installation| {
        let mut java = installation.command("java");
        java.args(["-cp", &class_path, "PgjdbcFile"]);
        java
    });
}

#[test]
fn pdo_and_active_record_read_the_password_file_for_each_connection() {
    let test = "drivers::pdo_and_active_record";
    for (language, check, name) in [
        ("php", ["-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"], "pdo.php"),
        ("ruby", ["-e", "require 'active_record'; require 'pg'"], "active_record.rb"),
    ] {
        if !has(test, language) {
            continue;
        }
        if !Command::new(language).args(check).output().unwrap().status.success() {
            not_run(test, &format!("{language} lacks its Postgres driver"));
            continue;
        }
        check_file_reader(test, |installation| {
            let mut command = installation.command(language);
            command.arg(program(name));
            command
        });
    }
}

#[test]
fn dbt_and_airflow_read_the_password_file_for_each_connection() {
    let test = "drivers::dbt_and_airflow";
    for (packages, module, folder, name) in [
        (
            &["dbt-core<1.11", "dbt-postgres<1.10"][..],
            "dbt.adapters.postgres",
            "python-dbt",
            "python_dbt.py",
        ),
        (
            &["apache-airflow-providers-postgres"],
            "airflow.providers.postgres.hooks.postgres",
            "python-airflow",
            "python_airflow.py",
        ),
    ] {
        if std::env::var_os("CI").is_none() && !repository().join("target").join(folder).exists() {
            part_not_run(test, &format!("{module} (up to 330 MB) is downloaded only with CI=true"));
            continue;
        }
        let python = match python_with(packages, module, folder) {
            Ok(python) => python,
            Err(why) => {
                part_not_run(test, &why);
                continue;
            }
        };
        check_file_reader(test, |installation| {
            let mut command = installation.command(python.to_str().unwrap());
            command.arg(program(name)).env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false");
            command.env("AIRFLOW_HOME", installation.sandbox.home().join("airflow"));
            command
        });
    }
}

/// `integrations/agents/mcp.json`: an MCP server gets a URL in its environment, and logs in at its start.
#[test]
fn an_mcp_server_for_postgres_starts_with_a_url() {
    let test = "drivers::mcp";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "node")) else {
        return;
    };
    let Some(folder) = npm_install("mcp", &["@bytebase/dbhub@0.21"]) else {
        return not_run(test, "npm cannot install @bytebase/dbhub");
    };
    let configuration = installation.integration_file("agents/mcp.json", &[]);
    let configuration: serde_json::Value = serde_json::from_str(&configuration).unwrap();
    let server = &configuration["mcpServers"]["lakebase"];
    let mut line: Vec<&str> =
        server["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    // npm has installed it already, with its version.
    let at = line.iter().position(|word| *word == "npx").unwrap();
    let dbhub = folder.join("node_modules/.bin/dbhub").display().to_string();
    line.splice(at..at + 3, ["node", &dbhub]);
    let ask = || {
        let mut node = installation.command("node");
        node.arg(program("mcp.js")).arg(server["command"].as_str().unwrap()).args(&line);
        node.output().unwrap()
    };
    let output = ask();
    assert!(output.status.success(), "{}", words(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains(CLIENT_ID), "{}", words(&output));
    assert!(!words(&output).contains("eyJ"), "{}", words(&output));

    installation.reject_client_secret();
    let output = ask();
    assert_eq!(output.status.code(), Some(125));
    assert!(words(&output).contains("invalid_client"), "{}", words(&output));
}

/// One test for all, since their common dependencies take most of the build time.
#[test]
fn tokio_postgres_sqlx_and_deadpool_get_a_password_for_each_connection() {
    let test = "drivers::rust";
    let folder = build_folder("rust");
    fs::create_dir_all(folder.join("src/bin")).unwrap();
    fs::copy(program("manifest.toml"), folder.join("Cargo.toml")).unwrap();
    fs::copy(integration("rust/lakebase.rs"), folder.join("src/lakebase.rs")).unwrap();
    fs::copy(integration("rust/lakebase_deadpool.rs"), folder.join("src/lakebase_deadpool.rs"))
        .unwrap();
    let names = ["tokio_postgres", "sqlx", "deadpool"];
    for name in names {
        let file = format!("{name}.rs");
        fs::copy(program(&file), folder.join("src/bin").join(&file)).unwrap();
    }

    let mut fetch = building("cargo");
    if !fetch.args(["fetch", "--quiet"]).current_dir(&folder).output().unwrap().status.success() {
        return not_run(test, "cargo cannot fetch the crates");
    }
    let mut cargo = building("cargo");
    cargo.args(["build", "--quiet", "--target-dir"]).arg(folder.join("target"));
    build(cargo.current_dir(&folder).env_remove("CARGO_BUILD_TARGET"));

    for name in names {
        let path = folder.join("target/debug").join(name);
        check_driver(test, |installation| installation.command(path.to_str().unwrap()));
    }
}
