//! What happens to the manager, with small numbers so that things meet.

use std::ops::Range;

use libipc::proto::memory::Protection;
use proptest::prelude::*;

use crate::resolve::Access;

/// Clients at a time.
pub(super) const CLIENTS: usize = 3;

/// What happens to the manager.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Map {
        client: usize,
        pages: Range<u64>,
        protection: Protection,
    },
    /// Makes a region of the image: private if it is writable.
    MapImage {
        client: usize,
        page: u64,
        protection: Protection,
    },
    Unmap {
        client: usize,
        pages: Range<u64>,
    },
    Protect {
        client: usize,
        pages: Range<u64>,
        protection: Protection,
    },
    /// A client writes to a page, or reads it.
    Touch {
        client: usize,
        page: u64,
        access: Access,
    },
    Create {
        client: usize,
        pages: u64,
    },
    DropObject,
    /// A client that is there already is registered once more.
    RegisterAgain {
        client: usize,
    },
    /// A client ends, at once or slowly, and another takes its place.
    End {
        client: usize,
        is_slow: bool,
    },
    /// A client that has never run loses its sender.
    Forsake {
        client: usize,
    },
    Housekeeping,
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        1 => Just(Protection::Read),
        4 => Just(Protection::ReadWrite),
        1 => Just(Protection::ReadExecute)
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let pages = || (16..60_u64, 1..12_u64).prop_map(|(first, count)| first..first + count);
    prop_oneof![
        4 => (client(), pages(), protection()).prop_map(|(client, pages, protection)| {
            Step::Map { client, pages, protection }
        }),
        2 => (client(), 16..60_u64, protection()).prop_map(|(client, page, protection)| {
            Step::MapImage { client, page, protection }
        }),
        3 => (client(), pages()).prop_map(|(client, pages)| Step::Unmap { client, pages }),
        2 => (client(), pages(), protection()).prop_map(|(client, pages, protection)| {
            Step::Protect { client, pages, protection }
        }),
        12 => (client(), 16..70_u64, access())
            .prop_map(|(client, page, access)| Step::Touch { client, page, access }),
        2 => (client(), 1..6_u64).prop_map(|(client, pages)| Step::Create { client, pages }),
        1 => Just(Step::DropObject),
        1 => client().prop_map(|client| Step::RegisterAgain { client }),
        1 => (client(), any::<bool>()).prop_map(|(client, is_slow)| Step::End { client, is_slow }),
        1 => client().prop_map(|client| Step::Forsake { client }),
        1 => Just(Step::Housekeeping),
    ]
}
