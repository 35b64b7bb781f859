//! The walk along a path.

use alloc::vec;
use alloc::vec::Vec;

use libipc::proto::file_system::{Attributes, FileKind, FsError, Inode};
use libipc::proto::vfs::{LastLink, MAX_LINKS, MAX_PATH_BYTES};

use crate::backend::{Backend, FsResult};
use crate::mounts::Mount;
use crate::path;

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

/// Walks an absolute path to its end.
pub(crate) fn walk<B: Backend>(
    mounts: &[Mount<B>],
    path: &[u8],
    last: LastLink,
) -> FsResult<Walked> {
    let mut walk = Walk::start(mounts);
    walk.follow(path::components(path)?, last)?;
    walk.finish()
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
    walk.follow(components, LastLink::Follow)?;
    walk.check_directory()?;
    let path = walk.path_with(name);
    match walk.here() {
        Place::Node { mount, attributes } => Ok(Slot {
            mount,
            directory: attributes.inode,
            name,
            path,
            wants_directory,
        }),
        Place::Skeleton if holds_mount(mounts, &path) => Err(FsError::Busy),
        Place::Skeleton => Err(walk.skeleton_error().unwrap_or(FsError::ReadOnly)),
    }
}

/// Returns whether a mount point lies at or below a canonical path.
pub(crate) fn holds_mount<B>(mounts: &[Mount<B>], path: &[u8]) -> bool {
    mounts
        .iter()
        .any(|mount| mount.point == path || path::child_of(path, &mount.point).is_some())
}

/// A walk under way.
struct Walk<'a, B> {
    mounts: &'a [Mount<B>],
    /// Where it is, and the places above; never empty.
    steps: Vec<Step>,
}

struct Step {
    name: Vec<u8>,
    place: Place,
    /// Whether only inode and kind of the place are known. Most walks pass through the root of a
    /// file system without looking at the rest.
    is_provisional: bool,
}

impl<'a, B: Backend> Walk<'a, B> {
    /// Starts at the root. If its file system fails, the mount points below still stand.
    fn start(mounts: &'a [Mount<B>]) -> Self {
        let step = Step {
            name: Vec::new(),
            place: Place::Skeleton,
            is_provisional: false,
        };
        let mut walk = Walk {
            mounts,
            steps: vec![step],
        };
        if let Ok(Some(place)) = walk.mounted_at(b"/") {
            walk.steps = vec![Step {
                name: Vec::new(),
                place,
                is_provisional: true,
            }];
        }
        walk
    }

    fn here(&self) -> Place {
        self.steps.last().map_or(Place::Skeleton, |step| step.place)
    }

    fn path(&self) -> Vec<u8> {
        path::join(self.steps.iter().skip(1).map(|step| step.name.as_slice()))
    }

    fn path_with(&self, name: &[u8]) -> Vec<u8> {
        let steps = self.steps.iter().skip(1).map(|step| step.name.as_slice());
        path::join(steps.chain([name]))
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
        Ok(Walked {
            path: self.path(),
            place: self.here(),
        })
    }

    /// Returns why nothing but mount points is seen here: the root could not be mounted.
    fn skeleton_error(&self) -> Option<FsError> {
        let root = self.mounts.iter().find(|mount| mount.point == b"/")?;
        root.root().err()
    }

    fn check_directory(&self) -> FsResult<()> {
        match self.here().attributes().kind {
            FileKind::Directory => Ok(()),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Follows components from here.
    fn follow(&mut self, components: Vec<&[u8]>, last: LastLink) -> FsResult<()> {
        let mut todo: Vec<Vec<u8>> = components.iter().rev().map(|name| name.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            self.check_directory()?;
            match name.as_slice() {
                b"." => continue,
                b".." if self.steps.len() > 1 => {
                    self.steps.pop();
                    continue;
                }
                b".." => continue,
                _ => {}
            }
            let (place, is_provisional) = self.child(&name)?;
            let is_link = place.attributes().kind == FileKind::Symlink;
            if is_link && (last == LastLink::Follow || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FsError::TooManyLinks);
                }
                self.expand(place, &mut todo)?;
            } else {
                self.steps.push(Step {
                    name,
                    place,
                    is_provisional,
                });
            }
        }
        Ok(())
    }

    /// Puts the target of a symbolic link in front of what is left to do.
    fn expand(&mut self, link: Place, todo: &mut Vec<Vec<u8>>) -> FsResult<()> {
        let Place::Node { mount, attributes } = link else {
            return Ok(());
        };
        let target = self.mounts[mount].backend.read_link(attributes.inode)?;
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        if target.starts_with(b"/") {
            self.steps.truncate(1);
        }
        todo.extend(path::split(&target)?.into_iter().rev().map(<[u8]>::to_vec));
        // Links can multiply what is left; a bound keeps that from eating the heap.
        if todo.len() > MAX_PATH_BYTES {
            return Err(FsError::NameTooLong);
        }
        Ok(())
    }

    /// Finds a name in the directory where the walk is, and says whether it is provisional.
    fn child(&self, name: &[u8]) -> FsResult<(Place, bool)> {
        let path = self.path_with(name);
        if let Some(place) = self.mounted_at(&path)? {
            return Ok((place, true));
        }
        let found = match self.here() {
            Place::Node { mount, attributes } => self.mounts[mount]
                .backend
                .lookup(attributes.inode, name)
                .map(|attributes| Place::Node { mount, attributes }),
            Place::Skeleton => Err(self.skeleton_error().unwrap_or(FsError::NotFound)),
        };
        match found {
            Err(_) if holds_mount(self.mounts, &path) => Ok((Place::Skeleton, false)),
            other => other.map(|place| (place, false)),
        }
    }

    /// Returns the provisional root of the file system that is mounted at a path.
    fn mounted_at(&self, path: &[u8]) -> FsResult<Option<Place>> {
        let Some(mount) = self.mounts.iter().position(|mount| mount.point == path) else {
            return Ok(None);
        };
        let inode = self.mounts[mount].root()?;
        let attributes = Attributes {
            inode,
            ..Place::Skeleton.attributes()
        };
        Ok(Some(Place::Node { mount, attributes }))
    }
}
