//! Rings against a model: every entry is completed exactly once for the client, through crashes
//! of the server and lies in the shared memory.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use libipc::events::Events;
use libipc::ring::{
    Completion, Entry, Full, MAX_SLOTS, Progress, RingClient, RingError, RingServer, Submission,
    bytes_for,
};
use libsys::mappings::Mapping;
use proptest::prelude::*;

fn ring(slots: usize) -> (RingClient, RingServer, Mapping) {
    let memory = Mapping::on_heap(bytes_for(slots));
    let (theirs, spare) = (memory.alias().unwrap(), memory.alias().unwrap());
    let client = RingClient::create(memory, slots).unwrap();
    (client, RingServer::attach(theirs).unwrap(), spare)
}

fn entry(number: u64) -> Entry {
    Entry {
        user_data: number,
        opcode: number as u32 ^ 7,
        flags: (number >> 3) as u32,
        arguments: [number, number * 3, u64::MAX - number, 0, number << 40],
    }
}

/// What an honest server answers.
fn work(entry: &Entry) -> i64 {
    (entry.arguments[1] ^ u64::from(entry.opcode)).cast_signed()
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Serve(usize),
    Complete(usize),
    /// The server dies; a half-done completion is simulated by completing without flushing.
    Crash,
    Drain,
    ServerWaits,
    ClientWaits,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_usize).prop_map(Step::Submit),
        3 => (1..5_usize).prop_map(Step::Serve),
        4 => any::<usize>().prop_map(Step::Complete),
        1 => Just(Step::Crash),
        3 => Just(Step::Drain),
        1 => Just(Step::ServerWaits),
        1 => Just(Step::ClientWaits),
    ]
}

/// A ring, and what must be true of it.
struct Model {
    client: RingClient,
    server: RingServer,
    memory: Mapping,
    held: Vec<Submission>,
    submitted: u64,
    open: BTreeMap<u64, Entry>,
    last_served: u64,
}

impl Model {
    fn new(slots: usize) -> Model {
        let (client, server, memory) = ring(slots);
        let (held, open) = (Vec::new(), BTreeMap::new());
        Model {
            client,
            server,
            memory,
            held,
            submitted: 0,
            open,
            last_served: 0,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Submit(count) => (0..*count).for_each(|_| self.submit()),
            Step::Serve(count) => (0..*count).for_each(|_| self.serve()),
            Step::Complete(which) if !self.held.is_empty() => {
                let Submission { id, entry, .. } = self.held.swap_remove(which % self.held.len());
                self.server.complete(id, work(&entry));
            }
            Step::Complete(_) => {}
            Step::Crash => {
                self.server = RingServer::attach(self.memory.alias().unwrap()).unwrap();
                // What the dead one held is served again by the new one.
                self.held.clear();
                self.last_served = 0;
            }
            Step::Drain => self.drain(),
            Step::ServerWaits => {
                if self.server.prepare_wait() {
                    assert_eq!(self.pending(), 0, "the server sleeps beside work");
                }
            }
            Step::ClientWaits => {
                if self.client.prepare_wait() {
                    assert!(
                        self.client.next_completion().is_none(),
                        "the client sleeps too long"
                    );
                }
            }
        }
    }

    fn submit(&mut self) {
        let entry = entry(self.submitted + 1);
        match self.client.submit(&entry) {
            Ok(()) => {
                self.submitted += 1;
                self.open.insert(entry.user_data, entry);
            }
            Err(Full) => assert_eq!(self.client.in_flight(), self.server.slots()),
        }
    }

    fn serve(&mut self) {
        if let Some(submission) = self.server.next_request() {
            let number = submission.entry.user_data;
            assert_eq!(submission.entry, entry(number));
            assert!(
                self.open.contains_key(&number),
                "{number} was completed before"
            );
            assert!(
                number > self.last_served,
                "{number} overtook {}",
                self.last_served
            );
            self.last_served = number;
            self.held.push(submission);
            assert_eq!(self.server.in_flight(), self.held.len());
        }
    }

