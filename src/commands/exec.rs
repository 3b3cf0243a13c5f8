//! `exec`: becomes a child program that has the credential in its environment.
//!
//! On Unix the child program replaces this process (execve), so signals, terminal and exit code are its
//! own; on Windows this process waits for it (`platform/windows.rs`). The password reaches no file, no argv and
//! no pipe. The exit codes are those of `env` and `nohup` (POSIX): 125 for a failure of lakebase-token, 126 not executable, 127 not found.

use std::ffi::{OsStr, OsString};
use std::io;

use crate::commands::command::{Call, Command, DATABASE_FLAGS, ROW, flag_words, taken_apart};
use crate::commands::wait;
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::config::value::Origin;
use crate::config::variables::identity_variables;
use crate::credential::connection::{Credential, Purpose};
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::formats::{self, Format, variables};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::environment::is_same_name;
use crate::platform::process::{become_program, missing_interpreter};
use crate::session::ConnectionParts;

pub const COMMAND: Command = Command {
    name: "exec",
    about: "run a program with the password in its environment",
    usage: "[FLAGS] -- PROGRAM [ARGUMENT…]",
    more: "Sets PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE and PGSSLROOTCERT. Removes \
           PGSERVICE and PGHOSTADDR, with which libpq would connect elsewhere. \
           LAKEBASE_TOKEN_EXPIRES_AT says when the password expires.\n\n\
           With --for workspace it sets DATABRICKS_HOST, DATABRICKS_TOKEN and \
           DATABRICKS_AUTH_TYPE=pat instead; with --as NAME the token goes into that variable, and \
           DATABRICKS_TOKEN and DATABRICKS_AUTH_TYPE are not set. For a database, --as NAME sets one \
           variable more, to the password or, with --format url, to a URL.\n\n\
           The exit code is the program's own: on Unix the program replaces lakebase-token, on \
           Windows lakebase-token waits for it. If the program does not start, the exit code is 125 \
           (no credential), 126 (not executable) or 127 (not found).",
    flags: &[Id::For, Id::As, Id::Format, Id::Clean, Id::ReadOnly, Id::Wait],
    common: DATABASE_FLAGS,
    takes_child: true,
    exit_codes: "exit codes: the program's own; 125 no credential, 126 not executable, 127 not found",
    failure_code: Some(125),
    run,
    ..ROW
};

fn run(call: Call<'_>) -> Result<u8> {
    let plan = Plan::new(call.settings()?, call.context)?;
    let [program, arguments @ ..] = call.child else {
        return Err(Error::usage("exec needs a program to run"));
    };
    let variable = named_variable(&plan)?;
    let format = named_format(&plan, variable)?;

    let wants = ConnectionParts { user: true, host: true };
    let credential = wait::credential(&plan, call.context, wants)?;
    call.explain(&plan, &credential.token);
    call.explain_tls(&plan, &credential.connection);

    let mut environment = ChildEnvironment::of(call.context);
    if plan.settings.is_on(Id::Clean) {
        for name in plan.settings.secret_variables() {
            environment.remove(name);
        }
    }
    match plan.purpose {
        Purpose::Database => {
            environment.set_database(&credential)?;
            if let Some(name) = variable {
                environment.set(name, (format.render)(&credential)?.trim_end());
            }
        }
        Purpose::Workspace => {
            let variable = variable.unwrap_or(DATABRICKS_TOKEN);
            if is_of_other_host(&plan, &credential, call.context) {
                let names = plan.settings.secret_variables().chain(identity_variables());
                names.for_each(|name| environment.remove(name));
            }
            environment.set_workspace(&plan, &credential, variable);
        }
    }

    let failure = become_program(program, arguments, &environment.0);
    Err(cannot_run(program, call.flags, &environment.0, failure))
}

