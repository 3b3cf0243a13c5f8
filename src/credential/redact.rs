//! Redacts secrets in text from outside (servers, child programs, settings) and makes it fit one
//! line of output.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::credential::encoding::percent_encode;

/// What replaces a secret.
pub const REDACTED: &str = "***";

/// The longest text that a message repeats.
const MAX_CHARS: usize = 300;

/// How a JWT begins: `{"` in base64.
const JWT_PREFIX: &str = "eyJ";

/// How personal access tokens and service principals' secrets begin. Random letters and digits
/// follow, so a profile `dose-tracking` is not one.
const RANDOM_TOKEN_PREFIXES: [&str; 2] = ["dapi", "dose"];

/// With fewer characters it is not a token.
const MIN_TOKEN_BYTES: usize = 12;

/// With a shorter secret, [`redact_secret`] would also hide ordinary words.
const MIN_SECRET_BYTES: usize = 8;

/// A text for one line of output: without control characters, shortened, and with everything
/// redacted that looks like a secret.
pub fn redact(text: &str) -> String {
    let plain = text.chars().map(|c| if is_unprintable(c) { ' ' } else { c });
    let mut plain = plain.skip_while(|c| c.is_whitespace());
    let mut start: String = plain.by_ref().take(4 * MAX_CHARS).collect();
    if plain.next().is_some() {
        start.push('…');
    }

    let start = redact_passwords(start);
    let mut line = String::with_capacity(start.len());
    let mut follows_scheme = false;
    for word in start.split_inclusive(char::is_whitespace) {
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

/// Lines for a terminal, in which no character moves the cursor or turns the direction of the text.
pub fn printable(lines: &str) -> String {
    lines.chars().map(|c| if c != '\n' && is_unprintable(c) { ' ' } else { c }).collect()
}

/// Control characters, and those of Unicode's bidirectional algorithm (UAX #9) and of no width.
fn is_unprintable(c: char) -> bool {
    let is_directional = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    let has_no_width = matches!(c, '\u{ad}' | '\u{180e}' | '\u{feff}')
        || ('\u{200b}'..='\u{200d}').contains(&c)
        || ('\u{2060}'..='\u{2064}').contains(&c)
        || ('\u{fff9}'..='\u{fffb}').contains(&c)
        || ('\u{e0000}'..='\u{e007f}').contains(&c);
    let separates_lines = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || is_directional || has_no_width || separates_lines
}

/// Redacts the user information of a URL, and every part of the word that may be a token.
fn redact_word(word: &str, follows_scheme: bool) -> String {
    let word = redact_user_info(word);
    let parts = word.split_inclusive(|c| !is_token_char(c));
    parts.map(|part| redact_token(part, follows_scheme)).collect()
}

/// Replaces the values of libpq's `password=` and `sslpassword=`, which may be in quotes, and in the query of a
/// URL end at `&`.
fn redact_passwords(text: String) -> String {
    const NAME: &str = "password=";
    let lower = text.to_ascii_lowercase();
    if !lower.contains(NAME) {
        return text;
    }
    let mut redacted = String::new();
    let mut done = 0;
    while let Some(at) = lower[done..].find(NAME) {
        let start = done + at + NAME.len();
        let value = &text[start..];
        let length = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => value[1..].find(quote).map(|end| end + 2),
            _ => value.find(|c: char| c == '&' || c.is_whitespace()),
        };
        redacted += &text[done..start];
        redacted += REDACTED;
        done = start + length.unwrap_or(value.len());
    }
    redacted + &text[done..]
}

/// Replaces `user:password` before the last `@` of a URL or of a connection string. An unescaped password
/// may contain `@`, `/`, `?` or `#`.
fn redact_user_info(word: &str) -> String {
    let scheme = word.find("://");
    let start = scheme.map_or(0, |scheme| scheme + 3);
    let (user_info, _) = word[start..].rsplit_once('@').unwrap_or_default();
    // The subject of a job on GitHub has `@` and `:` too, but `/` before them; and the path of a URL with a port
    // may have `@`.
    let is_port = |text: &str| word.starts_with("http") && text.bytes().all(|b| b.is_ascii_digit());
    let begins_like_a_name = match (user_info.find(':'), user_info.find('/')) {
        (Some(colon), Some(slash)) if colon < slash => {
            scheme.is_some() && !is_port(&user_info[colon + 1..slash])
        }
        (Some(_), Some(_)) => false,
        (colon, _) => colon.is_some(),
    };
    if !begins_like_a_name {
        return word.to_owned();
    }
    [&word[..start], REDACTED, &word[start + user_info.len()..]].concat()
}

/// Replaces a token that begins like one of Databricks', follows an auth scheme or is the value of an
/// `Authorization` header.
fn redact_token(part: &str, follows_scheme: bool) -> String {
    const HEADER: &str = "authorization=";
    let token = part.trim_end_matches(|c| !is_token_char(c));
    let header = token.to_ascii_lowercase().find(HEADER).map(|at| at + HEADER.len());
    let is_scheme =
        |at: &usize| ["bearer", "basic"].contains(&token[*at..].to_ascii_lowercase().as_str());
    let starts = [header.filter(|at| !is_scheme(at)), token_start(token)];
    let start = starts.into_iter().flatten().min();

    // "Bearer abc123" contains a token, "Bearer token is expired" does not.
    let unlike_a_word = |b: u8| b.is_ascii_digit() || b"._~+/=".contains(&b);
    let may_be_token = token.len() >= MIN_TOKEN_BYTES || token.bytes().any(unlike_a_word);
    let start = start.or((follows_scheme && may_be_token).then_some(0));
    match start {
        Some(start) => [&part[..start], REDACTED, &part[token.len()..]].concat(),
        None => part.to_owned(),
    }
}

fn token_start(text: &str) -> Option<usize> {
    let jwt = text.find(JWT_PREFIX).filter(|at| text.len() - at >= MIN_TOKEN_BYTES);
    jwt.or_else(|| RANDOM_TOKEN_PREFIXES.iter().find_map(|prefix| random_token_start(text, prefix)))
}

/// Whether a text is like a personal access token or a service principal's secret.
pub fn begins_like_api_secret(text: &str) -> bool {
    RANDOM_TOKEN_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}

fn random_token_start(text: &str, prefix: &str) -> Option<usize> {
    let mut starts = text.match_indices(prefix).map(|(at, _)| at);
    starts.find(|at| {
        let Some(next) = text.as_bytes().get(at + prefix.len()..at + MIN_TOKEN_BYTES) else {
            return false;
        };
        next.iter().all(u8::is_ascii_alphanumeric) && !next.iter().all(u8::is_ascii_lowercase)
    })
}

/// RFC 6750's `b64token`.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/=".contains(c)
}

