//! Where a secret may go (SECURITY.md): each rule, checked by what the servers received.

use serde_json::{Value, json};

use super::identities::{Around, KNOWN};
use super::support::{Test, executable, has, is_root, not_run, wait_for, workspace};
use crate::sandbox::identity_services::{AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, TENANT};
use crate::sandbox::jwt::{Scope, now};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::*;

/// Formats that print the host, to which a client then sends the password.
const HOST_FORMATS: [&str; 8] =
    ["json", "pgpass", "env", "fish", "powershell", "dotenv", "url", "libpq-json"];

/// Hosts that would make libpq or a driver send the password to another server.
const HOSTILE_HOSTS: [&str; 14] = [
    "/tmp/evil",
    "@abstract",
    "a.cloud.databricks.com,evil.example",
    "host=evil.example user=x",
    "-h",
    "evil.example",
    "user@evil.example",
    "a.cloud.databricks.com:5433",
    "::1",
    "x]@evil.example/?a=[::1",
    "a.cloud.databricks.com.evil.example",
    "evildatabricks.com",
    "127.0.0.1\nevil.example",
    "",
];

/// How many requests carried this text.
fn received(workspace: &Workspace, text: &str) -> usize {
    let state = workspace.state();
    let carries = |request: &&crate::sandbox::server::Request| {
        let headers = request.headers.iter().any(|(_, value)| value.contains(text));
        headers || request.body.contains(text) || request.query.contains(text)
    };
    state.requests.iter().filter(carries).count()
}

#[test]
fn a_host_in_an_answer_does_not_decide_where_a_password_goes() {
    // The workspace is not a loopback host here, for which other rules hold.
    let around = Around::new();
    for hostile in HOSTILE_HOSTS {
        let endpoint = json!({ "name": ENDPOINT, "status": { "hosts": { "host": hostile } } });
        let mut test = around.configured(&KNOWN[5]);
        for format in HOST_FORMATS {
            around.workspace.state().faults.clear();
            let path = "/api/2.0/postgres/projects/shop/branches/production/endpoints/primary";
            around.workspace.fault(path, 1, Answer::Json(200, endpoint.clone()));
            let outcome = test.run(&format!("--format {format} --no-cache"));
            outcome.fails(1, &["Postgres host outside Databricks' domains"]);
        }
        // The same for a host from a list, the host of an instance, and for a child program.
        around.workspace.state().faults.clear();
        test.unset("LAKEBASE_ENDPOINT");
        around.workspace.state().projects[0].branches[0].endpoints[0].hosts =
            json!({ "host": hostile });
        test.run("--format url --no-cache").fails(1, &["outside Databricks' domains"]);
        let instance = json!({ "name": INSTANCE, "read_write_dns": hostile });
        around.workspace.fault(
            "/api/2.0/database/instances/legacy",
            1,
            Answer::Json(200, instance),
        );
        let outcome = test.run(&format!("--format url --no-cache --instance {INSTANCE}"));
        outcome.fails(1, &["outside Databricks' domains"]);
        test.run("exec --no-cache -- /bin/true").fails(125, &["outside Databricks' domains"]);
    }
}

#[test]
fn a_host_from_the_cache_is_checked_like_an_answer() {
    let around = Around::new();
    let test = around.configured(&KNOWN[5]);
    let endpoint = json!({ "name": ENDPOINT, "status": { "hosts": { "host": "evil.example" } } });
    let path = "/api/2.0/postgres/projects/shop/branches/production/endpoints/primary";
    around.workspace.fault(path, 1, Answer::Json(200, endpoint));
    for _ in 0..2 {
        test.run("--format url").fails(1, &["outside Databricks' domains", "evil.example"]);
    }
}

