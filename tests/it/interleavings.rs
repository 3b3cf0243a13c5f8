//! Calls side by side, one step of one call at a time (`src/platform/steps.rs`): every schedule of two calls
//! with at most two switches, the same with a fault at any request or a call killed at any step, and random schedules
//! of three calls with kills and jumps of the clock.
//!
//! A call is a thread with a context of its own, and the workspace is the stand-in over plain HTTP. A kill
//! unwinds the thread, which closes its files and does nothing else. `tests/campaign` tries all; a plain run
//! tries one switch. A failure names its schedule:
//!
//!     LAKEBASE_TOKEN_SCHEDULE='must refresh:0:3,9:k12' cargo test --test it interleavings

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use lakebase_token::credential::secret::Secret;
use lakebase_token::login::record::{Login, LoginKey, RenewWith};
use lakebase_token::login::renewal::{TokenNeed, renew, report};
use lakebase_token::login::store::Logins;
use lakebase_token::platform::context::Context;
use lakebase_token::platform::environment::Environment;
use lakebase_token::platform::steps::{Step, set_hook};
use lakebase_token::platform::time::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::cli_logins::{SELECTORS, Selector, is_alive, person};
use super::faults::{Class, times};
use super::support::{Dice, HOUR, MINUTE, Test, has, login_of, store_login, workspace};
use crate::sandbox::jwt::{Scope, now, random};
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{CLIENT_ID, MINT, OTHER_USER, TOKEN, USER, Workspace};

/// More decisions than any schedule takes, unless its calls wait for each other.
const MAX_TURNS: usize = 3_000;

const MAX_TIME: Duration = Duration::from_secs(120);

const WRONG_SECRET: &str = "dose99999999999999999999999999999999";

