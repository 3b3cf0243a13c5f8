//! Coding agents with the files of `integrations/agents`: the real agents from npm, and the sandbox's
//! models behind a gateway that checks workspace tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::consumers::Installation;
use super::support::{Test, executable, has, is_root, not_run, repository, words};
use crate::sandbox::models::REPLY;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, TOKEN, Workspace};

struct Agent {
    /// The package on npm, with its version.
    package: &'static str,
    program: &'static str,
    /// Files of `integrations/agents`, and their paths below HOME.
    files: &'static [(&'static str, &'static str)],
    /// The shell line that starts the agent with the prompt "hi".
    line: &'static str,
    /// The path of the agent's requests to the model.
    model_path: &'static str,
}

const CLAUDE: Agent = Agent {
    package: "@anthropic-ai/claude-code@2.1.197",
    program: "claude",
    files: &[("claude-settings.json", ".claude/settings.json")],
    line: "claude -p hi",
    model_path: "/ai-gateway/anthropic/v1/messages",
};

const CODEX: Agent = Agent {
    package: "@openai/codex@0.169.0",
    program: "codex",
    files: &[("codex-config.toml", ".codex/config.toml")],
    line: "codex exec --skip-git-repo-check hi",
    model_path: "/ai-gateway/codex/v1/responses",
};

const OPENCODE: Agent = Agent {
    package: "opencode-ai@1.18.33",
    program: "opencode",
    files: &[("opencode.json", ".config/opencode/opencode.json")],
    line: "lakebase-token exec --for workspace -- opencode run hi",
    model_path: "/serving-endpoints/chat/completions",
};

const PI: Agent = Agent {
    package: "@mariozechner/pi-coding-agent@0.73.1",
    program: "pi",
    files: &[("pi-models.json", ".pi/agent/models.json")],
    line: "pi --print --no-session --provider databricks --model MODEL hi",
    model_path: "/serving-endpoints/chat/completions",
};

const COPILOT: Agent = Agent {
    package: "@github/copilot@1.0.102",
    program: "copilot",
    files: &[("copilot.env", "copilot.env")],
    line: "set -a; . $HOME/copilot.env; set +a; copilot --no-color -p hi",
    model_path: "/serving-endpoints/chat/completions",
};

const GEMINI: Agent = Agent {
    package: "@google/gemini-cli@0.61.0",
    program: "gemini",
    files: &[("gemini-settings.json", ".gemini/settings.json")],
    line: "GEMINI_API_KEY_AUTH_MECHANISM=bearer GOOGLE_GEMINI_BASE_URL=$HOST/ai-gateway/gemini \
           lakebase-token exec --for workspace --as GEMINI_API_KEY -- \
           gemini --skip-trust -m MODEL -p hi",
    model_path: "/ai-gateway/gemini/v1beta/models/MODEL:streamGenerateContent",
};

/// Variables that keep agents from sending requests to any server but the sandbox.
const OFFLINE_VARIABLES: [(&str, &str); 10] = [
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

/// A user's home with one agent that has our configuration, and a workspace for it.
struct AgentHome {
    home: tempfile::TempDir,
    workspace: Workspace,
    path: String,
    agent: &'static Agent,
}

impl Agent {
    /// The folder with the agent's program, which npm installs once below `target/`. All agents take
    /// a gigabyte, so only CI downloads them.
    fn programs(&self) -> Result<PathBuf, String> {
        static ONE_INSTALLATION_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _lock = ONE_INSTALLATION_AT_A_TIME.lock();

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
        if programs.join(self.program).exists() {
            return Ok(programs);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("npm cannot install {}: {stderr}", self.package))
    }

    fn home(&'static self, test: &str) -> Option<AgentHome> {
        let programs = match self.programs() {
            Ok(programs) => programs,
            Err(why) => {
                not_run(test, &format!("{} is not installed: {why}", self.program));
                return None;
            }
        };
        let workspace = super::support::workspace();
        let home = tempfile::tempdir().unwrap();
        let inherited_path = std::env::var("PATH").unwrap();
        let path = format!("{}/bin:{}:{inherited_path}", home.path().display(), programs.display());
        let agent_home = AgentHome { home, workspace, path, agent: self };

        agent_home.write_configuration();
        agent_home.write_counting_helper();
        fs::create_dir(agent_home.path("work")).unwrap();
        Some(agent_home)
    }
}

fn write_file(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// All files below a folder, but not those in the folder with this path.
fn files_below(folder: &Path, except: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() || path.is_symlink() {
                files.push(path);
            } else if path != except {
                folders.push(path);
            }
        }
    }
    files
}

