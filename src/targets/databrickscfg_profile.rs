//! The target `databrickscfg`: a profile with the workspace token, for programs that read nothing
//! but `.databrickscfg`.
//!
//! How a profile of ours is marked, and how it is edited without touching any other byte, is the
//! business of `config/databrickscfg.rs`.

use crate::config::databrickscfg;
use crate::config::table::Id;
use crate::credential::redact::redact;
use crate::error::{Error, Result};
use crate::platform::target_file::Edit;
use crate::targets::target::{Entry, EntryEditor, Target};

/// The keys of our profile. With an auth type in the profile, no other setting selects another one.
const KEYS: [&str; 3] = ["host", "token", "auth_type"];

pub static PROFILE: EntryEditor = EntryEditor {
    home: Some((Id::ConfigFile, ".databrickscfg")),
    shared: false,
    check,
    put,
    read: |entry, file| {
        databrickscfg::value_in_our_profile(file, entry.target.first_key(), "token")
    },
    remove,
};

fn check(target: &Target, file: &[u8]) -> Result<()> {
    let name = target.first_key();
    // A file that cannot be read would not be read by other programs after our change, either.
    databrickscfg::section(&String::from_utf8_lossy(file), name).map_err(|e| {
        Error::usage(format!("cannot read the profiles in {}", target.shown_path()))
            .because(e.message)
    })?;
    if target.force {
        return Ok(());
    }

    match databrickscfg::is_our_profile(file, name) {
        None if name == databrickscfg::DEFAULT => {
            Err(Error::usage("profile DEFAULT is used by every program that names no profile")
                .hint("another name, or --force to write it"))
        }
        Some(false) => {
            Err(Error::usage(format!("profile {} was not written by lakebase-token", redact(name)))
                .because("it has no comment that says so")
                .hint("another name, or --force to take the profile over"))
        }
        _ => Ok(()),
    }
}

fn put<'e>(entry: &Entry<'e>, line: &'e str) -> Result<Box<Edit<'e>>> {
    let target = entry.target;
    let values = [entry.workspace, line.trim_end_matches('\n'), "pat"];
    Ok(Box::new(move |old| {
        let file = old.unwrap_or_default();
        check(target, file)?;
        let pairs: Vec<_> = KEYS.into_iter().zip(values).collect();
        Ok(Some(databrickscfg::put(file, target.first_key(), &pairs)))
    }))
}

fn remove<'e>(entry: &Entry<'e>) -> Result<Box<Edit<'e>>> {
    let name = entry.target.first_key();
    Ok(Box::new(move |old| Ok(old.map(|file| databrickscfg::remove(file, name, &KEYS)))))
}
