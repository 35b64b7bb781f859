//! Endpoints and senders as kernel objects.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use skink_abi::Info;
use skink_kcore::endpoint::Endpoint as Waits;
use skink_kcore::list::{Links, List, Nodes};
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::entry::Word;
use crate::arena::{Arena, Object};
use crate::cell::{Field, LinkFields};
use crate::lock::{Held, Lock, level};
use crate::notification::NOTIFICATIONS;
use crate::object;
use crate::sched::{self, Urgency};
use crate::thread::{THREADS, Thread, ThreadNodes, Wait, WaitState};

/// An endpoint: where requests and their receivers meet. Its lock comes first: code in assembly
/// relies on it.
#[repr(C)]
pub(crate) struct Endpoint {
    pub(crate) state: Lock<EndpointState, { level::ENDPOINT }>,
    /// Handles of the receive side.
    pub(crate) receive_handles: AtomicU32,
    /// What its callers wait for ([`WaitState`]). Set once, as the next.
    reply_wait: Field,
    /// What its receivers wait for.
    message_wait: Field,
}

/// Where code in assembly finds the fields of an endpoint.
pub(crate) mod offsets {
    use core::mem::offset_of;

    use super::{Endpoint, EndpointState, Lock, Waits, level};

    const STATE: usize = Lock::<EndpointState, { level::ENDPOINT }>::DATA;
    const WAITS: usize = STATE + offset_of!(EndpointState, waits);
    pub(crate) const FIRST_CALLER: usize = WAITS + Waits::FIRST_CALLER;
    pub(crate) const NEXT_RECEIVER: usize = WAITS + Waits::NEXT_RECEIVER;
    pub(crate) const NEXT_TICKET: usize = WAITS + Waits::NEXT_TICKET;
    pub(crate) const HAS_NEWS: usize = STATE + offset_of!(EndpointState, has_news);
    pub(crate) const REPLY_WAIT: usize = offset_of!(Endpoint, reply_wait);
    pub(crate) const MESSAGE_WAIT: usize = offset_of!(Endpoint, message_wait);
    pub(crate) const SENDER_ENDPOINT: usize = offset_of!(super::Sender, address);
    pub(crate) const SENDER_BADGE: usize = offset_of!(super::Sender, badge);
}

/// The endpoint of senders that were revoked, on which nobody ever waits.
static NOWHERE: Endpoint = Endpoint::NEW;

/// What an endpoint's lock guards.
pub(crate) struct EndpointState {
    /// Callers and receivers.
    pub(crate) waits: Waits,
    /// Whether anyone can ever receive.
    pub(crate) is_open: bool,
    /// Whether there may be something for a receiver that is no request: bits, a closed sender, or
    /// that the endpoint is closed. Who has such news sets it when no receiver waits.
    pub(crate) has_news: bool,
    /// The notification whose bits receivers get, or [`NONE`]; a reference is held.
    pub(crate) notification: Id,
    /// Closed senders of which no receiver was told.
    closed: List,
    /// Closed senders of which a receiver was told; it has not said that it dealt with them.
    told: List,
}

/// The send side of an endpoint, as one minting made it: all handles that were duplicated from
/// that one share it.
pub(crate) struct Sender {
    /// The endpoint; a reference is held.
    pub(crate) endpoint: Field,
    /// What tells the receiver who calls.
    pub(crate) badge: Word,
    /// Address of the endpoint while it is open, else of [`NOWHERE`]: the fast path goes by this.
    address: AtomicU64,
    links: LinkFields,
}

impl Object for Endpoint {
    const ARENA: u64 = 2;
    const NEW: Endpoint = Endpoint {
        state: Lock::new(EndpointState::NEW),
        receive_handles: AtomicU32::new(0),
        reply_wait: Field::new(0),
        message_wait: Field::new(0),
    };
}

impl Object for Sender {
    const ARENA: u64 = 3;
    const NEW: Sender = Sender {
        endpoint: Field::new(NONE),
        badge: Word::ZERO,
        address: AtomicU64::new(0),
        links: LinkFields::new(),
    };
}

/// All endpoints.
pub(crate) static ENDPOINTS: Arena<Endpoint> = Arena::new();
/// All senders.
pub(crate) static SENDERS: Arena<Sender> = Arena::new();

struct SenderNodes;

impl Nodes for SenderNodes {
    fn links(&self, id: Id) -> Links {
        SENDERS.get(id).links.get()
    }

    fn set_links(&self, id: Id, links: Links) {
        SENDERS.get(id).links.set(links);
    }
}

impl Endpoint {
    /// Makes a place ready for a new endpoint with one handle.
    pub(crate) fn reset(&self, held: &mut Held<0>, id: Id) {
        *self.state.lock(held) = EndpointState::NEW;
        self.receive_handles.store(1, Ordering::Relaxed);
        self.reply_wait.set(WaitState::new(Wait::Reply, id).word());
        self.message_wait
            .set(WaitState::new(Wait::Message, id).word());
    }
}

