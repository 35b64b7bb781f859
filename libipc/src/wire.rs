//! How values and handles are put into messages: postcard, and handles in order.
//!
//! Values are written as [`libsys::encoding`] says.
//!
//! A request is the tuple of its arguments, a reply is `Result<T, E>`. Handles are not in the
//! payload: they travel beside it, in the order of the arguments; an optional one leaves a `bool`
//! in the payload. The label of a request names interface and method
//! ([`Schema::label`](crate::schema::Schema::label)), the label of a reply is a [`Status`].
//! Nothing that arrives is trusted: any bytes give a value or an error.

use alloc::vec::Vec;

use libsys::abi::{Info, MAX_HANDLES, ObjectKind, REGISTER_BYTES, RawHandle};
use libsys::encoding::{decode_prefix, left_behind};
use libsys::ipc::{Incoming, Outgoing, Words};
use libsys::{Handle, Kind};
use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use libsys::encoding::{EncodeError, decode, encode};

/// Label of a reply: whether the payload is an answer or why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// The payload is the `Result` of the method.
    Answer = 0,
    /// The request could not be decoded.
    Malformed = 1,
    /// The interface has no such method.
    UnknownMethod = 2,
    /// The server does not serve the interface.
    UnknownInterface = 3,
    /// The answer is longer than a message may be.
    ReplyTooLong = 4,
    /// An earlier instance of the server died holding the request.
    Restarted = 5,
}

impl Status {
    /// Returns the status with this number.
    pub fn from_label(label: u32) -> Option<Status> {
        Some(match label {
            0 => Status::Answer,
            1 => Status::Malformed,
            2 => Status::UnknownMethod,
            3 => Status::UnknownInterface,
            4 => Status::ReplyTooLong,
            5 => Status::Restarted,
            _ => return None,
        })
    }
}

/// A handle was expected in a message and was not there, or was of another kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingHandle;

impl From<MissingHandle> for Status {
    fn from(_: MissingHandle) -> Self {
        Status::Malformed
    }
}

/// A type that may stand in the signature of method `M`: for the error when one may not.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "method `{M}`: `{Self}` cannot travel in a message",
    label = "in method `{M}` of this interface",
    note = "derive serde's `Serialize` and `Deserialize` for it, or pass something else"
)]
pub trait Travels<M> {}

#[diagnostic::do_not_recommend]
impl<M, T: Serialize + DeserializeOwned> Travels<M> for T {}

/// Reads a value of which the first `length` bytes are all.
#[inline]
fn decode_first<T: DeserializeOwned>(bytes: &[u8], length: usize) -> Option<T> {
    let (value, left) = decode_prefix(bytes)?;
    (left + length == bytes.len()).then_some(value)
}

/// Reads the `Result` of a method of which the first `length` bytes are all. Not by way of serde:
/// a number that may be several bytes long would hide from the compiler where the fields are.
#[inline]
pub(crate) fn decode_result<T, E>(bytes: &[u8], length: usize) -> Option<Result<T, E>>
where
    T: DeserializeOwned,
    E: DeserializeOwned,
{
    let (which, rest) = bytes.split_first()?;
    let length = length.checked_sub(1)?;
    match which {
        0 => decode_first(rest, length).map(Ok),
        1 => decode_first(rest, length).map(Err),
        _ => None,
    }
}

/// Returns whether bytes are the reply of a method: its value or its error.
pub fn is_reply<T: DeserializeOwned, E: DeserializeOwned>(bytes: &[u8]) -> bool {
    decode_result::<T, E>(bytes, bytes.len()).is_some()
}

/// Reads a value that is the payload of a message.
#[inline]
pub(crate) fn decode_message<T: DeserializeOwned>(info: Info, words: &Words) -> Option<T> {
    with_readable(info, words, decode_first)
}

/// Reads the `Result` that is the payload of a reply.
#[inline]
pub(crate) fn decode_answer<T, E>(info: Info, words: &Words) -> Option<Result<T, E>>
where
    T: DeserializeOwned,
    E: DeserializeOwned,
{
    with_readable(info, words, decode_result)
}

/// Returns whether bytes are those of a value.
#[inline]
pub(crate) fn agrees<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    left_behind(value, bytes) == Some(0)
}

