//! Everything that depends on the operating system: files, locks, processes, signals, the terminal,
//! clocks and the environment. The rest of the program sees plain Rust types.

pub mod context;
pub mod dns;
pub mod environment;
pub mod file_metadata;
pub mod files;
mod folders;
pub mod lock;
pub mod log;
pub mod path_owners;
pub mod peer;
pub mod private_file;
pub mod process;
pub mod request_log;
pub mod signals;
pub mod steps;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod system;
pub mod target_file;
pub mod terminal;
pub mod time;
#[cfg(windows)]
mod windows_acl;
#[cfg(windows)]
mod windows_calls;
