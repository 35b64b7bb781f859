//! The event loop without the kernel: what is done with a request, and when its reply is ready.
//!
//! `R` is the duty to answer: a reply handle in a server, a number in tests.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::task::{Context, Poll, Waker};

use libsys::abi::Info;
use libsys::ipc::Words;
use libsys::place::{Placed, Places};
use libsys::{service, time};
use serde::de::DeserializeOwned;

use super::{Caller, ReplyJournal};
use crate::client::{Hello, Welcome};
use crate::events::{Events, PlainFuture};
use crate::executor::Slots;
use crate::schema::{Contract, HANDSHAKE, Method, Schema};
use crate::wire::{self, InHandles, Status};

mod output;
mod understanding;
mod whole;

pub use output::{Answer, Output};
use whole::is_whole;

/// A request that runs.
pub type RequestFuture = Placed<Answer>;

/// A request as a dispatcher gets it.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The values, encoded.
    pub payload: Payload<'a>,
    /// The handles; those not taken are closed.
    pub handles: &'a mut InHandles,
    /// Who asks.
    pub caller: Caller,
    /// Where the reply is written.
    pub output: &'a Output,
    /// Where the future runs.
    pub places: &'a Places,
}

/// The payload of a request, wherever it is.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// In words or in the IPC page, from where it is read before the request runs.
    Message(Info, &'a Words),
    /// Elsewhere, in tests.
    #[cfg(not(bare))]
    Bytes(&'a [u8]),
}

impl Payload<'_> {
    /// Reads the arguments of a request.
    ///
    /// # Errors
    ///
    /// `Malformed`.
    #[inline]
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, Status> {
        let decoded = match self {
            Payload::Message(info, words) => wire::decode_message(info, words),
            #[cfg(not(bare))]
            Payload::Bytes(bytes) => wire::decode(bytes),
        };
        decoded.ok_or(Status::Malformed)
    }
}

/// A request that was decoded and has run as far as it could.
#[derive(Debug)]
pub enum Started {
    /// To its end.
    Done(Answer),
    /// It waits for something.
    Waits(RequestFuture),
}

/// Decodes requests of one interface and starts them.
pub trait Dispatch {
    /// Returns the interface.
    fn schema(&self) -> &'static Schema;

    /// Decodes a request and polls its future, which writes the reply to the output.
    ///
    /// # Errors
    ///
    /// `Malformed`, `UnknownMethod`.
    fn start(
        &self,
        method: u16,
        request: Arguments<'_>,
        context: &mut Context<'_>,
    ) -> Result<Started, Status>;
}

/// A request as it came.
pub(crate) struct Delivery<'a, R> {
    pub(crate) label: u32,
    pub(crate) caller: Caller,
    pub(crate) payload: Payload<'a>,
    pub(crate) handles: &'a mut InHandles,
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

/// A request in flight.
pub(crate) struct Request<R> {
    future: RequestFuture,
    caller: Caller,
    contract: Contract,
    /// What its reply is held against; `None` for an interface whose replies are not looked at.
    method: Option<&'static Method>,
    reply: R,
    /// When it began to wait, ns since boot.
    since: u64,
}

enum Task<R> {
    Request(Request<R>),
    Plain(PlainFuture),
}

/// The event loop without the kernel.
pub(crate) struct Core<R> {
    dispatchers: Vec<Served>,
    journal: Option<Rc<dyn ReplyJournal>>,
    slots: Slots<Task<R>>,
    /// Tasks that found no slot free.
    waiting: VecDeque<Task<R>>,
    /// When the oldest request that waits began to, as it stands in the service page; 0 for none.
    oldest: u64,
    /// Requests that wait, as it stands there.
    requests: u64,
    /// Whether no request has to wait.
    never_waits: bool,
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
            oldest: 0,
            requests: 0,
            never_waits: false,
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

