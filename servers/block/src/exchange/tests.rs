use std::collections::BTreeMap;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, BufferId, IoError, Operation, Receipt, Request};
use libipc::ring::{Entry, RingClient, RingMemory as _, RingWord as _, bytes_for};
use libipc::typed_ring::{RingRequest as _, TypedRingServer, TypedSubmission, outcome_of};
use libsys::mappings::Mapping;
use libsys::state::fake::FakeMemory;
use libsys::state::{MIN_REGION_BYTES, Purpose, Region};
use libsys::{Handle, RawHandle};
use proptest::prelude::*;

use super::{Doubts, Exchange};
use crate::{Buffer, Limits, Queue, Record, Scheduler, Tables, begin};

const SLOTS: usize = 8;
const LIMITS: Limits = Limits {
    sectors: 256,
    is_read_only: false,
    max_sectors: 4,
    depth: 3,
};
/// Sectors of the one buffer of each client; each has its own part of the disk.
const PLACES: u64 = 32;

/// The driver and its disk: the contents of sectors, and of the clients' buffers.
struct Driver {
    ring: TypedRingServer<BlockEntry>,
    taken: Vec<TypedSubmission<BlockEntry>>,
    disk: Vec<u32>,
    buffers: BTreeMap<(u32, u64), u32>,
}

impl Driver {
    fn take(&mut self) {
        self.taken
            .extend(core::iter::from_fn(|| self.ring.next_request()));
    }

    /// Does one of the requests that were taken.
    fn finish(&mut self, which: usize) {
        if self.taken.is_empty() {
            return;
        }
        let submission = self.taken.swap_remove(which % self.taken.len());
        let request = Request::from(submission.request);
        for i in 0..request.sectors {
            let sector = (request.sector + i) as usize;
            let place = (request.buffer.0, request.offset / 512 + i);
            match request.operation {
                Operation::Read => {
                    self.buffers.insert(place, self.disk[sector]);
                }
                Operation::Write => self.disk[sector] = self.buffers[&place],
                Operation::Flush => {}
            }
        }
        self.ring.complete(submission.id, Ok(Receipt::of(&request)));
    }
}

fn tables() -> Region<Tables, FakeMemory> {
    let (mut tables, _) = Region::open(FakeMemory::new(8 * MIN_REGION_BYTES)).unwrap();
    let mut append = |record| tables.append(record, Purpose::Grow).unwrap();
    for badge in [1, 2] {
        let queue = badge as u32;
        append(Record::Opened(queue, Queue::new(badge, 0)));
        let bytes = PLACES * 512;
        let buffer = Buffer {
            queue,
            identity: badge,
            bytes,
            is_writable: true,
        };
        append(Record::Registered(queue + 10, buffer));
    }
    tables
}

fn exchange(to_driver: &Mapping, clients: &[Mapping; 2]) -> Exchange {
    let ring = RingClient::create(to_driver.alias().unwrap(), SLOTS).unwrap();
    let mut exchange = Exchange::new(Scheduler::new(LIMITS), ring);
    for (queue, ring) in (1..).zip(clients) {
        let nobody = Handle::from_raw(RawHandle::NONE);
        exchange
            .attach(queue, queue as u8, ring.alias().unwrap(), nobody)
            .unwrap();
    }
    exchange
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", Tables);
}

/// Lets an instance die while it has an entry of queue 1 in hand: what its successor finds.
fn dead_over(
    memory: &FakeMemory,
    to_driver: &Mapping,
    rings: &[Mapping; 2],
    key: u64,
    crashes: u32,
) -> FakeMemory {
    let (mut tables, _) = Region::open(memory.survivor()).unwrap();
    begin(&mut tables, crashes).unwrap();
    let memory = tables.into_memory();
    let found = (0..1000).find_map(|limit| {
        // What a victim does to the rings must not be seen by the next one.
        let rings = [0, 1].map(|i: usize| copy(&rings[i]));
        let (mut tables, _) = Region::open(memory.survivor().dying_after(limit)).unwrap();
        exchange(&copy(to_driver), &rings).take_requests(&mut tables);
        let survivor = tables.into_memory().survivor();
        let (tables, _) = Region::<Tables, _>::open(survivor.survivor()).unwrap();
        let is_over_it = tables.interrupted() == Some((1, key));
        is_over_it.then_some(survivor)
    });
    found.expect("the entry is noted before it is taken")
}