    fn drain(&mut self) {
        while let Some(Completion { user_data, result }) = self.client.next_completion() {
            let entry = self.open.remove(&user_data).expect("completed once");
            assert_eq!(result, work(&entry));
        }
    }

    /// Entries that are neither at the server nor completed; counted with a server of its own.
    fn pending(&self) -> usize {
        let mut other = RingServer::attach(self.memory.alias().unwrap()).unwrap();
        let all = std::iter::from_fn(|| other.next_request().map(|s| s.entry.user_data)).count();
        all - self.held.len()
    }

    fn finish(mut self) {
        self.apply(&Step::Crash);
        loop {
            self.serve();
            if self.held.is_empty() {
                break;
            }
            self.apply(&Step::Complete(0));
        }
        self.drain();
        assert!(
            self.open.is_empty(),
            "never completed: {:?}",
            self.open.keys()
        );
        assert_eq!(self.client.in_flight(), 0);
    }
}

proptest! {
    #[test]
    fn every_entry_is_completed_exactly_once(
        slots in 1..20_usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut model = Model::new(slots);
        for step in &steps {
            model.apply(step);
        }
        model.finish();
    }

    #[test]
    fn a_server_stands_any_bytes(
        seed in prop::collection::vec((0..2048_usize, any::<u64>()), 0..300),
        keeps_header in any::<bool>(),
    ) {
        let slots = 16;
        let (client, mut server, memory) = ring(slots);
        client.submit(&entry(1)).unwrap();
        let mut held = Vec::new();
        for chunk in seed.chunks(20) {
            for (at, value) in chunk {
                let at = at / 8 * 8 % (bytes_for(slots) - 8) / 8 * 8;
                if !(keeps_header && at < 64) {
                    memory.write_u64(at, *value).unwrap();
                }
            }
            if let Ok(fresh) = RingServer::attach(memory.alias().unwrap()) {
                prop_assert!(fresh.slots() <= MAX_SLOTS);
            }
            while let Some(submission) = server.next_request() {
                held.push(submission);
            }
            prop_assert!(held.len() <= slots && server.in_flight() == held.len());
            held.drain(..held.len() / 2).for_each(|s| server.complete(s.id, -1));
            let _ = (server.take_wake(), server.prepare_wait());
        }
    }

    #[test]
    fn a_client_stands_any_bytes(
        seed in prop::collection::vec((0..2048_usize, any::<u64>()), 0..300),
    ) {
        let slots = 16;
        let (client, _server, memory) = ring(slots);
        let (mut submitted, mut completed) = (0, 0);
        for chunk in seed.chunks(20) {
            while client.submit(&entry(submitted)).is_ok() {
                submitted += 1;
            }
            for (at, value) in chunk {
                let at = at / 8 * 8 % (bytes_for(slots) - 8) / 8 * 8;
                // Small numbers, so that stamps are hit.
                memory.write_u64(at, value % 64).unwrap();
            }
            while let Some(completion) = client.next_completion() {
                prop_assert!(completion.user_data < submitted);
                completed += 1;
            }
            prop_assert!(completed <= submitted);
            prop_assert_eq!(client.in_flight() as u64, submitted - completed);
            let _ = (client.take_doorbell(), client.prepare_wait());
        }
    }
}

#[test]
fn memory_that_is_no_ring_is_refused() {
    let attach = |memory: &Mapping| RingServer::attach(memory.alias().unwrap()).err();
    assert_eq!(attach(&Mapping::on_heap(8)), Some(RingError::TooSmall));
    assert_eq!(attach(&Mapping::on_heap(4096)), Some(RingError::NoRing));
    let memory = Mapping::on_heap(4096);
    RingClient::create(memory.alias().unwrap(), 16).unwrap();
    assert_eq!(attach(&memory), None);
    for (slots, error) in [
        (0, RingError::BadSlotCount),
        (u64::MAX, RingError::BadSlotCount),
        (1000, RingError::TooSmall),
    ] {
        memory.write_u64(8, slots).unwrap();
        assert_eq!(attach(&memory), Some(error));
    }
    assert_eq!(
        RingClient::create(memory, 1000).err(),
        Some(RingError::TooSmall)
    );
}

