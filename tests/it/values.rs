//! Values as people have them: pasted with blanks, line ends of Windows or a byte order mark, with a
//! port, a scheme or quotes; and the other names that samples give to the same things.

use serde_json::Value;

use super::support::{Test, workspace};
use crate::sandbox::workspace::*;

/// What surrounds a value by accident.
const AROUND: [(&str, &str); 8] = [
    ("", "\r"),
    ("", "\r\n"),
    (" ", "  "),
    ("\u{feff}", ""),
    ("\u{200b}", "\u{200d}"),
    ("\t", "\n"),
    ("\u{a0}", "\u{2003}"),
    ("\u{3000}", "\u{feff}\n"),
];

#[test]
fn what_surrounds_a_value_is_cut_off() {
    let workspace = workspace();
    for (before, after) in AROUND {
        let around = |value: &str| format!("{before}{value}{after}");
        let mut test = Test::at(&workspace);
        test.set("DATABRICKS_HOST", &around(&workspace.url));
        test.set("DATABRICKS_CLIENT_ID", &around(CLIENT_ID));
        test.set("DATABRICKS_CLIENT_SECRET", &around(CLIENT_SECRET));
        test.set("DATABRICKS_AUTH_TYPE", &around("oauth-m2m"));
        test.set("DATABRICKS_WORKSPACE_ID", &around("900800700600"));
        test.set("LAKEBASE_ENDPOINT", &around(ENDPOINT));
        test.set("LAKEBASE_TOKEN_TTL", &around("15m")).set("LAKEBASE_TOKEN_TIMEOUT", &around("9s"));
        test.run("").token();

        // From a profile, by its name, and in a flag.
        let profile = format!(
            "[p]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = \u{feff}{CLIENT_SECRET}\u{200b}\n",
            workspace.url
        );
        let mut test = Test::bare();
        test.write(".databrickscfg", &profile);
        test.set("DATABRICKS_CONFIG_PROFILE", &around("p"));
        let argv = ["--endpoint".into(), around(ENDPOINT).into()];
        test.run_args(&argv).token();

        // libpq's: cleaned, with a note, since psql would read them as they stand.
        let mut test = Test::at(&workspace);
        test.set("PGHOST", &around(ENDPOINT_HOST)).set("PGPORT", &around("5432"));
        test.set("PGSSLMODE", &around("require"));
        let outcome = test.run("-f json");
        for name in ["PGHOST", "PGPORT", "PGSSLMODE"] {
            outcome.notes(&format!("{name} has a surplus blank, line end or port"));
        }
        let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!((&object["host"], &object["port"]), (&ENDPOINT_HOST.into(), &"5432".into()));
    }
}

#[test]
fn blanks_stay_where_they_are_legal() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGUSER", " me ").set("PGDATABASE", "a b \r\n");
    let outcome = test.run("-f json");
    outcome.notes("PGDATABASE has a surplus blank, line end or port");
    assert!(!outcome.stderr.contains("PGUSER"), "{outcome:?}");
    let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&object["user"], &object["database"]), (&" me ".into(), &"a b ".into()));

    // A path is never changed; the message shows its blanks.
    test.set("DATABRICKS_CONFIG_FILE", "/nowhere/x ");
    test.run("-p p").fails(2, &["there is no /nowhere/x "]);

    // Nothing but blanks is nothing.
    let mut test = Test::at(&workspace);
    for name in ["DATABRICKS_TOKEN", "DATABRICKS_AUTH_TYPE", "PGHOST", "LAKEBASE_INSTANCE"] {
        test.set(name, " \u{feff}\r\n");
    }
    test.run("").token();
    test.run_args(&["--host".into(), " ".into()]).fails(2, &["--host got an empty value"]);
}

