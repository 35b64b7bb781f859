//! A sample interface with every kind of argument and result, and a server of it.
//! Other tests include this file as a module.
#![allow(dead_code, reason = "each test uses its own part")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use libipc::Caller;
use libipc::events::Events;
use libipc::loopback::Loopback;
use libipc::stream::Batch;
use libsys::abi::RawHandle;
use libsys::{Handle, Memory, Notification};
use serde::{Deserialize, Serialize};

/// A value with structure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// A number.
    pub(crate) number: u64,
    /// A text.
    pub(crate) text: String,
}

/// Errors of the sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum SampleError {
    /// Not wanted.
    Refused,
    /// Too much, by this.
    Excess(u32),
}

/// The sample interface.
#[libipc::interface(version = 3)]
pub(crate) trait Sample {
    /// Adds numbers.
    #[idempotent]
    fn add(a: u32, b: u32) -> Result<u64, SampleError>;
    /// Joins texts and bytes.
    #[idempotent]
    fn join(text: &str, bytes: &[u8], items: &[Item]) -> Result<String, SampleError>;
    /// Returns an item and bytes.
    #[idempotent]
    fn echo(item: &Item, bytes: Vec<u8>) -> Result<(Item, Vec<u8>), SampleError>;
    /// Nothing in, nothing out.
    #[idempotent]
    fn nothing() -> Result<(), SampleError>;
    /// Passes handles around: gives back what it got, if it got it.
    #[idempotent]
    fn handles(
        memory: Handle<Memory>,
        bell: Option<Handle<Notification>>,
        #[moved] second: Handle<Memory>,
        tag: u8,
    ) -> Result<(Handle<Memory>, u8, Option<Handle<Notification>>), SampleError>;
    /// Counts its calls.
    #[exactly_once]
    fn count() -> Result<u32, SampleError>;
    /// Counts, and does not survive a restart.
    #[fails_on_restart]
    fn risky() -> Result<u32, SampleError>;
    /// Waits for a notification bit.
    #[idempotent]
    fn wait(bit: u8) -> Result<u8, SampleError>;
    /// Waits until a time.
    #[idempotent]
    fn sleep(deadline: u64) -> Result<(), SampleError>;
    /// Returns so many bytes.
    #[idempotent]
    fn bytes(length: u32) -> Result<Vec<u8>, SampleError>;
    /// Returns the badge of the caller.
    #[idempotent]
    fn badge() -> Result<u64, SampleError>;
    /// Counts up to a number, three at a time, and fails at 13.
    #[stream]
    fn numbers(to: u32, memory: Handle<Memory>) -> Result<Stream<u32, u32>, SampleError>;
    /// Adds in the ring.
    #[ring]
    fn ring_add(a: u32, b: u8) -> Result<u32, SampleError>;
    /// Does nothing in the ring.
    #[ring]
    fn ring_nothing() -> Result<u32, SampleError>;
    /// Uses all words of an entry.
    #[ring]
    fn ring_full(a: u64, b: bool, c: u16, d: u64, e: u64) -> Result<u32, SampleError>;
}

/// Serves the sample.
#[derive(Default)]
pub(crate) struct Server {
    /// How often something was counted.
    pub(crate) counted: Cell<u32>,
    /// Numbers of the last handles.
    pub(crate) handles: RefCell<Vec<RawHandle>>,
    /// The way into the loop.
    pub(crate) events: RefCell<Option<Events>>,
}

impl SampleServer for Server {
    async fn add(&self, _: &Caller, a: u32, b: u32) -> Result<u64, SampleError> {
        if a == 13 {
            return Err(SampleError::Refused);
        }
        Ok(u64::from(a) + u64::from(b))
    }

    async fn join(
        &self,
        _: &Caller,
        text: String,
        bytes: Vec<u8>,
        items: Vec<Item>,
    ) -> Result<String, SampleError> {
        let items: Vec<_> = items.iter().map(|item| item.text.as_str()).collect();
        Ok(format!("{text} {bytes:?} {}", items.join("+")))
    }

    async fn echo(
        &self,
        _: &Caller,
        item: Item,
        bytes: Vec<u8>,
    ) -> Result<(Item, Vec<u8>), SampleError> {
        Ok((item, bytes))
    }

    async fn nothing(&self, _: &Caller) -> Result<(), SampleError> {
        Ok(())
    }

    async fn handles(
        &self,
        _: &Caller,
        memory: Handle<Memory>,
        bell: Option<Handle<Notification>>,
        second: Handle<Memory>,
        tag: u8,
    ) -> Result<(Handle<Memory>, u8, Option<Handle<Notification>>), SampleError> {
        *self.handles.borrow_mut() = vec![memory.raw(), second.raw()];
        Ok((second, tag, bell))
    }

    async fn count(&self, _: &Caller) -> Result<u32, SampleError> {
        self.counted.set(self.counted.get() + 1);
        Ok(self.counted.get())
    }

    async fn risky(&self, caller: &Caller) -> Result<u32, SampleError> {
        self.count(caller).await
    }

    async fn wait(&self, _: &Caller, bit: u8) -> Result<u8, SampleError> {
        let events = self.events.borrow().clone().ok_or(SampleError::Refused)?;
        events.bit(bit).await;
        Ok(bit)
    }

    async fn sleep(&self, _: &Caller, deadline: u64) -> Result<(), SampleError> {
        let events = self.events.borrow().clone().ok_or(SampleError::Refused)?;
        events.sleep_until(deadline).await;
        Ok(())
    }

    async fn bytes(&self, _: &Caller, length: u32) -> Result<Vec<u8>, SampleError> {
        if length > 100_000 {
            return Err(SampleError::Excess(length - 100_000));
        }
        Ok(vec![0xa5; length as usize])
    }

    async fn badge(&self, caller: &Caller) -> Result<u64, SampleError> {
        Ok(caller.badge)
    }

    async fn numbers(
        &self,
        _: &Caller,
        to: u32,
        _: Handle<Memory>,
        from: u32,
    ) -> Result<Batch<u32, u32>, SampleError> {
        if from > 12 {
            return Err(SampleError::Refused);
        }
        let mut batch = Batch::default();
        batch.items.extend((from..to).take(3));
        batch.next = (from + 3 < to).then_some(from + 3);
        Ok(batch)
    }
}

/// Makes a server, the loopback to it, and a client.
pub(crate) fn sample() -> (Rc<Server>, Rc<Loopback>, SampleClient) {
    let server = Rc::new(Server::default());
    let loopback = Loopback::new(SampleDispatcher::new(Rc::clone(&server)));
    *server.events.borrow_mut() = Some(loopback.events());
    let client = SampleClient::from_client(loopback.client());
    (server, loopback, client)
}