#[test]
fn a_completion_that_a_dead_server_did_not_tell_is_told_by_the_next() {
    let (client, mut server, memory) = ring(4);
    client.submit(&entry(1)).unwrap();
    assert!(client.prepare_wait());
    let submission = server.next_request().unwrap();
    server.complete(submission.id, 5);
    drop(server);
    let mut next = RingServer::attach(memory).unwrap();
    assert!(next.next_request().is_none());
    assert!(next.take_wake());
    assert_eq!(
        client.next_completion(),
        Some(Completion {
            user_data: 1,
            result: 5
        })
    );
}

#[test]
fn doorbells_are_left_out_while_the_other_side_is_awake() {
    let (client, mut server, _memory) = ring(8);
    assert!(server.prepare_wait());
    client.submit(&entry(1)).unwrap();
    client.submit(&entry(2)).unwrap();
    assert!(client.take_doorbell());
    client.submit(&entry(3)).unwrap();
    assert!(!client.take_doorbell(), "it was rung already");
    let first = server.next_request().unwrap();
    client.submit(&entry(4)).unwrap();
    assert!(!client.take_doorbell());
    assert!(!server.prepare_wait());
    assert!(client.prepare_wait());
    server.complete(first.id, 0);
    assert!(server.take_wake());
    assert!(!server.take_wake());
}

#[test]
fn tasks_get_their_own_results_and_wait_for_free_slots() {
    let (client, mut server, _memory) = ring(2);
    let mut context = Context::from_waker(Waker::noop());
    let mut first = pin!(client.request(entry(1)));
    let mut second = pin!(client.request(entry(2)));
    let mut third = pin!(client.request(entry(3)));
    assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(third.as_mut().poll(&mut context), Poll::Pending);
    let (a, b) = (
        server.next_request().unwrap(),
        server.next_request().unwrap(),
    );
    assert!(server.next_request().is_none());
    server.complete(b.id, 22);
    assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(22));
    assert_eq!(third.as_mut().poll(&mut context), Poll::Pending);
    let c = server.next_request().unwrap();
    assert_eq!(c.entry, entry(3));
    server.complete(c.id, 33);
    server.complete(a.id, 11);
    assert_eq!(third.as_mut().poll(&mut context), Poll::Ready(33));
    assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(11));
}

#[test]
fn a_request_that_its_task_gave_up_frees_its_slot_when_it_completes() {
    let (client, mut server, _memory) = ring(1);
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut given_up = pin!(client.request(entry(1)));
        assert_eq!(given_up.as_mut().poll(&mut context), Poll::Pending);
    }
    assert_eq!(client.submit(&entry(2)), Err(Full));
    let submission = server.next_request().unwrap();
    server.complete(submission.id, 0);
    assert_eq!(client.submit(&entry(2)), Ok(()));
    assert_eq!(client.next_completion(), None);
}

/// A binary semaphore: a notification of the host.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let timeout = std::time::Duration::from_secs(20);
        let (mut rung, result) = self
            .changed
            .wait_timeout_while(rung, timeout, |rung| !*rung)
            .unwrap();
        assert!(!result.timed_out(), "a wake-up was lost");
        *rung = false;
    }
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    const ROUNDS: u64 = 20_000;
    let memory = Mapping::on_heap(bytes_for(4));
    let theirs = memory.alias().unwrap();
    let client = RingClient::create(memory, 4).unwrap();
    let (doorbell, wake, is_over) = (Bell::default(), Bell::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = RingServer::attach(theirs).unwrap();
            while !is_over.load(Ordering::Acquire) {
                while let Some(Submission { id, entry, .. }) = server.next_request() {
                    server.complete(id, work(&entry));
                    if server.take_wake() {
                        wake.ring();
                    }
                }
                if server.prepare_wait() {
                    doorbell.wait();
                }
            }
        });
        let (mut submitted, mut completed) = (0, 0);
        while completed < ROUNDS {
            while submitted < ROUNDS && client.submit(&entry(submitted)).is_ok() {
                submitted += 1;
            }
            if client.take_doorbell() {
                doorbell.ring();
            }
            while let Some(Completion { user_data, result }) = client.next_completion() {
                assert_eq!(result, work(&entry(user_data)));
                completed += 1;
            }
            if client.in_flight() > 0 && client.prepare_wait() {
                wake.wait();
            }
        }
        is_over.store(true, Ordering::Release);
        doorbell.ring();
    });
}

