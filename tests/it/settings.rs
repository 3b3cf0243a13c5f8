//! How settings are resolved: the rules of unified authentication (databricks-sdk-go
//! `config/auth_permutations_test.go` and its neighbours), our own settings, and bad input.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::stopwatch::Stopwatch;
use super::support::{HOME, Test, spawn, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, PAT};

const FILE: &str = ".databrickscfg";

/// What `status` reports: host, auth type and error message.
fn resolved(test: &Test) -> (Option<String>, Option<String>, Option<String>) {
    let outcome = test.run("status --format json");
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (text(&report["host"]), text(&report["auth_type"]), text(&report["errors"][0]["message"]))
}

fn with(variables: &[(&str, &str)], file: &str) -> Test {
    let mut test = Test::bare();
    for (name, value) in variables {
        test.set(name, value);
    }
    if !file.is_empty() {
        test.write(FILE, file);
    }
    test
}

#[track_caller]
fn expect(variables: &[(&str, &str)], file: &str, host: &str, auth_type: &str) {
    let found = resolved(&with(variables, file));
    assert_eq!(
        (found.0.as_deref(), found.1.as_deref()),
        (Some(host), Some(auth_type)),
        "{found:?}"
    );
}

#[track_caller]
fn refuses(variables: &[(&str, &str)], file: &str, words: &str) {
    let test = with(variables, file);
    let outcome = test.run("get");
    outcome.fails(2, &[words]);
}

const HOST: (&str, &str) = ("DATABRICKS_HOST", "x");
const TOKEN: (&str, &str) = ("DATABRICKS_TOKEN", "x");
const USERNAME: (&str, &str) = ("DATABRICKS_USERNAME", "x");
const PASSWORD: (&str, &str) = ("DATABRICKS_PASSWORD", "x");
const NO_IDENTITY: &str = "no Databricks identity is configured";
const NO_WORKSPACE: &str = "no workspace is configured";

#[test]
fn the_sdks_permutation_table() {
    refuses(&[], "", NO_IDENTITY);
    refuses(&[HOST], "", NO_IDENTITY);
    refuses(&[TOKEN], "", NO_WORKSPACE);
    expect(&[HOST, TOKEN], "", "https://x", "pat");
    refuses(&[USERNAME, PASSWORD], "", "basic");
    refuses(&[HOST, USERNAME, PASSWORD], "", "does not support the auth type basic");
    refuses(
        &[HOST, TOKEN, USERNAME, PASSWORD],
        "",
        "more than one authorization method configured: basic and pat",
    );
    expect(
        &[HOST, TOKEN, USERNAME, PASSWORD, ("DATABRICKS_AUTH_TYPE", "pat")],
        "",
        "https://x",
        "pat",
    );
    refuses(&[("DATABRICKS_CONFIG_FILE", "x")], "", NO_IDENTITY);
    let file = "[DEFAULT]\nhost = https://dbc-XX/\ntoken = dapi1\n[abc]\nhost = foo\ntoken = y\n\
                [pat.with.dot]\nhost = https://dot\ntoken = z\n[nohost]\ntoken = t\n[empty]\n";
    expect(&[], file, "https://dbc-xx", "pat");
    refuses(
        &[HOST],
        file,
        ".databrickscfg was not read, since these are set and no profile is named",
    );
    expect(&[("DATABRICKS_CONFIG_PROFILE", "abc")], file, "https://foo", "pat");
    expect(&[("DATABRICKS_CONFIG_PROFILE", "pat.with.dot")], file, "https://dot", "pat");
    refuses(&[("DATABRICKS_CONFIG_PROFILE", "nohost")], file, NO_WORKSPACE);
    refuses(&[TOKEN, ("DATABRICKS_CONFIG_PROFILE", "nohost")], file, NO_WORKSPACE);
    expect(&[HOST, ("DATABRICKS_CONFIG_PROFILE", "nohost")], file, "https://x", "pat");
    refuses(
        &[USERNAME, ("DATABRICKS_CONFIG_PROFILE", "nohost")],
        file,
        "more than one authorization method configured: basic and pat",
    );
    for name in ["empty", "absent"] {
        refuses(&[("DATABRICKS_CONFIG_PROFILE", name)], file, &format!("has no profile {name}"));
    }
    refuses(
        &[("DATABRICKS_CONFIG_PROFILE", "DEFAULT")],
        "[a]\nhost = x\n",
        "has no profile DEFAULT",
    );
    refuses(&[], "[DEFAULT]\n[a]\nhost = x\ntoken = y\n", "has no DEFAULT profile, but a");
    refuses(
        &[("DATABRICKS_CLIENT_ID", "me")],
        "",
        "client_id from DATABRICKS_CLIENT_ID has no client_secret",
    );
    refuses(
        &[("DATABRICKS_CLIENT_SECRET", "s")],
        "",
        "client_secret from DATABRICKS_CLIENT_SECRET has no client_id",
    );
    refuses(&[("DATABRICKS_CONFIG_FILE", "/nosuch")], "", "there is no /nosuch");
    refuses(
        &[HOST, TOKEN, ("DATABRICKS_AZURE_RESOURCE_ID", "/sub/rg/ws")],
        "",
        "more than one authorization method configured: azure and pat",
    );
    refuses(
        &[HOST, USERNAME, ("DATABRICKS_AZURE_RESOURCE_ID", "/sub/rg/ws")],
        "",
        "more than one authorization method configured: azure and basic",
    );
}

