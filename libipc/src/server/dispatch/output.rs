//! Replies, and where they are written.

use alloc::boxed::Box;
#[cfg(not(bare))]
use alloc::rc::Rc;
#[cfg(not(bare))]
use core::cell::{Cell, RefCell};
use core::fmt;

use libsys::abi::MAX_MESSAGE_BYTES;
use serde::Serialize;

use crate::schema::Interface;
use crate::server::Caller;
use crate::wire::{self, OutHandles, Status};

/// A reply: its payload is the first `bytes` bytes of the [`Output`].
#[derive(Debug)]
pub struct Answer {
    /// Label of the reply.
    pub status: Status,
    /// Length of the payload.
    pub bytes: u32,
    /// Handles that go along. Few replies have some, and all are passed around.
    pub handles: Option<Box<OutHandles>>,
}

impl Answer {
    /// A reply without payload.
    pub(crate) fn status(status: Status) -> Answer {
        Answer {
            status,
            bytes: 0,
            handles: None,
        }
    }

    /// Returns the length of the payload.
    pub(crate) fn len(&self) -> usize {
        self.bytes as usize
    }
}

/// Where replies are written: the IPC page, from which they are sent. So nothing else is sent and
/// nothing else runs between writing a reply and sending it.
#[derive(Clone, Default)]
pub struct Output {
    /// On the host there is no IPC page. Clones are the same place.
    #[cfg(not(bare))]
    page: Rc<RefCell<Page>>,
    /// How often a server would have ended itself for an error that it was about to answer with.
    #[cfg(not(bare))]
    suspects: Rc<Cell<u32>>,
}

#[cfg(not(bare))]
struct Page([u8; MAX_MESSAGE_BYTES]);

#[cfg(not(bare))]
impl Default for Page {
    fn default() -> Self {
        Page([0; MAX_MESSAGE_BYTES])
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Writes what a method of interface `I` returned.
    #[inline]
    pub fn ok<I: Interface, T: Serialize>(&self, value: &T) -> Answer {
        self.write_for::<I, _, ()>(&Ok(value))
    }

    /// Writes what a method returned, and adds the handles that it returned.
    pub fn ok_with_handles<I: Interface, T: Serialize>(
        &self,
        value: &T,
        handles: OutHandles,
    ) -> Answer {
        let answer = self.ok::<I, _>(value);
        match answer.status {
            Status::Answer => Answer {
                handles: (!handles.is_empty()).then(|| Box::new(handles)),
                ..answer
            },
            // The handles are closed: without the answer nobody could name them.
            _ => answer,
        }
    }

    /// Writes a reply that is encoded already, for who passes on what another server said.
    #[cfg(not(bare))]
    pub fn encoded(&self, status: Status, payload: &[u8]) -> Answer {
        self.page.borrow_mut().0[..payload.len()].copy_from_slice(payload);
        Answer {
            status,
            bytes: payload.len() as u32,
            handles: None,
        }
    }

    /// Writes the error that a method of interface `I` returned.
    #[inline]
    pub fn error<I: Interface, E: Serialize>(&self, error: &E) -> Answer {
        self.write_for::<I, (), _>(&Err(error))
    }

    /// Looks at an error, about to be answered to a request to `method`, that no server in order
    /// gives: this instance ends, if `init` lets it, and the next one gets the request. What that one
    /// says is the answer.
    #[cold]
    #[inline(never)]
    pub fn suspect(&self, caller: &Caller, method: &str) {
        if caller.redelivered {
            return;
        }
        #[cfg(bare)]
        crate::doubt_this_side(method);
        #[cfg(not(bare))]
        {
            log::debug!("{method}: this instance would have ended");
            self.suspects.set(self.suspects.get() + 1);
        }
    }

    /// Returns how many answers made this instance doubt itself.
    #[cfg(not(bare))]
    pub(crate) fn suspects(&self) -> u32 {
        self.suspects.get()
    }

    /// Writes a reply of a method of interface `I`.
    ///
    /// # Panics
    ///
    /// When it is compared and is not what was to be written: the next instance gets the request.
    #[inline]
    fn write_for<I: Interface, T: Serialize, E: Serialize>(&self, result: &Result<T, E>) -> Answer {
        let answer = self.write(result);
        // A success without a value is one byte, a zero.
        let is_plain = size_of::<T>() == 0 && result.is_ok();
        if I::SCHEMA.is_compared && !is_plain && answer.status == Status::Answer {
            self.compare(result, answer.len());
        }
        answer
    }

    #[inline(never)]
    fn compare<T: Serialize, E: Serialize>(&self, result: &Result<T, E>, bytes: usize) {
        let is_meant = self.with(bytes, |written| wire::agrees(result, written));
        assert!(is_meant, "a reply is not what was to be written");
    }

    /// Writes a reply.
    #[inline]
    pub(super) fn write<T: Serialize, E: Serialize>(&self, result: &Result<T, E>) -> Answer {
        match self.write_with(|page| wire::encode(result, page)) {
            Ok(bytes) => Answer {
                status: Status::Answer,
                bytes: bytes as u32,
                handles: None,
            },
            Err(_) => {
                // Interfaces have bounds for what they return.
                crate::doubt_this_side("reply");
                Answer::status(Status::ReplyTooLong)
            }
        }
    }

    /// Gives the bytes of the reply last written to `f`.
    pub(crate) fn with<T>(&self, bytes: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        #[cfg(bare)]
        return libsys::ipc::with_page(|page| f(page.get(..bytes).unwrap_or(&[])));
        #[cfg(not(bare))]
        f(self.page.borrow().0.get(..bytes).unwrap_or(&[]))
    }

    /// Lets `f` write a reply of whole words, behind which nothing needs an end, and which nobody looks
    /// at again. Returns how many bytes it has, as `f` does.
    #[inline]
    pub(crate) fn write_words(
        &self,
        f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> usize,
    ) -> usize {
        #[cfg(bare)]
        return libsys::ipc::with_page(f);
        #[cfg(not(bare))]
        f(&mut self.page.borrow_mut().0)
    }

    /// Lets `f` write a reply, and returns how many bytes it has, as `f` does.
    #[cfg(bare)]
    #[inline]
    pub(crate) fn write_with<E>(
        &self,
        f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        libsys::ipc::write_payload(f)
    }

    /// Lets `f` write a reply.
    #[cfg(not(bare))]
    pub(crate) fn write_with<E>(
        &self,
        f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        f(&mut self.page.borrow_mut().0)
    }
}