    pub(crate) fn set_never_waits(&mut self) {
        self.never_waits = true;
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

    /// Returns the interfaces that are served.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = &'static Schema> + use<'_, R> {
        self.dispatchers.iter().map(|(schema, _)| *schema)
    }

    /// Returns whether a request is in flight.
    pub(crate) fn has_requests(&self) -> bool {
        let is_request = |task: &Task<R>| matches!(task, Task::Request(_));
        self.slots.any(is_request) || self.waiting.iter().any(is_request)
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
        self.count_requests();
    }

    /// Runs a new request as far as it goes: its reply if it is done at once.
    #[inline]
    pub(crate) fn deliver(&mut self, delivery: Delivery<'_, R>) -> Option<(R, Answer)> {
        let Delivery {
            label,
            caller,
            payload,
            handles,
            reply,
        } = delivery;
        let (id, method) = ((label >> 16) as u16, label as u16);
        let Some((schema, dispatcher)) = find(&self.dispatchers, id) else {
            self.doubt_refusal(&caller);
            return Some((reply, Answer::status(Status::UnknownInterface)));
        };
        let schema: &'static Schema = schema;
        if caller.redelivered
            && let Some(answer) = self.answer_redelivered(caller, contract_of(schema, method))
        {
            return Some((reply, answer));
        }
        let slot = self.slots.peek();
        // Without a slot it is polled once more when there is one.
        let waker = slot.map_or(Waker::noop(), |slot| self.slots.waker(slot));
        let request = Arguments {
            payload,
            handles,
            caller,
            output: &self.output,
            places: &self.places,
        };
        match dispatcher.start(method, request, &mut Context::from_waker(waker)) {
            Ok(Started::Done(answer)) => {
                if schema.is_looked_at {
                    self.check_reply(looked_at(schema, method), &answer);
                }
                if self.journal.is_some() {
                    self.journal_answer(caller, contract_of(schema, method), &answer);
                }
                Some((reply, answer))
            }
            Ok(Started::Waits(future)) => {
                self.keep_request(Request {
                    future,
                    caller,
                    contract: contract_of(schema, method),
                    method: looked_at(schema, method),
                    reply,
                    since: time::now().max(1),
                });
                None
            }
            Err(Status::UnknownMethod) if method == HANDSHAKE => {
                Some((reply, handshake(schema, payload, &self.output)))
            }
            Err(status) => {
                self.doubt_refusal(&caller);
                Some((reply, Answer::status(status)))
            }
        }
    }

    /// Ends this instance if a reply, on its way from where it was written, has become one that the
    /// method cannot have, or cannot be read by a client that could not ask once more: the next instance
    /// gets the request again, and knows what was done.
    #[inline]
    fn check_reply(&self, method: Option<&Method>, answer: &Answer) {
        let Some(method) = method else { return };
        let is_whole = self
            .output
            .with(answer.len(), |bytes| is_whole(method, answer, bytes));
        assert!(is_whole, "a reply cannot be read");
    }

    /// Keeps a request that has to wait.
    fn keep_request(&mut self, request: Request<R>) {
        assert!(!self.never_waits, "a request waits for what is not known");
        let since = request.since;
        self.keep(Task::Request(request));
        self.publish_requests(self.requests + 1);
        if self.oldest == 0 {
            self.publish_oldest(since);
        }
    }

    /// Puts a task that has to wait into the slot whose waker it has, if there is one.
    fn keep(&mut self, task: Task<R>) {
        match self.slots.reserve() {
            Some(slot) => self.slots.put(slot, task),
            None => self.waiting.push_back(task),
        }
    }

    /// Tells `init` since when the oldest request waits.
    fn publish_oldest(&mut self, since: u64) {
        self.oldest = since;
        if let Some(page) = service::page() {
            page.set_oldest_request(since);
        }
    }

    /// Tells `init` how many requests wait: the kernel knows how many should.
    fn publish_requests(&mut self, requests: u64) {
        self.requests = requests;
        if let Some(page) = service::page() {
            page.set_requests(requests);
        }
    }

