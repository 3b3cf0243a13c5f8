//! `cargo run --example sandbox`: demonstrates lakebase-token on this machine.
//!
//! With `-- COMMAND` it runs the command in the sandbox's environment instead (`-- bash` for a shell).
//! This executable is also the demonstrated program: called as `lakebase-token`, it runs that.
//! `signals.rs` ends what was started when a signal ends this program.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

#[path = "mod.rs"]
mod sandbox;
mod signals;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use sandbox::Sandbox;
use signals::Ending;

const HELP: &str = "\
Demonstrates lakebase-token with a stand-in workspace and, where PostgreSQL is installed, a real
server, both on this machine.

  cargo run --example sandbox              the demonstration
  cargo run --example sandbox -- bash      a shell in the sandbox
  cargo run --example sandbox -- COMMAND   any other command

A signal ends the server and the command, too.";

fn main() -> ExitCode {
    let mut argv = std::env::args_os();
    let name = argv.next().unwrap_or_default();
    // Cargo removes the `--`; without Cargo it is the first argument.
    let argv: Vec<OsString> = argv.skip_while(|arg| arg == "--").collect();

    // To renew a login, the program starts its own file, which has another name than the link.
    let renews_login = argv.first().is_some_and(|word| word == "renew-login");
    if renews_login || Path::new(&name).file_name().is_some_and(|name| name == "lakebase-token") {
        let context = lakebase_token::platform::context::Context::of_process();
        let code = lakebase_token::run(&argv, &context, &mut io::stdout(), &mut io::stderr());
        return ExitCode::from(code);
    }
    if argv.first().is_some_and(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if let Some(flag) = argv.first().filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
        eprintln!("sandbox: error: there is no flag {}\n\n{HELP}", flag.display());
        return ExitCode::from(2);
    }
    let ending = match Ending::on_signals() {
        Ok(ending) => ending,
        Err(e) => return failed(e),
    };
    match (run(&argv, &ending), ending.code()) {
        (_, Some(code)) | (Ok(code), None) => ExitCode::from(code),
        (Err(e), None) => failed(e),
    }
}

fn failed(why: io::Error) -> ExitCode {
    eprintln!("sandbox: error: {why}");
    ExitCode::FAILURE
}

fn run(command: &[OsString], ending: &Ending) -> io::Result<u8> {
    let sandbox = Sandbox::start()?;
    let tools = sandbox.folder.path().join("bin");
    std::fs::create_dir(&tools)?;
    symlink(std::env::current_exe()?, tools.join("lakebase-token"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&path)));
    let path = path.map_err(io::Error::other)?;

    let command_in_sandbox = |program: &OsString| {
        let mut command = Command::new(program);
        // Settings outside the sandbox must not change the demonstration.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DATABRICKS_", "LAKEBASE_", "PG", "SSL_CERT_", "ARM_", "XDG_"]
                .iter()
                .any(|p| text.starts_with(p))
            {
                command.env_remove(&name);
            }
        }
        command.env("PATH", &path).envs(sandbox.env());
        command
    };
    if let [program, arguments @ ..] = command {
        let status = ending.run_with_stdin(command_in_sandbox(program).args(arguments))?;
        return Ok(status.code().and_then(|code| code.try_into().ok()).unwrap_or(1));
    }

    let shell = |line: &str| -> io::Result<bool> {
        println!("\n$ {line}");
        let status = ending.run(command_in_sandbox(&OsString::from("sh")).args(["-c", line]))?;
        match ending.code() {
            None => Ok(status.success()),
            Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "ended by a signal")),
        }
    };

    println!("a stand-in workspace listens on {}", sandbox.workspace.url);
    match &sandbox.postgres {
        Ok(postgres) => {
            println!("a real PostgreSQL that checks tokens listens on port {}", postgres.port)
        }
        Err(why) => println!("PostgreSQL logins are left out: {why}"),
    }
    let mut succeeded = shell("env | grep -E '^(DATABRICKS_(HOST|CLIENT_ID)|PG)' | sort")?;
    succeeded &= shell("lakebase-token | cut -c 1-60")?;
    println!("\nrequests to the workspace: {}", sandbox.workspace.take_requests().join(", "));
    if sandbox.postgres.is_ok() {
        succeeded &= shell(
            "PGPASSWORD=$(lakebase-token) && export PGPASSWORD && psql -Atc 'select current_user, version()'",
        )?;
        succeeded &= shell("lakebase-token exec -- psql -Atc 'select 6 * 7'")?;
    }
    for format in lakebase_token::formats::FORMATS {
        // Tokens are long, so only their beginning is printed.
        let shorten = "sed -E 's/(eyJ[A-Za-z0-9_-]{12})[A-Za-z0-9_.-]+/\\1…/'";
        succeeded &= shell(&format!("lakebase-token --format {} | {shorten}", format.name))?;
    }
    succeeded &= shell("lakebase-token status")?;
    let requests = sandbox.workspace.take_requests();
    println!("\nrequests since the first call: {} {}", requests.len(), requests.join(", "));
    succeeded &= requests.is_empty();
    println!("\nfor a shell in the sandbox: cargo run --example sandbox -- bash");
    Ok(u8::from(!succeeded))
}
