//! Drivers that ask for each new connection: the files of `integrations/`, run by their own
//! toolchains with the sandbox's Postgres behind them, through an expiry and a helper that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::clients::{JDBC, has_node_postgres, node_path};
use super::consumers::{Place, python_with, words};
use super::support::{has, not_run, repository};
use crate::sandbox::workspace::CLIENT_ID;

/// A program that opens a connection four times, more than a credential's life apart, prints who
/// it was each time, and fails where connecting fails.
struct Driver<'d> {
    test: &'d str,
    command: &'d dyn Fn(&Place) -> Command,
}

impl Driver<'_> {
    /// Runs it with good and with bad luck.
    fn tried(&self) {
        let Some(place) = Place::new(self.test) else { return };
        let run = || -> Output { (self.command)(&place).output().unwrap() };
        place.sandbox.workspace.state().credential_life = 2;
        let output = run();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", words(&output));
        assert_eq!(said.lines().collect::<Vec<_>>(), [CLIENT_ID; 4], "{}", words(&output));
        // Connections were made after a former one's credential had died. (A pool that replaces its
        // connections does so ahead, so the last one may have been made with the third.)
        assert!(place.sandbox.workspace.count("/api/2.0/postgres/credentials") >= 3);
        place.refuse_the_secret();
        let output = run();
        let said = words(&output);
        assert!(!output.status.success() && said.contains("invalid_client"), "{said}");
    }
}

fn file(name: &str) -> PathBuf {
    repository().join("integrations").join(name)
}

/// A folder below `target/` with these files.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = repository().join("target/drivers").join(name);
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    folder
}