#[test]
fn a_host_that_the_user_names_must_be_one_host() {
    let workspace = workspace();
    // These are hosts that a user may name; one comes with its port.
    let allowed = [
        "",
        "evil.example",
        "::1",
        "a.cloud.databricks.com:5433",
        "a.cloud.databricks.com.evil.example",
        "evildatabricks.com",
    ];
    for host in HOSTILE_HOSTS.iter().filter(|host| !allowed.contains(*host)) {
        let said = if host.contains(char::is_control) {
            "PGHOST has a control character inside"
        } else {
            "PGHOST is not a host name"
        };
        for format in HOST_FORMATS.into_iter().chain(["raw", "exec-credential", "pgbouncer"]) {
            let mut test = Test::at(&workspace);
            test.set("PGHOST", host);
            test.run(&format!("-f {format}")).fails(2, &[said]);
        }
    }
    assert!(workspace.take_requests().is_empty(), "the refusal costs no request");
    // The user may name a tunnel or an address.
    let mut test = Test::at(&workspace);
    for (host, printed) in [("localhost", "@localhost:"), ("::1", "@[::1]:"), ("db_1", "@db_1:")] {
        assert!(test.set("PGHOST", host).run("-f url").token().contains(printed), "{host}");
    }
}

#[test]
fn a_host_that_shares_only_its_beginning_with_a_known_one_is_refused() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT");
    for host in [
        format!("{ENDPOINT_UID}.attacker.example"),
        format!("{ENDPOINT_UID}.database.us-west-2.cloud.databricks.com"),
        format!("{ENDPOINT_HOST}.attacker.example"),
        format!("instance-{INSTANCE_UID}.attacker.example"),
        format!("instance-{INSTANCE_UID}.database.azuredatabricks.net"),
    ] {
        test.set("PGHOST", &host).run("").fails(2, &[&host, "PGHOST"]);
    }
    // Where the API states no host, the uid and Databricks' domain decide.
    workspace.state().projects[0].branches[0].endpoints[0].hosts = json!({});
    workspace.state().instances[0] = json!({ "name": INSTANCE, "uid": INSTANCE_UID });
    for host in [
        format!("{ENDPOINT_UID}.attacker.example"),
        format!("instance-{INSTANCE_UID}.attacker.example"),
    ] {
        test.set("PGHOST", &host).run("").fails(2, &[&host]);
    }
    assert_eq!(workspace.count(MINT), 0);
    assert_eq!(workspace.count("/api/2.0/database/credentials"), 0);
    for host in [ENDPOINT_HOST, INSTANCE_HOST] {
        test.set("PGHOST", host).run("").token();
    }
    // The answer is about another instance than the requested uid.
    workspace.state().instances[0]["uid"] = json!("another");
    test.set("PGHOST", INSTANCE_HOST).run("--refresh --no-cache").fails(4, &["not found"]);
}

/// A profile with a secret of each kind, and the variables that must not send it elsewhere.
const PROFILES: [(&str, &str); 6] = [
    ("pat", "token = dapi0123456789abcdef0123456789abcdef\n"),
    ("oauth-m2m", "client_id = c\nclient_secret = dosesecretsecretsecret\n"),
    ("runtime-oauth", "auth_type = runtime-oauth\ntoken = dapi0123456789abcdef0123456789abcdef\n"),
    ("file-oidc", "client_id = c\nauth_type = file-oidc\ndatabricks_id_token_filepath = FILE\n"),
    ("env-oidc", "client_id = c\nauth_type = env-oidc\noidc_token_env = MY_TOKEN\n"),
    (
        "azure-client-secret",
        "cloud = azure\nazure_client_id = a\nazure_client_secret = entrasecretentrasecret\n\
         azure_tenant_id = t\n",
    ),
];

#[test]
fn a_profiles_secret_goes_to_that_profiles_host_only() {
    let other = workspace();
    for (name, secret) in PROFILES {
        let mut test = Test::bare();
        let token = test.write("token", "aaaa.bbbb.cccc");
        let secret = secret.replace("FILE", token.to_str().unwrap());
        test.write(
            ".databrickscfg",
            &format!("[prod]\nhost = https://prod.cloud.databricks.com\n{secret}"),
        );
        test.set("LAKEBASE_ENDPOINT", ENDPOINT).set("MY_TOKEN", "aaaa.bbbb.cccc");
        test.set("DATABRICKS_RUNTIME_VERSION", "17");
        let line = format!("-p prod --host {}", other.url);
        let words = ["profile prod", "prod.cloud.databricks.com"];
        test.run(&line).fails(2, &[&words[..], &["--host"]].concat());
        test.set("DATABRICKS_CONFIG_PROFILE", "prod").set("DATABRICKS_HOST", &other.url);
        test.run("").fails(2, &[&words[..], &["DATABRICKS_HOST"]].concat());
        assert!(other.take_requests().is_empty(), "{name}: nothing reached the other host");
        // The profile's own host in another spelling is accepted.
        test.set("DATABRICKS_HOST", "PROD.cloud.databricks.com/?o=1").set("HTTPS_PROXY", "x://y");
        test.run("").fails(2, &["HTTPS_PROXY"]);
    }
}

