//! Logins with a real Chromium, with other users and programs at the callback, and with Windows' browser
//! under WSL.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::login::{page, person};
use super::support::{
    Test, can_unshare, executable, has, is_root, not_run, repository, wait_for, workspace,
};
use crate::sandbox::workspace::{Consent, TOKEN, USER};

/// Makes a line of `sh` the browser.
fn browser(test: &mut Test, line: &str) {
    browser_script(test, &format!("#!/bin/sh\n{line}\n"));
}

fn browser_script(test: &mut Test, script: &str) {
    let path = test.program("browser-script", script);
    test.set("BROWSER", path.to_str().unwrap());
}

#[test]
fn each_failure_of_a_login_has_its_own_message() {
    if !has("browsers::each_failure", "curl") {
        return;
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    workspace.state().consent = Consent::Deny;
    test.run("login")
        .fails(4, &["the workspace refused the login", "access_denied", "The user said no"]);
    assert!(page(&test).contains("<h1 style=\"color:#a3201d\">Not logged in</h1>"));

    workspace.state().consent = Consent::Allow;
    // An answer to another login does not end this login: the right answer still comes.
    let other = "port=$(printf %s \"$1\" | sed 's/.*localhost%3A\\([0-9]*\\).*/\\1/')\n\
                 curl -sS -o \"$HOME/other\" \"http://localhost:$port/?code=x&state=y\"\n\
                 curl -sS -o /dev/null \"http://localhost:$port/favicon.ico\"\n\
                 exec curl -sSL -o \"$HOME/page\" \"$1\"";
    browser(&mut test, &format!("PATH=/usr/bin:/bin\n{other}"));
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("the answer to another login"), "{outcome:?}");
    let other = fs::read_to_string(test.home.path().join("other")).unwrap();
    assert!(other.contains("Not logged in") && page(&test).contains("You are"));
    assert_eq!(test.run("logout").code, 0);

    browser(&mut test, "exit 0");
    test.run("login --timeout 1s").fails(5, &["the browser did not return in time"]);

    test.unset("DATABRICKS_HOST");
    test.run("login").fails(2, &["no workspace is named", "login --host"]);
    let console = "login --host https://accounts.cloud.databricks.com";
    test.run(console).fails(2, &["is the account console"]);
    test.set("DATABRICKS_OAUTH_CALLBACK_PORT", "99999");
    let line = format!("login --host {}", workspace.url);
    test.run(&line).fails(2, &["from DATABRICKS_OAUTH_CALLBACK_PORT is not a port"]);

    // LAKEBASE_TOKEN_TIMEOUT does not apply to a person, --timeout does.
    test.unset("DATABRICKS_OAUTH_CALLBACK_PORT").set("LAKEBASE_TOKEN_TIMEOUT", "1ms");
    test.run(&format!("{line} --timeout 1")).fails(2, &["--timeout is not a duration", "1s"]);
    browser(&mut test, "exec /usr/bin/curl -sSL -o /dev/null \"$1\"");
    assert_eq!(test.run(&line).code, 0);
}

#[test]
fn no_other_user_can_answer_a_login() {
    let test_name = "browsers::no_other_user";
    if !has(test_name, "curl") || !has(test_name, "setpriv") {
        return;
    }
    if !is_root() {
        return not_run(test_name, "without root there is no other user");
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    // The other user reads the address in the browser's arguments and logs in first.
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups curl -sSL \"$1\" >\"$HOME/other\"\n\
                 exec curl -sSL -o \"$HOME/page\" \"$1\"";
    browser(&mut test, &format!("PATH=/usr/bin:/bin\n{other}"));
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("the answer came from another user"), "{outcome:?}");
    let other = fs::read_to_string(test.home.path().join("other")).unwrap();
    assert!(other.contains("Not logged in") && page(&test).contains("You are"));
    assert_eq!(workspace.count(TOKEN), 1, "the other user's code was not exchanged");
}

