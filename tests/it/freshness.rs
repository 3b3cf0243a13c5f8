//! The table of `src/cache/policy.rs`, with the limits of `freshness.rs` beside it, by moving the clock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use lakebase_token::cache::policy::{CacheRequest, FetchCall, Need, Policy};
use lakebase_token::cache::store::{CacheFolder, CacheInputs};
use lakebase_token::config::settings::Settings;
use lakebase_token::credential::secret::Secret;
use lakebase_token::credential::token::Token;
use lakebase_token::error::{Error, ErrorKind, Result};
use lakebase_token::platform::context::Context;
use lakebase_token::platform::environment::Environment;
use lakebase_token::platform::time::{Deadline, Timestamp};

use super::stopwatch::Stopwatch;
use super::support::{HOUR, MINUTE, SECOND, Test, workspace};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{MINT, TOKEN, Workspace};

fn down(workspace: &Workspace, times: usize) {
    workspace.fault("/", times, Answer::Json(503, serde_json::json!({ "message": "maintenance" })));
}

#[test]
fn a_fresh_credential_comes_from_the_cache_without_a_request() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("get").token();
    assert_eq!(workspace.take_requests(), [format!("POST {TOKEN}"), format!("POST {MINT}")]);
    test.pass(39 * MINUTE);
    assert_eq!(test.run("").token(), first);
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn in_the_refresh_early_row_the_first_caller_refreshes() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(41 * MINUTE);
    let second = test.run("").token();
    assert_ne!(first, second);
    assert_eq!(workspace.count(MINT), 2);
    // The workspace token had enough life left to mint with.
    assert_eq!(workspace.count(TOKEN), 1);
    assert_eq!(test.run("").token(), second);
}

#[test]
fn in_the_refresh_early_row_any_failure_falls_back_to_the_old_credential_with_a_note() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(45 * MINUTE);
    for answer in [
        Answer::Json(
            403,
            serde_json::json!({ "error_code": "PERMISSION_DENIED", "message": "no" }),
        ),
        Answer::Json(200, serde_json::json!({ "token": 7 })),
        Answer::Json(404, serde_json::json!({ "error_code": "NOT_FOUND" })),
    ] {
        workspace.fault(MINT, 1, answer);
        let outcome = test.run("");
        assert_eq!(outcome.notes("using the cached credential"), first);
        test.pass(31 * SECOND); // until that failure is no longer cached
    }
}

#[test]
fn an_early_refresh_takes_at_most_two_seconds_and_is_not_repeated() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(45 * MINUTE);
    workspace.take_requests();
    workspace.fault("/", 1, Answer::Hang(Duration::from_secs(30)));
    let stopwatch = Stopwatch::start();
    assert_eq!(test.run("").notes("before the deadline"), first);
    stopwatch.assert_within(Duration::from_secs(4));
    // The failure is cached, so the next caller does not even try.
    let requests = workspace.take_requests().len();
    assert_eq!(requests, 1);
    assert_eq!(test.run("").token(), first);
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn in_the_must_refresh_row_a_new_credential_is_minted() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(51 * MINUTE);
    assert_ne!(test.run("").token(), first);
}

#[test]
fn in_the_must_refresh_row_only_a_passing_failure_falls_back_to_the_old_credential() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(55 * MINUTE);
    down(&workspace, 3);
    assert_eq!(test.run("").notes("is not available"), first);
    let no = serde_json::json!({ "error_code": "PERMISSION_DENIED", "message": "no CAN_USE" });
    workspace.fault(MINT, 1, Answer::Json(403, no));
    test.run("").fails(4, &["refused to mint", "PERMISSION_DENIED: no CAN_USE", "CAN USE"]);
}

#[test]
fn with_less_than_a_minute_left_there_is_no_fallback() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    test.pass(59 * MINUTE + 10 * SECOND);
    down(&workspace, 3);
    test.run("").fails(5, &["HTTP status 503", "maintenance"]);
}

#[test]
fn an_expired_credential_is_never_printed() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    test.pass(HOUR + SECOND);
    down(&workspace, 3);
    test.run("").fails(5, &["503"]);
    test.run("--offline").fails(5, &["--offline"]);
}

