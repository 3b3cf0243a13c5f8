//! What a credential is: secrets that cannot be printed, tokens with their lifetime, and the hosts
//! that they may be sent to. Nothing here does I/O.

pub mod connection;
pub mod destination;
pub mod encoding;
pub mod jwt;
pub mod redact;
pub mod secret;
pub mod token;
