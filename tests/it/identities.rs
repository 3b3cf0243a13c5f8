//! Auth types that a platform configures: identity tokens, managed identities, Entra, the Azure CLI,
//! a metadata service. For each: its requests, and its errors if it is refused, if no server answers,
//! and if the answer is malformed.

use serde_json::{Value, json};

use super::support::{Test, refusing_address};
use crate::sandbox::Certificates;
use crate::sandbox::identity_services::{
    APPLICATION, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_HOST, DEVOPS_BEARER, DEVOPS_ISSUER,
    DEVOPS_SUBJECT, ENTRA_AUDIENCE, GITHUB_BEARER, GITHUB_ISSUER, GITHUB_SUBJECT, POD, Policy,
    RESOURCE_ID, TENANT, id_token,
};
use crate::sandbox::jwt::{Scope, now};
use crate::sandbox::server::{Answer, Server};
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, PAT, TOKEN, USER, Workspace};

const EXCHANGE: &str = "POST /oidc/v1/token";
const MINT: &str = "POST /api/2.0/postgres/credentials";
const METADATA: &str = "GET /.well-known/databricks-config";
const ENTRA: &str = "POST /0e0e0e0e-1111-4222-8333-944444444444/oauth2/token";
const MSI: &str = "GET /metadata/identity/oauth2/token";
/// The issuer of the tokens in a variable or a file.
const CLUSTER: &str = "https://cluster.example";

/// A workspace over TLS behind a proxy that sends every host name to it.
pub struct Around {
    pub workspace: Workspace,
    proxy: String,
    authority: String,
    /// The services of this machine: instance metadata and the metadata service.
    local: Server,
    _folder: tempfile::TempDir,
}

impl Around {
    pub fn new() -> Around {
        Around::noting(|_| ())
    }

    /// `note` gets the first line of each request to the proxy.
    pub fn noting(note: impl Fn(&str) + Send + Sync + 'static) -> Around {
        let admits = move |head: &str| {
            note(head.lines().next().unwrap_or_default());
            true
        };
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make(folder.path()).unwrap();
        let workspace = Workspace::start(Some(certificates.tls.clone())).unwrap();
        let audience = format!("{}/oidc/v1/token", workspace.url);
        let client = Some(CLIENT_ID);
        workspace.state().policies = vec![
            Policy::new(GITHUB_ISSUER, GITHUB_SUBJECT, &audience, client),
            Policy::new(DEVOPS_ISSUER, DEVOPS_SUBJECT, ENTRA_AUDIENCE, client),
            Policy::new(CLUSTER, POD, "lakebase", client),
            Policy::new(CLUSTER, POD, "account-wide", None),
        ];
        let authority = certificates.authority.display().to_string();
        let local = workspace.plain().unwrap();
        Around { proxy: workspace.proxy(admits), workspace, authority, local, _folder: folder }
    }

    fn test(&self, settings: &[(&str, &str)]) -> Test {
        let mut test = Test::bare();
        let local = format!("http://{}", self.local.address);
        test.instance_metadata = local.clone();
        test.set("SSL_CERT_FILE", &self.authority).set("HTTPS_PROXY", &self.proxy);
        test.set("LAKEBASE_ENDPOINT", ENDPOINT).set("DATABRICKS_HOST", &self.workspace.url);
        for (name, value) in settings {
            test.set(
                name,
                &value.replace("WORKSPACE", &self.workspace.url).replace("LOCAL", &local),
            );
        }
        test
    }

    pub fn pod_token(&self, audience: &str) -> String {
        id_token(&self.workspace.signer, CLUSTER, POD, audience)
    }

    /// A test with one of the auth types below configured.
    pub fn configured(&self, provider: &Known) -> Test {
        let mut test = self.test(provider.settings);
        match provider.name {
            "env-oidc" => {
                test.set("DATABRICKS_OIDC_TOKEN", &self.pod_token("lakebase"));
            }
            "file-oidc" => {
                let path = test.write("token", &self.pod_token("lakebase"));
                test.set("DATABRICKS_OIDC_TOKEN_FILEPATH", path.to_str().unwrap());
            }
            "azure-workload-identity" => {
                let path = test.write("token", &self.pod_token(ENTRA_AUDIENCE));
                test.set("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap());
            }
            "azure-cli" => az(&mut test, &self.az_answers(3600)),
            _ => (),
        }
        test
    }

    /// What a logged-in `az` prints, by resource.
    fn az_answers(&self, life: i64) -> Vec<Value> {
        let sign = |scope| self.workspace.signer.sign(USER, scope, life, 0);
        let answer = |scope| {
            json!({
                "accessToken": sign(scope), "expiresOn": "2026-11-21 12:00:00.000000",
                "expires_on": now() + life, "subscription": "s", "tenant": TENANT,
                "tokenType": "Bearer",
            })
        };
        let account = json!({ "tenantId": TENANT, "user": { "name": USER, "type": "user" } });
        vec![
            az_prints("account show", &account.to_string()),
            az_prints(APPLICATION, &answer(Scope::Workspace).to_string()),
            az_prints(MANAGEMENT, &answer(Scope::Management).to_string()),
        ]
    }
}

/// A part of the name that Azure's resource manager has as a resource.
const MANAGEMENT: &str = "management.core";

/// What a command line of `az` with this text prints.
fn az_prints(text: &str, answer: &str) -> Value {
    json!({ "for": text, "do": [{ "stdout": format!("{answer}\n") }] })
}

fn az_fails(text: &str, words: &str) -> Value {
    json!({ "for": text, "do": [{ "stderr": format!("{words}\n") }, { "exit": 1 }] })
}

fn az(test: &mut Test, cases: &[Value]) {
    test.tool_by_line("az", json!(cases));
}

pub fn asked_of_az(test: &Test) -> Vec<String> {
    test.tool_log("az")
        .lines()
        .filter_map(|line| line.strip_prefix("run: ").map(str::to_owned))
        .collect()
}

/// An auth type: how it is configured, and its requests for the first credential.
pub struct Known {
    pub name: &'static str,
    pub settings: &'static [(&'static str, &'static str)],
    pub asks: &'static [&'static str],
    pub role: Option<&'static str>,
}

