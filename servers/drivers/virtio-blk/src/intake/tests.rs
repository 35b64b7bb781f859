use std::collections::BTreeMap;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, BufferId, IoError, Receipt, Request};
use libipc::ring::{Entry, RingClient, bytes_for};
use libipc::typed_ring::{RingRequest as _, outcome_of};
use libsys::mappings::Mapping;
use libsys::state::fake::FakeMemory;
use libsys::state::{MIN_REGION_BYTES, Region};
use proptest::prelude::*;

use super::Intake;
use crate::fake::{DATA, Fake, Group, Lie, SECTORS};
use crate::{AREA_BYTES, Buffer, Disk, FlightLog, Flights};

const SLOTS: usize = 16;

/// A driver instance: all of it is lost when it dies.
struct Driver {
    disk: Disk<Group>,
    intake: Intake,
    log: FlightLog<FakeMemory>,
}

impl Driver {
    fn start(fake: &Fake, area: &Mapping, ring: &Mapping) -> Driver {
        let (region, _) = Region::open(FakeMemory::new(4 * MIN_REGION_BYTES)).unwrap();
        Driver::start_after(fake, area, ring, FlightLog::new(region, 0))
    }

    fn start_after(
        fake: &Fake,
        area: &Mapping,
        ring: &Mapping,
        log: FlightLog<FakeMemory>,
    ) -> Driver {
        assert_eq!(area.bytes(), AREA_BYTES);
        let mut disk = Disk::new(fake.set_up(area.alias().unwrap()).unwrap());
        let buffer = Buffer {
            physical: DATA,
            bytes: 64 * 512,
            is_writable: true,
        };
        assert!(disk.register(BufferId(1), buffer));
        Driver {
            disk,
            intake: Intake::attach(0, ring.alias().unwrap()).unwrap(),
            log,
        }
    }

    fn pump(&mut self) {
        let mut done = Vec::new();
        let _ = self.disk.poll(0, &mut done);
        assert!(self.intake.was_asked(&done));
        self.intake.answer(&mut done, &mut self.log);
        self.intake.take_requests(&mut self.disk, &mut self.log, 0);
    }

    /// Returns whether the request with this key in the ring is at the device.
    fn has(&self, key: u64) -> bool {
        let flight = self.log.flights().get(0, key);
        flight.is_some_and(|flight| flight.is_taken)
    }

    /// Ends this instance and starts the next, which finds what is in the state region.
    fn restart(self, fake: &Fake, area: &Mapping, ring: &Mapping, crashes: u32) -> Driver {
        let mut log = self.log;
        let survivor = log.region().memory().survivor();
        let (region, report) = Region::open(survivor).unwrap();
        assert!(!report.has_losses());
        Driver::start_after(fake, area, ring, FlightLog::new(region, crashes))
    }
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", Flights);
}

/// A sector into the first place of the buffer.
fn one_sector(sector: u64) -> Request {
    Request::read(BufferId(1), 0, sector, 1)
}

fn read(client: &RingClient, user_data: u64, sector: u64) {
    let read = BlockEntry::from(one_sector(sector));
    client.submit(&read.to_entry(user_data)).unwrap();
}

fn outcomes(client: &RingClient) -> BTreeMap<u64, Result<Receipt, Failure<IoError>>> {
    let completions = std::iter::from_fn(|| client.next_completion());
    completions
        .map(|completion| (completion.user_data, outcome_of(completion.result)))
        .collect()
}

#[test]
fn a_request_that_crashes_the_driver_fails_alone() {
    let (fake, area) = Fake::new(64);
    let ring = Mapping::on_heap(bytes_for(SLOTS));
    let client = RingClient::create(ring.alias().unwrap(), SLOTS).unwrap();
    let mut driver = Driver::start(&fake, &area, &ring);
    const POISON: u64 = 3;
    for number in 0..6 {
        read(&client, number, number);
    }
    let (mut crashes, mut open) = (0, 6);
    let mut answers = BTreeMap::new();
    while answers.len() < open {
        driver.pump();
        // The driver crashes over one request, whenever it has it.
        if driver.has(POISON + 1) {
            crashes += 1;
            assert!(crashes <= 3, "not found");
            driver = driver.restart(&fake, &area, &ring, crashes);
            continue;
        }
        fake.serve(64);
        driver.pump();
        answers.extend(outcomes(&client));
        // Others come meanwhile.
        if open < 9 {
            read(&client, open as u64, 1);
            open += 1;
        }
    }
    let crashed = Err(Failure::Server(IoError::Crashed));
    for (number, outcome) in answers {
        let sector = if number < 6 { number } else { 1 };
        let done = Ok(Receipt::of(&one_sector(sector)));
        let expected = if number == POISON { crashed } else { done };
        assert_eq!(outcome, expected, "{number}");
    }
    assert!(!driver.log.flights().is_careful());
}

