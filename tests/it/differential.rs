//! The official SDKs and this program get the same environment, and must choose the same workspace
//! and auth type and send the same ids and secrets, or both refuse. `differences.rs` has the known
//! differences.
//!
//! Environments are generated from a seed: subsets of variables, profiles in all notations, hosts of
//! all clouds, CLIs that are absent, logged in or logged out. `LAKEBASE_TOKEN_ENVIRONMENTS=10000`
//! tries more of them than CI does, `LAKEBASE_TOKEN_SEED` others.

mod differences;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use lakebase_token::config::settings::Settings;
use lakebase_token::config::table::Id;
use lakebase_token::credential::secret::Secret;

use self::differences::{DIFFERENCES, Difference, Of};
use super::official_sdk;
use super::support::{self, Dice, HeldAddress, Test, not_run, refusing_address, repository, spawn};

const HOSTS: [&str; 16] = [
    "https://one.cloud.databricks.com",
    "https://two.cloud.databricks.com/",
    "three.cloud.databricks.com",
    "https://Four.cloud.databricks.com/sql/editor?o=123#top",
    "https://gov.cloud.databricks.us",
    "https://adb-1.6.azuredatabricks.net",
    "adb-2.6.azuredatabricks.net/?o=2",
    "https://x.dev.azuredatabricks.net",
    "https://x.databricks.azure.us",
    "https://x.databricks.azure.cn/",
    "https://1.1.gcp.databricks.com",
    "https://x.dev.gcp.databricks.com",
    "https://databricks.example.org:8443",
    "https://azuredatabricks.net.example.org",
    "https://accounts.cloud.databricks.com",
    "x",
];

const AUTH_TYPES: [&str; 16] = [
    "pat",
    "basic",
    "oauth-m2m",
    "databricks-cli",
    // From here on, eight: `CONFIGURED`.
    "metadata-service",
    "github-oidc",
    "azure-devops-oidc",
    "env-oidc",
    "file-oidc",
    "github-oidc-azure",
    "azure-msi",
    "azure-client-secret",
    "azure-cli",
    "google-credentials",
    "google-id",
    "nope",
];

/// Those that the user or the platform configures; the others are logins, or handled apart.
const CONFIGURED: &[&str] = AUTH_TYPES.split_at(4).1.split_at(8).0;

/// Variables that belong together.
const RECIPES: [&[(&str, &str)]; 15] = [
    &[("DATABRICKS_HOST", "one.example.org"), ("DATABRICKS_TOKEN", "dapi1")],
    &[
        ("DATABRICKS_HOST", "one.example.org"),
        ("DATABRICKS_CLIENT_ID", "id"),
        ("DATABRICKS_CLIENT_SECRET", "s"),
    ],
    &[("DATABRICKS_HOST", "one.example.org"), ("DATABRICKS_OIDC_TOKEN", "a.b.c")],
    &[("DATABRICKS_HOST", "one.example.org"), ("DATABRICKS_OIDC_TOKEN_FILEPATH", "FOLDER/token")],
    &[
        ("DATABRICKS_HOST", "one.example.org"),
        ("DATABRICKS_METADATA_SERVICE_URL", "http://localhost:1/metadata"),
    ],
    &[
        ("DATABRICKS_HOST", "adb-7.6.azuredatabricks.net"),
        ("ARM_CLIENT_ID", "a"),
        ("ARM_CLIENT_SECRET", "b"),
        ("ARM_TENANT_ID", "c"),
    ],
    &[("DATABRICKS_HOST", "x.databricks.azure.us"), ("ARM_USE_MSI", "true")],
    &[
        ("DATABRICKS_AZURE_RESOURCE_ID", "/subscriptions/s/x"),
        ("ARM_USE_MSI", "true"),
        ("ARM_CLIENT_ID", "a"),
    ],
    &[
        ("DATABRICKS_HOST", "adb-7.6.azuredatabricks.net"),
        ("ARM_CLIENT_ID", "a"),
        ("ARM_TENANT_ID", "c"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example.org/github?v=1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "b"),
    ],
    &[
        ("DATABRICKS_HOST", "adb-7.6.azuredatabricks.net"),
        ("ARM_CLIENT_ID", "a"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example.org/github?v=1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "b"),
    ],
    &[
        ("DATABRICKS_HOST", "one.example.org"),
        ("DATABRICKS_CLIENT_ID", "id"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example.org/github?v=1"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "b"),
    ],
    &[("DATABRICKS_HOST", "adb-7.6.azuredatabricks.net")],
    &[("DATABRICKS_HOST", "one.example.org")],
    &[("DATABRICKS_CONFIG_PROFILE", "a")],
    &[],
];

/// What a CLI on PATH does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cli {
    Absent,
    LoggedIn,
    LoggedOut,
}