#[test]
fn short_lifetimes_have_narrow_bands() {
    let workspace = workspace();
    workspace.state().credential_life = 300;
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(149 * SECOND); // refreshed early from half of the lifetime on
    assert_eq!(test.run("").token(), first);
    test.pass(5 * SECOND);
    let second = test.run("").token();
    assert_ne!(second, first);
    assert_eq!(test.run("").token(), second, "no mint storm");
}

#[test]
fn min_ttl_asks_for_more_life() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(2 * MINUTE);
    assert_eq!(test.run("--min-ttl 50m").token(), first);
    test.pass(10 * MINUTE); // 48 minutes left
    let second = test.run("--min-ttl 50m").token();
    assert_ne!(second, first);
    // More than any credential has: one that is a minute old is accepted.
    assert_eq!(test.run("--min-ttl 3h").notes("sooner than --min-ttl asks for"), second);
    test.pass(2 * MINUTE);
    assert_ne!(test.run("--min-ttl 3h").notes("sooner than --min-ttl"), second);
}

#[test]
fn the_workspace_token_needs_only_a_minute_to_mint_with() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    test.pass(58 * MINUTE);
    test.run("--min-ttl 30m").token();
    assert_eq!((workspace.count(TOKEN), workspace.count(MINT)), (1, 2));
    test.pass(MINUTE + 30 * SECOND);
    test.run("--refresh").token();
    assert_eq!((workspace.count(TOKEN), workspace.count(MINT)), (2, 3));
}

#[test]
fn refresh_mints_now_and_never_falls_back() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(MINUTE);
    assert_ne!(test.run("--refresh").token(), first);
    test.pass(MINUTE);
    down(&workspace, 3);
    test.run("--refresh").fails(5, &["503"]);
}

#[test]
fn a_refusal_is_cached_for_three_seconds() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong");
    for _ in 0..13 {
        test.run("").fails(
            4,
            &["invalid_client: Client authentication failed", "DATABRICKS_CLIENT_SECRET"],
        );
    }
    assert_eq!(workspace.take_requests().len(), 1);
    test.pass(4 * SECOND);
    test.run("").fails(4, &["invalid_client"]);
    assert_eq!(workspace.take_requests().len(), 1);
    // --refresh ignores it, and so does another secret.
    test.run("--refresh").fails(4, &["invalid_client"]);
    assert_eq!(workspace.take_requests().len(), 1);
    test.set("DATABRICKS_CLIENT_SECRET", crate::sandbox::workspace::CLIENT_SECRET);
    test.run("").token();
}

#[test]
fn reading_a_cached_refusal_does_not_prolong_it() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.set("DATABRICKS_CLIENT_SECRET", "wrong");
    test.run("").fails(4, &["invalid_client"]);
    test.pass(2 * SECOND);
    test.set("LAKEBASE_ENDPOINT", "projects/shop"); // another entry, the same workspace token
    test.run("").fails(4, &["invalid_client"]);
    assert_eq!(workspace.take_requests().len(), 1);
    workspace
        .state()
        .clients
        .insert(crate::sandbox::workspace::CLIENT_ID.to_owned(), "wrong".to_owned());
    test.pass(1500);
    test.run("").token();
}

#[test]
fn early_refreshes_pause_after_any_failure() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("").token();
    test.pass(45 * MINUTE);
    let page = Answer::html(200, "<html><title>Sign in</title>");
    let no = Answer::Json(403, serde_json::json!({ "error_code": "PERMISSION_DENIED" }));
    for (answer, rest) in [(page, 30), (no, 3)] {
        workspace.fault(MINT, 1, answer);
        workspace.take_requests();
        assert_eq!(test.run("").code, 0);
        test.pass((rest - 1) * SECOND);
        test.run("").token();
        assert_eq!(workspace.count(MINT), 1, "still paused");
        test.pass(2 * SECOND);
        workspace.fault(MINT, 1, Answer::Json(404, serde_json::json!({})));
        assert_eq!(test.run("").code, 0);
        assert_eq!(workspace.count(MINT), 2, "and tried again");
        workspace.state().faults.clear();
        test.pass(31 * SECOND);
    }
}

#[test]
fn a_workspace_whose_clock_is_far_behind_does_not_cause_a_mint_a_call() {
    let workspace = workspace();
    workspace.state().skew = -52 * 60;
    let test = Test::at(&workspace);
    let first = test.run("").token();
    for _ in 0..5 {
        assert_eq!(test.run("").token(), first);
    }
    assert_eq!(workspace.count(MINT), 1);
}

