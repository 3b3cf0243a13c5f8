//! Coding agents, as `integrations/agents` configures them: the real ones from npm, with models of
//! the sandbox behind a gateway that checks the workspace's tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use super::support::{executable, repository, say_not_run};
use crate::sandbox::models::REPLY;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, Workspace};

/// An agent: its package on npm, and what it puts into its requests' path.
struct Agent {
    package: &'static str,
    program: &'static str,
    /// Where our file goes, below HOME.
    files: &'static [(&'static str, &'static str)],
    /// What is typed, in `sh`.
    line: &'static str,
    /// The path of its requests to the model.
    path: &'static str,
}

const CLAUDE: Agent = Agent {
    package: "@anthropic-ai/claude-code@2.1.197",
    program: "claude",
    files: &[("claude-settings.json", ".claude/settings.json")],
    line: "claude -p hi",
    path: "/ai-gateway/anthropic/v1/messages",
};

const CODEX: Agent = Agent {
    package: "@openai/codex@0.169.0",
    program: "codex",
    files: &[("codex-config.toml", ".codex/config.toml")],
    line: "codex exec --skip-git-repo-check hi",
    path: "/ai-gateway/codex/v1/responses",
};

const OPENCODE: Agent = Agent {
    package: "opencode-ai@1.18.33",
    program: "opencode",
    files: &[("opencode.json", ".config/opencode/opencode.json")],
    line: "lakebase-token exec --for workspace -- opencode run hi",
    path: "/serving-endpoints/chat/completions",
};

const GEMINI: Agent = Agent {
    package: "@google/gemini-cli@0.61.0",
    program: "gemini",
    files: &[("gemini-settings.json", ".gemini/settings.json")],
    line: "GEMINI_API_KEY_AUTH_MECHANISM=bearer GOOGLE_GEMINI_BASE_URL=$HOST/ai-gateway/gemini \
           lakebase-token exec --for workspace --as GEMINI_API_KEY -- \
           gemini --skip-trust -m MODEL -p hi",
    path: "/ai-gateway/gemini/v1beta/models/MODEL:streamGenerateContent",
};

/// What keeps agents from asking anybody but the sandbox.
const QUIET: [(&str, &str); 10] = [
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "2"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("GEMINI_TELEMETRY_ENABLED", "false"),
    ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
    ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1"),
    ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
    ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
    ("OPENCODE_DISABLE_SHARE", "1"),
    ("npm_config_offline", "true"),
];

/// Somebody's home with one agent, configured as our files say.
struct Desk {
    home: tempfile::TempDir,
    workspace: Workspace,
    path: String,
    agent: &'static Agent,
}

impl Agent {
    /// The folder with its program: from npm, once below `target/`. That is a gigabyte for all of
    /// them, so only the project's own machines fetch it.
    fn programs(&self) -> Result<PathBuf, String> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _installing = ONE_AT_A_TIME.lock();
        let folder = repository().join("target/agents").join(self.program);
        let programs = folder.join("node_modules/.bin");
        if programs.join(self.program).exists() {
            return Ok(programs);
        }
        if std::env::var_os("CI").is_none() {
            return Err(format!("npm install --prefix {} {}", folder.display(), self.package));
        }
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        let output = npm.arg(&folder).arg(self.package).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let there = programs.join(self.program).exists();
        there.then_some(programs).ok_or(format!("npm cannot install {}: {said}", self.package))
    }

    fn desk(&'static self, test: &str) -> Option<Desk> {
        let programs = match self.programs() {
            Ok(programs) => programs,
            Err(why) => {
                // Not every network lets npm fetch a gigabyte.
                say_not_run(test, &format!("{} is not there: {why}", self.program));
                return None;
            }
        };
        let workspace = super::support::workspace();
        let home = tempfile::tempdir().unwrap();
        let url = &workspace.url;
        put(
            &home.path().join(".databrickscfg"),
            &format!("host = {url}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n"),
        );
        for (ours, theirs) in self.files {
            let file = repository().join("integrations/agents").join(ours);
            let text = fs::read_to_string(file).unwrap();
            let text = text.replace("https://my-workspace.cloud.databricks.com", url);
            put(&home.path().join(theirs), &text);
        }
        // Counts how often it is asked.
        let helper = home.path().join("bin/lakebase-token");
        let program = executable();
        let script = format!(
            "#!/bin/sh\necho \"$1\" >>'{0}/calls'\nexec '{1}' \"$@\"\n",
            home.path().display(),
            program.display()
        );
        put(&helper, &script);
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        let usual = std::env::var("PATH").unwrap();
        let path = format!("{}/bin:{}:{usual}", home.path().display(), programs.display());
        Some(Desk { home, workspace, path, agent: self })
    }
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl Desk {
    /// Types the line; a minute is enough for what is tried here.
    fn run(&self) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60", "sh", "-c", self.agent.line]).env_clear();
        command.envs(QUIET).env("PATH", &self.path).env("HOME", self.home.path());
        command.env("HOST", &self.workspace.url).env("TERM", "dumb").env("NO_COLOR", "1");
        command.current_dir(self.home.path().join("work"));
        command.stdin(std::process::Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn says_hello(&self) {
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains(REPLY), "{said}{words}");
    }

    /// How often lakebase-token was asked since the last time.
    fn calls(&self) -> usize {
        let path = self.home.path().join("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default().lines().count();
        let _ = fs::remove_file(path);
        calls
    }

    /// Agents must not write the token anywhere; our own cache may.
    fn leaves_no_token(&self) {
        let tokens: Vec<String> = {
            let state = self.workspace.state();
            let bearers =
                state.requests.iter().filter_map(|request| request.header("authorization"));
            bearers.filter_map(|text| text.strip_prefix("Bearer ")).map(str::to_owned).collect()
        };
        assert!(!tokens.is_empty());
        let mut folders = vec![self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.extend((!path.ends_with(".cache/lakebase-token")).then_some(path));
                } else if let Ok(bytes) = fs::read(&path) {
                    let held = |token: &String| {
                        !token.is_empty()
                            && bytes.windows(token.len()).any(|b| b == token.as_bytes())
                    };
                    assert!(!tokens.iter().any(held), "{} holds a token", path.display());
                }
            }
        }
    }

    fn refuse_once(&self, status: u16) {
        let words = "{\"error_code\":\"403\",\"message\":\"Invalid access token.\"}";
        let answer = Answer::Json(status, serde_json::from_str(words).unwrap());
        self.workspace.fault(self.agent.path, 1, answer);
    }

    fn refuse_the_secret(&self) {
        let other = "dose9999999999999999999999999999".to_owned();
        self.workspace.state().clients.insert(CLIENT_ID.to_owned(), other);
        fs::remove_dir_all(self.home.path().join(".cache")).unwrap();
    }
}

