//! The mount table.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use libipc::proto::file_system::{Description, FsAccess, FsError, Inode};
use libipc::proto::vfs::{MountInfo, MountState};

use crate::backend::{Backend, FsResult};
use crate::path;

/// A file system and the directory where it appears.
#[derive(Debug)]
pub struct Mount<B> {
    /// Canonical path of the directory.
    pub(crate) point: Vec<u8>,
    /// Name of the service.
    pub(crate) service: String,
    pub(crate) backend: B,
    /// What the file system said of itself when it was last asked.
    described: RefCell<Option<FsResult<Description>>>,
}

/// A mount that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadMount(String);

impl fmt::Display for BadMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no mount; write it as /directory=service",
            self.0
        )
    }
}

impl core::error::Error for BadMount {}

/// Splits an argument such as `/tmp=tmpfs` into canonical path and service.
///
/// # Errors
///
/// [`BadMount`] with the argument.
pub fn parse_mount(argument: &str) -> Result<(Vec<u8>, &str), BadMount> {
    let bad = || BadMount(argument.to_string());
    let (point, service) = argument.split_once('=').ok_or_else(bad)?;
    let components = path::components(point.as_bytes()).map_err(|_| bad())?;
    let is_plain = components.iter().all(|name| !matches!(*name, b"." | b".."));
    if service.is_empty() || !is_plain {
        return Err(bad());
    }
    Ok((path::join(components), service))
}

impl<B: Backend> Mount<B> {
    /// Mounts a file system at a canonical path. It is asked only when it is used.
    pub fn new(point: Vec<u8>, service: &str, backend: B) -> Self {
        Mount {
            point,
            service: service.into(),
            backend,
            described: RefCell::new(None),
        }
    }

    /// Asks the file system what it is, unless it has said so already. One that failed is asked
    /// again each time: its disk may have come back.
    fn describe(&self) -> FsResult<Description> {
        if let Some(Ok(description)) = &*self.described.borrow() {
            return Ok(description.clone());
        }
        let result = self.backend.describe();
        let is_news = self.described.borrow().as_ref() != Some(&result);
        if is_news {
            self.report(&result);
        }
        *self.described.borrow_mut() = Some(result.clone());
        result
    }

    fn report(&self, result: &FsResult<Description>) {
        let point = String::from_utf8_lossy(&self.point);
        match result {
            Ok(Description { kind, remarks, .. }) if remarks.is_empty() => {
                log::info!("{point}: {kind} mounted");
            }
            Ok(Description { kind, remarks, .. }) => {
                log::warn!("{point}: {kind} mounted: {remarks}");
            }
            Err(error) => log::error!("{point}: {} cannot be mounted: {error}", self.service),
        }
    }

    /// Returns the root directory.
    pub(crate) fn root(&self) -> FsResult<Inode> {
        if let Some(Ok(description)) = &*self.described.borrow() {
            return Ok(description.root);
        }
        self.describe().map(|description| description.root)
    }

    /// Fails with `ReadOnly` where nothing can be changed.
    pub(crate) fn check_writable(&self) -> FsResult<()> {
        match self.describe()?.access {
            FsAccess::ReadWrite => Ok(()),
            FsAccess::ReadOnly => Err(FsError::ReadOnly),
        }
    }

    /// Tells people about the mount.
    pub(crate) fn info(&self) -> MountInfo {
        let state = match self.describe() {
            Ok(Description {
                kind,
                access,
                remarks,
                ..
            }) => MountState::Ready {
                kind,
                access,
                remarks,
            },
            Err(error) => MountState::Failed(error),
        };
        MountInfo {
            point: self.point.clone(),
            service: self.service.clone(),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_mount;

    #[test]
    fn mounts_are_parsed() {
        assert_eq!(parse_mount("/=ext4"), Ok((b"/".to_vec(), "ext4")));
        assert_eq!(
            parse_mount("//mnt/disk=ext4"),
            Ok((b"/mnt/disk".to_vec(), "ext4"))
        );
        for bad in ["", "/tmp", "/tmp=", "tmp=tmpfs", "/a/../b=x", "/a/=x"] {
            assert!(
                parse_mount(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("/directory=service")
            );
        }
    }
}
