//! A text that cannot be printed by accident.
//!
//! There is no `Display`, `Debug` shows nothing, and [`Secret::expose`] is the only way out, so
//! every place where a secret leaves can be found by that word (a test counts them). Its memory
//! is wiped when it is dropped; that of copies which are sent, received, parsed or printed is not.

use std::fmt;

use zeroize::Zeroize;

/// A password, token or client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the place that must send or print it.
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