fn copy(name: &str, folder: &Path) {
    let from = file(name);
    fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
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
    let script = format!(
        "const {{ Pool }} = require('pg');\n\
         const {{ password }} = require('{}');\n\
         const ca = require('fs').readFileSync(process.env.SSL_CERT_FILE);\n\
         const pool = new Pool({{ password, ssl: {{ ca }}, max: 1, idleTimeoutMillis: 1 }});\n\
         (async () => {{\n\
         for (let n = 0; n < 4; n++) {{\n\
         const {{ rows }} = await pool.query('select current_user as who');\n\
         console.log(rows[0].who);\n\
         if (n < 3) await new Promise((wake) => setTimeout(wake, 2100));\n\
         }} await pool.end(); }})().catch((e) => {{ console.error(e.message); process.exit(1); }});",
        file("node/lakebase.js").display()
    );
    let command = |place: &Place| {
        let mut node = place.command("node");
        node.args(["-e", &script]).env("NODE_PATH", node_path().1);
        node
    };
    Driver { test, command: &command }.tried();
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
    // One pool all the time, that replaces its connections.
    let psycopg = "import psycopg_pool, time, lakebase_token as lakebase\n\
                   pool = psycopg_pool.ConnectionPool(connection_class=lakebase.connection_class(),\n\
                   \x20 min_size=1, max_size=1, max_lifetime=0.1, open=False, reconnect_timeout=0)\n\
                   try:\n\
                   \x20 pool.open(wait=True, timeout=3)\n\
                   except Exception:\n\
                   \x20 lakebase.password()\n\
                   \x20 raise\n\
                   for n in range(4):\n\
                   \x20 with pool.connection() as c: print(c.execute('select current_user').fetchone()[0])\n\
                   \x20 if n < 3: time.sleep(2.1)\n\
                   pool.close()";
    let sqlalchemy = "import sqlalchemy, time, lakebase_token as lakebase\n\
                      from sqlalchemy.pool import NullPool\n\
                      engine = sqlalchemy.create_engine('postgresql+psycopg://', poolclass=NullPool)\n\
                      lakebase.hook(engine)\n\
                      for n in range(4):\n\
                      \x20 with engine.connect() as c: print(c.execute(sqlalchemy.text('select current_user')).scalar())\n\
                      \x20 if n < 3: time.sleep(2.1)";
    let asyncpg = "import asyncio, asyncpg, lakebase_token as lakebase\n\
                   async def main():\n\
                   \x20 for n in range(4):\n\
                   \x20   pool = await asyncpg.create_pool(password=lakebase.password_async, min_size=1, max_size=1)\n\
                   \x20   print(await pool.fetchval('select current_user'))\n\
                   \x20   await pool.close()\n\
                   \x20   if n < 3: await asyncio.sleep(2.1)\n\
                   asyncio.run(main())";
    for script in [psycopg, sqlalchemy, asyncpg] {
        let command = |place: &Place| {
            let mut command = place.command(python.to_str().unwrap());
            command.args(["-c", script]).env("PYTHONPATH", file("python/src"));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        Driver { test, command: &command }.tried();
    }
}

#[test]
fn pgx_asks_for_each_connection() {
    let test = "drivers::pgx";
    if !has(test, "go") {
        return;
    }
    let main = "package main\n\
                import (\"context\"; \"fmt\"; \"os\"; \"time\"; \"github.com/jackc/pgx/v5/pgxpool\"; \"tried/lakebase\")\n\
                func main() {\n\
                ctx := context.Background()\n\
                config, err := pgxpool.ParseConfig(\"\")\n\
                if err != nil { panic(err) }\n\
                config.BeforeConnect = lakebase.BeforeConnect\n\
                for n := 0; n < 4; n++ {\n\
                pool, err := pgxpool.NewWithConfig(ctx, config)\n\
                if err != nil { panic(err) }\n\
                var who string\n\
                if err := pool.QueryRow(ctx, \"select current_user\").Scan(&who); err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }\n\
                fmt.Println(who)\n\
                pool.Close()\n\
                if n < 3 { time.Sleep(2100 * time.Millisecond) }\n\
                }\n\
                }\n";
    let folder = folder("go", &[("main.go", main)]);
    fs::create_dir_all(folder.join("lakebase")).unwrap();
    copy("go/lakebase.go", &folder.join("lakebase"));
    if !folder.join("go.sum").exists() {
        fs::write(folder.join("go.mod"), "module tried\n\ngo 1.22\n").unwrap();
        let mut tidy = Command::new("go");
        let output =
            tidy.args(["get", "github.com/jackc/pgx/v5@v5.7.2"]).current_dir(&folder).output();
        let output = output.unwrap();
        if !output.status.success() {
            let _ = fs::remove_file(folder.join("go.sum"));
            return not_run(test, &format!("no pgx: {}", words(&output)));
        }
    }
    let mut build = Command::new("go");
    let built = build
        .args(["build", "-mod=mod", "-o", "tried", "."])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", words(&built));
    let command = |place: &Place| place.command(folder.join("tried").to_str().unwrap());
    Driver { test, command: &command }.tried();
}

#[test]
fn pgjdbc_asks_for_each_connection() {
    let test = "drivers::pgjdbc";
    if !has(test, "javac") {
        return;
    }
    if !Path::new(JDBC).exists() {
        return not_run(test, "there is no pgjdbc");
    }
    let main = "import java.sql.*;\n\
                public class Tried {\n\
                public static void main(String[] a) throws Exception {\n\
                String url = \"jdbc:postgresql://\" + System.getenv(\"PGHOST\") + \":\" + System.getenv(\"PGPORT\") + \"/\" + System.getenv(\"PGDATABASE\")\n\
                + \"?user=\" + System.getenv(\"PGUSER\") + \"&sslmode=require&authenticationPluginClassName=LakebasePassword\";\n\
                for (int n = 0; n < 4; n++) {\n\
                try (Connection c = DriverManager.getConnection(url)) {\n\
                ResultSet r = c.createStatement().executeQuery(\"select current_user\"); r.next();\n\
                System.out.println(r.getString(1)); }\n\
                if (n < 3) Thread.sleep(2100);\n\
                } } }\n";
    let folder = folder("java", &[("Tried.java", main)]);
    copy("java/LakebasePassword.java", &folder);
    let mut javac = Command::new("javac");
    javac.args(["-cp", JDBC, "Tried.java", "LakebasePassword.java"]).current_dir(&folder);
    let built = javac.output().unwrap();
    assert!(built.status.success(), "{}", words(&built));
    let path = format!("{JDBC}:{}", folder.display());
    let command = |place: &Place| {
        let mut java = place.command("java");
        java.args(["-cp", &path, "Tried"]);
        java
    };
    Driver { test, command: &command }.tried();
}

/// The wheel, as `integrations/python/README.md` builds it, in a Python that has nothing else.
#[test]
fn the_wheel_brings_the_program_and_the_module() {
    let test = "drivers::the_wheel";
    if std::env::var_os("LAKEBASE_TOKEN_TESTED").is_none() {
        return; // it carries the static file
    }
    let maturin = match python_with(&["maturin==1.16.0"], "maturin", "maturin") {
        Ok(python) => python.with_file_name("maturin"),
        Err(why) => return not_run(test, &why),
    };
    let Some(place) = Place::new(test) else { return };
    let wheels = place.sandbox.home().join("wheels");
    let mut build = Command::new(maturin);
    build.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--target",
        "x86_64-unknown-linux-musl",
    ]);
    let built = build.arg("--out").arg(&wheels).current_dir(file("python")).output().unwrap();
    assert!(built.status.success(), "{}", words(&built));
    let wheel = fs::read_dir(&wheels).unwrap().next().unwrap().unwrap().path();
    let venv = place.sandbox.home().join("venv");
    let script = "python3 -m venv \"$1\" && \"$1/bin/pip\" install --quiet --no-index \"$2\" && \
                  \"$1/bin/lakebase-token\" --version";
    let mut sh = Command::new("sh");
    let installed = sh.args(["-c", script, "sh"]).arg(&venv).arg(&wheel).output().unwrap();
    let version = format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&installed.stdout), version, "{}", words(&installed));
    let module = "import lakebase_token as l\n\
                  c = l.credential()\n\
                  assert c['token'] == l.password() and c['user'], c\n\
                  try:\n\
                  \x20 l.password('--endpoint', 'projects/no/branches/no/endpoints/no')\n\
                  except l.Error as e:\n\
                  \x20 print(e.code, 'endpoint id not found' in str(e))";
    let mut python = place.command(venv.join("bin/python").to_str().unwrap());
    // Not the one that the tests put on PATH.
    python.env("PATH", "/nowhere").args(["-c", module]);
    let output = python.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4 True\n", "{}", words(&output));
}

