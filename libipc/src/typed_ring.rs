//! Typed rings: entries and completions of [`crate::ring`] as an interface declares them.
//!
//! The `#[ring]` methods of an interface become the variants of one enum, `XEntry`, which is a
//! [`RingRequest`]. Its opcode is the place of the method, from 1: memory full of zeros is no
//! request. Each argument is one word of the entry; words without an argument are 0. All ring
//! methods of an interface return the same `Result<T, E>`, so that a completion can be read
//! without knowing its request.
//!
//! Nothing that arrives is trusted: a server completes what is no request by itself, with a
//! [`Status`], and a client reads what no server writes as a failure.

use alloc::rc::Rc;
use core::fmt;
use core::marker::PhantomData;

use libsys::mappings::Mapping;
use libsys::{Handle, Notification};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ring::{Entry, Full, RingClient, RingError, RingServer, SubmissionId};
use crate::schema::Ring;
use crate::wire::{self, Status};
use crate::{Failure, Protocol};

/// Arguments that an entry has room for.
pub const ARGUMENTS: usize = 5;

/// A value that travels as one word.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not one word of a ring's entry",
    note = "implement `libipc::typed_ring::Word` for it, or take `u8` to `u64` or `bool`"
)]
pub trait Word: Sized {
    /// Returns the word.
    fn to_word(self) -> u64;

    /// Reads the value; `None` if the word is none.
    fn from_word(word: u64) -> Option<Self>;
}

impl Word for () {
    fn to_word(self) -> u64 {
        0
    }

    fn from_word(word: u64) -> Option<Self> {
        (word == 0).then_some(())
    }
}

impl Word for bool {
    fn to_word(self) -> u64 {
        self.into()
    }

    fn from_word(word: u64) -> Option<Self> {
        (word <= 1).then_some(word == 1)
    }
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(
            impl Word for $ty {
                fn to_word(self) -> u64 {
                    self.into()
                }

                fn from_word(word: u64) -> Option<Self> {
                    word.try_into().ok()
                }
            }
        )*
    };
}

numbers!(u8, u16, u32, u64);

/// What the entries of a ring may be: implemented by the interface macro.
pub trait RingRequest: Copy + fmt::Debug {
    /// What a request gives when all is well.
    type Ok: Word + fmt::Debug;
    /// Why it fails.
    type Error: Serialize + DeserializeOwned + fmt::Debug;

    /// The methods.
    const RING: &'static Ring;

    /// Returns opcode and arguments.
    fn to_words(self) -> (u32, [u64; ARGUMENTS]);

    /// Reads opcode and arguments.
    ///
    /// # Errors
    ///
    /// `UnknownMethod`, `Malformed`.
    fn from_words(opcode: u32, words: [u64; ARGUMENTS]) -> Result<Self, Status>;

    /// Returns the entry that makes this request.
    fn to_entry(self, user_data: u64) -> Entry {
        let (opcode, arguments) = self.to_words();
        Entry {
            user_data,
            opcode,
            flags: 0,
            arguments,
        }
    }
}

/// Ends a server that took an entry for another one: it would read or write somewhere else. No client
/// can bring that about, as each entry that is read at all is the only one of its request.
#[inline(never)]
fn check<R: RingRequest>(request: R, entry: &Entry) {
    let words = (entry.opcode, entry.arguments);
    assert!(request.to_words() == words, "an entry was misread");
}

/// How a request ended, as its client sees it.
pub type Outcome<R> = Result<<R as RingRequest>::Ok, Failure<<R as RingRequest>::Error>>;

/// Bytes of an error that a result word has room for.
const ERROR_BYTES: usize = 6;

