//! A text that cannot be printed by accident.
//!
//! There is no `Display`, `Debug` shows nothing, and [`Secret::expose`] is the only way to read it,
//! so a search for that name finds all uses (`tests/it/tidy.rs` lists them). The memory is wiped
//! when the secret is dropped; the memory of copies that are sent, received, parsed or printed is
//! not.

use std::fmt;

use zeroize::Zeroize;

/// A password, token or client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for code that sends or prints it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("dapi0123456789");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[redacted] Some([redacted])");
        assert_eq!(secret.expose(), "dapi0123456789");
    }
}
