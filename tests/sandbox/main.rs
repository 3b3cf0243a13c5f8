//! `cargo run --example sandbox`: the main job, shown on this machine.
//!
//! With `-- COMMAND` it runs the command in such surroundings instead (`-- bash` to look around).
//! The tool that is shown is this very executable: called by the name `lakebase-token` it is that.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

#[path = "mod.rs"]
mod sandbox;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use sandbox::Sandbox;

fn main() -> ExitCode {
    let mut argv = std::env::args_os();
    let called = argv.next().unwrap_or_default();
    // Cargo keeps the `--` for itself; called without Cargo it comes here.
    let argv: Vec<OsString> = argv.skip_while(|arg| arg == "--").collect();
    // The program starts itself to renew a login, by the file and not by the link.
    let renews = argv.first().is_some_and(|word| word == "renew-login");
    if renews || Path::new(&called).file_name().is_some_and(|name| name == "lakebase-token") {
        let context = lakebase_token::platform::context::Context::of_process();
        let code = lakebase_token::run(&argv, &context, &mut io::stdout(), &mut io::stderr());
        return ExitCode::from(code);
    }
    match run(&argv) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("sandbox: error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &[OsString]) -> io::Result<u8> {
    let sandbox = Sandbox::start()?;
    let tools = sandbox.folder.path().join("bin");
    std::fs::create_dir(&tools)?;
    symlink(std::env::current_exe()?, tools.join("lakebase-token"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&path)));
    let path = path.map_err(io::Error::other)?;
    let prepared = |program: &OsString| {
        let mut prepared = Command::new(program);
        // What is set outside must not decide what is shown inside.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DATABRICKS_", "LAKEBASE_", "PG", "SSL_CERT_", "ARM_", "XDG_"]
                .iter()
                .any(|p| text.starts_with(p))
            {
                prepared.env_remove(&name);
            }
        }
        prepared.env("PATH", &path).envs(sandbox.env());
        prepared
    };
    if let [program, arguments @ ..] = command {
        let status = prepared(program).args(arguments).status()?;
        return Ok(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1));
    }
    let shell = |line: &str| -> io::Result<bool> {
        println!("\n$ {line}");
        let status = prepared(&OsString::from("sh")).args(["-c", line]).status()?;
        Ok(status.success())
    };
    println!("a stand-in workspace listens on {}", sandbox.workspace.url);
    match &sandbox.postgres {
        Ok(postgres) => {
            println!("a real PostgreSQL that checks tokens listens on port {}", postgres.port)
        }
        Err(why) => println!("no PostgreSQL login will be shown: {why}"),
    }
    let mut right = shell("env | grep -E '^(DATABRICKS_(HOST|CLIENT_ID)|PG)' | sort")?;
    right &= shell("lakebase-token | cut -c 1-60")?;
    println!("\nthe workspace saw: {}", sandbox.workspace.take_requests().join(", "));
    if sandbox.postgres.is_ok() {
        right &= shell("PGPASSWORD=$(lakebase-token) psql -Atc 'select current_user, version()'")?;
        right &= shell("lakebase-token exec -- psql -Atc 'select 6 * 7'")?;
    }
    for format in lakebase_token::formats::FORMATS {
        // Tokens are long: the middle is cut out for the eye.
        let short = "sed -E 's/(eyJ[A-Za-z0-9_-]{12})[A-Za-z0-9_.-]+/\\1…/'";
        right &= shell(&format!("lakebase-token --format {} | {short}", format.name))?;
    }
    right &= shell("lakebase-token status")?;
    let requests = sandbox.workspace.take_requests();
    println!(
        "\nsince the first call the workspace saw {} requests {}",
        requests.len(),
        requests.join(", ")
    );
    right &= requests.is_empty();
    println!("\nlook around yourself: cargo run --example sandbox -- bash");
    Ok(u8::from(!right))
}
