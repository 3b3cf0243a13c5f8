//! `doctor`: tries each step from the configuration to a login, and says which one fails and what
//! fixes it.
//!
//! A minted credential does not prove that a login works: the role may be missing, or the database
//! suspended. So the last steps are logins: our own (`lakebase/login_probe.rs`), whose failures
//! `lakebase/login_refusal.rs` explains, and psql's, if it is installed, which shows what the
//! environment does to libpq. A step that cannot be tried is reported as not tried, not as ok.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::command::{
    COMMON, Call, Command, FOREIGN_PASSWORD, ROW, has_foreign_password,
};
use crate::commands::status::is_json;
use crate::commands::wait::{accepted_credential, attempt};
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Credential;
use crate::credential::redact::{hide, printable, redact};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::variables;
use crate::lakebase::credentials::{self, Database};
use crate::lakebase::login_probe::log_in;
use crate::lakebase::login_refusal::{Attempt, lacks_server_name};
use crate::lakebase::workspace_api::{Api, me, reach};
use crate::net::http::Client;
use crate::net::refusal::{CallError, Outcome};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::process::{Program, run_tool};
use crate::platform::time::Deadline;
use crate::session::{ConnectionParts, Session};
use crate::targets::table::password_file;

pub const COMMAND: Command = Command {
    name: "doctor",
    about: "try each step up to a login, and say which one fails",
    more: "Tries these steps in order and prints a line for each: configuration, workspace, \
           identity, database, state of the database, credential, login, psql. Stops at the first \
           step that fails, and says why and what fixes it. The step login needs no psql; the step psql \
           shows whether the environment prevents a login, and is not tried if psql is not \
           installed. Warnings are about other programs. --timeout applies to each step (30s). \
           --format is text or json.",
    flags: &[Id::Format, Id::ReadOnly, Id::Wait],
    common: COMMON,
    exit_codes: "exit codes: 0 every step that could be tried works; otherwise as for get",
    run,
    prints_report: true,
    ..ROW
};

/// The default limit of a step: a suspended database needs several seconds to start.
const STEP_LIMIT: Duration = Duration::from_secs(30);

struct Step {
    name: &'static str,
    /// What was found; nothing if the step could not be tried.
    outcome: Result<Option<String>>,
    /// Why the step was not tried.
    why_not_tried: &'static str,
    /// Whether its failure is not the verdict.
    is_warning: bool,
}

fn run(mut call: Call<'_>) -> Result<u8> {
    let is_json = is_json(COMMAND.name, call.flags)?;
    let mut steps = Steps { steps: Vec::new() };
    // The failure is in the last step.
    let _ = steps.try_all(&call);

    let verdicts = steps.steps.iter().filter(|step| !step.is_warning);
    let failure = verdicts.filter_map(|step| step.outcome.as_ref().err()).next();
    let code = failure.map_or(0, |error| error.kind as u8);
    let text = if is_json {
        let steps: Vec<Value> = steps.steps.iter().map(Step::json).collect();
        format!("{}\n", json!({ "steps": steps, "code": code }))
    } else {
        printable(&steps.steps.iter().map(Step::text).collect::<String>())
    };
    call.print(&text)?;
    Ok(code)
}

struct Steps {
    steps: Vec<Step>,
}

