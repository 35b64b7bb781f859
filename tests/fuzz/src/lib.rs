//! Fuzz targets: what each interface does with bytes that anyone may send.
//!
//! The first byte of an input says which decoder gets the rest, or which method a request is for;
//! the next two then say which handles come along. [`Target::corpus`] has inputs that are right,
//! [`Mutator`] makes wrong ones of them. Nothing depends on anything but the input.

pub mod memory;
mod mutate;

use std::rc::Rc;

use libipc::Caller;
use libipc::describe::{Book, Call, Decoder, Decoders, Described, Value, Verdict, examples};
use libipc::loopback::Loopback;
use libipc::proto::{Visitor, visit};
use libipc::schema::{HANDSHAKE, Schema};
use libipc::server::Dispatch;
use libipc::typed_ring::RingRequest;
use libipc::wire::{OutHandles, Status, encode};
use libsys::abi::{MAX_MESSAGE_BYTES, ObjectKind, RawHandle};
use libsys::{Handle, Interrupt, Memory, Notification, Process, Sender, System};

pub use mutate::{Mutator, Random};

/// Most bytes that are allocated at once for a message: serde makes room for at most 1 MiB of
/// values before it has seen them.
pub const MOST_MEMORY: usize = (1 << 20) + (64 << 10);

/// Requests that one server takes before the next one is made: it answers none of them.
const REQUESTS_PER_SERVER: usize = 256;

/// The decoders of an interface.
pub struct Target {
    /// Name of the file of its source.
    pub name: &'static str,
    schema: &'static Schema,
    decoders: Vec<Decoder>,
    requests: Vec<Vec<u8>>,
    mute: fn() -> Box<dyn Dispatch>,
    server: Rc<Loopback>,
    delivered: usize,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Returns the targets of all interfaces.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut targets = Targets::default();
    visit(&mut targets);
    targets.0
}

#[derive(Default)]
struct Targets(Vec<Target>);

impl Visitor for Targets {
    fn see<I: Described>(&mut self, file: &'static str) {
        let mut requests = Requests::default();
        I::describe(&mut requests);
        self.0.push(Target {
            name: file,
            schema: I::SCHEMA,
            decoders: Decoders::of::<I>().0,
            requests: requests.inputs,
            mute: I::mute,
            server: server(I::mute()),
            delivered: 0,
        });
    }
}

fn server(dispatcher: Box<dyn Dispatch>) -> Rc<Loopback> {
    let server = Loopback::default();
    server.add_boxed(dispatcher);
    Rc::new(server)
}

impl Target {
    /// Returns inputs that are right.
    #[must_use]
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let mut corpus = self.requests.clone();
        for (number, decoder) in (0_u8..).zip(&self.decoders) {
            let inputs = decoder.corpus.iter();
            corpus.extend(inputs.map(|bytes| [&[number], bytes.as_slice()].concat()));
        }
        corpus
    }

    /// Takes an input as a message to decode, and as a request to a server.
    ///
    /// # Panics
    ///
    /// When something is found.
    pub fn run(&mut self, input: &[u8]) {
        self.decode(input);
        self.deliver(input);
    }

    fn decode(&self, input: &[u8]) {
        let Some((number, bytes)) = input.split_first() else {
            return;
        };
        let decoder = &self.decoders[usize::from(*number) % self.decoders.len()];
        let (verdict, most) = memory::most_during(|| (decoder.check)(bytes));
        assert_ne!(verdict, Verdict::Changed, "{}", decoder.name);
        assert!(most <= MOST_MEMORY, "{} took {most} bytes", decoder.name);
    }

    fn deliver(&mut self, input: &[u8]) {
        let [method, first, second, payload @ ..] = input else {
            return;
        };
        self.delivered += 1;
        if self.delivered.is_multiple_of(REQUESTS_PER_SERVER) {
            self.server = server((self.mute)());
        }
        let method = match method {
            0xff => HANDSHAKE,
            known => u16::from(*known),
        };
        let payload = payload.get(..MAX_MESSAGE_BYTES).unwrap_or(payload);
        let handles = handles(u16::from_le_bytes([*first, *second]));
        let label = self.schema.label(method);
        let token = self
            .server
            .submit(label, Caller::default(), payload, handles);
        let status = self
            .server
            .take(token)
            .map(|reply| Status::from_label(reply.label));
        let is_handshake = method == HANDSHAKE;
        let is_expected = match status {
            // It waits for the server.
            None => usize::from(method) < self.schema.methods.len(),
            Some(Some(Status::Answer)) => is_handshake,
            Some(Some(status)) => matches!(status, Status::Malformed | Status::UnknownMethod),
            Some(None) => false,
        };
        assert!(is_expected, "method {method} ended with {status:?}");
    }
}

/// Makes handles of a number: four bits for the kind of each.
fn handles(code: u16) -> OutHandles {
    let mut handles = OutHandles::new();
    for place in 0..4_u16 {
        let raw = RawHandle(u32::from(place) + 1);
        match ObjectKind::from_number((code >> (4 * place) & 0xf) as u8) {
            Some(ObjectKind::Process) => handles.copy(&Handle::<Process>::from_raw(raw)),
            Some(ObjectKind::Sender) => handles.copy(&Handle::<Sender>::from_raw(raw)),
            Some(ObjectKind::Notification) => handles.copy(&Handle::<Notification>::from_raw(raw)),
            Some(ObjectKind::Memory) => handles.copy(&Handle::<Memory>::from_raw(raw)),
            Some(ObjectKind::Interrupt) => handles.copy(&Handle::<Interrupt>::from_raw(raw)),
            Some(_) => handles.copy(&Handle::<System>::from_raw(raw)),
            None => {}
        }
    }
    handles
}

/// Collects inputs that are requests.
#[derive(Default)]
struct Requests {
    inputs: Vec<Vec<u8>>,
    methods: u8,
}

impl Book for Requests {
    fn call<A: Value, T: Value, E: Value>(&mut self, call: &Call) {
        let kinds = call.handles_in.iter().rev();
        let code = kinds.fold(0_u16, |code, shape| code << 4 | shape.kind as u16);
        for example in examples::<A>() {
            let mut page = [0; MAX_MESSAGE_BYTES];
            let Ok(bytes) = encode(&example.value, &mut page) else {
                continue;
            };
            let mut input = vec![self.methods];
            input.extend(code.to_le_bytes());
            input.extend(&page[..bytes]);
            self.inputs.push(input);
        }
        self.methods += 1;
    }

    fn ring<R: RingRequest>(&mut self) {}
}
