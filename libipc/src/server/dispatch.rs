//! The event loop without the kernel: what is done with a request, and when its reply is ready.
//!
//! `R` is the duty to answer: a reply handle in a server, a number in tests.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use libsys::abi::MAX_MESSAGE_BYTES;
use serde::Serialize;

use super::{Caller, ReplyJournal};
use crate::client::{Hello, Welcome};
use crate::events::{Events, PlainFuture};
use crate::executor::Slots;
use crate::schema::{Contract, HANDSHAKE, Schema};
use crate::wire::{self, InHandles, OutHandles, Status};

/// A request that runs.
pub type RequestFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// A request as a dispatcher gets it.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The values, encoded.
    pub payload: &'a [u8],
    /// The handles.
    pub handles: InHandles,
    /// Who asks.
    pub caller: Caller,
    /// Where the reply is written.
    pub output: Output,
}

/// Decodes requests of one interface and starts them.
pub trait Dispatch {
    /// Returns the interface.
    fn schema(&self) -> &'static Schema;

    /// Decodes a request; its future writes the reply to the output.
    ///
    /// # Errors
    ///
    /// `Malformed`, `UnknownMethod`.
    fn start(&self, method: u16, request: Arguments<'_>) -> Result<RequestFuture, Status>;
}

/// A reply: its payload is the first `bytes` bytes of the [`Output`].
#[derive(Debug)]
pub struct Answer {
    /// Label of the reply: a [`Status`] as a number.
    pub label: u32,
    /// Length of the payload.
    pub bytes: usize,
    /// Handles that go along.
    pub handles: OutHandles,
}

impl Answer {
    /// A reply without payload.
    pub(crate) fn status(status: Status) -> Answer {
        Answer {
            label: status as u32,
            bytes: 0,
            handles: OutHandles::new(),
        }
    }
}

/// Where replies are written; clones are the same place.
#[derive(Clone)]
pub struct Output {
    page: Rc<RefCell<[u8; MAX_MESSAGE_BYTES]>>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    fn new() -> Self {
        Output {
            page: Rc::new(RefCell::new([0; MAX_MESSAGE_BYTES])),
        }
    }

    /// Writes what a method returned.
    pub fn ok<T: Serialize>(&self, value: &T, handles: OutHandles) -> Answer {
        self.write::<_, ()>(&Ok(value), handles)
    }

    /// Writes the error that a method returned.
    pub fn error<E: Serialize>(&self, error: &E) -> Answer {
        self.write::<(), _>(&Err(error), OutHandles::new())
    }

    fn write<T: Serialize, E: Serialize>(
        &self,
        result: &Result<T, E>,
        handles: OutHandles,
    ) -> Answer {
        match wire::encode(result, &mut *self.page.borrow_mut()) {
            Ok(bytes) => Answer {
                label: Status::Answer as u32,
                bytes,
                handles,
            },
            // The handles are closed: without the answer nobody could name them.
            Err(wire::TooLong) => Answer::status(Status::ReplyTooLong),
        }
    }

    /// Gives the bytes of the reply last written to `f`.
    pub(crate) fn with<T>(&self, bytes: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        let page = self.page.borrow();
        f(page.get(..bytes).unwrap_or(&[]))
    }

