//! How `doctor` explains a Postgres server's answers: those of a real server that refuses in many ways,
//! and those of a stand-in that sends the errors of Lakebase's proxy and of a waking database.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::support::{executable, refusing_address, sandbox_with_psql};
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, MINT, USER};
use crate::sandbox::{Certificates, Sandbox};

/// Runs `doctor` with some variables changed; `None` as a value removes one.
fn doctor(sandbox: &Sandbox, changed: &[(&str, &str)]) -> (i32, Value, String) {
    let mut command = Command::new(executable());
    command.args(["doctor", "--format", "json", "--timeout", "5s"]).env_clear().envs(sandbox.env());
    command.env("LAKEBASE_ENDPOINT", ENDPOINT).env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(changed.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let report: Value = serde_json::from_slice(&stdout).unwrap();
    (status.code().unwrap(), report.clone(), report.to_string())
}

/// The step with the verdict, and its text.
fn verdict(report: &Value) -> (String, String) {
    let steps = report["steps"].as_array().unwrap();
    let failed = steps.iter().find(|step| step["state"] == "failed");
    failed.map_or(("none".to_owned(), String::new()), |step| {
        (step["step"].as_str().unwrap().to_owned(), step.to_string())
    })
}

/// SQL as the owner of the server, by its socket.
fn sql(sandbox: &Sandbox, database: &str, statements: &str) {
    let data = sandbox.folder.path().join("data");
    let port = sandbox.postgres.as_ref().unwrap().port.to_string();
    let mut psql = Command::new("psql");
    psql.arg("-h").arg(&data).args(["-p", &port, "-U", "sandbox", "-d", database]);
    let output = psql.args(["-qXv", "ON_ERROR_STOP=1", "-c", statements]).output().unwrap();
    assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The changed variables, the step with the verdict, the exit code, and words of its explanation.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c str, i32, &'c [&'c str]);

