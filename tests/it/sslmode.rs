//! What a Postgres server must prove before it gets a password: the table of design by values, and a
//! real server in the place of Lakebase's with a right certificate and wrong ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rcgen::{CertificateParams, KeyPair, SanType};

use super::consumers::{Installation, python_with};
use super::drivers::{build_java, build_pgx};
use super::password_file_readers::JDBC;
use super::support::{Test, executable, has, is_root, not_run, repository, words, workspace};
use crate::sandbox::Certificates;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT, ENDPOINT_HOST};
use lakebase_token::net::trust::system_bundle;

/// The file of the machine's own certificates.
fn bundle() -> &'static str {
    system_bundle().unwrap().to_str().unwrap()
}

/// The value of a variable in what `--format env` prints; "" if it is unset.
fn exported(text: &str, name: &str) -> String {
    let set = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
    let is_unset = text.contains(&format!("unset {name};\n"));
    assert!(set.is_some() != is_unset, "{name} in {text}");
    set.map_or(String::new(), |rest| rest.trim_end_matches("';").to_owned())
}

#[test]
fn mode_and_root_file_by_host_and_settings() {
    const TUNNEL: &str = "127.0.0.1";
    const OWN: &str = "/etc/my/ca.pem";
    let workspace = workspace();

    // Host, PGSSLMODE, PGSSLROOTCERT; the mode and root file here; the mode elsewhere.
    for (host, mode, root, here, root_here, elsewhere) in [
        (ENDPOINT_HOST, "", "", "verify-full", bundle(), "require"),
        (ENDPOINT_HOST, "", OWN, "verify-full", OWN, "require"),
        (ENDPOINT_HOST, "disable", "", "verify-full", bundle(), "require"),
        (ENDPOINT_HOST, "allow", "", "verify-full", bundle(), "require"),
        (ENDPOINT_HOST, "prefer", OWN, "verify-full", OWN, "require"),
        (ENDPOINT_HOST, "require", "", "require", "", "require"),
        (ENDPOINT_HOST, "require", bundle(), "require", "", "require"),
        (ENDPOINT_HOST, "require", OWN, "require", OWN, "require"),
        (ENDPOINT_HOST, "verify-ca", "", "verify-ca", bundle(), "verify-ca"),
        (ENDPOINT_HOST, "verify-full", OWN, "verify-full", OWN, "verify-full"),
        (ENDPOINT_HOST, "require", "system", "verify-full", "system", "verify-full"),
        (ENDPOINT_HOST, "", "system", "verify-full", "system", "verify-full"),
        (TUNNEL, "", "", "require", "", "require"),
        (TUNNEL, "prefer", bundle(), "require", "", "require"),
        (TUNNEL, "", OWN, "require", OWN, "require"),
        (TUNNEL, "verify-full", "", "verify-full", bundle(), "verify-full"),
    ] {
        let mut test = Test::at(&workspace);
        test.set("PGHOST", host).set("PGSSLMODE", mode).set("PGSSLROOTCERT", root);
        let case = format!("{host} {mode} {root}");

        let text = test.run("-f env").token();
        assert_eq!(exported(&format!("{text}\n"), "PGSSLMODE"), here, "{case}");
        assert_eq!(exported(&format!("{text}\n"), "PGSSLROOTCERT"), root_here, "{case}");
        assert!(test.run("-f url").token().ends_with(&format!("?sslmode={elsewhere}")), "{case}");
        assert!(test.run("-f dotenv").token().ends_with(&format!("PGSSLMODE={elsewhere}")));
        assert!(test.run("-f libpq-json").token().contains(&format!("\"{elsewhere}\"")), "{case}");
    }
}