/// The rows about Azure. Whether `az` is logged in shows only when it runs.
#[test]
fn the_sdks_permutation_table_on_azure() {
    const AZURE: (&str, &str) = ("DATABRICKS_HOST", "https://adb-123.4.azuredatabricks.net/");
    const URL: &str = "https://adb-123.4.azuredatabricks.net";
    const RESOURCE: (&str, &str) = ("DATABRICKS_AZURE_RESOURCE_ID", "/sub/rg/ws");
    expect(&[AZURE, TOKEN], "", URL, "pat");
    let mut test = with(&[AZURE, RESOURCE], "");
    test.tool("az", json!([{ "exit": 1 }]));
    let of = |test: &Test| resolved(test).1;
    assert_eq!(of(&test).as_deref(), Some("azure-cli"));
    // The host alone is enough, and so is a resource id alone.
    assert_eq!(of(test.unset(RESOURCE.0)).as_deref(), Some("azure-cli"));
    test.set(RESOURCE.0, RESOURCE.1).unset(AZURE.0);
    assert_eq!(of(&test).as_deref(), Some("azure-cli"));
    // Without the program, the auth type cannot be used.
    test.unset("PATH").run("").fails(2, &["auth type azure-cli needs the Azure CLI"]);
    let arm = [("ARM_CLIENT_ID", "a"), ("ARM_CLIENT_SECRET", "b"), ("ARM_TENANT_ID", "c")];
    expect(&[AZURE, arm[0], arm[1], arm[2]], "", URL, "azure-client-secret");
    expect(&[AZURE, ("ARM_USE_MSI", "t")], "", URL, "azure-msi");
    expect(&[AZURE, arm[0], arm[1], arm[2], ("ARM_USE_MSI", "t")], "", URL, "azure-msi");
    // Only on Azure, even if `cloud` says that another host is there.
    refuses(&[HOST, arm[0], arm[1], arm[2]], "", "is for a workspace on Azure");
    let cloud = ("DATABRICKS_CLOUD", "Azure");
    refuses(&[HOST, arm[0], arm[1], arm[2], cloud], "", "is not in a domain of Databricks");
    let file = "[DEFAULT]\nhost = https://d\ntoken = t\n[a]\nhost = adb-123.4.azuredatabricks.net\n\
                azure_client_id = a\nazure_client_secret = b\nazure_tenant_id = c\n";
    expect(&[("DATABRICKS_CONFIG_PROFILE", "a")], file, URL, "azure-client-secret");
    refuses(&[RESOURCE, ("PATH", "/nonexistent")], file, "needs the Azure CLI");
}

