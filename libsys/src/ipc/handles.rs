//! Handles that go along with messages.

use alloc::boxed::Box;

use skink_abi::{MAX_HANDLES, ObjectKind, RawHandle};

use crate::{Error, Handle, Result, Sender};

/// Handles to send with a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing {
    pub(super) handles: [u32; MAX_HANDLES],
    pub(super) count: usize,
    pub(super) moved: u8,
}

impl Outgoing {
    /// No handles.
    pub const NONE: Outgoing = Outgoing {
        handles: [0; MAX_HANDLES],
        count: 0,
        moved: 0,
    };

    /// Adds a handle of which the receiver gets a copy.
    ///
    /// # Errors
    ///
    /// `MessageTooLong` for a fifth handle.
    pub fn copy(&mut self, handle: RawHandle) -> Result<()> {
        let slot = self
            .handles
            .get_mut(self.count)
            .ok_or(Error::MessageTooLong)?;
        *slot = handle.0;
        self.count += 1;
        Ok(())
    }

    /// Adds a handle that the receiver gets and the sender loses: at once with a reply, when the
    /// answer arrives with a call (so that a request can be delivered again).
    ///
    /// # Errors
    ///
    /// `MessageTooLong` for a fifth handle.
    pub fn pass(&mut self, handle: RawHandle) -> Result<()> {
        let bit = 1 << self.count;
        self.copy(handle)?;
        self.moved |= bit;
        Ok(())
    }
}

/// Handles that came with a message. Those not taken are closed when this is dropped.
///
/// Few messages have any. So that the others are cheap to hand on, the handles are on the heap.
#[derive(Debug, Default)]
pub struct Incoming(Option<Box<ReceivedHandles>>);

/// Handles and their kinds by number.
type ReceivedHandles = [(RawHandle, u8); MAX_HANDLES];

impl Incoming {
    /// Makes a list of handles, at most [`MAX_HANDLES`], for those who stand in for the kernel in
    /// tests. Further ones are left out.
    pub fn new(handles: &[(RawHandle, ObjectKind)]) -> Self {
        Incoming::of(handles.iter().map(|&(raw, kind)| (raw, kind as u8)))
    }

    pub(super) fn of(handles: impl Iterator<Item = (RawHandle, u8)>) -> Self {
        let mut received = [(RawHandle::NONE, 0); MAX_HANDLES];
        for (place, handle) in received.iter_mut().zip(handles) {
            *place = handle;
        }
        Incoming(Some(Box::new(received)))
    }

    /// Takes the handle in a position, if there is one and it is of the kind.
    pub fn take<K: crate::Kind>(&mut self, position: usize) -> Option<Handle<K>> {
        let (raw, kind) = self.0.as_mut()?.get_mut(position)?;
        if ObjectKind::from_number(*kind)? != K::KIND {
            return None;
        }
        let raw = core::mem::replace(raw, RawHandle::NONE);
        (!raw.is_none()).then(|| Handle::from_raw(raw))
    }
}

impl Drop for Incoming {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(handles) = self.0.take() {
            close_all(&handles);
        }
    }
}

#[cold]
fn close_all(handles: &ReceivedHandles) {
    for (raw, _) in handles {
        // The kind does not matter for closing.
        drop(Handle::<Sender>::from_raw(*raw));
    }
}
