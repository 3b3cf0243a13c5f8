//! `doctor`: a real login, and each step made to fail.

use std::process::{Command, Output};

use serde_json::Value;

use super::support::{executable, refusing_address, sandbox_with_psql};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, MINT};

const STEPS: [&str; 8] =
    ["configuration", "workspace", "identity", "database", "state", "credential", "login", "psql"];

/// Runs `doctor` with some variables changed.
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
fn every_step_up_to_a_real_login_works() {
    let Some(sandbox) = sandbox_with_psql("doctor::every_step") else { return };
    let output = doctor(&sandbox, &[], &[]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let names: Vec<&str> = report.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, STEPS);
    assert!(
        report.contains(&format!(
            "login          ok: as {CLIENT_ID}, sslmode require, which encrypts"
        )),
        "{report}"
    );
    assert!(report.contains("IDLE; the first connection wakes it"));

    // A cached credential proves nothing, so it mints each time.
    doctor(&sandbox, &[], &[]);
    assert_eq!(sandbox.workspace.count(MINT), 2);

    // Without psql the login is reported as not tried, not as ok.
    let output = doctor(&sandbox, &[("PATH", "/nowhere")], &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(report["code"], 0);
    assert_eq!(report["steps"][7]["state"], "not tried");
    assert_eq!(report["steps"][6]["state"], "ok");

    let refused = doctor(&sandbox, &[], &["--format", "raw"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
}

/// The changed variables, the step that fails, the exit code, some of the words.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c str, i32, &'c [&'c str]);

#[test]
fn the_first_step_that_fails_is_named_with_what_fixes_it() {
    let Some(sandbox) = sandbox_with_psql("doctor::the_first_step") else { return };
    let missing_endpoint = "projects/no/branches/no/endpoints/no";
    let (refusing, _held) = refusing_address();
    let refusing_host = format!("https://{refusing}");
    let refusing_port = refusing.port().to_string();
    let cannot_connect = format!("cannot connect to {refusing}");
    let system_certificates = "/etc/ssl/certs/ca-certificates.crt";
    let cases: [Case; 9] = [
        (&[("DATABRICKS_TOKEN", "x")], "configuration", 2, &["more than one authorization method"]),
        (
            &[("DATABRICKS_HOST", &refusing_host)],
            "workspace",
            5,
            &["refused", "from DATABRICKS_HOST"],
        ),
        (
            &[("DATABRICKS_HOST", "https://no.such.host.invalid")],
            "workspace",
            5,
            &["cannot reach no.such.host.invalid", "DNS does not know the name"],
        ),
        (
            &[("SSL_CERT_FILE", system_certificates)],
            "workspace",
            5,
            &["no verified TLS", "SSL_CERT_FILE="],
        ),
        (&[("DATABRICKS_CLIENT_SECRET", "x")], "identity", 4, &["invalid_client"]),
        (&[("LAKEBASE_ENDPOINT", missing_endpoint)], "state", 4, &["endpoint id not found"]),
        (&[("PGPORT", &refusing_port)], "login", 5, &[&cannot_connect, "firewall"]),
        (&[("PGUSER", "nobody")], "login", 4, &["as nobody", "databricks_create_role('nobody'"]),
        (&[("PGDATABASE", "nope")], "login", 4, &["does not exist", "--pg-database"]),
    ];

    for (changed, step, code, words) in cases {
        let output = doctor(&sandbox, changed, &["--timeout", "10s"]);
        let report = text(&output);
        assert_eq!(output.status.code(), Some(code), "{report}");
        let failed = report.lines().find(|line| line.contains(" FAILED: "));
        assert!(failed.unwrap_or_default().starts_with(step), "{step}: {report}");
        for word in words {
            assert!(report.contains(word), "{word:?} is missing in\n{report}");
        }

        // The steps before it work, the steps after it are not tried.
        let position = STEPS.iter().position(|known| *known == step).unwrap();
        assert_eq!(report.matches(" ok: ").count(), position, "{report}");
    }

    // The message names a proxy.
    let other_host = ("DATABRICKS_HOST", "https://dbc.example");
    let proxy = format!("http://{refusing}");
    let output = doctor(&sandbox, &[other_host, ("HTTPS_PROXY", &proxy)], &[]);
    assert!(text(&output).contains(&format!("through the proxy {refusing}")));

    // A stopped database, and a server that does not speak Postgres.
    sandbox.workspace.state().instances[0]["state"] = "STOPPED".into();
    let output = doctor(&sandbox, &[], &["--instance", "legacy"]);
    assert!(text(&output).contains("state          FAILED: the database is in the state STOPPED"));

    let port = sandbox.workspace.url.rsplit(':').next().unwrap().to_owned();
    let changed = [("PGPORT", port.as_str()), ("LAKEBASE_ENDPOINT", ENDPOINT)];
    let report = text(&doctor(&sandbox, &changed, &["--timeout", "2s"]));
    assert!(report.contains("does not speak Postgres"), "{report}");

    // A server that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let changed =
        [("PGPORT", port.as_str()), ("PGHOST", "127.0.0.1"), ("LAKEBASE_ENDPOINT", ENDPOINT)];
    let output = doctor(&sandbox, &changed, &["--timeout", "2s"]);
    assert!(text(&output).contains("has not answered in time"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(5));
}
