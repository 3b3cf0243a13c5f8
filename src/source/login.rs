//! A person's login of our own, kept in the state folder (`login.rs`): `external-browser`, and
//! `pat` where the login is a personal access token that replaces itself.
//!
//! What a login is renewed with may be good for once only, so that is done by a process of its own
//! (the verb `renew-login`), which finishes and stores what it has begun however this one ends: by
//! a deadline, Ctrl-C, or a caller that kills helpers after five seconds.

use std::time::Duration;

use super::{Ask, ROW, Source};
use crate::error::{Error, Kind, Result, clean};
use crate::login::renew::{Need, nobody, read};
use crate::login::{self, Key, Login, Logins};
use crate::settings::{Id, Settings};
use crate::token::{LEAST_LIFE, Token};
use crate::world::{Run, World};

pub const BROWSER: Source = Source {
    name: login::BROWSER,
    needs: "host or profile, and lakebase-token login",
    configured: |settings, world| {
        let named = settings.text(Id::AuthType) == Some(BROWSER.name);
        settings.get(Id::Host).is_some() && (named || ready_by_browser(settings, world))
    },
    identity,
    ready: ready_by_browser,
    switches: true,
    login: true,
    own_login: true,
    fetch: Some(fetch),
    ..ROW
};

/// Its tokens are not cached: the login is where they are kept.
pub const PAT: Source = Source {
    name: login::PAT,
    needs: "host or profile, and lakebase-token login --pat",
    configured: ready_by_pat,
    ready: ready_by_pat,
    cached: false,
    ..BROWSER
};

fn ready_by_browser(settings: &Settings, world: &World) -> bool {
    is_of(login::BROWSER, settings, world)
}

fn ready_by_pat(settings: &Settings, world: &World) -> bool {
    is_of(login::PAT, settings, world)
}

fn is_of(auth_type: &str, settings: &Settings, world: &World) -> bool {
    settings.login(world).is_some_and(|login| login.means.auth_type() == auth_type)
}

/// Another person who logs in here is another identity.
fn identity(settings: &Settings, world: &World) -> String {
    let login = settings.login(world);
    login.map_or(String::new(), |login| format!("{} {}", login.key.flag(), login.who))
}

fn fetch(ask: &Ask<'_>) -> Result<Token> {
    /// Nobody has to wait for a successor where the old one is still good.
    const PATIENCE: Duration = Duration::from_secs(2);
    // As it is now: it may have been renewed since this call began.
    let Some(login) = Logins::of(ask.world)?.find(ask.settings) else {
        let key = Key::of(ask.settings);
        return Err(nobody(&key.unwrap_or(Key::Host("https://…".to_owned()))));
    };
    let another = ask.refused || ask.least == i64::MAX;
    let need = if another { Need::Another } else { Need::Life(ask.least) };
    if login.serves(need, ask.world.now()) {
        return Ok(token(&login));
    }
    // A personal access token that is to be replaced is still good; an access token that was to be
    // renewed has too little life.
    let is_pat = login.means.auth_type() == login::PAT;
    let good = is_pat && !ask.refused && login.left(ask.world.now()) > LEAST_LIFE;
    if good && ask.settings.is_on(Id::Offline) {
        return Ok(token(&login));
    }
    let deadline = if good { ask.deadline.at_most(PATIENCE) } else { ask.deadline };
    let renewed = Ask { deadline, ..*ask }.renewed(&login, need);
    match renewed {
        Err(error) if good && error.kind != Kind::Login => {
            ask.world.note(&format!("the personal access token is not replaced yet: {error}"));
            Ok(token(&login))
        }
        renewed => renewed,
    }
}

fn token(login: &Login) -> Token {
    Token {
        secret: login.access.clone(),
        issued: login.issued,
        expires: Some(login.expires),
        lifetime: login.expires.since(login.issued),
        subject: Some(login.who.clone()),
    }
}

impl Ask<'_> {
    /// Has a login renewed by a process of its own.
    fn renewed(&self, login: &Login, need: Need) -> Result<Token> {
        let program = self
            .world
            .itself()
            .map_err(|e| Error::failed("cannot find this program's own file").because(e))?;
        let need = match need {
            Need::Another => "another".to_owned(),
            Need::Life(least) => least.to_string(),
        };
        let [flag, name] = login.key.words();
        let words = ["renew-login", flag, name, &need];
        let run = self.world.run(&program, &words, |_| true, &[], self.held, self.deadline);
        match run.map_err(|e| Error::failed("cannot renew the login").because(e))? {
            Run::Ended { status, stdout, stderr } => {
                let said = || clean(&String::from_utf8_lossy(&stderr));
                read(&stdout, self.world).ok_or_else(|| {
                    Error::failed("the login could not be renewed")
                        .because(format!("lakebase-token renew-login: {status}: {}", said()))
                        .hint(login.command())
                })?
            }
            Run::StillRunning => Err(Error::unavailable("the login is not renewed yet")
                .because("that goes on in the background")
                .hint("a longer --timeout, or LAKEBASE_TOKEN_TIMEOUT")),
        }
    }
}
