//! The settings, one row each: flag, variables, profile key, what it is. Parsing, `--help`,
//! `status`, error messages and their tests all read these rows, so adding a setting is adding
//! a row (and the [`Id`] that names it in code).
//!
//! The upper part is Databricks' unified authentication, attribute for attribute; the names are
//! theirs (<https://docs.databricks.com/dev-tools/auth/unified-auth.html>). The lower part is
//! ours and libpq's.

/// Names a row of [`SETTINGS`] in code. The order is the table's.
#[allow(missing_docs)] // each is described by its row
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Host,
    Profile,
    AuthType,
    ClientId,
    ClientSecret,
    ClientSecretFile,
    Token,
    TokenFile,
    ConfigFile,
    AccountId,
    WorkspaceId,
    GroupId,
    DiscoveryUrl,
    Scopes,
    DatabricksCliPath,
    Username,
    Password,
    MetadataServiceUrl,
    AzureResourceId,
    AzureUseMsi,
    AzureClientId,
    AzureClientSecret,
    AzureTenantId,
    AzureLoginAppId,
    AzureEnvironment,
    GoogleServiceAccount,
    GoogleCredentials,
    ActionsRequestUrl,
    ActionsRequestToken,
    OidcTokenFile,
    OidcTokenEnv,
    Audience,
    Cloud,
    OauthCallbackPort,
    DisableRefreshToken,
    SkipVerify,
    HttpTimeout,
    RetryTimeout,
    RateLimit,
    DebugTruncate,
    DebugHeaders,
    Endpoint,
    Instance,
    PgHost,
    PgPort,
    PgDatabase,
    PgUser,
    PgSslMode,
    PgSslRootCert,
    PgPassFile,
    For,
    Format,
    As,
    Clean,
    Ttl,
    MinTtl,
    Timeout,
    Refresh,
    Offline,
    CacheDir,
    NoCache,
    Interval,
    Then,
    Remove,
    To,
    Force,
    Scope,
    Key,
    CreateScope,
    Name,
    Linger,
    Purge,
    NoBrowser,
    Pat,
    PatLifetime,
    PatMaxAge,
    RevokePasted,
    All,
    Log,
    Verbose,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text.
    Text,
    /// A text that nobody may see.
    Secret,
    /// The path of a file that holds a secret; `-` is stdin.
    SecretFile,
    /// Go's `ParseBool`: `1`, `t`, `true`, `0`, …
    Bool,
    /// A whole number.
    Int,
    /// A flag without a value.
    Switch,
}

/// What a variable counts beside a profile that was named by flag.
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
    /// Its name in code.
    pub id: Id,
    /// Databricks' name for it, or ours: what messages and `status` call it.
    pub name: &'static str,
    /// The long flag, without the dashes; empty for none.
    pub flag: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// How `--help` calls the value.
    pub value: &'static str,
    /// Its variables; the first that is set wins.
    pub env: &'static [&'static str],
    /// Whether a profile may hold it, under `name`.
    pub profile: bool,
    /// What its variables count beside `--profile`.
    pub precedence: Precedence,
    /// Its group in the conflict check of unified authentication; empty for none.
    pub group: &'static str,
    /// What its value must look like.
    pub kind: ValueKind,
    /// One line for `--help`; empty for settings that are only understood, not advertised.
    pub about: &'static str,
}

const ROW: Setting = Setting {
    id: Id::Host,
    name: "",
    flag: "",
    short: None,
    value: "",
    env: &[],
    profile: false,
    precedence: Precedence::Always,
    group: "",
    kind: ValueKind::Text,
    about: "",
};

/// An attribute of unified authentication without a flag.
const fn databricks(
    id: Id,
    name: &'static str,
    env: &'static [&'static str],
    group: &'static str,
    kind: ValueKind,
) -> Setting {
    let precedence = Precedence::FillsProfile;
    Setting { id, name, env, precedence, group, kind, profile: true, ..ROW }
}

