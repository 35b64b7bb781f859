use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use libsys::{Handle, Memory, Sender};

use super::{Files, SeekFrom, for_each_piece};
use crate::loopback::Loopback;
use crate::proto::vfs::{
    APPEND, Attributes, Cookie, Create, DirectoryBatch, DirectoryEntry, FileId, FileKind, FsError,
    Inode, LastLink, MAX_PATH_BYTES, MountInfo, OpenOptions, Opened, Seal, Space, Transfer,
    VfsClient, VfsDispatcher, VfsServer, Written,
};
use crate::{Caller, Failure};

/// All files have it.
const INODE: Inode = Inode(1);

type OpenPath = (Vec<u8>, OpenOptions);

/// A vfs with a flat table of paths; a directory is a path without content.
#[derive(Default)]
struct Fake {
    nodes: RefCell<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    open: RefCell<Vec<Option<OpenPath>>>,
}

impl Fake {
    fn path(&self, file: FileId) -> Result<OpenPath, FsError> {
        let open = self.open.borrow();
        open.get(file.0 as usize)
            .cloned()
            .flatten()
            .ok_or(FsError::BadFile)
    }

    fn attributes(&self, path: &[u8]) -> Result<Attributes, FsError> {
        let nodes = self.nodes.borrow();
        let node = nodes.get(path).ok_or(FsError::NotFound)?;
        Ok(Attributes {
            inode: INODE,
            kind: if node.is_some() {
                FileKind::Regular
            } else {
                FileKind::Directory
            },
            mode: 0,
            links: 1,
            owner: 0,
            group: 0,
            bytes: node.as_ref().map_or(0, Vec::len) as u64,
            modified_s: 0,
        })
    }
}

impl VfsServer for Fake {
    async fn new_session(&self, _: &Caller) -> Result<Handle<Sender>, FsError> {
        Err(FsError::Unavailable)
    }

    async fn open(
        &self,
        _: &Caller,
        path: Vec<u8>,
        options: OpenOptions,
        seal: Seal,
    ) -> Result<Opened, FsError> {
        seal.check(Seal::open(&path, options))?;
        if options.create == Create::IfMissing {
            self.nodes
                .borrow_mut()
                .entry(path.clone())
                .or_insert_with(|| Some(Vec::new()));
        }
        if options.truncate {
            self.nodes
                .borrow_mut()
                .insert(path.clone(), Some(Vec::new()));
        }
        let attributes = self.attributes(&path)?;
        let mut open = self.open.borrow_mut();
        open.push(Some((path, options)));
        Ok(Opened {
            file: FileId(open.len() as u32 - 1),
            attributes,
        })
    }

