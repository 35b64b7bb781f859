//! Plain messages, and what the server in `roles::server` understands.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::{FOREVER, Info};
use libsys::ipc::{self, Incoming, Outgoing};
use libsys::{Endpoint, Error, Handle, Memory, Sender, time};

use crate::context::{Context, Running, SOON, because};

/// Labels of requests to the server.
pub(crate) mod ask {
    /// Payload and memory handles come back, the payload reversed.
    pub(crate) const ECHO: u32 = 1;
    /// Tells badge, sequence number, whether redelivered, and how many requests came before.
    pub(crate) const WHO: u32 = 2;
    /// Closes the reply handle without answering.
    pub(crate) const DROP: u32 = 3;
    /// Keeps the reply handle and never answers.
    pub(crate) const HOLD: u32 = 4;
    /// Answers all that are held; tells how many callers no longer waited, and of how many.
    pub(crate) const RELEASE: u32 = 5;
    /// Makes the server fault.
    pub(crate) const CRASH: u32 = 6;
    /// Tells kind, rights and badge of the first handle.
    pub(crate) const INSPECT: u32 = 7;
    /// Answers, and then once more with the same handle number.
    pub(crate) const TWICE: u32 = 8;
    /// Tells the error code that the second answer of the last `TWICE` got.
    pub(crate) const SECOND: u32 = 9;
    /// Tells as many ones as the first word of the payload says.
    pub(crate) const ONES: u32 = 11;
    /// Makes a notification and gives it away.
    pub(crate) const MAKE: u32 = 10;
}

/// An answer.
pub(crate) struct Answer {
    /// Label and length.
    pub(crate) info: Info,
    /// Payload.
    pub(crate) bytes: Vec<u8>,
    /// Handles.
    pub(crate) handles: Incoming,
}

impl Answer {
    /// Returns a word of the payload; 0 behind its end.
    pub(crate) fn word(&self, index: usize) -> u64 {
        word(&self.bytes, index)
    }
}

/// Returns a word of a payload; 0 behind its end.
pub(crate) fn word(bytes: &[u8], index: usize) -> u64 {
    bytes
        .as_chunks::<8>()
        .0
        .get(index)
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// Sends a request with a payload and waits for the answer, not for ever.
pub(crate) fn call(sender: &Handle<Sender>, label: u32, payload: &[u8]) -> Result<Answer, Error> {
    call_with(sender, label, payload, &Outgoing::NONE, time::after(SOON))
}

/// As [`call`], with handles and a deadline.
pub(crate) fn call_with(
    sender: &Handle<Sender>,
    label: u32,
    payload: &[u8],
    handles: &Outgoing,
    deadline: u64,
) -> Result<Answer, Error> {
    ipc::with_page(|page| {
        let length = payload.len().min(page.len());
        page[..length].copy_from_slice(&payload[..length]);
    });
    let (info, handles) = ipc::call(sender, label, payload.len(), handles, deadline)?;
    Ok(Answer {
        info,
        bytes: payload_of(info),
        handles,
    })
}

/// Copies the payload of the message that has just come.
pub(crate) fn payload_of(info: Info) -> Vec<u8> {
    ipc::with_page(|page| page[..info.bytes().min(page.len())].to_vec())
}

/// Writes words as the payload of the next message and returns their length in bytes.
pub(crate) fn put_words(words: &[u64]) -> usize {
    ipc::with_page(|page| {
        for (word, place) in words.iter().zip(page.as_chunks_mut::<8>().0) {
            *place = word.to_le_bytes();
        }
    });
    words.len() * 8
}

/// Words as a payload.
pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A server in a child, and the endpoint that outlives it.
pub(crate) struct Server {
    /// The receive side.
    pub(crate) endpoint: Handle<Endpoint>,
    /// A sender with badge 1.
    pub(crate) sender: Handle<Sender>,
    /// The child: ends with this.
    _child: Running,
}

impl Server {
    /// Makes an endpoint and starts a server on it.
    pub(crate) fn start(context: &Context) -> Result<Server, String> {
        let endpoint = Handle::<Endpoint>::create().map_err(because("no endpoint"))?;
        let sender = endpoint.mint(1).map_err(because("no sender"))?;
        let _child = serve(context, &endpoint)?;
        Ok(Server {
            endpoint,
            sender,
            _child,
        })
    }
}

/// Starts a server on an endpoint.
pub(crate) fn serve(context: &Context, endpoint: &Handle<Endpoint>) -> Result<Running, String> {
    let spawn = context
        .role("server", &[])
        .handle("endpoint", endpoint, libsys::Rights::ALL);
    context.start(spawn)
}

/// Makes a memory object.
pub(crate) fn object(context: &Context, pages: u64) -> Result<Handle<Memory>, String> {
    context
        .memory()
        .create_object(pages)
        .map_err(because("no memory object"))
}

/// A deadline that never comes, for those who are ended by others.
pub(crate) const NEVER: u64 = FOREVER;
