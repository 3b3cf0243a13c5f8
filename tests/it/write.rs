//! `write`: .pgpass and files, byte for byte; many writers and kills; what psql reads; a year of
//! checks.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;
#[cfg(unix)]
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use lakebase_token::credential::jwt::expiry_within;
use lakebase_token::formats::PgpassKey;
use lakebase_token::targets::pgpass;
use serde_json::json;

use super::support::{
    Dice, HOME, MINUTE, SECOND, Test, assert_private, set_mode, started, workspace,
};
#[cfg(unix)]
use super::support::{executable, has, is_root, not_run, part_not_run, wait_for};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, ENDPOINT_HOST, MINT, Workspace};

/// A service principal, and a password file that was written by hand: some CRLF, Latin-1, blanks,
/// comments, no newline at the end.
fn with_file(workspace: &Workspace) -> Test {
    let test = Test::at(workspace);
    fs::create_dir_all(test.password_file().parent().unwrap()).unwrap();
    fs::write(test.password_file(), FOREIGN).unwrap();
    set_mode(&test.password_file(), 0o600);
    test
}

const FOREIGN: &[u8] = b"# mine\r\n\n  \nh:1:d:u:p\xe9\r\n#h:*:*:*:no\nx:5432:*:bob:hun\\:ter2";

fn file(test: &Test) -> Vec<u8> {
    fs::read(test.password_file()).unwrap()
}

/// The password of the line for this database.
fn password(file: &[u8], database: &str) -> String {
    let key = PgpassKey { host: ENDPOINT_HOST, port: 5432, database, user: CLIENT_ID };
    let password = pgpass::password(file, &key).expect("no line of ours");
    String::from_utf8(password.to_vec()).unwrap()
}

fn ours(test: &Test) -> String {
    password(&file(test), "databricks_postgres")
}

#[test]
fn a_password_that_takes_precedence_over_the_file_is_warned_of() {
    let workspace = workspace();
    let mut test = with_file(&workspace);
    let warning = "PGPASSWORD is set, and takes precedence over ";
    let says = |test: &Test, line: &str| test.run(line).stderr.contains(warning);
    assert!(!says(&test, "write pgpass"));
    test.set("PGPASSWORD", "stale");
    assert!(says(&test, "write pgpass"));
    let home = test.home.path().display().to_string();
    assert!(says(&test, &format!("write file {home}/other --format pgpass")));
    let raw = says(&test, &format!("write file {home}/token --format raw"));
    assert!(!raw, "libpq does not read that file");
    assert!(!says(&test, "-q write pgpass"));
}

#[test]
fn an_entry_is_removed_without_an_identity_where_the_settings_name_it() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let file = test.home.path().join("app.env");
    let line = format!("file {} --format dotenv", file.display());
    for target in ["pgpass", "databrickscfg --to agents", &line] {
        assert_eq!(test.run(&format!("write {target}")).code, 0);
    }
    for name in ["DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"] {
        test.unset(name);
    }
    workspace.take_requests();
    // Whose line of the password file is meant, is not known.
    test.run("write --remove pgpass").fails(2, &["no Databricks identity is configured"]);
    test.set("PGUSER", CLIENT_ID).set("PGHOST", ENDPOINT_HOST);
    for target in ["pgpass", "databrickscfg --to agents", &line] {
        let outcome = test.run(&format!("write --remove {target}"));
        assert!(outcome.code == 0 && outcome.stdout.starts_with("removed from "), "{outcome:?}");
    }
    assert!(workspace.take_requests().is_empty() && !file.exists());
    assert_eq!(fs::read_to_string(test.password_file()).unwrap_or_default(), "");
    // The entry that was looked for is named.
    let words = format!("for {CLIENT_ID}@{ENDPOINT_HOST}:5432/databricks_postgres");
    let outcome = test.run("write --remove pgpass");
    assert!(outcome.stdout.contains(&words), "{outcome:?}");
}

