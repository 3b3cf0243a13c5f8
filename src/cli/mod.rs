//! The command line: reading it, and help, manual and completions made from the tables.

pub mod args;
pub mod completions;
pub mod help;
pub mod man;
pub mod table;
