//! A snapshot of the environment: one block of bytes and where each entry stands in it.
//!
//! `std::env::vars_os` makes two strings of each variable, which would be a fifth of a cached
//! call, for the few that a call looks at. On Linux the kernel hands out the block as it is
//! (proc(5), `/proc/pid/environ`: the initial environment, and this program never changes its
//! own); where there is no `/proc` the block is made from the standard library's list.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};

/// The variables a program was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    block: Vec<u8>,
    /// Begin and end of each entry.
    places: Vec<(usize, usize)>,
}

impl Environment {
    /// This very process's.
    pub fn of_process() -> Environment {
        if let Some(block) = proc_environ() {
            return Environment::of_block(block);
        }
        std::env::vars_os().collect()
    }

    /// From `NAME=value` entries that each end in a NUL.
    fn of_block(block: Vec<u8>) -> Environment {
        let mut places = Vec::with_capacity(64);
        let mut begin = 0;
        while let Ok(entry) = CStr::from_bytes_until_nul(&block[begin..]) {
            let end = begin + entry.count_bytes();
            places.push((begin, end));
            begin = end + 1;
        }
        Environment { block, places }
    }

    /// The entries as they stand there: most have a name and a value.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.places.iter().map(|(begin, end)| &self.block[*begin..*end])
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

/// The block as the kernel has it; none where there is no `/proc`.
fn proc_environ() -> Option<Vec<u8>> {
    // By rustix, since the standard library spends four more system calls on such a file.
    let path = "/proc/self/environ";
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // This holds most environments.
    let mut block = Vec::with_capacity(4000);
    // The kernel gives as much as there is room for, so it is the end where some is left.
    while rustix::io::read(&file, spare_capacity(&mut block)).ok()? > 0
        && block.len() == block.capacity()
    {
        block.reserve(block.len());
    }
    (!block.is_empty()).then_some(block)
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Environment {
        let mut block = Vec::new();
        for (name, value) in variables {
            block.extend(name.into_vec());
            block.push(b'=');
            block.extend(value.into_vec());
            block.push(0);
        }
        Environment::of_block(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_as_libc_reads_it() {
        let block = b"A=1\0B=\0C=x=y\0nonsense\0=D=4\0A=2\0\xff=\xfe\0".to_vec();
        let environment = Environment::of_block(block);
        let get = |name| environment.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (get("A"), get("B"), get("C"), get("=D")),
            (Some("1"), Some(""), Some("x=y"), Some("4"))
        );
        assert_eq!((get("nonsense"), get("")), (None, None));
        assert_eq!(environment.iter().count(), 6);
    }

    #[test]
    fn it_is_what_the_standard_library_says() {
        let ours: Vec<(OsString, OsString)> = Environment::of_process()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let theirs: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        assert_eq!(ours, theirs);
        let again: Environment = theirs.into_iter().collect();
        assert_eq!(again.get("PATH"), std::env::var_os("PATH").as_deref());
    }
}
