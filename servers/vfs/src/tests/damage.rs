//! Bits that flip in the state region and in the table of open files.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::vfs::OpenOptions;
use libsys::state::StateMemory;
use libsys::state::fake::FakeMemory;

use super::{World, open};
use crate::open_files::{OpenFiles, Record};

/// Programs whose badges and requests have long and short numbers.
const BADGES: [u64; 3] = [1, 1 << 63 | 5, 1 << 63 | 6];

#[test]
fn a_wrong_bit_in_the_region_closes_no_file() {
    let mut world = World::new().0;
    let mut vfs = world.vfs(FakeMemory::new(2048));
    let mut files = Vec::new();
    // Enough for journals in both halves.
    for round in 0..40 {
        let badge = BADGES[round % 3];
        let file = open(
            &mut vfs,
            world.caller(badge),
            "/readme",
            OpenOptions::read(),
        )
        .unwrap();
        if round % 4 == 3 {
            vfs.close(&world.caller(badge), file).unwrap();
        } else if round > 30 {
            files.push((badge, file));
        } else {
            let caller = world.caller(badge);
            vfs.close(&caller, file).unwrap();
        }
    }
    let memory = vfs.into_memory();
    for at in 0..memory.bytes() {
        for bit in 0..8 {
            let mut damaged = memory.survivor();
            damaged.damage(at, 1 << bit);
            // Opened by hand: that something was noticed is no loss.
            let (region, report) = libsys::state::Region::<OpenFiles, _>::open(damaged).unwrap();
            assert_eq!(report.dropped, 0, "{at}.{bit}: {report}");
            for &(badge, file) in &files {
                assert!(
                    region.state().get(badge, file).is_ok(),
                    "{at}.{bit}: {report}"
                );
            }
        }
    }
}

#[test]
fn a_file_that_memory_has_lost_is_found_by_the_next_instance() {
    let (mut world, mut vfs) = World::new();
    let file = open(&mut vfs, world.caller(1), "/readme", OpenOptions::read()).unwrap();
    vfs.files.corrupt(|files| {
        use libsys::state::State;
        files.apply(Record::CloseAll { badge: 1 });
    });
    let caller = world.caller(1);
    let answer = catch_unwind(AssertUnwindSafe(|| vfs.stat_file(&caller, file)));
    assert!(
        answer.is_err(),
        "it must not say that there is no such file"
    );
    let vfs = world.vfs(vfs.into_memory().survivor());
    vfs.stat_file(&caller, file).unwrap();
}
