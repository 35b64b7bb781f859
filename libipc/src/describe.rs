//! What the messages of an interface are made of: for tests that must not overlook any.
//!
//! The macro tells a [`Book`] the types of every message. A book needs no value of them: `shape`
//! makes examples of any type that can be decoded, with each variant of each enum in it.

mod shape;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use libsys::abi::{MAX_MESSAGE_BYTES, ObjectKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::golden::hex;
use crate::schema::Interface;
use crate::server::Dispatch;
use crate::typed_ring::{ARGUMENTS, RingRequest, Word as _, result_word};
use crate::wire::{self, Status};

pub use shape::{Example, examples};

/// An interface that tells of its messages; the macro implements it.
pub trait Described: Interface {
    /// Tells of all methods in the order of their numbers, then of the ring.
    fn describe<B: Book>(book: &mut B);

    /// Returns a dispatcher to a server that never answers.
    fn mute() -> Box<dyn Dispatch>;
}

/// A method that is called.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Contract, name and types, as the schema has them.
    pub signature: &'static str,
    /// The handles of its requests in order.
    pub handles_in: &'static [HandleShape],
    /// The handles of its replies in order.
    pub handles_out: &'static [HandleShape],
}

/// A handle in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandleShape {
    /// What it names.
    pub kind: ObjectKind,
    /// Whether it may be absent.
    pub is_optional: bool,
}

/// A value of a message.
pub trait Value: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Value for T {}

/// Writes down what an interface tells.
pub trait Book {
    /// Takes a method: the tuple of its arguments, the tuple of what it returns, its error.
    fn call<A: Value, T: Value, E: Value>(&mut self, call: &Call);

    /// Takes the entries of the ring.
    fn ring<R: RingRequest>(&mut self);
}

/// Writes the golden file of an interface: bytes and shape of every message.
///
/// Each line is `what name … bytes`. A line for a request, reply or error has an example of it;
/// more examples follow for each variant of each enum, option and list in it. All variants of an
/// error are with the first method that has it. Types are written down by the names of their
/// fields, once.
pub fn golden<I: Described>() -> String {
    let mut page = Page::default();
    I::describe(&mut page);
    let schema = I::SCHEMA;
    let mut text = format!(
        "interface {} version {} id {:04x} hash {:016x}\n",
        schema.name, schema.version, schema.id, schema.hash
    );
    text.push_str(&page.text);
    let types = page.types.iter();
    for (name, shape) in types.flat_map(|(name, shapes)| shapes.iter().map(move |it| (name, it))) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "type {name} = {shape}");
    }
    text
}

/// The lines of a golden file.
#[derive(Default)]
struct Page {
    text: String,
    /// Named types, by name and number of variant.
    types: BTreeMap<String, BTreeSet<String>>,
    /// Errors of which all variants are written down.
    errors: BTreeSet<&'static str>,
    calls: usize,
}

impl Page {
    fn line(&mut self, what: &str, name: &str, shape: &str, bytes: &[u8]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{what} {name} {shape} {}", hex(bytes));
    }

    /// Notes the types of example number `at`. The first one of a message has everything in it;
    /// of the others only what is new is noted.
    fn note(&mut self, at: usize, types: BTreeMap<String, String>) {
        for (name, shape) in types {
            if at == 0 || !self.types.contains_key(&name) {
                self.types.entry(name).or_default().insert(shape);
            }
        }
    }

    /// Writes some examples of a value, each behind `before`, the variant of a `Result` or nothing.
    fn examples<T: Value>(&mut self, what: &str, name: &str, before: &[u8], most: usize) {
        for (at, example) in examples::<T>().into_iter().take(most).enumerate() {
            let mut bytes = before.to_vec();
            bytes.extend(encoded(&example.value));
            self.line(what, name, &example.shape, &bytes);
            self.note(at, example.types);
        }
    }
}

