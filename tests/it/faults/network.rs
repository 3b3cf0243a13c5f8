//! Faults of the network: answers, connections, certificates, proxies and name servers. Every call
//! ends by its deadline, with the expected exit code, nothing on stdout, one error that names the
//! host or proxy that failed, and little memory.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{ALL_REFUSE, Class, holds, is_campaign, times};
use crate::http::{BlackHole, secure};
use crate::sandbox::Certificates;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN, Workspace};
use crate::stopwatch::Stopwatch;
use crate::support::{
    Test, executable, has, is_root, not_run, part_not_run, refusing_address, workspace,
};

const DEADLINE: Duration = Duration::from_secs(1);
/// Connecting to an address that never answers takes 1.5 s (`ADDRESS_TIMEOUT` of `net/connect.rs`).
const DEADLINE_WITH_SILENT_ADDRESS: Duration = Duration::from_secs(2);

/// The most memory that a call may use.
const MAX_MEMORY_KIB: u64 = 20 * 1024;

/// A process that has ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
    peak_kib: u64,
    /// When it must have ended, on a machine as busy as this one was.
    deadline: Duration,
}

/// Runs the program in a test's context, started by `wrapper`. GNU time measures its peak memory.
fn run(test: &Test, wrapper: &[&str]) -> Ended {
    run_until(test, wrapper, DEADLINE)
}

fn run_until(test: &Test, wrapper: &[&str], deadline: Duration) -> Ended {
    let program = executable();
    let timeout = format!("{}s", deadline.as_secs());
    let program = [program.to_str().unwrap(), "--no-cache", "--timeout", &timeout];
    let peak_file = test.home.path().join("peak");
    let mut words: Vec<&str> = wrapper.to_vec();
    words.extend(["time", "-q", "-f", "%M", "-o", peak_file.to_str().unwrap()]);
    words.extend(program);

    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_clear().envs(test.env.iter().cloned()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let stopwatch = Stopwatch::start();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (took, late) = stopwatch.stop();

    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let peak = fs::read_to_string(peak_file).unwrap_or_default();
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        took,
        peak_kib: peak.trim().parse().unwrap_or(0),
        deadline: deadline + tolerance() + late,
    }
}

/// How late a process may be. A campaign runs alone, a test at the same time as others.
fn tolerance() -> Duration {
    Duration::from_millis(if is_campaign() { 100 } else { 900 })
}

/// What must hold for every failure; `named` is the host or proxy that the error must name.
fn failed_well(ended: &Ended, code: i32, named: &str) -> Result<(), String> {
    let errors = ended.stderr.matches("lakebase-token: error: ").count();
    let ours = ended.stderr.lines().all(|line| line.starts_with("lakebase-token: "));
    holds(ended.code == Some(code), || {
        format!("{:?} is not {code}: {}", ended.code, ended.stderr)
    })?;
    holds(ended.stdout.is_empty(), || "something is on stdout".to_owned())?;
    holds(errors == 1 && ours, || format!("not one error of ours: {}", ended.stderr))?;
    holds(ended.stderr.contains(named), || format!("no {named} in {}", ended.stderr))?;
    ended_well(ended)
}

fn ended_well(ended: &Ended) -> Result<(), String> {
    holds(ended.took <= ended.deadline, || format!("took {:?}", ended.took))?;
    let peak_kib = ended.peak_kib;
    holds((1..=MAX_MEMORY_KIB).contains(&peak_kib), || format!("{peak_kib} KiB of memory"))
}