/// Returns the result word of a completion: the value, which is not negative, or the complement
/// of the error, which is. An error lies there as in a message, behind the number of its bytes.
pub fn result_word<T: Word, E: Serialize>(result: Result<T, E>) -> i64 {
    match result {
        Ok(value) => {
            i64::try_from(value.to_word()).unwrap_or_else(|_| status_word(Status::ReplyTooLong))
        }
        Err(error) => {
            let mut bytes = [0; 8];
            let room = bytes.get_mut(..ERROR_BYTES).unwrap_or_default();
            match wire::encode(&error, room) {
                Ok(used) => !(u64::from_le_bytes(bytes) | (used as u64) << 48).cast_signed(),
                Err(_) => status_word(Status::ReplyTooLong),
            }
        }
    }
}

/// Returns the result word that says why there is no result: an error without bytes.
pub fn status_word(status: Status) -> i64 {
    !i64::from(status as u32)
}

/// Reads the result word of a completion.
///
/// # Errors
///
/// What the server said, or `Protocol` for what no server writes.
pub fn outcome_of<T: Word, E: DeserializeOwned>(result: i64) -> Result<T, Failure<E>> {
    let bad = Failure::Protocol(Protocol::BadReply);
    if result >= 0 {
        return T::from_word(result.cast_unsigned()).ok_or(bad);
    }
    let (used, bytes) = (!result >> 48, (!result & 0xffff_ffff_ffff).to_le_bytes());
    if used == 0 {
        let label = u32::try_from(!result).map_err(|_| Protocol::BadReply)?;
        return Err(Status::from_label(label).map_or(bad, Into::into));
    }
    let error = usize::try_from(used).ok().and_then(|used| {
        let (error, rest) = bytes.split_at_checked(used)?;
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        wire::decode(error)
    });
    Err(error.map_or(bad, Failure::Server))
}

/// The end of a request that was submitted.
#[derive(Debug)]
pub struct TypedCompletion<R: RingRequest> {
    /// The client's number for the request.
    pub user_data: u64,
    /// How it ended.
    pub outcome: Outcome<R>,
}

/// The side that has work done. Clones share the ring.
#[derive(Debug)]
pub struct TypedRingClient<R> {
    ring: Rc<RingClient>,
    entries: PhantomData<fn(R)>,
}

impl<R> Clone for TypedRingClient<R> {
    fn clone(&self) -> Self {
        TypedRingClient {
            ring: Rc::clone(&self.ring),
            entries: PhantomData,
        }
    }
}

impl<R: RingRequest> TypedRingClient<R> {
    /// Takes a ring of which all entries are such requests.
    pub fn new(ring: impl Into<Rc<RingClient>>) -> Self {
        TypedRingClient {
            ring: ring.into(),
            entries: PhantomData,
        }
    }

    /// Submits a request; see [`RingClient::submit`].
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn submit(&self, user_data: u64, request: R) -> Result<(), Full> {
        self.ring.submit(&request.to_entry(user_data))
    }

    /// Takes the next completion of what was submitted.
    pub fn next_completion(&self) -> Option<TypedCompletion<R>> {
        let completion = self.ring.next_completion()?;
        Some(TypedCompletion {
            user_data: completion.user_data,
            outcome: outcome_of(completion.result),
        })
    }

    /// Submits a request and waits for its end; see [`RingClient::request`].
    ///
    /// # Errors
    ///
    /// What the server said, or `Protocol`.
    pub async fn request(&self, request: R) -> Outcome<R> {
        outcome_of(self.ring.request(request.to_entry(0)).await)
    }

    /// Returns the ring, for [`RingClient::pump`].
    pub fn ring(&self) -> &Rc<RingClient> {
        &self.ring
    }

    /// Tells the server of submissions, unless it looks by itself.
    pub fn flush(&self) {
        self.ring.flush();
    }

    /// Asks for a notification; see [`RingClient::prepare_wait`].
    #[must_use]
    pub fn prepare_wait(&self) -> bool {
        self.ring.prepare_wait()
    }
}

/// What a client submitted.
#[derive(Debug)]
pub struct TypedSubmission<R> {
    /// For [`TypedRingServer::complete`].
    pub id: SubmissionId,
    /// What to do. Its form is checked, not its sense.
    pub request: R,
}