#[test]
fn a_connection_that_is_closed_at_once_cannot_answer_a_login() {
    let test_name = "browsers::a_connection_that_is_closed";
    if !has(test_name, "curl") || !has(test_name, "bash") {
        return;
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    // Such a connection shows root as its owner, so it must not count as ours.
    let closed = "url=$(curl -sS -o /dev/null -w '%{redirect_url}' \"$1\")\n\
                  port=${url#http://localhost:}; port=${port%%/*}\n\
                  printf 'GET /%s HTTP/1.1\\r\\n\\r\\n' \"${url#http://localhost:*/}\" >\"/dev/tcp/127.0.0.1/$port\"\n\
                  sleep 1\n\
                  exec curl -sSL -o \"$HOME/page\" \"$1\"";
    browser_script(&mut test, &format!("#!/bin/bash\nPATH=/usr/bin:/bin\n{closed}\n"));
    let outcome = test.run("login");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(workspace.count(TOKEN), 1, "the code of the closed connection was not exchanged");
}

#[test]
fn without_a_free_port_a_login_fails_and_offers_to_paste() {
    let workspace = workspace();
    let mut test = person(&workspace);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    test.set("DATABRICKS_OAUTH_CALLBACK_PORT", &port);
    let message = format!("port {port} is not free for the browser's answer");
    test.run("login").fails(1, &[&message, "hint: --no-browser"]);

    let test_name = "browsers::without_a_free_port";
    if !has(test_name, "python3") || !has(test_name, "ip") || !can_unshare(test_name, "--net") {
        return;
    }
    test.unset("DATABRICKS_OAUTH_CALLBACK_PORT");
    let script = format!(
        "import http.server, os, socket, subprocess, sys, threading
subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])
taken = [socket.create_server(('127.0.0.1', port)) for port in range(8020, 8041)]
workspace = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=workspace.serve_forever, daemon=True).start()
os.environ['DATABRICKS_HOST'] = 'http://127.0.0.1:%d' % workspace.server_port
sys.exit(subprocess.call(['{}', 'login']))",
        executable().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "python3", "-c", &script]).env_clear().envs(test.env.iter().cloned());
    let output = command.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no port from 8020 to 8040 is free for the browser's answer"), "{said}");
}

