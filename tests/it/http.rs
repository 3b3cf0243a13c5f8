//! The wire when it misbehaves: redirects, deadlines, retries, proxies, trust.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Test, workspace};
use crate::sandbox::Certificates;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::Workspace;

const MINT: &str = "/api/2.0/postgres/credentials";
const TOKEN: &str = "/oidc/v1/token";

/// A workspace over TLS, and surroundings that trust it.
pub fn secure() -> (Workspace, Certificates, Test) {
    let mut test = Test::bare();
    let certificates = Certificates::make(test.home.path()).unwrap();
    let workspace = Workspace::start(Some(certificates.tls.clone())).unwrap();
    let prepared = Test::at(&workspace);
    test.env.extend(prepared.env.iter().filter(|(name, _)| name != "HOME").cloned());
    test.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
    (workspace, certificates, test)
}

/// The same workspace by a name, which is no literal loopback address.
fn by_name(workspace: &Workspace) -> String {
    workspace.url.replace("127.0.0.1", "localhost")
}

fn port(workspace: &Workspace) -> u16 {
    workspace.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A port where connecting is never answered: the queue of waiting connections is full.
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
fn ends_within(
    limit: Duration,
    call: impl FnOnce() -> super::support::Outcome,
) -> super::support::Outcome {
    let began = Instant::now();
    let outcome = call();
    // Room for a machine that is busy with other tests; a missed deadline is ten times this.
    assert!(began.elapsed() < limit + Duration::from_millis(900), "{:?}", began.elapsed());
    outcome
}

#[test]
fn no_redirect_is_followed() {
    let workspace = workspace();
    let stranger = super::support::workspace();
    let test = Test::at(&workspace);
    for path in [TOKEN, MINT] {
        for status in [301, 302, 303, 307, 308] {
            let target = format!("{}{path}?secret=1", stranger.url);
            workspace.fault(path, 1, Answer::redirect(status, &target));
            let outcome = test.run("--no-cache");
            outcome.fails(1, &["redirects", &format!("HTTP status {status}"), &stranger.url]);
            assert!(!outcome.stderr.contains("secret=1"));
        }
    }
    assert!(stranger.take_requests().is_empty());
}

#[test]
fn a_private_link_is_named() {
    let workspace = workspace();
    let page = "/login.html?error=private-link-validation-error:123";
    workspace.fault(TOKEN, 1, Answer::redirect(303, page));
    Test::at(&workspace).run("").fails(1, &["private link", "/login.html"]);
}

#[test]
fn everything_ends_by_the_deadline() {
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
fn a_black_hole_ends_by_the_deadline() {
    let hole = BlackHole::new();
    let mut test = Test::at(&workspace());
    test.set("DATABRICKS_HOST", &format!("http://{}", hole.address()));
    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["127.0.0.1"]);
}

#[test]
fn a_handshake_that_never_comes_ends_by_the_deadline() {
    let (_workspace, _certificates, mut test) = secure();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    test.set("DATABRICKS_HOST", &format!("https://{}", silent.local_addr().unwrap()));
    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["before the deadline"]);
}

