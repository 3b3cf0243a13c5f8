//! Settings: the table of rows, and their values from flags, environment and profile.

pub mod databrickscfg;
pub mod files;
pub mod host_url;
pub mod profile;
pub mod resolve;
pub mod table;
pub mod value;
pub mod variables;