#[test]
fn a_line_is_added_changed_and_removed_and_no_other_byte_changes() {
    let workspace = workspace();
    let test = with_file(&workspace);
    let wrote = test.run("write pgpass");
    assert_eq!((wrote.code, wrote.stderr.as_str()), (0, ""));
    let line = format!(" for {CLIENT_ID}@{ENDPOINT_HOST}:5432/databricks_postgres: subject ");
    assert!(wrote.stdout.starts_with("wrote ") && wrote.stdout.contains(&line), "{wrote:?}");
    let line = format!("{ENDPOINT_HOST}:5432:databricks_postgres:{CLIENT_ID}:{}", ours(&test));
    assert_eq!(file(&test), [FOREIGN, b"\r\n", line.as_bytes(), b"\r\n"].concat());

    let written = || test.password_file().metadata().unwrap().modified().unwrap();
    let before = written();
    assert!(test.run("write pgpass").stdout.starts_with("unchanged "));
    assert_eq!(written(), before, "nothing is written when nothing changed");

    let first = ours(&test);
    test.pass(50 * MINUTE);
    assert!(test.run("write pgpass").stdout.starts_with("wrote "));
    assert_ne!(ours(&test), first);

    assert!(test.run("write --remove pgpass").stdout.starts_with("removed from "));
    assert_eq!(file(&test), [FOREIGN, b"\r\n"].concat());
    assert!(test.run("write --remove pgpass").stdout.starts_with("unchanged: no entry of ours"));
    // A native password of the same role is the user's own.
    let native = format!("{ENDPOINT_HOST}:5432:databricks_postgres:{CLIENT_ID}:my-password\n");
    fs::write(test.password_file(), &native).unwrap();
    assert!(test.run("write --remove pgpass").stdout.starts_with("unchanged: no entry of ours"));
    assert_eq!(file(&test), native.as_bytes());
}

#[test]
fn one_line_can_serve_every_database() {
    let workspace = workspace();
    let test = with_file(&workspace);
    test.run("write pgpass --pg-database *");
    assert!(!password(&file(&test), "*").is_empty());
    // libpq would use it for every database, so the line of one database is put before it.
    test.run("write pgpass");
    let text = String::from_utf8_lossy(&file(&test)).into_owned();
    let at = |database: &str| text.find(&format!(":5432:{database}:{CLIENT_ID}:")).unwrap();
    assert!(at("databricks_postgres") < at("*"));
}

#[test]
fn the_path_is_the_flags_or_libpqs() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.run("write pgpass");
    assert!(test.password_file().exists());
    let by_variable = test.home.path().join("variable").to_str().unwrap().to_owned();
    let by_flag = test.home.path().join("flag");
    test.set("PGPASSFILE", &by_variable).run("write pgpass");
    test.run(&format!("write pgpass --pgpass-file {}", by_flag.display()));
    assert!(Path::new(&by_variable).exists() && by_flag.exists());
    test.unset("PGPASSFILE").unset("APPDATA").unset(HOME);
    test.run("write pgpass").fails(2, &[HOME, "--pgpass-file"]);
}

#[cfg(unix)]
#[test]
fn a_message_names_the_file_behind_a_symbolic_link() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let file = test.write("of-dotfiles", "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&file, test.home.path().join(".pgpass")).unwrap();
    let outcome = test.run("write pgpass");
    assert!(outcome.code == 0 && outcome.stdout.contains("of-dotfiles"), "{outcome:?}");
}

