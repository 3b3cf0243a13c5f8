//! `doctor`: each link broken on purpose, and a real login where none is.

use std::process::{Command, Output};

use serde_json::Value;

use super::support::{executable, has, not_run};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT};

const LINKS: [&str; 8] = [
    "configuration",
    "workspace",
    "identity",
    "database",
    "state",
    "credential",
    "connection",
    "login",
];

fn sandbox(test: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::start().unwrap();
    if let Err(why) = &sandbox.postgres {
        not_run(test, why);
        return None;
    }
    has(test, "psql").then_some(sandbox)
}

/// Runs it with some variables changed.
fn doctor(sandbox: &Sandbox, changed: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(executable());
    command.arg("doctor").args(args).env_clear().envs(sandbox.env());
    command.env("PATH", std::env::var_os("PATH").unwrap()).envs(changed.iter().copied());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn all_is_well_up_to_a_real_login() {
    let Some(sandbox) = sandbox("doctor::all_is_well") else { return };
    let output = doctor(&sandbox, &[], &[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let names: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, LINKS);
    assert!(said.contains(&format!("login          ok: as {CLIENT_ID}\n")), "{said}");
    assert!(said.contains("IDLE; the first connection wakes it"));
    // What is cached proves nothing: it mints each time.
    doctor(&sandbox, &[], &[]);
    assert_eq!(sandbox.workspace.count("/api/2.0/postgres/credentials"), 2);
    // Without psql the login is left out, and not called sound.
    let output = doctor(&sandbox, &[("PATH", "/nowhere")], &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(report["code"], 0);
    assert_eq!(report["links"][7]["state"], "not tried");
    assert_eq!(report["links"][6]["state"], "ok");
    let refused = doctor(&sandbox, &[], &["--format", "raw"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
}

/// What is changed, the link that breaks, the exit code, some of the words.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c str, i32, &'c [&'c str]);

#[test]
fn the_first_link_that_breaks_is_named_with_what_mends_it() {
    let Some(sandbox) = sandbox("doctor::the_first_link") else { return };
    let gone = "projects/no/branches/no/endpoints/no";
    let refused = "https://127.0.0.1:1";
    let store = "/etc/ssl/certs/ca-certificates.crt";
    let cases: [Case; 9] = [
        (&[("DATABRICKS_TOKEN", "x")], "configuration", 2, &["more than one authorization method"]),
        (&[("DATABRICKS_HOST", refused)], "workspace", 5, &["refused", "from DATABRICKS_HOST"]),
        (
            &[("DATABRICKS_HOST", "https://no.such.host.invalid")],
            "workspace",
            5,
            &["cannot reach no.such.host.invalid", "lookup"],
        ),
        (&[("SSL_CERT_FILE", store)], "workspace", 5, &["no trustworthy TLS", "SSL_CERT_FILE="]),
        (&[("DATABRICKS_CLIENT_SECRET", "x")], "identity", 4, &["invalid_client"]),
        (&[("LAKEBASE_ENDPOINT", gone)], "state", 4, &["endpoint id not found"]),
        (&[("PGPORT", "1")], "connection", 5, &["cannot connect to 127.0.0.1:1", "firewall"]),
        (&[("PGUSER", "nobody")], "login", 4, &["as nobody", "databricks_create_role('nobody'"]),
        (&[("PGDATABASE", "nope")], "login", 4, &["does not exist", "--pg-database"]),
    ];
    for (changed, link, code, words) in cases {
        let output = doctor(&sandbox, changed, &["--timeout", "10s"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let broken = said.lines().find(|line| line.contains(" FAILED: "));
        assert!(broken.unwrap_or_default().starts_with(link), "{link}: {said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is missing in\n{said}");
        }
        // Those before it are sound, those after it were not tried.
        let place = LINKS.iter().position(|known| *known == link).unwrap();
        assert_eq!(said.matches(" ok: ").count(), place, "{said}");
    }
    // A proxy is named apart.
    let away = ("DATABRICKS_HOST", "https://dbc.example");
    let output = doctor(&sandbox, &[away, ("HTTPS_PROXY", "http://127.0.0.1:1")], &[]);
    assert!(text(&output).contains("through the proxy 127.0.0.1:1"));
    // A database that is off, and a name that does not speak Postgres.
    sandbox.workspace.state().instances[0]["state"] = "STOPPED".into();
    let output = doctor(&sandbox, &[], &["--instance", "legacy"]);
    assert!(text(&output).contains("state          FAILED: the database is in the state STOPPED"));
    let port = sandbox.workspace.url.rsplit(':').next().unwrap().to_owned();
    let changed = [("PGPORT", port.as_str()), ("LAKEBASE_ENDPOINT", ENDPOINT)];
    let said = text(&doctor(&sandbox, &changed, &["--timeout", "2s"]));
    assert!(said.contains("does not speak Postgres"), "{said}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let changed =
        [("PGPORT", port.as_str()), ("PGHOST", "127.0.0.1"), ("LAKEBASE_ENDPOINT", ENDPOINT)];
    let output = doctor(&sandbox, &changed, &["--timeout", "2s"]);
    assert!(text(&output).contains("has not answered in time"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(5));
}
