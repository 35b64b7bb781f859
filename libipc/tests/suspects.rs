//! A server that answers with errors that no server in order gives, and a request that it does not
//! understand: who is asked once more, and who is not.

use std::cell::{Cell, RefCell};
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
    /// May be asked again.
    #[idempotent]
    fn look(at: u32) -> Result<u32, ShelfError>;
    /// May not.
    #[exactly_once]
    fn put(number: u32) -> Result<(), ShelfError>;
    /// May, and passes a copy of a handle.
    #[idempotent]
    fn lend(memory: Handle<Memory>) -> Result<Handle<Memory>, ShelfError>;
    /// May, but the handle is gone then.
    #[idempotent]
    fn give(#[moved] memory: Handle<Memory>) -> Result<(), ShelfError>;
}

/// Answers with these errors first.
#[derive(Default)]
struct Faulty {
    errors: RefCell<Vec<ShelfError>>,
    asked: Cell<usize>,
}

impl Faulty {
    fn next(&self) -> Result<(), ShelfError> {
        self.asked.set(self.asked.get() + 1);
        self.errors.borrow_mut().pop().map_or(Ok(()), Err)
    }
}

impl ShelfServer for Faulty {
    async fn look(&self, _: &Caller, at: u32) -> Result<u32, ShelfError> {
        self.next().map(|()| at)
    }

    async fn put(&self, _: &Caller, _: u32) -> Result<(), ShelfError> {
        self.next()
    }

    async fn lend(&self, _: &Caller, memory: Handle<Memory>) -> Result<Handle<Memory>, ShelfError> {
        self.next().map(|()| memory)
    }

    async fn give(&self, _: &Caller, _: Handle<Memory>) -> Result<(), ShelfError> {
        self.next()
    }
}

fn shelf(errors: &[ShelfError]) -> (Rc<Faulty>, ShelfClient) {
    let faulty = Rc::new(Faulty::default());
    *faulty.errors.borrow_mut() = errors.to_vec();
    let loopback = Loopback::new(ShelfDispatcher::new(Rc::clone(&faulty)));
    (faulty, ShelfClient::from_client(loopback.client()))
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
    /// The client sees an ordinary error at once, a suspect one if the next instance gives it too.
    #[test]
    fn suspect_errors_are_asked_for_once_more(
        first in errors(),
        second in prop::option::of(errors()),
    ) {
        // The last one is answered first.
        let row: Vec<_> = second.into_iter().chain([first]).collect();
        let second = second.map_or(Ok(7), Err).map_err(Failure::Server);
        let (expected, asked) = if is_ordinary(first) {
            (Err(Failure::Server(first)), 1)
        } else {
            (second, 2)
        };
        let (faulty, client) = shelf(&row);
        prop_assert_eq!(client.look(7), expected);
        prop_assert_eq!(faulty.asked.get(), asked);
        let (faulty, client) = shelf(&row);
        let memory = Handle::from_raw(RawHandle(3));
        let lent = client.lend(&memory).map(|memory| memory.raw().0 + 4);
        prop_assert_eq!(lent, expected);
        prop_assert_eq!(faulty.asked.get(), asked);
    }

    /// What must not happen twice, and what was given away, is not sent again.
    #[test]
    fn what_does_harm_is_not_asked_for_again(error in errors()) {
        let (faulty, client) = shelf(&[error]);
        prop_assert_eq!(client.put(7), Err(Failure::Server(error)));
        prop_assert_eq!(faulty.asked.get(), 1);
        let (faulty, client) = shelf(&[error]);
        let memory = Handle::from_raw(RawHandle(3));
        prop_assert_eq!(client.give(memory), Err(Failure::Server(error)));
        prop_assert_eq!(faulty.asked.get(), 1);
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
    let loopback = Loopback::new(ShelfDispatcher::new(Rc::new(Faulty::default())));
    let client = CupboardClient::from_client(loopback.client());
    let refused = Err(Failure::Protocol(Protocol::UnknownInterface));
    assert_eq!(client.open(), refused);
    assert_eq!(loopback.exchanges().len(), 2);
}
