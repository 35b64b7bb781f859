//! The walk along a path.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use libipc::proto::file_system::{Attributes, FileKind, FsError, Inode};
use libipc::proto::vfs::{LastLink, MAX_LINKS, MAX_PATH_BYTES};

use crate::backend::{Backend, FsResult};
use crate::mounts::Mount;
use crate::{path, second};

/// Where a walk ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Walked {
    /// The path without `.`, `..` and symbolic links.
    pub(crate) path: Vec<u8>,
    pub(crate) place: Place,
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A file or directory of a file system.
    Node {
        mount: usize,
        attributes: Attributes,
    },
    /// A directory that is only there because mount points lie below it.
    Skeleton,
}

/// A directory and a name in it that may or may not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) mount: usize,
    pub(crate) directory: Inode,
    pub(crate) name: &'a [u8],
    /// The canonical path.
    pub(crate) path: Vec<u8>,
    /// Whether the path ends with a slash.
    pub(crate) wants_directory: bool,
}

impl Place {
    /// Tells about it.
    pub(crate) fn attributes(&self) -> Attributes {
        match self {
            Place::Node { attributes, .. } => *attributes,
            Place::Skeleton => Attributes {
                inode: Inode(0),
                kind: FileKind::Directory,
                mode: 0o555,
                links: 1,
                owner: 0,
                group: 0,
                bytes: 0,
                modified_s: 0,
            },
        }
    }
}

/// Walks an absolute path to its end. An error was looked at twice.
pub(crate) fn walk<B: Backend>(
    mounts: &[Mount<B>],
    path: &[u8],
    last: LastLink,
) -> FsResult<Walked> {
    walk_once(mounts, path, last).or_else(|error| second::settle(mounts, path, error))
}

/// As [`walk`], for who checks the error if it is one: most that create a file expect that there is none.
pub(crate) fn walk_once<B: Backend>(
    mounts: &[Mount<B>],
    path: &[u8],
    last: LastLink,
) -> FsResult<Walked> {
    let mut walk = Walk::start(mounts);
    walk.follow(path::components(path)?, last)?;
    let walked = walk.finish()?;
    check_end(&walked, last);
    Ok(walked)
}

/// Ends this instance if a walk ended where none can: at a link that was to be followed, or on a path
/// that is none.
#[inline(never)]
fn check_end(walked: &Walked, last: LastLink) {
    let is_link = matches!(
        walked.place,
        Place::Node { attributes, .. } if attributes.kind == FileKind::Symlink
    );
    assert!(
        walked.path.first() == Some(&b'/') && (last == LastLink::Keep || !is_link),
        "a walk ended where it cannot"
    );
}

/// Walks to the directory of the last name of a path.
pub(crate) fn walk_to_slot<'a, B: Backend>(
    mounts: &[Mount<B>],
    path: &'a [u8],
) -> FsResult<Slot<'a>> {
    let mut components = path::components(path)?;
    let wants_directory = path.ends_with(b"/");
    if wants_directory {
        // Only the mark of the slash at the end; a `.` that was written stays and is refused.
        components.pop();
    }
    let name = match components.pop() {
        None => return Err(FsError::Busy),
        Some(b"." | b"..") => return Err(FsError::Invalid),
        Some(name) => name,
    };
    let mut walk = Walk::start(mounts);
    let followed = walk
        .follow(components, LastLink::Follow)
        .and_then(|()| walk.check_directory());
    let (place, mut canonical) = match followed {
        Ok(()) => (walk.here(), walk.path),
        Err(error) => {
            let Walked { place, mut path } = second::settle(mounts, directory_of(path), error)?;
            if path == b"/" {
                path.clear();
            }
            (place, path)
        }
    };
    append_name(&mut canonical, name);
    let path = canonical;
    match place {
        Place::Node { mount, attributes } => Ok(Slot {
            mount,
            directory: attributes.inode,
            name,
            path,
            wants_directory,
        }),
        Place::Skeleton if holds_mount(mounts, &path) => Err(FsError::Busy),
        Place::Skeleton => Err(skeleton_error(mounts).unwrap_or(FsError::ReadOnly)),
    }
}

/// Adds a name to a canonical path, in which the root is empty.
fn append_name(path: &mut Vec<u8>, name: &[u8]) {
    path.push(b'/');
    path.extend_from_slice(name);
}

/// Returns what is in front of the last name of a path, with the slash behind it.
pub(crate) fn directory_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').unwrap_or(0);
    let slash = path[..end].iter().rposition(|byte| *byte == b'/');
    &path[..=slash.unwrap_or(0)]
}

/// Returns whether a mount point lies at or below a canonical path.
pub(crate) fn holds_mount<B>(mounts: &[Mount<B>], path: &[u8]) -> bool {
    mounts
        .iter()
        .any(|mount| mount.point == path || path::child_of(path, &mount.point).is_some())
}

/// Returns the provisional root of the file system that is mounted at a canonical path.
fn mounted_at<B: Backend>(mounts: &[Mount<B>], path: &[u8]) -> FsResult<Option<Place>> {
    let Some(mount) = mounts.iter().position(|mount| mount.point == path) else {
        return Ok(None);
    };
    let inode = mounts[mount].root()?;
    let attributes = Attributes {
        inode,
        ..Place::Skeleton.attributes()
    };
    Ok(Some(Place::Node { mount, attributes }))
}

