//! One HTTP request in, one answer out: proxies, trusted certificates, deadlines, retries.

pub mod connect;
pub mod http;
pub mod refusal;
