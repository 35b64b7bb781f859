//! Damaged images: a clear error in bounded time, never a panic.

use std::time::{Duration, Instant};

use ext4::Volume;
use ext4::error::Error;
use fixtures::{Content, Ext4, Tree};

use crate::Folder;
use crate::device::{FakeDevice, block_on};
use crate::walk::exhaust;

/// Far above what any image here takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(20);

/// What files are filled with, to tell their contents from metadata.
const FILLER: u8 = 0xa5;

/// Mounts and reads everything. Returns the number of errors, or why it did not mount.
fn probe(bytes: Vec<u8>) -> Result<usize, Error> {
    let start = Instant::now();
    let result = block_on(Volume::mount(FakeDevice::new(bytes))).map(|volume| exhaust(&volume));
    assert!(start.elapsed() < LIMIT, "took {:?}", start.elapsed());
    result
}

/// Makes a small volume with one of everything, as bytes.
fn small_volume(folder: &Folder, features: &str) -> Vec<u8> {
    let tree = Tree::new(&folder.path().join("tree")).unwrap();
    tree.text("a/b/c/file", &[FILLER; 50_000]).unwrap();
    tree.sparse(
        "sparse",
        1 << 20,
        &[0, 70_000, 300_000, 600_000, 900_000, 1_000_000],
    )
    .unwrap();
    tree.link("fast", "a")
        .unwrap()
        .link("slow", &"a/../".repeat(30))
        .unwrap();
    for index in 0..150 {
        tree.text(&format!("many/some-longer-name-{index}"), b"x")
            .unwrap();
    }
    let image = folder.path().join("image");
    let recipe = Ext4::new()
        .megabytes(4)
        .block_bytes(1024)
        .features(features);
    recipe
        .argument("-N")
        .argument("256")
        .make(tree.root(), &image)
        .unwrap();
    std::fs::read(image).unwrap()
}

#[test]
fn each_bad_image_gives_its_error() {
    let folder = Folder::new("bad");
    for image in fixtures::bad_images(folder.path()).unwrap() {
        let result = probe(std::fs::read(&image.path).unwrap());
        match (&result, image.is_mountable) {
            (Err(Error::Damaged(..) | Error::Unsupported(_)), false) => {}
            // A cycle is sound for who only follows numbers.
            (Ok(0), true) if image.name == "cyclic-directory" => {}
            (Ok(errors), true) if *errors > 0 && image.name != "cyclic-directory" => {}
            _ => panic!("{}: {result:?}", image.name),
        }
    }
}

#[test]
fn every_byte_of_the_superblock_can_be_anything() {
    let folder = Folder::new("superblock");
    let bytes = small_volume(&folder, "^metadata_csum,^has_journal");
    for at in 1024..2048 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            let _ = probe(bytes);
        }
    }
    // Whole words too: sums and products overflow there.
    for at in (1024..1536).step_by(4) {
        for value in [0, 1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            let _ = probe(bytes);
        }
    }
}

#[test]
fn a_device_may_end_anywhere() {
    let folder = Folder::new("ends");
    let bytes = small_volume(&folder, "");
    for end in [
        0,
        1,
        511,
        512,
        1024,
        1535,
        1536,
        2047,
        2048,
        4096,
        1 << 20,
        (4 << 20) - 1,
    ] {
        assert!(
            probe(bytes[..end].to_vec()).is_err(),
            "a device of {end} bytes was mounted"
        );
    }
}

#[test]
fn a_device_may_fail_at_any_read() {
    let folder = Folder::new("fails");
    let bytes = small_volume(&folder, "");
    for reads in 0..12 {
        let device = FakeDevice::new(bytes.clone());
        device.fail_after(reads);
        match block_on(Volume::mount(device)) {
            Ok(volume) => assert!(exhaust(&volume) > 0),
            Err(error) => assert_eq!(error, Error::Device),
        }
    }
}

/// Changes bytes anywhere but in file contents, many times.
fn mutate(name: &str, features: &str, rounds: u64) -> usize {
    let folder = Folder::new(name);
    let bytes = small_volume(&folder, features);
    // What is not zero and no filler is metadata, or one of the few small contents.
    let used: Vec<usize> = (1024..bytes.len())
        .filter(|&at| bytes[at] != 0 || bytes[at - 8..at].iter().any(|&byte| byte != 0))
        .filter(|&at| bytes[at - 8..at] != [FILLER; 8])
        .collect();
    let seed = std::env::var("EXT4_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("EXT4_SEED={seed}");
    let (mut errors, mut mounted) = (0, 0);
    for round in 0..rounds {
        let mut random = Content::new(seed + round);
        let mut bytes = bytes.clone();
        for _ in 0..1 + random.number() % 32 {
            let at = used[random.number() as usize % used.len()];
            bytes[at] = match random.number() % 3 {
                0 => bytes[at] ^ 1 << (random.number() % 8),
                1 => [0, 1, 0x7f, 0x80, 0xff][random.number() as usize % 5],
                _ => random.number() as u8,
            };
        }
        match probe(bytes) {
            Ok(count) => {
                mounted += 1;
                errors += count;
            }
            Err(_) => errors += 1,
        }
    }
    println!("{name}: {mounted} of {rounds} mounted, {errors} errors");
    // Else the damage would not reach what is read after mounting.
    assert!(mounted > rounds / 20, "{mounted} of {rounds} mounted");
    errors
}

#[test]
fn random_damage_without_checksums_is_survived() {
    let features = "^metadata_csum,^has_journal";
    assert!(mutate("mutate-extents", features, 1500) > 0);
    assert!(
        mutate(
            "mutate-inline",
            "^metadata_csum,^has_journal,inline_data",
            700
        ) > 0
    );
    assert!(
        mutate(
            "mutate-blocks",
            "^extent,^64bit,^metadata_csum,^has_journal",
            700
        ) > 0
    );
}

#[test]
fn random_damage_with_checksums_is_found() {
    assert!(mutate("mutate-csum", "^has_journal", 500) > 0);
}