#[test]
fn the_default_profile_of_the_cli_counts() {
    let file = "[__settings__]\ndefault_profile = abc \n[DEFAULT]\nhost = d\ntoken = d\n[abc]\nhost = a\ntoken = a\n";
    expect(&[], file, "https://a", "pat");
    expect(&[("DATABRICKS_CONFIG_PROFILE", "DEFAULT")], file, "https://d", "pat");
    refuses(&[("DATABRICKS_CONFIG_PROFILE", "__settings__")], file, "reserved section");
    let dangling = "[__settings__]\ndefault_profile = gone\n[DEFAULT]\nhost = d\ntoken = d\n";
    let outcome = with(&[], dangling).run("get");
    outcome.fails(2, &["has no profile gone", "hint: --profile NAME, with one of these names"]);
    let near = dangling.replace("[DEFAULT]", "[gonee]");
    let outcome = with(&[], &near).run("get");
    outcome.fails(2, &["has no profile gone", "hint: --profile gonee"]);
    assert!(!outcome.stderr.contains("--profile NAME"), "{outcome:?}");
    let empty = "[__settings__]\ndefault_profile =\n[DEFAULT]\nhost = d\ntoken = d\n";
    expect(&[], empty, "https://d", "pat");
}

#[test]
fn default_is_not_inherited() {
    let file = "[DEFAULT]\ntoken = dapi1\nhost = https://d\n[abc]\nhost = https://a\n";
    refuses(&[("DATABRICKS_CONFIG_PROFILE", "abc")], file, NO_IDENTITY);
}

#[test]
fn a_flag_beats_the_named_profile_which_beats_the_environment() {
    let test = with(&[("DATABRICKS_HOST", "env")], "[p]\nhost = file\ntoken = t\n");
    let report = |line: &str| -> Value {
        serde_json::from_str(&test.run(&format!("status --format json {line}")).stdout).unwrap()
    };
    let host = report("-p p")["settings"]["host"].clone();
    assert_eq!(
        (host["value"].as_str(), host["origin"].as_str()),
        (Some("https://file"), Some("profile p"))
    );
    let flags = report("-p p --host flag");
    assert_eq!(flags["settings"]["host"]["origin"], "--host");
    assert_eq!(flags["settings"]["token"]["origin"], "profile p");
    assert_eq!(flags["settings"]["token"]["value"], "***");
    assert_eq!(flags["profile"], "p");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let file = "[DEFAULT]\nhost = d\ntoken = t\n";
    expect(&[("DATABRICKS_HOST", ""), ("DATABRICKS_TOKEN", "")], file, "https://d", "pat");
}

#[test]
fn a_variable_names_another_configuration_file() {
    let test = with(&[("DATABRICKS_CONFIG_FILE", "~/conf/databricks.cfg")], "");
    test.write("conf/databricks.cfg", "[DEFAULT]\nhost = elsewhere\ntoken = t\n");
    assert_eq!(resolved(&test).0.as_deref(), Some("https://elsewhere"));
}

#[test]
fn a_profile_may_hold_all_database_settings() {
    let workspace = workspace();
    let test = Test::bare();
    let file = format!(
        "[shop]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n\
         lakebase_endpoint = projects/shop\npg_user = writers\npg_database = orders\nunknown_key = ignored\n",
        workspace.url
    );
    test.write(FILE, &file);
    let line = test.run("-p shop -f pgpass --pg-host h").token();
    assert!(line.starts_with("h:5432:orders:writers:"), "{line}");
}

#[test]
fn secrets_come_from_files_or_stdin_never_from_arguments() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_SECRET");
    let path = test.write("secret", &format!("{CLIENT_SECRET}\n"));
    test.run(&format!("--client-secret-file {}", path.display())).token();
    test.run("--client-secret-file /does/not/exist")
        .fails(2, &["cannot read --client-secret-file"]);
    let empty = test.write("empty", "\n");
    test.run(&format!("--client-secret-file {}", empty.display())).fails(2, &["is empty"]);
    let outcome = test.run(&format!("--client-secret {CLIENT_SECRET}"));
    outcome.fails(
        2,
        &["`ps` would show the secret", "DATABRICKS_CLIENT_SECRET, or --client-secret-file PATH"],
    );
    assert!(!outcome.stderr.contains(CLIENT_SECRET));
    let outcome = test.run(&format!("--token={PAT}"));
    outcome.fails(2, &["DATABRICKS_TOKEN, or --token-file PATH"]);
    assert!(!outcome.stderr.contains(PAT));

    test.unset("DATABRICKS_CLIENT_ID");
    let mut command = test.command();
    command.args(["--token-file", "-", "--no-cache"]).stdin(std::process::Stdio::piped());
    let mut child = spawn(&mut command);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), PAT.as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn unusable_hosts_are_refused() {
    for (host, words) in [
        ("http://adb-1.2.azuredatabricks.net", "is not https"),
        ("http://localhost:8080", "is not https"),
        ("https://me:hunter2@x.cloud.databricks.com", "user name or password"),
        ("https://a b", "white space"),
        ("https://a\nb", "control character inside: https://a\\nb"),
        ("https://x:port", "a port that is not a number"),
        ("https://x:70000", "a port that is not a number"),
        ("ftp://x", "does not begin with https"),
        ("https://", "names no host"),
        ("https://accounts.cloud.databricks.com", "account console"),
    ] {
        let test =
            with(&[("DATABRICKS_HOST", host), TOKEN, ("LAKEBASE_ENDPOINT", "projects/p")], "");
        let outcome = test.run("");
        outcome.fails(2, &[words, "DATABRICKS_HOST"]);
        assert!(!outcome.stderr.contains("hunter2"));
    }
}

