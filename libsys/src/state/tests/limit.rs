//! How long a journal may become, and what that costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::state::fake::FakeMemory;
use crate::state::{NoPrevious, Purpose, Region, State};

/// As large as the larger regions of manifests.
const REGION_BYTES: usize = 8 * 1024 * 1024;
/// What a journal may have beside twice its snapshot.
const SHORT_JOURNAL_BYTES: usize = 256 * 1024;

/// Like the tables of servers: numbers and a name.
#[derive(Default, PartialEq, Debug, Serialize, Deserialize)]
struct Files(BTreeMap<u64, (u64, u32, Vec<u8>)>);

impl State for Files {
    type Record = (u64, (u64, u32, Vec<u8>));
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "test.files";

    fn apply(&mut self, (key, file): Self::Record) {
        self.0.insert(key, file);
    }
}

fn append(region: &mut Region<Files, FakeMemory>, key: u64, round: u64) {
    let file = (round, 7, vec![b'n'; 24]);
    region.append((key, file), Purpose::Grow).unwrap();
}

/// Appends for a long time to a table of `files` files. Returns how many records the next
/// instance replays at most, its longest time, and the largest share of snapshots in the time of
/// appending.
fn live(files: u64, records: u64) -> (u32, Duration, u32) {
    let (mut region, _) = Region::<Files, _>::open(FakeMemory::new(REGION_BYTES)).unwrap();
    for key in 0..files {
        append(&mut region, 1 << 40 | key, 0);
    }
    let mut epoch = region.half.active_word();
    let (mut snapshots, mut replayed, mut longest) = (0, 0, Duration::ZERO);
    for round in 0..records {
        if round % (records / 8) == 0 {
            let memory = region.memory().survivor();
            let start = Instant::now();
            let (found, report) = Region::<Files, _>::open(memory).unwrap();
            longest = longest.max(start.elapsed());
            assert_eq!(found.state(), region.state());
            replayed = replayed.max(report.replayed);
        }
        append(&mut region, 1 << 40 | (round % files), round);
        snapshots += u32::from(region.half.active_word() != epoch);
        epoch = region.half.active_word();
    }
    (replayed, longest, snapshots)
}

#[test]
fn replaying_is_bounded_by_the_size_of_the_state_and_not_by_the_age_of_the_server() {
    // Header, key, fields and name, filled up to words.
    const RECORD_BYTES: u64 = 48;
    const ENTRY_BYTES: u64 = 40;
    for (files, records) in [(10, 60_000), (5_000, 60_000), (20_000, 100_000)] {
        let (replayed, longest, snapshots) = live(files, records);
        let journal_bytes = (2 * files * ENTRY_BYTES).max(SHORT_JOURNAL_BYTES as u64);
        let most = journal_bytes / RECORD_BYTES + 1;
        // The times of a busy host prove nothing; they are there to be looked at.
        println!(
            "{files} files: {replayed} of {most} records replayed in {longest:?}, {snapshots} snapshots"
        );
        assert!(u64::from(replayed) <= most, "{files}: {replayed} > {most}");
        // And snapshots are as seldom as that allows.
        assert!(
            u64::from(snapshots) <= 2 * records / (journal_bytes / 64) + 1,
            "{snapshots}"
        );
    }
}
