//! What a failed login to Postgres means, and what fixes it. The SQLSTATE decides (PostgreSQL
//! documentation, "PostgreSQL Error Codes"); texts do only where several failures have the same one,
//! and for what Lakebase's proxy says, which has no codes of its own.

use std::io;

use crate::credential::encoding::is_uuid;
use crate::credential::redact::{redact, redact_secret};
use crate::error::Error;
use crate::lakebase::login_probe::{LoginFailure, PostgresLogin, ServerError};
use crate::lakebase::pooled;
use crate::lakebase::workspace_api::Me;
use crate::net::tls_failure::TlsFailure;

/// Where Lakebase listens.
const PORT: u16 = 5432;

/// The most groups that a message lists.
const MAX_GROUPS: usize = 10;

const WAKING_HINT: &str = "try again: a suspended database takes a few seconds to start";

// What Lakebase's proxy and PostgreSQL say, where the SQLSTATE alone does not tell.
const EXTERNAL_REFUSAL: &str = "External authorization failed";
const NO_TOKEN: &str = "SASL authentication failed";
const MAY_NOT_LOG_IN: &str = "is not permitted to log in";
const NO_HBA_ENTRY: &str = "pg_hba.conf";

/// Who tried to log in, and where.
pub struct PostgresAttempt<'a> {
    pub login: PostgresLogin<'a>,
    /// Who tries it; nothing if that is not known.
    pub identity: Option<&'a Me>,
    /// The subject of the credential, which says less than the identity.
    pub subject: Option<&'a str>,
    /// The settings that name the role, the port and the database; nothing where none does.
    pub role_origin: Option<String>,
    pub port_origin: Option<String>,
    pub database_origin: Option<String>,
    /// The endpoint's own host, if the login is to its pooled one.
    pub direct_host: Option<String>,
}

impl LoginFailure {
    /// Whether a failure may be temporary: the database starts, wakes, or learns of a new branch.
    pub fn is_temporary(&self) -> bool {
        match self {
            LoginFailure::NotResolved(_)
            | LoginFailure::NotConnected(_)
            | LoginFailure::NoAnswer(_) => true,
            // A pooled host that takes no tokens.
            LoginFailure::Refused(ServerError { message, .. }) if message.contains(NO_TOKEN) => {
                false
            }
            LoginFailure::Refused(ServerError { sqlstate, .. }) => {
                sqlstate.starts_with("08")
                    || ["57P01", "57P03", "53300"].contains(&sqlstate.as_str())
                    || self.is_about_credential()
                    || self.is_external()
            }
            _ => false,
        }
    }

    /// Whether the role or the credential is refused: the role may be made meanwhile, and a credential
    /// of another call may be too old.
    pub fn is_about_credential(&self) -> bool {
        let LoginFailure::Refused(ServerError { sqlstate, message }) = self else { return false };
        let is_final = message.contains(MAY_NOT_LOG_IN) || message.contains(NO_HBA_ENTRY);
        sqlstate == "28P01" || sqlstate == "28000" && !is_final
    }

    /// Whether the host may be another one now.
    pub fn host_may_have_changed(&self) -> bool {
        matches!(self, LoginFailure::NotResolved(_)) || self.is_external()
    }

    /// Whether Lakebase's proxy refuses, as it does for a branch that is too new for it.
    fn is_external(&self) -> bool {
        let LoginFailure::Refused(ServerError { message, .. }) = self else { return false };
        message.contains(EXTERNAL_REFUSAL)
    }
}

/// Whether a text says that the client has sent no server name, by which Lakebase finds the endpoint.
pub fn lacks_server_name(text: &str) -> bool {
    text.contains("SNI") || text.contains("Endpoint ID is not specified")
}

fn not_now(user: &str) -> Error {
    Error::unavailable(format!("Postgres does not accept logins as {user} at the moment"))
}

