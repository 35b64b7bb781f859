//! Properties of the boot bundle: what is written is read back, and no bytes crash the reader.
#![cfg(feature = "std")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use skink_manifest::bundle::{BLOB_ALIGN, Bundle, BundleError, BundleWriter, Kind, MAGIC};

fn sample() -> Vec<u8> {
    let mut writer = BundleWriter::new();
    writer
        .add("kernel", Kind::Kernel, *b"kernel image")
        .expect("valid entry");
    writer.add("empty", Kind::File, []).expect("valid entry");
    writer
        .add("shell", Kind::Program, vec![7; 5000])
        .expect("valid entry");
    writer.finish()
}

#[test]
fn a_bundle_is_found_again_by_name_and_kind() {
    let bytes = sample();
    let bundle = Bundle::parse(&bytes).expect("a written bundle is valid");
    assert_eq!(bundle.entries().count(), 3);
    assert_eq!(bundle.find("shell").expect("present").data, vec![7; 5000]);
    assert_eq!(
        bundle.find_kind(Kind::Kernel).expect("present").name,
        "kernel"
    );
    assert!(bundle.find("nothing").is_none());
    assert!(bundle.entries().all(|entry| entry.offset % BLOB_ALIGN == 0));
}

#[test]
fn each_kind_of_damage_has_its_own_error() {
    let damage = |at: usize, with: &[u8]| {
        let mut bytes = sample();
        bytes[at..at + with.len()].copy_from_slice(with);
        Bundle::parse(&bytes).expect_err("damaged")
    };
    assert_eq!(damage(0, b"X"), BundleError::BadMagic);
    assert_eq!(damage(8, &[9]), BundleError::BadVersion(9));
    assert_eq!(
        damage(12, &u32::MAX.to_le_bytes()),
        BundleError::TooManyEntries(u32::MAX)
    );
    assert_eq!(damage(16, &[0]), BundleError::BadName(0));
    assert_eq!(damage(16 + 104, b"kernel"), BundleError::DuplicateName(1));
    assert_eq!(damage(16 + 48, &[99]), BundleError::BadKind(0));
    assert_eq!(
        damage(16 + 56, &4095u64.to_le_bytes()),
        BundleError::BadRange(0)
    );
    assert_eq!(
        damage(16 + 56, &0u64.to_le_bytes()),
        BundleError::BadRange(0)
    );
    assert_eq!(
        damage(16 + 64, &u64::MAX.to_le_bytes()),
        BundleError::BadRange(0)
    );
    assert_eq!(
        Bundle::parse(&MAGIC).expect_err("short"),
        BundleError::Truncated
    );
    assert_eq!(
        Bundle::parse(&sample()[..100]).expect_err("short"),
        BundleError::Truncated
    );
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(
        files in prop::collection::btree_map("[a-zé-]{1,20}", prop::collection::vec(any::<u8>(), 0..9000), 0..8)
    ) {
        let files: BTreeMap<String, Vec<u8>> = files;
        let mut writer = BundleWriter::new();
        for (name, data) in &files {
            writer.add(name, Kind::File, data.clone()).expect("valid entry");
        }
        let bytes = writer.finish();
        let bundle = Bundle::parse(&bytes).expect("a written bundle is valid");
        let read: BTreeMap<String, Vec<u8>> =
            bundle.entries().map(|entry| (entry.name.to_owned(), entry.data.to_vec())).collect();
        prop_assert_eq!(read, files);
    }

    #[test]
    fn any_bytes_give_a_bundle_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..600), valid_start: bool) {
        if valid_start && bytes.len() >= 16 {
            bytes[..16].copy_from_slice(b"SKNKBNDL\x01\0\0\0\x02\0\0\0");
        }
        if let Ok(bundle) = Bundle::parse(&bytes) {
            prop_assert!(bundle.entries().all(|entry| entry.offset + entry.data.len() <= bytes.len()));
        }
    }

    #[test]
    fn one_changed_byte_never_breaks_the_reader(at in 0usize..340, value: u8) {
        let mut bytes = sample();
        bytes[at] = value;
        if let Ok(bundle) = Bundle::parse(&bytes) {
            prop_assert!(bundle.entries().count() <= 3);
        }
    }
}
