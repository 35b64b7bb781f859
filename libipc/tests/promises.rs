//! A server that answers what cannot be true.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use libipc::loopback::Loopback;
use libipc::stream::Batch;
use libipc::{Caller, Failure, Protocol};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Errors of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StoreError {
    /// Not wanted.
    Refused,
}

fn no_more(_name: &str, _offset: u64, asked: u32, content: &[u8]) -> bool {
    content.len() <= asked as usize
}

fn in_order(from: u32, batch: &Batch<u32, u32>) -> bool {
    let mut expected = from..;
    batch
        .items
        .iter()
        .all(|item| expected.next() == Some(*item))
}

/// A store with promises.
#[libipc::interface(version = 1)]
pub trait Store {
    /// Reads at most so many bytes.
    #[idempotent]
    #[ensures(no_more)]
    fn read(name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, StoreError>;
    /// Reads without a promise.
    #[idempotent]
    fn read_any(bytes: u32) -> Result<Vec<u8>, StoreError>;
    /// Counts from 0 on.
    #[stream]
    #[ensures(in_order)]
    fn numbers() -> Result<Stream<u32, u32>, StoreError>;
}

/// Answers with so many bytes more than asked, and with numbers that are off by as much.
#[derive(Default)]
struct Liar {
    excess: Cell<u32>,
}

impl StoreServer for Liar {
    async fn read(
        &self,
        _: &Caller,
        _name: String,
        offset: u64,
        bytes: u32,
    ) -> Result<Vec<u8>, StoreError> {
        if offset == 13 {
            return Err(StoreError::Refused);
        }
        Ok(vec![7; (bytes + self.excess.get()) as usize])
    }

    async fn read_any(&self, _: &Caller, bytes: u32) -> Result<Vec<u8>, StoreError> {
        Ok(vec![7; (bytes + self.excess.get()) as usize])
    }

    async fn numbers(&self, _: &Caller, from: u32) -> Result<Batch<u32, u32>, StoreError> {
        let excess = self.excess.get();
        Ok(Batch::of((from..6).map(|number| (number + excess, number))))
    }
}

fn store() -> (Rc<Liar>, StoreClient) {
    let liar = Rc::new(Liar::default());
    let dispatcher = StoreDispatcher::new(Rc::clone(&liar));
    let loopback = Loopback::new(dispatcher);
    (liar, StoreClient::from_client(loopback.client()))
}

#[test]
fn errors_are_no_broken_promises() {
    let (liar, client) = store();
    liar.excess.set(1);
    assert_eq!(
        client.read("a", 13, 1),
        Err(Failure::Server(StoreError::Refused))
    );
}

#[test]
fn batches_of_streams_are_looked_at() {
    let (liar, client) = store();
    let all = |client: &StoreClient| client.numbers().collect::<Result<Vec<_>, _>>();
    assert_eq!(all(&client).unwrap(), [0, 1, 2, 3, 4, 5]);
    liar.excess.set(1);
    assert_eq!(
        all(&client),
        Err(Failure::Protocol(Protocol::BrokenPromise))
    );
}

/// A flag that is written as another byte if it is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag(u8);

impl Serialize for Flag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        bool::deserialize(deserializer).map(|flag| Flag(flag.into()))
    }
}

/// A switch.
#[libipc::interface(version = 1)]
pub trait Switch {
    /// Tells its position.
    #[idempotent]
    fn look() -> Result<Flag, StoreError>;
    /// Turns it, once.
    #[exactly_once]
    fn turn() -> Result<Flag, StoreError>;
}

struct Damaged(u8);

impl SwitchServer for Damaged {
    async fn look(&self, _: &Caller) -> Result<Flag, StoreError> {
        Ok(Flag(self.0))
    }

    async fn turn(&self, _: &Caller) -> Result<Flag, StoreError> {
        Ok(Flag(self.0))
    }
}

#[test]
fn a_reply_that_cannot_be_read_is_not_sent_where_nobody_can_ask_again() {
    let switch = |flag| {
        let loopback = Loopback::new(SwitchDispatcher::new(Rc::new(Damaged(flag))));
        SwitchClient::from_client(loopback.client())
    };
    assert_eq!(switch(1).turn(), Ok(Flag(1)));
    let damaged = switch(9);
    assert_eq!(damaged.look(), Err(Failure::Protocol(Protocol::BadReply)));
    // Its next instance would get the request again.
    assert!(catch_unwind(AssertUnwindSafe(|| damaged.turn())).is_err());
}

proptest! {
    #[test]
    fn only_replies_that_can_be_true_reach_the_client(bytes in 0_u32..100, excess in 0_u32..3) {
        let (liar, client) = store();
        liar.excess.set(excess);
        let reply = client.read("a", 0, bytes);
        if excess == 0 {
            prop_assert_eq!(reply.unwrap().len(), bytes as usize);
        } else {
            prop_assert_eq!(reply, Err(Failure::Protocol(Protocol::BrokenPromise)));
        }
        prop_assert_eq!(client.read_any(bytes).unwrap().len(), (bytes + excess) as usize);
    }
}