impl Sender {
    /// Makes a place ready for a new sender of an endpoint.
    pub(crate) fn reset(&self, endpoint: Id, badge: u64) {
        self.endpoint.set(endpoint);
        self.badge.set(badge);
        let address = core::ptr::from_ref(ENDPOINTS.get(endpoint)) as u64;
        self.address.store(address, Ordering::Release);
    }

    /// Returns whether it was not revoked.
    pub(crate) fn is_open(&self) -> bool {
        self.address.load(Ordering::Acquire) != (&raw const NOWHERE) as u64
    }

    /// Revokes it: its handles no longer reach the endpoint.
    pub(crate) fn close(&self) {
        self.address
            .store((&raw const NOWHERE) as u64, Ordering::Release);
    }
}

impl EndpointState {
    /// State of a new endpoint.
    pub(crate) const NEW: EndpointState = EndpointState {
        waits: Waits::NEW,
        is_open: true,
        has_news: false,
        notification: NONE,
        closed: List::EMPTY,
        told: List::EMPTY,
    };

    /// Gives a receiver that is owned and not waiting what is no request: bits of the
    /// notification, or a closed badge. Returns whether there was any.
    pub(crate) fn take_news(&mut self, receiver: &Thread) -> bool {
        let registers = &receiver.registers;
        if self.notification != NONE {
            let bits = NOTIFICATIONS.get(self.notification).take_bits();
            if bits != 0 {
                registers.rax.set(0);
                registers.rsi.set(Info::new(0, 8, 0).0 | Info::NOTIFICATION);
                registers.rdx.set(0);
                registers.rdi.set(0);
                registers.set_payload(&[bits]);
                return true;
            }
        }
        let Some(sender) = self.closed.pop_front(&SenderNodes) else {
            self.has_news = !self.is_open;
            return false;
        };
        self.told.push_back(&SenderNodes, sender);
        registers.rax.set(0);
        registers.rsi.set(Info::default().0 | Info::CLOSED);
        registers.rdx.set(SENDERS.get(sender).badge.get());
        registers.rdi.set(0);
        registers.set_payload(&[]);
        true
    }
}

/// Lets a waiting receiver have news that has just come. Returns whether one got it.
pub(crate) fn offer_news<const H: u8>(held: &mut Held<H>, endpoint: Id, urgency: Urgency) -> bool {
    let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
    guard.has_news = true;
    let Some(receiver) = guard.waits.take_receiver(&ThreadNodes) else {
        return false;
    };
    let thread = THREADS.get(receiver);
    if guard.take_news(thread) {
        thread.set_wait(Wait::Nothing, NONE);
        let held = guard.held();
        sched::clear_deadline(held, thread);
        sched::make_ready(held, thread, urgency);
        true
    } else {
        guard.waits.wait(&ThreadNodes, receiver);
        false
    }
}

/// Deals with a sender whose last handle is gone: its endpoint's receiver is told.
pub(crate) fn sender_closed(held: &mut Held<0>, sender: Id) {
    let endpoint = SENDERS.get(sender).endpoint.get();
    let told = {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        if guard.is_open {
            guard.closed.push_back(&SenderNodes, sender);
        }
        guard.is_open
    };
    if told {
        offer_news(held, endpoint, Urgency::Normal);
    } else {
        free_sender(held, sender);
    }
}

fn free_sender(held: &mut Held<0>, sender: Id) {
    let endpoint = SENDERS.get(sender).endpoint.get();
    SENDERS.free(sender);
    object::release_endpoint(held, endpoint);
}

/// Forgets a closed badge that a receiver has dealt with. Returns whether there was one.
pub(crate) fn forget(held: &mut Held<0>, endpoint: Id, badge: u64) -> bool {
    let found = {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        let mut told = guard.told.iter(&SenderNodes);
        let found = told.find(|&sender| SENDERS.get(sender).badge.get() == badge);
        if let Some(sender) = found {
            guard.told.remove(&SenderNodes, sender);
        }
        found
    };
    if let Some(sender) = found {
        free_sender(held, sender);
    }
    found.is_some()
}

/// Deals with the death of a process that held the receive side: what it was told and had not
/// dealt with is told again.
pub(crate) fn receiver_died(held: &mut Held<0>, endpoint: Id) {
    {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        while let Some(sender) = guard.told.pop_front(&SenderNodes) {
            guard.closed.push_back(&SenderNodes, sender);
        }
    }
    // Several badges are news for several receivers.
    while offer_news(held, endpoint, Urgency::Normal) {}
}

/// Ends an endpoint: nobody can receive from it any more.
pub(crate) fn close(held: &mut Held<0>, endpoint: Id) {
    let notification = {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        guard.is_open = false;
        guard.has_news = true;
        core::mem::replace(&mut guard.notification, NONE)
    };
    crate::ipc::fail_callers(held, endpoint);
    crate::ipc::fail_receivers(held, endpoint);
    loop {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        let sender = guard
            .closed
            .pop_front(&SenderNodes)
            .or_else(|| guard.told.pop_front(&SenderNodes));
        drop(guard);
        let Some(sender) = sender else { break };
        free_sender(held, sender);
    }
    if notification != NONE {
        object::release_notification(notification);
    }
}
