//! The parts of a release, built by `.ci/package`, installed and used: the archive, the Debian
//! package in an empty root, the wheel in a virtual environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::consumers::{python_with, words};
use super::support::{has, is_root, not_run, repository, say_not_run};
use crate::sandbox::Sandbox;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder that `.ci/package` has filled, once for all tests here; nothing where its tools are
/// missing.
fn packages(test: &str) -> Option<&'static Path> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let target = repository().join("target");
    if std::env::var_os("CI").is_none() && !target.join("cargo-deb").exists() {
        say_not_run(test, "cargo-deb, which takes a minute to build, is only fetched with CI=true");
        return None;
    }
    let packages = PACKAGES.get_or_init(|| {
        let maturin = python_with(&["maturin==1.16.0"], "maturin", "maturin")?;
        let tools = target.join("cargo-deb");
        if !tools.join("bin/cargo-deb").exists() {
            let mut cargo = Command::new("cargo");
            cargo.args(["install", "--quiet", "--locked", "cargo-deb@3.8.0", "--root"]);
            // In another folder, so that the flags for our target do not apply to this tool.
            let output = cargo.arg(&tools).current_dir("/").output().unwrap();
            if !output.status.success() {
                return Err(format!("no cargo-deb: {}", words(&output)));
            }
        }
        let out = target.join("packages");
        let _ = fs::remove_dir_all(&out);
        let path = format!(
            "{}:{}:{}",
            tools.join("bin").display(),
            maturin.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let mut package = Command::new(repository().join(".ci/package"));
        let output = package.arg(&out).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        Ok(out)
    });
    match packages {
        Ok(out) => Some(out),
        Err(why) => {
            not_run(test, why);
            None
        }
    }
}

/// The only file in a folder with this ending.
fn the(folder: &Path, end: &str) -> PathBuf {
    let paths = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    assert_eq!(paths.len(), 1, "{end}: {paths:?}");
    paths.remove(0)
}

fn shell(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("sh").args(["-ec", script, "sh"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", words(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_archive_has_a_program_that_runs_and_the_checksums_match() {
    let Some(packages) = packages("packages::the_archive") else { return };
    shell("cd \"$1\" && sha256sum --quiet --strict -c SHA256SUMS", &[packages]);
    let folder = tempfile::tempdir().unwrap();
    let archive = the(packages, ".tar.gz");
    let script = "tar -C \"$1\" -xzf \"$2\" && \"$1\"/*/lakebase-token --version";
    let stdout = shell(script, &[folder.path(), &archive]);
    assert_eq!(stdout, format!("lakebase-token {VERSION}\n"));
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_debian_package_is_installed_used_and_purged_in_an_empty_root() {
    let test = "packages::the_debian_package";
    if !has(test, "dpkg") {
        return;
    }
    let Some(packages) = packages(test) else { return };
    if !is_root() {
        return not_run(test, "only root can change its root");
    }
    let sandbox = Sandbox::start().unwrap();
    let root = sandbox.folder.path().join("root");
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/ssl/certs"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let authority = root.join("etc/ssl/certs/ca-certificates.crt");
    fs::copy(&sandbox.certificates.authority, authority).unwrap();
    let package = the(packages, ".deb");
    shell("dpkg --root=\"$1\" --install \"$2\" >/dev/null", &[&root, &package]);
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(&root).arg("/usr/bin/lakebase-token").env_clear().envs(sandbox.env());
    command.env("HOME", "/").env_remove("SSL_CERT_FILE");
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"eyJ"), "{}", words(&output));
    // The manual page and the completions are where man and the shells read them.
    let page = shell("gzip -dc \"$1\"/usr/share/man/man1/lakebase-token.1.gz", &[&root]);
    assert!(page.contains(".TH LAKEBASE"), "{page}");
    shell("bash -n \"$1\"/usr/share/bash-completion/completions/lakebase-token", &[&root]);
    if has(test, "zsh") {
        let folder = root.join("usr/share/zsh/vendor-completions");
        let mut zsh = Command::new("zsh");
        let complete = repository().join("tests/it/clients/complete.zsh");
        zsh.arg(complete).arg(folder).arg("lakebase-token wr").env("TERM", "dumb");
        let output = zsh.env("HOME", sandbox.home()).output().unwrap();
        assert!(words(&output).contains("write"), "{}", words(&output));
    }
    if has(test, "fish") {
        let mut fish = Command::new("fish");
        let script = "source \"$argv[1]\"/usr/share/fish/vendor_completions.d/lakebase-token.fish\n\
                      complete -C 'lakebase-token wr'";
        let output = fish.args(["-c", script]).arg(&root).env("HOME", sandbox.home()).output();
        let stdout = words(&output.unwrap());
        assert!(stdout.contains("write\t"), "{stdout}");
    }
    shell("dpkg --root=\"$1\" --purge lakebase-token >/dev/null", &[&root]);
    assert!(!root.join("usr").exists());
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_wheel_has_the_program_and_the_module() {
    let Some(packages) = packages("packages::the_wheel") else { return };
    let sandbox = Sandbox::start().unwrap();
    let venv = sandbox.home().join("venv");
    let script = "python3 -m venv \"$1\" && \"$1/bin/pip\" install --quiet --no-index \"$2\" && \
                  \"$1/bin/lakebase-token\" --version";
    let stdout = shell(script, &[&venv, &the(packages, ".whl")]);
    assert_eq!(stdout, format!("lakebase-token {VERSION}\n"));
    let mut python = Command::new(venv.join("bin/python"));
    // PATH is empty: the module finds the program of its own wheel.
    python.env_clear().envs(sandbox.env()).env("PATH", "/nowhere");
    let output = python.arg(repository().join("tests/it/clients/wheel.py")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4 True\n", "{}", words(&output));
}

#[test]
fn the_workflows_are_sound_pinned_and_run_what_is_tested_here() {
    let test = "packages::the_workflows";
    let path = |name: &str| repository().join(".github/workflows").join(name);
    let [release, tests] = ["release.yml", "test.yml"].map(path);
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    for words in [".ci/package out", "maturin==1.16.0", "cargo-deb@3.8.0", "workflows/test.yml"] {
        assert!(text(&release).contains(words), "{words}");
    }
    assert!(text(&tests).contains("tests/run"));
    for line in [text(&release), text(&tests)].concat().lines() {
        let Some((_, action)) = line.split_once("uses: ") else { continue };
        let commit = action.split_once('@').map(|(_, commit)| commit.split(' ').next().unwrap());
        let is_pinned = commit.is_some_and(|commit| commit.len() == 40);
        assert!(is_pinned || action.starts_with("./"), "{action}");
    }

    if !has(test, "go") {
        return;
    }
    let bin = repository().join("target/actionlint");
    let mut install = Command::new("go");
    install.args(["install", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"]);
    let output = install.env("GOBIN", &bin).output().unwrap();
    if !output.status.success() {
        return not_run(test, &format!("no actionlint: {}", words(&output)));
    }
    let output = Command::new(bin.join("actionlint")).args([release, tests]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}
