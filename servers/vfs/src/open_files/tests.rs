use std::time::Instant;

use libipc::proto::file_system::Inode;
use libipc::proto::vfs::{Access, MAX_OPEN_FILES};
use libsys::state::fake::FakeMemory;
use libsys::state::{Purpose, Region};

use super::{By, OpenFile, OpenFiles, Record, SESSION_BIT};

/// As much as the manifest gives.
const STATE_BYTES: usize = 2 * 1024 * 1024;
const FILES: u32 = 10_000;

/// Opens files in numbers that take much room, as programs of a long-running system do.
fn with_files(region: &mut Region<OpenFiles, FakeMemory>, count: u32) {
    for number in 0..count {
        let badge = SESSION_BIT | u64::from(number) / (MAX_OPEN_FILES as u64 - 6);
        let by = By {
            badge,
            sequence: 1 << 40 | u64::from(number),
        };
        let inode = Inode(1 << 32 | u64::from(number));
        let open = OpenFile::new(1, inode, Access::ReadWrite, true);
        let file = region.state().next_file(badge).unwrap();
        let record = Record::Open(by, file.0, open);
        region.append(record, Purpose::Grow).unwrap();
    }
}

#[test]
fn ten_thousand_open_files_fit_and_are_found_again() {
    let (mut region, _) = Region::open(FakeMemory::new(STATE_BYTES)).unwrap();
    with_files(&mut region, FILES);
    let expected: OpenFiles = region.state().clone();
    let memory = region.into_memory().survivor();
    let start = Instant::now();
    let (mut region, report) = Region::<OpenFiles, _>::open(memory).unwrap();
    // The times of a busy host prove nothing; they are there to be looked at.
    println!("{report}, {:?}", start.elapsed());
    assert!(!report.has_losses());
    assert_eq!(region.state(), &expected);
    // And there is room to go on: all are closed again, in a region that has none to waste.
    let files: Vec<(u64, Vec<u32>)> = (expected.files.iter())
        .map(|(badge, own)| (*badge, own.keys().copied().collect()))
        .collect();
    for (badge, own) in files {
        for (sequence, file) in (1 << 41..).zip(own) {
            let record = Record::Close(By { badge, sequence }, file);
            region.append(record, Purpose::Shrink).unwrap();
        }
    }
    assert!(region.state().files.is_empty());
}
