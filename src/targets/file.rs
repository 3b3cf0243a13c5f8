//! The target `file`: a file that holds one credential and nothing else.

use crate::credential::jwt::holds_token;
use crate::error::{Error, Result};
use crate::platform::target_file::Edit;
use crate::targets::target::{Entry, FileTarget, Target};

pub static FILE: FileTarget = FileTarget {
    home: None,
    shared: false,
    check,
    put,
    read: |_, file| Some(file),
    remove: |_| Ok(Box::new(|old| Ok(old.filter(|text| !holds_token(text)).map(<[u8]>::to_vec)))),
};

/// The path may be a mistake: only a file that holds a token is ours to replace.
fn check(target: &Target, file: &[u8]) -> Result<()> {
    if target.force || file.trim_ascii().is_empty() || holds_token(file) {
        return Ok(());
    }
    let path = target.shown_path();
    Err(Error::usage(format!("{path} was not written by lakebase-token (it holds no token)"))
        .hint("another path, or --force to replace the file"))
}

fn put<'e>(entry: &Entry<'e>, text: &'e str) -> Result<Box<Edit<'e>>> {
    let target = entry.target;
    Ok(Box::new(move |old| {
        check(target, old.unwrap_or_default())?;
        Ok(Some(text.as_bytes().to_vec()))
    }))
}
