//! The step `psql` of `doctor`: a login by psql, in the environment that `exec` gives it. It shows what
//! the environment does to libpq, after the same login has succeeded without it.

use std::ffi::OsStr;
use std::path::Path;

use crate::config::settings::Settings;
use crate::credential::connection::Credential;
use crate::credential::redact::{redact, redact_secret};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::variables;
use crate::lakebase::login_refusal::{PostgresAttempt, lacks_server_name};
use crate::platform::context::Context;
use crate::platform::process::{Program, ToolOutput, run_tool};
use crate::platform::time::Deadline;

/// Variables of libpq that can defeat a login by a password in clear text.
const DISTURBING: &str = "\
    PGCHANNELBINDING PGREQUIREAUTH PGSSLCERT PGSSLKEY PGSSLCRL PGSSLCRLDIR PGSSLSNI PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGSSLNEGOTIATION PGGSSENCMODE PGREQUIREPEER PGTARGETSESSIONATTRS PGMINPROTOCOLVERSION";

/// Logs in with psql, in the environment that `exec` gives it. Returns nothing if psql is not installed.
pub fn log_in_with_psql(
    credential: &Credential,
    attempt: &PostgresAttempt<'_>,
    settings: &Settings,
    context: &Context,
    deadline: Deadline,
) -> Result<Option<String>> {
    let Some(psql) = context.find_program("psql") else { return Ok(None) };
    let output = run_psql(&psql, credential, settings, context, deadline)?;
    if output.status.success() {
        return Ok(Some(format!("as {}", redact(&String::from_utf8_lossy(&output.stdout)))));
    }

    let stderr = redact(&redact_secret(&output.stderr, attempt.login.password.expose()));
    let error = Error::denied("psql cannot log in, although the same login succeeds without it");
    let error = error.because(stderr);
    if lacks_server_name(&output.stderr) {
        return Err(error.hint("a libpq of version 14 or later: older ones send no server name"));
    }
    let set = DISTURBING.split(' ').filter(|name| context.var(name).is_some());
    Err(set.fold(error, |error, name| error.hint(format!("unset {name}"))))
}

fn run_psql(
    psql: &Path,
    credential: &Credential,
    settings: &Settings,
    context: &Context,
    deadline: Deadline,
) -> Result<ToolOutput> {
    let variables = variables(credential)?;
    let mut extra: Vec<(&str, String)> =
        variables.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
    // libpq rounds a connect timeout of one second up to two.
    let seconds = deadline.left().as_secs().max(2);
    extra.push(("PGCONNECT_TIMEOUT", seconds.to_string()));
    let program = Program {
        path: psql,
        arguments: &["-X", "-w", "-A", "-t", "-c", "select current_user"],
        sees: &|name: &OsStr| {
            // What libpq shall not see, and what is set below.
            !variables.iter().any(|(known, _)| name == *known)
                && !settings.is_withheld_from_local_tools(name)
        },
        variables: &extra,
        locks: [None, None],
    };
    run_tool(context, &program, "psql", deadline).map_err(|e| match e.kind {
        ErrorKind::Unavailable => {
            Error::unavailable("the login by psql timed out").hint("a longer --timeout")
        }
        _ => e,
    })
}

/// What `psql --version` prints.
pub fn psql_version(context: &Context, deadline: Deadline) -> Option<String> {
    let psql = context.find_program("psql")?;
    let program = Program {
        path: &psql,
        arguments: &["--version"],
        sees: &|name| name == "PATH",
        variables: &[],
        locks: [None, None],
    };
    let output = run_tool(context, &program, "psql", deadline).ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
