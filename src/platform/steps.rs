//! A hook for tests that run several calls side by side, one step of one call at a time
//! (`tests/it/interleavings.rs`). The code calls the hook before each action that
//! another process can observe or interfere with, and before it uses an answer or a child's output.
//! A release build has no hook.

use std::io;

/// What a call is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To read a file of ours: an entry, a login.
    Read,
    TryLock,
    /// To write a new file of ours, and to rename it to its name.
    Write,
    Rename,
    Remove,
    Request,
    /// To use the answer to a request.
    Answer,
    StartChild,
    /// To use what a child has printed.
    ChildEnded,
    /// To let others go on: it waits for one of them, or for a child.
    Sleep,
}

/// Returns whether the test has taken the place of what follows.
#[cfg(not(debug_assertions))]
pub fn step(_: Step) -> bool {
    false
}

/// The same, with an error if the test makes the action fail.
pub fn try_step(next: Step) -> io::Result<()> {
    if step(next) { Err(io::Error::other("a test makes it fail")) } else { Ok(()) }
}

#[cfg(debug_assertions)]
pub use hook::{set_hook, step};

#[cfg(debug_assertions)]
mod hook {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::Step;

    pub type Hook = Rc<dyn Fn(Step) -> bool>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Sets the hook of this thread.
    pub fn set_hook(hook: Option<Hook>) {
        HOOK.set(hook);
    }

    pub fn step(step: Step) -> bool {
        let hook = HOOK.with_borrow(Clone::clone);
        hook.is_some_and(|hook| hook(step))
    }
}