#[test]
fn control_characters_inside_are_refused_and_shown() {
    let workspace = workspace();
    for (name, value, shown) in [
        (
            "DATABRICKS_AUTH_TYPE",
            "oauth\r-m2m",
            "auth_type from DATABRICKS_AUTH_TYPE has a control character inside: oauth\\r-m2m",
        ),
        ("DATABRICKS_HOST", "https://a\u{1b}b", "https://a\\u{1b}b"),
        ("LAKEBASE_ENDPOINT", "projects/a\tb", "projects/a\\tb"),
        ("PGHOST", "a\nb", "a\\nb"),
        ("PGPORT", "54\n32", "54\\n32"),
        ("LAKEBASE_TOKEN_TIMEOUT", "1\u{0}s", "1\\0s"),
    ] {
        let mut test = Test::at(&workspace);
        test.set(name, value).run("").fails(2, &[shown, &format!("hint: remove it from {name}")]);
    }
    let mut test = Test::at(&workspace);
    let outcome = test.set("DATABRICKS_CLIENT_SECRET", "abc\ndefghijkl").run("");
    outcome.fails(2, &["client_secret from DATABRICKS_CLIENT_SECRET has a control character"]);
    assert!(!outcome.stderr.contains("defghijkl"), "{outcome:?}");
}

#[test]
fn a_postgres_host_may_have_a_port_and_what_is_no_host_is_told() {
    let workspace = workspace();
    let with = |host: &str, port: &str| {
        let mut test = Test::at(&workspace);
        test.set("PGHOST", host).set("PGPORT", port);
        test
    };
    for (port, expected) in [("", "6543"), ("6543", "6543")] {
        let outcome = with("tunnel.example:6543", port).run("-f json");
        outcome.notes("PGHOST has a surplus blank, line end or port");
        let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(
            (&object["host"], &object["port"]),
            (&"tunnel.example".into(), &expected.into())
        );
    }
    with("tunnel.example:6543", "5432").run("-f json").fails(
        2,
        &[
            "PGHOST has the port 6543",
            "the port from PGPORT is 5432",
            "hint: PGHOST=tunnel.example",
        ],
    );

    workspace.take_requests();
    // Each beside a named endpoint, and without one.
    for (host, words, hint) in [
        (
            "https://dbc-1.cloud.databricks.com/x",
            "is a URL",
            "DATABRICKS_HOST=https://dbc-1.cloud.databricks.com, if it is the workspace",
        ),
        (
            "https://ep-x.database.cloud.databricks.com/",
            "is a URL",
            "PGHOST=ep-x.database.cloud.databricks.com",
        ),
        (
            "postgresql://me:hunter22@ep-x.example:5432/db",
            "is a connection URL",
            "PGHOST=ep-x.example",
        ),
        ("postgres://ep-x.example", "is a connection URL", "PGHOST=ep-x.example"),
        ("\"ep-x.example\"", "has quotes around it", "PGHOST=ep-x.example"),
        ("'ep-x.example'", "has quotes around it", "PGHOST=ep-x.example"),
        ("ep-cool-sky-1234abcd", "is only the first label", "the whole host"),
        ("instance-0b1f", "is only the first label", "the whole host"),
    ] {
        for endpoint in [ENDPOINT, ""] {
            let mut test = with(host, "");
            let outcome = test.set("LAKEBASE_ENDPOINT", endpoint).run("-f json");
            outcome.fails(2, &[&format!("PGHOST {words}"), &format!("hint: {hint}")]);
            assert!(!outcome.stderr.contains("hunter22"), "{outcome:?}");
        }
    }
    assert!(workspace.take_requests().is_empty(), "a refusal costs no request");
}

#[test]
fn a_password_file_with_a_literal_tilde_is_refused() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGPASSFILE", "~/.pgpass").run("write pgpass").fails(
        2,
        &[
            "PGPASSFILE begins with a literal ~",
            "libpq does not expand it",
            "PGPASSFILE=\"$HOME/.pgpass\"",
        ],
    );
    test.unset("PGPASSFILE").run("write pgpass --pgpass-file ~/other");
    assert!(test.home.path().join("other").exists());
}

#[test]
fn dev_null_is_a_configuration_file_without_profiles() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CONFIG_FILE", "/dev/null").run("").token();
    test.set("DATABRICKS_CONFIG_PROFILE", "p").run("").fails(2, &["/dev/null has no profile p"]);
    let mut test = Test::bare();
    test.set("DATABRICKS_CONFIG_FILE", "/dev/null").run("").fails(2, &["no Databricks identity"]);
    let empty = test.write("empty", "").display().to_string();
    test.set("DATABRICKS_CONFIG_FILE", &empty).run("").fails(2, &["no Databricks identity"]);
}

