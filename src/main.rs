//! Process entry: arguments, environment and streams go in, the exit code comes out.

use std::ffi::OsString;
use std::io;
use std::process;

use lakebase_token::platform::context::Context;

// musl's own allocator makes a mint slower; tests/README.md has the measurement.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let context = Context::of_process();

    let code = lakebase_token::run(&arguments, &context, &mut io::stdout(), &mut io::stderr());
    process::exit(i32::from(code));
}