#[test]
fn a_profile_named_by_flag_takes_precedence_over_variables() {
    let (prod, dev) = (workspace(), workspace());
    let mut test = Test::bare();
    test.write(
        ".databrickscfg",
        &format!(
            "[prod]\nhost = {}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n\
             [hostless]\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n\
             [bare]\nhost = {}\n",
            prod.url, prod.url
        ),
    );
    test.set("LAKEBASE_ENDPOINT", ENDPOINT).set("DATABRICKS_HOST", &dev.url);
    test.set("DATABRICKS_TOKEN", "dapiffffffffffffffffffffffffffffffff");
    test.set("DATABRICKS_OIDC_TOKEN", "a.b.c").set("DATABRICKS_ACCOUNT_ID", "acc");
    test.set("DATABRICKS_AUTH_TYPE", "azure-cli").set("DATABRICKS_CLOUD", "azure");
    let said = test.run("-p prod -v");
    assert_eq!(said.code, 0, "{said:?}");
    for name in ["DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_OIDC_TOKEN", "DATABRICKS_CLOUD"]
    {
        assert!(said.stderr.contains(name), "{name} in {said:?}");
    }
    assert!(dev.take_requests().is_empty());
    assert_eq!(received(&prod, "dapifff"), 0);
    let status: Value =
        serde_json::from_str(&test.run("status -p prod --format json").stdout).unwrap();
    let ignored = status["ignored"].as_array().unwrap();
    assert!(ignored.contains(&json!("DATABRICKS_HOST")), "{status}");
    // A profile without a host may lend its secret.
    test.run("-p hostless").token();
    assert!(!dev.take_requests().is_empty());
    // An environment's secret may use a profile's host.
    test.unset("DATABRICKS_OIDC_TOKEN").set("DATABRICKS_TOKEN", PAT);
    prod.take_requests();
    test.run("-p bare").token();
    assert!(received(&prod, PAT) > 0);
    // With a variable for the profile, the environment comes first, as in the SDKs.
    test.unset("DATABRICKS_AUTH_TYPE").unset("DATABRICKS_CLOUD");
    test.set("DATABRICKS_CONFIG_PROFILE", "bare");
    test.run("").token();
    assert!(received(&dev, PAT) > 0);
}

/// A profile's secret is for the host that its owner meant, however the key is spelt.
#[test]
fn a_host_key_that_the_sdks_do_not_know_still_keeps_the_secret() {
    let workspace = workspace();
    for key in ["Host", "HOST", "\u{200b}host", "host\u{200b}"] {
        let mut test = Test::bare();
        let profile = format!(
            "[q]\n{key} = https://a.cloud.databricks.com\nclient_id = c\nclient_secret = s3cr3t\n"
        );
        test.write(".databrickscfg", &profile);
        test.set("DATABRICKS_CONFIG_PROFILE", "q").set("DATABRICKS_HOST", &workspace.url);
        test.set("LAKEBASE_ENDPOINT", "projects/shop");
        test.run("").fails(2, &["profile q is for another host", "a.cloud.databricks.com"]);
        assert!(workspace.take_requests().is_empty(), "{key}");
    }
}

/// Puts a `databricks` and an `az` with a person's login on PATH.
fn with_logins(test: &mut Test, workspace: &Workspace) {
    let token = workspace.signer.sign(USER, Scope::Workspace, 3600, 0);
    let expiry = lakebase_token::platform::time::Timestamp::of_system().plus(3_600_000);
    let databricks =
        json!({ "access_token": token, "token_type": "Bearer", "expiry": expiry.to_string() });
    let az = json!({ "accessToken": token, "expires_on": now() + 3600, "user": { "name": USER, "type": "user" } });
    test.program("databricks", &format!("#!/bin/sh\necho '{databricks}'\n"));
    test.program("az", &format!("#!/bin/sh\necho '{az}'\n"));
}

