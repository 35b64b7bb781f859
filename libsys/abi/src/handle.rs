//! Names of kernel objects, and what a holder may do with them.

/// A process's name for a kernel object: the index in its handle table (low 16 bits) and the
/// generation of that entry (high 16 bits, never 0), so that a closed handle stays invalid when
/// its entry is used again.
///
/// It proves nothing: the kernel checks kind and rights at each use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct RawHandle(pub u32);

impl RawHandle {
    /// The handle that names nothing.
    pub const NONE: RawHandle = RawHandle(0);

    /// Makes a handle of its parts.
    pub const fn new(index: u16, generation: u16) -> Self {
        RawHandle((generation as u32) << 16 | index as u32)
    }

    /// Returns the index in the handle table.
    pub const fn index(self) -> u16 {
        self.0 as u16
    }

    /// Returns the generation of the entry.
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Returns whether this names nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// An address space, a handle table and the threads in them.
    Process = 1,
    /// A thread of a process.
    Thread = 2,
    /// The receive side of an endpoint.
    Endpoint = 3,
    /// The send side of an endpoint, with the badge that its minter set.
    Sender = 4,
    /// The duty to answer one call.
    Reply = 5,
    /// 64 bits that can be set by some and waited for by others.
    Notification = 6,
    /// A range of physical memory: RAM or device registers.
    Memory = 7,
    /// An interrupt.
    Interrupt = 8,
    /// A range of I/O ports.
    IoPorts = 9,
    /// The machine itself: the root of interrupts, ports, registers and power.
    System = 10,
}

impl ObjectKind {
    /// Every kind, in the order of its number.
    pub const ALL: [ObjectKind; 10] = [
        ObjectKind::Process,
        ObjectKind::Thread,
        ObjectKind::Endpoint,
        ObjectKind::Sender,
        ObjectKind::Reply,
        ObjectKind::Notification,
        ObjectKind::Memory,
        ObjectKind::Interrupt,
        ObjectKind::IoPorts,
        ObjectKind::System,
    ];

    /// Returns the kind with this number.
    pub const fn from_number(number: u8) -> Option<ObjectKind> {
        if number >= 1 && number as usize <= Self::ALL.len() {
            Some(Self::ALL[number as usize - 1])
        } else {
            None
        }
    }
}

/// What the holder of a handle may do. Copies can only have fewer rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Rights(pub u16);

impl Rights {
    /// No right at all.
    pub const NONE: Rights = Rights(0);
    /// Call through the sender.
    pub const CALL: Rights = Rights(1 << 0);
    /// Receive from the endpoint, mint senders, bind notifications to it.
    pub const RECEIVE: Rights = Rights(1 << 1);
    /// Set bits of the notification.
    pub const NOTIFY: Rights = Rights(1 << 2);
    /// Wait for the notification, mint and bind it.
    pub const WAIT: Rights = Rights(1 << 3);
    /// Map or read the memory.
    pub const READ: Rights = Rights(1 << 4);
    /// Map for writing or write the memory.
    pub const WRITE: Rights = Rights(1 << 5);
    /// Map the memory executable.
    pub const EXECUTE: Rights = Rights(1 << 6);
    /// Learn the physical address, for DMA.
    pub const DMA: Rights = Rights(1 << 7);
    /// Duplicate the handle.
    pub const DUPLICATE: Rights = Rights(1 << 8);
    /// Pass the handle to another process.
    pub const TRANSFER: Rights = Rights(1 << 9);
    /// Kill, revoke, map into, grant to: change the object itself.
    pub const MANAGE: Rights = Rights(1 << 10);
    /// Look at the object's state.
    pub const INSPECT: Rights = Rights(1 << 11);
    /// Own the frames: map them without the kernel keeping track (the memory manager's RAM).
    pub const OWN: Rights = Rights(1 << 12);
    /// System: make interrupt objects.
    pub const INTERRUPTS: Rights = Rights(1 << 13);
    /// System: make I/O-port and device-register objects.
    pub const DEVICES: Rights = Rights(1 << 14);
    /// System: power off.
    pub const POWER: Rights = Rights(1 << 15);
    /// System: open any process, and read and write the memory of others. The bit is that of
    /// [`Rights::OWN`], which only memory has.
    pub const DEBUG: Rights = Rights::OWN;
    /// All rights.
    pub const ALL: Rights = Rights(u16::MAX);

    /// Returns whether all rights in `other` are here.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the rights that are in both.
    #[must_use]
    pub const fn intersect(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Returns the rights that are in either.
    #[must_use]
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Returns these rights without those in `other`.
    #[must_use]
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }
}

impl core::ops::BitOr for Rights {
    type Output = Rights;

    fn bitor(self, other: Rights) -> Rights {
        self.union(other)
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectKind, RawHandle, Rights};

    #[test]
    fn handle_parts_round_trip() {
        let handle = RawHandle::new(0xabc, 0x1234);
        assert_eq!((handle.index(), handle.generation()), (0xabc, 0x1234));
        assert!(!handle.is_none());
    }

    #[test]
    fn kinds_round_trip() {
        for kind in ObjectKind::ALL {
            assert_eq!(ObjectKind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(ObjectKind::from_number(0), None);
        assert_eq!(ObjectKind::from_number(11), None);
    }

    #[test]
    fn rights_only_shrink() {
        let both = Rights::READ | Rights::WRITE;
        assert!(both.contains(Rights::READ));
        assert!(!both.without(Rights::READ).contains(Rights::READ));
        assert_eq!(both.intersect(Rights::WRITE), Rights::WRITE);
    }
}