/// Returns a mapping with the same words.
fn copy(mapping: &Mapping) -> Mapping {
    let copy = Mapping::on_heap(mapping.bytes());
    for (to, from) in copy.words().iter().zip(mapping.words()) {
        to.write(from.read());
    }
    copy
}

/// A sector into the first place of the buffer of queue 1.
fn read(sector: u64) -> Request {
    Request::read(BufferId(11), 0, sector, 1)
}

/// A client of queue 1, a device, and the driver behind it.
struct Line {
    client: RingClient,
    /// The ring of the client.
    memory: Mapping,
    exchange: Exchange,
    tables: Region<Tables, FakeMemory>,
    driver: TypedRingServer<BlockEntry>,
}

impl Line {
    fn new() -> Line {
        let to_driver = Mapping::on_heap(bytes_for(SLOTS));
        let rings = [(); 2].map(|()| Mapping::on_heap(bytes_for(SLOTS)));
        let client = RingClient::create(rings[0].alias().unwrap(), SLOTS).unwrap();
        RingClient::create(rings[1].alias().unwrap(), SLOTS).unwrap();
        let exchange = exchange(&to_driver, &rings);
        let [memory, _] = rings;
        Line {
            client,
            memory,
            exchange,
            tables: tables(),
            driver: TypedRingServer::attach(to_driver).unwrap(),
        }
    }

    fn submit(&mut self, request: Request) {
        let entry = BlockEntry::from(request).to_entry(request.sector);
        self.client.submit(&entry).unwrap();
        self.exchange.raise(1 << 1);
    }

    /// Has the driver answer what the server hands on; returns what it was asked for.
    fn turn(&mut self, answer: impl Fn(&Request) -> Result<Receipt, IoError>) -> Vec<Request> {
        self.exchange.take_requests(&mut self.tables);
        let mut asked = Vec::new();
        while let Some(submission) = self.driver.next_request() {
            let request = submission.request.into();
            self.driver.complete(submission.id, answer(&request));
            asked.push(request);
        }
        self.exchange.take_answers();
        asked
    }

    /// Changes the sector of the entry in the ring, which is the only one with such a number.
    fn change(&self, sector: u64, to: u64) {
        let words = self.memory.words();
        let is_opcode = |word: u64| word & 0xffff_ffff == 1;
        // Behind user data, opcode and flags, buffer and offset.
        let at = (4..words.len())
            .find(|at| words[*at].read() == sector && is_opcode(words[at - 3].read()))
            .unwrap();
        words[at].write(to);
    }

    fn outcome(&self) -> Option<Result<Receipt, Failure<IoError>>> {
        let completion = self.client.next_completion()?;
        Some(outcome_of(completion.result))
    }
}

fn as_asked(request: &Request) -> Result<Receipt, IoError> {
    Ok(Receipt::of(request))
}

/// What a driver answers that reads the next sector.
fn next_sector(request: &Request) -> Result<Receipt, IoError> {
    as_asked(&Request {
        sector: request.sector + 1,
        ..*request
    })
}

#[test]
fn a_driver_that_did_something_else_is_asked_again_and_doubted() {
    let mut line = Line::new();
    line.submit(read(5));
    assert_eq!(line.turn(next_sector), [read(5)]);
    assert_eq!(line.outcome(), None);
    let (driver, this_side) = (true, false);
    let doubts = Doubts { driver, this_side };
    assert_eq!(line.exchange.take_doubts(), doubts);
    assert_eq!(line.turn(as_asked), [read(5)]);
    assert_eq!(line.outcome(), Some(Ok(Receipt::of(&read(5)))));
    assert_eq!(line.exchange.take_doubts(), Doubts::default());
    // Twice is enough.
    line.submit(read(6));
    line.turn(next_sector);
    line.turn(next_sector);
    let failed = Err(Failure::Server(IoError::Device));
    assert_eq!(line.outcome(), Some(failed));
    assert_eq!(line.exchange.scheduler().totals().failed, 1);
}