#[test]
fn an_incomplete_principal_never_falls_back_to_a_login() {
    let workspace = workspace();
    for (variables, words) in [
        (&[("DATABRICKS_CLIENT_ID", "c")][..], "has no client_secret"),
        (
            &[("DATABRICKS_CLIENT_ID", "c"), ("DATABRICKS_CLIENT_SECRET", "")],
            "has no client_secret",
        ),
        (&[("DATABRICKS_CLIENT_SECRET", "s")], "has no client_id"),
        (&[("DATABRICKS_CLIENT_ID", ""), ("DATABRICKS_CLIENT_SECRET", "s")], "has no client_id"),
        (&[("ARM_CLIENT_SECRET", "s")], "has no azure_client_id"),
        (&[("ARM_CLIENT_SECRET", "s"), ("ARM_CLIENT_ID", "i")], "has no azure_tenant_id"),
        (
            &[("ARM_CLIENT_SECRET", "s"), ("ARM_CLIENT_ID", "i"), ("ARM_TENANT_ID", "t")],
            "is for a workspace on Azure",
        ),
    ] {
        for cloud in ["", "azure"] {
            let mut test = Test::bare();
            test.set("DATABRICKS_HOST", &workspace.url).set("LAKEBASE_ENDPOINT", ENDPOINT);
            with_logins(&mut test, &workspace);
            // Now a person's credential is in the cache.
            test.run("").token();
            if !cloud.is_empty() {
                if words.contains("on Azure") {
                    continue;
                }
                test.set("DATABRICKS_CLOUD", cloud);
            }
            for (name, value) in variables {
                test.set(name, value);
            }
            workspace.take_requests();
            for line in ["", "-f json", "--for workspace", "--offline"] {
                test.run(line).fails(2, &[words]);
            }
            assert_eq!(test.run("status").code, 2);
            test.unset("PATH").run("").fails(2, &[words]);
            assert!(workspace.take_requests().is_empty());
        }
    }
}

#[test]
fn a_tenant_or_an_empty_variable_is_not_an_incomplete_principal() {
    let workspace = workspace();
    for variables in [
        &[("DATABRICKS_CLIENT_ID", ""), ("DATABRICKS_CLIENT_SECRET", "")][..],
        &[("ARM_TENANT_ID", TENANT)],
        &[("ARM_CLIENT_ID", AZURE_CLIENT_ID)],
        &[("DATABRICKS_CLIENT_ID", "c"), ("DATABRICKS_AUTH_TYPE", "databricks-cli")],
    ] {
        let mut test = Test::bare();
        test.set("DATABRICKS_HOST", &workspace.url).set("LAKEBASE_ENDPOINT", ENDPOINT);
        with_logins(&mut test, &workspace);
        for (name, value) in variables {
            test.set(name, value);
        }
        let password = test.run("").token();
        assert_eq!(workspace.signer.check(&password, Scope::Database), Ok(USER.to_owned()));
    }
    // Federation needs only a client id.
    let around = Around::new();
    for provider in KNOWN.iter().filter(|provider| provider.name.ends_with("oidc")) {
        let mut test = around.configured(provider);
        with_logins(&mut test, &around.workspace);
        test.run("").token();
    }
}

#[test]
fn entra_tokens_are_sent_to_databricks_domains_only() {
    let around = Around::new();
    for provider in KNOWN.iter().filter(|provider| provider.name.contains("azure")) {
        if provider.name == "azure-devops-oidc" {
            continue;
        }
        for host in ["https://dbx.company.example", "https://azuredatabricks.net.evil.example"] {
            let mut test = around.configured(provider);
            test.set("DATABRICKS_HOST", host).set("DATABRICKS_CLOUD", "azure");
            test.set("DATABRICKS_AUTH_TYPE", provider.name);
            test.set("DATABRICKS_AZURE_RESOURCE_ID", "/subscriptions/s");
            let outcome = test.run("");
            outcome.fails(2, &["is not in a domain of Databricks", "azuredatabricks.net"]);
        }
    }
    assert!(around.workspace.take_requests().is_empty());
    assert_eq!(received(&around.workspace, AZURE_CLIENT_SECRET), 0);
}

