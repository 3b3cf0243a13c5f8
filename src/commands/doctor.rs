//! `doctor`: tries every link from the configuration to a login, and says which one breaks and what
//! mends it.
//!
//! A credential that was minted proves nothing about logging in: the role may be missing, or the
//! database asleep. So the last links are the connection itself, by the first messages of the
//! frontend/backend protocol (PostgreSQL documentation, "SSL Session Encryption"), and a login by
//! psql, where there is one. A link that cannot be tried is not called sound.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::command::{COMMON, Call, Command, ROW};
use crate::commands::status::is_json;
use crate::config::resolve::Settings;
use crate::config::table::Id;
use crate::credential::connection::Credential;
use crate::credential::redact::redact;
use crate::error::{Error, ErrorKind, Result};
use crate::formats::{UNSET, variables};
use crate::lakebase::credentials;
use crate::lakebase::workspace_api::{reach, user_name};
use crate::net::http::Client;
use crate::plan::Plan;
use crate::platform::context::Context;
use crate::platform::process::{Program, find_program, run_tool, within};
use crate::platform::time::Deadline;
use crate::session::{Session, Wants};

pub const COMMAND: Command = Command {
    name: "doctor",
    about: "try every link, up to a login, and say which one breaks",
    more: "Tries configuration, workspace, identity, database, its state, credential, connection and \
           login, in this order, one line a link. It ends with the first that breaks, why, and what \
           mends it. The login is psql's; without psql it is left out, and that is said. --timeout is \
           for each link (30s). --format is text or json.",
    flags: &[Id::Format],
    common: COMMON,
    codes: "exit codes: 0 all is well as far as it could be tried; else as for get",
    run,
    prints_report: true,
    ..ROW
};

/// A link that was tried.
struct Link {
    name: &'static str,
    /// What was found; nothing where it could not be tried.
    outcome: Result<Option<String>>,
    /// Why it was not tried.
    left_out: &'static str,
}

fn run(mut call: Call<'_>) -> Result<u8> {
    let json = is_json(COMMAND.name, call.flags)?;
    let links = links(&call);
    let broken = links.iter().find_map(|link| link.outcome.as_ref().err());
    let code = broken.map_or(0, |error| error.kind as u8);
    let text = match json {
        true => {
            let links: Vec<Value> = links.iter().map(Link::json).collect();
            format!("{}\n", json!({ "links": links, "code": code }))
        }
        false => links.iter().map(Link::text).collect(),
    };
    call.print(&text)?;
    Ok(code)
}

/// Tries one after another, until one breaks.
fn links(call: &Call<'_>) -> Vec<Link> {
    let mut links = Vec::new();
    // What breaks is the last one.
    let _ = tried(call, &mut links);
    links
}

fn tried(call: &Call<'_>, links: &mut Vec<Link>) -> Option<()> {
    let context = call.context;
    let plan = link(
        links,
        "configuration",
        || plan(call),
        |plan| {
            let (text, origin) = plan.workspace();
            format!("{text} from {origin}, auth type {}", plan.provider.name)
        },
    )?;
    let patience = || Deadline::after(patience(&plan));
    let session = Session::new(&plan, context);
    let reach = || reached(&plan, &session.url(patience())?, context, patience());
    link(links, "workspace", reach, |words| words.to_string())?;
    let who = || session.ask(patience(), user_name);
    link(links, "identity", who, |who| redact(who))?;
    let database = || session.database(patience());
    let database = link(links, "database", database, |database| {
        format!("{} {}", database.kind(), redact(database.name()))
    })?;
    let state = || session.ask(patience(), |api| credentials::state(api, &database));
    link(links, "state", || state().and_then(|state| awake(&state)), |state| redact(state))?;
    let wants = Wants { user: true, host: true };
    let credential = || session.credential(wants, patience());
    let credential =
        link(links, "credential", credential, |credential| credential.token.to_string())?;
    link(links, "connection", || connect(&credential, patience()), |words| words.clone())?;
    let login = login(&credential, context, patience());
    links.push(Link { name: "login", outcome: login, left_out: "psql is not installed" });
    Some(())
}

/// Tries one; what it gave.
fn link<T>(
    links: &mut Vec<Link>,
    name: &'static str,
    attempt: impl FnOnce() -> Result<T>,
    words: impl FnOnce(&T) -> String,
) -> Option<T> {
    let (outcome, found) = match attempt() {
        Ok(found) => (Ok(Some(words(&found))), Some(found)),
        Err(error) => (Err(error), None),
    };
    links.push(Link { name, outcome, left_out: "" });
    found
}

fn plan(call: &Call<'_>) -> Result<Plan> {
    // A format is ours here, and what is minted must be new to prove anything.
    let mut flags: Vec<_> =
        call.flags.iter().filter(|(id, _)| *id != Id::Format).cloned().collect();
    if !flags.iter().any(|(id, _)| [Id::Refresh, Id::Offline].contains(id)) {
        flags.push((Id::Refresh, String::new()));
    }
    Plan::new(Settings::resolve(&flags, call.context)?, call.context)
}

/// A database that sleeps takes its time.
fn patience(plan: &Plan) -> Duration {
    const PATIENCE: Duration = Duration::from_secs(30);
    if plan.settings.get(Id::Timeout).is_some() { plan.timeout } else { PATIENCE }
}

/// Whether it answers at all.
fn reached(plan: &Plan, url: &str, context: &Context, deadline: Deadline) -> Result<&'static str> {
    reach(&Client::new(context, plan.provider.name), url, plan.workspace().1, deadline)?;
    Ok(if url.starts_with("https") { "it answers, over TLS" } else { "it answers" })
}

