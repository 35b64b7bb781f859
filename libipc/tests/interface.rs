//! A generated client against a generated dispatcher, through every kind of message.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "support/sample.rs"]
mod sample;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use libipc::loopback::Loopback;
use libipc::schema::{Contract, HANDSHAKE, Interface as _};
use libipc::server::{MemoryJournal, ReplyJournal as _};
use libipc::wire::{OutHandles, Status, decode, encode};
use libipc::{Caller, ConnectError, Failure, Protocol};
use libsys::abi::RawHandle;
use libsys::{Error, Handle, Memory, Notification};
use sample::{Item, SampleClient, SampleDispatcher, SampleError, SampleSchema, Server, sample};

fn method(name: &str) -> u16 {
    let place = SampleSchema::SCHEMA
        .methods
        .iter()
        .position(|method| method.name == name);
    place.unwrap() as u16
}

fn redelivered(badge: u64, sequence: u64) -> Caller {
    Caller {
        badge,
        sequence,
        redelivered: true,
    }
}

#[test]
fn values_arrive_and_return() {
    let (_, _, client) = sample();
    assert_eq!(client.add(2, u32::MAX), Ok(u64::from(u32::MAX) + 2));
    let items = [
        Item {
            number: 1,
            text: "a".into(),
        },
        Item {
            number: u64::MAX,
            text: "ä€😀".into(),
        },
    ];
    assert_eq!(
        client.join("x", &[1, 255], &items).unwrap(),
        "x [1, 255] a+ä€😀"
    );
    let back = client.echo(&items[1], vec![0; 3000]).unwrap();
    assert_eq!(back, (items[1].clone(), vec![0; 3000]));
    assert_eq!(client.nothing(), Ok(()));
}

#[test]
fn errors_of_the_method_return_as_such() {
    let (_, _, client) = sample();
    assert_eq!(
        client.add(13, 0),
        Err(Failure::Server(SampleError::Refused))
    );
    assert_eq!(
        client.bytes(100_007),
        Err(Failure::Server(SampleError::Excess(7)))
    );
}

#[test]
fn handles_travel_in_order_and_optional_ones_may_be_absent() {
    let (server, _, client) = sample();
    let memory = Handle::<Memory>::from_raw(RawHandle(11));
    let bell = Handle::<Notification>::from_raw(RawHandle(12));
    let second = || Handle::<Memory>::from_raw(RawHandle(13));
    let (back, tag, rung) = client.handles(&memory, Some(&bell), second(), 7).unwrap();
    assert_eq!(
        (back.raw().0, tag, rung.map(|bell| bell.raw().0)),
        (13, 7, Some(12))
    );
    assert_eq!(
        server.handles.borrow().as_slice(),
        [RawHandle(11), RawHandle(13)]
    );
    let (back, _, rung) = client.handles(&memory, None, second(), 7).unwrap();
    assert_eq!((back.raw().0, rung.is_none()), (13, true));
}

#[test]
fn missing_handles_and_handles_of_another_kind_are_malformed() {
    let (_, loopback, _) = sample();
    let label = SampleSchema::SCHEMA.label(method("handles"));
    let mut payload = [0; 8];
    let bytes = encode(&(true, 7_u8), &mut payload).unwrap();
    let none = OutHandles::new();
    let mut wrong = OutHandles::new();
    wrong.copy(&Handle::<Memory>::from_raw(RawHandle(1)));
    wrong.copy(&Handle::<Memory>::from_raw(RawHandle(2)));
    wrong.copy(&Handle::<Memory>::from_raw(RawHandle(3)));
    for handles in [none, wrong] {
        let reply = loopback.call(label, &payload[..bytes], handles).unwrap();
        assert_eq!(reply.label, Status::Malformed as u32);
    }
}

#[test]
fn handshake_accepts_the_same_schema_only() {
    let (_, loopback, client) = sample();
    assert_eq!(client.client().handshake(SampleSchema::SCHEMA), Ok(()));
    let ours: &'static _ = Box::leak(Box::new(libipc::schema::Schema {
        version: 4,
        hash: 9,
        ..*SampleSchema::SCHEMA
    }));
    let theirs = SampleSchema::SCHEMA;
    assert_eq!(
        client.client().handshake(ours),
        Err(ConnectError::Mismatch {
            interface: "Sample",
            client: (4, 9),
            server: (3, theirs.hash),
        })
    );
    let text = client.client().handshake(ours).unwrap_err().to_string();
    assert!(
        text.contains("version 4") && text.contains("version 3"),
        "{text}"
    );
    let nothing = Rc::new(Loopback::default());
    assert_eq!(
        nothing.client().handshake(SampleSchema::SCHEMA),
        Err(ConnectError::NotServed {
            interface: "Sample"
        })
    );
    let reply = loopback
        .call(theirs.label(HANDSHAKE), &[1, 2], OutHandles::new())
        .unwrap();
    assert_eq!(reply.label, Status::Malformed as u32);
}