#[test]
fn flags_that_contradict_offline_are_refused() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("--offline --refresh").fails(2, &["--offline and --refresh contradict"]);
    test.run("--offline --no-cache").fails(2, &["--offline needs the cache"]);
}

#[test]
fn offline_uses_the_cache_and_nothing_else() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    test.run("--offline").fails(5, &["nothing usable is cached"]);
    let first = test.run("").token();
    workspace.take_requests();
    test.pass(45 * MINUTE);
    assert_eq!(test.run("--offline").token(), first);
    test.pass(10 * MINUTE);
    assert_eq!(test.run("--offline").notes("--offline"), first);
    assert!(workspace.take_requests().is_empty());
}

#[test]
fn a_clock_that_was_set_back_never_prolongs_a_token() {
    let workspace = workspace();
    for back in [2 * MINUTE, HOUR, 24 * HOUR] {
        let test = Test::at(&workspace);
        let first = test.run("").token();
        test.set_clock(-back);
        let outcome = test.run("");
        assert_ne!(outcome.notes("it was issued in the future"), first);
    }
}

#[test]
fn a_workspace_with_another_clock_is_understood() {
    for skew in [-180, 180] {
        let workspace = workspace();
        workspace.state().skew = skew;
        let test = Test::at(&workspace);
        let first = test.run("").token();
        test.pass(30 * MINUTE);
        assert_eq!(test.run("").token(), first);
        test.pass(28 * MINUTE);
        assert_ne!(test.run("").token(), first);
    }
}

#[test]
fn after_a_suspend_a_new_credential_is_minted() {
    let workspace = workspace();
    let test = Test::at(&workspace);
    let first = test.run("").token();
    test.pass(7 * 24 * HOUR);
    assert_ne!(test.run("").token(), first);
}

#[test]
fn without_a_cache_each_call_mints() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    let first = test.run("--no-cache").token();
    assert_ne!(test.run("--no-cache").token(), first);
    test.set("LAKEBASE_TOKEN_CACHE", "off");
    test.run("").token();
    assert_eq!(workspace.count(MINT), 3);
    assert!(!test.cache_folder().exists());
}

/// The table alone: an entry with a lifetime of an hour, a clock, and the outcomes of fetches.
struct Table {
    folder: tempfile::TempDir,
    clock: Rc<Cell<Timestamp>>,
    /// How much the clock advances after a failure.
    later: Cell<i64>,
    /// The life that a new token has left when its fetch has ended.
    new_life: Cell<i64>,
    /// Whether all entries are evicted during a fetch.
    evicts: Cell<bool>,
    /// For each fetch: how much the clock advances, and the outcome.
    outcomes: RefCell<Vec<(i64, Result<()>)>>,
}

/// A process, as far as it differs from others.
#[derive(Default)]
struct Caller {
    env: Vec<(&'static str, &'static str)>,
    began_ms_ago: i64,
    /// 0 for 10 s.
    timeout_s: u64,
    refresh: bool,
    /// `Provider::login_can_change`
    login_can_change: bool,
    /// Whether it needs the token for requests only.
    uses: bool,
    /// `Provider::route_variables`
    route_variables: &'static [&'static str],
}

impl Table {
    fn new(outcomes: Vec<(i64, Result<()>)>) -> Table {
        let clock = Rc::new(Cell::new(Timestamp::of_system()));
        let (folder, later) = (tempfile::tempdir().unwrap(), Cell::new(0));
        let (new_life, evicts) = (Cell::new(HOUR), Cell::default());
        Table { folder, clock, later, new_life, evicts, outcomes: RefCell::new(outcomes) }
    }

    fn token(&self, issued: i64, left: i64) -> Token {
        let now = self.clock.get();
        let (secret, expires) = (Secret::new("old"), Some(now.plus(left)));
        Token { secret, issued: now.plus(issued), expires, lifetime: HOUR, subject: None }
    }

