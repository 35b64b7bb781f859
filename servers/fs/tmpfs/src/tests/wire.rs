//! The service behind its interface, and golden bytes of the messages.

use std::rc::Rc;

use libipc::Failure;
use libipc::loopback::Loopback;
use libipc::proto::file_system::{
    APPEND, Cookie, FileKind, FileSystemClient, FileSystemDispatcher, FsError, Inode,
    MAX_SMALL_BYTES, Seal, Transfer,
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
    let seal = Seal::create(root, b"file", FileKind::Regular, 0o600);
    let file = client
        .create(create, root, b"file", FileKind::Regular, 0o600, seal)
        .unwrap()
        .inode;
    client
        .write_small(
            operations.next(),
            file,
            APPEND,
            b"content",
            Seal::transfer(file, APPEND, 7),
        )
        .unwrap();
    let name = Seal::name(root, b"file");
    client.lookup(root, b"file", name).unwrap();
    client.stat(file).unwrap();
    client
        .read_small(file, 3, 100, Seal::transfer(file, 3, 100))
        .unwrap();
    let seal = Seal::symlink(root, b"link", b"file");
    client
        .symlink(operations.next(), root, b"link", b"file", seal)
        .unwrap();
    client.read_dir_batch(root, Cookie(0)).unwrap();
    let name = Seal::name(root, b"link");
    let link = client.lookup(root, b"link", name).unwrap().inode;
    client.read_link(link).unwrap();
    client.outcome(create).unwrap();
    client
        .truncate(operations.next(), file, 3, Seal::truncate(file, 3))
        .unwrap();
    let seal = Seal::rename((root, b"link"), (root, b"l"));
    client
        .rename(operations.next(), root, b"link", root, b"l", seal)
        .unwrap();
    let name = Seal::name(root, b"l");
    client
        .unlink(operations.next(), root, b"l", FileKind::Regular, name)
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
    let seal = Seal::shared(file, transfer);
    assert_eq!(client.read(file, transfer, &buffer, seal), Err(bad));
    assert_eq!(
        client.write(operations.next(), file, transfer, &buffer, seal),
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
fn what_does_not_fit_its_seal_is_not_done() {
    let (_, client) = connect();
    let mut operations = Operations::default();
    let root = client.describe().unwrap().root;
    let make = |name: &[u8], operation, seal| {
        client.create(operation, root, name, FileKind::Regular, 0, seal)
    };
    let right = Seal::create(root, b"a", FileKind::Regular, 0);
    let file = make(b"a", operations.next(), right).unwrap().inode;
    let broken = Err(Failure::Server(FsError::BrokenSeal));
    assert_eq!(make(b"b", operations.next(), right), broken);
    let name = Seal::name(root, b"a");
    let found = |name, seal| client.lookup(root, name, seal).map(|found| found.inode);
    let failed = |failure| Err(Failure::Server(failure));
    assert_eq!(found(b"a", name), Ok(file));
    assert_eq!(found(b"b", name), failed(FsError::BrokenSeal));
    assert_eq!(
        found(b"b", Seal::name(root, b"b")),
        failed(FsError::NotFound)
    );
    assert_eq!(
        found(b"a", Seal::name(root, b"b")),
        failed(FsError::BrokenSeal)
    );
    let transfer = Seal::transfer(file, 0, 4);
    let write = |operation, at, seal| client.write_small(operation, file, at, b"text", seal);
    assert_eq!(write(operations.next(), 1, transfer), broken);
    assert!(write(operations.next(), 0, transfer).is_ok());
    assert!(client.read_small(file, 0, 3, transfer).is_err());
    assert_eq!(client.read_small(file, 0, 4, transfer).unwrap(), b"text");
    let cut = client.truncate(operations.next(), file, 2, Seal::truncate(file, 3));
    assert_eq!(cut, broken);
    assert_eq!(client.stat(file).unwrap().bytes, 4);
}

#[test]
fn the_longest_pieces_and_pages_fit_into_a_message() {
    let (_, client) = connect();
    let mut operations = Operations::default();
    let root = client.describe().unwrap().root;
    let seal = |name: &[u8]| Seal::create(root, name, FileKind::Regular, 0);
    let file = client
        .create(
            operations.next(),
            root,
            b"f",
            FileKind::Regular,
            0,
            seal(b"f"),
        )
        .unwrap()
        .inode;
    let content = [0xff; MAX_SMALL_BYTES];
    let all = Seal::transfer(file, 1 << 40, content.len() as u32);
    client
        .write_small(operations.next(), file, 1 << 40, &content, all)
        .unwrap();
    assert_eq!(
        client
            .read_small(file, 1 << 40, content.len() as u32, all)
            .unwrap(),
        content
    );
    for i in 0..40 {
        let name = format!("{i:0>200}");
        let operation = operations.next();
        client
            .create(
                operation,
                root,
                name.as_bytes(),
                FileKind::Regular,
                0,
                seal(name.as_bytes()),
            )
            .unwrap();
    }
    let batch = client.read_dir_batch(root, Cookie(0)).unwrap();
    assert!(batch.next.is_some() && batch.items.len() > 10);
    assert_eq!(client.read_dir(root).count(), 41);
    let target = [b'x'; MAX_SMALL_BYTES];
    let link = client
        .symlink(
            operations.next(),
            root,
            b"l",
            &target,
            Seal::symlink(root, b"l", &target),
        )
        .unwrap()
        .inode;
    assert_eq!(client.read_link(link).unwrap(), target);
}
