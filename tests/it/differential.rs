//! The official SDKs and this program get the same environment, and must choose the same workspace
//! and auth type and send the same ids and secrets, or both refuse. The list at the end has the known differences, each with its reason.
//!
//! Environments are generated from a seed: subsets of variables, profiles in all notations, hosts of
//! all clouds, CLIs that are absent, logged in or logged out. `LAKEBASE_TOKEN_ENVIRONMENTS=10000`
//! tries more of them than CI does, `LAKEBASE_TOKEN_SEED` others.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use lakebase_token::config::settings::Settings;
use lakebase_token::config::table::Id;
use lakebase_token::credential::secret::Secret;

use super::official_sdk;
use super::support::{self, Dice, Test, not_run, repository, spawn};

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
const RECIPES: [&[(&str, &str)]; 14] = [
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
struct Case {
    env: Vec<(String, String)>,
    file: Option<String>,
    databricks: Cli,
    az: Cli,
}

/// The outcome: a workspace and an auth type, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    host: String,
    auth_type: String,
    error: String,
    /// What the auth type sends, as far as it comes from a setting.
    values: String,
}

/// The folder with the programs and files of all cases.
struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground { folder: tempfile::tempdir().unwrap() };
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

    /// What this program says.
    fn ours(&self, case: &Case) -> Verdict {
        let mut test = Test::bare();
        test.instance_metadata = "http://127.0.0.1:1".to_owned();
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
            test.set("HTTPS_PROXY", "http://127.0.0.1:1");
            let outcome = test.run("--for workspace --no-cache --timeout 150ms");
            if outcome.code != 5 {
                error = outcome.stderr;
            }
        }
        let values = values(&auth_type, &test);
        Verdict { host: text(&report["host"]), auth_type, error, values }
    }
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
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let mut verdict = Verdict {
                host: text("host"),
                auth_type: text("auth_type"),
                error: text("error"),
                values: text("values"),
            };
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
    if !folder.join("go.sum").exists() {
        fs::write(folder.join("go.mod"), "module judge\n\ngo 1.24\n").unwrap();
        run(&["get", "github.com/databricks/databricks-sdk-go@v0.180.0"])?;
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
    let mut dice = Dice(set("LAKEBASE_TOKEN_SEED", 20_261_121).max(1));
    let count = set("LAKEBASE_TOKEN_ENVIRONMENTS", 2000);
    let cases: Vec<Case> = (0..count).map(|_| ground.case(&mut dice)).collect();
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
            let reason = DIFFERENCES
                .iter()
                .filter(|difference| match difference.of {
                    Of::Both | Of::Order => true,
                    Of::Python => name == "Python",
                    Of::PythonAlone => name == "Python" && go_reads_alike[at],
                })
                .find(|difference| (difference.explains)(case, ours, theirs));
            if name == "Go" {
                go_reads_alike[at] = reason.is_some_and(|known| matches!(known.of, Of::Order));
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
    if count >= 20_000 {
        let unused = DIFFERENCES.iter().filter(|difference| !used.contains(difference.why));
        let unused: Vec<&str> = unused.map(|difference| difference.why).collect();
        assert!(unused.is_empty(), "no environment shows: {unused:?}");
    }
    let total = unexplained.len();
    unexplained.truncate(set("LAKEBASE_TOKEN_SHOWN", 8) as usize);
    assert!(total == 0, "{total} unexplained:\n\n{}", unexplained.join("\n\n"));
}

/// The same workspace, auth type and values; or both refuse, and name the same conflict if there is one.
fn is_same(ours: &Verdict, theirs: &Verdict) -> bool {
    if ours.error.is_empty() && theirs.error.is_empty() {
        let bare = |host: &str| host.trim_end_matches('/').to_ascii_lowercase();
        // The host of a resource id is resolved by a request only.
        let located = ours.host.is_empty() && theirs.host == "https://adb-42.6.azuredatabricks.net";
        return ours.auth_type == theirs.auth_type
            && ours.values == theirs.values
            && (located || bare(&ours.host) == bare(&theirs.host));
    }
    if ours.error.is_empty() || theirs.error.is_empty() {
        return false;
    }
    let conflict = "more than one authorization method configured";
    let named = |verdict: &Verdict| {
        let tail = verdict.error.split(&format!("{conflict}: ")).nth(1);
        tail.map(|tail| tail.split(['.', '\n']).next().unwrap_or_default().to_owned())
    };
    named(ours) == named(theirs)
}

/// How many environments one difference may explain.
const MAX_EXCUSED_PERCENT: u64 = 10;

/// Whose difference it is.
enum Of {
    /// Of both SDKs, or of the one for Go.
    Both,
    /// The same, and only in the order of auth types: both read the same settings.
    Order,
    /// Of the SDK for Python; that for Go may differ in another way.
    Python,
    /// Of the SDK for Python, where that for Go reads the same settings as we do. So it cannot hide a fault of ours.
    PythonAlone,
}

/// A known difference: in which environments, with which verdict of ours, and which of theirs.
struct Difference {
    why: &'static str,
    of: Of,
    explains: fn(&Case, &Verdict, &Verdict) -> bool,
}

/// Whether the SDK for Python went through all auth types, or failed in one that it tried.
fn found_nothing(theirs: &Verdict) -> bool {
    theirs.error.starts_with("ValueError: default auth: ")
}

fn has(case: &Case, name: &str) -> bool {
    case.env.iter().any(|(known, value)| known == name && !value.is_empty())
}

static DIFFERENCES: &[Difference] = &[
    Difference {
        why: "a configured auth type comes before the login of the Databricks CLI",
        of: Of::Order,
        explains: |_, ours, theirs| {
            theirs.auth_type == "databricks-cli" && CONFIGURED.contains(&&*ours.auth_type)
        },
    },
    Difference {
        why: "an Azure resource id means the Azure CLI, not the Databricks CLI",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let named = has(case, "DATABRICKS_AZURE_RESOURCE_ID") || ours.host.is_empty();
            theirs.auth_type == "databricks-cli" && ours.auth_type == "azure-cli" && named
        },
    },
    Difference {
        why: "the Databricks CLI comes before the Azure CLI only if a profile shows its login",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let host = ours.host.trim_start_matches("https://");
            let shows =
                |section: &str| section.contains("databricks-cli") && section.contains(host);
            let shown = case.file.iter().any(|text| text.split("\n[").any(shows));
            theirs.auth_type == "databricks-cli" && ours.auth_type == "azure-cli" && !shown
        },
    },
    Difference {
        why: "a configured Azure identity takes precedence over a job's own",
        of: Of::Order,
        explains: |case, ours, theirs| {
            let azure = ["ARM_CLIENT_ID", "ARM_USE_MSI"].iter().any(|name| has(case, name));
            let job = ["github-oidc", "azure-devops-oidc"].contains(&&*theirs.auth_type);
            let file = case.file.as_ref().is_some_and(|text| text.contains("azure_"));
            job && (azure || file) && CONFIGURED.contains(&&*ours.auth_type)
        },
    },
    Difference {
        why: "the failure of a configured auth type is final; the SDKs go on to the next",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let told = [
                "identity token",
                "error: the token ",
                "cannot act as the group",
                "is not on this machine",
            ];
            theirs.error.is_empty() && told.iter().any(|words| ours.error.contains(words))
        },
    },
    Difference {
        why: "a configured auth type that is not supported (basic, Google) is an error with what to use \
              instead; the SDKs go on to the next",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let refused = ours.error.contains("does not support the auth type");
            refused && theirs.error.is_empty()
        },
    },
    Difference {
        why: "a value over several lines is refused, since the SDKs do not agree on it",
        of: Of::Both,
        explains: |case, ours, _| {
            let odd = ["\"\"\"", "`", "\\"];
            let file =
                case.file.as_ref().is_some_and(|text| odd.iter().any(|odd| text.contains(odd)));
            file && ours.error.starts_with("cannot read")
        },
    },
    Difference {
        why: "a profile's secret or login is for that profile's host only",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let told = [" is for another host than ", ", but the workspace is "];
            let told = told.iter().any(|words| ours.error.contains(words));
            told && theirs.error.is_empty() && has(case, "DATABRICKS_HOST")
        },
    },
    Difference {
        why: "an incomplete service principal is an error, never a fallback to a person's login",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let login = ["databricks-cli", "azure-cli", "external-browser"];
            let parts = ["CLIENT_ID", "CLIENT_SECRET", "ARM_CLIENT_SECRET"];
            let env =
                case.env.iter().any(|(name, _)| parts.iter().any(|part| name.ends_with(part)));
            let file = case.file.as_ref().is_some_and(|text| text.contains("client_"));
            login.contains(&&*theirs.auth_type) && !ours.error.is_empty() && (env || file)
        },
    },
    Difference {
        why: "Entra tokens are sent to Databricks' domains only",
        of: Of::Both,
        explains: |case, ours, theirs| {
            let told = ours.error.contains("is not in a domain of Databricks");
            // Go's SDK goes on to a job's identity or to a login.
            let names = ["ARM_CLIENT_ID", "ARM_USE_MSI", "DATABRICKS_AZURE_RESOURCE_ID"];
            let azure = names.iter().any(|name| has(case, name));
            told && (theirs.auth_type.contains("azure") || azure && theirs.error.is_empty())
        },
    },
    Difference {
        why: "an account's host has no databases",
        of: Of::Both,
        explains: |_, ours, theirs| {
            let is_theirs = theirs.host.starts_with("https://accounts.")
                || theirs.error.contains("more than one authorization method");
            ours.error.contains("is the account console") && is_theirs
        },
    },
    Difference {
        why: "the SDK for Python does not know azure-msi",
        of: Of::Python,
        explains: |_, ours, theirs| {
            ours.auth_type == "azure-msi"
                && (theirs.auth_type.starts_with("azure-") || found_nothing(theirs))
        },
    },
    Difference {
        why: "the SDK for Python needs a client id with a job's identity token",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let job = ["github-oidc", "azure-devops-oidc"].contains(&&*ours.auth_type);
            let later = ["env-oidc", "file-oidc", "azure-cli"].contains(&&*theirs.auth_type);
            job && !has(case, "DATABRICKS_CLIENT_ID") && (later || found_nothing(theirs))
        },
    },
    Difference {
        why: "the SDK for Python tries auth types in another order",
        of: Of::Python,
        explains: |_, ours, theirs| {
            let chosen = (&*ours.auth_type, &*theirs.auth_type);
            [
                ("github-oidc-azure", "azure-client-secret"),
                ("github-oidc", "env-oidc"),
                ("azure-devops-oidc", "azure-cli"),
            ]
            .contains(&chosen)
        },
    },
    Difference {
        why: "the SDK for Python takes a false value for a configured auth type",
        of: Of::Python,
        explains: |case, _, theirs| {
            let is_false = |value: &str| ["0", "f", "false"].contains(&&*value.to_lowercase());
            case.env.iter().any(|(name, value)| name == "ARM_USE_MSI" && is_false(value))
                && theirs.error.contains(" method configured: azure and ")
        },
    },
    Difference {
        why: "the SDK for Python takes any text for true, and a false value for a setting",
        of: Of::PythonAlone,
        explains: |case, _, _| {
            let file = case.file.as_ref().is_some_and(|text| text.contains("azure_use_msi"));
            has(case, "ARM_USE_MSI") || has(case, "DATABRICKS_DEBUG_HEADERS") || file
        },
    },
    Difference {
        why: "the SDK for Python asks the workspace for the tenant of a service principal",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let in_file = case.file.as_ref().is_some_and(|text| text.contains("azure_tenant_id"));
            let is_missing = ours.error.ends_with(" has no azure_tenant_id");
            let is_missing = is_missing || !in_file && !has(case, "ARM_TENANT_ID");
            theirs.auth_type == "azure-client-secret" && is_missing
        },
    },
    Difference {
        why: "the SDK for Python takes a profile without any key",
        of: Of::PythonAlone,
        explains: |_, ours, _| ours.error.contains("has no profile "),
    },
    Difference {
        why: "the SDK for Python reads files in another way: indented lines continue, keys in any case, \
              quotes and comments are kept, an empty value counts, a repeated key is an error",
        of: Of::PythonAlone,
        explains: |case, _, theirs| {
            let odd = ["\n  ", "\t", "'", "\"", " #", " ;", "Host", "\n\n"];
            let empty = |line: &str| line.trim_end().ends_with(['=', ':']);
            let is_odd =
                |text: &String| odd.iter().any(|odd| text.contains(odd)) || text.lines().any(empty);
            case.file.as_ref().is_some_and(is_odd) || theirs.error.contains("Error: While reading")
        },
    },
    Difference {
        why: "the SDK for Python keeps the path and the query of a host",
        of: Of::Python,
        explains: |case, ours, theirs| {
            let kept = |text: &str| text.contains("/sql/editor") || text.contains("?o=");
            let is_set = case.env.iter().any(|(_, value)| kept(value))
                || case.file.as_ref().is_some_and(|text| kept(text));
            kept(&theirs.host) && theirs.auth_type == ours.auth_type
                || is_set && theirs.error.contains("Invalid URL 'None'")
        },
    },
    Difference {
        why: "the SDK for Python does not take a host with a query for one on Azure",
        of: Of::PythonAlone,
        explains: |_, _, theirs| theirs.error.contains("?o="),
    },
    Difference {
        why: "the SDK for Python does not count azure_login_app_id as a setting of Azure",
        of: Of::PythonAlone,
        explains: |case, _, _| has(case, "DATABRICKS_AZURE_LOGIN_APP_ID"),
    },
    Difference {
        why: "the SDK for Python decides by the host alone whether a workspace is on Azure",
        of: Of::PythonAlone,
        explains: |case, ours, _| {
            let file = case.file.as_ref().is_some_and(|text| text.contains("resource_id"));
            let named = has(case, "DATABRICKS_AZURE_RESOURCE_ID") || file;
            ours.auth_type.starts_with("azure") && named
        },
    },
];
