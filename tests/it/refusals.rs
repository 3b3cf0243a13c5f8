//! What a refusal leads to: the server's words decide the hint, not the status alone.

use serde_json::{Value, json};

use super::support::{Test, started, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, PAT, TOKEN};

const ME: &str = "/api/2.0/preview/scim/v2/Me";

/// Refusals with status 403 as workspaces send them, and a part of the hint.
fn refusals() -> Vec<(Value, &'static str)> {
    let denied = |code: &str, message: &str| json!({ "error_code": code, "message": message });
    vec![
        (
            denied(
                "403",
                "Source IP address: 203.0.113.7 is blocked by Databricks IP ACL for workspace: 9",
            ),
            "IP access list",
        ),
        (
            denied("PERMISSION_DENIED", "Your IP address is not in the IP access list"),
            "IP access list",
        ),
        (denied("403", "Invalid access to Org: 900800700600"), "DATABRICKS_WORKSPACE_ID"),
        (denied("403", "Public access is not allowed for this workspace"), "private network"),
        (
            denied("403", "Provided OAuth token does not have required scopes: postgres"),
            "--scopes postgres",
        ),
        (denied("403", "Expected iss claim to be https://sts.windows.net/x/"), "ARM_TENANT_ID"),
        (denied("PERMISSION_DENIED", "User does not have CAN_USE on project shop"), "must grant"),
        (denied("403", "You do not have permission to do that"), "must grant"),
    ]
}

/// The hint of an outcome; nothing if there is none.
fn hints(stderr: &str) -> Vec<&str> {
    stderr.lines().filter_map(|line| line.strip_prefix("lakebase-token: hint: ")).collect()
}

#[test]
fn each_403_of_a_workspace_has_its_own_hint() {
    let workspace = workspace();
    for (body, words) in refusals() {
        for (path, line) in [
            (MINT, "--no-cache"),
            ("/api/2.0/secrets/get", "write secret --scope s --key k --no-cache"),
            (
                "/api/2.0/postgres/projects",
                "--no-cache -f url --pg-user me --endpoint projects/shop",
            ),
        ] {
            let test = Test::at(&workspace);
            workspace.state().faults.clear();
            workspace.fault(path, 9, Answer::Json(403, body.clone()));
            let outcome = test.run(line);
            outcome.fails(4, &["HTTP status 403"]);
            let hints = hints(&outcome.stderr);
            assert_eq!(hints.len(), 1, "{line}: {}", outcome.stderr);
            assert!(hints[0].contains(words), "{line}: {}", outcome.stderr);
            assert_eq!(hints[0].contains("must grant"), words == "must grant", "{hints:?}");
        }
    }

    // Words that say nothing lead to no guess.
    workspace.state().faults.clear();
    workspace.fault(MINT, 9, Answer::Json(403, json!({ "message": "no" })));
    let outcome = Test::at(&workspace).run("--no-cache");
    outcome.fails(4, &["because: no"]);
    assert!(hints(&outcome.stderr).is_empty(), "{outcome:?}");
}

#[test]
fn a_login_with_a_pasted_token_is_refused_in_the_servers_words() {
    let workspace = workspace();
    for (body, words) in refusals().into_iter().filter(|(_, words)| *words != "must grant") {
        let test = Test::at(&workspace);
        workspace.state().faults.clear();
        workspace.fault(ME, 9, Answer::Json(403, body));
        let mut command = test.command();
        command.args(["login", "--pat"]).env_remove("DATABRICKS_CLIENT_ID");
        command.env_remove("DATABRICKS_CLIENT_SECRET").stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = started(|| command.spawn());
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{PAT}\n").as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.code() == Some(4) && output.stdout.is_empty(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(hints(&stderr).iter().any(|hint| hint.contains(words)), "{words}: {stderr}");
        assert!(!stderr.contains("not valid"), "{stderr}");
    }
}

#[test]
fn a_scope_that_the_secret_lacks_is_named_by_the_token_endpoint() {
    let workspace = workspace();
    for code in ["access_denied", "invalid_scope"] {
        let body = json!({
            "error": code,
            "error_description": "Scopes 'all-apis' are not assigned to the client",
        });
        workspace.fault(TOKEN, 1, Answer::Json(400, body));
        let outcome = Test::at(&workspace).run("");
        outcome.fails(4, &["not assigned to the client", "hint: --scopes postgres, or"]);
    }
}