#[test]
fn an_entry_for_which_something_else_was_done_is_taken_again() {
    let mut line = Line::new();
    line.submit(read(5));
    line.exchange.take_requests(&mut line.tables);
    // As if the entry had been read wrongly: what stands there now is what the client asked for.
    line.change(5, 7);
    let (driver, this_side) = (false, true);
    let doubts = Doubts { driver, this_side };
    assert_eq!(line.turn(as_asked), [read(5)]);
    assert_eq!(
        (line.outcome(), line.exchange.take_doubts()),
        (None, doubts)
    );
    assert_eq!(line.turn(as_asked), [read(7)]);
    assert_eq!(line.outcome(), Some(Ok(Receipt::of(&read(7)))));
    assert_eq!(line.exchange.take_doubts(), Doubts::default());
}

#[test]
fn a_client_that_changes_its_entry_again_and_again_is_answered() {
    let mut line = Line::new();
    line.submit(read(5));
    line.exchange.take_requests(&mut line.tables);
    line.change(5, 7);
    line.turn(as_asked);
    line.exchange.take_requests(&mut line.tables);
    line.change(7, 9);
    line.turn(as_asked);
    assert_eq!(line.outcome(), Some(Ok(Receipt::of(&read(7)))));
    assert!(line.exchange.take_doubts().this_side);
}

#[test]
fn an_entry_over_which_the_server_crashes_twice_fails_alone() {
    let to_driver = Mapping::on_heap(bytes_for(SLOTS));
    let rings = [(); 2].map(|()| Mapping::on_heap(bytes_for(SLOTS)));
    let client = RingClient::create(rings[0].alias().unwrap(), SLOTS).unwrap();
    RingClient::create(rings[1].alias().unwrap(), SLOTS).unwrap();
    for number in 0..4 {
        let entry = BlockEntry::from(read(number)).to_entry(number);
        client.submit(&entry).unwrap();
    }
    // The ring's stamps count from 1.
    const POISON: u64 = 2;
    let mut memory = tables().into_memory();
    for crashes in 0..2 {
        memory = dead_over(&memory, &to_driver, &rings, POISON + 1, crashes);
    }
    let (mut tables, _) = Region::open(memory).unwrap();
    begin(&mut tables, 2).unwrap();
    assert_eq!(tables.state().blame(1, POISON + 1), 2);
    let mut exchange = exchange(&to_driver, &rings);
    let mut ring = TypedRingServer::<BlockEntry>::attach(to_driver.alias().unwrap()).unwrap();
    let mut outcomes = BTreeMap::new();
    for _ in 0..8 {
        exchange.take_requests(&mut tables);
        while let Some(submission) = ring.next_request() {
            let receipt = Receipt::of(&submission.request.into());
            ring.complete(submission.id, Ok(receipt));
        }
        exchange.take_answers();
        while let Some(completion) = client.next_completion() {
            let outcome = outcome_of::<Receipt, IoError>(completion.result);
            outcomes.insert(completion.user_data, outcome);
        }
    }
    let crashed = Err(Failure::Server(IoError::Crashed));
    for number in 0..4 {
        let receipt = Ok(Receipt::of(&read(number)));
        let expected = if number == POISON { crashed } else { receipt };
        assert_eq!(outcomes[&number], expected, "{number}");
    }
    assert_eq!(tables.state().blame(1, POISON + 1), 0);
    assert_eq!(exchange.scheduler().totals().failed, 1);
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client reads or writes sectors from a place of its buffer.
    Submit {
        client: usize,
        is_write: bool,
        place: u64,
        sectors: u64,
    },
    /// A client writes nonsense into its ring.
    Nonsense(usize, u32, [u64; 5]),
    Pump,
    Take,
    Finish(usize),
    KillDriver,
    KillBlock,
}

fn any_step() -> impl Strategy<Value = Step> {
    let nonsense = |code| (0_usize..2, code, any::<[u64; 5]>());
    prop_oneof![
        6 => (0_usize..2, any::<bool>(), 0..PLACES, 1_u64..10).prop_map(
            |(client, is_write, place, sectors)| {
                Step::Submit { client, is_write, place, sectors }
            }
        ),
        1 => nonsense(0_u32..9).prop_map(|(client, code, args)| Step::Nonsense(client, code, args)),
        4 => Just(Step::Pump),
        3 => Just(Step::Take),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => Just(Step::KillDriver),
        1 => Just(Step::KillBlock),
    ]
}

/// A request that a client waits for: what it has to find in its buffer or on the disk.
type Open = BTreeMap<u64, Option<(bool, u64, u64)>>;

