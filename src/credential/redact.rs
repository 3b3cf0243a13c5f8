//! Hides secrets in text that comes from outside, and makes it fit for one line of ours.

/// What stands in the place of a secret.
pub const REDACTED: &str = "***";

/// Somebody else's words, fit for one line of ours: no control characters, bounded, and with
/// everything blotted out that looks like a secret.
pub fn redact(words: &str) -> String {
    const MOST: usize = 300;
    let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let plain: String = plain.skip_while(|c| c.is_whitespace()).take(4 * MOST).collect();
    let mut line = String::with_capacity(plain.len());
    let mut scheme = false;
    for word in plain.split_inclusive(char::is_whitespace) {
        line.push_str(&masked(word, scheme));
        let word = word.trim_end().to_ascii_lowercase();
        if !word.is_empty() {
            scheme = word.ends_with("bearer") || word.ends_with("basic");
        }
    }
    line.truncate(line.trim_end().len());
    if let Some((end, _)) = line.char_indices().nth(MOST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A word without JWTs, Databricks' tokens and secrets, what follows an auth scheme, and the
/// user information of a URL.
fn masked(word: &str, after_scheme: bool) -> String {
    /// Beginnings of JWTs, personal access tokens and service principals' secrets.
    const BEGINNINGS: [&str; 3] = ["eyJ", "dapi", "dose"];
    const LEAST: usize = 12;
    let mut word = word.to_owned();
    let start = word.find("://").map_or(0, |scheme| scheme + 3);
    let end = word[start..].find(['/', '?', '#']).map_or(word.len(), |end| start + end);
    if let Some(at) = word[start..end].rfind('@').map(|at| start + at)
        && word[start..at].contains(':')
    {
        word.replace_range(start..at, REDACTED);
    }
    let in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let parts = word.split_inclusive(|c| !in_token(c));
    let hide = |part: &str| {
        let token = part.trim_end_matches(|c| !in_token(c));
        let known = BEGINNINGS.iter().find_map(|beginning| token.find(beginning));
        // "Bearer token is …" is about a token, "Bearer abc123" is one.
        let odd = |b: u8| b.is_ascii_digit() || b"._~+/=".contains(&b);
        let credential = after_scheme && (token.len() >= LEAST || token.bytes().any(odd));
        match known.filter(|at| token.len() - at >= LEAST).or(credential.then_some(0)) {
            Some(at) => [&part[..at], REDACTED, &part[token.len()..]].concat(),
            None => part.to_owned(),
        }
    };
    parts.map(hide).collect()
}

/// A shorter secret would hide innocent words.
const MIN_SECRET_BYTES: usize = 8;

/// The text without any occurrence of a secret: servers echo what they are sent.
pub fn hide(text: &str, secret: &str) -> String {
    if secret.len() < MIN_SECRET_BYTES {
        return text.to_owned();
    }
    let text = text.replace(secret, REDACTED);

    // What was cut off may end with the beginning of the secret.
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
    fn foreign_words_lose_control_characters_and_length() {
        assert_eq!(redact(" a\r\nb\u{1b}[31m "), "a  b [31m");
        let long = redact(&"x ".repeat(5000));
        assert_eq!(long.chars().count(), 301);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn foreign_words_lose_what_looks_like_a_secret() {
        for (words, expected) in [
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
                redact(words).trim_end_matches('.'),
                expected.trim_end_matches('.'),
                "{words}"
            );
        }
    }
}
