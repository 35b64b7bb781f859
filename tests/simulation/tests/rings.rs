//! A server of a ring dies at every step; its client sees each entry done once, and is never left
//! asleep.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use libipc::ring::{Contracts, Entry, Results, RingClient, RingServer, bytes_for};
use libipc::schema::Contract;
use libsys::state::{NoPrevious, Purpose, Region, State};
use serde::{Deserialize, Serialize};
use skink_simulation::{Kept, Place, ServerMemory, SharedRing, Steps, When};

const SLOTS: usize = 4;
const ENTRIES: u64 = 14;
const STATE_BYTES: usize = 2048;
const SERVER: &str = "counter";
const TABLE: &str = "docs/reference/kill-points-rings.md";

/// What the server is for: a sum of all numbers that it was told, and the results of the last
/// entries by slot, in one record with their effects.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter {
    sum: u64,
    results: Vec<(u64, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Added {
    slot: usize,
    key: u64,
    number: u64,
}

impl State for Counter {
    type Record = Added;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "simulation.counter.1";

    fn apply(&mut self, record: Added) {
        self.sum += record.number;
        if self.results.len() <= record.slot {
            self.results.resize(record.slot + 1, (0, 0));
        }
        self.results[record.slot] = (record.key, self.sum as i64);
    }
}

type Counting = Rc<RefCell<Region<Counter, ServerMemory>>>;

/// The results are part of the records, so nothing is left to store.
struct Recorded(Counting);

impl Results for Recorded {
    fn lookup(&self, slot: usize, key: u64) -> Option<i64> {
        let region = self.0.borrow();
        let (known, result) = region.state().results.get(slot)?;
        (*known == key).then_some(*result)
    }

    fn store(&self, _slot: usize, _key: u64, _result: i64) {}
}

/// A server of the ring, as an instance after the other runs it.
struct Server {
    steps: Rc<Steps>,
    ring: SharedRing,
    kept: Kept,
    /// Bits that the client set; they outlive the server.
    bell: Cell<bool>,
    client_bell: Rc<Cell<bool>>,
    contract: Contract,
    instance: RefCell<Option<Instance>>,
}

struct Instance {
    ring: RingServer<SharedRing>,
    counting: Counting,
}

impl Server {
    /// Lets it work until it sleeps, however often it dies.
    fn run(&self) {
        while self.steps.run(SERVER, || self.turn()).is_err() {
            *self.instance.borrow_mut() = None;
        }
    }

    fn turn(&self) {
        let mut instance = self.instance.borrow_mut();
        let instance = instance.get_or_insert_with(|| self.start());
        self.steps.take(Place::Receive, When::Before);
        self.bell.set(false);
        self.steps.take(Place::Receive, When::After);
        let results = Recorded(Rc::clone(&instance.counting));
        let contracts = Contracts::new(|_| self.contract, results);
        loop {
            while let Some(submission) = contracts.next_request(&mut instance.ring) {
                let added = Added {
                    slot: submission.id.slot(),
                    key: submission.id.key(),
                    number: submission.entry.user_data,
                };
                let mut region = instance.counting.borrow_mut();
                region
                    .append(added, Purpose::Grow)
                    .expect("it is large enough");
                let sum = region.state().sum as i64;
                drop(region);
                contracts.complete(&mut instance.ring, 0, submission.id, sum);
            }
            if instance.ring.take_wake() {
                self.steps.take(Place::Doorbell, When::Before);
                self.client_bell.set(true);
                self.steps.take(Place::Doorbell, When::After);
            }
            if instance.ring.prepare_wait() {
                return;
            }
        }
    }

    fn start(&self) -> Instance {
        self.steps.take(Place::Recover, When::Before);
        let (region, report) =
            Region::open(self.kept.map(&self.steps)).expect("it is large enough");
        assert!(!report.has_losses(), "{report}");
        let ring = RingServer::attach(self.ring.map(&self.steps)).expect("it is a ring");
        self.steps.take(Place::Recover, When::After);
        Instance {
            ring,
            counting: Rc::new(RefCell::new(region)),
        }
    }
}

/// Has entries done with some deaths, and returns the sums that the client was told, by entry:
/// completions come in any order.
fn run(steps: &Rc<Steps>, contract: Contract) -> BTreeMap<u64, i64> {
    let memory = SharedRing::new(bytes_for(SLOTS));
    let client_bell = Rc::new(Cell::new(false));
    let ring = memory.map(steps);
    let client = RingClient::create(memory, SLOTS).expect("it is large enough");
    let server = Server {
        steps: Rc::clone(steps),
        ring,
        kept: Kept::new(STATE_BYTES),
        bell: Cell::new(true),
        client_bell: Rc::clone(&client_bell),
        contract,
        instance: RefCell::default(),
    };
    let mut told = BTreeMap::new();
    let mut next = 1;
    while told.len() < ENTRIES as usize {
        // More than one at a time, and not always as many as fit.
        let burst = 1 + next % SLOTS as u64;
        for _ in 0..burst {
            let entry = Entry {
                user_data: next,
                ..Entry::default()
            };
            if next > ENTRIES || client.submit(&entry).is_err() {
                break;
            }
            next += 1;
        }
        if client.take_doorbell() {
            server.bell.set(true);
        }
        // The server was woken, or it slept through: both sides would sleep for ever.
        let may_wait = client.prepare_wait();
        if server.bell.get() {
            server.run();
        }
        assert!(!may_wait || client_bell.take(), "nobody wakes anybody");
        while let Some(completion) = client.next_completion() {
            let earlier = told.insert(completion.user_data, completion.result);
            assert_eq!(earlier, None, "completed twice");
        }
    }
    told
}

fn right() -> BTreeMap<u64, i64> {
    let sum = |count| (count * (count + 1) / 2) as i64;
    (1..=ENTRIES).map(|count| (count, sum(count))).collect()
}

#[test]
fn a_death_at_any_step_changes_nothing() {
    let steps = Rc::new(Steps::default());
    assert_eq!(run(&steps, Contract::ExactlyOnce), right());
    let table = format!(
        "# Kill points of rings\n\n\
        Every step at which the simulation ends the server of a ring (`tests/simulation`), with the number of times that\n\
        {ENTRIES} entries of an exactly-once method pass it. They are done once for each of these points, and for each pair of\n\
        points at most 40 steps apart: each entry must be done once, and no side may sleep for ever.\n\
        This page is generated.\n\n{}",
        skink_simulation::table(&steps.passed())
    );
    for death in 1..=steps.taken() {
        let steps = Rc::new(Steps::with_deaths(vec![death]));
        assert_eq!(
            run(&steps, Contract::ExactlyOnce),
            right(),
            "death at step {death}"
        );
        assert!(steps.is_done(), "nobody died at step {death}");
    }
    skink_docs::expect_content(TABLE, &table);
}

#[test]
fn a_second_death_soon_after_changes_nothing() {
    let steps = Rc::new(Steps::default());
    run(&steps, Contract::ExactlyOnce);
    for first in 1..=steps.taken() {
        for second in first + 1..=first + 40 {
            let steps = Rc::new(Steps::with_deaths(vec![first, second]));
            let told = run(&steps, Contract::ExactlyOnce);
            assert_eq!(told, right(), "deaths at steps {first} and {second}");
        }
    }
}

#[test]
fn without_results_that_outlive_it_entries_would_be_done_twice() {
    let steps = Rc::new(Steps::default());
    run(&steps, Contract::Idempotent);
    let differs = |death| {
        let steps = Rc::new(Steps::with_deaths(vec![death]));
        run(&steps, Contract::Idempotent) != right()
    };
    assert!((1..=steps.taken()).any(differs));
}