/// Those that ask a helper: a 401 makes them ask again, a 403 does not.
fn asks_again(agent: &'static Agent, test: &str, failing: &str) {
    let Some(desk) = agent.desk(test) else { return };
    desk.says_hello();
    assert_eq!(desk.calls(), 1);
    desk.refuse_once(401);
    desk.says_hello();
    assert_eq!(desk.calls(), 2, "asked again after a 401");
    // A slow workspace: the helper takes three seconds.
    fs::remove_dir_all(desk.home.path().join(".cache")).unwrap();
    desk.workspace.state().thinking = Duration::from_secs(3);
    desk.says_hello();
    desk.workspace.state().thinking = Duration::ZERO;
    desk.leaves_no_token();
    // What the helper says reaches the person.
    desk.refuse_the_secret();
    desk.calls();
    let output = desk.run();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains(failing), "{said}");
    assert!(said.contains("invalid_client"), "{said}");
    assert!(desk.calls() > 1);
    // However often it was asked, the workspace was not: a refusal is remembered for 3 s.
    let mints = desk.workspace.count("/oidc/v1/token");
    assert!(mints <= 2 + 3, "{mints}");
}

/// Those that read a variable when they start.
fn starts_with_it(agent: &'static Agent, test: &str) {
    let Some(desk) = agent.desk(test) else { return };
    desk.says_hello();
    assert_eq!(desk.calls(), 1);
    desk.leaves_no_token();
    // Without a token it is not even started.
    desk.refuse_the_secret();
    let before = desk.workspace.count(desk.agent.path);
    let output = desk.run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("invalid_client"), "{said}");
    assert_eq!(desk.workspace.count(desk.agent.path), before);
}

#[test]
fn claude_code_asks_again_after_a_401() {
    asks_again(&CLAUDE, "agents::claude_code", "apiKeyHelper failed");
}

#[test]
fn codex_asks_again_after_a_401() {
    asks_again(&CODEX, "agents::codex", "provider auth command");
}

#[test]
fn opencode_starts_with_a_token() {
    starts_with_it(&OPENCODE, "agents::opencode_starts");
}

#[test]
fn gemini_starts_with_a_token() {
    starts_with_it(&GEMINI, "agents::gemini");
}

#[test]
fn opencode_with_the_plugin_asks_at_each_request() {
    const PLUGIN: Agent = Agent {
        files: &[
            ("opencode.json", ".config/opencode/opencode.json"),
            ("opencode-plugin.js", ".config/opencode/plugins/lakebase-token.js"),
        ],
        line: "opencode run hi",
        ..OPENCODE
    };
    // It takes an error with one of these anywhere in it for one that passes, and tries again for
    // minutes; a port is in ours.
    let passes = ["429", "500", "502", "503", "504", "524"];
    let is_clear = |desk: &Desk| !passes.iter().any(|status| desk.workspace.url.contains(status));
    let desk = loop {
        let Some(desk) = PLUGIN.desk("agents::opencode_with") else { return };
        if is_clear(&desk) {
            break desk;
        }
    };
    let config = desk.home.path().join(".config/opencode/opencode.json");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(", \"apiKey\": \"{env:DATABRICKS_TOKEN}\"", "");
    let text = text.replace("{env:DATABRICKS_HOST}", &desk.workspace.url);
    fs::write(config, text).unwrap();
    desk.says_hello();
    let requests = desk.workspace.count(desk.agent.path);
    assert_eq!(desk.calls(), requests);
    desk.leaves_no_token();
    desk.refuse_the_secret();
    let output = desk.run();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("invalid_client"), "{said}");
    assert_eq!(desk.workspace.count(desk.agent.path), requests);
}