fn raw(head: &str, body: &[u8]) -> Answer {
    Answer::Raw([format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat())
}

/// 64 MiB, compressed.
fn gzip_bomb() -> Vec<u8> {
    let mut gzip =
        Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gzip.stdin.take().unwrap();
    std::thread::spawn(move || (0..64).all(|_| input.write_all(&[b' '; 1 << 20]).is_ok()));
    gzip.wait_with_output().unwrap().stdout
}

/// The worst answers of working and broken servers: a description, the answer and the exit code.
fn answers() -> Vec<(&'static str, Answer, i32)> {
    let valid = json!({ "token": "abc", "access_token": "abc", "expires_in": 3600 }).to_string();
    let json = "Content-Type: application/json\r\n";
    let length =
        |length: &str| raw(&format!("200 OK\r\n{json}Content-Length: {length}"), valid.as_bytes());
    let text = |status, headers: &[(&str, &str)], body: Vec<u8>| {
        let headers = headers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Answer::Text { status, headers, body }
    };
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let portal = "<html><title>Hotel Wi-Fi</title>Please log in</html>";
    vec![
        ("closed without an answer", Answer::Close, 5),
        ("hangs", Answer::Hang(Duration::from_secs(30)), 5),
        (
            "a byte at a time",
            Answer::Drip(Duration::from_millis(30), json!({ "token": "x".repeat(500) })),
            5,
        ),
        ("late", Answer::Late(Duration::from_secs(30), Box::new(Answer::Close)), 5),
        ("half a head", Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()), 5),
        ("half a body", raw("200 OK\r\nContent-Length: 500", valid.as_bytes()), 5),
        ("length too small", length("7"), 1),
        ("negative length", length("-7"), 1),
        ("no number for a length", length("seven"), 1),
        ("length beyond 64 bits", length("99999999999999999999999"), 1),
        (
            "200 MB announced and sent",
            raw("200 OK\r\nContent-Length: 209715200", &vec![b' '; 200 << 20]),
            1,
        ),
        ("200 MB without a length", raw("200 OK", &vec![b' '; 200 << 20]), 1),
        (
            "endless chunks",
            raw("200 OK\r\nTransfer-Encoding: chunked", chunk.repeat(64).as_bytes()),
            1,
        ),
        (
            "a chunk with an invalid size",
            raw("200 OK\r\nTransfer-Encoding: chunked", b"zz\r\nabc\r\n"),
            1,
        ),
        ("gzip bomb", text(200, &[("Content-Encoding", "gzip")], gzip_bomb()), 1),
        ("redirects to itself", Answer::redirect(302, TOKEN), 1),
        ("redirects to a portal", Answer::redirect(307, "http://portal.example/login"), 1),
        ("a portal's page", Answer::html(200, portal), 1),
        ("a portal's 511", Answer::html(511, portal), 5),
        (
            "a portal's page as JSON",
            text(200, &[("Content-Type", "application/json")], portal.into()),
            1,
        ),
        ("a proxy's 407", text(407, &[], b"no".to_vec()), 4),
        ("an empty answer", text(200, &[], Vec::new()), 1),
        ("204", text(204, &[], Vec::new()), 1),
        ("another protocol", Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), 1),
        ("HTTP 9", Answer::Raw(b"HTTP/9.9 200 OK\r\n\r\n".to_vec()), 1),
        ("no status", Answer::Raw(b"HTTP/1.1 abc OK\r\n\r\n".to_vec()), 1),
        ("a header without an end", raw(&format!("200 OK\r\nX: {}", "x".repeat(1 << 20)), b""), 1),
        (
            "headers without an end",
            raw(&format!("200 OK\r\n{}", "X: y\r\n".repeat(100_000)), b""),
            1,
        ),
        ("NUL in a header", raw("200 OK\r\nX: a\0b", valid.as_bytes()), 1),
        ("endless 100", Answer::Raw("HTTP/1.1 100 Continue\r\n\r\n".repeat(50_000).into()), 1),
        ("101", raw("101 Switching Protocols\r\nUpgrade: x", b""), 1),
        ("busy", text(503, &[("Retry-After", "3600")], b"busy".to_vec()), 5),
        ("busy at every try", text(429, &[], b"busy".to_vec()), 5),
    ]
}

#[test]
fn every_bad_answer_is_a_clear_error_in_time() {
    let test = "faults::network";
    if !has(test, "time") || !has(test, "gzip") {
        return;
    }
    let mut class = Class::new("network: answers", ALL_REFUSE);
    for _ in 0..times(1, 3) {
        for path in [TOKEN, MINT] {
            for (what, answer, code) in answers() {
                let workspace = workspace();
                let test = Test::at(&workspace);
                workspace.fault(path, 99, answer);
                let ended = run(&test, &[]);
                // An empty body is an empty object.
                let named = if what == "an empty answer" { "has no field" } else { "127.0.0.1:" };
                class.tried(format!("{path} {what}"), failed_well(&ended, code, named));
                class.ended(ended.code == Some(0));
            }
        }
    }
    class.end();
}

/// Starts a TCP server that handles each connection with `behave`. If it closes a connection with
/// unread bytes, the system sends a reset.
fn server(behave: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let behave = behave.clone();
            std::thread::spawn(move || behave(client));
        }
    });
    address
}

