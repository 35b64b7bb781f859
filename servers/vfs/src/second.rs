//! A second look at a path, before a walk's error is believed.
//!
//! Most of what goes wrong in a damaged walk comes out as an error, and looks like any other to the
//! client: a file that is there is not found. So an error is given only if a walk of another make
//! comes to the same. It understands paths without dots and links, reads them from the front without a
//! list of what is left to do, and knows nothing else. Errors are rare enough to pay for that.

use alloc::vec::Vec;

use libipc::proto::file_system::{FileKind, FsError};
use libipc::proto::vfs::{MAX_NAME_BYTES, MAX_PATH_BYTES};

use crate::backend::{Backend, FsResult};
use crate::mounts::Mount;
use crate::walk::holds_mount;

/// Has the next instance walk if a walk along `path` cannot have ended with `error`.
#[cold]
pub(crate) fn check<B: Backend>(mounts: &[Mount<B>], path: &[u8], error: FsError) {
    let is_of_walk = matches!(
        error,
        FsError::NotFound
            | FsError::NotADirectory
            | FsError::TooManyLinks
            | FsError::NameTooLong
            | FsError::Invalid
    );
    if !is_of_walk {
        return;
    }
    if let Some(seen) = look(mounts, path)
        && seen != Err(error)
    {
        log::error!("a walk ended with \"{error}\", a second one with {seen:?}");
        libipc::doubt_oneself("walk");
    }
}

/// Walks a path; `None` if it cannot be told where that leads.
fn look<B: Backend>(mounts: &[Mount<B>], path: &[u8]) -> Option<FsResult<()>> {
    if !is_plain(path) {
        return None;
    }
    let root = mounts.iter().find(|mount| mount.point == b"/")?;
    // Nowhere: where nothing but mount points is.
    let mut place = Some((&root.backend, root.root().ok()?));
    let mut kind = FileKind::Directory;
    let mut canonical = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        if name.is_empty() {
            continue;
        }
        if kind != FileKind::Directory {
            return Some(Err(FsError::NotADirectory));
        }
        canonical.push(b'/');
        canonical.extend_from_slice(name);
        if let Some(mount) = mounts.iter().find(|mount| mount.point == canonical) {
            place = Some((&mount.backend, mount.root().ok()?));
            continue;
        }
        let found = place.map_or(Err(FsError::NotFound), |(backend, inode)| {
            backend.lookup(inode, name)
        });
        match found {
            Ok(found) if found.kind == FileKind::Symlink => return None,
            Ok(found) => {
                kind = found.kind;
                place = place.map(|(backend, _)| (backend, found.inode));
            }
            Err(_) if holds_mount(mounts, &canonical) => place = None,
            Err(FsError::NotFound) => return Some(Err(FsError::NotFound)),
            // The file system has troubles of its own.
            Err(_) => return None,
        }
    }
    if path.ends_with(b"/") && kind != FileKind::Directory {
        return Some(Err(FsError::NotADirectory));
    }
    Some(Ok(()))
}

/// Returns whether a path is one at all, and every name of it stands for itself.
fn is_plain(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| name.len() <= MAX_NAME_BYTES && name != b"." && name != b"..";
    path.starts_with(b"/")
        && path.len() <= MAX_PATH_BYTES
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(is_name)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use libipc::proto::file_system::{FileKind, FsAccess, FsError};

    use super::check;
    use crate::Mount;
    use crate::fake::FakeFs;

    #[test]
    fn errors_that_cannot_be_are_found_and_those_that_can_are_not() {
        let disk = FakeFs::new(FsAccess::ReadOnly);
        disk.add("dir", FileKind::Directory, b"");
        disk.add("dir/file", FileKind::Regular, b"");
        disk.add("link", FileKind::Symlink, b"nowhere");
        let mounts = [
            Mount::new(b"/".to_vec(), "fake", Rc::new(disk)),
            Mount::new(
                b"/mnt/deep".to_vec(),
                "deep",
                Rc::new(FakeFs::new(FsAccess::ReadOnly)),
            ),
        ];
        let is_believed = |path: &str, error| {
            let check = AssertUnwindSafe(|| check(&mounts, path.as_bytes(), error));
            catch_unwind(check).is_ok()
        };
        use FsError::{Invalid, NotADirectory, NotFound};
        for (path, error) in [
            ("/dir/none", NotFound),
            ("/dir/file/", NotADirectory),
            ("/dir/file/x", NotADirectory),
            ("/mnt/deep/x", NotFound),
            ("/mnt/other", NotFound),
            ("relative", Invalid),
            // Of these it knows nothing.
            ("/link", NotFound),
            ("/dir/../none", NotFound),
            ("/dir", FsError::NoSpace),
        ] {
            assert!(is_believed(path, error), "{path}: {error}");
        }
        for (path, error) in [
            ("/", NotFound),
            ("/dir", NotFound),
            ("/dir/", NotADirectory),
            ("//dir//file", NotFound),
            ("/dir/none", NotADirectory),
            ("/mnt", NotFound),
            ("/mnt/deep", NotFound),
            ("/dir/file", Invalid),
        ] {
            assert!(!is_believed(path, error), "{path}: {error}");
        }
    }
}
