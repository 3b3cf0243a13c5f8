//! Calls side by side, one step of one call at a time (`src/platform/steps.rs`): every schedule of two calls
//! with at most two switches, the same with a fault at any step or a call killed at any step, and, where
//! nothing is switched, with a call that stands still at any step, and with a jump of the clock before any step and
//! during any request. Random schedules of three calls have kills, faults of the machine, and jumps.
//!
//! A call is a thread with a context of its own, and the workspace is the stand-in over plain HTTP. A kill
//! unwinds the thread, which closes its files and does nothing else. `tests/campaign` tries all; a plain run
//! tries one switch. A failure names its schedule:
//!
//!     LAKEBASE_TOKEN_SCHEDULE='must refresh:0:3,9:k12' cargo test --test it interleavings

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lakebase_token::credential::secret::Secret;
use lakebase_token::error::Error;
use lakebase_token::login::record::{Login, LoginKey, RenewWith};
use lakebase_token::login::renewal::{TokenNeed, renew, report};
use lakebase_token::login::store::Logins;
use lakebase_token::platform::context::Context;
use lakebase_token::platform::environment::Environment;
use lakebase_token::platform::steps::{Step, set_hook};
use lakebase_token::platform::time::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::cli_logins::{SELECTORS, Selector, is_alive, person_of_the_cli};
use super::differential::set;
use super::faults::{BOTH, Class, is_campaign, times};
use super::support::{
    Dice, HOUR, MINUTE, Test, call, has, login_of, named_seed, store_login, workspace,
};
use crate::sandbox::jwt::{Scope, claims, now, random};
use crate::sandbox::request_rules::Judged;
use crate::sandbox::server::Answer;
use crate::sandbox::workspace::{
    CLIENT_ID, CLIENT_SECRET, MINT, OTHER_USER, State, TOKEN, USER, Workspace,
};

/// More decisions than any schedule takes, unless its calls wait for each other.
const MAX_TURNS: usize = 3_000;

const MAX_TIME: Duration = Duration::from_secs(120);

