//! `exec`: becomes a command that has the credential in its environment.
//!
//! This process is replaced (execve), so signals, terminal and exit code are the command's own.
//! The password reaches no file, no argv and no pipe. Exit codes are those of `env` and `nohup`:
//! 125 for a failure of ours, 126 not executable, 127 not found.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{Call, Verb};
use crate::error::{Error, Result, clean};
use crate::format::{UNSET, variables};
use crate::get::{Session, Wants};
use crate::plan::Plan;
use crate::settings::Id;
use crate::token::Purpose;

pub const VERB: Verb = Verb {
    name: "exec",
    about: "run a command with the password in its environment",
    usage: "[FLAGS] -- COMMAND [ARGUMENT…]",
    more: "Sets PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and PGSSLMODE and removes PGSERVICE \
           and PGHOSTADDR; with --for workspace sets DATABRICKS_HOST, DATABRICKS_TOKEN and \
           DATABRICKS_AUTH_TYPE=pat, or the variable of --as alone. Exits \
           with the command's own code, 125 if there is no credential, 126 if the command cannot \
           be executed, 127 if it is not found.",
    flags: &[Id::For, Id::As, Id::Clean],
    place: false,
    common: super::COMMON,
    words: 0,
    command: true,
    codes: "exit codes: the command's own; 125 no credential, 126 not executable, 127 not found",
    failure: Some(125),
    run,
};

fn run(call: Call<'_>) -> Result<u8> {
    let plan = Plan::new(call.settings()?, call.world)?;
    let [program, arguments @ ..] = call.command else {
        return Err(Error::usage("exec wants a command"));
    };
    let token_variable = token_variable(&plan)?;
    let session = Session::new(&plan, call.world);
    let wants = Wants { user: true, host: true };
    let credential = session.credential(wants, plan.deadline())?;
    call.explain(&plan, &credential.token);
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(call.world.env.iter().rev());
    if plan.settings.is_on(Id::Clean) {
        for name in plan.settings.secret_variables() {
            command.env_remove(name);
        }
    }
    match plan.purpose {
        Purpose::Database => {
            for name in UNSET {
                command.env_remove(name);
            }
            command.envs(variables(&credential)?);
        }
        Purpose::Workspace => {
            command.env("DATABRICKS_HOST", &credential.workspace);
            // A host that serves several workspaces wants to know which.
            command.envs(plan.workspace_id().map(|id| ("DATABRICKS_WORKSPACE_ID", id)));
            command.env(token_variable, credential.token.secret.expose());
            if token_variable == DATABRICKS_TOKEN {
                // Without this an inherited client id makes two methods of one.
                command.env("DATABRICKS_AUTH_TYPE", "pat");
            }
        }
    }
    let failed = command.exec();
    let error = Error::usage(format!("cannot run {}", clean(&program.to_string_lossy())));
    Err(match failed.kind() {
        io::ErrorKind::NotFound => error.because("it is not found").exit(127),
        _ => error.because(failed).exit(126),
    })
}

const DATABRICKS_TOKEN: &str = "DATABRICKS_TOKEN";

/// The variable that gets a workspace token.
fn token_variable(plan: &Plan) -> Result<&str> {
    let Some(name) = plan.settings.text(Id::As) else { return Ok(DATABRICKS_TOKEN) };
    if plan.purpose != Purpose::Workspace {
        return Err(Error::usage("--as goes with --for workspace")
            .because("a password is always in PGPASSWORD, where libpq reads it"));
    }
    let legal = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
    if !name.bytes().all(legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::usage(format!("--as is not a variable's name: {}", clean(name))));
    }
    Ok(name)
}