#[test]
fn a_secret_that_was_not_filled_in_is_told_without_its_value() {
    let workspace = workspace();
    for (secret, why) in [
        ("\"dose0123456789abcdef\"", "has quotes around it"),
        ("'s3cret-s3cret'", "has quotes around it"),
        ("${DATABRICKS_SECRET}", "is a placeholder"),
        ("$(cat /run/secret)", "is a placeholder"),
        ("%SECRET%", "is a placeholder"),
        ("<your-secret>", "is a placeholder"),
        ("op://vault/item/field", "is a reference to a secret store"),
        ("{{secrets/scope/key}}", "is a reference to a secret store"),
        ("@Microsoft.KeyVault(SecretUri=https://x)", "is a reference to a secret store"),
        ("vault:secret/data/x#y", "is a reference to a secret store"),
    ] {
        let mut test = Test::at(&workspace);
        let outcome = test.set("DATABRICKS_CLIENT_SECRET", secret).run("");
        outcome.fails(4, &[&format!("client_secret from DATABRICKS_CLIENT_SECRET {why}")]);
        assert!(!outcome.stderr.contains(secret), "{outcome:?}");

        let mut test = Test::at(&workspace);
        test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
        let outcome = test.set("DATABRICKS_TOKEN", secret).run("");
        let code = if outcome.stderr.contains("characters that no token has") { 2 } else { 4 };
        outcome.fails(code, &[&format!("token from DATABRICKS_TOKEN {why}")]);
    }
    // A secret that only looks ordinary gets no such reason.
    let mut test = Test::at(&workspace);
    let outcome = test.set("DATABRICKS_CLIENT_SECRET", "dose00000000000000000000").run("");
    outcome.fails(4, &["invalid_client"]);
    assert!(!outcome.stderr.contains("placeholder") && !outcome.stderr.contains("quotes"));
}

#[test]
fn a_missing_project_lists_those_that_are_visible() {
    let workspace = workspace();
    for endpoint in ["projects/shopp", "projects/shopp/branches/b/endpoints/e"] {
        let mut test = Test::at(&workspace);
        let body = json!({ "error_code": "NOT_FOUND", "message": "no such project" });
        workspace.state().faults.clear();
        workspace.fault("/api/2.0/postgres/projects/shopp", 9, Answer::Json(404, body.clone()));
        workspace.fault(MINT, 9, Answer::Json(404, body));
        let outcome = test.set("LAKEBASE_ENDPOINT", endpoint).run("");
        outcome.fails(4, &["because: projects/shop\n", "hint: --endpoint projects/shop\n"]);
        assert!(outcome.stderr.contains("LAKEBASE_ENDPOINT"), "{outcome:?}");
    }
}

#[test]
fn a_host_without_a_dot_is_told_what_a_workspace_url_looks_like() {
    let mut test = Test::bare();
    test.set("DATABRICKS_HOST", "dbc-a1b2c3d4").set("DATABRICKS_TOKEN", PAT);
    let outcome = test.set("LAKEBASE_ENDPOINT", "projects/shop").run("--timeout 3s");
    outcome.fails(5, &["DATABRICKS_HOST", "hint: a workspace's URL is like https://dbc-"]);
}

#[test]
fn an_empty_answer_with_status_200_is_an_empty_object() {
    let workspace = workspace();
    let empty = || Answer::Text { status: 200, headers: Vec::new(), body: Vec::new() };
    workspace.fault(MINT, 1, empty());
    Test::at(&workspace).run("").fails(1, &["credential answer has no field `token`"]);
    // The calls that really answer with nothing.
    workspace.fault("/api/2.0/secrets/scopes/create", 1, empty());
    workspace.fault("/api/2.0/secrets/put", 1, empty());
    let outcome = Test::at(&workspace).run("write secret --scope new --key k --create-scope");
    assert_eq!(outcome.code, 0, "{outcome:?}");
}
