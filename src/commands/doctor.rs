//! `doctor`: tries each step from the configuration to a login, and says which one fails and what
//! fixes it.
//!
//! A minted credential does not prove that a login works: the role may be missing, or the database
//! suspended. So the last steps are logins: our own (`lakebase/login_probe.rs`), whose failures
//! `lakebase/login_refusal.rs` explains, and psql's, if it is installed, which shows what the
//! environment does to libpq. A step that cannot be tried is reported as not tried, not as ok.
//! `doctor/report.rs` writes a report for an issue.

mod assumptions;
mod findings;
mod psql;
mod report;

use std::time::Duration;

use serde_json::{Value, json};

use crate::cache::policy::offline;
use crate::commands::command::{
    Call, Command, DATABASE_FLAGS, FOREIGN_PASSWORD, ROW, has_foreign_password,
};
use crate::commands::doctor::findings::{Findings, Step};
use crate::commands::doctor::psql::{log_in_with_psql, psql_version};
use crate::commands::doctor::report::{ReportFile, report};
use crate::commands::status::is_json;
use crate::commands::wait::{accepted_credential, postgres_attempt};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::connection::Credential;
use crate::credential::redact::{printable, redact};
use crate::error::{Error, Result};
use crate::lakebase::credentials::{self, MintTarget};
use crate::lakebase::login_probe::{LoginFailure, log_in};
use crate::lakebase::login_refusal::PostgresAttempt;
use crate::lakebase::workspace_api::{Api, Me, me, reach};
use crate::net::http::Client;
use crate::net::refusal::{CallError, Outcome};
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::files;
use crate::platform::time::Deadline;
use crate::quoting::sh_word;
use crate::session::{ConnectionParts, Session};
use crate::targets::table::password_file;

pub const COMMAND: Command = Command {
    name: "doctor",
    about: "try each step up to a Postgres login, and say which one fails",
    more: "Tries these steps in order and prints a line for each: configuration, workspace, \
           identity, database, its state, credential, login, psql. Stops at the first \
           step that fails, and says why and what fixes it. The step login needs no psql; the step psql \
           shows whether the environment prevents a login, and is not tried if psql is not \
           installed. Warnings are about other programs. --format is text or json.",
    flags: &[Id::Format, Id::ReadOnly, Id::Wait, Id::Report],
    timeout: "time limit of each step (30s)",
    common: DATABASE_FLAGS,
    exit_codes: "exit codes: 0 every step that could be tried works; otherwise as for get",
    run,
    prints_report: true,
    ..ROW
};

/// The default limit of a step: a suspended database needs several seconds to start.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

fn run(mut call: Call<'_>) -> Result<u8> {
    let is_json = is_json(COMMAND.name, call.flags)?;
    let path = call.flags.iter().find(|(id, _)| *id == Id::Report).map(|(_, path)| path.as_str());
    let file = path.map(|path| ReportFile::open(path, call.context)).transpose()?;
    if file.is_some() {
        call.context.request_log.begin();
    }
    let mut steps = Steps::default();
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
    if let Some(file) = file {
        steps.found.exchanges = call.context.request_log.take();
        steps.found.psql_version = psql_version(call.context, Deadline::after(STEP_TIMEOUT));
        let (settings, _) = Settings::resolve_partially(&plan_flags(&call), call.context);
        let text = report(&steps.steps, &steps.found, &settings, code);
        let path = file.write(&text, Deadline::after(STEP_TIMEOUT))?;
        call.context.note(&format!("{path} is the report; read it before you pass it on"));
    }
    Ok(code)
}

#[derive(Default)]
struct Steps {
    steps: Vec<Step>,
    found: Findings,
}

