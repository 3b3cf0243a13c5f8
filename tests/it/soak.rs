//! A month by moved clocks: shells and pools that ask at random, some of them at once, a password file that a
//! timer keeps up to date and one that `watch` does, two people who log in by turns, a workspace that is down one
//! hour in a hundred, secrets that are replaced each week, and a real Postgres. `tests/campaign` takes thirty days,
//! a plain run two.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};

use lakebase_token::credential::secret::Secret;
use lakebase_token::login::record::{Login, LoginKey, RenewWith};
use lakebase_token::login::renewal::{TokenNeed, renew};
use lakebase_token::platform::steps::{Step, set_hook};
use lakebase_token::platform::time::Timestamp;

use super::faults::{is_campaign, times};
use super::support::{Dice, MINUTE, Test, call, login_of, sandbox_with_psql, store_login};
use crate::sandbox::Sandbox;
use crate::sandbox::jwt::{Scope, now};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, CLIENT_SECRET, MINT, OTHER_USER, USER, Workspace};

const MINUTES_OF_A_DAY: usize = 24 * 60;

/// How often a check of `watch`, or a timer of `service`, runs.
const CHECK_MINUTES: usize = 10;

/// A credential lives an hour and is refreshed early when it has 20 minutes left.
const LIFE_OF_USE_MINUTES: usize = 40;

/// Beside a file that is checked, it is replaced when it would not outlive two checks and five minutes.
const LIFE_BESIDE_A_FILE_MINUTES: usize = 30;

/// How often a password is also used by psql.
const LOGIN_MINUTES: usize = 60;

/// The homes: shells and pools ask in each.
const PRINCIPAL: usize = 0;

/// Here a file is kept up to date, too.
const WITH_FILE: usize = 1;

/// Here people log in.
const PEOPLE: usize = 2;

/// Here `watch` keeps a file up to date.
const WATCHED: usize = 3;

const HOMES: [usize; 4] = [PRINCIPAL, WITH_FILE, PEOPLE, WATCHED];

/// `watch` in a thread of its own, which goes on once a minute.
struct Watch {
    clock: Arc<AtomicI64>,
    go_on: Sender<()>,
    waits: Receiver<()>,
}

impl Watch {
    fn start(home: &Test) -> Watch {
        let clock = Arc::new(AtomicI64::new(0));
        let ((go_on, orders), (say, waits)) = (channel(), channel());
        let (env, time) = (home.env.clone(), clock.clone());
        let secret = home.home.path().join("secret").to_str().unwrap().to_owned();
        std::thread::spawn(move || {
            let mut own = Test::bare();
            own.env = env;
            let mut context = own.context(|_| ());
            context.now = Box::new(move || Timestamp::of_system().plus(time.load(SeqCst)));
            let last = Cell::new(Step::Read);
            set_hook(Some(Rc::new(move |step| {
                // After an answer, it is the pause before another try.
                if step != Step::Sleep || last.replace(step) == Step::Answer {
                    last.set(step);
                    return false;
                }
                say.send(()).unwrap();
                if orders.recv().is_err() {
                    resume_unwind(Box::new("the month is over"));
                }
                true
            })));
            let words = ["watch", "pgpass", "--interval", "10m", "--timeout", "1s"];
            let words = words.into_iter().chain(["--client-secret-file", &secret]);
            let words: Vec<_> = words.map(std::ffi::OsString::from).collect();
            let (mut stdout, mut stderr) = (std::io::sink(), std::io::sink());
            let run = || lakebase_token::run(&words, &context, &mut stdout, &mut stderr);
            let ended = catch_unwind(AssertUnwindSafe(run));
            assert!(ended.is_err(), "watch has ended: {ended:?}");
        });
        waits.recv().unwrap();
        Watch { clock, go_on, waits }
    }

    fn minute(&self) {
        self.clock.fetch_add(MINUTE, SeqCst);
        self.go_on.send(()).unwrap();
        self.waits.recv().expect("watch goes on");
    }
}

struct Month<'w> {
    sandbox: &'w Sandbox,
    workspace: &'w Workspace,
    homes: [Test; 4],
    watch: Watch,
    /// Whose login is stored.
    person: &'static str,
    dice: Dice,
    down_until: usize,
    minutes_down: usize,
    asked: usize,
    /// How many of them were not alone.
    asked_at_once: usize,
    refused_while_down: usize,
    psql_logins: usize,
    mints: usize,
    /// Requests for one while the workspace was down.
    refused_mints: usize,
    minutes_of_a_secret: usize,
}