#[test]
fn the_pump_wakes_tasks_through_the_event_loop() {
    // The loop of a loopback drives the tasks; no interface is served in it.
    let loopback = Rc::new(libipc::loopback::Loopback::default());
    let events: Events = loopback.events();
    let (client, mut server, _memory) = ring(2);
    let client = Rc::new(client);
    events.spawn(Rc::clone(&client).pump(events.clone(), 9));
    let results = Rc::new(std::cell::RefCell::new(Vec::new()));
    for number in 1..=5 {
        let (client, results) = (Rc::clone(&client), Rc::clone(&results));
        events.spawn(async move {
            let result = client.request(entry(number)).await;
            results.borrow_mut().push((number, result));
        });
    }
    loopback.run();
    while let Some(submission) = server.next_request() {
        server.complete(submission.id, work(&submission.entry));
        if server.take_wake() {
            loopback.raise(1 << 9);
        }
    }
    let mut results = results.take();
    results.sort_unstable();
    let expected: Vec<_> = (1..=5)
        .map(|number| (number, work(&entry(number))))
        .collect();
    assert_eq!(results, expected);
}

#[test]
fn rings_that_share_a_bit_do_not_take_it_from_each_other() {
    let loopback = Rc::new(libipc::loopback::Loopback::default());
    let events: Events = loopback.events();
    let mut rings = Vec::new();
    for number in 0..3 {
        let (client, server, memory) = ring(2);
        let client = Rc::new(client);
        events.spawn(Rc::clone(&client).pump(events.clone(), 9));
        let result = Rc::new(std::cell::Cell::new(None));
        let (asking, answer) = (Rc::clone(&client), Rc::clone(&result));
        events.spawn(async move {
            answer.set(Some(asking.request(entry(number)).await));
        });
        rings.push((client, server, memory, result));
    }
    loopback.run();
    // The server of the first one never answers, and the last one is served first.
    for (client, server, _memory, result) in rings.iter_mut().skip(1).rev() {
        let submission = server.next_request().unwrap();
        server.complete(submission.id, work(&submission.entry));
        assert!(server.take_wake());
        loopback.raise(1 << 9);
        assert_eq!(result.get(), Some(work(&submission.entry)));
        // Nothing but the pump has it now, which ends with the next look.
        assert_eq!(Rc::strong_count(client), 2);
        let last = Rc::downgrade(client);
        *client = Rc::new(ring(1).0);
        loopback.raise(1 << 9);
        assert!(last.upgrade().is_none());
    }
}

/// A ring of four slots, guarded with a look every 80 ns.
struct Guarded {
    loopback: Rc<libipc::loopback::Loopback>,
    client: Rc<RingClient>,
    server: RingServer,
    _memory: Mapping,
    seen: Rc<std::cell::RefCell<Vec<Progress>>>,
    now: u64,
}

impl Guarded {
    fn new() -> Self {
        let loopback = Rc::new(libipc::loopback::Loopback::default());
        let events: Events = loopback.events();
        let (client, server, memory) = ring(4);
        let client = Rc::new(client);
        let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tell = {
            let seen = Rc::clone(&seen);
            move |progress| seen.borrow_mut().push(progress)
        };
        let guard = RingClient::guard(Rc::clone(&client), events.clone(), 80, tell);
        events.spawn(guard);
        loopback.run();
        Guarded {
            loopback,
            client,
            server,
            _memory: memory,
            seen,
            now: 0,
        }
    }

    fn submit(&self, number: u64) {
        self.client.submit(&entry(number)).unwrap();
        self.loopback.run();
    }