const GITHUB: [(&str, &str); 2] = [
    ("ACTIONS_ID_TOKEN_REQUEST_URL", "WORKSPACE/github/token?api-version=2.0"),
    ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", GITHUB_BEARER),
];
const AZURE: (&str, &str) = ("DATABRICKS_HOST", AZURE_HOST);
const ID: (&str, &str) = ("DATABRICKS_CLIENT_ID", CLIENT_ID);

pub static KNOWN: [Known; 11] = [
    Known {
        name: "github-oidc",
        settings: &[ID, GITHUB[0], GITHUB[1]],
        asks: &[METADATA, "GET /github/token", EXCHANGE, MINT],
        role: Some(CLIENT_ID),
    },
    Known {
        name: "azure-devops-oidc",
        settings: &[
            ID,
            ("SYSTEM_ACCESSTOKEN", DEVOPS_BEARER),
            ("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", "WORKSPACE/ada/"),
            ("SYSTEM_TEAMPROJECTID", "project"),
            ("SYSTEM_HOSTTYPE", "build"),
            ("SYSTEM_PLANID", "plan"),
            ("SYSTEM_JOBID", "job"),
        ],
        asks: &[
            "POST /ada/project/_apis/distributedtask/hubs/build/plans/plan/jobs/job/oidctoken",
            EXCHANGE,
            MINT,
        ],
        role: Some(CLIENT_ID),
    },
    Known { name: "env-oidc", settings: &[ID], asks: &[EXCHANGE, MINT], role: Some(CLIENT_ID) },
    Known {
        name: "file-oidc",
        // Without the auth type, file and client id are a conflict, in the SDKs too.
        settings: &[ID, ("DATABRICKS_AUTH_TYPE", "file-oidc")],
        asks: &[EXCHANGE, MINT],
        role: Some(CLIENT_ID),
    },
    Known {
        name: "metadata-service",
        settings: &[("DATABRICKS_METADATA_SERVICE_URL", "LOCAL/metadata-service")],
        asks: &["GET /metadata-service", MINT],
        role: None,
    },
    Known {
        name: "azure-client-secret",
        settings: &[
            AZURE,
            ("ARM_CLIENT_ID", AZURE_CLIENT_ID),
            ("ARM_CLIENT_SECRET", AZURE_CLIENT_SECRET),
            ("ARM_TENANT_ID", TENANT),
        ],
        asks: &[ENTRA, ENTRA, MINT],
        role: Some(AZURE_CLIENT_ID),
    },
    Known {
        name: "azure-msi",
        settings: &[AZURE, ("ARM_USE_MSI", "true")],
        asks: &[MSI, MSI, MINT],
        role: None,
    },
    Known { name: "azure-cli", settings: &[AZURE], asks: &["GET /aad/auth", MINT], role: None },
    Known {
        name: "github-oidc-azure",
        settings: &[
            AZURE,
            GITHUB[0],
            GITHUB[1],
            ("ARM_CLIENT_ID", AZURE_CLIENT_ID),
            ("ARM_TENANT_ID", TENANT),
        ],
        asks: &["GET /github/token", ENTRA, MINT],
        role: Some(AZURE_CLIENT_ID),
    },
    Known {
        name: "azure-workload-identity",
        settings: &[
            AZURE,
            ("AZURE_CLIENT_ID", AZURE_CLIENT_ID),
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
        ],
        asks: &[ENTRA, MINT],
        role: Some(AZURE_CLIENT_ID),
    },
    Known {
        name: "runtime-oauth",
        settings: &[
            ("DATABRICKS_TOKEN", PAT),
            ("DATABRICKS_RUNTIME_VERSION", "17.3"),
            ("DATABRICKS_AUTH_TYPE", "runtime-oauth"),
        ],
        asks: &[EXCHANGE, MINT],
        role: None,
    },
];

#[test]
fn each_is_chosen_makes_its_requests_and_caches_both_tokens() {
    for provider in &KNOWN {
        let around = Around::new();
        let test = around.configured(provider);
        let status = test.run("status --format json");
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["auth_type"], provider.name, "{status}");
        test.run("").token();
        let asked = around.workspace.take_requests();
        assert_eq!(asked, provider.asks, "{}", provider.name);
        test.run("").token();
        test.run("--refresh").token();
        let again = around.workspace.take_requests();
        assert_eq!(again, [MINT], "{}: the workspace token was good", provider.name);
        // A configured client id is the role, so its name needs no request.
        if let Some(role) = provider.role {
            assert!(test.run("-f json").token().contains(&format!("\"user\":\"{role}\"")));
            assert!(around.workspace.take_requests().iter().all(|asked| !asked.contains("scim")));
        }
        // A workspace token alone needs fewer requests.
        let around = Around::new();
        let test = around.configured(provider);
        test.run("--for workspace").token();
        assert!(around.workspace.take_requests().len() < provider.asks.len(), "{}", provider.name);
    }
}