#[test]
fn the_endpoint_has_many_names_and_forms() {
    let workspace = workspace();
    let minted = |workspace: &Workspace| {
        let state = workspace.state();
        let request = state.requests.iter().rfind(|r| r.path.ends_with("/credentials")).unwrap();
        serde_json::from_str::<Value>(&request.body).unwrap()["endpoint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let branch = "projects/shop/branches/production";
    for (name, value) in [
        ("LAKEBASE_ENDPOINT_NAME", ENDPOINT),
        ("LAKEBASE_ENDPOINT_PATH", "projects/shop"),
        ("LAKEBASE_ENDPOINT", "shop"),
        ("LAKEBASE_ENDPOINT", "shop/production"),
        ("LAKEBASE_ENDPOINT", "shop/production/primary"),
        ("LAKEBASE_ENDPOINT", &format!("{branch}/databases/db-1234")),
        ("LAKEBASE_ENDPOINT", &format!("{branch}/roles/role-1")),
        ("LAKEBASE_HOST", ENDPOINT_HOST),
    ] {
        let mut test = Test::at(&workspace);
        test.unset("LAKEBASE_ENDPOINT").set(name, value).run("--no-cache").token();
        assert_eq!(minted(&workspace), ENDPOINT, "{name}={value}");
    }

    let mut test = Test::at(&workspace);
    test.set("LAKEBASE_DATABASE", "shop").set("LAKEBASE_USER", "ada");
    let object: Value = serde_json::from_str(&test.run("-f json").token()).unwrap();
    assert_eq!((&object["database"], &object["user"]), (&"shop".into(), &"ada".into()));
    test.set("PGUSER", "eve");
    assert!(test.run("-f json").token().contains("\"eve\""));

    for name in ["LAKEBASE_ENDPOINT_NAME", "LAKEBASE_ENDPOINT_PATH", "ENDPOINT_NAME"] {
        let mut test = Test::at(&workspace);
        test.unset("LAKEBASE_ENDPOINT").set(name, "checkout");
        test.run("").notes(&format!("{name} is ignored, since its value does not begin"));
    }
    test.set("LAKEBASE_ENDPOINT", "ep-cool-sky-1234abcd").run("").fails(2, &["is only a label"]);
}

#[test]
fn the_only_project_is_not_taken_silently_where_another_variable_names_a_database() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT").set("DATABASE_URL", "postgresql://me:hunter22@h/db");
    let outcome = test.run("");
    outcome.notes(&format!(
        "using the only project, {ENDPOINT}, since lakebase-token does not read DATABASE_URL"
    ));
    assert!(!outcome.stderr.contains("hunter22"));
    // Not where the database is named.
    let mut named = Test::at(&workspace);
    named.set("DATABASE_URL", "postgresql://h/db").run("").token();
}

/// What people set, and the line that they need.
#[test]
#[cfg(unix)]
fn a_mistake_is_answered_in_the_words_of_the_mistake() {
    let host = "ep-x-1.database.us-east-1.cloud.databricks.com";
    let postgres_url = format!("postgresql://ada@{host}/databricks_postgres?sslmode=require");
    let workspace_url = format!("https://{host}");
    for (variables, line, words) in [
        (
            &[("DATABRICKS_AUTH_TYPE", "oauth-u2m")][..],
            "",
            &["DATABRICKS_AUTH_TYPE=external-browser"][..],
        ),
        (&[], "--auth-type M2M", &["--auth-type oauth-m2m"]),
        (&[], "--password x", &["DATABRICKS_TOKEN, or DATABRICKS_CLIENT_SECRET"]),
        (
            &[("DATABRICKS_HOST", &workspace_url)],
            "",
            &["is a Postgres host", &format!("PGHOST={host}")],
        ),
        (
            &[("LAKEBASE_ENDPOINT", &postgres_url)],
            "",
            &["is a connection URL", &format!("LAKEBASE_ENDPOINT={host}")],
        ),
        (&[], &format!("--pg-host {postgres_url}"), &[&format!("hint: --pg-host {host}")]),
        (&[("PGHOST", "\"h; id\"")], "", &["hint: PGHOST='h; id'"]),
    ] {
        let workspace = workspace();
        let mut test = Test::at(&workspace);
        for (name, value) in variables {
            test.set(name, value);
        }
        test.run(line).fails(2, words);
        assert!(workspace.take_requests().is_empty(), "{line}");
    }
}

#[test]
#[cfg(unix)]
fn hints_with_names_and_paths_are_words_of_the_shell() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let home = test.home.path().display().to_string();
    let run = |test: &Test, words: &[&str]| {
        test.run_args(&words.iter().map(std::ffi::OsString::from).collect::<Vec<_>>())
    };
    let missing = format!("{home}/a b;id/x");
    run(&test, &["write", "file", &missing])
        .fails(1, &[&format!("hint: mkdir -p '{home}/a b;id'")]);
    let literal = format!("{home}/~/x");
    run(&test, &["write", "file", &literal]).fails(1, &["hint: a path without ~"]);

    let url = &workspace.url;
    let profiles = format!(
        "[my team]\nhost = {url}\n[$(touch x)]\nhost = {url}\nauth_type = external-browser\n"
    );
    test.write(".databrickscfg", &profiles);
    for name in ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"] {
        test.unset(name);
    }
    run(&test, &["-p", "my taem"]).fails(2, &["--profile 'my team'"]);
    run(&test, &["-p", "$(touch x)"]).fails(3, &["login --profile '$(touch x)'"]);

    run(&test, &["write", "/tmp/a b;id"]).fails(2, &["write file '/tmp/a b;id' --format"]);
    run(&test, &["write", "x; id.pgpass"]).fails(2, &["--pgpass-file 'x; id.pgpass'"]);
    // Without a profile named, those of the file are offered; a name that is none can be unset.
    run(&test, &[]).fails(2, &["hint: --profile 'my team'"]);
    test.set("DATABRICKS_CONFIG_PROFILE", "elsewhere");
    run(&test, &[]).fails(2, &["hint: env -u DATABRICKS_CONFIG_PROFILE lakebase-token login"]);
}

