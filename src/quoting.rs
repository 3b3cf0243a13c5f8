//! Quoting, for each language that this program writes. Percent-encoding is in
//! `credential/encoding.rs`, the escapes of `.pgpass` and other formats in `formats.rs`.

/// A word of sh. Inside single quotes, only the quote itself is special.
pub fn sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word of sh, in quotes only if it needs them.
pub fn sh_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { sh(text) }
}

/// A word of fish, which has two escapes inside single quotes: for a backslash and for a quote.
pub fn fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A string of PowerShell, where a quote is doubled. PowerShell accepts typographic quotes as
/// quotes too.
pub fn powershell(text: &str) -> String {
    const QUOTES: &str = "'\u{2018}\u{2019}\u{201a}\u{201b}";
    let doubled = text.chars().flat_map(|c| {
        let count = if QUOTES.contains(c) { 2 } else { 1 };
        std::iter::repeat_n(c, count)
    });
    format!("'{}'", doubled.collect::<String>())
}

/// A hint that is written for a shell of Unix, as a line of PowerShell.
pub fn powershell_line(line: &str) -> String {
    let (command, comment) = match line.split_once("  #") {
        Some((command, comment)) => (command, format!("  #{comment}")),
        None => (line, String::new()),
    };
    let commands: Vec<String> = command.split(" && ").map(powershell_command).collect();
    commands.join("; ") + &comment
}

fn powershell_command(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let is_name = |name: &str| {
        name.len() > 1
            && name.bytes().all(|b| b == b'_' || b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let assigned = |assignment: &str| {
        let (name, value) = assignment.split_once('=').filter(|(name, _)| is_name(name))?;
        let value = match value.strip_prefix("\"$").and_then(|value| value.strip_suffix('"')) {
            Some(variable) if is_name(variable) => format!("$env:{variable}"),
            // `$HOME` is a variable of PowerShell, too.
            Some(_) => value.to_owned(),
            None => powershell(value),
        };
        Some(format!("$env:{name} = {value}"))
    };
    let changed = match words[..] {
        ["unset", name] => Some(format!("Remove-Item Env:{name}")),
        ["kill", process] => Some(format!("Stop-Process -Id {process}")),
        ["env", "-u", name, ref rest @ ..] => {
            Some(format!("Remove-Item Env:{name}; {}", rest.join(" ")))
        }
        ["mkdir", "-p", ref folder @ ..] => {
            Some(format!("New-Item -ItemType Directory {}", requoted(folder)))
        }
        ["chmod", "600", ref file @ ..] => Some(format!(
            "icacls {} /inheritance:r /grant:r \"${{env:USERNAME}}:F\"",
            requoted(file)
        )),
        ["chmod", "-R", "go=", ref folder @ ..] => Some(format!(
            "icacls {} /inheritance:r /grant:r \"${{env:USERNAME}}:(OI)(CI)F\"",
            requoted(folder)
        )),
        ["printf", "'%s\\n'", ref rest @ ..] => {
            let rest = requoted(rest);
            rest.split_once(" >>").map(|(lines, file)| {
                format!("{} | Add-Content {file}", lines.replace("' '", "', '"))
            })
        }
        [assignment] | ["export", assignment] => assigned(assignment),
        [assignment, program @ ("databricks" | "lakebase-token"), ref rest @ ..] => {
            let rest = [&[program], rest].concat().join(" ");
            assigned(assignment).map(|assigned| format!("{assigned}; {rest}"))
        }
        _ => None,
    };
    changed.unwrap_or(command.to_owned())
}

/// Words of sh as PowerShell quotes them; a word in quotes may have blanks.
fn requoted(words: &[&str]) -> String {
    words.join(" ").replace("'\\''", "''")
}

/// Text of HTML or XML.
pub fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(sh(r"a'b\c"), r"'a'\''b\c'");
        assert_eq!([sh_word("a.b"), sh_word("a;b"), sh_word("")], ["a.b", "'a;b'", "''"]);
        assert_eq!(fish(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(powershell("a'b\u{2019}"), "'a''b\u{2019}\u{2019}'");
        for (line, expected) in [
            ("unset A_B  # why", "Remove-Item Env:A_B  # why"),
            ("export A_B=it", "$env:A_B = 'it'"),
            ("A_B=C:\\x", "$env:A_B = 'C:\\x'"),
            ("A=\"$HOME/b\"", "A=\"$HOME/b\""),
            ("AB=\"$HOME/b\"", "$env:AB = \"$HOME/b\""),
            ("kill 12", "Stop-Process -Id 12"),
            ("env -u A_B lakebase-token login", "Remove-Item Env:A_B; lakebase-token login"),
            ("mkdir -p 'C:\\a b'", "New-Item -ItemType Directory 'C:\\a b'"),
            ("printf '%s\\n' '' '[x]' >>'C:\\a b'", "'', '[x]' | Add-Content 'C:\\a b'"),
            ("A_B=\"$C_D\"  # why", "$env:A_B = $env:C_D  # why"),
            ("mv ~/a ~/b && lakebase-token login", "mv ~/a ~/b; lakebase-token login"),
            ("A_B=c databricks auth login", "$env:A_B = 'c'; databricks auth login"),
            ("A_B=c or d, or unset it", "A_B=c or d, or unset it"),
            (
                r"printf '%s\n' '' '[it'\''s]' 'host = x' >>'C:\a'",
                r"'', '[it''s]', 'host = x' | Add-Content 'C:\a'",
            ),
            ("lakebase-token login --host=x", "lakebase-token login --host=x"),
            ("--timeout=3", "--timeout=3"),
        ] {
            assert_eq!(powershell_line(line), expected);
        }
        assert_eq!(markup("<a & b>"), "&lt;a &amp; b&gt;");
    }
}
