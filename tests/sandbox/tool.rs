//! A stand-in for a command-line tool, such as `databricks`, `az` or a browser, that runs on Unix and on
//! Windows.
//!
//! It does what the file beside it says: for `bin/az`, `bin/az.json` has
//! `[{"for": "account show", "do": [{"stdout": "{}"}, {"exit": 0}]}, …]`. The first entry whose `for` is
//! part of the command line applies. `bin/az.log` gets a line for each run, with the variables whose names begin
//! with the tool's own (AZURE…), and with what must not reach it: a terminal, input.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::zombie_processes)]

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::Duration;

use serde_json::Value;

/// Set for a process that a tool leaves behind: the milliseconds that it sleeps.
const LEFT_BEHIND: &str = "TOOL_LEFT_BEHIND";

fn main() {
    if let Ok(millis) = std::env::var(LEFT_BEHIND) {
        return std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
    }
    let mut words = std::env::args();
    let program = program(&words.next().unwrap());
    let arguments: Vec<String> = words.collect();
    let line = arguments.join(" ");
    log(&program.with_extension("log"), &line);

    let cases = fs::read_to_string(program.with_extension("json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let case = cases.iter().find(|case| line.contains(case["for"].as_str().unwrap()));
    let steps = case.and_then(|case| case["do"].as_array()).map(Vec::as_slice);
    for step in steps.unwrap_or_default() {
        let (name, value) = step.as_object().unwrap().iter().next().unwrap();
        follow(name, value, &arguments);
    }
}

/// Where this was called, which may be a link. Some callers leave out the folder.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join(name));
    let is_here = |path: &PathBuf| path.with_extension("json").exists();
    [PathBuf::from(name)].into_iter().chain(folders).find(is_here).unwrap()
}

fn log(path: &PathBuf, line: &str) {
    let mut text = format!("run: {line}\n");
    let mut variables: Vec<String> =
        std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    let own = path.file_stem().unwrap().to_str().unwrap().to_uppercase();
    variables.retain(|variable| variable.starts_with(&own));
    variables.sort();
    text += &variables.concat();
    if io::stdin().is_terminal() {
        text += "terminal\n";
    } else if io::stdin().read(&mut [0]).is_ok_and(|length| length > 0) {
        text += "input\n";
    }
    let log = OpenOptions::new().create(true).append(true).open(path);
    log.unwrap().write_all(text.as_bytes()).unwrap();
}

fn follow(name: &str, value: &Value, arguments: &[String]) {
    let text = value.as_str().unwrap_or_default();
    let number = value.as_u64().unwrap_or_default();
    match name {
        // A reader that has gone is as little to the tool as to any program.
        "stdout" => drop(io::stdout().write_all(text.as_bytes())),
        "stderr" => drop(io::stderr().write_all(text.as_bytes())),
        "endless" => while io::stdout().write_all(text.as_bytes()).is_ok() {},
        "environment" => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "sleep" => std::thread::sleep(Duration::from_millis(number)),
        "leave" => {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.env(LEFT_BEHIND, number.to_string()).spawn().unwrap();
        }
        "write" => fs::write(text, "x").unwrap(),
        // Waits for a file, unless the test has ended and removed its folder.
        "until" => {
            let file = Path::new(text);
            while !file.exists() && file.parent().is_some_and(Path::exists) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // As a browser: follows redirects, and keeps the last page.
        "get" => {
            let browser = ureq::Agent::config_builder().http_status_as_error(false).build();
            let mut page = ureq::Agent::from(browser).get(&arguments[0]).call().unwrap();
            fs::write(text, page.body_mut().read_to_string().unwrap()).unwrap();
        }
        "exit" => exit(number as i32),
        _ => panic!("no such step: {name}"),
    }
}
