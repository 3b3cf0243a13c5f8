//! What is Lakebase's: the part of the workspace's REST API that it needs, and a login to its Postgres.

pub mod credentials;
pub mod login_probe;
pub mod login_refusal;
pub mod pooled;
pub mod resolve;
pub mod workspace_api;
