//! The service behind its interface, and golden bytes of the messages.

use std::rc::Rc;

use libipc::Failure;
use libipc::loopback::Loopback;
use libipc::proto::file_system::{
    APPEND, Cookie, FileKind, FileSystemClient, FileSystemDispatcher, FsError, Inode,
    MAX_SMALL_BYTES, Transfer,
};
use libsys::{Handle, Memory, RawHandle};

use super::{Operations, new_fs};
use crate::service::Service;

fn connect() -> (Rc<Loopback>, FileSystemClient) {
    let service = Rc::new(Service::new(new_fs(), || 1000));
    let loopback = Loopback::new(FileSystemDispatcher::new(service));
    let client = FileSystemClient::from_client(loopback.client());
    (loopback, client)
}

#[test]
fn every_message_looks_as_before() {
    let (loopback, client) = connect();
    let mut operations = Operations::default();
    let root = client.describe().unwrap().root;
    client.statfs().unwrap();
    let create = operations.next();
    let file = client
        .create(create, root, b"file", FileKind::Regular, 0o600)
        .unwrap()
        .inode;
    client
        .write_small(operations.next(), file, APPEND, b"content")
        .unwrap();
    client.lookup(root, b"file").unwrap();
    client.stat(file).unwrap();
    client.read_small(file, 3, 100).unwrap();
    client
        .symlink(operations.next(), root, b"link", b"file")
        .unwrap();
    client.read_dir_batch(root, Cookie(0)).unwrap();
    let link = client.lookup(root, b"link").unwrap().inode;
    client.read_link(link).unwrap();
    client.outcome(create).unwrap();
    client.truncate(operations.next(), file, 3).unwrap();
    client
        .rename(operations.next(), root, b"link", root, b"l")
        .unwrap();
    client
        .unlink(operations.next(), root, b"l", FileKind::Regular)
        .unwrap();
    use_buffers(&client, file, &mut operations);
    client.sync().unwrap();
    check_golden(&loopback);
}

/// There is no kernel that could copy to or from a buffer: the requests alone can be seen.
fn use_buffers(client: &FileSystemClient, file: Inode, operations: &mut Operations) {
    let transfer = Transfer {
        offset: 1,
        bytes: 2,
        buffer_offset: 3,
    };
    let buffer: Handle<Memory> = Handle::from_raw(RawHandle(9));
    let bad = Failure::Server(FsError::BadBuffer);
    assert_eq!(client.read(file, transfer, &buffer), Err(bad));
    assert_eq!(
        client.write(operations.next(), file, transfer, &buffer),
        Err(bad)
    );
}

fn check_golden(loopback: &Loopback) {
    libipc::golden!(
        "file_system.txt",
        loopback,
        [
            "describe",
            "statfs",
            "create",
            "write_small",
            "lookup",
            "stat",
            "read_small",
            "symlink",
            "read_dir",
            "lookup_link",
            "read_link",
            "outcome",
            "truncate",
            "rename",
            "unlink",
            "read",
            "write",
            "sync",
        ]
    );
}

#[test]
fn the_longest_pieces_and_pages_fit_into_a_message() {
    let (_, client) = connect();
    let mut operations = Operations::default();
    let root = client.describe().unwrap().root;
    let file = client
        .create(operations.next(), root, b"f", FileKind::Regular, 0)
        .unwrap()
        .inode;
    let content = [0xff; MAX_SMALL_BYTES];
    client
        .write_small(operations.next(), file, 1 << 40, &content)
        .unwrap();
    assert_eq!(client.read_small(file, 1 << 40, u32::MAX).unwrap(), content);
    for i in 0..40 {
        let name = format!("{i:0>200}");
        let operation = operations.next();
        client
            .create(operation, root, name.as_bytes(), FileKind::Regular, 0)
            .unwrap();
    }
    let batch = client.read_dir_batch(root, Cookie(0)).unwrap();
    assert!(batch.next.is_some() && batch.items.len() > 10);
    assert_eq!(client.read_dir(root).count(), 41);
    let target = [b'x'; MAX_SMALL_BYTES];
    let link = client
        .symlink(operations.next(), root, b"l", &target)
        .unwrap()
        .inode;
    assert_eq!(client.read_link(link).unwrap(), target);
}
