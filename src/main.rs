//! The process around [`lakebase_token::run`].

use std::ffi::OsString;

use lakebase_token::world::World;

// musl's own allocator takes three times the instructions and a dozen system calls more.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let world = World::of_process();
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let code = lakebase_token::run(&argv, &world, &mut stdout, &mut stderr);
    // Leaves without tearing down what the system takes back anyway.
    std::process::exit(code.into());
}