#[test]
fn a_metadata_service_must_be_on_this_machine() {
    let workspace = super::support::workspace();
    let mut test = Test::at(&workspace);
    test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    let url = format!("{}/metadata-service", workspace.url);
    for address in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        test.set("DATABRICKS_METADATA_SERVICE_URL", &address).run("--refresh").token();
    }
    // Another address is another identity.
    assert_eq!(workspace.count("/metadata-service"), 2);
    {
        let state = workspace.state();
        let request = &state.requests[0];
        assert_eq!(request.header("x-databricks-metadata-version"), Some("1"));
        assert_eq!(request.header("x-databricks-host"), Some(workspace.url.as_str()));
        assert_eq!(request.header("authorization"), None);
    }
    for address in [
        "http://10.0.0.1/x",
        "https://localhost/x",
        "http://localhost.example/x",
        "http://127.0.0.1@example.com/x",
    ] {
        test.set("DATABRICKS_METADATA_SERVICE_URL", address);
        let outcome = test.run("");
        outcome.fails(2, &["not on this machine", "DATABRICKS_METADATA_SERVICE_URL"]);
    }
    // The path may be what keeps the URL secret.
    test.set("DATABRICKS_METADATA_SERVICE_URL", &format!("{url}/s3cr3t-path"));
    let outcome = test.run("");
    outcome.fails(4, &["127.0.0.1"]);
    assert!(!outcome.stderr.contains("s3cr3t-path"), "{outcome:?}");
    test.set("DATABRICKS_METADATA_SERVICE_URL", &url);
    workspace.fault("/metadata-service", 1, Answer::Json(200, json!({ "expires_on": "soon" })));
    test.run("--refresh --no-cache").fails(1, &["no field `access_token`"]);
    workspace.fault("/metadata-service", 9, Answer::Close);
    test.run("--refresh --no-cache").fails(5, &["cannot reach 127.0.0.1"]);
}

#[test]
fn a_refusal_shows_the_words_of_the_server() {
    let denied = |status, error: &str, words: &str| {
        Answer::Json(status, json!({ "error": error, "error_description": words }))
    };
    for (name, path, words) in [
        ("github-oidc", "/github/token", "id-token: write"),
        ("github-oidc", TOKEN, "service-principal-federation-policy"),
        ("azure-devops-oidc", "/ada/project", "to give this job an identity token"),
        ("azure-devops-oidc", TOKEN, DEVOPS_SUBJECT),
        ("env-oidc", TOKEN, "the token from DATABRICKS_OIDC_TOKEN says: issuer"),
        ("file-oidc", TOKEN, "audience lakebase"),
        ("azure-client-secret", "/0e0e", "azure_tenant_id from ARM_TENANT_ID"),
        ("azure-msi", "/metadata/identity", "assign a managed identity to this machine"),
        ("github-oidc-azure", "/github/token", "id-token: write"),
        ("github-oidc-azure", "/0e0e", "a federated credential with these"),
        ("azure-workload-identity", "/0e0e", "azure_federated_tenant_id from AZURE_TENANT_ID"),
        ("runtime-oauth", TOKEN, "to exchange the notebook's token"),
    ] {
        let around = Around::new();
        let provider = KNOWN.iter().find(|provider| provider.name == name).unwrap();
        let test = around.configured(provider);
        around.workspace.fault(path, 9, denied(401, "invalid_client", "refused by the sandbox"));
        let outcome = test.run("");
        outcome.fails(4, &["refused by the sandbox", words]);
        // The refusal is cached: many callers cost one request.
        let before = around.workspace.take_requests().len();
        test.run("").fails(4, &["refused by the sandbox"]);
        assert_eq!(around.workspace.take_requests().len(), 0, "{name} after {before}");
    }
}

#[test]
fn no_server_is_exit_code_5_and_a_malformed_answer_1() {
    for (name, path) in [
        ("github-oidc", "/github/token"),
        ("github-oidc", TOKEN),
        ("azure-devops-oidc", "/ada/project"),
        ("env-oidc", TOKEN),
        ("file-oidc", TOKEN),
        ("azure-client-secret", "/0e0e"),
        ("azure-msi", "/metadata/identity"),
        ("metadata-service", "/metadata-service"),
        ("github-oidc-azure", "/0e0e"),
        ("azure-workload-identity", "/0e0e"),
        ("runtime-oauth", TOKEN),
    ] {
        let around = Around::new();
        let provider = KNOWN.iter().find(|provider| provider.name == name).unwrap();
        let test = around.configured(provider);
        around.workspace.fault(path, 3, Answer::Close);
        test.run("--no-cache").fails(5, &["cannot reach "]);
        for malformed in [
            Answer::Json(200, json!({})),
            Answer::Json(200, json!({ "access_token": "a\nb", "value": "a\nb", "oidcToken": "" })),
            Answer::Json(200, json!([])),
        ] {
            around.workspace.fault(path, 1, malformed);
            test.run("--no-cache").fails(1, &[]);
        }
        around.workspace.fault(path, 1, Answer::html(200, "<title>Sign in</title>"));
        around.workspace.fault("/.well-known", 1, Answer::Json(404, json!({})));
        around.workspace.fault("/oidc/.well-known", 1, Answer::Json(404, json!({})));
        let outcome = test.run("--no-cache");
        outcome.fails(1, &["a web page"]);
        around.workspace.fault(path, 1, Answer::redirect(302, "https://evil.example/"));
        test.run("--no-cache").fails(1, &["redirects"]);
        // Without the faults it works again.
        around.workspace.state().faults.clear();
        test.run("--no-cache").token();
    }
}