#[test]
fn a_file_has_any_format_and_is_private() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    for format in lakebase_token::formats::FORMATS {
        let path = test.home.path().join(format.name);
        let line = format!("write file {} --format {}", path.display(), format.name);
        assert_eq!(test.run(&line).code, 0);
        let printed = test.run(&format!("-f {}", format.name)).stdout;
        assert_eq!(fs::read_to_string(&path).unwrap(), printed, "{}", format.name);
        assert_private(&path);
    }
    let path = test.home.path().join("json");
    test.run(&format!("write --remove file {}", path.display()));
    assert!(!path.exists());
    // A file that holds no token is not ours, which takes no request to see.
    let precious = test.write("precious", "mine\n");
    workspace.take_requests();
    let removed = test.run(&format!("write --remove file {}", precious.display()));
    assert!(removed.stdout.starts_with("unchanged: no entry of ours") && precious.exists());
    assert!(workspace.take_requests().is_empty());
    let workspace = format!("write file {} --for workspace -f dotenv", path.display());
    test.run(&workspace).fails(2, &["dotenv"]);
    test.run("write pgpass --format raw").fails(2, &["always in format pgpass", "write file PATH"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_not_ours_is_refused_before_a_mint() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let path = test.home.path().join("x");
    let line = format!("write file {}", path.display());
    fs::create_dir(&path).unwrap();
    test.run(&line).fails(1, &["it is a folder"]);
    fs::remove_dir(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    test.run(&line).fails(1, &["it is a FIFO"]);
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    test.run(&line).fails(1, &["it is a device"]);
    fs::remove_file(&path).unwrap();
    test.run("write file /nowhere/x").fails(1, &["/nowhere/x", "hint: mkdir -p /nowhere"]);
    if is_root() {
        let theirs = test.home.path().join("theirs");
        fs::write(&theirs, "x").unwrap();
        std::os::unix::fs::chown(&theirs, Some(4242), Some(4242)).unwrap();
        symlink(&theirs, &path).unwrap();
        test.run(&line).fails(1, &["it belongs to another user"]);
        fs::remove_file(&path).unwrap();
        symlink(test.write("ours", "x"), &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(4242), Some(4242)).unwrap();
        test.run(&line).fails(1, &["the path has another user's symbolic link"]);
        // Nor does the link decide where a new file is created.
        fs::remove_file(test.home.path().join("ours")).unwrap();
        test.run(&line).fails(1, &["the path has another user's symbolic link"]);
        // Root keeps another user's file up to date, but not where that user may have planted it.
        let shared = test.home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("theirs"), "").unwrap();
        std::os::unix::fs::chown(shared.join("theirs"), Some(4242), Some(4242)).unwrap();
        let into = format!("write file {}/theirs", shared.display());
        for mode in [0o1777, 0o775] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
            test.run(&into).fails(1, &["it belongs to another user"]);
        }
        // The owner of a home could not read what root makes there.
        let home = test.home.path().join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(4242), Some(4242)).unwrap();
        let mut in_home = Test::at(&workspace);
        in_home.set("HOME", home.to_str().unwrap());
        in_home.run("write pgpass").fails(2, &["would be root's", "hint: sudo -u NAME"]);
        assert!(workspace.take_requests().is_empty());
        assert_eq!(in_home.run("write pgpass --remove").code, 0);
        let named = format!("write pgpass --pgpass-file {}/named", home.display());
        assert_eq!(in_home.run(&named).code, 0, "a path that was named is meant");
        fs::remove_file(home.join("named")).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(test.run(&into).code, 0);
        workspace.take_requests();
    } else {
        let test = "write::a_file_that_is_not_ours";
        part_not_run(test, "only root can make what belongs to another user");
    }
    // A file with entries of other programs is not replaced by a credential.
    for (name, target) in [(".pgpass", "pgpass"), (".databrickscfg", "databrickscfg")] {
        let shared = test.write(name, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln\n");
        symlink(&shared, test.home.path().join(target)).unwrap();
        for path in [&shared, &test.home.path().join(target)] {
            let hint = format!("hint: lakebase-token write {target}");
            test.run(&format!("write file {}", path.display()))
                .fails(2, &["also has entries of other programs", &hint]);
        }
    }
    assert!(workspace.take_requests().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_that_is_a_mount_point_cannot_be_replaced() {
    if !is_root() {
        return not_run("write::a_file_that_is_a_mount_point", "only root can mount");
    }
    let workspace = workspace();
    let test = with_file(&workspace);
    let script = "mount --bind \"$HOME/.pgpass\" \"$HOME/.pgpass\" && exec \"$0\" write pgpass";
    let tool = test.command().get_program().to_owned();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(tool).env_clear().envs(test.env.clone());
    let output = command.env("PATH", "/usr/bin:/bin").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("mount point") && stderr.contains("hint: mount the folder "),
        "{stderr}"
    );
    assert_eq!(file(&test), FOREIGN);
}

/// As on WSL's drvfs and on FAT: every file has mode 0777, also if it is created with another.
#[cfg(unix)]
#[test]
fn a_file_system_without_modes_gets_no_password() {
    let name = "write::a_file_system_without_modes";
    if !has(name, "bindfs") || !has(name, "unshare") {
        return;
    }
    if !is_root() {
        return not_run(name, "only root can mount");
    }
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let folder = test.home.path().join("drive");
    fs::create_dir(&folder).unwrap();
    let drive = folder.display().to_string();
    test.set("LAKEBASE_TOKEN_CACHE", &format!("{drive}/cache")).set("DRIVE", &drive);
    test.set("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");

    for (line, code, words) in [
        (format!("write pgpass --pgpass-file {drive}/pgpass"), 1, "lets others read every file"),
        (format!("write file {drive}/env --format env"), 1, "lets others read every file"),
        ("get -v".to_owned(), 0, "not cached in "),
    ] {
        let script = format!(
            "bindfs --perms=0777 --chmod-ignore \"$DRIVE\" \"$DRIVE\" && \"$0\" {line}; \
             code=$?; umount \"$DRIVE\"; exit $code"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).arg(executable());
        let output = command.env_clear().envs(test.env.clone()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "cache"), "{left:?}");
}

#[cfg(unix)]
#[test]
fn a_new_file_is_private_and_synced_before_it_is_renamed() {
    if !has("write::a_new_file", "strace") {
        return;
    }
    let workspace = workspace();
    let test = with_file(&workspace);
    let trace = test.home.path().join("trace");
    let script = "umask 000; exec strace -f -o \"$TRACE\" -e trace=openat,fsync,fchmod,rename,renameat,renameat2 \"$0\" write pgpass";
    let tool = test.command().get_program().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(tool).env_clear().envs(test.env.clone());
    let path = std::env::var_os("PATH").unwrap();
    let status = command.env("TRACE", &trace).env("PATH", path).output().unwrap().status;
    assert!(status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> =
        trace.lines().filter_map(|line| line.split_once(' ')).map(|(_, c)| c.trim()).collect();
    let made = calls
        .iter()
        .position(|call| call.contains("\".lakebase-token.") && call.contains("O_CREAT"))
        .unwrap();
    for flag in ["O_CREAT", "O_EXCL", "O_NOFOLLOW", ", 0600)"] {
        assert!(calls[made].contains(flag), "{}", calls[made]);
    }
    let names: Vec<&str> = calls[made..]
        .iter()
        .filter(|call| !call.contains("ENOENT"))
        .filter_map(|call| Some(call.split_once('(')?.0))
        .collect();
    assert_eq!(names, ["openat", "fchmod", "fsync", "renameat", "fsync"], "{calls:#?}");
}

#[cfg(unix)]
#[test]
fn a_line_that_an_editor_appends_during_a_write_is_kept() {
    if !has("write::a_line_that_an_editor", "strace") {
        return;
    }
    let workspace = workspace();
    let test = with_file(&workspace);
    let path = test.home.path().join(".pgpass");
    // The first fsync is that of the new file: the old one has been read by then.
    let slow = ["-qq", "-o", "/dev/null", "-f", "-e", "trace=fsync"];
    let slow = slow.into_iter().chain(["-e", "inject=fsync:delay_enter=1500000:when=1"]);
    let mut command = Command::new("strace");
    command.args(slow).arg(test.command().get_program()).args(["write", "pgpass"]);
    let env = test.env.clone();
    command.env_clear().envs(env).env("PATH", std::env::var_os("PATH").unwrap());
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let begun = || {
        let mut names = fs::read_dir(test.home.path()).unwrap().map(|e| e.unwrap().file_name());
        names.any(|n| n.to_string_lossy().starts_with(".lakebase-token.")).then_some(())
    };
    wait_for("the new file", begun);
    let mut editor = fs::OpenOptions::new().append(true).open(&path).unwrap();
    editor.write_all(b"\ncolleague:1:b:c:d\n").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let text = file(&test);
    assert!(text.windows(19).any(|line| line == b"\ncolleague:1:b:c:d\n") && ours(&test).len() > 9);
}

#[test]
fn many_writers_lose_nothing() {
    const WRITERS: usize = if cfg!(windows) { 16 } else { 64 };
    const ROUNDS: usize = if cfg!(windows) { 4 } else { 20 };
    let workspace = workspace();
    let test = with_file(&workspace);
    for round in 0..ROUNDS {
        // Every other round removes the lines, so that every run has something to write.
        let words: &[&str] = if round % 2 == 0 { &["write"] } else { &["write", "--remove"] };
        let start = |n: usize| {
            let mut command = test.command();
            let database = format!("db{n}");
            command.args(words).args(["pgpass", "--pg-database", &database, "--timeout", "60s"]);
            started(|| command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn())
        };
        let children: Vec<Child> = (0..WRITERS).map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "round {round}");
        }
        let content = file(&test);
        assert!(content.starts_with(FOREIGN));
        let lines = content[FOREIGN.len()..].split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty() && *line != b"\r").count();
        assert_eq!(lines, if round % 2 == 0 { WRITERS } else { 0 }, "round {round}");
        if round % 2 == 0 {
            (0..WRITERS).for_each(|n| assert!(password(&content, &format!("db{n}")).len() > 100));
        }
    }
    assert_eq!(workspace.count(MINT), 1);
}

