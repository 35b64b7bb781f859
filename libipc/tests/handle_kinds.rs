//! Every method of every interface takes handles of the right kinds, and of no others.

use libipc::Caller;
use libipc::describe::{Book, Call, Described, HandleShape, Value, examples};
use libipc::loopback::Loopback;
use libipc::proto::{Visitor, visit};
use libipc::typed_ring::RingRequest;
use libipc::wire::{OutHandles, Status, encode};
use libsys::abi::{ObjectKind, RawHandle};
use libsys::{Handle, Interrupt, Memory, Notification, Process, Sender, System};

/// What a test wants to know of a method.
struct Method {
    name: &'static str,
    payload: Vec<u8>,
    kinds: Vec<ObjectKind>,
}

#[derive(Default)]
struct Methods(Vec<Method>);

impl Book for Methods {
    fn call<A: Value, T: Value, E: Value>(&mut self, call: &Call) {
        // In the first example no optional handle is there.
        let example = examples::<A>().remove(0);
        let mut page = [0; libsys::abi::MAX_MESSAGE_BYTES];
        let bytes = encode(&example.value, &mut page).expect("an example is short");
        let required = |shape: &&HandleShape| !shape.is_optional;
        self.0.push(Method {
            name: call.name,
            payload: page[..bytes].to_vec(),
            kinds: call
                .handles_in
                .iter()
                .filter(required)
                .map(|shape| shape.kind)
                .collect(),
        });
    }

    fn ring<R: RingRequest>(&mut self) {}
}

fn handles(kinds: &[ObjectKind]) -> OutHandles {
    let mut handles = OutHandles::new();
    for (raw, kind) in (1..).map(RawHandle).zip(kinds) {
        match kind {
            ObjectKind::Process => handles.copy(&Handle::<Process>::from_raw(raw)),
            ObjectKind::Sender => handles.copy(&Handle::<Sender>::from_raw(raw)),
            ObjectKind::Notification => handles.copy(&Handle::<Notification>::from_raw(raw)),
            ObjectKind::Memory => handles.copy(&Handle::<Memory>::from_raw(raw)),
            ObjectKind::Interrupt => handles.copy(&Handle::<Interrupt>::from_raw(raw)),
            ObjectKind::System => handles.copy(&Handle::<System>::from_raw(raw)),
            other => panic!("no interface passes {other:?} yet: add it here"),
        }
    }
    handles
}

struct Check {
    checked: usize,
}

impl Visitor for Check {
    fn see<I: Described>(&mut self, file: &'static str) {
        let mut methods = Methods::default();
        I::describe(&mut methods);
        let loopback = Loopback::default();
        loopback.add_boxed(I::mute());
        for (number, method) in (0..).zip(&methods.0) {
            let label = I::SCHEMA.label(number);
            let status = |kinds: &[ObjectKind]| {
                let caller = Caller::default();
                let token = loopback.submit(label, caller, &method.payload, handles(kinds));
                loopback.take(token).map(|reply| reply.label)
            };
            let name = method.name;
            // The server never answers what it has taken.
            assert_eq!(status(&method.kinds), None, "{file}: {name}");
            let malformed = Some(Status::Malformed as u32);
            for (place, kind) in method.kinds.iter().enumerate() {
                let wrong = match kind {
                    ObjectKind::System => ObjectKind::Memory,
                    _ => ObjectKind::System,
                };
                let mut kinds = method.kinds.clone();
                kinds[place] = wrong;
                assert_eq!(status(&kinds), malformed, "{file}: {name} takes {wrong:?}");
                let missing = &method.kinds[..place];
                assert_eq!(
                    status(missing),
                    malformed,
                    "{file}: {name} with {missing:?}"
                );
                self.checked += 1;
            }
        }
    }
}

#[test]
fn handles_of_another_kind_are_refused_by_every_method() {
    let mut check = Check { checked: 0 };
    visit(&mut check);
    assert!(check.checked > 10, "{}", check.checked);
}