/// Refuses what cannot be connected to (databricks-sdk-go `service/postgres`, `service/database`).
fn awake(state: &str) -> Result<String> {
    match state {
        "IDLE" => Ok("IDLE; the first connection wakes it".to_owned()),
        // Unknown words are no reason to stop before a login was tried.
        "STOPPED" | "DISABLED" | "DELETING" | "FAILING_OVER" | "STARTING" | "INIT" => {
            Err(Error::unavailable(format!("the database is in the state {state}"))
                .hint("start it in the workspace, or wait until it is ready"))
        }
        "" => Ok("not told".to_owned()),
        other => Ok(other.to_owned()),
    }
}

const SLEEPS: &str = "a longer --timeout: a database that sleeps takes its time";

/// TCP, and whether the server offers TLS.
fn connect(credential: &Credential, deadline: Deadline) -> Result<String> {
    let (host, port) = (credential.connection.host()?, credential.connection.port);
    let shown = format!("{}:{port}", redact(host));
    let place = (host.to_owned(), port);
    let found = within(deadline.left(), move || place.to_socket_addrs());
    let found = found.and_then(|found| found.unwrap_or(Err(io::ErrorKind::TimedOut.into())));
    let found = found.map_err(|e| {
        Error::unavailable(format!("the name {} is not known here", redact(host)))
            .because(e)
            .hint("check PGHOST, the network's DNS and, with Private Link, where you are")
    })?;
    let mut why = None;
    for address in found {
        let left = deadline.left().max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return greet(stream, &shown, deadline),
            Err(e) => why = Some(e),
        }
    }
    let error = Error::unavailable(format!("cannot connect to {shown}"));
    Err(why
        .map_or(error.clone(), |e| error.because(e))
        .hint("a firewall or the workspace's IP access list may be in the way"))
}

fn greet(mut stream: TcpStream, shown: &str, deadline: Deadline) -> Result<String> {
    // SSLRequest: its length, then its code.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut answer = [0];
    let asked = stream
        .set_read_timeout(Some(deadline.left().max(Duration::from_millis(1))))
        .and_then(|()| stream.write_all(&SSL_REQUEST))
        .and_then(|()| stream.read_exact(&mut answer));
    let odd = |why: &str| Error::failed(format!("{shown} does not speak Postgres")).because(why);
    match asked {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Error::unavailable(format!("{shown} has not answered in time")).hint(SLEEPS))
        }
        Err(e) => Err(odd(&e.to_string())),
        Ok(()) if answer == *b"S" => Ok(format!("{shown} offers TLS")),
        Ok(()) if answer == *b"N" => Err(Error::failed(format!("{shown} offers no TLS"))
            .because("a password is never sent without")
            .hint("check PGHOST and PGPORT: Lakebase always offers TLS")),
        Ok(()) => Err(odd("it answers with something else")),
    }
}

/// A login by psql; nothing where there is none.
fn login(credential: &Credential, context: &Context, deadline: Deadline) -> Result<Option<String>> {
    let Some(psql) = find_program(context, "psql") else { return Ok(None) };
    let mut extra: Vec<(&str, String)> = variables(credential)?.into();
    let seconds = deadline.left().as_secs().max(2);
    extra.push(("PGCONNECT_TIMEOUT", seconds.to_string()));
    let seen = |name: &OsStr| !UNSET.iter().any(|unset| name == *unset);
    let words = ["-X", "-w", "-A", "-t", "-c", "select current_user"];
    let tool =
        Program { path: &psql, arguments: &words, sees: &seen, variables: &extra, lock: None };
    let said = run_tool(context, &tool, "psql", deadline).map_err(|e| match e.kind {
        ErrorKind::Unavailable => Error::unavailable("psql has not logged in yet").hint(SLEEPS),
        _ => e,
    })?;
    let (status, stdout, stderr) = (said.status, said.stdout, said.stderr.into_bytes());
    let text = |bytes: &[u8]| redact(&String::from_utf8_lossy(bytes));
    if status.success() {
        return Ok(Some(format!("as {}", text(&stdout))));
    }
    let (user, said) = (redact(credential.connection.user()?), text(&stderr));
    let (user_sql, said) = (user.replace('\'', "''"), said.as_str());
    let error = Error::denied(format!("psql cannot log in as {user}")).because(said);
    Err(if said.contains("authentication failed for user") || said.contains("role \"") {
        let kind = if user.contains('@') { "USER" } else { "SERVICE_PRINCIPAL" };
        // The same words for a missing role, another's token and an expired one.
        error
            .because("the credential is new, so this identity has no role of that name there")
            .hint(format!(
                "as the project's owner: SELECT databricks_create_role('{user_sql}', '{kind}')"
            ))
            .hint("--pg-user with the role, if it has another name")
    } else if said.contains("does not exist") {
        error.hint("--pg-database with a database that is there")
    } else if said.contains("certificate") {
        error.hint("PGSSLROOTCERT, with the authority that signed it; or PGSSLMODE=require")
    } else {
        error
    })
}

impl Link {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, words: &str| text.push_str(&format!("{name:<15}{words}\n"));
        match &self.outcome {
            Ok(Some(words)) => line(self.name, &format!("ok: {words}")),
            Ok(None) => line(self.name, &format!("not tried: {}", self.left_out)),
            Err(error) => {
                line(self.name, &format!("FAILED: {}", error.message));
                for (label, words) in error.lines().skip(1) {
                    line(&format!("  {label}"), words);
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let (state, words, because, hints) = match &self.outcome {
            Ok(Some(words)) => ("ok", words.as_str(), &[][..], &[][..]),
            Ok(None) => ("not tried", self.left_out, &[][..], &[][..]),
            Err(error) => ("failed", error.message.as_str(), &error.because[..], &error.hints[..]),
        };
        let name = self.name;
        json!({ "link": name, "state": state, "words": words, "because": because, "hints": hints })
    }
}