impl Book for Page {
    fn call<A: Value, T: Value, E: Value>(&mut self, call: &Call) {
        let Call {
            name, signature, ..
        } = call;
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "method {} {signature}", self.calls);
        self.calls += 1;
        self.examples::<A>("request", name, &[], usize::MAX);
        self.examples::<T>("reply", name, &[0], usize::MAX);
        let is_new = self.errors.insert(core::any::type_name::<E>());
        self.examples::<E>("error", name, &[1], if is_new { usize::MAX } else { 1 });
    }

    fn ring<R: RingRequest>(&mut self) {
        for (opcode, (name, signature)) in
            (1_u32..).zip(R::RING.methods.iter().zip(R::RING.signatures))
        {
            let request = ring_example::<R>(opcode);
            let (_, words) = request.to_words();
            // Writing to a string does not fail.
            let _ = writeln!(
                self.text,
                "entry {opcode} {signature}\nentry {name} {request:?} {words:x?}"
            );
        }
        let name = R::RING.name;
        if let Some(value) = R::Ok::from_word(0) {
            let shape = format!("{value:?}");
            let word = result_word::<_, R::Error>(Ok(value));
            self.line("completion", name, &shape, &word.to_le_bytes());
        }
        for (at, example) in examples::<R::Error>().into_iter().enumerate() {
            let word = result_word::<R::Ok, _>(Err(example.value));
            self.line("completion", name, &example.shape, &word.to_le_bytes());
            self.note(at, example.types);
        }
    }
}

/// Returns an example of a ring method: its words are 1, 2, … as far as it has some.
///
/// # Panics
///
/// When the method cannot be decoded at all.
pub fn ring_example<R: RingRequest>(opcode: u32) -> R {
    let words = (0..=ARGUMENTS).rev().map(|used| {
        let word = |i: usize| if i < used { i as u64 + 1 } else { 0 };
        core::array::from_fn(word)
    });
    let mut requests = words.filter_map(|words| R::from_words(opcode, words).ok());
    requests
        .next()
        .expect("an entry of small numbers is a request")
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut page = [0; MAX_MESSAGE_BYTES];
    let bytes = wire::encode(value, &mut page).expect("an example is short");
    page.get(..bytes).unwrap_or_default().to_vec()
}

/// Decoders of all messages of an interface, with bytes that they take.
#[derive(Debug, Default)]
pub struct Decoders(pub Vec<Decoder>);

/// The decoder of one kind of message.
#[derive(Debug)]
pub struct Decoder {
    /// `request` or `reply` and the name of the method, or `entry` and that of the interface.
    pub name: String,
    /// Bytes of messages.
    pub corpus: Vec<Vec<u8>>,
    /// Decodes bytes.
    pub check: fn(&[u8]) -> Verdict,
}

/// What a decoder made of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are no message.
    Refused,
    /// They are one, which is the same after having been encoded and decoded again.
    Kept,
    /// They are one, and encoding and decoding changes it.
    Changed,
}

impl Decoders {
    /// Collects the decoders of an interface.
    pub fn of<I: Described>() -> Decoders {
        let mut decoders = Decoders::default();
        I::describe(&mut decoders);
        decoders
    }

    fn add<T: Value>(&mut self, what: &str, name: &str) {
        self.0.push(Decoder {
            name: format!("{what} {name}"),
            corpus: examples::<T>()
                .iter()
                .map(|example| encoded(&example.value))
                .collect(),
            check: check::<T>,
        });
    }
}

impl Book for Decoders {
    fn call<A: Value, T: Value, E: Value>(&mut self, call: &Call) {
        self.add::<A>("request", call.name);
        self.add::<Result<T, E>>("reply", call.name);
    }

    fn ring<R: RingRequest>(&mut self) {
        let corpus = (1_u32..).zip(R::RING.methods).map(|(opcode, _)| {
            let (opcode, words) = ring_example::<R>(opcode).to_words();
            encoded(&(opcode, words))
        });
        self.0.push(Decoder {
            name: format!("entry {}", R::RING.name),
            corpus: corpus.collect(),
            check: check_entry::<R>,
        });
    }
}

fn check<T: Value>(bytes: &[u8]) -> Verdict {
    let Some(value) = wire::decode::<T>(bytes) else {
        return Verdict::Refused;
    };
    // Lengths have more than one form: the second time they are as they should be.
    let first = encoded(&value);
    match wire::decode::<T>(&first) {
        Some(again) if encoded(&again) == first => Verdict::Kept,
        _ => Verdict::Changed,
    }
}

/// Takes the bytes as opcode and words, with zeros behind the end.
fn check_entry<R: RingRequest>(bytes: &[u8]) -> Verdict {
    let mut full = [0; 4 + 8 * ARGUMENTS];
    for (place, byte) in full.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let Some((opcode, words)) = wire::decode::<(u32, [u64; ARGUMENTS])>(&full) else {
        return Verdict::Changed;
    };
    match R::from_words(opcode, words) {
        Ok(request) if request.to_words() == (opcode, words) => Verdict::Kept,
        Ok(_) => Verdict::Changed,
        Err(Status::UnknownMethod | Status::Malformed) => Verdict::Refused,
        Err(_) => Verdict::Changed,
    }
}