#[test]
fn an_answer_does_not_choose_the_audience_of_a_jobs_token() {
    for proposed in [
        "sts.amazonaws.com",
        "api://AzureADTokenExchange",
        "https://evil.example/oidc/v1/token",
        "https://127.0.0.1.evil.example",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "accounts",
    ] {
        for body in [
            json!({ "token_federation_default_oidc_audiences": [proposed], "workspace_id": "1" }),
            json!({ "account_id": proposed, "host_type": "account" }),
        ] {
            let around = Around::new();
            let test = around.configured(&KNOWN[0]);
            around.workspace.fault("/.well-known", 1, Answer::Json(200, body));
            test.run("").fails(1, &["another audience", proposed, "DATABRICKS_TOKEN_AUDIENCE"]);
            let asked = around.workspace.take_requests();
            assert_eq!(asked, ["GET /.well-known/databricks-config"], "no request to GitHub");
        }
    }
}

#[test]
fn a_forged_identity_token_gets_no_cached_credential() {
    let around = Around::new();
    for name in ["env-oidc", "file-oidc"] {
        let provider = KNOWN.iter().find(|provider| provider.name == name).unwrap();
        let mut test = around.configured(provider);
        let genuine = match name {
            "env-oidc" => around.pod_token("lakebase"),
            _ => std::fs::read_to_string(test.home.path().join("token")).unwrap(),
        };
        if name == "env-oidc" {
            test.set("DATABRICKS_OIDC_TOKEN", &genuine);
        }
        let password = test.run("").token();
        assert_eq!(test.run("").token(), password);
        // The same claims with an invalid signature.
        let (claims, _) = genuine.rsplit_once('.').unwrap();
        let forged = format!("{claims}.Zm9yZ2Vk");
        if name == "env-oidc" {
            test.set("DATABRICKS_OIDC_TOKEN", &forged);
        } else {
            test.write("token", &forged);
        }
        for line in ["", "--for workspace", "-f json"] {
            let outcome = test.run(line);
            outcome.fails(4, &[]);
        }
        test.run("--offline").fails(5, &[]);
    }
}

#[test]
fn an_expired_identity_token_is_not_sent() {
    let around = Around::new();
    for name in ["env-oidc", "file-oidc"] {
        let provider = KNOWN.iter().find(|provider| provider.name == name).unwrap();
        let mut test = around.configured(provider);
        let claims = json!({
            "iss": "https://cluster.example", "sub": "s", "aud": "lakebase", "iat": now() - 700,
            "exp": now() - 100,
        });
        let expired = around.workspace.signer.sign_claims(&claims);
        test.set("DATABRICKS_OIDC_TOKEN", &expired);
        test.write("token", &expired);
        let outcome = test.run("");
        outcome.fails(2, &["has expired, at "]);
        assert!(!outcome.stderr.contains(&expired[..40]));
    }
    assert!(around.workspace.take_requests().is_empty());
}

/// Secrets of a job that no tool of another vendor needs.
const SECRETS_OF_A_JOB: [&str; 6] = [
    "ARM_CLIENT_SECRET",
    "GOOGLE_CREDENTIALS",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "SYSTEM_ACCESSTOKEN",
    "DATABRICKS_OIDC_TOKEN",
    "PGPASSWORD",
];

#[test]
fn a_child_program_sees_no_secret_that_is_not_its_own() {
    let workspace = workspace();
    let around = Around::new();
    let azure_cli = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    for (tool, line, script) in [
        ("az", "--auth-type azure-cli --no-cache", "exit 1"),
        ("databricks", "--auth-type databricks-cli", "exit 1"),
        ("browser", "login --timeout 2s", "exit 0"),
        ("systemctl", "service install pgpass", "exit 1"),
    ] {
        let mut test =
            if tool == "az" { around.configured(azure_cli) } else { Test::at(&workspace) };
        for name in SECRETS_OF_A_JOB {
            test.set(name, "sentinel-of-a-job");
        }
        test.set("DATABRICKS_OIDC_TOKEN_ENV", "CI_TOKEN").set("CI_TOKEN", "sentinel-of-a-job");
        // `env` of coreutils and the shell are not on this PATH.
        let script = format!("#!/bin/sh\n/usr/bin/env >>\"$HOME/seen\"\n{script}\n");
        let path = test.program(tool, &script).to_str().unwrap().to_owned();
        if tool == "systemctl" {
            // A profile names the variable, and a proxy's URL has a password.
            test.set("DATABRICKS_AUTH_TYPE", "oauth-m2m").unset("DATABRICKS_OIDC_TOKEN_ENV");
            test.write(".databrickscfg", "[p]\noidc_token_env = CI_TOKEN\n");
            test.set("DATABRICKS_CONFIG_PROFILE", "p");
            test.set("https_proxy", "http://ada:sentinel@proxy.example:3128");
        } else {
            test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
        }
        if tool == "browser" {
            test.set("BROWSER", &path).set("DATABRICKS_AUTH_TYPE", "external-browser");
        }

        let outcome = test.run(line);
        assert_ne!(outcome.code, 0, "{tool}: {outcome:?}");
        let seen = std::fs::read_to_string(test.home.path().join("seen"));
        let seen = seen.unwrap_or_else(|_| panic!("{tool} was not started: {outcome:?}"));
        assert!(seen.contains("HOME=") && !seen.contains("sentinel"), "{tool} saw {seen}");
    }
}

