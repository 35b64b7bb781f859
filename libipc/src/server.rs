//! The event loop of a server: many requests in flight in one thread.
//!
//! A request becomes a task that is polled at once. When it ends in that poll, its reply and the
//! wait for the next message are one system call. Otherwise the loop goes on and the reply is
//! sent when the task ends. A task whose caller died or gave up is dropped at the latest before
//! the next request of the same badge runs: it may end at any `await`. Tasks wait for notification
//! bits, time and each other through [`Events`]; a synchronous call to a lower server stops the
//! whole loop.
//!
//! A reply is written to the IPC page and is sent before anything else that passes through there.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use libsys::abi::{FOREVER, FaultMessage, Info, MapItem};
use libsys::ipc::{self, Outgoing, Received, Request, Words};
use libsys::{Endpoint, Error, Handle, Notification, Reply, service, time};

use crate::events::Events;
use crate::gate;
use crate::wire::{InHandles, OutHandles};

pub(crate) mod dispatch;
mod fault;
mod journal;
mod replies;
mod rest;

pub use dispatch::{Answer, Arguments, Dispatch, Output, Payload, RequestFuture, Started};
pub use fault::Fault;
pub use journal::{MemoryJournal, ReplyJournal};
pub use replies::{HasReplies, MAX_REPLIES, MAX_REPLIES_PER_BADGE, RegionJournal, Replies};

use dispatch::{Core, Delivery, Polled};
use fault::Outcome;
use rest::Rest;

/// Notification bit by which `init` asks the service to come to rest.
pub const QUIESCE_BIT: u8 = 62;

/// How long a server without room for a request's handles waits before it looks again, ns.
const NO_ROOM_PAUSE_NS: u64 = time::MS;

/// Most tasks polled before the loop looks for new messages.
const POLLS_PER_TURN: usize = 64;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// The badge of its sender: who it is, set by who minted the sender.
    pub badge: u64,
    /// Counts the requests of the sender; the same when redelivered.
    pub sequence: u64,
    /// Whether an earlier instance of this server died holding the request.
    pub redelivered: bool,
}

/// Answers page faults; see [`Server::on_fault`].
type FaultHandler = dyn FnMut(&Fault) -> Option<MapItem>;

/// Own checks of a version on trial; see [`Server::on_self_test`].
type SelfTest = dyn FnMut() -> Result<(), &'static str>;

/// A server on one endpoint.
pub struct Server {
    endpoint: Rc<Handle<Endpoint>>,
    core: Core<Handle<Reply>>,
    closed: Vec<Box<dyn FnMut(u64)>>,
    fault: Option<Box<FaultHandler>>,
    self_tests: Vec<Box<SelfTest>>,
    rest: Rest,
    /// A reply that goes out with the next wait.
    held: Option<ipc::Answer>,
    /// Whether replies are looked at until they are sent.
    is_compared: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server and binds the notification to its endpoint.
    pub fn new(endpoint: Handle<Endpoint>, notification: Handle<Notification>) -> Server {
        if let Err(error) = notification.bind(&endpoint) {
            log::error!("notification not bound, its bits will not arrive: {error}");
        }
        Server {
            endpoint: Rc::new(endpoint),
            core: Core::new(Events::new(Some(notification))),
            closed: Vec::new(),
            fault: None,
            self_tests: Vec::new(),
            rest: Rest::default(),
            held: None,
            is_compared: false,
        }
    }

    /// Returns the way of tasks into the loop.
    pub fn events(&self) -> Events {
        self.core.events().clone()
    }

    /// Returns the endpoint, for minting senders.
    pub fn endpoint(&self) -> Rc<Handle<Endpoint>> {
        Rc::clone(&self.endpoint)
    }

    /// Serves another interface on the same endpoint.
    pub fn add(&mut self, dispatcher: impl Dispatch + 'static) {
        self.core.add(Box::new(dispatcher));
    }

    /// Keeps replies of `#[exactly_once]` methods.
    pub fn set_journal(&mut self, journal: Rc<dyn ReplyJournal>) {
        self.core.set_journal(journal);
    }

    /// Says that all requests are answered at once: one that would wait ends this instance, for the
    /// next one to answer it.
    pub fn never_waits(&mut self) {
        self.core.set_never_waits();
    }

    /// Runs `f` when the last sender with a badge was closed. The news comes again after a crash
    /// until all such functions have run.
    pub fn on_closed(&mut self, f: impl FnMut(u64) + 'static) {
        self.closed.push(Box::new(f));
    }