    fn complete(&mut self, result: i64) {
        let submission = self.server.next_request().unwrap();
        self.server.complete(submission.id, result);
    }

    /// Returns what the next look tells.
    fn look(&mut self) -> Option<Progress> {
        (0..20).find_map(|_| {
            self.now += 10;
            self.loopback.advance(self.now);
            self.seen.borrow_mut().pop()
        })
    }
}

#[test]
fn a_guard_finds_entries_that_stay_and_completions_that_nobody_told_of() {
    let mut ring = Guarded::new();
    ring.submit(1);
    assert_eq!(ring.look(), Some(Progress::Fine));
    ring.submit(2);
    assert_eq!(ring.look(), Some(Progress::Overdue(1)));
    ring.complete(1);
    assert_eq!(ring.look(), Some(Progress::Overdue(2)));
    ring.complete(2);
    assert_eq!(ring.look(), Some(Progress::Fine));
    let results = [(); 3].map(|()| ring.client.next_completion().map(|one| one.result));
    assert_eq!(results, [Some(1), Some(2), None]);
    // The guard does not keep the ring.
    let Guarded {
        loopback,
        client,
        seen,
        now,
        ..
    } = ring;
    let last = Rc::downgrade(&client);
    drop(client);
    assert!(last.upgrade().is_none());
    loopback.run();
    loopback.advance(now + 100);
    assert_eq!((seen.take(), Rc::strong_count(&seen)), (vec![], 1), "ended");
}

#[test]
fn a_ring_that_worked_is_lost_when_no_instance_completes_an_entry() {
    let mut ring = Guarded::new();
    let looks = |ring: &mut Guarded| [(); 4].map(|()| ring.look().unwrap());
    ring.submit(0);
    use Progress::{Fine, Lost, Overdue};
    let overdue = Overdue(1);
    assert_eq!(looks(&mut ring), [Fine, overdue, overdue, overdue], "new");
    ring.complete(0);
    for number in 1..100 {
        ring.submit(number);
        ring.complete(0);
        while ring.client.next_completion().is_some() {}
    }
    ring.submit(100);
    assert_eq!(looks(&mut ring), [Fine, Overdue(101), Lost, Lost]);
}

#[test]
fn who_does_not_ring_is_told_from_who_does_not_answer() {
    let mut ring = Guarded::new();
    ring.submit(1);
    assert_eq!(ring.look(), Some(Progress::Fine));
    // The guard finds it overdue and rings; the server hears that.
    ring.now += 80;
    ring.loopback.advance(ring.now);
    assert_eq!(ring.seen.take(), [], "too early to judge");
    let taken = ring.server.next_request().unwrap();
    assert_eq!(ring.look(), Some(Progress::Unheard));
    ring.server.complete(taken.id, 1);
    assert_eq!(ring.look(), Some(Progress::Fine));
    // One that was taken is the server's.
    ring.submit(2);
    let taken = ring.server.next_request().unwrap();
    assert_eq!(ring.look(), Some(Progress::Fine));
    assert_eq!(ring.look(), Some(Progress::Overdue(2)));
    ring.server.complete(taken.id, 2);
}

#[test]
fn a_guard_rests_soon_after_the_last_completion() {
    let loopback = Rc::new(libipc::loopback::Loopback::default());
    let (client, mut server, _memory) = ring(4);
    let client = Rc::new(client);
    loopback.events().spawn(RingClient::guard(
        Rc::clone(&client),
        loopback.events(),
        1_000_000,
        |_| {},
    ));
    loopback.run();
    assert!(!loopback.waits_for_time());
    client.submit(&entry(1)).unwrap();
    loopback.run();
    assert!(loopback.waits_for_time());
    loopback.advance(10_000);
    assert!(loopback.waits_for_time(), "it is in flight");
    let request = server.next_request().unwrap();
    server.complete(request.id, 1);
    assert!(client.next_completion().is_some());
    loopback.advance(20_000);
    assert!(!loopback.waits_for_time());
    client.submit(&entry(2)).unwrap();
    loopback.run();
    assert!(loopback.waits_for_time(), "it is awake again");
}