/// Returns why nothing but mount points is seen: the root could not be mounted.
fn skeleton_error<B: Backend>(mounts: &[Mount<B>]) -> Option<FsError> {
    let root = mounts.iter().find(|mount| mount.point == b"/")?;
    root.root().err()
}

/// Bytes of a path and places on a walk for which there is room without asking for more.
const PATH_ROOM: usize = 64;
const STEPS_ROOM: usize = 8;

/// A walk under way.
struct Walk<'a, B> {
    mounts: &'a [Mount<B>],
    /// The canonical path of where it is; empty at the root.
    path: Vec<u8>,
    /// Where it is, and the places above; never empty.
    steps: Vec<Step>,
}

struct Step {
    /// How much of the path leads there.
    path_bytes: usize,
    place: Place,
    /// Whether only inode and kind of the place are known. Most walks pass through the root of a
    /// file system without looking at the rest.
    is_provisional: bool,
}

impl<'a, B: Backend> Walk<'a, B> {
    /// Starts at the root. If its file system fails, the mount points below still stand.
    fn start(mounts: &'a [Mount<B>]) -> Self {
        let root = mounted_at(mounts, b"/").ok().flatten();
        let mut steps = Vec::with_capacity(STEPS_ROOM);
        steps.push(Step {
            path_bytes: 0,
            place: root.unwrap_or(Place::Skeleton),
            is_provisional: root.is_some(),
        });
        Walk {
            mounts,
            path: Vec::with_capacity(PATH_ROOM),
            steps,
        }
    }

    fn here(&self) -> Place {
        self.steps.last().map_or(Place::Skeleton, |step| step.place)
    }

    /// Adds a name to the path.
    fn append(&mut self, name: &[u8]) {
        append_name(&mut self.path, name);
    }

    /// Goes up to the last of the first places.
    fn go_up_to(&mut self, steps: usize) {
        self.steps.truncate(steps);
        self.leave_name();
    }

    /// Takes back what was added to the path since it was where it is.
    fn leave_name(&mut self) {
        self.path
            .truncate(self.steps.last().map_or(0, |step| step.path_bytes));
    }

    fn finish(mut self) -> FsResult<Walked> {
        if let Some(Step {
            place: Place::Node { mount, attributes },
            is_provisional: true,
            ..
        }) = self.steps.last_mut()
        {
            *attributes = self.mounts[*mount].backend.stat(attributes.inode)?;
        }
        let place = self.here();
        if self.path.is_empty() {
            self.path.push(b'/');
        }
        Ok(Walked {
            path: self.path,
            place,
        })
    }

    fn check_directory(&self) -> FsResult<()> {
        match self.here().attributes().kind {
            FileKind::Directory => Ok(()),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Follows components from here.
    fn follow(&mut self, components: Vec<&[u8]>, last: LastLink) -> FsResult<()> {
        let mut todo: Vec<Cow<'_, [u8]>> =
            components.into_iter().rev().map(Cow::Borrowed).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            self.check_directory()?;
            match &*name {
                b"." => continue,
                b".." => {
                    self.go_up_to((self.steps.len() - 1).max(1));
                    continue;
                }
                _ => {}
            }
            self.append(&name);
            let (place, is_provisional) = self.child(&name)?;
            let is_link = place.attributes().kind == FileKind::Symlink;
            if is_link && (last == LastLink::Follow || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FsError::TooManyLinks);
                }
                self.leave_name();
                self.expand(place, &mut todo)?;
            } else {
                self.steps.push(Step {
                    path_bytes: self.path.len(),
                    place,
                    is_provisional,
                });
            }
        }
        Ok(())
    }

    /// Puts the target of a symbolic link in front of what is left to do.
    fn expand(&mut self, link: Place, todo: &mut Vec<Cow<'_, [u8]>>) -> FsResult<()> {
        let Place::Node { mount, attributes } = link else {
            return Ok(());
        };
        let target = self.mounts[mount].backend.read_link(attributes.inode)?;
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        if target.starts_with(b"/") {
            self.go_up_to(1);
        }
        let names = path::split(&target)?.into_iter().rev();
        todo.extend(names.map(|name| Cow::Owned(name.to_vec())));
        // Links can multiply what is left; a bound keeps that from eating the heap.
        if todo.len() > MAX_PATH_BYTES {
            return Err(FsError::NameTooLong);
        }
        Ok(())
    }

    /// Finds the name that was added to the path in the directory where the walk is, and says
    /// whether the place is provisional.
    fn child(&self, name: &[u8]) -> FsResult<(Place, bool)> {
        if let Some(place) = mounted_at(self.mounts, &self.path)? {
            return Ok((place, true));
        }
        let found = match self.here() {
            Place::Node { mount, attributes } => self.mounts[mount]
                .backend
                .lookup(attributes.inode, name)
                .map(|attributes| Place::Node { mount, attributes }),
            Place::Skeleton => Err(skeleton_error(self.mounts).unwrap_or(FsError::NotFound)),
        };
        match found {
            Err(_) if holds_mount(self.mounts, &self.path) => Ok((Place::Skeleton, false)),
            other => other.map(|place| (place, false)),
        }
    }
}
