//! `integrations/kubernetes`: the kubeconfig with kubectl and two client libraries, and the manifests
//! by their schemas. The API server is the sandbox's workspace, which checks the token.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::{Installation, python_with, shared_folders, yaml};
use crate::support::{assert_prints, has, not_run, repository, words};

/// The version that the sandbox's API server answers.
const SERVER_VERSION: &str = "v1.33.1";

/// A sandbox without Postgres, and a kubeconfig for it.
fn cluster() -> (Installation, PathBuf) {
    let installation = Installation::without_postgres();
    let url = installation.sandbox.workspace.url.clone();
    let authority = installation.sandbox.certificates.authority.display().to_string();
    let text = installation.integration_file(
        "kubernetes/kubeconfig.yaml",
        &[("https://my-api.example.com", &url), ("/etc/ssl/certs/ca-certificates.crt", &authority)],
    );
    let config = installation.sandbox.home().join("kubeconfig");
    fs::write(&config, text).unwrap();
    (installation, config)
}

/// Reads the server's version with a client, and once more after the plugin has begun to fail.
fn check_client(installation: &Installation, read_version: &dyn Fn() -> Output) {
    let output = read_version();
    let said = words(&output);
    assert!(output.status.success() && said.contains(SERVER_VERSION), "{said}");

    let earlier_requests = installation.sandbox.workspace.state().requests.len();
    installation.reject_client_secret();
    let output = read_version();
    let said = words(&output);
    assert!(!output.status.success() && !said.contains(SERVER_VERSION), "{said}");

    // The client must not use its earlier token again.
    let state = installation.sandbox.workspace.state();
    let requests = state.requests.iter().skip(earlier_requests);
    let mut to_server = requests.filter(|request| request.path.starts_with("/version"));
    assert!(to_server.all(|request| request.header("authorization").is_none()), "{said}");
}

#[test]
fn kubectl_calls_the_plugin_in_either_version() {
    if !has("consumers::kubectl", "kubectl") {
        return;
    }
    for version in ["v1", "v1beta1"] {
        let (installation, config) = cluster();
        let text = fs::read_to_string(&config).unwrap();
        let api = format!("authentication.k8s.io/{version}\n");
        fs::write(&config, text.replace("authentication.k8s.io/v1\n", &api)).unwrap();

        check_client(&installation, &|| {
            let mut kubectl = installation.command("kubectl");
            kubectl.arg("--kubeconfig").arg(&config).args(["get", "--raw", "/version"]);
            let output = kubectl.output().unwrap();
            let said = words(&output);
            assert!(output.status.success() || said.contains("invalid_client"), "{said}");
            output
        });
    }
}

#[test]
fn the_python_client_calls_the_plugin() {
    let python = match python_with(&["kubernetes"], "kubernetes", "kubernetes-client") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::kubernetes_python", &why),
    };
    let script = "import sys\n\
                  from kubernetes import client, config\n\
                  config.load_kube_config(sys.argv[1])\n\
                  print(client.VersionApi().get_code().git_version)";

    let (installation, config) = cluster();
    check_client(&installation, &|| {
        let mut command = installation.command(python.to_str().unwrap());
        command.args(["-c", script]).arg(&config).output().unwrap()
    });
}

#[test]
fn the_node_client_calls_the_plugin() {
    let test = "consumers::kubernetes_node";
    if !has(test, "node") {
        return;
    }
    let folder = repository().join("target/kubernetes-node");
    let package = folder.join("node_modules/@kubernetes/client-node");
    if !package.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
        let _ = npm.arg("@kubernetes/client-node@1").output();
    }
    if !package.exists() {
        return not_run(test, "npm cannot install @kubernetes/client-node");
    }
    let script = format!(
        "import('{}/dist/index.js').then(async (k8s) => {{\n\
         const config = new k8s.KubeConfig();\n\
         config.loadFromFile(process.argv[1]);\n\
         const info = await config.makeApiClient(k8s.VersionApi).getCode();\n\
         console.log(info.gitVersion);\n\
         }}).catch((e) => {{ console.error(String(e.message)); process.exit(1); }});",
        package.display()
    );

    let (installation, config) = cluster();
    check_client(&installation, &|| {
        let mut node = installation.command("node");
        node.args(["-e", &script]).arg(&config).output().unwrap()
    });
}

#[test]
fn kubernetes_manifests_are_valid_by_their_schemas() {
    let packages = ["kubernetes-validate"];
    let python = match python_with(&packages, "kubernetes_validate", "kubernetes") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::kubernetes_manifests", &why),
    };
    let script = "import sys, yaml, kubernetes_validate as k\n\
                  for name in sys.argv[1:]:\n\
                  \x20 for document in yaml.safe_load_all(open(name)):\n\
                  \x20   k.validate(document, '1.33', strict=True)\n\
                  print('valid')";

    let folder = repository().join("integrations/kubernetes");
    let mut validate = Command::new(python);
    let manifests = ["sidecar.yaml", "azure-workload-identity.yaml", "cronjob.yaml"];
    validate.args(["-c", script]).args(manifests.map(|name| folder.join(name)));
    assert_prints(&validate.output().unwrap(), "valid");
}

/// The reader that `shared_folders.rs` uses, against PyYAML with all scalars as text.
#[test]
fn our_yaml_reader_agrees_with_pyyaml() {
    let python = match python_with(&["kubernetes-validate"], "yaml", "kubernetes") {
        Ok(python) => python,
        Err(why) => return not_run("consumers::our_yaml_reader", &why),
    };
    let script = "import json, sys, yaml\n\
                  print(json.dumps(list(yaml.load_all(open(sys.argv[1]), yaml.BaseLoader))))";

    for path in shared_folders::yaml_files() {
        let output = Command::new(&python).args(["-c", script]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));

        let expected: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let documents = yaml::documents(&fs::read_to_string(&path).unwrap());
        assert_eq!(serde_json::Value::Array(documents), expected, "{}", path.display());
    }
}