#[test]
fn flag_and_profile_set_the_mode_and_a_root_file_of_libpq_counts() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let mode = |test: &Test, line: &str| {
        let text = test.run(line).token() + "\n";
        (exported(&text, "PGSSLMODE"), exported(&text, "PGSSLROOTCERT"))
    };
    let expected = |mode: &str, root: &str| (mode.to_owned(), root.to_owned());
    assert_eq!(mode(&test, "-f env --sslmode require"), expected("require", ""));

    let profile = format!("[p]\nhost = {}\npg_sslmode = verify-ca\n", workspace.url);
    test.write(".databrickscfg", &profile);
    assert_eq!(mode(&test, "-f env -p p"), expected("verify-ca", bundle()));
    test.set("PGSSLMODE", "require");
    assert_eq!(mode(&test, "-f env -p p"), expected("require", ""));
    assert_eq!(mode(&test, "-f env --sslmode verify-full"), expected("verify-full", bundle()));

    // libpq reads this file if nothing names another one.
    test.write(".postgresql/root.crt", "");
    assert_eq!(mode(&test, "-f env --sslmode verify-full"), expected("verify-full", ""));
    test.unset("PGSSLMODE");
    assert_eq!(mode(&test, "-f env"), expected("verify-full", bundle()));

    test.run("--sslmode required").fails(2, &["--sslmode is not an sslmode: required"]);
    test.set("PGSSLROOTCERT", "/a\n/b");
    test.run("-f env").fails(2, &["PGSSLROOTCERT has a control character"]);
}

#[test]
fn what_require_does_not_prove_is_said_by_status_and_verbose() {
    const CAVEAT: &str = "require, which encrypts but does not prove who the server is";
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.run("-f env -v")
        .notes(&format!("sslmode verify-full, with the certificates of {}", bundle()));
    assert!(
        test.run("status -v").stdout.contains("sslmode     verify-full, with the certificates")
    );
    test.set("PGSSLMODE", "require");
    test.run("-f env -v").notes(CAVEAT);
    assert!(test.run("status -v").stdout.contains(CAVEAT));
}

/// A server's certificate, and the authority that a client trusts for it.
struct Proof {
    name: &'static str,
    certificate: PathBuf,
    key: PathBuf,
    /// Added to the machine's certificates; nothing for a certificate that no authority signed.
    authority: Option<PathBuf>,
    is_right: bool,
}

/// The right certificate for `ENDPOINT_HOST`, and three wrong ones.
fn proofs(folder: &Path) -> Vec<Proof> {
    let named = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let signed = |name: &'static str, is_right, change: &dyn Fn(&mut CertificateParams)| {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        let made = Certificates::with(&folder, change).unwrap();
        let (certificate, key) = (made.certificate, made.key);
        Proof { name, certificate, key, authority: Some(made.authority), is_right }
    };
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![ENDPOINT_HOST.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (path, key_path) = (folder.join("self.pem"), folder.join("self.key"));
        fs::write(&path, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        let name = "self-signed";
        Proof { name, certificate: path, key: key_path, authority: None, is_right: false }
    };
    vec![
        signed("right", true, &|params| params.subject_alt_names = named(ENDPOINT_HOST)),
        signed("wrong-name", false, &|params| {
            params.subject_alt_names = named("ep-other-1.database.us-east-1.cloud.databricks.com");
        }),
        signed("expired", false, &|params| {
            params.subject_alt_names = named(ENDPOINT_HOST);
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }),
        self_signed,
    ]
}

/// A machine on which `ENDPOINT_HOST` is the sandbox's Postgres, and the system trusts the sandbox.
struct Impostor<'a> {
    installation: &'a Installation,
    hosts: PathBuf,
    bundle: PathBuf,
}

impl Impostor<'_> {
    /// A program under `exec`, in a mount namespace of its own.
    fn exec(&self, flags: &[&str], program: &[&str]) -> Output {
        let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" \"$3\" \
                      && shift 3 && exec \"$@\"";
        let mut command = self.installation.command("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.hosts).arg(&self.bundle);
        command.arg(bundle()).arg(executable()).arg("exec").args(flags).arg("--").args(program);
        for name in ["SSL_CERT_FILE", "PGSSLMODE", "PGHOST"] {
            command.env_remove(name);
        }
        command.env("LAKEBASE_ENDPOINT", ENDPOINT).output().unwrap()
    }

    /// Trusts the sandbox's workspace and this authority.
    fn trust(&self, authority: Option<&Path>) {
        let mut text = fs::read(&self.installation.sandbox.certificates.authority).unwrap();
        if let Some(authority) = authority {
            text.extend(fs::read(authority).unwrap());
        }
        fs::write(&self.bundle, text).unwrap();
    }
}

