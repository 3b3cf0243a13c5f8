//! The reader of `.databrickscfg` beside go-ini, as the official SDK for Go uses it: the same sections, keys
//! and values in generated files, and the same files refused.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use lakebase_token::config::databrickscfg::{section, sections};
use serde_json::Value;

use super::differential;
use super::support::{Dice, has, not_run};

/// What files are made of: names, values, and what can go wrong between them.
const PARTS: [&str; 40] = [
    "[a]",
    "[b.c]",
    "[ d ]",
    "[]",
    "[a",
    "token",
    "host",
    "client_secret",
    "k",
    "=",
    ":",
    " = ",
    "=",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "#",
    ";",
    " # c",
    " ; c",
    "\t# c",
    "#c",
    "\"",
    "'",
    "\"a b\"",
    "'x'",
    "dapi1",
    "https://a.example",
    "a ;b #c",
    "#pw",
    "p#w;x",
    "\\",
    "`",
    "\"\"\"",
    "-",
    "%(k)s",
    "é",
];

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// What we read; or why it is refused.
fn ours(text: &str) -> Result<Sections, String> {
    let names = sections(text).map_err(|error| error.message)?;
    let mut found = Sections::new();
    for name in names {
        let pairs = section(text, name).map_err(|error| error.message)?;
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        found.insert(name.to_owned(), pairs.collect());
    }
    Ok(found)
}

/// Why a difference is meant, in words of our own refusal.
fn is_meant(refusal: &str) -> bool {
    ["over several lines", "in quotes", "without a name"].iter().any(|why| refusal.contains(why))
}

#[test]
fn generated_files_are_read_as_go_ini_reads_them() {
    let test = "ini::generated_files";
    if !has(test, "go") {
        return;
    }
    let judge = match differential::go("ini") {
        Ok(judge) => judge,
        Err(why) => return not_run(test, &format!("no SDK for Go: {why}")),
    };
    let count = differential::set("LAKEBASE_TOKEN_FILES", 20_000);
    let mut dice = Dice::seeded(20_261_129);
    let mut texts: Vec<String> = (0..count)
        .map(|_| {
            let parts = 1 + dice.roll(24);
            (0..parts).map(|_| dice.pick(&PARTS)).collect()
        })
        .collect();
    // Found by hand.
    for value in ["a ;b #c", "dapi1\t# mine", "#pw", "# c", "a # b\\", "\"a\" # c", "''", "a;b"] {
        texts.push(format!("[a]\ntoken = {value}\nhost = h\n"));
    }

    let mut judge = judge;
    let mut child = judge.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String =
        texts.iter().map(|text| format!("{}\n", Value::from(text.clone()))).collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();

    let (mut same, mut refused, mut meant) = (0, 0, 0);
    for (text, answer) in texts.iter().zip(answers.lines()) {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let theirs: Sections = serde_json::from_value(answer["sections"].clone()).unwrap();
        match ours(text) {
            Ok(found) => {
                assert!(
                    answer["failed"] == false && found == theirs,
                    "{text:?}\nours {found:?}\nGo {answer}"
                );
                same += 1;
            }
            Err(_) if answer["failed"] == true => refused += 1,
            Err(why) if is_meant(&why) => meant += 1,
            Err(why) => panic!("{text:?}: we refuse it ({why}), go-ini reads {theirs:?}"),
        }
    }
    assert_eq!(answers.lines().count(), texts.len());
    eprintln!("{same} read alike, {refused} refused by both, {meant} by us alone");
    // Otherwise the generator no longer makes files of each kind.
    assert!(same > count / 10 && refused > count / 10 && meant > 0, "{same} {refused} {meant}");
}
