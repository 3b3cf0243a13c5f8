//! HTTP with servers and proxies that misbehave: redirects, deadlines, retries, proxies, trust.
//! Many more faults, each with a limit on time and memory, are in `faults/network.rs`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use lakebase_token::net::http::{Client, Request};
use lakebase_token::platform::context::Context;
use lakebase_token::platform::time::Deadline;

use super::stopwatch::Stopwatch;
use super::support::{self, Outcome, Test, refusing_address, workspace};
use crate::sandbox::Certificates;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN, Workspace};

/// A workspace over TLS, its certificates, and a context that trusts them.
pub fn secure() -> (Workspace, Certificates, Test) {
    let mut test = Test::bare();
    let certificates = Certificates::make(test.home.path()).unwrap();
    let workspace = Workspace::start(Some(certificates.tls.clone())).unwrap();

    let configured = Test::at(&workspace);
    test.env.extend(configured.env.iter().filter(|(name, _)| name != "HOME").cloned());
    test.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
    (workspace, certificates, test)
}

/// The workspace's URL with a name, because a literal loopback address never uses a proxy.
fn by_name(workspace: &Workspace) -> String {
    workspace.url.replace("127.0.0.1", "x.databricks.azure.us")
}

fn port(workspace: &Workspace) -> u16 {
    workspace.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A port that never answers a new connection: the queue of waiting connections is full.
pub struct BlackHole {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 10_000, "the queue has no end");
        }
        BlackHole { listener, _waiting: waiting }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

#[track_caller]
fn ends_within(limit: Duration, call: impl FnOnce() -> Outcome) -> Outcome {
    let stopwatch = Stopwatch::start();
    let outcome = call();

    // A missed deadline takes ten times as long.
    stopwatch.assert_within(limit + Duration::from_millis(900));
    outcome
}

#[test]
fn no_redirect_is_followed() {
    let workspace = workspace();
    let other = support::workspace();
    let test = Test::at(&workspace);

    for path in [TOKEN, MINT] {
        for status in [301, 302, 303, 307, 308] {
            let target = format!("{}{path}?secret=1", other.url);
            workspace.fault(path, 1, Answer::redirect(status, &target));
            let outcome = test.run("--no-cache");
            outcome.fails(1, &["redirects", &format!("HTTP status {status}"), &other.url]);
            assert!(!outcome.stderr.contains("secret=1"));
        }
    }
    assert!(other.take_requests().is_empty());
}

#[test]
fn an_error_says_that_a_workspace_needs_its_private_link() {
    let workspace = workspace();
    let page = "/login.html?error=private-link-validation-error:123";
    workspace.fault(TOKEN, 1, Answer::redirect(303, page));
    Test::at(&workspace).run("").fails(1, &["private link", "/login.html"]);
}

#[test]
fn every_slow_answer_ends_by_the_deadline() {
    let workspace = workspace();
    let drip = Answer::Drip(Duration::from_millis(40), json!({ "token": "x".repeat(500) }));
    for (path, answer) in [
        (TOKEN, Answer::Hang(Duration::from_secs(8))),
        (MINT, Answer::Hang(Duration::from_secs(8))),
        (TOKEN, drip.clone()),
        (MINT, drip),
        (MINT, Answer::Late(Duration::from_secs(8), Box::new(Answer::Close))),
    ] {
        let test = Test::at(&workspace);
        workspace.fault(path, 1, answer);
        let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
        outcome.fails(5, &["before the deadline", "--timeout"]);
    }
}

#[test]
fn an_address_that_never_answers_ends_by_the_deadline() {
    let hole = BlackHole::new();
    let mut test = Test::at(&workspace());
    test.set("DATABRICKS_HOST", &format!("http://{}", hole.address()));
    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["127.0.0.1"]);
}

#[test]
fn a_missing_tls_handshake_ends_by_the_deadline() {
    let (_workspace, _certificates, mut test) = secure();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    test.set("DATABRICKS_HOST", &format!("https://{}", silent.local_addr().unwrap()));
    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["before the deadline"]);
}

#[test]
fn temporary_failures_are_tried_three_times_at_most() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for status in [429, 502, 503, 504] {
        workspace.fault(MINT, 2, Answer::Json(status, json!({ "message": "busy" })));
        test.run("--no-cache").token();
        assert_eq!(workspace.count(MINT), 3);
        workspace.take_requests();
    }

    workspace.fault(MINT, 2, Answer::Close);
    test.run("--no-cache").token();

    workspace.fault(TOKEN, 9, Answer::Json(503, json!({ "message": "maintenance until noon" })));
    workspace.take_requests();
    test.run("--no-cache").fails(5, &["HTTP status 503", "maintenance until noon"]);
    assert_eq!(workspace.count(TOKEN), 3);
}

#[test]
fn a_refused_request_is_sent_once() {
    let workspace = workspace();
    for status in [400, 403, 404, 409, 500, 501] {
        workspace.take_requests();
        workspace.fault(MINT, 1, Answer::Json(status, json!({ "message": "no" })));
        let test = Test::at(&workspace);
        assert_ne!(test.run("").code, 0);
        assert_eq!(workspace.count(MINT), 1, "{status}");
    }
}

