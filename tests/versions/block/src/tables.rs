//! Who has which queue and which buffers, and what each queue was used for.

use alloc::collections::BTreeMap;
use core::ops::Deref;

use libsys::state::State;
use serde::{Deserialize, Serialize};

#[path = "../../../../servers/block/src/tables.rs"]
mod version_1;

pub use version_1::{Buffer, MAX_BUFFERS, MAX_CRASHES, MAX_QUEUES, Queue, Record, Totals};

/// What a queue was used for since this version knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Buffers that were registered, also those that are forgotten.
    pub buffers: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The tables of version 1, behind what is new.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tables {
    usage: BTreeMap<u32, Usage>,
    tables: version_1::Tables,
}

impl Deref for Tables {
    type Target = version_1::Tables;

    fn deref(&self) -> &version_1::Tables {
        &self.tables
    }
}

impl State for Tables {
    type Record = Record;
    type Previous = version_1::Tables;
    const SCHEMA: &'static str = "block.tables";

    fn apply(&mut self, record: Record) {
        match &record {
            Record::Registered(_, buffer) => {
                let usage = self.usage.entry(buffer.queue).or_default();
                usage.buffers = usage.buffers.saturating_add(1);
                usage.bytes = usage.bytes.saturating_add(buffer.bytes);
            }
            Record::Closed(id) => {
                self.usage.remove(id);
            }
            _ => {}
        }
        self.tables.apply(record);
    }

    fn downgrade(&self) -> Option<version_1::Tables> {
        Some(self.tables.clone())
    }
}

/// What the buffers at hand tell is what is known of earlier times.
impl From<version_1::Tables> for Tables {
    fn from(tables: version_1::Tables) -> Self {
        let mut usage: BTreeMap<u32, Usage> = BTreeMap::new();
        for (id, _) in tables.queues() {
            let buffers = tables.buffers_of(id);
            let known = buffers
                .iter()
                .filter_map(|&buffer| tables.buffer(buffer, id));
            let bytes = known.map(|buffer| buffer.bytes).sum();
            let buffers = buffers.len() as u64;
            usage.insert(id, Usage { buffers, bytes });
        }
        Tables { usage, tables }
    }
}

impl Tables {
    /// Returns what a queue was used for.
    pub fn usage(&self, queue: u32) -> Usage {
        self.usage.get(&queue).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use libsys::state::fake::FakeMemory;
    use libsys::state::{Purpose, Region, schema_hash};

    use super::{Buffer, Queue, Record, Tables, Usage, version_1};

    #[test]
    fn version_1_is_migrated_and_gets_its_state_back() {
        let (mut old, _) =
            Region::<version_1::Tables, _>::open(FakeMemory::new(64 * 1024)).unwrap();
        let buffer = Buffer {
            queue: 1,
            identity: 5,
            bytes: 8192,
            is_writable: true,
        };
        for record in [
            Record::Opened(1, Queue::new(9, 0)),
            Record::Registered(2, buffer),
        ] {
            old.append(record, Purpose::Grow).unwrap();
        }
        let before = old.state().clone();
        let (mut new, report) = Region::<Tables, _>::open(old.into_memory()).unwrap();
        assert_eq!(
            report.migrated_from,
            Some(schema_hash::<version_1::Tables>())
        );
        let (buffers, bytes) = (1, 8192);
        assert_eq!(new.state().usage(1), Usage { buffers, bytes });
        new.append(Record::Registered(3, buffer), Purpose::Grow)
            .unwrap();
        new.append(Record::Unregistered(3), Purpose::Shrink)
            .unwrap();
        assert_eq!(new.state().usage(1).buffers, 2);
        new.export(schema_hash::<version_1::Tables>()).unwrap();
        let (old, report) = Region::<version_1::Tables, _>::open(new.into_memory()).unwrap();
        assert!(!report.has_losses());
        assert_eq!(old.state().buffers_of(1), before.buffers_of(1));
        assert_eq!(old.state().queue(1, 9), before.queue(1, 9));
    }
}
