//! The command line: help, mistakes, and the command lines that the documentation shows.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use super::support::{Test, executable, has, repository, workspace};
use crate::sandbox::Sandbox;
use lakebase_token::cli::args;
use lakebase_token::cli::table::COMMANDS;

#[test]
fn help_is_as_in_the_golden_files() {
    let test = Test::bare();
    let mut pages = vec![("program".to_owned(), "--help".to_owned())];
    let public = COMMANDS.iter().filter(|command| command.is_public());
    pages.extend(
        public.map(|command| (command.name.to_owned(), format!("{} --help", command.name))),
    );
    pages.extend(["settings", "formats"].map(|topic| (topic.to_owned(), format!("help {topic}"))));

    for (name, line) in pages {
        let golden = repository().join(format!("tests/it/help/{name}.golden"));
        let outcome = test.run(&line);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
        assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 100), "{name}");
        let is_command = !["program", "settings", "formats"].contains(&name.as_str());
        assert!(!is_command || outcome.stdout.lines().count() <= 24, "{}", outcome.stdout);

        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(&golden, &outcome.stdout).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(outcome.stdout, expected, "{name} (UPDATE=1 writes it)");
    }
}

#[test]
fn help_and_version_have_no_effect_even_with_a_broken_configuration() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_TOKEN", "conflict").set("PGPORT", "nonsense");
    test.write(".databrickscfg", "[broken");

    for command in COMMANDS {
        for flag in ["-h", "--help", "-V", "--version"] {
            let outcome = test.run(&format!("{} {flag}", command.name));
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        }
    }

    let version = format!("lakebase-token {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(test.run("-V").stdout, version);
    assert!(workspace.take_requests().is_empty() && !test.cache_folder().exists());
}

#[test]
fn errors_suggest_what_the_user_meant() {
    let test = Test::bare();
    for (line, code, words) in [
        ("gte", 2, &["unknown command gte", "hint: lakebase-token get"][..]),
        ("--port 5432", 2, &["unknown flag --port", "hint: --pg-port"]),
        ("write pgpass --path x", 2, &["unknown flag --path", "hint: --pgpass-file PATH"]),
        ("write pgpass x", 2, &["target pgpass takes no path", "hint: lakebase-token write file"]),
        ("write file -", 2, &["target file needs a path, not -", "hint: lakebase-token, which"]),
        ("get prod", 2, &["get takes no argument prod"]),
        ("login foo", 2, &["login takes no argument foo", "hint: lakebase-token login --help"]),
        (
            "login https://ws.example",
            2,
            &[
                "takes no argument https://ws.example",
                "lakebase-token login --host https://ws.example",
            ],
        ),
        ("login ws.example", 2, &["hint: lakebase-token login --host ws.example"]),
        ("login dapi0123456789abcdef", 2, &["login takes no more arguments"]),
        ("service instal pgpass", 2, &["hint: lakebase-token service install pgpass"]),
        (
            "service instal file /tmp/x --format dotenv",
            2,
            &["hint: lakebase-token service install file /tmp/x --format dotenv"],
        ),
        ("service start pgpass", 2, &["hint: lakebase-token service restart pgpass"]),
        (
            "status --wait 5s",
            2,
            &["status has no flag --wait", "hint: lakebase-token get --wait 5s"],
        ),
        (
            "get --key x",
            2,
            &["get has no flag --key", "hint: lakebase-token write secret --scope SCOPE --key KEY"],
        ),
        ("completions csh", 2, &["no completions for csh", "bash", "zsh", "fish", "powershell"]),
        ("write app.env", 2, &["hint: lakebase-token write file app.env --format FORMAT"]),
        ("\u{2014}for workspace", 2, &["a dash of another kind", "hint: --for"]),
        ("help setings", 2, &["no help for setings", "hint: lakebase-token help settings"]),
        ("refresh", 2, &["unknown command refresh", "hint: lakebase-token get --refresh"]),
        ("-c x", 2, &["unknown flag -c", "hint: lakebase-token psql"]),
        ("--wait", 2, &["--wait needs a value: TIME, such as 10m"]),
        ("exec psql --wait 5s -c x", 125, &["hint: lakebase-token exec --wait 5s -- psql -c x"]),
        ("--profil x", 2, &["unknown flag --profil", "hint: --profile"]),
        ("get --clean", 2, &["get has no flag --clean"]),
        ("-f", 2, &["--format needs a value: NAME"]),
        ("--ttl 15m --ttl 20m", 2, &["--ttl is given twice"]),
        ("exec psql", 125, &["exec needs `--` before the program to run"]),
        // The hint has every flag of the line.
        (
            "-p prod exec --clean --endpoint shop psql -c x",
            125,
            &["hint: lakebase-token exec --profile prod --clean --endpoint shop -- psql -c x"],
        ),
        (
            "-p prod psql --endpoint shop -c x",
            125,
            &["hint: lakebase-token --profile prod --endpoint shop psql -c x"],
        ),
        ("-p prod run psql", 2, &["hint: lakebase-token exec --profile prod -- psql"]),
        ("service stop pgpass", 2, &["hint: lakebase-token service uninstall pgpass"]),
        ("mint", 2, &["hint: lakebase-token get"]),
        ("-host https://ws.example", 2, &["-host has one dash", "hint: --host"]),
        ("status -profile work", 2, &["hint: --profile"]),
    ] {
        test.run(line).fails(code, words);
    }

    let argv = ["exec", "psql -Atc 1"].map(OsString::from);
    test.run_args(&argv).fails(125, &["hint: lakebase-token exec -- psql -Atc 1"]);
    #[cfg(unix)]
    let argv = ["exec", "echo $PGHOST"].map(OsString::from);
    #[cfg(unix)]
    test.run_args(&argv).fails(125, &["hint: lakebase-token exec -- sh -c 'echo $PGHOST'"]);
    let argv = [OsString::from("--profile"), OsString::new()];
    test.run_args(&argv).fails(2, &["--profile got an empty value"]);
}