#[test]
fn an_exchange_sends_the_form_of_rfc_8693() {
    let around = Around::new();
    let mut test = around.test(&[ID, ("DATABRICKS_GROUP_ID", "12345")]);
    test.set("DATABRICKS_AUTH_TYPE", "env-oidc");
    let token = around.pod_token("lakebase");
    test.set("MY_TOKEN", &token).set("DATABRICKS_OIDC_TOKEN_ENV", "MY_TOKEN");
    test.run("").token();
    {
        let state = around.workspace.state();
        let form = &state.requests[0];
        for (name, value) in [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", &token),
            ("client_id", CLIENT_ID),
            ("scope", "all-apis"),
            ("assume_group", "12345"),
        ] {
            assert_eq!(form.value(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(form.header("authorization"), None);
    }
    // A federation policy of the whole account needs no client id.
    test.unset("DATABRICKS_CLIENT_ID").set("MY_TOKEN", &around.pod_token("account-wide"));
    test.run("--no-cache").token();
    assert_eq!(around.workspace.state().requests.last().unwrap().path, &MINT[5..]);
    // A variable that the user names counts, even if it is empty.
    test.unset("MY_TOKEN").set("DATABRICKS_OIDC_TOKEN", &token);
    test.run("").fails(2, &["no identity token in MY_TOKEN", "DATABRICKS_OIDC_TOKEN_ENV"]);
}

#[test]
fn a_refused_identity_token_is_shown_by_its_claims_only() {
    let around = Around::new();
    let mut test = around.test(&[ID]);
    let token = around.pod_token("another-audience");
    test.set("DATABRICKS_OIDC_TOKEN", &token);
    let outcome = test.run("");
    outcome.fails(
        4,
        &[
            "no federation policy matches",
            "issuer https://cluster.example, subject system:serviceaccount:shop:app, audience \
             another-audience",
            CLIENT_ID,
        ],
    );
    assert!(!outcome.stderr.contains(&token[..40]), "{outcome:?}");
    test.unset("DATABRICKS_CLIENT_ID");
    test.run("").fails(4, &["set DATABRICKS_CLIENT_ID", "federation-policy create"]);
    // A text that cannot be a token is refused before a request.
    test.set("DATABRICKS_OIDC_TOKEN", "two words");
    around.workspace.take_requests();
    test.run("").fails(2, &["the token from DATABRICKS_OIDC_TOKEN has characters"]);
    assert!(around.workspace.take_requests().is_empty());
}

#[test]
fn another_pods_token_is_another_identity() {
    let around = Around::new();
    let mut test = around.test(&[ID, ("DATABRICKS_AUTH_TYPE", "file-oidc")]);
    let file = test.write("token", &around.pod_token("lakebase"));
    test.set("DATABRICKS_OIDC_TOKEN_FILEPATH", file.to_str().unwrap());
    let first = test.run("").token();
    assert_eq!(test.run("").token(), first);
    // A line end is not part of the token (the SDK for Go sends it along).
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "\n").unwrap();
    assert_eq!(test.run("").token(), first);
    // A renewed token of the same identity is a cache miss, and works.
    let renewed = json!({
        "iss": CLUSTER, "sub": POD, "aud": "lakebase", "exp": now() + 900, "jti": "2",
    });
    std::fs::write(&file, around.workspace.signer.sign_claims(&renewed)).unwrap();
    let second = test.run("").token();
    assert_ne!(second, first);
    assert_eq!(test.entries().len(), 2, "the entry is replaced");
    let signer = &around.workspace.signer;
    let other_pod = id_token(signer, CLUSTER, "system:serviceaccount:evil:app", "lakebase");
    std::fs::write(&file, other_pod).unwrap();
    test.run("").fails(4, &["serviceaccount:evil"]);
    std::fs::remove_file(&file).unwrap();
    test.run("").fails(2, &["cannot read the identity token", "DATABRICKS_OIDC_TOKEN_FILEPATH"]);
}

#[test]
fn the_audience_is_configured_or_proposed_or_the_token_endpoint() {
    let around = Around::new();
    let github = KNOWN.iter().find(|provider| provider.name == "github-oidc").unwrap();
    let audience = || {
        let state = around.workspace.state();
        let asked = state.requests.iter().rfind(|request| request.path == "/github/token");
        asked.and_then(|request| request.value("audience")).unwrap()
    };
    let own = format!("{}/oidc/v1/token", around.workspace.url);
    let says = |body| around.workspace.fault("/.well-known", 1, Answer::Json(200, body));
    around.configured(github).run("").token();
    assert_eq!(audience(), own);
    let proposed = format!("{}/proposed", around.workspace.url);
    says(json!({ "token_federation_default_oidc_audiences": [proposed], "workspace_id": "1" }));
    around.configured(github).run("");
    assert_eq!(audience(), proposed);
    const ACCOUNT: &str = "a0a0a0a0-1111-4222-8333-944444444444";
    says(json!({ "account_id": ACCOUNT, "host_type": "unified" }));
    around.configured(github).run("");
    assert_eq!(audience(), ACCOUNT);
    around.workspace.fault("/.well-known", 1, Answer::Json(404, json!({})));
    around.configured(github).run("").token();
    assert_eq!(audience(), own);
    around.configured(github).set("DATABRICKS_TOKEN_AUDIENCE", "mine").run("");
    assert_eq!(audience(), "mine");
}

#[test]
fn the_management_token_and_the_resource_id_are_sent() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-client-secret").unwrap();
    let mut test = around.configured(provider);
    test.set("DATABRICKS_AZURE_RESOURCE_ID", RESOURCE_ID);
    test.run("").token();
    {
        let state = around.workspace.state();
        let [first, second, mint] = &state.requests[..] else { panic!("{:?}", state.requests) };
        assert_eq!(first.header("host"), Some("login.microsoftonline.com"));
        for (request, resource) in
            [(first, APPLICATION), (second, "https://management.core.windows.net/")]
        {
            assert_eq!(request.value("resource").as_deref(), Some(resource));
            assert_eq!(request.value("grant_type").as_deref(), Some("client_credentials"));
            assert_eq!(request.value("client_id").as_deref(), Some(AZURE_CLIENT_ID));
            assert_eq!(request.value("client_secret").as_deref(), Some(AZURE_CLIENT_SECRET));
        }
        assert_eq!(mint.header("x-databricks-azure-workspace-resource-id"), Some(RESOURCE_ID));
        let management = mint.header("x-databricks-azure-sp-management-token").unwrap();
        assert_ne!(mint.header("authorization"), Some(&*format!("Bearer {management}")));
    }
    // What is printed is the workspace token alone.
    let handed = test.run("--for workspace").token();
    assert!(around.workspace.signer.check(&handed, Scope::Workspace).is_ok());
}

#[test]
fn a_resource_id_is_resolved_once_a_day() {
    for (name, asks) in [("azure-client-secret", ENTRA), ("azure-msi", MSI)] {
        let around = Around::new();
        let provider = KNOWN.iter().find(|provider| provider.name == name).unwrap();
        let mut test = around.configured(provider);
        test.unset("DATABRICKS_HOST").set("DATABRICKS_AZURE_RESOURCE_ID", RESOURCE_ID);
        test.run("").token();
        let manager = format!("GET {RESOURCE_ID}");
        let asked = around.workspace.take_requests();
        assert_eq!(asked, [asks, &manager, asks, asks, MINT], "{name}");
        test.run("--refresh").token();
        assert_eq!(around.workspace.take_requests(), [MINT]);
        let json = test.run("--for workspace -f json").token();
        assert!(json.contains(&format!("\"host\":\"https://{AZURE_HOST}\"")), "{json}");
        // An answer does not decide where a token goes.
        for url in ["evil.example", "x.azuredatabricks.net.evil.example", "x.databricks.azure.cn"] {
            let body = json!({ "properties": { "workspaceUrl": url } });
            around.workspace.fault(RESOURCE_ID, 1, Answer::Json(200, body));
            test.run("--no-cache").fails(1, &["is not a workspace of this Azure cloud"]);
        }
        let body = json!({ "error": { "code": "ResourceNotFound", "message": "none" } });
        around.workspace.fault(RESOURCE_ID, 1, Answer::Json(404, body));
        test.run("--no-cache").fails(4, &["DATABRICKS_AZURE_RESOURCE_ID", "DATABRICKS_HOST"]);
        test.set("DATABRICKS_AZURE_RESOURCE_ID", "shop");
        test.run("").fails(2, &["is not a resource id"]);
    }
}

#[test]
fn each_azure_cloud_has_its_own_entra() {
    for (host, login) in [
        ("x.databricks.azure.us", "login.microsoftonline.us"),
        ("x.databricks.azure.cn", "login.chinacloudapi.cn"),
    ] {
        let around = Around::new();
        let provider =
            KNOWN.iter().find(|provider| provider.name == "azure-client-secret").unwrap();
        let mut test = around.configured(provider);
        test.set("DATABRICKS_HOST", host).run("").token();
        let state = around.workspace.state();
        assert_eq!(state.requests[0].header("host"), Some(login));
        let management = state.requests[1].value("resource").unwrap();
        assert!(management.starts_with("https://management.core."), "{management}");
        assert!(!management.contains("windows.net"), "{management}");
    }
    let around = Around::new();
    let mut test = around.test(&[("ARM_USE_MSI", "1"), ("DATABRICKS_AZURE_RESOURCE_ID", "/s")]);
    test.unset("DATABRICKS_HOST").set("ARM_ENVIRONMENT", "MOON");
    test.run("").fails(2, &["azure_environment from ARM_ENVIRONMENT is unknown: MOON"]);
}

#[test]
fn the_azure_cli_gets_the_tenant_of_the_workspace() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let test = around.configured(provider);
    test.run("").token();
    let resource = |resource: &str| {
        format!("account get-access-token --resource {resource} --tenant {TENANT} --output json")
    };
    let show = "account show --output json".to_owned();
    let management = resource("https://management.core.windows.net/");
    assert_eq!(asked_of_az(&test), [show, resource(APPLICATION), management]);
    // A user without management rights needs no management token.
    let mut test = around.configured(provider);
    let [account, workspace, _] = around.az_answers(3600).try_into().unwrap();
    az(&mut test, &[account, workspace, az_fails(MANAGEMENT, "")]);
    test.run("").token();
    let last = around.workspace.state().requests.pop().unwrap();
    assert_eq!(last.header("x-databricks-azure-sp-management-token"), None);
    // A managed identity is asked without a tenant.
    let mut test = around.configured(provider);
    let managed =
        json!({ "user": { "name": "systemAssignedIdentity", "type": "servicePrincipal" } });
    let [_, workspace, management] = around.az_answers(3600).try_into().unwrap();
    let account = az_prints("account show", &managed.to_string());
    az(&mut test, &[account, workspace, management]);
    test.run("").token();
    assert!(asked_of_az(&test).iter().all(|line| !line.contains("--tenant")));
}

