//! The process around [`lakebase_token::run`].
//!
//! It begins as every Rust program does, but for the static artefact: there the standard library's
//! own beginning (a stack for the handler of stack overflows, and what it takes to set that up)
//! would be a fifth of a cached call. That one begins where libc does, and does itself what of all
//! this is needed: no descriptor below 3 is free, and a broken pipe is an error and not a death.

#![cfg_attr(target_env = "musl", no_main)]
#![deny(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, Write};

use lakebase_token::world::World;

// musl's own allocator costs a cached call half as many instructions again.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(argv: &[OsString], world: &World) -> ! {
    // Straight to the descriptor: all output is one piece, a line buffer would only copy it.
    let code = lakebase_token::run(argv, world, &mut Stdout, &mut io::stderr());
    // Leaves without tearing down what the system takes back anyway.
    signal_hook::low_level::exit(code.into())
}

#[cfg(not(target_env = "musl"))]
fn main() {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    run(&argv, &World::of_process())
}

#[cfg(target_env = "musl")]
#[allow(unsafe_code)]
mod start {
    use std::ffi::{CStr, OsStr, c_char, c_int};
    use std::os::unix::ffi::OsStrExt;

    use lakebase_token::environment::Environment;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::{Mode, OFlags};

    use super::*;

    /// What libc calls (C17 §5.1.2.2.1 and, for the environment, POSIX.1-2024 `exec`).
    // SAFETY: no other `main` is linked.
    #[unsafe(no_mangle)]
    extern "C" fn main(
        _count: c_int,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) -> c_int {
        occupy_streams();
        // SAFETY: nobody else has been started who could change how signals are handled.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        // SAFETY: both are what libc was given by the system.
        let (arguments, environment) = unsafe { (texts(arguments), texts(environment)) };
        let argv: Vec<OsString> =
            arguments.skip(1).map(|text| OsStr::from_bytes(text).to_owned()).collect();
        let environment = Environment::of_entries(environment);
        run(&argv, &World::with(environment))
    }

    /// The texts of a list that ends in a null pointer.
    ///
    /// # Safety
    ///
    /// It is such a list of NUL-terminated texts, and nobody changes it while the process lives.
    unsafe fn texts(list: *const *const c_char) -> impl Iterator<Item = &'static [u8]> {
        (0..).map_while(move |n| {
            // SAFETY: the one before was not the last.
            let text = unsafe { *list.add(n) };
            // SAFETY: as the caller says.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
        })
    }

    /// A file that is opened must not become stdin, stdout or stderr because that was closed.
    fn occupy_streams() {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mut asked = streams.map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::empty()));
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut asked, Some(&now)).is_ok() {
            for _ in asked.iter().filter(|stream| stream.revents().contains(PollFlags::NVAL)) {
                // It gets the lowest number, and keeps it.
                let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty());
                null.map_or_else(|_| std::process::abort(), std::mem::forget);
            }
        }
    }
}
