//! How a credential is printed: one pure function a format, one row each.
//!
//! A format asks for what it prints and nothing else. What it cannot carry is refused, not
//! escaped cleverly: several readers of these notations unescape wrongly. Tokens are safe in all
//! of them by their alphabet (`token.rs`); names and hosts are escaped where the notation's own
//! reader is known to undo it, and a control character is refused everywhere.

use std::net::Ipv6Addr;

use serde_json::{Map, json};

use crate::credential::connection::{Connection, Credential, Purpose};
use crate::credential::encoding::percent_encode;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::time::{MINUTE, Timestamp};
use crate::quoting;
use crate::suggest::nearest;

/// A way to print a credential.
pub struct Format {
    /// Its name for `--format`.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Whether it prints the role.
    pub user: bool,
    /// Whether it prints the host.
    pub host: bool,
    /// Whether it can print a workspace token.
    pub workspace: bool,
    /// Prints it; the text ends in a newline.
    pub render: fn(&Credential) -> Result<String>,
}

const fn connecting(
    name: &'static str,
    about: &'static str,
    render: fn(&Credential) -> Result<String>,
) -> Format {
    Format { name, about, user: true, host: true, workspace: false, render }
}

const fn bare(
    name: &'static str,
    about: &'static str,
    render: fn(&Credential) -> Result<String>,
) -> Format {
    Format { name, about, user: false, host: false, workspace: true, render }
}

/// All formats, in the order of `--help`. The first is the default.
#[rustfmt::skip]
pub static FORMATS: &[Format] = &[
    bare("raw", "the token alone", |credential| Ok(format!("{}\n", token(credential)))),
    Format { workspace: true, ..connecting("json", "one flat object of strings", json) },
    bare("exec-credential", "Kubernetes' ExecCredential", exec_credential),
    connecting("pgpass", "a line for ~/.pgpass", pgpass),
    connecting("env", "exports for sh, bash and zsh", |c| lines(c, &POSIX)),
    connecting("fish", "the same for fish", |c| lines(c, &FISH)),
    connecting("powershell", "the same for PowerShell", |c| lines(c, &POWERSHELL)),
    connecting("dotenv", "for docker --env-file and systemd EnvironmentFile", dotenv),
    connecting("url", "a postgresql:// URL", url),
    connecting("libpq-json", "libpq's keywords as an object, for Postico", libpq_json),
    Format { host: false, ..connecting("pgbouncer", "a line for PgBouncer's auth_file", pgbouncer) },
    bare("header", "an HTTP Authorization header", |c| Ok(format!("Authorization: Bearer {}\n", token(c)))),
];

/// The format of this name.
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The format that was asked for, or the default.
pub fn chosen(name: Option<&str>) -> Result<&'static Format> {
    let Some(name) = name else { return Ok(&FORMATS[0]) };
    find(name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        let error = Error::usage(format!("there is no format {}", redact(name)));
        match nearest(name, names.iter().copied()) {
            Some(near) => error.hint(format!("--format {near}")),
            None => error.hint(format!("one of {}", names.join(", "))),
        }
    })
}

impl Format {
    /// Refuses a token that it is not made for.
    pub fn check(&self, purpose: Purpose) -> Result<()> {
        if purpose == Purpose::Database || self.workspace {
            return Ok(());
        }
        let able: Vec<&str> = for_workspaces().map(|format| format.name).collect();
        Err(Error::usage(format!("the format {} is for databases", self.name))
            .hint(format!("with --for workspace: {}", able.join(", "))))
    }

    /// What whoever reads it may not put up with.
    pub fn warning(&self, credential: &Credential) -> Option<&'static str> {
        /// Measured with PgBouncer 1.18 (`tests/it/consumers.rs`); its config.md has 65,531 since.
        const TOO_LONG: usize = 2048;
        let long = self.name == "pgbouncer" && token(credential).len() >= TOO_LONG;
        long.then_some(
            "PgBouncer 1.18 and older take no password of 2,048 bytes and more, as this one",
        )
    }
}

/// Those that can print a workspace token.
pub fn for_workspaces() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().filter(|format| format.workspace)
}

/// The variables that a libpq program needs, for formats that set them and for `exec`.
pub fn variables(credential: &Credential) -> Result<[(&'static str, String); 6]> {
    let connection = &credential.connection;
    Ok([
        ("PGHOST", connection.host()?.to_owned()),
        ("PGPORT", connection.port.to_string()),
        ("PGDATABASE", connection.database()?.to_owned()),
        ("PGUSER", connection.user()?.to_owned()),
        ("PGPASSWORD", token(credential).to_owned()),
        ("PGSSLMODE", connection.sslmode.to_owned()),
    ])
}

/// With these libpq sends the password elsewhere, or ignores ours.
pub const UNSET: [&str; 2] = ["PGSERVICE", "PGHOSTADDR"];

fn token(credential: &Credential) -> &str {
    credential.token.secret.expose()
}

/// Terraform's `external` data source takes an object only if all its values are strings.
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

/// The versions of [`exec_credential`]'s object; the first one where nobody asks.
pub const API_VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// <https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>
fn exec_credential(credential: &Credential) -> Result<String> {
    /// client-go uses a token up to the very expiry, so it is told an earlier one.
    const EARLY: i64 = MINUTE;
    let mut status = json!({ "token": token(credential) });
    if let Some(expires) = credential.token.expires {
        let early = Timestamp(expires.plus(-EARLY).0.max(credential.token.issued.0));
        status["expirationTimestamp"] = early.to_string().into();
    }
    let object = json!({
        "apiVersion": credential.api_version,
        "kind": "ExecCredential",
        "status": status,
    });
    Ok(format!("{object}\n"))
}

/// The four fields by which a line is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgpassKey<'a> {
    /// The host that is connected to.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The database; `*` for every one.
    pub database: &'a str,
    /// The role.
    pub user: &'a str,
}