#[test]
fn retry_after_is_respected_inside_the_deadline() {
    let workspace = workspace();
    let wait = |seconds: &str| Answer::Text {
        status: 429,
        headers: vec![("Retry-After".to_owned(), seconds.to_owned())],
        body: b"slow down".to_vec(),
    };
    let test = Test::at(&workspace);

    workspace.fault(MINT, 1, wait("1"));
    let began = Instant::now();
    test.run("").token();
    assert!(began.elapsed() >= Duration::from_secs(1));

    workspace.fault(MINT, 9, wait("3600"));
    workspace.take_requests();
    let outcome = ends_within(Duration::ZERO, || test.run("--refresh"));
    outcome.fails(5, &["429", "slow down", "asks to wait 1h, longer than --timeout"]);
    assert_eq!(workspace.count(MINT), 1);
}

#[test]
fn retry_after_counts_for_one_pause_only() {
    let workspace = workspace();
    let busy = |headers: Vec<(String, String)>| Answer::Text {
        status: 503,
        headers,
        body: b"busy".to_vec(),
    };
    workspace.fault(MINT, 1, busy(vec![("Retry-After".to_owned(), "1".to_owned())]));
    workspace.fault(MINT, 1, busy(Vec::new()));

    let stopwatch = Stopwatch::start();
    Test::at(&workspace).run("--timeout 3s").token();
    assert_eq!(workspace.count(MINT), 3);
    stopwatch.assert_within(Duration::from_millis(2900));
}

#[test]
fn answers_with_an_unexpected_status_are_errors() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for (status, code) in [(201, 1), (202, 1), (204, 1), (206, 1), (408, 5), (425, 5), (999, 1)] {
        workspace.fault(MINT, 1, Answer::Json(status, json!({ "token": "abc" })));
        test.run("--no-cache").fails(code, &[&format!("HTTP status {status}")]);
    }

    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    workspace.fault(MINT, 9, Answer::Raw(head.into_bytes()));
    test.run("--no-cache").fails(1, &["invalid HTTP response"]);
}

#[test]
fn a_redirect_with_a_large_body_is_still_reported_as_a_redirect() {
    let workspace = workspace();
    let headers = vec![("Location".to_owned(), "https://x.example/#eyJhbGciOi.secret".to_owned())];
    let large = Answer::Text { status: 302, headers, body: vec![b'x'; 3 << 20] };
    workspace.fault(TOKEN, 1, large);
    let outcome = Test::at(&workspace).run("");
    outcome.fails(1, &["redirects", "https://x.example/"]);
    assert!(!outcome.stderr.contains("eyJ"));
}

#[test]
fn an_answer_that_is_cut_off_is_requested_again_and_never_printed() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"token\": \"abc".to_vec();
    workspace.fault(MINT, 1, Answer::Raw(cut.clone()));
    test.run("--no-cache").token();

    workspace.fault(MINT, 9, Answer::Raw(cut));
    let outcome = test.run("--no-cache");
    assert!(outcome.code == 5 && outcome.stdout.is_empty(), "{outcome:?}");

    workspace.state().faults.clear();
    workspace.fault(MINT, 9, Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()));
    let outcome = test.run("--no-cache");
    assert!(outcome.code == 1 && outcome.stderr.contains("invalid HTTP response"), "{outcome:?}");
}

#[test]
fn a_refused_connection_and_an_unknown_host_are_errors() {
    let mut test = Test::at(&workspace());
    let (refusing, _held) = refusing_address();
    test.set("DATABRICKS_HOST", &format!("http://{refusing}"));
    test.run("").fails(5, &["cannot reach 127.0.0.1", "refused"]);
    test.set("DATABRICKS_HOST", "https://no-such-host.invalid");
    test.run("--timeout 5s").fails(5, &["no-such-host.invalid"]);
}

#[test]
fn an_untrusted_authority_is_refused_with_a_hint() {
    let (workspace, certificates, mut test) = secure();
    test.run("--no-cache").token();

    let folder = tempfile::tempdir().unwrap();
    let other = Certificates::make(folder.path()).unwrap();
    test.set("SSL_CERT_FILE", other.authority.to_str().unwrap());
    workspace.take_requests();
    test.run("--no-cache").fails(5, &["no verified TLS connection", "SSL_CERT_FILE"]);
    assert!(workspace.take_requests().is_empty());

    // A folder of certificates is as good as a file.
    let folder = test.home.path().join("authorities");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&certificates.authority, folder.join("one.pem")).unwrap();
    test.unset("SSL_CERT_FILE").set("SSL_CERT_DIR", folder.to_str().unwrap());
    test.run("--no-cache").token();

    test.unset("SSL_CERT_DIR").set("SSL_CERT_FILE", "/does/not/exist.pem");
    test.run("--no-cache")
        .fails(2, &["SSL_CERT_FILE has no usable certificate: /does/not/exist.pem"]);
}

