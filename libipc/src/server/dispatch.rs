//! The event loop without the kernel: what is done with a request, and when its reply is ready.
//!
//! `R` is the duty to answer: a reply handle in a server, a number in tests.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(not(bare))]
use core::cell::RefCell;
use core::fmt;
use core::task::{Context, Poll};

use libsys::abi::MAX_MESSAGE_BYTES;
use libsys::place::{Placed, Places};
use serde::Serialize;

use super::{Caller, ReplyJournal};
use crate::client::{Hello, Welcome};
use crate::events::{Events, PlainFuture};
use crate::executor::Slots;
use crate::schema::{Contract, HANDSHAKE, Schema};
use crate::wire::{self, InHandles, OutHandles, Status};

/// A request that runs.
pub type RequestFuture = Placed<Answer>;

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
    /// Where the future is put.
    pub places: &'a Places,
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

/// Where replies are written: the IPC page, from which they are sent. So nothing else is sent and
/// nothing else runs between writing a reply and sending it.
#[derive(Clone, Default)]
pub struct Output {
    /// On the host there is no IPC page. Clones are the same place.
    #[cfg(not(bare))]
    page: Rc<RefCell<Page>>,
}

#[cfg(not(bare))]
struct Page([u8; MAX_MESSAGE_BYTES]);

