//! `NO_PROXY` compared with Go's own reading of it, and proxies that cannot be used.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use lakebase_token::net::no_proxy::covers;

use super::support::{Test, has, not_run, repository, spawn};
use crate::sandbox::workspace::PAT;

/// Prints for each line `list TAB host TAB port` whether Go would use a proxy.
const JUDGE: &str = r#"package main

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), "\t")
		config := httpproxy.Config{HTTPSProxy: "http://proxy.example:3128", NoProxy: parts[0]}
		target, err := url.Parse("https://" + parts[1] + ":" + parts[2] + "/")
		if err != nil {
			panic(err)
		}
		proxy, err := config.ProxyFunc()(target)
		if err != nil {
			panic(err)
		}
		fmt.Println(proxy == nil)
	}
}
"#;

const LISTS: [&str; 44] = [
    "",
    "*",
    " * ",
    "a,*",
    "example.com",
    ".example.com",
    "*.example.com",
    "EXAMPLE.com",
    "example.com:443",
    "example.com:8443",
    ".example.com:443",
    "*.example.com:8443",
    " example.com , other.example ",
    "a.example.com b.example.com",
    "example.com.",
    "com",
    "ample.com",
    "*example.com",
    "10.0.0.0/8",
    "10.1.2.3",
    "10.1.2.3:443",
    "10.1.2.3:80",
    "10.1.2.3/32",
    "10.1.2.3/33",
    "10.1.2.0/24,192.168.0.0/16",
    "010.1.2.3",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::1",
    "2001:DB8:0::1",
    "[2001:db8::1]",
    "[2001:db8::1]:443",
    "[2001:db8::1]:80",
    "2001:db8::/32",
    "2001:db8::/129",
    "::ffff:10.1.2.3",
    "::ffff:10.1.2.0/120",
    ":443",
    ".",
    "*.",
    ",,",
    "10.",
    "localhost",
    "https://example.com",
];

const HOSTS: [(&str, u16); 16] = [
    ("example.com", 443),
    ("example.com", 8443),
    ("a.example.com", 443),
    ("b.a.example.com", 8443),
    ("badexample.com", 443),
    ("example.com.evil", 443),
    ("other.example", 443),
    ("10.1.2.3", 443),
    ("10.1.2.3", 80),
    ("10.200.0.1", 443),
    ("192.168.3.4", 443),
    ("[2001:db8::1]", 443),
    ("[2001:db8:1::5]", 443),
    ("[2002::1]", 443),
    ("127.0.0.1", 443),
    ("localhost", 443),
];

#[test]
fn exceptions_are_read_as_go_reads_them() {
    let test = "proxies::exceptions";
    if !has(test, "go") {
        return;
    }
    let folder = repository().join("target/drivers/httpproxy");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("main.go"), JUDGE).unwrap();
    if !folder.join("go.sum").exists() {
        fs::write(folder.join("go.mod"), "module judge\n\ngo 1.22\n").unwrap();
        let mut get = Command::new("go");
        get.args(["get", "golang.org/x/net@v0.33.0"]).current_dir(&folder);
        let output = get.output().unwrap();
        if !output.status.success() {
            let _ = fs::remove_file(folder.join("go.sum"));
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return not_run(test, &format!("no golang.org/x/net: {why}"));
        }
    }

    let pairs = LISTS.iter().flat_map(|list| HOSTS.iter().map(move |host| (*list, *host)));
    let pairs: Vec<_> = pairs.collect();
    let input: String =
        pairs.iter().map(|(list, (host, port))| format!("{list}\t{host}\t{port}\n")).collect();
    let mut go = Command::new("go");
    go.args(["run", "-mod=mod", "."]).current_dir(&folder).stdin(Stdio::piped());
    let mut go = spawn(&mut go);
    go.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = go.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let verdicts = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<bool> = verdicts.lines().map(|line| line == "true").collect();
    assert_eq!(verdicts.len(), pairs.len());
    let wrong: Vec<_> = pairs
        .iter()
        .zip(&verdicts)
        .filter(|((list, (host, port)), go)| covers(list, host, *port) != **go)
        .collect();
    assert!(wrong.is_empty(), "differ from Go: {wrong:?}");
    let without = verdicts.iter().filter(|verdict| **verdict).count();
    assert!(without > 100 && verdicts.len() - without > 100, "{without} of {}", verdicts.len());
}

#[test]
fn a_socks_proxy_is_ignored_or_refused_clearly() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "https://no.such.host.invalid").set("DATABRICKS_TOKEN", PAT);
    test.set("LAKEBASE_ENDPOINT", "projects/shop");
    test.set("ALL_PROXY", "socks5://127.0.0.1:1");
    let outcome = test.run("--timeout 3s");
    outcome.fails(5, &["cannot reach no.such.host.invalid\n"]);
    for scheme in ["socks5", "socks5h", "SOCKS4"] {
        test.set("HTTPS_PROXY", &format!("{scheme}://me:hunter22@127.0.0.1:1"));
        let outcome = test.run("--timeout 3s");
        outcome.fails(2, &["HTTPS_PROXY is a SOCKS proxy, which is not supported"]);
        assert!(!outcome.stderr.contains("hunter22"), "{outcome:?}");
    }
}

/// A proxy that wants a login in these schemes.
fn refusing_proxy(schemes: &'static [&'static str]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A connection that is closed before its request is read would be reset.
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n")
                && std::io::Read::read(&mut stream, &mut byte).unwrap_or(0) == 1
            {
                request.push(byte[0]);
            }
            let fields: String =
                schemes.iter().map(|scheme| format!("Proxy-Authenticate: {scheme}\r\n")).collect();
            let head = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n";
            let _ = stream.write_all(format!("{head}{fields}\r\n").as_bytes());
        }
    });
    format!("{address}")
}

#[test]
fn a_proxy_that_wants_a_login_says_which() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "https://no.such.host.invalid").set("DATABRICKS_TOKEN", PAT);
    test.set("LAKEBASE_ENDPOINT", "projects/shop");
    for (schemes, words) in [
        (&["Negotiate", "NTLM"][..], "this one takes only Negotiate, NTLM"),
        (&["NTLM"], "this one takes only NTLM"),
        (&["Negotiate", "Basic realm=\"x\""], "HTTPS_PROXY=http://USER:PASSWORD@127.0.0.1:"),
    ] {
        let address = refusing_proxy(schemes);
        test.set("HTTPS_PROXY", &format!("http://{address}"));
        test.run("--timeout 3s").fails(5, &["407", words]);
    }
}
