//! `--wait`: tries to log in until the database accepts the credential, for scripts that start before
//! the database does, or right after a branch was made.
//!
//! One attempt a second mints or takes a credential and logs in with it. A temporary failure leads to another
//! attempt; any other one ends the call at once. What a refusal means is
//! `lakebase/login_refusal.rs`'s business.

use std::ffi::OsStr;
use std::time::Duration;

use crate::config::table::Id;
use crate::credential::connection::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::login_probe::{PostgresLogin, log_in};
use crate::lakebase::login_refusal::PostgresAttempt;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::terminal;
use crate::platform::time::{Deadline, show_duration};
use crate::session::{ConnectionParts, Session};

/// The pause between the starts of two attempts.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);

/// How long one login may take: a server holds it back while its compute wakes.
const LOGIN_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a refused credential is replaced by a new one.
const MINT_INTERVAL: Duration = Duration::from_secs(30);

/// The credential of a call: as it is, or with `--wait` once a login with it has succeeded.
pub fn credential(plan: &Plan, context: &Context, parts: ConnectionParts) -> Result<Credential> {
    match plan.wait {
        None => Session::new(plan, context).credential(parts, plan.deadline()),
        Some(_) => accepted_credential(plan, context),
    }
}

/// What an attempt that has failed means for the next one.
struct FailedAttempt {
    error: Box<Error>,
    /// Whether the next attempt may succeed.
    is_temporary: bool,
    /// Whether another credential may be accepted.
    wants_new: bool,
    /// Whether host and endpoint may be others now.
    host_may_have_changed: bool,
}

/// A credential that the database has accepted.
pub fn accepted_credential(plan: &Plan, context: &Context) -> Result<Credential> {
    let mut progress = Progress::default();
    let outcome = retry(plan, context, &mut progress);
    progress.end();
    outcome
}

fn retry(plan: &Plan, context: &Context, progress: &mut Progress) -> Result<Credential> {
    let wait = plan.wait.unwrap_or_default();
    let deadline = Deadline::since(plan.settings.began, wait);
    let mut next_mint = Deadline::after(Duration::ZERO);
    let mut refresh = plan.refresh;
    let mut last = None;

    loop {
        let next = Deadline::after(ATTEMPT_INTERVAL);
        let mut session = Session::new(plan, context);
        session.set_refresh(refresh);
        let failed = match attempt_once(plan, context, &session, deadline) {
            Ok(credential) => return Ok(credential),
            Err(failed) => failed,
        };

        if !failed.is_temporary {
            return Err(*failed.error);
        }
        if deadline.passed() {
            // The deadline may have cut this attempt short, so the one before it says more.
            let error = last.unwrap_or(failed.error);
            return Err((*error).because(format!("--wait has tried for {}", show_duration(wait))));
        }
        if failed.host_may_have_changed {
            session.evict_resolved();
        }
        refresh = failed.wants_new && next_mint.passed();
        if refresh {
            next_mint = Deadline::after(MINT_INTERVAL);
        }
        progress.show(context, &failed.error);
        last = Some(failed.error);
        context.sleep(next.left(), deadline);
    }
}

fn attempt_once(
    plan: &Plan,
    context: &Context,
    session: &Session<'_>,
    deadline: Deadline,
) -> std::result::Result<Credential, FailedAttempt> {
    let all = ConnectionParts { user: true, host: true };
    let minted = session.credential(all, deadline.at_most(plan.timeout));
    let credential = minted.map_err(|error| FailedAttempt {
        is_temporary: error.kind == ErrorKind::Unavailable || error.is_temporary,
        host_may_have_changed: error.is_temporary,
        wants_new: false,
        error: Box::new(error),
    })?;

    let attempt = postgres_attempt(plan, &credential, context).map_err(|error| FailedAttempt {
        error: Box::new(error),
        is_temporary: false,
        wants_new: false,
        host_may_have_changed: false,
    })?;
    log_in(&attempt.login, context, deadline.at_most(LOGIN_ATTEMPT_TIMEOUT)).map_err(
        |failure| FailedAttempt {
            is_temporary: failure.is_temporary(),
            wants_new: failure.is_about_credential(),
            host_may_have_changed: failure.host_may_have_changed(),
            error: Box::new(attempt.error(failure)),
        },
    )?;
    Ok(credential)
}

/// The login that a credential makes possible: server, role, password.
pub fn postgres_attempt<'c>(
    plan: &Plan,
    credential: &'c Credential,
    context: &'c Context,
) -> Result<PostgresAttempt<'c>> {
    let connection = &credential.connection;
    let login = PostgresLogin {
        host: connection.host()?,
        port: connection.port,
        database: connection.database()?,
        user: connection.user()?,
        password: &credential.token.secret,
        tls: &connection.tls,
        options: context.var("PGOPTIONS").and_then(OsStr::to_str),
    };
    let origin = |id| plan.settings.get(id).map(|value| value.origin.to_string());
    Ok(PostgresAttempt {
        login,
        identity: None,
        subject: credential.token.subject.as_deref(),
        role_origin: origin(Id::PgUser),
        port_origin: origin(Id::PgPort),
        database_origin: origin(Id::PgDatabase),
        direct_host: None,
    })
}

/// What the person at the terminal sees: one line that is rewritten, or a note for each new reason.
#[derive(Default)]
struct Progress {
    shown: String,
    is_line_open: bool,
}

impl Progress {
    fn show(&mut self, context: &Context, error: &Error) {
        let reason = error.because.first().map_or(String::new(), |reason| format!(": {reason}"));
        let words = format!("waiting: {error}{reason}");
        if !context.quiet.get() && terminal::rewrite_line(&words) {
            self.is_line_open = true;
        } else if self.shown != error.message {
            context.note(&words);
            self.shown.clone_from(&error.message);
        }
    }

    fn end(&mut self) {
        if self.is_line_open {
            terminal::rewrite_line("");
        }
    }
}