#[test]
fn an_expired_login_of_the_azure_cli_is_exit_code_3() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let mut test = around.configured(provider);
    az(&mut test, &[az_fails("", "ERROR: Please run 'az login' to setup account.")]);
    test.run("").fails(3, &["no valid login", &format!("az login --tenant {TENANT}")]);
    for (words, code) in [
        ("AADSTS65001: The user has not consented to use the application", 4),
        ("HTTPSConnectionPool: Max retries exceeded with url: /common", 5),
        ("something else", 1),
    ] {
        az(&mut test, &[az_fails("", &format!("ERROR: {words}"))]);
        test.run("--no-cache").fails(code, &[words]);
    }
    az(&mut test, &[az_prints("", "<html>")]);
    test.run("--no-cache").fails(1, &["something that is not JSON"]);
    test.tool("az", json!([{ "sleep": 5000 }]));
    test.set("LAKEBASE_TOKEN_TIMEOUT", "500ms");
    test.run("--no-cache").fails(5, &["has not ended in time"]);
    // Without `az` the auth type cannot be used.
    test.set("PATH", "/nonexistent").set("DATABRICKS_AUTH_TYPE", "azure-cli");
    test.unset("LAKEBASE_TOKEN_TIMEOUT").run("--no-cache").fails(2, &["no `az` on PATH"]);
}

/// If both CLIs may have a login, a profile for this workspace decides for the Databricks CLI.
#[test]
fn a_profile_decides_between_the_two_clis() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let test = around.configured(provider);
    let chosen = || {
        let status = test.run("status --format json").stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["auth_type"].as_str().unwrap().to_owned()
    };
    assert_eq!(chosen(), "azure-cli");
    let profile = |host: &str| format!("[x]\nhost = {host}\nauth_type = databricks-cli\n");
    test.write(".databrickscfg", &profile("https://elsewhere.azuredatabricks.net"));
    assert_eq!(chosen(), "azure-cli");
    test.write(".databrickscfg", &profile(&format!("https://{AZURE_HOST}/")));
    assert_eq!(chosen(), "databricks-cli");
}

