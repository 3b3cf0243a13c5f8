//! A snapshot of the environment: its entries as they are.
//!
//! `std::env::vars_os` makes two strings of each variable, which would be a fifth of a cached
//! call, for the few that a call looks at. So an entry is taken apart only where its name matters,
//! and the static artefact borrows all of them from libc (`main.rs`): this program never changes
//! its own environment.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The variables a program was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<Cow<'static, [u8]>>);

impl Environment {
    /// From `NAME=value` entries.
    pub fn of_entries(entries: impl Iterator<Item = &'static [u8]>) -> Environment {
        let mut list = Vec::with_capacity(64);
        list.extend(entries.map(Cow::Borrowed));
        Environment(list)
    }

    /// The entries as they stand there: most have a name and a value.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.iter().map(|entry| &**entry)
    }

    /// Names and values, in the order they were given. Whoever passes them on where the last of
    /// two equal names wins takes them in reverse, since here the first one does.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&OsStr, &OsStr)> {
        self.entries().filter_map(assignment)
    }

    /// The first variable of this name, as getenv(3) has it.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let name = name.as_bytes();
        if name.is_empty() || name[1..].contains(&b'=') {
            return None;
        }
        let mut values = self.entries().filter_map(|entry| entry.strip_prefix(name));
        let value = values.find_map(|rest| rest.strip_prefix(b"="))?;
        Some(OsStr::from_bytes(value))
    }
}

/// The name and value of an entry. What it begins with is part of the name (as libc has it).
pub fn assignment(entry: &[u8]) -> Option<(&OsStr, &OsStr)> {
    let equals = 1 + entry.iter().skip(1).position(|byte| *byte == b'=')?;
    let (name, value) = (&entry[..equals], &entry[equals + 1..]);
    Some((OsStr::from_bytes(name), OsStr::from_bytes(value)))
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Environment {
        let entry = |(name, value): (OsString, OsString)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            Cow::Owned(entry)
        };
        Environment(variables.into_iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_libc_reads_them() {
        let entries = b"A=1\0B=\0C=x=y\0nonsense\0=D=4\0A=2\0\xff=\xfe".split(|byte| *byte == 0);
        let environment = Environment::of_entries(entries);
        let get = |name| environment.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (get("A"), get("B"), get("C"), get("=D")),
            (Some("1"), Some(""), Some("x=y"), Some("4"))
        );
        assert_eq!((get("nonsense"), get(""), get("C=x")), (None, None, None));
        assert_eq!(environment.iter().count(), 6);
    }

    #[test]
    fn it_is_what_the_standard_library_says() {
        let theirs: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let environment: Environment = theirs.iter().cloned().collect();
        let ours = environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(ours.collect::<Vec<_>>(), theirs);
        assert_eq!(environment.get("PATH"), std::env::var_os("PATH").as_deref());
    }
}