/// Checks that a client logs in at the right server only, and at a wrong one only if the mode says
/// that it need not prove anything.
fn check(test: &str, program: &[&str], reads_mode: bool) {
    let Some(installation) = Installation::with_postgres(test) else { return };
    let folder = installation.sandbox.folder.path();
    installation.sandbox.workspace.state().projects[0].branches[0].endpoints[0].hosts =
        serde_json::json!({ "host": ENDPOINT_HOST });
    let hosts = folder.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {ENDPOINT_HOST}\n")).unwrap();
    let impostor =
        Impostor { installation: &installation, hosts, bundle: folder.join("bundle.pem") };
    let postgres = installation.sandbox.postgres.as_ref().unwrap();

    for proof in proofs(folder) {
        postgres.use_certificate(&proof.certificate, &proof.key).unwrap();
        impostor.trust(proof.authority.as_deref());
        let logins = || postgres.log().matches("connection authorized").count();

        let before = logins();
        let output = impostor.exec(&[], program);
        let said = words(&output);
        assert_eq!(output.status.success(), proof.is_right, "{}: {said}", proof.name);
        assert_eq!(logins() > before, proof.is_right, "{}: {said}", proof.name);
        if proof.is_right {
            assert!(said.contains(CLIENT_ID), "{said}");
        }
        if reads_mode {
            // The server that was refused would have got the password.
            let output = impostor.exec(&["--sslmode", "require"], program);
            assert!(output.status.success(), "{}: {}", proof.name, words(&output));
        }
    }
}

fn can_mount(test: &str) -> bool {
    if !is_root() {
        not_run(test, "only root can give a process another hosts file");
    }
    is_root() && has(test, "unshare")
}

#[test]
fn psql_gives_no_password_to_a_server_that_proves_nothing() {
    let test = "sslmode::psql";
    if can_mount(test) {
        check(test, &["psql", "-wAtc", "select current_user"], true);
    }
}

#[test]
fn a_newer_libpq_and_asyncpg_give_no_password_to_a_server_that_proves_nothing() {
    let test = "sslmode::python";
    let packages = ["psycopg[binary]", "psycopg_pool", "sqlalchemy", "asyncpg"];
    let python = match python_with(&packages, "asyncpg, psycopg_pool, sqlalchemy", "python-drivers")
    {
        Ok(python) => python.display().to_string(),
        Err(why) => return not_run(test, &why),
    };
    if !can_mount(test) {
        return;
    }

    let psycopg = "import psycopg; assert psycopg.pq.version() >= 160000, psycopg.pq.version(); \
                   print(psycopg.connect().execute('select current_user').fetchone()[0])";
    check(test, &[&python, "-c", psycopg], true);
    let asyncpg = "import asyncio, asyncpg\n\
                   async def main():\n  \
                     c = await asyncpg.connect(timeout=20)\n  \
                     print(await c.fetchval('select current_user'))\n\
                   asyncio.run(main())";
    check(test, &[&python, "-c", asyncpg], true);
}

#[test]
fn pgx_gives_no_password_to_a_server_that_proves_nothing() {
    let test = "sslmode::pgx";
    if let Some(program) = build_pgx(test).filter(|_| can_mount(test)) {
        check(test, &[program.to_str().unwrap()], true);
    }
}

/// With the URL of `integrations/java`, and a trust store in place of Java's own.
#[test]
fn pgjdbc_gives_no_password_to_a_server_that_proves_nothing() {
    let test = "sslmode::pgjdbc";
    let Some(class_path) = build_java(test, "Pgjdbc", &[JDBC]).filter(|_| can_mount(test)) else {
        return;
    };
    let readme = fs::read_to_string(repository().join("integrations/java/README.md")).unwrap();
    let url = readme.lines().find(|line| line.starts_with("jdbc:postgresql://")).unwrap();
    let url = url.replace("HOST", "$PGHOST:$PGPORT").replace("ROLE", "$PGUSER");

    // keytool reads one certificate of a file, so each gets an alias.
    let script = format!(
        "set -eu; cd \"$(mktemp -d)\"; csplit -sz -f ca {bundle} '/BEGIN/' '{{*}}'; \
         for ca in ca*; do keytool -importcert -noprompt -alias $ca -file $ca -keystore store \
         -storepass changeit >/dev/null 2>&1; done; \
         exec java -Djavax.net.ssl.trustStore=store -Djavax.net.ssl.trustStorePassword=changeit -cp '{class_path}' Pgjdbc \"{url}\"",
        bundle = bundle(),
    );
    check(test, &["sh", "-c", &script], false);
}
