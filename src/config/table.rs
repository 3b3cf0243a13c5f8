//! The table of settings, one row each: flag, variables, profile key, descriptions.
//!
//! Resolution, `--help`, the manual page, completions, `status` and error messages read these rows,
//! so a new setting is a new row.
//!
//! The rows from `Host` to `DebugHeaders` are the attributes of Databricks unified authentication
//! (<https://docs.databricks.com/dev-tools/auth/unified-auth.html>), under Databricks' names. The
//! others are this program's and libpq's. `resolve.rs` reads the values.

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Text,
    /// A text that is never shown.
    Secret,
    /// The path of a file that holds a secret; `-` is stdin.
    SecretFile,
    /// Go's `ParseBool`: `1`, `t`, `true`, `0`, …
    Bool,
    Int,
    /// A flag without a value. Its variable, if it has one, is a `Bool`.
    Switch,
}

/// What is cut off a value's ends: people paste from documents, and files have Windows' line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Blanks, line ends and characters without a width; no control character may be inside.
    Blanks,
    /// Line ends and a byte order mark: blanks are legal in the value.
    LineEnds,
    /// Nothing, as in paths.
    Nothing,
}

/// What a variable counts for if a profile is named by flag (`--profile`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// It takes precedence over the profile.
    Always,
    /// It counts if the profile has no value.
    FillsProfile,
    /// It does not count.
    NotBesideProfile,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    pub id: Id,
    /// What messages, `status` and profiles call it.
    pub name: &'static str,
    /// The long flag without its dashes; "" for none.
    pub flag: &'static str,
    pub short: Option<char>,
    /// What `--help` calls the flag's value; "" for a switch.
    pub value: &'static str,
    /// The first variable that is set counts.
    pub env: &'static [&'static str],
    /// Whether a profile may hold it, under `name`.
    pub profile: bool,
    pub precedence: Precedence,
    /// The auth method that it belongs to; settings of two methods conflict. "" for none.
    pub method: &'static str,
    pub kind: ValueKind,
    pub trim: Trim,
    /// The description in `--help`; "" for a setting without a flag.
    pub about: &'static str,
    /// The description in the manual page; "" if it is the same as `about`.
    pub long: &'static str,
}

/// Generates [`Id`] and [`SETTINGS`] from one list of rows.
macro_rules! settings {
    ($($id:ident => $setting:expr,)*) => {
        /// Names a row of [`SETTINGS`]. As a number it is the row's position.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Id {
            $($id,)*
        }

        /// All settings, in the order of `--help`.
        pub static SETTINGS: &[Setting] = &[$(Setting { id: Id::$id, ..$setting },)*];
    };
}

/// The defaults of a row; the macro sets `id`.
const ROW: Setting = Setting {
    id: Id::Host,
    name: "",
    flag: "",
    short: None,
    value: "",
    env: &[],
    profile: false,
    precedence: Precedence::Always,
    method: "",
    kind: ValueKind::Text,
    trim: Trim::Blanks,
    about: "",
    long: "",
};

/// An attribute of unified authentication that takes part in no conflict check.
const fn attribute(name: &'static str, env: &'static [&'static str]) -> Setting {
    Setting { name, env, precedence: Precedence::FillsProfile, profile: true, ..ROW }
}

/// An attribute of unified authentication that belongs to an auth method.
const fn method(
    method: &'static str,
    name: &'static str,
    env: &'static [&'static str],
    kind: ValueKind,
) -> Setting {
    Setting { method, kind, ..attribute(name, env) }
}