impl Month<'_> {
    fn minute(&mut self, minute: usize) {
        let is_down = minute < self.down_until;
        let mints = self.workspace.count(MINT);
        if !is_down && self.dice.roll(100 * 15) == 0 {
            // A quarter of an hour each, a hundredth of the time.
            self.down_until = minute + 15;
        }
        self.workspace.state().faults.clear();
        if is_down {
            self.minutes_down += 1;
            let no = Answer::Json(503, serde_json::json!({ "message": "maintenance" }));
            self.workspace.fault("/", usize::MAX, no);
        }
        let (week, minute_of_week) =
            (minute / self.minutes_of_a_secret, minute % self.minutes_of_a_secret);
        if minute_of_week == self.minutes_of_a_secret - 1 {
            self.replace_secret(week);
        }
        if minute_of_week == self.minutes_of_a_secret / 2 {
            self.person = if self.person == USER { OTHER_USER } else { USER };
            self.log_in();
        }

        self.watch.minute();
        for home in HOMES {
            // Of twenty shells and five pools.
            let callers = (0..25).filter(|_| self.dice.percent(6)).count();
            self.ask(home, callers, is_down);
        }
        if minute.is_multiple_of(CHECK_MINUTES) {
            let line = format!("write pgpass --interval 10m {}", timeout_flag(is_down));
            let outcome = self.homes[WITH_FILE].run(&line);
            assert!(outcome.code == 0 || is_down, "{outcome:?}");
            self.check_file(WITH_FILE);
            self.check_file(WATCHED);
        }
        if minute % LOGIN_MINUTES == LOGIN_MINUTES - 1 {
            self.use_psql(is_down);
        }
        if is_down {
            self.refused_mints += self.workspace.count(MINT) - mints;
        }
        for home in &self.homes {
            home.set_clock(MINUTE);
        }
        self.workspace.state().skew += 60;
    }

    fn role(&self, home: usize) -> &'static str {
        if home == PEOPLE { self.person } else { CLIENT_ID }
    }

    /// The credentials that so many callers get at once; fewer if the workspace is down, which refuses.
    fn ask(&mut self, home: usize, callers: usize, is_down: bool) -> Vec<String> {
        let env = &self.homes[home].env;
        let ahead = self.homes[home].now().since(Timestamp::of_system());
        let login = (home == PEOPLE).then(|| LoginKey::Host(self.workspace.url.clone()));
        let line = format!("get {}", timeout_flag(is_down)).trim_end().to_owned();
        let ask = || {
            let mut own = Test::bare();
            own.env.clone_from(env);
            let mut context = own.context(|_| ());
            context.now = Box::new(move || Timestamp::of_system().plus(ahead));
            if let Some(login) = &login {
                // The program does it in a process of its own, which would have the real clock.
                let renewed = renew(&context, login, TokenNeed::Life(5 * MINUTE));
                assert!(renewed.is_ok() || is_down, "the login is lost");
            }
            call(&context, &line)
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..callers).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        self.asked += callers;
        if callers > 1 {
            self.asked_at_once += callers;
        }
        let mut passwords = Vec::new();
        for (code, stdout, stderr) in answers {
            if code == 5 && is_down {
                self.refused_while_down += 1;
                continue;
            }
            assert_eq!(code, 0, "{stderr}");
            let password = stdout.trim_end().to_owned();
            self.is_accepted(&password, self.role(home));
            passwords.push(password);
        }
        passwords
    }

    /// Whether Postgres would accept the password now.
    fn is_accepted(&self, password: &str, role: &str) {
        let time = now() + self.workspace.state().skew;
        let checked = self.workspace.signer.check_at(password, Scope::Database, time);
        assert_eq!(checked.as_deref(), Ok(role));
    }

    fn check_file(&self, home: usize) {
        let file = fs::read_to_string(self.homes[home].password_file()).unwrap();
        assert_eq!(file.lines().count(), 1);
        self.is_accepted(file.trim_end().rsplit(':').next().unwrap(), CLIENT_ID);
    }

    /// Each home's credential as a password, and the files'.
    fn use_psql(&mut self, is_down: bool) {
        for home in HOMES {
            for password in self.ask(home, 1, is_down) {
                self.log_in_by_psql(self.role(home), "PGPASSWORD", &password);
            }
        }
        for home in [WITH_FILE, WATCHED] {
            let file = self.homes[home].password_file();
            self.log_in_by_psql(CLIENT_ID, "PGPASSFILE", file.to_str().unwrap());
        }
    }

    fn log_in_by_psql(&mut self, role: &str, variable: &str, value: &str) {
        let mut psql = Command::new("psql");
        psql.args(["-wAtc", "select current_user"]).env_clear();
        psql.env("PATH", std::env::var_os("PATH").unwrap()).envs(self.sandbox.env());
        let output = psql.env("PGUSER", role).env(variable, value).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), role, "{stderr}");
        self.psql_logins += 1;
    }

    /// Stores a login of the person whose turn it is.
    fn log_in(&self) {
        let context = self.homes[PEOPLE].context(|_| ());
        let refresh = Secret::new(self.workspace.state().log_in(self.person));
        let login = Login {
            renew_with: RenewWith::Refresh(Some(refresh)),
            ..login_of(self.workspace, self.person, context.now())
        };
        store_login(&login, &context).unwrap();
    }

    fn replace_secret(&mut self, week: usize) {
        let secret = format!("dose{week:032}");
        self.workspace.state().clients.insert(CLIENT_ID.to_owned(), secret.clone());
        for home in [PRINCIPAL, WITH_FILE, WATCHED] {
            self.homes[home].set("DATABRICKS_CLIENT_SECRET", &secret);
        }
        self.homes[WATCHED].write("secret", &secret);
    }
}