impl PostgresAttempt<'_> {
    /// Whether the role is that of a group, which its members log in as.
    pub fn is_as_group(&self) -> bool {
        self.identity.is_some_and(|me| me.groups.iter().any(|group| group == self.login.user))
    }

    pub fn error(&self, failure: LoginFailure) -> Error {
        // A server may repeat the password, which need not look like one.
        self.told(failure).redacted(self.login.password)
    }

    fn told(&self, failure: LoginFailure) -> Error {
        let server = format!("{}:{}", redact(self.login.host), self.login.port);
        match failure {
            LoginFailure::NotResolved(e) => {
                let host = redact(self.login.host);
                Error::unavailable(format!("cannot resolve the host name {host}")).because(e).hint(
                    "check PGHOST and DNS; with Private Link, DNS must be that of its network",
                )
            }
            LoginFailure::NotConnected(e) => {
                let error = Error::unavailable(format!("cannot connect to {server}")).because(e);
                let error = match self.other_port() {
                    Some(origin) => error
                        .because(format!("the port comes from {origin}, and Lakebase's is {PORT}")),
                    None => error,
                };
                error.hint("check the firewall and the workspace's IP access list")
            }
            LoginFailure::NoAnswer(e) if is_timeout(&e) => {
                Error::unavailable(format!("{server} has not answered in time"))
                    .hint("a longer --timeout: a suspended database needs time to start")
            }
            LoginFailure::NoAnswer(e) => {
                Error::unavailable(format!("{server} has closed the connection"))
                    .because(e)
                    .hint(WAKING_HINT)
                    .hint("check PGPORT, if that is not a Postgres server")
            }
            LoginFailure::NoTls => Error::failed(format!("{server} offers no TLS"))
                .because("a password is never sent without TLS")
                .hint("check PGHOST and PGPORT: Lakebase always offers TLS"),
            LoginFailure::NotPostgres(why) => {
                Error::failed(format!("{server} does not speak Postgres")).because(redact(&why))
            }
            LoginFailure::Method(name) => self.other_method(name),
            LoginFailure::Certificate(failure) => self.certificate(&failure),
            LoginFailure::Refused(error) => self.refused(&error),
        }
    }

    fn other_method(&self, name: &str) -> Error {
        let error = Error::denied(format!("the server asks for {name}, which takes no token"));
        match self.direct_host() {
            Some(direct) => self.no_token_at_pooled_host(error, &direct),
            None => {
                let user = self.user_literal();
                error.because("the role has a native Postgres password").hint(format!(
                    "/* as the project's owner */ SELECT databricks_create_role({user}, '{}'), for a \
                     role that logs in with tokens",
                    self.kind()
                ))
            }
        }
    }

    fn no_token_at_pooled_host(&self, error: Error, direct: &str) -> Error {
        error
            .because("this is a pooled host, and here those take native Postgres passwords only")
            .hint(format!("PGHOST={direct}  # the direct host, and no --pooled"))
    }

    fn direct_host(&self) -> Option<String> {
        let direct = self.direct_host.clone().or_else(|| pooled::direct_host(self.login.host))?;
        Some(redact(&direct))
    }

    fn certificate(&self, failure: &TlsFailure) -> Error {
        let error =
            Error::failed(format!("the server at {} is not verified", redact(self.login.host)))
                .because(redact(&failure.why))
                .because(format!("sslmode {}", self.login.tls.words()));
        let error = if let Some(hint) = failure.hint {
            error.hint(hint)
        } else if failure.is_other_name {
            error.hint("PGHOST with the name in the certificate, if this is the right server")
        } else {
            error.hint(
                "PGSSLROOTCERT=/path/to/ca.pem with the certificate of the authority that signs it",
            )
        };
        error.hint(
            "--sslmode require  # proves nothing about the server, which then gets the password",
        )
    }

    fn refused(&self, server: &ServerError) -> Error {
        let ServerError { sqlstate, message } = server;
        let message = redact(&redact_secret(message, self.login.password.expose()));
        let says = |text: &str| message.contains(text);
        let user = redact(self.login.user);
        let denied = || Error::denied(format!("Postgres refuses the login as {user}"));

        let error = if says(EXTERNAL_REFUSAL) {
            not_now(&user)
                .hint("try again within a minute, if the branch is new")
                .hint("check that the endpoint still exists, and the workspace's IP access list")
        } else if says(NO_TOKEN) {
            match self.direct_host() {
                Some(direct) => self.no_token_at_pooled_host(denied(), &direct),
                None => denied().hint("a host that takes tokens: --endpoint projects/PROJECT"),
            }
        } else if lacks_server_name(&message) {
            denied().hint("a libpq of version 14 or later: older ones send no server name (SNI)")
        } else {
            self.by_sqlstate(sqlstate, &message, denied(), not_now(&user))
        };
        error.because(format!("{}: {message}", redact(sqlstate)))
    }

    /// The error of a SQLSTATE (PostgreSQL documentation, "PostgreSQL Error Codes"): one of the two,
    /// with a hint.
    fn by_sqlstate(&self, sqlstate: &str, message: &str, denied: Error, passing: Error) -> Error {
        match sqlstate {
            "28P01" => self.no_such_login(denied),
            "28000" if message.contains(MAY_NOT_LOG_IN) => {
                denied.hint(format!("ALTER ROLE {} LOGIN", self.user_name()))
            }
            "28000" if message.contains(NO_HBA_ENTRY) => {
                denied.hint("check the IP access list, and PGDATABASE and PGUSER")
            }
            "28000" => self.no_such_login(denied),
            "3D000" => self
                .with_database_origin(denied)
                .hint("--pg-database with the name of an existing database"),
            "42501" => denied.hint(format!(
                "GRANT CONNECT ON DATABASE {} TO {}",
                name(self.login.database),
                self.user_name()
            )),
            "55000" => self
                .with_database_origin(denied)
                .hint("--pg-database with a database that takes connections"),
            "53300" => {
                passing.hint("close connections, or raise the limit of the role or the database")
            }
            "53200" | "53100" | "53000" => {
                passing.hint("try again, or choose a larger compute size")
            }
            "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => passing.hint(WAKING_HINT),
            "42704" | "22023" | "42601" => denied.hint("check PGOPTIONS"),
            state if state.starts_with("08") => passing.hint(WAKING_HINT),
            state if state.starts_with("XX") || state.starts_with("58") => {
                passing.hint(WAKING_HINT)
            }
            _ => denied,
        }
    }

    /// Postgres has one answer for a missing role, for another role's token and for an expired token.
    /// The token is new here, so it is one of the first two.
    fn no_such_login(&self, error: Error) -> Error {
        let user = self.user_literal();
        let create = |kind: &str| {
            format!(
                "/* as the project's owner */ CREATE EXTENSION IF NOT EXISTS databricks_auth; SELECT \
                 databricks_create_role({user}, '{kind}')"
            )
        };
        let role = redact(self.login.user);
        match self.identity.filter(|me| me.user_name != self.login.user) {
            Some(me) if self.is_as_group() => error
                .because(format!("{role} is a group of yours that has no Postgres role"))
                .hint(create("GROUP"))
                .hint(format!("--pg-user {}", redact(&me.user_name))),
            Some(me) => error
                .because(format!("you are {}, but {}", redact(&me.user_name), self.role_words()))
                .because(list_groups(&me.groups))
                .hint(format!("--pg-user {}", redact(&me.user_name)))
                .hint(format!("{} -- if you are in it through another group", create("GROUP"))),
            None if self.subject.is_some_and(|subject| subject != self.login.user) => {
                let subject = redact(self.subject.unwrap_or_default());
                error
                    .because(format!("you are {subject}, but {}", self.role_words()))
                    .hint(format!("--pg-user {subject}"))
                    .hint(format!("{} -- if you are in that group", create("GROUP")))
            }
            None => error
                .because(
                    "the credential is new, so this identity has no Postgres role of that name",
                )
                .hint(create(self.kind()))
                .hint("--pg-user ROLE  # if your role has another name"),
        }
    }

    /// The setting with a port that is not Lakebase's.
    fn other_port(&self) -> Option<&str> {
        self.port_origin.as_deref().filter(|_| self.login.port != PORT)
    }

    fn with_database_origin(&self, error: Error) -> Error {
        match &self.database_origin {
            Some(origin) => error.because(format!(
                "the database {} comes from {origin}",
                redact(self.login.database)
            )),
            None => error,
        }
    }

    fn role_words(&self) -> String {
        let role = redact(self.login.user);
        match &self.role_origin {
            Some(origin) => format!("the role from {origin} is {role}"),
            None => format!("the requested role is {role}"),
        }
    }

    /// The kind of identity in `databricks_create_role`.
    fn kind(&self) -> &'static str {
        if self.login.user.contains('@') {
            "USER"
        } else if is_uuid(self.login.user) {
            "SERVICE_PRINCIPAL"
        } else {
            "GROUP"
        }
    }

    fn user_literal(&self) -> String {
        format!("'{}'", redact(self.login.user).replace('\'', "''"))
    }

    fn user_name(&self) -> String {
        name(self.login.user)
    }
}

fn list_groups(groups: &[String]) -> String {
    let mut names: Vec<String> = groups.iter().take(MAX_GROUPS).map(|name| redact(name)).collect();
    if groups.len() > MAX_GROUPS {
        names.push(format!("{} more", groups.len() - MAX_GROUPS));
    }
    match &names[..] {
        [] => "the workspace lists no group that you are in".to_owned(),
        names => format!("the groups that you are in: {}", names.join(", ")),
    }
}

/// A name in an SQL statement.
fn name(text: &str) -> String {
    format!("\"{}\"", redact(text).replace('"', "\"\""))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