#[test]
fn a_secret_of_the_request_is_never_printed_as_a_password() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let bearer = test.run("--for workspace").token();
    let (claims, _) = bearer.rsplit_once('.').unwrap();
    for token in [
        bearer.clone(),
        format!("{claims}.another-signature"),
        CLIENT_SECRET.to_owned(),
        PAT.to_owned(),
        "dapi0123456789abcdef0123456789abcdef".to_owned(),
    ] {
        workspace.state().faults.clear();
        let answer = Answer::Json(200, json!({ "token": token }));
        workspace.fault(MINT, 9, answer);
        for line in ["--refresh", "--refresh --pg-host localhost"] {
            test.run(line).fails(1, &["a secret"]);
        }
        test.run("exec --refresh -- /bin/true").fails(125, &["not a database credential"]);
    }
}

#[test]
fn a_secret_that_an_answer_repeats_is_shown_in_no_field_and_no_cut() {
    const SECRET: &str = "Zq8~Secret+With/Slash=And.More";
    let workspace = workspace();
    workspace.state().clients.insert("id".to_owned(), SECRET.to_owned());
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_ID", "id").set("DATABRICKS_CLIENT_SECRET", SECRET);

    let padded = |n: usize| format!("eyJ{} {SECRET} {SECRET}", "a".repeat(n));
    let mut bodies: Vec<Value> =
        (1100..1200).step_by(7).map(|n| json!({ "error_description": padded(n) })).collect();
    for field in ["error", "error_code", "errorCode", "message", "detail", "scimType"] {
        bodies.push(json!({ field: SECRET }));
        bodies.push(json!({ field: format!("dose{SECRET}") }));
    }
    bodies.push(json!({ "error": { "code": SECRET, "message": SECRET } }));
    for body in bodies {
        for path in [TOKEN, MINT] {
            for status in [400, 429] {
                workspace.state().faults.clear();
                workspace.fault(path, 9, Answer::Json(status, body.clone()));
                let outcome = test.run("--no-cache --timeout 300ms");
                assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{outcome:?}");
                let leaks = SECRET
                    .as_bytes()
                    .windows(MIN_LEAK)
                    .any(|piece| outcome.stderr.contains(std::str::from_utf8(piece).unwrap()));
                assert!(!leaks, "{path} {body}: {}", outcome.stderr);
            }
        }
    }
}

/// So many characters of a secret in a row are a leak.
const MIN_LEAK: usize = 8;

/// A user who is neither root nor the one who runs the tests.
const OTHER: u32 = 4243;