    /// Counts the requests that wait, and finds the oldest, after some have gone.
    fn count_requests(&mut self) {
        let tasks = self.slots.tasks().chain(&self.waiting);
        let (mut requests, mut oldest) = (0, 0);
        for task in tasks {
            if let Task::Request(request) = task {
                requests += 1;
                if oldest == 0 || request.since < oldest {
                    oldest = request.since;
                }
            }
        }
        if requests != self.requests {
            self.publish_requests(requests);
        }
        if oldest != self.oldest {
            self.publish_oldest(oldest);
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
    fn answer_redelivered(&self, caller: Caller, contract: Contract) -> Option<Answer> {
        match contract {
            Contract::Idempotent => None,
            Contract::FailsOnRestart => Some(Answer::status(Status::Restarted)),
            Contract::ExactlyOnce => {
                let journal = self.journal.as_ref()?;
                let stored = journal.lookup(caller.badge, caller.sequence)?;
                let Ok(bytes) = self.output.write_with(|page| {
                    // Only what came from this page was stored.
                    let bytes = stored.len().min(page.len());
                    page[..bytes].copy_from_slice(&stored[..bytes]);
                    Ok::<_, Infallible>(bytes)
                });
                Some(Answer {
                    status: Status::Answer,
                    bytes: bytes as u32,
                    handles: None,
                })
            }
        }
    }

    fn poll_request(&mut self, slot: usize, mut request: Request<R>) -> Option<(R, Answer)> {
        let mut context = Context::from_waker(self.slots.waker(slot));
        match request.future.poll(&mut context) {
            Poll::Pending => {
                self.slots.put(slot, Task::Request(request));
                None
            }
            Poll::Ready(answer) => {
                self.slots.release(slot);
                self.check_reply(request.method, &answer);
                self.journal_answer(request.caller, request.contract, &answer);
                self.places.recycle(request.future);
                if request.since == self.oldest {
                    self.count_requests();
                } else {
                    self.publish_requests(self.requests.saturating_sub(1));
                }
                Some((request.reply, answer))
            }
        }
    }

    /// Stores the reply of an `#[exactly_once]` method before anyone sees it. One with handles
    /// is not stored: they would die with this process.
    fn journal_answer(&self, caller: Caller, contract: Contract, answer: &Answer) {
        let is_stored = contract == Contract::ExactlyOnce
            && answer.status == Status::Answer
            && answer.handles.is_none();
        if let (true, Some(journal)) = (is_stored, &self.journal) {
            self.output.with(answer.len(), |bytes| {
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

/// With its schema, so that it needs not be asked for it.
type Served = (&'static Schema, Box<dyn Dispatch>);

/// Finds the dispatcher of an interface.
#[inline]
fn find(dispatchers: &[Served], id: u16) -> Option<&Served> {
    match dispatchers.first() {
        // Most servers have one, and it would be a loop.
        Some(first) if first.0.id == id => Some(first),
        _ => dispatchers.iter().find(|(schema, _)| schema.id == id),
    }
}

/// Returns what the method promises; one that there is not promises nothing.
fn contract_of(schema: &Schema, method: u16) -> Contract {
    let known = schema.methods.get(usize::from(method));
    known.map_or(Contract::Idempotent, |method| method.contract)
}

/// Returns the method, if its replies are looked at.
#[inline]
fn looked_at(schema: &'static Schema, method: u16) -> Option<&'static Method> {
    let method = schema.methods.get(usize::from(method));
    method.filter(|_| schema.is_looked_at)
}

/// Compares the client's schema with ours.
#[cold]
fn handshake(ours: &Schema, payload: Payload<'_>, output: &Output) -> Answer {
    let Ok(theirs) = payload.decode::<Hello<String>>() else {
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
    if welcome.is_err() {
        // No program of the same tree gets that.
        crate::doubt_this_side("handshake");
    }
    output.write(&welcome)
}