impl Steps {
    /// Returns nothing after the first step that fails.
    fn try_all(&mut self, call: &Call<'_>) -> Option<()> {
        call.note_misspelled_variables();
        let plan = self.configuration(call)?;
        let session = Session::new(&plan, call.context);
        warnings(&plan, &session, call.context).into_iter().for_each(|warning| self.warn(warning));

        self.workspace(&session)?;
        let identity = self.identity(&session)?;
        let database = self.database(&session)?;
        let credential = self.credential(&session)?;
        let attempt = PostgresAttempt {
            identity: identity.as_ref(),
            direct_host: direct_host(&plan, &session, &database, step_deadline(&plan)),
            ..postgres_attempt(&plan, &credential, call.context).ok()?
        };
        self.login(&attempt, &session)?;

        let limit = step_deadline(&plan);
        let by_psql = log_in_with_psql(&credential, &attempt, &plan.settings, call.context, limit);
        self.steps.push(Step::tried("psql", by_psql, "psql is not installed"));
        Some(())
    }

    fn configuration(&mut self, call: &Call<'_>) -> Option<Plan> {
        let plan = self.add("configuration", plan(call), |plan| {
            let (url, origin) = plan.workspace();
            format!("{url} from {origin}, auth type {}", plan.provider.name)
        })?;
        self.found.auth_type = Some(plan.provider.name);
        self.found.has_ttl = plan.ttl.is_some();
        Some(plan)
    }

    fn workspace(&mut self, session: &Session<'_>) -> Option<()> {
        let reached = reach_workspace(session, step_deadline(session.plan()));
        self.add("workspace", reached, |words| (*words).to_owned())?;
        self.found.workspace = session.url(step_deadline(session.plan())).ok();
        Some(())
    }

    /// Who we are; nothing inside if that may not be asked and is not needed.
    fn identity(&mut self, session: &Session<'_>) -> Option<Option<Me>> {
        let identity = session.ask_or_refusal(step_deadline(session.plan()), me);

        // `exec` asks for the name only if no setting names the role.
        let may_not_ask = identity.as_ref().is_err_and(CallError::is_forbidden);
        let named = may_not_ask.then(|| session.user_name(step_deadline(session.plan())));
        let is_needed =
            session.plan().user().is_none() && !named.as_ref().is_some_and(Result::is_ok);
        // Its error says which setting names the role.
        let identity = match named {
            Some(Err(error)) if is_needed => Err(CallError::Other(error)),
            _ => identity,
        };
        let identity =
            self.add_needed("identity", identity, is_needed, |me| redact(&me.user_name))?;
        self.found.identity.clone_from(&identity);
        Some(identity)
    }

    /// The database and its state.
    fn database(&mut self, session: &Session<'_>) -> Option<MintTarget> {
        let database = session.database(step_deadline(session.plan()));
        let database = self.add("database", database, |database| {
            format!("{} {}", database.kind(), redact(database.name()))
        })?;
        self.found.database = Some(database.clone());

        let deadline = step_deadline(session.plan());
        let state = session.ask_or_refusal(deadline, |api| credentials::state(api, &database));
        let state = state.and_then(|state| Ok(check_state(&state)?));
        self.add_needed("state", state, false, |state| redact(state))?;
        Some(database)
    }

    fn credential(&mut self, session: &Session<'_>) -> Option<Credential> {
        let wants = ConnectionParts { user: true, host: true };
        let credential = match session.plan().wait {
            Some(_) => accepted_credential(session.plan(), session.context()),
            None => session.credential(wants, step_deadline(session.plan())),
        };
        let credential =
            self.add("credential", credential, |credential| credential.token.to_string())?;
        self.found.credential = Some(credential.clone());
        Some(credential)
    }

