//! The official Databricks SDK for Python uses the stand-in workspace: if the SDK could not, the
//! stand-in would not be like the real one.

use std::path::PathBuf;
use std::process::Command;

use super::support::{executable, not_run, repository};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, INSTANCE};

/// The version of the SDK for Python.
const VERSION: &str = "0.162.0";

/// A Python with the SDK, installed once below `target/`, from PyPI.
pub fn python() -> Result<PathBuf, String> {
    let folder = repository().join("target/official-sdk");
    let python = folder.join("bin/python");
    let imports = |python: &PathBuf| {
        let version = "from databricks.sdk.version import __version__; print(__version__)";
        let checked = Command::new(python).args(["-c", version]).output();
        checked.is_ok_and(|output| output.stdout.trim_ascii() == VERSION.as_bytes())
    };
    if imports(&python) {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("").to_owned())
        }
        Err(e) => Err(e.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        &format!("databricks-sdk=={VERSION}"),
    ]))?;
    imports(&python).then_some(python).ok_or("the SDK does not import".to_owned())
}

#[test]
fn the_python_sdk_finds_a_workspace_here() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            return not_run("official_sdk::the_python_sdk", &format!("no databricks-sdk: {why}"));
        }
    };
    let sandbox = Sandbox::start().unwrap();
    let script = format!(
        r#"
import base64, uuid
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, DatabricksError

w = WorkspaceClient()
assert w.config.auth_type == "oauth-m2m", w.config.auth_type
me = w.current_user.me()
assert me.user_name == "{CLIENT_ID}", me
autoscaling = w.postgres.generate_database_credential(endpoint="{ENDPOINT}")
assert autoscaling.token.count(".") == 2 and autoscaling.expire_time, autoscaling
provisioned = w.database.generate_database_credential(
    request_id=str(uuid.uuid4()), instance_names=["{INSTANCE}"])
assert provisioned.token.count(".") == 2 and provisioned.expiration_time, provisioned
projects = [p.name for p in w.postgres.list_projects()]
assert projects == ["projects/shop"], projects
branches = [b.name for b in w.postgres.list_branches(parent="projects/shop")]
endpoints = [e for b in branches for e in w.postgres.list_endpoints(parent=b)]
assert endpoints[0].name == "{ENDPOINT}" and endpoints[0].status.hosts.host, endpoints
assert w.postgres.get_endpoint(name="{ENDPOINT}").uid.startswith("ep-")
instances = list(w.database.list_database_instances())
assert instances[0].name == "{INSTANCE}", instances
found = w.database.find_database_instance_by_uid(uid=instances[0].uid)
assert found.name == "{INSTANCE}", found
try:
    w.postgres.generate_database_credential(endpoint="projects/no/branches/no/endpoints/no")
    raise SystemExit("a missing endpoint was not refused")
except NotFound as e:
    assert "endpoint id not found" in str(e), e
pat = w.tokens.create(comment="judge", lifetime_seconds=600)
assert pat.token_value.startswith("dapi")
assert any(t.token_id == pat.token_info.token_id for t in w.tokens.list())
w.tokens.delete(token_id=pat.token_info.token_id)
assert not any(t.token_id == pat.token_info.token_id for t in w.tokens.list())
w.secrets.create_scope(scope="lakebase")
w.secrets.put_secret(scope="lakebase", key="password", string_value="s3cret")
assert base64.b64decode(w.secrets.get_secret(scope="lakebase", key="password").value) == b"s3cret"
try:
    w.secrets.create_scope(scope="lakebase")
    raise SystemExit("a scope was made twice")
except DatabricksError as e:
    assert "already exists" in str(e), e
print("judged")
"#
    );
    let output = Command::new(python)
        .args(["-c", &script])
        .env_clear()
        .envs(sandbox.env())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("REQUESTS_CA_BUNDLE", &sandbox.certificates.authority)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "judged", "{stderr}");
}

/// From a profile that we write, and as a child program that gets a token.
#[test]
fn the_python_sdk_uses_what_we_hand_out() {
    let test = "official_sdk::the_python_sdk_uses";
    let python = match python() {
        Ok(python) => python,
        Err(why) => return not_run(test, &format!("no databricks-sdk: {why}")),
    };
    let sandbox = Sandbox::start().unwrap();
    let run = |command: &mut Command, unset: &[&str]| {
        command.env_clear().envs(sandbox.env()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("REQUESTS_CA_BUNDLE", &sandbox.certificates.authority);
        for name in unset {
            command.env_remove(name);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let wrote = run(Command::new(executable()).args(["write", "databrickscfg", "--to", "x"]), &[]);
    assert!(wrote.starts_with("wrote profile x"), "{wrote}");
    let script = |profile: &str| {
        format!(
            "from databricks.sdk import WorkspaceClient\n\
             w = WorkspaceClient({profile})\n\
             print(w.config.auth_type, w.current_user.me().user_name)"
        )
    };
    let own = ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"];
    let said = run(Command::new(&python).args(["-c", &script("profile='x'")]), &own);
    assert_eq!(said, format!("pat {CLIENT_ID}"));
    let mut exec = Command::new(executable());
    exec.args(["exec", "--for", "workspace", "--"]).arg(&python).args(["-c", &script("")]);
    assert_eq!(run(&mut exec, &[]), format!("pat {CLIENT_ID}"));
}
