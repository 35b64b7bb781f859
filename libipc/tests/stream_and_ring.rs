//! Streams and ring methods as the macro makes them, between a client and a server.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "support/sample.rs"]
mod sample;

use std::cell::Cell;
use std::rc::Rc;
use std::task::Context;

use libipc::loopback::Loopback;
use libipc::ring::{Entry, RingClient, bytes_for};
use libipc::schema::{Interface as _, Schema};
use libipc::server::{Arguments, Dispatch, Started};
use libipc::typed_ring::{RingRequest, TypedRingClient, TypedRingServer, status_word};
use libipc::wire::{OutHandles, Status, decode, encode};
use libipc::{Caller, ConnectError, Failure, Protocol};
use libsys::mappings::Mapping;
use libsys::{Error, Handle, Memory, Notification, RawHandle};
use sample::{SampleClient, SampleEntry, SampleError, SampleSchema, sample};

const SLOTS: usize = 4;

fn memory() -> Handle<Memory> {
    Handle::from_raw(RawHandle(1))
}

#[test]
fn a_stream_is_gone_through_batch_by_batch_as_its_items_are_taken() {
    let (_, loopback, client) = sample();
    let memory = memory();
    let mut numbers = client.numbers(8, &memory);
    assert_eq!(numbers.next(), Some(Ok(0)));
    assert_eq!(loopback.exchanges().len(), 1);
    assert_eq!(numbers.collect::<Result<Vec<_>, _>>(), Ok((1..8).collect()));
    assert_eq!(loopback.exchanges().len(), 2);
    let mut numbers = client.numbers(100, &memory);
    assert_eq!(numbers.by_ref().take_while(Result::is_ok).count(), 15);
    assert_eq!(numbers.next(), None);
    let last = client.numbers_batch(100, &memory, 13);
    assert_eq!(last, Err(Failure::Server(SampleError::Refused)));
}

#[test]
fn a_batch_whose_server_died_is_the_same_from_the_next_one() {
    let place = SampleSchema::SCHEMA
        .methods
        .iter()
        .position(|method| method.is_stream);
    let label = SampleSchema::SCHEMA.label(place.unwrap() as u16);
    let ask = |redelivered| {
        let (_, loopback, _) = sample();
        let mut page = [0; 8];
        let bytes = encode(&(9_u32, 3_u32), &mut page).unwrap();
        let caller = Caller {
            redelivered,
            ..Caller::default()
        };
        let mut handles = OutHandles::new();
        handles.copy(&memory());
        let token = loopback.submit(label, caller, &page[..bytes], handles);
        loopback.take(token).unwrap().payload
    };
    assert_eq!(ask(false), ask(true));
    type Wire = Result<((Vec<u32>, Option<u32>),), SampleError>;
    assert_eq!(
        decode::<Wire>(&ask(true)),
        Some(Ok(((vec![3, 4, 5], Some(6)),)))
    );
}

fn ring() -> (TypedRingClient<SampleEntry>, Rc<RingClient>, Mapping) {
    let memory = Mapping::on_heap(bytes_for(SLOTS));
    let theirs = memory.alias().unwrap();
    let client = Rc::new(RingClient::create(memory, SLOTS).unwrap());
    (TypedRingClient::new(Rc::clone(&client)), client, theirs)
}

fn serve(server: &mut TypedRingServer<SampleEntry>) {
    while let Some(submission) = server.next_request() {
        let result = match submission.request {
            SampleEntry::RingAdd { a: 13, .. } => Err(SampleError::Refused),
            SampleEntry::RingAdd { a, b } => Ok(a + u32::from(b)),
            SampleEntry::RingNothing => Err(SampleError::Excess(u32::MAX)),
            SampleEntry::RingFull { b, c, .. } => Ok(u32::from(c) + u32::from(b)),
        };
        server.complete(submission.id, result);
    }
}

#[test]
fn requests_arrive_in_a_ring_and_their_ends_return() {
    let (client, _, memory) = ring();
    let mut server = TypedRingServer::attach(memory).unwrap();
    let full = SampleEntry::RingFull {
        a: u64::MAX,
        b: true,
        c: u16::MAX,
        d: 0,
        e: 1,
    };
    client
        .submit(7, SampleEntry::RingAdd { a: 300, b: 5 })
        .unwrap();
    client
        .submit(8, SampleEntry::RingAdd { a: 13, b: 0 })
        .unwrap();
    client.submit(9, SampleEntry::RingNothing).unwrap();
    client.submit(u64::MAX, full).unwrap();
    assert!(client.submit(0, full).is_err(), "all slots are in use");
    serve(&mut server);
    let mut ends: Vec<_> = std::iter::from_fn(|| client.next_completion())
        .map(|completion| (completion.user_data, completion.outcome))
        .collect();
    ends.sort_by_key(|(user_data, _)| *user_data);
    assert_eq!(
        ends,
        [
            (7, Ok(305)),
            (8, Err(Failure::Server(SampleError::Refused))),
            (9, Err(Failure::Server(SampleError::Excess(u32::MAX)))),
            (u64::MAX, Ok(0x1_0000)),
        ]
    );
}