#[test]
fn root_makes_no_folder_in_another_users_home() {
    let name = "secret_destinations::root_makes_no_folder";
    if !is_root() {
        return not_run(name, "only root can be root");
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    std::os::unix::fs::chown(test.home.path(), Some(OTHER), Some(OTHER)).unwrap();
    let outcome = test.run("");
    outcome.notes("root does not write into another user's home; LAKEBASE_TOKEN_CACHE names");
    let outcome = test.run("login --timeout 1s");
    outcome.fails(1, &["root does not write into another user's home"]);
    assert_eq!(std::fs::read_dir(test.home.path()).unwrap().count(), 0);
    test.run("--offline").fails(2, &["--offline needs the cache, and there is none"]);
    let status: Value = serde_json::from_str(&test.run("status --format json").stdout).unwrap();
    assert_eq!(status["cache"]["usable"], false);

    // A folder that the setting names is used.
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("ours").display().to_string();
    test.set("LAKEBASE_TOKEN_CACHE", &folder).run("").token();
    assert!(std::fs::read_dir(folder).unwrap().count() > 0);
}

#[test]
fn another_users_symbolic_link_is_followed_nowhere_on_a_path() {
    let name = "secret_destinations::another_users_symbolic_link";
    if !is_root() {
        return not_run(name, "only root can make another user's link");
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let home = test.home.path().to_owned();
    std::fs::create_dir_all(home.join("real/sub")).unwrap();
    std::os::unix::fs::symlink("real", home.join("link")).unwrap();
    std::os::unix::fs::lchown(home.join("link"), Some(OTHER), Some(OTHER)).unwrap();
    let at = |path: &str| home.join(path).display().to_string();
    let why = "the path has another user's symbolic link";

    test.set("LAKEBASE_TOKEN_CACHE", &at("link/sub"));
    let outcome = test.run("-v");
    outcome.notes(&format!("not cached in {}: {why}", at("link/sub")));
    let status = test.run("status -v").stdout;
    assert!(status.contains(&format!("  unusable  {why}")), "{status}");

    test.set("LAKEBASE_TOKEN_CACHE", &at("cache"));
    workspace.take_requests();
    for file in ["link/target", "link/sub/target"] {
        let line = format!("write file {} --format raw", at(file));
        test.run(&line).fails(1, &["cannot open the folder of", why]);
    }
    assert!(workspace.take_requests().is_empty(), "it is refused before any request");
    test.set("LAKEBASE_TOKEN_LOG", &at("link/sub/log"));
    test.run("--refresh").notes(why);
    assert_eq!(std::fs::read_dir(home.join("real/sub")).unwrap().count(), 0);

    // Nor while that user exchanges a folder for the link again and again.
    let (folder, link) = (home.join("w"), home.join("link"));
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(OTHER), Some(OTHER)).unwrap();
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let exchanging = {
        let (ended, folder) = (ended.clone(), folder.clone());
        std::thread::spawn(move || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let here = rustix::fs::CWD;
            while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                rustix::fs::renameat_with(here, &folder, here, &link, flags).unwrap();
            }
        })
    };
    test.set("LAKEBASE_TOKEN_LOG", &at("w/log"));
    let mut written = 0;
    for _ in 0..300 {
        let line = format!("write file {} --format raw --force", at("w/target"));
        written += u32::from(test.run(&line).code == 0);
        test.set("LAKEBASE_TOKEN_CACHE", &at("w/cache")).run("");
    }
    ended.store(true, std::sync::atomic::Ordering::SeqCst);
    exchanging.join().unwrap();
    let names: Vec<_> =
        std::fs::read_dir(home.join("real")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["sub"], "{written} written");
    assert!(written > 0 && written < 300, "no race: {written} written");

    // A plain folder of another user is no link: a container's bind mounts are such folders.
    let theirs = home.join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(OTHER), Some(OTHER)).unwrap();
    test.unset("LAKEBASE_TOKEN_LOG").set("LAKEBASE_TOKEN_CACHE", &at("theirs/cache"));
    test.run("").token();
    assert!(theirs.join("cache").exists());
}