/// Redacts every occurrence of a known secret, in each encoding in which a request carries it or an
/// answer may repeat it.
pub fn redact_secret(text: &str, secret: &str) -> String {
    if secret.len() < MIN_SECRET_BYTES {
        return text.to_owned();
    }
    let encoded = percent_encode(secret);
    let [of_go, of_python] = HTML_QUOTES.map(|quotes| html_escape(secret, quotes));
    let forms = [secret, &encoded, &lower_case_escapes(&encoded), &of_go, &of_python];
    let text = forms.iter().fold(text.to_owned(), |text, form| redact_form(text, form));

    // The Basic header has the percent-encoded secret in base64 (RFC 6749, section 2.3.1).
    (0..3).fold(text, |text, offset| {
        let text = redact_base64(text, secret, offset);
        redact_base64(text, &encoded, offset)
    })
}

fn redact_form(text: String, form: &str) -> String {
    redact_cut(text.replace(form, REDACTED), form)
}

/// A shortened text may end in the middle of a secret.
fn redact_cut(text: String, form: &str) -> String {
    let Some(cut) = text.strip_suffix('…') else { return text };
    let starts = cut.char_indices().map(|(at, _)| at);
    let mut starts = starts.filter(|at| cut.len() - at >= MIN_SECRET_BYTES);
    match starts.find(|at| form.starts_with(&cut[*at..])) {
        Some(at) => format!("{}{REDACTED}…", &cut[..at]),
        None => text,
    }
}

/// Redacts every base64 text that holds the secret, for example within `id:secret`, where `offset`
/// bytes precede it in its group of three.
fn redact_base64(mut text: String, secret: &str, offset: usize) -> String {
    let encoded = STANDARD_NO_PAD.encode([&b"\0\0"[..offset], secret.as_bytes()].concat());
    // The characters at both ends depend on the neighbouring bytes, too.
    let depends_on_end = usize::from(!(offset + secret.len()).is_multiple_of(3));
    let inner = &encoded[(offset * 8).div_ceil(6)..encoded.len() - depends_on_end];
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);

    while let Some(at) = text.find(inner) {
        let start = text[..at].trim_end_matches(is_base64).len();
        let rest = text[at..].trim_start_matches(is_base64).len();
        text.replace_range(start..text.len() - rest, REDACTED);
    }
    redact_cut(text, inner)
}

/// The double and the single quote as the HTML libraries of Go and of Python escape them.
const HTML_QUOTES: [[&str; 2]; 2] = [["&#34;", "&#39;"], ["&quot;", "&#x27;"]];

fn html_escape(text: &str, [double, single]: [&str; 2]) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', double).replace('\'', single)
}