#[test]
fn a_kill_at_any_instant_leaves_the_old_file_or_the_new_one() {
    const KILLS: usize = if cfg!(windows) { 50 } else { 500 };
    let workspace = workspace();
    let test = with_file(&workspace);
    let path = test.password_file();
    let folder = path.parent().unwrap();
    // Large enough for a kill to hit the write.
    let many: String = (0..20_000).map(|n| format!("host{n}:5432:db:me:secret{n}\n")).collect();
    fs::write(test.password_file(), &many).unwrap();
    let without = file(&test);
    let began = Instant::now();
    started(|| test.command().args(["write", "pgpass"]).stdout(Stdio::null()).status());
    let with = file(&test);
    started(|| test.command().args(["write", "--remove", "pgpass"]).stdout(Stdio::null()).status());
    assert_eq!(file(&test), without);
    let mut limit = began.elapsed() / 2;
    let (mut old, mut new, mut left) = (0, 0, 0);
    let mut dice = Dice::seeded(500);
    for _ in 0..KILLS {
        let before = file(&test);
        let words: &[&str] = if before == without { &["write"] } else { &["write", "--remove"] };
        let mut command = test.command();
        let mut child = started(|| command.args(words).arg("pgpass").stdout(Stdio::null()).spawn());
        std::thread::sleep(limit * dice.roll(256) as u32 / 256);
        child.kill().unwrap();
        child.wait().unwrap();
        let after = file(&test);
        assert!(after == with || after == without, "{} bytes", after.len());
        // Aims for half of the kills before the rename and half after it.
        if after == before {
            old += 1;
            limit = limit * 21 / 20;
        } else {
            new += 1;
            limit = limit * 20 / 21;
        }
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_name().to_string_lossy().starts_with(".lakebase-token.") {
                left += 1;
                assert_private(&entry.path());
            }
        }
    }
    eprintln!(
        "{KILLS} kills: {old} left the old file, {new} the new one, {left} a private left-over"
    );
    assert!(old > KILLS / 25 && new > KILLS / 25, "{old} {new}");
    started(|| test.command().args(["write", "--remove", "pgpass"]).stdout(Stdio::null()).status());
    started(|| test.command().args(["write", "pgpass"]).stdout(Stdio::null()).status());
    let names: Vec<OsString> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().starts_with(".lakebase")), "{names:?}");
}