/// What takes part in a schedule.
#[derive(Clone, Copy)]
enum Actor {
    /// A call of the program.
    Call(&'static str),
    /// The same with a secret that the workspace refuses.
    WrongSecret(&'static str),
    /// The renewal of the stored login, which the program does in a process of its own.
    Renewal,
    /// A call that selects a login of the Databricks CLI, which it runs.
    Selector(&'static Selector),
    /// A call for a person, whose login is stored.
    Person(&'static str),
    /// Another person logs in.
    OtherLogin,
}

/// How a call has ended: with an exit code and what it has printed, or killed.
type End = Option<(u8, String, String)>;

/// A state to start from, and what takes place in it.
struct Scenario {
    name: &'static str,
    prepare: fn(&SharedState),
    actors: &'static [Actor],
    /// How many mints, or renewals, are enough.
    needed: usize,
    /// Whether the workspace refuses a caller, or fails once.
    may_fail: bool,
}

const ONE: Actor = Actor::Call("get");
const REFRESHING: Actor = Actor::Call("get --refresh");

/// Two calls of one kind, of which one mints.
const USUAL: Scenario =
    Scenario { name: "", prepare: |_| (), actors: &[ONE, ONE], needed: 1, may_fail: false };

const SCENARIOS: [Scenario; 10] = [
    Scenario { name: "nothing cached", ..USUAL },
    Scenario { name: "refresh early", prepare: |world| world.minted_ago(45 * MINUTE), ..USUAL },
    Scenario { name: "must refresh", prepare: |world| world.minted_ago(55 * MINUTE), ..USUAL },
    Scenario { name: "expired", prepare: |world| world.minted_ago(2 * HOUR), ..USUAL },
    Scenario {
        name: "refreshing",
        prepare: |world| world.minted_ago(5 * MINUTE),
        actors: &[REFRESHING, REFRESHING],
        needed: 2,
        ..USUAL
    },
    Scenario { name: "a wrong secret", actors: &[ONE, Actor::WrongSecret("get")], ..USUAL },
    Scenario {
        name: "a wrong secret, must refresh",
        prepare: |world| world.minted_ago(55 * MINUTE),
        actors: &[ONE, Actor::WrongSecret("get")],
        ..USUAL
    },
    Scenario {
        name: "a failure",
        prepare: |world| {
            let no = json!({ "error_code": "PERMISSION_DENIED", "message": "no" });
            world.workspace.fault(MINT, 1, Answer::Json(403, no));
        },
        may_fail: true,
        ..USUAL
    },
    Scenario {
        name: "another person logs in",
        prepare: |world| {
            let login = world.login(USER);
            world.store(&login);
        },
        actors: &[Actor::Person("get"), Actor::OtherLogin],
        ..USUAL
    },
    Scenario {
        name: "renewal",
        prepare: |world| world.log_in(),
        actors: &[Actor::Renewal, Actor::Renewal],
        ..USUAL
    },
];

/// A home, a workspace and a clock that all calls share.
struct SharedState<'w> {
    workspace: &'w Workspace,
    test: Test,
    clock: Arc<AtomicI64>,
}

impl<'w> SharedState<'w> {
    fn new(workspace: &'w Workspace) -> SharedState<'w> {
        {
            let mut state = workspace.state();
            state.requests.clear();
            state.faults.clear();
            state.lost_answer = None;
            state.skew = 0;
        }
        SharedState { workspace, test: Test::at(workspace), clock: Arc::default() }
    }

    fn pass(&self, millis: i64) {
        self.clock.fetch_add(millis, SeqCst);
        self.workspace.state().skew += millis / 1000;
    }

    /// A credential is in the cache that is so old.
    fn minted_ago(&self, millis: i64) {
        let (code, ..) = call(&self.context(), "get");
        assert_eq!(code, 0);
        self.pass(millis);
        self.workspace.state().requests.clear();
    }

    /// A login is stored whose token has expired.
    fn log_in(&self) {
        let ago = self.context().now().plus(-2 * HOUR);
        let refresh = Secret::new(self.workspace.state().log_in(USER));
        self.store(&Login {
            access: Secret::new("old"),
            issued: ago,
            expires: ago.plus(HOUR),
            renew_with: RenewWith::Refresh(Some(refresh)),
            ..self.login(USER)
        });
    }

    /// A login of this person, with a token that is valid.
    fn login(&self, who: &str) -> Login {
        login_of(self.workspace, who, self.context().now())
    }

    fn store(&self, login: &Login) {
        store_login(login, &self.context());
    }

    fn key(&self) -> LoginKey {
        LoginKey::Host(self.workspace.url.clone())
    }

    /// The context of a call.
    fn context(&self) -> Context {
        context(&self.test, &self.clock, &[])
    }

    /// The refresh token of the stored login.
    fn stored(&self) -> Option<String> {
        let context = self.context();
        let login = Logins::of(&context).ok()?.get(&self.key())?;
        match login.renew_with {
            RenewWith::Refresh(token) => token.map(|token| token.expose().to_owned()),
            RenewWith::Pat(_) => None,
        }
    }
}

fn context(test: &Test, clock: &Arc<AtomicI64>, others: &[(&str, String)]) -> Context {
    let clock = clock.clone();
    let mut context = test.context(|_| ());
    let mut env: BTreeMap<_, _> =
        test.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    env.extend(others.iter().map(|(name, value)| (name.into(), value.into())));
    context.env = env.into_iter().collect();
    context.now = Box::new(move || Timestamp::of_system().plus(clock.load(SeqCst)));
    context
}

/// The variables for a person, without the service principal's.
fn without_principal(context: &Context) -> Environment {
    let own = context
        .env
        .iter()
        .filter(|(name, _)| *name != "DATABRICKS_CLIENT_ID" && *name != "DATABRICKS_CLIENT_SECRET");
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn call(context: &Context, line: &str) -> (u8, String, String) {
    let argv: Vec<_> = line.split(' ').map(std::ffi::OsString::from).collect();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = lakebase_token::run(&argv, context, &mut stdout, &mut stderr);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (code, text(stdout).trim_end().to_owned(), text(stderr))
}

fn act(
    actor: Actor,
    context: &Context,
    key: &LoginKey,
    other: Option<&Login>,
) -> (u8, String, String) {
    match actor {
        Actor::Call(line) | Actor::WrongSecret(line) => call(context, line),
        Actor::Person(line) => call(context, line),
        Actor::OtherLogin => {
            store_login(other.expect("a login to store"), context);
            (0, String::new(), String::new())
        }
        Actor::Selector((flags, _)) => call(context, format!("get {flags}").trim_end()),
        Actor::Renewal => {
            let renewed = renew(context, key, TokenNeed::Life(5 * MINUTE));
            let token = report(&renewed)["access_token"].as_str().unwrap_or_default().to_owned();
            match renewed {
                Ok(_) => (0, token, String::new()),
                Err(error) => (error.kind as u8, token, error.to_string()),
            }
        }
    }
}

/// What the thread of a call says to the test: that it is about to do something, or that it has ended.
enum Event {
    At(Step),
    Ended(End),
}

/// What unwinds a thread that is killed.
struct Killed;

/// Who goes on at each turn, and whether it is killed instead.
trait Decide {
    fn next(&mut self, turn: usize, at: &[Option<Step>], current: usize) -> (usize, bool);

    /// What happens to the request that follows.
    fn fault(&self, _turn: usize) -> Option<Fault> {
        None
    }

    /// How far the clock jumps before this turn.
    fn jump(&mut self, _turn: usize) -> i64 {
        0
    }
}

/// The call goes on that went on before. Where it only waits, or has ended, another one does.
fn by_default(at: &[Option<Step>], current: usize) -> usize {
    let order = (0..at.len()).map(|n| (current + n) % at.len());
    let is_ready = |n: &usize| at[*n].is_some_and(|step| step != Step::Sleep);
    // All wait: for a child of theirs.
    let waiting = || others(at, current).next().unwrap_or(current);
    order.clone().find(is_ready).unwrap_or_else(waiting)
}

/// The calls after this one that have not ended.
fn others(at: &[Option<Step>], current: usize) -> impl Iterator<Item = usize> {
    (1..at.len()).map(move |n| (current + n) % at.len()).filter(|n| at[*n].is_some())
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The workspace refuses it.
    Refused,
    /// The connection is closed before the workspace does anything.
    Closed,
    /// The workspace carries it out, and the answer is lost.
    LostAnswer,
    /// The workspace does not answer.
    Hangs,
}

impl Fault {
    const LETTERS: [(char, Fault); 4] = [
        ('r', Fault::Refused),
        ('c', Fault::Closed),
        ('l', Fault::LostAnswer),
        ('h', Fault::Hangs),
    ];

    fn letter(self) -> char {
        Fault::LETTERS.into_iter().find(|(_, fault)| *fault == self).unwrap().0
    }

    fn of(letter: &str) -> Option<Fault> {
        let mut all = Fault::LETTERS.into_iter();
        all.find(|(known, _)| letter.chars().eq([*known])).map(|(_, fault)| fault)
    }

    fn happen(self, workspace: &Workspace) {
        let answer = match self {
            Fault::Refused => {
                let no = json!({ "error_code": "PERMISSION_DENIED", "message": "no" });
                Answer::Json(403, no)
            }
            Fault::Closed => Answer::Close,
            Fault::Hangs => Answer::Hang(HANG),
            Fault::LostAnswer => {
                workspace.state().lost_answer = Some("/");
                return;
            }
        };
        workspace.fault("/", 1, answer);
    }
}

/// How long a workspace hangs: far beyond the timeout of the calls that meet it, which is a second.
const HANG: Duration = Duration::from_secs(12);

/// A schedule that can be written down.
#[derive(Clone, Debug, Default)]
struct Schedule {
    first: usize,
    switches: Vec<usize>,
    kill: Option<usize>,
    /// What happens to the request after this turn.
    fault: Option<(usize, Fault)>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switches: Vec<String> = self.switches.iter().map(usize::to_string).collect();
        write!(f, "{}:{}", self.first, switches.join(","))?;
        self.kill.map_or(Ok(()), |turn| write!(f, ":k{turn}"))?;
        self.fault.map_or(Ok(()), |(turn, fault)| write!(f, ":{}{turn}", fault.letter()))
    }
}

impl Schedule {
    fn parse(text: &str) -> Schedule {
        let mut parts = text.split(':');
        let first = parts.next().unwrap().parse().unwrap();
        let switches = parts.next().unwrap_or_default().split(',').filter(|turn| !turn.is_empty());
        let switches = switches.map(|turn| turn.parse().unwrap()).collect();
        let last = parts.next().unwrap_or_default();
        let (letter, turn) = last.split_at(last.len().min(1));
        let kill = (letter == "k").then(|| turn.parse().unwrap());
        let fault = Fault::of(letter).map(|fault| (turn.parse().unwrap(), fault));
        Schedule { first, switches, kill, fault }
    }
}

impl Decide for Schedule {
    fn next(&mut self, turn: usize, at: &[Option<Step>], current: usize) -> (usize, bool) {
        let current = if turn == 0 { self.first } else { current };
        let mut who = by_default(at, current);
        if self.switches.contains(&turn) {
            who = others(at, who).next().unwrap_or(who);
        }
        (who, self.kill == Some(turn))
    }

    fn fault(&self, turn: usize) -> Option<Fault> {
        self.fault.filter(|(known, _)| *known == turn).map(|(_, fault)| fault)
    }
}

/// A schedule by dice.
struct Random {
    dice: Dice,
    /// In percent of the turns.
    switches: usize,
    kills_left: usize,
    jumps_left: usize,
}

impl Decide for Random {
    fn next(&mut self, _: usize, at: &[Option<Step>], current: usize) -> (usize, bool) {
        let mut who = by_default(at, current);
        if self.dice.percent(self.switches) {
            let others: Vec<usize> = others(at, who).collect();
            if !others.is_empty() {
                who = self.dice.pick(&others);
            }
        }
        let kills = self.kills_left > 0 && self.dice.percent(2);
        self.kills_left -= usize::from(kills);
        (who, kills)
    }

    fn jump(&mut self, _: usize) -> i64 {
        if self.jumps_left == 0 || !self.dice.percent(2) {
            return 0;
        }
        self.jumps_left -= 1;
        self.dice.pick(&[-3 * HOUR, -10 * MINUTE, 10 * MINUTE, 50 * MINUTE, 3 * HOUR])
    }
}

/// What has happened in a schedule.
struct Played {
    ends: Vec<End>,
    /// The steps that each call has done; a killed one did not do its last one.
    steps: Vec<Vec<Step>>,
    turns: usize,
    /// The turns before a request.
    requests: Vec<usize>,
    /// How often a run of the Databricks CLI has waited at the gate.
    gated: usize,
    fault: Option<Fault>,
    /// Problems that were seen when a call ended.
    problems: Vec<String>,
    jumped: bool,
}

/// Where runs of the Databricks CLI wait before a request, and before they write their file.
struct Gate(UnixListener);

impl Gate {
    fn open(world: &SharedState<'_>) -> Gate {
        let gate = UnixListener::bind(world.test.home.path().join("gate")).unwrap();
        gate.set_nonblocking(true).unwrap();
        Gate(gate)
    }

    /// The runs that have arrived since the last call. A run goes on once its stream is closed.
    fn arrived(&self) -> impl Iterator<Item = UnixStream> {
        std::iter::from_fn(|| self.0.accept().ok()).map(|(run, _)| run)
    }
}

/// Plays a schedule. The runs that wait at the gate take turns, too.
fn play(
    world: &SharedState<'_>,
    actors: &[Actor],
    decide: &mut dyn Decide,
    gate: Option<&Gate>,
) -> Played {
    let (say, events) = channel();
    let mut threads = Vec::new();
    let mut commands: Vec<Sender<bool>> = Vec::new();
    for (n, actor) in actors.iter().copied().enumerate() {
        let (command, orders) = channel();
        commands.push(command);
        let say = say.clone();
        let home = Home {
            env: world.test.env.clone(),
            key: world.key(),
            clock: world.clock.clone(),
            other: matches!(actor, Actor::OtherLogin).then(|| world.login(OTHER_USER)),
        };
        threads.push(std::thread::spawn(move || {
            let end = catch_unwind(AssertUnwindSafe(|| thread(n, actor, &home, &say, orders)));
            set_hook(None);
            let _ = say.send((n, Event::Ended(end.unwrap_or(None))));
        }));
    }

    let mut played = Played {
        ends: vec![None; actors.len()],
        steps: vec![Vec::new(); actors.len()],
        turns: 0,
        requests: Vec::new(),
        gated: 0,
        fault: None,
        problems: Vec::new(),
        jumped: false,
    };
    let mut at: Vec<Option<Step>> = vec![Some(Step::Read); actors.len()];
    let mut runs: Vec<Option<UnixStream>> = Vec::new();
    let (mut current, mut waited, began) = (0, 0, Instant::now());
    while at[..actors.len()].iter().any(Option::is_some) {
        for run in gate.into_iter().flat_map(Gate::arrived) {
            at.push(Some(Step::Request));
            runs.push(Some(run));
            played.gated += 1;
        }
        let jump = decide.jump(played.turns);
        if jump != 0 {
            world.pass(jump);
            played.jumped = true;
        }
        let (who, kill) = decide.next(played.turns, &at, current);
        current = who;
        if let Some(run) = who.checked_sub(actors.len()) {
            (at[who], runs[run]) = (None, None);
            played.turns += 1;
            continue;
        }
        if at[who] == Some(Step::Request) {
            played.requests.push(played.turns);
            if let Some(fault) = decide.fault(played.turns) {
                fault.happen(world.workspace);
                played.fault = Some(fault);
            }
        }
        played.turns += 1;
        if at.iter().flatten().all(|step| *step == Step::Sleep) {
            // They wait for a child.
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
        }
        let is_stuck = played.turns - waited > MAX_TURNS || began.elapsed() > MAX_TIME;
        if is_stuck {
            played.problems.push("the calls wait for each other".to_owned());
        }
        let _ = commands[who].send(kill || is_stuck);
        match events.recv().unwrap() {
            (n, Event::At(step)) => {
                at[n] = Some(step);
                played.steps[n].push(step);
            }
            (n, Event::Ended(end)) => {
                at[n] = None;
                let is_exact = !(played.jumped && matches!(actors[n], Actor::Renewal));
                played
                    .problems
                    .extend(problem(world, actors[n], end.as_ref()).filter(|_| is_exact));
                played.ends[n] = end;
            }
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    played
}

/// What a call gets of the shared state.
struct Home {
    env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    key: LoginKey,
    clock: Arc<AtomicI64>,
    /// What [`Actor::OtherLogin`] stores.
    other: Option<Login>,
}

/// A call in its thread.
fn thread(
    n: usize,
    actor: Actor,
    home: &Home,
    say: &Sender<(usize, Event)>,
    orders: Receiver<bool>,
) -> End {
    let Home { env, key, clock, other } = home;
    let obey = move || {
        if orders.recv().unwrap_or(true) {
            resume_unwind(Box::new(Killed));
        }
    };
    let mut test = Test::bare();
    test.env.clone_from(env);
    if matches!(actor, Actor::Person(_)) {
        test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    }
    let variables = match actor {
        Actor::WrongSecret(_) => &[("DATABRICKS_CLIENT_SECRET", WRONG_SECRET)][..],
        Actor::Selector((_, variables)) => variables,
        _ => &[],
    };
    let LoginKey::Host(url) = key else { unreachable!() };
    let home = test.env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| home.clone());
    let home = home.unwrap().into_string().unwrap();
    let filled = |value: &str| value.replace("URL", url).replace("HOME", &home);
    let others: Vec<_> = variables.iter().map(|(name, value)| (*name, filled(value))).collect();
    let context = context(&test, clock, &others);
    obey();
    let say = say.clone();
    set_hook(Some(Rc::new(move |step| {
        say.send((n, Event::At(step))).unwrap();
        obey();
        step == Step::Sleep
    })));
    Some(act(actor, &context, key, other.as_ref()))
}

/// What is wrong with the end of a call, by the clock of that moment.
fn problem(
    world: &SharedState<'_>,
    actor: Actor,
    end: Option<&(u8, String, String)>,
) -> Option<String> {
    let (code, token, stderr) = end?;
    if *code != 0 {
        return None;
    }
    let (scope, subjects) = match actor {
        Actor::Call(_) => (Scope::Database, &[CLIENT_ID][..]),
        Actor::Renewal => (Scope::Workspace, &[USER][..]),
        Actor::Selector(_) => (Scope::Database, &[USER][..]),
        Actor::Person(_) => (Scope::Database, &[USER, OTHER_USER][..]),
        Actor::OtherLogin => return None,
        Actor::WrongSecret(_) => return Some("a wrong secret got a credential".to_owned()),
    };
    let time = now() + world.clock.load(SeqCst) / 1000;
    let checked = world.workspace.signer.check_at(token, scope, time);
    (!checked.as_deref().is_ok_and(|subject| subjects.contains(&subject)))
        .then(|| format!("exit code 0 with {checked:?}: {stderr}"))
}

/// What is wrong after a schedule.
fn problems(world: &SharedState<'_>, scenario: &Scenario, played: &Played) -> Vec<String> {
    let mut found = played.problems.clone();
    let mut add = |is_right: bool, text: String| {
        if !is_right {
            found.push(text);
        }
    };
    let killed = played.ends.iter().filter(|end| end.is_none()).count();
    for (n, end) in played.ends.iter().enumerate() {
        let Some((code, _, stderr)) = end else { continue };
        let is_refused = matches!(scenario.actors[n], Actor::WrongSecret(_));
        let is_right = match code {
            0 => !is_refused,
            3 => lost_login(scenario, played),
            4 => is_refused || scenario.may_fail || played.fault == Some(Fault::Refused),
            5 if played.fault.is_some_and(|fault| fault != Fault::Refused) => true,
            // What has expired on its way is an error.
            1 | 5 => played.jumped,
            _ => false,
        };
        add(is_right, format!("call {n} has exit code {code}: {stderr}"));
    }

    let path = if scenario.name == "renewal" { TOKEN } else { MINT };
    let faults = usize::from(scenario.may_fail) + usize::from(played.fault.is_some());
    let mints = world.workspace.count(path).saturating_sub(faults);
    // A credential of each person may be needed.
    let logins = scenario.actors.iter().filter(|actor| matches!(actor, Actor::OtherLogin)).count();
    let most =
        scenario.needed + logins + killed + usize::from(played.jumped) * scenario.actors.len();
    // Of a login that has ended, each renewal finds out for itself.
    let is_right = mints <= most || lost_login(scenario, played);
    add(is_right, format!("{mints} mints, and {most} are enough"));

    add(locks_are_free(world), "a lock is still held".to_owned());
    if killed == 0 {
        let left = world.test.entries().into_iter().filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
        });
        let left: Vec<_> = left.collect();
        add(left.is_empty(), format!("temporary files are left: {left:?}"));
    }

    if scenario.name == "renewal" {
        let is_alive =
            world.stored().is_some_and(|token| world.workspace.state().accepts_refresh(&token));
        add(
            is_alive || lost_login(scenario, played),
            "the stored refresh token is lost".to_owned(),
        );
    } else if scenario.name == "another person logs in" {
        // Once the other person has logged in, the credential is theirs.
        let mut later = world.context();
        later.env = without_principal(&later);
        let (code, token, stderr) = call(&later, "get");
        let time = now() + world.clock.load(SeqCst) / 1000;
        let subject = world.workspace.signer.check_at(&token, Scope::Database, time);
        let is_logged_in = played.ends[1].is_some();
        let is_right =
            subject.as_deref() == Ok(OTHER_USER) || !is_logged_in && subject.as_deref() == Ok(USER);
        let is_right = code == 0 && is_right || code == 4 && played.fault.is_some();
        add(is_right, format!("a later call: {code} {subject:?} {stderr}"));
    } else {
        // What a kill leaves disturbs no later call.
        let (code, token, stderr) = call(&world.context(), "get");
        let end = Some((code, token, stderr.clone()));
        add(problem(world, ONE, end.as_ref()).is_none(), "a later call gets a bad one".to_owned());
        let is_right = code == 0 || scenario.may_fail || played.fault.is_some();
        add(is_right, format!("a later call has exit code {code}: {stderr}"));
    }
    found
}

/// Whether the workspace had replaced the refresh token when a renewal was killed before it stored the new one,
/// or when the answer was lost: then the login has ended, and the others say so.
fn lost_login(scenario: &Scenario, played: &Played) -> bool {
    let is_lost = |(end, steps): (&End, &Vec<Step>)| {
        let done = &steps[..steps.len().saturating_sub(1)];
        let asked = done.iter().position(|step| *step == Step::Request);
        let is_stored = |asked: usize| done[asked..].contains(&Step::Rename);
        end.is_none() && asked.is_some_and(|asked| !is_stored(asked))
    };
    let is_killed = || played.ends.iter().zip(&played.steps).any(is_lost);
    scenario.name == "renewal" && (played.fault == Some(Fault::LostAnswer) || is_killed())
}

/// A process that another test starts shares our open files for a moment, until it runs its program.
fn locks_are_free(world: &SharedState<'_>) -> bool {
    (0..1_000).any(|_| {
        let are_free = no_lock_is_held(world);
        if !are_free {
            std::thread::sleep(Duration::from_millis(5));
        }
        are_free
    })
}

fn no_lock_is_held(world: &SharedState<'_>) -> bool {
    let folders =
        [world.test.cache_folder(), world.test.home.path().join(".local/state/lakebase-token")];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = files.map(|file| file.unwrap().path());
    let mut locks = paths.filter(|path| path.extension().is_some_and(|end| end == "lock"));
    locks.all(|path| {
        let file = fs::File::open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

/// Plays one schedule from the start; an error has what is wrong.
fn try_schedule(
    workspace: &Workspace,
    scenario: &Scenario,
    schedule: &Schedule,
) -> Result<Played, String> {
    let mut world = SharedState::new(workspace);
    (scenario.prepare)(&world);
    let hangs = schedule.fault.is_some_and(|(_, fault)| fault == Fault::Hangs);
    if hangs {
        world.test.set("LAKEBASE_TOKEN_TIMEOUT", "1s");
    }
    let began = Instant::now();
    let played = play(&world, scenario.actors, &mut schedule.clone(), None);
    let took = began.elapsed();
    world.test.unset("LAKEBASE_TOKEN_TIMEOUT");
    let mut found = problems(&world, scenario, &played);
    // A call that waits for the one that hangs waits until its own deadline; the renewal has more time.
    if hangs && scenario.name != "renewal" && took >= HANG {
        found.push(format!("it took {took:?}"));
    }
    if found.is_empty() {
        return Ok(played);
    }
    let steps: Vec<String> = played.steps.iter().map(|steps| format!("{steps:?}")).collect();
    Err(format!("{}:{schedule}\n  {}\n  {}", scenario.name, found.join("\n  "), steps.join("\n  ")))
}

/// Tries all schedules with up to this many switches, and each of these with each fault at each request, and with
/// a call killed at each step. A workspace that hangs takes seconds, so it does where nothing is switched; a plain
/// run only refuses elsewhere.
fn explore(workspace: &Workspace, scenario: &Scenario, switches: usize, class: &mut Class) {
    let mut open: Vec<Schedule> =
        (0..scenario.actors.len()).map(|first| Schedule { first, ..Schedule::default() }).collect();
    while let Some(schedule) = open.pop() {
        let played = count(class, try_schedule(workspace, scenario, &schedule));
        let Some(Played { turns, requests, .. }) = played else { return };
        for turn in requests {
            let faults = Fault::LETTERS.into_iter().map(|(_, fault)| fault);
            let is_campaign = times(0, 1) == 1;
            let is_quick = |fault: &Fault| match fault {
                Fault::Refused => true,
                Fault::Closed | Fault::LostAnswer => is_campaign || schedule.switches.is_empty(),
                Fault::Hangs => schedule.switches.is_empty(),
            };
            for fault in faults.filter(is_quick) {
                let troubled = Schedule { fault: Some((turn, fault)), ..schedule.clone() };
                count(class, try_schedule(workspace, scenario, &troubled));
            }
        }
        for turn in 0..turns {
            let killed = Schedule { kill: Some(turn), ..schedule.clone() };
            count(class, try_schedule(workspace, scenario, &killed));
        }
        if schedule.switches.len() < switches {
            let from = schedule.switches.last().map_or(1, |turn| turn + 1);
            open.extend((from..turns).map(|turn| {
                let switches = [&schedule.switches[..], &[turn]].concat();
                Schedule { switches, ..schedule.clone() }
            }));
        }
    }
}

/// Counts a schedule. Returns nothing if it has failed.
fn count(class: &mut Class, played: Result<Played, String>) -> Option<Played> {
    match played {
        Ok(played) => {
            // Of each class, calls are killed and calls end.
            played.ends.iter().for_each(|end| class.ended(end.is_some()));
            class.tried("", Ok(()));
            Some(played)
        }
        Err(why) => {
            class.tried("LAKEBASE_TOKEN_SCHEDULE", Err(why));
            None
        }
    }
}

/// The schedule that LAKEBASE_TOKEN_SCHEDULE names, in place of all.
fn named() -> Option<(&'static Scenario, Schedule)> {
    let text = std::env::var("LAKEBASE_TOKEN_SCHEDULE").ok()?;
    let (name, schedule) = text.split_once(':').expect("SCENARIO:FIRST:SWITCHES:KILL");
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.expect("a name of SCENARIOS");
    Some((scenario, Schedule::parse(schedule)))
}

#[test]
fn every_schedule_of_two_calls_keeps_its_promises() {
    let workspace = workspace();
    workspace.state().judges_requests = false;
    if let Some((scenario, schedule)) = named() {
        let played =
            try_schedule(&workspace, scenario, &schedule).unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{:?}\n{:?}", played.ends, played.steps);
        return;
    }
    for scenario in &SCENARIOS {
        let mut class = Class::new(format!("interleavings: {}", scenario.name));
        explore(&workspace, scenario, times(1, 2), &mut class);
        class.end();
    }
}

/// Three calls: one more than in the pairs, and others than there.
const TRIPLES: [Scenario; 4] = [
    Scenario { name: "three at once", actors: &[ONE, ONE, REFRESHING], needed: 2, ..USUAL },
    Scenario {
        name: "three late",
        prepare: |world| world.minted_ago(55 * MINUTE),
        actors: &[ONE, REFRESHING, Actor::WrongSecret("get")],
        needed: 2,
        ..USUAL
    },
    Scenario {
        name: "three early",
        prepare: |world| world.minted_ago(45 * MINUTE),
        actors: &[ONE, ONE, Actor::WrongSecret("get --refresh")],
        ..USUAL
    },
    Scenario {
        name: "renewal",
        prepare: |world| world.log_in(),
        actors: &[Actor::Renewal, Actor::Renewal, Actor::Renewal],
        ..USUAL
    },
];

#[test]
fn random_schedules_of_three_calls_keep_their_promises() {
    let workspace = workspace();
    workspace.state().judges_requests = false;
    let named = std::env::var("LAKEBASE_TOKEN_SEED").ok().map(|seed| seed.parse().unwrap());
    let rounds = if named.is_some() { 1 } else { times(150, 25_000) };
    let first = named.unwrap_or_else(|| u64::from_le_bytes(random()) >> 1);
    let mut class = Class::new("interleavings: three calls at random");
    for seed in (first..).take(rounds) {
        for scenario in &TRIPLES {
            let world = SharedState::new(&workspace);
            (scenario.prepare)(&world);
            // Of neighbouring seeds, xorshift's first numbers would be alike.
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let switches = dice.pick(&[5, 20, 50]);
            let (kills_left, jumps_left) = (dice.roll(3), dice.roll(2));
            let mut decide = Random { dice, switches, kills_left, jumps_left };
            let played = play(&world, scenario.actors, &mut decide, None);
            let found = problems(&world, scenario, &played);
            let held = if found.is_empty() {
                Ok(())
            } else {
                Err(format!("{}: {}\n  {:?}", scenario.name, found.join("\n  "), played.steps))
            };
            played.ends.iter().for_each(|end| class.ended(end.is_some()));
            class.tried(format!("LAKEBASE_TOKEN_SEED={seed}"), held);
        }
    }
    class.end();
}

/// Each run of the CLI is a process of Python, so there are fewer of these. Its request and its write are steps.
#[test]
fn selectors_of_one_cli_login_take_turns_also_if_one_is_killed() {
    if !has("interleavings::selectors_of_one_cli_login", "python3") {
        return;
    }
    let workspace = workspace();
    workspace.state().judges_requests = false;
    let named = std::env::var("LAKEBASE_TOKEN_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = named.unwrap_or_else(|| u64::from_le_bytes(random()) | 1);
    let mut dice = Dice(seed);
    let mut class = Class::new("interleavings: selectors of one CLI login");
    let (rounds, mut gated) = (times(25, 1_000), 0);
    for round in 0..rounds {
        let world =
            SharedState { test: person(&workspace, &["work"]), ..SharedState::new(&workspace) };
        let actors = [0, 1].map(|_| Actor::Selector(&SELECTORS[dice.roll(SELECTORS.len())]));
        let (switches, kills_left) = (dice.pick(&[5, 20, 50]), dice.roll(2));
        let own = Dice(dice.roll(usize::MAX) as u64 | 1);
        let mut decide = Random { dice: own, switches, kills_left, jumps_left: 0 };
        let gate = Gate::open(&world);
        let played = play(&world, &actors, &mut decide, Some(&gate));
        // A run that a killed call has started goes on.
        drop(gate);
        gated += played.gated;
        played.ends.iter().for_each(|end| class.ended(end.is_some()));

        let mut found = played.problems.clone();
        for (code, _, stderr) in played.ends.iter().flatten() {
            if *code != 0 {
                found.push(format!("exit code {code}: {stderr}"));
            }
        }
        // What a killed call has started goes on, and a later call waits for it.
        let later = [("DATABRICKS_CONFIG_PROFILE", "work".to_owned())];
        let later = context(&world.test, &world.clock, &later);
        let (code, _, stderr) = call(&later, "get --no-cache --timeout 30s");
        if code != 0 || !is_alive(&workspace, &world.test, "work") {
            found.push(format!("a later call has exit code {code}: {stderr}"));
        }
        let held = if found.is_empty() { Ok(()) } else { Err(found.join("\n  ")) };
        class.tried(format!("LAKEBASE_TOKEN_SEED={seed}, round {round}"), held);
    }
    class.end();
    assert!(gated > rounds, "{gated} steps of the CLI took turns");
}
