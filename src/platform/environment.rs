//! A snapshot of the environment variables. The program never changes its own, and each test builds
//! another one.

use std::ffi::{OsStr, OsString};

/// The variables that a program was started with, in the order in which it got them.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The first variable of this name, like getenv(3).
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.iter().find(|(known, _)| is_same_name(known, name)).map(|(_, value)| value)
    }

    /// The variables for a child process. Where a name occurs twice the first one counts, as it
    /// does for us; `Command::envs` lets the last one win, so the order is reversed.
    pub fn for_child(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.iter().rev()
    }
}

/// Whether this is the variable's name. Windows ignores case.
pub fn is_same_name(known: &OsStr, name: &str) -> bool {
    if cfg!(windows) { known.eq_ignore_ascii_case(name) } else { known == name }
}

/// Whether the variable's name begins with this.
pub fn begins_with(name: &OsStr, prefix: &str) -> bool {
    let start = name.as_encoded_bytes().get(..prefix.len()).unwrap_or_default();
    if cfg!(windows) {
        start.eq_ignore_ascii_case(prefix.as_bytes())
    } else {
        start == prefix.as_bytes()
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Environment {
        Environment(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_variables_with_one_name_the_first_counts() {
        let variables = [("A", "1"), ("B", ""), ("A", "2")];
        let environment: Environment =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();

        assert_eq!(environment.get("A"), Some(OsStr::new("1")));
        assert_eq!(environment.get("B"), Some(OsStr::new("")));
        assert_eq!(environment.get("C"), None);
        let child: Vec<_> = environment.for_child().filter(|(name, _)| *name == "A").collect();
        assert_eq!(child.last().map(|(_, value)| *value), Some(OsStr::new("1")));
    }
}