    /// Runs `f` for page faults of the processes whose pager this server is. It does not wait:
    /// the range that it returns is mapped at once, or the process is ended.
    pub fn on_fault(&mut self, f: impl FnMut(&Fault) -> Option<MapItem> + 'static) {
        self.fault = Some(Box::new(f));
    }

    /// Runs `f` before a new version of a service takes over from the one that serves: an error
    /// tells why it cannot. It must not change anything that others see.
    pub fn on_self_test(&mut self, f: impl FnMut() -> Result<(), &'static str> + 'static) {
        self.self_tests.push(Box::new(f));
    }

    /// Runs `f` at rest when the next version keeps its state in the schema with this hash, which
    /// is not the one of this version: it rewrites the state region in it. Where that is not
    /// possible the next version has to read what is there.
    pub fn on_export(&mut self, f: impl FnMut(u64) -> Result<(), &'static str> + 'static) {
        self.rest.export = Some(Box::new(f));
    }

    /// Runs `f` when this version goes on after it was at rest.
    pub fn on_resume(&mut self, f: impl FnMut() + 'static) {
        self.rest.resume = Some(Box::new(f));
    }

    /// Serves for ever. Ends the process if the endpoint is gone.
    pub fn run(mut self, dispatcher: impl Dispatch + 'static) -> ! {
        self.add(dispatcher);
        self.serve()
    }

    /// As [`Server::run`], with the dispatchers that were added.
    pub fn serve(mut self) -> ! {
        let schemas: Vec<_> = self.core.schemas().collect();
        self.is_compared = schemas.iter().any(|schema| schema.is_compared);
        gate::pass(&schemas, || self.test_self());
        let page = service::page();
        if let Some(page) = page {
            page.set_ready();
        }
        loop {
            if let Some(page) = page {
                page.beat();
            }
            let deadline = self.turn();
            if !self.core.has_room() {
                self.wait_for_room(deadline);
                continue;
            }
            if self.rest.is_due {
                self.attend();
                continue;
            }
            // All arms are here and not behind another call: that would cost copies of the message.
            match ipc::answer_and_receive(self.held.take(), &self.endpoint, deadline) {
                Ok((Received::Request(request), words)) => self.handle_request(request, &words),
                Ok((Received::Fault(request), words)) => self.handle_fault(request, &words),
                Ok((Received::Notification(bits), _)) => self.handle_bits(bits),
                Ok((Received::Closed(badge), _)) => self.handle_closed(badge),
                Err(error) => handle_failure(error),
            }
        }
    }

    /// Does what is due before the loop waits. Returns until when to wait for a message.
    #[inline]
    fn turn(&mut self) -> u64 {
        if self.core.events().next_deadline() != FOREVER {
            self.core.events().advance(time::now());
        }
        if self.core.has_ready() {
            return self.run_tasks();
        }
        self.core.events().next_deadline()
    }

    /// Polls tasks that want to run, within limits. Returns until when to wait for a message. Apart,
    /// so that [`Server::turn`] saves no registers where no task wants to run.
    #[inline(never)]
    fn run_tasks(&mut self) -> u64 {
        let mut turns = 0;
        while self.core.has_ready() {
            if turns == POLLS_PER_TURN {
                return 0;
            }
            turns += 1;
            self.run_task();
        }
        self.core.events().next_deadline()
    }

    /// Polls the next task that wants to run.
    fn run_task(&mut self) {
        // The next reply is written to the same place.
        self.flush();
        match self.core.poll_next() {
            Polled::Idle | Polled::Ran => {}
            Polled::Done(reply, answer) => self.answer(reply, answer),
        }
    }