impl AgentHome {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write_configuration(&self) {
        let url = &self.workspace.url;
        write_file(
            &self.path(".databrickscfg"),
            &format!("host = {url}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n"),
        );
        for (example, target) in self.agent.files {
            let file = repository().join("integrations/agents").join(example);
            let text = fs::read_to_string(file).unwrap();
            let text = text.replace("https://my-workspace.cloud.databricks.com", url);
            write_file(&self.path(target), &text);
        }
    }

    /// Puts a `lakebase-token` on PATH that writes a line into the file `calls` for each call.
    fn write_counting_helper(&self) {
        let helper = self.path("bin/lakebase-token");
        let script = format!(
            "#!/bin/sh\necho \"$1\" >>'{}'\nexec '{}' \"$@\"\n",
            self.path("calls").display(),
            executable().display()
        );
        write_file(&helper, &script);
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the agent's line, for a minute at most.
    fn run(&self) -> Output {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60", "sh", "-c", self.agent.line]).env_clear();
        command.envs(OFFLINE_VARIABLES).env("PATH", &self.path).env("HOME", self.home.path());
        command.env("HOST", &self.workspace.url).env("TERM", "dumb").env("NO_COLOR", "1");
        command.current_dir(self.path("work")).stdin(Stdio::null());
        command.output().unwrap()
    }

    #[track_caller]
    fn assert_replies(&self) {
        let output = self.run();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stdout.contains(REPLY), "{stdout}{stderr}");
    }

    /// How often lakebase-token was called since the last time.
    fn calls(&self) -> usize {
        let path = self.path("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default().lines().count();
        let _ = fs::remove_file(path);
        calls
    }

    /// The tokens of all requests that the workspace has received.
    fn tokens(&self) -> Vec<String> {
        let state = self.workspace.state();
        let headers = state.requests.iter().filter_map(|request| request.header("authorization"));
        let tokens = headers.filter_map(|header| header.strip_prefix("Bearer "));
        tokens.filter(|token| !token.is_empty()).map(str::to_owned).collect()
    }

    /// An agent must not write a token into any file; only our cache holds tokens.
    fn assert_no_file_holds_a_token(&self) {
        let tokens = self.tokens();
        assert!(!tokens.is_empty());
        for path in files_below(self.home.path(), &self.path(".cache/lakebase-token")) {
            let Ok(bytes) = fs::read(&path) else { continue };
            let is_in_file = |token: &String| {
                bytes.windows(token.len()).any(|window| window == token.as_bytes())
            };
            assert!(!tokens.iter().any(is_in_file), "{} holds a token", path.display());
        }
    }

    fn refuse_next_request(&self, status: u16) {
        let body = "{\"error_code\":\"403\",\"message\":\"Invalid access token.\"}";
        let answer = Answer::Json(status, serde_json::from_str(body).unwrap());
        self.workspace.fault(self.agent.model_path, 1, answer);
    }

    fn remove_cache(&self) {
        fs::remove_dir_all(self.path(".cache")).unwrap();
    }

    /// Makes the workspace reject the client secret, and removes everything that is cached.
    fn reject_client_secret(&self) {
        let other = "dose9999999999999999999999999999".to_owned();
        self.workspace.state().clients.insert(CLIENT_ID.to_owned(), other);
        self.remove_cache();
    }
}

/// For agents that call a helper: they call it again after a 401, and show its error message.
fn check_agent_with_helper(agent: &'static Agent, test: &str, failure: &str) {
    let Some(home) = agent.home(test) else { return };
    home.assert_replies();
    assert_eq!(home.calls(), 1);
    home.refuse_next_request(401);
    home.assert_replies();
    assert_eq!(home.calls(), 2, "the helper is called again after a 401");

    // With a slow workspace, the helper takes three seconds.
    home.remove_cache();
    home.workspace.state().answer_delay = Duration::from_secs(3);
    home.assert_replies();
    home.workspace.state().answer_delay = Duration::ZERO;
    home.assert_no_file_holds_a_token();

    home.reject_client_secret();
    home.calls();
    let output = home.run();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains(failure), "{said}");
    assert!(said.contains("invalid_client"), "{said}");
    assert!(home.calls() > 1);

