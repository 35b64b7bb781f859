//! The death of a server at every step of its loop: what was submitted is completed by the next
//! instance, as the restart contract of its method says.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use libipc::ring::{
    Completion, Contracts, Entry, RESTARTED, Results, RingClient, RingMemory, RingServer, RingWord,
    bytes_for,
};
use libipc::schema::Contract;

thread_local! {
    /// Steps that the server has left before it dies; none while others run.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How a server ends that is killed.
struct Killed;

/// A step of the server that others can see.
fn step() {
    if let Some(left) = LEFT.get() {
        if left == 0 {
            LEFT.set(None);
            panic_any(Killed);
        }
        LEFT.set(Some(left - 1));
    }
}

/// A word that a server is killed before it writes.
struct Word(AtomicU64);

impl RingWord for Word {
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn acquire(&self) -> u64 {
        self.read()
    }

    fn write(&self, value: u64) {
        step();
        self.0.store(value, Ordering::Relaxed);
    }

    fn release(&self, value: u64) {
        self.write(value);
    }

    fn swap(&self, value: u64) -> u64 {
        step();
        self.0.swap(value, Ordering::Relaxed)
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

const SLOTS: usize = 4;
const ENTRIES: u64 = 6;

const AGAIN: u32 = 1;
const ONCE: u32 = 2;
const NEVER_AGAIN: u32 = 3;

fn contract_of(opcode: u32) -> Contract {
    match opcode {
        ONCE => Contract::ExactlyOnce,
        NEVER_AGAIN => Contract::FailsOnRestart,
        _ => Contract::Idempotent,
    }
}

/// What outlives a server: the effects of its work, and the results of what is done once.
#[derive(Default)]
struct Kept {
    done: RefCell<BTreeMap<u64, u32>>,
    results: RefCell<BTreeMap<usize, (u64, i64)>>,
}

impl Kept {
    /// Does the work of an entry.
    fn work(&self, entry: &Entry) -> i64 {
        step();
        *self.done.borrow_mut().entry(entry.user_data).or_default() += 1;
        result_of(entry.user_data)
    }

    /// Does the work and keeps the result, in one step.
    fn work_once(&self, entry: &Entry, slot: usize, key: u64) -> i64 {
        let result = self.work(entry);
        self.results.borrow_mut().insert(slot, (key, result));
        result
    }
}

fn result_of(number: u64) -> i64 {
    number.cast_signed() * 7
}

impl Results for &Kept {
    fn lookup(&self, slot: usize, key: u64) -> Option<i64> {
        let results = self.results.borrow();
        let (stored, result) = results.get(&slot)?;
        (*stored == key).then_some(*result)
    }

    fn store(&self, _slot: usize, _key: u64, _result: i64) {
        // Stored with the effect.
    }
}

/// The loop of a server, until there is nothing to do.
fn serve(memory: Words, kept: &Kept) {
    let mut ring = RingServer::attach(memory).unwrap();
    let contracts = Contracts::new(contract_of, kept);
    let mut taken = Vec::new();
    loop {
        while let Some(submission) = contracts.next_request(&mut ring) {
            taken.push(submission);
        }
        // In another order than they came.
        let Some(submission) = taken.pop() else {
            if ring.take_wake() {
                step();
            }
            if ring.prepare_wait() {
                return;
            }
            continue;
        };
        let (id, entry) = (submission.id, submission.entry);
        let result = if entry.opcode == ONCE {
            kept.work_once(&entry, id.slot(), id.key())
        } else {
            kept.work(&entry)
        };
        contracts.complete(&mut ring, entry.opcode, id, result);
    }
}

/// Serves and is killed after so many steps. Returns whether it was.
fn serve_until_killed(memory: &Words, kept: &Kept, steps: usize) -> bool {
    LEFT.set(Some(steps));
    let end = catch_unwind(AssertUnwindSafe(|| serve(memory.clone(), kept)));
    LEFT.set(None);
    match end {
        Ok(()) => false,
        Err(why) if why.is::<Killed>() => true,
        Err(why) => std::panic::resume_unwind(why),
    }
}

struct Client {
    ring: RingClient<Words>,
    opcode: u32,
    submitted: u64,
    completed: BTreeMap<u64, i64>,
}

impl Client {
    fn submit(&mut self) {
        while self.submitted < ENTRIES {
            let entry = Entry {
                user_data: self.submitted,
                opcode: self.opcode,
                ..Entry::default()
            };
            if self.ring.submit(&entry).is_err() {
                break;
            }
            self.submitted += 1;
        }
    }

    fn take(&mut self) {
        while let Some(Completion { user_data, result }) = self.ring.next_completion() {
            let earlier = self.completed.insert(user_data, result);
            assert_eq!(earlier, None, "{user_data} was completed twice");
        }
    }
}

/// Has two servers die, one after so many steps and the next after so many, and a third one
/// finish. Returns how often each entry was done, its result, and whether both had died.
fn run(opcode: u32, first: usize, second: usize) -> (Vec<(u32, i64)>, bool) {
    let fresh = || Word(AtomicU64::new(0));
    let memory = Words(Rc::new(
        (0..bytes_for(SLOTS) / 8).map(|_| fresh()).collect(),
    ));
    let mut client = Client {
        ring: RingClient::create(memory.clone(), SLOTS).unwrap(),
        opcode,
        submitted: 0,
        completed: BTreeMap::new(),
    };
    let kept = Kept::default();
    client.submit();
    let have_died = serve_until_killed(&memory, &kept, first)
        // What is completed may be known before the next one comes, or not.
        && {
            if first.is_multiple_of(2) {
                client.take();
                client.submit();
            }
            serve_until_killed(&memory, &kept, second)
        };
    for _ in 0..=ENTRIES {
        client.take();
        client.submit();
        serve_until_killed(&memory, &kept, usize::MAX);
    }
    client.take();
    assert_eq!(client.completed.len() as u64, ENTRIES, "never completed");
    let done = kept.done.borrow();
    let outcome = client
        .completed
        .iter()
        .map(|(number, result)| (done.get(number).copied().unwrap_or(0), *result))
        .collect();
    (outcome, have_died)
}

/// Runs all pairs of deaths. Returns how many there were.
fn for_all_deaths(opcode: u32, check: impl Fn(u64, u32, i64)) -> usize {
    // A death is no failure of the test.
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Killed>() {
            eprintln!("{info}");
        }
    }));
    let mut deaths = 0;
    for first in 0.. {
        let mut second = 0;
        loop {
            let (outcome, have_died) = run(opcode, first, second);
            for (number, (done, result)) in (0..).zip(outcome) {
                check(number, done, result);
            }
            if !have_died {
                break;
            }
            deaths += 1;
            second += 1;
        }
        if second == 0 {
            break;
        }
    }
    deaths
}

#[test]
fn what_is_idempotent_is_done_at_least_once_and_completed_once() {
    let deaths = for_all_deaths(AGAIN, |number, done, result| {
        assert!((1..=3).contains(&done), "{number} was done {done} times");
        assert_eq!(result, result_of(number));
    });
    assert!(deaths > 500, "{deaths}");
}

#[test]
fn what_is_done_exactly_once_is_done_once_and_completed_once() {
    let deaths = for_all_deaths(ONCE, |number, done, result| {
        assert_eq!(done, 1, "{number} was done {done} times");
        assert_eq!(result, result_of(number));
    });
    assert!(deaths > 500, "{deaths}");
}

#[test]
fn what_fails_on_restart_is_done_at_most_once_and_says_so() {
    let deaths = for_all_deaths(NEVER_AGAIN, |number, done, result| {
        assert!(done <= 1, "{number} was done {done} times");
        let is_told = result == RESTARTED || (done == 1 && result == result_of(number));
        assert!(is_told, "{number}: {result}, done {done} times");
    });
    assert!(deaths > 500, "{deaths}");
}