/// The password that psql sends to a server that requests one.
#[cfg(unix)]
fn received_password(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut message = |tagged: bool| -> Vec<u8> {
        let mut head = [0; 5];
        let head = if tagged { &mut head[..] } else { &mut head[1..] };
        stream.read_exact(head).unwrap();
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).unwrap();
        body
    };
    message(false); // the startup message: role and database
    let mut answer: &TcpStream = &stream;
    answer.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap(); // AuthenticationCleartextPassword
    let mut head = [0; 5];
    answer.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let mut body = vec![0; length as usize - 4];
    answer.read_exact(&mut body).unwrap();
    answer.write_all(b"E\0\0\0\x0fSFATAL\0Mno\0\0").unwrap();
    body.pop(); // the NUL at its end
    body
}

#[cfg(unix)]
#[test]
fn psql_finds_every_name_that_a_line_was_written_for() {
    if !has("write::psql_finds", "psql") {
        return;
    }
    const ALPHABET: [&str; 16] =
        ["a", "B", ":", ":", "\\", "\\", "*", "#", " ", "'", "\"", "=", "é", "x", "%", "ß"];
    let mut dice = Dice::seeded(150);
    let mut name = || -> String { (0..=dice.roll(5)).map(|_| dice.pick(&ALPHABET)).collect() };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    // Names with a meaning in the file come first, then random ones.
    let mut names: Vec<(String, String)> =
        [("*", "d"), ("u", "a:b"), ("\\", "\\:"), ("#", "#"), ("\\*", "**"), (" ", ":")]
            .map(|(user, database)| (user.to_owned(), database.to_owned()))
            .to_vec();
    // A database `*` means every database, which another test covers.
    names.extend((0..150).map(|_| (name(), name())).filter(|(_, database)| database != "*"));
    let mut text = b"# by hand\n127.0.0.1:1:*:*:wrong\nbroken\n".to_vec();
    // Lines without escapes, some of which libpq would use in the place of ours.
    let port_text = port.to_string();
    for n in 0..300 {
        let host = ["127.0.0.1", "*"][n % 2];
        let port = [port_text.as_str(), "*", "1"][n % 3];
        let (user, database) = if n % 5 == 0 { ("*".to_owned(), name()) } else { (name(), name()) };
        text.extend(format!("{host}:{port}:{database}:{user}:junk{n}\n").into_bytes());
    }
    for (n, (user, database)) in names.iter().enumerate() {
        let key = PgpassKey { host: "127.0.0.1", port, database, user };
        text = pgpass::put(&text, &key, &key.line(&format!("password{n}")));
    }
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for (user, database) in &names {
        let last = names.iter().rposition(|other| other == &(user.clone(), database.clone()));
        let mut psql = Command::new("psql")
            .args(["-w", "-c", "select 1"])
            .env_clear()
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", user)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", "disable")
            .env("PGGSSENCMODE", "disable")
            .env("PGPASSFILE", &path)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sent = received_password(&listener);
        psql.wait().unwrap();
        let expected = format!("password{}", last.unwrap());
        assert_eq!(String::from_utf8_lossy(&sent), expected, "{user:?} {database:?}");
    }
}

