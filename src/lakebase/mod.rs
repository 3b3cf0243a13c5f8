//! Lakebase: the REST calls that resolve and mint, and a login to Postgres.

pub mod alternatives;
pub mod credentials;
pub mod listing;
pub mod login_probe;
pub mod login_refusal;
pub mod pooled;
pub mod resolve;
pub mod workspace_api;
