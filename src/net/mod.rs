//! One HTTP request in, one answer out: proxies, trusted certificates, deadlines, retries. And TLS to
//! a Postgres server.

pub mod answer;
pub mod connect;
pub mod http;
pub mod no_proxy;
pub mod postgres_tls;
mod proxy;
pub mod refusal;
mod send_failure;
pub mod sent_secrets;
pub mod tls_failure;
pub mod trust;