#[test]
fn a_configured_azure_identity_beats_a_github_job() {
    let around = Around::new();
    let mut test = around.test(&[AZURE, GITHUB[0], GITHUB[1]]);
    test.set("ARM_CLIENT_ID", AZURE_CLIENT_ID).set("ARM_TENANT_ID", TENANT);
    test.set("ARM_CLIENT_SECRET", AZURE_CLIENT_SECRET);
    let status = test.run("status --format json").stdout;
    assert!(status.contains("\"auth_type\":\"github-oidc-azure\""), "{status}");
    around.workspace.state().trusts_github = false;
    // Its failure is final, though a secret is configured, too.
    let outcome = test.run("");
    outcome.fails(4, &["AADSTS70021", GITHUB_SUBJECT, ENTRA_AUDIENCE]);
    test.set("DATABRICKS_AUTH_TYPE", "azure-client-secret").run("").token();
    // The auth type can name the job's own identity.
    test.set("DATABRICKS_AUTH_TYPE", "github-oidc");
    test.run("").fails(4, &["no federation policy matches", GITHUB_ISSUER]);
}

/// A pod has the webhook's variables whether it means them or not.
#[test]
fn a_pods_azure_identity_comes_after_all_that_is_configured_and_before_logins() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|known| known.name == "azure-workload-identity").unwrap();
    let ready = || around.configured(provider);
    let chosen = |test: &Test| {
        let status = test.run("status --format json").stdout;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["auth_type"].clone()
    };
    // An `az` that is logged in is a login.
    let mut test = ready();
    az(&mut test, &around.az_answers(3600));
    assert_eq!(chosen(&test), provider.name);
    for (settings, expected) in [
        (&[("DATABRICKS_TOKEN", PAT)][..], "pat"),
        (&[("DATABRICKS_CLIENT_ID", "a"), ("DATABRICKS_CLIENT_SECRET", "b")], "oauth-m2m"),
        (&[("ARM_USE_MSI", "true")], "azure-msi"),
        (&[("DATABRICKS_OIDC_TOKEN_FILEPATH", "/token")], "file-oidc"),
    ] {
        let mut test = ready();
        settings.iter().for_each(|(name, value)| _ = test.set(name, value));
        assert_eq!(chosen(&test), expected);
        test.set("DATABRICKS_AUTH_TYPE", provider.name);
        assert_eq!(chosen(&test), provider.name, "where it is named");
    }

    // An incomplete service principal is an error, not this identity.
    let mut test = ready();
    test.set("DATABRICKS_CLIENT_ID", CLIENT_ID);
    test.run("").fails(2, &["client_id from DATABRICKS_CLIENT_ID has no client_secret"]);
    // So is another application, perhaps in part, unless the auth type is named.
    let mut test = ready();
    test.set("ARM_CLIENT_ID", "other").set("ARM_TENANT_ID", TENANT);
    let said = "azure_client_id from ARM_CLIENT_ID is not the application of AZURE_CLIENT_ID";
    test.run("").fails(2, &[said, "--auth-type azure-workload-identity"]);
    test.run("--auth-type azure-workload-identity").token();
    test.set("ARM_CLIENT_ID", AZURE_CLIENT_ID).run("").token();
    around.workspace.take_requests();
    // The variables count only together, and for a workspace on Azure.
    for name in ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"] {
        let mut test = ready();
        test.unset(name).run("").fails(2, &["no Databricks identity"]);
    }
    let mut test = ready();
    test.set("DATABRICKS_HOST", &around.workspace.url);
    test.run("").fails(2, &["no Databricks identity"]);
    test.set("DATABRICKS_HOST", "x.cloud.databricks.com");
    test.run("").fails(2, &["no Databricks identity"]);
}

#[test]
fn a_pods_identity_token_goes_to_entra_only_and_is_read_anew() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|known| known.name == "azure-workload-identity").unwrap();
    let mut test = around.configured(provider);
    // The host that the last request for a token names.
    let asked_entra = || {
        let state = around.workspace.state();
        let asked = state.requests.iter().rfind(|request| request.path.ends_with("/oauth2/token"));
        asked.unwrap().header("host").unwrap().to_owned()
    };
    for authority in [
        "https://login.microsoftonline.com",
        "https://LOGIN.microsoftonline.com/",
        "https://login.microsoftonline.us/",
        "https://login.chinacloudapi.cn/",
        "https://login.partner.microsoftonline.cn/",
    ] {
        test.set("AZURE_AUTHORITY_HOST", authority).run("--no-cache").token();
        let host = authority.to_ascii_lowercase();
        let host = host.strip_prefix("https://").unwrap().trim_end_matches('/').to_owned();
        assert_eq!(asked_entra(), host);
        assert_eq!(around.workspace.take_requests(), provider.asks, "{authority}");
    }
    for authority in [
        "https://login.microsoftonline.com.evil.example/",
        "https://evil.example/",
        "https://login.microsoftonline.com@evil.example/",
        "https://login.microsoftonline.com:8443/",
        "http://login.microsoftonline.com/",
        "http://127.0.0.1:80@evil.example/",
        // A workspace elsewhere has no Entra on this machine.
        "http://127.0.0.1:1/",
    ] {
        test.set("AZURE_AUTHORITY_HOST", authority);
        let outcome = test.run("--no-cache");
        outcome.fails(2, &["AZURE_AUTHORITY_HOST"]);
    }
    assert!(around.workspace.take_requests().is_empty(), "the refusal costs no request");
    // Without it, the workspace's cloud decides.
    test.unset("AZURE_AUTHORITY_HOST");
    for (workspace, entra) in [
        (AZURE_HOST, "login.microsoftonline.com"),
        ("x.databricks.azure.us", "login.microsoftonline.us"),
        ("x.databricks.azure.cn", "login.chinacloudapi.cn"),
    ] {
        test.set("DATABRICKS_HOST", workspace).run("--no-cache").token();
        assert_eq!(asked_entra(), entra, "{workspace}");
        around.workspace.take_requests();
    }

    // A workspace on this machine may have its Entra there.
    test.set("DATABRICKS_HOST", &around.workspace.url).set("DATABRICKS_CLOUD", "azure");
    test.set("AZURE_AUTHORITY_HOST", &around.workspace.url).run("--no-cache").token();

    // The platform replaces the file. Another pod's token is refused, and shown by its claims only.
    let other =
        id_token(&around.workspace.signer, CLUSTER, "system:serviceaccount:x:y", ENTRA_AUDIENCE);
    let path = test.write("token", &other);
    let outcome = test.run("");
    outcome.fails(4, &["AADSTS70021", "subject system:serviceaccount:x:y", "federated credential"]);
    assert!(!outcome.stderr.contains(&other[..40]));
    std::fs::write(&path, around.pod_token(ENTRA_AUDIENCE) + "\n").unwrap();
    test.run("").token();
    std::fs::remove_file(&path).unwrap();
    test.run("--no-cache")
        .fails(2, &["cannot read the identity token", "AZURE_FEDERATED_TOKEN_FILE"]);
}