#[test]
fn a_device_that_was_told_something_else_is_noticed() {
    let (fake, area) = Fake::new(64);
    let ring = Mapping::on_heap(bytes_for(SLOTS));
    let client = RingClient::create(ring.alias().unwrap(), SLOTS).unwrap();
    let mut driver = Driver::start(&fake, &area, &ring);
    read(&client, 0, 5);
    // As if a field of the entry had been mixed up on its way to the device.
    let wrong = Request {
        offset: 512,
        ..one_sector(5)
    };
    driver.disk.accept(7, &wrong, 0).unwrap();
    let submission = driver.intake.ring.next_request().unwrap();
    driver.intake.submissions.insert(7, submission.id);
    fake.serve(1);
    let mut done = Vec::new();
    assert_eq!(driver.disk.poll(0, &mut done), None);
    assert!(!driver.intake.was_asked(&done));
    // Whoever gets the answer sees it as well.
    driver.intake.answer(&mut done, &mut driver.log);
    assert_eq!(outcomes(&client)[&0], Ok(Receipt::of(&wrong)));
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client reads a sector into a place of its buffer.
    Read {
        place: u64,
        sector: u64,
    },
    /// The client writes nonsense into the ring.
    Nonsense(u32, [u64; 5]),
    Pump,
    Serve(usize),
    /// The device lies once.
    Lie(Lie),
    /// The driver is killed and started again.
    Kill,
}

/// Fewer than the resets after which a device is given up.
const MOST_LIES: u32 = 2;

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..64, 0_u64..SECTORS).prop_map(|(place, sector)| Step::Read { place, sector }),
        1 => (any::<u32>(), any::<[u64; 5]>()).prop_map(|(code, args)| Step::Nonsense(code, args)),
        1 => (1_u32..4, any::<[u64; 5]>()).prop_map(|(code, args)| Step::Nonsense(code, args)),
        4 => Just(Step::Pump),
        4 => (1_usize..4).prop_map(Step::Serve),
        1 => any::<u32>().prop_map(|id| Step::Lie(Lie::Id(id))),
        2 => Just(Step::Kill),
    ]
}

proptest! {
    #[test]
    fn killing_the_driver_is_only_a_pause(steps in prop::collection::vec(any_step(), 1..150)) {
        let (fake, area) = Fake::new(64);
        let ring = Mapping::on_heap(bytes_for(SLOTS));
        let client = RingClient::create(ring.alias().unwrap(), SLOTS).unwrap();
        let mut driver = Driver::start(&fake, &area, &ring);
        let (mut last, mut open) = (0, BTreeMap::<u64, Option<(u64, u64)>>::new());
        let mut lies = 0;
        let mut steps: Vec<Step> = steps;
        // A lie may still be waiting: then it takes another round.
        steps.extend([Step::Pump, Step::Serve(64), Step::Pump].repeat(3));
        for step in steps {
            match step {
                Step::Read { place, sector } => {
                    let busy = open.values().flatten().any(|(other, _)| *other == place);
                    if busy {
                        continue;
                    }
                    fake.0.borrow_mut().data[place as usize * 512..][..512].fill(0xee);
                    let (buffer, offset) = (BufferId(1), place * 512);
                    let read = BlockEntry::Read { buffer, offset, sector, sectors: 1 };
                    let entry = read.to_entry(last);
                    if client.submit(&entry).is_ok() {
                        open.insert(last, Some((place, sector)));
                        last += 1;
                    }
                }
                Step::Nonsense(opcode, arguments) => {
                    // Nonsense that is a valid read would write over what others read.
                    let is_sound = BlockEntry::from_words(opcode, arguments)
                        .is_ok_and(|entry| Request::from(entry).buffer == BufferId(1));
                    let entry = Entry { user_data: last, opcode, flags: 0, arguments };
                    if !is_sound && client.submit(&entry).is_ok() {
                        open.insert(last, None);
                        last += 1;
                    }
                }
                Step::Pump => driver.pump(),
                Step::Serve(count) => {
                    fake.serve(count);
                    fake.0.borrow_mut().lie = Lie::None;
                }
                // A device that lies again and again is given up, which is another test's affair.
                Step::Lie(_) if lies == MOST_LIES => {}
                Step::Lie(lie) => {
                    fake.0.borrow_mut().lie = lie;
                    lies += 1;
                }
                // From outside, so that nobody is blamed.
                Step::Kill => driver = driver.restart(&fake, &area, &ring, 0),
            }
            prop_assert!(!driver.disk.is_gone());
            while let Some(completion) = client.next_completion() {
                let request = open.remove(&completion.user_data);
                prop_assert!(request.is_some(), "completed twice");
                let Some(Some((place, sector))) = request else { continue };
                let asked = Request { offset: place * 512, ..one_sector(sector) };
                let outcome = outcome_of::<Receipt, IoError>(completion.result);
                prop_assert_eq!(outcome, Ok(Receipt::of(&asked)));
                let state = fake.0.borrow();
                let data = &state.data[place as usize * 512..][..512];
                prop_assert_eq!(data, &state.disk[sector as usize * 512..][..512]);
            }
        }
        prop_assert!(open.is_empty(), "never completed: {:?}", open);
    }
}
