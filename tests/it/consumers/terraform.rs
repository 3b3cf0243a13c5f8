//! `integrations/terraform`: the real Terraform with its `pg` backend, and the program of the
//! `external` data source as the provider's documentation describes it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::Installation;
use crate::support::{assert_prints, has, words};

fn terraform(installation: &Installation, folder: &Path, args: &[&str]) -> Command {
    let mut command = installation.command("lakebase-token");
    command.args(["exec", "--", "terraform"]).args(args).current_dir(folder);
    command.env("CHECKPOINT_DISABLE", "1");
    command
}

#[test]
fn terraform_keeps_its_state_in_the_database() {
    let test = "consumers::terraform";
    let Some(installation) = Installation::with_postgres(test).filter(|_| has(test, "terraform"))
    else {
        return;
    };
    let folder = installation.sandbox.home().join("terraform");
    fs::create_dir(&folder).unwrap();
    let main = installation.integration_file("terraform/main.tf", &[]);
    fs::write(folder.join("main.tf"), main).unwrap();
    let run =
        |args: &[&str]| -> Output { terraform(&installation, &folder, args).output().unwrap() };

    for args in [
        &["init", "-input=false", "-no-color"][..],
        &["apply", "-auto-approve", "-input=false", "-no-color"],
    ] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", words(&output));
    }
    assert_prints(
        &terraform(&installation, &folder, &["output", "-raw", "kept_in"]).output().unwrap(),
        "Lakebase",
    );

    // After an expiry, too.
    installation.sandbox.workspace.state().credential_life = 2;
    installation.remove_cache();
    assert!(run(&["output"]).status.success());
    std::thread::sleep(Duration::from_millis(2100));
    assert!(run(&["output"]).status.success());

    let files_with_token = Command::new("grep").args(["-r", "eyJ"]).arg(&folder).output().unwrap();
    assert!(files_with_token.stdout.is_empty(), "{}", words(&files_with_token));

    installation.reject_client_secret();
    let output = run(&["output"]);
    assert_eq!(output.status.code(), Some(125), "{}", words(&output));
}

/// The test cannot download the provider. Its protocol: JSON on stdin, a flat object of strings on
/// stdout.
#[test]
fn terraforms_external_program_prints_a_flat_object_of_strings() {
    let Some(installation) = Installation::with_postgres("consumers::external") else { return };
    let example = installation.integration_file("terraform/external.tf.example", &[]);
    let line = example.lines().find_map(|line| line.trim().strip_prefix("program = ")).unwrap();
    let program: Vec<String> = serde_json::from_str(line).unwrap();

    let mut sh = installation.command("sh");
    sh.args(["-c", "echo '{}' | \"$@\"", "sh"]).args(&program);
    let output = sh.output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let object = object.as_object().unwrap();
    assert!(object.values().all(serde_json::Value::is_string), "{object:?}");

    for rest in example.split("lakebase.result.").skip(1) {
        let name = rest.split_whitespace().next().unwrap();
        assert!(object.contains_key(name), "{name}");
    }
}
