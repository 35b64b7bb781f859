use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Abandon, Arrival, Callers, Endpoint, Requeue};
use crate::Id;
use crate::list::tests::Arena;
use crate::list::{Links, Nodes};

/// Threads with what an endpoint keeps about them.
pub(crate) struct Threads {
    links: Arena,
    calls: RefCell<Vec<(u64, u8)>>,
}

impl Threads {
    pub(crate) fn new(size: usize) -> Self {
        Threads {
            links: Arena::new(size),
            calls: RefCell::new(vec![(0, 0); size]),
        }
    }
}

impl Nodes for Threads {
    fn links(&self, id: Id) -> Links {
        self.links.links(id)
    }

    fn set_links(&self, id: Id, links: Links) {
        self.links.set_links(id, links);
    }
}

impl Callers for Threads {
    fn ticket(&self, id: Id) -> u64 {
        self.calls.borrow()[id as usize].0
    }

    fn set_ticket(&self, id: Id, ticket: u64) {
        self.calls.borrow_mut()[id as usize].0 = ticket;
    }

    fn crashes(&self, id: Id) -> u8 {
        self.calls.borrow()[id as usize].1
    }

    fn set_crashes(&self, id: Id, crashes: u8) {
        self.calls.borrow_mut()[id as usize].1 = crashes;
    }
}

#[test]
fn a_waiting_receiver_gets_the_call_at_once() {
    let threads = Threads::new(4);
    let mut endpoint = Endpoint::NEW;
    endpoint.wait(&threads, 3);
    assert_eq!(endpoint.arrive(&threads, 0), Arrival::Deliver(3));
    assert!(!endpoint.has_receiver());
    assert!(!endpoint.has_caller());
}

#[test]
fn abandoned_requests_come_first_and_in_order() {
    let threads = Threads::new(8);
    let mut endpoint = Endpoint::NEW;
    for caller in 0..5 {
        assert_eq!(endpoint.arrive(&threads, caller), Arrival::Queued);
    }
    for expected in 0..3 {
        assert_eq!(endpoint.take(&threads), Some(expected));
    }
    // The server dies; its handles are closed in any order.
    for caller in [1, 2, 0] {
        assert_eq!(
            endpoint.abandon(&threads, caller, Abandon::Killed),
            Requeue::Again
        );
    }
    let order: Vec<_> = std::iter::from_fn(|| endpoint.take(&threads)).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn a_request_that_crashes_its_server_twice_is_poison_but_kills_do_not_count() {
    let threads = Threads::new(2);
    let mut endpoint = Endpoint::NEW;
    endpoint.arrive(&threads, 0);
    for _ in 0..10 {
        assert_eq!(endpoint.take(&threads), Some(0));
        assert_eq!(
            endpoint.abandon(&threads, 0, Abandon::Killed),
            Requeue::Again
        );
    }
    endpoint.take(&threads);
    assert_eq!(
        endpoint.abandon(&threads, 0, Abandon::Crashed),
        Requeue::Again
    );
    endpoint.take(&threads);
    assert_eq!(
        endpoint.abandon(&threads, 0, Abandon::Crashed),
        Requeue::Poisoned
    );
    assert_eq!(endpoint.take(&threads), None);
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Model {
    Free,
    Queued(u64),
    Served(u64, u8),
    Receiving,
}

proptest! {
    /// Random calls, receives, replies, deaths and timeouts against a map from thread to state.
    #[test]
    fn behaves_like_a_map_of_states(steps in prop::collection::vec((0_u8..7, 0_u32..12), 0..400)) {
        let threads = Threads::new(12);
        let mut endpoint = Endpoint::NEW;
        let mut model: BTreeMap<Id, Model> = (0..12).map(|id| (id, Model::Free)).collect();
        let mut receivers = Vec::new();
        let mut ticket = 0;
        for (step, id) in steps {
            match (step, model[&id]) {
                (0 | 1, Model::Free) => {
                    let outcome = endpoint.arrive(&threads, id);
                    if let Some(receiver) = receivers.pop() {
                        prop_assert_eq!(outcome, Arrival::Deliver(receiver));
                        model.insert(receiver, Model::Free);
                        model.insert(id, Model::Served(ticket, 0));
                    } else {
                        prop_assert_eq!(outcome, Arrival::Queued);
                        model.insert(id, Model::Queued(ticket));
                    }
                    ticket += 1;
                }
                (2, Model::Free) => {
                    let first = model.iter()
                        .filter_map(|(&id, state)| match state {
                            Model::Queued(ticket) => Some((*ticket, id)),
                            _ => None,
                        })
                        .min();
                    match endpoint.take(&threads) {
                        Some(caller) => {
                            prop_assert_eq!(first.map(|entry| entry.1), Some(caller));
                            let crashes = threads.crashes(caller);
                            model.insert(caller, Model::Served(threads.ticket(caller), crashes));
                        }
                        None => {
                            prop_assert_eq!(first, None);
                            endpoint.wait(&threads, id);
                            receivers.push(id);
                            model.insert(id, Model::Receiving);
                        }
                    }
                }
                (3, Model::Served(..)) => {
                    model.insert(id, Model::Free);
                }
                (4 | 5, Model::Served(ticket, crashes)) => {
                    let how = if step == 4 { Abandon::Killed } else { Abandon::Crashed };
                    let crashes = crashes + u8::from(step == 5);
                    let outcome = endpoint.abandon(&threads, id, how);
                    if crashes >= 2 {
                        prop_assert_eq!(outcome, Requeue::Poisoned);
                        model.insert(id, Model::Free);
                    } else {
                        prop_assert_eq!(outcome, Requeue::Again);
                        model.insert(id, Model::Queued(ticket));
                    }
                }
                (6, Model::Queued(_)) => {
                    endpoint.forget_caller(&threads, id);
                    model.insert(id, Model::Free);
                }
                (6, Model::Receiving) => {
                    endpoint.forget_receiver(&threads, id);
                    receivers.retain(|&other| other != id);
                    model.insert(id, Model::Free);
                }
                _ => {}
            }
            let queued = model.values().any(|state| matches!(state, Model::Queued(_)));
            prop_assert_eq!(endpoint.has_caller(), queued);
            prop_assert_eq!(endpoint.has_receiver(), !receivers.is_empty());
        }
    }
}
