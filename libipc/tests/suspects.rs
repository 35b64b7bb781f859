//! A server that is about to answer with errors that no server in order gives, and a request that it
//! does not understand.

use std::cell::Cell;
use std::rc::Rc;

use libipc::loopback::Loopback;
use libipc::{Caller, Failure, Protocol};
use libsys::abi::RawHandle;
use libsys::{Handle, Memory};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Errors of the shelf.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ShelfError {
    /// Happens every day.
    Empty,
    /// Should not.
    Broken(u8),
    /// Should not.
    Lost,
}

/// A shelf.
#[libipc::interface(version = 1)]
#[suspect(ShelfError::Broken(1..) | ShelfError::Lost)]
pub trait Shelf {
    /// Looks.
    #[idempotent]
    fn look(at: u32) -> Result<u32, ShelfError>;
    /// Changes something.
    #[exactly_once]
    fn put(number: u32) -> Result<(), ShelfError>;
    /// Passes a copy of a handle.
    #[idempotent]
    fn lend(memory: Handle<Memory>) -> Result<Handle<Memory>, ShelfError>;
    /// Gives a handle away.
    #[idempotent]
    fn give(#[moved] memory: Handle<Memory>) -> Result<(), ShelfError>;
}

/// Answers with this error, and counts how often.
struct Faulty(ShelfError, Cell<u32>);

impl Faulty {
    fn fail<T>(&self) -> Result<T, ShelfError> {
        self.1.set(self.1.get() + 1);
        Err(self.0)
    }
}

impl ShelfServer for Faulty {
    async fn look(&self, _: &Caller, _: u32) -> Result<u32, ShelfError> {
        self.fail()
    }

    async fn put(&self, _: &Caller, _: u32) -> Result<(), ShelfError> {
        self.fail()
    }

    async fn lend(&self, _: &Caller, _: Handle<Memory>) -> Result<Handle<Memory>, ShelfError> {
        self.fail()
    }

    async fn give(&self, _: &Caller, _: Handle<Memory>) -> Result<(), ShelfError> {
        self.fail()
    }
}

/// Whether a server in order may answer so.
fn is_ordinary(error: ShelfError) -> bool {
    matches!(error, ShelfError::Empty | ShelfError::Broken(0))
}

fn errors() -> impl Strategy<Value = ShelfError> {
    prop_oneof![
        Just(ShelfError::Empty),
        (0_u8..3).prop_map(ShelfError::Broken),
        Just(ShelfError::Lost),
    ]
}

proptest! {
    /// A server doubts itself for an error that it should not give, unless an earlier instance had
    /// the request; the client gets what is answered in the end, and asks nobody again.
    #[test]
    fn suspect_errors_are_doubted_by_their_server(error in errors(), redelivered: bool) {
        let faulty = Rc::new(Faulty(error, Cell::new(0)));
        let loopback = Loopback::new(ShelfDispatcher::new(Rc::clone(&faulty)));
        let client = ShelfClient::from_client(loopback.client());
        if redelivered {
            loopback.redeliver();
        }
        let memory = || Handle::from_raw(RawHandle(3));
        prop_assert_eq!(client.look(7), Err(Failure::Server(error)));
        prop_assert_eq!(client.put(7), Err(Failure::Server(error)));
        prop_assert_eq!(client.give(memory()), Err(Failure::Server(error)));
        let lent = client.lend(&memory()).map(|memory| memory.raw());
        prop_assert_eq!(lent, Err(Failure::Server(error)));
        prop_assert_eq!(faulty.1.get(), 4);
        let doubted = if is_ordinary(error) || redelivered { 0 } else { 4 };
        prop_assert_eq!(loopback.suspects(), doubted);
    }
}

/// A later form of the shelf, of which the server knows nothing.
#[libipc::interface(version = 1)]
pub trait Cupboard {
    /// Unknown there.
    #[exactly_once]
    fn open() -> Result<(), ShelfError>;
}

#[test]
fn a_request_that_is_not_understood_is_sent_twice_as_nothing_was_done() {
    let loopback = Loopback::new(ShelfDispatcher::new(Rc::new(Faulty(
        ShelfError::Empty,
        Cell::new(0),
    ))));
    let client = CupboardClient::from_client(loopback.client());
    let refused = Err(Failure::Protocol(Protocol::UnknownInterface));
    assert_eq!(client.open(), refused);
    assert_eq!(loopback.exchanges().len(), 2);
}
