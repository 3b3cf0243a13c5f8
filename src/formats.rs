//! The formats that a credential is printed in: one row and one pure function each.
//!
//! A row says what its format prints, so that `session.rs` requests nothing else. A value that a
//! format cannot carry is refused, not escaped cleverly: several readers of these notations
//! unescape wrongly. Tokens are safe in every format by their alphabet (`credential/token.rs`);
//! names and hosts are escaped where the readers of a notation are known to undo it, and a control
//! character is refused everywhere (`credential/connection.rs`).

use std::net::Ipv6Addr;

use serde_json::{Map, json};

use crate::credential::connection::{Connection, Credential, Purpose, check_name};
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::time::MINUTE;
use crate::quoting;
use crate::suggest::nearest;

pub struct Format {
    /// The value of `--format`.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Whether it prints the role.
    pub user: bool,
    /// Whether it prints host, port and database.
    pub host: bool,
    /// Whether it can print a workspace token.
    pub workspace: bool,
    /// Whether it is one line, which a variable can hold.
    pub is_one_line: bool,
    /// Whether its readers find the password by the role.
    pub is_found_by_role: bool,
    /// Whether its file may have lines of other users, which stay.
    pub shares_file: bool,
    /// Whether its `apiVersion` is the one that `KUBERNETES_EXEC_INFO` asks for.
    pub has_api_version: bool,
    /// Prints the credential; the text ends in a newline.
    pub render: fn(&Credential) -> Result<String>,
    /// What some readers of this format do not accept.
    warn: fn(&Credential) -> Option<&'static str>,
}

/// A format with everything that a client needs to connect to Postgres.
const fn connecting(
    name: &'static str,
    about: &'static str,
    render: fn(&Credential) -> Result<String>,
) -> Format {
    Format {
        name,
        about,
        user: true,
        host: true,
        workspace: false,
        is_one_line: true,
        is_found_by_role: false,
        shares_file: false,
        has_api_version: false,
        render,
        warn: |_| None,
    }
}

/// A format with the token and nothing about Postgres.
const fn bare(
    name: &'static str,
    about: &'static str,
    render: fn(&Credential) -> Result<String>,
) -> Format {
    Format { user: false, host: false, workspace: true, ..connecting(name, about, render) }
}

pub const RAW: Format = bare("raw", "the token alone", |c| Ok(format!("{}\n", token(c))));
pub const PGPASS: Format =
    Format { is_found_by_role: true, ..connecting("pgpass", "a line for ~/.pgpass", pgpass) };

/// All formats, in the order of `--help`. The first is the default.
#[rustfmt::skip]
pub static FORMATS: &[Format] = &[
    RAW,
    Format { workspace: true, ..connecting("json", "one flat object of strings", json) },
    Format { has_api_version: true, ..bare("exec-credential", "Kubernetes' ExecCredential", exec_credential) },
    PGPASS,
    Format { is_one_line: false, ..connecting("env", "exports for sh, bash and zsh", |c| lines(c, &POSIX)) },
    Format { is_one_line: false, ..connecting("fish", "the same for fish", |c| lines(c, &FISH)) },
    Format { is_one_line: false, ..connecting("powershell", "the same for PowerShell", |c| lines(c, &POWERSHELL)) },
    Format { is_one_line: false, ..connecting("dotenv", "for docker --env-file and systemd EnvironmentFile", dotenv) },
    connecting("url", "a postgresql:// URL", url),
    connecting("libpq-json", "libpq's keywords as an object, for Postico", libpq_json),
    Format { host: false, is_found_by_role: true, shares_file: true, warn: pgbouncer_warning, ..connecting("pgbouncer", "a line for PgBouncer's auth_file", pgbouncer) },
    bare("headers-json", "HTTP headers as a JSON object", headers_json),
    bare("header", "an HTTP Authorization header", |c| Ok(format!("Authorization: Bearer {}\n", token(c)))),
];

pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The format of this name; without a name, the default.
pub fn chosen(name: Option<&str>) -> Result<&'static Format> {
    let Some(name) = name else { return Ok(&FORMATS[0]) };
    find(name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let error = Error::usage(format!("unknown format: {}", redact(name)));
        match nearest(name, names.iter().copied()) {
            Some(near) => error.hint(format!("--format {near}")),
            None => error.hint(format!("one of {}", names.join(", "))),
        }
    })
}

impl Format {
    /// Refuses a workspace token where the format cannot print one.
    pub fn check(&self, purpose: Purpose) -> Result<()> {
        if purpose == Purpose::Database || self.workspace {
            return Ok(());
        }

        let able: Vec<&str> = for_workspaces().map(|format| format.name).collect();
        Err(Error::usage(format!("format {} prints database credentials only", self.name))
            .hint(format!("for a workspace token, one of {}", able.join(", "))))
    }

