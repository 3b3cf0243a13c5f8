//! `--wait`: a database that starts late, refuses for a while or is not made yet; and what ends at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};
use serde_json::json;

use super::stopwatch::Stopwatch;
use super::support::{Test, executable, sandbox_with_psql, workspace};
use crate::sandbox::Sandbox;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, MINT};

/// What the server does until it is ready.
#[derive(Clone, Copy)]
enum Until {
    /// Nothing listens.
    Refuses,
    /// The connection is closed.
    Closes,
    /// It accepts the connection, and says nothing.
    Silent,
    /// It answers the login with this error.
    Says(&'static str, &'static str),
}

/// A server that leads to the sandbox's Postgres after this time. Its port.
fn late(sandbox: &Sandbox, until: Until, after: Duration) -> u16 {
    let real = sandbox.postgres.as_ref().unwrap().port;
    let tls = sandbox.certificates.tls.clone();
    let ready = Instant::now() + after;
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    let listener = match until {
        Until::Refuses => {
            drop(reserved);
            None
        }
        _ => Some(reserved),
    };
    std::thread::spawn(move || {
        let listener = listener.unwrap_or_else(|| {
            std::thread::sleep(after);
            TcpListener::bind(("127.0.0.1", port)).unwrap()
        });
        for mut client in listener.incoming().flatten() {
            let tls = tls.clone();
            std::thread::spawn(move || {
                if Instant::now() >= ready {
                    let server = TcpStream::connect(("127.0.0.1", real)).unwrap();
                    let (mut a, mut b) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut a, &mut b);
                        let _ = b.shutdown(std::net::Shutdown::Write);
                    });
                    let (mut from, mut to) = (server, client);
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                    return;
                }
                match until {
                    Until::Refuses | Until::Closes => (),
                    Until::Silent => std::thread::sleep(Duration::from_secs(60)),
                    Until::Says(state, words) => {
                        let mut request = [0; 8];
                        let _ = client.read_exact(&mut request);
                        let _ = client.write_all(b"S");
                        let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
                        let mut stream = StreamOwned::new(connection, client);
                        let _ = stream.read(&mut [0; 512]);
                        let fields = format!("SFATAL\0C{state}\0M{words}\0\0");
                        let length = (fields.len() as u32 + 4).to_be_bytes();
                        let _ = stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat());
                        let _ = stream.flush();
                    }
                }
            });
        }
    });
    port
}

/// How a call ended, how long it took, and how late the machine was meanwhile.
struct Waited {
    output: Output,
    took: Duration,
    late: Duration,
}

impl Waited {
    fn of(mut command: Command) -> Waited {
        let stopwatch = Stopwatch::start();
        let output = command.output().unwrap();
        let (took, late) = stopwatch.stop();
        Waited { output, took, late }
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    fn took_about(&self, least: Duration, most: Duration) {
        let Waited { took, late, .. } = self;
        assert!(*took >= least && *took < most + *late, "{took:?} {late:?}");
    }
}

/// `exec --wait … -- psql` at this port.
fn psql(sandbox: &Sandbox, port: u16, wait: &str) -> Waited {
    let mut command = Command::new(executable());
    command.args(["psql", "--wait", wait, "--", "-wAtc", "select current_user"]);
    command.env_clear().envs(sandbox.env()).env("PGPORT", port.to_string());
    command.env("LAKEBASE_ENDPOINT", ENDPOINT).env("PATH", std::env::var_os("PATH").unwrap());
    Waited::of(command)
}

#[test]
fn a_database_that_starts_late_is_waited_for() {
    let Some(sandbox) = sandbox_with_psql("wait::a_database_that_starts_late") else { return };
    let after = Duration::from_secs(4);
    let states = [
        Until::Refuses,
        Until::Closes,
        Until::Says("57P03", "the database system is starting up"),
        Until::Says("57P01", "terminating connection due to administrator command"),
        Until::Says("08006", "connection failure"),
        Until::Says("53300", "sorry, too many clients already"),
        Until::Says("28000", "External authorization failed"),
        Until::Says("28P01", "password authentication failed for user 'x'"),
    ];
    // All at once: each is another server.
    std::thread::scope(|scope| {
        for until in states {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let port = late(sandbox, until, after);
                let ended = psql(sandbox, port, "60s");
                let said = ended.stderr();
                assert!(ended.output.status.success(), "{said}");
                assert_eq!(String::from_utf8_lossy(&ended.output.stdout).trim(), CLIENT_ID);
                ended
                    .took_about(after - Duration::from_millis(500), after + Duration::from_secs(4));
                // A note for each reason, and not for each attempt.
                assert_eq!(said.matches("note: waiting: ").count(), 1, "{said}");
            });
        }
    });
}

