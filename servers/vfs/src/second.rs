//! A second look at a path, before an error is believed.
//!
//! Most of what goes wrong in a damaged server comes out as an error, and looks like any other to the
//! client: a file that is there is not found. So an error is given only if a walk of another make
//! comes to the same. It understands paths without dots and links, reads them from the front without a
//! list of what is left to do, and knows nothing else. Errors are rare enough to pay for that.

use alloc::vec::Vec;

use libipc::proto::file_system::{Attributes, FileKind, FsAccess, FsError, MAX_LINK_BYTES};
use libipc::proto::vfs::{MAX_NAME_BYTES, MAX_PATH_BYTES};

use crate::backend::{Backend, FsResult};
use crate::mounts::Mount;
use crate::walk::{Place, Walked, directory_of, holds_mount};

/// A path of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    path: &'a [u8],
    /// Whether what it names may be missing.
    is_new: bool,
    /// Whether it is to become a link with too long a target.
    is_too_long: bool,
}

impl<'a> Name<'a> {
    /// Names what must be there.
    pub(crate) fn of(path: &'a [u8]) -> Self {
        Name {
            path,
            is_new: false,
            is_too_long: false,
        }
    }

    /// Names what need not be there.
    pub(crate) fn of_new(path: &'a [u8]) -> Self {
        Name {
            path,
            is_new: true,
            is_too_long: false,
        }
    }

    /// Names a link that need not be there.
    pub(crate) fn of_link(path: &'a [u8], target: &[u8]) -> Self {
        Name {
            is_too_long: target.len() > MAX_LINK_BYTES,
            ..Name::of_new(path)
        }
    }
}

/// Judges the error with which a walk along `path` ended. If it cannot be, the next instance walks;
/// if there is none, what was seen now counts.
#[cold]
#[inline(never)]
pub(crate) fn settle<B: Backend>(
    mounts: &[Mount<B>],
    path: &[u8],
    error: FsError,
) -> FsResult<Walked> {
    let is_of_walk = matches!(
        error,
        FsError::NotFound
            | FsError::NotADirectory
            | FsError::TooManyLinks
            | FsError::NameTooLong
            | FsError::Invalid
    );
    if !is_of_walk {
        return Err(error);
    }
    match look(mounts, path) {
        None => Err(error),
        Some(Err(seen)) if seen == error => Err(error),
        Some(seen) => {
            log::error!("a walk ended with \"{error}\", a second one with {seen:?}");
            libipc::doubt_oneself("walk");
            seen
        }
    }
}