    /// A note for the user about readers that do not accept this credential.
    pub fn warning(&self, credential: &Credential) -> Option<&'static str> {
        (self.warn)(credential)
    }
}

/// The formats that can print a workspace token.
pub fn for_workspaces() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().filter(|format| format.workspace)
}

/// The environment of a libpq program on this machine: each variable with its value, or without one
/// if it must not be set. `exec` and the formats for shells set it.
pub fn variables(credential: &Credential) -> Result<Vec<(&'static str, Option<String>)>> {
    let tls = &credential.connection.tls;
    // With one of these two set, libpq connects to another server or uses another password.
    let mut variables = vec![("PGSERVICE", None), ("PGHOSTADDR", None)];
    let connection = connection_variables(credential, tls.mode)?;
    variables.extend(connection.map(|(name, value)| (name, Some(value))));

    if let Some(file) = &tls.root_file {
        check_name("PGSSLROOTCERT", file)?;
    }
    variables.push(("PGSSLROOTCERT", tls.root_file.clone()));
    let expires = credential.token.expires.map(|expires| expires.to_string());
    variables.push((EXPIRES_AT, expires));
    Ok(variables)
}

/// Says when `PGPASSWORD` expires, and with it that the password is ours.
pub const EXPIRES_AT: &str = "LAKEBASE_TOKEN_EXPIRES_AT";

/// What a libpq program needs on any machine.
fn connection_variables(
    credential: &Credential,
    sslmode: &str,
) -> Result<[(&'static str, String); 6]> {
    let connection = &credential.connection;
    Ok([
        ("PGHOST", connection.host()?.to_owned()),
        ("PGPORT", connection.port.to_string()),
        ("PGDATABASE", connection.database()?.to_owned()),
        ("PGUSER", connection.user()?.to_owned()),
        ("PGPASSWORD", token(credential).to_owned()),
        ("PGSSLMODE", sslmode.to_owned()),
    ])
}

fn token(credential: &Credential) -> &str {
    credential.token.secret.expose()
}

/// One object whose values are all strings: Terraform's `external` data source takes no others.
fn json(credential: &Credential) -> Result<String> {
    let mut object = Map::new();
    let mut put = |name: &str, text: String| object.insert(name.to_owned(), text.into());
    put("token", token(credential).to_owned());
    if let Some(expires) = credential.token.expires {
        put("expires_at", expires.to_string());
    }

    match credential.purpose {
        Purpose::Database => {
            let connection = &credential.connection;
            put("user", connection.user()?.to_owned());
            put("host", connection.host()?.to_owned());
            put("port", connection.port.to_string());
            put("database", connection.database()?.to_owned());
        }
        Purpose::Workspace => {
            put("host", credential.workspace.clone());
        }
    }

    Ok(format!("{}\n", serde_json::Value::Object(object)))
}

/// The `apiVersion`s that [`exec_credential`] can print. The first is the default.
pub const API_VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// <https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>
fn exec_credential(credential: &Credential) -> Result<String> {
    let mut status = json!({ "token": token(credential) });
    if let Some(expires) = credential.token.expires {
        // client-go uses a token until the moment it expires, so we report an earlier one.
        let early = expires.plus(-MINUTE).max(credential.token.issued);
        status["expirationTimestamp"] = early.to_string().into();
    }

    let object = json!({
        "apiVersion": credential.api_version,
        "kind": "ExecCredential",
        "status": status,
    });
    Ok(format!("{object}\n"))
}

/// The four fields of a password file's line that libpq compares with a connection
/// (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgpassKey<'a> {
    pub host: &'a str,
    pub port: u16,
    /// [`ANY`] for every database.
    pub database: &'a str,
    pub user: &'a str,
}