const WRONG_SECRET: &str = "dose99999999999999999999999999999999";
const NEW_SECRET: &str = "dose11111111111111111111111111111111";

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
    /// The same for the profile `work`, at whose workspace another person has a login, too.
    Profile(&'static str),
    /// Another person logs in.
    OtherLogin,
    /// The secret is replaced at the workspace.
    Rotation,
    /// A call with the secret that replaces the other one.
    NewSecret(&'static str),
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
/// It asks for the role and the host, too.
const WITH_ROLE: Actor = Actor::Call("get -f pgpass");

/// Two calls of one kind, of which one mints.
const USUAL: Scenario =
    Scenario { name: "", prepare: |_| (), actors: &[ONE, ONE], needed: 1, may_fail: false };

const SCENARIOS: [Scenario; 11] = [
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
        prepare: |world| world.store(&world.login(USER)),
        actors: &[Actor::Person("get"), Actor::OtherLogin],
        ..USUAL
    },
    Scenario {
        name: "a profile's login",
        prepare: |world| {
            let url = &world.workspace.url;
            world.test.write(".databrickscfg", &format!("[work]\nhost = {url}\n"));
            let key = LoginKey::Profile("work".to_owned());
            world.store(&Login { key, ..world.login(USER) });
            world.store(&world.login(OTHER_USER));
        },
        actors: &[Actor::Profile("get"), Actor::Profile("get")],
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
            state.clients.insert(CLIENT_ID.to_owned(), CLIENT_SECRET.to_owned());
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
        store_login(login, &self.context()).unwrap();
    }

    fn key(&self) -> LoginKey {
        LoginKey::Host(self.workspace.url.clone())
    }

    /// The context of a call.
    fn context(&self) -> Context {
        context(&self.test, &self.clock, &[])
    }

    /// Whether the workspace accepts the stored refresh token.
    fn is_stored_alive(&self) -> bool {
        self.stored().is_some_and(|token| self.workspace.state().accepts_refresh(&token))
    }

    /// The refresh token of the stored login.
    fn stored(&self) -> Option<String> {
        let context = self.context();
        let login = Logins::of(&context).ok()?.get(&self.key()).ok()??;
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

fn act(
    actor: Actor,
    context: &Context,
    key: &LoginKey,
    other: Option<&Login>,
    workspace: &Mutex<State>,
) -> (u8, String, String) {
    match actor {
        Actor::Call(line)
        | Actor::WrongSecret(line)
        | Actor::NewSecret(line)
        | Actor::Person(line)
        | Actor::Profile(line) => call(context, line),
        Actor::Rotation => {
            let mut state = workspace.lock().unwrap();
            state.clients.insert(CLIENT_ID.to_owned(), NEW_SECRET.to_owned());
            (0, String::new(), String::new())
        }
        Actor::OtherLogin => {
            let stored = store_login(other.expect("a login to store"), context);
            stored.map_or_else(failed, |()| (0, String::new(), String::new()))
        }
        Actor::Selector((flags, _)) => call(context, format!("get {flags}").trim_end()),
        Actor::Renewal => {
            let renewed = renew(context, key, TokenNeed::Life(5 * MINUTE));
            let token = report(&renewed)["access_token"].as_str().unwrap_or_default().to_owned();
            renewed.map_or_else(failed, |_| (0, token, String::new()))
        }
    }
}

fn failed(error: Error) -> (u8, String, String) {
    (error.kind as u8, String::new(), error.to_string())
}

/// What the thread of a call says to the test: that it is about to do something, or that it has ended.
enum Event {
    At(Step),
    Ended(End),
}

/// What the test says to the thread of a call.
#[derive(Clone, Copy)]
enum Order {
    GoOn,
    /// What it is about to do fails.
    Fail,
    Kill,
}

/// What unwinds a thread that is killed.
struct Killed;

/// Who goes on at each turn, and whether it is killed instead.
trait Decide {
    fn next(&mut self, turn: usize, at: &[Option<Step>], current: usize) -> (usize, bool);

    /// The fault that happens to this step, which is one that can fail.
    fn fault(&mut self, _turn: usize, _step: Step) -> Option<Fault> {
        None
    }

    /// Whether the call stands still until the others have ended.
    fn stops(&mut self, _turn: usize) -> bool {
        false
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

/// What happens to a request, or to an action on a file.
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
    /// What the step does on this machine fails: with a file, or to start a child.
    Fails,
}

impl Fault {
    const LETTERS: [(char, Fault); 5] = [
        ('r', Fault::Refused),
        ('c', Fault::Closed),
        ('l', Fault::LostAnswer),
        ('h', Fault::Hangs),
        ('f', Fault::Fails),
    ];

    fn is_of_network(self) -> bool {
        !matches!(self, Fault::Refused | Fault::Fails)
    }

    /// Whether it can happen to this step.
    fn fits(self, step: Step) -> bool {
        let local = match step {
            Step::Read | Step::TryLock | Step::Write | Step::Rename | Step::Remove => true,
            Step::StartChild => true,
            Step::Request | Step::Answer | Step::ChildEnded | Step::Sleep => false,
        };
        if self == Fault::Fails { local } else { step == Step::Request }
    }

    fn letter(self) -> char {
        Fault::LETTERS.into_iter().find(|(_, fault)| *fault == self).unwrap().0
    }

    fn of(letter: &str) -> Option<Fault> {
        let mut all = Fault::LETTERS.into_iter();
        all.find(|(known, _)| letter.chars().eq([*known])).map(|(_, fault)| fault)
    }

    /// Makes it happen to the next request.
    fn happen(self, workspace: &Workspace) {
        let answer = match self {
            // The step itself fails.
            Fault::Fails => return,
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
    /// The call that is to go on at this turn stands still until the others have ended.
    stop: Option<usize>,
    /// What happens to the request, or to the file, after this turn.
    fault: Option<(usize, Fault)>,
    /// How far the clock jumps before this turn.
    jump: Option<(usize, i64)>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switches: Vec<String> = self.switches.iter().map(usize::to_string).collect();
        write!(f, "{}:{}", self.first, switches.join(","))?;
        self.kill.map_or(Ok(()), |turn| write!(f, ":k{turn}"))?;
        self.stop.map_or(Ok(()), |turn| write!(f, ":s{turn}"))?;
        self.jump.map_or(Ok(()), |(turn, millis)| write!(f, ":j{turn}={millis}"))?;
        self.fault.map_or(Ok(()), |(turn, fault)| write!(f, ":{}{turn}", fault.letter()))
    }
}

impl Schedule {
    fn parse(text: &str) -> Schedule {
        let mut parts = text.split(':');
        let first = parts.next().unwrap().parse().unwrap();
        let switches = parts.next().unwrap_or_default().split(',').filter(|turn| !turn.is_empty());
        let switches = switches.map(|turn| turn.parse().unwrap()).collect();
        let mut schedule = Schedule { first, switches, ..Schedule::default() };
        for part in parts {
            let (letter, turn) = part.split_at(1);
            match (letter, turn.split_once('=')) {
                ("k", _) => schedule.kill = Some(turn.parse().unwrap()),
                ("s", _) => schedule.stop = Some(turn.parse().unwrap()),
                ("j", Some((turn, millis))) => {
                    schedule.jump = Some((turn.parse().unwrap(), millis.parse().unwrap()));
                }
                _ => schedule.fault = Some((turn.parse().unwrap(), Fault::of(letter).unwrap())),
            }
        }
        schedule
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

    fn fault(&mut self, turn: usize, _: Step) -> Option<Fault> {
        self.fault.filter(|(known, _)| *known == turn).map(|(_, fault)| fault)
    }

    fn stops(&mut self, turn: usize) -> bool {
        self.stop == Some(turn)
    }

    fn jump(&mut self, turn: usize) -> i64 {
        self.jump.filter(|(known, _)| *known == turn).map_or(0, |(_, millis)| millis)
    }
}

/// How far the clock jumps.
const JUMPS: [i64; 5] = [-3 * HOUR, -10 * MINUTE, 10 * MINUTE, 50 * MINUTE, 3 * HOUR];

/// A schedule by dice.
struct Random {
    dice: Dice,
    /// In percent of the turns.
    switches: usize,
    kills_left: usize,
    jumps_left: usize,
    failures_left: usize,
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

    fn fault(&mut self, _: usize, step: Step) -> Option<Fault> {
        let may_happen = self.failures_left > 0 && Fault::Fails.fits(step);
        let happens = may_happen && self.dice.percent(5);
        self.failures_left -= usize::from(happens);
        happens.then_some(Fault::Fails)
    }

    fn jump(&mut self, _: usize) -> i64 {
        if self.jumps_left == 0 || !self.dice.percent(2) {
            return 0;
        }
        self.jumps_left -= 1;
        self.dice.pick(&JUMPS)
    }
}

/// What has happened in a schedule.
struct Played {
    ends: Vec<End>,
    /// The steps that each call has done; a killed one did not do its last one.
    steps: Vec<Vec<Step>>,
    turns: usize,
    /// The turns in which each call began and ended.
    began: Vec<Option<usize>>,
    ended: Vec<Option<usize>>,
    /// The steps that a fault can happen to, with their turns.
    faultable: Vec<(usize, Step)>,
    /// How often a run of the Databricks CLI has waited at the gate.
    gated: usize,
    fault: Option<Fault>,
    /// The call that it happened to, and the number of its step that failed.
    failed: Option<(usize, usize)>,
    /// Whether a call has stood still.
    stopped: bool,
    /// Problems that were seen when a call ended.
    problems: Vec<String>,
    jumped: bool,
}

impl Played {
    /// Whether one call had not been killed and had ended before another one began.
    fn is_after(&self, later: usize, earlier: usize) -> bool {
        let times = self.began[later].zip(self.ended[earlier]);
        has_delivered(&self.ends[earlier]) && times.is_some_and(|(began, ended)| ended <= began)
    }

    /// Whether a step has failed in this call.
    fn has_failed_step(&self, n: usize) -> bool {
        self.fault == Some(Fault::Fails) && self.failed.is_some_and(|(call, _)| call == n)
    }

    /// Whether a call has made a request and not yet stored what it brought.
    fn is_storing(&self, call: usize) -> bool {
        let (_, done) = self.steps[call].split_last().unwrap_or((&Step::Read, &[]));
        let asked = done.iter().position(|step| *step == Step::Request);
        asked.is_some_and(|asked| {
            let is_failed = |n: usize| self.failed == Some((call, n));
            !(asked..done.len()).any(|n| done[n] == Step::Rename && !is_failed(n))
        })
    }
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
    let mut commands: Vec<Sender<Order>> = Vec::new();
    for (n, actor) in actors.iter().copied().enumerate() {
        let (command, orders) = channel();
        commands.push(command);
        let say = say.clone();
        let home = Home {
            env: world.test.env.clone(),
            key: world.key(),
            clock: world.clock.clone(),
            other: matches!(actor, Actor::OtherLogin).then(|| world.login(OTHER_USER)),
            workspace: world.workspace.shared(),
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
        began: vec![None; actors.len()],
        ended: vec![None; actors.len()],
        faultable: Vec::new(),
        gated: 0,
        fault: None,
        failed: None,
        stopped: false,
        problems: Vec::new(),
        jumped: false,
    };
    let mut at: Vec<Option<Step>> = vec![Some(Step::Read); actors.len()];
    let mut runs: Vec<Option<UnixStream>> = Vec::new();
    // The call that stands still, and where.
    let mut stopped: Option<(usize, Option<Step>)> = None;
    let (mut current, mut waited, began) = (0, 0, Instant::now());
    loop {
        let have_ended = at[..actors.len()].iter().all(Option::is_none);
        let is_late = stopped.is_some() && began.elapsed() > HANG;
        if is_late {
            played.problems.push("a call waits for one that stands still".to_owned());
        }
        if let Some((call, step)) = stopped.take_if(|_| have_ended || is_late) {
            at[call] = step;
        } else if have_ended {
            break;
        }
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
        if decide.stops(played.turns) {
            stopped = Some((who, at[who].take()));
            played.stopped = true;
            played.turns += 1;
            continue;
        }
        let mut order = if kill { Order::Kill } else { Order::GoOn };
        // Before its first order, a call has announced no step.
        let step = at[who].filter(|_| played.began[who].is_some());
        let can_fail = |step: &Step| Fault::LETTERS.iter().any(|(_, fault)| fault.fits(*step));
        if let Some(step) = step.filter(can_fail) {
            played.faultable.push((played.turns, step));
            let fault = if kill { None } else { decide.fault(played.turns, step) };
            if let Some(fault) = fault.filter(|fault| fault.fits(step)) {
                fault.happen(world.workspace);
                let number = played.steps[who].len() - 1;
                (played.fault, played.failed) = (Some(fault), Some((who, number)));
                if fault == Fault::Fails {
                    order = Order::Fail;
                }
            }
        }
        played.began[who].get_or_insert(played.turns);
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
        let _ = commands[who].send(if is_stuck { Order::Kill } else { order });
        match events.recv().unwrap() {
            (n, Event::At(step)) => {
                at[n] = Some(step);
                played.steps[n].push(step);
                // Only a call between its request and its rename may have the one that counts.
                let renews = actors.iter().all(|actor| matches!(actor, Actor::Renewal));
                let may_be_lost = played.fault == Some(Fault::LostAnswer)
                    || (0..actors.len()).any(|call| played.is_storing(call));
                if renews && !may_be_lost && !world.is_stored_alive() {
                    played.problems.push(format!("the refresh token was lost before {step:?}"));
                }
            }
            (n, Event::Ended(end)) => {
                at[n] = None;
                played.ended[n] = Some(played.turns);
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
    workspace: Arc<Mutex<State>>,
}

/// A call in its thread.
fn thread(
    n: usize,
    actor: Actor,
    home: &Home,
    say: &Sender<(usize, Event)>,
    orders: Receiver<Order>,
) -> End {
    let Home { env, key, clock, other, workspace } = home;
    // Returns whether what follows fails.
    let obey = move || match orders.recv().unwrap_or(Order::Kill) {
        Order::GoOn => false,
        Order::Fail => true,
        Order::Kill => resume_unwind(Box::new(Killed)),
    };
    let mut test = Test::bare();
    test.env.clone_from(env);
    if matches!(actor, Actor::Person(_) | Actor::Profile(_)) {
        test.unset("DATABRICKS_CLIENT_ID").unset("DATABRICKS_CLIENT_SECRET");
    }
    if matches!(actor, Actor::Profile(_)) {
        test.unset("DATABRICKS_HOST").set("DATABRICKS_CONFIG_PROFILE", "work");
    }
    let variables = match actor {
        Actor::WrongSecret(_) => &[("DATABRICKS_CLIENT_SECRET", WRONG_SECRET)][..],
        Actor::NewSecret(_) => &[("DATABRICKS_CLIENT_SECRET", NEW_SECRET)],
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
        obey() || step == Step::Sleep
    })));
    Some(act(actor, &context, key, other.as_ref(), workspace))
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
        Actor::Call(_) | Actor::NewSecret(_) => (Scope::Database, &[CLIENT_ID][..]),
        Actor::Renewal => (Scope::Workspace, &[USER][..]),
        Actor::Selector(_) | Actor::Profile(_) => (Scope::Database, &[USER][..]),
        Actor::Person(_) => (Scope::Database, &[USER, OTHER_USER][..]),
        Actor::OtherLogin | Actor::Rotation => return None,
        Actor::WrongSecret(_) => return Some("a wrong secret got a credential".to_owned()),
    };
    let time = now() + world.clock.load(SeqCst) / 1000;
    // A line of a password file has the role, which must be the token's.
    let (role, token) = match token.rsplit_once(':') {
        Some((line, token)) => (line.rsplit(':').next(), token),
        None => (None, token.as_str()),
    };
    let checked = world.workspace.signer.check_at(token, scope, time);
    let is_right =
        |subject: &str| subjects.contains(&subject) && role.is_none_or(|role| role == subject);
    (!checked.as_deref().is_ok_and(is_right))
        .then(|| format!("exit code 0 with {checked:?} and {role:?}: {stderr}"))
}

fn uses_a_login(actor: Actor) -> bool {
    matches!(actor, Actor::Person(_) | Actor::Profile(_) | Actor::Renewal | Actor::OtherLogin)
}

/// The subject of a token, also of an expired one.
fn subject_of(token: &str) -> String {
    claims(token)["sub"].as_str().unwrap_or_default().to_owned()
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
    let place_of = |actor: fn(&Actor) -> bool| scenario.actors.iter().position(actor);
    let rotation = place_of(|actor| matches!(actor, Actor::Rotation));
    let other_login = place_of(|actor| matches!(actor, Actor::OtherLogin));
    for (n, end) in played.ends.iter().enumerate() {
        let Some((code, printed, stderr)) = end else { continue };
        // A call that begins after the other person's login gets that person's credential.
        let is_later = other_login.is_some_and(|login| played.is_after(n, login));
        if *code == 0 && is_later && matches!(scenario.actors[n], Actor::Person(_)) {
            let token = printed.rsplit(':').next().unwrap_or_default();
            let subject = subject_of(token);
            add(subject == OTHER_USER, format!("call {n} has the credential of {subject}"));
        }
        let is_refused = matches!(scenario.actors[n], Actor::WrongSecret(_));
        let is_right = match code {
            0 => !is_refused,
            // A login of a person has no refresh token here.
            3 => lost_login(scenario, played) || uses_a_login(scenario.actors[n]) && played.jumped,
            4 if rotation.is_some_and(|rotation| played.is_after(n, rotation)) => {
                !matches!(scenario.actors[n], Actor::NewSecret(_))
            }
            4 => {
                let rotates = rotation.is_some();
                is_refused || scenario.may_fail || rotates || played.fault == Some(Fault::Refused)
            }
            // Without a file of the cache a call goes on; without the login it does not.
            1 if played.has_failed_step(n) && uses_a_login(scenario.actors[n]) => true,
            5 if played.fault.is_some_and(|fault| fault.is_of_network()) => true,
            // What has expired on its way is an error.
            1 | 5 if played.jumped => true,
            5 => played.stopped,
            _ => false,
        };
        add(is_right, format!("call {n} has exit code {code}: {stderr}"));
    }

    let path = if scenario.name == "renewal" { TOKEN } else { MINT };
    let faults = usize::from(scenario.may_fail) + usize::from(played.fault.is_some());
    let mints = world.workspace.count(path).saturating_sub(faults);
    // A credential of each person may be needed.
    let logins = usize::from(other_login.is_some());
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
        let is_alive = world.is_stored_alive();
        add(
            is_alive || lost_login(scenario, played),
            "the stored refresh token is lost".to_owned(),
        );
        // The next caller gets an error, once the old token has expired.
        world.pass(2 * HOUR);
        let shared = world.workspace.shared();
        let (code, _, stderr) = act(Actor::Renewal, &world.context(), &world.key(), None, &shared);
        let expected = if is_alive { 0 } else { 3 };
        add(code == expected, format!("a later renewal has exit code {code}: {stderr}"));
    } else if let Some(other_login) = other_login {
        // Once the other person has logged in, the credential is theirs.
        let mut later = world.context();
        later.env = without_principal(&later);
        let (code, token, stderr) = call(&later, "get");
        let time = now() + world.clock.load(SeqCst) / 1000;
        let subject = world.workspace.signer.check_at(&token, Scope::Database, time);
        let is_logged_in = played.ends[other_login].as_ref().is_some_and(|(code, ..)| *code == 0);
        let is_right =
            subject.as_deref() == Ok(OTHER_USER) || !is_logged_in && subject.as_deref() == Ok(USER);
        let is_right = match code {
            0 => is_right,
            // A renewal is a process of its own, whose clock does not jump.
            3 | 5 => played.jumped,
            4 => played.fault.is_some_and(|fault| fault != Fault::Fails),
            _ => false,
        };
        add(is_right, format!("a later call: {code} {subject:?} {stderr}"));
    } else {
        // What a kill leaves disturbs no later call. A refusal counts for three seconds.
        world.pass(4_000);
        let mut later = world.context();
        if world.workspace.state().clients[CLIENT_ID] == NEW_SECRET {
            later = context(
                &world.test,
                &world.clock,
                &[("DATABRICKS_CLIENT_SECRET", NEW_SECRET.to_owned())],
            );
        }
        let (code, token, stderr) = call(&later, "get");
        let end = Some((code, token, stderr.clone()));
        add(problem(world, ONE, end.as_ref()).is_none(), "a later call gets a bad one".to_owned());
        let faults = played.fault.is_some_and(|fault| fault != Fault::Fails);
        let is_right = code == 0 || scenario.may_fail || faults;
        add(is_right, format!("a later call has exit code {code}: {stderr}"));
    }
    found
}

/// Whether the workspace had replaced the refresh token when a renewal was killed before it stored the new one,
/// or when the answer was lost: then the login has ended, and the others say so.
fn lost_login(scenario: &Scenario, played: &Played) -> bool {
    let mut killed = (0..played.ends.len()).filter(|call| played.ends[*call].is_none());
    let is_lost =
        played.fault == Some(Fault::LostAnswer) || killed.any(|call| played.is_storing(call));
    scenario.name == "renewal" && is_lost
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
    let home = world.test.home.path();
    let folders = [
        world.test.cache_folder(),
        home.join(".local/state/lakebase-token"),
        home.join(".databricks"),
    ];
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
    } else if schedule.stop.is_some() {
        world.test.set("LAKEBASE_TOKEN_TIMEOUT", "300ms");
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

/// A schedule that has been played, with each fault at each step that it can happen to, with a call killed or standing
/// still at each step, and with jumps of the clock. A workspace that hangs and a call that stands still, which take time,
/// and jumps are tried only where nothing is switched. A plain run tries the other faults there, too, and elsewhere only
/// refusals and some of the kills.
fn troubled(scenario: &Scenario, schedule: &Schedule, played: &Played) -> Vec<Schedule> {
    let is_first = schedule.switches.is_empty();
    let jumps = if is_first { &JUMPS[..] } else { &[] };
    let mut all = Vec::new();
    for (turn, step) in &played.faultable {
        let faults = Fault::LETTERS.into_iter().map(|(_, fault)| fault);
        for fault in faults.filter(|fault| fault.fits(*step)) {
            let is_tried = match fault {
                Fault::Refused => true,
                Fault::Hangs => is_first,
                _ => is_first || is_campaign(),
            };
            if !is_tried {
                continue;
            }
            let faulty = Schedule { fault: Some((*turn, fault)), ..schedule.clone() };
            if *step == Step::Request && fault != Fault::Hangs {
                // The clock jumps while the request is under way.
                let jump = |millis: &i64| Some((turn + 1, *millis));
                all.extend(jumps.iter().map(|m| Schedule { jump: jump(m), ..faulty.clone() }));
            }
            all.push(faulty);
        }
    }
    // After a switch, a plain run kills at every third step, at other ones after another switch.
    let is_tried = |turn: &usize| {
        let switched: usize = schedule.switches.iter().sum();
        is_first || is_campaign() || (turn + switched).is_multiple_of(3)
    };
    for turn in (0..played.turns).filter(is_tried) {
        all.push(Schedule { kill: Some(turn), ..schedule.clone() });
        let jump = |millis: &i64| Some((turn, *millis));
        all.extend(jumps.iter().map(|m| Schedule { jump: jump(m), ..schedule.clone() }));
        // Others may wait for their whole time, and a renewal has a minute.
        if is_first && scenario.name != "renewal" && (is_campaign() || turn.is_multiple_of(4)) {
            all.push(Schedule { stop: Some(turn), ..schedule.clone() });
        }
    }
    all
}

/// Tries all schedules with up to this many switches, each of them also with trouble. In the campaign, the turns
/// that there are only because of the trouble have switches, too.
fn explore(workspace: &Workspace, scenario: &Scenario, switches: usize, class: &mut Class) {
    let mut open: Vec<Schedule> =
        (0..scenario.actors.len()).map(|first| Schedule { first, ..Schedule::default() }).collect();
    while let Some(schedule) = open.pop() {
        let played = count(class, try_schedule(workspace, scenario, &schedule));
        let Some(played) = played else { return };
        let has_switch_left = schedule.switches.len() < switches;
        let mut switch_in = |schedule: &Schedule, turns: Range<usize>| {
            open.extend(turns.filter(|_| has_switch_left).map(|turn| {
                let switches = [&schedule.switches[..], &[turn]].concat();
                Schedule { switches, ..schedule.clone() }
            }));
        };
        let next = schedule.switches.last().map_or(1, |turn| turn + 1);
        switch_in(&schedule, next..played.turns);
        if schedule.kill.is_some() || schedule.fault.is_some() || schedule.jump.is_some() {
            continue;
        }
        for troubled in troubled(scenario, &schedule, &played) {
            let longer = count(class, try_schedule(workspace, scenario, &troubled));
            let hangs = troubled.fault.is_some_and(|(_, fault)| fault == Fault::Hangs);
            let takes_time = hangs || troubled.stop.is_some();
            if let Some(longer) = longer.filter(|_| is_campaign() && !takes_time) {
                switch_in(&troubled, played.turns.max(next)..longer.turns);
            }
        }
    }
}

/// Whether a call ended with exit code 0.
fn has_delivered(end: &End) -> bool {
    end.as_ref().is_some_and(|(code, ..)| *code == 0)
}

/// Counts a schedule. Returns nothing if it has failed.
fn count(class: &mut Class, played: Result<Played, String>) -> Option<Played> {
    match played {
        Ok(played) => {
            played.ends.iter().for_each(|end| class.ended(has_delivered(end)));
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
    let (name, schedule) = text
        .split_once(':')
        .expect("SCENARIO:FIRST:SWITCHES, and then :kTURN, :sTURN, :jTURN=MS or :rTURN");
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = scenario.expect("a name of SCENARIOS");
    Some((scenario, Schedule::parse(schedule)))
}

#[test]
fn every_schedule_of_two_calls_keeps_its_promises() {
    if let Some((scenario, schedule)) = named() {
        let workspace = judging_workspace();
        let played =
            try_schedule(&workspace, scenario, &schedule).unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{:?}\n{:?}", played.ends, played.steps);
        return;
    }
    let next = AtomicUsize::new(0);
    let explore_some = || {
        let workspace = judging_workspace();
        while let Some(scenario) = SCENARIOS.get(next.fetch_add(1, SeqCst)) {
            let mut class = Class::new(format!("interleavings: {}", scenario.name), BOTH);
            explore(&workspace, scenario, times(1, 2), &mut class);
            class.end();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(explore_some);
        explore_some();
    });
}

fn judging_workspace() -> Workspace {
    let workspace = workspace();
    workspace.state().judged = Judged::AllButExpiry;
    workspace
}

/// Three calls: one more than in the pairs, and others than there.
const TRIPLES: [Scenario; 6] = [
    Scenario { name: "three at once", actors: &[ONE, WITH_ROLE, REFRESHING], needed: 2, ..USUAL },
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
        actors: &[ONE, WITH_ROLE, Actor::WrongSecret("get --refresh")],
        ..USUAL
    },
    Scenario {
        name: "renewal",
        prepare: |world| world.log_in(),
        actors: &[Actor::Renewal, Actor::Renewal, Actor::Renewal],
        ..USUAL
    },
    Scenario {
        name: "another person logs in",
        prepare: |world| world.store(&world.login(USER)),
        actors: &[Actor::Person("get"), Actor::Person("get -f pgpass"), Actor::OtherLogin],
        ..USUAL
    },
    Scenario {
        name: "a rotated secret",
        prepare: |world| world.minted_ago(55 * MINUTE),
        actors: &[ONE, Actor::NewSecret("get"), Actor::Rotation],
        needed: 2,
        ..USUAL
    },
];

/// A plain run tries the same schedules each time, a campaign others.
fn first_seed() -> u64 {
    if is_campaign() { u64::from_le_bytes(random()) >> 1 } else { 1 }
}

#[test]
fn random_schedules_of_three_calls_keep_their_promises() {
    let workspace = judging_workspace();
    let named = named_seed();
    let usual = set("LAKEBASE_TOKEN_SCHEDULES", times(150, 25_000) as u64) as usize;
    let rounds = if named.is_some() { 1 } else { usual };
    let first = named.unwrap_or_else(first_seed);
    let mut class = Class::new("interleavings: three calls at random", BOTH);
    for seed in (first..).take(rounds) {
        for scenario in &TRIPLES {
            let world = SharedState::new(&workspace);
            (scenario.prepare)(&world);
            let mut dice = Dice::of_round(seed);
            let switches = dice.pick(&[5, 20, 50]);
            let (kills_left, jumps_left) = (dice.roll(3), dice.roll(2));
            let failures_left = dice.roll(2);
            let mut decide = Random { dice, switches, kills_left, jumps_left, failures_left };
            let played = play(&world, scenario.actors, &mut decide, None);
            let found = problems(&world, scenario, &played);
            let held = if found.is_empty() {
                Ok(())
            } else {
                Err(format!("{}: {}\n  {:?}", scenario.name, found.join("\n  "), played.steps))
            };
            played.ends.iter().for_each(|end| class.ended(has_delivered(end)));
            class.tried(format!("LAKEBASE_TOKEN_SEED={seed}"), held);
        }
    }
    class.end();
}

/// Another login of the Databricks CLI, in the same file.
const OTHER_SELECTOR: Selector = ("-p other", &[]);

/// Two selectors of one login of the Databricks CLI, and a third one, or one of another login in the same file. Each run
/// of the CLI is a process of Python, so there are fewer of these. Its request and its write are steps.
#[test]
fn selectors_of_one_cli_login_take_turns_also_if_one_is_killed() {
    if !has("interleavings::selectors_of_one_cli_login", "python3") {
        return;
    }
    let workspace = judging_workspace();
    let named = named_seed();
    let first = named.unwrap_or_else(first_seed);
    let mut class = Class::new("interleavings: selectors of one CLI login", BOTH);
    let usual = set("LAKEBASE_TOKEN_SCHEDULES", times(25, 1_000) as u64) as usize;
    let (rounds, mut gated) = (if named.is_some() { 1 } else { usual }, 0);
    for seed in (first..).take(rounds) {
        let mut dice = Dice::of_round(seed);
        let world = SharedState {
            test: person_of_the_cli(&workspace, &["work", "other"]),
            ..SharedState::new(&workspace)
        };
        let mut selector = || &SELECTORS[dice.roll(SELECTORS.len())];
        let mut actors = [selector(), selector(), selector()].map(Actor::Selector);
        if dice.percent(50) {
            actors[2] = Actor::Selector(&OTHER_SELECTOR);
        }
        let (switches, kills_left) = (dice.pick(&[5, 20, 50]), dice.roll(2));
        let (jumps_left, failures_left) = (0, dice.roll(2));
        let mut decide = Random { dice, switches, kills_left, jumps_left, failures_left };
        let gate = Gate::open(&world);
        let played = play(&world, &actors, &mut decide, Some(&gate));
        // A run that a killed call has started goes on.
        drop(gate);
        gated += played.gated;
        played.ends.iter().for_each(|end| class.ended(has_delivered(end)));

        let mut found = played.problems.clone();
        if !locks_are_free(&world) {
            found.push("a lock is still held".to_owned());
        }
        for (n, end) in played.ends.iter().enumerate() {
            let Some((code, _, stderr)) = end else { continue };
            // Without its lock the CLI is not run.
            if *code != 0 && !(*code == 1 && played.has_failed_step(n)) {
                found.push(format!("call {n} has exit code {code}: {stderr}"));
            }
        }
        // What a killed call has started goes on, and a later call waits for it.
        for profile in ["work", "other"] {
            let later = [("DATABRICKS_CONFIG_PROFILE", profile.to_owned())];
            let later = context(&world.test, &world.clock, &later);
            let (code, _, stderr) = call(&later, "get --no-cache --timeout 30s");
            if code != 0 || !is_alive(&workspace, &world.test, profile) {
                found.push(format!("a later call for {profile} has exit code {code}: {stderr}"));
            }
        }
        let held = if found.is_empty() { Ok(()) } else { Err(found.join("\n  ")) };
        class.tried(format!("LAKEBASE_TOKEN_SEED={seed}"), held);
    }
    class.end();
    assert!(named.is_some() || gated > rounds, "{gated} steps of the CLI took turns");
}