fn wait_for_bytes(client: &TcpStream) {
    let _ = client.peek(&mut [0]);
}

/// Servers that do not complete an exchange, with a description.
fn bad_servers(
    refusing: SocketAddr,
    hole: &BlackHole,
    secure: SocketAddr,
) -> [(&'static str, SocketAddr); 8] {
    [
        ("refused", refusing),
        ("black hole", hole.address()),
        ("reset at once", server(|client| wait_for_bytes(&client))),
        ("reset within the head", server(|client| send_and_reset(client, b"HTTP/1.1 200 O"))),
        (
            "reset within the body",
            server(|client| {
                send_and_reset(client, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
            }),
        ),
        (
            "silence",
            server(|client| {
                wait_for_bytes(&client);
                std::thread::sleep(Duration::from_secs(30));
            }),
        ),
        (
            "reads a byte a second",
            server(|mut client| {
                while client.read(&mut [0]).is_ok_and(|read| read > 0) {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }),
        ),
        (
            "a handshake, a byte at a time",
            server(move |client| forward_slowly(client, TcpStream::connect(secure).unwrap())),
        ),
    ]
}

fn send_and_reset(mut client: TcpStream, text: &[u8]) {
    wait_for_bytes(&client);
    let _ = client.write_all(text);
}

/// Forwards what the server sends a byte at a time, and what the client sends at once.
fn forward_slowly(mut client: TcpStream, mut server: TcpStream) {
    let mut from_client = client.try_clone().unwrap();
    let mut to_server = server.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));

    let mut byte = [0];
    while server.read(&mut byte).is_ok_and(|read| read > 0) && client.write_all(&byte).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_bad_connection_is_a_clear_error_in_time() {
    if !has("faults::network", "time") {
        return;
    }
    let mut class = Class::new("network: connections", ALL_REFUSE);
    let hole = BlackHole::new();
    let (secure, _certificates, configured) = secure();
    let secure_address = secure.url.strip_prefix("https://").unwrap().parse().unwrap();
    let (refusing, _held) = refusing_address();
    let servers = bad_servers(refusing, &hole, secure_address);
    for _ in 0..times(1, 5) {
        for scheme in ["http", "https"] {
            for (what, address) in &servers {
                let mut test = Test::bare();
                test.env = configured.env.clone();
                test.set("DATABRICKS_HOST", &format!("{scheme}://{address}"));
                // A server that answers with TLS sends an invalid HTTP response.
                let is_http_to_tls = scheme == "http" && what.contains("handshake");
                let code = if is_http_to_tls { 1 } else { 5 };
                let ended = run(&test, &[]);
                class.tried(
                    format!("{scheme}, {what}"),
                    failed_well(&ended, code, &address.to_string()),
                );
                class.ended(ended.code == Some(0));
            }
        }
    }
    class.end();
}

#[test]
fn invalid_certificates_are_not_trusted() {
    if !has("faults::network", "time") {
        return;
    }
    let mut class = Class::new("network: trust", [10, 50]);
    type Change = fn(&mut rcgen::CertificateParams);
    let invalid: [(&str, Change); 4] = [
        ("expired", |server| server.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        ("not valid yet", |server| server.not_before = rcgen::date_time_ymd(2400, 1, 1)),
        ("another name", |server| {
            server.subject_alt_names =
                vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
        }),
        ("no name", |server| server.subject_alt_names.clear()),
    ];
    let start = |change: Change| {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::with(folder.path(), change).unwrap();
        let workspace = Workspace::start(Some(certificates.tls.clone())).unwrap();
        (workspace, certificates, folder)
    };
    let mut check = |what: &str, change: Change, trusted: Option<&Path>| {
        let (workspace, certificates, _folder) = start(change);
        let mut test = Test::at(&workspace);
        test.set("SSL_CERT_FILE", trusted.unwrap_or(&certificates.authority).to_str().unwrap());
        let ended = run(&test, &[]);
        let requests = workspace.take_requests();
        class.ended(ended.code == Some(0));
        if what == "valid" {
            class.tried(what, holds(ended.code == Some(0), || ended.stderr.clone()));
            return;
        }
        class.tried(what, failed_well(&ended, 5, "no verified TLS connection to 127.0.0.1:"));
        class.tried(what, holds(requests.is_empty(), || format!("received {requests:?}")));
    };
    check("valid", |_| (), None);
    for (what, change) in invalid {
        check(what, change, None);
    }
    let (_, other, _folder) = start(|_| ());
    check("another authority", |_| (), Some(&other.authority));
    class.end();
}

#[test]
fn an_error_names_the_proxy_that_fails() {
    if !has("faults::network", "time") {
        return;
    }
    let mut class = Class::new("network: proxies", ALL_REFUSE);
    let answering = |answer: &'static [u8]| {
        server(move |mut client| {
            wait_for_bytes(&client);
            let _ = client.write_all(answer);
            std::thread::sleep(Duration::from_millis(50));
        })
    };
    let (refusing, _held) = refusing_address();
    let silence = server(|client| {
        wait_for_bytes(&client);
        std::thread::sleep(Duration::from_secs(30));
    });
    let proxies = [
        ("refused", refusing),
        ("closes", answering(b"")),
        ("502", answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")),
        ("407", answering(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")),
        ("a page", answering(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n<html>")),
        ("silence", silence),
        (
            "a byte at a time",
            server(|mut client| {
                wait_for_bytes(&client);
                while client.write_all(b"H").is_ok() {
                    std::thread::sleep(Duration::from_millis(30));
                }
            }),
        ),
        ("connected to no server", answering(b"HTTP/1.1 200 Connection established\r\n\r\n")),
    ];
    for _ in 0..times(1, 5) {
        for (what, address) in &proxies {
            let mut test = Test::at(&workspace());
            test.set("DATABRICKS_HOST", "https://workspace.example");
            test.set("HTTPS_PROXY", &format!("http://me:hunter2@{address}"));
            let ended = run(&test, &[]);
            // This proxy's answer is not valid HTTP.
            let code = if *what == "a byte at a time" { 1 } else { 5 };
            class.ended(ended.code == Some(0));
            class.tried(what, failed_well(&ended, code, &address.to_string()));
            class.tried(what, holds(!ended.stderr.contains("hunter2"), || "a password".to_owned()));
        }
    }
    class.end();
}

/// How a name server answers.
enum NameAnswer {
    Silent,
    Late(Duration),
    /// A response code (RFC 1035 §4.1.1) without an address.
    Code(u8),
    Garbage,
    /// 127.0.0.1 as the address of IPv4; for IPv6 this code, or nothing at all.
    OnlyIpv4(Option<u8>),
}

/// The type of a query: 1 for an address of IPv4, 28 for one of IPv6 (RFC 1035, RFC 3596).
fn query_type(packet: &[u8]) -> (usize, u16) {
    let mut at = 12;
    while packet[at] != 0 {
        at += 1 + usize::from(packet[at]);
    }
    (at + 5, u16::from_be_bytes([packet[at + 1], packet[at + 2]]))
}

/// How many queries for an address of IPv4 the name servers have got.
static IPV4_QUERIES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Starts a name server on an address of its own. Only root may use port 53.
fn name_server(last: u8, answers: NameAnswer) -> std::io::Result<String> {
    // Another run of these tests may use other addresses at the same time.
    let address = format!("127.53.{}.{last}", 1 + std::process::id() % 250);
    let socket = UdpSocket::bind((address.as_str(), 53))?;
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let mut answer = packet[..length].to_vec();
            let code = match answers {
                NameAnswer::Silent => continue,
                NameAnswer::Late(time) => {
                    std::thread::sleep(time);
                    3
                }
                NameAnswer::Code(code) => code,
                NameAnswer::OnlyIpv4(other) => {
                    let (end, kind) = query_type(&packet[..length]);
                    answer.truncate(end);
                    answer[6..12].fill(0);
                    if kind == 1 {
                        IPV4_QUERIES.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        answer[7] = 1;
                        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
                    }
                    match if kind == 1 { Some(0) } else { other } {
                        Some(code) => code,
                        None => continue,
                    }
                }
                NameAnswer::Garbage => {
                    answer.truncate(2);
                    answer.extend([0xff; 40]);
                    0
                }
            };
            // A response, with recursion available (RFC 1035 §4.1.1).
            answer[2] = 0x81;
            answer[3] = 0x80 | code;
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(address)
}

/// Runs the program in a mount namespace with another `resolv.conf` and another `hosts`.
fn run_with_names(test: &Test, resolv_conf: &str, hosts: &str, deadline: Duration) -> Ended {
    let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/hosts \
                  && shift 2 && exec \"$@\"";
    let resolv_conf = test.write("resolv.conf", resolv_conf);
    let hosts = test.write("hosts", hosts);
    let files = [resolv_conf.to_str().unwrap(), hosts.to_str().unwrap()];
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh", files[0], files[1]];
    run_until(test, &wrapper, deadline)
}

#[test]
fn name_servers_that_fail_and_addresses_that_do_not_answer() {
    let test = "faults::network::name_servers";
    if !has(test, "time") || !has(test, "unshare") {
        return;
    }
    if !is_root() {
        return not_run(test, "only root can give a process another resolv.conf");
    }
    let mut class = Class::new("network: names", [25, 25]);
    try_name_servers(&mut class);
    try_first_addresses(&mut class);
    class.end();
}

fn try_name_servers(class: &mut Class) {
    let servers = [
        ("silent", NameAnswer::Silent),
        ("late", NameAnswer::Late(Duration::from_secs(30))),
        ("NXDOMAIN", NameAnswer::Code(3)),
        ("SERVFAIL", NameAnswer::Code(2)),
        ("REFUSED", NameAnswer::Code(5)),
        ("no address", NameAnswer::Code(0)),
        ("garbage", NameAnswer::Garbage),
    ];
    for (n, (what, answers)) in servers.into_iter().enumerate() {
        let address = name_server(1 + n as u8, answers).unwrap();
        let mut test = Test::at(&workspace());
        test.set("DATABRICKS_HOST", "https://workspace.example");
        let ended = run_with_names(&test, &format!("nameserver {address}\n"), "", DEADLINE);
        class.ended(ended.code == Some(0));
        class.tried(what, failed_well(&ended, 5, "workspace.example"));
        if what == "silent" {
            let words = format!("({address})");
            let told = ended.stderr.contains("no name server has answered within")
                && ended.stderr.contains(&words);
            class.tried("silent, in words", holds(told, || ended.stderr.clone()));
        }
    }

    // An answer for IPv6 that is none must not cost the good one for IPv4.
    let (secure, _certificates, configured) = secure();
    let port = secure.url.rsplit_once(':').unwrap().1;
    for (n, other) in [Some(3), Some(2), Some(5), Some(4), Some(0), None].into_iter().enumerate() {
        let address = name_server(20 + n as u8, NameAnswer::OnlyIpv4(other)).unwrap();
        let mut test = Test::bare();
        test.env = configured.env.clone();
        test.set("DATABRICKS_HOST", &format!("https://x.databricks.azure.us:{port}"));
        IPV4_QUERIES.store(0, std::sync::atomic::Ordering::SeqCst);
        let ended = run_with_names(&test, &format!("nameserver {address}\n"), "", DEADLINE);
        let queries = IPV4_QUERIES.load(std::sync::atomic::Ordering::SeqCst);
        let delivered = holds(ended.code == Some(0), || ended.stderr.clone());
        class.ended(ended.code == Some(0));
        class.tried(format!("IPv6: {other:?}"), delivered);
        let once = holds(queries == 1, || format!("{queries} queries for one call"));
        class.tried(format!("IPv6: {other:?}, one resolution"), once);
    }
}

/// The first of a host's two addresses refuses the connection, or never answers.
fn try_first_addresses(class: &mut Class) {
    let (secure, _certificates, configured) = secure();
    let port = secure.url.rsplit_once(':').unwrap().1;
    let mut check = |what: &str, hosts: &str| {
        let mut test = Test::bare();
        test.env = configured.env.clone();
        test.set("DATABRICKS_HOST", &format!("https://localhost:{port}"));
        let ended = run_with_names(&test, "", hosts, DEADLINE_WITH_SILENT_ADDRESS);
        let delivered = holds(ended.code == Some(0), || ended.stderr.clone());
        class.ended(ended.code == Some(0));
        class.tried(what, delivered.and_then(|()| ended_well(&ended)));
    };
    check("the first address refuses", "127.0.0.2 localhost\n127.0.0.1 localhost\n");

    let Ok(hole) = TcpListener::bind(format!("[::1]:{port}")) else {
        return part_not_run("faults::network::ipv6", "this machine has no IPv6");
    };
    let address = hole.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    check("the first address never answers", "::1 localhost\n127.0.0.1 localhost\n");
}