    /// Waits without taking requests, of which there must be as many in flight as can be. Nobody finds
    /// a server that waits for nothing.
    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, deadline: u64) {
        assert!(!self.core.has_room(), "there is room for requests");
        self.park(deadline);
    }

    /// Waits without taking requests: there are as many in flight as can be, or no more are wanted.
    #[cold]
    fn park(&mut self, deadline: u64) {
        self.flush();
        let notification = self.core.events().notification();
        let bits = notification
            .ok_or(Error::Unavailable)
            .and_then(|notification| ipc::wait(notification, deadline));
        match bits {
            Ok(bits) => self.handle_bits(bits),
            Err(error) => handle_failure(error),
        }
    }

    fn handle_bits(&mut self, bits: u64) {
        if bits >> QUIESCE_BIT & 1 == 1 {
            self.rest.ask();
        }
        self.core.events().raise(bits & !(1 << QUIESCE_BIT));
    }

    #[inline]
    fn handle_request(&mut self, request: Request, words: &Words) {
        let Request {
            info,
            badge,
            sequence,
            reply,
            handles,
        } = request;
        let caller = Caller {
            badge,
            sequence,
            redelivered: info.has(Info::REDELIVERED),
        };
        let (mut none, mut some);
        let handles = if info.handles() == 0 {
            // Moving them and looking for some to close would take as long as all the rest here.
            core::mem::forget(handles);
            none = InHandles::default();
            &mut none
        } else {
            some = InHandles::new(handles);
            &mut some
        };
        self.core.drop_abandoned(badge, Handle::<Reply>::is_awaited);
        let answered = self.core.deliver(Delivery {
            label: info.label(),
            caller,
            payload: Payload::Message(info, words),
            handles,
            reply,
        });
        if let Some((reply, answer)) = answered {
            self.answer(reply, answer);
        }
    }

    fn handle_closed(&mut self, badge: u64) {
        for f in &mut self.closed {
            f(badge);
        }
        if let Some(journal) = self.core.journal() {
            journal.forget(badge);
        }
        if let Err(error) = self.endpoint.forget(badge) {
            log::warn!("news of closed badge {badge:#x} not forgotten: {error}");
        }
    }

    #[inline]
    fn handle_fault(&mut self, request: Request, words: &Words) {
        let [address, instruction, code, ..] = words.0;
        let fault = Fault {
            badge: request.badge,
            sequence: request.sequence,
            redelivered: request.is_redelivered(),
            message: FaultMessage {
                address,
                instruction,
                code,
            },
        };
        // The kernel passes no handles.
        core::mem::forget(request.handles);
        let item = self.fault.as_mut().and_then(|f| f(&fault));
        let (outcome, bytes) = match item {
            Some(item) => {
                let output = self.core.output();
                let bytes = output.write_words(|page| fault::write_item(&item, page));
                (Outcome::Mapped, bytes)
            }
            None => (Outcome::Refused, 0),
        };
        self.hold(ipc::Answer {
            reply: request.reply,
            info: Info::new(outcome as u32, bytes, 0),
            is_compared: false,
        });
    }

    /// Sends a reply, or holds it to send it with the next wait.
    #[inline]
    fn answer(&mut self, reply: Handle<Reply>, answer: Answer) {
        let (label, bytes) = (answer.status as u32, answer.bytes as usize);
        if let Some(handles) = answer.handles {
            return answer_with_handles(reply, label, bytes, *handles);
        }
        self.hold(ipc::Answer {
            reply,
            info: Info::new(label, bytes, 0),
            is_compared: self.is_compared,
        });
    }

    /// Holds a reply to send it with the next wait. One that was held before is sent by then: to drop
    /// it would be to fail a caller for a mistake of this process.
    #[inline]
    fn hold(&mut self, answer: ipc::Answer) {
        assert!(self.held.is_none(), "a reply is held over another");
        self.held = Some(answer);
    }

    /// Sends the reply that is held.
    fn flush(&mut self) {
        let Some(answer) = self.held.take() else {
            return;
        };
        let (label, bytes) = (answer.info.label(), answer.info.bytes());
        match ipc::reply(answer.reply, label, bytes, &Outgoing::NONE) {
            Ok(()) | Err(Error::ReplyGone) => {}
            // As where it goes out with the wait: the next instance answers.
            Err(error) => handle_failure(error),
        }
    }
}

#[cold]
fn answer_with_handles(reply: Handle<Reply>, label: u32, bytes: usize, handles: OutHandles) {
    match ipc::reply(reply, label, bytes, &handles.outgoing()) {
        Ok(()) => handles.release(),
        Err(Error::ReplyGone) => {}
        Err(error) => log::warn!("reply with handles not sent: {error}"),
    }
}

/// Deals with a failed wait, if the server can go on.
#[cold]
fn handle_failure(error: Error) {
    match error {
        Error::Timeout | Error::WouldBlock => {}
        Error::NoMemory | Error::TooManyHandles => {
            // The request waits on; it fits when handles of others have been closed.
            log::warn!("no room for a request's handles: {error}");
            time::sleep(NO_ROOM_PAUSE_NS);
        }
        error => {
            log::error!("cannot receive, ending: {error}");
            end();
        }
    }
}

/// Ends the process.
#[cfg(bare)]
fn end() -> ! {
    libsys::runtime::exit(1)
}

/// On the host nothing is ever received.
#[cfg(not(bare))]
fn end() -> ! {
    panic!("servers run in the guest only: test the dispatcher through a loopback")
}