    async fn close(&self, _: &Caller, file: FileId, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::file(file))?;
        self.path(file)?;
        self.open.borrow_mut()[file.0 as usize] = None;
        Ok(())
    }

    async fn read(
        &self,
        _: &Caller,
        _: FileId,
        _: Transfer,
        _: Handle<Memory>,
        _: Seal,
    ) -> Result<u32, FsError> {
        Err(FsError::BadBuffer)
    }

    async fn read_small(
        &self,
        _: &Caller,
        file: FileId,
        offset: u64,
        bytes: u32,
        seal: Seal,
    ) -> Result<Vec<u8>, FsError> {
        seal.check(Seal::transfer(INODE, offset, bytes))?;
        let (path, _) = self.path(file)?;
        let nodes = self.nodes.borrow();
        let content = nodes[&path].as_ref().ok_or(FsError::IsADirectory)?;
        let start = (offset as usize).min(content.len());
        let end = (start + bytes as usize).min(content.len());
        Ok(content[start..end].to_vec())
    }

    async fn write(
        &self,
        _: &Caller,
        _: FileId,
        _: Transfer,
        _: Handle<Memory>,
        _: Seal,
    ) -> Result<Written, FsError> {
        Err(FsError::BadBuffer)
    }

    async fn write_small(
        &self,
        _: &Caller,
        file: FileId,
        offset: u64,
        content: Vec<u8>,
        seal: Seal,
    ) -> Result<Written, FsError> {
        let (path, options) = self.path(file)?;
        let place = if options.append { APPEND } else { offset };
        seal.check(Seal::transfer(INODE, place, content.len() as u32))?;
        let mut nodes = self.nodes.borrow_mut();
        let known = nodes
            .get_mut(&path)
            .and_then(Option::as_mut)
            .ok_or(FsError::Stale)?;
        let offset = if options.append {
            known.len()
        } else {
            offset as usize
        };
        let end = offset + content.len();
        known.resize(known.len().max(end), 0);
        known[offset..end].copy_from_slice(&content);
        Ok(Written {
            offset: offset as u64,
            bytes: content.len() as u32,
        })
    }

    async fn truncate(
        &self,
        _: &Caller,
        file: FileId,
        bytes: u64,
        seal: Seal,
    ) -> Result<(), FsError> {
        seal.check(Seal::truncate(INODE, bytes))?;
        let (path, _) = self.path(file)?;
        if let Some(Some(content)) = self.nodes.borrow_mut().get_mut(&path) {
            content.resize(bytes as usize, 0);
        }
        Ok(())
    }

    async fn stat_file(&self, _: &Caller, file: FileId, seal: Seal) -> Result<Attributes, FsError> {
        seal.check(Seal::file(file))?;
        self.attributes(&self.path(file)?.0)
    }

    async fn stat(
        &self,
        _: &Caller,
        path: Vec<u8>,
        last: LastLink,
        seal: Seal,
    ) -> Result<Attributes, FsError> {
        seal.check(Seal::stat(&path, last))?;
        self.attributes(&path)
    }

    async fn read_dir(
        &self,
        _: &Caller,
        _: Vec<u8>,
        from: Cookie,
    ) -> Result<DirectoryBatch, FsError> {
        // One entry a batch, and one batch that is empty.
        let nodes = self.nodes.borrow();
        let entry = nodes
            .keys()
            .nth(from.0 as usize / 2)
            .filter(|_| from.0.is_multiple_of(2));
        let mut batch = DirectoryBatch::default();
        batch.items.extend(entry.map(|name| DirectoryEntry {
            inode: Inode(1),
            kind: FileKind::Regular,
            name: name.clone(),
        }));
        batch.next = (from.0 < 2 * nodes.len() as u64).then_some(Cookie(from.0 + 1));
        Ok(batch)
    }

    async fn read_link(&self, _: &Caller, _: Vec<u8>, _: Seal) -> Result<Vec<u8>, FsError> {
        Err(FsError::Invalid)
    }

    async fn canonical(&self, _: &Caller, path: Vec<u8>, seal: Seal) -> Result<Vec<u8>, FsError> {
        seal.check(Seal::path(&path))?;
        Ok(path)
    }

    async fn make_dir(&self, _: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        match self.nodes.borrow_mut().insert(path, None) {
            None => Ok(()),
            Some(_) => Err(FsError::Exists),
        }
    }

    async fn symlink(&self, _: &Caller, _: Vec<u8>, _: Vec<u8>, _: Seal) -> Result<(), FsError> {
        Err(FsError::Unsupported)
    }

    async fn unlink(&self, _: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        self.nodes
            .borrow_mut()
            .remove(&path)
            .map(|_| ())
            .ok_or(FsError::NotFound)
    }

    async fn remove_dir(&self, _: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        self.nodes
            .borrow_mut()
            .remove(&path)
            .map(|_| ())
            .ok_or(FsError::NotFound)
    }

    async fn rename(
        &self,
        _: &Caller,
        from: Vec<u8>,
        to: Vec<u8>,
        seal: Seal,
    ) -> Result<(), FsError> {
        seal.check(Seal::paths(&from, &to))?;
        let mut nodes = self.nodes.borrow_mut();
        let node = nodes.remove(&from).ok_or(FsError::NotFound)?;
        nodes.insert(to, node);
        Ok(())
    }

    async fn mounts(&self, _: &Caller) -> Result<Vec<MountInfo>, FsError> {
        Ok(Vec::new())
    }

    async fn statfs(&self, _: &Caller, _: Vec<u8>) -> Result<Space, FsError> {
        Ok(Space::default())
    }

    async fn sync(&self, _: &Caller) -> Result<(), FsError> {
        Ok(())
    }
}