#[test]
fn what_a_dead_server_had_taken_comes_again() {
    let (client, _, memory) = ring();
    let mut first = TypedRingServer::<SampleEntry>::attach(memory.alias().unwrap()).unwrap();
    client
        .submit(1, SampleEntry::RingAdd { a: 1, b: 2 })
        .unwrap();
    assert!(first.next_request().is_some());
    drop(first);
    serve(&mut TypedRingServer::attach(memory).unwrap());
    assert_eq!(client.next_completion().unwrap().outcome, Ok(3));
}

#[test]
fn what_was_taken_can_be_read_again_until_it_is_completed() {
    let (client, _, memory) = ring();
    let mut server = TypedRingServer::<SampleEntry>::attach(memory.alias().unwrap()).unwrap();
    let add = SampleEntry::RingAdd { a: 1, b: 2 };
    client.submit(1, add).unwrap();
    let id = server.next_request().unwrap().id;
    assert_eq!(server.request(&id), Some(add));
    // As a slot that was completed by another instance, and is another's now.
    let mut other = TypedRingServer::<SampleEntry>::attach(memory).unwrap();
    assert_eq!(other.request(&id), None, "it was not given out here");
    serve(&mut other);
    assert_eq!(other.request(&id), None, "it is completed");
}

#[test]
fn entries_that_are_no_request_are_completed_and_never_seen() {
    let (client, raw, memory) = ring();
    let mut server = TypedRingServer::<SampleEntry>::attach(memory).unwrap();
    for (opcode, arguments, why) in [
        (0, [0; 5], Protocol::UnknownMethod),
        (4, [0; 5], Protocol::UnknownMethod),
        (1, [1 << 32, 0, 0, 0, 0], Protocol::Malformed),
        (1, [1, 256, 0, 0, 0], Protocol::Malformed),
        (1, [1, 2, 1, 0, 0], Protocol::Malformed),
        (2, [0, 0, 0, 0, 1], Protocol::Malformed),
        (3, [0, 2, 0, 0, 0], Protocol::Malformed),
    ] {
        let entry = Entry {
            opcode,
            arguments,
            ..Entry::default()
        };
        raw.submit(&entry).unwrap();
        assert!(server.next_request().is_none(), "{entry:?}");
        let outcome = client.next_completion().unwrap().outcome;
        assert_eq!(outcome, Err(Failure::Protocol(why)), "{entry:?}");
    }
    assert_ne!(
        status_word(Status::Malformed),
        status_word(Status::UnknownMethod)
    );
}

#[test]
fn the_handshake_compares_rings() {
    let (_, _, client) = sample();
    let ring = SampleEntry::RING;
    assert_eq!(ring.methods, ["ring_add", "ring_nothing", "ring_full"]);
    let other: &'static _ = Box::leak(Box::new(libipc::schema::Ring {
        signatures: &["ring ring_add(u32,u16,)->Result<u32,SampleError>"],
        ..*ring
    }));
    let schema = Schema::new("Sample", 3, &[], &[]);
    assert_ne!(schema.with_ring(ring).hash, schema.with_ring(other).hash);
    let schema: &'static Schema = Box::leak(Box::new(SampleSchema::SCHEMA.with_ring(other)));
    assert!(matches!(
        client.client().handshake(schema),
        Err(ConnectError::Mismatch {
            client: (3, _),
            server: (3, _),
            ..
        })
    ));
}

#[test]
fn a_call_that_timed_out_is_dropped_before_the_next_one_of_its_client() {
    let (_, loopback, client) = sample();
    assert_eq!(client.wait(5), Err(Failure::Ipc(Error::Timeout)));
    assert_eq!(client.wait(6), Err(Failure::Ipc(Error::Timeout)));
    // Bit 5 is nobody's any more: the request that waited for it is gone.
    loopback.raise(1 << 5);
    assert_eq!(client.wait(5), Ok(5));
}

/// A server that returns other handles than it promised.
struct Liar {
    handles: Cell<u8>,
}

impl Dispatch for Liar {
    fn schema(&self) -> &'static Schema {
        // A server in order would notice.
        const SCHEMA: Schema = Schema {
            is_looked_at: false,
            ..*SampleSchema::SCHEMA
        };
        &SCHEMA
    }

    fn start(
        &self,
        _: u16,
        request: Arguments<'_>,
        _: &mut Context<'_>,
    ) -> Result<Started, Status> {
        let mut handles = OutHandles::new();
        for _ in 0..self.handles.get() {
            handles.pass(Handle::<Notification>::from_raw(RawHandle(9)));
        }
        let answer = request
            .output
            .ok_with_handles::<SampleSchema, _>(&(7_u8, false), handles);
        Ok(Started::Done(answer))
    }
}

#[test]
fn a_client_refuses_handles_that_are_missing_or_of_another_kind() {
    for count in [0, 1] {
        let handles = Cell::new(count);
        let loopback = Loopback::new(Liar { handles });
        let client = SampleClient::from_client(loopback.client());
        let reply = client.handles(&memory(), None, memory(), 7);
        assert_eq!(
            reply.err(),
            Some(Failure::Protocol(Protocol::MissingHandle))
        );
    }
}
