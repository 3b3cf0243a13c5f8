//! The workspace's REST API, as far as Lakebase needs it.

pub mod credentials;
pub mod login_probe;
pub mod login_refusal;
pub mod resolve;
pub mod workspace_api;