    // The agent calls the helper often, but a refusal is cached for 3 s.
    let mints = home.workspace.count(TOKEN);
    assert!(mints <= 2 + 3, "{mints}");
}

/// For agents that read a token from a variable: without a token they do not start.
fn check_agent_with_variable(agent: &'static Agent, test: &str) {
    let Some(home) = agent.home(test) else { return };
    home.assert_replies();
    assert_eq!(home.calls(), 1);
    home.assert_no_file_holds_a_token();

    home.reject_client_secret();
    let requests = home.workspace.count(agent.model_path);
    let output = home.run();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("invalid_client"), "{stderr}");
    assert_eq!(home.workspace.count(agent.model_path), requests);
}

#[test]
fn claude_code_calls_the_helper_again_after_a_401() {
    check_agent_with_helper(&CLAUDE, "agents::claude_code", "apiKeyHelper failed");
}

#[test]
fn codex_calls_the_helper_again_after_a_401() {
    check_agent_with_helper(&CODEX, "agents::codex", "provider auth command");
}

/// They run the helper's line at each request, and name only the line if it fails.
#[test]
fn pi_and_copilot_get_a_token_for_each_request() {
    for agent in [&PI, &COPILOT] {
        check_agent_with_line(agent);
    }
}

fn check_agent_with_line(agent: &'static Agent) {
    let Some(home) = agent.home(&format!("agents::{}", agent.program)) else { return };
    home.assert_replies();
    let calls = home.calls();
    assert!(calls > 0);
    home.assert_replies();
    assert!(home.calls() > 0);
    home.assert_no_file_holds_a_token();

    home.reject_client_secret();
    let output = home.run();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && !said.contains(REPLY), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn opencode_starts_with_a_token() {
    check_agent_with_variable(&OPENCODE, "agents::opencode_starts");
}

#[test]
fn gemini_starts_with_a_token() {
    check_agent_with_variable(&GEMINI, "agents::gemini");
}

const OPENCODE_WITH_PLUGIN: Agent = Agent {
    files: &[
        ("opencode.json", ".config/opencode/opencode.json"),
        ("opencode-plugin.js", ".config/opencode/plugins/lakebase-token.js"),
    ],
    line: "opencode run hi",
    ..OPENCODE
};

/// OpenCode retries for minutes if one of these is anywhere in an error message, so the workspace's
/// port must not contain one.
const RETRIED_STATUSES: [&str; 6] = ["429", "500", "502", "503", "504", "524"];

fn home_for_the_plugin(test: &str) -> Option<AgentHome> {
    let home = loop {
        let home = OPENCODE_WITH_PLUGIN.home(test)?;
        if !RETRIED_STATUSES.iter().any(|status| home.workspace.url.contains(status)) {
            break home;
        }
    };

    // The README says to remove `apiKey`. DATABRICKS_HOST is not set, since `exec` does not start it.
    let config = home.path(".config/opencode/opencode.json");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(", \"apiKey\": \"{env:DATABRICKS_TOKEN}\"", "");
    let text = text.replace("{env:DATABRICKS_HOST}", &home.workspace.url);
    fs::write(config, text).unwrap();
    Some(home)
}

#[test]
fn opencode_with_the_plugin_gets_a_token_for_each_request() {
    let Some(home) = home_for_the_plugin("agents::opencode_with") else { return };
    home.assert_replies();
    let requests = home.workspace.count(home.agent.model_path);
    assert_eq!(home.calls(), requests);
    home.assert_no_file_holds_a_token();

    home.reject_client_secret();
    let output = home.run();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("invalid_client"), "{said}");
    assert_eq!(home.workspace.count(home.agent.model_path), requests);
}

