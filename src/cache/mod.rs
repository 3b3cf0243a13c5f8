//! What is cached, and when something cached is good enough.

pub mod entry;
pub mod failures;
pub mod freshness;
pub mod policy;
pub mod store;