proptest! {
    #[test]
    fn killing_driver_or_server_is_only_a_pause(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut tables = tables();
        let to_driver = Mapping::on_heap(bytes_for(SLOTS));
        let rings = [(); 2].map(|()| Mapping::on_heap(bytes_for(SLOTS)));
        let clients =
            [0, 1].map(|i: usize| RingClient::create(rings[i].alias().unwrap(), SLOTS).unwrap());
        let mut exchange = exchange(&to_driver, &rings);
        let attach = || TypedRingServer::attach(to_driver.alias().unwrap()).unwrap();
        let mut driver = Driver {
            ring: attach(),
            taken: Vec::new(),
            disk: (0..256).collect(),
            buffers: BTreeMap::new(),
        };
        let (mut last, mut open) = (0_u64, [Open::new(), Open::new()]);
        let tail = [Step::Pump, Step::Take, Step::Finish(0)];
        for step in steps.into_iter().chain(tail.into_iter().cycle().take(600)) {
            match step {
                Step::Submit { client, is_write, place, sectors } => {
                    // The client keeps to itself what a request is at work on.
                    let range = place..place + sectors;
                    let is_busy = open[client].values().flatten().any(|(_, other, more)| {
                        range.start < other + more && *other < range.end
                    });
                    if is_busy {
                        continue;
                    }
                    let buffer = client as u32 + 11;
                    let first = client as u64 * 100 + place;
                    for i in 0..sectors {
                        driver.buffers.insert((buffer, place + i), 1000 + last as u32);
                    }
                    let operation = if is_write { Operation::Write } else { Operation::Read };
                    let offset = place * 512;
                    let id = BufferId(buffer);
                    let request = Request { operation, buffer: id, offset, sector: first, sectors };
                    let entry = BlockEntry::from(request).to_entry(last);
                    if clients[client].submit(&entry).is_ok() {
                        open[client].insert(last, Some((is_write, place, sectors)));
                        last += 1;
                    }
                }
                Step::Nonsense(client, opcode, arguments) => {
                    let entry = Entry { user_data: last, opcode, flags: 0, arguments };
                    if clients[client].submit(&entry).is_ok() {
                        open[client].insert(last, None);
                        last += 1;
                    }
                }
                Step::Pump => {
                    let bells = [0, 1].map(|i: usize| u64::from(clients[i].take_doorbell()));
                    exchange.raise(bells[0] << 1 | bells[1] << 2);
                    exchange.take_answers();
                    exchange.take_requests(&mut tables);
                }
                Step::Take => driver.take(),
                Step::Finish(which) => driver.finish(which),
                Step::KillDriver => {
                    driver.taken.clear();
                    driver.ring = attach();
                }
                Step::KillBlock => {
                    // The driver finishes what it has before it takes the new ring.
                    while !driver.taken.is_empty() {
                        driver.finish(0);
                    }
                    exchange = self::exchange(&to_driver, &rings);
                    driver.ring = attach();
                }
            }
            for (client, open) in open.iter_mut().enumerate() {
                while let Some(completion) = clients[client].next_completion() {
                    let request = open.remove(&completion.user_data);
                    prop_assert!(request.is_some(), "completed twice");
                    let Some(Some((is_write, place, sectors))) = request else { continue };
                    let outcome = outcome_of(completion.result);
                    if place + sectors > PLACES {
                        prop_assert_eq!(outcome, Err(Failure::Server(IoError::BadBuffer)));
                        continue;
                    }
                    let (first, buffer) = (client as u64 * 100 + place, client as u32 + 11);
                    let operation = if is_write { Operation::Write } else { Operation::Read };
                    let (buffer_id, offset) = (BufferId(buffer), place * 512);
                    let asked = Request { operation, buffer: buffer_id, offset, sector: first, sectors };
                    prop_assert_eq!(outcome, Ok(Receipt::of(&asked)));
                    for i in 0..sectors {
                        let on_disk = driver.disk[(first + i) as usize];
                        prop_assert_eq!(driver.buffers[&(buffer, place + i)], on_disk);
                        let written = 1000 + completion.user_data as u32;
                        prop_assert!(!is_write || on_disk == written);
                    }
                }
            }
        }
        prop_assert_eq!(exchange.take_doubts(), Doubts::default());
        prop_assert!(open.iter().all(BTreeMap::is_empty), "never completed: {:?}", open);
    }
}