#[test]
fn names_that_no_line_can_hold_are_refused_before_a_mint() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGUSER", "two\nlines").run("write pgpass").fails(2, &["PGUSER", "control character"]);
    test.unset("PGUSER");
    let argv = ["write", "pgpass", "--pg-database", "a\rb"].map(OsString::from);
    test.run_args(&argv).fails(2, &["--pg-database", "control character"]);
    assert!(workspace.take_requests().is_empty());
    // A path may be any bytes.
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(
            [test.home.path().as_os_str().as_encoded_bytes(), b"/\xff\xfe"].concat(),
        );
        let argv = ["write", "file"].map(OsString::from).into_iter().chain([odd.clone()]);
        assert_eq!(test.run_args(&argv.collect::<Vec<_>>()).code, 0);
        assert!(Path::new(&odd).exists());
    }
}

#[cfg(unix)]
#[test]
fn a_hook_runs_after_each_change_until_it_succeeds() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PATH", "/usr/bin:/bin");
    let home = test.home.path().to_owned();
    let hook_runs = || fs::read_to_string(home.join("runs")).map_or(0, |text| text.lines().count());
    let write = |then: &str| {
        let path = home.join("x");
        let words = ["write", "file", path.to_str().unwrap(), "--then", then];
        test.run_args(&words.map(OsString::from))
    };
    const HOOK: &str = "echo x >>\"$HOME/runs\"; test -e \"$HOME/ready\"";
    write(HOOK).fails(1, &["--then failed", "exit status: 1", "next time"]);
    write(HOOK).fails(1, &["--then failed"]);
    assert_eq!(hook_runs(), 2, "unchanged, but still pending");
    test.write("ready", "");
    assert_eq!(write(HOOK).code, 0);
    assert_eq!(write(HOOK).code, 0);
    assert_eq!(hook_runs(), 3, "after a success it runs for changes only");
    test.pass(50 * MINUTE);
    assert_eq!(write(HOOK).code, 0);
    assert_eq!(hook_runs(), 4);
    // It sees no secret, has no stdin, and is ended with all that it has started.
    test.pass(50 * MINUTE);
    assert_eq!(write("test -z \"$DATABRICKS_CLIENT_SECRET\" && ! read x").code, 0);
    test.pass(50 * MINUTE);
    test.set("LAKEBASE_TOKEN_TIMEOUT", "1s");
    let path = home.join("x");
    let words = ["write", "file", path.to_str().unwrap(), "--then", "sleep 60 & sleep 60"];
    test.run_args(&words.map(OsString::from)).fails(1, &["took longer than --timeout"]);
    // A message never repeats the command.
    let words = ["write", "file", path.to_str().unwrap(), "--then", "false hunter2"];
    let failed = test.run_args(&words.map(OsString::from));
    failed.fails(1, &["--then failed"]);
    assert!(!failed.stderr.contains("hunter2"), "{failed:?}");
}

