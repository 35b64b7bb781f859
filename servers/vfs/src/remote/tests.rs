//! A file system whose first answer to each method is wrong.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Context;

use libipc::Interface;
use libipc::loopback::Loopback;
use libipc::proto::file_system::{
    APPEND, FileKind, FileSystemClient, FileSystemSchema, FsError, Inode, Operation, Outcome, Seal,
};
use libipc::schema::Schema;
use libipc::server::{Arguments, Dispatch, Started};
use libipc::wire::Status;

use super::Remote;
use crate::backend::{Backend, FsResult};

/// Nobody looks at it.
const SEAL: Seal = Seal::truncate(FILE, 0);

/// Answers each request by the next answer, whatever was asked.
struct Scripted(Rc<RefCell<Vec<FsResult<Outcome>>>>);

impl Dispatch for Scripted {
    fn schema(&self) -> &'static Schema {
        FileSystemSchema::SCHEMA
    }

    fn start(
        &self,
        _: u16,
        request: Arguments<'_>,
        _: &mut Context<'_>,
    ) -> Result<Started, Status> {
        let answer = self.0.borrow_mut().pop().ok_or(Status::UnknownMethod)?;
        Ok(Started::Done(match answer {
            Ok(outcome) => request.output.ok::<FileSystemSchema, _>(&(outcome,)),
            Err(error) => request.output.error::<FileSystemSchema, _>(&error),
        }))
    }
}

const OPERATION: Operation = Operation {
    client: 1,
    sequence: 2,
    step: 0,
    repeated: false,
};
const FILE: Inode = Inode(7);

fn outcome(inode: u64, offset: u64, bytes: u32) -> Outcome {
    Outcome {
        inode: Inode(inode),
        offset,
        bytes,
    }
}

/// Makes a change, to which a file system gives some answers; returns what comes of it if the vfs
/// does not doubt itself.
fn believed(
    answers: &[FsResult<Outcome>],
    change: impl Fn(&Remote) -> FsResult<Outcome>,
) -> Option<FsResult<Outcome>> {
    let answers: Vec<_> = answers.iter().rev().copied().collect();
    let loopback = Loopback::new(Scripted(Rc::new(RefCell::new(answers))));
    let client = FileSystemClient::from_client(loopback.client());
    let remote = Remote::with_client("scripted", Some(client));
    catch_unwind(AssertUnwindSafe(|| change(&remote))).ok()
}

#[test]
fn an_error_is_believed_if_it_comes_twice() {
    let unlink = |remote: &Remote| remote.unlink(OPERATION, FILE, b"x", FileKind::Regular);
    let done = Ok(outcome(9, 0, 0));
    let (empty, damaged) = (Err(FsError::NotEmpty), Err(FsError::Stale));
    assert_eq!(believed(&[done], unlink), Some(done));
    assert_eq!(believed(&[empty, empty], unlink), Some(empty));
    assert_eq!(believed(&[empty, done], unlink), None);
    assert_eq!(believed(&[empty, damaged], unlink), None);
}

#[test]
fn an_outcome_is_believed_if_it_can_be_that_of_the_change() {
    let truncate = |remote: &Remote| remote.truncate(OPERATION, FILE, 5, SEAL);
    let write = |remote: &Remote| remote.write_small(OPERATION, FILE, (3, b"four"), SEAL);
    let append = |remote: &Remote| remote.write_small(OPERATION, FILE, (APPEND, b"four"), SEAL);
    let make = |remote: &Remote| remote.create(OPERATION, FILE, b"x", (FileKind::Directory, 0o755));
    let is_believed = |outcome, change: &dyn Fn(&Remote) -> FsResult<Outcome>| {
        believed(&[Ok(outcome)], change) == Some(Ok(outcome))
    };
    assert!(is_believed(outcome(7, 0, 0), &truncate));
    assert!(!is_believed(outcome(8, 0, 0), &truncate));
    assert!(is_believed(outcome(7, 3, 4), &write));
    assert!(!is_believed(outcome(8, 3, 4), &write));
    assert!(!is_believed(outcome(7, 2, 4), &write));
    assert!(!is_believed(outcome(7, 3, 5), &write));
    assert!(is_believed(outcome(7, 90, 4), &append));
    assert!(!is_believed(outcome(7, 90, 0), &append));
    assert!(is_believed(outcome(8, 0, 0), &make));
    assert!(!is_believed(outcome(0, 0, 0), &make));
    assert!(!is_believed(outcome(8, 3, 4), &make));
}