#[test]
fn unknown_methods_and_interfaces_are_refused() {
    let (_, loopback, _) = sample();
    let beyond = SampleSchema::SCHEMA.methods.len() as u16;
    let reply = loopback.call(SampleSchema::SCHEMA.label(beyond), &[], OutHandles::new());
    assert_eq!(reply.unwrap().label, Status::UnknownMethod as u32);
    let other = SampleSchema::SCHEMA.label(0) ^ 0x8000_0000;
    let reply = loopback.call(other, &[], OutHandles::new());
    assert_eq!(reply.unwrap().label, Status::UnknownInterface as u32);
}

#[test]
fn too_long_messages_fail_on_the_side_that_makes_them() {
    let (_, _, client) = sample();
    // 4096 less the variant and the length of the bytes.
    assert_eq!(client.bytes(4093).unwrap().len(), 4093);
    assert_eq!(
        client.bytes(4094),
        Err(Failure::Protocol(Protocol::ReplyTooLong))
    );
    assert_eq!(
        client.join("", &[0; 4096], &[]),
        Err(Failure::Protocol(Protocol::RequestTooLong))
    );
}

#[test]
fn an_idempotent_request_runs_again_when_redelivered() {
    let (_, loopback, _) = sample();
    let label = SampleSchema::SCHEMA.label(method("add"));
    let mut payload = [0; 8];
    let used = encode(&(2_u32, 3_u32), &mut payload).unwrap();
    let token = loopback.submit(
        label,
        redelivered(1, 1),
        &payload[..used],
        OutHandles::new(),
    );
    let reply = loopback.take(token).unwrap();
    assert_eq!(
        decode::<Result<u64, SampleError>>(&reply.payload),
        Some(Ok(5))
    );
}

#[test]
fn an_exactly_once_request_that_had_completed_gets_its_stored_reply() {
    let journal = Rc::new(MemoryJournal::default());
    let first = Caller {
        badge: 5,
        sequence: 8,
        redelivered: false,
    };
    let label = SampleSchema::SCHEMA.label(method("count"));
    let run = |caller, counted_before: u32| {
        let server = Rc::new(Server::default());
        server.counted.set(counted_before);
        let loopback = Loopback::new(SampleDispatcher::new(Rc::clone(&server)));
        loopback.set_journal(journal.clone());
        let token = loopback.submit(label, caller, &[], OutHandles::new());
        let reply = loopback.take(token).unwrap();
        let value: Result<u32, SampleError> = decode(&reply.payload).unwrap();
        (value.unwrap(), server.counted.get())
    };
    assert_eq!(run(first, 40), (41, 41));
    // The next instance finds the reply and does not count again.
    assert_eq!(run(redelivered(5, 8), 60), (41, 60));
    // One that had not completed is run.
    assert_eq!(run(redelivered(5, 9), 60), (61, 61));
    assert_eq!(run(redelivered(6, 8), 60), (61, 61));
    journal.forget(5);
    assert_eq!(run(redelivered(5, 9), 70), (71, 71));
}

#[test]
fn a_request_that_fails_on_restart_is_not_run() {
    let (server, loopback, _) = sample();
    let label = SampleSchema::SCHEMA.label(method("risky"));
    let token = loopback.submit(label, redelivered(1, 1), &[], OutHandles::new());
    assert_eq!(
        loopback.take(token).unwrap().label,
        Status::Restarted as u32
    );
    assert_eq!(server.counted.get(), 0);
    assert_eq!(
        Failure::<SampleError>::from(Status::Restarted),
        Failure::Restarted
    );
}

#[test]
fn many_requests_wait_at_once_and_end_in_the_order_of_their_events() {
    let (_, loopback, client) = sample();
    let label = SampleSchema::SCHEMA.label(method("wait"));
    let caller = Caller::default();
    let tokens: Vec<_> = (0..60_u8)
        .map(|bit| loopback.submit(label, caller, &[bit], OutHandles::new()))
        .collect();
    assert_eq!(client.add(1, 1), Ok(2));
    loopback.raise(1 << 59 | 1 << 3);
    for (bit, &token) in tokens.iter().enumerate() {
        assert_eq!(
            loopback.take(token).is_some(),
            bit == 59 || bit == 3,
            "{bit}"
        );
    }
    loopback.raise(u64::MAX);
    assert!(
        tokens
            .iter()
            .all(|&token| matches!(token, 4 | 60) || loopback.take(token).is_some())
    );
    // A bit that nobody waited for is kept.
    assert_eq!(client.wait(63), Ok(63));
    assert_eq!(client.wait(63), Err(Failure::Ipc(Error::Timeout)));
}

#[test]
fn a_server_that_never_waits_ends_where_it_would() {
    let (_, loopback, client) = sample();
    loopback.never_waits();
    assert_eq!(client.add(1, 1), Ok(2));
    let label = SampleSchema::SCHEMA.label(method("wait"));
    let waits = || loopback.submit(label, Caller::default(), &[3], OutHandles::new());
    assert!(catch_unwind(AssertUnwindSafe(waits)).is_err());
}