#[test]
fn an_auth_type_that_cannot_act_as_a_group_is_refused() {
    let around = Around::new();
    let mut test = around.test(&[("DATABRICKS_TOKEN", PAT), ("DATABRICKS_GROUP_ID", "7")]);
    test.run("").fails(2, &["auth type pat cannot act as the group from DATABRICKS_GROUP_ID"]);
    test.set("DATABRICKS_AUTH_TYPE", "pat").run("").fails(2, &["cannot act as the group"]);
    assert!(around.workspace.take_requests().is_empty());
}

#[test]
fn an_unsupported_auth_type_names_the_alternatives() {
    for (settings, words) in [
        (
            &[("DATABRICKS_USERNAME", "a"), ("DATABRICKS_PASSWORD", "b")][..],
            ["basic", "no longer accepts passwords"],
        ),
        (
            &[("DATABRICKS_HOST", "x.gcp.databricks.com"), ("GOOGLE_CREDENTIALS", "{}")],
            ["google-credentials", "DATABRICKS_CLIENT_ID"],
        ),
        (
            &[("DATABRICKS_CLOUD", "gcp"), ("DATABRICKS_GOOGLE_SERVICE_ACCOUNT", "a")],
            ["google-id", "file-oidc"],
        ),
    ] {
        let around = Around::new();
        let mut test = around.test(settings);
        test.run("").fails(2, &words);
        test.set("DATABRICKS_AUTH_TYPE", words[0]).run("").fails(2, &words);
    }
}

#[test]
fn a_host_that_is_not_a_workspace_is_named() {
    let around = Around::new();
    let mut test = around.test(&[ID, ("DATABRICKS_CLIENT_SECRET", "x")]);
    for (kind, words) in [
        ("account", "is an account's host, which has no databases"),
        ("unified", "serves several workspaces"),
    ] {
        around.workspace.fault(TOKEN, 1, Answer::html(200, "<title>Login</title>"));
        let body = json!({ "host_type": kind, "account_id": "acc" });
        around.workspace.fault("/.well-known", 1, Answer::Json(200, body));
        test.run("--no-cache").fails(2, &[words]);
    }
    // With a workspace id, the account's token endpoint is used.
    test.set("DATABRICKS_WORKSPACE_ID", "42");
    around.workspace.fault(TOKEN, 1, Answer::html(200, "<title>Login</title>"));
    let root = format!("{}/oidc/accounts/{{account_id}}", around.workspace.url);
    let body = json!({ "host_type": "unified", "account_id": "acc", "oidc_endpoint": root });
    around.workspace.fault("/.well-known", 1, Answer::Json(200, body));
    let endpoint = format!("{}/oidc/accounts/acc/v1/token", around.workspace.url);
    let document = "/oidc/accounts/acc/.well-known/oauth-authorization-server";
    around.workspace.fault(document, 1, Answer::Json(200, json!({ "token_endpoint": endpoint })));
    let token = around.workspace.signer.sign(CLIENT_ID, Scope::Workspace, 3600, 0);
    let answer = Answer::Json(200, json!({ "access_token": token, "expires_in": 3600 }));
    around.workspace.fault("/oidc/accounts/acc/v1/token", 1, answer);
    test.run("--no-cache").token();
    let mint = around.workspace.state().requests.pop().unwrap();
    assert_eq!(mint.header("x-databricks-workspace-id"), Some("42"));
}

#[test]
fn another_machine_that_shares_the_home_is_another_identity() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-msi").unwrap();
    let mut test = around.configured(provider);
    let first = test.run("").token();
    assert_eq!(test.run("").token(), first);
    test.machine = || "another".to_owned();
    assert_ne!(test.run("").token(), first);
}

#[test]
fn a_policy_may_check_any_claim() {
    let around = Around::new();
    let mut test = around.test(&[ID]);
    let mut with = |workflow: &str, id: &str| {
        let now = now();
        let claims = json!({
            "iss": CLUSTER, "sub": POD, "aud": "lakebase", "iat": now, "exp": now + 600,
            "workflow": workflow, "jti": id,
        });
        test.set("DATABRICKS_OIDC_TOKEN", &around.workspace.signer.sign_claims(&claims));
        test.run("").token()
    };
    // Each other token is a cache miss, whichever claim differs.
    let first = with("deploy", "1");
    let second = with("deploy", "2");
    assert!(first != second && second != with("review", "3"));
}

