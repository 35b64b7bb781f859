//! Reads images made by `mkfs.ext4`: good ones must equal the tree that they were made from, bad
//! ones must give errors and nothing worse.
#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests; the lint only knows their functions"
)]

mod bad;
mod device;
mod good;
mod journal;
mod service;
mod walk;

use std::fs;
use std::path::PathBuf;

/// A folder of a test's own, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}
