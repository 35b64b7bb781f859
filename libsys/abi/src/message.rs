//! The shape of a message.

/// Bytes of payload that travel in registers.
pub const REGISTER_BYTES: usize = 64;
/// Most bytes of payload in one message.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Most handles in one message.
pub const MAX_HANDLES: usize = 4;

/// Describes a message in one word: label, length, handles and how it came.
///
/// Bits 0-12: payload bytes; 13-15: number of handles; 16-19: marks that only the kernel sets;
/// 20-23: which handles are moved, not copied; 32-63: label. A payload of up to 64 bytes is in
/// the registers, a longer one is in the IPC page, all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Info(pub u64);

impl Info {
    /// Set when the request was delivered before to a receiver that died holding it.
    pub const REDELIVERED: u64 = 1 << 16;
    /// The message is the bits of a notification (first payload word); there is no reply handle.
    pub const NOTIFICATION: u64 = 1 << 17;
    /// The last sender with this badge was closed; there is no reply handle.
    pub const CLOSED: u64 = 1 << 18;
    /// The message is a page fault ([`FaultMessage`]); the reply carries [`crate::MapItem`]s.
    pub const FAULT: u64 = 1 << 19;
    /// The bits that a sender may set.
    pub const SENDER_BITS: u64 = 0xffff_ffff_00f0_ffff;

    /// Describes a message with `bytes` of payload and `handles` handles to be copied.
    ///
    /// Lengths over the limits stay visible in [`Info::is_valid`], they are not cut off.
    pub const fn new(label: u32, bytes: usize, handles: usize) -> Info {
        let bytes = if bytes > 0x1fff { 0x1fff } else { bytes };
        let handles = if handles > 7 { 7 } else { handles };
        Info((label as u64) << 32 | (handles as u64) << 13 | bytes as u64)
    }

    /// Marks the handles whose bit is set in `mask` as moved: the sender loses them.
    #[must_use]
    pub const fn moving(self, mask: u8) -> Info {
        Info(self.0 | (mask as u64 & 0xf) << 20)
    }

    /// Returns the label.
    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the number of bytes of payload.
    pub const fn bytes(self) -> usize {
        (self.0 & 0x1fff) as usize
    }

    /// Returns the number of handles.
    pub const fn handles(self) -> usize {
        (self.0 >> 13 & 7) as usize
    }

    /// Returns the mask of moved handles.
    pub const fn moved(self) -> u8 {
        (self.0 >> 20 & 0xf) as u8
    }

    /// Returns whether all of `marks` are set.
    pub const fn has(self, marks: u64) -> bool {
        self.0 & marks == marks
    }

    /// Returns whether the lengths are within the limits.
    pub const fn is_valid(self) -> bool {
        self.bytes() <= MAX_MESSAGE_BYTES && self.handles() <= MAX_HANDLES
    }
}

/// The first page of a thread's two message pages; `fs:0` points to it. The IPC page with the
/// payload of long messages is the page behind it.
///
/// The kernel reads `send_handles` and writes `sequence`, `received_handles` and
/// `received_kinds`; the rest is the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadControl {
    /// The address of this page.
    pub this: u64,
    /// Sequence number of the request last received: it grows from request to request, and is
    /// the same when the request is redelivered.
    pub sequence: u64,
    /// Handles to send with the next message.
    pub send_handles: [u32; MAX_HANDLES],
    /// Handles that came with the last message, in this process's table.
    pub received_handles: [u32; MAX_HANDLES],
    /// Kinds of those handles ([`crate::ObjectKind`] as a number).
    pub received_kinds: [u8; 8],
    /// For the program.
    pub local: [u64; 16],
}

/// Payload of a page fault on its way to the pager, as it lies in the payload words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FaultMessage {
    /// The address that was touched.
    pub address: u64,
    /// The instruction that touched it.
    pub instruction: u64,
    /// Page-fault error code: bit 0 present, 1 write, 2 user, 4 instruction fetch (Intel SDM
    /// vol. 3A, 4.7).
    pub code: u64,
}

#[cfg(test)]
mod tests {
    use super::Info;

    #[test]
    fn info_round_trips() {
        let info = Info::new(0xdead_beef, 4096, 4).moving(0b101);
        assert_eq!(info.label(), 0xdead_beef);
        assert_eq!(info.bytes(), 4096);
        assert_eq!(info.handles(), 4);
        assert_eq!(info.moved(), 0b101);
        assert!(info.is_valid());
        assert_eq!(info.0 & Info::SENDER_BITS, info.0);
    }

    #[test]
    fn too_long_is_seen() {
        assert!(!Info::new(0, 4097, 0).is_valid());
        assert!(!Info::new(0, usize::MAX, 0).is_valid());
        assert!(!Info::new(0, 0, 5).is_valid());
    }
}
