//! Logins of people that this program keeps and renews itself.

pub mod oauth;
pub mod renewal;
pub mod rotating_pat;
pub mod store;
