//! Quoting, once for each language that we write.

/// A word of sh: inside single quotes nothing is special but the quote itself.
pub fn sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word of fish, which knows two escapes inside single quotes: of a backslash and of a quote.
pub fn fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A string of PowerShell, which doubles a quote and takes the typographic ones for it too.
pub fn powershell(text: &str) -> String {
    const QUOTES: &str = "'\u{2018}\u{2019}\u{201a}\u{201b}";
    let doubled = text.chars().flat_map(|c| {
        let times = if QUOTES.contains(c) { 2 } else { 1 };
        std::iter::repeat_n(c, times)
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
    fn quotes_and_backslashes_are_carried() {
        assert_eq!(sh(r"a'b\c"), r"'a'\''b\c'");
        assert_eq!(fish(r"a'b\c"), r"'a\'b\\c'");
        assert_eq!(powershell("a'b\u{2019}"), "'a''b\u{2019}\u{2019}'");
        assert_eq!(markup("<a & b>"), "&lt;a &amp; b&gt;");
    }
}
