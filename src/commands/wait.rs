//! `--wait`: tries to log in until the database accepts the credential, for scripts that start before
//! the database does, or right after a branch was made.
//!
//! One attempt a second mints or takes a credential and logs in with it. Reasons that may pass by
//! themselves are waited for; every other one ends the wait at once. What a refusal means is
//! `lakebase/login_refusal.rs`'s business.

use std::ffi::OsStr;
use std::time::Duration;

use crate::credential::connection::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::lakebase::login_probe::{self, Login, LoginFailure, ServerError};
use crate::lakebase::login_refusal::Attempt;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::terminal;
use crate::platform::time::{Deadline, show_duration};
use crate::session::{ConnectionParts, Session};

/// The pause between the starts of two attempts.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);

/// How long one login may take: a server holds it back while its compute wakes.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How often a refused credential is replaced by a new one.
const MINT_INTERVAL: Duration = Duration::from_secs(30);

/// The credential of a call: as it is, or with `--wait` once a login with it has succeeded.
pub fn credential(plan: &Plan, context: &Context, parts: ConnectionParts) -> Result<Credential> {
    match plan.wait {
        None => Session::new(plan, context).credential(parts, plan.deadline()),
        Some(_) => accepted_credential(plan, context, parts),
    }
}

/// What an attempt that has failed means for the next one.
struct Refusal {
    error: Box<Error>,
    /// Whether the next attempt may succeed.
    may_pass: bool,
    /// Whether another credential may be accepted.
    wants_new: bool,
    /// Whether host and endpoint may be others now.
    is_elsewhere: bool,
}

/// A credential that the database has accepted.
pub fn accepted_credential(
    plan: &Plan,
    context: &Context,
    parts: ConnectionParts,
) -> Result<Credential> {
    let wait = plan.wait.unwrap_or_default();
    let deadline = Deadline::since(plan.settings.began, wait);
    let mut progress = Progress::default();
    let mut next_mint = Deadline::after(Duration::ZERO);
    let mut is_first = true;
    let mut wants_new = false;
    let mut last = None;

    loop {
        let next = Deadline::after(ATTEMPT_INTERVAL);
        let mut session = Session::new(plan, context);
        if !is_first {
            session.set_refresh(wants_new);
        }
        let refusal = match attempt_once(plan, context, &session, parts, deadline) {
            Ok(credential) => {
                progress.end();
                return Ok(credential);
            }
            Err(refusal) => refusal,
        };
        is_first = false;

        if !refusal.may_pass {
            progress.end();
            return Err(*refusal.error);
        }
        if deadline.passed() {
            progress.end();
            // The deadline may have cut this attempt short, so the one before it says more.
            let error = last.unwrap_or(refusal.error);
            return Err((*error).because(format!("--wait has tried for {}", show_duration(wait))));
        }
        if refusal.is_elsewhere {
            session.forget_resolved();
        }
        wants_new = refusal.wants_new && next_mint.passed();
        if wants_new {
            next_mint = Deadline::after(MINT_INTERVAL);
        }
        progress.tell(context, &refusal.error);
        last = Some(refusal.error);
        context.sleep(next.left(), deadline);
    }
}

fn attempt_once(
    plan: &Plan,
    context: &Context,
    session: &Session<'_>,
    parts: ConnectionParts,
    deadline: Deadline,
) -> std::result::Result<Credential, Refusal> {
    let all = ConnectionParts { user: true, host: true };
    let minted = session.credential(all, deadline.at_most(plan.timeout));
    let mut credential = minted.map_err(|error| Refusal {
        may_pass: error.kind == ErrorKind::Unavailable || error.may_pass,
        is_elsewhere: error.may_pass,
        wants_new: false,
        error: Box::new(error),
    })?;

    let failed = |error| Refusal {
        error: Box::new(error),
        may_pass: false,
        wants_new: false,
        is_elsewhere: false,
    };
    let attempt = attempt(&credential).map_err(failed)?;
    if let Err(failure) = log_in(&attempt, context, deadline.at_most(ANSWER_LIMIT)) {
        let may_pass = may_pass(&failure);
        let wants_new = is_about_credential(&failure);
        let is_elsewhere = matches!(failure, LoginFailure::NotResolved(_)) || is_external(&failure);
        let error = Box::new(attempt.error(failure));
        return Err(Refusal { error, may_pass, wants_new, is_elsewhere });
    }
    if !parts.user {
        credential.connection.user = None;
    }
    Ok(credential)
}

/// Who logs in, and where.
pub fn attempt(credential: &Credential) -> Result<Attempt<'_>> {
    let connection = &credential.connection;
    Ok(Attempt {
        host: connection.host()?,
        port: connection.port,
        database: connection.database()?,
        user: connection.user()?,
        identity: None,
        tls: &connection.tls,
        password: &credential.token.secret,
    })
}

/// Logs in by our own means: a failure is known by its SQLSTATE, and no variable of libpq's disturbs.
pub fn log_in(
    attempt: &Attempt<'_>,
    context: &Context,
    deadline: Deadline,
) -> std::result::Result<String, LoginFailure> {
    let login = Login {
        host: attempt.host,
        port: attempt.port,
        database: attempt.database,
        user: attempt.user,
        password: attempt.password,
        tls: attempt.tls,
        options: context.var("PGOPTIONS").and_then(OsStr::to_str),
    };
    login_probe::log_in(&login, context, deadline)
}

/// Whether a failure may pass by itself: the database starts, wakes, or learns of a new branch.
fn may_pass(failure: &LoginFailure) -> bool {
    match failure {
        LoginFailure::NotResolved(_)
        | LoginFailure::NotConnected(_)
        | LoginFailure::NoAnswer(_) => true,
        LoginFailure::Refused(ServerError { sqlstate, .. }) => {
            sqlstate.starts_with("08")
                || ["57P01", "57P03", "53300"].contains(&sqlstate.as_str())
                || is_about_credential(failure)
                || is_external(failure)
        }
        _ => false,
    }
}

/// Whether the role or the credential is refused: the role may be made meanwhile, and a credential of
/// another call may be too old.
fn is_about_credential(failure: &LoginFailure) -> bool {
    let LoginFailure::Refused(ServerError { sqlstate, message }) = failure else { return false };
    let is_final =
        message.contains("is not permitted to log in") || message.contains("pg_hba.conf");
    sqlstate == "28P01" || sqlstate == "28000" && !is_final
}

/// What Lakebase's proxy says for a branch that is too new for it.
fn is_external(failure: &LoginFailure) -> bool {
    let LoginFailure::Refused(ServerError { message, .. }) = failure else { return false };
    message.contains("External authorization failed")
}

/// What the person at the terminal sees: one line that is rewritten, or a note for each new reason.
#[derive(Default)]
struct Progress {
    told: String,
    is_line_open: bool,
}

impl Progress {
    fn tell(&mut self, context: &Context, error: &Error) {
        let reason = error.because.first().map_or(String::new(), |reason| format!(": {reason}"));
        let words = format!("waiting: {error}{reason}");
        if !context.quiet.get() && terminal::rewrite_line(&words) {
            self.is_line_open = true;
        } else if self.told != error.message {
            context.note(&words);
            self.told.clone_from(&error.message);
        }
    }

    fn end(&mut self) {
        if self.is_line_open {
            terminal::rewrite_line("");
        }
    }
}
