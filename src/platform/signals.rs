//! What happens on SIGTERM, SIGINT and SIGHUP.
//!
//! Most commands leave signals to the operating system, which ends them at once. `watch`, a hook
//! and a hidden prompt have something to finish first: the replacement of a file, a child program,
//! the terminal's settings.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::platform::system::{self, END_SIGNALS, END_SIGNALS_AND_HANGUP, TerminalSettings};
use crate::platform::time::Deadline;

/// How long the replacement of a file may hold up the end of the process.
const MAX_WRITE_WAIT: Duration = Duration::from_millis(80);

/// State shared with the thread that waits for signals.
#[derive(Debug, Default)]
pub struct SignalState {
    /// Held while a file is replaced.
    pub writing: Mutex<()>,
    /// The process group of a running child program; 0 for none.
    pub child_group: AtomicU32,
    /// The terminal's settings before it was told to hide what is typed.
    pub terminal: Mutex<Option<TerminalSettings>>,
    listening: AtomicBool,
}

impl SignalState {
    /// Makes the terminal show again what is typed.
    pub fn show_input(&self) {
        if let Ok(Some(before)) = self.terminal.lock().map(|mut terminal| terminal.take()) {
            system::show_input(&before);
        }
    }
}

/// From now on SIGTERM and SIGINT end the process within 100 ms at any time. The replacement of a
/// file is finished if possible, and a child program gets SIGTERM too.
pub fn end_on_signals(state: &Arc<SignalState>, notify_socket: Option<&OsStr>) -> Result<()> {
    end_on(&END_SIGNALS, state, notify_socket)
}

/// The same, and also when the terminal is gone.
pub fn end_on_signals_or_hangup(state: &Arc<SignalState>) -> Result<()> {
    end_on(&END_SIGNALS_AND_HANGUP, state, None)
}

fn end_on(signals: &[i32], state: &Arc<SignalState>, notify_socket: Option<&OsStr>) -> Result<()> {
    if state.listening.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let state = state.clone();
    let notify_socket = notify_socket.map(OsString::from);
    system::on_signal(signals, move |signal| {
        let _ = system::end_group(state.child_group.load(Ordering::SeqCst), false);
        notify_systemd(notify_socket.as_deref(), "STOPPING=1");
        state.show_input();
        wait_for_replacement(&state);
        system::end_by_signal(signal);
    })
    .map_err(|e| Error::failed("cannot wait for signals").because(e))
}

fn wait_for_replacement(state: &SignalState) {
    let deadline = Deadline::after(MAX_WRITE_WAIT);
    loop {
        match state.writing.try_lock() {
            Err(TryLockError::WouldBlock) if !deadline.passed() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            held => {
                // Kept until the process ends: no other replacement may begin.
                std::mem::forget(held);
                return;
            }
        }
    }
}

/// From now on only SIGKILL ends the process: its work must be finished, and takes limited time.
pub fn ignore_signals() -> Result<()> {
    system::ignore_signals().map_err(|e| Error::failed("cannot ignore signals").because(e))
}

/// One message of sd_notify(3).
pub fn notify_systemd(socket: Option<&OsStr>, state: &str) {
    if let Some(socket) = socket {
        system::send_datagram(socket, state);
    }
}
