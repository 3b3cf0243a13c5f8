//! `doctor`: tries each step from the configuration to a login, and says which one fails and what
//! fixes it.
//!
//! A minted credential does not prove that a login works: the role may be missing, or the database
//! suspended. So the last steps are the connection itself, with the first messages of the
//! frontend/backend protocol (PostgreSQL documentation, "SSL Session Encryption"), and a login by
//! psql if it is installed. A step that cannot be tried is reported as not tried, not as ok.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::commands::status::is_json;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Credential;
use crate::credential::redact::{printable, redact};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::variables;
use crate::lakebase::credentials;
use crate::lakebase::workspace_api::{reach, user_name};
use crate::net::http::Client;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::process::{Program, run_tool, within};
use crate::platform::time::Deadline;
use crate::session::{ConnectionParts, Session};

pub const COMMAND: Command = Command {
    name: "doctor",
    about: "try each step up to a login, and say which one fails",
    more: "Tries these steps in order and prints a line for each: configuration, workspace, \
           identity, database, state of the database, credential, connection, login. Stops at the \
           first step that fails, and says why and what fixes it. psql does the login; if psql is \
           not installed, that step is reported as not tried. --timeout applies to each step \
           (30s). --format is text or json.",
    flags: &[Id::Format],
    common: COMMON,
    exit_codes: "exit codes: 0 every step that could be tried works; otherwise as for get",
    run,
    prints_report: true,
    ..ROW
};

/// The default limit of a step: a suspended database needs several seconds to start.
const STEP_LIMIT: Duration = Duration::from_secs(30);

const SUSPENDED_HINT: &str = "a longer --timeout: a suspended database needs time to start";

struct Step {
    name: &'static str,
    /// What was found; nothing if the step could not be tried.
    outcome: Result<Option<String>>,
    /// Why the step was not tried.
    why_not_tried: &'static str,
}

fn run(mut call: Call<'_>) -> Result<u8> {
    let is_json = is_json(COMMAND.name, call.flags)?;
    let mut steps = Steps(Vec::new());
    // The failure is in the last step.
    let _ = steps.try_all(&call);

    let failure = steps.0.iter().find_map(|step| step.outcome.as_ref().err());
    let code = failure.map_or(0, |error| error.kind as u8);
    let text = if is_json {
        let steps: Vec<Value> = steps.0.iter().map(Step::json).collect();
        format!("{}\n", json!({ "steps": steps, "code": code }))
    } else {
        printable(&steps.0.iter().map(Step::text).collect::<String>())
    };
    call.print(&text)?;
    Ok(code)
}

struct Steps(Vec<Step>);

impl Steps {
    /// Returns nothing after the first step that fails.
    fn try_all(&mut self, call: &Call<'_>) -> Option<()> {
        let context = call.context;
        let plan = self.add("configuration", plan(call), |plan| {
            let (url, origin) = plan.workspace();
            format!("{url} from {origin}, auth type {}", plan.provider.name)
        })?;
        let session = Session::new(&plan, context);
        let deadline = || Deadline::after(step_limit(&plan));

        let reached = reach_workspace(&plan, &session, context, deadline());
        self.add("workspace", reached, |words| (*words).to_owned())?;

        let user = session.ask(deadline(), user_name);
        self.add("identity", user, |user| redact(user))?;

        let database = session.database(deadline());
        let database = self.add("database", database, |database| {
            format!("{} {}", database.kind(), redact(database.name()))
        })?;

        let state = session.ask(deadline(), |api| credentials::state(api, &database));
        self.add("state", state.and_then(|state| check_state(&state)), |state| redact(state))?;

        let wants = ConnectionParts { user: true, host: true };
        let credential = session.credential(wants, deadline());
        let credential =
            self.add("credential", credential, |credential| credential.token.to_string())?;

        let connection = connect(&credential, deadline());
        self.add("connection", connection, |words| words.clone())?;

        let outcome = log_in(&credential, &plan.settings, context, deadline());
        self.0.push(Step { name: "login", outcome, why_not_tried: "psql is not installed" });
        Some(())
    }