    /// What `who` gets where this token and these failures are cached: `old`, `new` or an error.
    fn get(
        &self,
        stored: Option<Token>,
        failed: &[(&Caller, Error)],
        who: &Caller,
    ) -> Result<String> {
        self.with(who, |policy, cache, deadline| {
            let slot = cache.slot(&["database"]);
            stored.iter().for_each(|token| slot.store(token));
            for (who, error) in failed {
                self.with(who, |_, cache, _| {
                    cache.slot::<Token>(&["database"]).cache_failure(error)
                });
            }
            self.clock.set(self.clock.get().plus(self.later.get()));
            let fetch = |_: &FetchCall<'_>| {
                let (passed, answer) = self.outcomes.borrow_mut().remove(0);
                self.clock.set(self.clock.get().plus(passed));
                if self.evicts.get() {
                    cache.evict_all_but(None);
                }
                answer.map(|()| Token {
                    secret: Secret::new("new"),
                    ..self.token(0, self.new_life.get())
                })
            };
            let need =
                if who.uses { Need::Used { refused: None } } else { Need::Printed { min_ttl: 0 } };
            let lock_wait = Duration::MAX;
            let wanted = CacheRequest { slot: &slot, need, fetch: &fetch, deadline, lock_wait };
            policy.get(&wanted).map(|token| token.secret.expose().to_owned())
        })
    }

    fn with<T>(
        &self,
        who: &Caller,
        then: impl FnOnce(&Policy<'_>, &CacheFolder<'_>, Deadline) -> T,
    ) -> T {
        let variables = who.env.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let clock = self.clock.clone();
        let context = Context {
            env: variables.collect::<Environment>(),
            now: Box::new(move || clock.get()),
            say: Box::new(|_| ()),
            ..Context::of_process()
        };
        let settings = Settings::resolve(&[], &context).unwrap();
        let inputs = CacheInputs {
            context: &context,
            folder: Some(self.folder.path()),
            secret: None,
            settings: &settings,
            login_files: |_, _| Vec::new(),
            route_variables: who.route_variables,
        };
        let policy = Policy {
            context: &context,
            began: self.clock.get().plus(-who.began_ms_ago),
            refresh: who.refresh,
            offline: false,
            login_can_change: who.login_can_change,
            blocking_run: |_| None,
            uses_cached_failures: true,
        };
        let timeout = if who.timeout_s == 0 { 10 } else { who.timeout_s };
        let deadline = Deadline::after(Duration::from_secs(timeout));
        then(&policy, &CacheFolder::new(&["me"], inputs), deadline)
    }
}

fn kind(outcome: Result<String>) -> std::result::Result<String, ErrorKind> {
    outcome.map_err(|error| error.kind)
}

#[test]
fn a_credential_that_expires_during_the_refresh_is_not_printed() {
    let who = Caller::default();
    for error in [Error::denied("no"), Error::unavailable("away"), Error::failed("nonsense")] {
        let expected = Err(error.kind);
        // A laptop sleeps for an hour during the fetch.
        let table = Table::new(vec![(HOUR, Err(error))]);
        let old = table.token(-45 * MINUTE, 15 * MINUTE);
        assert_eq!(kind(table.get(Some(old), &[], &who)), expected);
    }
    // The early refresh had two seconds; a credential that must be refreshed gets the rest of the deadline.
    let late = Error::unavailable("no answer").with_time_lacking(Duration::ZERO);
    let table = Table::new(vec![(6 * MINUTE, Err(late)), (0, Ok(()))]);
    let old = table.token(-45 * MINUTE, 15 * MINUTE);
    assert_eq!(kind(table.get(Some(old), &[], &who)), Ok("new".to_owned()));
}

#[test]
fn what_expires_on_its_way_is_fetched_once_more_and_then_an_error() {
    for (left, expected) in [(1, Ok("new".to_owned())), (0, Err(ErrorKind::Unavailable))] {
        let table = Table::new(vec![(0, Ok(())), (0, Ok(()))]);
        table.new_life.set(left);
        assert_eq!(kind(table.get(None, &[], &Caller::default())), expected, "{left}");
        assert_eq!(table.outcomes.borrow().len(), left as usize);
    }
}

#[test]
fn a_refresh_accepts_only_what_was_issued_after_the_call_began() {
    let who = Caller { began_ms_ago: 5 * SECOND, refresh: true, ..Caller::default() };
    for (issued, expected) in [(-5 * SECOND + 1, "old"), (-5 * SECOND, "new"), (1, "new")] {
        let table = Table::new(vec![(0, Ok(()))]);
        let got = table.get(Some(table.token(issued, HOUR)), &[], &who);
        assert_eq!(got.unwrap(), expected, "{issued}");
    }
}

