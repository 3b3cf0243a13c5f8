//! `databricks-cli`: a person's login, kept and renewed by the Databricks CLI.
//!
//! `databricks auth token` prints the token; the CLI's own token cache is never read (since version
//! 1.0 it is the system's keyring). The CLI runs under a lock (`auth/cli_lock.rs`); without stdin, so
//! that it cannot prompt; and without the `DATABRICKS_*` variables that would make it print another
//! profile's token. A plain run usually prints a token
//! with minutes left, so `--force-refresh` is used for one retry only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::auth::cli_lock;
use crate::auth::no_identity;
use crate::auth::provider::{Provider, ProviderCall, ROW, RUN_BY_US};
use crate::config::settings::Settings;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::credential::token::{MIN_LIFE_MS, Token};
use crate::error::{Error, Result};
use crate::net::refusal::require;
use crate::platform::context::{Context, HOME};
use crate::platform::files::{canonical, has_separator, is_executable};
use crate::platform::time::{Timestamp, show_duration};

pub const PROVIDER: Provider = Provider {
    name: "databricks-cli",
    needs: "host or profile, and the Databricks CLI on PATH",
    configured: |settings, _| settings.get(Id::Host).is_some(),
    identity,
    missing: |settings, context| {
        program(settings, context).is_none().then(|| absent(settings, context))
    },
    login: true,
    login_can_change: true,
    route_variables: &["PATH"],
    check: check_host,
    blocking_run: cli_lock::blocking_run,
    login_files: |_, context| token_cache(context).into_iter().collect(),
    fetch: Some(fetch),
    ..ROW
};

const MIN_VERSION_HINT: &str =
    "install the Databricks CLI 0.296 or later, or set DATABRICKS_CLI_PATH to one";

fn fetch(call: &ProviderCall<'_>) -> Result<Token> {
    if !call.refused
        && let CliRun::Usable(token) = run(call, false)?
    {
        return Ok(token);
    }
    match run(call, true)? {
        CliRun::Usable(token) => Ok(token),
        CliRun::Unusable(error) => Err(error),
    }
}

/// Where the CLI keeps its logins, if it does not use the system's keyring.
fn token_cache(context: &Context) -> Option<PathBuf> {
    Some(context.home()?.join(".databricks/token-cache.json"))
}

/// All that decides whose token the CLI prints, except its own files.
fn identity(settings: &Settings, context: &Context) -> String {
    let (flag, value) = selector(settings);
    let var = |name| context.var(name).map(|value| value.to_string_lossy()).unwrap_or_default();
    let path = settings.text(Id::DatabricksCliPath).unwrap_or_default();
    [flag, &value, path, &var(HOME), &PASSED_VARIABLES.map(var).join("\0")].join("\0")
}

/// The path of the CLI, from the settings or PATH. It is never this program, which the SDKs may call in
/// its place (`commands/auth.rs`).
fn program(settings: &Settings, context: &Context) -> Option<PathBuf> {
    let on_path = |name: &str| context.find_program(name).filter(|path| !is_us(path, context));
    match settings.text(Id::DatabricksCliPath) {
        Some(name) => match located(name, context) {
            Some(path) if is_us(&path, context) => on_path("databricks"),
            found => found,
        },
        // Under WSL, the CLI may be that of Windows.
        None => on_path("databricks").or_else(|| on_path("databricks.exe")),
    }
}

/// The file that `DATABRICKS_CLI_PATH` names: a path, or a name on PATH.
fn located(name: &str, context: &Context) -> Option<PathBuf> {
    if !has_separator(OsStr::new(name)) {
        return context.find_program(name);
    }
    Some(PathBuf::from(name)).filter(|path| is_executable(path))
}

fn is_us(path: &Path, context: &Context) -> bool {
    let own = (context.own_executable)().and_then(|own| canonical(&own)).ok();
    own.is_some() && own == canonical(path).ok()
}

/// Whether an SDK would take this program for the Databricks CLI.
pub fn is_set_to_us(context: &Context) -> bool {
    let name = context.var(CLI_PATH).and_then(OsStr::to_str);
    name.and_then(|name| located(name, context)).is_some_and(|path| is_us(&path, context))
}

const CLI_PATH: &str = "DATABRICKS_CLI_PATH";

/// Refuses to answer a Databricks CLI that lakebase-token itself runs: a script that calls it again.
pub fn refuse_circle(context: &Context) -> Result<()> {
    match context.var(RUN_BY_US) {
        Some(_) => Err(circle()),
        None => Ok(()),
    }
}

fn circle() -> Error {
    Error::usage(CIRCLE)
        .because("the `databricks` that lakebase-token runs is a program that runs lakebase-token")
        .hint("lakebase-token login  # a login that needs no Databricks CLI")
        .hint("DATABRICKS_CLI_PATH=/path/to/databricks, with the Databricks CLI itself")
}

const CIRCLE: &str = "lakebase-token and the Databricks CLI call each other";