#[test]
fn idle_connections_do_not_delay_a_login() {
    if !has("browsers::idle_connections", "curl") {
        return;
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    browser(&mut test, "printf '%s\\n' \"$1\" >\"$HOME/address\"");
    let child = test.start("login --timeout 8s");
    let path = test.home.path().join("address");
    let address = wait_for("the address", || {
        fs::read_to_string(&path).ok().filter(|line| line.ends_with('\n'))
    });
    let port = address.split_once("localhost%3A").unwrap().1.split('&').next().unwrap();
    let port: u16 = port.parse().unwrap();
    let mut idle: Vec<TcpStream> =
        (0..12).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    idle[0].write_all(b"GET /?state=").unwrap();

    // A header may contain any byte.
    let mut curl = Command::new("curl");
    curl.args(["-sSL", "-o", "/dev/null", "--cookie"]).arg(OsStr::from_bytes(b"n=caf\xe9"));
    assert!(curl.arg(address.trim()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A real browser without a window, driven by the WebDriver protocol.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    fn start(home: &Path) -> Browser {
        let (driver, port) = Browser::driver(home);
        let folder = format!("--user-data-dir={}", home.join("chromium").display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--no-proxy-server",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=900,600",
        ];
        let args = [&args[..], &[folder.as_str()]].concat();
        let options = json!({ "args": args });
        let mut browser = Browser { driver, session: format!("http://127.0.0.1:{port}/session") };
        let capabilities =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let answer = browser.post("", &capabilities);
        browser.session += &format!("/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    /// Starts chromedriver. It chooses a port for IPv4 and then ends if another program has the
    /// same port for IPv6, which under load happens: then it is started again.
    fn driver(home: &Path) -> (Child, String) {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", home).stdout(Stdio::piped()).stderr(Stdio::null());
        for _ in 0..5 {
            let mut driver = command.spawn().unwrap();
            let stdout = BufReader::new(driver.stdout.take().unwrap());
            let mut lines = stdout.lines().map(|line| line.unwrap());
            if let Some(line) = lines.find(|line| line.contains("started successfully on port")) {
                std::thread::spawn(move || lines.for_each(drop));
                let port = line.trim_end_matches('.').rsplit(' ').next().unwrap();
                return (driver, port.to_owned());
            }
            driver.wait().unwrap();
        }
        panic!("chromedriver does not start");
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        Browser::read(ureq::post(format!("{}{path}", self.session)).send(body.to_string()))
    }

    fn get(&self, path: &str) -> Value {
        Browser::read(ureq::get(format!("{}{path}", self.session)).call())
    }

    fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    fn press(&self, id: &str) {
        let found =
            self.post("/element", &json!({ "using": "css selector", "value": format!("#{id}") }));
        let element = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// The text that the page shows. Also stores a screenshot.
    fn shows(&self, name: &str) -> String {
        let picture = BASE64_STANDARD.decode(self.get("/screenshot").as_str().unwrap()).unwrap();
        fs::write(repository().join("target").join(name), picture).unwrap();
        let text = json!({ "script": "return document.body.innerText", "args": [] });
        self.post("/execute/sync", &text).as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        self.driver.kill().unwrap();
        self.driver.wait().unwrap();
    }
}

#[test]
fn a_real_browser_shows_the_outcome_of_the_login() {
    let test_name = "browsers::a_real_browser";
    if !has(test_name, "chromedriver") || !has(test_name, "chromium") {
        return;
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    browser(&mut test, "printf '%s\\n' \"$1\" >\"$HOME/address\"");
    workspace.state().consent = Consent::Page;
    let chromium = Browser::start(test.home.path());
    for (button, picture, words, code) in [
        ("deny", "login-denied.png", "The user said no", 4),
        ("allow", "login-allowed.png", "You are ada", 0),
    ] {
        let child = test.start("login");
        let path = test.home.path().join("address");
        let address = wait_for("the address", || {
            fs::read_to_string(&path).ok().filter(|line| line.ends_with('\n'))
        });
        fs::remove_file(path).unwrap();
        chromium.post("/url", &json!({ "url": address.trim() }));
        chromium.press(button);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        let shown = chromium.shows(picture);
        assert!(shown.contains(words), "{shown}");
        let title = if code == 0 {
            "Logged in · lakebase-token"
        } else {
            "Not logged in · lakebase-token"
        };
        assert_eq!(chromium.get("/title"), title);
        // The code does not stay in the browser's address bar.
        assert!(!chromium.get("/url").as_str().unwrap().contains('?'));
    }
    test.run("").token();
}

/// A kernel whose release names Microsoft, as under WSL. That a browser of Windows reaches the callback in
/// NAT and in mirrored mode can only be seen there.
#[test]
fn under_wsl_the_browser_of_windows_is_started() {
    let test_name = "browsers::under_wsl";
    if !is_root() {
        return not_run(test_name, "only root can mount another kernel release");
    }
    if !has(test_name, "curl") || !has(test_name, "unshare") {
        return;
    }
    let workspace = workspace();
    let mut test = person(&workspace);
    test.unset("BROWSER");
    test.program(
        "rundll32.exe",
        "#!/bin/sh\necho \"$1\" >\"$HOME/opened\"\nexec /usr/bin/curl -sSL -o /dev/null \"$2\"\n",
    );
    let release = test.write("osrelease", "5.15.167.4-microsoft-standard-WSL2\n");
    let script = format!(
        "mount --bind {} /proc/sys/kernel/osrelease && exec {} login",
        release.display(),
        executable().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env_clear().envs(test.env.iter().cloned());
    command.env("PATH", format!("{}:/usr/bin:/bin", test.home.path().join("bin").display()));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let opened = fs::read_to_string(test.home.path().join("opened")).unwrap();
    assert_eq!(opened, "url.dll,FileProtocolHandler\n", "{stderr}");
    test.run("").token();
}

#[test]
fn the_databricks_cli_of_windows_is_found_on_path() {
    let workspace = workspace();
    let mut test = person(&workspace);
    let token = workspace.signer.sign(USER, crate::sandbox::jwt::Scope::Workspace, 3600, 0);
    test.program(
        "databricks.exe",
        &format!(
            "#!/bin/sh\necho '{{\"access_token\": \"{token}\", \"token_type\": \"Bearer\", \"expiry\": \"2030-01-01T00:00:00Z\"}}'\n"
        ),
    );
    assert_eq!(test.run("--for workspace").token(), token);
}