#[test]
fn a_refusal_counts_less_than_three_seconds_and_under_refresh_only_since_the_call_began() {
    let denied = || Error::denied("no");
    for (refresh, later, expected) in [
        (false, 3 * SECOND - 1, Err(ErrorKind::Denied)),
        (false, 3 * SECOND, Ok("new")),
        (true, SECOND, Ok("new")),
    ] {
        let who = Caller { began_ms_ago: -SECOND, refresh, ..Caller::default() };
        let table = Table::new(vec![(0, Ok(()))]);
        table.later.set(later);
        let got = kind(table.get(None, &[(&who, denied())], &who));
        assert_eq!(got, expected.map(str::to_owned), "{refresh} {later}");
    }
}

#[test]
fn no_early_refresh_is_tried_within_thirty_seconds_of_a_failure() {
    for (later, expected) in [(30 * SECOND - 1, "old"), (30 * SECOND, "new")] {
        let who = Caller::default();
        let table = Table::new(vec![(0, Ok(()))]);
        table.later.set(later);
        let old = table.token(-45 * MINUTE, 15 * MINUTE);
        let got = table.get(Some(old), &[(&who, Error::unavailable("away"))], &who);
        assert_eq!(got.unwrap(), expected, "{later}");
    }
}

#[test]
fn a_credential_that_another_login_evicted_is_no_fallback() {
    for (login_can_change, evicts, expected) in [
        (true, true, Err(ErrorKind::Unavailable)),
        (true, false, Ok("old")),
        (false, true, Ok("old")),
    ] {
        let who = Caller { login_can_change, ..Caller::default() };
        let table = Table::new(vec![(0, Err(Error::unavailable("away")))]);
        table.evicts.set(evicts);
        let got = kind(table.get(Some(table.token(-45 * MINUTE, 15 * MINUTE)), &[], &who));
        assert_eq!(got, expected.map(str::to_owned), "{login_can_change} {evicts}");
    }
}

#[test]
fn a_token_for_requests_needs_more_than_a_minute() {
    let who = Caller { uses: true, ..Caller::default() };
    for (left, expected) in [(MINUTE + 1, "old"), (MINUTE, "new"), (0, "new")] {
        let table = Table::new(vec![(0, Ok(()))]);
        let got = table.get(Some(table.token(-30 * MINUTE, left)), &[], &who);
        assert_eq!(got.unwrap(), expected, "{left}");
    }
}

#[test]
fn a_credential_from_the_future_is_not_fresh_for_that() {
    // The clock was an hour ahead when it was issued, and has just been set right.
    let table = Table::new(vec![(0, Ok(()))]);
    let old = table.token(58 * SECOND, 6 * SECOND);
    assert_eq!(kind(table.get(Some(old), &[], &Caller::default())), Ok("new".to_owned()));
}

#[test]
fn a_failure_is_shared_unless_a_caller_has_more_time() {
    let waiting = Caller { began_ms_ago: SECOND, ..Caller::default() };
    let impatient = Caller { timeout_s: 2, ..Caller { began_ms_ago: SECOND, ..Caller::default() } };
    let asked_to_wait = || Error::unavailable("busy").with_time_lacking(Duration::from_secs(3));
    let shared = Table::new(Vec::new());
    for (error, who) in [
        (Error::unavailable("away"), &waiting),
        (Error::failed("nonsense"), &waiting),
        (asked_to_wait(), &impatient),
    ] {
        let expected = Err(error.kind);
        assert_eq!(kind(shared.get(None, &[(&waiting, error)], who)), expected);
    }
    let busy = Caller { timeout_s: 2, ..Caller::default() };
    let failed = [(&busy, asked_to_wait())];
    let has_the_time = Table::new(vec![(0, Ok(()))]);
    assert_eq!(kind(has_the_time.get(None, &failed, &waiting)), Ok("new".to_owned()));
    // Part of the time that was lacking has passed since.
    let has_it_now = Table::new(vec![(0, Ok(()))]);
    has_it_now.later.set(2 * SECOND);
    let impatient = Caller { began_ms_ago: 3 * SECOND, ..impatient };
    assert_eq!(kind(has_it_now.get(None, &failed, &impatient)), Ok("new".to_owned()));
}

