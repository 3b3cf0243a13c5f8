//! The parts of a release, built by `.ci/package`, installed and used: the archive, the Debian
//! package in an empty root, the wheel in a virtual environment. What is for Windows is only looked at;
//! `tests/windows/run` has the program itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::consumers::python_with;
use super::support::{building, has, is_root, not_run, repository, sandbox_with_psql, words};
use crate::sandbox::Sandbox;
use crate::sandbox::workspace::{CLIENT_ID, MINT};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder that `.ci/package` has filled, once for all tests here; nothing where its tools are
/// missing.
fn packages(test: &str) -> Option<&'static Path> {
    static PACKAGES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let target = repository().join("target");
    if std::env::var_os("CI").is_none() && !target.join("cargo-deb").exists() {
        not_run(test, "cargo-deb, which takes a minute to build, is only fetched with CI=true");
        return None;
    }
    let packages = PACKAGES.get_or_init(|| {
        let maturin = python_with(&["maturin==1.16.0"], "maturin", "maturin")?;
        let tools = target.join("cargo-deb");
        if !tools.join("bin/cargo-deb").exists() {
            let mut cargo = building("cargo");
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
        let mut package = building(repository().join(".ci/package").to_str().unwrap());
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
    let archive = the(packages, "x86_64-linux.tar.gz");
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
    let package = the(packages, "_amd64.deb");
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
        let complete = repository().join("tests/it/scripts/complete.zsh");
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
    let stdout = shell(script, &[&venv, &the(packages, "x86_64.whl")]);
    assert_eq!(stdout, format!("lakebase-token {VERSION}\n"));
    let mut python = Command::new(venv.join("bin/python"));
    // PATH is empty: the module finds the program of its own wheel.
    python.env_clear().envs(sandbox.env()).env("PATH", "/nowhere");
    let output = python.arg(repository().join("tests/it/scripts/wheel.py")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4 True\n", "{}", words(&output));
}

/// A user-mode emulator of arm64, so what depends on the kernel of a real machine is not shown.
#[test]
#[ignore = "needs the static file: tests/run"]
fn the_build_for_arm64_mints_caches_and_starts_programs() {
    let test = "packages::the_build_for_arm64";
    if !has(test, "qemu-aarch64") || !has(test, "dpkg-deb") {
        return;
    }
    let Some(packages) = packages(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "tar -C \"$1\" -xzf \"$2\" && ls -d \"$1\"/*/lakebase-token";
    let program = shell(script, &[folder.path(), &the(packages, "aarch64-linux.tar.gz")]);
    let program = program.trim();

    let Some(sandbox) = sandbox_with_psql(test) else { return };
    let command = |words: &[&str]| {
        let mut command = Command::new("qemu-aarch64");
        command.arg(program).args(words).env_clear().envs(sandbox.env());
        command.env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null());
        command
    };
    let succeeds = |words_of: &[&str]| {
        let output = command(words_of).output().unwrap();
        assert!(output.status.success(), "{words_of:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(succeeds(&["--version"]), format!("lakebase-token {VERSION}\n"));
    let select = ["exec", "--", "psql", "-wAtc", "select current_user"];
    assert_eq!(succeeds(&select).trim(), CLIENT_ID);
    assert!(succeeds(&["doctor"]).contains("login          ok"));
    let token = succeeds(&[]);
    assert_eq!(succeeds(&["get"]), token);
    // A closed stdout is an error.
    let closed = format!("exec qemu-aarch64 {program} get --refresh >&-");
    let mut sh = Command::new("sh");
    sh.args(["-c", &closed]).env_clear().envs(sandbox.env());
    let output = sh.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let full = Command::new("sh")
        .args(["-c", &format!("exec qemu-aarch64 {program} get >/dev/full")])
        .env_clear()
        .envs(sandbox.env())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1), "{}", words(&full));

    // Forty at once mint once.
    fs::remove_dir_all(sandbox.home().join(".cache")).unwrap();
    sandbox.workspace.take_requests();
    let herd: Vec<_> = (0..40)
        .map(|_| command(&["get", "--timeout", "60s"]).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let tokens: Vec<_> = herd.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(tokens.iter().all(|output| output.status.success()));
    assert!(tokens.iter().all(|output| output.stdout == tokens[0].stdout));
    assert_eq!(sandbox.workspace.count(MINT), 1);

    let fields = "dpkg-deb --field \"$1\" Architecture";
    assert_eq!(shell(fields, &[&the(packages, "_arm64.deb")]), "arm64\n");
    assert_eq!(shell(fields, &[&the(packages, "_amd64.deb")]), "amd64\n");
    let wheel = the(packages, "aarch64.whl");
    let name = wheel.file_name().unwrap().to_str().unwrap();
    assert!(
        name.contains("manylinux2014_aarch64") && name.contains("musllinux_1_1_aarch64"),
        "{name}"
    );
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_npm_package_runs_the_program_of_its_platform() {
    let test = "packages::the_npm_package";
    if !has(test, "npm") {
        return;
    }
    let Some(packages) = packages(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    // Without a registry: npm leaves out what it cannot get and does not need.
    let script = "cd \"$1\" && npm install --silent --offline --no-audit --no-fund --omit=optional \"$2\" \"$3\" && \
                  ./node_modules/.bin/lakebase-token --version";
    let main = the(packages, &format!("lakebase-token-{VERSION}.tgz"));
    let x64 = the(packages, &format!("lakebase-token-linux-x64-{VERSION}.tgz"));
    let stdout = shell(script, &[folder.path(), &main, &x64]);
    assert_eq!(stdout, format!("lakebase-token {VERSION}\n"));

    let run = |arguments: &[&str]| {
        let mut command = Command::new(folder.path().join("node_modules/.bin/lakebase-token"));
        command.args(arguments).env("HOME", folder.path()).output().unwrap()
    };
    assert_eq!(run(&["exec", "--formt"]).status.code(), Some(125));
    fs::remove_dir_all(folder.path().join("node_modules/lakebase-token-linux-x64")).unwrap();
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("there is no package lakebase-token-linux-x64"));
    let arm = the(packages, &format!("lakebase-token-linux-arm64-{VERSION}.tgz"));
    let manifest = shell("tar -xzOf \"$1\" package/package.json", &[&arm]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["cpu"], serde_json::json!(["arm64"]));
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_formula_has_the_checksums_of_the_archives() {
    let test = "packages::the_formula";
    if !has(test, "ruby") {
        return;
    }
    let Some(packages) = packages(test) else { return };
    let formula = the(packages, ".rb");
    assert_eq!(shell("ruby -c \"$1\"", &[&formula]), "Syntax OK\n");
    let formula = fs::read_to_string(formula).unwrap();
    for cpu in ["x86_64", "aarch64"] {
        let archive = the(packages, &format!("{cpu}-linux.tar.gz"));
        let sum = shell("sha256sum \"$1\"", &[&archive]);
        let sum = sum.split(' ').next().unwrap();
        let name = archive.file_name().unwrap().to_str().unwrap();
        let (_, after) = formula.split_once(name).unwrap();
        assert!(after.lines().nth(1).unwrap().contains(&format!("sha256 \"{sum}\"")), "{formula}");
    }
}

#[test]
#[ignore = "needs the static file: tests/run"]
fn the_parts_for_windows_have_the_program_and_its_checksum() {
    let test = "packages::the_parts_for_windows";
    if !has(test, "ruby") {
        return;
    }
    let Some(packages) = packages(test) else { return };
    let zip = the(packages, "x86_64-windows.zip");
    let list = "python3 -m zipfile -l \"$1\"";
    let folder = format!("lakebase-token-{VERSION}-x86_64-windows");
    for name in ["lakebase-token.exe", "lakebase-token.ps1", "LICENSE", "README.md"] {
        let listed = shell(list, &[&zip]);
        assert!(listed.contains(&format!("{folder}/{name}")), "{listed}");
    }
    let wheel = the(packages, "win_amd64.whl");
    assert!(shell(list, &[&wheel]).contains("scripts/lakebase-token.exe"));
    let npm = the(packages, &format!("lakebase-token-win32-x64-{VERSION}.tgz"));
    assert!(shell("tar -tzf \"$1\"", &[&npm]).contains("package/bin/lakebase-token.exe"));

    let sum = shell("sha256sum \"$1\"", &[&zip]);
    let sum = sum.split(' ').next().unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    // The keys that Scoop's schema asks for.
    let scoop = json(&fs::read_to_string(packages.join("lakebase-token.json")).unwrap());
    let archive = &scoop["architecture"]["64bit"];
    for key in ["version", "homepage", "license", "description", "bin"] {
        assert!(scoop[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
    assert_eq!((&archive["hash"], &archive["extract_dir"]), (&sum.into(), &folder.as_str().into()));
    let url = archive["url"].as_str().unwrap();
    assert!(url.ends_with(&format!("/v{VERSION}/{folder}.zip")), "{url}");

    // Those of winget's schemas, version 1.6.0.
    let yaml = |name: &str| {
        let path = packages.join(format!("OWNER.LakebaseToken{name}.yaml"));
        let script = "ruby -ryaml -rjson -e 'puts YAML.load_file(ARGV[0]).to_json' \"$1\"";
        json(&shell(script, &[&path]))
    };
    for (name, kind, keys) in [
        ("", "version", &["DefaultLocale"][..]),
        (".installer", "installer", &["InstallerType", "NestedInstallerType"]),
        (
            ".locale.en-US",
            "defaultLocale",
            &["PackageLocale", "Publisher", "PackageName", "License", "ShortDescription"],
        ),
    ] {
        let manifest = yaml(name);
        for key in [&["PackageIdentifier", "ManifestVersion"][..], keys].concat() {
            assert!(manifest[key].is_string(), "{name}: {key}: {manifest}");
        }
        assert_eq!(manifest["PackageVersion"], VERSION);
        assert_eq!(manifest["ManifestType"], kind);
    }
    let installer = yaml(".installer");
    let first = &installer["Installers"][0];
    assert_eq!(first["InstallerSha256"], sum.to_uppercase());
    assert_eq!(first["InstallerUrl"], url);
    let nested = installer["NestedInstallerFiles"][0]["RelativeFilePath"].as_str().unwrap();
    assert_eq!(nested, format!("{folder}\\lakebase-token.exe"));
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