/// One environment.
#[derive(Clone, PartialEq)]
struct Case {
    env: Vec<(String, String)>,
    file: Option<String>,
    databricks: Cli,
    az: Cli,
}

/// The outcome: a workspace and an auth type, or a refusal.
#[derive(Clone, Debug)]
struct Verdict {
    host: String,
    auth_type: String,
    error: String,
    /// What the auth type sends, as far as it comes from a setting.
    values: String,
    profile: String,
    workspace_id: String,
    /// Of an SDK: the environment that says without a file what the SDK has read.
    read: Vec<(String, String)>,
    /// Of the SDK for Python: whether its parser refuses the file.
    is_file_refused: bool,
}

impl Case {
    fn set(&mut self, name: &str, value: &str) {
        self.drop(&[name]);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Removes the variables whose names begin so.
    fn drop(&mut self, names: &[&str]) {
        self.env.retain(|(known, _)| !names.iter().any(|name| known.starts_with(name)));
    }
}

/// The folder with the programs and files of all cases.
struct Ground {
    folder: tempfile::TempDir,
    refusing: (SocketAddr, HeldAddress),
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground { folder: tempfile::tempdir().unwrap(), refusing: refusing_address() };
        let token = r#"{"access_token":"t","token_type":"Bearer","expiry":"2099-01-01T00:00:00Z"}"#;
        let az = r#"{"accessToken":"t","expiresOn":"2099-01-01 00:00:00.000000","expires_on":4070908800,"tokenType":"Bearer","user":{"type":"user","name":"ada"}}"#;
        for (folder, name, text) in [
            (
                "databricks-in",
                "databricks",
                format!("[ \"$1\" = version ] && echo 'Databricks CLI v1.13.0' || echo '{token}'"),
            ),
            (
                "databricks-out",
                "databricks",
                "[ \"$1\" = version ] && echo 'Databricks CLI v1.13.0' && exit\n\
                 echo 'Error: cache: databricks OAuth is not configured for this host' >&2; exit 1"
                    .to_owned(),
            ),
            ("az-in", "az", format!("echo '{az}'")),
            ("az-out", "az", "echo \"ERROR: Please run 'az login'\" >&2; exit 1".to_owned()),
        ] {
            let path = ground.path(folder);
            fs::create_dir(&path).unwrap();
            let path = path.join(name);
            // The SDKs take a small `databricks` for the legacy CLI, which was a script.
            let padding = if name == "databricks" { "#".repeat(1 << 20) } else { String::new() };
            fs::write(&path, format!("#!/bin/sh\n{text}\nexit\n{padding}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(ground.path("home")).unwrap();
        fs::write(ground.path("token"), "a.b.c").unwrap();
        fs::write(ground.path("no-token"), "").unwrap();
        fs::write(
            ground.path("other.cfg"),
            "[DEFAULT]\nhost = other.example.org\ntoken = t\n[a]\n",
        )
        .unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn case(&self, dice: &mut Dice) -> Case {
        let mut env = Vec::new();
        let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
        if dice.percent(60) {
            set("DATABRICKS_HOST", dice.pick(&HOSTS));
        }
        // Half of the cases begin with a sensible set, and get little else.
        let recipe = dice.percent(50).then(|| &RECIPES[dice.roll(RECIPES.len())]);
        for (name, value) in recipe.copied().unwrap_or_default() {
            set(name, &value.replace("FOLDER", &self.folder.path().display().to_string()));
        }
        let noise = if recipe.is_some() { 6 } else { 1 };
        for (name, percent, values) in [
            ("DATABRICKS_TOKEN", 18, &["dapi1", "dapi2", ""][..]),
            ("DATABRICKS_CLIENT_ID", 18, &["id"]),
            ("DATABRICKS_CLIENT_SECRET", 16, &["s#cr;t", "\"quoted\""]),
            ("DATABRICKS_USERNAME", 4, &["ada"]),
            ("DATABRICKS_PASSWORD", 4, &["p"]),
            ("DATABRICKS_AUTH_TYPE", 12, &AUTH_TYPES),
            ("DATABRICKS_ACCOUNT_ID", 4, &["acc"]),
            ("DATABRICKS_WORKSPACE_ID", 4, &["42", "none"]),
            ("DATABRICKS_CONFIG_PROFILE", 25, &PROFILES),
            (
                "DATABRICKS_METADATA_SERVICE_URL",
                5,
                &["http://localhost:1/metadata", "http://10.0.0.1/metadata"],
            ),
            (
                "DATABRICKS_AZURE_RESOURCE_ID",
                6,
                &[
                    "/subscriptions/s/resourceGroups/r/providers/Microsoft.Databricks/workspaces/w",
                    "/sub/rg/ws",
                ],
            ),
            ("ARM_CLIENT_ID", 8, &["arm"]),
            ("ARM_CLIENT_SECRET", 6, &["armsecret"]),
            ("ARM_TENANT_ID", 8, &["tenant"]),
            ("ARM_USE_MSI", 6, &["true", "false", "1", "0", "maybe"]),
            ("ARM_ENVIRONMENT", 3, &["PUBLIC", "usgovernment", "CHINA"]),
            ("DATABRICKS_AZURE_LOGIN_APP_ID", 1, &["app"]),
            ("DATABRICKS_GOOGLE_SERVICE_ACCOUNT", 2, &["a@b"]),
            ("GOOGLE_CREDENTIALS", 2, &["{}"]),
            ("DATABRICKS_OIDC_TOKEN", 6, &["a.b.c"]),
            ("DATABRICKS_OIDC_TOKEN_ENV", 3, &["MY_TOKEN", "UNSET_TOKEN"]),
            ("MY_TOKEN", 10, &["a.b.c"]),
            ("DATABRICKS_RUNTIME_VERSION", 2, &["17.3"]),
            ("DATABRICKS_GROUP_ID", 2, &["7"]),
            ("DATABRICKS_RATE_LIMIT", 1, &["10", "many"]),
            ("DATABRICKS_DEBUG_HEADERS", 1, &["true", "yes"]),
            ("DATABRICKS_TOKEN_AUDIENCE", 2, &["aud"]),
        ] {
            if dice.percent(percent) && dice.roll(noise) == 0 {
                set(name, dice.pick(values));
            }
        }
        if dice.percent(5) {
            set(
                "DATABRICKS_OIDC_TOKEN_FILEPATH",
                &self.text(dice.pick(&["token", "no-token", "gone"])),
            );
        }
        if dice.percent(4) {
            set("DATABRICKS_CONFIG_FILE", &self.text(dice.pick(&["other.cfg", "gone.cfg"])));
        }
        if dice.percent(8) {
            set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://actions.example.org/github?v=1");
            if dice.percent(85) {
                set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer");
            }
        }
        if dice.percent(5) {
            set("SYSTEM_ACCESSTOKEN", "bearer");
            set("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", "https://dev.example.org/ada/");
            for name in ["SYSTEM_TEAMPROJECTID", "SYSTEM_PLANID", "SYSTEM_JOBID"] {
                set(name, "x");
            }
            if dice.percent(85) {
                set("SYSTEM_HOSTTYPE", "build");
            }
        }
        let cli = |dice: &mut Dice, name: &str| match dice.roll(4) {
            0 => (Cli::LoggedIn, Some(self.text(&format!("{name}-in")))),
            1 => (Cli::LoggedOut, Some(self.text(&format!("{name}-out")))),
            _ => (Cli::Absent, None),
        };
        let ((databricks, first), (az, second)) = (cli(dice, "databricks"), cli(dice, "az"));
        let path: Vec<String> = [first, second].into_iter().flatten().collect();
        set("PATH", &if path.is_empty() { "/nonexistent".to_owned() } else { path.join(":") });
        set("HOME", &self.text("home"));
        let file = dice.percent(75).then(|| profiles(dice));
        Case { env, file, databricks, az }
    }

    /// What was read in another way than by the SDKs, once.
    fn known_cases(&self) -> impl Iterator<Item = Case> {
        let env = [("HOME", self.text("home")), ("PATH", "/nonexistent".to_owned())];
        let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let host = "[DEFAULT]\nhost = https://one.cloud.databricks.com\n";
        let lines = [
            "token = a ;b #c",
            "token = dapi1\t# mine",
            "client_id = id\nclient_secret = #pw",
            "token = dapi1\naccount_id = a=b",
            "token = dapi1\nworkspace_id = a=b",
        ];
        lines.into_iter().map(move |line| Case {
            env: env.clone(),
            file: Some(format!("{host}{line}\n")),
            databricks: Cli::Absent,
            az: Cli::Absent,
        })
    }

    /// What this program says.
    fn ours(&self, case: &Case) -> Verdict {
        let mut test = Test::bare();
        test.instance_metadata = format!("http://{}", self.refusing.0);
        for (name, value) in &case.env {
            test.set(name, value);
        }
        let file = self.path("home").join(".databrickscfg");
        let _ = fs::remove_file(&file);
        if let Some(text) = &case.file {
            fs::write(&file, text).unwrap();
        }
        let report = test.run("status --for workspace --format json").stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut error = text(&report["errors"][0]["message"]);
        let auth_type = text(&report["auth_type"]);
        // Whether a CLI is logged in shows only when it is asked for a token.
        let asked = match auth_type.as_str() {
            "databricks-cli" => case.databricks,
            "azure-cli" => case.az,
            _ => Cli::LoggedIn,
        };
        if error.is_empty() && asked != Cli::LoggedIn {
            error = format!("no login: {auth_type}");
        }
        // Other auth types find what is missing when they fetch, before the first request.
        if error.is_empty() && CONFIGURED.contains(&&*auth_type) {
            test.set("HTTPS_PROXY", &format!("http://{}", self.refusing.0));
            let outcome = test.run("--for workspace --no-cache --timeout 150ms");
            if outcome.code != 5 {
                error = outcome.stderr;
            }
        }
        let values = values(&auth_type, &test);
        Verdict {
            host: text(&report["host"]),
            auth_type,
            error,
            values,
            profile: text(&report["profile"]),
            workspace_id: text(&report["workspace_id"]),
            read: Vec::new(),
            is_file_refused: false,
        }
    }

    /// Whether this difference says what the SDK decides: what this program does on the settings that the SDK
    /// has read, with the change of the difference.
    fn predicts(
        &self,
        known: &Difference,
        judge: &str,
        pair: (&Case, &Verdict),
        theirs: &Verdict,
    ) -> bool {
        let (case, ours) = pair;
        if known.of == Of::PythonFile {
            return true;
        }
        let (mut case, mut theirs) = as_read(case, theirs);
        (known.as_if)(&mut case, ours, &mut theirs);
        self.decides(judge, &case, &theirs, 3)
    }

    /// Whether an SDK has decided as this program does, up to so many differences that do not lie in reading.
    fn decides(&self, judge: &str, case: &Case, theirs: &Verdict, differences: u32) -> bool {
        // An empty value counts in the SDK for Python, but only as one auth type too many.
        let set = |(name, value): &(String, String)| match &**value {
            "" => (name.clone(), "true".to_owned()),
            value => (name.clone(), value.to_owned()),
        };
        let counted = Case { env: case.env.iter().map(set).collect(), ..case.clone() };
        let ours = Some(self.ours(&counted)).filter(|ours| ours.error.contains(CONFLICT));
        let ours = ours.unwrap_or_else(|| self.ours(case));
        let predicts = |known: &Difference| {
            let (mut changed, mut theirs) = (case.clone(), theirs.clone());
            (known.as_if)(&mut changed, &ours, &mut theirs);
            self.decides(judge, &changed, &theirs, differences - 1)
        };
        is_same(&ours, theirs)
            || differences > 0
                && DIFFERENCES.iter().any(|known| {
                    !known.is_in_reading()
                        && known.is_of(judge)
                        && (known.explains)(case, &ours, theirs)
                        && predicts(known)
                })
    }

    /// Whether this program decides on the settings that an SDK has read as it did.
    fn reads_alike(&self, case: &Case, ours: &Verdict, theirs: &Verdict) -> bool {
        let ours = Verdict { profile: String::new(), ..ours.clone() };
        let case = Case { env: theirs.read.clone(), file: None, ..case.clone() };
        is_same(&ours, &self.ours(&case))
    }
}

/// The settings that the SDK has read, without a file; and its verdict without what only its reading shows.
fn as_read(case: &Case, theirs: &Verdict) -> (Case, Verdict) {
    let (mut env, mut theirs) = (theirs.read.clone(), theirs.clone());
    theirs.profile.clear();
    if let Some((_, host)) = env.iter_mut().find(|(name, _)| name == "DATABRICKS_HOST") {
        // The SDK for Python finds the cloud by the end of the text.
        let plain = host.trim_start_matches("https://").trim_end_matches('/');
        if plain.contains(['/', '?', ' ']) {
            *host = "https://databricks.example.org".to_owned();
            theirs.host.clone_from(host);
        }
    }
    // Both may read a value over several lines, which this program would refuse.
    theirs.values.retain(|character| !character.is_whitespace());
    for (_, value) in &mut env {
        value.retain(|character| !character.is_whitespace());
    }
    (Case { env, file: None, ..case.clone() }, theirs)
}

/// The settings that an auth type sends, joined.
fn values(auth_type: &str, test: &Test) -> String {
    let ids: &[Id] = match auth_type {
        "pat" => &[Id::Token],
        "oauth-m2m" => &[Id::ClientId, Id::ClientSecret],
        "azure-client-secret" => &[Id::AzureClientId, Id::AzureClientSecret],
        "github-oidc" | "azure-devops-oidc" | "env-oidc" | "file-oidc" => &[Id::ClientId],
        "metadata-service" => &[Id::MetadataServiceUrl],
        _ => &[],
    };
    let context = test.context(|_| ());
    let Ok(settings) = Settings::resolve(&[], &context) else { return String::new() };
    let value = |id: &Id| settings.secret(*id).map(Secret::expose).unwrap_or_default();
    ids.iter().map(value).collect::<Vec<_>>().join("|")
}

const PROFILES: [&str; 8] =
    ["DEFAULT", "a", "b", "pat.with.dot", "missing", "empty", "__settings__", "with space"];

/// Rare lines, which readers of such files understand differently.
const ODD: [&str; 18] = [
    "token = \"\"\"dapi3\"\"\"",
    "token = `dapi4`",
    "token = 'half",
    "token = \"half",
    "token = a\\",
    "token = %(host)s",
    "token",
    "= dapi5",
    "token == dapi6",
    "[a] ; a comment",
    "[ a ]",
    "[a",
    "[b]",
    "[]",
    "host = https://twice.example.org",
    "token = dapi7 dapi8",
    "token = dapi#9#",
    "-token = dapi10",
];

/// A `.databrickscfg` in some notation.
fn profiles(dice: &mut Dice) -> String {
    let end = if dice.percent(10) { "\r\n" } else { "\n" };
    let mut text = String::new();
    let mut line = |words: &str| text.push_str(&format!("{words}{end}"));
    if dice.percent(10) {
        line("; a comment");
    }
    if dice.percent(15) {
        line("[__settings__]");
        if dice.percent(80) {
            line(&format!(
                "default_profile = {}",
                dice.pick(&["a", "b", "missing", " a ", "", "__settings__"])
            ));
        }
    }
    for name in PROFILES.iter().filter(|name| **name != "__settings__" && **name != "missing") {
        if dice.percent(45) {
            continue;
        }
        line(&format!("[{name}]"));
        if *name == "empty" {
            continue;
        }
        for (key, percent, values) in [
            ("host", 70, &HOSTS[..]),
            (
                "token",
                35,
                &[
                    "dapi1",
                    "dapi#1",
                    "'quoted'",
                    "\"quoted\"",
                    "dapi1 # mine",
                    "dapi1 ;x",
                    "a=b",
                    "",
                ],
            ),
            ("client_id", 15, &["id"]),
            ("client_secret", 15, &["secret", "se;cret"]),
            ("username", 4, &["ada"]),
            ("password", 4, &["p#1", "p"]),
            ("auth_type", 12, &AUTH_TYPES),
            ("account_id", 5, &["acc"]),
            ("azure_client_id", 4, &["arm"]),
            ("azure_tenant_id", 4, &["tenant"]),
            ("azure_client_secret", 4, &["armsecret"]),
            ("azure_use_msi", 3, &["true", "maybe"]),
            ("azure_workspace_resource_id", 3, &["/subscriptions/s/x"]),
            ("metadata_service_url", 2, &["http://localhost:1/metadata"]),
            ("oidc_token_env", 2, &["MY_TOKEN"]),
            ("scopes", 3, &["sql, postgres"]),
            ("cluster_id", 10, &["0123"]),
            ("lakebase_endpoint", 3, &["projects/p"]),
            ("Host", 2, &["https://capital.example.org"]),
            ("http_timeout_seconds", 2, &["30", "soon"]),
        ] {
            if !dice.percent(percent) {
                continue;
            }
            let value = dice.pick(values);
            line(&match dice.roll(8) {
                0 => format!("{key}={value}"),
                1 => format!("  {key} = {value}  "),
                2 => format!("{key}: {value}"),
                3 => format!("{key}\t=\t{value}"),
                _ => format!("{key} = {value}"),
            });
            if dice.percent(3) {
                line("# a comment = x");
            }
            if dice.percent(4) {
                line(dice.pick(&ODD));
            }
            if dice.percent(3) {
                line("");
            }
        }
    }
    text
}

/// Whether there is a file with profiles.
fn has_file(case: &Case) -> bool {
    match case.env.iter().find(|(name, _)| name == "DATABRICKS_CONFIG_FILE") {
        Some((_, path)) => Path::new(path).exists(),
        None => case.file.is_some(),
    }
}

/// What an SDK says to each case.
fn judged(mut judge: Command, ground: &Ground, cases: &[Case]) -> Vec<Verdict> {
    let mut lines = String::new();
    for case in cases {
        let env: serde_json::Map<String, Value> =
            case.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let line = json!({ "env": env, "home": ground.text("home"), "file": case.file });
        lines.push_str(&format!("{line}\n"));
    }
    let mut child = spawn(judge.stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<Verdict> = text
        .lines()
        .zip(cases)
        .map(|(line, case)| {
            let value: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let setting = |(name, value): (&String, &Value)| {
                (name.clone(), value.as_str().unwrap().to_owned())
            };
            let mut verdict = Verdict {
                host: text("host"),
                auth_type: text("auth_type"),
                error: text("error"),
                values: text("values"),
                profile: text("profile"),
                workspace_id: text("workspace_id"),
                read: value["read"].as_object().unwrap().iter().map(setting).collect(),
                is_file_refused: value["is_refused"] == true,
            };
            // The SDKs keep the name of a profile without a file, and the CLI's word for no workspace id.
            if !has_file(case) {
                verdict.profile.clear();
            }
            if verdict.workspace_id == "none" {
                verdict.workspace_id.clear();
            }
            // The SDKs configure some auth types without a workspace, where every request fails.
            if verdict.error.is_empty() && verdict.host.is_empty() {
                verdict.error = "no host".to_owned();
            }
            verdict
        })
        .collect();
    assert_eq!(verdicts.len(), cases.len(), "{said}");
    verdicts
}

/// Builds a program with the SDK for Go, once; or says why that fails.
pub fn go(name: &str) -> Result<Command, String> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock();
    let folder = repository().join("target/differential");
    fs::create_dir_all(folder.join(name)).unwrap();
    let source = repository().join(format!("tests/it/differential/{name}.go"));
    fs::copy(source, folder.join(name).join("main.go")).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new("go").args(args).current_dir(&folder).output();
        let output = output.map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    const SDK: &str = "github.com/databricks/databricks-sdk-go";
    const VERSION: &str = "v0.180.0";
    let known = fs::read_to_string(folder.join("go.mod")).unwrap_or_default();
    if !folder.join("go.sum").exists() || !known.contains(&format!("{SDK} {VERSION}")) {
        fs::write(folder.join("go.mod"), "module judge\n\ngo 1.24\n").unwrap();
        run(&["get", &format!("{SDK}@{VERSION}")])?;
    }
    let (package, program) = (format!("./{name}"), format!("{name}.program"));
    run(&["build", "-mod=mod", "-o", &program, &package])?;
    Ok(Command::new(folder.join(program)))
}

fn python(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(repository().join("tests/it/differential/judge.py"));
    command
}

/// A number from the environment, to repeat a run or to lengthen it.
pub fn set(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn the_official_sdks_choose_the_same_workspace_and_identity() {
    let test = "differential::the_official_sdks";
    let ground = Ground::new();
    let mut dice = Dice::seeded(20_261_121);
    let count = set("LAKEBASE_TOKEN_ENVIRONMENTS", 2000);
    let generated = (0..count).map(|_| ground.case(&mut dice));
    let cases: Vec<Case> = ground.known_cases().chain(generated).collect();
    let ours: Vec<Verdict> = cases.iter().map(|case| ground.ours(case)).collect();
    let mut unexplained = Vec::new();
    let mut judges = Vec::new();
    let mut used = BTreeSet::new();
    // Go's SDK comes first, and Python's is judged by it. Without Go, it is judged alone.
    let mut go_reads_alike = vec![true; cases.len()];
    if support::has(test, "go") {
        match go("judge") {
            Ok(judge) => judges.push(("Go", judge)),
            Err(why) => not_run(test, &format!("no SDK for Go: {why}")),
        }
    }
    match official_sdk::python() {
        Ok(path) => judges.push(("Python", python(&path))),
        Err(why) => not_run(test, &format!("no SDK for Python: {why}")),
    }
    for (name, judge) in judges {
        let theirs = judged(judge, &ground, &cases);
        let mut reasons: Vec<(&str, u64)> = Vec::new();
        let (mut same, mut found, mut compared) = (0_u64, 0, 0);
        for (at, ((case, ours), theirs)) in cases.iter().zip(&ours).zip(&theirs).enumerate() {
            if is_same(ours, theirs) {
                same += 1;
                found += u64::from(theirs.error.is_empty());
                compared += u64::from(theirs.error.is_empty() && !theirs.values.is_empty());
                continue;
            }
            let reason = DIFFERENCES.iter().find(|known| {
                known.is_of(name)
                    && (go_reads_alike[at] || known.of != Of::PythonReading)
                    && (known.explains)(case, ours, theirs)
                    && ground.predicts(known, name, (case, ours), theirs)
            });
            if name == "Go" {
                go_reads_alike[at] = reason.is_some_and(|known| match known.of {
                    Of::Order => true,
                    Of::Reading => false,
                    _ => ground.reads_alike(case, ours, theirs),
                });
            }
            match reason {
                Some(known) => match reasons.iter_mut().find(|(why, _)| *why == known.why) {
                    Some((_, times)) => *times += 1,
                    None => reasons.push((known.why, 1)),
                },
                None => unexplained.push(format!(
                    "{name}: {theirs:?}\nours: {ours:?}\n{:?}\n{:?}, az {:?}\n{}",
                    case.env,
                    case.databricks,
                    case.az,
                    case.file.as_deref().unwrap_or("(no file)")
                )),
            }
        }
        eprintln!(
            "{name}: {count} environments, {same} the same ({found} of them an identity, {compared} \
             with values)"
        );
        let shares = [(same, 80), (found, 20), (compared, 10)];
        let is_enough = |(number, percent): &(u64, u64)| number * 100 >= count * percent;
        assert!(shares.iter().all(is_enough), "{name}: too few are the same: {shares:?}");
        reasons.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        for (why, times) in reasons {
            eprintln!("  {times:6} {why}");
            assert!(times * 100 <= count * MAX_EXCUSED_PERCENT, "{name}: {times} times: {why}");
            used.insert(why);
        }
    }
    // Some are too rare for a short run.
    if count >= 60_000 {
        let unused = DIFFERENCES.iter().filter(|difference| !used.contains(difference.why));
        let unused: Vec<&str> = unused.map(|difference| difference.why).collect();
        assert!(unused.is_empty(), "no environment shows: {unused:?}");
    }
    let total = unexplained.len();
    unexplained.truncate(set("LAKEBASE_TOKEN_SHOWN", 8) as usize);
    assert!(total == 0, "{total} unexplained:\n\n{}", unexplained.join("\n\n"));
}

/// The same workspace, auth type and values; or both refuse, for the same reason.
fn is_same(ours: &Verdict, theirs: &Verdict) -> bool {
    if ours.error.is_empty() && theirs.error.is_empty() {
        let bare = |host: &str| {
            host.trim_start_matches("https://").trim_end_matches('/').to_ascii_lowercase()
        };
        // The SDK for Python does not name a profile that it takes because no other is named.
        let named =
            |profile: &str| if profile == "DEFAULT" { String::new() } else { profile.to_owned() };
        // The host of a resource id is resolved by a request only.
        let located = ours.host.is_empty() && theirs.host == "https://adb-42.6.azuredatabricks.net";
        return ours.auth_type == theirs.auth_type
            && ours.values == theirs.values
            && named(&ours.profile) == named(&theirs.profile)
            && ours.workspace_id == theirs.workspace_id
            && (located || bare(&ours.host) == bare(&theirs.host));
    }
    if ours.error.is_empty() || theirs.error.is_empty() {
        return false;
    }
    refusal(ours) == refusal(theirs)
}

/// What a refusal is about.
#[derive(Debug, PartialEq)]
enum Refusal {
    /// These methods are configured at once.
    Conflict(String),
    /// A setting, a profile or a file is not what it must be.
    Settings,
    /// What is configured cannot be used.
    Unusable,
}

fn refusal(verdict: &Verdict) -> Refusal {
    let error = &verdict.error;
    if let Some(tail) = error.split(&format!("{CONFLICT}: ")).nth(1) {
        return Refusal::Conflict(tail.split(['.', '\n']).next().unwrap_or_default().to_owned());
    }
    // The first ones are the SDKs' words, and Python's for a file and a number.
    let of_settings = [
        "resolve: ",
        "ParsingError",
        "Error: While reading",
        "invalid literal for int",
        "could not convert string",
        "has no profile ",
        "cannot read /",
        " is not true or false",
        " is not a whole number",
        " is a reserved section",
    ];
    if of_settings.iter().any(|words| error.contains(words)) {
        return Refusal::Settings;
    }
    Refusal::Unusable
}

/// What all three say.
const CONFLICT: &str = "more than one authorization method configured";

/// How many environments one difference may explain.
const MAX_EXCUSED_PERCENT: u64 = 10;