/// While the workspace is down, a call need not try for long.
fn timeout_flag(is_down: bool) -> &'static str {
    if is_down { "--timeout 300ms" } else { "" }
}

/// What may grow: files in the cache, open descriptors, resident memory in KiB. The last two are those of
/// all tests in this process, so they count only in a campaign, which has one test at a time.
fn sizes(home: &Test) -> [usize; 3] {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().split(' ').next()?.parse().ok());
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    [home.entries().len(), open, resident.unwrap_or_default()]
}

#[test]
fn a_month_passes_without_a_failed_login_and_with_few_mints() {
    let Some(sandbox) = sandbox_with_psql("soak::a_month_passes") else { return };
    let workspace = &sandbox.workspace;
    let days = times(2, 30);
    let mut homes = [(); 4].map(|()| Test::at(workspace));
    homes[PEOPLE] = Test::of_person(workspace);
    for home in &mut homes {
        for (name, value) in sandbox.env() {
            if ["SSL_CERT_FILE", "PGPORT", "PGDATABASE"].contains(&name) {
                home.set(name, &value);
            }
        }
    }
    homes[WATCHED].write("secret", CLIENT_SECRET);
    let watch = Watch::start(&homes[WATCHED]);
    let mut month = Month {
        sandbox: &sandbox,
        workspace,
        homes,
        watch,
        person: USER,
        dice: Dice::seeded(0x5eed_0000_0000_0001),
        down_until: 0,
        minutes_down: 0,
        asked: 0,
        asked_at_once: 0,
        refused_while_down: 0,
        psql_logins: 0,
        mints: 0,
        refused_mints: 0,
        // Of two days, a week is twelve hours.
        minutes_of_a_secret: times(MINUTES_OF_A_DAY / 2, 7 * MINUTES_OF_A_DAY),
    };
    month.log_in();
    let minutes = days * MINUTES_OF_A_DAY;
    let mut before = [[0; 3]; 4];
    for minute in 0..minutes {
        month.minute(minute);
        if minute == MINUTES_OF_A_DAY {
            before = HOMES.map(|home| sizes(&month.homes[home]));
        }
        // The stand-in keeps every request; only their number is needed.
        if minute.is_multiple_of(MINUTES_OF_A_DAY) {
            month.mints += month.workspace.count(MINT);
            month.workspace.state().requests.clear();
        }
    }

    let mints = month.mints + workspace.count(MINT) - month.refused_mints;
    // Each of the four logins after the first one needs another mint.
    let least =
        2 * (minutes / LIFE_OF_USE_MINUTES) + 2 * (minutes / LIFE_BESIDE_A_FILE_MINUTES) + 4;
    eprintln!(
        "{days} days: {} asked, {} of them at once, {} refused in the {} minutes while the workspace was down; {} logins by psql; \
         {mints} mints, {least} would do",
        month.asked,
        month.asked_at_once,
        month.refused_while_down,
        month.minutes_down,
        month.psql_logins
    );
    assert!(mints <= least * 105 / 100, "{mints} mints, and {least} would do");
    let down = month.minutes_down as f64 / minutes as f64;
    assert!(!is_campaign() || (0.005..0.02).contains(&down), "down for {down} of the time");
    assert!(month.asked_at_once > month.asked / 3, "{} asked at once", month.asked_at_once);
    assert!(mints >= least / 2, "{mints}: the clock did not move");
    assert!(month.refused_while_down * 1000 <= month.asked, "a quarter of an hour is bridged");
    let after = HOMES.map(|home| sizes(&month.homes[home]));
    eprintln!("files, descriptors, KiB: {before:?}, {after:?}");
    for (before, after) in before.into_iter().zip(after) {
        assert!(after[0] <= before[0] + 2, "the cache grows");
        if is_campaign() {
            assert!(after[1] <= before[1] + 4, "descriptors are left open");
            assert!(after[2] <= before[2] + 8 * 1024, "the memory grows");
        }
    }
}
