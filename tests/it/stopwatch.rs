//! The time that a call takes, and a control in the same time: a process that does nothing, again and
//! again. A call is too late only if it is later than the machine is.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::support::executable;

/// A call is some processes and requests, the control one process.
const CONTROLS_PER_CALL: u32 = 10;

pub struct Stopwatch {
    began: Instant,
    /// While it lives, the control goes on: not beyond a test that has failed.
    runs: Arc<()>,
    control: JoinHandle<Duration>,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        let runs = Arc::new(());
        let seen = Arc::downgrade(&runs);
        let control = thread::spawn(move || {
            let (mut fastest, mut slowest) = (Duration::MAX, Duration::ZERO);
            loop {
                let began = Instant::now();
                let mut command = Command::new(executable());
                command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null());
                assert!(command.status().unwrap().success());
                let took = began.elapsed();
                (fastest, slowest) = (fastest.min(took), slowest.max(took));
                if seen.upgrade().is_none() {
                    return slowest - fastest;
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        Stopwatch { began: Instant::now(), runs, control }
    }

    /// The time until now, and how late the machine was.
    pub fn stop(self) -> (Duration, Duration) {
        let took = self.began.elapsed();
        drop(self.runs);
        (took, CONTROLS_PER_CALL * self.control.join().unwrap())
    }

    /// Fails if it took longer than this, and than the machine was late.
    #[track_caller]
    pub fn assert_within(self, limit: Duration) -> Duration {
        let (took, late) = self.stop();
        assert!(took < limit + late, "{took:?}, the machine was late by {late:?}");
        took
    }
}
