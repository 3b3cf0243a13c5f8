//! `exec`: becomes a command that has the credential in its environment.
//!
//! This process is replaced (execve), so signals, terminal and exit code are the command's own.
//! The password reaches no file, no argv and no pipe. Exit codes are those of `env` and `nohup`:
//! 125 for a failure of ours, 126 not executable, 127 not found.

use std::ffi::OsString;
use std::io;

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::config::table::Id;
use crate::credential::connection::Purpose;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats::{UNSET, variables};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::process::become_program;
use crate::session::{Session, Wants};

pub const COMMAND: Command = Command {
    name: "exec",
    about: "run a command with the password in its environment",
    usage: "[FLAGS] -- COMMAND [ARGUMENT…]",
    more: "Sets PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD and PGSSLMODE and removes PGSERVICE \
           and PGHOSTADDR; with --for workspace sets DATABRICKS_HOST, DATABRICKS_TOKEN and \
           DATABRICKS_AUTH_TYPE=pat, or the variable of --as alone. Exits \
           with the command's own code, 125 if there is no credential, 126 if the command cannot \
           be executed, 127 if it is not found.",
    flags: &[Id::For, Id::As, Id::Clean],
    common: COMMON,
    takes_child: true,
    codes: "exit codes: the command's own; 125 no credential, 126 not executable, 127 not found",
    failure: Some(125),
    run,
    ..ROW
};

fn run(call: Call<'_>) -> Result<u8> {
    let plan = Plan::new(call.settings()?, call.context)?;
    let [program, arguments @ ..] = call.child else {
        return Err(Error::usage("exec wants a command"));
    };
    let token_variable = token_variable(&plan)?;
    let session = Session::new(&plan, call.context);
    let wants = Wants { user: true, host: true };
    let credential = session.credential(wants, plan.deadline())?;
    call.explain(&plan, &credential.token);
    let mut environment = ChildEnvironment::of(call.context);
    if plan.settings.is_on(Id::Clean) {
        plan.settings.secret_variables().for_each(|name| environment.remove(name));
    }
    match plan.purpose {
        Purpose::Database => {
            UNSET.into_iter().for_each(|name| environment.remove(name));
            for (name, value) in variables(&credential)? {
                environment.set(name, &value);
            }
        }
        Purpose::Workspace => {
            environment.set("DATABRICKS_HOST", &credential.workspace);
            // A host that serves several workspaces wants to know which.
            if let Some(id) = plan.workspace_id() {
                environment.set("DATABRICKS_WORKSPACE_ID", id);
            }
            environment.set(token_variable, credential.token.secret.expose());
            if token_variable == DATABRICKS_TOKEN {
                // Without this an inherited client id makes two methods of one.
                environment.set("DATABRICKS_AUTH_TYPE", "pat");
            }
        }
    }

    let failed = become_program(program, arguments, &environment.0);
    let error = Error::usage(format!("cannot run {}", redact(&program.to_string_lossy())));
    Err(match failed.kind() {
        io::ErrorKind::NotFound => error.because("it is not found").exit(127),
        _ => error.because(failed).exit(126),
    })
}

/// The variables that the child program gets.
struct ChildEnvironment(Vec<(OsString, OsString)>);

impl ChildEnvironment {
    fn of(context: &Context) -> ChildEnvironment {
        let variables = context.env.for_child();
        ChildEnvironment(variables.map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0.push((name.into(), value.into()));
    }
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
        return Err(Error::usage(format!("--as is not a variable's name: {}", redact(name))));
    }
    Ok(name)
}
