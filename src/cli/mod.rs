//! The command line: `args.rs` reads it, `mistakes.rs` explains what is wrong in it; help, manual and
//! completions are made from the tables of commands, settings, targets and formats.

pub mod args;
pub mod completions;
pub mod help;
pub mod man;
mod mistakes;
pub mod table;