impl Steps {
    /// Returns nothing after the first step that fails.
    fn try_all(&mut self, call: &Call<'_>) -> Option<()> {
        let context = call.context;
        let plan = self.add("configuration", plan(call), |plan| {
            let (url, origin) = plan.workspace();
            format!("{url} from {origin}, auth type {}", plan.provider.name)
        })?;
        let session = Session::new(&plan, context);
        warnings(&plan, &session, context).into_iter().for_each(|warning| self.warn(warning));
        let deadline = || Deadline::after(step_limit(&plan));

        let reached = reach_workspace(&plan, &session, context, deadline());
        self.add("workspace", reached, |words| (*words).to_owned())?;

        // `exec` asks for the name only if no setting names the role.
        let identity = session.ask_or_refusal(deadline(), me);
        let is_needed = plan.user().is_none();
        let identity =
            self.add_needed("identity", identity, is_needed, |me| redact(&me.user_name))?;

        let database = session.database(deadline());
        let database = self.add("database", database, |database| {
            format!("{} {}", database.kind(), redact(database.name()))
        })?;

        let state = session.ask_or_refusal(deadline(), |api| credentials::state(api, &database));
        let state = state.and_then(|state| Ok(check_state(&state)?));
        self.add_needed("state", state, false, |state| redact(state))?;

        let wants = ConnectionParts { user: true, host: true };
        let credential = match plan.wait {
            Some(_) => accepted_credential(&plan, context),
            None => session.credential(wants, deadline()),
        };
        let credential =
            self.add("credential", credential, |credential| credential.token.to_string())?;

        let attempt = Attempt {
            identity: identity.as_ref(),
            direct_host: direct_host(&plan, &session, &database, deadline()),
            ..attempt(&credential, context).ok()?
        };
        let logged_in = log_in(&attempt.login, context, deadline());
        let logged_in = logged_in.map_err(|failure| attempt.error(failure));
        self.add("login", logged_in, |role| {
            let kind = if attempt.is_as_group() { " (a group role)" } else { "" };
            let way = if plan.pooled { ", through the pooled host" } else { "" };
            format!("as {}{kind}{way}, sslmode {}", redact(role), attempt.login.tls.words())
        })?;

        let outcome = log_in_with_psql(&credential, &attempt, &plan.settings, context, deadline());
        self.steps.push(Step::tried("psql", outcome, "psql is not installed"));
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
        self.steps.push(Step::tried(name, outcome, ""));
        value
    }

    /// The same for a step that the login itself may not need: it may be forbidden then. Returns
    /// nothing after a failure that counts.
    fn add_needed<T>(
        &mut self,
        name: &'static str,
        result: Outcome<T>,
        is_needed: bool,
        words: impl FnOnce(&T) -> String,
    ) -> Option<Option<T>> {
        let is_forbidden = result.as_ref().is_err_and(CallError::is_forbidden);
        let result = result.map_err(CallError::into_error);
        if is_needed || !is_forbidden {
            return self.add(name, result, words).map(Some);
        }
        let outcome = result.map(|_| None);
        self.steps.push(Step { is_warning: true, ..Step::tried(name, outcome, "") });
        Some(None)
    }

    /// Warns of what does not matter to the login that was tried, but may to others.
    fn warn(&mut self, warning: Error) {
        let step = Step::tried("warning", Err(warning), "");
        self.steps.push(Step { is_warning: true, ..step });
    }
}

