//! A month by moved clocks: shells and pools that ask at random, a password file that is kept up to date, a
//! workspace that is down one hour in a hundred, secrets that are replaced each week. `tests/campaign` takes
//! thirty days, a plain run two.

use std::fs;

use super::faults::{is_campaign, times};
use super::support::{Dice, MINUTE, Test, workspace};
use crate::sandbox::jwt::{Scope, now};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, MINT, Workspace};

const MINUTES_OF_A_DAY: usize = 24 * 60;

/// How often a check of `watch`, or a timer of `service`, runs.
const CHECK_MINUTES: usize = 10;

/// A credential lives an hour and is refreshed early when it has 20 minutes left.
const LIFE_OF_USE_MINUTES: usize = 40;

/// Beside a file that is checked, it is replaced when it would not outlive two checks and five minutes.
const LIFE_BESIDE_A_FILE_MINUTES: usize = 30;

/// Two homes: one where shells and pools ask, one where a file is kept up to date, too.
struct Month<'w> {
    workspace: &'w Workspace,
    homes: [Test; 2],
    dice: Dice,
    down_until: usize,
    asked: usize,
    refused_while_down: usize,
    mints: usize,
    minutes_of_a_secret: usize,
}

impl Month<'_> {
    fn minute(&mut self, minute: usize) {
        let is_down = minute < self.down_until;
        if !is_down && self.dice.roll(100 * 15) == 0 {
            // A quarter of an hour each, a hundredth of the time.
            self.down_until = minute + 15;
        }
        self.workspace.state().faults.clear();
        if is_down {
            let no = Answer::Json(503, serde_json::json!({ "message": "maintenance" }));
            self.workspace.fault("/", usize::MAX, no);
        }
        if minute % self.minutes_of_a_secret == self.minutes_of_a_secret - 1 {
            self.replace_secret(minute / self.minutes_of_a_secret);
        }

        for home in 0..2 {
            // Twenty shells and five pools.
            for _ in 0..25 {
                if self.dice.percent(6) {
                    self.ask(home, is_down);
                }
            }
        }
        if minute.is_multiple_of(CHECK_MINUTES) {
            let line = format!("write pgpass --interval 10m {}", timeout_flag(is_down));
            let outcome = self.homes[1].run(&line);
            assert!(outcome.code == 0 || is_down, "{outcome:?}");
            self.check_file();
        }
        for home in &self.homes {
            home.set_clock(MINUTE);
        }
        self.workspace.state().skew += 60;
    }

    fn ask(&mut self, home: usize, is_down: bool) {
        self.asked += 1;
        let outcome = self.homes[home].run(&format!("get {}", timeout_flag(is_down)));
        if outcome.code == 5 && is_down {
            self.refused_while_down += 1;
            return;
        }
        assert_eq!(outcome.code, 0, "{outcome:?}");
        self.logs_in(outcome.stdout.trim_end());
    }

    /// Whether Postgres would accept the password now.
    fn logs_in(&self, password: &str) {
        let time = now() + self.workspace.state().skew;
        let checked = self.workspace.signer.check_at(password, Scope::Database, time);
        assert_eq!(checked.as_deref(), Ok(CLIENT_ID));
    }

    fn check_file(&self) {
        let file = fs::read_to_string(self.homes[1].home.path().join(".pgpass")).unwrap();
        assert_eq!(file.lines().count(), 1);
        self.logs_in(file.trim_end().rsplit(':').next().unwrap());
    }

    fn replace_secret(&mut self, week: usize) {
        let secret = format!("dose{week:032}");
        self.workspace.state().clients.insert(CLIENT_ID.to_owned(), secret.clone());
        for home in &mut self.homes {
            home.set("DATABRICKS_CLIENT_SECRET", &secret);
        }
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
    let workspace = workspace();
    let days = times(2, 30);
    let homes = [Test::at(&workspace), Test::at(&workspace)];
    let dice = Dice(0x5eed_0000_0000_0001);
    let mut month = Month {
        workspace: &workspace,
        homes,
        dice,
        down_until: 0,
        asked: 0,
        refused_while_down: 0,
        mints: 0,
        // A week of a month.
        minutes_of_a_secret: days * MINUTES_OF_A_DAY / 4,
    };
    let minutes = days * MINUTES_OF_A_DAY;
    let mut before = [0; 3];
    for minute in 0..minutes {
        month.minute(minute);
        if minute == MINUTES_OF_A_DAY {
            before = sizes(&month.homes[1]);
        }
        // The stand-in keeps every request; only their number is needed.
        if minute.is_multiple_of(MINUTES_OF_A_DAY) {
            month.mints += month.workspace.count(MINT);
            month.workspace.state().requests.clear();
        }
    }

    let mints = month.mints + workspace.count(MINT);
    let least = minutes / LIFE_OF_USE_MINUTES + minutes / LIFE_BESIDE_A_FILE_MINUTES;
    eprintln!(
        "{days} days: {} asked, {} refused while the workspace was down; {mints} mints, {least} would do",
        month.asked, month.refused_while_down
    );
    assert!(mints <= least * 105 / 100 + 4, "{mints} mints, and {least} would do");
    assert!(mints >= least / 2, "{mints}: the clock did not move");
    assert!(month.refused_while_down * 1000 <= month.asked, "a quarter of an hour is bridged");
    let after = sizes(&month.homes[1]);
    eprintln!("files, descriptors, KiB: {before:?}, {after:?}");
    assert!(after[0] <= before[0] + 2, "the cache grows");
    if is_campaign() {
        assert!(after[1] <= before[1] + 4, "descriptors are left open");
        assert!(after[2] <= before[2] + 8 * 1024, "the memory grows");
    }
}
