//! What rings offer beyond entries and completions: cancelling, few doorbells, back-pressure, and
//! many rings at the cost of those with news.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use libipc::ring::{
    CANCELLED, Cancel, Completion, Entry, Full, RingClient, RingMemory, RingServer, RingSet,
    bytes_for,
};
use libsys::mappings::Mapping;
use libsys::{Handle, Notification, RawHandle};

fn ring(slots: usize) -> (RingClient, RingServer, Mapping) {
    let memory = Mapping::on_heap(bytes_for(slots));
    let (theirs, spare) = (memory.alias().unwrap(), memory.alias().unwrap());
    let client = RingClient::create(memory, slots).unwrap();
    (client, RingServer::attach(theirs).unwrap(), spare)
}

fn entry(number: u64) -> Entry {
    Entry {
        user_data: number,
        ..Entry::default()
    }
}

fn nobody() -> Handle<Notification> {
    Handle::from_raw(RawHandle::NONE)
}

#[test]
fn what_was_not_taken_is_cancelled_without_the_server_seeing_it() {
    let (client, mut server, _memory) = ring(4);
    assert_eq!(client.cancel(1), Cancel::TooLate);
    client.submit(&entry(1)).unwrap();
    client.submit(&entry(2)).unwrap();
    assert_eq!(client.cancel(1), Cancel::Asked);
    assert_eq!(server.next_request().unwrap().entry, entry(2));
    assert!(server.next_request().is_none());
    let completion = client.next_completion().unwrap();
    assert_eq!((completion.user_data, completion.result), (1, CANCELLED));
    assert_eq!(client.cancel(1), Cancel::TooLate);
    assert_eq!(client.in_flight(), 1);
}

#[test]
fn a_server_hears_of_what_it_has_and_decides() {
    let (client, mut server, _memory) = ring(4);
    (1..=3).for_each(|number| client.submit(&entry(number)).unwrap());
    let held = [(); 3].map(|()| server.next_request().unwrap());
    assert_eq!(server.next_cancelled(), None);
    assert!(server.prepare_wait());
    client.cancel(3);
    client.cancel(1);
    assert!(client.take_doorbell(), "a server that sleeps is woken");
    assert!(!server.prepare_wait(), "there is something to cancel");
    let [first, second, third] = held.map(|submission| submission.id);
    let asked = [server.next_cancelled(), server.next_cancelled()];
    assert_eq!(asked, [Some(first.key()), Some(third.key())]);
    assert_eq!(server.next_cancelled(), None);
    assert!(server.prepare_wait());
    server.complete_cancelled(first);
    server.complete(second, 2);
    // It had begun that one, and does not stop it.
    server.complete(third, 3);
    let results: Vec<i64> = std::iter::from_fn(|| client.next_completion())
        .map(|completion| completion.result)
        .collect();
    assert_eq!(results, [CANCELLED, 2, 3]);
}

#[test]
fn a_server_that_never_asks_sleeps_all_the_same() {
    let (client, mut server, _memory) = ring(1);
    client.submit(&entry(1)).unwrap();
    let submission = server.next_request().unwrap();
    client.cancel(1);
    assert!(server.prepare_wait());
    server.complete(submission.id, 5);
    assert_eq!(client.next_completion().unwrap().result, 5);
}

#[test]
fn what_an_earlier_server_had_is_not_cancelled_unseen() {
    let (client, mut server, memory) = ring(4);
    client.submit(&entry(1)).unwrap();
    client.submit(&entry(2)).unwrap();
    let _begun = server.next_request().unwrap();
    client.cancel(1);
    client.cancel(2);
    drop(server);
    let mut next = RingServer::attach(memory).unwrap();
    let submission = next.next_request().unwrap();
    assert_eq!((submission.entry, submission.redelivered), (entry(1), true));
    assert!(next.next_request().is_none(), "nobody had begun the other");
    assert_eq!(next.next_cancelled(), Some(submission.id.key()));
    assert_eq!(client.next_completion().unwrap().user_data, 2);
}

/// Counts notifications on their way from side to side.
#[derive(Default)]
struct Bells {
    doorbells: usize,
    wakes: usize,
}

#[test]
fn a_batch_rings_one_doorbell_each_way() {
    let (client, mut server, _memory) = ring(32);
    let mut bells = Bells::default();
    for _ in 0..10 {
        assert!(server.prepare_wait());
        for number in 0..32 {
            client.submit(&entry(number)).unwrap();
            bells.doorbells += usize::from(client.take_doorbell());
        }
        assert!(client.prepare_wait());
        while let Some(submission) = server.next_request() {
            server.complete(submission.id, 0);
            bells.wakes += usize::from(server.take_wake());
        }
        assert_eq!(std::iter::from_fn(|| client.next_completion()).count(), 32);
    }
    assert_eq!((bells.doorbells, bells.wakes), (10, 10));
}

#[test]
fn sides_that_poll_ring_no_bells() {
    let (client, mut server, _memory) = ring(8);
    let mut bells = Bells::default();
    // The one wake-up after attaching.
    server.take_wake();
    for number in 0..100 {
        client.submit(&entry(number)).unwrap();
        bells.doorbells += usize::from(client.take_doorbell());
        let submission = server.next_request().unwrap();
        server.complete(submission.id, 0);
        bells.wakes += usize::from(server.take_wake());
        assert_eq!(client.next_completion().unwrap().user_data, number);
    }
    assert_eq!((bells.doorbells, bells.wakes), (0, 0));
}