/// The flag that selects the login, and its value: the profile that was read, else the host.
fn selector(settings: &Settings) -> (&'static str, String) {
    match &settings.profile {
        Some((name, Some(_))) => ("--profile", name.clone()),
        _ => ("--host", settings.text(Id::Host).unwrap_or_default().to_owned()),
    }
}

/// With `--profile`, the CLI prints a token for the profile's host, which must be the workspace.
fn check_host(settings: &Settings) -> Result<()> {
    let Some((name, own)) = settings.profile_of_another_host() else { return Ok(()) };
    let host = settings.text(Id::Host).unwrap_or_default();
    let (name, own) = (redact(name), redact(own));
    Err(Error::usage(format!("profile {name} is for {own}, but the workspace is {host}"))
        .because(format!("host comes from {}", settings.origin(Id::Host)))
        .hint(format!("{}, or choose another profile", settings.removal(Id::Host))))
}

/// What a run of the CLI printed.
enum CliRun {
    Usable(Token),
    /// A token that is malformed or expires too soon: a run with `--force-refresh` may print another.
    Unusable(Error),
}

/// Runs the CLI once. No other run would help against an error.
fn run(call: &ProviderCall<'_>, force: bool) -> Result<CliRun> {
    let program =
        program(call.settings, call.context).ok_or_else(|| absent(call.settings, call.context))?;
    let (flag, value) = selector(call.settings);
    let mut arguments = vec!["auth", "token", flag, &value];
    if force {
        arguments.push("--force-refresh");
    }

    let shown = format!("databricks auth token {flag} {value}");
    let output = cli_lock::run(call, &program, &arguments, &PASSED_VARIABLES, &shown)?;
    if !output.status.success() {
        let program = redact(&program.to_string_lossy());
        return Err(explain(&program, &shown, &output.stderr, flag, &value));
    }

    let body: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        // The output is not quoted, since it may be a token.
        Error::failed(format!("`{shown}` printed something that is not JSON"))
            .hint(MIN_VERSION_HINT)
    })?;
    let text = require(&body, "access_token", "the Databricks CLI's answer")?;
    let stated = body["expiry"].as_str().and_then(Timestamp::parse);
    let now = call.context.now();
    let token = Token::received("the Databricks CLI's token", text, stated, now);
    Ok(match token.and_then(|token| check_life(token, now, &shown)) {
        Ok(token) => CliRun::Usable(token),
        Err(error) => CliRun::Unusable(error),
    })
}

fn check_life(token: Token, now: Timestamp, shown: &str) -> Result<Token> {
    let left = token.left(now);
    if left > MIN_LIFE_MS {
        return Ok(token);
    }
    let left = show_duration(Duration::from_millis(left.max(0) as u64));
    Err(Error::failed(format!("`{shown}` printed a token that expires in {left}")))
}

/// The error if there is no CLI. It names the CLI only if the user has named that auth type.
fn absent(settings: &Settings, context: &Context) -> Error {
    if settings.get(Id::AuthType).is_none() {
        return no_identity::error(settings, context);
    }
    let origin = settings.origin(Id::AuthType);
    Error::usage(format!("auth type databricks-cli from {origin} needs the Databricks CLI"))
        .because("there is no `databricks` on PATH or at DATABRICKS_CLI_PATH")
        .hint("DATABRICKS_CLI_PATH=/path/to/databricks")
        .hint("lakebase-token login, and then --auth-type external-browser")
}

/// The variables of Databricks that the CLI sees: those that say where its files, its tokens and its
/// login page are.
const PASSED_VARIABLES: [&str; 3] =
    ["DATABRICKS_CONFIG_FILE", "DATABRICKS_AUTH_STORAGE", "DATABRICKS_DISCOVERY_HOST"];

// Parts of what the CLI prints on stderr, by what they mean (`cmd/auth/token.go` and the acceptance
// tests of databricks/cli).
const TOO_OLD: [&str; 4] = ["No such command", "no such option", "unknown command", "unknown flag"];
const NO_PROFILE: [&str; 3] = ["Use --profile", "no profile specified", "no profiles configured"];
const LOGIN_NEEDED: [&str; 4] = [
    "OAuth is not configured for this host",
    "no cached credentials",
    "refresh token is invalid",
    "no refresh token",
];
const NO_KEYRING: [&str; 4] =
    ["OS keyring unreachable", "cache: keyring", "org.freedesktop", "D-Bus"];
const DAMAGED_LOGINS: [&str; 2] = ["open file token cache: load", "cache: load: parse"];
const WRONG_STORAGE: [&str; 1] = ["unknown storage mode"];
const WRONG_CONFIG: [&str; 1] = ["cannot parse config file"];
const NOT_A_PERSON: [&str; 2] = ["only supports U2M", "M2M"];
const UNREACHABLE: [&str; 12] = [
    cli_lock::STOPPED,
    // An answer of 500 and above, as in "failed to get OAuth endpoints: http 503 …".
    "http 5",
    // What the CLI prints if the answer was no error of OAuth.
    "token refresh:  (error code: )",
    "http 429",
    "EOF",
    "dial tcp",
    "no such host",
    "connection refused",
    "i/o timeout",
    "TLS handshake",
    "deadline exceeded",
    "connection reset",
];