/// Has the next instance answer a request about some names if it cannot have failed with `error`.
#[cold]
#[inline(never)]
pub(crate) fn check<B: Backend>(mounts: &[Mount<B>], names: &[Name<'_>], error: FsError) {
    if is_possible(mounts, names, error) == Some(false) {
        log::error!("nothing speaks for \"{error}\"");
        libipc::doubt_oneself("error");
    }
}

/// Returns whether a request about some names may fail with an error; `None` if that cannot be told.
fn is_possible<B: Backend>(
    mounts: &[Mount<B>],
    names: &[Name<'_>],
    error: FsError,
) -> Option<bool> {
    match (error, names) {
        (FsError::CrossesMounts, _) => return are_apart(mounts, names),
        (FsError::NotADirectory, [from, to]) => return is_no_directory(mounts, from, to),
        _ => {}
    }
    let mut is_one = false;
    for &Name {
        path,
        is_new,
        is_too_long,
    } in names
    {
        let here = look(mounts, path)?;
        let has_slash = path.ends_with(b"/");
        let kind = here.as_ref().map(|seen| seen.place.attributes().kind);
        is_one |= match error {
            FsError::NotFound if is_new => has_slash || look(mounts, directory_of(path))?.is_err(),
            FsError::NotFound => here.is_err(),
            FsError::Exists => is_new && here.is_ok(),
            FsError::NotEmpty => kind == Ok(FileKind::Directory),
            FsError::IsADirectory => has_slash || kind == Ok(FileKind::Directory),
            FsError::NotADirectory => {
                let is_file = kind.is_ok_and(|kind| kind != FileKind::Directory);
                has_slash || is_file || kind == Err(&FsError::NotADirectory)
            }
            FsError::ReadOnly => {
                let above = look(mounts, directory_of(path))?;
                !is_writable(mounts, &above) || (here.is_ok() && !is_writable(mounts, &here))
            }
            // Its names are short: it would not have been looked at else.
            FsError::NameTooLong => is_too_long,
            FsError::Busy => here.is_ok_and(|seen| holds_mount(mounts, &seen.path)),
            // Of others there is nothing to be seen in a path.
            _ => true,
        };
    }
    Some(is_one)
}

/// Returns whether names are not all in one file system; `None` if that cannot be told.
fn are_apart<B: Backend>(mounts: &[Mount<B>], names: &[Name<'_>]) -> Option<bool> {
    let mut first = None;
    for name in names {
        let Ok(Walked {
            place: Place::Node { mount, .. },
            ..
        }) = look(mounts, directory_of(name.path))?
        else {
            return None;
        };
        if *first.get_or_insert(mount) != mount {
            return Some(true);
        }
    }
    Some(false)
}

/// Returns whether a name cannot be moved for a directory that is none: on the way, where a slash asks for
/// one, or in the way of one.
fn is_no_directory<B: Backend>(
    mounts: &[Mount<B>],
    from: &Name<'_>,
    to: &Name<'_>,
) -> Option<bool> {
    let seen = [look(mounts, from.path)?, look(mounts, to.path)?];
    let [from_kind, to_kind] = seen.map(|seen| seen.map(|walked| walked.place.attributes().kind));
    let asks = from.path.ends_with(b"/") || to.path.ends_with(b"/");
    let is_on_the_way = [from_kind, to_kind].contains(&Err(FsError::NotADirectory));
    let is_in_the_way = from_kind == Ok(FileKind::Directory)
        && to_kind.is_ok_and(|kind| kind != FileKind::Directory);
    Some(asks || is_on_the_way || is_in_the_way)
}

/// Returns whether what was seen is in a file system that can be changed.
fn is_writable<B: Backend>(mounts: &[Mount<B>], seen: &FsResult<Walked>) -> bool {
    let Ok(Walked {
        place: Place::Node { mount, .. },
        ..
    }) = seen
    else {
        return false;
    };
    let description = mounts[*mount].backend.describe();
    description.is_ok_and(|description| description.access == FsAccess::ReadWrite)
}

/// Walks a path; `None` if it cannot be told where that leads.
fn look<B: Backend>(mounts: &[Mount<B>], path: &[u8]) -> Option<FsResult<Walked>> {
    if !is_plain(path) {
        return None;
    }
    let mut place = mounted_at(mounts, b"/")??;
    let mut is_root = true;
    let mut canonical = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        if name.is_empty() {
            continue;
        }
        if place.attributes().kind != FileKind::Directory {
            return Some(Err(FsError::NotADirectory));
        }
        canonical.push(b'/');
        canonical.extend_from_slice(name);
        if let Some(root) = mounted_at(mounts, &canonical)? {
            (place, is_root) = (root, true);
            continue;
        }
        let found = match place {
            Place::Skeleton => Err(FsError::NotFound),
            Place::Node { mount, attributes } => {
                let found = mounts[mount].backend.lookup_again(attributes.inode, name);
                found.map(|attributes| (mount, attributes))
            }
        };
        match found {
            Ok((_, attributes)) if attributes.kind == FileKind::Symlink => return None,
            Ok((mount, attributes)) => {
                (place, is_root) = (Place::Node { mount, attributes }, false)
            }
            Err(_) if holds_mount(mounts, &canonical) => {
                (place, is_root) = (Place::Skeleton, false)
            }
            Err(FsError::NotFound) => return Some(Err(FsError::NotFound)),
            // The file system has troubles of its own.
            Err(_) => return None,
        }
    }
    if path.ends_with(b"/") && place.attributes().kind != FileKind::Directory {
        return Some(Err(FsError::NotADirectory));
    }
    if let Place::Node { mount, attributes } = &mut place
        && is_root
    {
        *attributes = mounts[*mount].backend.stat(attributes.inode).ok()?;
    }
    if canonical.is_empty() {
        canonical.push(b'/');
    }
    let path = canonical;
    Some(Ok(Walked { path, place }))
}

/// Returns the root of the file system that is mounted at a canonical path, if there is one, with
/// nothing known but that it is a directory; `None` if it fails.
fn mounted_at<B: Backend>(mounts: &[Mount<B>], path: &[u8]) -> Option<Option<Place>> {
    for (mount, mounted) in mounts.iter().enumerate() {
        if mounted.point == path {
            let attributes = Attributes {
                inode: mounted.root().ok()?,
                ..Place::Skeleton.attributes()
            };
            return Some(Some(Place::Node { mount, attributes }));
        }
    }
    Some(None)
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

    use libipc::proto::file_system::{FileKind, FsAccess, FsError, MAX_LINK_BYTES, MAX_NAME_BYTES};

    use super::{Name, check, settle};
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
            let settle = AssertUnwindSafe(|| settle(&mounts, path.as_bytes(), error).err());
            catch_unwind(settle).is_ok_and(|believed| believed == Some(error))
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

    #[test]
    fn a_request_fails_for_a_reason_that_can_be_seen() {
        let [disk, other] = [FsAccess::ReadOnly, FsAccess::ReadWrite].map(FakeFs::new);
        disk.add("dir", FileKind::Directory, b"");
        disk.add("file", FileKind::Regular, b"");
        disk.add("link", FileKind::Symlink, b"nowhere");
        other.add("dir", FileKind::Directory, b"");
        other.add("file", FileKind::Regular, b"");
        let mounts = [
            Mount::new(b"/".to_vec(), "disk", Rc::new(disk)),
            Mount::new(b"/tmp".to_vec(), "tmpfs", Rc::new(other)),
        ];
        let is_believed = |names: &[Name<'_>], error| {
            let check = AssertUnwindSafe(|| check(&mounts, names, error));
            catch_unwind(check).is_ok()
        };
        let (old, new) = (
            |path: &'static str| Name::of(path.as_bytes()),
            |path: &'static str| Name::of_new(path.as_bytes()),
        );
        use FsError::{Busy, Exists, IsADirectory, NotADirectory, NotEmpty, NotFound, ReadOnly};
        for (name, error) in [
            (old("/tmp/none"), NotFound),
            (new("/tmp/none/x"), NotFound),
            (new("/tmp/none/"), NotFound),
            (new("/tmp/file"), Exists),
            (old("/tmp/dir"), NotEmpty),
            (old("/tmp/dir"), IsADirectory),
            (old("/tmp/file"), NotADirectory),
            (new("/tmp/file/x"), NotADirectory),
            (new("/none"), ReadOnly),
            (old("/file"), ReadOnly),
            (old("/tmp"), Busy),
            (old("/"), Busy),
            // Of these it knows nothing.
            (old("/link"), NotFound),
            (new("/tmp/./x"), Exists),
        ] {
            assert!(is_believed(&[name], error), "{name:?}: {error}");
        }
        for (name, error) in [
            (old("/tmp/file"), NotFound),
            (new("/tmp/none"), NotFound),
            (new("/tmp/none"), Exists),
            (old("/tmp/file"), Exists),
            (old("/tmp/file"), NotEmpty),
            (old("/tmp/file"), IsADirectory),
            (old("/tmp/dir"), NotADirectory),
            (new("/tmp/none"), ReadOnly),
            (old("/tmp/file"), ReadOnly),
            (old("/tmp/file"), Busy),
        ] {
            assert!(!is_believed(&[name], error), "{name:?}: {error}");
        }
        // One reason is enough.
        assert!(is_believed(&[old("/tmp/none"), new("/tmp/new")], NotFound));
        assert!(!is_believed(&[old("/tmp/file"), new("/tmp/new")], NotFound));
    }

    #[test]
    fn a_name_is_not_moved_for_a_reason_that_both_names_show() {
        let [disk, other] = [FsAccess::ReadOnly, FsAccess::ReadWrite].map(FakeFs::new);
        other.add("dir", FileKind::Directory, b"");
        other.add("file", FileKind::Regular, b"");
        let mounts = [
            Mount::new(b"/".to_vec(), "disk", Rc::new(disk)),
            Mount::new(b"/tmp".to_vec(), "tmpfs", Rc::new(other)),
        ];
        let is_believed = |from: &str, to: &str, error| {
            let names = [Name::of(from.as_bytes()), Name::of_new(to.as_bytes())];
            catch_unwind(AssertUnwindSafe(|| check(&mounts, &names, error))).is_ok()
        };
        let crosses = |to| is_believed("/tmp/file", to, FsError::CrossesMounts);
        assert!(crosses("/new") && !crosses("/tmp/dir/new"));
        let is_none = |from, to| is_believed(from, to, FsError::NotADirectory);
        assert!(is_none("/tmp/dir", "/tmp/file") && is_none("/tmp/file/x", "/tmp/new"));
        assert!(is_none("/tmp/file", "/tmp/new/") && !is_none("/tmp/file", "/tmp/dir/new"));
        assert!(!is_none("/tmp/file", "/tmp/file") && !is_none("/tmp/dir", "/tmp/new"));
    }

    #[test]
    fn a_name_is_too_long_only_if_it_is() {
        let tmpfs = Rc::new(FakeFs::new(FsAccess::ReadWrite));
        let mounts = [Mount::new(b"/".to_vec(), "tmpfs", tmpfs)];
        let is_believed = |name| {
            let check = AssertUnwindSafe(|| check(&mounts, &[name], FsError::NameTooLong));
            catch_unwind(check).is_ok()
        };
        assert!(!is_believed(Name::of_new(b"/new")));
        assert!(!is_believed(Name::of_link(b"/new", b"target")));
        let target = [b'x'; MAX_LINK_BYTES + 1];
        assert!(is_believed(Name::of_link(b"/new", &target)));
        let name = format!("/{}", "x".repeat(MAX_NAME_BYTES + 1));
        assert!(is_believed(Name::of_new(name.as_bytes())));
    }
}
