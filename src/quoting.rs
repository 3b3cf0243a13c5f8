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
        assert_eq!(markup("<a & b>"), "&lt;a &amp; b&gt;");
    }
}