/// A flag, perhaps with variables.
const fn flag(
    id: Id,
    flag: &'static str,
    value: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Setting {
    let kind = if value.is_empty() { ValueKind::Switch } else { ValueKind::Text };
    Setting { id, name: flag, flag, value, env, kind, about, ..ROW }
}

/// All settings, in the order of `--help`.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    Setting { flag: "host", value: "URL", about: "the workspace", ..databricks(Id::Host, "host", &["DATABRICKS_HOST"], "", ValueKind::Text) },
    Setting { short: Some('p'), profile: false, name: "profile", ..flag(Id::Profile, "profile", "NAME", &["DATABRICKS_CONFIG_PROFILE"], "the profile in ~/.databrickscfg") },
    Setting { precedence: Precedence::NotBesideProfile, flag: "auth-type", value: "TYPE", about: "use this auth type and no other", ..databricks(Id::AuthType, "auth_type", &["DATABRICKS_AUTH_TYPE"], "", ValueKind::Text) },
    databricks(Id::ClientId, "client_id", &["DATABRICKS_CLIENT_ID"], "oauth", ValueKind::Text),
    databricks(Id::ClientSecret, "client_secret", &["DATABRICKS_CLIENT_SECRET"], "oauth", ValueKind::Secret),
    Setting { kind: ValueKind::SecretFile, ..flag(Id::ClientSecretFile, "client-secret-file", "PATH|-", &[], "read the service principal's secret there") },
    databricks(Id::Token, "token", &["DATABRICKS_TOKEN"], "pat", ValueKind::Secret),
    Setting { kind: ValueKind::SecretFile, ..flag(Id::TokenFile, "token-file", "PATH|-", &[], "read the personal access token there") },
    Setting { precedence: Precedence::Always, profile: false, ..databricks(Id::ConfigFile, "config_file", &["DATABRICKS_CONFIG_FILE"], "", ValueKind::Text) },
    Setting { precedence: Precedence::NotBesideProfile, ..databricks(Id::AccountId, "account_id", &["DATABRICKS_ACCOUNT_ID"], "", ValueKind::Text) },
    Setting { precedence: Precedence::NotBesideProfile, ..databricks(Id::WorkspaceId, "workspace_id", &["DATABRICKS_WORKSPACE_ID"], "", ValueKind::Text) },
    databricks(Id::GroupId, "group_id", &["DATABRICKS_GROUP_ID"], "", ValueKind::Text),
    Setting { precedence: Precedence::NotBesideProfile, ..databricks(Id::DiscoveryUrl, "discovery_url", &["DATABRICKS_DISCOVERY_URL"], "", ValueKind::Text) },
    databricks(Id::Scopes, "scopes", &[], "", ValueKind::Text),
    Setting { precedence: Precedence::Always, ..databricks(Id::DatabricksCliPath, "databricks_cli_path", &["DATABRICKS_CLI_PATH"], "", ValueKind::Text) },
    databricks(Id::Username, "username", &["DATABRICKS_USERNAME"], "basic", ValueKind::Text),
    databricks(Id::Password, "password", &["DATABRICKS_PASSWORD"], "basic", ValueKind::Secret),
    databricks(Id::MetadataServiceUrl, "metadata_service_url", &["DATABRICKS_METADATA_SERVICE_URL"], "metadata-service", ValueKind::Secret),
    databricks(Id::AzureResourceId, "azure_workspace_resource_id", &["DATABRICKS_AZURE_RESOURCE_ID"], "azure", ValueKind::Text),
    databricks(Id::AzureUseMsi, "azure_use_msi", &["ARM_USE_MSI"], "azure", ValueKind::Bool),
    databricks(Id::AzureClientId, "azure_client_id", &["ARM_CLIENT_ID"], "azure", ValueKind::Text),
    databricks(Id::AzureClientSecret, "azure_client_secret", &["ARM_CLIENT_SECRET"], "azure", ValueKind::Secret),
    databricks(Id::AzureTenantId, "azure_tenant_id", &["ARM_TENANT_ID"], "azure", ValueKind::Text),
    databricks(Id::AzureLoginAppId, "azure_login_app_id", &["DATABRICKS_AZURE_LOGIN_APP_ID"], "azure", ValueKind::Text),
    databricks(Id::AzureEnvironment, "azure_environment", &["ARM_ENVIRONMENT"], "", ValueKind::Text),
    databricks(Id::GoogleServiceAccount, "google_service_account", &["DATABRICKS_GOOGLE_SERVICE_ACCOUNT"], "google", ValueKind::Text),
    databricks(Id::GoogleCredentials, "google_credentials", &["GOOGLE_CREDENTIALS"], "google", ValueKind::Secret),
    Setting { precedence: Precedence::Always, ..databricks(Id::ActionsRequestUrl, "actions_id_token_request_url", &["ACTIONS_ID_TOKEN_REQUEST_URL"], "", ValueKind::Text) },
    Setting { precedence: Precedence::Always, ..databricks(Id::ActionsRequestToken, "actions_id_token_request_token", &["ACTIONS_ID_TOKEN_REQUEST_TOKEN"], "", ValueKind::Secret) },
    databricks(Id::OidcTokenFile, "databricks_id_token_filepath", &["DATABRICKS_OIDC_TOKEN_FILEPATH", "DATABRICKS_OIDC_TOKEN_FILE"], "file-oidc", ValueKind::Text),
    databricks(Id::OidcTokenEnv, "oidc_token_env", &["DATABRICKS_OIDC_TOKEN_ENV"], "env-oidc", ValueKind::Text),
    Setting { precedence: Precedence::NotBesideProfile, ..databricks(Id::Audience, "audience", &["DATABRICKS_TOKEN_AUDIENCE"], "", ValueKind::Text) },
    Setting { precedence: Precedence::NotBesideProfile, ..databricks(Id::Cloud, "cloud", &["DATABRICKS_CLOUD"], "", ValueKind::Text) },
    databricks(Id::OauthCallbackPort, "oauth_callback_port", &["DATABRICKS_OAUTH_CALLBACK_PORT"], "", ValueKind::Int),
    databricks(Id::DisableRefreshToken, "disable_oauth_refresh_token", &["DATABRICKS_DISABLE_OAUTH_REFRESH_TOKEN"], "", ValueKind::Bool),
    databricks(Id::SkipVerify, "skip_verify", &[], "", ValueKind::Bool),
    databricks(Id::HttpTimeout, "http_timeout_seconds", &[], "", ValueKind::Int),
    databricks(Id::RetryTimeout, "retry_timeout_seconds", &[], "", ValueKind::Int),
    databricks(Id::RateLimit, "rate_limit", &["DATABRICKS_RATE_LIMIT"], "", ValueKind::Int),
    databricks(Id::DebugTruncate, "debug_truncate_bytes", &["DATABRICKS_DEBUG_TRUNCATE_BYTES"], "", ValueKind::Int),
    databricks(Id::DebugHeaders, "debug_headers", &["DATABRICKS_DEBUG_HEADERS"], "", ValueKind::Bool),
    Setting { name: "lakebase_endpoint", profile: true, ..flag(Id::Endpoint, "endpoint", "NAME", &["LAKEBASE_ENDPOINT", "PGENDPOINT", "ENDPOINT_NAME"], "Autoscaling: projects/P[/branches/B[/endpoints/E]]") },
    Setting { name: "lakebase_instance", profile: true, ..flag(Id::Instance, "instance", "NAME", &["LAKEBASE_INSTANCE", "LAKEBASE_INSTANCE_NAME"], "Provisioned: the database instance") },
    Setting { name: "pg_host", ..flag(Id::PgHost, "pg-host", "HOST", &["PGHOST", "DATABRICKS_PG_HOST"], "the Postgres host") },
    Setting { name: "pg_port", ..flag(Id::PgPort, "pg-port", "PORT", &["PGPORT"], "its port (5432)") },
    Setting { name: "pg_database", profile: true, ..flag(Id::PgDatabase, "pg-database", "NAME", &["PGDATABASE"], "the database (databricks_postgres)") },
    Setting { name: "pg_user", profile: true, ..flag(Id::PgUser, "pg-user", "ROLE", &["PGUSER", "DATABRICKS_PG_USERNAME"], "the role (you, or the service principal)") },
    Setting { id: Id::PgSslMode, name: "pg_sslmode", env: &["PGSSLMODE"], ..ROW },
    Setting { id: Id::PgSslRootCert, name: "pg_sslrootcert", env: &["PGSSLROOTCERT"], ..ROW },
    flag(Id::PgPassFile, "pgpass-file", "PATH", &["PGPASSFILE"], "the password file (~/.pgpass)"),
    flag(Id::For, "for", "WHAT", &[], "database (a password; the default) or workspace (a token)"),
    Setting { short: Some('f'), ..flag(Id::Format, "format", "NAME", &[], "how to print it") },
    flag(Id::As, "as", "NAME", &[], "with --for workspace: the variable to set"),
    flag(Id::Clean, "clean", "", &[], "keep Databricks secrets from the command"),
    flag(Id::Ttl, "ttl", "TIME", &["LAKEBASE_TOKEN_TTL"], "ask for this lifetime, 5m to 1h (1h)"),
    flag(Id::MinTtl, "min-ttl", "TIME", &["LAKEBASE_TOKEN_MIN_TTL"], "mint where the cached one dies sooner"),
    flag(Id::Timeout, "timeout", "TIME", &["LAKEBASE_TOKEN_TIMEOUT"], "give up after this (10s)"),
    flag(Id::Refresh, "refresh", "", &[], "mint now, whatever is cached"),
    flag(Id::Offline, "offline", "", &[], "use the cache only"),
    flag(Id::CacheDir, "cache-dir", "PATH", &["LAKEBASE_TOKEN_CACHE"], "where to cache; off for nowhere"),
    flag(Id::NoCache, "no-cache", "", &[], "neither read nor write the cache"),
    flag(Id::Interval, "interval", "TIME", &[], "how often somebody looks, 1m to 30m (10m)"),
    flag(Id::Then, "then", "COMMAND", &[], "run this in sh after a change, until it succeeds once"),
    flag(Id::Remove, "remove", "", &[], "take our part out again"),
    flag(Id::To, "to", "NAME", &[], "the profile to write (databrickscfg)"),
    flag(Id::Force, "force", "", &[], "take over a file, profile or secret of somebody else's"),
    flag(Id::Scope, "scope", "SCOPE", &[], "the secret's scope"),
    flag(Id::Key, "key", "KEY", &[], "the secret's key"),
    flag(Id::CreateScope, "create-scope", "", &[], "make the scope if there is none"),
    flag(Id::Name, "name", "NAME", &[], "tell a second service from the first"),
    flag(Id::Linger, "linger", "", &[], "let it run without anybody logged in (systemd)"),
    flag(Id::Purge, "purge", "", &[], "with uninstall: what it wrote and cached, too"),
    flag(Id::NoBrowser, "no-browser", "", &[], "print the address, and ask for the one it ends on"),
    flag(Id::Pat, "pat", "", &[], "with a personal access token, which is asked for"),
    flag(Id::PatLifetime, "pat-lifetime", "TIME", &[], "how long our own may lie unused, 15m to 90d (24h)"),
    flag(Id::PatMaxAge, "pat-max-age", "TIME", &[], "replace it when it is used and older (10m)"),
    flag(Id::RevokePasted, "revoke-pasted", "", &[], "delete the pasted one when we have our own"),
    flag(Id::All, "all", "", &[], "every login there is"),
    Setting { id: Id::Log, name: "log", env: &["LAKEBASE_TOKEN_LOG"], ..ROW },
    Setting { short: Some('v'), ..flag(Id::Verbose, "verbose", "", &[], "say more on stderr") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_id_says() {
        for (position, row) in SETTINGS.iter().enumerate() {
            assert_eq!(row.id as usize, position, "{}", row.name);
        }
    }

    #[test]
    fn rows_are_well_formed() {
        for (position, row) in SETTINGS.iter().enumerate() {
            let others = || SETTINGS.iter().skip(position + 1);
            assert!(!row.name.is_empty() && others().all(|other| other.name != row.name));
            assert!(row.flag.is_empty() || others().all(|other| other.flag != row.flag));
            assert!(row.env.iter().all(|name| others().all(|other| !other.env.contains(name))));
            assert!(
                row.env
                    .iter()
                    .all(|name| name.bytes().all(|b| b == b'_' || b.is_ascii_uppercase()))
            );
            assert!(row.flag.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()), "{}", row.flag);
            assert!(row.about.len() < 60 && !row.about.ends_with('.'), "{}", row.name);
            assert_eq!(row.flag.is_empty(), row.about.is_empty(), "{}", row.name);
            // Secrets never come from the command line, where `ps` shows them.
            assert!(row.kind != ValueKind::Secret || row.flag.is_empty(), "{}", row.name);
        }
    }
}
