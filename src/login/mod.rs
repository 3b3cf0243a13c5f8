//! Logins of people that this program stores and renews itself.

pub mod oauth;
pub mod record;
pub mod renewal;
pub mod rotating_pat;
pub mod store;