/// An attribute that a variable never sets if a profile is named by flag.
const fn not_beside_profile(name: &'static str, env: &'static [&'static str]) -> Setting {
    Setting { precedence: Precedence::NotBesideProfile, ..attribute(name, env) }
}

/// An attribute whose variable always takes precedence over the profile.
const fn before_profile(name: &'static str, env: &'static [&'static str]) -> Setting {
    Setting { precedence: Precedence::Always, ..attribute(name, env) }
}

/// A variable of a pod, which no profile holds.
const fn from_webhook(name: &'static str, env: &'static [&'static str]) -> Setting {
    Setting { profile: false, ..attribute(name, env) }
}

/// A flag that takes a value.
const fn flag(flag: &'static str, value: &'static str, about: &'static str) -> Setting {
    Setting { name: flag, flag, value, about, ..ROW }
}

/// A flag without a value.
const fn switch(flag: &'static str, about: &'static str) -> Setting {
    Setting { name: flag, flag, kind: ValueKind::Switch, about, ..ROW }
}

// The rows up to `PgUser` decide whose credential is minted, and for what
// (`Settings::origins` in `settings.rs`, `is_name` in `commands/doctor/report.rs`).
settings! {
    Host => Setting {
        flag: "host",
        value: "URL",
        about: "workspace URL",
        long: "The URL of the workspace. The https:// may be left out; path, query and fragment \
               are dropped, and ?o= in the query sets the workspace id. A secret from a profile is \
               sent to that profile's host only, so another host beside it is an error.",
        ..attribute("host", &["DATABRICKS_HOST"])
    },
    Profile => Setting {
        short: Some('p'),
        env: &["DATABRICKS_CONFIG_PROFILE"],
        long: "The profile to read from ~/.databrickscfg, or from the file that \
               DATABRICKS_CONFIG_FILE names. With the flag, the profile takes precedence over \
               DATABRICKS_* and ARM_* variables; they fill only what the profile lacks. With the \
               variable, the environment takes precedence over the profile. Without either, the \
               file's default_profile or its DEFAULT section is read, unless the workspace or a \
               credential is known already.",
        ..flag("profile", "NAME", "profile in ~/.databrickscfg")
    },
    AuthType => Setting {
        flag: "auth-type",
        value: "TYPE",
        about: "use this auth type and no other",
        long: "The auth type to use, such as oauth-m2m or databricks-cli. Without it, the first \
               configured auth type is used; lakebase-token status shows which, and why. If the \
               chosen auth type fails, no other is tried.",
        ..not_beside_profile("auth_type", &["DATABRICKS_AUTH_TYPE"])
    },
    ClientId => method("oauth", "client_id", &["DATABRICKS_CLIENT_ID"], ValueKind::Text),
    ClientSecret => method(
        "oauth",
        "client_secret",
        &["DATABRICKS_CLIENT_SECRET"],
        ValueKind::Secret,
    ),
    ClientSecretFile => Setting {
        trim: Trim::Nothing,
        kind: ValueKind::SecretFile,
        long: "A file whose first line is the OAuth secret of the service principal; `-` reads \
               stdin. It takes precedence over DATABRICKS_CLIENT_SECRET. Secrets are never taken \
               from the command line itself, where ps would show them.",
        ..flag("client-secret-file", "PATH|-", "file with the service principal's secret")
    },
    Token => method("pat", "token", &["DATABRICKS_TOKEN"], ValueKind::Secret),
    TokenFile => Setting {
        trim: Trim::Nothing,
        kind: ValueKind::SecretFile,
        long: "A file whose first line is a personal access token; `-` reads stdin. It takes \
               precedence over DATABRICKS_TOKEN.",
        ..flag("token-file", "PATH|-", "file with the personal access token")
    },
    ConfigFile => Setting {
        trim: Trim::Nothing,
        profile: false,
        ..before_profile("config_file", &["DATABRICKS_CONFIG_FILE"])
    },
    AccountId => Setting {
        flag: "account-id",
        value: "ID",
        about: "id of the Databricks account",
        ..not_beside_profile("account_id", &["DATABRICKS_ACCOUNT_ID"])
    },
    WorkspaceId => not_beside_profile("workspace_id", &["DATABRICKS_WORKSPACE_ID"]),
    GroupId => attribute("group_id", &["DATABRICKS_GROUP_ID"]),
    DiscoveryUrl => not_beside_profile("discovery_url", &["DATABRICKS_DISCOVERY_URL"]),
    Scopes => Setting {
        flag: "scopes",
        value: "SCOPE[,…]",
        about: "OAuth scopes of the workspace token (all-apis)",
        long: "The OAuth scopes to request for the workspace token, where lakebase-token itself \
               requests it; login also requests offline_access. The default is all-apis; postgres is enough \
               to mint. With fewer scopes than all-apis, the workspace may not say who you are: the \
               role is then the login's subject if that is an address, else --pg-user must name \
               it.",
        ..attribute("scopes", &[])
    },
    DatabricksCliPath => Setting {
        trim: Trim::Nothing,
        ..before_profile("databricks_cli_path", &["DATABRICKS_CLI_PATH"])
    },
    Username => method("basic", "username", &["DATABRICKS_USERNAME"], ValueKind::Text),
    Password => method("basic", "password", &["DATABRICKS_PASSWORD"], ValueKind::Secret),
    MetadataServiceUrl => method(
        "metadata-service",
        "metadata_service_url",
        &["DATABRICKS_METADATA_SERVICE_URL"],
        ValueKind::Secret,
    ),
    AzureResourceId => method(
        "azure",
        "azure_workspace_resource_id",
        &["DATABRICKS_AZURE_RESOURCE_ID"],
        ValueKind::Text,
    ),
    AzureUseMsi => method("azure", "azure_use_msi", &["ARM_USE_MSI"], ValueKind::Bool),
    AzureClientId => method("azure", "azure_client_id", &["ARM_CLIENT_ID"], ValueKind::Text),
    AzureClientSecret => method(
        "azure",
        "azure_client_secret",
        &["ARM_CLIENT_SECRET"],
        ValueKind::Secret,
    ),
    AzureTenantId => method("azure", "azure_tenant_id", &["ARM_TENANT_ID"], ValueKind::Text),
    AzureLoginAppId => method(
        "azure",
        "azure_login_app_id",
        &["DATABRICKS_AZURE_LOGIN_APP_ID"],
        ValueKind::Text,
    ),
    AzureEnvironment => attribute("azure_environment", &["ARM_ENVIRONMENT"]),
    // What the webhook of Azure Workload Identity gives a pod, even if its application does not use
    // them. So they conflict with no other method.
    AzureFederatedTokenFile => Setting {
        trim: Trim::Nothing,
        ..from_webhook("azure_federated_token_file", &["AZURE_FEDERATED_TOKEN_FILE"])
    },
    AzureFederatedClientId => from_webhook("azure_federated_client_id", &["AZURE_CLIENT_ID"]),
    AzureFederatedTenantId => from_webhook("azure_federated_tenant_id", &["AZURE_TENANT_ID"]),
    AzureAuthorityHost => from_webhook("azure_authority_host", &["AZURE_AUTHORITY_HOST"]),
    GoogleServiceAccount => method(
        "google",
        "google_service_account",
        &["DATABRICKS_GOOGLE_SERVICE_ACCOUNT"],
        ValueKind::Text,
    ),
    GoogleCredentials => method(
        "google",
        "google_credentials",
        &["GOOGLE_CREDENTIALS"],
        ValueKind::Secret,
    ),
    ActionsRequestUrl => before_profile(
        "actions_id_token_request_url",
        &["ACTIONS_ID_TOKEN_REQUEST_URL"],
    ),
    ActionsRequestToken => Setting {
        kind: ValueKind::Secret,
        ..before_profile("actions_id_token_request_token", &["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
    },
    OidcTokenFile => Setting {
        trim: Trim::Nothing,
        ..method(
            "file-oidc",
            "databricks_id_token_filepath",
            &["DATABRICKS_OIDC_TOKEN_FILEPATH", "DATABRICKS_OIDC_TOKEN_FILE"],
            ValueKind::Text,
        )
    },
    OidcTokenEnv => method(
        "env-oidc",
        "oidc_token_env",
        &["DATABRICKS_OIDC_TOKEN_ENV"],
        ValueKind::Text,
    ),
    Audience => not_beside_profile("audience", &["DATABRICKS_TOKEN_AUDIENCE"]),
    Cloud => not_beside_profile("cloud", &["DATABRICKS_CLOUD"]),
    OauthCallbackPort => Setting {
        kind: ValueKind::Int,
        ..attribute("oauth_callback_port", &["DATABRICKS_OAUTH_CALLBACK_PORT"])
    },
    DisableRefreshToken => Setting {
        kind: ValueKind::Bool,
        ..attribute("disable_oauth_refresh_token", &["DATABRICKS_DISABLE_OAUTH_REFRESH_TOKEN"])
    },
    SkipVerify => Setting { kind: ValueKind::Bool, ..attribute("skip_verify", &[]) },
    HttpTimeout => Setting { kind: ValueKind::Int, ..attribute("http_timeout_seconds", &[]) },
    RetryTimeout => Setting { kind: ValueKind::Int, ..attribute("retry_timeout_seconds", &[]) },
    RateLimit => Setting {
        kind: ValueKind::Int,
        ..attribute("rate_limit", &["DATABRICKS_RATE_LIMIT"])
    },
    DebugTruncate => Setting {
        kind: ValueKind::Int,
        ..attribute("debug_truncate_bytes", &["DATABRICKS_DEBUG_TRUNCATE_BYTES"])
    },
    DebugHeaders => Setting {
        kind: ValueKind::Bool,
        ..attribute("debug_headers", &["DATABRICKS_DEBUG_HEADERS"])
    },
    Endpoint => Setting {
        name: "lakebase_endpoint",
        env: &[
            "LAKEBASE_ENDPOINT",
            "LAKEBASE_ENDPOINT_NAME",
            "LAKEBASE_ENDPOINT_PATH",
            "PGENDPOINT",
            "ENDPOINT_NAME",
        ],
        profile: true,
        long: "The Lakebase Autoscaling project, branch or endpoint to mint for, or a Postgres \
               host. The short forms P, P/B and P/B/E are the ids of a project, a branch and an \
               endpoint. A project means its default branch, a branch means its read-write \
               endpoint. LAKEBASE_ENDPOINT_NAME, LAKEBASE_ENDPOINT_PATH and ENDPOINT_NAME count \
               only if their value begins with projects/. With neither an \
               endpoint, an instance nor a host, the only project of the workspace is used.",
        ..flag("endpoint", "NAME", "Autoscaling: PROJECT[/BRANCH[/ENDPOINT]], or projects/…")
    },
    Instance => Setting {
        name: "lakebase_instance",
        env: &["LAKEBASE_INSTANCE", "LAKEBASE_INSTANCE_NAME"],
        profile: true,
        long: "The name of the Lakebase Provisioned instance to mint for. If an endpoint is named, \
               too, a flag takes precedence over the environment, and that over the profile; two \
               from the same origin are an error.",
        ..flag("instance", "NAME", "Provisioned: name of the database instance")
    },
    PgHost => Setting {
        name: "pg_host",
        env: &["PGHOST", "DATABRICKS_PG_HOST", "LAKEBASE_HOST"],
        long: "The Postgres host to connect to. Without an endpoint or instance, the database that \
               listens there is resolved; with one, the host is only where to connect to, such as \
               a tunnel. Sockets and lists of hosts are refused.",
        ..flag("pg-host", "HOST", "Postgres host")
    },
    Pooled => Setting {
        env: &["LAKEBASE_TOKEN_POOLED"],
        long: "Connects through the endpoint's pooled host (-pooler), where PgBouncer shares \
               connections among many clients. Whether it takes tokens depends on the workspace: \
               lakebase-token doctor --pooled tries it. PGHOST may then only name a host of the \
               same endpoint. The password is the same as without it.",
        ..switch("pooled", "connect through the endpoint's pooled host")
    },
    ReadOnly => Setting {
        long: "Mints a credential that may only read these tables of Unity Catalog, each as \
               CATALOG.SCHEMA.TABLE, separated by commas. It has a cache entry of its own. A session \
               that is open when the credential expires goes on.",
        ..flag("read-only", "TABLE[,…]", "a credential that only reads these tables")
    },
    PgPort => Setting {
        name: "pg_port",
        env: &["PGPORT"],
        long: "The Postgres port, 1 to 65535. The default is 5432.",
        ..flag("pg-port", "PORT", "Postgres port (5432)")
    },
    PgDatabase => Setting {
        trim: Trim::LineEnds,
        name: "pg_database",
        env: &["PGDATABASE", "LAKEBASE_DATABASE"],
        profile: true,
        long: "The name of the database. The default is databricks_postgres. write pgpass takes \
               '*' for every database.",
        ..flag("pg-database", "NAME", "database (databricks_postgres)")
    },
    PgUser => Setting {
        trim: Trim::LineEnds,
        name: "pg_user",
        env: &["PGUSER", "DATABRICKS_PG_USERNAME", "LAKEBASE_USER"],
        profile: true,
        long: "The Postgres role to log in as. The default is the identity's own name: the user \
               name, or the service principal's client id.",
        ..flag("pg-user", "ROLE", "Postgres role (your own identity)")
    },
    PgSslMode => Setting {
        name: "pg_sslmode",
        env: &["PGSSLMODE"],
        profile: true,
        long: "libpq's sslmode: require encrypts only; verify-ca and verify-full verify the server's \
               certificate. Weaker modes count as unset. If unset: verify-full for hosts in \
               Databricks' domains, with the certificates that this machine trusts, and require for \
               other hosts, such as a tunnel. The formats dotenv, url and libpq-json, which are read \
               on other machines, then use require.",
        ..flag("sslmode", "MODE", "libpq's sslmode (verify-full at Databricks' hosts)")
    },
    PgSslRootCert => Setting {
        trim: Trim::Nothing,
        name: "pg_sslrootcert",
        env: &["PGSSLROOTCERT"],
        ..ROW
    },
    PgPassFile => Setting {
        trim: Trim::Nothing,
        env: &["PGPASSFILE"],
        long: "The password file that write pgpass changes. The default is ~/.pgpass (Windows: \
               %APPDATA%/postgresql/pgpass.conf).",
        ..flag("pgpass-file", "PATH", "password file (~/.pgpass)")
    },
    For => Setting {
        long: "Which token to print: database, a database credential, which is the Postgres \
               password; or workspace, the workspace token for calls of Databricks' REST APIs. The \
               default is database.",
        ..flag("for", "WHAT", "token to print: database (the default) or workspace")
    },
    Format => Setting {
        short: Some('f'),
        long: "The output format, one of the list under FORMATS. The default is raw. With --for \
               workspace, only some formats are possible.",
        ..flag("format", "NAME", "output format")
    },
    As => Setting {
        long: "The variable that gets the credential: with exec --for workspace in place of \
               DATABRICKS_TOKEN, otherwise beside the variables of libpq, in the format that \
               --format names.",
        ..flag("as", "NAME", "one more variable to set, such as DATABASE_URL")
    },
    Clean => Setting {
        long: "Removes every variable that may hold a Databricks secret from the environment of \
               the child program.",
        ..switch("clean", "hide Databricks secrets from the child program")
    },
    Ttl => Setting {
        env: &["LAKEBASE_TOKEN_TTL"],
        long: "The lifetime to ask for, 5m to 1h. The default is the workspace's own, one hour. \
               Credentials of a Provisioned instance always live one hour, so it is an error \
               there. For watch and service it must outlast two check intervals and five minutes.",
        ..flag("ttl", "TIME", "lifetime to ask for, 5m to 1h (1h)")
    },
    MinTtl => Setting {
        env: &["LAKEBASE_TOKEN_MIN_TTL"],
        long: "Mints a new credential if the cached one expires sooner than this. Without it, \
               a printed credential has at least ten minutes left, or a third of its lifetime if \
               that is less (a minute while the workspace is unreachable). A credential issued \
               within the last minute is always accepted.",
        ..flag("min-ttl", "TIME", "mint if the cached credential expires sooner")
    },
    Timeout => Setting {
        env: &["LAKEBASE_TOKEN_TIMEOUT"],
        long: "The time limit of the whole call, 100ms to 10m. The default is 10s. If it passes, a \
               cached credential with a minute left is used, else the exit code is 5.",
        ..flag("timeout", "TIME", "time limit of the whole call (10s)")
    },
    Wait => Setting {
        env: &["LAKEBASE_TOKEN_WAIT"],
        long: "Tries to log in once a second, for this long (1s to 30m, from the start of the \
               program), until the database accepts the credential. Retries temporary failures: a \
               database that is starting or waking, a new branch, a role that is being created. \
               Any other failure ends the call at once. --timeout then limits each mint, and not \
               the whole call.",
        ..flag("wait", "TIME", "retry the Postgres login for up to this long")
    },
    Report => Setting {
        trim: Trim::Nothing,
        long: "Writes a report for an issue into this file: versions, the steps with their HTTP \
               statuses, error codes and SQLSTATEs, the names of fields in the workspace's answers, \
               and which assumptions about the platform hold. Any word that is not lakebase-token's \
               own becomes a placeholder such as <1>, so names, hosts and secrets are not in it.",
        ..flag("report", "FILE", "write a report for an issue, without names or secrets")
    },
    Refresh => Setting {
        long: "Mints a new credential even if the cached one is fresh. One that another process \
               mints after this call began is accepted.",
        ..switch("refresh", "mint now, even if the cached credential is fresh")
    },
    ForceRefresh => Setting {
        long: "What Databricks' SDKs send to the Databricks CLI. A printed token is fresh \
               without it, so it changes nothing.",
        ..switch("force-refresh", "accepted from Databricks' SDKs; changes nothing")
    },
    Offline => Setting {
        long: "Makes no network request: prints the cached credential, or fails with exit code 5. \
               It contradicts --refresh and --no-cache.",
        ..switch("offline", "use only the cache, make no network request")
    },
    CacheDir => Setting {
        trim: Trim::Nothing,
        env: &["LAKEBASE_TOKEN_CACHE"],
        long: "The folder for cached credentials, readable only by you; off uses none. The default \
               is lakebase-token in $XDG_CACHE_HOME or ~/.cache (macOS: ~/Library/Caches, Windows: \
               %LOCALAPPDATA%). The \
               variable must hold an absolute path or one that begins with ~/.",
        ..flag("cache-dir", "PATH", "cache folder, or off")
    },
    NoCache => switch("no-cache", "neither read nor write the cache"),
    Interval => Setting {
        long: "How often watch and service check the target, 1m to 30m. The default is 10m. Each \
               credential that is written outlives the next two checks.",
        ..flag("interval", "TIME", "check interval, 1m to 30m (10m)")
    },
    Then => Setting {
        trim: Trim::Nothing,
        long: "A hook: this line is run by sh (Windows: cmd.exe) after each change of the target. If it fails, the \
               next run tries it again, until it succeeds once.",
        ..flag("then", "COMMAND", "shell command to run after a change")
    },
    Remove => switch("remove", "remove our entry from the target"),
    To => flag("to", "NAME", "profile to write (databrickscfg)"),
    Force => Setting {
        long: "Overwrites a file, profile or secret that was not written by lakebase-token. \
               Without it, such a target is refused.",
        ..switch("force", "overwrite what lakebase-token did not write")
    },
    Scope => flag("scope", "SCOPE", "scope of the secret"),
    Key => flag("key", "KEY", "key of the secret"),
    CreateScope => switch("create-scope", "create the secret's scope if it is missing"),
    Name => Setting {
        long: "The name of the service. It tells a second service for the same kind of target from \
               the first.",
        ..flag("name", "NAME", "name of a second service")
    },
    Linger => Setting {
        long: "With service install under systemd: lets the timer run while you are not logged in \
               (loginctl enable-linger). service uninstall leaves that setting alone.",
        ..switch("linger", "also run while you are logged out (systemd)")
    },
    Purge => switch("purge", "with uninstall: also remove our entry and the cache"),
    NoBrowser => Setting {
        long: "Prints the address of the login page and asks for the address that the browser ends \
               on. Use it over SSH, where the page cannot be opened on this machine.",
        ..switch("no-browser", "print the login address, ask for the final one")
    },
    Pat => Setting {
        long: "Logs in with a personal access token, which is read from the terminal without \
               showing it, or from a line of stdin. It is used to create a token that \
               lakebase-token replaces by itself; only that token is stored.",
        ..switch("pat", "log in with a personal access token")
    },
    PatLifetime => Setting {
        long: "The lifetime of each personal access token that the login creates, 15m to 90d. The \
               default is 24h. A login that is unused for so long expires.",
        ..flag("pat-lifetime", "TIME", "lifetime of created tokens, 15m to 90d (24h)")
    },
    PatMaxAge => Setting {
        long: "A token older than this is replaced when it is used, and deleted ten minutes later. \
               At least 10m, which is the default; at most two thirds of --pat-lifetime.",
        ..flag("pat-max-age", "TIME", "replace a used token after this age (10m)")
    },
    RevokePasted => switch("revoke-pasted", "delete the pasted token after the login"),
    All => switch("all", "all stored logins"),
    Log => Setting {
        trim: Trim::Nothing,
        name: "log",
        env: &["LAKEBASE_TOKEN_LOG"],
        ..ROW
    },
    Verbose => Setting { short: Some('v'), ..switch("verbose", "print more details on stderr") },
    Quiet => Setting {
        short: Some('q'),
        long: "Prints no notes on stderr, only errors. It contradicts --verbose.",
        ..switch("quiet", "print no notes on stderr")
    },
}

/// The setting that has this flag.
pub fn flag_row(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|row| !row.flag.is_empty() && row.flag == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_profile_holds_a_variable_of_a_pod() {
        let is_pods = |row: &&Setting| row.name.starts_with("azure_federated_");
        assert_eq!(SETTINGS.iter().filter(is_pods).filter(|row| !row.profile).count(), 3);
        assert!(SETTINGS[Id::Host as usize].profile);
    }

    #[test]
    fn rows_are_well_formed() {
        for (position, row) in SETTINGS.iter().enumerate() {
            let name = row.name;
            let others = || SETTINGS.iter().skip(position + 1);

            assert!(!name.is_empty() && others().all(|other| other.name != name));
            assert!(row.flag.is_empty() || others().all(|other| other.flag != row.flag));
            assert!(row.env.iter().all(|name| others().all(|other| !other.env.contains(name))));

            let is_variable =
                |name: &&str| name.bytes().all(|b| b == b'_' || b.is_ascii_uppercase());
            assert!(row.env.iter().all(is_variable), "{name}");
            assert!(row.flag.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()), "{name}");

            assert_eq!(row.flag.is_empty(), row.about.is_empty(), "{name}");
            assert!(!row.long.contains("- "), "{}: a word is cut", row.name);
            assert!(row.about.len() < 60 && !row.about.ends_with('.'), "{name}");
            assert!(row.long.is_empty() || row.long.ends_with('.'), "{name}");

            // `ps` shows the command line, so it never holds a secret.
            assert!(row.kind != ValueKind::Secret || row.flag.is_empty(), "{name}");
        }
    }
}
