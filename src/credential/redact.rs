//! Redacts secrets in text from outside (servers, child programs, settings) and makes it fit one
//! line of output.

/// What replaces a secret.
pub const REDACTED: &str = "***";

/// The longest text that a message repeats.
const MAX_CHARS: usize = 300;

/// How JWTs, personal access tokens and service principals' secrets begin.
const TOKEN_PREFIXES: [&str; 3] = ["eyJ", "dapi", "dose"];

/// A shorter word with such a prefix is not a token ("dapi" alone, "eyJ").
const MIN_TOKEN_BYTES: usize = 12;

/// With a shorter secret, [`hide`] would also hide ordinary words.
const MIN_SECRET_BYTES: usize = 8;

/// A text for one line of output: without control characters, shortened, and with everything
/// redacted that looks like a secret.
pub fn redact(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.skip_while(|c| c.is_whitespace()).take(4 * MAX_CHARS).collect();

    let mut line = String::with_capacity(plain.len());
    let mut follows_scheme = false;
    for word in plain.split_inclusive(char::is_whitespace) {
        line.push_str(&redact_word(word, follows_scheme));
        let word = word.trim_end().to_ascii_lowercase();
        if !word.is_empty() {
            follows_scheme = word.ends_with("bearer") || word.ends_with("basic");
        }
    }

    line.truncate(line.trim_end().len());
    if let Some((end, _)) = line.char_indices().nth(MAX_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Redacts the user information of a URL, and every part of the word that may be a token.
fn redact_word(word: &str, follows_scheme: bool) -> String {
    let word = redact_user_info(word);
    let parts = word.split_inclusive(|c| !is_token_char(c));
    parts.map(|part| redact_token(part, follows_scheme)).collect()
}

/// Replaces `user:password` before the `@` of a URL or of a connection string.
fn redact_user_info(word: &str) -> String {
    let start = word.find("://").map_or(0, |scheme| scheme + 3);
    let end = word[start..].find(['/', '?', '#']).map_or(word.len(), |end| start + end);
    let (user_info, _) = word[start..end].rsplit_once('@').unwrap_or_default();
    if !user_info.contains(':') {
        return word.to_owned();
    }
    [&word[..start], REDACTED, &word[start + user_info.len()..]].concat()
}

/// Replaces a token that begins like one of Databricks' or follows an auth scheme.
fn redact_token(part: &str, follows_scheme: bool) -> String {
    let token = part.trim_end_matches(|c| !is_token_char(c));
    let prefix = TOKEN_PREFIXES.iter().find_map(|prefix| token.find(prefix));
    let start = prefix.filter(|at| token.len() - at >= MIN_TOKEN_BYTES);

    // "Bearer abc123" contains a token, "Bearer token is expired" does not.
    let unlike_a_word = |b: u8| b.is_ascii_digit() || b"._~+/=".contains(&b);
    let may_be_token = token.len() >= MIN_TOKEN_BYTES || token.bytes().any(unlike_a_word);
    let start = start.or((follows_scheme && may_be_token).then_some(0));
    match start {
        Some(start) => [&part[..start], REDACTED, &part[token.len()..]].concat(),
        None => part.to_owned(),
    }
}

/// RFC 6750's `b64token`.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=".contains(c)
}

/// Redacts every occurrence of a known secret: servers repeat what they are sent.
pub fn hide(text: &str, secret: &str) -> String {
    if secret.len() < MIN_SECRET_BYTES {
        return text.to_owned();
    }
    let text = text.replace(secret, REDACTED);

    // A shortened text may end in the middle of the secret.
    let Some(cut) = text.strip_suffix('…') else { return text };
    let starts = cut.char_indices().map(|(at, _)| at);
    let mut starts = starts.filter(|at| cut.len() - at >= MIN_SECRET_BYTES);
    match starts.find(|at| secret.starts_with(&cut[*at..])) {
        Some(at) => format!("{}{REDACTED}…", &cut[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed_and_long_texts_shortened() {
        assert_eq!(redact(" a\r\nb\u{1b}[31m "), "a  b [31m");
        let long = redact(&"x ".repeat(5000));
        assert_eq!(long.chars().count(), 301);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn text_that_looks_like_a_secret_is_redacted() {
        for (text, expected) in [
            ("bad token eyJhbGciOi.eyJzdWIi.c2ln!", "bad token ***!"),
            ("header 'Bearer abc1' and Basic YTpi=", "header 'Bearer ***' and Basic ***"),
            ("Bearer  opaque-token-123456", "Bearer  ***"),
            ("Bearer token is expired", "Bearer token is expired"),
            ("Basic authentication is off", "Basic *** is off"),
            ("postgres://me:hun@ter2@h/a@b", "postgres://***@h/a@b"),
            ("{\"t\":\"dapi0123456789abcdef\"}", "{\"t\":\"***\"}"),
            ("secret=dose0123456789abcdef.", "secret=***"),
            ("postgresql://me:hunter2@h/db", "postgresql://***@h/db"),
            ("me:hunter2@h", "***@h"),
            ("ada@example.com has no dapi", "ada@example.com has no dapi"),
        ] {
            assert_eq!(
                redact(text).trim_end_matches('.'),
                expected.trim_end_matches('.'),
                "{text}"
            );
        }
    }
}