    /// Adds a step that was tried, and returns its result for the next steps.
    fn add<T>(
        &mut self,
        name: &'static str,
        result: Result<T>,
        words: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (outcome, value) = match result {
            Ok(value) => (Ok(Some(words(&value))), Some(value)),
            Err(error) => (Err(error), None),
        };
        self.0.push(Step { name, outcome, why_not_tried: "" });
        value
    }
}

fn plan(call: &Call<'_>) -> Result<Plan> {
    // `--format` is that of the report here, and `Plan` would read it as a credential's.
    let mut flags: Vec<_> =
        call.flags.iter().filter(|(id, _)| *id != Id::Format).cloned().collect();
    // A cached credential proves nothing.
    if !call.has_flag(Id::Refresh) && !call.has_flag(Id::Offline) {
        flags.push((Id::Refresh, String::new()));
    }
    Plan::new(Settings::resolve(&flags, call.context)?, call.context)
}

fn step_limit(plan: &Plan) -> Duration {
    if plan.settings.get(Id::Timeout).is_some() { plan.timeout } else { STEP_LIMIT }
}

fn reach_workspace(
    plan: &Plan,
    session: &Session<'_>,
    context: &Context,
    deadline: Deadline,
) -> Result<&'static str> {
    let url = session.url(deadline)?;
    let (_, origin) = plan.workspace();
    reach(&Client::new(context, plan.provider.name), &url, origin, deadline)?;
    Ok(if url.starts_with("https") { "it answers, over TLS" } else { "it answers" })
}

/// Refuses the states in which a database accepts no connection (databricks-sdk-go
/// `service/postgres`, `service/database`). With an unknown state the login is tried.
fn check_state(state: &str) -> Result<String> {
    match state {
        "IDLE" => Ok("IDLE; the first connection wakes it".to_owned()),
        "STOPPED" | "DISABLED" | "DELETING" | "FAILING_OVER" | "STARTING" | "INIT" => {
            Err(Error::unavailable(format!("the database is in the state {state}"))
                .hint("start it in the workspace, or wait until it is ready"))
        }
        "" => Ok("the workspace does not state it".to_owned()),
        other => Ok(other.to_owned()),
    }
}

/// Connects by TCP, and asks whether the server offers TLS.
fn connect(credential: &Credential, deadline: Deadline) -> Result<String> {
    let host = credential.connection.host()?;
    let port = credential.connection.port;
    let shown = format!("{}:{port}", redact(host));

    let mut failure = None;
    for address in addresses(host, port, deadline)? {
        match TcpStream::connect_timeout(&address, timeout(deadline)) {
            Ok(stream) => return ask_for_tls(stream, &shown, deadline),
            Err(e) => failure = Some(e),
        }
    }

    let error = Error::unavailable(format!("cannot connect to {shown}"));
    let error = match failure {
        Some(e) => error.because(e),
        None => error,
    };
    Err(error.hint("check the firewall and the workspace's IP access list"))
}

fn addresses(
    host: &str,
    port: u16,
    deadline: Deadline,
) -> Result<impl Iterator<Item = SocketAddr> + use<>> {
    let name = (host.to_owned(), port);
    let resolved = within(deadline.left(), move || name.to_socket_addrs());
    resolved.and_then(|found| found.unwrap_or(Err(io::ErrorKind::TimedOut.into()))).map_err(|e| {
        Error::unavailable(format!("cannot resolve the host name {}", redact(host)))
            .because(e)
            .hint("check PGHOST and DNS; with Private Link, DNS must be that of its network")
    })
}

/// The time left, for calls that refuse a timeout of zero.
fn timeout(deadline: Deadline) -> Duration {
    deadline.left().max(Duration::from_millis(1))
}

fn ask_for_tls(mut stream: TcpStream, shown: &str, deadline: Deadline) -> Result<String> {
    // SSLRequest: its length, then its code. The server answers with one byte, S or N.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

    let mut answer = [0];
    let exchanged = stream
        .set_read_timeout(Some(timeout(deadline)))
        .and_then(|()| stream.write_all(&SSL_REQUEST))
        .and_then(|()| stream.read_exact(&mut answer));
    let not_postgres = || Error::failed(format!("{shown} does not speak Postgres"));
    match exchanged {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Error::unavailable(format!("{shown} has not answered in time"))
                .hint(SUSPENDED_HINT))
        }
        Err(e) => Err(not_postgres().because(e)),
        Ok(()) if answer == *b"S" => Ok(format!("{shown} offers TLS")),
        Ok(()) if answer == *b"N" => Err(Error::failed(format!("{shown} offers no TLS"))
            .because("a password is never sent without TLS")
            .hint("check PGHOST and PGPORT: Lakebase always offers TLS")),
        Ok(()) => Err(not_postgres().because("its answer to SSLRequest is neither S nor N")),
    }
}

