//! Rings in every order of accesses that the memory model allows, as far as `loom` tries them.
//!
//! Both sides run as they are; only the words of the ring and the notifications are loom's. A
//! lost wake-up makes a side wait for ever, which loom reports.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use libipc::ring::{
    CANCELLED, Cancel, Completion, Entry, RingClient, RingMemory, RingServer, RingWord, Submission,
    bytes_for,
};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::thread;

struct Word(AtomicU64);

impl RingWord for Word {
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn write(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn release(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::SeqCst)
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Words(Arc<Vec<Word>>);

impl Words {
    fn new(slots: usize) -> Words {
        let fresh = || Word(AtomicU64::new(0));
        Words(Arc::new(
            (0..bytes_for(slots) / 8).map(|_| fresh()).collect(),
        ))
    }
}

impl RingMemory for Words {
    type Word = Word;

    fn words(&self) -> &[Word] {
        &self.0
    }
}

/// A notification: it stays set until somebody waits for it.
#[derive(Clone)]
struct Bell(Arc<AtomicBool>);

impl Bell {
    fn new() -> Bell {
        Bell(Arc::new(AtomicBool::new(false)))
    }

    fn ring(&self) {
        self.0.swap(true, Ordering::AcqRel);
    }

    fn wait(&self) {
        while !self.0.swap(false, Ordering::AcqRel) {
            thread::yield_now();
        }
    }
}

/// Runs a model with as many switches in the middle of a side as can be tried in a few seconds.
fn model(switches: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 20_000;
    builder.check(f);
}

fn entry(number: u64) -> Entry {
    Entry {
        user_data: number,
        opcode: 7,
        flags: 9,
        arguments: [number * 3, 1, 2, 3, number ^ 5],
    }
}

fn work(entry: &Entry) -> i64 {
    (entry.arguments[0] + entry.arguments[4]).cast_signed()
}

/// Completes so many entries and sleeps when there are none.
fn serve(memory: Words, entries: usize, doorbell: &Bell, wake: &Bell) {
    let mut server = RingServer::attach(memory).unwrap();
    // As for one that took over: the client may sleep already.
    if server.take_wake() {
        wake.ring();
    }
    let mut done = 0;
    while done < entries {
        while let Some(Submission { id, entry, .. }) = server.next_request() {
            assert_eq!(
                entry,
                self::entry(entry.user_data),
                "seen before it was there"
            );
            server.complete(id, work(&entry));
            done += 1;
        }
        if server.take_wake() {
            wake.ring();
        }
        if done < entries && server.prepare_wait() {
            doorbell.wait();
        }
    }
}

/// Submits so many entries and waits for all completions.
fn ask(client: &RingClient<Words>, entries: u64, doorbell: &Bell, wake: &Bell) {
    let (mut submitted, mut completed) = (0, 0);
    while completed < entries {
        while submitted < entries && client.submit(&entry(submitted)).is_ok() {
            submitted += 1;
        }
        if client.take_doorbell() {
            doorbell.ring();
        }
        while let Some(Completion { user_data, result }) = client.next_completion() {
            assert_eq!(result, work(&entry(user_data)), "seen before it was there");
            completed += 1;
        }
        if completed < entries && client.in_flight() > 0 && client.prepare_wait() {
            wake.wait();
        }
    }
    assert_eq!(client.in_flight(), 0);
}

fn no_wake_up_is_lost(slots: usize, entries: u64, switches: usize) {
    model(switches, move || {
        let memory = Words::new(slots);
        let client = RingClient::create(memory.clone(), slots).unwrap();
        let (doorbell, wake) = (Bell::new(), Bell::new());
        let server = {
            let (doorbell, wake) = (doorbell.clone(), wake.clone());
            thread::spawn(move || serve(memory, entries as usize, &doorbell, &wake))
        };
        ask(&client, entries, &doorbell, &wake);
        server.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_and_nothing_is_seen_before_it_is_there() {
    no_wake_up_is_lost(1, 1, 2);
}

#[test]
fn a_slot_is_used_again_only_when_both_sides_are_done_with_it() {
    no_wake_up_is_lost(1, 2, 2);
    no_wake_up_is_lost(2, 3, 2);
}

/// Does what is not cancelled, until it is told that it is over. Returns how much it did.
fn serve_or_cancel(memory: Words, is_over: &AtomicBool, doorbell: &Bell, wake: &Bell) -> usize {
    let mut server = RingServer::attach(memory).unwrap();
    let mut done = 0;
    while !is_over.load(Ordering::Acquire) {
        while let Some(submission) = server.next_request() {
            if server.next_cancelled() == Some(submission.id.key()) {
                server.complete_cancelled(submission.id);
            } else {
                server.complete(submission.id, 1);
                done += 1;
            }
        }
        // What was completed meanwhile cannot be cancelled any more.
        assert_eq!(server.next_cancelled(), None);
        if server.take_wake() {
            wake.ring();
        }
        if server.prepare_wait() {
            doorbell.wait();
        }
    }
    done
}

#[test]
fn what_is_cancelled_is_either_cancelled_or_done() {
    model(2, || {
        let memory = Words::new(1);
        let client = RingClient::create(memory.clone(), 1).unwrap();
        let (doorbell, wake) = (Bell::new(), Bell::new());
        let is_over = Arc::new(AtomicBool::new(false));
        let server = {
            let (doorbell, wake, is_over) = (doorbell.clone(), wake.clone(), Arc::clone(&is_over));
            thread::spawn(move || serve_or_cancel(memory, &is_over, &doorbell, &wake))
        };
        client.submit(&entry(1)).unwrap();
        if client.take_doorbell() {
            doorbell.ring();
        }
        let asked = client.cancel(1);
        if client.take_doorbell() {
            doorbell.ring();
        }
        let result = loop {
            if let Some(completion) = client.next_completion() {
                break completion.result;
            }
            if client.prepare_wait() {
                wake.wait();
            }
        };
        is_over.store(true, Ordering::Release);
        doorbell.ring();
        let done = server.join().unwrap();
        assert_eq!(done == 1, result == 1);
        assert!(done == 1 || (result == CANCELLED && asked == Cancel::Asked));
    });
}

#[test]
fn a_server_that_comes_while_the_client_submits_finds_everything_once() {
    model(3, || {
        let memory = Words::new(2);
        let client = RingClient::create(memory.clone(), 2).unwrap();
        client.submit(&entry(0)).unwrap();
        let server = thread::spawn(move || {
            let mut server = RingServer::attach(memory).unwrap();
            let mut seen = Vec::new();
            // What comes later is seen by a later look; here it is enough that nothing is seen
            // twice, and nothing is left out between two that are seen.
            for _ in 0..3 {
                seen.extend(server.next_request().map(|found| found.entry.user_data));
            }
            seen
        });
        client.submit(&entry(1)).unwrap();
        let seen = server.join().unwrap();
        assert!(seen == [0] || seen == [0, 1], "{seen:?}");
    });
}
