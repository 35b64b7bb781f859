//! Owned, typed handles.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use skink_abi::{HandleInfo, ObjectKind, RawHandle, Rights, Syscall};

use crate::{Error, Result, raw};

/// Says which kind of object a handle names.
pub trait Kind {
    /// The kernel's number for it.
    const KIND: ObjectKind;
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub enum $name {}

            impl Kind for $name {
                const KIND: ObjectKind = ObjectKind::$name;
            }
        )*
    };
}

kinds! {
    /// An address space, a handle table and the threads in them.
    Process,
    /// A thread of a process.
    Thread,
    /// The receive side of an endpoint.
    Endpoint,
    /// The send side of an endpoint.
    Sender,
    /// The duty to answer one call.
    Reply,
    /// 64 bits that can be set and waited for.
    Notification,
    /// A range of physical memory.
    Memory,
    /// An interrupt.
    Interrupt,
    /// A range of I/O ports.
    IoPorts,
    /// The machine itself.
    System,
}

/// A handle that this process owns: closed when dropped.
///
/// The type says what the holder believes it names; the kernel checks that at each use and
/// answers [`crate::Error::WrongKind`] where it is not so.
pub struct Handle<K: Kind> {
    raw: RawHandle,
    kind: PhantomData<K>,
}

impl<K: Kind> Handle<K> {
    /// Takes ownership of a handle, for one that came in a message or at start-up.
    pub const fn from_raw(raw: RawHandle) -> Self {
        Handle {
            raw,
            kind: PhantomData,
        }
    }

    /// Takes ownership of a handle of this process of which only the number is known, for a
    /// process that was revived and kept its handles.
    ///
    /// # Errors
    ///
    /// `InvalidHandle` for one that is closed, `WrongKind`.
    pub fn adopt(raw: RawHandle) -> Result<Self> {
        let handle = ManuallyDrop::new(Self::from_raw(raw));
        if handle.handle_info()?.kind == K::KIND as u32 {
            Ok(ManuallyDrop::into_inner(handle))
        } else {
            Err(Error::WrongKind)
        }
    }

    /// Returns the handle's number; it stays owned here.
    pub const fn raw(&self) -> RawHandle {
        self.raw
    }

    /// Gives up ownership: the handle stays open until someone closes its number.
    pub fn into_raw(self) -> RawHandle {
        ManuallyDrop::new(self).raw
    }

    /// Makes another handle to the same object with at most the given rights.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::DUPLICATE`], `TooManyHandles`, `NoMemory`.
    pub fn duplicate(&self, rights: Rights) -> Result<Self> {
        let arguments = [self.raw.0.into(), rights.0.into()];
        let (raw, _) = raw::plain(Syscall::HandleDuplicate, arguments)?;
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }

    /// Tells what the handle names.
    ///
    /// # Errors
    ///
    /// `InvalidHandle` when it was closed.
    pub fn handle_info(&self) -> Result<HandleInfo> {
        let mut info = HandleInfo::default();
        let arguments = [self.raw.0.into(), &raw mut info as u64];
        raw::plain(Syscall::HandleInfo, arguments)?;
        Ok(info)
    }

    /// Destroys the object for every holder: their handles become invalid.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::MANAGE`], `WrongKind` for objects that end otherwise.
    pub fn revoke(self) -> Result<()> {
        raw::plain(Syscall::ObjectRevoke, [self.raw.0.into()]).map(|_| ())
    }
}

/// Goes over the handles of this process, by rising index. Reply handles are not among them. A
/// handle that is made or closed meanwhile may be shown or not.
pub fn own() -> impl Iterator<Item = (RawHandle, ObjectKind)> {
    let mut next = 0;
    core::iter::from_fn(move || {
        // The only error there is says that no more handles follow.
        let (raw, kind) = raw::plain(Syscall::HandleNext, [next]).ok()?;
        let raw = RawHandle(raw as u32);
        next = u64::from(raw.index()) + 1;
        Some((raw, ObjectKind::from_number(kind as u8)?))
    })
}

impl<K: Kind> Drop for Handle<K> {
    fn drop(&mut self) {
        if !self.raw.is_none() {
            // An error means that it is closed already, which is what was wanted.
            let _ = raw::plain(Syscall::HandleClose, [self.raw.0.into()]);
        }
    }
}

impl<K: Kind> fmt::Debug for Handle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:#x})", K::KIND, self.raw.0)
    }
}
