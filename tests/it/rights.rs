//! What a credential may do: `--read-only` and `--scopes`, as the workspace receives them.

use std::process::Output;

use serde_json::{Value, json};

use super::login::person;
use super::support::{Test, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::*;

const ME: &str = "/api/2.0/preview/scim/v2/Me";

/// The scopes that the last token request asked for.
fn asked_scopes(workspace: &Workspace) -> String {
    let state = workspace.state();
    let request = state.requests.iter().rev().find(|request| request.path == TOKEN).unwrap();
    request.value("scope").unwrap_or_default()
}

fn claims(tables: &[&str]) -> Value {
    let resources: Vec<Value> = tables.iter().map(|name| json!({ "table_name": name })).collect();
    json!([{ "permission_set": "READ_ONLY", "resources": resources }])
}

#[test]
fn a_read_only_credential_has_claims_and_an_entry_of_its_own() {
    let workspace = workspace();
    for (setting, value) in [("LAKEBASE_ENDPOINT", ENDPOINT), ("LAKEBASE_INSTANCE", INSTANCE)] {
        workspace.state().claims.clear();
        let mut test = Test::at(&workspace);
        test.unset("LAKEBASE_ENDPOINT").set(setting, value);
        let all = test.run("").token();
        let two = test.run("--read-only main.sales.orders,main.sales.items").token();
        let same = test.run("--read-only main.sales.items,main.sales.orders,main.sales.items");
        let one = test.run("--read-only main.sales.orders").token();
        assert_eq!(same.token(), two);
        assert!(all != two && two != one && one != all);
        assert_eq!(test.run("").token(), all);
        assert_eq!(
            workspace.state().claims,
            [
                Value::Null,
                claims(&["main.sales.items", "main.sales.orders"]),
                claims(&["main.sales.orders"])
            ]
        );
    }
}

#[test]
fn a_read_only_credential_goes_to_commands_and_files_of_its_own_only() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let file = test.home.path().join("token").display().to_string();
    let table = "--read-only main.sales.orders";
    for line in [
        format!("write pgpass {table}"),
        format!("write file {file} --format pgpass {table}"),
        format!("write file {file} --format pgbouncer {table}"),
        format!("write secret --scope s --key k {table}"),
        format!("write databrickscfg --to x {table}"),
        format!("write file {file} --for workspace {table}"),
        format!("watch file {file} {table}"),
        format!("service install file {file} {table}"),
        format!("login {table}"),
        format!("status {table}"),
        format!("--for workspace {table}"),
        format!("exec --for workspace {table} -- true"),
    ] {
        let outcome = test.run(&line);
        let code = if line.starts_with("exec") { 125 } else { 2 };
        outcome.fails(code, &["--read-only"]);
    }
    for tables in ["orders", "a.b", "a.b.c.d", "a..c", ",", "a.b.c,", "a.b.c d", "a.b/x.c"] {
        let argv = ["--read-only", tables].map(Into::into);
        test.run_args(&argv).fails(2, &["which is not a table", "CATALOG.SCHEMA.TABLE"]);
    }
    assert!(workspace.take_requests().is_empty());

    assert_eq!(test.run(&format!("write file {file} {table}")).code, 0);
    assert_eq!(test.run(&format!("write file {file}.env --format env {table}")).code, 0);
    let run = |words: &[&str]| -> Output { test.command().args(words).output().unwrap() };
    let show = ["exec", "--read-only", "main.sales.orders", "--", "sh", "-c", "echo $PGPASSWORD"];
    let shown = String::from_utf8(run(&show).stdout).unwrap();
    assert_eq!(shown, std::fs::read_to_string(&file).unwrap());
    assert_eq!(workspace.state().claims, [claims(&["main.sales.orders"])]);
}