    fn login(&mut self, attempt: &PostgresAttempt<'_>, session: &Session<'_>) -> Option<()> {
        let deadline = step_deadline(session.plan());
        let outcome = log_in(&attempt.login, session.context(), deadline).map_err(|failure| {
            self.found.asked_for_other_method = matches!(failure, LoginFailure::Method(_));
            self.found.is_certificate_rejected = matches!(failure, LoginFailure::Certificate(_));
            attempt.error(failure)
        });
        self.found.logged_in = self.add("login", outcome, |shown| {
            let kind = if attempt.is_as_group() { " (a group role)" } else { "" };
            let way = if session.plan().pooled { ", through the pooled host" } else { "" };
            let role = redact(&shown.role);
            format!("as {role}{kind}{way}, sslmode {}", attempt.login.tls.words())
        });
        self.found.logged_in.as_ref().map(|_| ())
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
    for (name, what) in [("PGSERVICE", "the service of"), ("PGHOSTADDR", "the address in")] {
        if context.var(name).is_some() {
            warnings.push(
                Error::failed(format!("libpq connects to {what} {name}, unless exec clears it"))
                    .hint(format!("unset {name}  # or start programs with lakebase-token exec")),
            );
        }
    }
    let file = password_file(&plan.settings, context).ok();
    // On Windows, libpq does not check this.
    if let Some(file) = file.filter(|file| cfg!(unix) && files::is_open_to_others(file)) {
        let file = redact(&file.to_string_lossy());
        warnings.push(
            Error::failed(format!("libpq ignores {file}, since others may read it"))
                .hint(format!("chmod 600 {}", sh_word(&file))),
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
    let plan = Plan::new(Settings::resolve(&plan_flags(call), call.context)?, call.context)?;
    match (plan.provider.missing)(&plan.settings, call.context) {
        Some(missing) => Err(missing),
        None => Ok(plan),
    }
}

/// The flags for what is tried.
fn plan_flags(call: &Call<'_>) -> Vec<(Id, String)> {
    // `--format` is that of doctor's answer here, and `Plan` would read it as a credential's.
    let mut flags: Vec<_> =
        call.flags.iter().filter(|(id, _)| *id != Id::Format).cloned().collect();
    // A cached credential proves nothing.
    if !call.has_flag(Id::Refresh) && !call.has_flag(Id::Offline) {
        flags.push((Id::Refresh, String::new()));
    }
    flags
}

fn step_deadline(plan: &Plan) -> Deadline {
    Deadline::after(step_limit(plan))
}

fn step_limit(plan: &Plan) -> Duration {
    if plan.settings.get(Id::Timeout).is_some() { plan.timeout } else { STEP_TIMEOUT }
}

fn reach_workspace(session: &Session<'_>, deadline: Deadline) -> Result<&'static str> {
    let plan = session.plan();
    if plan.offline {
        return Err(offline());
    }
    let url = session.url(deadline)?;
    let (_, origin) = plan.workspace();
    reach(&Client::new(session.context(), plan.provider.name), &url, origin, deadline)?;
    Ok(if url.starts_with("https") { "it answers, over TLS" } else { "it answers" })
}

/// Refuses the states in which a database accepts no connection (databricks-sdk-go
/// `service/postgres`, `service/database`). With an unknown state the login is tried.
fn check_state(state: &str) -> Result<String> {
    match state {
        "IDLE" => Ok("IDLE; the first connection wakes it".to_owned()),
        "STOPPED" | "DISABLED" => Err(not_running(state).hint("start it in the workspace")),
        "DELETING" => Err(not_running(state).hint("--endpoint with another database")),
        "FAILING_OVER" | "STARTING" | "INIT" => {
            Err(not_running(state).hint("lakebase-token --wait 5m psql"))
        }
        "" => Ok("the workspace does not state it".to_owned()),
        other => Ok(other.to_owned()),
    }
}

fn not_running(state: &str) -> Error {
    Error::unavailable(format!("the database is in the state {state}"))
}

/// With `--pooled`, the endpoint's own host.
fn direct_host(
    plan: &Plan,
    session: &Session<'_>,
    database: &MintTarget,
    deadline: Deadline,
) -> Option<String> {
    if !plan.pooled {
        return None;
    }
    let ask = |api: &Api<'_>| credentials::resolve_host(api, database.clone());
    session.ask(deadline, ask).ok()?.host().map(str::to_owned)
}
