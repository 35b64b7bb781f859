//! A client and a server in one thread, without a kernel: for tests on the host.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use libsys::Error;
use libsys::abi::FOREVER;
use libsys::ipc::Incoming;

use crate::client::Client;
use crate::events::Events;
use crate::server::dispatch::{Answer, Core, Delivery, Dispatch, Payload, Polled};
use crate::server::{Caller, ReplyJournal};
use crate::wire::{InHandles, OutHandles};

/// What went over the wire in one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Label of the request.
    pub label: u32,
    /// Payload of the request.
    pub request: Vec<u8>,
    /// Label of the reply.
    pub status: u32,
    /// Payload of the reply.
    pub reply: Vec<u8>,
}

/// A reply as the client gets it.
#[derive(Debug)]
pub struct LoopbackReply {
    /// Its label.
    pub label: u32,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its handles: the same numbers that went in.
    pub handles: InHandles,
}

/// A reply that nobody has taken yet.
struct Finished {
    token: u64,
    label: u32,
    payload: Vec<u8>,
    handles: OutHandles,
}

/// Some dispatchers, and the clients that call them.
///
/// Handles are numbers that name nothing here: they arrive as they were sent.
pub struct Loopback {
    core: RefCell<Core<u64>>,
    events: Events,
    badge: Cell<u64>,
    redelivered: Cell<bool>,
    sequence: Cell<u64>,
    exchanges: RefCell<Vec<Exchange>>,
    finished: RefCell<Vec<Finished>>,
    /// Requests whose callers do not wait any more.
    abandoned: RefCell<Vec<u64>>,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Default for Loopback {
    fn default() -> Self {
        let events = Events::new(None);
        Loopback {
            core: RefCell::new(Core::new(events.clone())),
            events,
            badge: Cell::new(1),
            redelivered: Cell::new(false),
            sequence: Cell::new(0),
            exchanges: RefCell::default(),
            finished: RefCell::default(),
            abandoned: RefCell::default(),
        }
    }
}

impl Loopback {
    /// Makes a loopback to this server.
    pub fn new(dispatcher: impl Dispatch + 'static) -> Rc<Loopback> {
        let loopback = Loopback::default();
        loopback.add(dispatcher);
        Rc::new(loopback)
    }

    /// Serves another interface too.
    pub fn add(&self, dispatcher: impl Dispatch + 'static) {
        self.add_boxed(Box::new(dispatcher));
    }

    /// Serves another interface too, of which only the dispatcher is known.
    pub fn add_boxed(&self, dispatcher: Box<dyn Dispatch>) {
        self.core.borrow_mut().add(dispatcher);
    }

    /// Keeps replies of `#[exactly_once]` methods.
    pub fn set_journal(&self, journal: Rc<dyn ReplyJournal>) {
        self.core.borrow_mut().set_journal(journal);
    }

    /// See [`Server::never_waits`](crate::server::Server::never_waits).
    pub fn never_waits(&self) {
        self.core.borrow_mut().set_never_waits();
    }

    /// Makes a client, for `XClient::from_client`.
    pub fn client(self: &Rc<Self>) -> Client {
        Client::loopback(Rc::clone(self))
    }

    /// Returns the way of tasks into the loop, for servers that need one.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Returns whether a task waits for a time.
    pub fn waits_for_time(&self) -> bool {
        self.events.next_deadline() != FOREVER
    }

    /// Sets the badge of the requests that follow.
    pub fn set_badge(&self, badge: u64) {
        self.badge.set(badge);
    }

    /// Has the requests that follow come as those that an earlier instance had.
    pub fn redeliver(&self) {
        self.redelivered.set(true);
    }

    /// Returns and forgets what went over the wire.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.take()
    }

    /// Returns how often the server would have ended itself, so that the next instance answers.
    pub fn suspects(&self) -> u32 {
        self.core.borrow().output().suspects()
    }

    /// Sets notification bits and lets tasks run.
    pub fn raise(&self, bits: u64) {
        self.events.raise(bits);
        self.run();
    }

    /// Tells what time it is and lets tasks run.
    pub fn advance(&self, now: u64) {
        self.events.advance(now);
        self.run();
    }

    /// Lets tasks run until none wants to.
    pub fn run(&self) {
        loop {
            let polled = self.core.borrow_mut().poll_next();
            match polled {
                Polled::Idle => return,
                Polled::Ran => {}
                Polled::Done(token, answer) => self.finish(token, answer),
            }
        }
    }

    /// Delivers a request without waiting; its number is what [`Loopback::take`] wants.
    pub fn submit(&self, label: u32, caller: Caller, payload: &[u8], handles: OutHandles) -> u64 {
        let token = self.sequence.get() + 1;
        self.sequence.set(token);
        let arrived: Vec<_> = handles
            .iter()
            .map(|handle| (handle.raw, handle.kind))
            .collect();
        handles.release();
        let mut handles = InHandles::new(Incoming::new(&arrived));
        let delivery = Delivery {
            label,
            caller,
            payload: Payload::Bytes(payload),
            handles: &mut handles,
            reply: token,
        };
        let mut core = self.core.borrow_mut();
        let abandoned = self.abandoned.borrow();
        core.drop_abandoned(caller.badge, |token| !abandoned.contains(token));
        let answer = core.deliver(delivery);
        drop(core);
        if let Some((token, answer)) = answer {
            self.finish(token, answer);
        }
        self.run();
        token
    }

    /// Has the caller of a submitted request give up, or die.
    pub fn abandon(&self, token: u64) {
        self.abandoned.borrow_mut().push(token);
    }

    /// Takes the reply of a submitted request, if it is done.
    pub fn take(&self, token: u64) -> Option<LoopbackReply> {
        let mut finished = self.finished.borrow_mut();
        let place = finished.iter().position(|other| other.token == token)?;
        let Finished {
            label,
            payload,
            handles,
            ..
        } = finished.swap_remove(place);
        let arrived: Vec<_> = handles
            .iter()
            .map(|handle| (handle.raw, handle.kind))
            .collect();
        handles.release();
        let handles = InHandles::new(Incoming::new(&arrived));
        Some(LoopbackReply {
            label,
            payload,
            handles,
        })
    }

    /// Calls and returns the reply.
    ///
    /// # Errors
    ///
    /// `Timeout` when the request waits for something, as if a deadline had passed: raise it
    /// first.
    pub fn call(
        &self,
        label: u32,
        payload: &[u8],
        handles: OutHandles,
    ) -> Result<LoopbackReply, Error> {
        let sequence = self.sequence.get() + 1;
        let caller = Caller {
            badge: self.badge.get(),
            sequence,
            redelivered: self.redelivered.get(),
        };
        let token = self.submit(label, caller, payload, handles);
        let Some(reply) = self.take(token) else {
            self.abandon(token);
            return Err(Error::Timeout);
        };
        self.exchanges.borrow_mut().push(Exchange {
            label,
            request: payload.to_vec(),
            status: reply.label,
            reply: reply.payload.clone(),
        });
        Ok(reply)
    }

    fn finish(&self, token: u64, answer: Answer) {
        let output = self.core.borrow().output().clone();
        let payload = output.with(answer.len(), <[u8]>::to_vec);
        self.finished.borrow_mut().push(Finished {
            token,
            label: answer.status as u32,
            payload,
            handles: answer
                .handles
                .map_or_else(OutHandles::new, |handles| *handles),
        });
    }
}
