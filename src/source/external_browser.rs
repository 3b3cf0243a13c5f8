//! `external-browser`: a person's login of our own, kept in the state folder (`login.rs`).
//!
//! A refresh token may be good for once only, so it is used by a process of its own (the verb
//! `renew-login`), which finishes and stores what it has begun however this one ends: by a
//! deadline, Ctrl-C, or a caller that kills helpers after five seconds.

use serde_json::Value;

use super::{Ask, Source};
use crate::api::require;
use crate::error::{Error, Kind, Result};
use crate::login::{Key, Logins};
use crate::settings::{Id, Settings};
use crate::time::SECOND;
use crate::token::Token;
use crate::world::{Run, World};

pub const SOURCE: Source = Source {
    name: "external-browser",
    needs: "host or profile, and lakebase-token login",
    configured: |settings, world| {
        let named = settings.text(Id::AuthType) == Some("external-browser");
        settings.get(Id::Host).is_some() && (named || has_login(settings, world))
    },
    identity: |settings, _| Key::of(settings).map_or(String::new(), |key| key.flag()),
    ready: has_login,
    secret: None,
    role: None,
    switches: true,
    renews: true,
    fetch: Some(fetch),
};

fn has_login(settings: &Settings, world: &World) -> bool {
    Logins::of(world).is_some_and(|logins| logins.find(settings).is_some())
}

/// How somebody logs in with these settings.
pub fn command(settings: &Settings) -> String {
    let flag = Key::of(settings).map_or("--host https://…".to_owned(), |key| key.flag());
    format!("lakebase-token login {flag}")
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    let login = Logins::of(ask.world).and_then(|logins| logins.find(ask.settings));
    let Some(login) = login else {
        return Err(Error::login("nobody has logged in here").hint(command(ask.settings)));
    };
    let flag = login.key.flag();
    let mut words = vec!["renew-login"];
    words.extend(flag.split_once(' ').map(|(flag, name)| [flag, name]).into_iter().flatten());
    if ask.refused {
        words.push("--refresh");
    }
    let program = (ask.world.program)()
        .map_err(|e| Error::failed("cannot find this program's own file").because(e))?;
    let run = ask.world.run(&program, &words, |_| true, ask.held, ask.deadline);
    let stdout = match run.map_err(|e| Error::failed("cannot renew the login").because(e))? {
        Run::Ended { stdout, .. } => stdout,
        Run::StillRunning => {
            return Err(Error::unavailable("the login is not renewed yet")
                .because("that goes on in the background")
                .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT"));
        }
    };
    let body: Value = serde_json::from_slice(&stdout)
        .map_err(|_| Error::failed("the login could not be renewed"))?;
    if let Some(error) = error(&body) {
        return Err(error);
    }
    let now = ask.world.now();
    let text = require(&body, "access_token", "the login")?;
    let stated = body["expires_in"].as_i64().map(|life| now.plus(life.saturating_mul(SECOND)));
    Token::received("the workspace's token", text, stated, now)
}

/// A failure, as `renew-login` prints it.
fn error(body: &Value) -> Option<Error> {
    let failure = body["error"].as_object()?;
    let code = failure["kind"].as_u64().and_then(|code| u8::try_from(code).ok());
    let kind = code.and_then(Kind::from_code).unwrap_or(Kind::Failed);
    let texts = |name: &str| -> Vec<String> {
        let list = failure[name].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut error = Error::new(kind, failure["message"].as_str().unwrap_or_default());
    (error.because, error.hints) = (texts("because"), texts("hints"));
    Some(error)
}