/// `%2F` as `%2f`.
fn lower_case_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        text.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    text
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
        // A long secret leaves room for what follows it.
        let after = redact(&format!("{} eyJ{} end", "x ".repeat(50), "a".repeat(700)));
        assert!(after.ends_with("*** end"), "{after}");
    }

    #[test]
    fn no_character_turns_the_direction_of_a_line() {
        assert_eq!(redact("a\u{202e}b\u{200b}c\u{2066}"), "a b c");
        assert_eq!(printable("a\u{1b}[2J\u{202e}\nb\n"), "a [2J \nb\n");
    }

    #[test]
    fn a_known_secret_is_redacted_in_every_encoding() {
        // Three lengths, since base64 has groups of three bytes.
        for end in ["", "x", "xy"] {
            redacts_all_forms(&format!("S3cret&<with/+ 'all'>%{end}"));
        }
        // Too short a part of it, or too short a secret, may be a word.
        assert_eq!(redact_secret("no S3cret&…", "S3cret&<with"), "no S3cret&…");
        assert_eq!(redact_secret("a horse…", "horse"), "a horse…");
    }

    fn redacts_all_forms(secret: &str) {
        use base64::engine::general_purpose::STANDARD;

        let encoded = percent_encode(secret);
        let forms = [
            secret.to_owned(),
            lower_case_escapes(&encoded),
            encoded,
            html_escape(secret, HTML_QUOTES[0]),
            html_escape(secret, HTML_QUOTES[1]),
            STANDARD.encode(secret),
            STANDARD.encode(format!("id:{secret}")),
            STANDARD.encode(format!("an-id:{secret}")),
            STANDARD.encode(format!("the-id:{secret}!")),
            STANDARD.encode(format!("x-id:{secret}!")),
        ];
        for form in forms {
            assert_eq!(
                redact_secret(&format!("no '{form}' here"), secret),
                "no '***' here",
                "{form}"
            );

            // Cut before its last characters.
            let cut: String = form.chars().take(form.chars().count() - 4).collect();
            let hidden = redact_secret(&format!("no '{cut}…"), secret);
            assert!(hidden.ends_with("***…"), "{hidden}");
        }
    }

    #[test]
    fn text_that_looks_like_a_secret_is_redacted() {
        for (text, expected) in [
            ("bad token eyJhbGciOi.eyJzdWIi.c2ln!", "bad token ***!"),
            ("header 'Bearer abc1' and Basic YTpi=", "header 'Bearer ***' and Basic ***"),
            ("Bearer  opaque-token-123456", "Bearer  ***"),
            ("Bearer token is expired", "Bearer token is expired"),
            ("Basic authentication is off", "Basic *** is off"),
            ("postgres://me:hun@ter2@h/a@b", "postgres://***@b"),
            ("postgres://me:hun/ter2@h.x/db", "postgres://***@h.x/db"),
            ("https://u:h#n?ter2@h/x", "https://***@h/x"),
            ("https://u:hun/ter2@h/x", "https://***@h/x"),
            ("https://h:8443/x", "https://h:8443/x"),
            ("https://h/x:1@y", "https://h/x:1@y"),
            ("a=b=c=eyJhb is short", "a=b=c=eyJhb is short"),
            ("me:p@hunter2@h.x", "***@h.x"),
            ("host=h user=me password=hunter2 port=1", "host=h user=me password=*** port=1"),
            ("host=h password='hunter two' port=1", "host=h password=*** port=1"),
            (
                "postgresql://me:hunter2@h/db?sslpassword=x&a=b",
                "postgresql://***@h/db?sslpassword=***&a=b",
            ),
            (
                "postgresql://h/db?password=p1&sslpassword=p2",
                "postgresql://h/db?password=***&sslpassword=***",
            ),
            ("https://h:8443/Workspace/Users/me@x.com", "https://h:8443/Workspace/Users/me@x.com"),
            ("{\"t\":\"dapi0123456789abcdef\"}", "{\"t\":\"***\"}"),
            ("secret=dose0123456789abcdef.", "secret=***"),
            ("postgresql://me:hunter2@h/db", "postgresql://***@h/db"),
            ("me:hunter2@h", "***@h"),
            ("ada@example.com has no dapi", "ada@example.com has no dapi"),
            ("subject repo:acme@1/shop@2", "subject repo:acme@1/shop@2"),
            ("profile dose-tracking-prod", "profile dose-tracking-prod"),
            ("Authorization=c2VjcmV0OnNlY3JldA", "Authorization=***"),
            ("x/eyJhbGciOi.eyJzdWIi.authorization=no", "x/***"),
            ("Authorization=Basic c2VjcmV0OnNlY3JldA", "Authorization=Basic ***"),
        ] {
            assert_eq!(
                redact(text).trim_end_matches('.'),
                expected.trim_end_matches('.'),
                "{text}"
            );
        }
    }
}