#[test]
fn a_full_ring_pushes_back_until_there_is_room() {
    let (client, mut server, _memory) = ring(3);
    let mut context = Context::from_waker(Waker::noop());
    (0..3).for_each(|number| client.submit(&entry(number)).unwrap());
    assert_eq!(client.submit(&entry(3)), Err(Full));
    let mut waiting = pin!(client.request(entry(3)));
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Pending);
    // It is the last one that is done first.
    let held = [(); 3].map(|()| server.next_request().unwrap());
    assert!(
        server.next_request().is_none(),
        "nothing goes past the limit"
    );
    let [first, second, third] = held;
    server.complete(third.id, 0);
    assert_eq!(
        client.next_completion(),
        Some(Completion {
            user_data: 2,
            result: 0
        })
    );
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Pending);
    let late = server.next_request().unwrap();
    assert_eq!(late.entry, entry(3));
    server.complete(late.id, 33);
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(33));
    server.complete(first.id, 0);
    server.complete(second.id, 0);
}

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Memory that counts how often a server looks at it.
struct Counted(Mapping);

impl RingMemory for Counted {
    type Word = AtomicU64;

    fn words(&self) -> &[AtomicU64] {
        LOOKS.set(LOOKS.get() + 1);
        self.0.atomic_words()
    }
}

const RINGS: usize = 60;

/// A set with a ring on each of 60 bits, all asleep, and their clients.
fn sleeping_set() -> (RingSet<usize, Counted>, Vec<RingClient>) {
    let (mut set, mut clients) = (RingSet::new(), Vec::new());
    for key in 0..RINGS {
        let memory = Mapping::on_heap(bytes_for(64));
        let theirs = Counted(memory.alias().unwrap());
        clients.push(RingClient::create(memory, 64).unwrap());
        let server = RingServer::attach(theirs).unwrap();
        set.insert(key, key as u8, server, nobody());
    }
    assert!(set.next_request().is_none());
    assert!(set.is_asleep());
    set.flush();
    (set, clients)
}

/// Serves all that is ready and returns how often rings were looked at for that.
fn looks_of_a_turn(set: &mut RingSet<usize, Counted>, bits: u64) -> (usize, Vec<usize>) {
    LOOKS.set(0);
    let mut served = Vec::new();
    set.raise(bits);
    while let Some((key, submission)) = set.next_request() {
        served.push(key);
        set.complete(key, submission.id, 0);
    }
    set.flush();
    assert!(set.is_asleep());
    (LOOKS.get(), served)
}

#[test]
fn a_turn_costs_what_is_ready_not_what_is_there() {
    let (mut set, clients) = sleeping_set();
    let submit = |key: usize| {
        clients[key].submit(&entry(1)).unwrap();
        u64::from(clients[key].take_doorbell()) << key
    };
    let (idle, _) = looks_of_a_turn(&mut set, 0);
    assert_eq!(idle, 0);
    let bits = submit(17);
    let (one, served) = looks_of_a_turn(&mut set, bits);
    assert_eq!(served, [17]);
    assert!(one < 30, "{one} looks for one ring of {RINGS}");
    let bits = submit(3) | submit(40) | submit(59);
    let (three, served) = looks_of_a_turn(&mut set, bits);
    assert_eq!(served, [3, 40, 59]);
    assert_eq!(three, 3 * one);
}

#[test]
fn rings_of_a_set_have_their_turns_and_can_go() {
    let (mut set, clients) = sleeping_set();
    for key in [5, 6] {
        (0..40).for_each(|number| clients[key].submit(&entry(number)).unwrap());
    }
    set.raise(1 << 5 | 1 << 6 | 1 << 7);
    let mut order = Vec::new();
    while let Some((key, submission)) = set.next_request() {
        order.push(key);
        set.complete(key, submission.id, 0);
        if order.len() == 70 {
            set.remove(5);
        }
    }
    let first_of_six = order.iter().position(|key| *key == 6).unwrap();
    assert!(first_of_six <= 16, "the first ring kept the others waiting");
    assert_eq!(order.iter().filter(|key| **key == 6).count(), 40);
    assert_eq!(
        std::iter::from_fn(|| clients[6].next_completion()).count(),
        40
    );
    assert!(order.iter().filter(|key| **key == 5).count() < 40);
    set.raise(1 << 5);
    assert!(set.is_asleep(), "it is gone");
}

#[test]
fn rings_on_bits_of_their_own_wake_only_their_own_tasks() {
    let loopback = Rc::new(libipc::loopback::Loopback::default());
    let events = loopback.events();
    let mut rings = Vec::new();
    for bit in 0..8 {
        let memory = Mapping::on_heap(bytes_for(4));
        let server = RingServer::attach;
        let theirs = memory.alias().unwrap();
        let client = Rc::new(RingClient::create(Counted(memory), 4).unwrap());
        events.spawn(Rc::clone(&client).pump(events.clone(), bit));
        rings.push((client, server(theirs).unwrap()));
    }
    loopback.run();
    LOOKS.set(0);
    loopback.raise(1 << 5);
    let one = LOOKS.get();
    assert!(one > 0 && one < 20, "{one} looks");
    LOOKS.set(0);
    loopback.raise(0xff);
    assert_eq!(LOOKS.get(), 8 * one);
}