#[test]
fn pasted_urls_reach_the_same_workspace() {
    let workspace = workspace();
    for suffix in ["", "/", "/?o=1", "/sql/editor?w=2#x", "\n"] {
        let mut test = Test::at(&workspace);
        test.set("DATABRICKS_HOST", &format!("{}{suffix}", workspace.url));
        test.run("").token();
        assert_eq!(workspace.take_requests()[0], "POST /oidc/v1/token");
    }
}

/// What is set and means nothing is named where it may be the reason.
#[test]
fn misspelled_variables_and_keys_are_named() {
    let workspace = workspace();
    let mut test = Test::bare();
    test.set("DATABRICK_HOST", &workspace.url).set("LAKEBASE_ENDPIONT", "projects/shop");
    let words = [
        "DATABRICK_HOST is set and means nothing; is it DATABRICKS_HOST?",
        "LAKEBASE_ENDPIONT is set and means nothing; is it LAKEBASE_ENDPOINT?",
    ];
    test.run("").fails(2, &words);
    assert!(test.run("status").stderr.contains(words[0]));
    // What other programs have is none.
    test.unset("DATABRICK_HOST").unset("LAKEBASE_ENDPIONT");
    test.set("LAKEBASE_TOKEN_LOG", "/dev/null").set("LAKEBASE_PROJECT", "x");
    test.set("DATABRICKS_APP_NAME", "x").set("DATABRICKS_RUNTIME_VERSION", "16");
    assert!(!test.run("status").stderr.contains("means nothing"));

    test.write(".databrickscfg", "[work]\nHost = https://x.cloud.databricks.com\nTOKEN = y\n");
    test.run("-p work").fails(2, &["profile work has unknown keys: Host, TOKEN; known keys are"]);
    test.run("-p WORK").fails(2, &["hint: --profile work"]);
}

/// A workspace by variable, and a profile for it in the file: the profile is proposed.
#[test]
fn a_profile_for_the_workspace_is_proposed_where_none_was_named() {
    let workspace = workspace();
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", &workspace.url);
    test.run("").fails(2, &["and there is no ", ".databrickscfg\n"]);
    let profile = format!("[other]\nhost = https://x\n[work]\nhost = {}\n", workspace.url);
    test.write(".databrickscfg", &profile);
    let outcome = test.run("");
    outcome.fails(2, &[".databrickscfg was not read", "hint: --profile work\n"]);
    assert!(!outcome.stderr.contains("--profile other"), "{outcome:?}");
}