#[test]
fn scopes_are_asked_for_where_we_ask_and_refused_elsewhere() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let all = test.run("--for workspace").token();
    assert_eq!(asked_scopes(&workspace), "all-apis");
    let few = test.run("--for workspace --scopes postgres,database").token();
    assert_eq!(asked_scopes(&workspace), "database postgres");
    assert_eq!(test.run("--for workspace --scopes database,postgres,postgres").token(), few);
    assert_eq!(test.run("--for workspace").token(), all);
    test.run("--scopes postgres").token();

    // The flag takes precedence over the profile.
    let profile = format!("[p]\nhost = {}\nscopes = sql\n", workspace.url);
    test.write(".databrickscfg", &profile);
    test.run("-p p --for workspace --scopes postgres --refresh").token();
    assert_eq!(asked_scopes(&workspace), "postgres");
    test.run("-p p --for workspace --refresh").token();
    assert_eq!(asked_scopes(&workspace), "sql");

    let mut pat = Test::at(&workspace);
    pat.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", PAT);
    pat.run("--scopes postgres").fails(2, &["--scopes has no effect on pat", "leave out --scopes"]);
    pat.write(".databrickscfg", &profile);
    pat.run("-p p").token();
    let mut cli = Test::at(&workspace);
    cli.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    cli.program("databricks", "#!/bin/sh\nexit 1\n");
    cli.run("--scopes postgres").fails(2, &["--scopes has no effect on databricks-cli"]);
}

#[test]
fn a_login_has_the_scopes_that_it_was_made_with() {
    let workspace = workspace();
    let mut test = person(&workspace);
    test.run("login --pat --scopes postgres").fails(2, &["no use for --scopes"]);
    assert_eq!(test.run("login --scopes postgres").code, 0);
    let scopes = || {
        let state = workspace.state();
        let page = state.requests.iter().rev().find(|request| request.path.ends_with("/authorize"));
        page.unwrap().value("scope").unwrap()
    };
    assert_eq!(scopes(), "offline_access postgres");

    // SCIM is refused, so the subject is the role.
    let printed = test.run("-f json").token();
    assert!(printed.contains(&format!("\"user\":\"{USER}\"")), "{printed}");
    assert!(workspace.count(ME) > 0);
    test.pass(50 * 60 * 1000);
    let printed = test.run("-f json --refresh").token();
    assert!(printed.contains(&format!("\"user\":\"{USER}\"")), "{printed}");
    test.run("--scopes sql").fails(2, &["no effect", "lakebase-token login --scopes"]);

    // Too few to mint.
    assert_eq!(test.run("login --scopes sql,offline_access").code, 0);
    assert_eq!(scopes(), "offline_access sql");
    test.run("").fails(
        4,
        &[
            "does not have required scopes: postgres",
            "those that it was made with",
            "lakebase-token login --scopes all-apis",
        ],
    );
    assert_eq!(test.run("login").code, 0);
    assert_eq!(scopes(), "offline_access all-apis");
    test.run("-f json").token();

    // A profile names scopes, too.
    let profile = format!("[work]\nhost = {}\nscopes = sql, postgres\n", workspace.url);
    test.write(".databrickscfg", &profile);
    assert_eq!(test.run("login --profile work").code, 0);
    assert_eq!(scopes(), "offline_access postgres sql");
    test.set("DATABRICKS_CONFIG_PROFILE", "work").run("-f json").token();
}

#[test]
fn a_refusal_about_scopes_names_those_that_were_asked_for() {
    let workspace = workspace();
    workspace.state().client_scopes = Some("postgres");
    let test = Test::at(&workspace);
    test.run("").fails(
        4,
        &[
            "Scopes 'all-apis' are not assigned to the client",
            "the scopes asked for are all-apis",
            "hint: --scopes postgres",
        ],
    );
    test.run("--scopes sql").fails(4, &["the scopes asked for are sql, from --scopes"]);
    test.run("--scopes postgres").token();
    test.write(".databrickscfg", &format!("[p]\nhost = {}\nscopes = sql\n", workspace.url));
    test.run("-p p").fails(4, &["the scopes asked for are sql, from profile p"]);

    workspace.state().client_scopes = None;
    let outcome = test.run("--scopes sql --refresh");
    outcome.fails(4, &["required scopes: postgres", "the scopes asked for are sql, from --scopes"]);
    let count = outcome.stderr.matches("the scopes asked for").count();
    assert_eq!(count, 1, "{}", outcome.stderr);
}

#[test]
fn where_the_workspace_does_not_say_who_this_is_the_role_must_be_named() {
    let workspace = workspace();
    let refusal = json!({
        "error_code": "403", "message": "Provided OAuth token does not have required scopes: scim",
    });
    workspace.fault(ME, 9999, Answer::Json(403, refusal));
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", PAT);
    test.run("-f json").fails(4, &["required scopes: scim", "hint: PGUSER, or --pg-user"]);
    test.run("").token();
    let printed = test.run("-f json --pg-user ada").token();
    assert!(printed.contains("\"user\":\"ada\""), "{printed}");
}
