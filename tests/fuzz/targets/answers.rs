//! Answers of servers: none causes a panic, and every token that is accepted is well-formed and not
//! expired.

#![no_main]

use lakebase_token::credential::jwt::{PolicyClaims, expiry_within, holds_token};
use lakebase_token::credential::token::{Token, check_text};
use lakebase_token::lakebase::workspace_api::access_token;
use lakebase_token::net::answer::Answer;
use lakebase_token::net::sent_secrets::SentSecrets;
use lakebase_token::platform::time::Timestamp;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn sound(token: &Token) {
    check_text("token", token.secret.expose()).unwrap();
    assert!(token.left(NOW) > 0 && token.lifetime > 0, "{token:?}");
    let _ = token.to_string();
}

fuzz_target!(|data: &[u8]| {
    let _ = (expiry_within(data), holds_token(data));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (PolicyClaims::of(text), Timestamp::parse(text));
        if let Ok(token) = Token::received("token", text, None, NOW) {
            sound(&token);
        }
    }
    for content_type in ["application/json", "text/html"] {
        let (content_type, host) = (content_type.to_owned(), "h".to_owned());
        let answer = Answer {
            status: 400,
            content_type,
            body: data.to_vec(),
            host,
            location: String::new(),
            sent: SentSecrets::default(),
        };
        let (code, message) = answer.error_code_and_message();
        assert!(!code.chars().chain(message.chars()).any(char::is_control));
        if let Ok(token) = answer.json("request").and_then(|body| access_token("it", &body, NOW)) {
            sound(&token);
        }
    }
});