/// The arguments of each `lakebase-token …` in a text, up to the end of that shell command.
fn invocations(text: &str) -> Vec<Vec<OsString>> {
    let mut found = Vec::new();
    for line in text.lines() {
        for rest in line.split("lakebase-token ").skip(1) {
            let end = rest.find([')', '|', ';', '>', '`', '"', '<', '(']).unwrap_or(rest.len());
            let rest = rest[..end].split(" #").next().unwrap();
            // Two blanks separate an explanation from its command.
            let rest = rest.split("  ").next().unwrap();
            found.push(rest.split_whitespace().map(OsString::from).collect());
        }
    }
    found
}

fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

#[test]
fn every_command_line_of_the_documentation_parses() {
    let mut texts = vec![fs::read_to_string(repository().join("README.md")).unwrap()];
    let test = Test::bare();
    texts.push(test.run("--help").stdout);
    for folder in ["", "systemd/", "launchd/", "cron/", "windows/"] {
        let path = repository().join(format!("integrations/{folder}README.md"));
        let text = fs::read_to_string(path).unwrap();
        assert!(folder.is_empty() || text.lines().count() < 40, "{folder}");
        texts.push(text);
    }

    let mut checked = 0;
    for text in &texts {
        let code: String = ["sh", "console", "ini", "yaml", "text"]
            .iter()
            .flat_map(|language| blocks(text, language))
            .chain((!text.contains("```")).then(|| text.clone()))
            .collect::<Vec<_>>()
            .join("\n");
        for argv in invocations(&code) {
            let first =
                argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
            // Other words after the name belong to a sentence.
            let is_command_line = first.is_empty()
                || first.starts_with('-')
                || COMMANDS.iter().any(|command| command.name == first);
            if is_command_line {
                let parsed = args::parse(&argv);
                assert!(parsed.is_ok(), "{argv:?}: {}", parsed.err().unwrap());
                checked += 1;
            }
        }
    }
    assert!(checked > 12, "{checked}");
}

#[test]
fn every_shell_block_of_the_readme_runs() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let sandbox = Sandbox::start().unwrap();
    if let Err(why) = &sandbox.postgres {
        return super::support::not_run("cli::every_shell_block_of_the_readme_runs", why);
    }
    if !has("cli::every_shell_block_of_the_readme_runs", "psql") {
        return;
    }

    let tools = sandbox.folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink(executable(), tools.join("lakebase-token")).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());

    let authority = sandbox.certificates.authority.to_str().unwrap();
    let readme = readme.replace("/etc/ssl/certs/ca-certificates.crt", authority);
    let blocks = blocks(&readme, "sh");
    assert!(blocks.len() >= 3);
    for block in blocks {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &block]).env_clear().envs(sandbox.env()).env("PATH", &path);
        let output = shell.current_dir(sandbox.home()).output().unwrap();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn each_action_of_service_has_a_help_with_its_own_flags() {
    let help = |action: &str| Test::bare().run(&format!("service {action} --help")).stdout;
    let install = help("install");
    assert!(install.starts_with("lakebase-token service install: write the timer"), "{install}");
    assert!(install.contains("usage: lakebase-token service install pgpass|file PATH|"));
    assert!(install.contains("--then") && install.contains("--host"));
    assert!(!install.contains("--purge"), "{install}");

    assert!(help("uninstall").contains("--purge"));
    for action in ["status", "restart"] {
        let help = help(action);
        assert!(help.contains("--name") && help.contains("--scope"), "{help}");
        assert!(!help.contains("--then") && !help.contains("--host"), "{help}");
    }
}

