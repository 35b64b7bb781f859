//! An `init` that makes, gives away and closes handles and dies between any two stores.

use std::collections::BTreeMap;

use libsys::state::fake::FakeMemory;
use libsys::state::{Purpose, Region};
use proptest::prelude::*;

use super::*;

const BYTES: usize = 16 * 1024;

/// What the kernel keeps of a dead process: its handles, by number.
#[derive(Clone, Debug, Default)]
struct Table {
    next: Number,
    open: BTreeSet<Number>,
}

impl Table {
    fn make(&mut self) -> Number {
        self.next += 1;
        self.open.insert(self.next);
        self.next
    }

    fn close(&mut self, number: Number) {
        assert!(self.open.remove(&number), "{number} is closed twice");
    }
}

/// One thing that `init` does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Make(u8),
    Put(u64, u64),
    Remove(u64, u64),
    Start(u16),
    End(u16),
    Gone(u16),
    Swap(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..9_u8).prop_map(Step::Make),
        (0..2_u64, 0..3_u64).prop_map(|(client, key)| Step::Put(client, key)),
        (0..2_u64, 0..3_u64).prop_map(|(client, key)| Step::Remove(client, key)),
        (0..2_u16).prop_map(Step::Start),
        (0..2_u16).prop_map(Step::End),
        (0..2_u16).prop_map(Step::Gone),
        (0..2_u16).prop_map(Step::Swap),
    ]
}

struct Init {
    region: Region<Ledger, FakeMemory>,
    table: Table,
}

impl Init {
    fn append(&mut self, record: Record) {
        self.region.append(record, Purpose::Grow).unwrap();
    }

    fn situation(&self, service: Position) -> Situation {
        let record = self.region.state().service(service);
        record.map_or_else(Situation::default, |record| record.situation.clone())
    }

    fn set(&mut self, service: Position, situation: Situation) {
        self.append(Record::Situation(service, Box::new(situation)));
    }

    fn vault(&mut self, client: u64, key: u64, kept: Option<Kept>) {
        let vault = self.region.state().vault();
        let old = BTreeMap::from_iter(vault).get(&(client, key)).copied();
        self.append(Record::Vault { client, key, kept });
        if let Some(old) = old {
            self.table.close(old.number());
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Make(pool) => {
                let key = Key::Of(3, Part::Pool(pool));
                if self.region.state().handle(key).is_none() {
                    let number = self.table.make();
                    self.append(Record::Handle(key, number));
                }
            }
            Step::Put(client, key) => {
                let number = self.table.make();
                self.vault(client, key, Some(Kept::Memory(number)));
            }
            Step::Remove(client, key) => self.vault(client, key, None),
            Step::Start(service) => {
                let mut situation = self.situation(service);
                if situation.running.is_none() {
                    let process = self.table.make();
                    situation.running = Some(Instance {
                        process,
                        id: process.into(),
                        pool: Some(1),
                    });
                    self.set(service, situation);
                }
            }
            Step::Swap(service) => {
                let program = Program::Memory(self.table.make(), 9);
                let mut situation = self.situation(service);
                let versions = &mut situation.versions;
                versions.slot = 1 - versions.slot;
                let before = versions.current.replace(program);
                let unneeded = core::mem::replace(&mut versions.previous, before);
                self.set(service, situation);
                if let Some(number) = unneeded.and_then(|program| program.number()) {
                    self.table.close(number);
                }
            }
            Step::End(service) => {
                let mut situation = self.situation(service);
                if let Some(instance) = situation.running.take() {
                    situation.ending.push((instance.process, 1));
                    self.set(service, situation);
                }
            }
            Step::Gone(service) => {
                let mut situation = self.situation(service);
                let ending = core::mem::take(&mut situation.ending);
                self.set(service, situation);
                for (process, _) in ending {
                    self.table.close(process);
                }
            }
        }
    }
}

proptest! {
    /// Whenever it dies, the next instance finds each handle that a record names open, and
    /// closes all others; then table and ledger agree.
    #[test]
    fn nothing_that_is_named_is_closed_and_nothing_else_stays_open(
        steps in prop::collection::vec(step(), 1..60),
        dies_after in 0_usize..4_000,
    ) {
        let (region, _) = Region::<Ledger, _>::open(FakeMemory::new(BYTES)).unwrap();
        let memory = region.into_memory();
        let last_store = memory.stores() + dies_after;
        let memory = memory.dying_after(dies_after);
        let (region, _) = Region::open(memory).unwrap();
        let mut init = Init { region, table: Table::default() };
        let mut table = Table::default();
        for step in steps {
            let stores = init.region.memory().stores();
            init.run(step);
            // Only what is done while it lives is seen by the kernel. Of the step in which it
            // dies, handles were made and not closed: closing comes after the last store.
            if init.region.memory().stores() <= last_store {
                table = init.table.clone();
            } else {
                if stores <= last_store {
                    let made: Vec<_> = init.table.open.difference(&table.open).copied().collect();
                    table.open.extend(made);
                }
                break;
            }
        }
        let survivor = init.region.memory().survivor();
        let (region, report) = Region::<Ledger, _>::open(survivor).unwrap();
        prop_assert_eq!(report.dropped, 0);
        let named = region.state().numbers();
        prop_assert!(named.is_subset(&table.open), "{:?} of {:?}", named, table.open);
        table.open.retain(|number| named.contains(number));
        prop_assert_eq!(&table.open, &named);
    }
}

#[test]
fn each_downtime_is_a_sample_once() {
    let mut ledger = Ledger::default();
    let mut own = Own::default();
    let mut situation = Situation::default();
    for (downtimes, ns) in [(1, 5), (1, 5), (2, 9)] {
        own.counts.downtimes = downtimes;
        own.counts.downtime_last_ns = ns;
        situation.life.counts = own.counts.clone();
        ledger.apply(Record::Own(Box::new(own.clone())));
        ledger.apply(Record::Situation(4, Box::new(situation.clone())));
    }
    let mut samples = Samples::default();
    samples.add(5);
    samples.add(9);
    assert_eq!(ledger.own().1, &samples);
    assert_eq!(ledger.service(4).unwrap().samples, samples);
}

#[test]
fn a_full_system_fits_into_the_region() {
    let (mut region, _) = Region::<Ledger, _>::open(FakeMemory::new(1 << 20)).unwrap();
    let services = 40;
    for service in 0..services {
        for part in 0..40 {
            let record = Record::Handle(Key::Of(service, Part::Call(part)), u32::MAX);
            region.append(record, Purpose::Grow).unwrap();
        }
        for key in 0..libipc::proto::init::MAX_VAULT_KEYS as u64 {
            let kept = Some(Kept::Memory(u32::MAX));
            let client = service.into();
            let record = Record::Vault {
                client,
                key: u64::MAX - key,
                kept,
            };
            region.append(record, Purpose::Grow).unwrap();
        }
        for restart in 1..300 {
            let mut situation = Situation::default();
            situation.life.counts.downtimes = restart;
            situation.life.counts.downtime_last_ns = u64::MAX;
            let record = Record::Situation(service, Box::new(situation));
            region.append(record, Purpose::Grow).unwrap();
        }
    }
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", Ledger);
}