fn files() -> (Files, Rc<Fake>) {
    let fake = Rc::new(Fake::default());
    let loopback = Loopback::new(VfsDispatcher::new(Rc::clone(&fake)));
    (
        Files::new(VfsClient::from_client(loopback.client()), None, "/home"),
        fake,
    )
}

#[test]
fn whole_files_are_written_and_read_in_pieces() {
    let (files, fake) = files();
    let content: Vec<u8> = (0..20_000_u32).map(|i| (i / 7) as u8).collect();
    files.write("big", &content).unwrap();
    assert_eq!(files.read_to_vec("/home/big").unwrap(), content);
    files.write("big", b"short").unwrap();
    assert_eq!(files.read_to_vec("big").unwrap(), b"short");
    let mut pieces = Vec::new();
    let mut file = files.open("big", OpenOptions::read()).unwrap();
    for_each_piece(&mut file, 3, |piece| pieces.push(piece.to_vec())).unwrap();
    assert_eq!(pieces, [b"sho".as_slice(), b"rt"]);
    drop(file);
    assert!(
        fake.open.borrow().iter().all(Option::is_none),
        "all files are closed"
    );
}

#[test]
fn a_position_moves_and_appending_goes_to_the_end() {
    let (files, _) = files();
    files.write("a", b"0123456789").unwrap();
    let mut file = files.open("a", OpenOptions::read()).unwrap();
    let mut bytes = [0; 4];
    assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
    assert_eq!(
        (file.read(&mut bytes).unwrap(), &bytes[..3]),
        (3, b"789".as_slice())
    );
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
    assert_eq!(
        file.seek(SeekFrom::Current(-20)),
        Err(Failure::Server(FsError::Invalid))
    );
    assert_eq!(file.position(), 10);
    let mut log = files.open("a", OpenOptions::append()).unwrap();
    log.write_all(b"ab").unwrap();
    assert_eq!(log.position(), 12);
    log.set_size(11).unwrap();
    assert_eq!(files.read_to_vec("a").unwrap(), b"0123456789a");
}

#[test]
fn paths_are_relative_to_the_current_directory() {
    let (files, _) = files();
    assert_eq!(files.absolute("a/b").unwrap(), b"/home/a/b");
    assert_eq!(files.absolute("/a").unwrap(), b"/a");
    assert_eq!(files.absolute(""), Err(Failure::Server(FsError::NotFound)));
    let long = vec![b'x'; MAX_PATH_BYTES];
    assert_eq!(
        files.absolute(&long),
        Err(Failure::Server(FsError::NameTooLong))
    );
    files.make_dirs("x/y/z").unwrap();
    files.set_directory("x/y/z").unwrap();
    assert_eq!(files.directory(), b"/home/x/y/z");
    files.write("f", b"").unwrap();
    let failure = files.set_directory("f").unwrap_err();
    assert_eq!(failure.to_string(), "not a directory");
    assert_eq!(files.directory(), b"/home/x/y/z");
}

#[test]
fn a_listing_goes_through_all_batches() {
    let (files, _) = files();
    for name in ["/a", "/b", "/c"] {
        files.write(name, b"").unwrap();
    }
    let names: Vec<_> = files
        .read_dir("/")
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, [b"/a", b"/b", b"/c"]);
}

#[test]
fn failures_print_as_phrases() {
    let (files, _) = files();
    let failure = files.read_to_vec("missing").unwrap_err();
    assert_eq!(failure.to_string(), "no such file or directory");
    let long = vec![b'x'; MAX_PATH_BYTES / 2];
    assert_eq!(
        files.rename(&long, &long),
        Err(Failure::Server(FsError::NameTooLong))
    );
}