#[test]
fn an_abandoned_request_does_nothing_once_its_client_asks_again() {
    let (_, loopback, _) = sample();
    let label = SampleSchema::SCHEMA.label(method("wait"));
    let ask = |badge, bit: u8| {
        let caller = Caller {
            badge,
            ..Caller::default()
        };
        loopback.submit(label, caller, &[bit], OutHandles::new())
    };
    let (first, parallel, stranger) = (ask(1, 1), ask(1, 2), ask(2, 3));
    loopback.abandon(first);
    loopback.abandon(stranger);
    let again = ask(1, 1);
    // Were the first one still there, it would take the bit away from the second.
    loopback.raise(0b1110);
    for (token, is_answered) in [(first, false), (parallel, true), (again, true)] {
        assert_eq!(loopback.take(token).is_some(), is_answered);
    }
    // Nobody with that badge has asked again.
    assert!(loopback.take(stranger).is_some());
    // The slot of the dropped request can be used again.
    let next = ask(1, 4);
    loopback.raise(1 << 4);
    assert!(loopback.take(next).is_some());
}

#[test]
fn more_requests_than_task_slots_are_all_answered() {
    let (_, loopback, _) = sample();
    let label = SampleSchema::SCHEMA.label(method("wait"));
    let tokens: Vec<_> = (0..5000)
        .map(|_| loopback.submit(label, Caller::default(), &[1], OutHandles::new()))
        .collect();
    for (done, &token) in tokens.iter().enumerate() {
        assert!(loopback.take(token).is_none(), "{done} is early");
        loopback.raise(1 << 1);
        let answered = tokens
            .iter()
            .filter(|&&token| loopback.take(token).is_some())
            .count();
        assert_eq!(answered, 1);
        if done == 20 {
            break;
        }
    }
}

#[test]
fn timers_fire_in_order() {
    let (_, loopback, client) = sample();
    let label = SampleSchema::SCHEMA.label(method("sleep"));
    let mut payload = [0; 16];
    let mut submit = |deadline: u64| {
        let bytes = encode(&deadline, &mut payload).unwrap();
        loopback.submit(
            label,
            Caller::default(),
            &payload[..bytes],
            OutHandles::new(),
        )
    };
    let (late, soon, same) = (submit(2000), submit(1000), submit(1000));
    loopback.advance(999);
    assert!(loopback.take(soon).is_none());
    loopback.advance(1000);
    assert!(loopback.take(soon).is_some() && loopback.take(same).is_some());
    assert!(loopback.take(late).is_none());
    loopback.advance(u64::MAX);
    assert!(loopback.take(late).is_some());
    assert_eq!(client.sleep(5), Ok(()));
}

#[test]
fn the_badge_is_the_senders() {
    let (_, loopback, client) = sample();
    loopback.set_badge(77);
    assert_eq!(client.badge(), Ok(77));
}

#[test]
fn the_schema_names_methods_and_contracts() {
    let schema = SampleSchema::SCHEMA;
    assert_eq!((schema.name, schema.version), ("Sample", 3));
    let contracts: Vec<_> = ["add", "count", "risky"]
        .map(|name| schema.methods[usize::from(method(name))].contract)
        .into();
    assert_eq!(
        contracts,
        [
            Contract::Idempotent,
            Contract::ExactlyOnce,
            Contract::FailsOnRestart
        ]
    );
    assert_ne!(schema.hash, 0);
}

#[test]
fn messages_look_on_the_wire_as_they_always_did() {
    let (_, loopback, client) = sample();
    let item = Item {
        number: 300,
        text: "é".into(),
    };
    client.client().handshake(SampleSchema::SCHEMA).unwrap();
    client.add(1, 300).unwrap();
    client.add(13, 0).unwrap_err();
    client
        .join("hi", &[1, 2], std::slice::from_ref(&item))
        .unwrap();
    client.echo(&item, vec![9]).unwrap();
    client.nothing().unwrap();
    let memory = Handle::<Memory>::from_raw(RawHandle(1));
    let second = Handle::<Memory>::from_raw(RawHandle(2));
    client.handles(&memory, None, second, 5).unwrap();
    client.count().unwrap();
    client.risky().unwrap();
    client.bytes(3).unwrap();
    client.bytes(100_001).unwrap_err();
    client.badge().unwrap();
    client.numbers_batch(9, &memory, 3).unwrap();
    libipc::golden!(
        "sample.txt",
        loopback,
        [
            "handshake",
            "add",
            "add_refused",
            "join",
            "echo",
            "nothing",
            "handles",
            "count",
            "risky",
            "bytes",
            "bytes_excess",
            "badge",
            "numbers",
        ]
    );
}

#[test]
fn clients_can_be_made_without_a_handshake() {
    let client = SampleClient::new_unchecked(Handle::from_raw(RawHandle(3))).with_deadline(5);
    assert_eq!(
        client.client().sender().map(|sender| sender.raw().0),
        Some(3)
    );
    // There is no kernel here.
    assert_eq!(client.add(1, 2), Err(Failure::Ipc(Error::InvalidSyscall)));
    assert!(matches!(
        SampleClient::connect(Handle::from_raw(RawHandle(3))),
        Err(ConnectError::Failed(Failure::Ipc(Error::InvalidSyscall)))
    ));
}