fn cannot_run(
    program: &OsStr,
    flags: &[(Id, String)],
    variables: &[(OsString, OsString)],
    why: io::Error,
) -> Error {
    let name = program.to_string_lossy();
    let error = Error::usage(format!("cannot run {}", redact(&name)));
    if why.kind() != io::ErrorKind::NotFound {
        return error.because(why).exit(126);
    }

    let error = match missing_interpreter(program, variables) {
        Some(reason) => error.because(redact(&reason)),
        None => error.because("it is not found"),
    };
    let error = if name.contains('=') {
        error.hint(format!("lakebase-token exec{} -- env NAME=VALUE PROGRAM", flag_words(flags)))
    // A whole command line in quotes is one word, the name of a program.
    } else if name.trim().contains(char::is_whitespace) {
        error.hint(format!("lakebase-token exec{} -- {}", flag_words(flags), taken_apart(&name)))
    } else {
        error
    };
    error.exit(127)
}

/// The variables that the child program gets.
struct ChildEnvironment(Vec<(OsString, OsString)>);

impl ChildEnvironment {
    fn of(context: &Context) -> ChildEnvironment {
        let variables = context.env.for_child();
        ChildEnvironment(variables.map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !is_same_name(known, name));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0.push((name.into(), value.into()));
    }

    fn set_database(&mut self, credential: &Credential) -> Result<()> {
        for (name, value) in variables(credential)? {
            match value {
                Some(value) => self.set(name, &value),
                None => self.remove(name),
            }
        }
        Ok(())
    }

    fn set_workspace(&mut self, plan: &Plan, credential: &Credential, token_variable: &str) {
        self.set("DATABRICKS_HOST", &credential.workspace);
        // A host that serves several workspaces answers only if the request names one.
        match plan.workspace_id() {
            Some(id) => self.set("DATABRICKS_WORKSPACE_ID", id),
            None => self.remove("DATABRICKS_WORKSPACE_ID"),
        }

        self.set(token_variable, credential.token.secret.expose());
        if token_variable == DATABRICKS_TOKEN {
            // Without this, an inherited client id and the token would be two authentication
            // methods, which the SDKs refuse.
            self.set("DATABRICKS_AUTH_TYPE", "pat");
        }
    }
}

/// Whether the inherited variables mean another workspace than the credential's, so that they may hold secrets of
/// another host. Beside this host, a Databricks tool would send them here.
fn is_of_other_host(plan: &Plan, credential: &Credential, context: &Context) -> bool {
    let is_flag = |id| matches!(plan.settings.origin(id), Origin::Flag(_));
    if !is_flag(Id::Host) && !is_flag(Id::Profile) {
        return false;
    }
    let quiet = context.quiet.replace(true);
    let (inherited, _) = Settings::resolve_partially(&[], context);
    context.quiet.set(quiet);
    inherited.text(Id::Host) != Some(credential.workspace.as_str())
}

/// The variable that gets a workspace token.
const DATABRICKS_TOKEN: &str = "DATABRICKS_TOKEN";

/// The variable that `--as` names.
fn named_variable(plan: &Plan) -> Result<Option<&str>> {
    let Some(name) = plan.settings.text(Id::As) else { return Ok(None) };
    let is_legal = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
    if !name.bytes().all(is_legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Error::usage(format!("--as is not a variable name: {}", redact(name)))
            .hint("letters, digits and `_`, not beginning with a digit"));
    }
    Ok(Some(name))
}

/// The format of the variable of `--as`: one that is a single line.
fn named_format(plan: &Plan, variable: Option<&str>) -> Result<&'static Format> {
    let name = plan.settings.text(Id::Format);
    let format = formats::chosen(name)?;
    if name.is_some() && (variable.is_none() || plan.purpose == Purpose::Workspace) {
        return Err(Error::usage("exec takes --format only for the variable that --as names")
            .hint("lakebase-token exec --as DATABASE_URL --format url -- PROGRAM"));
    }
    if !format.is_one_line {
        return Err(Error::usage(format!("a variable cannot hold the format {}", format.name))
            .hint("lakebase-token help formats  # choose a one-line format"));
    }
    Ok(format)
}
