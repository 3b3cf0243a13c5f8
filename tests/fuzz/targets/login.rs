//! A Postgres server's answers to a login: none causes a panic; the password is sent as often as the server asks
//! for it in clear text, and stands in no message; and no login succeeds that the server has not accepted.

#![no_main]

use std::io::{self, Read, Write};
use std::time::Duration;

use lakebase_token::credential::connection::{REQUIRE, Tls};
use lakebase_token::credential::secret::Secret;
use lakebase_token::lakebase::login_probe::{PostgresLogin, answer_server};
use lakebase_token::lakebase::login_refusal::PostgresAttempt;
use lakebase_token::platform::time::Deadline;
use libfuzzer_sys::fuzz_target;

/// It does not look like a token, so only its being known hides it.
const PASSWORD: &str = "an-opaque.token";

/// What the server says, and what it hears.
struct Stream<'a> {
    answers: &'a [u8],
    heard: Vec<u8>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.answers.read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often the server asks for a password in clear text, wherever a message begins.
fn requests(answers: &[u8]) -> usize {
    answers.windows(9).filter(|part| part[0] == b'R' && part[5..] == [0, 0, 0, 3]).count()
}

fuzz_target!(|answers: &[u8]| {
    let password = Secret::new(PASSWORD);
    let tls = Tls { mode: REQUIRE, mode_elsewhere: REQUIRE, root_file: None };
    let login = PostgresLogin {
        host: "h",
        port: 5432,
        database: "d",
        user: "ada",
        password: &password,
        tls: &tls,
        options: None,
    };
    let mut stream = Stream { answers, heard: Vec::new() };
    let end = answer_server(&mut stream, &login, Deadline::after(Duration::from_secs(60)));

    let heard = stream.heard.windows(PASSWORD.len());
    let sent = heard.filter(|part| *part == PASSWORD.as_bytes()).count();
    assert!(sent <= requests(answers), "the password was not asked for");
    match end {
        Ok(session) => {
            assert!(!session.role.is_empty());
            let is_ok = |part: &[u8]| part[0] == b'R' && part[5..] == [0; 4];
            assert!(answers.windows(9).any(is_ok), "no login was accepted");
        }
        Err(failure) => {
            let _ = (
                failure.is_temporary(),
                failure.is_about_credential(),
                failure.host_may_have_changed(),
            );
            let attempt = PostgresAttempt {
                login,
                identity: None,
                subject: Some("me"),
                role_origin: None,
                port_origin: None,
                database_origin: None,
                direct_host: None,
            };
            for (_, text) in attempt.error(failure).lines() {
                assert!(
                    !text.contains(PASSWORD) && !text.chars().any(char::is_control),
                    "{text:?}"
                );
            }
        }
    }
});