/// Returns whether the payload of a message is that of a value.
pub(crate) fn message_agrees<T: Serialize>(value: &T, info: Info, words: &Words) -> bool {
    words.with_payload(info, |bytes| agrees(value, bytes))
}

/// Gives the payload of a message and its length to `f`.
///
/// A short payload is given with what is behind it in the words. Whether a value took as many
/// bytes as the payload has is looked at in the end: so no comparison of lengths is left of those
/// fields whose places are known.
#[inline]
fn with_readable<R>(info: Info, words: &Words, f: impl FnOnce(&[u8], usize) -> R) -> R {
    let readable = Info::new(0, info.bytes().max(REGISTER_BYTES), 0);
    words.with_payload(readable, |bytes| f(bytes, info.bytes()))
}

/// Bytes that are written in one piece; on the wire the same as `Vec<u8>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes that are read in one piece; on the wire the same as `Vec<u8>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ByteVec(pub Vec<u8>);

impl Serialize for ByteVec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ByteVec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(ByteVisitor).map(ByteVec)
    }
}

/// Returns whether the ends of a copy are those of what was copied. One that was left out, or went
/// elsewhere, has others. Not inlined, for the compiler knows what a copy is.
#[inline(never)]
fn is_copy(copy: &[u8], bytes: &[u8]) -> bool {
    let are_same =
        (copy.first(), copy.last()) == (bytes.first(), bytes.last()) && copy.len() == bytes.len();
    are_same
        && copy.first_chunk::<8>() == bytes.first_chunk()
        && copy.last_chunk::<8>() == bytes.last_chunk()
}

struct ByteVisitor;

impl<'de> Visitor<'de> for ByteVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        let copy = bytes.to_vec();
        // Names and content go on as they were read; nobody could tell later that they are not those.
        if !is_copy(&copy, bytes) {
            return Err(E::custom("the bytes changed on the way"));
        }
        Ok(copy)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

/// Handles that go out with a message. Moved ones belong to this until the message is away.
///
/// Every reply has such a list, mostly an empty one, so it is small.
#[derive(Debug)]
pub struct OutHandles {
    raw: [RawHandle; MAX_HANDLES],
    /// Those behind `count` mean nothing.
    kinds: [ObjectKind; MAX_HANDLES],
    count: u8,
    /// One bit for each that is moved.
    moved: u8,
}

/// A handle that goes out with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutHandle {
    /// Its number in this process.
    pub raw: RawHandle,
    /// What it is believed to name.
    pub kind: ObjectKind,
    /// Whether this process loses it.
    pub is_moved: bool,
}

impl Default for OutHandles {
    fn default() -> Self {
        OutHandles::new()
    }
}

impl OutHandles {
    /// Makes an empty list.
    #[inline]
    pub const fn new() -> Self {
        OutHandles {
            raw: [RawHandle(0); MAX_HANDLES],
            kinds: [ObjectKind::Sender; MAX_HANDLES],
            count: 0,
            moved: 0,
        }
    }

    /// Adds a handle of which the receiver gets a copy.
    pub fn copy<K: Kind>(&mut self, handle: &Handle<K>) {
        self.push(handle.raw(), K::KIND);
    }

    /// Adds a handle that the receiver gets.
    pub fn pass<K: Kind>(&mut self, handle: Handle<K>) {
        let bit = 1 << self.count;
        if self.push(handle.raw(), K::KIND) {
            self.moved |= bit;
            let _ = handle.into_raw();
        }
    }

    /// Returns whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns how many there are.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Returns the handles in order.
    pub fn iter(&self) -> impl Iterator<Item = OutHandle> {
        let both = self.raw.iter().zip(&self.kinds).take(self.count.into());
        both.enumerate().map(|(at, (raw, kind))| OutHandle {
            raw: *raw,
            kind: *kind,
            is_moved: self.moved >> at & 1 == 1,
        })
    }

    /// Returns them as the system call wants them.
    pub fn outgoing(&self) -> Outgoing {
        let mut outgoing = Outgoing::NONE;
        for handle in self.iter() {
            let added = if handle.is_moved {
                outgoing.pass(handle.raw)
            } else {
                outgoing.copy(handle.raw)
            };
            debug_assert!(
                added.is_ok(),
                "both lists are as long as a message may have handles"
            );
        }
        outgoing
    }

    /// Says that the message is away: moved handles belong to the receiver now.
    #[inline]
    pub fn release(mut self) {
        self.moved = 0;
    }