#[test]
fn every_exit_code_and_format_is_in_the_readme() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for code in [0, 1, 2, 3, 4, 5, 125, 126, 127] {
        assert!(readme.contains(&format!("`{code}`")), "{code}");
    }

    for format in lakebase_token::formats::FORMATS {
        assert!(readme.contains(&format!("`{}`", format.name)), "{}", format.name);
    }
}

#[test]
fn every_setting_is_in_the_manual_page() {
    let page = Test::bare().run("man").stdout.replace("\\-", "-");
    for row in lakebase_token::config::table::SETTINGS.iter().filter(|row| !row.flag.is_empty()) {
        assert!(page.contains(&format!("--{}", row.flag)), "--{}", row.flag);
        assert!(page.contains(&row.long.replace('…', "...")), "--{}", row.flag);
        for name in row.env {
            assert!(page.contains(name), "{name}");
        }
    }
}

#[test]
fn mistakes_get_the_line_that_was_meant() {
    let test = Test::bare();
    for (line, hint) in [
        ("psql --endpoint shop -c x", "lakebase-token --endpoint shop psql -c x"),
        ("psql -c x --refresh", "lakebase-token --refresh psql -c x"),
        ("exec psql", "lakebase-token exec -- psql"),
        ("exec pg_dump -t a", "lakebase-token exec -- pg_dump -t a"),
        ("run -- psql -c x", "lakebase-token exec -- psql -c x"),
        ("env", "lakebase-token -f env"),
        ("token", "lakebase-token get"),
        ("whoami", "lakebase-token status"),
        ("connect", "lakebase-token psql"),
        ("install", "lakebase-token service install pgpass"),
        ("pgpass", "lakebase-token write pgpass"),
        ("write ~/.pgpass", "lakebase-token write pgpass"),
        ("write /home/ada/.pgpass", "lakebase-token write pgpass"),
        ("write out/app.env", "lakebase-token write file out/app.env --format FORMAT"),
        ("write pgpas", "pgpass"),
        ("stauts", "lakebase-token status"),
        ("lgoin", "lakebase-token login"),
        ("-o json", "-f, as in -f json"),
        ("--output json", "--format"),
        ("--json", "--format json"),
        ("--workspace x", "--host"),
        ("--url x", "--host"),
        ("--workspace-url x", "--host"),
        ("--database x", "--pg-database"),
        ("--dbname x", "--pg-database"),
        ("--user x", "--pg-user"),
        ("--username x", "--pg-user"),
        ("--role x", "--pg-user"),
        ("--port 5432", "--pg-port"),
        ("--branch dev", "--endpoint PROJECT/BRANCH"),
        ("-U me", "--pg-user"),
        ("-d db", "--pg-database"),
        ("--client-id x", "DATABRICKS_CLIENT_ID"),
        ("--token x", "--token-file"),
        ("--client-secret x", "--client-secret-file"),
        ("--all", "lakebase-token logout --all"),
        ("status --no-browser", "lakebase-token login --no-browser"),
        ("get --force", "lakebase-token write --force"),
        ("status --clean", "lakebase-token exec --clean"),
        ("get -- psql", "lakebase-token exec -- psql"),
        ("--profil x", "--profile"),
        ("--host --refresh", "--host needs a value"),
    ] {
        let outcome = test.run(line);
        let code = if line.starts_with("exec") || line.starts_with("psql") { 125 } else { 2 };
        outcome.fails(code, &[hint]);
    }

    // These simply work.
    for line in ["help", "help exec", "help psql", "version", "psql --help", "psql -V", "exec -h"] {
        let outcome = test.run(line);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
        assert!(outcome.stdout.starts_with("lakebase-token"), "{line}: {outcome:?}");
    }
}

#[test]
fn quiet_leaves_errors_and_no_notes() {
    let workspace = super::support::workspace();
    let mut test = Test::at(&workspace);
    test.set("PGDATABASE", "db\r\n");
    test.run("-f json").notes("PGDATABASE has a surplus blank, line end or port");
    for line in ["-q -f json", "--quiet -f json"] {
        let outcome = test.run(line);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    }
    test.run("-q --format nope").fails(2, &["unknown format"]);
    test.run("-q -v").fails(2, &["--quiet and --verbose contradict each other"]);
}
