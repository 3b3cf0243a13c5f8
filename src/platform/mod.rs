//! Everything that depends on the operating system: files, locks, processes, signals, the terminal,
//! clocks and the environment. The rest of the program sees plain Rust types.

pub mod context;
pub mod environment;
pub mod exchanges;
pub mod files;
mod folders;
pub mod lock;
pub mod log;
pub mod names;
pub mod path_owners;
pub mod peer;
pub mod private_file;
pub mod process;
pub mod signals;
pub mod target_file;
pub mod terminal;
pub mod time;
mod unix;
