//! Whatever a client sends, the dispatcher answers, and never panics.

#[path = "support/sample.rs"]
mod sample;

use libipc::Caller;
use libipc::schema::Interface as _;
use libipc::wire::{OutHandles, Status, decode};
use libsys::abi::RawHandle;
use libsys::{Handle, Memory, Notification, Sender};
use proptest::prelude::*;
use sample::{Item, SampleError, SampleSchema, sample};

/// Handles by kind, as anyone may send them.
fn handles(kinds: &[u8]) -> OutHandles {
    let mut handles = OutHandles::new();
    for (i, kind) in kinds.iter().enumerate() {
        let raw = RawHandle(100 + i as u32);
        match kind {
            0 => handles.copy(&Handle::<Memory>::from_raw(raw)),
            1 => handles.copy(&Handle::<Notification>::from_raw(raw)),
            _ => handles.pass(Handle::<Sender>::from_raw(raw)),
        }
    }
    handles
}

proptest! {
    #[test]
    fn any_bytes_for_any_method_get_an_answer_or_wait(
        method in 0..14_u16,
        payload in prop::collection::vec(any::<u8>(), 0..80),
        kinds in prop::collection::vec(0..3_u8, 0..5),
        redelivered in any::<bool>(),
    ) {
        let (_, loopback, client) = sample();
        let caller = Caller { badge: 1, sequence: 1, redelivered };
        let label = SampleSchema::SCHEMA.label(method);
        let token = loopback.submit(label, caller, &payload, handles(&kinds));
        match loopback.take(token) {
            Some(reply) => prop_assert!(Status::from_label(reply.label).is_some()),
            None => {
                let waits = ["wait", "sleep"].contains(
                    &SampleSchema::SCHEMA.methods[usize::from(method)].name,
                );
                prop_assert!(waits, "method {method} has no answer");
            }
        }
        prop_assert_eq!(client.add(20, 3), Ok(23));
    }

    #[test]
    fn any_label_gets_an_answer(label in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..16)) {
        let (_, loopback, _) = sample();
        let token = loopback.submit(label, Caller::default(), &payload, OutHandles::new());
        let is_ours = label >> 16 == u32::from(SampleSchema::SCHEMA.id);
        prop_assert!(loopback.take(token).is_some() || is_ours);
    }

    #[test]
    fn values_survive_the_way_there_and_back(
        number in any::<u64>(),
        text in ".{0,100}",
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let (_, _, client) = sample();
        let item = Item { number, text };
        prop_assert_eq!(client.echo(&item, bytes.clone()), Ok((item, bytes)));
    }

    #[test]
    fn any_reply_decodes_to_a_value_or_nothing(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<Result<(Item, Vec<u8>), SampleError>>(&payload);
        let _ = decode::<Result<(bool, Vec<Item>, Option<String>), SampleError>>(&payload);
    }
}