#[test]
fn a_credential_that_expires_before_the_next_checks_is_an_error() {
    let workspace = workspace();
    let test = with_file(&workspace);
    for interval in
        ["0s", "59s", "31m", "100000h", "0", "-5m", "5", "1e9m", "99999999999999999999s"]
    {
        let argv = ["write", "pgpass", "--interval", interval].map(OsString::from);
        test.run_args(&argv).fails(2, &["--interval"]);
    }
    test.run("write pgpass --interval 5").fails(2, &["hint: 5m, if these are minutes"]);
    test.run("write pgpass --interval 10m --ttl 20m").fails(2, &["20m", "--ttl 25m or more"]);
    assert!(workspace.take_requests().is_empty());

    // A check interval of 30 minutes asks for more than the hour there is: one mint a call at most.
    for line in ["write pgpass --interval 30m", "write pgpass --min-ttl 999999h --interval 1m"] {
        workspace.take_requests();
        assert_eq!(test.run(line).code, 0);
        assert!(workspace.count(MINT) <= 1);
    }
    // Where nothing can be minted, the old credential is written and the scheduler gets an error.
    test.pass(40 * MINUTE);
    let down = Answer::Json(503, json!({ "error_code": "TEMPORARILY_UNAVAILABLE" }));
    workspace.fault("/", 1000, down);
    let late = test.run("write pgpass --interval 10m --timeout 2s");
    late.fails(5, &["does not outlive the next two checks", "valid until "]);
    assert!(!ours(&test).is_empty());
    let plain = test.run("write pgpass --timeout 2s");
    assert_eq!(plain.code, 0, "{plain:?}");
}