#[test]
#[cfg(unix)]
fn the_systems_certificates_are_trusted_without_any_variable() {
    let (_workspace, certificates, mut test) = secure();
    test.unset("SSL_CERT_FILE");
    // The sandbox's authority is not among the system's, and then it is.
    let outcome = test.run("--no-cache");
    let test_name = "http::the_systems_certificates";
    let Some(bundle) = lakebase_token::net::trust::system_bundle() else {
        return support::not_run(test_name, "no CA certificates are installed");
    };
    outcome.fails(5, &["UnknownIssuer"]);
    if !support::can_unshare(test_name, "--mount") {
        return;
    }
    let script = format!(
        "mount --bind {} {} && exec {} --no-cache",
        certificates.authority.display(),
        bundle.display(),
        support::executable().display()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env_clear().envs(test.env.iter().cloned());
    let output = command.env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"eyJ"), "{output:?}");
}

#[test]
fn a_configured_proxy_is_used() {
    let (workspace, _certificates, mut test) = secure();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let received = heads.clone();
    let proxy = workspace.proxy(move |head| {
        received.lock().unwrap().push(head.to_owned());
        true
    });
    let address = proxy.strip_prefix("http://").unwrap();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("HTTPS_PROXY", &format!("http://user:pass@{address}"));
    test.run("--no-cache").token();

    let first_heads = std::mem::take(&mut *heads.lock().unwrap());
    assert_eq!(first_heads.len(), 1, "one tunnel for both requests");
    assert!(
        first_heads[0].starts_with(&format!("CONNECT x.databricks.azure.us:{}", port(&workspace)))
    );
    assert!(first_heads[0].to_ascii_lowercase().contains("proxy-authorization: basic"));

    // Neither a host in NO_PROXY, nor localhost, nor a literal loopback address uses the proxy.
    test.set("NO_PROXY", "example.com,databricks.azure.us");
    test.run("--no-cache --timeout 2s").fails(5, &["x.databricks.azure.us"]);
    let localhost = workspace.url.replace("127.0.0.1", "localhost");
    for url in [&localhost, &workspace.url] {
        test.unset("NO_PROXY").set("DATABRICKS_HOST", url);
        test.run("--no-cache").token();
    }
    assert!(heads.lock().unwrap().is_empty());
}

#[test]
fn a_proxy_that_answers_a_byte_at_a_time_ends_by_the_deadline() {
    let (workspace, _certificates, mut test) = secure();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("HTTPS_PROXY", &format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut answer = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
                while client.write_all(&[*answer.next().unwrap()]).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });

    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["through the proxy 127.0.0.1"]);
}

#[test]
fn a_proxy_of_another_protocol_is_refused_and_not_ignored() {
    let (workspace, _certificates, mut test) = secure();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    for url in ["socks5://127.0.0.1:1", "socks4://127.0.0.1:1", "socks5h://127.0.0.1:1"] {
        test.set("HTTPS_PROXY", url).run("").fails(2, &["HTTPS_PROXY is a SOCKS proxy"]);
    }
    assert!(workspace.take_requests().is_empty());

    let (refusing, _held) = refusing_address();
    test.set("HTTPS_PROXY", &format!("http://{refusing}"));
    test.run("").fails(5, &[&format!("through the proxy {refusing}"), "check HTTPS_PROXY"]);
}

#[test]
fn an_error_names_the_proxy_without_its_password() {
    let (workspace, _certificates, mut test) = secure();
    let proxy = workspace.proxy(|_| false);
    let address = proxy.strip_prefix("http://").unwrap();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("https_proxy", &format!("http://user:hunter2@{address}"));
    let outcome = test.run("--no-cache");
    outcome.fails(5, &["proxy"]);
    assert!(!outcome.stderr.contains("hunter2"));

    // A URL parser would take `user` for the host of the second, and print a part of the password.
    for url in ["hunter2 is no URL".to_owned(), format!("http://user:12#hunter2@{address}")] {
        test.set("HTTPS_PROXY", &url);
        let outcome = test.run("--no-cache");
        outcome.fails(2, &["HTTPS_PROXY is not the URL of an HTTP proxy"]);
        assert!(!outcome.stderr.contains("hunter2") && !outcome.stderr.contains("user:12"));
    }
}

#[test]
fn an_error_says_how_much_time_was_missing() {
    let workspace = workspace();
    let context = Context::of_process();
    let client = Client::new(&context, "pat");
    let url = format!("{}/anything", workspace.url);
    let time_lacking = |answer: Answer| {
        workspace.fault("/", 1, answer);
        let deadline = Deadline::after(Duration::from_millis(400));
        let sent = client.send(&Request::get(&url, &[]), deadline);
        sent.map(|_| ()).unwrap_err().time_lacking
    };

    let busy = Answer::Text {
        status: 503,
        headers: vec![("Retry-After".to_owned(), "7".to_owned())],
        body: Vec::new(),
    };
    assert_eq!(time_lacking(busy).map(|time| time.as_secs()), Some(7));
    assert_eq!(time_lacking(Answer::Hang(Duration::from_secs(3))), Some(Duration::ZERO));
    assert_eq!(time_lacking(Answer::redirect(302, "https://elsewhere.example/")), None);
}
