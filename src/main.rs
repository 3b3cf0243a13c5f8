//! The process around [`lakebase_token::run`].

use std::ffi::OsString;
use std::process::ExitCode;

use lakebase_token::world::World;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let world = World::of_process();
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    ExitCode::from(lakebase_token::run(&argv, &world, &mut stdout, &mut stderr))
}