/// One check, by `write --interval`: the milliseconds of life left in the file before and after.
fn check(test: &Test, interval: &str) -> (i64, i64) {
    let left = || {
        let content = fs::read(test.password_file()).unwrap_or_default();
        expiry_within(&content).map_or(0, |expires| expires.since(test.now()))
    };
    let before = left();
    let outcome = test.run(&format!("write pgpass --interval {interval}"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    (before, left())
}

/// Checks for so many days every so many minutes: each up to three minutes late (two of jitter, one
/// of systemd's timers), one in twenty not at all.
fn checks(minutes: i64, days: i64) -> (usize, i64) {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let interval = format!("{minutes}m");
    check(&test, &interval);
    let (mut clock, mut missed, mut least) = (0, false, i64::MAX);
    let mut dice = Dice::seeded(365);
    for n in 1..=(days * 24 * 60 / minutes) {
        let late = dice.roll(256) as i64;
        missed = !missed && dice.percent(5);
        if missed {
            continue;
        }
        let at = n * minutes * MINUTE + late * 3 * MINUTE / 255;
        test.pass((at - clock) / SECOND * SECOND);
        clock += (at - clock) / SECOND * SECOND;
        let (before, after) = check(&test, &interval);
        assert!(before >= MINUTE, "check {n}: {before} ms were left");
        assert!(after >= (2 * minutes + 5) * MINUTE || after > 59 * MINUTE, "{after}");
        least = least.min(before);
    }
    let mints = workspace.count(MINT);
    eprintln!(
        "{days} days of checks every {minutes} min: {mints} mints, least life {} s",
        least / SECOND
    );
    (mints, least)
}

#[test]
fn a_credential_never_expires_in_a_year_of_late_and_missed_checks() {
    let (mints, _) = checks(10, 365);
    // About one for each half hour: a life of an hour less two intervals and five minutes.
    assert!(mints < 365 * 24 * 60 / 25, "{mints}");
    checks(1, 7);
    checks(5, 60);
    checks(25, 365);
}

#[test]
fn events_are_logged_where_a_log_is_set() {
    let workspace = workspace();
    let mut test = with_file(&workspace);
    let log = test.home.path().join("log");
    test.set("LAKEBASE_TOKEN_LOG", log.to_str().unwrap());
    test.run("write pgpass");
    test.run("write pgpass");
    test.run("write --remove pgpass");
    test.set("DATABRICKS_CLIENT_SECRET", "wrong").run("--refresh");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "info workspace token by oauth-m2m: subject ",
        "info minted for ",
        "info wrote ",
        "info removed our entry from ",
        "error failed get (4): ",
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, words) in lines.iter().zip(expected) {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            lakebase_token::platform::time::Timestamp::parse(time).is_some() && time.ends_with('Z')
        );
        assert!(rest.starts_with(words), "{line}");
    }
    assert!(lines[1].contains(CLIENT_ID) && lines[1].contains("valid until "), "{text}");
    assert!(!text.contains("eyJ") && !text.contains("wrong"));
    assert_private(&log);
    let nowhere = test.home.path().join("nowhere").join("log");
    test.set("LAKEBASE_TOKEN_LOG", nowhere.to_str().unwrap())
        .set("DATABRICKS_CLIENT_SECRET", crate::sandbox::workspace::CLIENT_SECRET);
    test.run("--refresh").notes("cannot write LAKEBASE_TOKEN_LOG");
}

#[test]
fn the_lines_of_other_users_of_pgbouncer_stay() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("PGUSER", CLIENT_ID);
    const OTHERS: &str = "; mine\n\"local\" \"secret\"\n\"x\"\"y\" \"native\"\n";
    let path = test.write("userlist.txt", OTHERS);
    let line = format!("write file {} --format pgbouncer", path.display());
    let read = || fs::read_to_string(&path).unwrap();

    for flags in ["", "--refresh"] {
        assert_eq!(test.run(&format!("{line} {flags}")).code, 0);
        let file = read();
        let (others, ours) = file.split_at(OTHERS.len());
        assert_eq!(others, OTHERS);
        assert_eq!(ours, test.run("-f pgbouncer").stdout);
    }
    // In another format, and without one, the file would be replaced or removed as a whole.
    let other = format!("write file {}", path.display());
    for line in [other.clone(), format!("{other} --format env"), format!("{other} --remove")] {
        test.run(&line).fails(2, &["lines of other users", "--format pgbouncer"]);
    }
    assert_eq!(test.run(&format!("{line} --remove")).code, 0);
    assert_eq!(read(), OTHERS);

    // A native password of our role is the user's own until it is replaced.
    let native = format!("{OTHERS}\"{CLIENT_ID}\" \"native\"\n");
    fs::write(&path, &native).unwrap();
    assert_eq!(test.run(&format!("{line} --remove")).code, 0);
    assert_eq!(read(), native);

    let path = test.write("other", "export A=b\n");
    let line = format!("write file {} --format pgbouncer", path.display());
    test.run(&line).fails(2, &["is not an auth_file of PgBouncer"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "export A=b\n");
    assert_eq!(test.run(&format!("{line} --force")).code, 0);
    assert!(fs::read_to_string(&path).unwrap().starts_with(&format!("\"{CLIENT_ID}\" \"")));
}
