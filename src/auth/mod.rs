//! Where workspace tokens come from: the credential chain of Databricks unified authentication.
//! Begin with `chain.rs`.

pub mod chain;
pub mod cli_lock;
pub mod entra;
mod host_metadata;
pub mod no_identity;
pub mod provider;
pub mod providers;
mod token_endpoint;
mod token_exchange;