/// What may disturb other programs than the login that is tried here.
fn warnings(plan: &Plan, session: &Session<'_>, context: &Context) -> Vec<Error> {
    let mut warnings = Vec::new();
    if has_foreign_password(context) {
        warnings.push(
            Error::failed(FOREIGN_PASSWORD)
                .hint("unset PGPASSWORD  # or start programs with lakebase-token exec"),
        );
    }
    let file = password_file(&plan.settings, context).ok();
    if let Some(file) = file.filter(|file| files::is_open_to_others(file)) {
        let file = redact(&file.to_string_lossy());
        warnings.push(
            Error::failed(format!("libpq ignores {file}, since others may read it"))
                .hint(format!("chmod 600 {file}")),
        );
    }
    if let Some(why) = session.cache_problem() {
        warnings.push(
            Error::failed("nothing can be cached, so each call mints")
                .because(why)
                .hint("LAKEBASE_TOKEN_CACHE with a folder of yours"),
        );
    }
    let other_login = plan.settings.login(context).filter(|_| !plan.provider.stored_login);
    if let Some(login) = other_login {
        let (name, who) = (plan.provider.name, redact(&login.who));
        warnings.push(
            Error::failed(format!("{name} takes precedence over the login of {who}"))
                .hint("--auth-type external-browser  # to use that login"),
        );
    }
    warnings
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

/// With `--pooled`, the endpoint's own host.
fn direct_host(
    plan: &Plan,
    session: &Session<'_>,
    database: &Database,
    deadline: Deadline,
) -> Option<String> {
    if !plan.pooled {
        return None;
    }
    let ask = |api: &Api<'_>| credentials::resolve_host(api, database.clone());
    session.ask(deadline, ask).ok()?.host().map(str::to_owned)
}

/// Variables of libpq that can defeat a login by a password in clear text.
const DISTURBING: [&str; 14] = [
    "PGCHANNELBINDING",
    "PGREQUIREAUTH",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLNEGOTIATION",
    "PGGSSENCMODE",
    "PGREQUIREPEER",
    "PGTARGETSESSIONATTRS",
    "PGMINPROTOCOLVERSION",
];

/// Logs in with psql, in the environment that `exec` gives it. Returns nothing if psql is not installed.
fn log_in_with_psql(
    credential: &Credential,
    attempt: &Attempt<'_>,
    settings: &Settings,
    context: &Context,
    deadline: Deadline,
) -> Result<Option<String>> {
    let Some(psql) = context.find_program("psql") else { return Ok(None) };

    let variables = variables(credential)?;
    let mut extra: Vec<(&str, String)> =
        variables.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
    // libpq rounds a connect timeout of one second up to two.
    let seconds = deadline.left().as_secs().max(2);
    extra.push(("PGCONNECT_TIMEOUT", seconds.to_string()));
    let program = Program {
        path: &psql,
        arguments: &["-X", "-w", "-A", "-t", "-c", "select current_user"],
        sees: &|name: &OsStr| {
            // What libpq shall not see, and what is set below.
            !variables.iter().any(|(known, _)| name == *known)
                && !settings.is_kept_from_local_tools(name)
        },
        variables: &extra,
        locks: [None, None],
    };
    let output = run_tool(context, &program, "psql", deadline).map_err(|e| match e.kind {
        ErrorKind::Unavailable => {
            Error::unavailable("the login by psql timed out").hint("a longer --timeout")
        }
        _ => e,
    })?;
    if output.status.success() {
        return Ok(Some(format!("as {}", redact(&String::from_utf8_lossy(&output.stdout)))));
    }

    let stderr = redact(&hide(&output.stderr, attempt.login.password.expose()));
    let error = Error::denied("psql cannot log in, although the same login succeeds without it");
    let error = error.because(stderr);
    let is_set = |name: &&str| context.var(name).is_some();
    let set: Vec<&str> = DISTURBING.into_iter().filter(is_set).collect();
    if lacks_server_name(&output.stderr) {
        return Err(error.hint("a libpq of version 14 or later: older ones send no server name"));
    }
    Err(set.iter().fold(error, |error, name| error.hint(format!("unset {name}"))))
}

impl Step {
    fn tried(
        name: &'static str,
        outcome: Result<Option<String>>,
        why_not_tried: &'static str,
    ) -> Step {
        Step { name, outcome, why_not_tried, is_warning: false }
    }

    fn text(&self) -> String {
        let line = |name: &str, words: &str| format!("{name:<15}{words}\n");
        match &self.outcome {
            Ok(Some(words)) => line(self.name, &format!("ok: {words}")),
            Ok(None) => line(self.name, &format!("not tried: {}", self.why_not_tried)),
            Err(error) => {
                let verdict = if self.is_warning { "warning" } else { "FAILED" };
                let mut text = if self.name == verdict {
                    line(verdict, &error.message)
                } else {
                    line(self.name, &format!("{verdict}: {}", error.message))
                };
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
            Err(error) if self.is_warning => {
                ("warning", error.message.as_str(), &error.because[..], &error.hints[..])
            }
            Err(error) => ("failed", error.message.as_str(), &error.because[..], &error.hints[..]),
        };
        let name = self.name;
        json!({ "step": name, "state": state, "words": words, "because": because, "hints": hints })
    }
}