#[cfg(not(bare))]
impl Default for Page {
    fn default() -> Self {
        Page([0; MAX_MESSAGE_BYTES])
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Writes what a method returned.
    #[inline]
    pub fn ok<T: Serialize>(&self, value: &T, handles: OutHandles) -> Answer {
        self.write::<_, ()>(&Ok(value), handles)
    }

    /// Writes the error that a method returned.
    #[inline]
    pub fn error<E: Serialize>(&self, error: &E) -> Answer {
        self.write::<(), _>(&Err(error), OutHandles::new())
    }

    #[inline]
    fn write<T: Serialize, E: Serialize>(
        &self,
        result: &Result<T, E>,
        handles: OutHandles,
    ) -> Answer {
        match self.write_with(|page| wire::encode(result, page)) {
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
        self.write_with(|page| f(page.get(..bytes).unwrap_or(&[])))
    }

    /// Lets `f` write a reply, or look at it.
    #[cfg(bare)]
    #[inline]
    pub(crate) fn write_with<T>(&self, f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> T) -> T {
        libsys::ipc::with_page(f)
    }

    /// Lets `f` write a reply, or look at it.
    #[cfg(not(bare))]
    pub(crate) fn write_with<T>(&self, f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> T) -> T {
        f(&mut self.page.borrow_mut().0)
    }
}

/// A request as it came, without its payload and the duty to answer.
pub(crate) struct Delivery {
    pub(crate) label: u32,
    pub(crate) caller: Caller,
    pub(crate) handles: InHandles,
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

/// A request that was decoded and can run.
pub(crate) struct Started {
    future: RequestFuture,
    contract: Contract,
}

/// An answer that needs no run.
pub(crate) enum Early {
    /// There is none but this.
    Status(Status),
    /// To a handshake.
    Welcome(Welcome),
    /// From the journal.
    Stored(Vec<u8>),
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
    /// With their schemas, so that none needs to be asked for it.
    dispatchers: Vec<(&'static Schema, Box<dyn Dispatch>)>,
    journal: Option<Rc<dyn ReplyJournal>>,
    slots: Slots<Task<R>>,
    /// Tasks that found no slot free.
    waiting: VecDeque<Task<R>>,
    events: Events,
    output: Output,
    places: Places,
}

impl<R> Core<R> {
    pub(crate) fn new(events: Events) -> Self {
        Core {
            dispatchers: Vec::new(),
            journal: None,
            slots: Slots::new(),
            waiting: VecDeque::new(),
            events,
            output: Output::default(),
            places: Places::new(),
        }
    }

    pub(crate) fn add(&mut self, dispatcher: Box<dyn Dispatch>) {
        self.dispatchers.push((dispatcher.schema(), dispatcher));
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
        if self.slots.is_empty() && self.waiting.is_empty() {
            return;
        }
        let is_abandoned = |task: &Task<R>| match task {
            Task::Request(request) => request.caller.badge == badge && !is_awaited(&request.reply),
            Task::Plain(_) => false,
        };
        self.slots.remove(is_abandoned);
        self.waiting.retain(|task| !is_abandoned(task));
    }

    /// Decodes a request. Nothing of it runs before [`Core::first_poll`].
    ///
    /// # Errors
    ///
    /// What to answer without running it.
    #[inline]
    pub(crate) fn start(&self, delivery: Delivery, payload: &[u8]) -> Result<Started, Early> {
        let Delivery {
            label,
            caller,
            handles,
        } = delivery;
        let (id, method) = ((label >> 16) as u16, label as u16);
        let mut dispatchers = self.dispatchers.iter();
        let Some((schema, dispatcher)) = dispatchers.find(|(schema, _)| schema.id == id) else {
            return Err(Early::Status(Status::UnknownInterface));
        };
        let Some(known) = schema.methods.get(usize::from(method)) else {
            return Err(match method {
                HANDSHAKE => handshake(schema, payload),
                _ => Early::Status(Status::UnknownMethod),
            });
        };
        let contract = known.contract;
        if caller.redelivered
            && let Some(early) = self.answer_redelivered(caller, contract)
        {
            return Err(early);
        }
        let request = Arguments {
            payload,
            handles,
            caller,
            output: self.output.clone(),
            places: &self.places,
        };
        match dispatcher.start(method, request) {
            Ok(future) => Ok(Started { future, contract }),
            Err(status) => Err(Early::Status(status)),
        }
    }

    /// Writes an answer that needed no run, once the request's payload is let go.
    #[cold]
    pub(crate) fn answer_early(&self, early: Early) -> Answer {
        match early {
            Early::Status(status) => Answer::status(status),
            Early::Welcome(Ok(())) => self.output.ok(&(), OutHandles::new()),
            Early::Welcome(Err(refused)) => self.output.error(&refused),
            Early::Stored(stored) => {
                let bytes = self.output.write_with(|page| {
                    // Only what came from this page was stored.
                    let bytes = stored.len().min(page.len());
                    page[..bytes].copy_from_slice(&stored[..bytes]);
                    bytes
                });
                Answer {
                    label: Status::Answer as u32,
                    bytes,
                    handles: OutHandles::new(),
                }
            }
        }
    }

    /// Polls a new request: its reply if it is ready at once.
    #[inline]
    pub(crate) fn first_poll(
        &mut self,
        started: Started,
        caller: Caller,
        reply: R,
    ) -> Option<(R, Answer)> {
        let Started { future, contract } = started;
        let request = Request {
            future,
            caller,
            contract,
            reply,
        };
        match self.slots.reserve() {
            Some(slot) => self.poll_request(slot, request),
            None => {
                self.waiting.push_back(Task::Request(request));
                None
            }
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
    #[cold]
    fn answer_redelivered(&self, caller: Caller, contract: Contract) -> Option<Early> {
        match contract {
            Contract::Idempotent => None,
            Contract::FailsOnRestart => Some(Early::Status(Status::Restarted)),
            Contract::ExactlyOnce => {
                let journal = self.journal.as_ref()?;
                let stored = journal.lookup(caller.badge, caller.sequence)?;
                Some(Early::Stored(stored))
            }
        }
    }

    #[inline]
    fn poll_request(&mut self, slot: usize, mut request: Request<R>) -> Option<(R, Answer)> {
        let mut context = Context::from_waker(self.slots.waker(slot));
        match request.future.poll(&mut context) {
            Poll::Pending => {
                self.slots.put(slot, Task::Request(request));
                None
            }
            Poll::Ready(answer) => {
                self.slots.release(slot);
                if request.contract == Contract::ExactlyOnce {
                    self.journal_answer(request.caller, &answer);
                }
                self.places.recycle(request.future);
                Some((request.reply, answer))
            }
        }
    }

    /// Stores the reply of an `#[exactly_once]` method before anyone sees it. One with handles
    /// is not stored: they would die with this process.
    fn journal_answer(&self, caller: Caller, answer: &Answer) {
        let is_stored = answer.label == Status::Answer as u32 && answer.handles.is_empty();
        if let (true, Some(journal)) = (is_stored, &self.journal) {
            self.output.with(answer.bytes, |bytes| {
                journal.store(caller.badge, caller.sequence, bytes);
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
fn handshake(ours: &Schema, payload: &[u8]) -> Early {
    let Some(theirs) = wire::decode::<Hello<String>>(payload) else {
        return Early::Status(Status::Malformed);
    };
    let agrees =
        theirs.hash == ours.hash && theirs.version == ours.version && theirs.name == ours.name;
    Early::Welcome(if agrees {
        Ok(())
    } else {
        Err(Hello {
            hash: ours.hash,
            version: ours.version,
            name: ours.name.into(),
        })
    })
}