    /// Writes a stored reply or one that is no `Result`: `f` returns its length.
    pub(crate) fn write_with(&self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        f(&mut *self.page.borrow_mut())
    }
}

/// A request as it came.
pub(crate) struct Delivery<R> {
    pub(crate) label: u32,
    pub(crate) caller: Caller,
    pub(crate) handles: InHandles,
    pub(crate) reply: R,
}

/// What a poll of the next task gave.
pub(crate) enum Polled<R> {
    /// No task wants to run.
    Idle,
    /// A task ran and has no reply yet.
    Ran,
    /// A request is done. Send the reply before anything else is polled: the next one is written
    /// to the same place.
    Done(R, Answer),
}

/// A request that was decoded.
pub(crate) enum Started<R> {
    /// Its reply is known without running it.
    Done(R, Answer),
    /// It can run.
    Runs(Request<R>),
}

/// A request in flight.
pub(crate) struct Request<R> {
    future: RequestFuture,
    caller: Caller,
    contract: Contract,
    reply: R,
}

enum Task<R> {
    Request(Request<R>),
    Plain(PlainFuture),
}

/// The event loop without the kernel.
pub(crate) struct Core<R> {
    dispatchers: Vec<Box<dyn Dispatch>>,
    journal: Option<Rc<dyn ReplyJournal>>,
    slots: Slots<Task<R>>,
    /// Tasks that found no slot free.
    waiting: VecDeque<Task<R>>,
    events: Events,
    output: Output,
}

impl<R> Core<R> {
    pub(crate) fn new(events: Events) -> Self {
        Core {
            dispatchers: Vec::new(),
            journal: None,
            slots: Slots::new(),
            waiting: VecDeque::new(),
            events,
            output: Output::new(),
        }
    }

    pub(crate) fn add(&mut self, dispatcher: Box<dyn Dispatch>) {
        self.dispatchers.push(dispatcher);
    }

    pub(crate) fn set_journal(&mut self, journal: Rc<dyn ReplyJournal>) {
        self.journal = Some(journal);
    }

    pub(crate) fn journal(&self) -> Option<&Rc<dyn ReplyJournal>> {
        self.journal.as_ref()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// Returns whether another request can be run at once.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.has_room() && self.waiting.is_empty()
    }

    /// Returns whether a task wants to run.
    pub(crate) fn has_ready(&self) -> bool {
        self.slots.has_ready()
            || self.events.has_spawned()
            || (!self.waiting.is_empty() && self.slots.has_room())
    }

    /// Drops the requests of a badge whose callers do not wait any more, as `is_awaited` says, so
    /// that nothing is done for them from here on.
    ///
    /// A caller that died, or that gave up, may ask for the same again, here or by way of the next
    /// instance of a server above. What the first request still had to do would then be done
    /// behind the back of the second: the memory that it fills may be in other use by then.
    pub(crate) fn drop_abandoned(&mut self, badge: u64, is_awaited: impl Fn(&R) -> bool) {
        let is_abandoned = |task: &Task<R>| match task {
            Task::Request(request) => request.caller.badge == badge && !is_awaited(&request.reply),
            Task::Plain(_) => false,
        };
        self.slots.remove(is_abandoned);
        self.waiting.retain(|task| !is_abandoned(task));
    }

    /// Decodes a request. Nothing of it runs before [`Core::first_poll`].
    pub(crate) fn start(&self, delivery: Delivery<R>, payload: &[u8]) -> Started<R> {
        let Delivery {
            label,
            caller,
            handles,
            reply,
        } = delivery;
        let (id, method) = ((label >> 16) as u16, label as u16);
        let Some(dispatcher) = self
            .dispatchers
            .iter()
            .find(|dispatcher| dispatcher.schema().id == id)
        else {
            return Started::Done(reply, Answer::status(Status::UnknownInterface));
        };
        let schema = dispatcher.schema();
        if method == HANDSHAKE {
            return Started::Done(reply, handshake(schema, payload, &self.output));
        }
        let Some(known) = schema.methods.get(usize::from(method)) else {
            return Started::Done(reply, Answer::status(Status::UnknownMethod));
        };
        if let Some(answer) = self.answer_redelivered(caller, known.contract) {
            return Started::Done(reply, answer);
        }
        let output = self.output.clone();
        let request = Arguments {
            payload,
            handles,
            caller,
            output,
        };
        match dispatcher.start(method, request) {
            Ok(future) => Started::Runs(Request {
                future,
                caller,
                contract: known.contract,
                reply,
            }),
            Err(status) => Started::Done(reply, Answer::status(status)),
        }
    }

    /// Polls a new request: its reply if it is ready at once.
    pub(crate) fn first_poll(&mut self, started: Started<R>) -> Option<(R, Answer)> {
        match started {
            Started::Done(reply, answer) => Some((reply, answer)),
            Started::Runs(request) => match self.slots.reserve() {
                Some(slot) => self.poll_request(slot, request),
                None => {
                    self.waiting.push_back(Task::Request(request));
                    None
                }
            },
        }
    }