    /// Returns whether there was room.
    fn push(&mut self, raw: RawHandle, kind: ObjectKind) -> bool {
        // The interface macro refuses methods with more handles.
        debug_assert!(usize::from(self.count) < MAX_HANDLES);
        let at = usize::from(self.count);
        let (Some(place), Some(known)) = (self.raw.get_mut(at), self.kinds.get_mut(at)) else {
            return false;
        };
        (*place, *known) = (raw, kind);
        self.count += 1;
        true
    }
}

impl Drop for OutHandles {
    #[inline]
    fn drop(&mut self) {
        if self.moved == 0 {
            return;
        }
        for handle in self.iter().filter(|handle| handle.is_moved) {
            // The kind does not matter for closing; one that the kernel has moved already is
            // invalid by its generation, and closing it again does nothing.
            drop(Handle::<libsys::Sender>::from_raw(handle.raw));
        }
    }
}

/// Handles that came with a message, taken in order. Those not taken are closed.
#[derive(Debug, Default)]
pub struct InHandles {
    /// Most messages have none.
    incoming: Option<Incoming>,
    next: usize,
}

impl InHandles {
    /// Wraps what the system call gave.
    pub fn new(incoming: Incoming) -> Self {
        InHandles {
            incoming: Some(incoming),
            next: 0,
        }
    }

    /// Takes the next handle.
    ///
    /// # Errors
    ///
    /// When there is none or it is of another kind.
    pub fn take<K: Kind>(&mut self) -> Result<Handle<K>, MissingHandle> {
        let incoming = self.incoming.as_mut().ok_or(MissingHandle)?;
        let handle = incoming.take(self.next).ok_or(MissingHandle)?;
        self.next += 1;
        Ok(handle)
    }

    /// Closes the handles that were not taken.
    pub fn close(self) {}
}

#[cfg(test)]
mod tests {
    use libsys::abi::Info;
    use libsys::ipc::Words;

    use super::{ByteVec, Bytes, Status, decode, decode_message, decode_result, encode};

    #[test]
    fn bytes_look_like_a_vector_on_the_wire() {
        let mut buffer = [0; 300];
        for length in [0_usize, 1, 127, 128, 290] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let used = encode(&Bytes(&bytes), &mut buffer).unwrap();
            assert_eq!(buffer[..used], postcard::to_allocvec(&bytes).unwrap());
            assert_eq!(decode(&buffer[..used]), Some(ByteVec(bytes.clone())));
            assert_eq!(decode(&buffer[..used]), Some(bytes));
        }
    }

    #[test]
    fn what_lies_behind_a_short_payload_is_no_part_of_it() {
        let words = Words([u64::MAX; 8]);
        let at = |bytes| decode_message::<[u64; 2]>(Info::new(0, bytes, 0), &words);
        assert_eq!(at(16), Some([u64::MAX; 2]));
        for bytes in [0, 8, 15, 17, 64] {
            assert_eq!(at(bytes), None);
        }
        let mut words = Words([0; 8]);
        words.0[0] = 60;
        let at = |bytes| decode_message::<ByteVec>(Info::new(0, bytes, 0), &words);
        assert_eq!(at(3), None);
        assert_eq!(at(61), Some(ByteVec(vec![0; 60])));
        assert_eq!(at(64), None);
    }

    #[test]
    fn replies_are_read_as_results() {
        let mut buffer = [0; 16];
        for result in [Ok(0x0102_0304_u32), Err(7_u8)] {
            let used = encode(&result, &mut buffer).unwrap();
            assert_eq!(decode_result(&buffer, used), Some(result));
            for length in [0, used - 1, used + 1] {
                assert_eq!(decode_result::<u32, u8>(&buffer, length), None);
            }
        }
        assert_eq!(decode_result::<u32, u8>(&[2, 0], 2), None);
        assert_eq!(decode_result::<(), ()>(&[], 0), None);
    }

    #[test]
    fn lengths_beyond_the_message_are_refused_without_allocating_them() {
        assert_eq!(decode::<ByteVec>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), None);
        assert_eq!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), None);
    }

    #[test]
    fn status_round_trips() {
        for label in 0..6 {
            assert_eq!(
                Status::from_label(label).map(|status| status as u32),
                Some(label)
            );
        }
        assert_eq!(Status::from_label(6), None);
    }
}