#[test]
fn unusable_numbers_and_names_are_refused() {
    let workspace = workspace();
    for (name, value, words) in [
        ("PGPORT", "abc", "PGPORT is not a port: abc"),
        ("PGPORT", "0", "is not a port"),
        ("PGPORT", "65536", "1 to 65535"),
        ("PGSSLMODE", "required", "PGSSLMODE is not an sslmode: required"),
        ("LAKEBASE_TOKEN_TIMEOUT", "0s", "100ms and 10m"),
        ("LAKEBASE_TOKEN_TIMEOUT", "-1s", "not a duration"),
        ("LAKEBASE_TOKEN_MIN_TTL", "50", "not a duration like"),
        ("LAKEBASE_ENDPOINT", "ep-cool-sky-1234abcd", "only a label"),
        ("LAKEBASE_ENDPOINT", "a/b/c/d", "not a resource name"),
        (
            "DATABRICKS_WORKSPACE_ID",
            "12 34",
            "workspace_id from DATABRICKS_WORKSPACE_ID is not an id",
        ),
        ("DATABRICKS_WORKSPACE_ID", "a\r\nX: y", "has a control character"),
        (
            "DATABRICKS_RATE_LIMIT",
            "many",
            "rate_limit from DATABRICKS_RATE_LIMIT is not a whole number",
        ),
        ("DATABRICKS_DEBUG_HEADERS", "yes", "is not true or false"),
        (
            "DATABRICKS_TOKEN",
            "bearer dapi0123456789",
            "token from DATABRICKS_TOKEN begins with the word bearer",
        ),
        (
            "DATABRICKS_AUTH_TYPE",
            "password",
            "auth type password from DATABRICKS_AUTH_TYPE does not exist",
        ),
    ] {
        let mut test = Test::at(&workspace);
        test.set(name, value).run("").fails(2, &[words]);
    }
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT")
        .set("LAKEBASE_INSTANCE", "a/b")
        .run("")
        .fails(2, &["LAKEBASE_INSTANCE is not an instance name: a/b"]);
    test.unset("LAKEBASE_INSTANCE").set("PGHOST", "/var/run/postgresql");
    test.run("").fails(2, &["PGHOST is not a host name or an IP address", "--endpoint"]);
    let bytes = not_unicode();
    test.unset("PGHOST").env.push(("PGDATABASE".into(), bytes));
    test.run("").fails(2, &["PGDATABASE is not valid UTF-8"]);
    assert!(workspace.take_requests().is_empty(), "a refusal costs no request");
}

#[test]
fn settings_of_the_sdks_that_mean_nothing_here_are_accepted() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    for (name, value) in [
        ("DATABRICKS_RATE_LIMIT", "15"),
        ("DATABRICKS_RATE_LIMIT", "-1"),
        ("DATABRICKS_DEBUG_HEADERS", "True"),
        ("DATABRICKS_DEBUG_HEADERS", "0"),
    ] {
        test.set(name, value).run("").token();
    }
}

#[test]
fn a_workspace_token_ignores_postgres_settings() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGPORT", "abc").set("PGHOST", "ep-x-pooler.example.com").set("PGSSLMODE", "?");
    test.set("LAKEBASE_ENDPOINT", "nonsense");
    test.run("--for workspace").token();
}

#[test]
fn a_secret_file_that_is_a_slow_pipe_ends_by_the_deadline() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let [fifo, slow] = ["fifo", "slow"].map(|name| {
        let path = test.home.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    });
    for line in ["--timeout 500ms --client-secret-file", "--timeout 500ms --token-file"] {
        let stopwatch = Stopwatch::start();
        test.run(&format!("{line} {}", fifo.display())).fails(2, &["within 500ms"]);
        stopwatch.assert_within(Duration::from_millis(1400));
    }
    // The time that the file takes is part of the whole call.
    workspace.fault("/", 1, Answer::Hang(Duration::from_secs(9)));
    let path = slow.clone();
    std::thread::spawn(move || {
        let mut writer = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        writeln!(writer, "{CLIENT_SECRET}").unwrap();
    });
    let stopwatch = Stopwatch::start();
    let line = format!("--timeout 3s --client-secret-file {}", slow.display());
    test.run(&line).fails(5, &["before the deadline"]);
    stopwatch.assert_within(Duration::from_millis(4500));
    let mut test = Test::at(&workspace);
    test.set("SSL_CERT_FILE", fifo.to_str().unwrap());
    test.set("DATABRICKS_HOST", &workspace.url.replace("http:", "https:"));
    test.run("").fails(2, &["SSL_CERT_FILE has no usable certificate", "it is not a regular file"]);
}