/// The side that does the work.
#[derive(Debug)]
pub struct TypedRingServer<R> {
    ring: RingServer,
    entries: PhantomData<fn() -> R>,
}

impl<R: RingRequest> TypedRingServer<R> {
    /// Takes a ring; see [`RingServer::attach`].
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(memory: Mapping) -> Result<Self, RingError> {
        Ok(TypedRingServer {
            ring: RingServer::attach(memory)?,
            entries: PhantomData,
        })
    }

    /// Takes the next request. Entries that are none are completed on the way, at most one round
    /// of the ring in one call, so that nobody is kept here.
    pub fn next_request(&mut self) -> Option<TypedSubmission<R>> {
        for _ in 0..self.ring.slots() {
            let submission = self.ring.next_request()?;
            let (entry, id) = (submission.entry, submission.id);
            match R::from_words(entry.opcode, entry.arguments) {
                Ok(request) => {
                    check(request, &entry);
                    return Some(TypedSubmission { id, request });
                }
                Err(status) => self.ring.complete(id, status_word(status)),
            }
        }
        None
    }

    /// Reads a request that is not completed once more; `None` if its entry is none (any more), or
    /// if this ring does not have it.
    pub fn request(&self, id: &SubmissionId) -> Option<R> {
        let entry = self.ring.entry(id)?;
        R::from_words(entry.opcode, entry.arguments).ok()
    }

    /// Completes a request. Tell the client by [`TypedRingServer::flush`], once for many.
    pub fn complete(&mut self, id: SubmissionId, result: Result<R::Ok, R::Error>) {
        self.ring.complete(id, result_word(result));
    }

    /// Tells the client of completions, unless it looks by itself.
    pub fn flush(&mut self, wake: &Handle<Notification>) {
        self.ring.flush(wake);
    }

    /// Asks for a doorbell; see [`RingServer::prepare_wait`].
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        self.ring.prepare_wait()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Word, outcome_of, result_word, status_word};
    use crate::wire::Status;
    use crate::{Failure, Protocol};

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
    enum Sample {
        Plain,
        Number(u32),
        Long(u64),
    }

    #[test]
    fn results_round_trip_and_errors_are_negative() {
        let read = outcome_of::<u32, Sample>;
        assert_eq!(read(result_word::<_, Sample>(Ok(7_u32))), Ok(7));
        for error in [Sample::Plain, Sample::Number(u32::MAX)] {
            let word = result_word::<u32, _>(Err(error));
            assert!(word < 0);
            assert_eq!(read(word), Err(Failure::Server(error)));
        }
        let long = result_word::<u32, _>(Err(Sample::Long(1)));
        assert_eq!(read(long), Err(Failure::Protocol(Protocol::ReplyTooLong)));
        let long = result_word::<_, Sample>(Ok(u64::MAX));
        assert_eq!(read(long), Err(Failure::Protocol(Protocol::ReplyTooLong)));
        for status in [Status::Malformed, Status::UnknownMethod, Status::Restarted] {
            assert_eq!(read(status_word(status)), Err(status.into()));
        }
    }

    #[test]
    fn what_no_server_writes_is_a_bad_reply() {
        for nonsense in [
            1 << 32,
            -1,
            -7,
            i64::MIN,
            !(1 << 48 | 9),
            !(1 << 48 | 1 << 9),
        ] {
            let outcome = outcome_of::<u32, Sample>(nonsense);
            let bad = Err(Failure::Protocol(Protocol::BadReply));
            assert_eq!(outcome, bad, "{nonsense:#x}");
        }
    }

    #[test]
    fn words_that_are_no_value_are_refused() {
        assert_eq!(u8::from_word(256), None);
        assert_eq!(u32::from_word(1 << 32), None);
        assert_eq!(bool::from_word(2), None);
        assert_eq!(<()>::from_word(1), None);
        assert_eq!(bool::from_word(true.to_word()), Some(true));
    }
}
