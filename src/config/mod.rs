//! Where each setting comes from: flags, the environment, profiles of `~/.databrickscfg`.

pub mod databrickscfg;
pub mod files;
pub mod host_url;
pub mod resolve;
pub mod table;
