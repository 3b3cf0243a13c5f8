//! Ends what the sandbox has started when SIGINT, SIGTERM or SIGHUP ends the sandbox.
//!
//! The server and the folder end by being dropped, in `main.rs`. This file ends the running command,
//! so that `main.rs` comes to that.

use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long after the hangup a command is killed.
const KILL_DELAY: Duration = Duration::from_secs(2);

#[derive(Clone, Default)]
pub struct Ending(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The signal that has come.
    signal: Option<i32>,
    running: Option<Running>,
}

#[derive(Clone, Copy)]
struct Running {
    process: Pid,
    has_own_group: bool,
}

impl Ending {
    pub fn on_signals() -> io::Result<Ending> {
        let ending = Ending::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let state = ending.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                state.came(signal);
            }
        });
        Ok(ending)
    }

    /// The exit code of the sandbox, if a signal ends it.
    pub fn code(&self) -> Option<u8> {
        self.0.lock().unwrap().signal.and_then(|signal| u8::try_from(128 + signal).ok())
    }

    /// Runs a command that uses our stdin.
    pub fn run_with_stdin(&self, command: &mut Command) -> io::Result<ExitStatus> {
        // What a person talks to stays in the terminal's foreground.
        self.wait_for(command, !io::stdin().is_terminal())
    }

    /// Runs a command without stdin.
    pub fn run(&self, command: &mut Command) -> io::Result<ExitStatus> {
        self.wait_for(command.stdin(Stdio::null()), true)
    }

    /// Runs a command to its end, or until a signal comes. In a group of its own, the signal reaches
    /// what the command starts, too.
    fn wait_for(&self, command: &mut Command, has_own_group: bool) -> io::Result<ExitStatus> {
        if has_own_group {
            command.process_group(0);
        }
        let mut child = {
            let mut state = self.0.lock().unwrap();
            if state.signal.is_some() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "ended by a signal"));
            }
            let child = command.spawn()?;
            let process = Pid::from_child(&child);
            state.running = Some(Running { process, has_own_group });
            child
        };
        let status = child.wait();
        self.0.lock().unwrap().running = None;
        status
    }

    fn came(&self, signal: i32) {
        let mut state = self.0.lock().unwrap();
        // Ctrl-C reaches the command as well, which may mean something else by it: psql cancels a query.
        let is_for_command = state.running.is_some_and(|running| !running.has_own_group);
        if signal == SIGINT && is_for_command {
            return;
        }
        state.signal = Some(signal);
        let Some(running) = state.running else { return };
        // An interactive shell ignores SIGTERM.
        running.send(Signal::HUP);
        drop(state);
        let state = self.clone();
        thread::spawn(move || {
            thread::sleep(KILL_DELAY);
            if let Some(running) = state.0.lock().unwrap().running {
                running.send(Signal::KILL);
            }
        });
    }
}

impl Running {
    fn send(self, signal: Signal) {
        // It may have ended meanwhile.
        let _ = if self.has_own_group {
            kill_process_group(self.process, signal)
        } else {
            kill_process(self.process, signal)
        };
    }
}
