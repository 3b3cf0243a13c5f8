//! Completions, tested in the shells themselves, and the manual page, formatted by groff.

use std::process::Command;

use super::support::{Test, executable, has, part_not_run, repository};

/// Command lines, each with some of the completions that a shell must offer and must not offer.
const LINES: [(&str, &[&str], &[&str]); 8] = [
    ("lakebase-token wr", &["write"], &["get"]),
    ("lakebase-token write ", &["pgpass", "databrickscfg", "secret"], &["install"]),
    ("lakebase-token write --t", &["--then", "--to", "--timeout"], &["--all"]),
    ("lakebase-token -f p", &["pgbouncer", "powershell"], &["raw"]),
    ("lakebase-token service st", &["status"], &["install"]),
    ("lakebase-token --auth-type o", &["oauth-m2m"], &["basic"]),
    ("lakebase-token logout --a", &["--all"], &["--as"]),
    ("lakebase-token completions z", &["zsh"], &["bash"]),
];

fn script(shell: &str) -> String {
    let outcome = Test::bare().run(&format!("completions {shell}"));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    outcome.stdout
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", part(&output.stderr));
    part(&output.stdout)
}

#[track_caller]
fn offers(shell: &str, line: &str, offered: &str, expected: &[&str], absent: &[&str]) {
    let words: Vec<&str> =
        offered.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    for word in expected {
        assert!(words.contains(word), "{shell}: {line}: {word} is missing in {offered}");
    }
    for word in absent {
        assert!(!words.contains(word), "{shell}: {line}: {word} is in {offered}");
    }
}

#[test]
fn bash_completes_from_the_tables() {
    let complete = "line=$1; read -ra COMP_WORDS <<<\"$line\"\n\
               case $line in *' ') COMP_WORDS+=('') ;; esac\n\
               COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n\
               compopt() { :; }\n\
               _lakebase_token && printf '%s\\n' \"${COMPREPLY[@]}\"";
    for (line, expected, absent) in LINES {
        let script = format!("{}{complete}", script("bash"));
        let offered = output(Command::new("bash").args(["-c", &script, "bash", line]));
        offers("bash", line, &offered, expected, absent);
    }

    if has("completions::bash", "shellcheck") {
        let test = Test::bare();
        let path = test.write("completions.bash", &script("bash"));
        output(Command::new("shellcheck").args(["-s", "bash"]).arg(path));
    }
}

#[test]
fn fish_completes_from_the_tables() {
    if !has("completions::fish", "fish") {
        return;
    }
    let test = Test::bare();
    for (line, expected, absent) in LINES {
        let commands = format!("{}\ncomplete -C '{line}'", script("fish"));
        let mut fish = Command::new("fish");
        let offered = output(fish.args(["-c", &commands]).env("HOME", test.home.path()));
        // After the name fish prints its description.
        let names: Vec<&str> =
            offered.lines().map(|line| line.split('\t').next().unwrap()).collect();
        offers("fish", line, &names.join(" "), expected, absent);
    }
}

#[test]
fn zsh_completes_from_the_tables() {
    if !has("completions::zsh", "zsh") {
        return;
    }
    let test = Test::bare();
    let mut zsh = Command::new("zsh");
    zsh.arg(repository().join("tests/it/scripts/complete.zsh")).arg(executable());
    zsh.args(LINES.iter().map(|(line, ..)| line)).env("HOME", test.home.path());
    let listed = output(zsh.env("TERM", "dumb").current_dir(test.home.path()));

    for (line, expected, _) in LINES {
        let listed = listed.split(&format!("== {line}\n")).nth(1).unwrap();
        let listed = listed.split("\n== ").next().unwrap();
        offers("zsh", line, listed, expected, &[]);
    }
}

/// Debian has no PowerShell, so this test only looks at the script.
#[test]
fn powershell_has_a_script() {
    let script = script("powershell");
    assert!(script.contains("Register-ArgumentCompleter -Native -CommandName lakebase-token"));
    let count = |mark: char| script.matches(mark).count();
    assert_eq!((count('{'), count('(')), (count('}'), count(')')));
    part_not_run("completions::powershell", "no package of Debian has pwsh");
}

#[test]
fn an_unknown_shell_is_an_error_that_names_the_known_ones() {
    let test = Test::bare();
    test.run("completions bsh").fails(2, &["no completions for bsh", "completions bash"]);
    test.run("completions")
        .fails(2, &["missing shell", "completions bash  # or zsh, fish, powershell"]);
}

#[test]
fn the_manual_page_is_valid_and_has_every_flag() {
    if !has("completions::the_manual_page", "groff") {
        return;
    }
    let test = Test::bare();
    let page = test.write("lakebase-token.1", &test.run("man").stdout);
    let mut groff = Command::new("groff");
    groff.args(["-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=200n"]).arg(page);
    let output = groff.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "warnings of groff");

    let text = String::from_utf8(output.stdout).unwrap().replace('\u{2010}', "-");
    for row in lakebase_token::config::table::SETTINGS.iter().filter(|row| !row.flag.is_empty()) {
        assert!(text.contains(&format!("--{}", row.flag)), "{}", row.flag);
        assert!(row.env.iter().all(|name| text.contains(name)), "{}", row.flag);
    }
    for command in lakebase_token::cli::table::COMMANDS.iter().filter(|row| row.is_public()) {
        let heading = format!("{} - {}", command.name, command.about);
        assert!(text.contains(&heading), "{heading}");
    }
}