#[test]
fn doctor_and_status_say_of_a_missing_cli_what_get_says() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    test.unset("PATH");
    for auth_type in ["", "databricks-cli"] {
        test.set("DATABRICKS_AUTH_TYPE", auth_type);
        let words = match auth_type {
            "" => "no Databricks identity is configured",
            _ => "auth type databricks-cli from DATABRICKS_AUTH_TYPE needs",
        };
        test.run("").fails(2, &[words]);
        assert!(test.run("status").stdout.contains(words), "{auth_type}");
        let doctor = test.run("doctor");
        assert_eq!(doctor.code, 2);
        let first = doctor.stdout.lines().next().unwrap();
        assert!(first.starts_with("configuration") && first.contains(words), "{doctor:?}");
    }
    let mut test = Test::at(&workspace);
    assert_eq!(test.run("doctor --offline").code, 5);
    assert!(workspace.take_requests().is_empty());
    test.set("LAKEBASE_TOKEN_LOG", "relative.log").run("").notes("is not an absolute path");
}

#[test]
fn upper_case_keys_in_a_profile_are_reported() {
    let test = Test::bare();
    test.write(".databrickscfg", "[DEFAULT]\nHOST = https://a.cloud.databricks.com\nTOKEN = x\n");
    test.run("").fails(2, &["known keys are lower-case"]);
}

#[test]
fn doctor_names_the_setting_for_a_role_that_may_not_be_asked_for() {
    let workspace = workspace();
    let mut test = Test::of_person(&workspace);
    test.set("DATABRICKS_TOKEN", PAT);
    let no = serde_json::json!({ "error_code": "PERMISSION_DENIED", "message": "no" });
    workspace.fault("/api/2.0/preview/scim", 9, crate::sandbox::server::Answer::Json(403, no));
    let outcome = test.run("doctor");
    assert!(outcome.stdout.contains("PGUSER, or --pg-user"), "{outcome:?}");
    let outcome = test.run("--timeout 0");
    outcome.fails(2, &["--timeout is not a duration like 90s, 15m or 1h: 0"]);
    assert!(!outcome.stderr.contains("hint"), "{outcome:?}");
}

#[test]
fn help_takes_a_subcommand() {
    let test = Test::bare();
    let help = test.run("help service install");
    assert_eq!(help.code, 0, "{help:?}");
    assert_eq!(help.stdout, test.run("service install --help").stdout);
    test.run("help settings x").fails(2, &["help"]);
}