impl<'a> PgpassKey<'a> {
    pub fn of(connection: &'a Connection) -> Result<PgpassKey<'a>> {
        Ok(PgpassKey {
            host: connection.host()?,
            port: connection.port,
            database: connection.database()?,
            user: connection.user()?,
        })
    }

    /// The line for this key, without a newline.
    pub fn line(&self, password: &str) -> String {
        let database = if self.database == ANY { ANY.to_owned() } else { escaped(self.database) };
        let (host, port, user) = (escaped(self.host), self.port, escaped(self.user));
        format!("{host}:{port}:{database}:{user}:{password}")
    }
}

/// A field that matches every value.
pub const ANY: &str = "*";

/// A field as it is written in the file. A name that is a literal `*` is escaped, or it would match
/// every name.
fn escaped(text: &str) -> String {
    if text == ANY {
        return "\\*".to_owned();
    }
    text.replace('\\', "\\\\").replace(':', "\\:")
}

fn pgpass(credential: &Credential) -> Result<String> {
    Ok(PgpassKey::of(&credential.connection)?.line(token(credential)) + "\n")
}

/// How a shell sets and unsets a variable; each line ends in a newline.
struct Shell {
    set: fn(&str, &str) -> String,
    unset: fn(&str) -> String,
}

/// POSIX shells. Each line ends in `;`, so that an unquoted `eval $(…)` works as well.
const POSIX: Shell = Shell {
    set: |name, value| format!("export {name}={};\n", quoting::sh(value)),
    unset: |name| format!("unset {name};\n"),
};

/// In fish, erasing a variable may reveal another one of the same name in an outer scope.
const FISH: Shell = Shell {
    set: |name, value| format!("set -gx {name} {};\n", quoting::fish(value)),
    unset: |name| format!("while set -q {name}; set -e {name}; end;\n"),
};

const POWERSHELL: Shell = Shell {
    set: |name, value| format!("$env:{name} = {}\n", quoting::powershell(value)),
    unset: |name| format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue\n"),
};

fn lines(credential: &Credential, shell: &Shell) -> Result<String> {
    let variables = variables(credential)?;
    let line = |(name, value): &(&str, Option<String>)| match value {
        Some(value) => (shell.set)(name, value),
        None => (shell.unset)(name),
    };
    Ok(variables.iter().map(line).collect())
}

/// `NAME=value` without quotes: Docker takes the rest of the line as it is, systemd would unquote it,
/// and a shell that sources the file would run a part of it, so a value that they do not read alike is
/// refused.
fn dotenv(credential: &Credential) -> Result<String> {
    let mut text = String::new();
    let sslmode = credential.connection.tls.mode_elsewhere;
    for (name, value) in connection_variables(credential, sslmode)? {
        if let Some(bad) = first_shell_special(&value) {
            return Err(Error::usage(format!(
                "{name} has {bad:?}, which Docker, systemd and sh read differently"
            ))
            .hint("--format env, or --format json"));
        }
        text.push_str(&format!("{name}={value}\n"));
    }
    Ok(text)
}

/// The first character that a shell would not take as it is. A `~` is special only where a path may
/// begin.
fn first_shell_special(value: &str) -> Option<char> {
    let mut before = ':';
    value.chars().find(|&c| {
        let is_plain = c.is_alphanumeric() || "_-.,:/@%+=".contains(c) || c == '~' && before != ':';
        before = c;
        !is_plain
    })
}

fn url(credential: &Credential) -> Result<String> {
    let connection = &credential.connection;
    let host = connection.host()?;
    // RFC 3986 §3.2.2: an IPv6 address is written in brackets.
    let is_ipv6 = host.parse::<Ipv6Addr>().is_ok();
    let host = if is_ipv6 { format!("[{host}]") } else { percent_encode(host) };

    Ok(format!(
        "postgresql://{}:{}@{host}:{}/{}?sslmode={}\n",
        percent_encode(connection.user()?),
        percent_encode(token(credential)),
        connection.port,
        percent_encode(connection.database()?),
        connection.tls.mode_elsewhere
    ))
}

fn libpq_json(credential: &Credential) -> Result<String> {
    let connection = &credential.connection;
    let object = json!({
        "host": connection.host()?,
        "port": connection.port.to_string(),
        "dbname": connection.database()?,
        "user": connection.user()?,
        "password": token(credential),
        "sslmode": connection.tls.mode_elsewhere,
    });
    Ok(format!("{object}\n"))
}

fn headers_json(credential: &Credential) -> Result<String> {
    let object = json!({ "Authorization": format!("Bearer {}", token(credential)) });
    Ok(format!("{object}\n"))
}

/// `"user" "password"`, with quotes doubled (<https://www.pgbouncer.org/config.html>).
fn pgbouncer(credential: &Credential) -> Result<String> {
    Ok(format!("{} \"{}\"\n", auth_file_user(&credential.connection)?, token(credential)))
}

/// The role as PgBouncer's auth_file has it.
pub fn auth_file_user(connection: &Connection) -> Result<String> {
    Ok(format!("\"{}\"", connection.user()?.replace('"', "\"\"")))
}

/// PgBouncer's bound on a password from version 1.17 to 1.25.2 (its `include/bouncer.h`), measured with
/// 1.18 (`tests/it/consumers/pgbouncer.rs`).
pub const PGBOUNCER_PASSWORD_BYTES: usize = 2048;

fn pgbouncer_warning(credential: &Credential) -> Option<&'static str> {
    (token(credential).len() >= PGBOUNCER_PASSWORD_BYTES).then_some(
        "this password has 2,048 bytes or more, which PgBouncer up to 1.25 does not accept",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::connection::{Connection, Tls};
    use crate::credential::secret::Secret;
    use crate::credential::token::Token;
    use crate::platform::time::Timestamp;

    fn credential(user: &str, database: &str) -> Credential {
        let issued = Timestamp(1_800_000_000_000);
        Credential {
            purpose: Purpose::Database,
            token: Token {
                secret: Secret::new("eyJ.a-b_c.d"),
                issued,
                expires: Some(issued.plus(3_600_000)),
                lifetime: 3_600_000,
                subject: None,
            },
            workspace: "https://ws.example".to_owned(),
            connection: Connection {
                user: Some(user.to_owned()),
                host: Some("ep-x.example".to_owned()),
                port: 5432,
                database: Some(database.to_owned()),
                tls: Tls::encrypted(),
            },
            api_version: "client.authentication.k8s.io/v1",
        }
    }

    #[test]
    fn names_are_unique_and_descriptions_are_short() {
        for (position, format) in FORMATS.iter().enumerate() {
            assert!(FORMATS[position + 1..].iter().all(|other| other.name != format.name));
            assert!(format.about.len() < 60 && !format.about.ends_with('.'));
        }
    }

    #[test]
    fn each_format_asks_only_for_what_it_prints() {
        let credential = credential("me", "db");
        for format in FORMATS {
            let text = (format.render)(&credential).unwrap();
            let has_role = ["me\"", "me'", "me:", "=me"].iter().any(|role| text.contains(role));
            assert_eq!(format.user, has_role, "{}", format.name);
            assert_eq!(format.host, text.contains("ep-x.example"), "{}", format.name);
            assert_eq!(format.is_one_line, text.lines().count() == 1, "{}", format.name);
        }
        // The lines of a file by which clients find a role's password.
        let by_role = FORMATS.iter().filter(|format| format.is_found_by_role);
        assert_eq!(by_role.map(|format| format.name).collect::<Vec<_>>(), ["pgpass", "pgbouncer"]);
        let shared = FORMATS.iter().filter(|format| format.shares_file);
        assert_eq!(shared.map(|format| format.name).collect::<Vec<_>>(), ["pgbouncer"]);
        let versioned = FORMATS.iter().filter(|format| format.has_api_version);
        assert_eq!(versioned.map(|format| format.name).collect::<Vec<_>>(), ["exec-credential"]);
    }

    #[test]
    fn every_format_that_prints_the_role_refuses_control_characters() {
        for format in FORMATS {
            for bad in ["a\nb", "a\rb", "a\0b", "a\u{85}b"] {
                let printed = (format.render)(&credential(bad, "db"));
                assert_eq!(printed.is_err(), format.user, "{}", format.name);
            }
        }
        assert!(dotenv(&credential("it's", "db")).is_err());
        assert!(dotenv(&credential("me ", "db")).is_err());
    }

    #[test]
    fn a_tilde_is_special_only_where_a_path_may_begin() {
        for (name, special) in [("a~b", None), ("a~", None), ("~a", Some('~')), ("a:~b", Some('~'))]
        {
            assert_eq!(first_shell_special(name), special, "{name}");
        }
    }

    #[test]
    fn a_password_that_pgbouncer_would_refuse_is_warned_of() {
        let mut credential = credential("me", "db");
        for (bytes, is_warned_of) in
            [(PGBOUNCER_PASSWORD_BYTES - 1, false), (PGBOUNCER_PASSWORD_BYTES, true)]
        {
            credential.token.secret = Secret::new("x".repeat(bytes));
            for format in FORMATS {
                let is_warned_of = is_warned_of && format.name == "pgbouncer";
                assert_eq!(format.warning(&credential).is_some(), is_warned_of, "{}", format.name);
            }
        }
    }

    #[test]
    fn awkward_names_are_escaped() {
        let awkward = credential(r#"a:b\c'd"e@f"#, "my db");
        let line = pgpass(&awkward).unwrap();
        assert_eq!(line, "ep-x.example:5432:my db:a\\:b\\\\c'd\"e@f:eyJ.a-b_c.d\n");
        assert!(lines(&awkward, &POSIX).unwrap().contains(r#"export PGUSER='a:b\c'\''d"e@f';"#));
        assert!(lines(&awkward, &FISH).unwrap().contains(r#"set -gx PGUSER 'a:b\\c\'d"e@f';"#));
        assert!(lines(&awkward, &POWERSHELL).unwrap().contains(r#"$env:PGUSER = 'a:b\c''d"e@f'"#));
        assert!(
            url(&awkward).unwrap().starts_with("postgresql://a%3Ab%5Cc%27d%22e%40f:eyJ.a-b_c.d@")
        );
        assert_eq!(pgbouncer(&awkward).unwrap(), "\"a:b\\c'd\"\"e@f\" \"eyJ.a-b_c.d\"\n");
    }
}