/// The error for a failure of the CLI. All have the same exit code, so stderr decides its kind.
fn explain(program: &str, shown: &str, stderr: &str, flag: &str, value: &str) -> Error {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    let login = format!("databricks auth login {flag} {value}");
    if says(&[CIRCLE]) {
        return circle();
    }
    let error = if says(&TOO_OLD) {
        Error::usage(format!("{program} is too old, or is not the Databricks CLI"))
            .hint(MIN_VERSION_HINT)
    } else if says(&NO_PROFILE) {
        Error::usage("the Databricks CLI cannot tell which profile to use")
            .hint("--profile NAME, or DATABRICKS_CONFIG_PROFILE")
    } else if says(&NO_KEYRING) {
        Error::login("the Databricks CLI cannot open the keyring that has its logins")
            .hint(format!("lakebase-token login {flag} {value}  # a login without a keyring"))
            .hint(format!("DATABRICKS_AUTH_STORAGE=plaintext {login}  # keep that variable set"))
    } else if says(&DAMAGED_LOGINS) {
        Error::failed("the file with the Databricks CLI's logins is damaged").hint(format!(
            "mv ~/.databricks/token-cache.json ~/.databricks/token-cache.damaged && {login}"
        ))
    } else if says(&WRONG_STORAGE) {
        Error::usage("DATABRICKS_AUTH_STORAGE is not a storage of the Databricks CLI")
            .hint("DATABRICKS_AUTH_STORAGE=plaintext or secure, or unset it")
    } else if says(&WRONG_CONFIG) {
        Error::usage("the Databricks CLI cannot read its configuration file")
            .hint("correct ~/.databrickscfg, or the file that DATABRICKS_CONFIG_FILE names")
    } else if says(&UNREACHABLE) {
        Error::unavailable("the Databricks CLI cannot reach the workspace")
    } else if says(&LOGIN_NEEDED) {
        Error::login(format!("the Databricks CLI has no valid login for {value}")).hint(login)
    } else if says(&NOT_A_PERSON) {
        Error::usage(format!("`{shown}` does not work for a service principal"))
            .hint("DATABRICKS_AUTH_TYPE=oauth-m2m")
    } else {
        Error::failed(format!("`{shown}` failed")).hint(login)
    };
    error.because(reason(stderr))
}

/// The line with the error, else the last one.
fn reason(stderr: &str) -> String {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.starts_with("Error"));
    redact(error.or(lines.next_back()).unwrap_or("it printed no error"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_text_of_a_failure_decides_its_kind() {
        for (text, kind) in [
            (
                "Warn: x\nError: cache: databricks OAuth is not configured for this host. no cached credentials; run",
                ErrorKind::Login,
            ),
            (
                "Error: A new access token could not be retrieved because the refresh token is invalid. To",
                ErrorKind::Login,
            ),
            ("Error: forced token refresh: cached token has no refresh token", ErrorKind::Login),
            ("Error: No such command 'auth'.", ErrorKind::Usage),
            (
                "Error: profile uses M2M (client_id/client_secret); this command only supports U2M",
                ErrorKind::Usage,
            ),
            ("Error: Post \"https://x\": dial tcp: lookup x: no such host", ErrorKind::Unavailable),
            (
                "Error: failed to get OAuth endpoints: http 503 Service Unavailable",
                ErrorKind::Unavailable,
            ),
            ("Error: token refresh:  (error code: )", ErrorKind::Unavailable),
            ("Error: token refresh: http 429: slow down", ErrorKind::Unavailable),
            ("Error: Post \"https://x/oidc/v1/token\": EOF", ErrorKind::Unavailable),
            ("Error: token refresh: cached token has no refresh token", ErrorKind::Login),
            ("Error: OS keyring unreachable: exec: no dbus-launch", ErrorKind::Login),
            ("Error: cache: keyring: The name org.freedesktop.secrets", ErrorKind::Login),
            ("Error: open file token cache: load: unexpected end", ErrorKind::Failed),
            ("Error: cache: load: parse: invalid character", ErrorKind::Failed),
            ("Error: cache: load: parse: unexpected EOF", ErrorKind::Failed),
            ("Error: DATABRICKS_AUTH_STORAGE: unknown storage mode \"x\"", ErrorKind::Usage),
            ("Error: cannot parse config file: line 3", ErrorKind::Usage),
            ("", ErrorKind::Failed),
        ] {
            let error = explain("/bin/databricks", "databricks auth token", text, "--profile", "p");
            assert_eq!(error.kind, kind, "{text}");
            assert!(!error.because[0].starts_with("Warn"));
        }
    }
}
