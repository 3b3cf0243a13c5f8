//! Settings: the table of rows, and their values from flags, environment and profile.

mod checks;
pub mod databrickscfg;
pub mod files;
pub mod host_url;
pub mod profile;
pub mod resolve;
pub mod settings;
pub mod table;
pub mod value;
pub mod variables;