fn check(sandbox: &Sandbox, cases: &[Case<'_>]) {
    for (changed, step, code, words) in cases {
        let (exit, report, all) = doctor(sandbox, changed);
        let (failed, text) = verdict(&report);
        assert_eq!((failed.as_str(), exit), (*step, *code), "{changed:?}: {all}");
        for word in *words {
            assert!(text.contains(word), "{changed:?}: {word:?} is missing in {text}");
        }
    }
}

#[test]
fn the_refusals_of_a_real_server_are_told_apart() {
    let test = "doctor_answers::a_real_server";
    let Some(sandbox) = sandbox_with_psql(test) else { return };
    let postgres = sandbox.postgres.as_ref().unwrap();

    // Roles and databases that are refused for different reasons.
    let id = format!("\"{CLIENT_ID}\"");
    sql(&sandbox, "postgres", "CREATE ROLE nologin NOLOGIN");
    sql(&sandbox, "postgres", "CREATE ROLE analysts LOGIN");
    sql(
        &sandbox,
        "postgres",
        "SET password_encryption='scram-sha-256'; CREATE ROLE native LOGIN PASSWORD 'x'",
    );
    sql(&sandbox, "postgres", "SET password_encryption='md5'; CREATE ROLE old LOGIN PASSWORD 'x'");
    sql(&sandbox, "postgres", "CREATE ROLE nobody_more LOGIN CONNECTION LIMIT 0");
    sql(&sandbox, "postgres", "CREATE ROLE rejected LOGIN");
    sql(&sandbox, "postgres", "CREATE DATABASE closed");
    sql(&sandbox, "postgres", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
    sql(&sandbox, "postgres", "CREATE DATABASE offline ALLOW_CONNECTIONS false");
    sql(&sandbox, "postgres", "CREATE DATABASE full_up CONNECTION LIMIT 0");
    let data = sandbox.folder.path().join("data");
    let access = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let lines = "hostssl all native 127.0.0.1/32 scram-sha-256\n\
                 hostssl all old 127.0.0.1/32 md5\n\
                 hostssl all rejected 127.0.0.1/32 reject\n\
                 hostssl all nologin 127.0.0.1/32 trust\n\
                 hostssl all nobody_more 127.0.0.1/32 trust\n\
                 hostssl all missing 127.0.0.1/32 trust\n\
                 hostssl none all 127.0.0.1/32 trust\n";
    fs::write(data.join("pg_hba.conf"), format!("{lines}{access}")).unwrap();
    let own = &sandbox.certificates;
    postgres.use_certificate(&own.certificate, &own.key).unwrap();

    let (unused, _held) = refusing_address();
    let unused = unused.port().to_string();
    let workspace_port = sandbox.workspace.url.rsplit(':').next().unwrap().to_owned();
    let authority = own.authority.display().to_string();
    let other = tempfile::tempdir().unwrap();
    let other = Certificates::make(other.path()).unwrap().authority.display().to_string();
    let quoted = format!("you are {CLIENT_ID}, but the role from PGUSER is {USER}");
    check(
        &sandbox,
        &[
            (&[], "none", 0, &[]),
            (
                &[("PGUSER", USER)],
                "login",
                4,
                &["28000", &quoted, &format!("--pg-user {CLIENT_ID}"), "'GROUP'"],
            ),
            (
                &[("PGUSER", "analysts")],
                "login",
                4,
                &["28000", "'analysts', 'GROUP'", "CREATE EXTENSION IF NOT EXISTS databricks_auth"],
            ),
            (&[("PGUSER", "missing")], "login", 4, &["28000", "the role from PGUSER is missing"]),
            (&[("PGUSER", "nologin")], "login", 4, &["28000", "ALTER ROLE \\\"nologin\\\" LOGIN"]),
            (
                &[("PGUSER", "native")],
                "login",
                4,
                &["SASL (SCRAM), which takes no token", "native Postgres password"],
            ),
            (&[("PGUSER", "old")], "login", 4, &["MD5, which takes no token", "'old', 'GROUP'"]),
            (&[("PGUSER", "rejected")], "login", 4, &["28000", "IP access list"]),
            (&[("PGUSER", "nobody_more")], "login", 5, &["53300", "close connections"]),
            (&[("PGDATABASE", "nope")], "login", 4, &["3D000", "--pg-database"]),
            (
                &[("PGDATABASE", "closed")],
                "login",
                4,
                &["42501", "GRANT CONNECT ON DATABASE \\\"closed\\\" TO", CLIENT_ID],
            ),
            (&[("PGDATABASE", "offline")], "login", 4, &["55000", "--pg-database"]),
            (&[("PGDATABASE", "full_up")], "login", 5, &["53300"]),
            (
                &[("PGOPTIONS", "-c no.such=1 -c work_mem=oops")],
                "login",
                4,
                &["22023", "check PGOPTIONS"],
            ),
            (&[("PGOPTIONS", "-c nosuch=1")], "login", 4, &["42704", "check PGOPTIONS"]),
            (&[("PGPORT", &unused)], "login", 5, &["cannot connect to 127.0.0.1:", "firewall"]),
            (&[("PGPORT", &workspace_port)], "login", 1, &["does not speak Postgres"]),
            (&[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &authority)], "none", 0, &[]),
            (
                &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &other)],
                "login",
                1,
                &["is not verified", "PGSSLROOTCERT=", "proves nothing"],
            ),
            (
                &[("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", "/nowhere.pem")],
                "login",
                1,
                &["/nowhere.pem"],
            ),
            (
                &[("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", &other)],
                "login",
                1,
                &["is not verified"],
            ),
            (&[("PGSSLROOTCERT", &other)], "login", 1, &["is not verified"]),
            (&[("PGCHANNELBINDING", "require")], "psql", 4, &["unset PGCHANNELBINDING"]),
            (&[("PGGSSENCMODE", "require")], "psql", 4, &["unset PGGSSENCMODE"]),
            (&[("PGTARGETSESSIONATTRS", "standby")], "psql", 4, &["unset PGTARGETSESSIONATTRS"]),
            (
                &[("PGSSLMINPROTOCOLVERSION", "nonsense")],
                "psql",
                4,
                &["unset PGSSLMINPROTOCOLVERSION"],
            ),
        ],
    );

    // A role that is missing although it is this identity's own.
    sql(
        &sandbox,
        "postgres",
        &format!("ALTER DATABASE databricks_postgres OWNER TO sandbox; DROP ROLE {id}"),
    );
    check(
        &sandbox,
        &[(&[], "login", 4, &["28000", "no Postgres role of that name", "'SERVICE_PRINCIPAL'"])],
    );
}