#[test]
fn secrets_that_servers_repeat_are_redacted() {
    let around = Around::new();
    let echo = |words: &str| Answer::html(404, &format!("<pre>Cannot GET {words}</pre>"));
    let path = "/metadata-service/s3cr3t-path?key=hidden-value";
    let url = format!("LOCAL{path}");
    let test = around.test(&[("DATABRICKS_METADATA_SERVICE_URL", &url)]);
    around.workspace.fault("/metadata-service", 1, echo(path));
    let first = test.run("");
    // The cached failure is redacted, too.
    for outcome in [first, test.run("")] {
        outcome.fails(4, &["Cannot GET"]);
        assert!(!outcome.stderr.contains("s3cr3t"), "{outcome:?}");
    }
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-devops-oidc").unwrap();
    let test = around.configured(provider);
    for answer in [
        Answer::Json(503, json!({ "message": format!("who is {DEVOPS_BEARER}?") })),
        Answer::html(200, &format!("<title>{DEVOPS_BEARER}</title>")),
    ] {
        around.workspace.fault("/ada", 3, answer);
        let outcome = test.run("--no-cache");
        around.workspace.state().faults.clear();
        assert!(outcome.code != 0 && !outcome.stderr.contains(DEVOPS_BEARER), "{outcome:?}");
    }
}

#[test]
fn a_host_may_have_the_name_of_a_cached_text() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "github-oidc").unwrap();
    let mut test = around.configured(provider);
    test.unset("LAKEBASE_ENDPOINT").set("PGHOST", "metadata");
    let outcome = test.run("");
    assert!(outcome.code == 2 || outcome.code == 4, "{outcome:?}");
}

#[test]
fn a_refused_management_token_is_not_requested_each_time() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let mut test = around.configured(provider);
    let [account, workspace, _] = around.az_answers(3600).try_into().unwrap();
    az(&mut test, &[account, workspace, az_fails(MANAGEMENT, "")]);
    for _ in 0..3 {
        test.run("-f json --refresh").token();
    }
    assert_eq!(asked_of_az(&test).len(), 3, "{:?}", asked_of_az(&test));
}

#[test]
fn a_tenant_is_taken_from_entras_login_page_only() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let test = around.configured(provider);
    for location in [
        "/login.html?next_url=https://adb.example/aad/auth",
        "https://evil.example/t/",
        "https://login.microsoftonline.com/--debug/oauth2/authorize",
        "https://login.microsoftonline.com/a%20b/oauth2/authorize",
    ] {
        around.workspace.fault("/aad/auth", 1, Answer::redirect(302, location));
        test.run("--no-cache").fails(1, &["names no tenant", "ARM_TENANT_ID"]);
    }
    around.workspace.fault("/aad/auth", 3, Answer::Json(503, json!({ "message": "later" })));
    test.run("--no-cache").fails(5, &["503"]);
    around.workspace.fault("/aad/auth", 1, Answer::Json(200, json!({})));
    test.run("--no-cache").fails(1, &["sent an unexpected answer when asked to name its tenant"]);
}

#[test]
fn the_resource_managers_error_is_shown() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-msi").unwrap();
    let mut test = around.configured(provider);
    test.unset("DATABRICKS_HOST").set("DATABRICKS_AZURE_RESOURCE_ID", RESOURCE_ID);
    let body = json!({ "error": { "code": "AuthorizationFailed", "message": "no right to read" } });
    around.workspace.fault(RESOURCE_ID, 1, Answer::Json(403, body));
    test.run("--no-cache").fails(4, &["AuthorizationFailed: no right to read"]);
    // The error names the unreachable service, not the workspace.
    let (refusing, _held) = refusing_address();
    test.instance_metadata = format!("http://{refusing}");
    let outcome = test.run("--no-cache");
    outcome.fails(5, &[&format!("cannot reach {refusing}"), "azure_use_msi from ARM_USE_MSI"]);
    assert!(!outcome.stderr.contains("the workspace comes from"), "{outcome:?}");
    // Without a host and a resource id there is no workspace.
    test.unset("DATABRICKS_AZURE_RESOURCE_ID").set("DATABRICKS_CLOUD", "azure");
    test.run("").fails(2, &["no Databricks identity is configured"]);
}

#[test]
fn an_answer_of_az_may_have_text_a_byte_order_mark_and_colours_around_it() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    let mut test = around.configured(provider);
    let mut answers = around.az_answers(3600);
    for answer in &mut answers {
        let text = &mut answer["do"][0]["stdout"];
        let before = "\u{feff}\u{1b}[33mA new version is available.\u{1b}[0m\r\n";
        *text = format!("{before}{}\r\nThis is a notice.\n", text.as_str().unwrap()).into();
    }
    az(&mut test, &answers);
    test.run("--no-cache").token();
    // az is told to leave such text out.
    let log = test.tool_log("az");
    for variable in ["AZURE_CORE_NO_COLOR=true", "AZURE_CORE_ONLY_SHOW_ERRORS=true"] {
        assert_eq!(log.matches(variable).count(), log.matches("run: ").count(), "{log}");
    }
}

#[test]
fn without_a_tenant_az_runs_without_one_and_refusals_are_explained() {
    let around = Around::new();
    let provider = KNOWN.iter().find(|provider| provider.name == "azure-cli").unwrap();
    for status in [403, 404] {
        let mut test = around.configured(provider);
        az(&mut test, &around.az_answers(3600));
        around.workspace.fault("/aad/auth", 1, Answer::Json(status, json!({})));
        test.run("--no-cache").token();
        let asked = asked_of_az(&test);
        assert!(asked.iter().all(|line| !line.contains("--tenant")), "{asked:?}");
    }

    let test = around.configured(provider);
    let words = "Source IP address: 203.0.113.7 is blocked by Databricks IP ACL for workspace: 9";
    around.workspace.fault("/aad/auth", 1, Answer::Json(403, json!({ "message": words })));
    test.run("--no-cache").fails(4, &["203.0.113.7", "IP access list"]);
    let page =
        "https://adb-1.6.azuredatabricks.net/login.html?error=private-link-validation-error:1";
    around.workspace.fault("/aad/auth", 1, Answer::redirect(302, page));
    test.run("--no-cache").fails(4, &["private link", "private network"]);
}
