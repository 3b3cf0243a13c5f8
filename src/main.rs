//! The process around [`lakebase_token::run`].

#![forbid(unsafe_code)]

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

fn main() {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let world = World::of_process();
    // Straight to the descriptor: all output is one piece, a line buffer would only copy it.
    let code = lakebase_token::run(&argv, &world, &mut Stdout, &mut std::io::stderr());
    // Leaves without tearing down what the system takes back anyway.
    signal_hook::low_level::exit(code.into());
}