#[test]
fn a_dotenv_value_that_a_shell_would_interpret_is_refused() {
    let workspace = workspace();
    for bad in ["$(id)", "a b", "a;id", "`id`", "a&b", "~", "a|b", "*", "#x", "a>b", "!x", "a:~"] {
        let mut test = Test::at(&workspace);
        test.set("PGUSER", bad).run("-f dotenv").fails(2, &["PGUSER has '", "--format env"]);
        test.set("PGUSER", "me").set("PGDATABASE", bad);
        test.run("-f dotenv").fails(2, &["PGDATABASE has '"]);
    }

    // What is accepted is what a shell that sources it reads.
    let mut test = Test::at(&workspace);
    test.set("PGUSER", "ada.o-neil+x@example.com").set("PGDATABASE", "größe_1=%a,b:c/d~");
    let text = test.run("-f dotenv").token();
    let script = "eval \"$CODE\"; printf '%s|%s|%s' \"$PGUSER\" \"$PGDATABASE\" \"$PGPASSWORD\"";
    let output =
        std::process::Command::new("sh").args(["-c", script]).env("CODE", &text).output().unwrap();
    let token = text.lines().find_map(|line| line.strip_prefix("PGPASSWORD=")).unwrap();
    let expected = format!("ada.o-neil+x@example.com|größe_1=%a,b:c/d~|{token}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn any_server_answer_costs_less_than_64_mib() {
    let test = "secret_destinations::memory";
    if !has(test, "time") {
        return;
    }
    let workspace = workspace();
    let small = vec![json!({ "a": 0 }); 60_000];
    let page = |objects: Vec<Value>| {
        let list = Value::from(objects);
        json!({
            "projects": list, "branches": list, "endpoints": list, "next_page_token": "more",
        })
    };
    // Pages of 100 projects whose names are as long as an answer allows, and the smallest objects.
    let long = vec![json!({ "name": "x".repeat(100_000) }); 5];
    let name = format!("projects/{}", "x".repeat(63));
    let many = vec![json!({ "name": name, "status": { "default_branch": name } }); 1000];
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let text = |body: String| Answer::Text { status: 200, headers: Vec::new(), body: body.into() };

    let mut failed = 0;
    for path in [
        TOKEN,
        "/api/2.0/postgres/projects",
        MINT,
        "/api/2.0/preview/scim/v2/Me",
        "/api/2.0/database/instances/legacy",
    ] {
        for answer in [
            Answer::Json(200, page(small.clone()[..28_000].to_vec())),
            Answer::Json(200, json!({ "projects": small.clone(), "token": small.clone() })),
            Answer::Json(200, page(long.clone())),
            Answer::Json(200, page(many.clone())),
            Answer::Json(400, json!({ "message": "x".repeat(400_000), "details": small.clone() })),
            text(deep.clone()),
            text("x".repeat(100_000_000)),
        ] {
            let test = {
                let mut test = Test::at(&workspace);
                test.unset("LAKEBASE_ENDPOINT").set("DATABRICKS_TOKEN", PAT);
                if path != TOKEN {
                    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
                } else {
                    test.unset("DATABRICKS_TOKEN");
                }
                test
            };
            workspace.state().faults.clear();
            workspace.fault(path, 9999, answer);
            let mut command = std::process::Command::new("/usr/bin/time");
            command.args(["-f", "%M", "-o"]).arg(test.home.path().join("kib"));
            command.arg(executable()).args(["get", "-f", "json", "--timeout", "20s"]);
            if path.ends_with("legacy") {
                command.args(["--instance", "legacy"]);
            }
            let output = command.env_clear().envs(test.env.iter().cloned()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let kib = std::fs::read_to_string(test.home.path().join("kib")).unwrap();
            let kib: u64 = kib.lines().last().unwrap().trim().parse().unwrap();
            assert!(kib < 64 * 1024, "{path}: {kib} KiB\n{said}");
            assert!(said.len() < 10_000, "{path}: {} bytes on stderr", said.len());
            failed += u32::from(!output.status.success());
            assert!(workspace.count(path) > 0, "{path} was not requested");
        }
    }
    assert!(failed > 25, "{failed}");
}

#[test]
fn no_other_process_of_the_user_reads_the_memory_of_watch() {
    let name = "secret_destinations::memory_of_watch";
    if !is_root() {
        return not_run(name, "only root can start a process as another user");
    }
    if !has(name, "setpriv") {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    std::os::unix::fs::chown(test.home.path(), Some(OTHER), Some(OTHER)).unwrap();
    let home = test.home.path().display().to_string();
    let program = test.write("lakebase-token", "").display().to_string();
    std::fs::copy(executable(), &program).unwrap();
    let script = format!(
        "cd {home} && exec setpriv --reuid={OTHER} --regid={OTHER} --clear-groups {program} \
         watch file {home}/token --format raw"
    );
    test.set("PATH", "/usr/bin:/bin");
    std::fs::set_permissions(test.home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).env_clear().envs(test.env.iter().cloned());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the file", || test.home.path().join("token").exists().then_some(()));

    // The kernel gives the files of a process without core dumps to root (proc(5)).
    let environ = std::fs::metadata(format!("/proc/{}/environ", child.id())).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.contains(&format!("Uid:\t{OTHER}\t")), "{status}");
    assert_eq!(environ.uid(), 0);
}