/// A Postgres server that answers each start-up with one error, over TLS.
fn stand_in(certificates: &Certificates, error: (&str, &str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let tls = certificates.tls.clone();
    let fields = format!("SFATAL\0C{}\0M{}\0\0", error.0, error.1);
    let length = (fields.len() as u32 + 4).to_be_bytes();
    let answer = [b"E", &length[..], fields.as_bytes()].concat();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8];
            if stream.read_exact(&mut request).is_err() || stream.write_all(b"S").is_err() {
                continue;
            }
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut start = [0; 512];
            let _ = stream.read(&mut start);
            let _ = stream.write_all(&answer);
            let _ = stream.flush();
        }
    });
    port
}

#[test]
fn the_refusals_of_the_proxy_and_of_a_waking_database_are_told_apart() {
    let sandbox = Sandbox::start().unwrap();
    for (error, code, words) in [
        (("28000", "External authorization failed"), 5, "if the branch is new"),
        (("28P01", "External authorization failed. DETAIL: x"), 5, "the endpoint still exists"),
        (
            ("28P01", "password authentication failed for user 'x'"),
            4,
            "no Postgres role of that name",
        ),
        (("57P03", "the database system is starting up"), 5, "suspended database"),
        (("57P03", "the database system is shutting down"), 5, "suspended database"),
        (("57P01", "terminating connection due to administrator command"), 5, "try again"),
        (("57P02", "terminating connection because of crash"), 5, "try again"),
        (("57P05", "terminating connection due to idle-session timeout"), 5, "try again"),
        (("08006", "connection failure"), 5, "try again"),
        (("08P01", "protocol violation"), 5, "try again"),
        (("08004", "server rejected the connection"), 5, "try again"),
        (("53300", "sorry, too many clients already"), 5, "close connections"),
        (("53200", "out of memory"), 5, "larger compute"),
        (("53100", "could not extend file: No space left on device"), 5, "larger compute"),
        (("XX000", "Control plane request failed"), 5, "suspended database"),
        (("XX000", "Couldn't connect to compute node"), 5, "suspended database"),
        (("58000", "system error"), 5, "suspended database"),
        (("26000", "Endpoint ID is not specified. Upgrade libpq for SNI support"), 4, "version 14"),
        (("3D000", "database \"x\" does not exist"), 4, "--pg-database"),
        (("42501", "permission denied for database \"x\""), 4, "GRANT CONNECT"),
        (("0A000", "unsupported startup parameter: options"), 4, "0A000"),
        (("", "something without a code"), 4, "something without a code"),
    ] {
        let port = stand_in(&sandbox.certificates, error);
        let (exit, report, all) = doctor(&sandbox, &[("PGPORT", &port)]);
        let (step, text) = verdict(&report);
        assert_eq!((step.as_str(), exit), ("login", code), "{error:?}: {all}");
        assert!(text.contains(words), "{error:?}: {words:?} is missing in {text}");
    }
}

