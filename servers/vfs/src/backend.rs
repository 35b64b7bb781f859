//! What the vfs needs of a file system, apart from how it is reached.

use alloc::vec::Vec;

use libipc::proto::file_system::{
    Attributes, Cookie, Description, DirectoryBatch, FileKind, FsError, Inode, Operation, Outcome,
    Seal, Space, Transfer,
};
use libsys::{Handle, Memory};

/// The result of a request to a file system.
pub type FsResult<T> = Result<T, FsError>;

/// A file system. The methods are those of `libipc::proto::file_system`. Seals of transfers come from who
/// asked for them; those of names are made here, where the names are.
#[expect(
    missing_docs,
    reason = "each method is documented once, at the interface"
)]
#[expect(clippy::missing_errors_doc, reason = "as above")]
pub trait Backend {
    fn describe(&self) -> FsResult<Description>;
    fn statfs(&self) -> FsResult<Space>;
    fn lookup(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes>;
    /// As `lookup`, by other code: for who does not believe what it returned.
    fn lookup_again(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        self.lookup(directory, name)
    }
    fn stat(&self, inode: Inode) -> FsResult<Attributes>;
    fn read(
        &self,
        inode: Inode,
        transfer: (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<u32>;
    fn read_small(&self, inode: Inode, offset: u64, bytes: u32, seal: Seal) -> FsResult<Vec<u8>>;
    fn read_dir(&self, directory: Inode, from: Cookie) -> FsResult<DirectoryBatch>;
    fn read_link(&self, inode: Inode) -> FsResult<Vec<u8>>;
    fn outcome(&self, operation: Operation) -> FsResult<Option<Outcome>>;
    fn create(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        node: (FileKind, u16),
    ) -> FsResult<Outcome>;
    fn symlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Outcome>;
    fn unlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
    ) -> FsResult<Outcome>;
    fn rename(
        &self,
        operation: Operation,
        from: (Inode, &[u8]),
        to: (Inode, &[u8]),
    ) -> FsResult<Outcome>;
    fn truncate(
        &self,
        operation: Operation,
        inode: Inode,
        bytes: u64,
        seal: Seal,
    ) -> FsResult<Outcome>;
    fn write(
        &self,
        operation: Operation,
        inode: Inode,
        transfer: (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<Outcome>;
    fn write_small(
        &self,
        operation: Operation,
        inode: Inode,
        content: (u64, &[u8]),
        seal: Seal,
    ) -> FsResult<Outcome>;
    fn sync(&self) -> FsResult<()>;
}