#[test]
fn a_server_that_says_nothing_is_left_after_fifteen_seconds() {
    let Some(sandbox) = sandbox_with_psql("wait::a_server_that_says_nothing") else { return };
    let port = late(&sandbox, Until::Silent, Duration::from_secs(10));
    let ended = psql(&sandbox, port, "60s");
    assert!(ended.output.status.success(), "{}", ended.stderr());
    ended.took_about(Duration::from_secs(14), Duration::from_secs(19));
}

#[test]
fn what_does_not_pass_ends_at_once_and_the_end_has_the_last_reasons_code() {
    let Some(sandbox) = sandbox_with_psql("wait::what_does_not_pass") else { return };
    let never = Duration::from_secs(600);
    for (state, words) in [
        ("3D000", "database \"x\" does not exist"),
        ("42501", "permission denied for database"),
        ("28000", "role \"x\" is not permitted to log in"),
        ("XX000", "internal error"),
    ] {
        let port = late(&sandbox, Until::Says(state, words), never);
        let ended = psql(&sandbox, port, "60s");
        assert_eq!(ended.output.status.code(), Some(125));
        assert!(!ended.stderr().contains("waiting"), "{state}: {}", ended.stderr());
    }

    // get has the code of the last reason: 4 for a refused login, 5 for the others.
    for (until, code) in [
        (Until::Says("28P01", "password authentication failed"), 4),
        (Until::Says("57P03", "starting up"), 5),
        (Until::Refuses, 5),
    ] {
        let port = late(&sandbox, until, never);
        let mut command = Command::new(executable());
        command.args(["--wait", "2s"]).env_clear().envs(sandbox.env());
        command.env("PGPORT", port.to_string()).env("LAKEBASE_ENDPOINT", ENDPOINT);
        let ended = Waited::of(command);
        let said = ended.stderr();
        assert_eq!(ended.output.status.code(), Some(code), "{said}");
        assert!(ended.output.stdout.is_empty(), "{said}");
        assert!(said.contains("--wait has tried for 2s"), "{said}");
        ended.took_about(Duration::from_secs(2), Duration::from_secs(5));
    }
}

#[test]
fn a_refused_credential_of_another_call_is_replaced_once() {
    let Some(sandbox) = sandbox_with_psql("wait::a_refused_credential") else { return };
    let refused = Until::Says("28P01", "password authentication failed");
    let port = late(&sandbox, refused, Duration::from_secs(5));
    sandbox.workspace.state().requests.clear();
    assert!(psql(&sandbox, port, "30s").output.status.success());
    // One for the first attempt, one in its place.
    assert_eq!(sandbox.workspace.count(MINT), 2);
}

#[test]
fn a_branch_that_is_being_made_is_waited_for_and_a_project_is_not() {
    let Some(sandbox) = sandbox_with_psql("wait::a_branch") else { return };
    let missing =
        || Answer::Json(404, json!({ "error_code": "NOT_FOUND", "message": "no branch" }));
    sandbox.workspace.fault(MINT, 3, missing());
    let port = sandbox.postgres.as_ref().unwrap().port;
    let ended = psql(&sandbox, port, "30s");
    assert!(ended.output.status.success(), "{}", ended.stderr());
    assert!(ended.took >= Duration::from_secs(2), "{:?}", ended.took);

    sandbox.workspace.fault("/api/2.0/postgres/projects/other", 99, missing());
    let mut command = Command::new(executable());
    command.args(["--wait", "30s", "--endpoint", "projects/other"]).env_clear().envs(sandbox.env());
    let output = command.env_remove("PGHOST").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(!said.contains("waiting"), "{said}");
}

#[test]
fn a_wait_without_a_login_is_refused_or_ignored() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.run("--wait 5s --offline").fails(2, &["--wait and --offline contradict"]);
    test.run("--wait 5s --for workspace").fails(2, &["this is a workspace token"]);
    test.run("--wait 100ms").fails(2, &["1s and 30m"]);
    test.run("--wait 31m").fails(2, &["1s and 30m"]);
    test.run("status --wait 5s").fails(2, &["status has no flag --wait"]);
    test.set("LAKEBASE_TOKEN_WAIT", "5s").run("--for workspace").token();
}