#[test]
fn passing_trouble_is_tried_again_three_times_at_most() {
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
fn a_no_is_asked_once() {
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
fn retry_after_is_obeyed_inside_the_deadline() {
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
fn one_retry_after_says_nothing_of_the_next_pause() {
    let workspace = workspace();
    let busy = |headers: Vec<(String, String)>| Answer::Text {
        status: 503,
        headers,
        body: b"busy".to_vec(),
    };
    workspace.fault(MINT, 1, busy(vec![("Retry-After".to_owned(), "1".to_owned())]));
    workspace.fault(MINT, 1, busy(Vec::new()));
    let began = Instant::now();
    Test::at(&workspace).run("--timeout 3s").token();
    assert_eq!(workspace.count(MINT), 3);
    assert!(began.elapsed() < Duration::from_millis(2900), "{:?}", began.elapsed());
}

#[test]
fn answers_that_are_neither_yes_nor_no_are_broken() {
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
fn a_redirect_is_told_whatever_comes_with_it() {
    let workspace = workspace();
    let headers = vec![("Location".to_owned(), "https://x.example/#eyJhbGciOi.secret".to_owned())];
    let large = Answer::Text { status: 302, headers, body: vec![b'x'; 3 << 20] };
    workspace.fault(TOKEN, 1, large);
    let outcome = Test::at(&workspace).run("");
    outcome.fails(1, &["redirects", "https://x.example/"]);
    assert!(!outcome.stderr.contains("eyJ"));
}

#[test]
fn an_answer_that_is_cut_off_is_asked_for_again_and_never_printed() {
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
fn nobody_there_and_nobody_by_that_name() {
    let mut test = Test::at(&workspace());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    test.set("DATABRICKS_HOST", &format!("http://{free}"));
    test.run("").fails(5, &["cannot reach 127.0.0.1", "refused"]);
    test.set("DATABRICKS_HOST", "https://no-such-host.invalid");
    test.run("--timeout 5s").fails(5, &["no-such-host.invalid"]);
}

#[test]
fn an_untrusted_authority_is_refused_with_the_way_out() {
    let (workspace, certificates, mut test) = secure();
    test.run("--no-cache").token();
    let other = tempfile::tempdir().unwrap();
    let stranger = Certificates::make(other.path()).unwrap();
    test.set("SSL_CERT_FILE", stranger.authority.to_str().unwrap());
    workspace.take_requests();
    test.run("--no-cache").fails(5, &["no trustworthy TLS connection", "SSL_CERT_FILE"]);
    assert!(workspace.take_requests().is_empty());
    // A folder of certificates does as well.
    let folder = test.home.path().join("authorities");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&certificates.authority, folder.join("one.pem")).unwrap();
    test.unset("SSL_CERT_FILE").set("SSL_CERT_DIR", folder.to_str().unwrap());
    test.run("--no-cache").token();
    test.unset("SSL_CERT_DIR").set("SSL_CERT_FILE", "/does/not/exist.pem");
    test.run("--no-cache").fails(2, &["SSL_CERT_FILE is not a file: /does/not/exist.pem"]);
}

#[test]
fn the_systems_own_store_is_used_without_any_variable() {
    let (_workspace, _certificates, mut test) = secure();
    test.unset("SSL_CERT_FILE");
    let outcome = test.run("--no-cache");
    // Our sandbox's authority is not in it, but something must be.
    assert!(outcome.stderr.contains("UnknownIssuer") || outcome.code == 2, "{outcome:?}");
    if outcome.code == 2 {
        super::support::not_run("http::the_systems_own_store", "no CA certificates are installed");
    }
}

/// A proxy that tunnels to loopback and remembers whom it was asked for; or refuses.
fn proxy(refuses: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let port = head.split([' ', ':']).nth(2).unwrap().to_owned();
                log.lock().unwrap().push(head);
                if refuses {
                    let _ =
                        client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
                    return;
                }
                let server = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (mut from, mut to) = (server, client);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    (address, asked)
}

#[test]
fn a_proxy_is_used_where_one_is_set() {
    let (workspace, _certificates, mut test) = secure();
    let (address, asked) = proxy(false);
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("HTTPS_PROXY", &format!("http://user:pass@{address}"));
    test.run("--no-cache").token();
    let asked_for = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(asked_for.len(), 1, "one tunnel for both requests");
    assert!(asked_for[0].starts_with(&format!("CONNECT localhost:{}", port(&workspace))));
    assert!(asked_for[0].to_ascii_lowercase().contains("proxy-authorization: basic"));
    // Not for a host that is excepted, nor for a literal loopback address.
    test.set("NO_PROXY", "example.com,localhost");
    test.run("--no-cache").token();
    test.unset("NO_PROXY").set("DATABRICKS_HOST", &workspace.url);
    test.run("--no-cache").token();
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn a_proxy_that_drips_its_greeting_ends_by_the_deadline() {
    let (workspace, _certificates, mut test) = secure();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("HTTPS_PROXY", &format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut greeting = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
                while client.write_all(&[*greeting.next().unwrap()]).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    let outcome = ends_within(Duration::from_secs(1), || test.run("--timeout 1s"));
    outcome.fails(5, &["through the proxy 127.0.0.1"]);
}

#[test]
fn a_proxy_of_another_kind_is_refused_and_not_passed_over() {
    let (workspace, _certificates, mut test) = secure();
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    for url in ["socks5://127.0.0.1:1", "socks4://127.0.0.1:1", "socks5h://127.0.0.1:1"] {
        test.set("HTTPS_PROXY", url)
            .run("")
            .fails(2, &["HTTPS_PROXY is not the URL of an HTTP proxy"]);
    }
    assert!(workspace.take_requests().is_empty());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    test.set("HTTPS_PROXY", &format!("http://{free}"));
    test.run("").fails(5, &[&format!("through the proxy {free}"), "check HTTPS_PROXY"]);
}

#[test]
fn a_proxy_that_fails_is_named_without_its_password() {
    let (workspace, _certificates, mut test) = secure();
    let (address, _) = proxy(true);
    test.set("DATABRICKS_HOST", &by_name(&workspace));
    test.set("https_proxy", &format!("http://user:hunter2@{address}"));
    let outcome = test.run("--no-cache");
    outcome.fails(5, &["proxy"]);
    assert!(!outcome.stderr.contains("hunter2"));
    test.set("HTTPS_PROXY", "hunter2 is no URL");
    let outcome = test.run("--no-cache");
    outcome.fails(2, &["HTTPS_PROXY is not the URL of an HTTP proxy"]);
    assert!(!outcome.stderr.contains("hunter2"));
}

#[test]
fn who_stops_for_want_of_time_says_how_much() {
    let workspace = workspace();
    let context = lakebase_token::platform::context::Context::of_process();
    let client = lakebase_token::net::http::Client::new(&context, "pat");
    let url = format!("{}{TOKEN}", workspace.url);
    let lacked = |answer: Answer| {
        workspace.fault("/", 1, answer);
        let request = lakebase_token::net::http::Request::get(&url, &[]);
        let deadline = lakebase_token::platform::time::Deadline::after(Duration::from_millis(400));
        client.send(&request, deadline).map(|_| ()).unwrap_err().time_lacking
    };
    let busy = Answer::Text {
        status: 503,
        headers: vec![("Retry-After".to_owned(), "7".to_owned())],
        body: Vec::new(),
    };
    assert_eq!(lacked(busy).map(|lacked| lacked.as_secs()), Some(7));
    assert_eq!(lacked(Answer::Hang(Duration::from_secs(3))), Some(Duration::ZERO));
    assert_eq!(lacked(Answer::redirect(302, "https://elsewhere.example/")), None);
}
