//! One file for each auth type, under Databricks' name. Their order is in `auth/chain.rs`.

pub mod azure_cli;
pub mod azure_client_secret;
pub mod azure_devops_oidc;
pub mod azure_msi;
pub mod azure_workload_identity;
pub mod databricks_cli;
pub mod env_oidc;
pub mod file_oidc;
pub mod github_oidc;
pub mod github_oidc_azure;
pub mod metadata_service;
pub mod oauth_m2m;
pub mod pat;
pub mod runtime_oauth;
pub mod stored_login;