/// Logs in with psql. Returns nothing if psql is not installed.
fn log_in(
    credential: &Credential,
    settings: &Settings,
    context: &Context,
    deadline: Deadline,
) -> Result<Option<String>> {
    let Some(psql) = context.find_program("psql") else { return Ok(None) };

    let variables = variables(credential)?;
    let (set, unset): (Vec<_>, Vec<_>) =
        variables.into_iter().partition(|(_, value)| value.is_some());
    let mut extra: Vec<(&str, String)> =
        set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    // libpq rounds a connect timeout of one second up to two.
    let seconds = deadline.left().as_secs().max(2);
    extra.push(("PGCONNECT_TIMEOUT", seconds.to_string()));
    let program = Program {
        path: &psql,
        arguments: &["-X", "-w", "-A", "-t", "-c", "select current_user"],
        sees: &|name: &OsStr| {
            !unset.iter().any(|(unset, _)| name == *unset) && !settings.holds_secret(name)
        },
        variables: &extra,
        locks: [None, None],
    };
    let output = run_tool(context, &program, "psql", deadline).map_err(|e| match e.kind {
        ErrorKind::Unavailable => {
            Error::unavailable("psql has not logged in in time").hint(SUSPENDED_HINT)
        }
        _ => e,
    })?;

    if output.status.success() {
        return Ok(Some(format!("as {}", redact(&String::from_utf8_lossy(&output.stdout)))));
    }
    Err(refused_login(credential.connection.user()?, &redact(&output.stderr)))
}

/// What psql prints has no codes, so its text decides which hint may help.
fn refused_login(user: &str, stderr: &str) -> Error {
    let user = redact(user);
    let error = Error::denied(format!("psql cannot log in as {user}")).because(stderr);

    // Postgres uses the same message for a missing role, another role's token and an expired token.
    if stderr.contains("authentication failed for user") || stderr.contains("role \"") {
        let kind = if user.contains('@') { "USER" } else { "SERVICE_PRINCIPAL" };
        let user = user.replace('\'', "''");
        error
            .because("the credential is new, so this identity has no Postgres role of that name")
            .hint(format!(
                "as the project's owner: SELECT databricks_create_role('{user}', '{kind}')"
            ))
            .hint("--pg-user with the name of the role, if it is another one")
    } else if stderr.contains("does not exist") {
        error.hint("--pg-database with the name of an existing database")
    } else if stderr.contains("certificate") {
        error
            .hint(
                "PGSSLROOTCERT=/path/to/ca.pem with the certificate of the authority that signs it",
            )
            .hint(
                "PGSSLMODE=require only if whoever answers there may have the password: it proves \
                 nothing about the server",
            )
    } else {
        error
    }
}

impl Step {
    fn text(&self) -> String {
        let line = |name: &str, words: &str| format!("{name:<15}{words}\n");
        match &self.outcome {
            Ok(Some(words)) => line(self.name, &format!("ok: {words}")),
            Ok(None) => line(self.name, &format!("not tried: {}", self.why_not_tried)),
            Err(error) => {
                let mut text = line(self.name, &format!("FAILED: {}", error.message));
                for (label, words) in error.lines().skip(1) {
                    text.push_str(&line(&format!("  {label}"), words));
                }
                text
            }
        }
    }

    fn json(&self) -> Value {
        let (state, words, because, hints) = match &self.outcome {
            Ok(Some(words)) => ("ok", words.as_str(), &[][..], &[][..]),
            Ok(None) => ("not tried", self.why_not_tried, &[][..], &[][..]),
            Err(error) => ("failed", error.message.as_str(), &error.because[..], &error.hints[..]),
        };
        let name = self.name;
        json!({ "step": name, "state": state, "words": words, "because": because, "hints": hints })
    }
}