#[test]
fn tokio_postgres_asks_for_each_connection() {
    let test = "drivers::tokio_postgres";
    let main = r#"mod lakebase;
use std::{env, sync::Arc, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let var = |name: &str| env::var(name).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let authority = std::fs::read(var("SSL_CERT_FILE"))?;
    for one in rustls_pemfile::certs(&mut &authority[..]) {
        roots.add(one?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let mut config = tokio_postgres::Config::new();
    config.host(&var("PGHOST")).port(var("PGPORT").parse()?).user(&var("PGUSER")).dbname(&var("PGDATABASE"));
    for n in 0..4 {
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls.clone());
        let (client, connection) = config.password(lakebase::password().await?).connect(tls).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one("select current_user::text", &[]).await?;
        println!("{}", row.get::<_, String>(0));
        drop(client);
        let _ = connection.await;
        if n < 3 {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
    }
    Ok(())
}
"#;
    let manifest = r#"[package]
name = "tried"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
tokio = { version = "1", features = ["rt", "macros", "process", "time"] }
tokio-postgres = "0.7"
tokio-postgres-rustls = "0.13"
rustls = { version = "0.23", default-features = false, features = ["ring", "std", "tls12"] }
rustls-pemfile = "2"
"#;
    let folder = folder("rust", &[("Cargo.toml", manifest)]);
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/main.rs"), main).unwrap();
    copy("rust/lakebase.rs", &folder.join("src"));
    let mut fetch = Command::new("cargo");
    if !fetch.args(["fetch", "--quiet"]).current_dir(&folder).output().unwrap().status.success() {
        return not_run(test, "crates cannot be fetched here");
    }
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--target-dir"]).arg(folder.join("target"));
    let built = build.current_dir(&folder).env_remove("CARGO_BUILD_TARGET").output().unwrap();
    assert!(built.status.success(), "{}", words(&built));
    let program = folder.join("target/debug/tried");
    let command = |place: &Place| place.command(program.to_str().unwrap());
    Driver { test, command: &command }.tried();
}