/// The script starts its program as another user, who sees `PG*` and cannot read our secrets.
#[test]
fn an_agent_of_another_user_gets_a_read_only_password_and_nothing_else() {
    let test = "agents::an_agent_of_another_user";
    if !is_root() {
        return not_run(test, "only root can start a program as another user");
    }
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "sudo")) else {
        return;
    };
    let script = installation
        .integration_file("agents/read-only-agent.sh", &[("--user=agent", "--user=nobody")]);
    let run = |line: &str| {
        let mut command = installation.command("sh");
        // The other user may not read our folder, and starts somewhere else.
        command.arg("-c").arg(&script).args(["read-only-agent.sh", "sh", "-c", line]);
        command.current_dir("/").output().unwrap()
    };
    fs::set_permissions(installation.sandbox.home(), fs::Permissions::from_mode(0o700)).unwrap();

    let output = run("id -un; env");
    assert!(output.status.success(), "{}", words(&output));
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(seen.starts_with("nobody\n") && seen.contains("\nPGPASSWORD=ey"), "{seen}");
    for hidden in ["DATABRICKS", CLIENT_SECRET, "LAKEBASE"] {
        assert!(!seen.contains(hidden), "{hidden} in {seen}");
    }
    let claims = installation.sandbox.workspace.state().claims.clone();
    let names = ["main.sales.items", "main.sales.orders"];
    let resources: Vec<Value> = names.iter().map(|name| json!({ "table_name": name })).collect();
    assert_eq!(claims, [json!([{ "permission_set": "READ_ONLY", "resources": resources }])]);

    let output = run("psql -wAtc 'select current_user'");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), CLIENT_ID, "{}", words(&output));
    let home = installation.sandbox.home().display().to_string();
    assert!(!run(&format!("find {home}/.cache -type f -exec cat {{}} +")).status.success());
    assert_eq!(run("exit 7").status.code(), Some(7));
}

/// No daemon of docker is on the machine, so a stand-in shows what docker would get.
#[test]
fn a_container_gets_the_password_by_name_and_never_as_an_argument() {
    let workspace = Workspace::start(None).unwrap();
    let mut test = Test::at(&workspace);
    test.program(
        "docker",
        "#!/bin/sh\n/usr/bin/printf '%s\\n' \"$@\" \"$PGPASSWORD\"; /usr/bin/env\n",
    );
    let script = repository().join("integrations/agents/read-only-container.sh");
    let script = fs::read_to_string(script).unwrap();
    let program = executable();
    let script = script.replace("exec lakebase-token", &format!("exec {}", program.display()));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh", "IMAGE"]).env_clear().envs(test.env.iter().cloned());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    let password = test.run("--read-only main.sales.orders,main.sales.items --ttl 15m").token();
    let (arguments, environment) = shown.split_once(&format!("IMAGE\n{password}\n")).unwrap();
    assert!(arguments.contains("--env\nPGPASSWORD\n") && !arguments.contains(&password));
    assert!(!environment.contains(CLIENT_SECRET), "{environment}");
}
