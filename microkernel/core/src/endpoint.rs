//! The state machine of an endpoint: who waits, and in which order.
//!
//! A caller waits in `callers` until a receiver takes its request; from then on it is in no list,
//! only marked as served, until the reply. Each call draws a ticket. A request whose receiver died
//! goes back to the place that its ticket says, in front of all that came later.

use skink_abi::MAX_REQUEST_CRASHES;

use crate::Id;
use crate::list::{List, Nodes, Stack};

/// Gives access to what an endpoint keeps about each caller.
pub trait Callers: Nodes {
    /// Returns the ticket that the caller drew when its call arrived.
    fn ticket(&self, id: Id) -> u64;
    /// Notes the ticket of a caller.
    fn set_ticket(&self, id: Id, ticket: u64);
    /// Returns how many receivers crashed while they held the caller's request.
    fn crashes(&self, id: Id) -> u8;
    /// Notes how many receivers crashed while they held the caller's request.
    fn set_crashes(&self, id: Id, crashes: u8);
}

/// What comes of a new call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// This receiver waited and gets the request now; the caller is served, in no list.
    Deliver(Id),
    /// The caller waits for a receiver.
    Queued,
}

/// Why a receiver let go of a request without answering it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandon {
    /// Its process was ended from outside: not the request's fault.
    Killed,
    /// Its process faulted or panicked: perhaps the request's fault.
    Crashed,
}

/// What becomes of a request whose receiver died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requeue {
    /// It waits again, in its old place, to be redelivered.
    Again,
    /// It crashed its server too often and must be failed.
    Poisoned,
}

/// Who waits on an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    callers: List,
    receivers: Stack,
    next_ticket: u64,
}

impl Endpoint {
    /// Offset of the first waiting caller, for code in assembly.
    pub const FIRST_CALLER: usize = core::mem::offset_of!(Endpoint, callers) + List::FIRST;
    /// Offset of the receiver that gets the next request, for code in assembly.
    pub const NEXT_RECEIVER: usize = core::mem::offset_of!(Endpoint, receivers) + Stack::TOP;
    /// Offset of the next ticket, for code in assembly.
    pub const NEXT_TICKET: usize = core::mem::offset_of!(Endpoint, next_ticket);

    /// An endpoint on which nobody waits.
    pub const NEW: Endpoint = Endpoint {
        callers: List::EMPTY,
        receivers: Stack::EMPTY,
        next_ticket: 0,
    };

    /// Takes a new call: pairs it with a waiting receiver or queues it.
    #[inline(always)]
    pub fn arrive(&mut self, nodes: &impl Callers, caller: Id) -> Arrival {
        nodes.set_ticket(caller, self.next_ticket);
        nodes.set_crashes(caller, 0);
        self.next_ticket += 1;
        match self.receivers.pop(nodes) {
            Some(receiver) => Arrival::Deliver(receiver),
            None => {
                self.callers.push_back(nodes, caller);
                Arrival::Queued
            }
        }
    }

    /// Takes the first waiting request for a receiver that is ready for it.
    pub fn take(&mut self, nodes: &impl Callers) -> Option<Id> {
        self.callers.pop_front(nodes)
    }

    /// Lets a receiver wait. Of several the last one gets the next request: its memory is the most
    /// likely to be in the caches.
    #[inline(always)]
    pub fn wait(&mut self, nodes: &impl Callers, receiver: Id) {
        self.receivers.push(nodes, receiver);
    }

    /// Takes a waiting receiver, for news that is no request.
    pub fn take_receiver(&mut self, nodes: &impl Callers) -> Option<Id> {
        self.receivers.pop(nodes)
    }

    /// Returns the receiver that gets the next request.
    pub const fn next_receiver(&self) -> Option<Id> {
        self.receivers.top()
    }

    /// Returns whether a receiver waits.
    pub const fn has_receiver(&self) -> bool {
        self.receivers.top().is_some()
    }

    /// Returns whether a request waits.
    pub const fn has_caller(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Forgets a receiver that no longer waits.
    pub fn forget_receiver(&mut self, nodes: &impl Callers, receiver: Id) {
        self.receivers.remove(nodes, receiver);
    }

    /// Forgets a caller whose request nobody holds.
    pub fn forget_caller(&mut self, nodes: &impl Callers, caller: Id) {
        self.callers.remove(nodes, caller);
    }

    /// Deals with a request whose receiver died holding it. A poisoned one stays in no list; the
    /// others wait in the order of their tickets.
    pub fn abandon(&mut self, nodes: &impl Callers, caller: Id, how: Abandon) -> Requeue {
        if how == Abandon::Crashed {
            let crashes = nodes.crashes(caller).saturating_add(1);
            nodes.set_crashes(caller, crashes);
            if crashes >= MAX_REQUEST_CRASHES {
                return Requeue::Poisoned;
            }
        }
        self.put_back(nodes, caller);
        Requeue::Again
    }

    /// Puts back a request that could not be delivered after all.
    pub fn undo(&mut self, nodes: &impl Callers, caller: Id) {
        self.put_back(nodes, caller);
    }

    fn put_back(&mut self, nodes: &impl Callers, caller: Id) {
        let ticket = nodes.ticket(caller);
        // Requests that come back are older than almost all that wait, so this walk is short: it
        // passes only those that came back before.
        let later = self
            .callers
            .iter(nodes)
            .find(|&other| nodes.ticket(other) > ticket);
        self.callers
            .insert_before(nodes, later.unwrap_or(crate::NONE), caller);
    }
}

#[cfg(test)]
pub(crate) mod tests;