    /// Polls the next task that wants to run.
    pub(crate) fn poll_next(&mut self) -> Polled<R> {
        self.start_spawned();
        let Some(slot) = self.slots.next_ready() else {
            return Polled::Idle;
        };
        // A stale waker may name a slot that is free.
        let Some(task) = self.slots.take(slot) else {
            return Polled::Ran;
        };
        match task {
            Task::Request(request) => match self.poll_request(slot, request) {
                Some((reply, answer)) => Polled::Done(reply, answer),
                None => Polled::Ran,
            },
            Task::Plain(mut future) => {
                let mut context = Context::from_waker(self.slots.waker(slot));
                if future.as_mut().poll(&mut context).is_ready() {
                    drop(future);
                    self.slots.release(slot);
                } else {
                    self.slots.put(slot, Task::Plain(future));
                }
                Polled::Ran
            }
        }
    }

    /// Answers a redelivered request without running it, where its contract says so.
    fn answer_redelivered(&self, caller: Caller, contract: Contract) -> Option<Answer> {
        if !caller.redelivered {
            return None;
        }
        match contract {
            Contract::Idempotent => None,
            Contract::FailsOnRestart => Some(Answer::status(Status::Restarted)),
            Contract::ExactlyOnce => {
                let stored = self
                    .journal
                    .as_ref()?
                    .lookup(caller.badge, caller.sequence)?;
                let bytes = self.output.write_with(|page| {
                    // Only what came from this page was stored.
                    let bytes = stored.len().min(page.len());
                    page[..bytes].copy_from_slice(&stored[..bytes]);
                    bytes
                });
                Some(Answer {
                    label: Status::Answer as u32,
                    bytes,
                    handles: OutHandles::new(),
                })
            }
        }
    }

    fn poll_request(&mut self, slot: usize, mut request: Request<R>) -> Option<(R, Answer)> {
        let mut context = Context::from_waker(self.slots.waker(slot));
        match request.future.as_mut().poll(&mut context) {
            Poll::Pending => {
                self.slots.put(slot, Task::Request(request));
                None
            }
            Poll::Ready(answer) => {
                self.slots.release(slot);
                self.journal_answer(&request, &answer);
                Some((request.reply, answer))
            }
        }
    }

    /// Stores the reply of an `#[exactly_once]` method before anyone sees it. One with handles
    /// is not stored: they would die with this process.
    fn journal_answer(&self, request: &Request<R>, answer: &Answer) {
        let is_stored = request.contract == Contract::ExactlyOnce
            && answer.label == Status::Answer as u32
            && answer.handles.is_empty();
        if let (true, Some(journal)) = (is_stored, &self.journal) {
            self.output.with(answer.bytes, |bytes| {
                journal.store(request.caller.badge, request.caller.sequence, bytes);
            });
        }
    }

    /// Gives spawned tasks their slots; those that find none wait.
    fn start_spawned(&mut self) {
        if self.events.has_spawned() {
            self.waiting
                .extend(self.events.take_spawned().into_iter().map(Task::Plain));
        }
        while !self.waiting.is_empty() {
            let Some(slot) = self.slots.reserve() else {
                return;
            };
            if let Some(task) = self.waiting.pop_front() {
                self.slots.put(slot, task);
                self.slots.wake(slot);
            }
        }
    }
}

/// Compares the client's schema with ours.
fn handshake(ours: &Schema, payload: &[u8], output: &Output) -> Answer {
    let Some(theirs) = wire::decode::<Hello<String>>(payload) else {
        return Answer::status(Status::Malformed);
    };
    let agrees =
        theirs.hash == ours.hash && theirs.version == ours.version && theirs.name == ours.name;
    let welcome: Welcome = if agrees {
        Ok(())
    } else {
        Err(Hello {
            hash: ours.hash,
            version: ours.version,
            name: ours.name.into(),
        })
    };
    match welcome {
        Ok(()) => output.ok(&(), OutHandles::new()),
        Err(refused) => output.error(&refused),
    }
}
