//! The target `file`: a file that holds one credential and nothing else. In the format `pgbouncer` it is
//! `auth_file.rs`'s.

use crate::credential::jwt::holds_token;
use crate::error::{Error, Result};
use crate::platform::target_file::Edit;
use crate::targets::auth_file::has_other_lines;
use crate::targets::target::{Entry, EntryEditor, Target};

pub static FILE: EntryEditor =
    EntryEditor { home: None, shared: false, check, put, read: |_, file| Some(file), remove };

/// The path may be a mistake: only a file that holds a token is ours to replace.
fn check(target: &Target, file: &[u8]) -> Result<()> {
    if target.force || file.trim_ascii().is_empty() {
        return Ok(());
    }
    refuse_auth_file(target, file)?;
    if holds_token(file) {
        return Ok(());
    }
    let path = target.shown_path();
    Err(Error::usage(format!("{path} was not written by lakebase-token (it holds no token)"))
        .hint("name another file, or --force to replace this one"))
}

/// Only the format pgbouncer leaves the lines of others in the file.
fn refuse_auth_file(target: &Target, file: &[u8]) -> Result<()> {
    if !has_other_lines(file) {
        return Ok(());
    }
    let path = target.shown_path();
    Err(Error::usage(format!("{path} has lines of other users of PgBouncer"))
        .hint("--format pgbouncer, which leaves them as they are"))
}

fn remove<'e>(entry: &Entry<'e>) -> Result<Box<Edit<'e>>> {
    let target = entry.target;
    Ok(Box::new(move |old| {
        refuse_auth_file(target, old.unwrap_or_default())?;
        Ok(old.filter(|text| !holds_token(text)).map(<[u8]>::to_vec))
    }))
}

fn put<'e>(entry: &Entry<'e>, text: &'e str) -> Result<Box<Edit<'e>>> {
    let target = entry.target;
    Ok(Box::new(move |old| {
        check(target, old.unwrap_or_default())?;
        Ok(Some(text.as_bytes().to_vec()))
    }))
}
