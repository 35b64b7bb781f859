//! The service behind its interface, and golden bytes of the messages.

use std::rc::Rc;

use libipc::Failure;
use libipc::loopback::Loopback;
use libipc::proto::vfs::{
    Cookie, FileId, FsError, LastLink, MAX_PATH_BYTES, OpenOptions, Transfer, VfsClient,
    VfsDispatcher,
};
use libsys::{Error, Handle, Memory, RawHandle};

use super::{NEW, SEAL, World};
use crate::service::Service;

fn connect() -> (Rc<Loopback>, VfsClient) {
    let (_, vfs) = World::new();
    let service = Rc::new(Service::new(vfs, |badge| {
        assert_ne!(badge, 0);
        Err(Error::Unavailable)
    }));
    let loopback = Loopback::new(VfsDispatcher::new(service));
    let client = VfsClient::from_client(loopback.client());
    (loopback, client)
}

#[test]
fn every_message_looks_as_before() {
    let (loopback, client) = connect();
    assert!(client.new_session().is_err());
    let file = client.open(b"/tmp/f", NEW).unwrap().file;
    client.write_small(file, 0, b"content", SEAL).unwrap();
    client.read_small(file, 3, 100, SEAL).unwrap();
    client.truncate(file, 5, SEAL).unwrap();
    client.stat_file(file).unwrap();
    let transfer = Transfer {
        offset: 1,
        bytes: 2,
        buffer_offset: 3,
    };
    let buffer: Handle<Memory> = Handle::from_raw(RawHandle(9));
    // There is no kernel that could copy to or from a buffer.
    let bad = Failure::Server(FsError::BadBuffer);
    assert_eq!(client.read(file, transfer, &buffer, SEAL), Err(bad));
    assert_eq!(client.write(file, transfer, &buffer, SEAL), Err(bad));
    client.close(file).unwrap();
    client.stat(b"/tmp/f", LastLink::Keep).unwrap();
    client.make_dir(b"/tmp/d").unwrap();
    client.symlink(b"/tmp/l", b"f").unwrap();
    client.read_dir_batch(b"/tmp", Cookie(0)).unwrap();
    client.read_link(b"/tmp/l").unwrap();
    client.canonical(b"/tmp/l").unwrap();
    client.rename(b"/tmp/f", b"/tmp/g").unwrap();
    client.unlink(b"/tmp/l").unwrap();
    client.remove_dir(b"/tmp/d").unwrap();
    client.mounts().unwrap();
    client.statfs(b"/").unwrap();
    client.sync().unwrap();
    libipc::golden!(
        "vfs.txt",
        loopback,
        [
            "new_session",
            "open",
            "write_small",
            "read_small",
            "truncate",
            "stat_file",
            "read",
            "write",
            "close",
            "stat",
            "make_dir",
            "symlink",
            "read_dir",
            "read_link",
            "canonical",
            "rename",
            "unlink",
            "remove_dir",
            "mounts",
            "statfs",
            "sync",
        ]
    );
}

#[test]
fn hostile_arguments_get_errors() {
    let (_, client) = connect();
    let longest = [b"/".as_slice(), &b"x/".repeat(MAX_PATH_BYTES / 2)].concat();
    let too_long = client.stat(&longest, LastLink::Keep);
    assert_eq!(too_long, Err(Failure::Server(FsError::NameTooLong)));
    let missing = client.stat(&longest[..MAX_PATH_BYTES], LastLink::Keep);
    assert_eq!(missing, Err(Failure::Server(FsError::NotFound)));
    for path in [b"".as_slice(), b"x", b"/\0", b"\xff\xff"] {
        let result = client.open(path, OpenOptions::read()).map(|_| ());
        assert_eq!(result, Err(Failure::Server(FsError::Invalid)));
    }
    let bad = Failure::Server(FsError::BadFile);
    assert_eq!(
        client.read_small(FileId(u32::MAX), u64::MAX, u32::MAX, SEAL),
        Err(bad)
    );
    assert_eq!(client.close(FileId(77)), Err(bad));
}
