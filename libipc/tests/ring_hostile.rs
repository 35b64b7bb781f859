//! Rings with a peer that writes rubbish into every word, also in the middle of a turn of the
//! other side: nothing panics, nothing is out of range, and a turn has a bound.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use libipc::ring::{
    Cancel, Completion, Entry, RingClient, RingMemory, RingServer, RingWord, Submission, bytes_for,
};
use proptest::prelude::*;

/// More accesses than any turn may have, per slot and on top of that.
const PER_SLOT: u64 = 24;
const ON_TOP: u64 = 64;

/// What the peer writes: after so many accesses of the honest side, there, this.
type Lie = (u64, usize, u64);

thread_local! {
    static ACCESSES: Cell<u64> = const { Cell::new(0) };
    static LIES: RefCell<Vec<Lie>> = const { RefCell::new(Vec::new()) };
    static MEMORY: RefCell<Option<Words>> = const { RefCell::new(None) };
}

/// Counts an access of the honest side and has the peer write what is due.
fn access() {
    let now = ACCESSES.get() + 1;
    ACCESSES.set(now);
    LIES.with_borrow_mut(|lies| {
        while let Some((_, at, value)) = lies.pop_if(|(due, ..)| *due <= now) {
            MEMORY.with_borrow(|memory| {
                if let Some(words) = memory {
                    words.0[at % words.0.len()].0.set(value);
                }
            });
        }
    });
}

struct Word(Cell<u64>);

impl RingWord for Word {
    fn read(&self) -> u64 {
        access();
        self.0.get()
    }

    fn acquire(&self) -> u64 {
        self.read()
    }

    fn write(&self, value: u64) {
        access();
        self.0.set(value);
    }

    fn release(&self, value: u64) {
        self.write(value);
    }

    fn swap(&self, value: u64) -> u64 {
        access();
        self.0.replace(value)
    }

    fn fence() {}
}

#[derive(Clone)]
struct Words(Rc<Vec<Word>>);

impl RingMemory for Words {
    type Word = Word;

    fn words(&self) -> &[Word] {
        &self.0
    }
}

/// Makes the memory of a ring that nobody lies in yet.
fn memory(slots: usize) -> Words {
    let fresh = || Word(Cell::new(0));
    let words = Words(Rc::new(
        (0..bytes_for(slots) / 8).map(|_| fresh()).collect(),
    ));
    LIES.with_borrow_mut(Vec::clear);
    MEMORY.replace(Some(words.clone()));
    words
}

/// From now on the peer lies. Accesses count from here.
fn start_lying(mut lies: Vec<Lie>) {
    // The next one stands last.
    lies.sort_unstable_by(|a, b| b.cmp(a));
    ACCESSES.set(0);
    LIES.replace(lies);
}

/// Runs a turn of the honest side and checks that it is bounded.
fn turn<T>(slots: usize, f: impl FnOnce() -> T) -> T {
    let before = ACCESSES.get();
    let result = f();
    let took = ACCESSES.get() - before;
    let bound = PER_SLOT * slots.next_power_of_two() as u64 + ON_TOP;
    assert!(took <= bound, "{took} accesses in a turn");
    result
}

/// Values that come near to what is checked: small ones, marked ones, the largest, any.
fn rubbish() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..40_u64,
        2 => (0..40_u64).prop_map(|small| small | 1 << 63),
        2 => (0..40_u64, 0..40_u64).prop_map(|(number, slot)| number << 10 | slot),
        1 => (0..40_u64).prop_map(|small| u64::MAX - small),
        1 => any::<u64>(),
    ]
}

fn lies() -> impl Strategy<Value = Vec<Lie>> {
    prop::collection::vec((0..2000_u64, 0..200_usize, rubbish()), 0..200)
}

fn entry(number: u64) -> Entry {
    Entry {
        user_data: number,
        ..Entry::default()
    }
}

proptest! {
    #[test]
    fn a_server_stands_a_client_that_writes_rubbish_at_any_moment(
        slots in 1..9_usize,
        lies in lies(),
        turns in 1..30_usize,
    ) {
        let memory = memory(slots);
        let client = RingClient::create(memory.clone(), slots).unwrap();
        let mut server = RingServer::attach(memory).unwrap();
        client.submit(&entry(1)).unwrap();
        start_lying(lies);
        let (mut held, most) = (Vec::<Submission>::new(), slots.next_power_of_two());
        for number in 0..turns {
            while let Some(submission) = turn(slots, || server.next_request()) {
                held.push(submission);
                prop_assert!(held.len() <= most);
            }
            prop_assert_eq!(server.in_flight(), held.len());
            let keys: BTreeSet<_> = held.iter().map(|held| held.id.slot()).collect();
            prop_assert_eq!(keys.len(), held.len(), "a slot was given out twice");
            for _ in 0..most {
                if let Some(key) = turn(slots, || server.next_cancelled()) {
                    prop_assert!(held.iter().any(|held| held.id.key() == key));
                }
            }
            for submission in held.drain(..held.len().min(number % 3)) {
                turn(slots, || server.complete(submission.id, -1));
            }
            turn(slots, || server.take_wake());
            let _ = turn(slots, || server.prepare_wait());
        }
    }

    #[test]
    fn a_client_stands_a_server_that_writes_rubbish_at_any_moment(
        slots in 1..9_usize,
        lies in lies(),
        turns in 1..30_usize,
    ) {
        let memory = memory(slots);
        let client = RingClient::create(memory.clone(), slots).unwrap();
        let _server = RingServer::attach(memory).unwrap();
        start_lying(lies);
        let (mut submitted, mut open) = (0, BTreeSet::new());
        for number in 0..turns {
            while turn(slots, || client.submit(&entry(submitted))).is_ok() {
                open.insert(submitted);
                submitted += 1;
                prop_assert!(open.len() <= 2 * slots);
            }
            if number % 5 == 0 {
                let asked = turn(slots, || client.cancel(submitted.saturating_sub(1)));
                prop_assert!(asked == Cancel::Asked || asked == Cancel::TooLate);
            }
            while let Some(Completion { user_data, .. }) = turn(slots, || client.next_completion()) {
                prop_assert!(open.remove(&user_data), "{} was not in flight", user_data);
            }
            prop_assert!(client.in_flight() <= slots);
            turn(slots, || client.take_doorbell());
            let _ = turn(slots, || client.prepare_wait());
        }
    }
}