#[test]
fn a_group_role_is_told_from_a_foreign_one() {
    let test = "doctor_answers::a_group_role";
    let Some(sandbox) = sandbox_with_psql(test) else { return };
    let group = "data 'team'";
    let foreign = |groups: &str| {
        let words = [
            &format!("you are {CLIENT_ID}, but the role from PGUSER is {group}"),
            groups,
            &format!("--pg-user {CLIENT_ID}"),
            "'data ''team''', 'GROUP') -- if you are in it through another group",
        ];
        check(&sandbox, &[(&[("PGUSER", group)], "login", 4, &words)]);
    };
    foreign("the workspace lists no group that you are in");
    sandbox.workspace.state().groups = (1..=12).map(|n| format!("group {n}")).collect();
    foreign("the groups that you are in: group 1, group 2, group 3");
    foreign("group 10, 2 more\"");

    sandbox.workspace.state().groups.push(group.to_owned());
    let words = ["is a group of yours that has no Postgres role", "('data ''team''', 'GROUP')\""];
    check(&sandbox, &[(&[("PGUSER", group)], "login", 4, &words)]);

    sql(&sandbox, "postgres", &format!("CREATE ROLE \"{group}\" LOGIN"));
    let access = sandbox.folder.path().join("data/pg_hba.conf");
    let lines = fs::read_to_string(&access).unwrap();
    let line = format!("hostssl all \"{group}\" 127.0.0.1/32 trust\n");
    fs::write(&access, line + &lines).unwrap();
    sql(&sandbox, "postgres", "SELECT pg_reload_conf()");
    let (exit, _, all) = doctor(&sandbox, &[("PGUSER", group)]);
    assert!(exit == 0 && all.contains("as data 'team' (a group role), sslmode"), "{all}");
}

#[test]
fn a_server_that_repeats_the_password_is_not_shown() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.workspace.fault(
        MINT,
        9,
        crate::sandbox::server::Answer::Json(200, json!({ "token": "opaque-password-0123456789" })),
    );
    let port = stand_in(&sandbox.certificates, ("28P01", "no opaque-password-0123456789 here"));
    let (_, _, all) = doctor(&sandbox, &[("PGPORT", &port)]);
    assert!(!all.contains("opaque-password") && all.contains("no *** here"), "{all}");
}

#[test]
fn what_the_login_does_not_need_is_a_warning() {
    let test = "doctor_answers::warnings";
    let Some(sandbox) = sandbox_with_psql(test) else { return };
    let forbidden = || {
        let body = json!({ "error_code": "PERMISSION_DENIED", "message": "no" });
        crate::sandbox::server::Answer::Json(403, body)
    };
    let warns = |changed: &[(&str, &str)], words: &str| {
        let (exit, report, all) = doctor(&sandbox, changed);
        assert_eq!(exit, 0, "{all}");
        let steps = report["steps"].as_array().unwrap();
        let warnings = steps.iter().filter(|step| step["state"] == "warning");
        let text: String = warnings.map(Value::to_string).collect();
        assert!(text.contains(words), "{words}: {text}");
        assert!(!words.is_empty() || text.is_empty(), "{text}");
    };
    warns(&[], "");
    for path in ["/api/2.0/preview/scim/v2/Me", "/api/2.0/postgres/projects/shop/branches"] {
        sandbox.workspace.state().faults.clear();
        sandbox.workspace.fault(path, 9, forbidden());
        warns(&[], "HTTP status 403");
    }
    sandbox.workspace.state().faults.clear();

    warns(&[("PGPASSWORD", "stale")], "PGPASSWORD is set, and takes precedence");
    let (past, ahead) = ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    warns(&[("PGPASSWORD", "x"), ("LAKEBASE_TOKEN_EXPIRES_AT", past)], "PGPASSWORD is set");
    warns(&[("PGPASSWORD", "x"), ("LAKEBASE_TOKEN_EXPIRES_AT", ahead)], "");

    let file = sandbox.home().join(".pgpass");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    warns(&[], "libpq ignores");
    fs::remove_file(file).unwrap();
    warns(&[("LAKEBASE_TOKEN_CACHE", "/dev/null/x")], "nothing can be cached");
}