#[test]
fn unreadable_configuration_files_are_named() {
    // Not even root can read from this file.
    let test = with(&[("DATABRICKS_CONFIG_FILE", "/proc/self/mem")], "");
    test.run("").fails(2, &["cannot read /proc/self/mem", "os error 5"]);
    let test = with(&[], "[DEFAULT\nhost = x\n");
    test.run("").fails(2, &[FILE, "line 1: unclosed section"]);
    let test = with(&[], "[DEFAULT]\nhost x\n");
    test.run("").fails(2, &["line 2: neither a [section] nor a `key = value`"]);
    let test = with(&[], "");
    std::fs::create_dir(test.home.path().join(FILE)).unwrap();
    test.run("").fails(2, &[FILE, "not a regular file"]);
    let test = with(&[], "");
    std::fs::write(test.home.path().join(FILE), [0xff, 0xfe]).unwrap();
    test.run("").fails(2, &[FILE, "not valid UTF-8"]);
    let test = with(&[], &"# padding\n".repeat(200_000));
    test.run("").fails(2, &[FILE, "1 MiB"]);
}

#[test]
fn an_identity_token_of_the_environment_completes_a_named_profile() {
    let mut test = with(&[("DATABRICKS_OIDC_TOKEN", "a.b.c")], "[p]\nhost = x\n");
    test.set("DATABRICKS_CONFIG_PROFILE", "none");
    let status = test.run("status -p p --format json").stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["auth_type"], "env-oidc", "{status}");
    assert_eq!(status["ignored"], json!(["DATABRICKS_CONFIG_PROFILE"]), "{status}");
}

#[test]
fn an_unknown_profile_is_answered_with_the_existing_ones() {
    let file = "[__settings__]\nx = y\n[prod]\nhost = x\n[dev]\nhost = y\n";
    let test = with(&[], file);
    let outcome = test.run("-p prdo");
    outcome.fails(2, &["has no profile prdo", "the file has prod, dev", "hint: --profile prod"]);
    assert!(!outcome.stderr.contains("login"), "the near name is the mend: {outcome:?}");
    // The SDKs go on without the file. A profile that is named by flag is an error here.
    let mut test = with(&[], "");
    let said = ["profile prod from --profile: there is no", FILE, "hint: lakebase-token login"];
    test.run("-p prod").fails(2, &said);
    test.tool("databricks", json!([]));
    test.run("-p prod").fails(2, &["hint: databricks auth login --profile prod"]);
    test.set("DATABRICKS_CONFIG_PROFILE", "prod");
    let words = [NO_IDENTITY, "there is no", FILE, "profile=prod from DATABRICKS_CONFIG_PROFILE"];
    test.run("").fails(2, &words);
    let mut test = with(&[], file);
    test.unset(HOME);
    let missing = format!("{HOME} is not set");
    test.run("-p prod").fails(2, &[&missing, "DATABRICKS_CONFIG_FILE"]);
}

#[test]
fn a_conflict_names_each_setting_and_its_origin() {
    let file = "[p]\nhost = x\ntoken = y\n";
    let test = with(
        &[
            ("DATABRICKS_CLIENT_ID", "a"),
            ("DATABRICKS_CLIENT_SECRET", "hunter2"),
            ("DATABRICKS_CONFIG_PROFILE", "p"),
        ],
        file,
    );
    let outcome = test.run("");
    outcome.fails(
        2,
        &[
            "more than one authorization method configured: oauth and pat",
            "oauth: client_id from DATABRICKS_CLIENT_ID, client_secret from DATABRICKS_CLIENT_SECRET",
            "pat: token from profile p",
            "--auth-type",
        ],
    );
    assert!(!outcome.stderr.contains("hunter2"));
    let report: Value =
        serde_json::from_str(&test.run("status --auth-type pat --format json").stdout).unwrap();
    assert_eq!(report["auth_type"], "pat");
    // Named by flag, the profile holds a complete method, so variables do not conflict with it.
    let report: Value =
        serde_json::from_str(&test.run("status -p p --format json").stdout).unwrap();
    assert_eq!(report["auth_type"], "pat");
}

/// A text that no UTF-8 can have.
#[cfg(unix)]
fn not_unicode() -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(vec![b'a', 0xff])
}

#[cfg(windows)]
fn not_unicode() -> std::ffi::OsString {
    std::os::windows::ffi::OsStringExt::from_wide(&[u16::from(b'a'), 0xd800])
}