#[test]
fn a_failure_is_shared_only_where_the_inputs_match() {
    type Env = [(&'static str, &'static str)];
    let caller =
        |env: &Env| Caller { env: env.to_vec(), began_ms_ago: SECOND, ..Caller::default() };
    let no = || Error::denied("no");
    let plain = caller(&[]);
    for alike in [
        ("TERM", "xterm"),
        // Differs between processes, and no provider uses it here.
        ("PATH", "/nowhere"),
    ] {
        let (table, other) = (Table::new(Vec::new()), caller(&[alike]));
        let outcome = table.get(None, &[(&other, no())], &plain);
        assert_eq!(kind(outcome), Err(ErrorKind::Denied), "{alike:?}");
    }
    let runs_programs = |env: &Env| Caller { route_variables: &["PATH"], ..caller(env) };
    for (other, who) in [
        (caller(&[("HTTPS_PROXY", "http://127.0.0.1:1")]), &plain),
        (caller(&[("no_proxy", "*")]), &plain),
        (caller(&[("SSL_CERT_FILE", "/tmp/ca.pem")]), &plain),
        // The message names where a setting comes from.
        (caller(&[("LAKEBASE_INSTANCE", "gone")]), &plain),
        (runs_programs(&[("PATH", "/nowhere")]), &runs_programs(&[])),
    ] {
        let table = Table::new(vec![(0, Ok(()))]);
        let outcome = table.get(None, &[(&other, no())], who);
        assert_eq!(kind(outcome), Ok("new".to_owned()), "{:?}", other.env);
        // Each has its own cached failure until a token is stored.
        let table = Table::new(Vec::new());
        let failed = [(who, no()), (&other, no())];
        assert_eq!(kind(table.get(None, &failed, who)), Err(ErrorKind::Denied));
        assert_eq!(kind(table.get(None, &[], &other)), Err(ErrorKind::Denied));
        let files = || std::fs::read_dir(table.folder.path()).unwrap().flatten();
        let failures =
            || files().filter(|file| file.path().extension().is_some_and(|end| end == "failure"));
        assert_eq!(failures().count(), 2);
        table.with(who, |_, cache, _| {
            cache.slot::<Token>(&["database"]).store(&table.token(0, HOUR))
        });
        assert_eq!(failures().count(), 0);
    }
}

#[test]
fn no_file_name_depends_on_a_proxys_password() {
    let failure_of = |proxy: &'static str| {
        let table = Table::new(Vec::new());
        let who = Caller { env: vec![("HTTPS_PROXY", proxy)], ..Caller::default() };
        table.with(&who, |_, cache, _| {
            cache.slot::<Token>(&["database"]).cache_failure(&Error::denied("no"))
        });
        std::fs::read_dir(table.folder.path()).unwrap().next().unwrap().unwrap().file_name()
    };
    let one = failure_of("http://me:hunter2pw@127.0.0.1:1");
    assert_eq!(one, failure_of("http://me:another-pw@127.0.0.1:1"));
    assert_ne!(one, failure_of("http://me:hunter2pw@127.0.0.1:2"));
}

#[test]
fn a_refusal_says_where_this_callers_instance_name_comes_from() {
    let workspace = workspace();
    let mut test = Test::at(&workspace);
    test.unset("LAKEBASE_ENDPOINT");
    test.run("--instance gone").fails(4, &["gone comes from --instance"]);
    test.set("LAKEBASE_INSTANCE", "gone");
    test.run("").fails(4, &["gone comes from LAKEBASE_INSTANCE"]);
    workspace.take_requests();
    test.run("").fails(4, &["gone comes from LAKEBASE_INSTANCE"]);
    assert!(workspace.take_requests().is_empty(), "it is cached");
}

#[test]
fn an_answer_without_a_reason_leaves_no_empty_line() {
    let workspace = workspace();
    workspace.fault("/", 3, Answer::Json(503, serde_json::json!({})));
    let outcome = Test::at(&workspace).run("");
    outcome.fails(5, &["HTTP status 503"]);
    assert!(!outcome.stderr.contains("because: \n"), "{outcome:?}");
}