impl<'a> PgpassKey<'a> {
    /// The line that libpq looks for when it opens this connection.
    pub fn of(connection: &'a Connection) -> Result<PgpassKey<'a>> {
        Ok(PgpassKey {
            host: connection.host()?,
            port: connection.port,
            database: connection.database()?,
            user: connection.user()?,
        })
    }

    /// The line for this key, without its end.
    pub fn line(&self, password: &str) -> String {
        let database = if self.database == ANY { ANY.to_owned() } else { escaped(self.database) };
        let (host, port, user) = (escaped(self.host), self.port, escaped(self.user));
        format!("{host}:{port}:{database}:{user}:{password}")
    }
}

/// A field for anything.
pub const ANY: &str = "*";

/// A field's text in the file. A `*` that is meant as such is escaped, or it would stand for
/// anything.
fn escaped(text: &str) -> String {
    if text == ANY {
        return "\\*".to_owned();
    }
    text.replace('\\', "\\\\").replace(':', "\\:")
}

/// One line of the password file.
fn pgpass(credential: &Credential) -> Result<String> {
    Ok(PgpassKey::of(&credential.connection)?.line(token(credential)) + "\n")
}

/// How one shell sets and unsets a variable; each line ends in a newline.
struct Shell {
    set: fn(&str, &str) -> String,
    unset: fn(&str) -> String,
}

/// POSIX shells. Each line ends in `;`, so that an unquoted `eval $(…)` works as well.
const POSIX: Shell = Shell {
    set: |name, value| format!("export {name}={};\n", quoting::sh(value)),
    unset: |name| format!("unset {name};\n"),
};

/// In fish, a variable that is erased may hide another one of that name.
const FISH: Shell = Shell {
    set: |name, value| format!("set -gx {name} {};\n", quoting::fish(value)),
    unset: |name| format!("while set -q {name}; set -e {name}; end;\n"),
};

const POWERSHELL: Shell = Shell {
    set: |name, value| format!("$env:{name} = {}\n", quoting::powershell(value)),
    unset: |name| format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue\n"),
};

fn lines(credential: &Credential, shell: &Shell) -> Result<String> {
    let unset = UNSET.into_iter().map(shell.unset);
    let variables = variables(credential)?;
    Ok(unset.chain(variables.iter().map(|(name, value)| (shell.set)(name, value))).collect())
}

/// `NAME=value` without quotes: Docker takes the rest of the line as it stands, systemd would
/// unquote it, so what the two read differently is refused.
fn dotenv(credential: &Credential) -> Result<String> {
    let mut text = String::new();
    for (name, value) in variables(credential)? {
        if value.contains(['\\', '\'', '"']) || value.trim() != value {
            return Err(Error::usage(format!(
                "{name} holds quotes, backslashes or outer blanks, which dotenv files cannot carry"
            ))
            .hint("--format env, or --format json"));
        }
        text.push_str(&format!("{name}={value}\n"));
    }
    Ok(text)
}

fn url(credential: &Credential) -> Result<String> {
    let connection = &credential.connection;
    let host = connection.host()?;
    // An IPv6 address stands in brackets (RFC 3986 §3.2.2).
    let is_ipv6 = host.parse::<Ipv6Addr>().is_ok();
    let host = if is_ipv6 { format!("[{host}]") } else { percent_encode(host) };
    Ok(format!(
        "postgresql://{}:{}@{host}:{}/{}?sslmode={}\n",
        percent_encode(connection.user()?),
        percent_encode(token(credential)),
        connection.port,
        percent_encode(connection.database()?),
        connection.sslmode
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
        "sslmode": connection.sslmode,
    });
    Ok(format!("{object}\n"))
}

/// `"user" "password"`, a quote doubled (<https://www.pgbouncer.org/config.html>).
fn pgbouncer(credential: &Credential) -> Result<String> {
    let user = credential.connection.user()?.replace('"', "\"\"");
    Ok(format!("\"{user}\" \"{}\"\n", token(credential)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::connection::Connection;
    use crate::credential::secret::Secret;
    use crate::credential::token::Token;

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
                sslmode: "require",
            },
            api_version: "client.authentication.k8s.io/v1",
        }
    }

    #[test]
    fn names_are_unique_and_described() {
        for (position, format) in FORMATS.iter().enumerate() {
            assert!(FORMATS[position + 1..].iter().all(|other| other.name != format.name));
            assert!(format.about.len() < 60 && !format.about.ends_with('.'));
        }
    }

    #[test]
    fn control_characters_are_refused_by_whoever_would_print_them() {
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
